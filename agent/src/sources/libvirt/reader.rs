//! A disk behind a backup job of libvirt's.

use super::Domain;
use crate::{
	pipeline::source::DiskReader,
	sources::{SourceError, nbd::NbdDisk, socket::is_hang_up},
};
use std::{
	io,
	ops::Range,
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
};

/// A frozen view. What goes wrong here is told apart by what is left of the machine.
#[derive(Debug)]
pub(super) struct LibvirtDisk {
	disk: NbdDisk,
	domain: Domain,
	/// Whether we have ended the job for want of scratch.
	is_full: Arc<AtomicBool>,
}

impl LibvirtDisk {
	pub(super) fn new(disk: NbdDisk, domain: Domain, is_full: Arc<AtomicBool>) -> Self {
		Self { disk, domain, is_full }
	}

	fn explain<T>(&self, result: io::Result<T>) -> io::Result<T> {
		result.map_err(|error| {
			if self.is_full.load(Ordering::SeqCst) {
				return SourceError::ScratchFull.into();
			}
			if SourceError::of(&error).is_some() || !is_hang_up(&error) {
				return error;
			}
			match self.domain.is_running() {
				Ok(true) => SourceError::BackupEnded { domain: self.domain.name.clone() }.into(),
				Ok(false) | Err(_) => SourceError::Vanished.into(),
			}
		})
	}
}

impl DiskReader for LibvirtDisk {
	fn logical_bytes(&self) -> u64 {
		self.disk.logical_bytes()
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		let next = self.disk.next_extent(from);
		self.explain(next)
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let read = self.disk.read_at(offset, buffer);
		self.explain(read)
	}

	fn restrict(&mut self, ranges: &[Range<u64>]) {
		self.disk.restrict(ranges);
	}

	fn release(&mut self, range: Range<u64>) {
		self.disk.release(range);
	}
}
