//! What the store has lost and a replica still holds comes back.
//!
//! Whoever reaches a daemon can pin under our name, so first the finalized chain is asked: what it
//! retains or waits for comes back, the newest first. What it does not is left to
//! [`sweep`](crate::jobs::sweep), to which it is one more root that this node holds.
//!
//! Blocks that have come are kept from collection by a session that outlives a failed try.

use super::{Replica, Replicas, fill::Fill, hold::Hold, lock, names::Series, pass::PassError};
use crate::{
	chain::ChainError,
	format::RootBlock,
	jobs::{HeldRoot, sweep},
	node::PinLabel,
	pipeline::{Cancel, CopyError, copy},
	repositories::{KuboError, Repository, RepositoryError, Session},
};
use backup_primitives::{Cid, RootStatus};
use std::{
	cmp::Reverse,
	num::NonZero,
	sync::{Arc, TryLockError},
	time::{Duration, Instant},
};

/// Threads that fetch a snapshot back.
const THREADS: NonZero<usize> = NonZero::new(4).expect("four is more than zero");

/// For how long the blocks of a snapshot that is not whole yet are kept from collection.
const UNFINISHED_KEPT: Duration = Duration::from_secs(6 * 3600);

/// What outlives a try.
#[derive(Default)]
pub(super) struct FetchingBack {
	session: Option<(Instant, Arc<dyn Session>)>,
}

impl Replicas {
	/// Fetch back what a replica holds and the store does not, if it is to be here. Says whether that
	/// is over for now: there may be something newer to be sent.
	pub(super) fn fetch_back(
		&self,
		member: &Replica,
		fill: &mut Fill<'_>,
	) -> Result<bool, PassError> {
		self.find_places(member, fill)?;
		let mut kept = match self.fetching_back.try_lock() {
			Ok(kept) => kept,
			Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
			// Another replica is at it.
			Err(TryLockError::WouldBlock) => return Ok(true),
		};
		let strangers = member.state().strangers.clone();
		let mut lost: Vec<(Cid, HeldRoot)> = strangers
			.iter()
			.filter_map(|(hold, stranger)| Some((*hold, stranger.held_root()?)))
			.collect();
		lost.sort_by_key(|(_, root)| Reverse(root.sequence));
		let mut is_whole = true;
		for (hold, root) in lost {
			if self.cancel.is_cancelled() {
				return Ok(true);
			}
			// It was given up meanwhile.
			if member.releases.has(&root.cid) {
				continue;
			}
			// Unless another replica has given it.
			if !self.store.is_pinned(&root.cid) {
				match self.is_to_come_back(&root) {
					Ok(true) => (),
					Ok(false) => continue,
					Err(error) => {
						fill.failure.get_or_insert(error.into());
						return Ok(true);
					}
				}
				match self.fetch_one_back(member, &root, &mut kept) {
					Ok(()) => (),
					Err(_) if member.has_news() => return Ok(false),
					Err(error) => {
						is_whole = false;
						fill.failure.get_or_insert(error);
						continue;
					}
				}
			}
			member.state().strangers.remove(&hold);
			fill.note_held(&root.cid, &hold);
		}
		if is_whole {
			kept.session = None;
		}
		member.state().is_taken_up = true;
		Ok(true)
	}

	/// Look up which snapshots they are that a replica holds and the store does not.
	fn find_places(&self, member: &Replica, fill: &mut Fill<'_>) -> Result<(), PassError> {
		let strangers = member.state().strangers.clone();
		for (hold, stranger) in strangers.iter().filter(|(_, stranger)| stranger.place.is_none()) {
			match self.find_place(member, hold, &stranger.series)? {
				None => drop(fill.failure.get_or_insert(PassError::NoSnapshot { hold: *hold })),
				place => {
					if let Some(stranger) = member.state().strangers.get_mut(hold) {
						stranger.place = place;
					}
				}
			}
		}
		Ok(())
	}

	fn find_place(
		&self,
		member: &Replica,
		hold: &Cid,
		series: &Series,
	) -> Result<Option<(Cid, u64)>, KuboError> {
		let Some(block) = sound(member.kubo.block(hold))? else { return Ok(None) };
		let Ok(Hold { root, .. }) = Hold::decode(&block) else { return Ok(None) };
		if !self.names.holds(&root).any(|ours| ours.cid() == *hold) {
			return Ok(None);
		}
		let Some(block) = sound(member.kubo.block(&root))? else { return Ok(None) };
		let block = RootBlock::decode(&block).ok();
		let block = block.filter(|block| *block.request() == series.lineage.request);
		Ok(block.map(|block| (root, block.sequence())))
	}

	/// Whether the finalized chain wants this node to hold a root.
	fn is_to_come_back(&self, root: &HeldRoot) -> Result<bool, ChainError> {
		let status = self.handle.block_on(async {
			let view = self.chain.finalized().await?;
			sweep::status(view.as_ref(), root).await
		})?;
		Ok(matches!(status, RootStatus::Retained | RootStatus::Pending))
	}

	fn fetch_one_back(
		&self,
		member: &Replica,
		HeldRoot { lineage, sequence, cid, copy_for, .. }: &HeldRoot,
		kept: &mut FetchingBack,
	) -> Result<(), PassError> {
		let session = kept.session(self)?;
		let turn = Cancel::new();
		let watch = |_| {
			if self.cancel.is_cancelled() || member.has_news() {
				turn.cancel();
			}
		};
		let copied = copy(self, session.as_ref(), cid, THREADS, &watch, &turn);
		let flushed = match copied {
			Ok(_) => session.flush(),
			Err(source) => {
				if matches!(source, CopyError::Write(_)) {
					kept.session = None;
				}
				return Err(PassError::FetchBack { root: *cid, source });
			}
		};
		let label = PinLabel::of_found(lineage.clone(), *sequence, copy_for.clone());
		let _turn = lock(&self.giving_up);
		let pinned = match member.releases.has(cid) {
			// It was given up meanwhile.
			true => Ok(()),
			false => flushed.and_then(|()| session.pin(cid, &label)),
		};
		if pinned.is_err() {
			kept.session = None;
		}
		pinned?;
		tracing::warn!(
			target: "replicas", replica = member.name, root = %cid,
			"the snapshot was not in the store any more, and was fetched back"
		);
		Ok(())
	}
}

impl FetchingBack {
	/// The session in which snapshots are written, also by later tries.
	fn session(&mut self, replicas: &Replicas) -> Result<Arc<dyn Session>, RepositoryError> {
		let kept = self.session.as_ref();
		if let Some((_, session)) = kept.filter(|(since, _)| since.elapsed() < UNFINISHED_KEPT) {
			return Ok(session.clone());
		}
		let session: Arc<dyn Session> = replicas.store.open_session()?.into();
		self.session = Some((Instant::now(), session.clone()));
		Ok(session)
	}
}

/// What is damaged is not there.
fn sound(found: Result<Option<Vec<u8>>, KuboError>) -> Result<Option<Vec<u8>>, KuboError> {
	match found {
		Err(KuboError::Damaged { .. }) => Ok(None),
		found => found,
	}
}
