//! A raw image: byte for byte the disk, with holes where nothing was written.

use std::{io, path::Path, time::Duration};

use backup_primitives::Cid;

use crate::{
	pipeline::source::{OnFound, RestoreTarget},
	targets::{KEEP_EVERY, Resumption, Stage, TargetError, partial::PartialFile, progress::Needs},
};

/// Restores a disk to a sparse raw file.
#[derive(Debug)]
pub struct RawTarget {
	partial: PartialFile,
	stage: Stage,
	resumption: Resumption,
}

impl RawTarget {
	/// Makes the target, which becomes `path` when it is finished.
	///
	/// # Errors
	/// Fails when `path` exists or its folder does not, and when another restore writes there.
	pub fn create(path: &Path) -> Result<Self, TargetError> {
		let partial = PartialFile::create_or_adopt(path)?;
		Ok(Self { partial, stage: Stage::Made, resumption: Resumption::default() })
	}
}

impl RestoreTarget for RawTarget {
	fn resume(&mut self, content: &Cid, logical_bytes: u64, _: OnFound<'_>) -> io::Result<u64> {
		let found = self.resumption.begin(&self.partial.progress(), content, logical_bytes);
		let length = self.partial.file().metadata()?.len();
		let found = found.filter(|_| length == logical_bytes);
		Ok(self.resumption.go_on(found.as_ref()))
	}

	fn keep_every(&self) -> Option<Duration> {
		Some(KEEP_EVERY)
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		self.partial.file().sync_data()?;
		self.resumption.save(&self.partial.progress(), done_bytes, Needs::Nothing)
	}

	fn leave(&mut self) {
		self.partial.leave();
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		self.stage.size(logical_bytes)?;
		if !self.resumption.goes_on() {
			self.partial.clear()?;
		}
		self.partial.file().set_len(logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.stage.ensure_inside(offset, bytes.len())?;
		self.partial.write_all_at(bytes, offset)
	}

	fn finish(&mut self) -> io::Result<()> {
		self.stage.finish()?;
		self.partial.complete()
	}
}
