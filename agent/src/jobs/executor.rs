//! What a job engine needs done, apart from how it is done.

use crate::{metrics::Metrics, pipeline::Cancel};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId, RecordedRoot,
	job::{JobId, RestoreOrder, SnapshotOrder},
	report::TakenSnapshot,
};
use codec::{Decode, Encode};
use std::{
	path::PathBuf,
	sync::{
		Arc, OnceLock,
		atomic::{AtomicU64, Ordering},
	},
};

/// Carries out orders. All calls block, each on a thread of its own.
pub trait Executor: Send + Sync + 'static {
	/// Take, store and pin a snapshot.
	fn snapshot(
		&self,
		genesis: &[u8; 32],
		node: &OpaqueId,
		order: &SnapshotOrder,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError>;

	/// Write the images of a snapshot, and say into which folder.
	fn restore(
		&self,
		node: &OpaqueId,
		order: &RestoreOrder,
		context: &JobContext,
	) -> Result<PathBuf, JobError>;

	/// Roots that are pinned.
	fn roots(&self) -> Result<Vec<HeldRoot>, JobError>;

	/// Whether a root is pinned.
	fn holds(&self, root: &Cid) -> bool;

	/// Whether so many replicas hold a root that the chain may be told of it.
	fn has_quorum(&self, root: &Cid) -> bool;

	/// Whether pins may have been lost, so that nothing is collected.
	fn pins_unconfirmed(&self) -> bool;

	/// Pin what is left of these roots, allow collections again, and return those that are not
	/// there with all their blocks.
	fn confirm_pins(&self, roots: Vec<RecordedRoot>) -> Result<Vec<RecordedRoot>, JobError>;

	/// Let go of a root.
	fn unpin(&self, root: &HeldRoot) -> Result<(), JobError>;

	/// Roots that are not pinned here, and that others hold on this node's behalf.
	fn roots_elsewhere(&self) -> Vec<HeldRoot>;

	/// Whether snapshots of a lineage are being fetched, so that one more may be pinned, or whether a
	/// replica may still hold one that is not here.
	fn is_unsettled(&self, lineage: &LineageId) -> bool;

	/// Whether there may be blocks that no root needs.
	fn has_garbage(&self) -> bool;

	/// Whether some of these may be needed by roots that are fetched, so that nothing is to be
	/// collected now.
	fn has_unfinished_copies(&self) -> bool;

	/// Free the blocks that no root needs.
	fn collect(&self) -> Result<Freed, JobError>;

	/// Clean up what a killed agent left, and bring what is kept to its newest form.
	fn recover(&self) -> Result<(), JobError>;
}

/// What freeing blocks came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
	/// Bytes of the blocks that are gone.
	pub bytes: u64,
	/// Whether a root that was given up may be left, so that its snapshot can still be opened.
	pub has_left_roots: bool,
	/// Whether damage kept everything but roots from being freed.
	pub is_obstructed: bool,
}

/// A root that is pinned, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRoot {
	/// The lineage.
	pub lineage: LineageId,
	/// Its place there.
	pub sequence: u64,
	/// The root.
	pub cid: Cid,
	/// When it was pinned, in milliseconds since 1970.
	pub pinned_at_ms: u64,
	/// The node that holds it as a copy, if another one sealed it.
	pub copy_for: Option<OpaqueId>,
}

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct JobError {
	/// What the owner is told.
	pub reason: FailureReason,
	/// What the operator is told, with all causes.
	pub detail: String,
}

impl JobError {
	/// A failure for this reason, with an error and its causes as the detail.
	pub fn new(reason: FailureReason, error: &dyn std::error::Error) -> Self {
		let mut detail = error.to_string();
		let mut cause = error.source();
		while let Some(error) = cause {
			let text = error.to_string();
			if !detail.contains(&text) {
				detail.push_str(": ");
				detail.push_str(&text);
			}
			cause = error.source();
		}
		Self { reason, detail }
	}

	pub(crate) fn internal(detail: &str) -> Self {
		Self { reason: FailureReason::Internal, detail: detail.to_owned() }
	}
}

/// What a job is told, and tells.
#[derive(Clone, Debug)]
pub struct JobContext {
	/// Its identity.
	pub id: JobId,
	/// Whether it should end early.
	pub cancel: Cancel,
	/// Whether that is because the agent ends, and it will be begun again.
	pub agent_ends: Cancel,
	/// How far it is.
	pub progress: Arc<ProgressCell>,
	/// What a snapshot took, once it is sealed.
	pub effort: Arc<OnceLock<Effort>>,
	/// Where it is counted.
	pub metrics: Metrics,
	/// The chain's clock, as the worker last told it.
	pub(crate) clock: Arc<AtomicU64>,
}

impl JobContext {
	/// The chain's clock, in blocks, as the worker last told it.
	pub fn clock(&self) -> u64 {
		self.clock.load(Ordering::Relaxed)
	}
}

/// What a snapshot took. Zero where nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Effort {
	/// Bytes that were read of the machine's disks.
	pub read_bytes: u64,
	/// Bytes that were new to the store, before they were compressed and sealed. Counted in whole
	/// chunks.
	pub fresh_bytes: u64,
	/// Bytes of all blocks in the store afterwards.
	pub store_bytes: u64,
	/// Whether no more was read than was written since the last one, as QEMU recorded it.
	pub is_recorded: bool,
	/// How long the machine stood still, in milliseconds.
	pub pause_ms: u64,
}

/// How far a job is, readable while it runs.
#[derive(Debug, Default)]
pub struct ProgressCell {
	done_bytes: AtomicU64,
	total_bytes: AtomicU64,
}

impl ProgressCell {
	/// Say how many bytes are done, of how many.
	pub fn set(&self, done_bytes: u64, total_bytes: u64) {
		self.total_bytes.store(total_bytes, Ordering::Relaxed);
		self.done_bytes.store(done_bytes, Ordering::Relaxed);
	}

	/// Bytes that are done, and bytes in all.
	pub fn get(&self) -> (u64, u64) {
		(self.done_bytes.load(Ordering::Relaxed), self.total_bytes.load(Ordering::Relaxed))
	}
}
