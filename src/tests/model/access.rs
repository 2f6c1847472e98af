//! Who else may restore a machine, and what holds keep.

use super::{ACCOUNTS, GRANTS_MAX, HOLDS_MAX, MACHINES, Model, Party, Verdict, origin, owner};
use crate::mock::*;

impl Model {
	pub(super) fn take_grant(
		&mut self,
		machine: usize,
		to: AccountId,
		until: Option<u64>,
	) -> Verdict {
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
		(Backup::grant_access(signed(owner), request, to, until, None).is_ok(), expected)
	}

	pub(super) fn take_revoke(
		&mut self,
		who: AccountId,
		machine: usize,
		from: AccountId,
	) -> Verdict {
		let (request, owner) = MACHINES[machine];
		let history = self.histories.get_mut(&machine);
		let expected = (who == owner || who == from)
			&& history.is_some_and(|history| history.grants.remove(&from).is_some());
		(Backup::revoke_access(signed(who), request, from).is_ok(), expected)
	}

	/// Whether somebody may speak for a machine.
	pub(super) fn speaks_for(party: Party, machine: usize) -> bool {
		party.is_none_or(|who| ACCOUNTS[who] == owner(machine))
	}

	pub(super) fn take_hold(&mut self, party: Party, machine: usize, place: u64) -> Verdict {
		let (is_due, now) = (self.is_deletion_due(machine), self.now);
		let history = self.histories.get_mut(&machine);
		let sequence = history.as_ref().map_or(0, |history| history.place(place));
		let expected = Self::speaks_for(party, machine)
			&& history.is_some_and(|history| {
				let is_there = history.kept.contains_key(&sequence)
					&& !is_due && !history.is_doomed(sequence, now);
				match party {
					_ if !is_there => false,
					None => history.governance_holds.insert(sequence),
					Some(_) => {
						history.owner_holds.len() < HOLDS_MAX
							&& history.owner_holds.insert(sequence)
					}
				}
			});
		let held = Backup::hold_snapshot(origin(party), MACHINES[machine].0, sequence);
		(held.is_ok(), expected)
	}

	pub(super) fn take_release(&mut self, party: Party, machine: usize, place: u64) -> Verdict {
		let history = self.histories.get_mut(&machine);
		let sequence = history.as_ref().map_or(0, |history| history.place(place));
		let expected = Self::speaks_for(party, machine)
			&& history.is_some_and(|history| match party {
				None => history.governance_holds.remove(&sequence),
				Some(_) => history.owner_holds.remove(&sequence),
			});
		if expected {
			self.unlock(machine, sequence);
		}
		let released = Backup::release_snapshot(origin(party), MACHINES[machine].0, sequence);
		(released.is_ok(), expected)
	}
}
