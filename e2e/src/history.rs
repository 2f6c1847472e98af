//! A past that a chain begins with: machines with snapshots that nobody had to take.

use crate::story;
use backup_primitives::Cid;
use codec::Encode;
use sp_crypto_hashing::{blake2_128, twox_64, twox_128};

/// Snapshots of one machine, as many as the chain keeps at most.
pub const SNAPSHOTS_OF_MACHINE: u64 = 365;

/// Entries of the state that are machines of an account with so many snapshots in all, each with as many
/// as it may have.
pub fn snapshots_of(owner: [u8; 32], snapshots: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
	let machines = snapshots.div_ceil(SNAPSHOTS_OF_MACHINE);
	let of_machine = |request| SNAPSHOTS_OF_MACHINE.min(snapshots - request * SNAPSHOTS_OF_MACHINE);
	machines_of(owner, (0..machines).map(of_machine))
}

/// Entries of the state that are machines of an account, each with so many snapshots, as the pallets keep
/// them. Their requests are numbered from 0 on, and they run on the story's node.
pub fn machines_of(
	owner: [u8; 32],
	snapshots: impl IntoIterator<Item = u64>,
) -> Vec<(Vec<u8>, Vec<u8>)> {
	let (mut entries, mut machines) = (Vec::new(), 0u64);
	for (request, count) in (0u64..).zip(snapshots) {
		machines = request + 1;
		let id = concat(blake2_128, &request);
		let vm = format!("vm-{request}").into_bytes();
		// Running, on the first node.
		let state = (2u8, story::NODE, vm);
		entries.push((key("Compute", "Requests", &[&id]), (owner, 1u64 << 30, state).encode()));
		entries.push((key("Backup", "Lineages", &[&id]), lineage(owner, count)));
		let of_account = key("Backup", "LineagesOfAccount", &[&concat(blake2_128, &owner), &id]);
		entries.push((of_account, Vec::new()));
		for sequence in 0..count {
			let place = concat(twox_64, &sequence);
			let record = snapshot(request, sequence);
			entries.push((key("Backup", "Snapshots", &[&id, &place]), record));
		}
	}
	let count = u32::try_from(machines).unwrap_or(u32::MAX).encode();
	let of_account = &concat(blake2_128, &owner);
	entries.push((key("Backup", "LineageCountOfAccount", &[of_account]), count));
	entries.push((key("Compute", "NextRequestId", &[]), machines.encode()));
	entries
}

/// A lineage without gaps. What is not told below is as at its beginning.
fn lineage(owner: [u8; 32], count: u64) -> Vec<u8> {
	let (salt, created_at, kept) = ([7u8; 32], 0u32, u32::try_from(count).unwrap_or(u32::MAX));
	let begin = (story::NODE, owner, salt, created_at, count, kept, count << 20);
	let eviction = (0u64, None::<u64>, 0u64);
	let (holds, deletion) = ((0u32, 0u32), (None::<u32>, false));
	let times = (Some(0u32), Some(0u32), None::<u32>);
	let (failure, settings) = (None::<()>, (false, Some(365u32)));
	(begin, eviction, holds, deletion, times, failure, settings).encode()
}

fn snapshot(request: u64, sequence: u64) -> Vec<u8> {
	let cid = Cid::dag_cbor(sp_crypto_hashing::blake2_256(&(request, sequence).encode()));
	let (taken_at, recorded_at, description) = (0u32, 0u32, None::<Vec<u8>>);
	let (logical_bytes, new_bytes, consistency) = (1u64 << 30, 1u64 << 20, 1u8);
	let begin = (cid, request, taken_at, recorded_at, description);
	(begin, logical_bytes, new_bytes, consistency, story::NODE, 1u32).encode()
}

/// Where a map keeps what these keys lead to.
fn key(pallet: &str, map: &str, keys: &[&[u8]]) -> Vec<u8> {
	[&twox_128(pallet.as_bytes())[..], &twox_128(map.as_bytes()), &keys.concat()].concat()
}

/// A key behind its hash.
fn concat<const N: usize>(hash: fn(&[u8]) -> [u8; N], key: &impl Encode) -> Vec<u8> {
	let key = key.encode();
	[&hash(&key)[..], &key].concat()
}
