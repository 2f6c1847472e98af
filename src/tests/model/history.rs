//! A history as somebody would write it down who need not care for speed: what is kept of a
//! machine, when the next snapshot is due, and which old ones go.

use super::{
	AGE_MIN, CADENCE, EVICTION_STEPS, EVICTIONS, FREQUENCY_MIN, KEEP, MACHINES, Model, PRUNED_MAX,
	REPORT_DELAY_MAX, SNAPSHOTS_MAX, TOLERANCE, Verdict, holders::Holder, owner,
};
use crate::{LineageSettings, mock::*};
use backup_primitives::Cid;
use std::collections::{BTreeMap, BTreeSet};

/// What the model knows of a machine's backup.
#[derive(Clone, Debug)]
pub(super) struct History {
	pub(super) created_at: u64,
	/// The hash of the block before it.
	pub(super) salt: [u8; 32],
	pub(super) kept: BTreeMap<u64, Kept>,
	/// Where eviction goes on.
	pub(super) evict_from: u64,
	/// What it passed over as the newest that another node has.
	guarded: Option<u64>,
	pub(super) holders: Vec<Holder>,
	pub(super) owner_holds: BTreeSet<u64>,
	pub(super) governance_holds: BTreeSet<u64>,
	pub(super) delete_at: Option<u64>,
	/// Whether the host has confirmed that.
	pub(super) is_given_up: bool,
	/// Snapshots that are to be deleted, and when.
	pub(super) dooms: BTreeMap<u64, u64>,
	pub(super) taken_at: Option<u64>,
	pub(super) recorded_at: Option<u64>,
	pub(super) asked_at: Option<u64>,
	/// The slot of the last failure, and when it was told.
	pub(super) failed: Option<(u64, u64)>,
	pub(super) keep_last: Option<u32>,
	pub(super) paused: bool,
	/// Since when, and until when.
	pub(super) grants: BTreeMap<AccountId, (u64, Option<u64>)>,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub(super) struct Kept {
	pub(super) cid: Cid,
	pub(super) recorded_at: u64,
	/// Who sealed it.
	pub(super) node: NodeId,
}

impl History {
	pub(super) fn new(created_at: u64, first: u64) -> Self {
		Self {
			created_at,
			salt: hash_of(created_at - 1).0,
			kept: BTreeMap::new(),
			evict_from: first,
			guarded: None,
			holders: Vec::new(),
			owner_holds: BTreeSet::new(),
			governance_holds: BTreeSet::new(),
			delete_at: None,
			is_given_up: false,
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

	/// When the owner asked for a snapshot that was not taken yet.
	fn wish(&self) -> Option<u64> {
		self.asked_at.filter(|asked| self.taken_at.is_none_or(|taken| taken < *asked))
	}

	/// The sequence that a step means.
	pub(super) fn place(&self, place: u64) -> u64 {
		self.kept.keys().next().map_or(0, |oldest| *oldest) + place
	}

	pub(super) fn remove(&mut self, sequence: u64) {
		self.kept.remove(&sequence);
		self.owner_holds.remove(&sequence);
		self.dooms.remove(&sequence);
	}

	/// Whether a snapshot's own deletion may be carried out.
	pub(super) fn is_doomed(&self, sequence: u64, now: u64) -> bool {
		self.dooms.get(&sequence).is_some_and(|at| *at <= now)
			&& !self.governance_holds.contains(&sequence)
	}

	pub(super) fn access_since(&self, who: AccountId, now: u64) -> Option<u64> {
		let (since, until) = self.grants.get(&who)?;
		until.is_none_or(|until| now < until).then_some(*since)
	}
}

impl Model {
	pub(super) fn frequency(&self, machine: usize) -> u64 {
		self.frequencies.get(&owner(machine)).copied().unwrap_or(CADENCE)
	}

	pub(super) fn slot(&self, machine: usize, history: &History) -> u64 {
		let since = history.taken_at.unwrap_or(history.created_at);
		let frequency = self.frequency(machine);
		// Step by step, as the calendar does it.
		let mut start = since;
		while start + frequency <= self.now {
			start += frequency;
		}
		history.wish().map_or(start, |asked| asked.max(start))
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

	/// The blocks between two snapshots, if any are wanted.
	pub(super) fn cadence(&self, machine: usize) -> Option<u64> {
		let is_wanted = self.is_wanted(machine, &self.histories[&machine]);
		is_wanted.then(|| self.frequency(machine))
	}

	/// The first block in which disks may have stood still for a snapshot that is recorded now.
	pub(super) fn oldest_taken_at(&self, machine: usize, history: &History) -> u64 {
		let newer = history.taken_at.map_or(history.created_at, |taken| taken + 1);
		let due_at = self.due_at(machine, history).saturating_sub(TOLERANCE);
		newer.max(due_at).max(self.now.saturating_sub(REPORT_DELAY_MAX))
	}

	pub(super) fn may_record(&self, machine: usize, taken_at: u64, history: &History) -> bool {
		taken_at <= self.now
			&& taken_at >= self.oldest_taken_at(machine, history)
			&& self.is_wanted(machine, history)
	}

	/// Whether a snapshot is due that has not failed.
	pub(super) fn is_due(&self, machine: usize, history: &History) -> bool {
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

	pub(super) fn record(&mut self, machine: usize, taken_at: u64, cid: Cid) {
		let sequence = self.next[machine];
		self.next[machine] += 1;
		let mut history = self.histories.remove(&machine).expect("it may");
		let node = self.hosts[machine];
		history.kept.insert(sequence, Kept { cid, recorded_at: self.now, node });
		history.taken_at = Some(taken_at);
		history.recorded_at = Some(self.now);
		history.failed = None;
		self.evict(machine, &mut history, EVICTIONS, EVICTION_STEPS);
		self.histories.insert(machine, history);
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
	pub(super) fn unlock(&mut self, machine: usize, sequence: u64) {
		let Some(mut history) = self.histories.remove(&machine) else { return };
		if history.kept.contains_key(&sequence) && !self.is_locked(machine, sequence, &history) {
			history.evict_from = history.evict_from.min(sequence);
		}
		self.histories.insert(machine, history);
	}

	/// Evict from a history, and say how many went. The newest never goes, nor the newest that
	/// another node has.
	fn evict(&self, machine: usize, history: &mut History, limit: usize, steps: u64) -> usize {
		let keep = history.keep_last.unwrap_or(KEEP) as usize;
		if history.kept.len() <= keep {
			return 0;
		}
		let confirmed = self.newest_confirmed(history);
		let is_outdated = |guarded: &mut u64| confirmed.is_some_and(|newest| newest > *guarded);
		if let Some(guarded) = history.guarded.take_if(is_outdated) {
			history.evict_from = history.evict_from.min(guarded);
		}
		let newest = self.next[machine].saturating_sub(1);
		let end = newest.min(history.evict_from + steps);
		let mut evicted = 0;
		while evicted < limit && history.evict_from < end && history.kept.len() > keep {
			let sequence = history.evict_from;
			if let Some(snapshot) = history.kept.get(&sequence)
				&& !self.is_locked(machine, sequence, history)
			{
				let is_young = snapshot.recorded_at + AGE_MIN > self.now;
				if is_young && history.kept.len() <= SNAPSHOTS_MAX {
					break;
				}
				if confirmed == Some(sequence) {
					history.guarded = confirmed;
				} else {
					history.remove(sequence);
					evicted += 1;
				}
			}
			history.evict_from += 1;
		}
		evicted
	}

	pub(super) fn take_prune(&mut self, machine: usize, limit: u32) -> Verdict {
		let mut expected = false;
		if let Some(mut history) = self.histories.remove(&machine) {
			let before = history.clone();
			let looked_at = limit.min(PRUNED_MAX);
			let evicted = self.evict(machine, &mut history, looked_at as usize, looked_at.into());
			let is_progress = evicted > 0 || history.evict_from > before.evict_from;
			expected = is_progress && !history.paused;
			self.histories.insert(machine, if expected { history } else { before });
		}
		(Backup::prune(signed(CHARLIE), MACHINES[machine].0, limit).is_ok(), expected)
	}

	pub(super) fn take_create(&mut self, machine: usize) -> Verdict {
		let (request, owner) = MACHINES[machine];
		let created = Backup::create_backup(signed(owner), request, None).is_ok();
		(created, self.begin(machine))
	}

	/// The backup of a machine begins, if it may.
	pub(super) fn begin(&mut self, machine: usize) -> bool {
		let may_begin = !self.histories.contains_key(&machine)
			&& !self.deletions.contains_key(&owner(machine))
			&& self.pay_history(machine, None);
		if may_begin {
			self.histories.insert(machine, History::new(self.now, self.next[machine]));
			self.choose_holders(machine);
		}
		may_begin
	}

	pub(super) fn take_ask(&mut self, machine: usize) -> Verdict {
		let ((request, owner), now) = (MACHINES[machine], self.now);
		let expected = self.histories.get(&machine).is_some_and(|h| self.may_ask(machine, h));
		if expected {
			self.histories.entry(machine).and_modify(|h| h.asked_at = Some(now));
		}
		(Backup::request_snapshot(signed(owner), request).is_ok(), expected)
	}

	pub(super) fn take_settings(
		&mut self,
		machine: usize,
		keep_last: Option<u32>,
		paused: bool,
	) -> Verdict {
		let (request, owner) = MACHINES[machine];
		let in_bounds = keep_last.is_none_or(|n| (1..=SNAPSHOTS_MAX as u32).contains(&n));
		let expected = in_bounds
			&& self.histories.contains_key(&machine)
			&& self.pay_history(machine, keep_last);
		if expected {
			let history = self.histories.entry(machine);
			history.and_modify(|h| (h.keep_last, h.paused) = (keep_last, paused));
		}
		let settings = LineageSettings { paused, keep_last };
		(Backup::set_backup_settings(signed(owner), request, settings).is_ok(), expected)
	}

	pub(super) fn take_frequency(&mut self, who: AccountId, blocks: u64) -> Verdict {
		let expected = blocks >= FREQUENCY_MIN && self.has_backups(who);
		if expected {
			self.frequencies.insert(who, blocks);
		}
		let set = Backup::set_backup_offchain_worker_frequency(signed(who), blocks);
		(set.is_ok(), expected)
	}

	/// A machine runs on another node now. Its owner has backups enabled, so that one which has no
	/// backup begins it.
	pub(super) fn take_move(&mut self, machine: usize, to: NodeId) -> Verdict {
		World::move_to(MACHINES[machine].0, to);
		let has_moved = core::mem::replace(&mut self.hosts[machine], to) != to;
		match self.histories.get_mut(&machine) {
			Some(history) if has_moved => {
				history.failed = None;
				history.is_given_up = false;
				self.drop_host(machine);
			}
			Some(_) => (),
			None => {
				self.begin(machine);
			}
		}
		(true, true)
	}
}
