//! What a verification finds missing or damaged is fetched again from replicas and other nodes.
//!
//! The good bytes are fetched before the bad ones are noted, so that a block which nobody has stays
//! as it is: a part of it may be good, and the next backup may bring it back.

use crate::{
	jobs::Jobs,
	peers::{Elsewhere, Peers},
	pipeline::{Cancel, copy},
	repositories::{BlockSource, EmbeddedStore, Repository, RepositoryError, VerifyReport},
};
use backup_primitives::{Cid, OpaqueId};
use std::{fmt, num::NonZero, sync::Arc};

/// Fetches blocks for a verification.
pub struct Mender {
	store: EmbeddedStore,
	elsewhere: Arc<Elsewhere>,
	jobs: Arc<Jobs>,
}

impl Mender {
	/// Mends a store with what others have of its snapshots.
	pub fn new(store: EmbeddedStore, elsewhere: Arc<Elsewhere>, jobs: Arc<Jobs>) -> Self {
		Self { store, elsewhere, jobs }
	}

	/// Fetch what a walk below a root found missing or damaged, and say how many blocks came.
	/// Blocks below a bad node were not seen; whoever wants to know walks again.
	pub(super) fn mend(&self, root: &Cid, report: &VerifyReport, cancel: &Cancel) -> u64 {
		let replicas = self.elsewhere.replicas();
		let bad: Vec<Cid> = report.missing.iter().chain(&report.corrupt).copied().collect();
		// Those of replicas are near, and need no leave of the chain's.
		let left: Vec<Cid> = match replicas.is_empty() {
			true => bad.clone(),
			false => bad
				.iter()
				.filter(|cid| self.mend_block(replicas, cid, cancel).is_err())
				.copied()
				.collect(),
		};
		let mended = (bad.len() - left.len()) as u64 + self.mend_by_peers(root, &left, cancel);
		if mended > 0 {
			tracing::warn!(%root, mended, "bad blocks were replaced by good ones of others");
		}
		mended
	}

	fn mend_by_peers(&self, root: &Cid, bad: &[Cid], cancel: &Cancel) -> u64 {
		if bad.is_empty() {
			return 0;
		}
		let Some(peers) = self.peers(root, cancel) else { return 0 };
		let mut mended = 0;
		for cid in bad {
			match self.mend_block(&peers, cid, cancel) {
				Ok(()) => mended += 1,
				Err(error) => tracing::warn!(%root, block = %cid, error, "a block is not mended"),
			}
			if peers.are_away() || cancel.is_cancelled() {
				break;
			}
		}
		mended
	}

	/// Those who have the snapshot, too.
	fn peers(&self, root: &Cid, cancel: &Cancel) -> Option<Peers> {
		let roots = self.jobs.executor().roots().ok()?;
		let held = roots.into_iter().find(|held| held.cid == *root)?;
		let nodes: Vec<OpaqueId> = match held.copy_for {
			Some(node) => vec![node],
			None => self.jobs.nodes()?,
		};
		let peers = |node| self.elsewhere.peers(node, &held.lineage.request, cancel);
		nodes.iter().filter_map(peers).find(|peers| !peers.is_empty())
	}

	fn mend_block(
		&self,
		others: &dyn BlockSource,
		cid: &Cid,
		cancel: &Cancel,
	) -> Result<(), String> {
		let words = |error: RepositoryError| error.to_string();
		if others.get(cid).map_err(words)?.is_none() {
			return Err("nobody else has it".to_owned());
		}
		self.store.note_damage(cid).map_err(words)?;
		let session = self.store.open_session().map_err(words)?;
		copy(others, session.as_ref(), cid, NonZero::<usize>::MIN, &|_| (), cancel)
			.map_err(|error| error.to_string())?;
		session.flush().map_err(words)
	}
}

impl fmt::Debug for Mender {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Mender").field("elsewhere", &self.elsewhere).finish_non_exhaustive()
	}
}
