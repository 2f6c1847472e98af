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
		Arc, Mutex, PoisonError,
		atomic::{AtomicUsize, Ordering},
	},
	thread,
	time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long a restore waits for other nodes: until the finalized chain has let this one in, and for
/// each block while their gateways fail.
const PATIENCE: Duration = Duration::from_secs(300);

/// For how long the chain's word is taken about who has the blocks, and that nobody has.
const KNOWN_FOR: Duration = Duration::from_secs(600);
const NONE_KNOWN_FOR: Duration = Duration::from_secs(60);

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

	/// The store, and behind it its replicas and the nodes that have the blocks of a request. They
	/// are waited for until `cancel` is thrown.
	pub fn beside(
		&self,
		store: &EmbeddedStore,
		node: &OpaqueId,
		request: &OpaqueId,
		cancel: &Cancel,
	) -> Everywhere {
		Everywhere(Arc::new(Places {
			elsewhere: self.clone(),
			store: store.clone(),
			node: node.clone(),
			request: request.clone(),
			cancel: cancel.clone(),
			patience: PATIENCE,
			peers: Mutex::default(),
			missed: AtomicUsize::new(0),
		}))
	}

	/// The nodes that have the blocks of a request, as of the newest finalized block, once that lets
	/// this one in. None if the chain cannot be asked. Not to be called by asynchronous code.
	pub fn peers(&self, node: &OpaqueId, request: &OpaqueId, cancel: &Cancel) -> Option<Peers> {
		self.peers_within(PATIENCE, node, request, cancel)
	}

	fn peers_within(
		&self,
		patience: Duration,
		node: &OpaqueId,
		request: &OpaqueId,
		cancel: &Cancel,
	) -> Option<Peers> {
		let reader = Reader::Node(node.clone());
		let sources = self.handle.block_on(async {
			let sources = self.chain.finalized().await?.sources_of_request(node, request).await?;
			if !sources.is_empty() {
				self.wait_to_be_let_in(patience, &reader, cancel).await?;
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

	/// Which of these nodes sealed a root or has to hold it, and of which request it is, as the
	/// finalized chain records it. For roots that are not here: the chain names all roots of a node
	/// to find one. Not to be called by asynchronous code.
	pub fn owners_of_root(
		&self,
		root: &Cid,
		nodes: &[OpaqueId],
	) -> Result<Option<(OpaqueId, OpaqueId)>, ChainError> {
		self.handle.block_on(async {
			let chain = self.chain.finalized().await?;
			for node in nodes {
				let roots = chain.roots_of_node(node).await?;
				if let Some(found) = roots.into_iter().find(|recorded| recorded.cid == *root) {
					return Ok(Some((node.clone(), found.lineage.request)));
				}
			}
			Ok(None)
		})
	}

	/// Others look at the finalized chain, which learns of a restore some seconds after the worker
	/// has ordered it. Whoever asks before that is turned away.
	async fn wait_to_be_let_in(
		&self,
		patience: Duration,
		reader: &AnyReader,
		cancel: &Cancel,
	) -> Result<(), ChainError> {
		let recipient = self.directory.recipient();
		let end = Instant::now() + patience;
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

/// A node's own blocks first, then those of replicas and of other nodes. Clones are the same.
#[derive(Clone)]
pub struct Everywhere(Arc<Places>);

struct Places {
	elsewhere: Elsewhere,
	store: EmbeddedStore,
	node: OpaqueId,
	request: OpaqueId,
	cancel: Cancel,
	/// How long it is waited for other nodes.
	patience: Duration,
	/// Asked for when the first block is missing.
	peers: Mutex<Option<Found>>,
	/// How many blocks were.
	missed: AtomicUsize,
}

/// What the chain said of other nodes.
struct Found {
	peers: Option<Arc<Peers>>,
	/// Until when that is taken for true: holders come and go while a machine fills in.
	until: Instant,
}

impl Everywhere {
	/// The same places, of which other nodes are waited for so long.
	pub fn with_patience(&self, patience: Duration) -> Self {
		let Places { elsewhere, store, node, request, cancel, .. } = &*self.0;
		Self(Arc::new(Places {
			elsewhere: elsewhere.clone(),
			store: store.clone(),
			node: node.clone(),
			request: request.clone(),
			cancel: cancel.clone(),
			patience,
			peers: Mutex::default(),
			missed: AtomicUsize::new(0),
		}))
	}

	/// Whether somebody else is known who may have what is missing here. Waits until the chain has
	/// said so, where there are no replicas.
	pub(crate) fn has_others(&self) -> bool {
		!self.0.elsewhere.replicas.is_empty() || !none_of(&self.0.peers())
	}

	fn fetch(
		&self,
		cid: &Cid,
		here: Result<Option<Vec<u8>>, RepositoryError>,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		if let Ok(Some(block)) = here {
			return Ok(Some(block));
		}
		let missed = self.0.missed.fetch_add(1, Ordering::Relaxed);
		let replicas = &self.0.elsewhere.replicas;
		if missed == 0 && !replicas.is_empty() {
			self.look_for_peers();
		}
		let are_peers_known = self.0.are_peers_known();
		let end = Instant::now() + self.0.patience;
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
			of_replicas = replicas.get_patiently(cid, end, &self.0.cancel);
			if let Ok(Some(_)) = of_replicas {
				return of_replicas;
			}
		}
		// What is wrong here says more than that nobody else has it.
		here.and(of_replicas).and(of_peers)
	}

	/// Waits until the chain has said who has the blocks.
	fn of_peers(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		match self.0.peers() {
			Some(peers) if !peers.is_empty() => peers.get(cid),
			_ => Ok(None),
		}
	}

	/// Has the chain asked while replicas serve.
	fn look_for_peers(&self) {
		let places = self.0.clone();
		// Without a thread they are found when a replica lacks something.
		let _ = thread::Builder::new()
			.name("find-peers".to_owned())
			.spawn(move || drop(places.peers()));
	}
}

impl Places {
	fn peers(&self) -> Option<Arc<Peers>> {
		let mut found = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
		if let Some(known) = found.as_ref().filter(|known| known.until > Instant::now()) {
			return known.peers.clone();
		}
		let Self { elsewhere, node, request, cancel, patience, .. } = self;
		let peers = elsewhere.peers_within(*patience, node, request, cancel);
		let peers = peers.map(|peers| Arc::new(peers.with_patience(*patience)));
		let known_for = if none_of(&peers) { NONE_KNOWN_FOR } else { KNOWN_FOR };
		*found = Some(Found { peers: peers.clone(), until: Instant::now() + known_for });
		peers
	}

	/// Whether somebody else can be asked at once.
	fn are_peers_known(&self) -> bool {
		let found = self.peers.try_lock();
		found.is_ok_and(|found| found.as_ref().is_some_and(|known| !none_of(&known.peers)))
	}
}

fn none_of(peers: &Option<Arc<Peers>>) -> bool {
	peers.as_ref().is_none_or(|peers| peers.is_empty())
}

impl BlockSource for Everywhere {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.fetch(cid, self.0.store.get(cid))
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.fetch(cid, self.0.store.get_unchecked(cid))
	}
}

impl fmt::Debug for Elsewhere {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Elsewhere").field("directory", &self.directory).finish_non_exhaustive()
	}
}

impl fmt::Debug for Everywhere {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Everywhere").field("request", &self.0.request).finish_non_exhaustive()
	}
}
