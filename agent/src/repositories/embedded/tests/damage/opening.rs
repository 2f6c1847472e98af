//! What is damaged while the store is closed: what is said when it is opened.

use super::*;
use crate::repositories::embedded::{index::INDEX_FILE, pins::PINS_FILE};

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
		// It may come back, with more than pins say.
		name: "the only pack is missing",
		inflict: |files, _| files.take_away(PACK),
		is_unconfirmed: true,
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
