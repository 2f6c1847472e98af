//! One look at a replica: what it holds is compared with the store, and made good.

use super::{Replica, Replicas, fill::Fill, lock, send::SendError};
use crate::{
	chain::ChainError,
	format::links,
	pipeline::CopyError,
	repositories::{BlockSource, KuboError, RepositoryError},
};
use backup_primitives::{Cid, cid::BlockCodec};
use rand::seq::IndexedRandom;
use std::io;

/// Ways from a root to a chunk that are fetched and hashed at each look.
const SAMPLES: usize = 4;

/// Most blocks on one.
const SAMPLE_BLOCKS_MAX: usize = 64;

/// Why a replica is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
	#[error(transparent)]
	Kubo(#[from] KuboError),
	#[error("the store cannot be asked: {0}")]
	Store(#[from] RepositoryError),
	#[error("snapshot {root} is not sent: {source}")]
	Send { root: Cid, source: SendError },
	#[error("snapshot {root} is not pinned: {source}")]
	Pin { root: Cid, source: KuboError },
	#[error("snapshot {root} is here no more and does not come back: {source}")]
	FetchBack { root: Cid, source: CopyError },
	#[error(
		"snapshots are here no more, and do not come back before the chain has said that they are to: failed to {0}"
	)]
	Chain(#[from] ChainError),
	#[error(
		"its pin {hold} is none of a snapshot that it has, nor is that here: `ipfs pin rm {hold}` removes it"
	)]
	NoSnapshot { hold: Cid },
	#[error(
		"{count} blocks are damaged there, {first} for one; they are replaced at the next look"
	)]
	Damaged { count: usize, first: Cid },
	#[error(
		"{count} blocks are damaged there, {first} for one, and not replaced ({why}): `ipfs repo verify --drop` removes all that it cannot read, and what is of this agent is sent again"
	)]
	NotMended { count: usize, first: Cid, why: String },
	#[error("notes of what is to be unpinned there cannot be written: {0}")]
	Notes(#[from] io::Error),
	#[error("the thread that looked after it panicked")]
	Panic,
}

impl Replicas {
	/// Compare a replica with the store once, and make good what is to be. What one snapshot lacks
	/// here does not keep the others.
	pub(super) fn pass(&self, member: &Replica) -> Result<(), PassError> {
		// Also while the daemon is away, for as long as the store is there to say so.
		self.given_up(member)?;
		let is_urged = || member.has_news();
		let on_sent = |bytes| member.state().sent_bytes += bytes;
		let mut fill = Fill::begin(self, member, &on_sent, &is_urged)?;
		loop {
			self.let_go(member, &mut fill)?;
			match fill.next()? {
				Some(pin) => fill.one(&pin)?,
				None if self.fetch_back(member, &mut fill)? => break,
				None => (),
			}
		}
		let looked = self
			.mend(member)
			.and_then(|()| self.sample(member))
			.and_then(|()| self.hash_in_turn(member));
		// What is wrong with one snapshot says more than what follows from it.
		if let Some(error) = fill.failure {
			return Err(error);
		}
		looked?;
		let state = member.state();
		let Some(&first) = state.damaged.first() else { return Ok(()) };
		let count = state.damaged.len();
		Err(match state.not_mended.clone() {
			Some(why) => PassError::NotMended { count, first, why },
			None => PassError::Damaged { count, first },
		})
	}

	/// What a replica has to let go of. The store has let go of it before, or it is wanted again: then
	/// its note is of no use any more, and would take the last copy away if the store were lost.
	fn given_up(&self, member: &Replica) -> Result<Vec<Cid>, PassError> {
		let _turn = lock(&self.giving_up);
		let (stale, given_up): (Vec<Cid>, Vec<Cid>) =
			member.releases.list().into_iter().partition(|root| self.store.is_pinned(root));
		stale.iter().try_for_each(|root| member.releases.remove(root))?;
		Ok(given_up)
	}

	/// Unpin what was given up.
	fn let_go(&self, member: &Replica, fill: &mut Fill<'_>) -> Result<(), PassError> {
		for root in self.given_up(member)? {
			for hold in self.names.holds(&root) {
				if member.kubo.unpin(&hold.cid())? {
					tracing::info!(target: "replicas", replica = member.name, %root, "root given up");
				}
			}
			fill.theirs.held.remove(&root);
			member.state().forget(&root);
			member.releases.remove(&root)?;
		}
		Ok(())
	}

	/// Fetch some blocks that should be there, and hash them.
	fn sample(&self, member: &Replica) -> Result<(), PassError> {
		let held: Vec<(Cid, Cid)> =
			member.state().held.iter().map(|(root, hold)| (*root, *hold)).collect();
		for _ in 0..SAMPLES {
			let Some((root, hold)) = held.choose(&mut rand::rng()) else { break };
			self.look(member, hold)?;
			let mut cid = *root;
			for _ in 0..SAMPLE_BLOCKS_MAX {
				if !self.look(member, &cid)? || cid.codec() == BlockCodec::Raw {
					break;
				}
				let Ok(Some(block)) = self.store.get(&cid) else { break };
				match links(&block).unwrap_or_default().choose(&mut rand::rng()) {
					Some(child) => cid = *child,
					None => break,
				}
			}
		}
		match member.state().doubtful.is_empty() {
			true => Ok(()),
			false => Err(PassError::Kubo(KuboError::Missing("it lost some that it had".into()))),
		}
	}

	/// Whether a block is there and sound. Notes it if it is not.
	pub(super) fn look(&self, member: &Replica, cid: &Cid) -> Result<bool, PassError> {
		let found = member.kubo.block(cid);
		let mut state = member.state();
		match found {
			Ok(Some(_)) => return Ok(true),
			Ok(None) => {
				state.damaged.remove(cid);
				state.doubt_all();
			}
			Err(KuboError::Damaged { cid }) => state.note_damaged(cid),
			Err(error) => return Err(error.into()),
		}
		Ok(false)
	}
}
