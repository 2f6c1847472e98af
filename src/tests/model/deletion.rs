//! Deletions: of all that an account has, of a machine's backup, of one snapshot.

use super::{
	ACCOUNTS, DEADLINE, DELETIONS, GRACE, History, MACHINES, Model, Party, Target, Verdict, origin,
	owner,
};
use crate::{BackupHooks, DeletionTarget, mock::*};
use std::collections::BTreeSet;

impl Model {
	pub(super) fn deletion_of(&self, machine: usize, history: &History) -> Option<u64> {
		let of_account = self.deletions.get(&owner(machine)).copied();
		of_account.into_iter().chain(history.delete_at).min()
	}

	pub(super) fn is_deletion_due(&self, machine: usize) -> bool {
		self.histories.get(&machine).is_some_and(|history| {
			history.governance_holds.is_empty()
				&& self.deletion_of(machine, history).is_some_and(|at| at <= self.now)
		})
	}

	pub(super) fn take_delete(&mut self, target: Target) -> Verdict {
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
	pub(super) fn is_free(&self, machine: usize) -> bool {
		let history = self.histories.get(&machine);
		history.is_some_and(|history| self.deletion_of(machine, history).is_none())
	}

	pub(super) fn take_cancel(&mut self, party: Party, target: Target) -> Verdict {
		let now = self.now;
		let in_time = |at: Option<&u64>| at.is_some_and(|at| *at > now);
		let (target, expected) = match target {
			Target::Account(who) => {
				let account = ACCOUNTS[who];
				let expected =
					party.is_none_or(|party| party == who) && in_time(self.deletions.get(&account));
				if expected {
					self.deletions.remove(&account);
				}
				(DeletionTarget::Account(account), expected)
			}
			Target::Machine(machine) => {
				let history = self.histories.get_mut(&machine);
				let expected = Self::speaks_for(party, machine)
					&& history.as_ref().is_some_and(|h| {
						let is_held = !h.governance_holds.is_empty();
						in_time(h.delete_at.as_ref()) || h.delete_at.is_some() && is_held
					});
				if let Some(history) = history.filter(|_| expected) {
					history.delete_at = None;
					history.is_given_up = false;
				}
				(DeletionTarget::Request(MACHINES[machine].0), expected)
			}
			Target::Snapshot(machine, place) => {
				let history = self.histories.get_mut(&machine);
				let sequence = history.as_ref().map_or(0, |history| history.place(place));
				let expected = Self::speaks_for(party, machine)
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
		(Backup::cancel_deletion(origin(party), target).is_ok(), expected)
	}

	pub(super) fn take_close_late(&mut self, machine: usize, place: Option<u64>) -> Verdict {
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
	pub(super) fn take_records(&mut self, machine: usize) {
		let (request, owner) = MACHINES[machine];
		let mut history = self.histories.remove(&machine).expect("seen by the caller");
		let left = history.kept.len().saturating_sub(DELETIONS);
		let found: BTreeSet<u64> = kept_of(request).into_iter().collect();
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

	/// Idle time takes a few snapshots that are to go, in its own order, and nothing else.
	pub(super) fn follow_idle_deletions(&mut self) {
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
}
