//! What a snapshot takes of the state and of a block. The figures stand in `docs/performance.md`;
//! here is what they may not exceed.

use crate::{authorize::ReportKind, mock::*};
use std::collections::BTreeMap;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// All of the pallet's storage.
fn state() -> State {
	let prefix = sp_io::hashing::twox_128(b"Backup");
	let mut state = State::new();
	let mut last = prefix.to_vec();
	while let Some(key) = sp_io::storage::next_key(&last).filter(|key| key.starts_with(&prefix)) {
		state.insert(key.clone(), sp_io::storage::get(&key).unwrap().to_vec());
		last = key;
	}
	state
}

fn bytes(state: &State) -> usize {
	state.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Record one more snapshot, and say which entries of the state it changed, and by how many bytes
/// that grew.
fn record_one(tag: u8) -> (Vec<Vec<u8>>, usize) {
	let due_at = Backup::due_at(&crate::Lineages::<Test>::get(REQUEST).unwrap());
	run_to(due_at);
	let before = state();
	record(REQUEST, tag);
	let after = state();
	let changed =
		after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key);
	(changed.cloned().collect(), bytes(&after) - bytes(&before))
}

#[test]
fn a_snapshot_takes_less_than_400_bytes_of_state_however_many_there_are() {
	story_of_alice(|| {
		keep_last(40);
		record(REQUEST, 0);
		// The lineage grows with its first snapshots: their times are there then.
		record(REQUEST, 1);
		let sizes: Vec<usize> = (2..30).map(|tag| record_one(tag).1).collect();
		assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
		// Accounts have 8 bytes here, 32 on chains; nodes 4, requests 8. Two keys hold the account
		// or the request, and each of those is hashed besides.
		let on_chain = sizes[0] + 24;
		assert!(on_chain < 400, "{on_chain}");
		println!("{on_chain} bytes of state for each snapshot");
	});
}

#[test]
fn a_report_writes_five_entries_and_one_that_all_reports_of_a_block_share() {
	story_of_alice(|| {
		keep_last(40);
		record(REQUEST, 0);
		record(REQUEST, 1);
		let (changed, _) = record_one(2);
		let shared = crate::ReportsInBlock::<Test>::hashed_key().to_vec();
		assert!(changed.contains(&shared));
		// Snapshot, its index, lineage, header, and the node's quota.
		assert_eq!(changed.len(), 5 + 1);
	});
}

#[test]
fn what_reports_may_take_of_a_block_is_enough_for_many() {
	story_of_alice(|| {
		let room = Backup::weight_max_of_reports();
		let each = ReportKind::Snapshot.weight::<Test>();
		let count = room.checked_div_per_component(&each).unwrap();
		assert!(count >= 50, "{count} reports fit a block");
	});
}
