//! The domains that libvirt knows, described as files of the inventory would describe them.

use super::{
	Definition, Domain,
	definition::Target,
	virsh::{ANSWER_TIME_MAX, Virsh},
};
use crate::sources::{
	Disk, ImageFormat, LIBVIRT_URI, MachineFile, SourceError, Vm,
	discovery::{Found, Origin, UEFI_VARIABLES, tpm},
};
use std::path::{Path, PathBuf};

/// Most domains of a host.
const DOMAINS_MAX: usize = 4096;

/// Where libvirt keeps what TPMs remember, a folder for each domain.
const TPM_STATES: &str = "/var/lib/libvirt/swtpm";

/// All domains of the libvirt that is reached here, running or not.
pub(in crate::sources) fn list(uri: &str) -> Result<Vec<Domain>, SourceError> {
	let virsh = Virsh::at(uri);
	let names = virsh.run("list", &["--all", "--name"], ANSWER_TIME_MAX)?;
	let names = names.lines().filter(|name| !name.trim().is_empty()).take(DOMAINS_MAX);
	let mut domains = Vec::new();
	for name in names {
		match Domain::find(virsh.clone(), name) {
			Ok(domain) => domains.push(domain),
			// It was undefined meanwhile.
			Err(SourceError::DomainNotFound { .. }) => (),
			Err(error) => return Err(error),
		}
	}
	Ok(domains)
}

/// Ask libvirt what a domain is.
pub(in crate::sources) fn describe(domain: &Domain) -> Found {
	let uri = domain.virsh.uri().to_owned();
	let (name, uuid) = (domain.name.clone(), domain.uuid.clone());
	let mut found = Found::new(Origin::Libvirt(uri), Some(name), Some(uuid));
	match domain.definition() {
		Ok(definition) => tell(domain, &definition, &mut found),
		Err(error) => found.problem(error.to_string(), "see what libvirt's log says"),
	}
	found
}

fn tell(domain: &Domain, definition: &Definition, found: &mut Found) {
	let Ok(uuid) = domain.uuid.parse() else {
		return found.problem(format!("{:?} is no UUID", domain.uuid), "define it with one");
	};
	let mut disks = Vec::new();
	for target in definition.targets.iter().filter(|target| target.is_disk) {
		match disk(target) {
			Ok(disk) if target.is_read_only => {
				found
					.notes
					.push(format!("{} is read-only, so it is left out", disk.image.display()));
			}
			Ok(disk) => disks.push(disk),
			Err((what, mend)) => found.problem(what, mend),
		}
	}
	if disks.is_empty() {
		return found.problem("it has no disk that can be backed up", "there is nothing to do");
	}
	let variables = definition.variables.clone().filter(|path: &PathBuf| path.is_absolute());
	let variables = variables.map(|path| MachineFile { name: UEFI_VARIABLES.to_owned(), path });
	let tpm = definition.has_tpm.then(|| tpm_state(Path::new(TPM_STATES), &domain.uuid)).flatten();
	if definition.has_tpm && tpm.is_none() {
		found.notes.push(tpm::NOT_FOUND.into());
	}
	let uri = domain.virsh.uri();
	found.describe(Vm {
		uuid,
		qmp: None,
		guest_agent: None,
		libvirt: Some(domain.name.clone()),
		libvirt_uri: (uri != LIBVIRT_URI).then(|| uri.to_owned()),
		disks,
		files: variables.into_iter().chain(tpm).collect(),
		hooks: None,
	});
}

/// The state of a domain's TPM, of version 2.0 or 1.2.
fn tpm_state(states: &Path, uuid: &str) -> Option<MachineFile> {
	let folder = states.join(uuid);
	["tpm2", "tpm1.2"].iter().find_map(|version| tpm::state_in(&folder.join(version)))
}

fn disk(target: &Target) -> Result<Disk, (String, &'static str)> {
	let Target { name, source, format, .. } = target;
	let Some(image) = source.clone() else {
		return Err((
			format!("its disk {name} is no file and no block device of this host"),
			"describe it by hand without that disk, if it need not be backed up",
		));
	};
	let format = match format.as_str() {
		"qcow2" => ImageFormat::Qcow2,
		"raw" => ImageFormat::Raw,
		other => {
			return Err((
				format!("its disk {name} has the format {other:?}"),
				"convert it to qcow2 or raw (qemu-img convert), which backups can read",
			));
		}
	};
	Ok(Disk { name: name.clone(), image, format, skip: false })
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	fn found(devices: &str) -> Found {
		let xml = format!(
			"<domain><os><nvram>/var/web_VARS.fd</nvram></os><devices>{devices}\
			<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda'/>\
			<readonly/></disk></devices></domain>"
		);
		describe(&fake::domain(&[("dumpxml", &xml)]).domain)
	}

	fn disk(name: &str, format: &str, source: &str) -> String {
		format!(
			"<disk device='disk'><driver type='{format}'/>{source}<target dev='{name}'/></disk>"
		)
	}

	#[test]
	fn a_domain_is_described_by_its_disks_and_what_belongs_to_it() {
		let devices = [
			disk("vda", "qcow2", "<source file='/var/a.qcow2'/>"),
			disk("vdb", "raw", "<source dev='/dev/vg/b'/>"),
			disk("vdc", "raw", "<source file='/c'/><readonly/>"),
		];
		let found = found(&devices.concat());
		let vm = found.vm.unwrap();
		let disks: Vec<_> = vm.disks.iter().map(|disk| (disk.name.as_str(), disk.format)).collect();
		assert_eq!(disks, [("vda", ImageFormat::Qcow2), ("vdb", ImageFormat::Raw)]);
		assert_eq!(vm.files[0].path, std::path::Path::new("/var/web_VARS.fd"));
		assert_eq!(
			(vm.libvirt.as_deref(), vm.uuid.to_string().as_str()),
			(Some("web"), fake::UUID)
		);
		assert!(found.notes[0].contains("/c is read-only"), "{:?}", found.notes);
	}

	#[test]
	fn what_a_tpm_remembers_is_looked_for_where_libvirt_keeps_it() {
		let vda = disk("vda", "raw", "<source file='/a'/>");
		let tpm = |backend| format!("<tpm model='tpm-crb'><backend type='{backend}'/></tpm>");
		let notes = |backend| found(&(vda.clone() + &tpm(backend))).notes.concat();
		assert!(notes("emulator").contains("has a TPM"));
		assert!(!notes("passthrough").contains("has a TPM"), "it cannot be read");

		let states = tempfile::tempdir().unwrap();
		assert_eq!(tpm_state(states.path(), fake::UUID), None);
		let folder = states.path().join(fake::UUID).join("tpm2");
		std::fs::create_dir_all(&folder).unwrap();
		std::fs::write(folder.join("tpm2-00.permall"), "state").unwrap();
		assert_eq!(tpm_state(states.path(), fake::UUID).unwrap().name, "tpm2-00.permall");
	}

	#[test]
	fn a_disk_that_cannot_be_read_keeps_its_domain_out() {
		let network = "<source protocol='rbd' name='pool/x'/>";
		for (format, source) in [("vmdk", "<source file='/a'/>"), ("raw", network)] {
			let found = found(&disk("vda", format, source));
			assert!(found.vm.is_none() && !found.problems.is_empty(), "{found:?}");
		}
		assert!(found("").problems[0].found.contains("no disk"));
	}
}
