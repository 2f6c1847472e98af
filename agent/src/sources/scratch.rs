//! Room for what guests overwrite while they are read.
//!
//! One qcow2 image a disk. How its cap is kept depends on who talks to QEMU, see [`Room`].

use super::{OpenOptions, PREFIX, SourceError};
use crate::disk::available_bytes;
use backup_primitives::VmTag;
use rustix::{
	fs::{FallocateFlags, fallocate},
	io::Errno,
};
use std::{
	fs, io,
	os::unix::fs::{MetadataExt, OpenOptionsExt},
	path::{Path, PathBuf},
	process::Command,
	sync::{Mutex, PoisonError},
};

/// What the files of guests' writes end with.
const SUFFIX: &str = ".scratch";

/// How many bytes of a disk one byte of its scratch image's tables stands for. QEMU makes the
/// tables of all that is trimmed.
const BYTES_PER_TABLE_BYTE: u64 = 8192;

/// Room that a disk must find before a backup begins, beside the tables.
const BYTES_MIN: u64 = 64 * 1024 * 1024;

/// One machine's scratch is made at a time.
static MAKING: Mutex<()> = Mutex::new(());

/// What a window's size is a multiple of.
const WINDOW_STEP_BYTES: u64 = 64 * 1024;

/// How the cap of an image is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
	/// The file is sparse and as long as its cap. QEMU sees it through a window of that size, so
	/// that the cap holds without anyone watching, agent alive or not.
	Window,
	/// The cap is reserved on the file system behind the end of the file, which then grows into
	/// it. Who fills the file system cannot take it away; the cap itself is to be watched.
	Reserved,
}

/// A disk whose overwritten content is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overwritten<'a> {
	/// The disk's name.
	pub(super) name: &'a str,
	/// Its size.
	pub(super) size_bytes: u64,
}

/// Scratch of a machine's disks. Dropping it removes the files.
#[derive(Debug)]
pub(super) struct Scratch {
	/// An image for each disk, in their order.
	pub(super) images: Vec<PathBuf>,
	/// The size of each.
	pub(super) cap_bytes: u64,
	/// Whether the file system has set aside what the images may take.
	pub(super) is_reserved: bool,
}

impl Scratch {
	/// The folder is shared with other machines, so the files bear the machine's tag.
	pub(super) fn make(
		tag: VmTag,
		disks: &[Overwritten<'_>],
		room: Room,
		options: &OpenOptions,
	) -> Result<Self, SourceError> {
		// QEMU has a working directory of its own.
		let folder = fs::canonicalize(&options.scratch_dir)?;
		// Two that begin at once must not be promised the same room.
		let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
		let cap_bytes = room_for(&folder, disks, options.scratch_bytes_max)?;
		let mut scratch = Self { images: Vec::new(), cap_bytes, is_reserved: false };
		for disk in disks {
			let path = folder.join(format!("{PREFIX}{tag}-{}{SUFFIX}", disk.name));
			scratch.images.push(path.clone());
			let file = make_image(&path, disk.size_bytes)?;
			match room {
				Room::Window => file.set_len(cap_bytes)?,
				Room::Reserved => scratch.is_reserved = reserve(&file, cap_bytes)?,
			}
		}
		Ok(scratch)
	}
}

impl Drop for Scratch {
	fn drop(&mut self) {
		self.images.iter().for_each(|image| remove_file(image));
	}
}

/// What each of these disks may take in a folder, if a backup of them began now.
pub(super) fn room_for(
	folder: &Path,
	disks: &[Overwritten<'_>],
	bytes_max: u64,
) -> Result<u64, SourceError> {
	let free_bytes = available_bytes(folder)?.saturating_sub(promised_bytes(folder)?);
	let count = disks.len() as u64;
	let largest = disks.iter().map(|disk| disk.size_bytes).max().unwrap_or(0);
	let tables = largest.div_ceil(BYTES_PER_TABLE_BYTE);
	cap_bytes(free_bytes, count, tables, bytes_max).ok_or_else(|| {
		let needed_bytes = (BYTES_MIN + tables) * 2 * count;
		SourceError::ScratchTooSmall { path: folder.to_owned(), free_bytes, needed_bytes }
	})
}

/// What each of `count` disks may take: what the operator allows and the image's tables, but all
/// of them together no more than half of what nobody has and nobody was promised. Guests' own
/// images may grow on the same file system.
fn cap_bytes(free_bytes: u64, count: u64, tables: u64, bytes_max: u64) -> Option<u64> {
	let share = free_bytes / 2 / count.max(1);
	let cap = share.min(bytes_max.saturating_add(tables));
	let cap =
		cap.next_multiple_of(WINDOW_STEP_BYTES).min(share / WINDOW_STEP_BYTES * WINDOW_STEP_BYTES);
	(share >= BYTES_MIN + tables).then_some(cap)
}

pub(super) fn make_image(path: &Path, disk_bytes: u64) -> Result<fs::File, SourceError> {
	let file =
		fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
	let output = Command::new("qemu-img")
		.args(["create", "-q", "-f", "qcow2"])
		.arg(path)
		.arg(disk_bytes.to_string())
		.output()?;
	if !output.status.success() {
		let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
		return Err(io::Error::other(format!("failed to make a scratch image: {words}")).into());
	}
	Ok(file)
}

/// Set room aside for a file without making it longer. Says whether the file system can.
fn reserve(file: &fs::File, cap_bytes: u64) -> io::Result<bool> {
	match fallocate(file, FallocateFlags::KEEP_SIZE, 0, cap_bytes) {
		// Some say yes and set nothing aside.
		Ok(()) => Ok(file.metadata()?.blocks() * 512 >= cap_bytes),
		Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
		Err(error) => Err(error.into()),
	}
}

/// Room that other scratch may still take: files are sparse, and as long as their caps.
fn promised_bytes(folder: &Path) -> Result<u64, SourceError> {
	let mut promised = 0;
	for entry in fs::read_dir(folder)? {
		let entry = entry?;
		let name = entry.file_name();
		if !name.to_string_lossy().ends_with(SUFFIX) {
			continue;
		}
		match entry.metadata() {
			Ok(file) => promised += file.len().saturating_sub(file.blocks() * 512),
			// Its backup has just ended.
			Err(error) if error.kind() == io::ErrorKind::NotFound => (),
			Err(error) => return Err(error.into()),
		}
	}
	Ok(promised)
}

pub(super) fn remove_file(path: &Path) {
	if let Err(error) = fs::remove_file(path)
		&& error.kind() != io::ErrorKind::NotFound
	{
		tracing::warn!(%error, path = %path.display(), "failed to remove scratch");
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const GIB: u64 = 1 << 30;

	#[test]
	fn disks_share_half_of_what_is_free() {
		assert_eq!(cap_bytes(8 * GIB, 2, 0, 16 * GIB), Some(2 * GIB));
		assert_eq!(cap_bytes(80 * GIB, 2, 0, 16 * GIB), Some(16 * GIB));
		assert_eq!(cap_bytes(80 * GIB, 2, GIB, 16 * GIB), Some(17 * GIB));
		assert_eq!(cap_bytes(GIB + 77, 1, 0, 16 * GIB), Some(GIB / 2));
	}

	#[test]
	fn room_that_was_promised_is_not_promised_again() {
		let folder = tempfile::tempdir().unwrap();
		assert_eq!(promised_bytes(folder.path()).unwrap(), 0);
		let file = fs::File::create(folder.path().join(format!("{PREFIX}one{SUFFIX}"))).unwrap();
		file.set_len(GIB).unwrap();
		fs::write(folder.path().join("another"), [1; 8192]).unwrap();
		assert_eq!(promised_bytes(folder.path()).unwrap(), GIB);
		fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
		assert_eq!(promised_bytes(folder.path()).unwrap(), GIB - (1 << 20));
	}

	#[test]
	fn reserved_room_is_behind_the_end_of_the_file() {
		let file = tempfile::tempfile().unwrap();
		file.set_len(4096).unwrap();
		if reserve(&file, 1 << 20).unwrap() {
			let metadata = file.metadata().unwrap();
			assert!(metadata.len() == 4096 && metadata.blocks() * 512 >= 1 << 20);
		}
	}

	#[test]
	fn boundary_too_little_room_is_refused() {
		assert_eq!(cap_bytes(BYTES_MIN * 2, 1, 0, GIB), Some(BYTES_MIN));
		assert_eq!(cap_bytes(BYTES_MIN * 2 - 1, 1, 0, GIB), None);
		assert_eq!(cap_bytes(BYTES_MIN * 2, 2, 0, GIB), None);
		assert_eq!(cap_bytes(BYTES_MIN * 2, 1, 1, GIB), None);
	}
}
