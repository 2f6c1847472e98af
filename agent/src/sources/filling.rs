//! Machines that were started before their disks were back.
//!
//! An image that fills in is a qcow2 image whose backing file is a disk of a snapshot, served over
//! NBD. What the guest reads comes from there, what it writes goes into the image, and QEMU copies
//! the rest behind its back (`block-stream`); when all is there it forgets the backing file. The
//! image says by itself how far that is: nothing else has to be kept.
//!
//! While nobody serves, requests wait for a while. Then they fail, and QEMU stops the guest, if it
//! was started with `rerror=stop,werror=stop`. Whoever serves again lets it go on.

use super::{PREFIX, SourceError, Vm, live, qmp::Monitor};
use serde_json::{Value, json};
use std::{
	fs::File,
	io,
	os::unix::fs::FileExt,
	path::{Path, PathBuf},
	process::Command,
};

/// How long a guest's requests wait for a server that went away, in seconds. Longer would hang what
/// has a deadline of its own in the guest; past it the guest is stopped and loses nothing.
const RECONNECT_SECONDS: u32 = 10;

/// What qcow2 images begin with, and how much of the header tells of the backing file.
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";
const HEADER_BYTES: usize = 20;

/// The longest name that the format allows.
const BACKING_NAME_BYTES_MAX: u64 = 1023;

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
	let output = Command::new("qemu-img")
		.args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
		.arg(format!("json:{backing}"))
		.arg(path)
		.arg(logical_bytes.to_string())
		.output();
	let reason = match output {
		Ok(output) if output.status.success() => return Ok(()),
		Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
		Err(error) => format!("failed to start qemu-img: {error}; install QEMU's tools"),
	};
	Err(SourceError::ImageNotServed { path: path.to_owned(), reason })
}

/// Whether an image lacks something that is served on this socket.
///
/// # Errors
/// Fails when that cannot be told: the image is not there, or is none.
pub(crate) fn lacks(path: &Path, socket: &Path) -> Result<bool, SourceError> {
	let backing = backing_file(path)
		.map_err(|source| SourceError::ImageUnreadable { path: path.to_owned(), source })?;
	Ok(backing.is_some_and(|name| is_served_on(&name, socket)))
}

/// The name of a qcow2 image's backing file, if it has one. It stands in the first cluster, which
/// may be read while a machine has the image: QEMU takes it out when all else is written down.
fn backing_file(image: &Path) -> io::Result<Option<String>> {
	let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
	let file = File::open(image)?;
	let mut header = [0; HEADER_BYTES];
	file.read_exact_at(&mut header, 0).map_err(|error| match error.kind() {
		io::ErrorKind::UnexpectedEof => wrong("it is no qcow2 image"),
		_ => error,
	})?;
	let (magic, rest) = header.split_at(QCOW2_MAGIC.len());
	let [offset, length] = [4..12, 12..16].map(|field| {
		rest[field].iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte))
	});
	match (magic == QCOW2_MAGIC, offset, length) {
		(false, ..) => Err(wrong("it is no qcow2 image")),
		(true, 0, _) => Ok(None),
		(true, _, 0..=BACKING_NAME_BYTES_MAX) => {
			let mut name = vec![0; length as usize];
			file.read_exact_at(&mut name, offset)?;
			String::from_utf8(name)
				.map(Some)
				.map_err(|_| wrong("its backing file's name is no text"))
		}
		(true, ..) => Err(wrong("its backing file's name is too long")),
	}
}

/// Whether the name of a backing file has our socket in it.
fn is_served_on(name: &str, socket: &Path) -> bool {
	name.contains(&json!(socket).to_string())
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
	let is_backed = ["full-backing-filename", "backing-filename"]
		.iter()
		.any(|key| about[key].as_str().is_some_and(|name| is_served_on(name, socket)));
	if !is_backed {
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
	let inserted = &live::find_block(blocks, image)?["inserted"];
	Some((inserted["node-name"].as_str()?, &inserted["image"]))
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

#[cfg(test)]
mod tests {
	use super::*;
	use std::fs;

	#[test]
	fn an_image_tells_whether_it_lacks_what_is_served_on_a_socket() {
		let folder = tempfile::tempdir().unwrap();
		let [image, other] = ["image", "other"].map(|name| folder.path().join(name));
		let [ours, theirs] = ["a \"b\".nbd", "theirs.nbd"].map(|name| folder.path().join(name));
		make_image(&image, 1 << 20, &ours, "vda").unwrap();
		assert!(lacks(&image, &ours).unwrap());
		assert!(!lacks(&image, &theirs).unwrap());
		let make = ["create", "-q", "-f", "qcow2"];
		assert!(
			Command::new("qemu-img").args(make).arg(&other).arg("1M").status().unwrap().success()
		);
		assert!(!lacks(&other, &ours).unwrap());
	}

	#[test]
	fn what_is_no_whole_image_is_told_from_one_that_lacks_nothing() {
		let folder = tempfile::tempdir().unwrap();
		let image = folder.path().join("image");
		let socket = Path::new("/run/x.nbd");
		assert!(lacks(&image, socket).is_err());
		let mut header = [&QCOW2_MAGIC[..], &[0, 0, 0, 3], &[0; 8], &[0; 4]].concat();
		let fault = |bytes: &[u8]| {
			fs::write(&image, bytes).unwrap();
			lacks(&image, socket).map_err(|error| error.to_string())
		};
		assert_eq!(fault(&header), Ok(false));
		for length in 0..header.len() {
			assert!(fault(&header[..length]).is_err(), "{length} bytes");
		}
		header[15] = 20;
		header[18] = 4;
		assert!(fault(&header).unwrap_err().contains("too long"));
		header[18] = 0;
		header[19] = 1;
		assert!(fault(&header).is_err(), "the name is behind the end");
		assert!(fault(b"QFJ\xfb0000000000000000").unwrap_err().contains("no qcow2 image"));
	}
}
