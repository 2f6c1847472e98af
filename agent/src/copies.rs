//! Copies of other nodes' snapshots: this node is their holder.
//!
//! 1. The worker says at every block of which lineages copies belong here, and where their blocks
//!    can be fetched. [`Copies::reconcile`] answers how much of each is here.
//! 2. What the finalized chain records of a lineage and is not here is fetched, the newest snapshot
//!    first: it is the one that would be missed most. Blocks that are here are not fetched again,
//!    so each further snapshot costs what is new in it.
//! 3. A copy is a pinned root like any other. It goes when the chain has evicted or deleted it, or
//!    has given the copy to another holder; [`crate::jobs::sweep`] looks after that.
//! 4. What a snapshot costs is bounded by what the chain says of the machine's disks; one that is
//!    larger is given up, see `spending`.
//! 5. What fails is tried again, with longer and longer pauses. Every minute it is looked whether
//!    all is still here, so a holder that lost its blocks says so and fetches them again.

mod pull;
mod spending;

use crate::{
	chain::FinalizedChain,
	config::InForce,
	jobs::MEMORY_BLOCKS,
	node::PinLabel,
	peers::PeerDirectory,
	pipeline::{Cancel, Pace},
	repositories::{EmbeddedStore, Repository, RepositoryError, Session},
};
use backup_primitives::{
	Cid, KeptRoot, LineageId, OpaqueId,
	job::{CopyOrder, CopyResult, Desired, Orders},
};
use pull::{Pull, PullError, Pulled};
use rand::Rng;
use spending::Spending;
use std::{
	collections::{BTreeMap, HashMap},
	fmt,
	ops::Range,
	sync::{
		Arc, Mutex, MutexGuard, PoisonError,
		atomic::{AtomicU64, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::sync::Notify;

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

/// How long after the agent's start nothing is collected at most, so that copies which an earlier
/// run had begun are gone on with.
const TAKE_UP_TIME_MAX: Duration = Duration::from_secs(900);

/// How long after the first word of a worker all copies are known: workers name one page of them
/// after the other.
const ORDERS_TAKE: Duration = Duration::from_secs(20);

/// All copies that this node has to hold.
pub struct Copies {
	store: EmbeddedStore,
	directory: Arc<PeerDirectory>,
	chain: Arc<dyn FinalizedChain>,
	in_force: InForce,
	/// How fast may be fetched.
	pace: Pace,
	agent_ends: Cancel,
	state: Mutex<State>,
	changed: Notify,
	began: Instant,
}

#[derive(Default)]
struct State {
	holdings: BTreeMap<LineageId, Holding>,
	/// What is fetched now, also of copies that are not to be held any more, and how to end it.
	turns: HashMap<LineageId, Cancel>,
	/// When a worker first spoke.
	first_order: Option<Instant>,
}

/// One copy.
struct Holding {
	/// The node that holds it: a keystore may speak for several.
	node: OpaqueId,
	order: CopyOrder,
	/// Number of the best block when it was last ordered.
	ordered_at: u64,
	/// Keeps what was fetched from collection until its root is pinned, and since when.
	session: Option<(Instant, Arc<dyn Session>)>,
	/// Whether this run of the agent has begun to fetch it.
	is_taken_up: bool,
	/// The roots that the finalized chain recorded, when it was last asked.
	roots: Arc<[KeptRoot]>,
	/// Which snapshots are here without a gap, once that was looked at.
	held: Option<Range<u64>>,
	/// Whether something is missing that the chain records.
	is_whole: bool,
	due: Instant,
	failures: u32,
	/// Why the last try failed.
	error: Option<String>,
	fetched_bytes: Arc<AtomicU64>,
	spending: Spending,
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

impl Copies {
	/// Fetch as many copies at once, and each with as many threads, as the configuration says.
	pub fn new(
		store: EmbeddedStore,
		directory: Arc<PeerDirectory>,
		chain: Arc<dyn FinalizedChain>,
		in_force: InForce,
	) -> Self {
		let pace = Pace::new(in_force.borrow().copy_bytes_per_second);
		Self {
			store,
			directory,
			chain,
			in_force,
			pace,
			agent_ends: Cancel::new(),
			state: Mutex::default(),
			changed: Notify::new(),
			began: Instant::now(),
		}
	}

	/// How fast may be fetched.
	pub(crate) fn pace(&self) -> &Pace {
		&self.pace
	}

	fn state(&self) -> MutexGuard<'_, State> {
		self.state.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Note what is to be held, and say how much of that is here.
	pub fn reconcile(&self, desired: &Desired) -> Orders<CopyResult> {
		let now = desired.at.number;
		let mut state = self.state();
		let State { holdings, turns, first_order } = &mut *state;
		first_order.get_or_insert_with(Instant::now);
		holdings.retain(|lineage, known| {
			let is_deleted = desired.deletions.iter().any(|order| order.lineage == *lineage);
			!is_deleted && known.ordered_at + MEMORY_BLOCKS >= now
		});
		let mut results = Orders::new();
		for order in &desired.copies {
			let known = holdings
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
		for (lineage, turn) in turns {
			if !holdings.contains_key(lineage) {
				turn.cancel();
			}
		}
		drop(state);
		self.changed.notify_one();
		results
	}

	/// Whether blocks may lie here that an earlier run of the agent had fetched, of which no root is
	/// pinned, and with which this run has not gone on yet. What it fetches itself its sessions keep.
	pub fn are_unfinished(&self) -> bool {
		let state = self.state();
		let are_known = state.first_order.is_some_and(|first| first.elapsed() >= ORDERS_TAKE);
		let are_taken_up = state.holdings.values().all(|known| known.is_taken_up);
		self.began.elapsed() < TAKE_UP_TIME_MAX && !(are_known && are_taken_up)
	}

	/// The session that a copy is written in, also by its later turns.
	fn session(&self, lineage: &LineageId) -> Result<Arc<dyn Session>, RepositoryError> {
		let mut state = self.state();
		let kept = state.holdings.get(lineage).and_then(|known| known.session.clone());
		if let Some((_, session)) = kept.filter(|(since, _)| since.elapsed() < UNFINISHED_KEPT) {
			return Ok(session);
		}
		let session: Arc<dyn Session> = self.store.open_session()?.into();
		if let Some(known) = state.holdings.get_mut(lineage) {
			known.spending.begin_anew();
			known.session = Some((Instant::now(), session.clone()));
		}
		Ok(session)
	}

	/// Whether snapshots of a lineage are being fetched, so that one more may be pinned.
	pub fn are_fetched(&self, lineage: &LineageId) -> bool {
		self.state().turns.contains_key(lineage)
	}

	/// The node that holds copies of a lineage, if one does here.
	pub fn node_of(&self, lineage: &LineageId) -> Option<OpaqueId> {
		self.state().holdings.get(lineage).map(|known| known.node.clone())
	}

	/// What a pin of a root would say, if it is needed as a copy of another lineage than this one. A
	/// host can name another's root as its own, and what becomes of that must not touch the other.
	pub(crate) fn other_label(&self, root: &Cid, lineage: &LineageId) -> Option<Vec<u8>> {
		let state = self.state();
		let others = state.holdings.iter().filter(|(other, _)| *other != lineage);
		let mut labels = others.filter_map(|(other, known)| {
			let kept = known.roots.iter().find(|kept| kept.cid == *root)?;
			Some(PinLabel::of_copy(other, kept.sequence, &known.node))
		});
		labels.next()
	}

	/// All copies.
	pub fn list(&self) -> Vec<CopyView> {
		let state = self.state();
		let view = |(lineage, known): (&LineageId, &Holding)| {
			let held = known.held.clone().unwrap_or_default();
			CopyView {
				request: lineage.request.to_string(),
				from: held.start,
				to: held.end,
				next: known.order.next,
				state: known.state(state.turns.contains_key(lineage)),
				fetched_bytes: known.fetched_bytes.load(Ordering::Relaxed),
				error: known.error.clone(),
			}
		};
		state.holdings.iter().map(view).collect()
	}

	/// End what is fetched, for good.
	pub fn stop(&self) {
		self.agent_ends.cancel();
		self.state().turns.values().for_each(Cancel::cancel);
	}

	/// Fetch what is missing, for ever.
	pub async fn run(self: Arc<Self>) {
		loop {
			let (pull, wait) = self.next_due();
			let Some(pull) = pull else {
				tokio::select! {
					() = self.changed.notified() => (),
					() = tokio::time::sleep(wait) => (),
				}
				continue;
			};
			let copies = self.clone();
			tokio::spawn(async move {
				let lineage = pull.order.lineage.clone();
				let result = pull.run(copies.clone()).await;
				copies.settle(&lineage, result);
				// Somebody may wait for this turn.
				copies.changed.notify_one();
			});
		}
	}

	/// The copy that is to be looked at, or how long there is nothing to do.
	fn next_due(&self) -> (Option<Pull>, Duration) {
		let at_once = self.in_force.borrow().jobs_max as usize;
		let mut state = self.state();
		let State { holdings, turns, .. } = &mut *state;
		if turns.len() >= at_once {
			return (None, CHECK_EVERY);
		}
		let waiting = holdings.iter().filter(|(lineage, _)| !turns.contains_key(lineage));
		let first = waiting.min_by_key(|(_, known)| known.due);
		let Some((lineage, known)) = first.filter(|_| !self.agent_ends.is_cancelled()) else {
			return (None, CHECK_EVERY);
		};
		let wait = known.due.saturating_duration_since(Instant::now());
		if !wait.is_zero() {
			return (None, wait);
		}
		let cancel = Cancel::new();
		turns.insert(lineage.clone(), cancel.clone());
		let (fetched, spending) = (known.fetched_bytes.clone(), known.spending.clone());
		let (node, order) = (known.node.clone(), known.order.clone());
		(Some(Pull { node, order, fetched, spending, cancel, began: Instant::now() }), wait)
	}

	/// Note what the chain records, and the newest range without a gap.
	fn note_held(&self, lineage: &LineageId, roots: &Arc<[KeptRoot]>, here: &[bool]) {
		if let Some(known) = self.state().holdings.get_mut(lineage) {
			known.is_taken_up = true;
			known.held = Some(held_range(roots, here));
			known.roots = roots.clone();
		}
	}

	/// Note how a look at a copy ended, and when the next is due.
	fn settle(&self, lineage: &LineageId, result: Result<Pulled, PullError>) {
		let mut state = self.state();
		let State { holdings, turns, .. } = &mut *state;
		turns.remove(lineage);
		let Some(known) = holdings.get_mut(lineage) else { return };
		match result {
			Ok(pulled) => {
				let wait = match pulled {
					Pulled::Whole => CHECK_EVERY,
					Pulled::Behind => FINALITY_POLL,
					// Those that wait for a turn are due before it.
					Pulled::OutOfTime => Duration::ZERO,
				};
				known.failures = 0;
				known.error = None;
				known.is_whole = matches!(pulled, Pulled::Whole);
				if !matches!(pulled, Pulled::OutOfTime) {
					known.session = None;
				}
				known.due = Instant::now() + wait;
			}
			Err(error) => {
				let wait = RETRY_AFTER.saturating_mul(1 << known.failures.min(10));
				let wait = wait.min(RETRY_AFTER_MAX);
				// So that holders which lost their host at once do not come back at once.
				let wait = wait.mul_f64(rand::rng().random_range(0.75..1.25));
				known.failures = known.failures.saturating_add(1);
				if error.is_ours() || error.is_too_much() {
					known.session = None;
				}
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
			session: None,
			is_taken_up: false,
			roots: Arc::default(),
			held: None,
			is_whole: false,
			due: Instant::now(),
			failures: 0,
			error: None,
			fetched_bytes: Arc::default(),
			spending: Spending::default(),
		}
	}

	/// There is something new: do not wait for the next check.
	fn hurry(&mut self) {
		self.is_whole = false;
		if self.failures == 0 {
			self.due = Instant::now();
		}
	}

	fn state(&self, is_fetched: bool) -> &'static str {
		match (is_fetched, self.is_whole, &self.held) {
			(_, true, _) => "whole",
			(true, ..) => "fetching",
			(_, _, Some(_)) => "waiting",
			(_, _, None) => "unknown",
		}
	}
}

/// The newest range of sequences of which every root that the chain records is here; empty if none
/// is. `roots` are in order.
fn held_range(roots: &[KeptRoot], here: &[bool]) -> Range<u64> {
	let Some(last) = here.iter().rposition(|here| *here) else { return 0..0 };
	let first = here[..last].iter().rposition(|here| !here).map_or(0, |gap| gap + 1);
	roots[first].sequence..roots[last].sequence + 1
}

impl fmt::Debug for Copies {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Copies").field("copies", &self.list()).finish_non_exhaustive()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn kept(sequence: u64) -> KeptRoot {
		KeptRoot { sequence, cid: Cid::raw([0; 32]), logical_bytes: 0 }
	}

	/// The range that is held if these of the sequences that the chain records are here.
	fn held(recorded: &[u64], present: &[u64]) -> Range<u64> {
		let roots: Vec<_> = recorded.iter().map(|sequence| kept(*sequence)).collect();
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
