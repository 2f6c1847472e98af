//! Dates on the chain: which of a history's snapshots were taken by then, and which block will be made then.
//!
//! A block's time is read from its body, where its author says it in a transaction without a
//! signature, the call `Timestamp.set`: nodes forget old states, but hardly ever old blocks. Some do
//! forget these too, so a search begins at the newest block and never asks for older ones than it
//! needs; of what was forgotten the oldest block that is left tells until when it was.

use super::{AtBlock, Chain, records::Snapshot};
use crate::{args::When, error::CliError};
use codec::{Compact, Decode};

/// Most blocks from which it is reckoned how fast they come: a day of those that take six seconds.
const SPAN_BLOCKS_MAX: u64 = 14_400;

impl Chain {
	/// How many of these snapshots, oldest first, were taken at a time or before.
	pub(crate) async fn taken_by(
		&self,
		at: &AtBlock,
		snapshots: &[Snapshot],
		when: When,
	) -> Result<usize, CliError> {
		let ms = match when {
			When::Block(block) => {
				return Ok(snapshots.partition_point(|one| one.taken_at <= block));
			}
			When::Time(ms) => ms,
		};
		let blocks: Vec<u64> = snapshots.iter().map(|one| one.taken_at).collect();
		let time_of = async |block| self.time_of(at, block).await;
		match made_by(&blocks, at.block_number(), ms, time_of).await? {
			Search::Found(count) => Ok(count),
			Search::Forgotten { oldest, oldest_ms } => {
				Err(CliError::TimeForgotten { when, block: oldest, oldest: When::Time(oldest_ms) })
			}
			Search::Nothing { block } => Err(CliError::NoTime { block }),
		}
	}

	/// The block of a time that is to come, reckoned from how fast blocks have come: at best those of the
	/// last [`SPAN_BLOCKS_MAX`].
	pub(crate) async fn block_of(&self, at: &AtBlock, when: When) -> Result<u64, CliError> {
		let ms = match when {
			When::Block(block) => return Ok(block),
			When::Time(ms) => ms,
		};
		let best = at.block_number();
		let unknown = || CliError::NoTime { block: best };
		let best_ms = self.time_of(at, best).await?.ok_or_else(unknown)?;
		if ms <= best_ms {
			return Err(CliError::TimeOver { when, block: best, now: When::Time(best_ms) });
		}
		// The first block of all has no time.
		let mut span = best.saturating_sub(1).min(SPAN_BLOCKS_MAX);
		while span > 0 {
			if let Some(before_ms) = self.time_of(at, best - span).await? {
				let block = reckoned(best, ms - best_ms, span, best_ms - before_ms);
				return block.ok_or_else(unknown);
			}
			// The node has forgotten blocks as old as that.
			span /= 2;
		}
		Err(unknown())
	}

	/// The time of a block of the best chain, in milliseconds since 1970. Nothing, if the node has
	/// forgotten the block.
	pub(crate) async fn time_of(&self, at: &AtBlock, block: u64) -> Result<Option<i64>, CliError> {
		let unknown = || CliError::NoTime { block };
		let metadata = at.metadata_ref();
		let pallet = metadata.pallet_by_name("Timestamp").ok_or_else(unknown)?;
		let call = pallet.call_variant_by_name("set").ok_or_else(unknown)?;
		let index = [pallet.call_index(), call.index];
		let hash = self.rpc.chain_get_block_hash(Some(block.into())).await;
		let Some(hash) = hash.map_err(subxt::Error::from)? else { return Ok(None) };
		let found = self.rpc.chain_get_block(Some(hash)).await.map_err(subxt::Error::from)?;
		let body = found.map(|found| found.block.extrinsics).unwrap_or_default();
		Ok(body.iter().find_map(|bytes| time_in(&bytes.0, index)))
	}
}

/// The first block that is no sooner than so long after the best one, where `span` blocks took `span_ms`.
/// Nothing if they took no time.
fn reckoned(best: u64, ahead_ms: i64, span: u64, span_ms: i64) -> Option<u64> {
	let span_ms = u128::try_from(span_ms).ok().filter(|ms| *ms > 0)?;
	let blocks = (u128::try_from(ahead_ms).ok()? * u128::from(span)).div_ceil(span_ms);
	Some(best.saturating_add(u64::try_from(blocks).unwrap_or(u64::MAX)))
}

/// What a search for a time came to.
#[derive(Debug, PartialEq, Eq)]
enum Search {
	/// So many blocks were made by then.
	Found(usize),
	/// It lies before all that the node remembers.
	Forgotten { oldest: u64, oldest_ms: i64 },
	/// Not even the newest block has a time.
	Nothing { block: u64 },
}

/// How many of these blocks, in their order, were made at a time or before. `time_of` answers nothing
/// of a block that was forgotten, which all before it were then, too.
async fn made_by(
	blocks: &[u64],
	best: u64,
	ms: i64,
	time_of: impl AsyncFn(u64) -> Result<Option<i64>, CliError>,
) -> Result<Search, CliError> {
	// What is before `low` was made by then or was forgotten; what is from `high` on, later.
	let (mut low, mut high, mut is_low_forgotten) = (0, blocks.len(), false);
	// From the newest back, twice as far each time, until a block is old enough.
	let mut step = 1;
	while low < high {
		let place = match low {
			0 if !is_low_forgotten => high.saturating_sub(step),
			_ => low + (high - low) / 2,
		};
		step *= 2;
		match time_of(blocks[place]).await? {
			Some(time) if time > ms => high = place,
			told => (low, is_low_forgotten) = (place + 1, told.is_none()),
		}
	}
	let Some(forgotten) = low.checked_sub(1).filter(|_| is_low_forgotten) else {
		return Ok(Search::Found(low));
	};
	// Whatever was made before a block that is old enough is older still.
	let (mut gone, mut left) = (blocks[forgotten], blocks.get(high).copied().unwrap_or(best));
	let Some(mut oldest_ms) = time_of(left).await? else {
		return Ok(Search::Nothing { block: left });
	};
	while left - gone > 1 {
		let middle = gone + (left - gone) / 2;
		match time_of(middle).await? {
			Some(time) => (left, oldest_ms) = (middle, time),
			None => gone = middle,
		}
	}
	match oldest_ms <= ms {
		true => Ok(Search::Found(low)),
		false => Ok(Search::Forgotten { oldest: left, oldest_ms }),
	}
}

/// The time that a transaction sets, if it is the one that does.
fn time_in(mut bytes: &[u8], set: [u8; 2]) -> Option<i64> {
	/// Bits of a transaction's first byte, behind its length, that say it is signed or authorized.
	const KIND: u8 = 0b1100_0000;
	Compact::<u32>::decode(&mut bytes).ok()?;
	let version = u8::decode(&mut bytes).ok()?;
	let call = <[u8; 2]>::decode(&mut bytes).ok()?;
	if version & KIND != 0 || call != set {
		return None;
	}
	i64::try_from(Compact::<u64>::decode(&mut bytes).ok()?.0).ok()
}

#[cfg(test)]
mod tests {
	use super::*;
	use codec::Encode;

	/// A transaction as it stands in a block.
	fn transaction(version: u8, call: [u8; 2], rest: &[u8]) -> Vec<u8> {
		[&[version][..], &call, rest].concat().encode()
	}

	#[test]
	fn only_the_call_that_sets_the_time_tells_it() {
		let time = Compact(1_777_593_600_000u64).encode();
		for version in [4, 5] {
			let bytes = transaction(version, [3, 0], &time);
			assert_eq!(time_in(&bytes, [3, 0]), Some(1_777_593_600_000));
			assert_eq!(time_in(&bytes, [3, 1]), None);
			assert_eq!(time_in(&bytes, [2, 0]), None);
		}
		for signed in [0x84, 0x85, 0x45] {
			assert_eq!(time_in(&transaction(signed, [3, 0], &time), [3, 0]), None);
		}
	}

	#[test]
	fn a_block_to_come_is_reckoned_from_those_that_have_come() {
		const DAY_MS: i64 = 86_400_000;
		// A block each six seconds, and each twelve as every second one was missed.
		assert_eq!(reckoned(500, DAY_MS, 100, 600_000), Some(14_900));
		assert_eq!(reckoned(500, DAY_MS, 100, 1_200_000), Some(7_700));
		// None is sooner than the time that was named.
		assert_eq!(reckoned(500, 1, 100, 600_000), Some(501));
		assert_eq!(reckoned(500, 6_001, 100, 600_000), Some(502));
		for no_time in [0, -1] {
			assert_eq!(reckoned(500, DAY_MS, 100, no_time), None);
		}
		assert_eq!(reckoned(500, i64::MAX, SPAN_BLOCKS_MAX, 1), Some(u64::MAX));
	}

	/// A chain with a block each second, of which a node remembers those from `oldest` on. Gives how
	/// the search ended, and the oldest block that was asked for.
	async fn search(blocks: &[u64], oldest: u64, ms: i64) -> (Search, u64) {
		let asked = std::cell::Cell::new(u64::MAX);
		let time_of = async |block: u64| {
			asked.set(asked.get().min(block));
			Ok((block >= oldest).then_some(block as i64 * 1_000))
		};
		let found = made_by(blocks, 100_000, ms, time_of).await.unwrap();
		(found, asked.get())
	}

	fn daily() -> Vec<u64> {
		(1..=1_000).map(|day| day * 100).collect()
	}

	#[tokio::test]
	async fn every_time_is_found() {
		let blocks = daily();
		for (ms, count) in [
			(i64::MAX, 1_000),
			(100_000_000, 1_000),
			(99_999_999, 999),
			(50_050_000, 500),
			(100_000, 1),
			(99_999, 0),
			(-1, 0),
		] {
			assert_eq!(search(&blocks, 0, ms).await.0, Search::Found(count), "{ms}");
		}
		assert_eq!(search(&[], 0, 5).await.0, Search::Found(0));
	}

	#[tokio::test]
	async fn what_is_recent_is_found_without_old_blocks() {
		let blocks = daily();
		let (found, asked) = search(&blocks, 90_000, 99_850_000).await;
		assert_eq!(found, Search::Found(998));
		assert!(asked >= 99_600, "it asked for block {asked}");
		assert_eq!(search(&blocks, 90_000, i64::MAX).await, (Search::Found(1_000), 100_000));
	}

	#[tokio::test]
	async fn the_oldest_block_that_is_left_tells_of_the_one_before() {
		let blocks = daily();
		// Block 94,900 was forgotten; 94,950 was not, and says that it is old enough.
		assert_eq!(search(&blocks, 94_950, 94_960_000).await.0, Search::Found(949));
		// The same where nothing is left of any snapshot.
		assert_eq!(search(&blocks[..10], 94_950, 94_960_000).await.0, Search::Found(10));
	}

	#[tokio::test]
	async fn a_time_before_all_that_is_left_is_told_so() {
		let blocks = daily();
		let forgotten = Search::Forgotten { oldest: 94_950, oldest_ms: 94_950_000 };
		assert_eq!(search(&blocks, 94_950, 94_940_000).await.0, forgotten);
		let forgotten = Search::Forgotten { oldest: 94_950, oldest_ms: 94_950_000 };
		assert_eq!(search(&blocks, 94_950, 5).await.0, forgotten);
		let nothing = Search::Nothing { block: 100_000 };
		assert_eq!(search(&blocks, u64::MAX, 5).await.0, nothing);
	}

	#[test]
	fn what_is_cut_off_tells_nothing() {
		let whole = transaction(5, [3, 0], &Compact(1_777_593_600_000u64).encode());
		for end in 0..whole.len() {
			assert_eq!(time_in(&whole[..end], [3, 0]), None, "{end} bytes");
		}
	}
}
