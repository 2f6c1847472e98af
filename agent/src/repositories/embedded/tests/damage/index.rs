//! An index that is old or damaged costs no snapshot.

use super::*;
use crate::repositories::{
	RepositoryError,
	embedded::{index::INDEX_FILE, tests::simulated::Chance},
};
use std::collections::BTreeMap;

#[test]
fn an_old_index_is_rebuilt_with_everything() {
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	let store = open_on(&files);
	snapshots.back_up(&store, 0);
	drop(store);
	let old = files.content(INDEX_FILE);
	let store = open_on(&files);
	snapshots.back_up(&store, 1);
	drop(store);
	files.edit(INDEX_FILE, |bytes| *bytes = old);
	let store = open_on(&files);
	assert!(store.pins_unconfirmed());
	assert!(check(&store).is_good());
	assert_heals(&store, &snapshots);
}

/// Cause: the folder is not synced when a rebuilt index takes the place of an old one. Effect:
/// after a power cut the old one is back, and names blocks whose space was freed since.
#[test]
fn a_rebuilt_index_is_not_followed_by_the_old_one() {
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	snapshots.back_up(&open_on(&files), 0);
	let old = files.content(INDEX_FILE);
	snapshots.back_up(&open_on(&files), 1);
	files.edit(INDEX_FILE, |bytes| *bytes = old);
	let store = open_on(&files);
	store.confirm_pins().unwrap();
	for root in &snapshots.roots {
		store.unpin(&root.cid).unwrap();
	}
	store.collect().unwrap();
	for seed in 0..20 {
		let report = check(&open_on(&files.after_power_cut(seed)));
		assert!(report.is_good(), "seed {seed}: {report:?}");
	}
}

#[test]
fn an_index_that_was_given_up_does_not_come_back() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let name = snapshots.own[0].cid.digest();
	files.edit(INDEX_FILE, |bytes| {
		let mut at = 0;
		while let Some(found) = bytes[at..].windows(32).position(|window| window == name) {
			at += found + 1;
			bytes[at] ^= 1;
		}
	});
	assert!(repair(&store).is_index_suspect);
	assert!(matches!(store.collect(), Err(RepositoryError::IndexDamaged)));
	for seed in 0..20 {
		let store = open_on(&files.after_power_cut(seed));
		assert!(store.pins_unconfirmed(), "seed {seed}: it was not rebuilt");
		assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
	}
}

/// Flips one bit of the index and follows the advice. Says when it was noticed.
fn flip_in_index(at: usize, bit: u8) -> &'static str {
	let context = format!("bit {bit} of byte {at}");
	let (files, snapshots) = disk();
	files.edit(INDEX_FILE, |bytes| bytes[at] ^= 1 << bit);
	let mut store = open_on(&files);
	let mut noticed = "at open";
	if !store.pins_unconfirmed() {
		let is_good = check(&store).is_good();
		let report = repair(&store);
		noticed = match (is_good, report.is_index_suspect) {
			(false, true) => "by a check",
			(true, true) => "by a repair",
			(true, false) => "never",
			(false, false) => panic!("{context}: {report:?}"),
		};
		drop(store);
		store = open_on(&files);
	}
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)), "{context}");
	assert_heals(&store, &snapshots);
	noticed
}

/// Where the index has the names and places of blocks; some in pages that are free by now.
fn places_in_index() -> Vec<usize> {
	let (files, _) = disk();
	let mut sought = Vec::new();
	open_on(&files)
		.shared
		.index
		.scan(None, usize::MAX, &mut |name, entry| {
			sought.push(name.to_vec());
			sought.push(entry.encode().to_vec());
		})
		.unwrap();
	let bytes = files.content(INDEX_FILE);
	let found = |sought: &[u8]| -> Vec<usize> {
		let windows = bytes.windows(sought.len()).enumerate();
		let starts = windows.filter(|(_, window)| *window == sought).map(|(at, _)| at);
		// First, last, and every part of an entry.
		let parts = [0, 4, 8, 12, sought.len() - 1];
		starts.flat_map(|start| parts.map(|part| start + part)).collect()
	};
	sought.iter().flat_map(|sought| found(sought)).collect()
}

#[test]
fn a_flipped_bit_in_an_entry_of_the_index_costs_no_snapshot() {
	let mut noticed = BTreeMap::<_, u32>::new();
	let mut chance = Chance::new(1);
	for at in places_in_index() {
		*noticed.entry(flip_in_index(at, chance.below(2) as u8)).or_default() += 1;
	}
	assert!(noticed["by a check"] > 30, "{noticed:?}");
}

#[test]
fn a_flipped_bit_anywhere_in_the_index_costs_no_snapshot() {
	let (files, _) = disk();
	let bytes = files.content(INDEX_FILE);
	let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
	let mut chance = Chance::new(2);
	for _ in 0..200 {
		let at = used[chance.below(used.len() as u64) as usize];
		flip_in_index(at, chance.below(8) as u8);
	}
	// The header, where redb has its state.
	for at in (0..320).step_by(3) {
		flip_in_index(at, chance.below(8) as u8);
	}
}
