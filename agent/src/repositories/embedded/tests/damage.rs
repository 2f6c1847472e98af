//! Damaged stores: what is said when they are opened and when they are checked, what still
//! restores after a repair, and that the next backup of the same content makes all whole.

use super::{
	fixture::*,
	simulated::{Chance, SimulatedFiles},
};
use crate::{
	format::Cid,
	repositories::{
		BlockSource, Chunks, EmbeddedStore, Repository, RepositoryError, StoreReport,
		embedded::{
			collect::Marked,
			index::{Entry, INDEX_FILE},
			pins::PINS_FILE,
			record::HEADER_BYTES,
		},
		verify,
	},
};
use std::{collections::BTreeMap, sync::Arc};

/// Two snapshots that share a chunk and a node; each has a chunk and a node of its own.
struct Snapshots {
	shared: [Block; 2],
	shared_node: Block,
	own: [Block; 2],
	own_nodes: [Block; 2],
	roots: [Block; 2],
}

impl Snapshots {
	fn new() -> Self {
		let shared = [chunk(1, 3000), chunk(2, 3000)];
		let shared_node = node(3, &[&shared[0], &shared[1]]);
		let own = [chunk(10, 3000), chunk(20, 3000)];
		let own_nodes = [node(11, &[&own[0]]), node(21, &[&own[1]])];
		let roots = [0, 1].map(|at| node(30 + at as u64, &[&shared_node, &own_nodes[at]]));
		Self { shared, shared_node, own, own_nodes, roots }
	}

	/// In the order of a backup.
	fn blocks(&self, snapshot: usize) -> [&Block; 6] {
		[
			&self.shared[0],
			&self.shared[1],
			&self.shared_node,
			&self.own[snapshot],
			&self.own_nodes[snapshot],
			&self.roots[snapshot],
		]
	}

	fn back_up(&self, store: &EmbeddedStore, snapshot: usize) {
		let session = store.open_session().unwrap();
		put_all(&*session, &self.blocks(snapshot));
		session.pin(&self.roots[snapshot].cid, b"label").unwrap();
	}

	fn is_whole(&self, store: &EmbeddedStore, snapshot: usize) -> bool {
		let root = &self.roots[snapshot].cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}

fn open_on(files: &SimulatedFiles) -> EmbeddedStore {
	EmbeddedStore::open_files(Arc::new(files.clone()), SMALL).unwrap()
}

/// A disk with both snapshots on it, the store closed.
fn disk() -> (SimulatedFiles, Snapshots) {
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	let store = open_on(&files);
	snapshots.back_up(&store, 0);
	snapshots.back_up(&store, 1);
	drop(store);
	(files, snapshots)
}

const PACK: &str = "00000001.pack";

/// Flips a bit within the record of a block, at an offset from its header.
fn flip_in(files: &SimulatedFiles, block: &Block, at: usize) {
	files.edit(PACK, |bytes| {
		let cid = block.cid.as_bytes();
		let found = bytes.windows(cid.len()).position(|window| window == cid).unwrap();
		bytes[found - 12 + at] ^= 4;
	});
}

const DATA: usize = HEADER_BYTES as usize + 7;

fn check(store: &EmbeddedStore) -> StoreReport {
	store.check(&mut |_| true).unwrap()
}

fn repair(store: &EmbeddedStore) -> StoreReport {
	store.repair(&mut |_| true).unwrap()
}

/// A new backup of the same content, and everything is as if nothing had happened.
fn assert_heals(store: &EmbeddedStore, snapshots: &Snapshots) {
	snapshots.back_up(store, 0);
	snapshots.back_up(store, 1);
	repair(store);
	let report = check(store);
	assert!(report.is_good(), "{report:?}");
	assert!((0..2).all(|snapshot| snapshots.is_whole(store, snapshot)));
	store.confirm_pins().unwrap();
	store.collect().unwrap();
	assert!((0..2).all(|snapshot| snapshots.is_whole(store, snapshot)));
}

#[test]
fn a_sound_store_is_good() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let report = check(&store);
	assert!(report.is_good(), "{report:?}");
	assert_eq!((report.good_blocks, report.unknown_bytes), (9, 0));
	assert_eq!(repair(&store), report);
	assert!(store.unpin(&snapshots.roots[0].cid).unwrap());
	assert_eq!(store.collect().unwrap().blocks, 3);
	let report = check(&store);
	assert!(report.is_good(), "{report:?}");
	assert_eq!((report.good_blocks, report.unknown_bytes), (6, 0), "holes are known");
}

#[test]
fn a_check_can_be_ended_and_an_ended_repair_changes_nothing() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[0], DATA);
	let store = open_on(&files);
	for end_after in 0..9 {
		let mut calls = 0;
		let mut proceed = |_: &StoreReport| {
			calls += 1;
			calls <= end_after
		};
		assert!(!store.repair(&mut proceed).unwrap().is_finished);
		assert!(store.has(&snapshots.roots[0].cid).unwrap());
	}
}

#[test]
fn a_damaged_block_is_found_noted_and_stored_anew() {
	// Which block is hit; nodes that are incomplete by it; snapshots that are lost.
	type Case = (fn(&Snapshots) -> &Block, u64, &'static [usize]);
	let cases: [Case; 5] = [
		(|all| &all.shared[0], 3, &[0, 1]),
		(|all| &all.shared_node, 2, &[0, 1]),
		(|all| &all.own[1], 2, &[1]),
		(|all| &all.own_nodes[0], 1, &[0]),
		(|all| &all.roots[1], 0, &[1]),
	];
	for (number, (hit, incomplete, lost)) in cases.into_iter().enumerate() {
		let (files, snapshots) = disk();
		flip_in(&files, hit(&snapshots), DATA);
		let store = open_on(&files);
		let report = check(&store);
		let context = format!("case {number}: {report:?}");
		assert!(!store.pins_unconfirmed() && !report.is_index_suspect, "{context}");
		assert_eq!((report.damaged_blocks, report.incomplete_nodes), (1, incomplete), "{context}");
		assert_eq!(report.damaged, [hit(&snapshots).cid], "{context}");
		let mut roots: Vec<_> = lost.iter().map(|at| snapshots.roots[*at].cid).collect();
		roots.sort();
		assert_eq!(report.lost_roots, roots, "{context}");
		assert_eq!(repair(&store), report, "{context}");
		// It is known now, and a second repair has nothing to do.
		let again = repair(&store);
		assert_eq!((again.unnoted, again.damaged_blocks), (0, 1), "case {number}: {again:?}");

		for snapshot in 0..2 {
			let root = &snapshots.roots[snapshot].cid;
			assert_eq!(store.has(root).unwrap(), !lost.contains(&snapshot), "{context}");
			assert!(store.is_pinned(root), "{context}");
		}
		// Collections go on, and keep all that can be reached from any pin.
		store.collect().unwrap();
		for snapshot in 0..2 {
			let is_whole = snapshots.is_whole(&store, snapshot);
			assert_eq!(is_whole, !lost.contains(&snapshot), "{context}");
		}
		drop(store);
		let store = open_on(&files);
		assert!(!store.pins_unconfirmed(), "{context}");
		assert_heals(&store, &snapshots);
	}
}

#[test]
fn what_is_left_of_a_lost_root_stays_until_it_is_unpinned() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], DATA);
	let store = open_on(&files);
	repair(&store);
	store.collect().unwrap();
	let left = verify(&store, &snapshots.roots[0].cid, Chunks::Hashed, &mut |_| true).unwrap();
	assert_eq!((left.good_blocks, left.bad_blocks), (5, 1));
	assert_eq!(left.missing, [snapshots.own[0].cid]);
	assert!(store.unpin(&snapshots.roots[0].cid).unwrap());
	assert_eq!(store.collect().unwrap().blocks, 3);
	assert!(check(&store).is_good());
	assert!(snapshots.is_whole(&store, 1));
}

#[test]
fn a_pinned_root_takes_another_label_although_something_below_it_is_lost() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], DATA);
	let store = open_on(&files);
	repair(&store);
	let roots = [snapshots.roots[0].cid, snapshots.roots[1].cid];
	assert!(!store.has(&roots[0]).unwrap());
	assert!(store.relabel(&roots[0], b"other").unwrap());
	drop(store);
	let store = open_on(&files);
	let pins = store.pins().unwrap();
	let label = |root| pins.iter().find(|pin| pin.root == root).unwrap().label.as_slice();
	assert_eq!(roots.map(label), [&b"other"[..], b"label"]);
	// What is not pinned does not become so.
	assert!(store.unpin(&roots[0]).unwrap());
	assert!(!store.relabel(&roots[0], b"other").unwrap());
	let refused = store.open_session().unwrap().pin(&roots[0], b"label");
	assert!(matches!(refused, Err(RepositoryError::Missing { cid }) if cid == roots[0]));
	assert!(!store.is_pinned(&roots[0]));
}

#[test]
fn a_session_that_may_rely_on_damage_is_told_so() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[0], DATA);
	let store = open_on(&files);
	let session = store.open_session().unwrap();
	assert!(session.has(&snapshots.shared_node.cid).unwrap());
	let above = node(50, &[&snapshots.shared_node]);
	put_all(&*session, &[&above]);
	repair(&store);
	let pinned = session.pin(&above.cid, b"");
	assert!(matches!(pinned, Err(RepositoryError::SessionLost | RepositoryError::Missing { .. })));
	assert!(!store.has(&above.cid).unwrap(), "it was stored on top of damage");
	drop(session);
	let session = store.open_session().unwrap();
	repair(&store);
	assert!(session.has(&snapshots.own[0].cid).unwrap(), "nothing new was found");
}

#[test]
fn a_root_stored_and_pinned_during_a_repair_is_found_with_the_others() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[0], DATA);
	let store = open_on(&files);
	let above = node(50, &[&snapshots.shared_node]);
	let mut calls = 0;
	let report = store.repair(&mut |_| {
		calls += 1;
		if calls == 12 {
			let session = store.open_session().unwrap();
			put_all(&*session, &[&above]);
			session.pin(&above.cid, b"").unwrap();
		}
		true
	});
	assert!(report.unwrap().is_finished && calls > 12);
	assert!(!store.has(&above.cid).unwrap());
	assert!(check(&store).lost_roots.contains(&above.cid));
	store.collect().unwrap();
	assert_heals(&store, &snapshots);
}

#[test]
fn a_pinned_root_of_which_nothing_is_left_loses_its_pin() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.roots[0], DATA);
	files.take_away(INDEX_FILE);
	let store = open_on(&files);
	store.confirm_pins().unwrap();
	let stopped = store.collect();
	assert!(
		matches!(stopped, Err(RepositoryError::Missing { cid }) if cid == snapshots.roots[0].cid)
	);
	let report = repair(&store);
	assert_eq!(report.lost_roots, [snapshots.roots[0].cid]);
	assert!(!store.is_pinned(&snapshots.roots[0].cid));
	store.collect().unwrap();
	assert!(snapshots.is_whole(&store, 1));
	assert!(check(&store).is_good());
	assert_heals(&store, &snapshots);
}

#[test]
fn a_damaged_record_header_is_mended_while_the_index_knows_the_block() {
	for at in [0, 4, 9, 20, 50] {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.shared[1], at);
		let store = open_on(&files);
		let report = check(&store);
		assert_eq!((report.bad_headers, report.damaged_blocks), (1, 0), "byte {at}: {report:?}");
		assert!(report.lost_roots.is_empty() && !report.is_index_suspect);
		repair(&store);
		assert!(check(&store).is_good());
		drop(store);
		files.take_away(INDEX_FILE);
		let store = open_on(&files);
		assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)), "byte {at}");
	}
}

#[test]
fn a_mended_header_survives_a_power_cut() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[1], 9);
	let store = open_on(&files);
	assert_eq!(repair(&store).bad_headers, 1);
	for seed in 0..10 {
		let after = files.after_power_cut(seed);
		after.take_away(INDEX_FILE);
		let store = open_on(&after);
		assert!(snapshots.is_whole(&store, 0), "seed {seed}");
	}
}

#[test]
fn a_pin_in_a_new_log_survives_a_power_cut() {
	let (files, _) = disk();
	files.take_away(PINS_FILE);
	let store = open_on(&files);
	let root = node(50, &[]);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&root]);
	session.pin(&root.cid, b"").unwrap();
	for seed in 0..10 {
		let store = open_on(&files.after_power_cut(seed));
		assert!(store.is_pinned(&root.cid), "seed {seed}");
	}
}

/// The disk is full to the last byte.
#[test]
fn a_repair_on_a_full_disk_says_so_and_works_when_there_is_room() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], DATA);
	let store = open_on(&files);
	files.set_capacity(Some(files.used()));
	let repaired = store.repair(&mut |_| true);
	assert!(matches!(repaired, Ok(_) | Err(RepositoryError::StoreFull)), "{repaired:?}");
	files.set_capacity(None);
	assert_eq!(repair(&store).lost_roots, [snapshots.roots[0].cid]);
	assert!(snapshots.is_whole(&store, 1));
	assert_heals(&store, &snapshots);
}

#[test]
fn damage_to_header_and_block_together_is_that_of_the_pack() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], 3);
	flip_in_data_at(&files, &snapshots.own[0]);
	let store = open_on(&files);
	let report = check(&store);
	assert!(report.is_index_suspect, "it may stand elsewhere");
	assert_eq!(report.damaged_blocks, 1);
	assert!(!repair(&store).is_index_suspect, "the checksums of the index are good");
	assert!(snapshots.is_whole(&store, 1) && !snapshots.is_whole(&store, 0));
	assert_heals(&store, &snapshots);
}

/// Flips a bit of a block's bytes, found by its bytes.
fn flip_in_data_at(files: &SimulatedFiles, block: &Block) {
	files.edit(PACK, |bytes| {
		let found = bytes.windows(32).position(|window| window == &block.bytes[..32]).unwrap();
		bytes[found + 40] ^= 1;
	});
}

#[test]
fn a_block_that_can_be_read_again_is_taken_back() {
	for hit in [|all: &Snapshots| all.own[0].cid, |all: &Snapshots| all.own_nodes[0].cid] {
		let (files, snapshots) = disk();
		let store = open_on(&files);
		let good = files.content(PACK);
		let hit = hit(&snapshots);
		let all = snapshots.blocks(0);
		flip_in(&files, all.iter().find(|block| block.cid == hit).unwrap(), DATA);
		repair(&store);
		assert!(!snapshots.is_whole(&store, 0));
		files.edit(PACK, |bytes| *bytes = good);
		while repair(&store).unnoted > 0 {}
		let report = check(&store);
		assert!(report.is_good(), "{report:?}");
		assert!(snapshots.is_whole(&store, 0));
	}
}

#[test]
fn space_that_an_entry_names_wrongly_is_not_freed() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let index = &store.shared.index;
	let place = |block: &Block| index.get(&block.cid.digest()).unwrap().unwrap();
	let victim = place(&snapshots.shared[1]);
	let wrong = Entry { offset: victim.offset + 100, ..place(&snapshots.own[0]) };
	let next_id = index.next_id().unwrap();
	index.add(&[(snapshots.own[0].cid.digest(), wrong)], &[], next_id).unwrap();
	store.unpin(&snapshots.roots[0].cid).unwrap();
	assert_eq!(store.collect().unwrap().blocks, 3);
	assert!(snapshots.is_whole(&store, 1));
	assert!(check(&store).is_good());
}

/// How a store is damaged while it is closed, and what is said about it.
struct Damage {
	name: &'static str,
	inflict: fn(&SimulatedFiles, &Snapshots),
	/// Whether the index is rebuilt, or the pins cannot be read in full.
	is_unconfirmed: bool,
	/// Pins that are left.
	pins: usize,
	/// Snapshots that restore after a repair.
	whole: &'static [usize],
}

const DAMAGES: &[Damage] = &[
	Damage {
		name: "a pack lost its end",
		inflict: |files, _| {
			files.edit(PACK, |bytes| bytes.truncate(bytes.len() - 100));
		},
		is_unconfirmed: true,
		pins: 2,
		whole: &[0],
	},
	Damage {
		name: "a pack lost nearly everything",
		inflict: |files, _| files.edit(PACK, |bytes| bytes.truncate(100)),
		is_unconfirmed: true,
		pins: 2,
		whole: &[],
	},
	Damage {
		// Nothing is left that a collection could remove.
		name: "the only pack is missing",
		inflict: |files, _| files.take_away(PACK),
		is_unconfirmed: false,
		pins: 2,
		whole: &[],
	},
	Damage {
		name: "the index is missing",
		inflict: |files, _| files.take_away(INDEX_FILE),
		is_unconfirmed: true,
		pins: 2,
		whole: &[0, 1],
	},
	Damage {
		name: "the index is empty",
		inflict: |files, _| files.edit(INDEX_FILE, Vec::clear),
		is_unconfirmed: true,
		pins: 2,
		whole: &[0, 1],
	},
	Damage {
		name: "the index lost its end",
		inflict: |files, _| files.edit(INDEX_FILE, |bytes| bytes.truncate(bytes.len() / 2)),
		is_unconfirmed: true,
		pins: 2,
		whole: &[0, 1],
	},
	Damage {
		name: "the index is missing, and a block is damaged",
		inflict: |files, snapshots| {
			flip_in(files, &snapshots.own[1], DATA);
			files.take_away(INDEX_FILE);
		},
		is_unconfirmed: true,
		pins: 2,
		whole: &[0],
	},
	Damage {
		name: "the index is missing, and a header is damaged",
		inflict: |files, snapshots| {
			flip_in(files, &snapshots.own[0], 9);
			files.take_away(INDEX_FILE);
		},
		is_unconfirmed: true,
		pins: 2,
		whole: &[1],
	},
	Damage {
		name: "the pins are missing",
		inflict: |files, _| files.take_away(PINS_FILE),
		is_unconfirmed: true,
		pins: 0,
		whole: &[0, 1],
	},
	Damage {
		name: "a bit of the first pin is flipped",
		inflict: |files, _| files.edit(PINS_FILE, |bytes| bytes[30] ^= 1),
		is_unconfirmed: true,
		pins: 1,
		whole: &[0, 1],
	},
	Damage {
		// It looks like one that was torn by a crash, and was never acknowledged.
		name: "a bit of the last pin is flipped",
		inflict: |files, _| {
			files.edit(PINS_FILE, |bytes| {
				let last = bytes.len() - 1;
				bytes[last] ^= 1;
			});
		},
		is_unconfirmed: false,
		pins: 1,
		whole: &[0, 1],
	},
	Damage {
		name: "there are bytes behind the pack",
		inflict: |files, _| files.edit(PACK, |bytes| bytes.extend([7; 500])),
		is_unconfirmed: false,
		pins: 2,
		whole: &[0, 1],
	},
];

#[test]
fn every_damage_has_its_diagnosis_and_its_way_back() {
	for damage in DAMAGES {
		let (files, snapshots) = disk();
		(damage.inflict)(&files, &snapshots);
		let store = open_on(&files);
		let context = damage.name;
		assert_eq!(store.pins_unconfirmed(), damage.is_unconfirmed, "{context}");
		assert_eq!(store.pins().unwrap().len(), damage.pins, "{context}");
		let report = check(&store);
		let whole = |store: &EmbeddedStore| -> Vec<usize> {
			(0..2).filter(|snapshot| snapshots.is_whole(store, *snapshot)).collect()
		};
		let lost = damage.pins.min(2 - damage.whole.len());
		assert_eq!(report.lost_roots.len(), lost, "{context}: {report:?}");
		assert_eq!(repair(&store), StoreReport { is_index_suspect: false, ..report }, "{context}");
		assert_eq!(whole(&store), damage.whole, "{context}");
		if damage.pins == 2 {
			store.confirm_pins().unwrap();
			store.collect().unwrap_or_else(|error| panic!("{context}: {error}"));
			assert_eq!(whole(&store), damage.whole, "{context}");
		}
		drop(store);
		let store = open_on(&files);
		assert_eq!(whole(&store), damage.whole, "{context}");
		assert_heals(&store, &snapshots);
		// Neither does a rebuild lose anything of it.
		drop(store);
		files.take_away(INDEX_FILE);
		let store = open_on(&files);
		assert_eq!(whole(&store), [0, 1], "{context}, then the index too");
	}
}

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

#[test]
fn a_pack_that_is_cut_while_the_store_is_open_is_damage() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	files.edit(PACK, |bytes| bytes.truncate(bytes.len() - 100));
	let report = check(&store);
	assert_eq!(report.lost_roots, [snapshots.roots[1].cid]);
	repair(&store);
	store.collect().unwrap();
	assert!(snapshots.is_whole(&store, 0));
	assert_heals(&store, &snapshots);
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

/// A pack was missing at one start, and what stands on it was noted. When it came back, the next
/// start took it for what a crash had left, and removed it.
#[test]
fn a_pack_that_was_away_is_taken_up_again() {
	let files = SimulatedFiles::default();
	let (first, second) = (chunk(1, 40_000), chunk(2, 40_000));
	let root = node(3, &[&first, &second]);
	let store = open_on(&files);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&first, &second, &root]);
	session.pin(&root.cid, b"label").unwrap();
	drop((session, store));

	let mut pack = Vec::new();
	files.edit(PACK, |bytes| pack = bytes.clone());
	files.take_away(PACK);
	let store = open_on(&files);
	assert!(!store.has(&root.cid).unwrap());
	drop(store);
	files.put_back(PACK, &pack);
	let store = open_on(&files);
	assert!(verify(&store, &root.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());
	assert!(store.has(&root.cid).unwrap());
}

/// Has a pinned tree count as whole again, as a backup does that puts the same nodes.
fn put_again(store: &EmbeddedStore, blocks: &[&Block]) {
	let session = store.open_session().unwrap();
	put_all(&*session, blocks);
	session.flush().unwrap();
}

fn note_lost(store: &EmbeddedStore, cids: &[Cid]) -> u64 {
	store.note_lost(cids, &mut || true).unwrap()
}

#[test]
fn a_block_that_is_noted_as_lost_is_stored_anew() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[0], DATA);
	let store = open_on(&files);
	let Snapshots { shared: [damaged, good], .. } = &snapshots;
	assert_eq!(note_lost(&store, &[damaged.cid, good.cid]), 1, "the other one is good");
	assert_eq!(note_lost(&store, &[damaged.cid]), 0, "it is known");
	assert!(!store.has(&damaged.cid).unwrap() && store.has(&good.cid).unwrap());
	assert_eq!(check(&store).unnoted, 0, "a repair finds nothing new");
	for node in [&snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]] {
		assert!(!store.has(&node.cid).unwrap(), "nobody relies on what stands on it");
		assert!(store.get(&node.cid).unwrap().is_some(), "and all of it can be read");
	}
	store.collect().unwrap();
	put_again(&store, &[damaged, &snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]]);
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
	store.collect().unwrap();
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
}

#[test]
fn what_was_noted_as_lost_and_can_be_read_again_is_there_again() {
	let (files, snapshots) = disk();
	let Snapshots { shared: [block, _], .. } = &snapshots;
	flip_in(&files, block, DATA);
	let store = open_on(&files);
	note_lost(&store, &[block.cid]);
	flip_in(&files, block, DATA);
	assert_eq!(note_lost(&store, &[block.cid]), 0);
	assert!(store.has(&block.cid).unwrap());
	put_again(&store, &[&snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]]);
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
}

#[test]
fn only_sessions_that_rely_on_what_is_lost_end() {
	for relies in [true, false] {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.own[0], DATA);
		let store = open_on(&files);
		let session = store.open_session().unwrap();
		let above = snapshots.own_nodes[usize::from(!relies)].cid;
		assert!(session.has(&above).unwrap());
		note_lost(&store, &[snapshots.own[0].cid]);
		let flushed = session.flush();
		match relies {
			true => assert!(matches!(flushed, Err(RepositoryError::SessionLost))),
			false => flushed.unwrap(),
		}
	}
}

#[test]
fn nothing_is_noted_while_blocks_are_freed() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], DATA);
	let store = open_on(&files);
	let collecting = Marked::new(&store.shared).unwrap();
	let refused = store.note_lost(&[snapshots.own[0].cid], &mut || true);
	assert!(matches!(refused, Err(RepositoryError::Collecting)));
	collecting.sweep().unwrap();
	assert_eq!(note_lost(&store, &[snapshots.own[0].cid]), 1);
}

/// Notes damage, and stores again what is lost, as the next backup does.
fn note_and_mend(files: &SimulatedFiles, snapshots: &Snapshots) -> Result<(), RepositoryError> {
	let store = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL)?;
	store.note_lost(&[snapshots.shared[0].cid], &mut || true)?;
	let session = store.open_session()?;
	let blocks = [0, 1].map(|snapshot| snapshots.blocks(snapshot));
	for block in blocks.into_iter().flatten() {
		put(&*session, block)?;
	}
	session.flush()
}

/// At each step, the store either does not know of the damage yet, or nobody relies on it any more.
#[test]
fn a_power_cut_at_any_step_of_noting_and_mending_leaves_a_store_that_tells_the_truth() {
	let prepared = || {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.shared[0], DATA);
		(files, snapshots)
	};
	let (files, snapshots) = prepared();
	let before = files.steps();
	note_and_mend(&files, &snapshots).unwrap();
	let steps = files.steps() - before;
	assert!(steps > 20, "{steps} steps");
	let (mut unknown, mut noted, mut mended) = (0, 0, 0);
	for step in 0..steps {
		let (files, snapshots) = prepared();
		files.cut_after(step);
		let _ = note_and_mend(&files, &snapshots);
		let files = files.after_power_cut(step);
		let store = open_on(&files);
		let (lost, above) = (&snapshots.shared[0].cid, &snapshots.shared_node.cid);
		let is_readable = matches!(store.get(lost), Ok(Some(_)));
		match (store.has(lost).unwrap(), is_readable) {
			(true, false) => unknown += 1,
			(false, _) => {
				noted += 1;
				let nodes = [above, &snapshots.roots[0].cid, &snapshots.roots[1].cid];
				assert!(nodes.iter().all(|node| !store.has(node).unwrap()), "step {step}");
			}
			(true, true) => mended += 1,
		}
		drop(store);
		// Whatever was done before, doing it all again leads to the end.
		note_and_mend(&files, &snapshots).unwrap_or_else(|error| panic!("step {step}: {error}"));
		let store = open_on(&files);
		assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)), "step {step}");
		assert!(check(&store).is_good(), "step {step}");
	}
	assert!(unknown > 0 && noted > 0 && mended > 0, "{unknown}, {noted}, {mended}");
}

/// A pinned tree in three packs, and a block that nothing needs.
struct Spread {
	/// In the first pack, with the block that nothing needs.
	first: Block,
	/// In the second, with all that hangs below it.
	inner: Block,
	leaf: Block,
	chunks: [Block; 2],
	/// In the third.
	last: Block,
	root: Block,
	unneeded: Block,
}

impl Spread {
	fn new() -> (SimulatedFiles, Self, EmbeddedStore) {
		let chunks = [chunk(1, 10_000), chunk(2, 10_000)];
		let leaf = node(3, &[&chunks[0], &chunks[1]]);
		let inner = node(4, &[&leaf]);
		let (first, last) = (chunk(5, 55_000), chunk(6, 60_000));
		let root = node(7, &[&first, &inner, &last]);
		let spread = Self { first, inner, leaf, chunks, last, root, unneeded: chunk(8, 5_000) };
		let files = SimulatedFiles::default();
		let store = open_on(&files);
		put_again(&store, &[&spread.unneeded]);
		spread.back_up(&store);
		let place = |block: &Block| store.shared.index.get(&block.cid.digest()).unwrap().unwrap();
		let Self { chunks: [child, _], .. } = &spread;
		assert_eq!([&spread.first, child, &spread.inner].map(|b| place(b).pack), [1, 2, 2]);
		assert_eq!([&spread.last, &spread.root].map(|block| place(block).pack), [3, 3]);
		(files, spread, store)
	}

	fn back_up(&self, store: &EmbeddedStore) {
		let Self { first, inner, leaf, chunks: [one, two], last, root, .. } = self;
		let session = store.open_session().unwrap();
		put_all(&*session, &[first, one, two, leaf, inner, last, root]);
		session.pin(&root.cid, b"label").unwrap();
	}

	fn is_whole(&self, store: &EmbeddedStore) -> bool {
		let root = &self.root.cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}

const PACKS: [&str; 3] = [PACK, "00000002.pack", "00000003.pack"];

/// Flips a bit within the bytes of a block in some pack.
fn rot(files: &SimulatedFiles, pack: &str, block: &Block) {
	files.edit(pack, |bytes| {
		let found = bytes.windows(block.bytes.len()).position(|window| window == block.bytes);
		bytes[found.unwrap() + 3] ^= 1;
	});
}

/// Cause: what is below a node that is gone was never seen, so it counted as there, and its own
/// nodes as merely incomplete. Effect: the next backup pinned a snapshot with a hole.
#[test]
fn what_was_in_the_same_pack_as_a_lost_node_is_stored_anew_too() {
	for is_removed in [false, true] {
		let (files, spread, store) = Spread::new();
		match is_removed {
			true => files.take_away(PACKS[1]),
			false => files.edit(PACKS[1], Vec::clear),
		}
		assert_eq!(note_lost(&store, &[spread.inner.cid]), 4);
		for block in [&spread.inner, &spread.leaf, &spread.chunks[0], &spread.chunks[1]] {
			assert!(!store.has(&block.cid).unwrap());
		}
		assert!(store.has(&spread.first.cid).unwrap() && store.has(&spread.last.cid).unwrap());
		spread.back_up(&store);
		assert!(spread.is_whole(&store));
		assert_eq!(store.collect().unwrap().blocks, 1, "what nothing needs");
		assert!(spread.is_whole(&store));
		assert!(check(&store).is_good());
	}
}

#[test]
fn a_rotten_node_that_nobody_named_is_stored_anew_too() {
	let (files, spread, store) = Spread::new();
	rot(&files, PACKS[1], &spread.inner);
	rot(&files, PACKS[2], &spread.root);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 2, "the other one is in another pack");
	assert!(store.get(&spread.inner.cid).unwrap().is_none());
	assert_eq!(check(&store).unnoted, 0);
	spread.back_up(&store);
	assert!(spread.is_whole(&store));
	assert!(check(&store).is_good());
}

/// Cause: a node that was noted as damaged led nowhere, so nothing below it was needed. Effect: all
/// of a snapshot was freed because its root could not be read for a while.
#[test]
fn nothing_is_freed_because_a_pack_was_away() {
	let (files, spread, store) = Spread::new();
	let pack = files.content(PACKS[2]);
	files.edit(PACKS[2], Vec::clear);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 2);
	for _ in 0..2 {
		let stopped = store.collect();
		assert!(
			matches!(stopped, Err(RepositoryError::Corrupt { cid }) if cid == spread.root.cid),
			"{stopped:?}"
		);
	}
	assert!(store.has(&spread.unneeded.cid).unwrap() && store.has_garbage());

	files.edit(PACKS[2], |bytes| *bytes = pack);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 0);
	assert!(store.has(&spread.last.cid).unwrap(), "it came back with the root");
	put_again(&store, &[&spread.root]);
	assert!(spread.is_whole(&store));
	assert_eq!(store.collect().unwrap().blocks, 1);
	assert!(spread.is_whole(&store) && check(&store).is_good());
}

#[test]
fn blocks_are_freed_again_once_a_damaged_node_is_mended_given_up_or_repaired() {
	type WayOut = fn(&EmbeddedStore, &Spread);
	// What is freed then, and what is left.
	let ways: [(WayOut, u64, bool); 3] = [
		(|store, spread| spread.back_up(store), 1, true),
		(|store, spread| assert!(store.unpin(&spread.root.cid).unwrap()), 8, false),
		(|store, _| assert_eq!(repair(store).unnoted, 0), 4, false),
	];
	for (number, (way_out, freed, is_whole)) in ways.into_iter().enumerate() {
		let (files, spread, store) = Spread::new();
		rot(&files, PACKS[1], &spread.inner);
		assert_eq!(note_lost(&store, &[spread.inner.cid]), 1);
		drop(store);
		let store = open_on(&files);
		assert!(store.collect().is_err(), "way {number}: it is known at the next start, too");
		assert!(store.has(&spread.leaf.cid).unwrap());
		way_out(&store, &spread);
		assert_eq!(spread.is_whole(&store), is_whole, "way {number}");
		let collected = store.collect().unwrap_or_else(|error| panic!("way {number}: {error}"));
		assert_eq!(collected.blocks, freed, "way {number}");
		assert_eq!(spread.is_whole(&store), is_whole, "way {number}");
		assert!(!store.shared.index.may_come_back().unwrap(), "way {number}");
	}
}

/// Cause: what was broken when it was looked at counted as broken although it was put again since.
#[test]
fn what_a_backup_makes_whole_while_something_else_is_noted_stays_whole() {
	let mut asked = 0;
	for put_at in 1..=30 {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.shared[0], DATA);
		let store = open_on(&files);
		note_lost(&store, &[snapshots.shared[0].cid]);
		let Snapshots { shared: [lost, _], shared_node, .. } = &snapshots;
		let session = store.open_session().unwrap();
		let above = node(60, &[shared_node]);
		// All nodes are looked at for it.
		let absent = chunk(99, 10).cid;
		let mut calls = 0;
		store
			.note_lost(&[absent], &mut || {
				calls += 1;
				if calls == put_at {
					put_all(&*session, &[lost, shared_node, &above]);
				}
				true
			})
			.unwrap();
		asked = calls;
		if calls < put_at {
			break;
		}
		session.pin(&above.cid, b"").unwrap_or_else(|error| panic!("call {put_at}: {error}"));
		assert!(store.has(&above.cid).unwrap(), "call {put_at}");
		assert!(verify(&store, &above.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());
	}
	assert!((8..30).contains(&asked), "asked {asked} times");
}

#[test]
fn what_is_known_as_lost_is_not_looked_into_again_and_noting_can_be_ended() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own_nodes[0], DATA);
	let store = open_on(&files);
	let lost = [snapshots.own_nodes[0].cid];
	let mut end_after = 0;
	loop {
		let mut calls = 0;
		let noted = store.note_lost(&lost, &mut || {
			calls += 1;
			calls <= end_after
		});
		if noted.unwrap() == 1 {
			break;
		}
		assert!(store.has(&lost[0]).unwrap() && store.has(&snapshots.roots[0].cid).unwrap());
		end_after += 1;
	}
	assert!(end_after > 10, "one at a time");
	let mut calls = 0;
	let again = store.note_lost(&lost, &mut || {
		calls += 1;
		true
	});
	assert_eq!((again.unwrap(), calls), (0, 1));
}

#[test]
fn nothing_is_noted_when_the_index_may_be_what_is_damaged() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let name = snapshots.own[0].cid.digest();
	flip_in(&files, &snapshots.own[0], 3);
	flip_in_data_at(&files, &snapshots.own[0]);
	files.edit(INDEX_FILE, |bytes| {
		let mut at = 0;
		while let Some(found) = bytes[at..].windows(32).position(|window| window == name) {
			at += found + 40;
			bytes[at] ^= 1;
		}
	});
	let session = store.open_session().unwrap();
	let refused = store.note_lost(&[snapshots.own[0].cid], &mut || true);
	assert!(matches!(refused, Err(RepositoryError::IndexDamaged)), "{refused:?}");
	assert!(matches!(
		session.flush(),
		Err(RepositoryError::SessionLost | RepositoryError::IndexDamaged)
	));
}
