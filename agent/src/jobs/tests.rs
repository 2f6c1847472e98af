use super::{
	fake::{Calls, FakeExecutor, Order, until},
	fixture::*,
	*,
};

/// An agent's jobs, without the agent.
struct Bench {
	jobs: Arc<Jobs>,
	executor: Arc<FakeExecutor>,
	calls: Calls,
	dir: tempfile::TempDir,
}

impl Bench {
	fn new(jobs_max: u32) -> Self {
		Self::start(tempfile::tempdir().unwrap(), jobs_max)
	}

	fn start(dir: tempfile::TempDir, jobs_max: u32) -> Self {
		let (executor, calls) = FakeExecutor::new();
		let executor = Arc::new(executor);
		let ledger = Ledger::open(&dir.path().join("jobs.redb")).unwrap();
		let jobs = Jobs::open(executor.clone(), ledger, jobs_max).unwrap();
		Self { jobs, executor, calls, dir }
	}

	/// Ends the agent in good order and starts it again.
	fn restart(self) -> Self {
		futures::executor::block_on(self.jobs.stop());
		let Self { jobs, dir, .. } = self;
		until("the threads have ended", || Arc::strong_count(&jobs) == 1);
		drop(jobs);
		Self::start(dir, 1)
	}

	fn count(&self, state: &str) -> usize {
		self.jobs.list().iter().filter(|job| job.state == state).count()
	}

	/// The answer once nothing runs any more.
	fn answer(&self, desired: &Desired) -> Achieved {
		until("the jobs have ended", || self.count("running") == 0);
		self.jobs.reconcile(desired)
	}
}

fn order() -> Desired {
	snapshots([snapshot(7, 1, 0)])
}

#[test]
fn an_order_ends_in_a_result_that_is_counted() {
	let bench = Bench::new(2);
	assert!(bench.jobs.reconcile(&order()).snapshots.is_empty());
	let call = bench.calls.next();
	assert_eq!(call.order, Order::Snapshot(snapshot(7, 1, 0)));
	assert_eq!(call.context.clock(), 100);
	bench.jobs.reconcile(&Desired { now: 120, ..nothing() });
	assert_eq!(call.context.clock(), 120);
	call.succeed(Outcome::Taken(taken(1, 100)));
	let results: Vec<_> =
		(0..3).flat_map(|_| bench.answer(&order()).snapshots.into_inner()).collect();
	assert_eq!(results.iter().map(|result| result.handed_out).collect::<Vec<_>>(), [0, 1, 2]);
	assert!(results.iter().all(|result| result.outcome == Ok(taken(1, 100))));
	assert!(bench.calls.is_empty());
}

#[test]
fn a_snapshot_is_told_once_enough_replicas_hold_it() {
	let bench = Bench::new(1);
	bench.executor.is_below_quorum.store(true, Ordering::Relaxed);
	bench.jobs.reconcile(&order());
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	assert!(bench.answer(&order()).snapshots.is_empty());
	assert!(bench.jobs.told_roots().contains(&taken(1, 100).cid), "it is kept meanwhile");
	bench.executor.is_below_quorum.store(false, Ordering::Relaxed);
	let result = bench.answer(&order()).snapshots[0].clone();
	assert_eq!((result.outcome, result.handed_out), (Ok(taken(1, 100)), 0));
	assert!(bench.calls.is_empty(), "it is not taken again");
}

#[test]
fn a_snapshot_that_replicas_took_too_long_for_is_taken_again() {
	let bench = Bench::new(1);
	bench.executor.is_below_quorum.store(true, Ordering::Relaxed);
	bench.jobs.reconcile(&order());
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	let later = SnapshotOrder { oldest_taken_at: 101, ..snapshot(7, 1, 0) };
	assert!(bench.answer(&snapshots([later.clone()])).snapshots.is_empty());
	assert_eq!(bench.calls.next().order, Order::Snapshot(later));
}

#[test]
fn a_failure_is_told_and_the_next_slot_tries_again() {
	let bench = Bench::new(1);
	bench.jobs.reconcile(&order());
	bench.calls.next().fail(FailureReason::VmNotFound);
	let answer = bench.answer(&order());
	assert_eq!(answer.snapshots[0].outcome, Err(FailureReason::VmNotFound));
	let next = snapshots([snapshot(7, 1, 1)]);
	bench.jobs.reconcile(&next);
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	let result = bench.answer(&next).snapshots[0].clone();
	assert_eq!((result.slot, result.handed_out), (1, 0));
}

#[test]
fn a_panic_in_a_job_is_a_failure_of_this_job_only() {
	let bench = Bench::new(2);
	let both = snapshots([snapshot(7, 1, 0), snapshot(8, 1, 0)]);
	bench.jobs.reconcile(&both);
	let calls = [bench.calls.next(), bench.calls.next()];
	for call in calls {
		match &call.order {
			Order::Snapshot(order) if order.lineage == lineage(7) => call.panic(),
			_ => call.succeed(Outcome::Taken(taken(1, 100))),
		}
	}
	let results = bench.answer(&both).snapshots;
	assert_eq!(results[0].outcome, Err(FailureReason::Internal));
	assert_eq!(results[1].outcome, Ok(taken(1, 100)));
}

#[test]
fn boundary_no_more_jobs_run_than_may() {
	let bench = Bench::new(1);
	let both = snapshots([snapshot(7, 1, 0), snapshot(8, 1, 0)]);
	bench.jobs.reconcile(&both);
	let first = bench.calls.next();
	bench.jobs.reconcile(&both);
	assert_eq!(bench.count("running"), 1);
	first.succeed(Outcome::Taken(taken(1, 100)));
	bench.answer(&both);
	assert_eq!(bench.calls.next().order, Order::Snapshot(snapshot(8, 1, 0)));
}

#[test]
fn a_machine_is_read_by_one_job_at_a_time() {
	let bench = Bench::new(2);
	bench.jobs.reconcile(&snapshots([snapshot(7, 1, 0), snapshot(7, 2, 0)]));
	assert_eq!(bench.count("running"), 1);
}

#[test]
fn a_job_that_the_chain_has_gone_past_is_cancelled_and_forgotten() {
	let bench = Bench::new(1);
	bench.jobs.reconcile(&order());
	let call = bench.calls.next();
	bench.jobs.reconcile(&gone_on(7, 2));
	assert!(call.context.cancel.is_cancelled());
	until("the job is gone", || bench.jobs.list().is_empty());
}

#[test]
fn a_restore_answers_its_own_order_only() {
	let bench = Bench::new(1);
	let order = restores([restore(3, 7, 1)]);
	bench.jobs.reconcile(&order);
	bench.calls.next().succeed(Outcome::Restored { path: "/images/a".into() });
	let result = bench.answer(&order).restores[0].clone();
	assert_eq!((result.restore, result.failure, result.handed_out), (3, None, 0));
	// After a re-org the same id may stand for another snapshot.
	let forked = restores([restore(3, 7, 2)]);
	assert!(bench.answer(&forked).restores.is_empty());
	assert_eq!(bench.calls.next().order, Order::Restore(restore(3, 7, 2)));
}

#[test]
fn results_are_there_after_a_start() {
	let bench = Bench::new(1);
	bench.jobs.reconcile(&order());
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	bench.answer(&order());
	let bench = bench.restart();
	let result = bench.answer(&order()).snapshots[0].clone();
	assert_eq!((result.handed_out, result.outcome), (0, Ok(taken(1, 100))));
	assert!(bench.calls.is_empty());
}

#[test]
fn a_job_that_the_end_of_the_agent_cut_short_starts_when_it_is_ordered_again() {
	let bench = Bench::new(1);
	bench.jobs.reconcile(&order());
	let call = bench.calls.next();
	let bench = bench.restart();
	assert!(call.context.cancel.is_cancelled());
	assert!(bench.jobs.list().is_empty() && bench.calls.is_empty());
	bench.jobs.reconcile(&order());
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	assert_eq!(bench.answer(&order()).snapshots[0].outcome, Ok(taken(1, 100)));
}

#[test]
fn a_snapshot_whose_pin_was_lost_is_taken_again() {
	let bench = Bench::new(2);
	bench.jobs.reconcile(&order());
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	assert_eq!(bench.answer(&order()).snapshots.len(), 1);
	bench.executor.lost.lock().unwrap().push(cid(1));
	assert!(bench.jobs.reconcile(&order()).snapshots.is_empty());
	bench.calls.next().succeed(Outcome::Taken(taken(2, 100)));
	let told = bench.answer(&order()).snapshots[0].outcome.clone().unwrap();
	assert_eq!(told.cid, cid(2));
}

#[test]
fn restores_do_not_keep_snapshots_from_being_taken() {
	let bench = Bench::new(1);
	let restores = vec![restore(1, 7, 1), restore(2, 8, 1)];
	let desired = Desired { restores: restores.try_into().unwrap(), ..order() };
	bench.jobs.reconcile(&desired);
	let started = [bench.calls.next(), bench.calls.next()].map(|call| call.order);
	assert!(started.contains(&Order::Restore(restore(1, 7, 1))), "{started:?}");
	assert!(started.contains(&Order::Snapshot(snapshot(7, 1, 0))), "{started:?}");
	assert!(bench.calls.is_empty());
}

#[test]
fn what_became_of_a_machine_s_backups_is_remembered() {
	let bench = Bench::new(1);
	bench.jobs.reconcile(&order());
	let call = bench.calls.next();
	let effort = Effort { read_bytes: 9, ..Effort::default() };
	call.context.effort.set(effort).unwrap();
	call.succeed(Outcome::Taken(taken(1, 100)));
	bench.answer(&order());
	bench.jobs.reconcile(&snapshots([snapshot(7, 2, 1)]));
	bench.calls.next().fail(FailureReason::StoreFull);
	bench.answer(&nothing());
	// One that is cancelled is none of its backups.
	bench.jobs.reconcile(&snapshots([snapshot(7, 3, 2)]));
	bench.calls.next();
	let bench = bench.restart();

	let attempts = bench.jobs.ledger().attempts(0, 9).unwrap();
	let endings: Vec<_> = attempts.into_iter().map(|(_, attempt)| attempt.ending).collect();
	let taken = history::Ending::Taken { snapshot: taken(1, 100), effort, held_bytes: 4096 };
	let failed = history::Ending::Failed {
		reason: FailureReason::StoreFull,
		detail: "as the test wants".into(),
	};
	assert_eq!(endings, [taken, failed.clone()]);
	let machines = bench.jobs.ledger().machines().unwrap();
	assert_eq!(machines["vm-7"].standing_failure().unwrap().ending, failed);
}

#[test]
fn a_machine_waits_from_its_order_until_its_job_begins() {
	let bench = Bench::new(1);
	assert!(bench.jobs.heard().is_none());
	let both = snapshots([snapshot(7, 1, 0), snapshot(8, 1, 0)]);
	bench.jobs.reconcile(&both);
	assert!(bench.jobs.heard().is_some());
	assert_eq!(bench.jobs.waiting(), HashSet::from(["vm-8".to_owned()]));
	bench.calls.next().succeed(Outcome::Taken(taken(1, 100)));
	bench.answer(&both);
	assert!(bench.jobs.waiting().is_empty());
}
