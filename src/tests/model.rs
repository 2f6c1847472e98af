//! The pallet against a model of it: random stories, and after each step both must agree on
//! whether it was allowed and on what is kept.
//!
//! What passed `authorize` is dispatched at once and must succeed ([`submit`] sees to that), what
//! was refused must leave the state as it was, and every invariant holds after every step.

use crate::{BackupHooks, ChainSettings, DeletionTarget, LineageSettings, Lineages, mock::*};
use backup_primitives::{Cid, FailureReason};
use frame_support::{assert_ok, traits::Hooks, weights::Weight};
use proptest::prelude::*;
use sp_core::storage::StateVersion;
use std::collections::{BTreeMap, BTreeSet};

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
const DEADLINE: u64 = 30;
const HOLDS_MAX: usize = 6;
const RESTORE_LIFETIME: u64 = 50;
const REPORT_DELAY_MAX: u64 = 500;
const TOLERANCE: u64 = 2;
const EVICTIONS: usize = 2;
const EVICTION_STEPS: u64 = 4;
const PRUNED_MAX: u32 = 64;
const DELETIONS: usize = 32;

/// How old a snapshot must be to be evicted; the story begins with it.
const AGE_MIN: u64 = 25;

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
	Hold { holder: Holder, machine: usize, place: u64 },
	Release { holder: Holder, machine: usize, place: u64 },
	Prune { machine: usize, limit: u32 },
	Delete { target: Target },
	Cancel { holder: Holder, target: Target },
	ReportDeleted { machine: usize },
	CloseLate { machine: usize, place: Option<u64> },
	Move { machine: usize, away: bool },
	Idle,
}

/// Who speaks: governance, or one of the accounts.
type Holder = Option<usize>;

/// What is deleted.
#[derive(Clone, Copy, Debug)]
enum Target {
	Account(usize),
	Machine(usize),
	Snapshot(usize, u64),
}

fn target() -> impl Strategy<Value = Target> {
	let machine = 0..MACHINES.len();
	prop_oneof![
		1 => (0..ACCOUNTS.len()).prop_map(Target::Account),
		1 => machine.clone().prop_map(Target::Machine),
		2 => (machine, 0..5u64).prop_map(|(machine, place)| Target::Snapshot(machine, place)),
	]
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
		2 => (proptest::option::weighted(0.7, who()), machine(), 0..5u64)
			.prop_map(|(holder, machine, place)| Step::Hold { holder, machine, place }),
		2 => (proptest::option::weighted(0.7, who()), machine(), 0..5u64)
			.prop_map(|(holder, machine, place)| Step::Release { holder, machine, place }),
		1 => (machine(), 0..70u32).prop_map(|(machine, limit)| Step::Prune { machine, limit }),
		2 => target().prop_map(|target| Step::Delete { target }),
		1 => (proptest::option::weighted(0.7, who()), target())
			.prop_map(|(holder, target)| Step::Cancel { holder, target }),
		2 => machine().prop_map(|machine| Step::ReportDeleted { machine }),
		2 => (machine(), proptest::option::weighted(0.7, 0..5u64))
			.prop_map(|(machine, place)| Step::CloseLate { machine, place }),
		1 => (machine(), any::<bool>()).prop_map(|(machine, away)| Step::Move { machine, away }),
		2 => Just(Step::Idle),
	]
}

/// A history as somebody would write it down who need not care for speed.
#[derive(Clone, Debug)]
struct History {
	created_at: u64,
	/// By sequence: root, and when it was recorded.
	kept: BTreeMap<u64, (Cid, u64)>,
	/// Where eviction goes on.
	evict_from: u64,
	owner_holds: BTreeSet<u64>,
	governance_holds: BTreeSet<u64>,
	delete_at: Option<u64>,
	/// Snapshots that are to be deleted, and when.
	dooms: BTreeMap<u64, u64>,
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
	/// Machines that run on the other node.
	is_away: [bool; MACHINES.len()],
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
	fn new(created_at: u64, first: u64) -> Self {
		Self {
			created_at,
			kept: BTreeMap::new(),
			evict_from: first,
			owner_holds: BTreeSet::new(),
			governance_holds: BTreeSet::new(),
			delete_at: None,
			dooms: BTreeMap::new(),
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

	/// The sequence that a step means.
	fn place(&self, place: u64) -> u64 {
		self.kept.keys().next().map_or(0, |oldest| *oldest) + place
	}

	fn remove(&mut self, sequence: u64) {
		self.kept.remove(&sequence);
		self.owner_holds.remove(&sequence);
		self.dooms.remove(&sequence);
	}

	/// Whether a snapshot's own deletion may be carried out.
	fn is_doomed(&self, sequence: u64, now: u64) -> bool {
		self.dooms.get(&sequence).is_some_and(|at| *at <= now)
			&& !self.governance_holds.contains(&sequence)
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

	fn is_locked(&self, machine: usize, sequence: u64, history: &History) -> bool {
		history.owner_holds.contains(&sequence)
			|| history.governance_holds.contains(&sequence)
			|| self
				.restores
				.values()
				.any(|r| r.is_waiting && r.machine == machine && r.sequence == sequence)
	}

	/// Something was let go: eviction looks at it again if nothing else keeps it.
	fn unlock(&mut self, machine: usize, sequence: u64) {
		let Some(mut history) = self.histories.remove(&machine) else { return };
		if history.kept.contains_key(&sequence) && !self.is_locked(machine, sequence, &history) {
			history.evict_from = history.evict_from.min(sequence);
		}
		self.histories.insert(machine, history);
	}

	fn deletion_of(&self, machine: usize, history: &History) -> Option<u64> {
		let of_account = self.deletions.get(&owner(machine)).copied();
		of_account.into_iter().chain(history.delete_at).min()
	}

	fn is_deletion_due(&self, machine: usize) -> bool {
		self.histories.get(&machine).is_some_and(|history| {
			history.governance_holds.is_empty()
				&& self.deletion_of(machine, history).is_some_and(|at| at <= self.now)
		})
	}

	/// Evict from a history, and say how many went.
	fn evict(&self, machine: usize, history: &mut History, limit: usize, steps: u64) -> usize {
		let newest = self.next[machine].saturating_sub(1);
		let end = newest.min(history.evict_from + steps);
		let keep = history.keep_last.unwrap_or(KEEP) as usize;
		let mut evicted = 0;
		while evicted < limit && history.evict_from < end && history.kept.len() > keep {
			let sequence = history.evict_from;
			if let Some((_, recorded_at)) = history.kept.get(&sequence)
				&& !self.is_locked(machine, sequence, history)
			{
				let is_young = recorded_at + AGE_MIN > self.now;
				if is_young && history.kept.len() <= SNAPSHOTS_MAX {
					break;
				}
				history.remove(sequence);
				evicted += 1;
			}
			history.evict_from += 1;
		}
		evicted
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
			&& self.deletion_of(machine, history).is_none()
			&& history.kept.len() <= SNAPSHOTS_MAX
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
		history.kept.insert(sequence, (cid, self.now));
		history.taken_at = Some(taken_at);
		history.recorded_at = Some(self.now);
		history.failed = None;
		self.evict(machine, &mut history, EVICTIONS, EVICTION_STEPS);
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

	/// Whether everyone may take the record of a restore away.
	fn is_over(&self, restore: &Restore) -> bool {
		self.now >= restore.asked_at + RESTORE_LIFETIME
			|| restore.is_waiting && !self.is_open(restore)
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
					self.histories.insert(machine, History::new(self.now, self.next[machine]));
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
					let Restore { machine, sequence, .. } = self.restores[&id];
					self.unlock(machine, sequence);
				}
				(reported, expected)
			}
			Step::Close { who, restore } => {
				let Some(id) = self.restores.keys().copied().nth(restore) else {
					return (true, true);
				};
				let (who, restore) = (ACCOUNTS[who], self.restores[&id].clone());
				let expected = who == restore.requester
					|| who == owner(restore.machine)
					|| self.is_over(&restore);
				if expected {
					self.restores.remove(&id);
					self.unlock(restore.machine, restore.sequence);
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
			Step::Hold { holder, machine, place } => self.take_hold(holder, machine, place),
			Step::Release { holder, machine, place } => self.take_release(holder, machine, place),
			Step::Prune { machine, limit } => {
				let mut expected = false;
				if let Some(mut history) = self.histories.remove(&machine) {
					let before = history.clone();
					let looked_at = limit.min(PRUNED_MAX);
					self.evict(machine, &mut history, looked_at as usize, looked_at.into());
					expected = history.evict_from > before.evict_from && !history.paused;
					self.histories.insert(machine, if expected { history } else { before });
				}
				(Backup::prune(signed(CHARLIE), MACHINES[machine].0, limit).is_ok(), expected)
			}
			Step::Delete { target } => self.take_delete(target),
			Step::Cancel { holder, target } => self.take_cancel(holder, target),
			Step::ReportDeleted { machine } => {
				if !self.histories.contains_key(&machine) {
					return (true, true);
				}
				let expected = self.is_deletion_due(machine);
				let deleted = submit(deleted_report(MACHINES[machine].0)).is_ok();
				if expected {
					self.take_records(machine);
				}
				(deleted, expected)
			}
			Step::CloseLate { machine, place } => self.take_close_late(machine, place),
			Step::Move { machine, away } => {
				let (request, owner) = MACHINES[machine];
				World::move_to(request, if away { OTHER_NODE } else { NODE });
				let has_moved = core::mem::replace(&mut self.is_away[machine], away) != away;
				match self.histories.get_mut(&machine) {
					Some(history) if has_moved => history.failed = None,
					Some(_) => (),
					// Its owner has backups enabled.
					None if self.deletions.contains_key(&owner) => (),
					None => {
						let history = History::new(self.now, self.next[machine]);
						self.histories.insert(machine, history);
					}
				}
				(true, true)
			}
			Step::Idle => {
				Backup::on_idle(self.now, Weight::MAX);
				self.follow_idle();
				(true, true)
			}
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
		let sequence = history.map_or(0, |history| history.place(place));
		let open = self.restores.values().filter(|restore| restore.requester == who).count();
		let expected = open < RESTORES_MAX
			&& history.is_some_and(|history| {
				self.deletion_of(machine, history).is_none()
					&& !history.dooms.contains_key(&sequence)
					&& (who == owner || history.access_since(who, self.now).is_some())
					&& history.kept.contains_key(&sequence)
			});
		if expected {
			let restore =
				Restore { requester: who, machine, sequence, asked_at: self.now, is_waiting: true };
			self.restores.insert(self.restores_begun, restore);
			self.restores_begun += 1;
		}
		(restore(who, request, sequence).is_ok(), expected)
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

	/// Whether somebody may speak for a machine.
	fn speaks_for(holder: Holder, machine: usize) -> bool {
		holder.is_none_or(|who| ACCOUNTS[who] == owner(machine))
	}

	fn take_hold(&mut self, holder: Holder, machine: usize, place: u64) -> (bool, bool) {
		let (is_due, now) = (self.is_deletion_due(machine), self.now);
		let history = self.histories.get_mut(&machine);
		let sequence = history.as_ref().map_or(0, |history| history.place(place));
		let expected = Self::speaks_for(holder, machine)
			&& history.is_some_and(|history| {
				let is_there = history.kept.contains_key(&sequence)
					&& !is_due && !history.is_doomed(sequence, now);
				match holder {
					_ if !is_there => false,
					None => history.governance_holds.insert(sequence),
					Some(_) => {
						history.owner_holds.len() < HOLDS_MAX
							&& history.owner_holds.insert(sequence)
					}
				}
			});
		let held = Backup::hold_snapshot(origin(holder), MACHINES[machine].0, sequence);
		(held.is_ok(), expected)
	}

	fn take_release(&mut self, holder: Holder, machine: usize, place: u64) -> (bool, bool) {
		let history = self.histories.get_mut(&machine);
		let sequence = history.as_ref().map_or(0, |history| history.place(place));
		let expected = Self::speaks_for(holder, machine)
			&& history.is_some_and(|history| match holder {
				None => history.governance_holds.remove(&sequence),
				Some(_) => history.owner_holds.remove(&sequence),
			});
		if expected {
			self.unlock(machine, sequence);
		}
		let released = Backup::release_snapshot(origin(holder), MACHINES[machine].0, sequence);
		(released.is_ok(), expected)
	}

	fn take_delete(&mut self, target: Target) -> (bool, bool) {
		let effective_at = self.now + GRACE;
		match target {
			Target::Account(who) => {
				let who = ACCOUNTS[who];
				if self.has_backups(who) {
					self.deletions.entry(who).or_insert(effective_at);
				}
				Backup::deletion_requested(&who);
				(true, true)
			}
			Target::Machine(machine) => {
				let (request, owner) = MACHINES[machine];
				let expected = self.is_free(machine);
				if expected {
					self.histories.entry(machine).and_modify(|h| h.delete_at = Some(effective_at));
				}
				(Backup::delete_backup(signed(owner), request).is_ok(), expected)
			}
			Target::Snapshot(machine, place) => {
				let (request, owner) = MACHINES[machine];
				let is_free = self.is_free(machine);
				let history = self.histories.get_mut(&machine);
				let sequence = history.as_ref().map_or(0, |history| history.place(place));
				let expected = is_free
					&& history.is_some_and(|history| {
						history.kept.contains_key(&sequence)
							&& !history.dooms.contains_key(&sequence)
							&& history.dooms.insert(sequence, effective_at).is_none()
					});
				(Backup::delete_snapshot(signed(owner), request, sequence).is_ok(), expected)
			}
		}
	}

	/// Whether a machine has a history that nobody wants deleted.
	fn is_free(&self, machine: usize) -> bool {
		let history = self.histories.get(&machine);
		history.is_some_and(|history| self.deletion_of(machine, history).is_none())
	}

	fn take_cancel(&mut self, holder: Holder, target: Target) -> (bool, bool) {
		let now = self.now;
		let in_time = |at: Option<&u64>| at.is_some_and(|at| *at > now);
		let (target, expected) = match target {
			Target::Account(who) => {
				let account = ACCOUNTS[who];
				let expected = holder.is_none_or(|holder| holder == who)
					&& in_time(self.deletions.get(&account));
				if expected {
					self.deletions.remove(&account);
				}
				(DeletionTarget::Account(account), expected)
			}
			Target::Machine(machine) => {
				let history = self.histories.get_mut(&machine);
				let expected = Self::speaks_for(holder, machine)
					&& history.as_ref().is_some_and(|h| {
						let is_held = !h.governance_holds.is_empty();
						in_time(h.delete_at.as_ref()) || h.delete_at.is_some() && is_held
					});
				if let Some(history) = history.filter(|_| expected) {
					history.delete_at = None;
				}
				(DeletionTarget::Request(MACHINES[machine].0), expected)
			}
			Target::Snapshot(machine, place) => {
				let history = self.histories.get_mut(&machine);
				let sequence = history.as_ref().map_or(0, |history| history.place(place));
				let expected = Self::speaks_for(holder, machine)
					&& history.as_ref().is_some_and(|h| {
						let is_held = h.governance_holds.contains(&sequence);
						let doom = h.dooms.get(&sequence);
						in_time(doom) || doom.is_some() && is_held
					});
				if let Some(history) = history.filter(|_| expected) {
					history.dooms.remove(&sequence);
				}
				(DeletionTarget::Snapshot(MACHINES[machine].0, sequence), expected)
			}
		};
		(Backup::cancel_deletion(origin(holder), target).is_ok(), expected)
	}

	fn take_close_late(&mut self, machine: usize, place: Option<u64>) -> (bool, bool) {
		let request = MACHINES[machine].0;
		let now = self.now;
		let history = self.histories.get(&machine);
		let Some(place) = place else {
			let deletion = history.and_then(|history| self.deletion_of(machine, history));
			let expected =
				self.is_deletion_due(machine) && deletion.is_some_and(|at| at + DEADLINE <= now);
			let closed = Backup::close_deletion(signed(CHARLIE), request, None).is_ok();
			if expected {
				self.take_records(machine);
			}
			return (closed, expected);
		};
		let sequence = history.map_or(0, |history| history.place(place));
		let expected = history.is_some_and(|history| history.is_doomed(sequence, now));
		if expected {
			self.histories.entry(machine).and_modify(|history| history.remove(sequence));
		}
		(Backup::close_deletion(signed(CHARLIE), request, Some(sequence)).is_ok(), expected)
	}

	/// What a deletion takes at once. Of a long history it does not say which.
	fn take_records(&mut self, machine: usize) {
		let (request, owner) = MACHINES[machine];
		let mut history = self.histories.remove(&machine).expect("seen by the caller");
		let left = history.kept.len().saturating_sub(DELETIONS);
		let found: BTreeSet<u64> =
			Backup::snapshots(request, 0).into_iter().map(|(sequence, _)| sequence).collect();
		assert_eq!(found.len(), left);
		let gone: Vec<u64> =
			history.kept.keys().copied().filter(|sequence| !found.contains(sequence)).collect();
		gone.into_iter().for_each(|sequence| history.remove(sequence));
		if left > 0 {
			self.histories.insert(machine, history);
			return;
		}
		if !self.has_backups(owner) {
			self.deletions.remove(&owner);
			self.frequencies.remove(&owner);
		}
	}

	/// Idle time takes a few of those that are over, in its own order, and nothing else.
	fn follow_idle(&mut self) {
		for (id, restore) in self.restores.clone() {
			if !crate::RestoreRequests::<Test>::contains_key(id) {
				assert!(self.is_over(&restore), "restore {id} was closed before its time");
				self.restores.remove(&id);
				self.unlock(restore.machine, restore.sequence);
			}
		}
		let now = self.now;
		for (machine, history) in &mut self.histories {
			for sequence in history.dooms.clone().into_keys() {
				if !crate::Snapshots::<Test>::contains_key(MACHINES[*machine].0, sequence) {
					assert!(history.is_doomed(sequence, now), "{sequence} went before its time");
					history.remove(sequence);
				}
			}
		}
	}

	/// Check that the chain keeps what the model keeps.
	fn compare(&self) {
		for (machine, (request, _)) in MACHINES.iter().enumerate() {
			let found: Vec<_> = Backup::snapshots(*request, 0)
				.into_iter()
				.map(|(sequence, record)| (sequence, record.cid))
				.collect();
			let history = self.histories.get(&machine);
			let expected: Vec<_> = history
				.iter()
				.flat_map(|history| history.kept.iter().map(|(at, (cid, _))| (*at, *cid)))
				.collect();
			assert_eq!(found, expected, "what request {request} keeps");
			let lineage = Lineages::<Test>::get(request);
			assert_eq!(lineage.is_some(), history.is_some());
			let node = if self.is_away[machine] { OTHER_NODE } else { NODE };
			assert!(lineage.is_none_or(|lineage| lineage.node == node), "where {request} is");
		}
		let found: Vec<_> = crate::RestoreRequests::<Test>::iter_keys().collect();
		assert_eq!(found.len(), self.restores.len());
	}
}

fn origin(holder: Holder) -> RuntimeOrigin {
	match holder {
		None => RuntimeOrigin::root(),
		Some(who) => signed(ACCOUNTS[who]),
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
			let settings = ChainSettings { min_age: AGE_MIN, ..Backup::settings() };
			assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
			for (machine, (request, owner)) in MACHINES.into_iter().enumerate() {
				begin(request, owner);
				model.histories.insert(machine, History::new(1, 0));
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
