//! Copies of other nodes' snapshots: this node is their holder.
//!
//! 1. The worker says at every block of which lineages copies belong here, and where their blocks
//!    can be fetched. [`Copies::reconcile`] answers how much of each is here.
//! 2. What the finalized chain records of a lineage and is not here is fetched, the newest snapshot
//!    first: it is the one that would be missed most. Blocks that are here are not fetched again,
//!    so each further snapshot costs what is new in it.
//! 3. A copy is a pinned root like any other. It goes when the chain has evicted or deleted it, or
//!    has given the copy to another holder; [`crate::jobs::sweep`] looks after that.
//! 4. What fails is tried again, with longer and longer pauses. Every minute it is looked whether
//!    all is still here, so a holder that lost its blocks says so and fetches them again.

use crate::{
	chain::{ChainError, FinalizedChain},
	jobs::MEMORY_BLOCKS,
	node::PinLabel,
	peers::{PeerDirectory, Peers},
	pipeline::{Cancel, CopyError, copy},
	repositories::{BlockSource, EmbeddedStore, Repository, RepositoryError},
};
use backup_primitives::{
	Cid, LineageId, OpaqueId, Reader,
	job::{CopyOrder, CopyResult, Desired, Orders},
};
use rand::Rng;
use std::{
	collections::BTreeMap,
	fmt,
	num::NonZero,
	ops::Range,
	sync::{
		Arc, Mutex, MutexGuard, PoisonError,
		atomic::{AtomicU64, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};

/// How often it is looked whether a copy is still whole.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// How soon a snapshot is looked for that is recorded and not final yet.
const FINALITY_POLL: Duration = Duration::from_secs(3);

/// How long after a failure the next try is made; twice as long each further time.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// For how long the blocks of a copy that is not whole yet are kept from collection.
const UNFINISHED_KEPT: Duration = Duration::from_secs(6 * 3600);

/// All copies that this node has to hold.
pub struct Copies {
	store: EmbeddedStore,
	directory: Arc<PeerDirectory>,
	chain: Arc<dyn FinalizedChain>,
	threads: NonZero<usize>,
	turns: Arc<Semaphore>,
	agent_ends: Cancel,
	state: Mutex<BTreeMap<LineageId, Holding>>,
	changed: Notify,
}

/// One copy.
struct Holding {
	/// The node that holds it: a keystore may speak for several.
	node: OpaqueId,
	order: CopyOrder,
	/// Number of the best block when it was last ordered.
	ordered_at: u64,
	/// Since when something is missing.
	since: Instant,
	/// Which snapshots are here without a gap, once that was looked at.
	held: Option<Range<u64>>,
	/// Whether something is missing that the chain records.
	is_whole: bool,
	is_busy: bool,
	due: Instant,
	failures: u32,
	/// Why the last try failed.
	error: Option<String>,
	fetched_bytes: Arc<AtomicU64>,
}

/// A copy as people see it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CopyView {
	/// The compute request.
	pub request: String,
	/// First sequence of the range that is here.
	pub from: u64,
	/// The sequence behind its last.
	pub to: u64,
	/// The sequence behind the newest on chain.
	pub next: u64,
	/// `fetching`, `whole`, `waiting` for the next try, or `unknown` before the first look.
	pub state: &'static str,
	/// Bytes that were fetched since the agent started.
	pub fetched_bytes: u64,
	/// What went wrong the last time.
	pub error: Option<String>,
}

/// Why a copy is not whole yet.
#[derive(Debug, thiserror::Error)]
enum PullError {
	#[error(transparent)]
	Chain(#[from] ChainError),
	#[error("the chain names no gateway that may be asked")]
	NobodyToAsk,
	#[error("{cid}: {source}")]
	Copy { cid: Cid, source: CopyError },
	#[error(transparent)]
	Store(#[from] RepositoryError),
	#[error("the thread that fetched it panicked")]
	Panic,
}

impl Copies {
	/// Fetch so many copies at once, each with so many threads.
	pub fn new(
		store: EmbeddedStore,
		directory: Arc<PeerDirectory>,
		chain: Arc<dyn FinalizedChain>,
		at_once: usize,
		threads: NonZero<usize>,
	) -> Self {
		Self {
			store,
			directory,
			chain,
			threads,
			turns: Arc::new(Semaphore::new(at_once)),
			agent_ends: Cancel::new(),
			state: Mutex::default(),
			changed: Notify::new(),
		}
	}

	fn state(&self) -> MutexGuard<'_, BTreeMap<LineageId, Holding>> {
		self.state.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Note what is to be held, and say how much of that is here.
	pub fn reconcile(&self, desired: &Desired) -> Orders<CopyResult> {
		let now = desired.at.number;
		let mut state = self.state();
		state.retain(|lineage, known| {
			let is_deleted = desired.deletions.iter().any(|order| order.lineage == *lineage);
			!is_deleted && known.ordered_at + MEMORY_BLOCKS >= now
		});
		let mut results = Orders::new();
		for order in &desired.copies {
			let known = state
				.entry(order.lineage.clone())
				.or_insert_with(|| Holding::new(desired.node.clone(), order.clone()));
			if known.order.next != order.next {
				known.hurry();
			}
			known.order = order.clone();
			known.node = desired.node.clone();
			known.ordered_at = now;
			if let Some(held) = known.held.clone() {
				let lineage = order.lineage.clone();
				let _ = results.try_push(CopyResult { lineage, from: held.start, to: held.end });
			}
		}
		drop(state);
		self.changed.notify_one();
		results
	}

	/// Whether blocks lie here of which no root is pinned yet, because a copy is being fetched.
	pub fn are_unfinished(&self) -> bool {
		self.state()
			.values()
			.any(|known| !known.is_whole && known.since.elapsed() < UNFINISHED_KEPT)
	}

	/// All copies.
	pub fn list(&self) -> Vec<CopyView> {
		let view = |(lineage, known): (&LineageId, &Holding)| {
			let held = known.held.clone().unwrap_or_default();
			CopyView {
				request: lineage.request.to_string(),
				from: held.start,
				to: held.end,
				next: known.order.next,
				state: known.state(),
				fetched_bytes: known.fetched_bytes.load(Ordering::Relaxed),
				error: known.error.clone(),
			}
		};
		self.state().iter().map(view).collect()
	}

	/// End what is fetched, for good.
	pub fn stop(&self) {
		self.agent_ends.cancel();
	}

	/// Fetch what is missing, for ever.
	pub async fn run(self: Arc<Self>) {
		loop {
			let turn = self.turns.clone().acquire_owned().await;
			let (lineage, wait) = self.next_due();
			let (Some(lineage), Ok(turn)) = (lineage, turn) else {
				tokio::select! {
					() = self.changed.notified() => (),
					() = tokio::time::sleep(wait) => (),
				}
				continue;
			};
			let copies = self.clone();
			tokio::spawn(async move {
				let result = copies.clone().pull(&lineage).await;
				copies.settle(&lineage, result);
				drop(turn);
			});
		}
	}

	/// The copy that is to be looked at, or how long there is nothing to do.
	fn next_due(&self) -> (Option<LineageId>, Duration) {
		let mut state = self.state();
		let waiting = state.iter_mut().filter(|(_, known)| !known.is_busy);
		let Some((lineage, first)) = waiting.min_by_key(|(_, known)| known.due) else {
			return (None, CHECK_EVERY);
		};
		let wait = first.due.saturating_duration_since(Instant::now());
		if !wait.is_zero() {
			return (None, wait);
		}
		first.is_busy = true;
		(Some(lineage.clone()), wait)
	}

	/// Compare a copy with the chain once, and fetch what it lacks. Says whether nothing is missing
	/// of what the best chain has.
	async fn pull(self: Arc<Self>, lineage: &LineageId) -> Result<bool, PullError> {
		let Some((node, order, fetched)) = self.begin(lineage) else { return Ok(true) };
		let view = self.chain.finalized().await?;
		let roots = view.roots_of_request(lineage).await?;
		let newest = roots.last().map_or(0, |(sequence, _)| sequence + 1);
		let peers = self.directory.peers(&Reader::Node(node.clone()), &order.sources);
		let copies = self.clone();
		let pulled = tokio::task::spawn_blocking(move || {
			copies.fetch(&order.lineage, &node, &roots, &peers, &fetched).map(|()| order.next)
		});
		let next = pulled.await.unwrap_or(Err(PullError::Panic))?;
		Ok(newest >= next)
	}

	fn begin(&self, lineage: &LineageId) -> Option<(OpaqueId, CopyOrder, Arc<AtomicU64>)> {
		let state = self.state();
		let known = state.get(lineage)?;
		Some((known.node.clone(), known.order.clone(), known.fetched_bytes.clone()))
	}

	/// Fetch what is missing of these roots, the newest first.
	fn fetch(
		&self,
		lineage: &LineageId,
		node: &OpaqueId,
		roots: &[(u64, Cid)],
		peers: &Peers,
		fetched: &AtomicU64,
	) -> Result<(), PullError> {
		let is_here = |cid: &Cid| Ok(self.store.is_pinned(cid) && self.store.has(cid)?);
		let here = roots.iter().map(|(_, cid)| is_here(cid));
		let mut here = here.collect::<Result<Vec<bool>, RepositoryError>>()?;
		self.note_held(lineage, roots, &here);
		let mut failure = None;
		for place in (0..roots.len()).rev().filter(|place| !here[*place]).collect::<Vec<_>>() {
			if peers.is_empty() {
				return Err(PullError::NobodyToAsk);
			}
			let (sequence, cid) = roots[place];
			match self.fetch_one(lineage, node, sequence, &cid, peers, fetched) {
				Ok(()) => {
					here[place] = true;
					self.note_held(lineage, roots, &here);
					tracing::info!(root = %cid, sequence, request = %lineage.request, "copy fetched");
				}
				// Others may have an older one.
				Err(error @ PullError::Copy { source: CopyError::Missing { .. }, .. }) => {
					failure.get_or_insert(error);
				}
				Err(error) => return Err(error),
			}
		}
		failure.map_or(Ok(()), Err)
	}

	fn fetch_one(
		&self,
		lineage: &LineageId,
		node: &OpaqueId,
		sequence: u64,
		cid: &Cid,
		peers: &Peers,
		fetched: &AtomicU64,
	) -> Result<(), PullError> {
		let session = self.store.open_session()?;
		let before = fetched.load(Ordering::Relaxed);
		let show = |progress: crate::pipeline::Progress| {
			fetched.store(before + progress.written_bytes, Ordering::Relaxed);
		};
		let cancel = &self.agent_ends;
		copy(peers, session.as_ref(), cid, self.threads, &show, cancel)
			.map_err(|source| PullError::Copy { cid: *cid, source })?;
		session.flush()?;
		session.pin(cid, &PinLabel::of_copy(lineage, sequence, node))?;
		Ok(())
	}

	/// Note the newest range without a gap.
	fn note_held(&self, lineage: &LineageId, roots: &[(u64, Cid)], here: &[bool]) {
		let held = held_range(roots, here);
		if let Some(known) = self.state().get_mut(lineage) {
			known.held = Some(held);
		}
	}

	/// Note how a look at a copy ended, and when the next is due.
	fn settle(&self, lineage: &LineageId, result: Result<bool, PullError>) {
		let mut state = self.state();
		let Some(known) = state.get_mut(lineage) else { return };
		known.is_busy = false;
		match result {
			Ok(is_newest) => {
				known.failures = 0;
				known.error = None;
				known.is_whole = is_newest;
				known.due = Instant::now() + if is_newest { CHECK_EVERY } else { FINALITY_POLL };
			}
			Err(error) => {
				let wait = RETRY_AFTER.saturating_mul(1 << known.failures.min(10));
				let wait = wait.min(RETRY_AFTER_MAX);
				// So that holders which lost their host at once do not come back at once.
				let wait = wait.mul_f64(rand::rng().random_range(0.75..1.25));
				known.failures = known.failures.saturating_add(1);
				known.is_whole = false;
				known.due = Instant::now() + wait;
				let words = error.to_string();
				if known.error.as_ref() != Some(&words) {
					tracing::warn!(error = words, request = %lineage.request, "a copy is not whole");
				}
				known.error = Some(words);
			}
		}
		drop(state);
		self.changed.notify_one();
	}
}

impl Holding {
	fn new(node: OpaqueId, order: CopyOrder) -> Self {
		Self {
			node,
			order,
			ordered_at: 0,
			since: Instant::now(),
			held: None,
			is_whole: false,
			is_busy: false,
			due: Instant::now(),
			failures: 0,
			error: None,
			fetched_bytes: Arc::default(),
		}
	}

	/// There is something new: do not wait for the next check.
	fn hurry(&mut self) {
		if self.is_whole {
			self.is_whole = false;
			self.since = Instant::now();
		}
		if self.failures == 0 {
			self.due = Instant::now();
		}
	}

	fn state(&self) -> &'static str {
		match (self.is_busy, self.is_whole, &self.held) {
			(_, true, _) => "whole",
			(true, ..) => "fetching",
			(_, _, Some(_)) => "waiting",
			(_, _, None) => "unknown",
		}
	}
}

/// The newest range of sequences of which every root that the chain records is here; empty if none
/// is. `roots` are in order.
fn held_range(roots: &[(u64, Cid)], here: &[bool]) -> Range<u64> {
	let Some(last) = here.iter().rposition(|here| *here) else { return 0..0 };
	let first = here[..last].iter().rposition(|here| !here).map_or(0, |gap| gap + 1);
	roots[first].0..roots[last].0 + 1
}

impl fmt::Debug for Copies {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Copies").field("copies", &self.list()).finish_non_exhaustive()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// The range that is held if these of the sequences that the chain records are here.
	fn held(recorded: &[u64], present: &[u64]) -> Range<u64> {
		let roots: Vec<_> =
			recorded.iter().map(|sequence| (*sequence, Cid::raw([0; 32]))).collect();
		let here: Vec<_> = recorded.iter().map(|sequence| present.contains(sequence)).collect();
		held_range(&roots, &here)
	}

	#[test]
	fn what_is_held_begins_behind_the_last_gap() {
		assert_eq!(held(&[2, 3, 4, 5], &[2, 3, 4, 5]), 2..6);
		assert_eq!(held(&[2, 3, 4, 5], &[2, 4, 5]), 4..6);
		assert_eq!(held(&[2, 3, 4, 5], &[2, 3]), 2..4);
		assert_eq!(held(&[2, 3, 4, 5], &[5]), 5..6);
	}

	#[test]
	fn what_the_chain_does_not_keep_is_no_gap() {
		assert_eq!(held(&[1, 4, 9], &[1, 4, 9]), 1..10);
	}

	#[test]
	fn without_anything_nothing_is_held() {
		assert_eq!(held(&[1, 2], &[]), 0..0);
		assert_eq!(held(&[], &[]), 0..0);
	}
}
