//! One look at a copy: what the chain records of it is compared with what is here, and fetched.

use super::{Copies, spending::Spending};
use crate::{
	chain::ChainError,
	node::PinLabel,
	peers::Peers,
	pipeline::{Cancel, CopyError, Progress, copy},
	repositories::{BlockSource, RepositoryError},
};
use backup_primitives::{Cid, KeptRoot, OpaqueId, Reader, job::CopyOrder};
use std::{
	sync::{
		Arc,
		atomic::{AtomicU64, Ordering},
	},
	time::{Duration, Instant},
};

/// How long one copy is fetched before others get a turn. It goes on where it was.
const TURN_TIME_MAX: Duration = Duration::from_secs(300);

/// A turn of one copy.
pub(super) struct Pull {
	pub(super) node: OpaqueId,
	pub(super) order: CopyOrder,
	/// Where it is counted what came, in bytes.
	pub(super) fetched: Arc<AtomicU64>,
	/// What each snapshot has cost so far.
	pub(super) spending: Spending,
	/// Ends it, at the end of its turn at the latest.
	pub(super) cancel: Cancel,
	pub(super) began: Instant,
}

/// How a turn ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
	/// All that the best chain records is here.
	Whole,
	/// All that the finalized chain records is here.
	Behind,
	/// There is more to fetch.
	OutOfTime,
}

/// Why a copy is not whole yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
	#[error(transparent)]
	Chain(#[from] ChainError),
	#[error("the chain names no gateway that may be asked")]
	NobodyToAsk,
	#[error("{cid}: {source}")]
	Copy { cid: Cid, source: CopyError },
	#[error(
		"{cid}: it is larger than {max} bytes, and the chain says that its disks have {logical} in all"
	)]
	TooMuch { cid: Cid, max: u64, logical: u64 },
	#[error(transparent)]
	Store(#[from] RepositoryError),
	#[error("the thread that fetched it panicked")]
	Panic,
}

impl PullError {
	/// Whether it is this node's own store that failed.
	pub(super) fn is_ours(&self) -> bool {
		matches!(self, Self::Store(_) | Self::Copy { source: CopyError::Write(_), .. })
	}

	/// Whether a snapshot is larger than it may be.
	pub(super) fn is_too_much(&self) -> bool {
		matches!(self, Self::TooMuch { .. })
	}
}

impl Pull {
	/// Compare the copy with the finalized chain once, and fetch what it lacks.
	pub(super) async fn run(self, copies: Arc<Copies>) -> Result<Pulled, PullError> {
		let view = copies.chain.finalized().await?;
		let roots: Arc<[_]> = view.roots_of_request(&self.order.lineage).await?.into();
		let reader = Reader::Node(self.node.clone());
		let peers = copies.directory.peers(&reader, &self.order.sources);
		let peers = peers.until(self.cancel.clone());
		let pulled = tokio::task::spawn_blocking(move || self.fetch(&copies, &roots, &peers));
		pulled.await.unwrap_or(Err(PullError::Panic))
	}

	/// Fetch what is missing of these roots, the newest first.
	fn fetch(
		&self,
		copies: &Copies,
		roots: &Arc<[KeptRoot]>,
		peers: &Peers,
	) -> Result<Pulled, PullError> {
		let lineage = &self.order.lineage;
		let is_here = |cid: &Cid| Ok(copies.store.is_pinned(cid) && copies.store.has(cid)?);
		let here = roots.iter().map(|root| is_here(&root.cid));
		let mut here = here.collect::<Result<Vec<bool>, RepositoryError>>()?;
		copies.note_held(lineage, roots, &here);
		self.spending.keep_only(roots);
		let mut failure = None;
		for place in (0..roots.len()).rev() {
			if here[place] {
				continue;
			}
			if peers.is_empty() {
				return Err(PullError::NobodyToAsk);
			}
			let root @ KeptRoot { sequence, cid, .. } = &roots[place];
			match self.fetch_one(copies, root, peers) {
				Ok(()) => {
					here[place] = true;
					copies.note_held(lineage, roots, &here);
					tracing::info!(root = %cid, sequence, request = %lineage.request, "copy fetched");
				}
				// Older ones may be as they should. Where this was found out now, they have to wait
				// for the next turn.
				Err(error) if error.is_too_much() && !self.cancel.is_cancelled() => {
					failure.get_or_insert(error);
				}
				Err(error) if error.is_too_much() => return Err(error),
				Err(_) if self.cancel.is_cancelled() => return Ok(Pulled::OutOfTime),
				// Nobody gives a block of it; they may give older ones.
				Err(error @ PullError::Copy { .. }) if !error.is_ours() && !peers.are_away() => {
					failure.get_or_insert(error);
				}
				Err(error) => return Err(failure.unwrap_or(error)),
			}
		}
		match failure {
			Some(error) => Err(error),
			None if roots.last().map_or(0, |newest| newest.sequence + 1) >= self.order.next => {
				Ok(Pulled::Whole)
			}
			None => Ok(Pulled::Behind),
		}
	}

	fn fetch_one(&self, copies: &Copies, root: &KeptRoot, peers: &Peers) -> Result<(), PullError> {
		let cid = &root.cid;
		let budget = self.spending.budget(root);
		let too_much =
			|| PullError::TooMuch { cid: *cid, max: budget.max(), logical: root.logical_bytes };
		if budget.is_spent() {
			return Err(too_much());
		}
		let session = copies.session(&self.order.lineage)?;
		let before = self.fetched.load(Ordering::Relaxed);
		let show = |progress: Progress| {
			let fetched = before + progress.written_bytes;
			let known = self.fetched.swap(fetched, Ordering::Relaxed);
			copies.pace.wait(fetched.saturating_sub(known));
			if budget.spend(progress.written_bytes) || self.began.elapsed() > TURN_TIME_MAX {
				self.cancel.cancel();
			}
		};
		let threads = copies.in_force.borrow().threads;
		copy(peers, session.as_ref(), cid, threads, &show, &self.cancel).map_err(|source| {
			match budget.is_spent() {
				true => too_much(),
				false => PullError::Copy { cid: *cid, source },
			}
		})?;
		session.flush()?;
		// Another lineage that names the same root has pinned it already.
		if !copies.store.is_pinned(cid) {
			let label = PinLabel::of_copy(&self.order.lineage, root.sequence, &self.node);
			session.pin(cid, &label)?;
		}
		budget.close();
		Ok(())
	}
}
