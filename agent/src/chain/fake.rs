//! A chain in memory that retains all roots but those of which a test says otherwise.

use super::{ChainError, FinalizedChain, FinalizedView};
use crate::{jobs::HeldRoot, peers::pass::AnyReader};
use backup_primitives::{
	Cid, KeptRoot, LineageId, OpaqueId, Recipient, RecordedRoot, RootStatus, job::Sources,
};
use futures::future::BoxFuture;
use std::{
	collections::BTreeMap,
	sync::{Arc, Mutex, MutexGuard},
};

/// The chain. Clones are the same, and each of its states is the newest.
#[derive(Clone, Default)]
pub(crate) struct FakeChain(Arc<Mutex<Finalized>>);

#[derive(Default)]
pub(crate) struct Finalized {
	pub(crate) statuses: BTreeMap<Cid, RootStatus>,
	/// What it records, and which node sealed each.
	pub(crate) recorded: Vec<(OpaqueId, RecordedRoot)>,
	/// Who has the blocks of whatever request.
	pub(crate) sources: Sources,
	/// For which nodes workers speak where it is asked.
	pub(crate) nodes: Vec<OpaqueId>,
	/// Whether nobody knows yet which chain it is.
	pub(crate) is_unbound: bool,
	/// Whether it never answers.
	pub(crate) is_silent: bool,
	/// How often it was asked for its state.
	pub(crate) asked: usize,
}

impl FakeChain {
	pub(crate) fn state(&self) -> MutexGuard<'_, Finalized> {
		self.0.lock().unwrap()
	}

	pub(crate) fn say(&self, root: &Cid, status: RootStatus) {
		self.state().statuses.insert(*root, status);
	}

	pub(crate) fn record(&self, node: &OpaqueId, root: RecordedRoot) {
		self.state().recorded.push((node.clone(), root));
	}
}

impl FinalizedChain for FakeChain {
	fn finalized(&self) -> BoxFuture<'_, Result<Box<dyn FinalizedView>, ChainError>> {
		Box::pin(async {
			let (is_silent, is_unbound) = {
				let mut state = self.state();
				state.asked += 1;
				(state.is_silent, state.is_unbound)
			};
			if is_silent {
				std::future::pending::<()>().await;
			}
			match is_unbound {
				true => Err(ChainError::Unbound),
				false => Ok(Box::new(self.clone()) as Box<dyn FinalizedView>),
			}
		})
	}
}

impl FinalizedView for FakeChain {
	fn number(&self) -> u64 {
		1
	}

	fn root_status<'a>(
		&'a self,
		root: &'a HeldRoot,
	) -> BoxFuture<'a, Result<RootStatus, ChainError>> {
		let status = self.state().statuses.get(&root.cid).copied();
		Box::pin(async move { Ok(status.unwrap_or(RootStatus::Retained)) })
	}

	fn roots_of_node<'a>(
		&'a self,
		node: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Vec<RecordedRoot>, ChainError>> {
		let state = self.state();
		let of_node = state.recorded.iter().filter(|(sealer, _)| sealer == node);
		let roots = of_node.map(|(_, root)| root.clone()).collect();
		Box::pin(async { Ok(roots) })
	}

	fn roots_of_request<'a>(
		&'a self,
		lineage: &'a LineageId,
	) -> BoxFuture<'a, Result<Vec<KeptRoot>, ChainError>> {
		let state = self.state();
		let of_lineage = state.recorded.iter().filter(|(_, root)| root.lineage == *lineage);
		let kept = of_lineage.map(|(_, root)| KeptRoot {
			sequence: root.sequence,
			cid: root.cid,
			logical_bytes: 1 << 30,
		});
		let roots = kept.collect();
		Box::pin(async { Ok(roots) })
	}

	fn sources_of_request<'a>(
		&'a self,
		_: &'a OpaqueId,
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Sources, ChainError>> {
		let sources = self.state().sources.clone();
		Box::pin(async { Ok(sources) })
	}

	fn keeps_copies<'a>(
		&'a self,
		_: &'a OpaqueId,
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		Box::pin(async { Ok(true) })
	}

	fn is_reader<'a>(
		&'a self,
		_: &'a AnyReader,
		_: &'a Recipient,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		Box::pin(async { Ok(true) })
	}
}
