//! Whether snapshots could be restored if they had to be: looked at three depths, on demand and
//! by a schedule.
//!
//! 1. *Presence*: the root is there with everything below it. Nodes are read and hashed, chunks
//!    only looked up. No key is needed.
//! 2. *Blocks*: every block is read and hashed. No key is needed.
//! 3. *Drill*: the snapshot is opened with the node's own identity, and all its disks and blobs
//!    are written to scratch and removed again.
//!
//! What is found missing or damaged is fetched from replicas and other nodes that have it, and looked
//! at again; what nobody has is left to the machine's next backup, and looked at after it.
//! Each result is written down, logged and shown at `/v1/verifications`. One verification runs
//! at a time, so that backups are not slowed by more than one reader.

mod drill;
mod mending;
mod record;
pub mod schedule;
#[cfg(test)]
mod tests;

pub use mending::Mender;
pub(crate) use mending::make_whole;
pub use record::{Mending, Verdict, Verification};
pub use schedule::Schedule;

use crate::{
	format::RootError,
	jobs::{Ledger, LedgerError, now_ms},
	pipeline::{Cancel, Progress, open_root},
	repositories::{Chunks, EmbeddedStore, Repository, RepositoryError, VerifyReport, verify},
	secret::NodeIdentities,
};
use backup_primitives::Cid;
use codec::{Decode, Encode};
use drill::DrillError;
use mending::in_rounds;
use std::{
	num::NonZero,
	path::PathBuf,
	sync::{
		Arc, Mutex, MutexGuard, OnceLock, PoisonError,
		atomic::{AtomicBool, Ordering},
	},
	time::Duration,
};

/// How closely a snapshot is looked at.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Hash,
	Encode,
	Decode,
	serde::Serialize,
	serde::Deserialize,
	clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
	/// Everything is there.
	Presence,
	/// Everything is there and undamaged.
	Blocks,
	/// Everything is there and comes back.
	Drill,
}

/// A verification that runs.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Running {
	/// The snapshot.
	pub root: Cid,
	/// How closely it is looked at.
	pub depth: Depth,
	/// When it began, in milliseconds since 1970.
	pub since_ms: u64,
	/// Bytes that were read or written so far.
	pub done_bytes: u64,
}

/// Why a verification cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerificationError {
	/// One runs already.
	#[error("a verification runs already")]
	Busy,
	/// The root is not pinned here.
	#[error("the root {root} is not pinned here")]
	UnknownRoot {
		/// The root that was asked for.
		root: Cid,
	},
	/// The store could not list its pins.
	#[error("the block store cannot be asked: {0}")]
	Store(#[from] RepositoryError),
}

/// Verifies the snapshots of a store. Clones are the same verifier.
#[derive(Clone, Debug)]
pub struct Verifier {
	store: EmbeddedStore,
	identities: Arc<NodeIdentities>,
	scratch_dir: PathBuf,
	ledger: Ledger,
	threads: NonZero<usize>,
	is_busy: Arc<AtomicBool>,
	running: Arc<Mutex<Option<Running>>>,
	mender: Arc<OnceLock<Mender>>,
	cancel: Cancel,
}

impl Verifier {
	/// A verifier that writes drills to a folder of scratch.
	pub fn new(
		store: EmbeddedStore,
		identities: Arc<NodeIdentities>,
		scratch_dir: PathBuf,
		ledger: Ledger,
	) -> Self {
		Self {
			store,
			identities,
			scratch_dir,
			ledger,
			threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
			is_busy: Arc::default(),
			running: Arc::default(),
			mender: Arc::default(),
			cancel: Cancel::new(),
		}
	}

	/// From now on, has what is bad mended. The first one stays.
	pub fn mend_with(&self, mender: Mender) {
		let _ = self.mender.set(mender);
	}

	/// Ends what runs, and refuses what comes.
	pub fn stop(&self) {
		self.cancel.cancel();
	}

	/// Whether some are under way.
	pub fn is_busy(&self) -> bool {
		self.is_busy.load(Ordering::Acquire)
	}

	/// What runs now.
	pub fn running(&self) -> Option<Running> {
		self.state().clone()
	}

	/// The last result of each root and depth, the newest first.
	pub fn results(&self) -> Result<Vec<Verification>, LedgerError> {
		let mut results = self.ledger.verifications()?;
		results.sort_by_key(|result| core::cmp::Reverse(result.at_ms));
		Ok(results)
	}

	/// Takes the turn to verify some roots, or all that are pinned.
	pub fn begin(&self, roots: &[Cid], depth: Depth) -> Result<Turn, VerificationError> {
		if self.is_busy.swap(true, Ordering::AcqRel) {
			return Err(VerificationError::Busy);
		}
		// From here on dropping it gives the turn back.
		let mut turn = Turn { verifier: self.clone(), roots: roots.to_vec(), depth };
		// Where packs are waited for, all is pinned that can be, and others may have what they held.
		if self.store.pins_unconfirmed() && !self.store.waits_for_packs()? {
			return Err(RepositoryError::PinsUnconfirmed.into());
		}
		let pinned: Vec<Cid> = self.store.pins()?.into_iter().map(|pin| pin.root).collect();
		if let Some(root) = roots.iter().find(|root| !pinned.contains(root)) {
			return Err(VerificationError::UnknownRoot { root: *root });
		}
		if roots.is_empty() {
			turn.roots = pinned;
		}
		Ok(turn)
	}

	fn state(&self) -> MutexGuard<'_, Option<Running>> {
		self.running.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

/// What looking at a root came to.
struct Found {
	blocks: u64,
	bytes: u64,
	verdict: Verdict,
	mending: Mending,
}

/// The one verification that may run now. Dropping it gives the turn back.
#[derive(Debug)]
pub struct Turn {
	verifier: Verifier,
	roots: Vec<Cid>,
	depth: Depth,
}

impl Turn {
	/// The roots that are verified.
	pub fn roots(&self) -> &[Cid] {
		&self.roots
	}

	/// Verifies one root after the other, blocking. Each result is written down and handed over
	/// as soon as it is there.
	pub fn run(self, on_result: &mut dyn FnMut(&Verification)) -> Result<(), LedgerError> {
		for root in &self.roots {
			let prior = self.prior(root)?;
			let result = self.one(root, prior.as_ref());
			if self.verifier.cancel.is_cancelled() {
				break;
			}
			// What was given up meanwhile is no longer whole, and need not be.
			if result.verdict != Verdict::Good && !self.verifier.store.is_pinned(root) {
				continue;
			}
			result.log();
			self.verifier.ledger.remember_verification(&result)?;
			on_result(&result);
		}
		Ok(())
	}

	/// The last result of a root, at whatever depth.
	fn prior(&self, root: &Cid) -> Result<Option<Verification>, LedgerError> {
		let results = self.verifier.results()?;
		Ok(results.into_iter().find(|result| result.root == *root))
	}

	fn one(&self, root: &Cid, prior: Option<&Verification>) -> Verification {
		let (verifier, depth) = (&self.verifier, self.depth);
		let since_ms = now_ms();
		*verifier.state() = Some(Running { root: *root, depth, since_ms, done_bytes: 0 });
		let found = match depth {
			Depth::Presence => self.walk(root, Chunks::Asked),
			Depth::Blocks => self.walk(root, Chunks::Hashed),
			Depth::Drill => self.drill(root),
		};
		*verifier.state() = None;
		let took = Duration::from_millis(now_ms().saturating_sub(since_ms));
		let Found { blocks, bytes, verdict, mut mending } = found;
		if !matches!(verdict, Verdict::Failed { .. }) {
			let left = prior.map_or(0, Verification::left);
			mending.from_disk = left.saturating_sub(mending.found);
		}
		let mut result = Verification {
			root: *root,
			depth,
			at_ms: since_ms,
			took,
			blocks,
			bytes,
			verdict,
			mending,
		};
		if let Some(mender) = verifier.mender.get() {
			mender.conclude(&mut result, prior);
		}
		result
	}

	fn progress(&self, done_bytes: u64) {
		if let Some(running) = &mut *self.verifier.state() {
			running.done_bytes = done_bytes;
		}
	}

	/// Reads what is below a root, and again while that which was bad is mended.
	fn walk(&self, root: &Cid, chunks: Chunks) -> Found {
		let mut proceed = |report: &VerifyReport| {
			self.progress(report.good_bytes);
			!self.verifier.cancel.is_cancelled()
		};
		let mut walk = || verify(&self.verifier.store, root, chunks, &mut proceed);
		let mut mending = Mending::default();
		let report = match self.verifier.mender.get() {
			Some(mender) => in_rounds(&mut mending, walk, |report| {
				mender.mend(root, report, &self.verifier.cancel)
			}),
			None => walk().inspect(|report| mending.found = report.bad_blocks),
		};
		match report {
			Ok(report) => Found {
				blocks: report.good_blocks,
				bytes: report.good_bytes,
				verdict: Verdict::of(&report),
				mending,
			},
			Err(error) => {
				let verdict = Verdict::Failed { detail: error.to_string() };
				Found { blocks: 0, bytes: 0, verdict, mending }
			}
		}
	}

	fn has_mender(&self) -> bool {
		self.verifier.mender.get().is_some()
	}

	/// Restores a snapshot, and once more if it was bad and is good now: a drill ends at the first
	/// bad block, so all are looked for then.
	fn drill(&self, root: &Cid) -> Found {
		let (bytes, verdict) = self.restore(root);
		let found = Found { blocks: 0, bytes, verdict, mending: Mending::default() };
		if !matches!(found.verdict, Verdict::Bad { .. }) || !self.has_mender() {
			return found;
		}
		let walked = self.walk(root, Chunks::Hashed);
		match walked.verdict {
			Verdict::Good if walked.mending.found > 0 => {
				let (bytes, verdict) = self.restore(root);
				Found { bytes, verdict, mending: walked.mending, ..found }
			}
			// What is wrong with it is not that blocks are bad.
			Verdict::Good | Verdict::Failed { .. } => found,
			Verdict::Bad { .. } => Found { blocks: 0, ..walked },
		}
	}

	/// Writes a snapshot to scratch, and says how many bytes that were.
	fn restore(&self, root: &Cid) -> (u64, Verdict) {
		let verifier = &self.verifier;
		let on_progress = |progress: Progress| self.progress(progress.done_bytes);
		let drilled = open_root(&verifier.store, root)
			.map_err(DrillError::from)
			.and_then(|block| {
				let opened = block.open_with_identities(verifier.identities.expose());
				opened.map_err(|error: RootError| DrillError::Restore(error.into()))
			})
			.and_then(|opened| {
				let drill = drill::Drill {
					source: &verifier.store,
					scratch_dir: &verifier.scratch_dir,
					threads: verifier.threads,
					on_progress: &on_progress,
					cancel: &verifier.cancel,
				};
				drill.run(&opened)
			});
		match drilled {
			Ok(bytes) => (bytes, Verdict::Good),
			Err(error) => (0, error.verdict()),
		}
	}
}

impl Drop for Turn {
	fn drop(&mut self) {
		*self.verifier.state() = None;
		self.verifier.is_busy.store(false, Ordering::Release);
	}
}
