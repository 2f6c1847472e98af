//! Reading a machine that is off: its images, served by QEMU's own tool.
//!
//! `qemu-nbd` opens each image under QEMU's locks, so an image that a machine uses is refused, and
//! so is a machine that starts meanwhile. It reads raw and qcow2 alike, ends when its one client
//! leaves, and with the thread that started it, even if the agent is killed.

use super::{
	Checkpoint, Disk, ImageFormat, OpenDisk, OpenOptions, OpenVm, SourceError, Vm,
	live::bitmaps::{Bitmap, Record, recorded},
	nbd::{self, AfterRead, NbdDisk},
};
use crate::pipeline::source::DiskReader;
use backup_primitives::{Consistency, VmTag};
use std::{
	fs::File,
	io::Read,
	ops::Range,
	path::Path,
	process::{Child, Command, Stdio},
	thread,
	time::{Duration, Instant},
};

/// How long the tool may take until it serves.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether it serves.
const START_POLL: Duration = Duration::from_millis(5);

/// How much of a disk is read to find out whether it can be.
const TRIAL_BYTES: u64 = 64 * 1024;

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
pub(super) fn open(
	vm: &Vm,
	tag: VmTag,
	known: &[Checkpoint],
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	let judge = |disk: &Disk, bitmaps: &[Bitmap]| recorded(bitmaps, &disk.name, known);
	open_judging(vm, tag, known, options, judge)
}

/// The same, where somebody else knows what the bitmaps in an image are good for.
pub(super) fn open_judging(
	vm: &Vm,
	tag: VmTag,
	known: &[Checkpoint],
	options: &OpenOptions,
	judge: impl Fn(&Disk, &[Bitmap]) -> Option<Record>,
) -> Result<OpenVm, SourceError> {
	if vm.uuid != tag {
		return Err(SourceError::TagMismatch { expected: tag, found: vm.uuid });
	}
	let mut disks = Vec::new();
	let mut images = Vec::new();
	let files = vm.read_files()?;
	let mut records = Vec::new();
	for disk in vm.included() {
		let (image, reader) = serve(disk, &options.scratch_dir)?;
		let name = disk.name.clone();
		disks.push(OpenDisk { name, reader: Box::new(reader), written: None });
		images.push(image);
		let bitmaps = if known.is_empty() { Vec::new() } else { bitmaps(disk) };
		records.push((disk, judge(disk, &bitmaps)));
	}
	// From here on nobody writes to the images.
	let has = |record: &Option<Record>, one| record.as_ref().is_some_and(|r| r.checkpoint == one);
	let has_one = |one: &Checkpoint| records.iter().any(|(_, record)| has(record, *one));
	let base = known.iter().copied().find(has_one);
	for (open, (disk, record)) in disks.iter_mut().zip(&records) {
		let record = record.as_ref().filter(|record| Some(record.checkpoint) == base);
		open.written = record.and_then(|record| written(disk, record, &options.scratch_dir));
	}
	let (consistency, pause) = (Consistency::Stopped, Duration::ZERO);
	let hold = super::Hold::Stopped(images);
	Ok(OpenVm { disks, files, consistency, pause, base, checkpoint: None, hold })
}

/// Read the beginning of an image as a backup would, and tell how large its disk is.
pub(super) fn try_out(disk: &Disk, scratch: &Path) -> Result<u64, SourceError> {
	let (_image, mut reader) = serve(disk, scratch)?;
	let size_bytes = reader.logical_bytes();
	let mut beginning = vec![0; size_bytes.min(TRIAL_BYTES) as usize];
	reader.read_at(0, &mut beginning)?;
	Ok(size_bytes)
}

/// What QEMU left in an image when it ended. The image is not changed, so what goes on in it goes on
/// from the same checkpoint.
fn bitmaps(disk: &Disk) -> Vec<Bitmap> {
	if disk.format != ImageFormat::Qcow2 {
		return Vec::new();
	}
	let info = Command::new("qemu-img")
		.args(["info", "--output=json", "--format", disk.format.driver()])
		.arg(&disk.image)
		.output();
	let info = info.ok().and_then(|info| serde_json::from_slice(&info.stdout).ok());
	info.map(|info| Bitmap::list_stored(&info)).unwrap_or_default()
}

/// What was written to an image; nothing, and a word why, if the record cannot be read, or its
/// witness says that the disk was cut.
fn written(disk: &Disk, record: &Record, scratch: &Path) -> Option<Vec<Range<u64>>> {
	let ask = |bitmap: &str| {
		let ask = |socket: &Path| nbd::written(socket, EXPORT, bitmap);
		serve_to(disk, Some(bitmap), scratch, ask).map(|(_image, written)| written)
	};
	let asked = match record.witness.as_deref().map(ask).transpose() {
		Ok(Some(last)) if last.is_empty() => {
			let why = "the disk was cut since, even if it has its old size";
			tracing::warn!(disk = disk.name, why, "the disk is read in full");
			return None;
		}
		Ok(_) => ask(&record.bitmap),
		Err(error) => Err(error),
	};
	asked
		.inspect_err(|error| tracing::warn!(disk = disk.name, %error, "the disk is read in full"))
		.ok()
}

/// An image that nobody else can use.
#[derive(Debug)]
pub(super) struct HeldImage {
	// The tool ends when its client leaves.
	_reader: NbdDisk,
	image: ServedImage,
	/// The tools of two agents would bear with each other; this lock does not.
	_lock: File,
}

/// Hold those of these images that are there, from machines, from those that read them as a base,
/// and from other agents.
pub(super) fn hold(disks: &[Disk], scratch: &Path) -> Result<Vec<HeldImage>, SourceError> {
	let there = disks.iter().filter(|disk| disk.image.exists());
	let held = there.map(|disk| {
		let unreadable = |source| SourceError::ImageUnreadable { path: disk.image.clone(), source };
		let lock = File::open(&disk.image).map_err(unreadable)?;
		if lock.try_lock().is_err() {
			return Err(SourceError::ImageInUse { path: disk.image.clone() });
		}
		// Opened as raw bytes to write, it is locked whole, and its metadata stays untouched.
		let bytes = Disk { format: ImageFormat::Raw, ..disk.clone() };
		let (image, reader) = serve(&bytes, scratch)?;
		Ok(HeldImage { _reader: reader, image, _lock: lock })
	});
	held.collect()
}

impl HeldImage {
	/// Whether it is held still: somebody may have ended the tool.
	pub(super) fn is_held(&mut self) -> bool {
		matches!(self.image.daemon.try_wait(), Ok(None))
	}
}

fn serve(disk: &Disk, scratch: &Path) -> Result<(ServedImage, NbdDisk), SourceError> {
	serve_to(disk, None, scratch, |socket| NbdDisk::connect(socket, EXPORT, AfterRead::Keep))
}

/// Serve an image, and with it one of its bitmaps, to whoever can connect.
fn serve_to<T>(
	disk: &Disk,
	bitmap: Option<&str>,
	scratch: &Path,
	connect: impl Fn(&Path) -> Result<T, SourceError>,
) -> Result<(ServedImage, T), SourceError> {
	// The tool's words on a missing file are many; these are plain.
	File::open(&disk.image)
		.map_err(|source| SourceError::ImageUnreadable { path: disk.image.clone(), source })?;
	let folder = tempfile::Builder::new().prefix(super::PREFIX).tempdir_in(scratch)?;
	let socket = folder.path().join("nbd");
	let daemon = start(disk, bitmap, &socket)?;
	let mut image = ServedImage { daemon, _folder: folder };
	let deadline = Instant::now() + START_TIME_MAX;
	loop {
		if let Ok(connected) = connect(&socket) {
			return Ok((image, connected));
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

fn start(disk: &Disk, bitmap: Option<&str>, socket: &Path) -> Result<Child, SourceError> {
	// A raw image that is opened to read shares it with writers; only who could write is kept
	// apart from them. A qcow2 image shares its metadata with nobody, and must not be touched.
	let access: &[&str] = match disk.format {
		ImageFormat::Raw => &[],
		ImageFormat::Qcow2 => &["--read-only"],
	};
	// `setpriv` has the kernel end the tool with the thread that started it.
	let child = Command::new("setpriv")
		.args(["--pdeathsig", "KILL", "qemu-nbd", "--export-name", EXPORT])
		.args(access)
		.args(bitmap.map(|bitmap| format!("--bitmap={bitmap}")))
		.args(["--format", disk.format.driver(), "--socket"])
		.arg(socket)
		.arg(&disk.image)
		.stdin(Stdio::null())
		.stdout(Stdio::null())
		.stderr(Stdio::piped())
		.spawn();
	child.map_err(|error| SourceError::ImageNotServed {
		path: disk.image.clone(),
		reason: format!("failed to start qemu-nbd: {error}; install QEMU's tools"),
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
		// 'Failed to get "write" lock', and the like for others.
		match words.contains("\" lock") {
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
