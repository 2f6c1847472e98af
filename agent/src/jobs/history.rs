//! What became of the attempts to back machines up, for people who look at it.
//!
//! Each attempt that ended is one entry of the ledger, and the last of each machine are kept beside,
//! however long ago they were. Jobs do not depend on any of it: an entry that cannot be written is
//! said in the log, and that is all.

use super::{Executor, Expected, Ledger, LedgerError, Outcome, executor::Effort};
use backup_primitives::{Cid, FailureReason, OpaqueId, job::JobId, report::TakenSnapshot};
use codec::{Decode, Encode};

/// From how many of the last backups of a machine its usual interval is read.
const STARTS_MAX: usize = 9;

/// Most bytes that are kept of what an operator is told of a failure.
const DETAIL_BYTES_MAX: usize = 1024;

/// The interval that is taken for usual where none is known, in milliseconds: a day.
const INTERVAL_DEFAULT_MS: u64 = 24 * 3600 * 1000;

/// An attempt to back a machine up that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attempt {
	/// The machine's name on this node.
	pub vm: String,
	/// The compute request.
	pub request: OpaqueId,
	/// The snapshot's place.
	pub sequence: u64,
	/// The job.
	pub job: JobId,
	/// When it began, in milliseconds since 1970.
	pub started_at_ms: u64,
	/// When it ended.
	pub ended_at_ms: u64,
	/// How.
	pub ending: Ending,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Ending {
	/// The snapshot is pinned.
	Taken {
		/// What the chain is told.
		snapshot: TakenSnapshot,
		/// What it took.
		effort: Effort,
		/// Logical bytes of all snapshots that were held afterwards, as far as the history knows
		/// them.
		held_bytes: u64,
	},
	/// It failed.
	Failed {
		/// What the owner is told.
		reason: FailureReason,
		/// What the operator is told.
		detail: String,
	},
}

impl Attempt {
	fn snapshot(&self) -> Option<&TakenSnapshot> {
		match &self.ending {
			Ending::Taken { snapshot, .. } => Some(snapshot),
			Ending::Failed { .. } => None,
		}
	}
}

/// What is known of a machine's backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MachineRecord {
	/// The last that went well.
	pub last_taken: Option<Attempt>,
	/// The last that failed.
	pub last_failed: Option<Attempt>,
	/// When the last ones began that went well, the newest last.
	starts_ms: Vec<u64>,
}

impl MachineRecord {
	/// Note an attempt.
	pub(crate) fn add(&mut self, attempt: &Attempt) {
		match attempt.ending {
			Ending::Taken { .. } => {
				self.starts_ms.push(attempt.started_at_ms);
				let excess = self.starts_ms.len().saturating_sub(STARTS_MAX);
				self.starts_ms.drain(..excess);
				self.last_taken = Some(attempt.clone());
			}
			Ending::Failed { .. } => self.last_failed = Some(attempt.clone()),
		}
	}

	/// When something last became of it.
	pub(super) fn touched_at_ms(&self) -> u64 {
		let both = [&self.last_taken, &self.last_failed].into_iter().flatten();
		both.map(|attempt| attempt.ended_at_ms).max().unwrap_or(0)
	}

	/// The compute request that it was last backed up for.
	pub fn request(&self) -> Option<&OpaqueId> {
		self.last_taken.as_ref().map(|taken| &taken.request)
	}

	/// The failure that no success has followed.
	pub fn standing_failure(&self) -> Option<&Attempt> {
		let taken_at_ms = self.last_taken.as_ref().map(|taken| taken.started_at_ms);
		self.last_failed.as_ref().filter(|failed| Some(failed.started_at_ms) > taken_at_ms)
	}

	/// The time that usually lies between two of its backups: the median of the last ones.
	pub fn usual_interval_ms(&self) -> Option<u64> {
		let pairs = self.starts_ms.windows(2);
		let mut intervals: Vec<u64> =
			pairs.map(|pair| pair[1].saturating_sub(pair[0])).filter(|ms| *ms > 0).collect();
		intervals.sort_unstable();
		intervals.get(intervals.len() / 2).copied()
	}

	/// When the next backup is to be expected: a cadence after the last one, or what usually lies
	/// between them where the cadence is not known. Nothing while the chain wants none.
	pub fn next_at_ms(&self, expected: Option<&Expected>) -> Option<u64> {
		let last = self.last_taken.as_ref()?;
		let interval = match expected.map(|expected| expected.cadence) {
			Some(None) => return None,
			Some(Some(cadence)) => cadence.ms.or_else(|| self.usual_interval_ms()),
			None => self.usual_interval_ms(),
		};
		interval.map(|interval| last.started_at_ms.saturating_add(interval))
	}

	/// How old the last backup is, as a judgement. It counts as late when other nodes should have
	/// confirmed one and have not: until then it is on the machine that it protects.
	pub fn age(&self, expected: Option<&Expected>, now_ms: u64) -> Age {
		let is_late = expected.and_then(|expected| expected.confirmed.as_ref());
		match self.age_here(expected, now_ms) {
			Age::Fresh if is_late.is_some_and(|confirmed| confirmed.is_late) => Age::Late,
			age => age,
		}
	}

	/// The same of what was taken here, whoever else has it.
	pub fn age_here(&self, expected: Option<&Expected>, now_ms: u64) -> Age {
		let cadence = match expected.map(|expected| expected.cadence) {
			Some(None) => return Age::Unwanted,
			Some(cadence) => cadence.and_then(|cadence| cadence.ms),
			None => None,
		};
		let Some(last) = &self.last_taken else { return Age::Never };
		let age_ms = now_ms.saturating_sub(last.started_at_ms);
		let interval_ms = cadence.or_else(|| self.usual_interval_ms());
		let interval_ms = interval_ms.unwrap_or(INTERVAL_DEFAULT_MS);
		// Half an interval of slack, and a minute, for a job takes its time.
		let fresh_ms = interval_ms.saturating_add(interval_ms / 2).saturating_add(60_000);
		match age_ms {
			age_ms if age_ms <= fresh_ms => Age::Fresh,
			age_ms if age_ms <= fresh_ms.saturating_mul(2) => Age::Late,
			_ => Age::Overdue,
		}
	}
}

/// How old a machine's last backup is, measured by the chain's cadence; while that is not known, by the
/// interval at which the machine is usually backed up, and by a day where there is none either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Age {
	/// As it should be.
	Fresh,
	/// A backup has been missed, or other nodes have not confirmed one in time.
	Late,
	/// More than one.
	Overdue,
	/// There is none.
	Never,
	/// The chain wants none now: backups are paused or not paid for, the machine does not run, or
	/// what there is is to be deleted.
	Unwanted,
}

/// The attempt that a job was, if it was one and was not cancelled.
pub(super) fn ending(
	executor: &dyn Executor,
	ledger: &Ledger,
	outcome: &Outcome,
	effort: Effort,
) -> Result<Option<Ending>, LedgerError> {
	Ok(match outcome {
		Outcome::Taken(snapshot) => {
			let mut sizes = ledger.logical_sizes()?;
			sizes.insert(snapshot.cid, snapshot.logical_bytes);
			let held = sizes.into_iter().filter(|(root, _)| executor.holds(root));
			let held_bytes = held.fold(0, |sum: u64, (_, bytes)| sum.saturating_add(bytes));
			Some(Ending::Taken { snapshot: snapshot.clone(), effort, held_bytes })
		}
		Outcome::Failed { reason, detail } => {
			let end = (0..=detail.len().min(DETAIL_BYTES_MAX)).rev();
			let end = end.into_iter().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
			Some(Ending::Failed { reason: *reason, detail: detail[..end].to_owned() })
		}
		Outcome::Restored { .. } => None,
	})
}

/// The snapshot's root and logical size.
pub(super) fn size_of(attempt: &Attempt) -> Option<(Cid, u64)> {
	attempt.snapshot().map(|snapshot| (snapshot.cid, snapshot.logical_bytes))
}

#[cfg(test)]
pub(crate) mod tests {
	use super::{
		super::{Cadence, Confirmed, fixture::taken},
		*,
	};

	pub(crate) fn attempt(vm: &str, at_ms: u64, ending: Ending) -> Attempt {
		Attempt {
			vm: vm.into(),
			request: OpaqueId::of(&7u64).unwrap(),
			sequence: 0,
			job: JobId([1; 32]),
			started_at_ms: at_ms,
			ended_at_ms: at_ms + 1,
			ending,
		}
	}

	pub(crate) fn success(seed: u8) -> Ending {
		Ending::Taken { snapshot: taken(seed, 1), effort: Effort::default(), held_bytes: 0 }
	}

	pub(crate) fn failure() -> Ending {
		Ending::Failed { reason: FailureReason::StoreFull, detail: "full".into() }
	}

	fn record(starts_ms: &[u64]) -> MachineRecord {
		let mut record = MachineRecord::default();
		for at_ms in starts_ms {
			record.add(&attempt("web", *at_ms, success(1)));
		}
		record
	}

	const HOUR_MS: u64 = 3_600_000;

	#[test]
	fn the_usual_interval_is_the_median_so_that_one_gap_does_not_move_it() {
		assert_eq!(record(&[]).usual_interval_ms(), None);
		assert_eq!(record(&[5]).next_at_ms(None), None);
		let starts = [0, 1, 2, 9, 10].map(|hour| hour * HOUR_MS);
		assert_eq!(record(&starts).usual_interval_ms(), Some(HOUR_MS));
		assert_eq!(record(&starts).next_at_ms(None), Some(11 * HOUR_MS));
		// What lies further back is forgotten.
		let later: Vec<u64> = (0..50).map(|n| n * n * HOUR_MS).collect();
		assert_eq!(record(&later).starts_ms.len(), STARTS_MAX);
	}

	#[test]
	fn boundary_an_age_is_judged_by_the_interval_that_a_machine_usually_has() {
		let record = record(&[0, HOUR_MS]);
		let fresh_ms = HOUR_MS * 3 / 2 + 60_000;
		let age = |ms| record.age(None, HOUR_MS + ms);
		assert_eq!([age(0), age(fresh_ms)], [Age::Fresh; 2]);
		assert_eq!([age(fresh_ms + 1), age(2 * fresh_ms)], [Age::Late; 2]);
		assert_eq!(age(2 * fresh_ms + 1), Age::Overdue);
		assert_eq!(MachineRecord::default().age(None, 5), Age::Never);
	}

	#[test]
	fn without_an_interval_a_backup_of_a_day_ago_is_fresh() {
		let record = record(&[0]);
		assert_eq!(record.age(None, 24 * HOUR_MS), Age::Fresh);
		assert_eq!(record.age(None, 40 * HOUR_MS), Age::Late);
		assert_eq!(record.age(None, 80 * HOUR_MS), Age::Overdue);
	}

	#[test]
	fn a_backup_that_nobody_else_confirms_in_time_is_late_however_young_it_is() {
		let record = record(&[0, HOUR_MS]);
		let age = |is_late, hours| record.age(Some(&confirmed(is_late)), hours * HOUR_MS);
		assert_eq!([age(false, 1), age(true, 1)], [Age::Fresh, Age::Late]);
		assert_eq!([age(false, 9), age(true, 9)], [Age::Overdue; 2]);
		assert_eq!(MachineRecord::default().age(Some(&confirmed(true)), 5), Age::Never);
	}

	/// A snapshot each hour is wanted, and of others.
	fn confirmed(is_late: bool) -> Expected {
		let confirmed = Some(Confirmed { is_late, ..Confirmed::default() });
		Expected { confirmed, ..every(HOUR_MS) }
	}

	fn every(ms: u64) -> Expected {
		Expected { cadence: Some(Cadence { blocks: 600, ms: Some(ms) }), confirmed: None }
	}

	#[test]
	fn boundary_the_chain_s_cadence_counts_where_it_is_known_and_not_what_was_usual() {
		// It was backed up each day, and is wanted each hour from now on.
		let record = record(&[0, 24 * HOUR_MS]);
		let fresh_ms = HOUR_MS * 3 / 2 + 60_000;
		let age = |ms| record.age(Some(&every(HOUR_MS)), 24 * HOUR_MS + ms);
		assert_eq!([age(fresh_ms), age(fresh_ms + 1)], [Age::Fresh, Age::Late]);
		assert_eq!([age(2 * fresh_ms), age(2 * fresh_ms + 1)], [Age::Late, Age::Overdue]);
		assert_eq!(record.next_at_ms(Some(&every(HOUR_MS))), Some(25 * HOUR_MS));
		// Before it is known how long blocks take.
		let unknown =
			Expected { cadence: Some(Cadence { blocks: 600, ms: None }), confirmed: None };
		assert_eq!(record.age(Some(&unknown), 30 * HOUR_MS), Age::Fresh);
		assert_eq!(record.next_at_ms(Some(&unknown)), Some(48 * HOUR_MS));
	}

	#[test]
	fn what_the_chain_does_not_want_is_not_late() {
		let (record, none) = (record(&[0, HOUR_MS]), Expected::default());
		assert_eq!(record.age(Some(&none), 1_000 * HOUR_MS), Age::Unwanted);
		assert_eq!(record.next_at_ms(Some(&none)), None);
		assert_eq!(MachineRecord::default().age(Some(&none), 5), Age::Unwanted);
	}

	#[test]
	fn a_failure_stands_until_a_success_follows_it() {
		let mut record = record(&[10]);
		assert_eq!(record.standing_failure(), None);
		record.add(&attempt("web", 20, failure()));
		assert_eq!(record.standing_failure().unwrap().started_at_ms, 20);
		assert_eq!(record.age(None, 30), Age::Fresh);
		record.add(&attempt("web", 40, success(1)));
		assert_eq!(record.standing_failure(), None);
	}
}
