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
	PREFIX, SourceError, Vm,
	live::{self, is_same_file},
	qmp::Monitor,
};
use serde_json::{Value, json};
use std::{
	path::{Path, PathBuf},
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

/// Whether an image lacks something that is served on this socket.
///
/// # Errors
/// Fails when that cannot be told: the image is not there, or is none.
pub(crate) fn lacks(path: &Path, socket: &Path) -> Result<bool, SourceError> {
	// Also while a machine has it: the name of the backing file is all that is looked at.
	let output = image_tool(path, |tool| {
		tool.args(["info", "--output=json", "--force-share", "--format=qcow2"]).arg(path)
	})?;
	if !output.status.success() {
		return Err(refused(path, &output));
	}
	let info: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
		let reason = format!("qemu-img says something else than JSON: {error}");
		SourceError::ImageNotServed { path: path.to_owned(), reason }
	})?;
	Ok(is_backed_by(&info, socket))
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

/// Have a machine copy what these images of it lack, and let it go on if it stopped for want of
/// that.
///
/// Before QEMU takes a backing file out of an image it is told to write down what it has copied:
/// otherwise a QEMU that is killed then leaves an image that needs nothing and lacks something.
pub(super) fn fill(vm: &Vm, images: &[PathBuf], socket: &Path) -> Result<Filling, SourceError> {
	let Some(mut monitor) = live::connect(vm)? else {
		// QEMU writes everything down when it ends.
		let filling =
			if is_any_lacking(images, socket)? { Filling::Off } else { Filling::Complete };
		return Ok(filling);
	};
	live::check_tag(&mut monitor, vm.uuid)?;
	let state = State {
		jobs: monitor.run("query-jobs", json!({}))?,
		block_jobs: monitor.run("query-block-jobs", json!({}))?,
		blocks: monitor.run("query-block", json!({}))?,
	};
	let (mut done_bytes, mut total_bytes, mut failure) = (0, 0, None);
	for (number, image) in images.iter().enumerate() {
		// One that cannot be filled does not keep the others.
		match fill_one(&mut monitor, &state, number, image, socket) {
			Ok(range) => {
				done_bytes += range.0;
				total_bytes += range.1;
			}
			Err(error) => failure = failure.or(Some(error)),
		}
	}
	go_on(&mut monitor)?;
	if let Some(error) = failure {
		return Err(error);
	}
	// The images have the last word: a machine may have none of them.
	match is_any_lacking(images, socket)? {
		true => Ok(Filling::Running { done_bytes, total_bytes }),
		false => {
			for image in images {
				flush(&mut monitor, &state, image)?;
			}
			Ok(Filling::Complete)
		}
	}
}

/// What a machine says of itself.
struct State {
	jobs: Value,
	block_jobs: Value,
	blocks: Value,
}

/// Bring an image a step further, and say how many bytes of it were looked at, of how many.
fn fill_one(
	monitor: &mut Monitor,
	state: &State,
	number: usize,
	image: &Path,
	socket: &Path,
) -> Result<(u64, u64), SourceError> {
	let name = format!("{PREFIX}fill-{number}");
	let job = live::list(&state.jobs).iter().find(|job| job["id"] == *name);
	if let Some(job) = job {
		if job["status"] == "pending" {
			flush(monitor, state, image)?;
			monitor.run("job-finalize", json!({ "id": name }))?;
		}
		let progress = live::list(&state.block_jobs).iter().find(|job| job["device"] == *name);
		let bytes = |key| progress.and_then(|job| job[key].as_u64()).unwrap_or(0);
		return Ok((bytes("offset"), bytes("len")));
	}
	let Some((node, about)) = find_image(&state.blocks, image) else { return Ok((0, 0)) };
	let size_bytes = about["virtual-size"].as_u64().unwrap_or(0);
	if !is_backed_by(about, socket) {
		return Ok((size_bytes, size_bytes));
	}
	let order = json!({ "job-id": name, "device": node, "auto-finalize": false });
	monitor.run("block-stream", order)?;
	Ok((0, size_bytes))
}

/// Have QEMU write down what it holds of an image, if the machine has it.
fn flush(monitor: &mut Monitor, state: &State, image: &Path) -> Result<(), SourceError> {
	let Some((node, _)) = find_image(&state.blocks, image) else { return Ok(()) };
	// QMP has no command for it.
	let line = json!({ "command-line": format!("qemu-io {node} flush") });
	let answer = monitor.run("human-monitor-command", line)?;
	match answer.as_str().unwrap_or_default().trim() {
		"" => Ok(()),
		words => Err(SourceError::Refused {
			command: "qemu-io flush".into(),
			description: words.to_owned(),
		}),
	}
}

fn is_any_lacking(images: &[PathBuf], socket: &Path) -> Result<bool, SourceError> {
	images.iter().try_fold(false, |is_any, image| Ok(is_any | lacks(image, socket)?))
}

/// The node on top of an image in a machine, and what QEMU says of the image.
fn find_image<'v>(blocks: &'v Value, image: &Path) -> Option<(&'v str, &'v Value)> {
	live::list(blocks).iter().find_map(|block| {
		let inserted = block.get("inserted")?;
		let file = inserted["image"]["filename"].as_str()?;
		is_same_file(Path::new(file), image)
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
