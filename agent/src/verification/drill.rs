//! A restore that nobody asked for: everything is written to scratch and removed again.

use crate::{
	disk::available_bytes,
	format::{Object, Root},
	pipeline::{Cancel, OnProgress, Progress, Restore, RestoreError},
	repositories::BlockSource,
	targets::{RawTarget, TargetError, is_disk_full},
	verification::Verdict,
};
use std::{fs, io, num::NonZero, path::Path};

/// Bytes of the file system that a drill leaves free whatever it writes.
const ROOM_LEFT_BYTES: u64 = 2 << 30;

/// Why a drill did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrillError {
	/// The snapshot cannot be restored.
	#[error(transparent)]
	Restore(#[from] RestoreError),
	/// Scratch cannot be written, which says nothing of the snapshot.
	#[error("scratch cannot be written: {0}")]
	Scratch(#[source] io::Error),
}

impl From<TargetError> for DrillError {
	fn from(error: TargetError) -> Self {
		Self::Scratch(error.into())
	}
}

impl DrillError {
	/// What it says of the snapshot.
	pub(super) fn verdict(&self) -> Verdict {
		let detail = self.to_string();
		match self {
			Self::Restore(RestoreError::Missing { cid, .. } | RestoreError::NoSuchRoot { cid }) => {
				Verdict::Bad { missing: 1, corrupt: 0, first: Some(*cid), detail }
			}
			Self::Restore(
				RestoreError::Corrupt { cid, .. } | RestoreError::Unusable { cid, .. },
			) => Verdict::Bad { missing: 0, corrupt: 1, first: Some(*cid), detail },
			Self::Restore(RestoreError::Repository { cid, source }) if source.is_loss() => {
				Verdict::Bad { missing: 0, corrupt: 1, first: Some(*cid), detail }
			}
			Self::Restore(RestoreError::Target { source, .. }) if is_disk_full(source) => {
				let detail = "there is no room in the scratch folder for the largest disk".into();
				Verdict::Failed { detail }
			}
			Self::Restore(_) | Self::Scratch(_) => Verdict::Failed { detail },
		}
	}
}

/// What a drill works with.
pub(super) struct Drill<'a> {
	pub(super) source: &'a dyn BlockSource,
	pub(super) scratch_dir: &'a Path,
	pub(super) threads: NonZero<usize>,
	pub(super) on_progress: OnProgress<'a>,
	pub(super) cancel: &'a Cancel,
}

impl Drill<'_> {
	/// Restores all disks and blobs, one after the other, and says how many bytes were written.
	pub(super) fn run(&self, root: &Root) -> Result<u64, DrillError> {
		let mut written_bytes = 0;
		let mut before = 0;
		for object in root.disks.iter().chain(&root.blobs) {
			let on_progress = |progress: Progress| {
				let done_bytes = before + progress.done_bytes;
				(self.on_progress)(Progress { done_bytes, ..progress });
			};
			written_bytes += self.object(root, object, &on_progress)?;
			before += object.logical_bytes;
		}
		Ok(written_bytes)
	}

	fn object(
		&self,
		root: &Root,
		object: &Object,
		on_progress: OnProgress<'_>,
	) -> Result<u64, DrillError> {
		ensure_room(self.scratch_dir, object.logical_bytes).map_err(DrillError::Scratch)?;
		// The folder is private and goes with all in it, whatever happens.
		let folder = tempfile::Builder::new()
			.prefix(crate::sources::PREFIX)
			.tempdir_in(self.scratch_dir)
			.map_err(DrillError::Scratch)?;
		let path = folder.path().join("drill");
		let mut target = RawTarget::create(&path)?;
		let restore = Restore {
			repository: self.source,
			geometry: root.geometry,
			object,
			threads: self.threads,
			on_progress,
			cancel: self.cancel,
		};
		let written_bytes = restore.run(&mut target)?;
		let found = fs::metadata(&path).map_err(DrillError::Scratch)?.len();
		match found == object.logical_bytes {
			true => Ok(written_bytes),
			false => Err(DrillError::Scratch(io::Error::other("the file has another length"))),
		}
	}
}

/// Refuses a drill that could fill the disk: backups, and the machines that they read, need room
/// there too.
fn ensure_room(folder: &Path, logical_bytes: u64) -> io::Result<()> {
	let available = available_bytes(folder)?;
	match available >= logical_bytes.saturating_add(ROOM_LEFT_BYTES) {
		true => Ok(()),
		false => Err(io::Error::new(
			io::ErrorKind::StorageFull,
			format!(
				"a disk of {logical_bytes} bytes may leave less than {ROOM_LEFT_BYTES} of the {available} that are free"
			),
		)),
	}
}
