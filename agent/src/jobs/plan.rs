//! What to do about an order: decided from what is known, without touching anything.

use super::{Ended, Outcome};

/// What is known about the subject of an order.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
	/// Nothing.
	Nothing,
	/// A job about it runs.
	Running,
	/// A job about it ended.
	Ended(&'a Ended),
}

/// What an order asks for, beside its subject.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
	/// The slot of the order; zero for restores.
	pub slot: u64,
	/// Oldest `taken_at` that the chain still accepts.
	pub oldest_taken_at: u64,
}

/// What to do about an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
	/// Start a job.
	Start,
	/// Let the job run.
	Wait,
	/// Tell how it ended.
	Answer,
}

/// Decide what to do about an order.
///
/// A success answers every order for its subject, unless it has become too old for the chain. A
/// failure answers orders of its slot; the next slot tries again.
pub fn decide(known: &Known<'_>, wanted: &Wanted) -> Decision {
	match known {
		Known::Nothing => Decision::Start,
		Known::Running => Decision::Wait,
		Known::Ended(ended) => match &ended.outcome {
			Outcome::Taken(snapshot) if snapshot.taken_at < wanted.oldest_taken_at => {
				Decision::Start
			}
			Outcome::Taken(_) | Outcome::Restored { .. } => Decision::Answer,
			Outcome::Failed { .. } if wanted.slot > ended.slot => Decision::Start,
			Outcome::Failed { .. } => Decision::Answer,
		},
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use backup_primitives::{Cid, Consistency, FailureReason, job::JobId, report::TakenSnapshot};

	fn ended(slot: u64, outcome: Outcome) -> Ended {
		Ended { id: JobId([0; 32]), slot, ended_at_ms: 0, outcome }
	}

	fn taken(taken_at: u64) -> Outcome {
		Outcome::Taken(TakenSnapshot {
			cid: Cid::dag_cbor([1; 32]),
			taken_at,
			logical_bytes: 1,
			new_bytes: 1,
			consistency: Consistency::Crash,
			owner_key_version: 1,
		})
	}

	fn failed() -> Outcome {
		Outcome::Failed { reason: FailureReason::StoreFull, detail: String::new() }
	}

	fn wanted(slot: u64, oldest_taken_at: u64) -> Wanted {
		Wanted { slot, oldest_taken_at }
	}

	#[test]
	fn what_is_unknown_is_started_and_what_runs_goes_on() {
		assert_eq!(decide(&Known::Nothing, &wanted(0, 0)), Decision::Start);
		assert_eq!(decide(&Known::Running, &wanted(9, 0)), Decision::Wait);
	}

	#[test]
	fn a_success_answers_orders_of_every_slot() {
		let done = ended(1, taken(10));
		for slot in [0, 1, 7] {
			assert_eq!(decide(&Known::Ended(&done), &wanted(slot, 10)), Decision::Answer);
		}
	}

	#[test]
	fn boundary_a_success_that_is_too_old_for_the_chain_is_done_again() {
		let done = ended(1, taken(10));
		assert_eq!(decide(&Known::Ended(&done), &wanted(1, 10)), Decision::Answer);
		assert_eq!(decide(&Known::Ended(&done), &wanted(1, 11)), Decision::Start);
	}

	#[test]
	fn a_failure_is_tried_again_in_the_next_slot() {
		let failure = ended(1, failed());
		assert_eq!(decide(&Known::Ended(&failure), &wanted(0, 0)), Decision::Answer);
		assert_eq!(decide(&Known::Ended(&failure), &wanted(1, 0)), Decision::Answer);
		assert_eq!(decide(&Known::Ended(&failure), &wanted(2, 0)), Decision::Start);
	}

	#[test]
	fn a_restore_is_done_once() {
		let done = ended(0, Outcome::Restored { path: "/image".into() });
		assert_eq!(decide(&Known::Ended(&done), &wanted(0, 0)), Decision::Answer);
	}
}
