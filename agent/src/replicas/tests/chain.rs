//! A chain that retains all roots but those of which a test says otherwise.

use crate::{
	chain::{ChainError, FinalizedChain, FinalizedView},
	jobs::HeldRoot,
	peers::pass::AnyReader,
};
use backup_primitives::{
	Cid, KeptRoot, LineageId, OpaqueId, Recipient, RecordedRoot, RootStatus, job::Sources,
};
use futures::future::BoxFuture;
use std::{
	collections::BTreeMap,
	sync::{Arc, Mutex, MutexGuard},
};

#[derive(Clone, Default)]
pub(super) struct FakeChain(Arc<Mutex<Finalized>>);

#[derive(Default)]
pub(super) struct Finalized {
	pub(super) statuses: BTreeMap<Cid, RootStatus>,
	/// Whether nobody knows yet which chain it is.
	pub(super) is_unbound: bool,
}

impl FakeChain {
	pub(super) fn state(&self) -> MutexGuard<'_, Finalized> {
		self.0.lock().unwrap()
	}

	pub(super) fn say(&self, root: &Cid, status: RootStatus) {
		self.state().statuses.insert(*root, status);
	}
}

impl FinalizedChain for FakeChain {
	fn finalized(&self) -> BoxFuture<'_, Result<Box<dyn FinalizedView>, ChainError>> {
		Box::pin(async {
			match self.state().is_unbound {
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
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Vec<RecordedRoot>, ChainError>> {
		unimplemented!("a replica is asked what it holds")
	}

	fn roots_of_request<'a>(
		&'a self,
		_: &'a LineageId,
	) -> BoxFuture<'a, Result<Vec<KeptRoot>, ChainError>> {
		unimplemented!("a replica is asked what it holds")
	}

	fn sources_of_request<'a>(
		&'a self,
		_: &'a OpaqueId,
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Sources, ChainError>> {
		Box::pin(async { Ok(Sources::default()) })
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
		unimplemented!("replicas serve nobody")
	}
}
