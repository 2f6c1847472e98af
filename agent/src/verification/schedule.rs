//! When snapshots are verified without being asked for.

use crate::{
	config::InForce,
	jobs::{Executor, HeldRoot, JobError, LedgerError, now_ms},
	repositories::BlockSource,
	verification::{Depth, Verification, VerificationError, Verifier},
};
use backup_primitives::{Cid, LineageId};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// How long the schedule rests at most when nothing is due.
const REST_MAX: Duration = Duration::from_secs(60);

/// How often snapshots are verified at each depth; `None` for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
	/// Of every snapshot.
	pub presence: Option<Duration>,
	/// Of every snapshot. Blocks that snapshots share are read for each of them.
	pub blocks: Option<Duration>,
	/// Of the newest snapshot of each machine.
	pub drill: Option<Duration>,
}

impl Schedule {
	fn interval(&self, depth: Depth) -> Option<Duration> {
		match depth {
			Depth::Presence => self.presence,
			Depth::Blocks => self.blocks,
			Depth::Drill => self.drill,
		}
	}

	/// How long to rest when nothing is due.
	fn rest(&self) -> Duration {
		let intervals = [self.presence, self.blocks, self.drill];
		intervals.into_iter().flatten().fold(REST_MAX, Duration::min)
	}

	/// What is due: at first snapshots that had lost blocks and are whole again, then what has not
	/// been verified for the longest time. The cheap depths go first.
	fn due(&self, roots: &Roots, results: &[Verification], now_ms: u64) -> Option<(Cid, Depth)> {
		// Noted as lost, it was not whole when it was looked at.
		let is_mended = |result: &&Verification| {
			result.left() > 0
				&& roots.all.iter().any(|root| root.cid == result.root && root.is_whole)
		};
		if let Some(result) = results.iter().filter(is_mended).min_by_key(|result| result.depth) {
			return Some((result.root, result.depth));
		}
		let last: HashMap<_, _> =
			results.iter().map(|result| ((result.root, result.depth), result.at_ms)).collect();
		[Depth::Presence, Depth::Blocks, Depth::Drill].into_iter().find_map(|depth| {
			let interval_ms = u64::try_from(self.interval(depth)?.as_millis()).unwrap_or(u64::MAX);
			let roots = match depth {
				Depth::Presence | Depth::Blocks => &roots.all,
				Depth::Drill => &roots.newest,
			};
			let verified_at = |root: &Root| {
				// A new root was read when it was written: its turn comes an interval later.
				last.get(&(root.cid, depth)).copied().unwrap_or(root.pinned_at_ms)
			};
			let root = roots.iter().min_by_key(|root| verified_at(root))?;
			let is_due = now_ms.saturating_sub(verified_at(root)) >= interval_ms;
			is_due.then_some((root.cid, depth))
		})
	}
}

/// A pinned root.
#[derive(Clone, Copy, Debug)]
struct Root {
	cid: Cid,
	pinned_at_ms: u64,
	/// Whether nothing below it is known to be lost.
	is_whole: bool,
}

/// The roots that are verified.
#[derive(Clone, Debug, Default)]
struct Roots {
	all: Vec<Root>,
	/// Of each machine that is backed up here.
	newest: Vec<Root>,
}

impl Roots {
	fn of(held: Vec<HeldRoot>, is_whole: impl Fn(&Cid) -> bool) -> Self {
		let mut newest: HashMap<LineageId, Root> = HashMap::new();
		let mut all = Vec::with_capacity(held.len());
		for HeldRoot { lineage, cid, pinned_at_ms, copy_for, .. } in held {
			let root = Root { cid, pinned_at_ms, is_whole: is_whole(&cid) };
			all.push(root);
			// No key of this node opens what others sealed.
			if copy_for.is_some() {
				continue;
			}
			let last = newest.entry(lineage).or_insert(root);
			if last.pinned_at_ms < pinned_at_ms {
				*last = root;
			}
		}
		Self { all, newest: newest.into_values().collect() }
	}
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
enum ScheduleError {
	#[error(transparent)]
	Verification(#[from] VerificationError),
	#[error(transparent)]
	Ledger(#[from] LedgerError),
	#[error("the block store cannot be asked: {0}")]
	Store(#[from] JobError),
}

/// Verifies what is due, for ever.
pub async fn run(verifier: Verifier, executor: Arc<dyn Executor>, mut in_force: InForce) {
	loop {
		let schedule = in_force.borrow_and_update().verify;
		let (verifier, executor) = (verifier.clone(), executor.clone());
		let work = move || verify_one(&verifier, executor.as_ref(), &schedule);
		match tokio::task::spawn_blocking(work).await {
			Ok(Ok(true)) => continue,
			// Somebody asked for a verification, which is as good.
			Ok(Ok(false) | Err(ScheduleError::Verification(VerificationError::Busy))) => (),
			Ok(Err(error)) => tracing::warn!(%error, "failed to verify what is due"),
			Err(error) => tracing::error!(%error, "a verification ended badly"),
		}
		tokio::select! {
			() = tokio::time::sleep(schedule.rest()) => (),
			Ok(()) = in_force.changed() => (),
		}
	}
}

/// Verifies what is due most. Says whether anything was.
fn verify_one(
	verifier: &Verifier,
	executor: &dyn Executor,
	schedule: &Schedule,
) -> Result<bool, ScheduleError> {
	let is_whole = |cid: &Cid| verifier.store.has(cid).unwrap_or(false);
	let roots = Roots::of(executor.roots()?, is_whole);
	let is_gone = |cid: &Cid| !verifier.store.is_pinned(cid);
	verifier.ledger.forget_verifications(&is_gone)?;
	let results = verifier.ledger.verifications()?;
	let Some((root, depth)) = schedule.due(&roots, &results, now_ms()) else { return Ok(false) };
	verifier.begin(&[root], depth)?.run(&mut |_| ())?;
	Ok(true)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::verification::{Mending, Verdict};

	const HOUR_MS: u64 = 3_600_000;

	fn cid(tag: u8) -> Cid {
		Cid::dag_cbor([tag; 32])
	}

	fn held(tag: u8, machine: u8, pinned_at_ms: u64) -> HeldRoot {
		let request = backup_primitives::OpaqueId::of(&machine).unwrap();
		let lineage = LineageId { request, salt: [0; 32] };
		HeldRoot { lineage, sequence: tag.into(), cid: cid(tag), pinned_at_ms, copy_for: None }
	}

	fn result(tag: u8, depth: Depth, at_ms: u64) -> Verification {
		let took = Duration::ZERO;
		let (verdict, mending) = (Verdict::Good, Mending::default());
		Verification { root: cid(tag), depth, at_ms, took, blocks: 1, bytes: 1, verdict, mending }
	}

	fn roots_of(held: Vec<HeldRoot>) -> Roots {
		Roots::of(held, |_| true)
	}

	fn hourly(depth: Depth) -> Schedule {
		let hour = |of| (of == depth).then_some(Duration::from_millis(HOUR_MS));
		Schedule {
			presence: hour(Depth::Presence),
			blocks: hour(Depth::Blocks),
			drill: hour(Depth::Drill),
		}
	}

	#[test]
	fn a_root_is_verified_an_interval_after_it_was_pinned() {
		let roots = roots_of(vec![held(1, 1, 1_000)]);
		for depth in [Depth::Presence, Depth::Blocks, Depth::Drill] {
			let schedule = hourly(depth);
			assert_eq!(schedule.due(&roots, &[], 1_000 + HOUR_MS - 1), None);
			assert_eq!(schedule.due(&roots, &[], 1_000 + HOUR_MS), Some((cid(1), depth)));
			let done = [result(1, depth, 2_000)];
			assert_eq!(schedule.due(&roots, &done, 1_000 + HOUR_MS), None);
			assert_eq!(schedule.due(&roots, &done, 2_000 + HOUR_MS), Some((cid(1), depth)));
		}
	}

	#[test]
	fn what_waited_longest_is_verified_first() {
		let roots = roots_of(vec![held(1, 1, 1), held(2, 1, 2), held(3, 1, 3)]);
		let done = [result(1, Depth::Blocks, 50), result(2, Depth::Blocks, 40)];
		let due = |done| hourly(Depth::Blocks).due(&roots, done, HOUR_MS * 9);
		assert_eq!(due(&done), Some((cid(3), Depth::Blocks)));
		let done = [&done[..], &[result(3, Depth::Blocks, 60)]].concat();
		assert_eq!(due(&done), Some((cid(2), Depth::Blocks)));
	}

	#[test]
	fn drills_are_of_the_newest_of_each_machine() {
		let roots = roots_of(vec![held(1, 1, 1), held(2, 1, 5), held(3, 2, 4), held(4, 2, 3)]);
		let mut done = Vec::new();
		for expected in [3, 2] {
			let due = hourly(Depth::Drill).due(&roots, &done, HOUR_MS * 9);
			assert_eq!(due, Some((cid(expected), Depth::Drill)));
			done.push(result(expected, Depth::Drill, HOUR_MS * 9));
		}
		assert_eq!(hourly(Depth::Drill).due(&roots, &done, HOUR_MS * 9), None);
	}

	#[test]
	fn copies_are_verified_and_not_drilled() {
		let copy_for = backup_primitives::OpaqueId::of(&9).ok();
		let roots = roots_of(vec![HeldRoot { copy_for, ..held(1, 1, 1) }]);
		let due = |depth| hourly(depth).due(&roots, &[], HOUR_MS * 9);
		assert_eq!(due(Depth::Blocks), Some((cid(1), Depth::Blocks)));
		assert_eq!(due(Depth::Drill), None);
	}

	#[test]
	fn a_snapshot_that_had_lost_blocks_is_due_as_soon_as_it_is_whole_again() {
		let verdict = Verdict::Bad { missing: 0, corrupt: 1, first: None, detail: String::new() };
		let bad = |is_noted| {
			let mending = Mending { found: 1, is_noted, ..Mending::default() };
			[Verification { verdict: verdict.clone(), mending, ..result(1, Depth::Drill, 5) }]
		};
		let due = |is_whole, is_noted| {
			let roots = Roots::of(vec![held(2, 1, 0), held(1, 1, 1)], |_| is_whole);
			hourly(Depth::Blocks).due(&roots, &bad(is_noted), 6)
		};
		assert_eq!(due(true, true), Some((cid(1), Depth::Drill)));
		assert_eq!(due(false, true), None, "it lacks something still");
		assert_eq!(due(true, false), None, "or it would be looked at for ever");
	}

	#[test]
	fn what_is_switched_off_is_never_due() {
		let roots = roots_of(vec![held(1, 1, 0)]);
		let never = Schedule { presence: None, blocks: None, drill: None };
		assert_eq!(never.due(&roots, &[], u64::MAX), None);
	}
}
