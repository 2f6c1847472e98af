//! What a domain is made of, by its definition in libvirt's words.

use crate::sources::guest_agent::CHANNEL;
use roxmltree::{Document, Node, ParsingOptions};
use std::path::PathBuf;

/// Most elements, attributes and texts of a document.
const NODES_MAX: u32 = 100_000;

/// A domain that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Definition {
	/// All its disks, removable ones too.
	pub(super) targets: Vec<Target>,
	/// Whether an agent in the guest listens.
	pub(super) has_agent: bool,
	/// Whether it has a TPM that a program plays.
	pub(super) has_tpm: bool,
	/// User and group of its QEMU, if libvirt chose them.
	pub(super) owner: Option<(u32, u32)>,
	/// The file with UEFI's variables, if it has one.
	pub(super) variables: Option<PathBuf>,
}

/// A disk, as the domain has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
	/// What libvirt calls it, as `vda`.
	pub(super) name: String,
	/// Its file or block device, if it is one.
	pub(super) source: Option<PathBuf>,
	/// Whether it is a disk, and no CD or floppy disk.
	pub(super) is_disk: bool,
	/// Whether the guest only reads it.
	pub(super) is_read_only: bool,
	/// QEMU's name of its format, empty if that is not said.
	pub(super) format: String,
	/// Whether it is qcow2.
	pub(super) is_qcow2: bool,
	/// Whether libvirt can record what is written to it: only in qcow2, and only if nobody else
	/// writes.
	pub(super) is_recordable: bool,
	/// Whether an I/O thread serves it.
	pub(super) is_on_thread: bool,
}

impl Definition {
	pub(super) fn parse(xml: &str) -> Result<Self, String> {
		let document = parse(xml)?;
		let domain = document.root_element();
		ensure_name(domain, "domain")?;
		let devices = child(domain, "devices").ok_or("it has no devices")?;
		let channels = children(devices, "channel").filter_map(|channel| child(channel, "target"));
		let has_agent = channels.into_iter().any(|target| {
			target.attribute("name") == Some(CHANNEL)
				&& target.attribute("state") == Some("connected")
		});
		let labels = children(domain, "seclabel");
		let owner = labels
			.filter(|label| label.attribute("model") == Some("dac"))
			.find_map(|label| parse_owner(child(label, "label")?.text()?));
		let variables = child(domain, "os").and_then(|os| child(os, "nvram")?.text());
		let variables = variables.map(|path| PathBuf::from(path.trim()));
		let mut backends = children(devices, "tpm").filter_map(|tpm| child(tpm, "backend"));
		let has_tpm = backends.any(|backend| backend.attribute("type") == Some("emulator"));
		Ok(Self { targets: targets(devices), has_agent, has_tpm, owner, variables })
	}

	pub(super) fn target(&self, name: &str) -> Option<&Target> {
		self.targets.iter().find(|target| target.name == name)
	}
}

/// The disks of a checkpoint: those whose writes are recorded from it on, and the file that each had
/// then.
pub(super) fn parse_checkpoint(xml: &str) -> Result<Vec<(String, Option<PathBuf>)>, String> {
	let document = parse(xml)?;
	let checkpoint = document.root_element();
	ensure_name(checkpoint, "domaincheckpoint")?;
	let domain = child(checkpoint, "domain").and_then(|domain| child(domain, "devices"));
	let then = domain.map(targets).unwrap_or_default();
	let disks = child(checkpoint, "disks").into_iter().flat_map(|disks| children(disks, "disk"));
	let recorded = disks.filter(|disk| disk.attribute("checkpoint") == Some("bitmap"));
	let found = recorded.filter_map(|disk| {
		let name = disk.attribute("name")?;
		let target = then.iter().find(|target| target.name == name);
		Some((name.to_owned(), target.and_then(|target| target.source.clone())))
	});
	Ok(found.collect())
}

/// The socket that a backup job serves its disks on, if that is in the file system.
pub(super) fn parse_backup(xml: &str) -> Result<Option<PathBuf>, String> {
	let document = parse(xml)?;
	ensure_name(document.root_element(), "domainbackup")?;
	let server = child(document.root_element(), "server");
	Ok(server.and_then(|server| server.attribute("socket")).map(PathBuf::from))
}

fn parse(xml: &str) -> Result<Document<'_>, String> {
	let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
	Document::parse_with_options(xml, options).map_err(|error| error.to_string())
}

fn ensure_name(node: Node<'_, '_>, name: &str) -> Result<(), String> {
	match node.has_tag_name(name) {
		true => Ok(()),
		false => Err(format!("it is a {:?}, not a {name:?}", node.tag_name().name())),
	}
}

fn targets(devices: Node<'_, '_>) -> Vec<Target> {
	children(devices, "disk").filter_map(|disk| target(devices, disk)).collect()
}

fn target(devices: Node<'_, '_>, disk: Node<'_, '_>) -> Option<Target> {
	let name = child(disk, "target")?.attribute("dev")?.to_owned();
	let driver = child(disk, "driver");
	let source = child(disk, "source");
	let path = |name| source.and_then(|source| source.attribute(name)).map(PathBuf::from);
	let format = driver.and_then(|driver| driver.attribute("type")).unwrap_or_default().to_owned();
	let is_qcow2 = format == "qcow2";
	let is_alone = ["shareable", "readonly", "transient"].iter().all(|n| child(disk, n).is_none());
	Some(Target {
		name,
		source: path("file").or_else(|| path("dev")),
		is_disk: matches!(disk.attribute("device"), None | Some("disk" | "lun")),
		is_read_only: child(disk, "readonly").is_some(),
		format,
		is_recordable: is_qcow2 && is_alone,
		is_qcow2,
		is_on_thread: driver.is_some_and(has_thread) || is_controller_on_thread(devices, disk),
	})
}

fn has_thread(driver: Node<'_, '_>) -> bool {
	driver.attribute("iothread").is_some() || child(driver, "iothreads").is_some()
}

/// SCSI disks have the thread of their controller.
fn is_controller_on_thread(devices: Node<'_, '_>, disk: Node<'_, '_>) -> bool {
	let is_scsi =
		child(disk, "target").is_some_and(|target| target.attribute("bus") == Some("scsi"));
	let index = child(disk, "address").and_then(|address| address.attribute("controller"));
	is_scsi
		&& children(devices, "controller")
			.filter(|controller| {
				controller.attribute("type") == Some("scsi")
					&& controller.attribute("index") == index
			})
			.any(|controller| child(controller, "driver").is_some_and(has_thread))
}

/// `+64055:+64055`, the only form in which a running domain has it.
fn parse_owner(label: &str) -> Option<(u32, u32)> {
	let (user, group) = label.trim().split_once(':')?;
	let number = |text: &str| text.strip_prefix('+').unwrap_or(text).parse().ok();
	Some((number(user)?, number(group)?))
}

fn children<'a, 'i>(
	node: Node<'a, 'i>,
	name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> + use<'a, 'i> {
	node.children().filter(move |child| child.has_tag_name(name))
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &'static str) -> Option<Node<'a, 'i>> {
	children(node, name).next()
}

#[cfg(test)]
mod tests {
	use super::*;

	const DOMAIN: &str = "<domain type='kvm' id='1'>
		<devices>
			<disk type='file' device='disk'>
				<driver name='qemu' type='qcow2'/>
				<source file='/var/a &amp; b.qcow2' index='1'/>
				<backingStore type='file'><source file='/var/base.qcow2'/></backingStore>
				<target dev='vda' bus='virtio'/>
			</disk>
			<disk type='block' device='disk'>
				<driver name='qemu' type='raw' iothread='1'/>
				<source dev='/dev/vg/data'/><target dev='vdb' bus='virtio'/>
			</disk>
			<disk type='file' device='disk'>
				<driver name='qemu' type='qcow2'/><shareable/>
				<source file='/var/s.qcow2'/><target dev='sda' bus='scsi'/>
				<address type='drive' controller='1' bus='0' target='0' unit='0'/>
			</disk>
			<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>
			<controller type='scsi' index='0'/>
			<controller type='scsi' index='1'><driver iothread='2'/></controller>
			<channel type='unix'>
				<target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>
			</channel>
		</devices>
		<seclabel type='dynamic' model='apparmor'><label>libvirt-x</label></seclabel>
		<seclabel type='dynamic' model='dac'><label>+64055:+64056</label></seclabel>
	</domain>";

	#[test]
	fn a_domain_is_read() {
		let domain = Definition::parse(DOMAIN).unwrap();
		let flags: Vec<_> = domain
			.targets
			.iter()
			.map(|target| (target.name.as_str(), target.is_recordable, target.is_on_thread))
			.collect();
		let expected = [
			("vda", true, false),
			("vdb", false, true),
			("sda", false, true),
			("sdb", false, false),
		];
		assert_eq!(flags, expected);
		let sources: Vec<_> = domain.targets.iter().map(|target| target.source.clone()).collect();
		let path = |path: &str| Some(PathBuf::from(path));
		let expected = [path("/var/a & b.qcow2"), path("/dev/vg/data"), path("/var/s.qcow2"), None];
		assert_eq!(sources, expected);
		assert!(domain.has_agent);
		assert_eq!(domain.owner, Some((64055, 64056)));
	}

	#[test]
	fn an_agent_that_does_not_listen_is_none() {
		let domain = Definition::parse(&DOMAIN.replace("'connected'", "'disconnected'")).unwrap();
		assert!(!domain.has_agent);
	}

	#[test]
	fn a_checkpoint_tells_which_files_it_recorded() {
		let xml = format!(
			"<domaincheckpoint><name>pbk-1</name><disks>
				<disk name='vda' checkpoint='bitmap' bitmap='pbk-1'/>
				<disk name='vdb' checkpoint='no'/>
			</disks>{DOMAIN}</domaincheckpoint>"
		);
		let expected = [("vda".to_owned(), Some("/var/a & b.qcow2".into()))];
		assert_eq!(parse_checkpoint(&xml).unwrap(), expected);
	}

	#[test]
	fn the_socket_of_a_backup_is_found() {
		let unix =
			"<domainbackup mode='pull'><server transport='unix' socket='/x/s'/></domainbackup>";
		assert_eq!(parse_backup(unix).unwrap(), Some("/x/s".into()));
		assert_eq!(parse_backup("<domainbackup mode='push'/>").unwrap(), None);
	}

	#[test]
	fn what_is_no_definition_is_refused() {
		let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><domain>&a;</domain>";
		let many = format!("<domain>{}</domain>", "<a/>".repeat(NODES_MAX as usize));
		for text in ["", "<domain>", "<network/>", "<domain/>", bomb, &many] {
			assert!(Definition::parse(text).is_err(), "{:.40}", text);
		}
		assert!(parse_checkpoint("<domain/>").is_err());
		assert!(parse_backup("<domain/>").is_err());
	}
}
