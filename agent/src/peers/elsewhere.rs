//! What is not here is fetched from other nodes.

use super::{PeerDirectory, Peers, pass::AnyReader};
use crate::{
	chain::{ChainError, FinalizedChain},
	pipeline::Cancel,
	repositories::{BlockSource, EmbeddedStore, RepositoryError},
};
use backup_primitives::{Cid, OpaqueId, Reader};
use std::{
	fmt,
	sync::{Arc, OnceLock},
	time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long a restore waits for other nodes: until the finalized chain has let this one in, and for
/// each block while their gateways fail.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often it is looked whether the chain lets this node in.
const POLL: Duration = Duration::from_secs(1);

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

	/// The store, and behind it the nodes that have the blocks of a request. They are waited for
	/// until `cancel` is thrown.
	pub fn beside<'a>(
		&'a self,
		store: &'a EmbeddedStore,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
		cancel: &'a Cancel,
	) -> Everywhere<'a> {
		Everywhere { elsewhere: self, store, node, request, cancel, peers: OnceLock::new() }
	}

	/// The nodes that have the blocks of a request, as of the newest finalized block, once that lets
	/// this one in. None if the chain cannot be asked. Not to be called by asynchronous code.
	pub fn peers(&self, node: &OpaqueId, request: &OpaqueId, cancel: &Cancel) -> Option<Peers> {
		let reader = Reader::Node(node.clone());
		let sources = self.handle.block_on(async {
			let sources = self.chain.finalized().await?.sources_of_request(node, request).await?;
			if !sources.is_empty() {
				self.wait_to_be_let_in(&reader, cancel).await?;
			}
			Ok::<_, ChainError>(sources)
		});
		match sources {
			Ok(sources) => {
				let peers = self.directory.peers(&reader, &sources);
				Some(peers.until(cancel.clone()))
			}
			Err(error) => {
				tracing::warn!(%error, "the chain cannot say where blocks are that are missing here");
				None
			}
		}
	}

	/// Others look at the finalized chain, which learns of a restore some seconds after the worker
	/// has ordered it. Whoever asks before that is turned away.
	async fn wait_to_be_let_in(
		&self,
		reader: &AnyReader,
		cancel: &Cancel,
	) -> Result<(), ChainError> {
		let recipient = self.directory.recipient();
		let end = Instant::now() + PATIENCE;
		while !cancel.is_cancelled() && Instant::now() < end {
			if self.chain.finalized().await?.is_reader(reader, &recipient).await? {
				return Ok(());
			}
			tokio::time::sleep(POLL).await;
		}
		tracing::warn!("the chain does not let this node fetch blocks; it is tried all the same");
		Ok(())
	}
}

/// A node's own blocks first, then those of others.
pub struct Everywhere<'a> {
	elsewhere: &'a Elsewhere,
	store: &'a EmbeddedStore,
	node: &'a OpaqueId,
	request: &'a OpaqueId,
	cancel: &'a Cancel,
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
		let peers = self.peers.get_or_init(|| {
			let peers = self.elsewhere.peers(self.node, self.request, self.cancel);
			peers.map(|peers| peers.with_patience(PATIENCE))
		});
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
