//! Re-orgs: a branch of the chain is lost, and with it all that was on it, but not what nodes have
//! signed and done on it.
//!
//! There is one fork at a time. Its first block is another one on each branch; the block before it
//! is on both.

use super::{Model, Tale, Verdict};
use crate::mock::*;

/// Where a branch begins that may be lost.
pub(super) struct Fork {
	model: Model,
	world: World,
	/// Its first block.
	first: u64,
}

impl Tale {
	pub(super) fn take_fork(&mut self) -> Verdict {
		if self.fork.is_none() {
			self.model.take_pass(1);
			let (model, world) = (self.model.clone(), World::look());
			self.fork = Some(Fork { model, world, first: self.model.now });
			sp_io::storage::start_transaction();
		}
		(true, true)
	}

	pub(super) fn take_settle(&mut self) -> Verdict {
		if self.fork.take().is_some() {
			sp_io::storage::commit_transaction();
		}
		(true, true)
	}

	pub(super) fn take_go_back(&mut self) -> Verdict {
		let Some(Fork { model, world, first }) = self.fork.take() else { return (true, true) };
		self.best = self.best.max(self.model.now);
		let lost = [first - 1, first].map(hash_of);
		sp_io::storage::rollback_transaction();
		World::go_back(world, first);
		self.model = model;
		let found = [first - 1, first].map(hash_of);
		assert!(found[0] == lost[0] && found[1] != lost[1], "the branches part at {first}");
		(true, true)
	}
}
