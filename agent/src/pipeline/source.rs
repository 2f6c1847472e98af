//! What the pipeline reads disks from and writes them back to.
//!
//! A [`DiskReader`] stands for one disk at one point in time: a raw file, an image behind an NBD
//! server, the frozen view of a running machine. The pipeline asks for the next range that may
//! hold data, reads it front to back, and says what it no longer needs. All calls are blocking
//! and come from one thread, in rising order; a source that profits from several requests in
//! flight keeps its own read-ahead.
//!
//! A [`RestoreTarget`] is the other direction. Several threads write to it at once, in any order
//! and never twice to the same place; what is not written reads as zeros.

use backup_primitives::Cid;
use std::{io, ops::Range, time::Duration};

/// One disk, frozen at one point in time, read in rising order.
pub trait DiskReader: Send {
	/// The size of the disk in bytes. It does not change while the reader lives, and need not be
	/// a multiple of the chunk size.
	fn logical_bytes(&self) -> u64;

	/// The first range at or after `from` that may hold other bytes than zeros; `None` when all
	/// that follows reads as zeros.
	///
	/// The range may begin before it must and end after it must, up to the end of the disk, but
	/// it never begins before `from` and is never empty. What lies between two ranges is not
	/// read at all. A source without such knowledge answers `from..logical_bytes()`.
	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>>;

	/// Fills `buffer` with the bytes at `offset`. The pipeline never asks beyond
	/// [`logical_bytes`](Self::logical_bytes); a source that ends before it reports
	/// [`io::ErrorKind::UnexpectedEof`]. Holes inside the range read as zeros.
	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

	/// Says that nothing but these ranges will be asked for. They are sorted and apart from each
	/// other. Called once at most, before all else; by default nothing happens.
	fn restrict(&mut self, ranges: &[Range<u64>]) {
		let _ = ranges;
	}

	/// Says that `range` was read, or skipped, and is never asked for again, so that a source
	/// over a copy-before-write filter may trim it. By default nothing happens.
	fn release(&mut self, range: Range<u64>) {
		let _ = range;
	}
}

impl<T: DiskReader + ?Sized> DiskReader for Box<T> {
	fn logical_bytes(&self) -> u64 {
		(**self).logical_bytes()
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		(**self).next_extent(from)
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		(**self).read_at(offset, buffer)
	}

	fn restrict(&mut self, ranges: &[Range<u64>]) {
		(**self).restrict(ranges);
	}

	fn release(&mut self, range: Range<u64>) {
		(**self).release(range);
	}
}

/// Is told how much of an earlier attempt was found, and may end the search with an error.
pub type OnFound<'a> = &'a dyn Fn(u64) -> io::Result<()>;

/// Where one disk is restored to.
///
/// The order of calls is [`resume`](Self::resume) and [`set_len`](Self::set_len) once,
/// [`write_at`](Self::write_at) from several threads and [`keep`](Self::keep) beside them,
/// [`finish`](Self::finish) once. When a restore fails `finish` is not called, and the caller who
/// made the target cleans it up, or has it [`leave`](Self::leave) what is there.
///
/// A target that cannot be gone on with leaves out all that is there by default.
pub trait RestoreTarget: Send + Sync {
	/// Says what will be written, by the block on top of its tree, and answers how many bytes from
	/// the beginning an earlier attempt has written: those are not written again.
	///
	/// A target that has to read for that tells now and then how many bytes it has found.
	///
	/// # Errors
	/// Fails with what `on_found` answers, or when the target cannot be used.
	fn resume(
		&mut self,
		content: &Cid,
		logical_bytes: u64,
		on_found: OnFound<'_>,
	) -> io::Result<u64> {
		let _ = (content, logical_bytes, on_found);
		Ok(0)
	}

	/// How often it is to be told how far it is.
	fn keep_every(&self) -> Option<Duration> {
		None
	}

	/// Says that everything before this offset is written: make that durable, and remember it.
	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		let _ = done_bytes;
		Ok(())
	}

	/// Says that this attempt ends early and another will go on.
	fn leave(&mut self) {}

	/// Gives the target its size. From here on every byte that is not written reads as zero.
	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()>;

	/// Writes all of `bytes` at `offset`.
	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

	/// Makes what was written durable and complete.
	fn finish(&mut self) -> io::Result<()>;
}

impl<T: RestoreTarget + ?Sized> RestoreTarget for Box<T> {
	fn resume(
		&mut self,
		content: &Cid,
		logical_bytes: u64,
		on_found: OnFound<'_>,
	) -> io::Result<u64> {
		(**self).resume(content, logical_bytes, on_found)
	}

	fn keep_every(&self) -> Option<Duration> {
		(**self).keep_every()
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		(**self).keep(done_bytes)
	}

	fn leave(&mut self) {
		(**self).leave();
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		(**self).set_len(logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		(**self).write_at(offset, bytes)
	}

	fn finish(&mut self) -> io::Result<()> {
		(**self).finish()
	}
}
