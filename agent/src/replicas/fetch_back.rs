//! What the store has lost and a replica still holds comes back.
//!
//! Whoever reaches a daemon can pin under our name, so first the finalized chain is asked: what it
//! retains or waits for comes back, the newest first. It comes back as a snapshot of our own only if
//! the chain records that one of the nodes here sealed it, and as a copy only if it is to be kept by
//! one of them. What does not is left to [`sweep`](crate::jobs::sweep), to which it is one more root
//! that this node holds.
//!
//! Blocks that have come are kept from collection by a session that outlives a failed try.

use super::{
	Replica, Replicas,
	fill::Fill,
	hold::Hold,
	lock,
	names::Series,
	pass::PassError,
	state::{Found, Seat},
};
use crate::{
	chain::{ChainError, FinalizedView},
	format::RootBlock,
	jobs::{HeldRoot, sweep},
	node::PinLabel,
	pipeline::{Cancel, CopyError, copy},
	repositories::{KuboError, Repository, RepositoryError, Session},
};
use backup_primitives::{Cid, OpaqueId, RootStatus};
use std::{
	cmp::Reverse,
	collections::{HashMap, HashSet},
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
		if !self.look_up(member, fill)? {
			return Ok(self.cancel.is_cancelled());
		}
		let mut kept = match self.fetching_back.try_lock() {
			Ok(kept) => kept,
			Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
			// Another replica is at it.
			Err(TryLockError::WouldBlock) => return Ok(true),
		};
		let strangers = member.state().strangers.clone();
		let mut lost: Vec<(Cid, HeldRoot, OpaqueId)> = strangers
			.iter()
			.filter_map(|(hold, stranger)| {
				Some((*hold, stranger.held_root()?, stranger.seat()?.sealer.clone()))
			})
			.collect();
		lost.sort_by_key(|(_, root, _)| Reverse(root.sequence));
		let mut recorded = Recorded::default();
		let mut is_whole = true;
		for (hold, root, sealer) in lost {
			if self.cancel.is_cancelled() {
				return Ok(true);
			}
			if member.has_news() {
				return Ok(false);
			}
			// It was given up meanwhile.
			if member.releases.has(&root.cid) {
				continue;
			}
			// Unless another replica has given it.
			if !self.store.is_pinned(&root.cid) {
				match self.is_to_come_back(&root, &sealer, &mut recorded) {
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

	/// Look up which snapshots they are that a replica holds and the store does not. Says whether all
	/// is known of them: else something newer is to be sent first, or the agent ends.
	fn look_up(&self, member: &Replica, fill: &mut Fill<'_>) -> Result<bool, PassError> {
		let strangers = member.state().strangers.clone();
		for (hold, stranger) in strangers {
			let mut found = stranger.found;
			if found.is_open() {
				if self.cancel.is_cancelled() || member.has_news() {
					return Ok(false);
				}
				let seat = self.find_seat(member, &hold, &stranger.series)?;
				found = seat.map_or_else(|| Found::NoSnapshot(Instant::now()), Found::Snapshot);
				if let Some(stranger) = member.state().strangers.get_mut(&hold) {
					stranger.found = found.clone();
				}
			}
			if let Found::NoSnapshot(_) = found {
				fill.failure.get_or_insert(PassError::NoSnapshot { hold });
			}
		}
		Ok(true)
	}

	fn find_seat(
		&self,
		member: &Replica,
		hold: &Cid,
		series: &Series,
	) -> Result<Option<Seat>, KuboError> {
		let Some(block) = sound(member.kubo.block(hold))? else { return Ok(None) };
		let Ok(Hold { root, .. }) = Hold::decode(&block) else { return Ok(None) };
		if !self.names.holds(&root).any(|ours| ours.cid() == *hold) {
			return Ok(None);
		}
		let Some(block) = sound(member.kubo.block(&root))? else { return Ok(None) };
		let block = RootBlock::decode(&block).ok();
		let block = block.filter(|block| *block.request() == series.lineage.request);
		Ok(block.map(|block| Seat {
			root,
			sequence: block.sequence(),
			sealer: block.node().clone(),
		}))
	}

	/// Whether the finalized chain wants this node to hold a root, and for what its pin says: a name
	/// may be forged, and so may be in a block who sealed it.
	fn is_to_come_back(
		&self,
		root: &HeldRoot,
		sealer: &OpaqueId,
		recorded: &mut Recorded,
	) -> Result<bool, ChainError> {
		let nodes = self.nodes.get().and_then(|nodes| nodes()).ok_or(ChainError::Unbound)?;
		let is_of_one = match &root.copy_for {
			Some(node) => nodes.contains(node) && node != sealer,
			None => nodes.contains(sealer),
		};
		if !is_of_one {
			return Ok(false);
		}
		self.handle.block_on(async {
			let view = self.chain.finalized().await?;
			match (sweep::status(view.as_ref(), root).await?, &root.copy_for) {
				(RootStatus::Retained, None) => {
					recorded.has(view.as_ref(), sealer, &root.cid).await
				}
				(status, _) => Ok(matches!(status, RootStatus::Retained | RootStatus::Pending)),
			}
		})
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

/// What the chain records of nodes. All of one is asked for at once, when it is needed.
#[derive(Default)]
struct Recorded(HashMap<OpaqueId, HashSet<Cid>>);

impl Recorded {
	async fn has(
		&mut self,
		view: &dyn FinalizedView,
		node: &OpaqueId,
		root: &Cid,
	) -> Result<bool, ChainError> {
		if let Some(roots) = self.0.get(node) {
			return Ok(roots.contains(root));
		}
		let roots = view.roots_of_node(node).await?;
		let roots: HashSet<Cid> = roots.into_iter().map(|recorded| recorded.cid).collect();
		let has = roots.contains(root);
		self.0.insert(node.clone(), roots);
		Ok(has)
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

/// What is damaged, or has more bytes than any block of ours, is not there.
fn sound(found: Result<Option<Vec<u8>>, KuboError>) -> Result<Option<Vec<u8>>, KuboError> {
	match found {
		Err(KuboError::Damaged { .. } | KuboError::TooLong) => Ok(None),
		found => found,
	}
}
