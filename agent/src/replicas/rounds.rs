//! All blocks of a replica are hashed in turn.
//!
//! What a sample does not meet would be found damaged on the day when it is needed. So each look
//! goes on where the last one was, through one snapshot after the other, and hashes a few blocks
//! more. What snapshots share is hashed once in a round.

use super::{CHECK_EVERY, Replica, Replicas, pass::PassError, send::start_of_digest};
use crate::{format::links, jobs::now_ms, repositories::BlockSource};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::{BTreeMap, HashSet},
	ops::Bound::{Excluded, Unbounded},
	time::{Duration, Instant},
};

/// Blocks that a look hashes in turn at most. A day brings 22 GiB of whole chunks.
const BLOCKS_MAX: usize = 64;

/// How long it may take at most.
const TIME_MAX: Duration = Duration::from_secs(15);

/// How far a round has come.
#[derive(Debug, Default)]
pub(super) struct Round {
	/// The root that is gone through.
	root: Option<Cid>,
	/// What of it waits.
	pending: Vec<Cid>,
	/// What was hashed, by the first bytes of digests, which tell nearly all apart.
	hashed: HashSet<u64>,
	/// When a look last began to hash.
	began: Option<Instant>,
	/// When a round last ended, in milliseconds since 1970.
	pub(super) ended_ms: Option<u64>,
}

impl Round {
	/// The next block below what is held; nothing when all were hashed.
	fn next(&mut self, held: &BTreeMap<Cid, Cid>) -> Option<Cid> {
		loop {
			if let Some(cid) = self.pending.pop() {
				if self.hashed.insert(start_of_digest(&cid)) {
					return Some(cid);
				}
				continue;
			}
			let after = self.root.map_or(Unbounded, Excluded);
			let Some((root, hold)) = held.range((after, Unbounded)).next() else {
				// Where nothing is held nothing was hashed.
				let ended_ms = self.root.map(|_| now_ms()).or(self.ended_ms);
				*self = Self { began: self.began, ended_ms, ..Self::default() };
				return None;
			};
			self.root = Some(*root);
			self.pending = vec![*root, *hold];
		}
	}

	/// It was not hashed after all.
	fn put_back(&mut self, cid: Cid) {
		self.hashed.remove(&start_of_digest(&cid));
		self.pending.push(cid);
	}
}

impl Replicas {
	/// Hash the next blocks, unless some were a short while ago.
	pub(super) fn hash_in_turn(&self, member: &Replica) -> Result<(), PassError> {
		let now = Instant::now();
		{
			let round = &mut member.state().round;
			if round.began.is_some_and(|began| now - began < CHECK_EVERY / 2) {
				return Ok(());
			}
			round.began = Some(now);
		}
		for _ in 0..BLOCKS_MAX {
			if self.cancel.is_cancelled() || member.has_news() || now.elapsed() >= TIME_MAX {
				break;
			}
			let next = {
				let state = &mut *member.state();
				// While it is gone through block by block it is not known what is held.
				if state.doubtful.is_empty() { state.round.next(&state.held) } else { None }
			};
			let Some(cid) = next else { break };
			if let Err(error) = self.look(member, &cid) {
				member.state().round.put_back(cid);
				return Err(error);
			}
			member.state().round.pending.extend(self.children(&cid));
		}
		Ok(())
	}

	/// What is below a block of the store.
	fn children(&self, cid: &Cid) -> Vec<Cid> {
		if cid.codec() == BlockCodec::Raw {
			return Vec::new();
		}
		// Holds are not in the store. What is damaged there is mended by its own verification.
		let block = self.store.get(cid).ok().flatten();
		block.and_then(|block| links(&block).ok()).unwrap_or_default()
	}
}

#[cfg(test)]
impl Round {
	/// As if the last look had been so much earlier.
	pub(super) fn age(&mut self, time: Duration) {
		self.began = self.began.and_then(|began| began.checked_sub(time));
	}
}
