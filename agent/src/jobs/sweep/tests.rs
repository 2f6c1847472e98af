use super::*;
use crate::{
	chain::FinalizedView,
	jobs::{
		Ledger, Outcome,
		fake::{Act, Calls, FakeExecutor, Order, until},
		fixture::*,
	},
	peers::pass::AnyReader,
};
use backup_primitives::{
	BlockRef, KeptRoot, OpaqueId, Recipient, RecordedRoot,
	job::{Desired, Sources},
};
use futures::future::BoxFuture;
use std::{
	collections::BTreeMap,
	sync::{
		Mutex,
		atomic::{AtomicBool, AtomicU64, Ordering},
	},
};

const GRACE: Duration = Duration::from_secs(3600);

/// A chain whose finalized state a test decides.
#[derive(Clone, Debug, Default)]
struct FakeChain(Arc<Facade>);

#[derive(Debug, Default)]
struct Facade {
	number: AtomicU64,
	statuses: Mutex<BTreeMap<Cid, RootStatus>>,
	/// Whether it answers one question only.
	is_failing: AtomicBool,
	asked: AtomicU64,
	/// What it wants the node to hold, and any other.
	recorded: Mutex<Vec<RecordedRoot>>,
	recorded_for_other: Mutex<Vec<RecordedRoot>>,
	/// The nodes that hold copies.
	holders: Mutex<Vec<OpaqueId>>,
}

impl FinalizedChain for FakeChain {
	fn finalized(&self) -> BoxFuture<'_, Result<Box<dyn FinalizedView>, ChainError>> {
		Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn FinalizedView>) })
	}
}

impl FinalizedView for FakeChain {
	fn number(&self) -> u64 {
		self.0.number.load(Ordering::Relaxed)
	}

	fn root_status<'a>(
		&'a self,
		root: &'a HeldRoot,
	) -> BoxFuture<'a, Result<RootStatus, ChainError>> {
		Box::pin(async {
			let asked = self.0.asked.fetch_add(1, Ordering::Relaxed);
			if self.0.is_failing.load(Ordering::Relaxed) && asked > 0 {
				return Err(ChainError::Answer { method: "state_call" });
			}
			let statuses = self.0.statuses.lock().unwrap();
			Ok(statuses.get(&root.cid).copied().unwrap_or(RootStatus::Unknown))
		})
	}

	fn roots_of_node<'a>(
		&'a self,
		node: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Vec<RecordedRoot>, ChainError>> {
		let is_first = *node == nothing().node;
		let (first, second) = (&self.0.recorded, &self.0.recorded_for_other);
		let recorded = if is_first { first } else { second };
		Box::pin(async { Ok(recorded.lock().unwrap().clone()) })
	}

	fn roots_of_request<'a>(
		&'a self,
		_: &'a LineageId,
	) -> BoxFuture<'a, Result<Vec<KeptRoot>, ChainError>> {
		unimplemented!("a sweep asks about roots that are here")
	}

	fn sources_of_request<'a>(
		&'a self,
		_: &'a OpaqueId,
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Sources, ChainError>> {
		unimplemented!("a sweep fetches nothing")
	}

	fn keeps_copies<'a>(
		&'a self,
		node: &'a OpaqueId,
		_: &'a OpaqueId,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		Box::pin(async { Ok(self.0.holders.lock().unwrap().contains(node)) })
	}

	fn is_reader<'a>(
		&'a self,
		_: &'a AnyReader,
		_: &'a Recipient,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		unimplemented!("a sweep serves nobody")
	}
}

struct Bench {
	jobs: Arc<Jobs>,
	executor: Arc<FakeExecutor>,
	calls: Calls,
	chain: FakeChain,
	grace: Duration,
	memory: Memory,
	_dir: tempfile::TempDir,
}

impl Bench {
	/// An agent that holds these roots of lineage 7, of which the chain says this. Workers run
	/// on block 100, which is final.
	fn new(roots: impl IntoIterator<Item = (u64, RootStatus)>) -> Self {
		let dir = tempfile::tempdir().unwrap();
		let (executor, calls) = FakeExecutor::new();
		let executor = Arc::new(executor);
		let ledger = Ledger::open(&dir.path().join("jobs.redb")).unwrap();
		let jobs = Jobs::open(executor.clone(), ledger, 2).unwrap();
		let chain = FakeChain::default();
		for (sequence, status) in roots {
			executor.roots.lock().unwrap().push(root(sequence));
			chain.0.statuses.lock().unwrap().insert(root(sequence).cid, status);
		}
		chain.0.number.store(100, Ordering::Relaxed);
		jobs.reconcile(&nothing());
		let memory = Memory::default();
		Self { jobs, executor, calls, chain, grace: GRACE, memory, _dir: dir }
	}

	fn set_status(&self, sequence: u64, status: RootStatus) {
		self.chain.0.statuses.lock().unwrap().insert(root(sequence).cid, status);
	}

	/// The deletions that are told to be done.
	fn deleted(&self, desired: &Desired) -> Vec<u64> {
		let achieved = self.jobs.reconcile(desired);
		achieved.deletions.iter().map(|result| result.until).collect()
	}

	async fn sweep(&mut self) -> Result<Vec<Act>, SweepError> {
		let options = SweepOptions { interval: GRACE, unknown_grace: self.grace };
		sweep(&self.jobs, &self.chain, &options, &mut self.memory).await?;
		Ok(self.executor.take_acts())
	}

	async fn acts(&mut self) -> Vec<Act> {
		self.sweep().await.unwrap()
	}
}

fn root(sequence: u64) -> HeldRoot {
	let cid = cid(sequence as u8);
	HeldRoot { lineage: lineage(7), sequence, cid, pinned_at_ms: 0, copy_for: None }
}

fn gone(sequences: impl IntoIterator<Item = u64>) -> Vec<Act> {
	let unpinned = sequences.into_iter().map(|sequence| Act::Unpinned(root(sequence)));
	unpinned.chain([Act::Collected]).collect()
}

use RootStatus::{Deleted, Evicted, Pending, Retained, Unknown};

#[test]
fn what_the_chain_retains_or_waits_for_stays() {
	let facts = Facts { unknown_for: Some(GRACE), is_lineage_deleted: true, ..Facts::default() };
	assert!(!is_to_go(Retained, &facts, GRACE));
	assert!(!is_to_go(Pending, &facts, GRACE));
}

#[test]
fn boundary_what_the_chain_does_not_know_goes_after_its_grace_period() {
	let facts = Facts { unknown_for: Some(GRACE), ..Facts::default() };
	let almost = Facts { unknown_for: Some(GRACE - Duration::from_millis(1)), ..facts };
	assert!(!is_to_go(Unknown, &almost, GRACE));
	assert!(is_to_go(Unknown, &facts, GRACE));
	assert!(!is_to_go(Unknown, &Facts { is_lineage_used: true, ..facts }, GRACE));
}

#[tokio::test]
async fn only_what_the_finalized_chain_let_go_is_given_up() {
	let mut bench =
		Bench::new([(1, Evicted), (2, Deleted), (3, Retained), (4, Pending), (5, Unknown)]);
	assert_eq!(bench.acts().await, gone([1, 2]));
	assert_eq!(bench.acts().await, []);
}

#[tokio::test]
async fn a_copy_goes_when_the_chain_has_given_it_to_another_node() {
	let mut bench = Bench::new([(1, Retained), (2, Retained)]);
	let holder = OpaqueId::of(&9u32).unwrap();
	bench.executor.roots.lock().unwrap()[0].copy_for = Some(holder.clone());
	bench.chain.0.holders.lock().unwrap().push(holder);
	assert_eq!(bench.acts().await, []);
	bench.chain.0.holders.lock().unwrap().clear();
	let acts = bench.acts().await;
	assert!(matches!(&acts[..], [Act::Unpinned(root), Act::Collected] if root.sequence == 1));
}

#[tokio::test]
async fn a_deletion_is_told_when_all_its_roots_are_gone_and_collected() {
	let mut bench = Bench::new([(1, Deleted), (2, Retained), (3, Pending)]);
	let order = deletion(7, 3);
	assert!(bench.deleted(&order).is_empty());
	assert_eq!(bench.acts().await, gone([1]));
	assert!(bench.deleted(&order).is_empty());
	bench.set_status(2, Deleted);
	assert_eq!(bench.acts().await, gone([2]));
	assert_eq!(bench.deleted(&order), [3]);
}

/// With its root, what is left of a snapshot could still be opened.
#[tokio::test]
async fn a_deletion_waits_while_a_root_that_was_given_up_may_be_left() {
	let mut bench = Bench::new([(1, Deleted)]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.executor.has_left_roots.store(true, Ordering::Relaxed);
	assert_eq!(bench.acts().await, gone([1]));
	assert!(bench.deleted(&order).is_empty());
	bench.executor.has_left_roots.store(false, Ordering::Relaxed);
	assert_eq!(bench.acts().await, gone([]));
	assert_eq!(bench.deleted(&order), [3]);
}

/// Cause: damage left garbage, and an open deletion has sweeps come every two seconds. Effect: all
/// nodes of the store were read every two seconds.
#[tokio::test]
async fn what_damage_keeps_is_not_looked_at_anew_until_there_is_a_reason() {
	let mut bench = Bench::new([(1, Retained)]);
	bench.executor.has_garbage.store(true, Ordering::Relaxed);
	bench.executor.is_obstructed.store(true, Ordering::Relaxed);
	let order = deletion(7, 3);
	bench.deleted(&order);
	assert_eq!(bench.acts().await, gone([]));
	assert_eq!(bench.acts().await, []);
	bench.set_status(1, Deleted);
	assert_eq!(bench.acts().await, gone([1]));
	assert_eq!(bench.deleted(&order), [3], "damage elsewhere holds no deletion");
	assert_eq!(bench.acts().await, []);
	bench.memory.obstructed_at = Instant::now().checked_sub(GRACE);
	assert_eq!(bench.acts().await, gone([]));
}

#[tokio::test]
async fn a_deletion_of_what_is_not_held_any_more_still_collects() {
	let mut bench = Bench::new([]);
	bench.executor.has_garbage.store(true, Ordering::Relaxed);
	let order = deletion(7, 3);
	assert!(bench.deleted(&order).is_empty());
	assert_eq!(bench.acts().await, gone([]));
	assert_eq!(bench.deleted(&order), [3]);
	assert_eq!(bench.acts().await, []);
}

#[tokio::test]
async fn a_root_that_was_never_recorded_goes_with_its_lineage() {
	let mut bench = Bench::new([(1, Deleted), (2, Unknown), (5, Unknown)]);
	bench.deleted(&deletion(7, 3));
	assert_eq!(bench.acts().await, gone([1, 2]));
}

#[tokio::test]
async fn a_root_that_cannot_be_given_up_holds_its_deletion_only() {
	let mut bench = Bench::new([(1, Deleted)]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.executor.is_stuck.store(true, Ordering::Relaxed);
	assert_eq!(bench.acts().await, []);
	assert!(bench.deleted(&order).is_empty());
	bench.executor.is_stuck.store(false, Ordering::Relaxed);
	assert_eq!(bench.acts().await, gone([1]));
	assert_eq!(bench.deleted(&order), [3]);
}

#[tokio::test]
async fn an_unknown_root_waits_anew_after_it_was_known() {
	let mut bench = Bench::new([(1, Unknown)]);
	bench.acts().await;
	assert_eq!(bench.memory.unsettled.len(), 1);
	bench.set_status(1, Retained);
	bench.acts().await;
	assert!(bench.memory.unsettled.is_empty());
	bench.set_status(1, Unknown);
	bench.grace = Duration::ZERO;
	assert_eq!(bench.acts().await, gone([1]));
}

#[tokio::test]
async fn roots_of_running_jobs_stay() {
	let mut bench = Bench::new([(1, Evicted), (2, Evicted), (3, Unknown)]);
	bench.grace = Duration::ZERO;
	bench.jobs.reconcile(&restores([restore(1, 7, 1)]));
	let call = bench.calls.next();
	assert_eq!(bench.acts().await, gone([2]));
	call.succeed(Outcome::Restored { path: "/image".into() });
	until("the restore has ended", || !bench.jobs.is_running(&lineage(7)));
	assert_eq!(bench.acts().await, gone([1, 3]));
}

#[tokio::test]
async fn an_error_in_mid_sweep_destroys_nothing() {
	let mut bench = Bench::new([(1, Evicted), (2, Evicted)]);
	bench.chain.0.is_failing.store(true, Ordering::Relaxed);
	let error = bench.sweep().await.unwrap_err();
	assert!(matches!(error, SweepError::Chain(ChainError::Answer { .. })), "{error}");
	assert_eq!(bench.executor.take_acts(), []);
}

#[tokio::test]
async fn a_node_that_lost_its_database_is_not_believed() {
	let mut bench = Bench::new([(1, Retained)]);
	bench.acts().await;
	bench.chain.0.number.store(99, Ordering::Relaxed);
	bench.set_status(1, Evicted);
	let error = bench.sweep().await.unwrap_err();
	let is_behind = matches!(error, SweepError::Chain(ChainError::Behind { found: 99, seen: 100 }));
	assert!(is_behind, "{error}");
	assert_eq!(bench.executor.take_acts(), []);
}

#[tokio::test]
async fn pins_that_may_be_lost_are_made_from_what_the_chain_records() {
	let mut bench = Bench::new([]);
	let recorded = |seed| RecordedRoot { lineage: lineage(7), sequence: 1, cid: cid(seed) };
	bench.chain.0.recorded.lock().unwrap().push(recorded(1));
	bench.chain.0.recorded_for_other.lock().unwrap().push(recorded(2));
	bench.executor.is_unconfirmed.store(true, Ordering::Relaxed);
	bench.executor.has_garbage.store(true, Ordering::Relaxed);
	let error = bench.sweep().await.unwrap_err();
	assert!(matches!(error, SweepError::Chain(ChainError::Unbound)), "{error}");
	// The keystore holds the key of another node, too.
	let other = OpaqueId::of(&2u32).unwrap();
	bench.jobs.reconcile(&Desired { node: other, ..nothing() });
	bench.jobs.reconcile(&nothing());
	let both = vec![recorded(1), recorded(2)];
	assert_eq!(bench.acts().await, [Act::Confirmed(both), Act::Collected]);
	assert_eq!(bench.acts().await, []);
}

/// A root of which nothing is known cannot be pinned, and what hangs below it is not to be freed.
#[tokio::test]
async fn nothing_is_collected_and_no_deletion_told_while_pins_cannot_be_confirmed() {
	let mut bench = Bench::new([(1, Deleted)]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.executor.is_unconfirmed.store(true, Ordering::Relaxed);
	bench.executor.waits_for_packs.store(true, Ordering::Relaxed);
	let acts = bench.acts().await;
	assert!(matches!(&acts[..], [Act::Confirmed(_), Act::Unpinned(_)]), "{acts:?}");
	assert!(bench.deleted(&order).is_empty());
	bench.executor.waits_for_packs.store(false, Ordering::Relaxed);
	assert_eq!(bench.acts().await, [Act::Confirmed(Vec::new()), Act::Collected]);
	assert_eq!(bench.deleted(&order), [3]);
}

#[tokio::test]
async fn what_a_failed_job_left_is_collected() {
	let mut bench = Bench::new([(1, Retained)]);
	bench.executor.has_garbage.store(true, Ordering::Relaxed);
	assert_eq!(bench.acts().await, [Act::Collected]);
	assert_eq!(bench.acts().await, []);
}

#[tokio::test]
async fn an_unknown_root_stays_while_finality_lags() {
	let mut bench = Bench::new([(1, Unknown)]);
	bench.grace = Duration::ZERO;
	bench.jobs.reconcile(&Desired { at: BlockRef { number: 103, ..nothing().at }, ..nothing() });
	for number in [100, 102] {
		bench.chain.0.number.store(number, Ordering::Relaxed);
		assert_eq!(bench.acts().await, [], "block 103 may know it");
	}
	bench.chain.0.number.store(103, Ordering::Relaxed);
	assert_eq!(bench.acts().await, gone([1]));
}

#[tokio::test]
async fn a_root_that_is_told_to_workers_stays_until_the_chain_has_gone_on() {
	let mut bench = Bench::new([(1, Unknown)]);
	bench.grace = Duration::ZERO;
	take(&bench, 1);
	assert_eq!(bench.acts().await, [], "it may be recorded at any time");
	bench.jobs.reconcile(&gone_on(7, 2));
	assert_eq!(bench.acts().await, gone([1]));
}

#[tokio::test]
async fn of_two_roots_for_one_place_the_older_goes() {
	let mut bench = Bench::new([(1, Pending)]);
	let newer = HeldRoot { cid: cid(99), pinned_at_ms: 1, ..root(1) };
	bench.executor.roots.lock().unwrap().push(newer.clone());
	bench.chain.0.statuses.lock().unwrap().insert(newer.cid, Pending);
	assert_eq!(bench.acts().await, [], "its report may be on its way");
	bench.grace = Duration::ZERO;
	assert_eq!(bench.acts().await, gone([1]));
	assert_eq!(bench.acts().await, []);
}

#[tokio::test]
async fn a_root_that_was_given_up_is_told_no_more() {
	let mut bench = Bench::new([(1, Pending)]);
	take(&bench, 1);
	let order = snapshots([snapshot(7, 1, 0)]);
	assert_eq!(bench.jobs.reconcile(&order).snapshots.len(), 1);
	bench.set_status(1, Deleted);
	assert_eq!(bench.acts().await, gone([1]));
	assert!(bench.jobs.reconcile(&order).snapshots.is_empty());
	assert_eq!(bench.calls.next().order, Order::Snapshot(snapshot(7, 1, 0)));
}

#[tokio::test]
async fn a_root_that_is_pinned_in_mid_sweep_holds_its_deletion() {
	let mut bench = Bench::new([]);
	// The deletion cancels the job when it is about to end well.
	bench.executor.is_deaf.store(true, Ordering::Relaxed);
	bench.jobs.reconcile(&snapshots([snapshot(7, 1, 0)]));
	let call = bench.calls.next();
	let order = deletion(7, 3);
	bench.deleted(&order);
	let (jobs, executor) = (bench.jobs.clone(), bench.executor.clone());
	bench.executor.meanwhile.lock().unwrap().replace(Box::new(move || {
		executor.roots.lock().unwrap().push(root(1));
		call.succeed(Outcome::Taken(taken(1, 100)));
		until("the job has ended", || !jobs.is_running(&lineage(7)));
	}));
	bench.set_status(1, Deleted);
	bench.acts().await;
	assert!(bench.deleted(&order).is_empty());
	assert_eq!(bench.acts().await, gone([1]));
	assert_eq!(bench.deleted(&order), [3]);
}

#[tokio::test]
async fn nothing_is_collected_and_no_deletion_told_while_copies_wait_to_be_gone_on_with() {
	let mut bench = Bench::new([(1, Deleted)]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.executor.has_unfinished_copies.store(true, Ordering::Relaxed);
	let acts = bench.acts().await;
	assert!(matches!(&acts[..], [Act::Unpinned(_)]), "{acts:?}");
	assert!(bench.deleted(&order).is_empty());
	bench.executor.has_unfinished_copies.store(false, Ordering::Relaxed);
	assert_eq!(bench.acts().await, [Act::Collected]);
	assert_eq!(bench.deleted(&order), [3]);
}

#[tokio::test]
async fn what_replicas_alone_hold_is_given_up_by_the_same_rules_and_holds_its_deletion() {
	let mut bench = Bench::new([]);
	bench.executor.roots_elsewhere.lock().unwrap().extend([root(1), root(2), root(3)]);
	bench.set_status(1, Retained);
	bench.set_status(2, Deleted);
	let order = deletion(7, 3);
	bench.deleted(&order);
	assert_eq!(bench.acts().await, gone([2]));
	assert!(bench.deleted(&order).is_empty(), "the first one is there, and recorded");
	bench.set_status(1, Deleted);
	assert_eq!(bench.acts().await, gone([1]));
	assert_eq!(bench.deleted(&order), [3]);
}

#[tokio::test]
async fn a_root_that_is_here_and_at_a_replica_is_given_up_once() {
	let mut bench = Bench::new([(1, Evicted)]);
	let there = HeldRoot { pinned_at_ms: 9, ..root(1) };
	bench.executor.roots_elsewhere.lock().unwrap().push(there);
	assert_eq!(bench.acts().await, gone([1]));
}

#[tokio::test]
async fn what_is_forged_of_a_root_at_a_replica_does_not_take_it_away() {
	let mut bench = Bench::new([]);
	let forged = HeldRoot { copy_for: Some(OpaqueId::of(&99u32).unwrap()), ..root(1) };
	bench.executor.roots_elsewhere.lock().unwrap().extend([root(1), forged.clone()]);
	bench.set_status(1, Retained);
	assert_eq!(bench.acts().await, []);
	bench.executor.roots_elsewhere.lock().unwrap().retain(|root| *root == forged);
	let acts = bench.acts().await;
	assert!(
		acts.contains(&Act::Unpinned(forged)),
		"alone it is a copy that is not for us: {acts:?}"
	);
}

#[tokio::test]
async fn a_deletion_waits_for_what_is_being_fetched() {
	let mut bench = Bench::new([]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.executor.is_fetching.store(true, Ordering::Relaxed);
	bench.acts().await;
	assert!(bench.deleted(&order).is_empty());
	bench.executor.is_fetching.store(false, Ordering::Relaxed);
	bench.acts().await;
	assert_eq!(bench.deleted(&order), [3]);
}

/// Has the agent take a snapshot of lineage 7.
fn take(bench: &Bench, sequence: u64) {
	bench.jobs.reconcile(&snapshots([snapshot(7, sequence, 0)]));
	bench.calls.next().succeed(Outcome::Taken(taken(sequence as u8, 100)));
	until("the snapshot is taken", || !bench.jobs.is_running(&lineage(7)));
}

#[tokio::test]
async fn a_deletion_is_minded_while_workers_order_other_pages() {
	let mut bench = Bench::new([(1, Retained)]);
	let order = deletion(7, 3);
	bench.deleted(&order);
	bench.set_status(1, Deleted);
	bench.deleted(&nothing());
	assert_eq!(bench.acts().await, gone([1]));
	bench.deleted(&nothing());
	assert_eq!(bench.deleted(&order), [3]);
	// Its lineage is on the page, and no deletion of it: it was cancelled.
	bench.deleted(&gone_on(7, 3));
	assert!(bench.jobs.open_deletions().is_empty());
	assert!(bench.deleted(&order).is_empty(), "a new one is looked at anew");
}

#[tokio::test]
async fn a_root_that_no_worker_asks_for_any_more_goes_in_the_end() {
	let mut bench = Bench::new([(1, Unknown)]);
	bench.grace = Duration::ZERO;
	take(&bench, 1);
	let go_on_to = |bench: &Bench, number| {
		bench.chain.0.number.store(number, Ordering::Relaxed);
		bench.jobs.reconcile(&Desired { at: BlockRef { number, ..nothing().at }, ..nothing() });
	};
	for number in [100, 612] {
		go_on_to(&bench, number);
		assert_eq!(bench.acts().await, [], "at block {number}");
	}
	go_on_to(&bench, 613);
	assert_eq!(bench.acts().await, gone([1]));
}
