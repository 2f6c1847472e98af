//! Several gateways as one source of blocks.

use super::{
	addresses::Reach,
	gateway::{Gateway, GatewayClient, PeerError},
	pass::{AnyReader, Pass},
};
use crate::{
	pipeline::Cancel,
	repositories::{BlockSource, RepositoryError},
	secret::NodeIdentities,
};
use backup_primitives::{Cid, Recipient, job::Sources};
use std::{
	collections::HashMap,
	io,
	ops::ControlFlow,
	sync::{
		Arc, Mutex, PoisonError,
		atomic::{AtomicBool, AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};

/// How long a gateway is passed over that failed once; twice as long each further time.
const PENALTY: Duration = Duration::from_secs(1);

/// How long at most.
const PENALTY_MAX: Duration = Duration::from_secs(60);

/// How long one is passed over that sent something else than was asked for.
const PENALTY_OF_LIARS: Duration = Duration::from_secs(600);

/// For how long a block is asked for while gateways fail, by who can come back to it later.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least that a gateway or a replica gets of a time that is bounded, while others are to be asked
/// after it.
const SHARE_MIN: Duration = Duration::from_secs(2);

/// Most gateways of which it is remembered how they did.
const STANDINGS_MAX: usize = 4096;

/// How a gateway did of late.
#[derive(Debug, Default)]
struct Standing {
	marks: Mutex<Marks>,
	/// Whether it was told that a block is not there.
	has_lacked: AtomicBool,
}

#[derive(Debug, Default)]
struct Marks {
	failures: u32,
	passed_over_until: Option<Instant>,
}

impl Standing {
	fn marks(&self) -> std::sync::MutexGuard<'_, Marks> {
		self.marks.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Tell once that a gateway has not got what the chain sends us there for. One that holds copies
	/// since a short while ago may still be fetching; one that confirms them should have it.
	fn note_lack(&self, url: &str, cid: &Cid) {
		if !self.has_lacked.swap(true, Ordering::Relaxed) {
			tracing::warn!(url, block = %cid, "a gateway has not got a block that is looked for there");
		}
	}

	/// How long it is still passed over.
	fn wait(&self) -> Option<Duration> {
		let until = self.marks().passed_over_until?;
		until.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
	}

	fn note(&self, url: &str, error: &PeerError) {
		let mut marks = self.marks();
		let now = Instant::now();
		// Many threads may be in the middle of a question when a gateway goes away once.
		let is_known = marks.passed_over_until.is_some_and(|until| until > now);
		if is_known && !error.is_lie() {
			return;
		}
		let penalty = match error.is_lie() {
			true => PENALTY_OF_LIARS,
			false => PENALTY.saturating_mul(1 << marks.failures.min(10)).min(PENALTY_MAX),
		};
		marks.failures = marks.failures.saturating_add(1);
		marks.passed_over_until = Some(now + penalty);
		tracing::warn!(url, %error, seconds = penalty.as_secs(), "a gateway is passed over");
	}

	fn clear(&self) {
		*self.marks() = Marks::default();
	}
}

/// Knows how to ask the gateways of other nodes, and how they did.
#[derive(Debug)]
pub struct PeerDirectory {
	client: GatewayClient,
	identities: Arc<NodeIdentities>,
	/// By address and key: whoever registers another's address with a key of its own spoils the
	/// standing of that pair alone.
	standings: Mutex<HashMap<(String, Recipient), Arc<Standing>>>,
}

impl PeerDirectory {
	/// Asks with the node's newest identity, at these addresses only. Makes a thread, so not to be
	/// called by asynchronous code.
	///
	/// # Errors
	/// If the system's certificates cannot be read.
	pub fn new(reach: Reach, identities: Arc<NodeIdentities>) -> Result<Self, reqwest::Error> {
		let client = GatewayClient::new(reach)?;
		Ok(Self { client, identities, standings: Mutex::default() })
	}

	/// The gateways that the chain names to a reader. One whose address may not be connected to is
	/// left out.
	pub fn peers(&self, reader: &AnyReader, sources: &Sources) -> Peers {
		let mut peers = Vec::new();
		for source in sources {
			let url = String::from_utf8_lossy(&source.gateway);
			let Some(pass) = Pass::new(reader, self.identities.newest(), &source.recipient) else {
				tracing::debug!(%url, "the key of a gateway is of no use");
				continue;
			};
			match self.client.gateway(&url, Some(pass)) {
				Ok(gateway) => {
					let standing = self.standing(gateway.url(), source.recipient);
					peers.push(Peer { gateway, standing });
				}
				Err(error) => tracing::debug!(%url, %error, "a gateway is not asked"),
			}
		}
		Peers::of(peers)
	}

	/// The newest key of this node, which it shows.
	pub fn recipient(&self) -> Recipient {
		self.identities.recipient()
	}

	fn standing(&self, url: &str, recipient: Recipient) -> Arc<Standing> {
		let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
		if standings.len() >= STANDINGS_MAX {
			standings.clear();
		}
		standings.entry((url.to_owned(), recipient)).or_default().clone()
	}
}

#[derive(Debug)]
struct Peer {
	gateway: Gateway,
	standing: Arc<Standing>,
}

/// Several gateways. Whoever asks from many threads has all of them work.
#[derive(Debug)]
pub struct Peers {
	peers: Vec<Peer>,
	/// Which one is asked first for a block, the next time.
	turn: AtomicUsize,
	/// The same for streams. They are counted apart: a copy asks for a node and for what is below it in
	/// turn, and of two gateways one would give all the nodes, and the other all the rest.
	stream_turn: AtomicUsize,
	/// For how long a block is asked for while they fail.
	patience: Duration,
	/// Ends that early.
	cancel: Cancel,
}

impl Peers {
	/// Gateways of which nothing is known yet.
	pub fn new(gateways: impl IntoIterator<Item = Gateway>) -> Self {
		let peer = |gateway| Peer { gateway, standing: Arc::default() };
		Self::of(gateways.into_iter().map(peer).collect())
	}

	fn of(peers: Vec<Peer>) -> Self {
		let (turn, stream_turn) = (AtomicUsize::new(0), AtomicUsize::new(0));
		Self { peers, turn, stream_turn, patience: PATIENCE, cancel: Cancel::new() }
	}

	/// The same gateways, asked for each block for so long while they fail.
	pub fn with_patience(self, patience: Duration) -> Self {
		Self { patience, ..self }
	}

	/// The same gateways, until this switch is thrown.
	pub fn until(self, cancel: Cancel) -> Self {
		Self { cancel, ..self }
	}

	/// Whether there is nobody to ask.
	pub fn is_empty(&self) -> bool {
		self.peers.is_empty()
	}

	/// Those that are not passed over now, each time another one first.
	fn in_turn(&self, turn: &AtomicUsize) -> impl Iterator<Item = &Peer> {
		let count = self.peers.len();
		let first = turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
		let turned = self.peers.iter().cycle().skip(first).take(count);
		turned.filter(|peer| peer.standing.wait().is_none())
	}

	/// How long the first of those is still passed over that are.
	fn first_back(&self) -> Duration {
		self.peers.iter().filter_map(|peer| peer.standing.wait()).min().unwrap_or_default()
	}

	/// Whether all are passed over for longer than a block is asked for.
	pub fn are_away(&self) -> bool {
		self.peers.iter().all(|peer| peer.standing.wait().is_some())
			&& self.first_back() > self.patience
	}

	/// Whether somebody of those that are passed over is so no more before the end.
	pub(super) fn are_back_by(&self, end: Instant) -> bool {
		Instant::now() + self.first_back() <= end
	}

	/// Wait until somebody is not passed over any more, if that is before the end.
	fn wait(&self, end: Instant) -> bool {
		let back = Instant::now() + self.first_back();
		back <= end && self.cancel.wait_until(back)
	}

	/// Ask each once that is not passed over, until one has the block: the first sound answer counts.
	/// All together take no longer than until the end, if there is one: who lets wait leaves time for
	/// the others.
	pub(super) fn get_once(
		&self,
		cid: &Cid,
		end: Option<Instant>,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		let (mut failure, mut absent) = (None::<RepositoryError>, 0);
		let asked: Vec<&Peer> = self.in_turn(&self.turn).collect();
		for (number, Peer { gateway, standing }) in asked.iter().enumerate() {
			let limit = end.map(|end| share(end, asked.len() - number));
			if limit.is_some_and(|limit| limit.is_zero()) {
				break;
			}
			match gateway.block_within(cid, limit) {
				Ok(Some(block)) => {
					standing.clear();
					return Ok(Some(block));
				}
				Ok(None) => {
					standing.note_lack(gateway.url(), cid);
					absent += 1;
				}
				Err(error) => {
					standing.note(gateway.url(), &error);
					// Of two, that which may pass.
					failure = failure
						.filter(RepositoryError::can_retry)
						.or_else(|| Some(unreadable(gateway.url(), &error, cid)));
				}
			}
		}
		// Only who was asked and answered has not got it.
		match absent == self.peers.len() {
			true => Ok(None),
			false => Err(failure.unwrap_or_else(all_passed_over)),
		}
	}
}

impl BlockSource for Peers {
	/// A gateway that fails or lies is passed over, and its error told only if no other one has the
	/// block.
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let end = Instant::now() + self.patience;
		loop {
			let found = self.get_once(cid, None);
			if found.is_ok() || !self.wait(end) {
				return found;
			}
		}
	}

	fn get_children(
		&self,
		node: &Cid,
		children: &[Cid],
		take: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) {
		let mut missing = children.len();
		for Peer { gateway, standing } in self.in_turn(&self.stream_turn) {
			let mut is_enough = false;
			let mut count = |cid: &Cid, block| {
				missing = missing.saturating_sub(1);
				let flow = take(cid, block);
				is_enough = flow.is_break();
				flow
			};
			match gateway.children(node, children, &mut count) {
				Ok(()) if is_enough || missing == 0 => return,
				// It has not got all of them.
				Ok(()) => (),
				// It has no turn for a stream, but serves single blocks.
				Err(PeerError::Status(503)) => (),
				Err(error) => standing.note(gateway.url(), &error),
			}
		}
	}
}

/// What one of so many may take of the time that is left.
pub(crate) fn share(end: Instant, count: usize) -> Duration {
	let left = end.saturating_duration_since(Instant::now());
	let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
	(left / count).max(SHARE_MIN).min(left)
}

fn unreadable(url: &str, error: &PeerError, cid: &Cid) -> RepositoryError {
	match error {
		PeerError::Lie { .. } => RepositoryError::Corrupt { cid: *cid },
		error => failed(format!("{url}: {error}")),
	}
}

fn all_passed_over() -> RepositoryError {
	failed("the gateways that may have the block failed a short while ago".to_owned())
}

fn failed(words: String) -> RepositoryError {
	RepositoryError::Io { action: "read from a gateway", source: io::Error::other(words) }
}

#[cfg(test)]
mod tests;
