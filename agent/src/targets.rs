//! Where a restored disk is written: a raw file, a qcow2 image, or a block device, which is
//! [its own case](DeviceTarget).
//!
//! 1. A target is made next to the file it is to become, as `<path>.partial`, readable by its
//!    user only and locked.
//! 2. The pipeline gives it its size and writes to it.
//! 3. `finish` makes it durable and gives it its name, never over another file.
//!
//! Until then nothing has the name `<path>`, so that no machine starts from half a disk. A
//! target that is dropped unfinished removes what it wrote. What a killed process left is gone on
//! with by the next restore of the same content to the same path, and replaced by any other.

mod device;
mod digests;
mod partial;
mod progress;
mod qcow2;
mod raw;

use backup_primitives::Cid;
use progress::{Needs, Progress};
use std::{
	io,
	path::{Path, PathBuf},
	time::Duration,
};

/// How often it is noted how far a restore is: as much as that is done again after a kill.
const KEEP_EVERY: Duration = Duration::from_secs(1);

pub(crate) use self::partial::rename_new;
pub use self::{
	device::DeviceTarget,
	partial::PartialFile,
	qcow2::{QCOW2_LOGICAL_BYTES_MAX, Qcow2Target},
	raw::RawTarget,
};

/// Why a target cannot be made, or cannot be given its name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
	/// Something has the name already; it is left as it is.
	#[error("restore to {path}: it exists already")]
	Exists {
		/// The name asked for.
		path: PathBuf,
	},
	/// Another restore to the same place runs.
	#[error("restore to {path}: another restore is writing there")]
	Busy {
		/// The name asked for.
		path: PathBuf,
	},
	/// The path does not name a file.
	#[error("restore to {path}: this names no file")]
	NoFileName {
		/// The path asked for.
		path: PathBuf,
	},
	/// It is to be a block device, and is something else.
	#[error("restore to {path}: this is no block device")]
	NoDevice {
		/// The path asked for.
		path: PathBuf,
	},
	/// The device is mounted, or part of something that is.
	#[error("restore to {path}: the device is in use; unmount it, or stop what uses it")]
	DeviceInUse {
		/// The path asked for.
		path: PathBuf,
	},
	/// The folder or the file cannot be used.
	#[error("restore to {path}")]
	Io {
		/// The name asked for.
		path: PathBuf,
		/// Why.
		#[source]
		source: io::Error,
	},
}

impl TargetError {
	fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
		let path = path.to_owned();
		move |source| Self::Io { path, source }
	}

	/// Whether the file system, or what its user may have of it, is full.
	#[must_use]
	pub fn is_disk_full(&self) -> bool {
		match self {
			Self::Io { source, .. } => is_disk_full(source),
			Self::Exists { .. }
			| Self::Busy { .. }
			| Self::NoFileName { .. }
			| Self::NoDevice { .. }
			| Self::DeviceInUse { .. } => false,
		}
	}
}

/// As an error of a [`RestoreTarget`](crate::pipeline::source::RestoreTarget): of the kind that
/// fits, with this inside.
impl From<TargetError> for io::Error {
	fn from(error: TargetError) -> Self {
		let kind = match &error {
			TargetError::Exists { .. } => io::ErrorKind::AlreadyExists,
			TargetError::Busy { .. } | TargetError::DeviceInUse { .. } => {
				io::ErrorKind::ResourceBusy
			}
			TargetError::NoDevice { .. } => io::ErrorKind::InvalidInput,
			TargetError::NoFileName { .. } => io::ErrorKind::InvalidFilename,
			TargetError::Io { source, .. } => source.kind(),
		};
		Self::new(kind, error)
	}
}

/// Whether an error of a target says that the file system, or what its user may have of it, is
/// full. Space has to be made before another attempt.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
	matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// How far a target has come. Keeps the order of calls that the trait asks for.
#[derive(Clone, Copy, Debug)]
enum Stage {
	Made,
	Sized { logical_bytes: u64 },
	Finished,
}

impl Stage {
	fn size(&mut self, logical_bytes: u64) -> io::Result<()> {
		match self {
			Self::Made => {
				*self = Self::Sized { logical_bytes };
				Ok(())
			}
			Self::Sized { .. } | Self::Finished => Err(invalid("a second size for a target")),
		}
	}

	fn finish(&mut self) -> io::Result<u64> {
		match std::mem::replace(self, Self::Finished) {
			Self::Sized { logical_bytes } => Ok(logical_bytes),
			Self::Made => Err(invalid("the end of a target without a size")),
			Self::Finished => Err(invalid("a second end of a target")),
		}
	}

	fn ensure_inside(self, offset: u64, len: usize) -> io::Result<()> {
		let logical_bytes = match self {
			Self::Sized { logical_bytes } => logical_bytes,
			Self::Made => return Err(invalid("a write to a target without a size")),
			Self::Finished => return Err(invalid("a write to a finished target")),
		};
		let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
		if end.is_none_or(|end| end > logical_bytes) {
			return Err(invalid("a write beyond the end of the target"));
		}
		Ok(())
	}
}

/// What a target is going on with.
#[derive(Debug, Default)]
struct Resumption {
	/// Digest of the block on top of the content's tree, and how long the content is.
	content: Option<([u8; 32], u64)>,
	goes_on: bool,
}

impl Resumption {
	/// Learns what will be written, and looks what is kept of it.
	fn begin(&mut self, progress: &Path, content: &Cid, logical_bytes: u64) -> Option<Progress> {
		self.content = Some((content.digest(), logical_bytes));
		Progress::load(progress, content.digest(), logical_bytes)
	}

	/// Goes on with this, or begins at the beginning; says how much is done.
	fn go_on(&mut self, found: Option<&Progress>) -> u64 {
		self.goes_on = found.is_some();
		found.map_or(0, |found| found.done_bytes)
	}

	fn goes_on(&self) -> bool {
		self.goes_on
	}

	/// Keeps how much is written, which is durable.
	fn save(&self, progress: &Path, done_bytes: u64, needs: Needs) -> io::Result<()> {
		let Some((content, logical_bytes)) = self.content else { return Ok(()) };
		Progress::new(content, logical_bytes, done_bytes, needs).save(progress)
	}
}

fn invalid(what: &'static str) -> io::Error {
	io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_full_disk_is_told_from_other_errors() {
		const ENOSPC: i32 = 28;
		const EDQUOT: i32 = 122;
		const EIO: i32 = 5;
		let check = |code, full| {
			let error = io::Error::from_raw_os_error(code);
			assert_eq!(is_disk_full(&error), full);
			let error = TargetError::io(Path::new("disk.raw"))(error);
			assert_eq!(error.is_disk_full(), full);
			assert_eq!(is_disk_full(&error.into()), full);
		};
		check(ENOSPC, true);
		check(EDQUOT, true);
		check(EIO, false);
	}

	#[test]
	fn boundary_of_a_write() {
		let sized = |logical_bytes| Stage::Sized { logical_bytes };
		assert!(sized(10).ensure_inside(0, 10).is_ok());
		assert!(sized(10).ensure_inside(10, 0).is_ok());
		assert!(sized(10).ensure_inside(1, 10).is_err());
		assert!(sized(u64::MAX).ensure_inside(u64::MAX, 1).is_err());
		assert!(Stage::Made.ensure_inside(0, 0).is_err());
		assert!(Stage::Finished.ensure_inside(0, 0).is_err());
	}
}
