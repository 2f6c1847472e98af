//! The disks of a domain that are backed up, and what was recorded of them.

use super::{
	Domain, checkpoints,
	definition::{Definition, Target},
};
use crate::sources::{
	Checkpoint, Disk, ImageFormat, SourceError, Vm,
	live::{THREAD_SAFE_MAJOR, is_same_file},
};
use std::path::PathBuf;

/// A disk that is backed up.
#[derive(Debug)]
pub(super) struct Drive<'v> {
	pub(super) disk: &'v Disk,
	pub(super) target: Target,
	pub(super) size_bytes: u64,
	/// Whether the base has recorded what was written to it.
	pub(super) is_recorded: bool,
}

/// A disk that a checkpoint records, and the file that it had then.
pub(super) type RecordedFile = (String, Option<PathBuf>);

/// Find the domain's disk for each of the inventory, by its name, and see that both mean the same
/// image: it is read from there when the domain is off.
pub(super) fn find_drives<'v>(
	vm: &'v Vm,
	domain: &Domain,
	definition: &Definition,
) -> Result<Vec<Drive<'v>>, SourceError> {
	let drive = |disk: &'v Disk| {
		let target = find_target(disk, definition)?.clone();
		let size_bytes = domain.size_bytes(&target.name)?;
		Ok(Drive { disk, target, size_bytes, is_recorded: false })
	};
	vm.included().map(drive).collect()
}

/// The domain's disk of this name, if it has this image or none that is a file.
pub(super) fn find_target<'d>(
	disk: &Disk,
	definition: &'d Definition,
) -> Result<&'d Target, SourceError> {
	let is_meant = |target: &&Target| {
		target.source.as_ref().is_none_or(|source| is_same_file(source, &disk.image))
	};
	let found = definition.target(&disk.name).filter(is_meant);
	found.ok_or_else(|| SourceError::DiskNotFound {
		name: disk.name.clone(),
		image: disk.image.clone(),
	})
}

/// Whoever reads an image by itself must know what it is: the container's bytes are not the disk.
pub(super) fn ensure_same_format(disk: &Disk, target: &Target) -> Result<(), SourceError> {
	if target.is_qcow2 == (disk.format == ImageFormat::Qcow2) && target.source.is_some() {
		return Ok(());
	}
	Err(SourceError::ImageNotServed {
		path: disk.image.clone(),
		reason: format!(
			"the machine's file says that it is {}, which the domain's definition does not",
			disk.format.driver()
		),
	})
}

/// A QEMU before 9.0 ends, and its guest with it, when the client of an export on an I/O thread
/// hangs up, and libvirt exports a disk on the disk's own thread.
pub(super) fn refuse_threads(domain: &Domain, drives: &[Drive<'_>]) -> Result<(), SourceError> {
	let Some(drive) = drives.iter().find(|drive| drive.target.is_on_thread) else {
		return Ok(());
	};
	match domain.qemu_major()? >= Some(THREAD_SAFE_MAJOR) {
		true => Ok(()),
		false => Err(SourceError::IoThread { disk: drive.disk.name.clone() }),
	}
}

/// See which disks the base has recorded: those that had the same image then. Returns nothing if
/// none was. A checkpoint that cannot be read costs a full reading.
pub(super) fn find_recorded(
	domain: &Domain,
	base: Option<Checkpoint>,
	drives: &mut [Drive<'_>],
) -> Result<Option<Checkpoint>, SourceError> {
	let Some(base) = base else { return Ok(None) };
	let recorded = recorded_files(domain, base)?;
	for drive in drives.iter_mut() {
		drive.is_recorded = is_recorded(&drive.target, &recorded);
	}
	Ok(drives.iter().any(|drive| drive.is_recorded).then_some(base))
}

/// The disks that a checkpoint records, and the file that each had when it began: none if it cannot
/// be read.
pub(super) fn recorded_files(
	domain: &Domain,
	base: Checkpoint,
) -> Result<Vec<RecordedFile>, SourceError> {
	match checkpoints::recorded(domain, base) {
		Err(error @ (SourceError::LibvirtRefused { .. } | SourceError::NotLibvirt { .. })) => {
			tracing::warn!(domain = domain.name, %error, "the domain is read in full");
			Ok(Vec::new())
		}
		recorded => recorded,
	}
}

/// Whether a disk is among them, with the file that it has now.
pub(super) fn is_recorded(target: &Target, recorded: &[RecordedFile]) -> bool {
	let is_same = |(name, source): &RecordedFile| *name == target.name && *source == target.source;
	target.is_recordable && recorded.iter().any(is_same)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	fn drive(disk: &Disk, is_on_thread: bool) -> Drive<'_> {
		let target = Target {
			name: disk.name.clone(),
			source: None,
			is_disk: true,
			is_read_only: false,
			format: "qcow2".into(),
			is_qcow2: true,
			is_recordable: true,
			is_on_thread,
		};
		Drive { disk, target, size_bytes: 0, is_recorded: false }
	}

	fn disk() -> Disk {
		Disk {
			name: "vda".into(),
			image: "/nowhere".into(),
			format: ImageFormat::Qcow2,
			skip: false,
		}
	}

	/// QEMU was updated, and a domain runs on under the old one, or one has an emulator of its own.
	#[test]
	fn the_qemu_that_runs_a_domain_is_asked_whether_it_bears_io_threads() {
		let its = |major: u64| format!(r#"{{"return":{{"qemu":{{"major":{major},"minor":2}}}}}}"#);
		let disk = disk();
		let check = |host_version: &str, answer: &str| {
			let host = format!("Running hypervisor: QEMU {host_version}\n");
			let answers = [("version", host.as_str()), ("qemu-monitor-command", answer)];
			refuse_threads(&fake::domain(&answers).domain, &[drive(&disk, true)])
		};
		check("7.2.0", &its(9)).unwrap();
		for answer in [&*its(7), "error: operation failed", "{}", "?"] {
			let error = check("9.1.0", answer).unwrap_err();
			assert!(matches!(error, SourceError::IoThread { .. }), "{answer}: {error}");
		}
	}

	#[test]
	fn a_domain_without_io_threads_is_not_asked() {
		let fake = fake::domain(&[]);
		refuse_threads(&fake.domain, &[drive(&disk(), false)]).unwrap();
		assert!(fake.calls().is_empty());
	}
}
