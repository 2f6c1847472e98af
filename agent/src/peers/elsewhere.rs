//! What is not here is fetched from replicas and from other nodes.
//!
//! Replicas come first: they are this operator's own, and need no leave of the chain's. While the
//! chain is asked who else has the blocks, they serve alone; then both are asked at once, each block
//! of the next one in turn.

use super::{PeerDirectory, Peers, pass::AnyReader};
use crate::{
	chain::{ChainError, FinalizedChain},
	pipeline::Cancel,
	replicas::Replicas,
	repositories::{BlockSource, EmbeddedStore, RepositoryError},
};
use backup_primitives::{Cid, OpaqueId, Reader};
use std::{
	fmt,
	sync::{
		Arc, OnceLock,
		atomic::{AtomicUsize, Ordering},
	},
	thread,
	time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long a restore waits for other nodes: until the finalized chain has let this one in, and for
/// each block while their gateways fail.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often it is looked whether the chain lets this node in.
const POLL: Duration = Duration::from_secs(1);

/// Finds those who have the blocks of a request, too. Clones are the same.
#[derive(Clone)]
pub struct Elsewhere {
	replicas: Arc<Replicas>,
	directory: Arc<PeerDirectory>,
	chain: Arc<dyn FinalizedChain>,
	handle: Handle,
}

impl Elsewhere {
	/// Asks the chain on the runtime of this handle.
	pub fn new(
		replicas: Arc<Replicas>,
		directory: Arc<PeerDirectory>,
		chain: Arc<dyn FinalizedChain>,
		handle: Handle,
	) -> Self {
		Self { replicas, directory, chain, handle }
	}

	/// The replicas of this node's store.
	pub fn replicas(&self) -> &Replicas {
		&self.replicas
	}

	/// The store, and behind it its replicas and the nodes that have the blocks of a request. They are waited for
	/// until `cancel` is thrown.
	pub fn beside<'a>(
		&'a self,
		store: &'a EmbeddedStore,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
		cancel: &'a Cancel,
	) -> Everywhere<'a> {
		let (peers, missed) = (Arc::default(), AtomicUsize::new(0));
		Everywhere { elsewhere: self, store, node, request, cancel, peers, missed }
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

/// A node's own blocks first, then those of replicas and of other nodes.
pub struct Everywhere<'a> {
	elsewhere: &'a Elsewhere,
	store: &'a EmbeddedStore,
	node: &'a OpaqueId,
	request: &'a OpaqueId,
	cancel: &'a Cancel,
	/// Asked for when the first block is missing.
	peers: Arc<OnceLock<Option<Peers>>>,
	/// How many blocks were.
	missed: AtomicUsize,
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
		let missed = self.missed.fetch_add(1, Ordering::Relaxed);
		let replicas = &self.elsewhere.replicas;
		if missed == 0 && !replicas.is_empty() {
			self.look_for_peers();
		}
		let are_peers_known = self.peers.get().is_some_and(|peers| !none_of(peers));
		let end = Instant::now() + PATIENCE;
		let (mut of_peers, mut of_replicas) = (Ok(None), Ok(None));
		for turn in 0..2 {
			let are_peers_first = are_peers_known && missed % 2 == 1;
			let (there, said) = match are_peers_first == (turn == 0) {
				true => (self.of_peers(cid), &mut of_peers),
				false => (replicas.get(cid), &mut of_replicas),
			};
			match there {
				Ok(Some(block)) => return Ok(Some(block)),
				there => *said = there,
			}
		}
		// Nobody else has it: what passes is waited for, as other nodes are.
		if of_replicas.as_ref().is_err_and(RepositoryError::can_retry) {
			of_replicas = replicas.get_patiently(cid, end, self.cancel);
			if let Ok(Some(_)) = of_replicas {
				return of_replicas;
			}
		}
		// What is wrong here says more than that nobody else has it.
		here.and(of_replicas).and(of_peers)
	}

	/// Waits until the chain has said who has the blocks.
	fn of_peers(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let find = || find_peers(self.elsewhere, self.node, self.request, self.cancel);
		match self.peers.get_or_init(find) {
			Some(peers) if !peers.is_empty() => peers.get(cid),
			_ => Ok(None),
		}
	}

	/// Has the chain asked while replicas serve.
	fn look_for_peers(&self) {
		let (elsewhere, cancel) = (self.elsewhere.clone(), self.cancel.clone());
		let (node, request) = (self.node.clone(), self.request.clone());
		let peers = self.peers.clone();
		let find = move || {
			peers.get_or_init(|| find_peers(&elsewhere, &node, &request, &cancel));
		};
		// Without a thread they are found when a replica lacks something.
		let _ = thread::Builder::new().name("find-peers".to_owned()).spawn(find);
	}
}

fn find_peers(
	elsewhere: &Elsewhere,
	node: &OpaqueId,
	request: &OpaqueId,
	cancel: &Cancel,
) -> Option<Peers> {
	let peers = elsewhere.peers(node, request, cancel);
	peers.map(|peers| peers.with_patience(PATIENCE))
}

fn none_of(peers: &Option<Peers>) -> bool {
	peers.as_ref().is_none_or(Peers::is_empty)
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
