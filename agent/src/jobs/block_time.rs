//! How long the blocks of the chain's clock take, as this host sees them come.
//!
//! The chain counts its cadence in blocks, and nobody tells an agent how long they take: on a parachain
//! they are another chain's. The median of the last steps is taken, so that a node that was away, or
//! that catches up, does not change it.

use std::collections::VecDeque;

/// Steps that are remembered.
const STEPS_MAX: usize = 33;

/// Steps without which nothing is said.
const STEPS_MIN: usize = 5;

/// The last steps of the clock.
#[derive(Debug, Default)]
pub(super) struct BlockTime {
	/// The block that the clock showed last, and when it began to, in milliseconds since 1970.
	last: Option<(u64, u64)>,
	/// Milliseconds that a block took, for each of the last steps.
	steps_ms: VecDeque<u64>,
}

impl BlockTime {
	/// The clock shows this block now. One that goes back, after a fork, begins a new step.
	pub(super) fn note(&mut self, block: u64, now_ms: u64) {
		let Some((before, at_ms)) = self.last.replace((block, now_ms)) else { return };
		if block == before {
			self.last = Some((before, at_ms));
			return;
		}
		let (Some(blocks), Some(ms)) = (block.checked_sub(before), now_ms.checked_sub(at_ms))
		else {
			return;
		};
		self.steps_ms.push_back(ms / blocks);
		if self.steps_ms.len() > STEPS_MAX {
			self.steps_ms.pop_front();
		}
	}

	/// How long a block takes, in milliseconds, once some have come.
	pub(super) fn ms(&self) -> Option<u64> {
		let mut steps: Vec<u64> = self.steps_ms.iter().copied().collect();
		steps.sort_unstable();
		steps.get(steps.len() / 2).copied().filter(|_| steps.len() >= STEPS_MIN)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn after(steps: &[(u64, u64)]) -> Option<u64> {
		let mut time = BlockTime::default();
		for (block, now_ms) in steps {
			time.note(*block, *now_ms);
		}
		time.ms()
	}

	#[test]
	fn a_block_takes_what_most_of_the_last_ones_took() {
		let even: Vec<_> = (0..6).map(|n| (100 + n, 6_000 * n)).collect();
		assert_eq!(after(&even), Some(6_000));
		assert_eq!(after(&even[..5]), None, "too few to say");
		// On a parachain the clock moves by several of its blocks at once.
		let several: Vec<_> = (0..6).map(|n| (100 + 2 * n, 12_000 * n)).collect();
		assert_eq!(after(&several), Some(6_000));
		// Two workers of one agent tell the same block.
		let twice: Vec<_> = even.iter().flat_map(|(n, ms)| [(*n, *ms), (*n, ms + 3_000)]).collect();
		assert_eq!(after(&twice), Some(6_000));
	}

	#[test]
	fn a_time_away_a_fork_and_a_clock_that_was_set_do_not_change_it() {
		let mut steps: Vec<_> = (0..6).map(|n| (100 + n, 6_000 * n)).collect();
		// The chain stood still for a day, went back by two blocks, then caught up.
		steps.extend([(106, 86_400_000), (104, 86_406_000), (107, 86_406_100)]);
		assert_eq!(after(&steps), Some(6_000));
		steps.push((108, 1_000));
		assert_eq!(after(&steps), Some(6_000));
	}

	#[test]
	fn boundary_the_last_steps_count() {
		let slow = (0..100).map(|n| (n, 12_000 * n));
		let quick = (1..=20).map(|n| (99 + n, 12_000 * 99 + 2_000 * n));
		let steps: Vec<_> = slow.chain(quick).collect();
		assert_eq!(after(&steps), Some(2_000));
		assert_eq!(after(&steps[..115]), Some(12_000), "15 of 33 are not the most");
	}
}
