//! Reading a machine that is off: its images, served by QEMU's own tool.
//!
//! `qemu-storage-daemon` opens each image under QEMU's locks, so an image that a machine uses is
//! refused, and a machine that starts meanwhile is. It reads raw and qcow2 alike, and it ends
//! with the thread that started it, even if the agent is killed.

use super::{
	Disk, OpenDisk, OpenOptions, OpenVm, SourceError, Vm,
	nbd::{AfterRead, NbdDisk},
};
use backup_primitives::{Consistency, VmTag};
use std::{
	fs::File,
	io::Read,
	path::Path,
	process::{Child, Command, Stdio},
	thread,
	time::{Duration, Instant},
};

/// How long the tool may take until it serves.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether it serves.
const START_POLL: Duration = Duration::from_millis(5);

/// Name of the export.
const EXPORT: &str = "disk";

/// An image that is held and served. Dropping it ends the tool.
#[derive(Debug)]
pub(super) struct ServedImage {
	daemon: Child,
	/// The folder of the socket; it goes with the rest.
	_folder: tempfile::TempDir,
}

/// Hold the images of a machine that is off.
pub(super) fn open(vm: &Vm, tag: VmTag, options: &OpenOptions) -> Result<OpenVm, SourceError> {
	if vm.uuid != tag {
		return Err(SourceError::TagMismatch { expected: tag, found: vm.uuid });
	}
	let mut disks = Vec::new();
	let mut images = Vec::new();
	for disk in &vm.disks {
		let (image, reader) = serve(disk, &options.scratch_dir)?;
		disks.push(OpenDisk { name: disk.name.clone(), reader: Box::new(reader) });
		images.push(image);
	}
	Ok(OpenVm { disks, consistency: Consistency::Stopped, hold: super::Hold::Stopped(images) })
}

fn serve(disk: &Disk, scratch: &Path) -> Result<(ServedImage, NbdDisk), SourceError> {
	// The tool's words on a missing file are many; these are plain.
	File::open(&disk.image)
		.map_err(|source| SourceError::ImageUnreadable { path: disk.image.clone(), source })?;
	let folder = tempfile::Builder::new().prefix("pbk-").tempdir_in(scratch)?;
	let socket = folder.path().join("nbd");
	let daemon = start(disk, &socket)?;
	let mut image = ServedImage { daemon, _folder: folder };
	let deadline = Instant::now() + START_TIME_MAX;
	loop {
		if let Ok(reader) = NbdDisk::connect(&socket, EXPORT, AfterRead::Keep) {
			return Ok((image, reader));
		}
		if image.daemon.try_wait()?.is_some() {
			return Err(image.explain_end(disk));
		}
		if Instant::now() >= deadline {
			let reason = format!("the tool did not serve within {START_TIME_MAX:?}");
			return Err(SourceError::ImageNotServed { path: disk.image.clone(), reason });
		}
		thread::sleep(START_POLL);
	}
}

fn start(disk: &Disk, socket: &Path) -> Result<Child, SourceError> {
	let file = serde_json::json!({
		"driver": "file", "node-name": "file", "filename": disk.image, "read-only": true,
	});
	let format = serde_json::json!({
		"driver": disk.format.driver(), "node-name": "image", "file": "file", "read-only": true,
	});
	let server = serde_json::json!({ "addr": { "type": "unix", "path": socket } });
	let export = serde_json::json!({
		"type": "nbd", "id": EXPORT, "node-name": "image", "name": EXPORT, "writable": false,
	});
	// `setpriv` has the kernel end the tool with the thread that started it.
	let child = Command::new("setpriv")
		.args(["--pdeathsig", "KILL", "qemu-storage-daemon"])
		.args(["--blockdev", &file.to_string(), "--blockdev", &format.to_string()])
		.args(["--nbd-server", &server.to_string(), "--export", &export.to_string()])
		.stdin(Stdio::null())
		.stdout(Stdio::null())
		.stderr(Stdio::piped())
		.spawn();
	child.map_err(|error| SourceError::ImageNotServed {
		path: disk.image.clone(),
		reason: format!("failed to start qemu-storage-daemon: {error}; install QEMU's tools"),
	})
}

impl ServedImage {
	/// Why the tool ended instead of serving.
	fn explain_end(&mut self, disk: &Disk) -> SourceError {
		const WORDS_BYTES_MAX: u64 = 4096;
		let mut words = String::new();
		if let Some(stderr) = self.daemon.stderr.take() {
			// What cannot be read is not shown; the error stands without it.
			let _ = stderr.take(WORDS_BYTES_MAX).read_to_string(&mut words);
		}
		let path = disk.image.clone();
		match words.contains("lock") {
			true => SourceError::ImageInUse { path },
			false => SourceError::ImageNotServed { path, reason: words.trim().to_owned() },
		}
	}
}

impl Drop for ServedImage {
	fn drop(&mut self) {
		// It may have ended by itself; then there is nothing to end.
		let _ = self.daemon.kill();
		let _ = self.daemon.wait();
	}
}
