//! Writing past the page cache.
//!
//! A restored disk is not read by who wrote it, and a pack seldom soon. Through the page cache
//! their bytes would push out what machines of the same host have there, cost a copy each, and
//! reach the disk late and in bursts: on a machine with 2 cores that is a third of the speed.

use std::{
	fs::{File, OpenOptions},
	io,
	ops::{Deref, DerefMut},
	os::{
		fd::AsRawFd,
		unix::fs::{FileExt, OpenOptionsExt},
	},
	sync::{
		OnceLock,
		atomic::{AtomicBool, Ordering},
	},
};

use rustix::io::Errno;

/// What offsets, lengths and addresses of such writes are multiples of: the largest block of
/// common disks.
pub(crate) const ALIGNMENT: usize = 4096;

/// What is given to a disk at once. A disk that takes one request after the other lets others wait
/// for as long as the largest of them takes, a guest's sync among them.
const PIECE_BYTES: usize = 1 << 20;

/// A file that is open for writing, with another handle for writes past the page cache.
#[derive(Debug)]
pub(crate) struct DirectFile {
	file: File,
	/// Opened by the first write. `None` where the file system knows no such writes.
	direct: OnceLock<Option<File>>,
	/// Whether the disk has blocks larger than [`ALIGNMENT`].
	is_refused: AtomicBool,
}

impl From<File> for DirectFile {
	fn from(file: File) -> Self {
		Self { file, direct: OnceLock::new(), is_refused: AtomicBool::new(false) }
	}
}

impl Deref for DirectFile {
	type Target = File;

	fn deref(&self) -> &File {
		&self.file
	}
}

impl DirectFile {
	fn direct(&self) -> Option<&File> {
		let open = || {
			if is_remote(&self.file) {
				return None;
			}
			let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
			OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
		};
		self.direct.get_or_init(open).as_ref().filter(|_| !self.is_refused.load(Ordering::Relaxed))
	}

	/// Writes all bytes. What lies aligned, in the file and in memory, goes past the page cache,
	/// the rest through it. Neither is durable before a sync.
	pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
		let file = &self.file;
		let head = (offset.next_multiple_of(ALIGNMENT as u64) - offset) as usize;
		let Some((head, rest)) = bytes.split_at_checked(head) else {
			return file.write_all_at(bytes, offset);
		};
		let (body, tail) = rest.split_at(rest.len() - rest.len() % ALIGNMENT);
		if body.is_empty() || body.as_ptr().align_offset(ALIGNMENT) != 0 {
			return file.write_all_at(bytes, offset);
		}
		let Some(direct) = self.direct() else { return file.write_all_at(bytes, offset) };
		let body_at = offset + head.len() as u64;
		let in_pieces = || {
			let mut at = body_at;
			for piece in body.chunks(PIECE_BYTES) {
				direct.write_all_at(piece, at)?;
				at += piece.len() as u64;
			}
			io::Result::Ok(())
		};
		match in_pieces() {
			Ok(()) => {}
			Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
				self.is_refused.store(true, Ordering::Relaxed);
				file.write_all_at(body, body_at)?;
			}
			Err(error) => return Err(error),
		}
		file.write_all_at(head, offset)?;
		file.write_all_at(tail, body_at + body.len() as u64)
	}
}

/// Whether the file is on another computer, where each such write would be a synced one.
fn is_remote(file: &File) -> bool {
	// From the kernel's `magic.h`: NFS, SMB, CIFS, and what runs in user space.
	const REMOTE: [u64; 4] = [0x6969, 0xfe53_4d42, 0xff53_4d42, 0x6573_5546];
	rustix::fs::fstatfs(file).is_ok_and(|found| REMOTE.contains(&(found.f_type as u64)))
}

/// Bytes that begin where a [`DirectFile`] wants them in memory. Their number is fixed.
#[derive(Debug)]
pub(crate) struct AlignedBytes {
	bytes: Vec<u8>,
	begin: usize,
}

impl AlignedBytes {
	/// Zeros.
	pub(crate) fn new(len: usize) -> Self {
		let bytes = vec![0; len + ALIGNMENT];
		let begin = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
		Self { bytes, begin }
	}
}

impl Deref for AlignedBytes {
	type Target = [u8];

	fn deref(&self) -> &[u8] {
		&self.bytes[self.begin..][..self.bytes.len() - ALIGNMENT]
	}
}

impl DerefMut for AlignedBytes {
	fn deref_mut(&mut self) -> &mut [u8] {
		let len = self.bytes.len() - ALIGNMENT;
		&mut self.bytes[self.begin..][..len]
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Bytes that differ from place to place.
	fn pattern(len: usize) -> Vec<u8> {
		let mut bytes = vec![0; len];
		blake3::Hasher::new().finalize_xof().fill(&mut bytes);
		bytes
	}

	/// Writes pieces of a pattern where they belong, from memory that begins `skip` bytes behind an
	/// aligned place, and reads the file.
	fn written(file: File, pieces: &[(usize, usize)], skip: impl Fn(usize) -> usize) -> Vec<u8> {
		let all = pattern(64 * ALIGNMENT);
		let file = DirectFile::from(file);
		let mut memory = AlignedBytes::new(all.len() + ALIGNMENT);
		for (begin, end) in pieces {
			let place = skip(*begin)..skip(*begin) + end - begin;
			memory[place.clone()].copy_from_slice(&all[*begin..*end]);
			file.write_all_at(&memory[place], *begin as u64).unwrap();
		}
		let mut found = vec![0; file.metadata().unwrap().len() as usize];
		file.read_exact_at(&mut found, 0).unwrap();
		found
	}

	const PIECES: [(usize, usize); 7] = [
		(0, 8 * ALIGNMENT),
		(8 * ALIGNMENT, 9 * ALIGNMENT + 17),
		(9 * ALIGNMENT + 17, 9 * ALIGNMENT + 18),
		(9 * ALIGNMENT + 18, 30 * ALIGNMENT - 1),
		(30 * ALIGNMENT - 1, 30 * ALIGNMENT - 1),
		(30 * ALIGNMENT - 1, 50 * ALIGNMENT),
		(50 * ALIGNMENT, 64 * ALIGNMENT),
	];

	#[test]
	fn what_is_written_past_the_cache_and_through_it_makes_one_file() {
		let pieces = || (tempfile::tempfile().unwrap(), &PIECES[..]);
		let all = pattern(64 * ALIGNMENT);
		let (file, order) = pieces();
		assert!(written(file, order, |offset| offset % ALIGNMENT) == all, "placed to fit");
		let (file, order) = pieces();
		assert!(written(file, order, |_| 1) == all, "placed as it comes");
	}

	#[test]
	fn pieces_may_come_in_any_order() {
		let reversed: Vec<_> = PIECES.iter().rev().copied().collect();
		let found = written(tempfile::tempfile().unwrap(), &reversed, |offset| offset % ALIGNMENT);
		assert!(found == pattern(64 * ALIGNMENT));
	}

	#[test]
	fn a_file_system_without_such_writes_takes_them_through_the_cache() {
		let file = DirectFile::from(tempfile::tempfile().unwrap());
		file.direct.set(None).unwrap();
		let bytes = AlignedBytes::new(ALIGNMENT);
		file.write_all_at(&bytes, 0).unwrap();
		assert_eq!(file.metadata().unwrap().len(), ALIGNMENT as u64);
	}

	#[test]
	fn bytes_are_aligned_and_as_many_as_asked_for() {
		for len in [0, 1, ALIGNMENT, 3 * ALIGNMENT + 5] {
			let bytes = AlignedBytes::new(len);
			assert_eq!((bytes.len(), bytes.as_ptr().align_offset(ALIGNMENT)), (len, 0));
		}
	}
}
