//! Machines that were started before their disks were back.
//!
//! An image that fills in is a qcow2 image whose backing file is a disk of a snapshot, served over
//! NBD. What the guest reads comes from there, what it writes goes into the image, and QEMU copies
//! the rest behind its back (`block-stream`); when all is there it forgets the backing file. The
//! image says by itself how far that is: nothing else has to be kept.
//!
//! While nobody serves, requests wait for a while. Then they fail, and QEMU stops the guest, if it
//! was started with `rerror=stop,werror=stop`. Whoever serves again lets it go on.

use super::{
	Disk, PREFIX, SourceError, Vm,
	live::{self, is_same_file, short},
	qmp::Monitor,
};
use serde_json::{Value, json};
use std::{
	path::Path,
	process::{Command, Output},
};

/// How long a guest's requests wait for a server that went away, in seconds. Longer would hang what
/// has a deadline of its own in the guest; past it the guest is stopped and loses nothing.
const RECONNECT_SECONDS: u32 = 10;

/// How far the disks of a machine have filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
	/// The machine is off, and its images lack something.
	Off,
	/// It runs.
	Running {
		/// Bytes of its disks that were looked at.
		done_bytes: u64,
		/// Bytes of its disks.
		total_bytes: u64,
	},
	/// Nothing is missing any more.
	Complete,
}

/// Make an image at this path, which fills in from an export on a socket.
pub(crate) fn make_image(
	path: &Path,
	logical_bytes: u64,
	socket: &Path,
	export: &str,
) -> Result<(), SourceError> {
	let backing = json!({
		"driver": "raw",
		"file": {
			"driver": "nbd",
			"server": { "type": "unix", "path": socket },
			"export": export,
			"reconnect-delay": RECONNECT_SECONDS,
		},
	});
	// Not opened, so nobody has to serve it yet.
	let output = image_tool(path, |tool| {
		tool.args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
			.arg(format!("json:{backing}"))
			.arg(path)
			.arg(logical_bytes.to_string())
	})?;
	match output.status.success() {
		true => Ok(()),
		false => Err(refused(path, &output)),
	}
}

/// Whether an image lacks something that is served on this socket. Nothing if there is no image.
pub(crate) fn lacks(path: &Path, socket: &Path) -> Result<Option<bool>, SourceError> {
	if !path.try_exists()? {
		return Ok(None);
	}
	// Also while a machine has it: the name of the backing file is all that is looked at.
	let output = image_tool(path, |tool| {
		tool.args(["info", "--output=json", "--force-share", "--format=qcow2"]).arg(path)
	})?;
	if !output.status.success() {
		return Err(refused(path, &output));
	}
	let info: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
	Ok(Some(is_backed_by(&info, socket)))
}

/// Whether what QEMU says of an image names our socket.
fn is_backed_by(image: &Value, socket: &Path) -> bool {
	let socket = json!(socket).to_string();
	["full-backing-filename", "backing-filename"]
		.iter()
		.any(|key| image[key].as_str().is_some_and(|name| name.contains(&socket)))
}

fn image_tool(
	path: &Path,
	arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<Output, SourceError> {
	arguments(&mut Command::new("qemu-img")).output().map_err(|error| SourceError::ImageNotServed {
		path: path.to_owned(),
		reason: format!("failed to start qemu-img: {error}; install QEMU's tools"),
	})
}

fn refused(path: &Path, output: &Output) -> SourceError {
	let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
	SourceError::ImageNotServed { path: path.to_owned(), reason }
}

/// Have a machine copy what its disks lack, and let it go on if it stopped for want of it.
pub(super) fn fill(vm: &Vm, socket: &Path) -> Result<Filling, SourceError> {
	let Some(mut monitor) = live::connect(vm)? else {
		let is_lacking = is_any_lacking(vm, socket)?;
		return Ok(if is_lacking { Filling::Off } else { Filling::Complete });
	};
	live::check_tag(&mut monitor, vm.uuid)?;
	let jobs = monitor.run("query-block-jobs", json!({}))?;
	let blocks = monitor.run("query-block", json!({}))?;
	let (mut done_bytes, mut total_bytes, mut is_complete) = (0, 0, true);
	for disk in vm.included() {
		let number = job_name(disk);
		let job = live::list(&jobs).iter().find(|job| job["device"] == *number);
		if let Some(job) = job {
			done_bytes += job["offset"].as_u64().unwrap_or(0);
			total_bytes += job["len"].as_u64().unwrap_or(0);
			is_complete = false;
			continue;
		}
		let Some((node, image)) = find_image(&blocks, disk) else { continue };
		let size_bytes = image["virtual-size"].as_u64().unwrap_or(0);
		total_bytes += size_bytes;
		if is_backed_by(image, socket) {
			is_complete = false;
			monitor.run("block-stream", json!({ "job-id": number, "device": node }))?;
		} else {
			done_bytes += size_bytes;
		}
	}
	// The images have the last word: a machine may have none of them, or another's.
	if is_complete && !is_any_lacking(vm, socket)? {
		return Ok(Filling::Complete);
	}
	go_on(&mut monitor)?;
	Ok(Filling::Running { done_bytes, total_bytes })
}

/// Whether any image of a machine lacks something that is served on this socket.
fn is_any_lacking(vm: &Vm, socket: &Path) -> Result<bool, SourceError> {
	for disk in vm.included() {
		if lacks(&disk.image, socket)? == Some(true) {
			return Ok(true);
		}
	}
	Ok(false)
}

/// QEMU's name of the job that fills a disk.
fn job_name(disk: &Disk) -> String {
	format!("{PREFIX}fill-{}", short(&disk.name))
}

/// The node on top of a disk, and what QEMU says of its image.
fn find_image<'v>(blocks: &'v Value, disk: &Disk) -> Option<(&'v str, &'v Value)> {
	live::list(blocks).iter().find_map(|block| {
		let inserted = block.get("inserted")?;
		let file = inserted["image"]["filename"].as_str()?;
		is_same_file(Path::new(file), &disk.image)
			.then_some((inserted["node-name"].as_str()?, &inserted["image"]))
	})
}

/// Let a machine go on that stopped because a request failed. If that was for another reason than
/// ours, the request fails again, and it stops again.
fn go_on(monitor: &mut Monitor) -> Result<(), SourceError> {
	let status = monitor.run("query-status", json!({}))?;
	if status["status"] == "io-error" {
		monitor.run("cont", json!({}))?;
		tracing::info!("a machine that waited for its disks goes on");
	}
	Ok(())
}
