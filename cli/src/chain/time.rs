//! Dates on the chain: which of a history's snapshots were taken by then.
//!
//! Nodes forget old states, but hardly ever old blocks. So a block's time is read from its body,
//! where its author says it in a transaction without a signature, the call `Timestamp.set`.

use super::{AtBlock, Chain, records::Snapshot};
use crate::{args::When, error::CliError};
use codec::{Compact, Decode};

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
		// Blocks are as old as they are ordered, so a few of them are looked at.
		let (mut low, mut high) = (0, snapshots.len());
		while low < high {
			let middle = low + (high - low) / 2;
			match self.time_of(at, snapshots[middle].taken_at).await? <= ms {
				true => low = middle + 1,
				false => high = middle,
			}
		}
		Ok(low)
	}

	/// The time of a block of the best chain, in milliseconds since 1970.
	async fn time_of(&self, at: &AtBlock, block: u64) -> Result<i64, CliError> {
		let unknown = || CliError::NoTime { block };
		let metadata = at.metadata_ref();
		let pallet = metadata.pallet_by_name("Timestamp").ok_or_else(unknown)?;
		let call = pallet.call_variant_by_name("set").ok_or_else(unknown)?;
		let index = [pallet.call_index(), call.index];
		let hash = self.rpc.chain_get_block_hash(Some(block.into())).await;
		let hash = hash.map_err(subxt::Error::from)?.ok_or_else(unknown)?;
		let found = self.rpc.chain_get_block(Some(hash)).await.map_err(subxt::Error::from)?;
		let body = found.ok_or_else(unknown)?.block.extrinsics;
		body.iter().find_map(|bytes| time_in(&bytes.0, index)).ok_or_else(unknown)
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
	fn what_is_cut_off_tells_nothing() {
		let whole = transaction(5, [3, 0], &Compact(1_777_593_600_000u64).encode());
		for end in 0..whole.len() {
			assert_eq!(time_in(&whole[..end], [3, 0]), None, "{end} bytes");
		}
	}
}
