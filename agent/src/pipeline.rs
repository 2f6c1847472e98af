//! From a disk to sealed blocks in a repository, and back.
//!
//! ```text
//! backup:   reader ─▶ workers: id, look-up, compress, seal, hash, store ─▶ tree, in order
//! restore:  tree, in order ─▶ workers: fetch, open, write ─▶ target
//! ```
//!
//! Memory stays flat however large the disk is: between the stages stand as many chunks as
//! there are buffers, and no table grows with the disk. An unchanged chunk is found by walking
//! the tree of the snapshot before in step with the reader. A chunk that moved is sealed again,
//! to the same block, which the repository has already.
//!
//! Every part can be cancelled between two chunks; nothing has to be undone then.

pub mod backup;
pub mod base;
pub mod copy;
pub mod diff;
pub mod export;
pub mod pace;
mod recorded;
pub mod restore;
pub mod source;
mod store;
mod tree;
pub mod view;

#[cfg(test)]
pub(crate) mod tests;

pub use backup::{Backup, BackupError, BackupReport, Blob, Disk, Stored};
pub use base::Base;
pub use copy::{CopyError, copy};
pub use diff::{Change, ChangeKind, DiffError, diff};
pub use export::{ExportError, Exported, export};
pub use pace::Pace;
pub use restore::{Restore, RestoreError, open_root};
pub use source::{DiskReader, RestoreTarget};
pub use view::{DiskView, Part, ViewError};

use std::{
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
	thread,
	time::{Duration, Instant},
};

/// How soon who waits sees that the switch was thrown.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Tells a running backup, copy or restore to end. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
	/// A switch that is not thrown.
	pub fn new() -> Self {
		Self::default()
	}

	/// Throws the switch.
	pub fn cancel(&self) {
		self.0.store(true, Ordering::Relaxed);
	}

	/// Whether it was thrown.
	pub fn is_cancelled(&self) -> bool {
		self.0.load(Ordering::Relaxed)
	}

	/// Waits, blocking, until a time has come, and says so: not if the switch was thrown before.
	pub(crate) fn wait_until(&self, end: Instant) -> bool {
		while !self.is_cancelled() {
			match end.checked_duration_since(Instant::now()) {
				Some(left) if !left.is_zero() => thread::sleep(left.min(CANCEL_POLL)),
				_ => return true,
			}
		}
		false
	}
}

/// How far a backup or restore has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
	/// Bytes of all disks together.
	pub total_bytes: u64,
	/// How many of them are done, holes included.
	pub done_bytes: u64,
	/// How many of those an earlier attempt at the same restore had done.
	pub resumed_bytes: u64,
	/// Bytes that were newly stored, or that were written to the target.
	pub written_bytes: u64,
	/// Where the size is not known beforehand, how much was gone through, of [`WHOLE`].
	///
	/// [`WHOLE`]: crate::walk::WHOLE
	pub walked: u64,
}

/// Where progress is shown. Called about every 16 MiB, or with each block, by one thread at a time.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);
