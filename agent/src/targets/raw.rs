//! A raw image: byte for byte the disk, with holes where nothing was written.

use std::{io, os::unix::fs::FileExt, path::Path};

use crate::{
	pipeline::source::RestoreTarget,
	targets::{Stage, TargetError, partial::PartialFile},
};

/// Restores a disk to a sparse raw file.
#[derive(Debug)]
pub struct RawTarget {
	partial: PartialFile,
	stage: Stage,
}

impl RawTarget {
	/// Makes the target, which becomes `path` when it is finished.
	///
	/// # Errors
	/// Fails when `path` exists or its folder does not, and when another restore writes there.
	pub fn create(path: &Path) -> Result<Self, TargetError> {
		Ok(Self { partial: PartialFile::create(path)?, stage: Stage::Made })
	}
}

impl RestoreTarget for RawTarget {
	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		self.stage.size(logical_bytes)?;
		self.partial.file().set_len(logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.stage.ensure_inside(offset, bytes.len())?;
		self.partial.file().write_all_at(bytes, offset)
	}

	fn finish(&mut self) -> io::Result<()> {
		self.stage.finish()?;
		self.partial.complete()
	}
}
