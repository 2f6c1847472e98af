//! The pallet against a model of it: random stories, and after each step both must agree on
//! whether it was allowed and on what is kept.
//!
//! What passed `authorize` is dispatched at once and must succeed ([`submit`] sees to that), what
//! was refused must leave the state as it was, and every invariant holds after every step.

use crate::{BackupHooks, LineageSettings, Lineages, mock::*};
use backup_primitives::{Cid, FailureReason};
use proptest::prelude::*;
use sp_core::storage::StateVersion;
use std::collections::{BTreeMap, VecDeque};

/// Machines by owner.
const MACHINES: [(RequestId, AccountId); 3] = [(7, ALICE), (8, BOB), (9, ALICE)];
const ACCOUNTS: [AccountId; 3] = [ALICE, BOB, CHARLIE];

// The settings of the mock.
const SNAPSHOTS_MAX: usize = 40;
const KEEP: u32 = 3;
const RESTORES_MAX: usize = 2;
const GRANTS_MAX: usize = 2;
const FREQUENCY_MIN: u64 = 10;
const GRACE: u64 = 20;
const RESTORE_LIFETIME: u64 = 50;
const REPORT_DELAY_MAX: u64 = 500;
const TOLERANCE: u64 = 2;
const EVICTIONS: usize = 2;
const DELETIONS: usize = 32;

/// One step of a story. Numbers pick among what there is.
#[derive(Clone, Debug)]
enum Step {
	Pass { blocks: u64 },
	Create { machine: usize },
	Record { machine: usize, age: u64 },
	Fail { machine: usize },
	Ask { machine: usize },
	Restore { who: usize, machine: usize, place: u64 },
	ReportRestore { restore: usize, failed: bool },
	Close { who: usize, restore: usize },
	Grant { machine: usize, to: usize, blocks: Option<u64> },
	Revoke { who: usize, machine: usize, from: usize },
	Settings { machine: usize, keep_last: Option<u32>, paused: bool },
	Frequency { who: usize, blocks: u64 },
	Delete { who: usize },
	ReportDeleted { machine: usize },
}

fn step() -> impl Strategy<Value = Step> {
	let (machine, who) = (0..MACHINES.len(), 0..ACCOUNTS.len());
	let (machine, who) = (move || machine.clone(), move || who.clone());
	prop_oneof![
		6 => (1..60u64).prop_map(|blocks| Step::Pass { blocks }),
		1 => machine().prop_map(|machine| Step::Create { machine }),
		8 => (machine(), 0..4u64).prop_map(|(machine, age)| Step::Record { machine, age }),
		2 => machine().prop_map(|machine| Step::Fail { machine }),
		2 => machine().prop_map(|machine| Step::Ask { machine }),
		3 => (who(), machine(), 0..5u64)
			.prop_map(|(who, machine, place)| Step::Restore { who, machine, place }),
		2 => (0..4usize, any::<bool>())
			.prop_map(|(restore, failed)| Step::ReportRestore { restore, failed }),
		2 => (who(), 0..4usize).prop_map(|(who, restore)| Step::Close { who, restore }),
		2 => (machine(), who(), proptest::option::of(1..80u64))
			.prop_map(|(machine, to, blocks)| Step::Grant { machine, to, blocks }),
		1 => (who(), machine(), who())
			.prop_map(|(who, machine, from)| Step::Revoke { who, machine, from }),
		1 => (machine(), proptest::option::of(0..45u32), any::<bool>()).prop_map(
			|(machine, keep_last, paused)| Step::Settings { machine, keep_last, paused }
		),
		1 => (who(), 5..200u64).prop_map(|(who, blocks)| Step::Frequency { who, blocks }),
		1 => who().prop_map(|who| Step::Delete { who }),
		2 => machine().prop_map(|machine| Step::ReportDeleted { machine }),
	]
}

/// A history as somebody would write it down who need not care for speed.
#[derive(Clone, Debug)]
struct History {
	created_at: u64,
	kept: VecDeque<(u64, Cid)>,
	taken_at: Option<u64>,
	recorded_at: Option<u64>,
	asked_at: Option<u64>,
	/// The slot of the last failure, and when it was told.
	failed: Option<(u64, u64)>,
	keep_last: Option<u32>,
	paused: bool,
	/// Since when, and until when.
	grants: BTreeMap<AccountId, (u64, Option<u64>)>,
}

#[derive(Clone, Debug)]
struct Restore {
	requester: AccountId,
	machine: usize,
	sequence: u64,
	asked_at: u64,
	is_waiting: bool,
}

#[derive(Default)]
struct Model {
	now: u64,
	histories: BTreeMap<usize, History>,
	next: [u64; MACHINES.len()],
	restores: BTreeMap<u64, Restore>,
	restores_begun: u64,
	frequencies: BTreeMap<AccountId, u64>,
	/// When deletions take effect.
	deletions: BTreeMap<AccountId, u64>,
	roots: u64,
}

fn owner(machine: usize) -> AccountId {
	MACHINES[machine].1
}

impl History {
	fn new(created_at: u64) -> Self {
		Self {
			created_at,
			kept: VecDeque::new(),
			taken_at: None,
			recorded_at: None,
			asked_at: None,
			failed: None,
			keep_last: None,
			paused: false,
			grants: BTreeMap::new(),
		}
	}

	fn wish(&self) -> Option<u64> {
		self.asked_at.filter(|asked| self.taken_at.is_none_or(|taken| taken < *asked))
	}

	fn access_since(&self, who: AccountId, now: u64) -> Option<u64> {
		let (since, until) = self.grants.get(&who)?;
		until.is_none_or(|until| now < until).then_some(*since)
	}
}

impl Model {
	fn frequency(&self, machine: usize) -> u64 {
		self.frequencies.get(&owner(machine)).copied().unwrap_or(FREQUENCY)
	}

	fn slot(&self, machine: usize, history: &History) -> u64 {
		let since = history.taken_at.unwrap_or(history.created_at);
		let frequency = self.frequency(machine);
		// Step by step, as the calendar does it.
		let mut start = since;
		while start + frequency <= self.now {
			start += frequency;
		}
		history.wish().map_or(start, |asked| asked.max(start))
	}

	fn is_locked(&self, machine: usize, sequence: u64) -> bool {
		self.restores
			.values()
			.any(|r| r.is_waiting && r.machine == machine && r.sequence == sequence)
	}

	fn has_room(&self, machine: usize, history: &History) -> bool {
		history.kept.len() < SNAPSHOTS_MAX
			|| history.kept.front().is_none_or(|(oldest, _)| !self.is_locked(machine, *oldest))
	}

	fn due_at(&self, machine: usize, history: &History) -> u64 {
		let due_at = match history.taken_at {
			Some(taken) => taken + self.frequency(machine),
			None => history.created_at,
		};
		let due_at = history.wish().map_or(due_at, |asked| asked.min(due_at));
		history.recorded_at.map_or(due_at, |recorded| due_at.max(recorded + FREQUENCY_MIN))
	}

	/// Whether nothing stands in the way of a snapshot but, perhaps, the time.
	fn is_wanted(&self, machine: usize, history: &History) -> bool {
		!history.paused
			&& !self.deletions.contains_key(&owner(machine))
			&& self.has_room(machine, history)
	}

	fn may_record(&self, machine: usize, taken_at: u64) -> bool {
		let Some(history) = self.histories.get(&machine) else { return false };
		let due_at = self.due_at(machine, history);
		let is_newer = match history.taken_at {
			Some(taken) => taken_at > taken,
			None => taken_at >= history.created_at,
		};
		is_newer
			&& taken_at + REPORT_DELAY_MAX >= self.now
			&& taken_at + TOLERANCE >= due_at
			&& self.is_wanted(machine, history)
	}

	fn may_fail(&self, machine: usize, history: &History) -> bool {
		let slot = self.slot(machine, history);
		self.now >= self.due_at(machine, history)
			&& history.failed.is_none_or(|(failed, _)| failed < slot)
			&& self.is_wanted(machine, history)
	}

	fn may_ask(&self, machine: usize, history: &History) -> bool {
		let slot = self.slot(machine, history);
		let failed_at = history.failed.filter(|(failed, _)| *failed >= slot).map(|(_, at)| at);
		let is_awaited = history.taken_at.is_none() || history.wish().is_some();
		let last = [history.taken_at, history.recorded_at, failed_at].into_iter().flatten().max();
		self.is_wanted(machine, history)
			&& (failed_at.is_some() || !is_awaited)
			&& last.is_none_or(|last| self.now >= last + FREQUENCY_MIN)
	}

	fn record(&mut self, machine: usize, taken_at: u64, cid: Cid) {
		let sequence = self.next[machine];
		self.next[machine] += 1;
		let mut history = self.histories.remove(&machine).expect("it may");
		history.kept.push_back((sequence, cid));
		history.taken_at = Some(taken_at);
		history.recorded_at = Some(self.now);
		history.failed = None;
		for _ in 0..EVICTIONS {
			let oldest = history.kept.front().map(|(sequence, _)| *sequence);
			let keep = history.keep_last.unwrap_or(KEEP) as usize;
			if history.kept.len() > keep && oldest.is_some_and(|o| !self.is_locked(machine, o)) {
				history.kept.pop_front();
			}
		}
		self.histories.insert(machine, history);
	}

	fn is_open(&self, restore: &Restore) -> bool {
		let owns = restore.requester == owner(restore.machine);
		let history = self.histories.get(&restore.machine);
		let since = history.and_then(|history| history.access_since(restore.requester, self.now));
		restore.is_waiting
			&& self.now < restore.asked_at + RESTORE_LIFETIME
			&& (owns || since.is_some_and(|since| since <= restore.asked_at))
	}

	fn has_backups(&self, who: AccountId) -> bool {
		self.histories.keys().any(|machine| owner(*machine) == who)
	}

	/// Carry a step out on the chain, and say whether the model allows it.
	fn take(&mut self, step: &Step) -> (bool, bool) {
		match *step {
			Step::Pass { blocks } => {
				run_for(blocks);
				self.now += blocks;
				(true, true)
			}
			Step::Create { machine } => {
				let (request, owner) = MACHINES[machine];
				let expected =
					!self.histories.contains_key(&machine) && !self.deletions.contains_key(&owner);
				if expected {
					self.histories.insert(machine, History::new(self.now));
				}
				(Backup::create_backup(signed(owner), request, None).is_ok(), expected)
			}
			Step::Record { machine, age } => self.take_record(machine, age),
			Step::Fail { machine } => {
				let request = MACHINES[machine].0;
				let Some(history) = self.histories.get(&machine) else { return (true, true) };
				let slot = self.slot(machine, history);
				let expected = self.may_fail(machine, history);
				if expected {
					let now = self.now;
					self.histories.entry(machine).and_modify(|h| h.failed = Some((slot, now)));
				}
				let report = failure_report(request, slot, FailureReason::VmUnreachable);
				(submit(report).is_ok(), expected)
			}
			Step::Ask { machine } => {
				let (request, owner) = MACHINES[machine];
				let expected =
					self.histories.get(&machine).is_some_and(|h| self.may_ask(machine, h));
				if expected {
					let now = self.now;
					self.histories.entry(machine).and_modify(|h| h.asked_at = Some(now));
				}
				(Backup::request_snapshot(signed(owner), request).is_ok(), expected)
			}
			Step::Restore { who, machine, place } => {
				self.take_restore(ACCOUNTS[who], machine, place)
			}
			Step::ReportRestore { restore, failed } => {
				let Some(id) = self.restores.keys().copied().nth(restore) else {
					return (true, true);
				};
				let expected = self.is_open(&self.restores[&id]);
				let failure = failed.then_some(FailureReason::BlockMissing);
				let reported = submit(restore_report(id, failure)).is_ok();
				if expected {
					self.restores.entry(id).and_modify(|restore| restore.is_waiting = false);
				}
				(reported, expected)
			}
			Step::Close { who, restore } => {
				let Some(id) = self.restores.keys().copied().nth(restore) else {
					return (true, true);
				};
				let (who, restore) = (ACCOUNTS[who], self.restores[&id].clone());
				let is_over = self.now >= restore.asked_at + RESTORE_LIFETIME
					|| restore.is_waiting && !self.is_open(&restore);
				let expected = who == restore.requester || who == owner(restore.machine) || is_over;
				if expected {
					self.restores.remove(&id);
				}
				(Backup::close_restore(signed(who), id).is_ok(), expected)
			}
			Step::Grant { machine, to, blocks } => {
				self.take_grant(machine, ACCOUNTS[to], blocks.map(|blocks| self.now + blocks))
			}
			Step::Revoke { who, machine, from } => {
				let (who, from) = (ACCOUNTS[who], ACCOUNTS[from]);
				let (request, owner) = MACHINES[machine];
				let history = self.histories.get_mut(&machine);
				let expected = (who == owner || who == from)
					&& history.is_some_and(|history| history.grants.remove(&from).is_some());
				(Backup::revoke_access(signed(who), request, from).is_ok(), expected)
			}
			Step::Settings { machine, keep_last, paused } => {
				let (request, owner) = MACHINES[machine];
				let in_bounds = keep_last.is_none_or(|n| (1..=SNAPSHOTS_MAX as u32).contains(&n));
				let history = self.histories.get_mut(&machine).filter(|_| in_bounds);
				let expected = history.is_some();
				if let Some(history) = history {
					(history.keep_last, history.paused) = (keep_last, paused);
				}
				let settings = LineageSettings { paused, keep_last };
				(Backup::set_backup_settings(signed(owner), request, settings).is_ok(), expected)
			}
			Step::Frequency { who, blocks } => {
				let who = ACCOUNTS[who];
				let expected = blocks >= FREQUENCY_MIN && self.has_backups(who);
				if expected {
					self.frequencies.insert(who, blocks);
				}
				let set = Backup::set_backup_offchain_worker_frequency(signed(who), blocks);
				(set.is_ok(), expected)
			}
			Step::Delete { who } => {
				let who = ACCOUNTS[who];
				if self.has_backups(who) {
					self.deletions.entry(who).or_insert(self.now + GRACE);
				}
				Backup::deletion_requested(&who);
				(true, true)
			}
			Step::ReportDeleted { machine } => self.take_deletion(machine),
		}
	}

	fn take_record(&mut self, machine: usize, age: u64) -> (bool, bool) {
		let request = MACHINES[machine].0;
		if !self.histories.contains_key(&machine) {
			return (true, true);
		}
		let taken_at = self.now.saturating_sub(age);
		self.roots += 1;
		let mut digest = [0; 32];
		digest[..8].copy_from_slice(&self.roots.to_le_bytes());
		let cid = Cid::dag_cbor(digest);
		let report = snapshot(request, 0).with(|report| {
			report.cid = cid;
			report.claim.taken_at = taken_at;
		});
		let recorded = report.submit().is_ok();
		let expected = self.may_record(machine, taken_at);
		if expected {
			self.record(machine, taken_at, cid);
		}
		(recorded, expected)
	}

	fn take_restore(&mut self, who: AccountId, machine: usize, place: u64) -> (bool, bool) {
		let (request, owner) = MACHINES[machine];
		let history = self.histories.get(&machine);
		let oldest = history.and_then(|history| history.kept.front()).map_or(0, |(at, _)| *at);
		let sequence = oldest + place;
		let open = self.restores.values().filter(|restore| restore.requester == who).count();
		let expected = open < RESTORES_MAX
			&& !self.deletions.contains_key(&owner)
			&& history.is_some_and(|history| {
				(who == owner || history.access_since(who, self.now).is_some())
					&& history.kept.iter().any(|(kept, _)| *kept == sequence)
			});
		if expected {
			let restore =
				Restore { requester: who, machine, sequence, asked_at: self.now, is_waiting: true };
			self.restores.insert(self.restores_begun, restore);
			self.restores_begun += 1;
		}
		(Backup::restore_snapshot(signed(who), request, sequence).is_ok(), expected)
	}

	fn take_grant(&mut self, machine: usize, to: AccountId, until: Option<u64>) -> (bool, bool) {
		let ((request, owner), now) = (MACHINES[machine], self.now);
		let mut expected = false;
		if let Some(history) = self.histories.get_mut(&machine).filter(|_| to != owner) {
			let mut grants = history.grants.clone();
			grants.retain(|_, (_, until)| until.is_none_or(|until| now < until));
			if grants.len() < GRANTS_MAX && !grants.contains_key(&to) {
				grants.insert(to, (now, until));
				history.grants = grants;
				expected = true;
			}
		}
		(Backup::grant_access(signed(owner), request, to, until).is_ok(), expected)
	}

	fn take_deletion(&mut self, machine: usize) -> (bool, bool) {
		let (request, owner) = MACHINES[machine];
		if !self.histories.contains_key(&machine) {
			return (true, true);
		}
		let deleted = submit(deleted_report(request)).is_ok();
		let expected = self.deletions.get(&owner).is_some_and(|at| *at <= self.now);
		if expected {
			let history = self.histories.get_mut(&machine).expect("seen above");
			history.kept.drain(..history.kept.len().min(DELETIONS));
			if history.kept.is_empty() {
				self.histories.remove(&machine);
			}
			if !self.has_backups(owner) {
				self.deletions.remove(&owner);
				self.frequencies.remove(&owner);
			}
		}
		(deleted, expected)
	}

	/// Check that the chain keeps what the model keeps.
	fn compare(&self) {
		for (machine, (request, _)) in MACHINES.iter().enumerate() {
			let found: Vec<_> = Backup::snapshots(*request, 0)
				.into_iter()
				.map(|(sequence, record)| (sequence, record.cid))
				.collect();
			let history = self.histories.get(&machine);
			let expected: Vec<_> = history.iter().flat_map(|h| h.kept.iter().copied()).collect();
			assert_eq!(found, expected, "what request {request} keeps");
			assert_eq!(Lineages::<Test>::contains_key(request), history.is_some());
		}
		let found: Vec<_> = crate::RestoreRequests::<Test>::iter_keys().collect();
		assert_eq!(found.len(), self.restores.len());
	}
}

fn state_root() -> Vec<u8> {
	sp_io::storage::root(StateVersion::V1)
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(48))]

	#[test]
	fn the_pallet_does_what_its_model_does(steps in proptest::collection::vec(step(), 1..150)) {
		story(|| {
			let mut model = Model { now: 1, ..Default::default() };
			for (machine, (request, owner)) in MACHINES.into_iter().enumerate() {
				begin(request, owner);
				model.histories.insert(machine, History::new(1));
			}
			for step in &steps {
				let before = state_root();
				let (done, expected) = model.take(step);
				assert_eq!(done, expected, "{step:?} at block {}", model.now);
				if !done {
					assert_eq!(state_root(), before, "{step:?} was refused and changed the state");
				}
				assert_eq!(Backup::do_try_state(), Ok(()), "after {step:?}");
				model.compare();
			}
		});
	}
}
