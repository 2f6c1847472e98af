//! The tables of attempts and of machines.

use super::{Ledger, LedgerError};
use crate::jobs::history::{Attempt, Ending, MachineRecord, size_of};
use backup_primitives::{Cid, OpaqueId};
use codec::{Decode, DecodeAll, Encode};
use redb::{
	ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
	WriteTransaction,
};
use std::collections::{HashMap, HashSet};

/// From a number that rises to an attempt.
const ATTEMPTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("attempts-v1");
/// From a machine's name to its record.
const MACHINES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("machines-v1");

/// Most attempts that are kept; the oldest go first.
const ATTEMPTS_MAX: u64 = 10_000;

/// Most machines that are kept; those go first of which nothing was heard for longest.
const MACHINES_MAX: u64 = 4096;

pub(super) fn create(transaction: &WriteTransaction) -> Result<(), LedgerError> {
	transaction.open_table(ATTEMPTS)?;
	transaction.open_table(MACHINES)?;
	Ok(())
}

impl Ledger {
	/// Write down an attempt, durably.
	pub(in crate::jobs) fn remember_attempt(&self, attempt: &Attempt) -> Result<(), LedgerError> {
		let transaction = self.database.begin_write()?;
		add_attempt(&mut transaction.open_table(ATTEMPTS)?, attempt)?;
		add_to_machine(&mut transaction.open_table(MACHINES)?, attempt)?;
		transaction.commit()?;
		Ok(())
	}

	/// The newest attempts behind a number, this many at most, the oldest of them first, each with
	/// its own number. They begin at 1.
	pub(crate) fn attempts(
		&self,
		behind: u64,
		count: usize,
	) -> Result<Vec<(u64, Attempt)>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ATTEMPTS)?;
		let mut attempts = Vec::new();
		for entry in table.range(behind.saturating_add(1)..)?.rev().take(count) {
			let (number, attempt) = entry?;
			attempts.push((number.value(), read(attempt.value())?));
		}
		attempts.reverse();
		Ok(attempts)
	}

	/// The oldest attempts behind a number, this many at most, in their order.
	pub(crate) fn next_attempts(
		&self,
		behind: u64,
		count: usize,
	) -> Result<Vec<(u64, Attempt)>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ATTEMPTS)?;
		let next = table.range(behind.saturating_add(1)..)?.take(count);
		next.map(|entry| {
			let (number, attempt) = entry?;
			Ok((number.value(), read(attempt.value())?))
		})
		.collect()
	}

	/// The number of the newest attempt; zero if there is none.
	pub(crate) fn newest_attempt(&self) -> Result<u64, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ATTEMPTS)?;
		let newest = table.last()?;
		Ok(newest.map_or(0, |(number, _)| number.value()))
	}

	/// When snapshots were begun, of those that the history knows.
	pub(in crate::jobs) fn starts(
		&self,
		places: &HashSet<(OpaqueId, u64)>,
	) -> Result<HashMap<(OpaqueId, u64), u64>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ATTEMPTS)?;
		let mut starts = HashMap::new();
		// They are among the newest.
		for entry in table.iter()?.rev() {
			if starts.len() == places.len() {
				break;
			}
			let (_, attempt) = entry?;
			let attempt: Attempt = read(attempt.value())?;
			let place = (attempt.request, attempt.sequence);
			if matches!(attempt.ending, Ending::Taken { .. }) && places.contains(&place) {
				starts.entry(place).or_insert(attempt.started_at_ms);
			}
		}
		Ok(starts)
	}

	/// All machines of which something is known.
	pub(crate) fn machines(&self) -> Result<HashMap<String, MachineRecord>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(MACHINES)?;
		let mut machines = HashMap::new();
		for entry in table.iter()? {
			let (name, record) = entry?;
			machines.insert(name.value().to_owned(), read(record.value())?);
		}
		Ok(machines)
	}

	/// Logical bytes of all snapshots that the history knows, held or not.
	pub(in crate::jobs) fn logical_sizes(&self) -> Result<HashMap<Cid, u64>, LedgerError> {
		let transaction = self.database.begin_read()?;
		let table = transaction.open_table(ATTEMPTS)?;
		let mut sizes = HashMap::new();
		for entry in table.iter()? {
			let (_, attempt) = entry?;
			let attempt: Attempt = read(attempt.value())?;
			sizes.extend(size_of(&attempt));
		}
		Ok(sizes)
	}
}

fn add_attempt(table: &mut Table<'_, u64, &[u8]>, attempt: &Attempt) -> Result<(), LedgerError> {
	let last = table.last()?.map_or(0, |(number, _)| number.value());
	table.insert(last.saturating_add(1), attempt.encode().as_slice())?;
	while table.len()? > ATTEMPTS_MAX {
		table.pop_first()?;
	}
	Ok(())
}

fn add_to_machine(
	table: &mut Table<'_, &str, &[u8]>,
	attempt: &Attempt,
) -> Result<(), LedgerError> {
	let known = table.get(attempt.vm.as_str())?.map(|record| read(record.value()));
	let mut record: MachineRecord = known.transpose()?.unwrap_or_default();
	record.add(attempt);
	table.insert(attempt.vm.as_str(), record.encode().as_slice())?;
	if table.len()? > MACHINES_MAX {
		let mut oldest: Option<(u64, String)> = None;
		for entry in table.iter()? {
			let (name, record) = entry?;
			let at_ms = read::<MachineRecord>(record.value())?.touched_at_ms();
			if oldest.as_ref().is_none_or(|(least_ms, _)| at_ms < *least_ms) {
				oldest = Some((at_ms, name.value().to_owned()));
			}
		}
		if let Some((_, name)) = oldest {
			table.remove(name.as_str())?;
		}
	}
	Ok(())
}

fn read<T: Decode>(mut bytes: &[u8]) -> Result<T, LedgerError> {
	T::decode_all(&mut bytes).map_err(|_| LedgerError::Malformed)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::jobs::{
		fixture::cid,
		history::tests::{attempt, failure, success},
	};

	fn ledger() -> (Ledger, tempfile::TempDir) {
		let folder = tempfile::tempdir().unwrap();
		(Ledger::open(&folder.path().join("jobs.redb")).unwrap(), folder)
	}

	#[test]
	fn attempts_are_read_back_in_order_and_from_a_number_on() {
		let (ledger, folder) = ledger();
		for at_ms in [10, 20, 30] {
			ledger.remember_attempt(&attempt("web", at_ms, success(1))).unwrap();
		}
		drop(ledger);
		let ledger = Ledger::open(&folder.path().join("jobs.redb")).unwrap();
		let starts = |behind, count| {
			let attempts = ledger.attempts(behind, count).unwrap().into_iter();
			attempts.map(|(number, attempt)| (number, attempt.started_at_ms)).collect::<Vec<_>>()
		};
		assert_eq!(starts(0, 9), [(1, 10), (2, 20), (3, 30)]);
		assert_eq!(starts(0, 2), [(2, 20), (3, 30)]);
		assert_eq!(starts(2, 9), [(3, 30)]);
		assert_eq!(starts(3, 9), []);
		assert_eq!(starts(u64::MAX, 9), []);
		let next = |behind| ledger.next_attempts(behind, 2).unwrap().into_iter();
		assert_eq!(next(0).map(|(number, _)| number).collect::<Vec<_>>(), [1, 2]);
		assert_eq!(next(2).map(|(number, _)| number).collect::<Vec<_>>(), [3]);
		assert_eq!((next(3).count(), ledger.newest_attempt().unwrap()), (0, 3));
	}

	#[test]
	fn what_was_told_is_known_after_a_restart_until_nobody_is_told() {
		let (ledger, folder) = ledger();
		assert_eq!((ledger.told().unwrap(), ledger.newest_attempt().unwrap()), (None, 0));
		ledger.remember_told(Some(7)).unwrap();
		drop(ledger);
		let ledger = Ledger::open(&folder.path().join("jobs.redb")).unwrap();
		assert_eq!(ledger.told().unwrap(), Some(7));
		ledger.remember_told(None).unwrap();
		assert_eq!(ledger.told().unwrap(), None);
	}

	#[test]
	fn a_machine_keeps_its_last_success_and_its_last_failure() {
		let (ledger, _folder) = ledger();
		ledger.remember_attempt(&attempt("web", 10, success(1))).unwrap();
		ledger.remember_attempt(&attempt("web", 20, failure())).unwrap();
		ledger.remember_attempt(&attempt("db", 30, failure())).unwrap();
		let machines = ledger.machines().unwrap();
		assert_eq!(machines.len(), 2);
		assert_eq!(machines["web"].last_taken, Some(attempt("web", 10, success(1))));
		assert_eq!(machines["web"].last_failed, Some(attempt("web", 20, failure())));
		assert_eq!(machines["db"].last_taken, None);
	}

	#[test]
	fn a_snapshot_was_begun_when_the_attempt_was_that_took_it() {
		let (ledger, _folder) = ledger();
		let web = |sequence, at_ms, ending| Attempt { sequence, ..attempt("web", at_ms, ending) };
		for attempt in [web(0, 10, success(1)), web(1, 20, success(2)), web(1, 30, failure())] {
			ledger.remember_attempt(&attempt).unwrap();
		}
		let place = |sequence| (attempt("web", 0, failure()).request, sequence);
		let starts = ledger.starts(&[0, 1, 2].map(place).into()).unwrap();
		assert_eq!(starts, HashMap::from([(place(0), 10), (place(1), 20)]));
	}

	/// Written in one transaction: as many commits would take minutes.
	#[test]
	fn boundary_both_tables_have_an_end() {
		let (ledger, _folder) = ledger();
		let transaction = ledger.database.begin_write().unwrap();
		{
			let mut attempts = transaction.open_table(ATTEMPTS).unwrap();
			for at_ms in 1..=ATTEMPTS_MAX + 2 {
				add_attempt(&mut attempts, &attempt("web", at_ms, failure())).unwrap();
			}
			let mut machines = transaction.open_table(MACHINES).unwrap();
			for index in 1..=MACHINES_MAX + 1 {
				add_to_machine(&mut machines, &attempt(&format!("vm-{index}"), index, failure()))
					.unwrap();
			}
		}
		transaction.commit().unwrap();
		let attempts = ledger.attempts(0, usize::MAX).unwrap();
		assert_eq!(attempts.len() as u64, ATTEMPTS_MAX);
		assert_eq!((attempts[0].0, attempts[0].1.started_at_ms), (3, 3));
		let machines = ledger.machines().unwrap();
		assert_eq!(machines.len() as u64, MACHINES_MAX);
		assert!(!machines.contains_key("vm-1") && machines.contains_key("vm-2"));
	}

	#[test]
	fn each_snapshot_has_one_size() {
		let (ledger, _folder) = ledger();
		for (at_ms, seed) in [(10, 1), (20, 2), (30, 2), (40, 3)] {
			ledger.remember_attempt(&attempt("web", at_ms, success(seed))).unwrap();
		}
		ledger.remember_attempt(&attempt("web", 50, failure())).unwrap();
		let sizes = HashMap::from([1, 2, 3].map(|seed| (cid(seed), 4096)));
		assert_eq!(ledger.logical_sizes().unwrap(), sizes);
	}
}
