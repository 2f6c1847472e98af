//! From the bytes of disks to the files on them, for reading only.
//!
//! ```text
//! disks ─▶ partitions (GPT, MBR) ─▶ logical volumes (LVM2, linear) ─▶ files (ext2, ext3, ext4)
//! ```
//! 1. [`scan`] finds what is on the disks of a machine: [`Volume`]s with names, sizes and contents.
//! 2. [`FileSystem::open`] opens one of them; it lists folders and reads files.
//!
//! Only what is asked for is read, so a disk may be far away. Nothing on a disk is trusted: sizes,
//! counts and depths are bounded, checksums are checked where there are any, and what does not add
//! up is an error. Nothing here writes, and nothing knows where the bytes come from.

mod area;
mod content;
mod error;
mod files;
mod lvm;
mod scan;
mod table;

pub use area::{Area, ReadAt};
pub use content::Content;
pub use error::{FileError, ReadError};
pub use files::{Entry, FileSystem, Kind, OpenFile, join};
pub use scan::{Layout, Volume, scan};

/// Memory that stands for a disk.
#[cfg(test)]
pub(crate) mod memory {
	use crate::{Area, ReadAt};
	use std::io;

	pub(crate) struct Memory(pub(crate) Vec<u8>);

	impl ReadAt for Memory {
		fn bytes(&self) -> u64 {
			self.0.len() as u64
		}

		fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
			let offset = offset as usize;
			buffer.copy_from_slice(&self.0[offset..offset + buffer.len()]);
			Ok(())
		}
	}

	pub(crate) fn area(bytes: Vec<u8>) -> Area {
		Area::whole(Memory(bytes))
	}
}
