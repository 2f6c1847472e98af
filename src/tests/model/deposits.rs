//! Deposits: Bob can put down so much and no more, for his histories and for the restores that he
//! asks for. The others are rich.

use super::{KEEP, MACHINES, Model, Verdict, owner};
use crate::{Error, mock::*};

/// Who is poor.
pub(super) const POOR: AccountId = BOB;

/// What the poor one has, in units of a snapshot or a restore.
pub(super) const PURSE: u64 = 6;

impl Model {
	/// Take units from an account and give some back, if it has them.
	pub(super) fn pay(&mut self, who: AccountId, back: u64, units: u64) -> bool {
		if who != POOR {
			return true;
		}
		let left = (self.purse + back).checked_sub(units);
		self.purse = left.unwrap_or(self.purse);
		left.is_some()
	}

	/// Put down what a history takes with these settings, if its owner can.
	pub(super) fn pay_history(&mut self, machine: usize, keep_last: Option<u32>) -> bool {
		let back = self.tickets.get(&machine).copied().unwrap_or(0);
		let kept = self.histories.get(&machine).map_or(0, |history| history.kept.len());
		let units = u64::from(keep_last.unwrap_or(KEEP)).max(kept as u64);
		let paid = self.pay(owner(machine), back, units);
		if paid {
			self.tickets.insert(machine, units);
		}
		paid
	}

	pub(super) fn take_reclaim(&mut self, machine: usize) -> Verdict {
		let (request, owner) = MACHINES[machine];
		let reclaimed = Backup::reclaim_deposit(signed(owner), request);
		if self.histories.contains_key(&machine) {
			assert_eq!(reclaimed, Err(Error::<Test>::BackupAlreadyExists.into()));
			return (false, false);
		}
		let ticket = self.tickets.remove(&machine);
		if let Some(units) = ticket {
			self.pay(owner, units, 0);
		}
		(reclaimed.is_ok(), ticket.is_some())
	}
}
