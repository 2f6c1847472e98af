//! What is not here is fetched from other nodes.

use super::{PeerDirectory, Peers};
use crate::{
	chain::FinalizedChain,
	repositories::{BlockSource, EmbeddedStore, RepositoryError},
};
use backup_primitives::{Cid, OpaqueId, Reader};
use std::{
	fmt,
	sync::{Arc, OnceLock},
};
use tokio::runtime::Handle;

/// Finds the other nodes that have the blocks of a request.
pub struct Elsewhere {
	directory: Arc<PeerDirectory>,
	chain: Arc<dyn FinalizedChain>,
	handle: Handle,
}

impl Elsewhere {
	/// Asks the chain on the runtime of this handle.
	pub fn new(
		directory: Arc<PeerDirectory>,
		chain: Arc<dyn FinalizedChain>,
		handle: Handle,
	) -> Self {
		Self { directory, chain, handle }
	}

	/// The store, and behind it the nodes that have the blocks of a request.
	pub fn beside<'a>(
		&'a self,
		store: &'a EmbeddedStore,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
	) -> Everywhere<'a> {
		Everywhere { elsewhere: self, store, node, request, peers: OnceLock::new() }
	}

	/// Those nodes, as of the newest finalized block. None if the chain cannot be asked. Not to be
	/// called by asynchronous code.
	fn peers(&self, node: &OpaqueId, request: &OpaqueId) -> Option<Peers> {
		let sources = self.handle.block_on(async {
			self.chain.finalized().await?.sources_of_request(node, request).await
		});
		match sources {
			Ok(sources) => Some(self.directory.peers(&Reader::Node(node.clone()), &sources)),
			Err(error) => {
				tracing::warn!(%error, "the chain cannot say where blocks are that are missing here");
				None
			}
		}
	}
}

/// A node's own blocks first, then those of others.
pub struct Everywhere<'a> {
	elsewhere: &'a Elsewhere,
	store: &'a EmbeddedStore,
	node: &'a OpaqueId,
	request: &'a OpaqueId,
	/// Asked for when the first block is missing.
	peers: OnceLock<Option<Peers>>,
}

impl Everywhere<'_> {
	fn fetch(
		&self,
		cid: &Cid,
		here: Result<Option<Vec<u8>>, RepositoryError>,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		if let Ok(Some(block)) = here {
			return Ok(Some(block));
		}
		let peers = self.peers.get_or_init(|| self.elsewhere.peers(self.node, self.request));
		match peers.as_ref().filter(|peers| !peers.is_empty()).map(|peers| peers.get(cid)) {
			Some(Ok(Some(block))) => Ok(Some(block)),
			// What is wrong here says more than that nobody else has it.
			Some(Ok(None)) | None => here,
			Some(Err(error)) => here.and(Err(error)),
		}
	}
}

impl BlockSource for Everywhere<'_> {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.fetch(cid, self.store.get(cid))
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.fetch(cid, self.store.get_unchecked(cid))
	}
}

impl fmt::Debug for Elsewhere {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Elsewhere").field("directory", &self.directory).finish_non_exhaustive()
	}
}

impl fmt::Debug for Everywhere<'_> {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Everywhere").field("request", self.request).finish_non_exhaustive()
	}
}
