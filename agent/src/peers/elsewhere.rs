//! What is not here is fetched from replicas and from other nodes.
//!
//! Replicas come first: they are this operator's own, and need no leave of the chain's. While the
//! chain is asked who else has the blocks, they serve alone; then both are asked at once, each block
//! of the next one in turn. Nobody is waited for before all have been asked.

use super::{PeerDirectory, Peers, holders::Holders, pass::AnyReader};
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
		Arc,
		atomic::{AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long a restore waits for other nodes: until the finalized chain has let this one in, and for
/// each block while their gateways fail.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long replicas are waited for before other nodes are asked again, and the other way round.
const TURN: Duration = Duration::from_secs(1);

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
		Everywhere::new(store, Holders::new(self, node, request, cancel, PATIENCE))
	}

	/// The nodes that have the blocks of a request, as of the newest finalized block, once that lets
	/// this one in. None if the chain cannot be asked. Not to be called by asynchronous code.
	pub fn peers(&self, node: &OpaqueId, request: &OpaqueId, cancel: &Cancel) -> Option<Peers> {
		let peers = self.peers_within(PATIENCE, node, request, cancel);
		let warn = |error: &ChainError| {
			tracing::warn!(%error, "the chain cannot say where blocks are that are missing here");
		};
		peers.inspect_err(warn).ok()
	}

	/// The same. With no patience at all it does not matter whether the chain lets this node in.
	pub(super) fn peers_within(
		&self,
		patience: Duration,
		node: &OpaqueId,
		request: &OpaqueId,
		cancel: &Cancel,
	) -> Result<Peers, ChainError> {
		let reader = Reader::Node(node.clone());
		let sources = self.handle.block_on(async {
			let sources = self.chain.finalized().await?.sources_of_request(node, request).await?;
			if !sources.is_empty() && !patience.is_zero() {
				self.wait_to_be_let_in(patience, &reader, cancel).await?;
			}
			Ok::<_, ChainError>(sources)
		});
		Ok(self.directory.peers(&reader, &sources?).until(cancel.clone()))
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
	store: EmbeddedStore,
	holders: Arc<Holders>,
	/// How many blocks were missing.
	missed: AtomicUsize,
}

/// What a place said of a block.
type Said = Result<Option<Vec<u8>>, RepositoryError>;

impl Everywhere {
	fn new(store: &EmbeddedStore, holders: Holders) -> Self {
		let (store, holders) = (store.clone(), Arc::new(holders));
		Self(Arc::new(Places { store, holders, missed: AtomicUsize::new(0) }))
	}

	/// The same places, of which those elsewhere are waited for so long.
	pub fn with_patience(&self, patience: Duration) -> Self {
		Self::new(&self.0.store, self.0.holders.with_patience(patience))
	}

	/// Whether somebody else is known who may have what is missing here. Waits until the chain has
	/// said so, where there are no replicas.
	///
	/// # Errors
	/// If the chain cannot be asked.
	pub(crate) fn has_others(&self) -> Result<bool, RepositoryError> {
		let end = Instant::now() + self.0.holders.patience();
		Ok(!self.replicas().is_empty() || !self.0.holders.peers(end)?.is_empty())
	}

	fn replicas(&self) -> &Replicas {
		self.0.holders.elsewhere().replicas()
	}

	fn fetch(&self, cid: &Cid, here: Said) -> Said {
		if let Ok(Some(block)) = here {
			return Ok(Some(block));
		}
		let missed = self.0.missed.fetch_add(1, Ordering::Relaxed);
		if missed == 0 && !self.replicas().is_empty() {
			self.0.holders.look_beside();
		}
		let end = Instant::now() + self.0.holders.patience();
		let are_peers_first = self.0.holders.are_known() && missed % 2 == 1;
		let (mut of_peers, mut of_replicas) = (Ok(None), Ok(None));
		for turn in 0..2 {
			let are_peers = are_peers_first == (turn == 0);
			// Whoever is silent leaves as much time to those who come after, if anybody does.
			let is_alone = match are_peers {
				true => self.replicas().is_empty(),
				false => self.0.holders.are_none(),
			};
			let by = if turn == 0 && !is_alone { half_of(end) } else { end };
			let (there, said) = match are_peers {
				true => (self.of_peers(cid, by), &mut of_peers),
				false => (self.replicas().get_by(cid, Some(by)), &mut of_replicas),
			};
			match there {
				Ok(Some(block)) => return Ok(Some(block)),
				there => *said = there,
			}
		}
		// Nobody else has it at once: what passes is waited for.
		let (of_replicas, of_peers) = self.wait_for(cid, end, of_replicas, of_peers);
		match (&of_replicas, &of_peers) {
			(Ok(Some(_)), _) => of_replicas,
			(_, Ok(Some(_))) => of_peers,
			// What is wrong here says more than that nobody else has it.
			_ => here.and(of_replicas).and(of_peers),
		}
	}

	/// Ask in turn whoever failed in a way that may pass, until one has the block.
	fn wait_for(
		&self,
		cid: &Cid,
		end: Instant,
		mut of_replicas: Said,
		mut of_peers: Said,
	) -> (Said, Said) {
		let cancel = self.0.holders.cancel();
		loop {
			let are_peers_worth_it = may_pass(&of_peers) && self.0.holders.are_back_by(end);
			let has_ended = Instant::now() >= end || cancel.is_cancelled();
			if has_ended || !(may_pass(&of_replicas) || are_peers_worth_it) {
				return (of_replicas, of_peers);
			}
			let turn_end = end.min(Instant::now() + TURN);
			if may_pass(&of_replicas) {
				let by = if are_peers_worth_it { half_of(end) } else { end };
				of_replicas = self.replicas().get_patiently(cid, turn_end, by, cancel);
				if matches!(of_replicas, Ok(Some(_))) {
					return (of_replicas, of_peers);
				}
			}
			cancel.wait_until(turn_end);
			if are_peers_worth_it && Instant::now() < end {
				of_peers = self.of_peers(cid, end);
				if matches!(of_peers, Ok(Some(_))) {
					return (of_replicas, of_peers);
				}
			}
		}
	}

	/// Asks each once. Waits until the chain has said who they are, but no longer than for a block.
	fn of_peers(&self, cid: &Cid, end: Instant) -> Said {
		let peers = self.0.holders.peers(end)?;
		if peers.is_empty() { Ok(None) } else { peers.get_once(cid, Some(end)) }
	}
}

/// When half of the time is over that is left.
fn half_of(end: Instant) -> Instant {
	let now = Instant::now();
	now + end.saturating_duration_since(now) / 2
}

fn may_pass(said: &Said) -> bool {
	said.as_ref().is_err_and(RepositoryError::can_retry)
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
		f.debug_struct("Everywhere").field("holders", &self.0.holders).finish_non_exhaustive()
	}
}

#[cfg(test)]
pub(crate) mod tests;
