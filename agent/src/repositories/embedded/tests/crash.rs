//! Cuts the power at every step of a workload and looks at what is left.
//!
//! The workload is run once to count its steps, then once per step with the power off from
//! there. What was acknowledged before must hold afterwards; what was under way may or may not
//! have happened; everything that the index names must be there, whole.

use super::{
	fixture::*,
	simulated::{Chance, SimulatedFiles},
};
use crate::{
	format::{Cid, digest, links},
	repositories::{
		BlockSource, Chunks, EmbeddedStore, Repository, RepositoryError, Session, StoreOptions,
		embedded::{
			index::INDEX_FILE,
			is_node,
			record::{Header, Kind},
		},
		verify,
	},
};
use std::{collections::BTreeMap, sync::Arc};

/// What somebody was told about the pins.
#[derive(Clone, Default, Debug)]
struct Told {
	/// Label of each root that must be pinned.
	pinned: BTreeMap<Cid, Vec<u8>>,
	/// The root whose pin was changing when the power went.
	under_way: Option<Cid>,
}

const TINY: StoreOptions = StoreOptions { pack_bytes: 3000, reserve_bytes: 0 };

fn open(files: &SimulatedFiles) -> Result<EmbeddedStore, RepositoryError> {
	EmbeddedStore::open_files(Arc::new(files.clone()), TINY)
}

impl Told {
	fn pin(
		&mut self,
		session: &dyn Session,
		root: &Cid,
		label: &[u8],
	) -> Result<(), RepositoryError> {
		self.under_way = Some(*root);
		session.pin(root, label)?;
		self.under_way = None;
		self.pinned.insert(*root, label.to_vec());
		Ok(())
	}

	fn unpin(&mut self, store: &dyn Repository, root: &Cid) -> Result<(), RepositoryError> {
		self.under_way = Some(*root);
		store.unpin(root)?;
		self.under_way = None;
		self.pinned.remove(root);
		Ok(())
	}
}

/// A few snapshots with shared chunks, of which some are removed again; packs fill up, are
/// punched and unlinked.
fn workload(files: &SimulatedFiles, told: &mut Told) -> Result<(), RepositoryError> {
	let snapshot = |number: u64| {
		let own = [chunk(number * 10, 700), chunk(number * 10 + 1, 300)];
		let shared = chunk(number / 2 + 1000, 500);
		let leaf = node(number * 10 + 2, &[&own[0], &shared]);
		let root = node(number * 10 + 3, &[&leaf, &own[1]]);
		(own, shared, leaf, root)
	};
	let store = open(files)?;
	for number in 0..6 {
		let ([first, second], shared, leaf, root) = snapshot(number);
		let session = store.open_session()?;
		for block in [&first, &shared, &leaf, &second, &root] {
			put(&*session, block)?;
		}
		if number == 2 {
			session.flush()?;
		}
		told.pin(&*session, &root.cid, format!("snapshot {number}").as_bytes())?;
		drop(session);
		if number >= 2 {
			told.unpin(&store, &snapshot(number - 2).3.cid)?;
		}
		if number % 2 == 1 {
			store.collect()?;
		}
	}
	drop(store);
	let store = open(files)?;
	store.collect()?;
	Ok(())
}

/// Every promise of the store, checked from the outside and the inside.
fn assert_sound(store: &EmbeddedStore, told: &Told, context: &str) {
	let pins: BTreeMap<Cid, Vec<u8>> =
		store.pins().unwrap().into_iter().map(|pin| (pin.root, pin.label)).collect();
	let settled = |root: &Cid| Some(*root) != told.under_way;
	let expected: Vec<_> = told.pinned.iter().filter(|(root, _)| settled(root)).collect();
	let found: Vec<_> = pins.iter().filter(|(root, _)| settled(root)).collect();
	assert_eq!(found, expected, "{context}: other pins than were acknowledged");
	for root in pins.keys() {
		let report = verify(store, root, Chunks::Hashed, &mut |_| true).unwrap();
		assert!(report.is_good(), "{context}: pinned {root} has {report:?}");
	}
	let mut blocks = Vec::new();
	store
		.shared
		.index
		.scan(None, usize::MAX, &mut |digest, entry| blocks.push((*digest, *entry)))
		.unwrap();
	for (name, entry) in blocks {
		let bytes = store.shared.read(&entry).unwrap();
		assert_eq!(digest(&bytes), name, "{context}: {entry:?} is not what the index says");
		if entry.is_node {
			for child in links(&bytes).unwrap() {
				let there = store.has(&child).unwrap();
				assert!(there, "{context}: {entry:?} is there without its child {child}");
			}
		}
	}
}

/// The store goes on as if nothing had happened.
fn assert_usable(store: &EmbeddedStore, told: &Told, context: &str) {
	let mut told = told.clone();
	let leaf = chunk(77, 2000);
	let root = node(78, &[&leaf]);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&leaf, &root]);
	session.pin(&root.cid, b"afterwards").unwrap();
	told.pinned.insert(root.cid, b"afterwards".to_vec());
	drop(session);
	store.collect().unwrap();
	assert_sound(store, &told, context);
}

fn steps_of_workload() -> u64 {
	let files = SimulatedFiles::default();
	let mut told = Told::default();
	workload(&files, &mut told).unwrap();
	let steps = files.steps();
	assert_sound(&open(&files).unwrap(), &told, "without a cut");
	assert_eq!(told.pinned.len(), 2);
	steps
}

/// The disk after the power went at a step, and what had been acknowledged.
fn cut(step: u64) -> (SimulatedFiles, Told) {
	let files = SimulatedFiles::default();
	let mut told = Told::default();
	files.cut_after(step);
	// Closing the index takes the last few steps, and does not say when it fails.
	let _ = workload(&files, &mut told);
	(files, told)
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
	let steps = steps_of_workload();
	assert!(steps > 200, "{steps} steps");
	for step in 0..steps {
		let (files, told) = cut(step);
		for seed in 0..3 {
			let context = format!("cut at step {step} of {steps}, seed {seed}");
			let after = files.after_power_cut(step * 31 + seed);
			let store = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
			assert!(!store.pins_unconfirmed() || store.usage().unwrap().blocks == 0, "{context}");
			if store.pins_unconfirmed() {
				store.confirm_pins().unwrap();
			}
			assert_sound(&store, &told, &context);
			assert_usable(&store, &told, &context);
		}
	}
}

#[test]
fn a_rebuild_after_a_power_cut_finds_everything_acknowledged() {
	let steps = steps_of_workload();
	for step in 0..steps {
		let (files, told) = cut(step);
		let context = format!("cut at step {step} of {steps}, index lost");
		let after = files.after_power_cut(step);
		after.take_away(INDEX_FILE);
		let store = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
		assert_sound(&store, &told, &context);
		store.confirm_pins().unwrap();
		assert_usable(&store, &told, &context);
	}
}

#[test]
fn a_second_power_cut_during_recovery_changes_nothing() {
	let steps = steps_of_workload();
	for step in (0..steps).step_by(7) {
		let (files, told) = cut(step);
		for second in 0.. {
			let context = format!("cut at step {step}, then at step {second} of the recovery");
			let after = files.after_power_cut(step);
			if step % 2 == 0 {
				after.take_away(INDEX_FILE);
			}
			after.cut_after(second);
			let is_done = open(&after).is_ok();
			let again = after.after_power_cut(second);
			let store = open(&again).unwrap_or_else(|error| panic!("{context}: {error}"));
			assert_sound(&store, &told, &context);
			if is_done {
				break;
			}
		}
	}
}

/// A pinned root, and so many records besides that the next start writes the log anew.
fn disk_with_a_long_log() -> (SimulatedFiles, Block) {
	let files = SimulatedFiles::default();
	let store = open(&files).unwrap();
	let (kept, other) = (node(1, &[]), node(2, &[]));
	let session = store.open_session().unwrap();
	put_all(&*session, &[&kept, &other]);
	session.pin(&kept.cid, b"kept").unwrap();
	for _ in 0..150 {
		session.pin(&other.cid, b"").unwrap();
		store.unpin(&other.cid).unwrap();
	}
	drop((session, store));
	(files, kept)
}

#[test]
fn a_power_cut_while_the_log_is_written_anew_costs_no_pin() {
	let (files, kept) = disk_with_a_long_log();
	for step in 0.. {
		let cut = files.after_power_cut(0);
		cut.cut_after(step);
		let is_done = open(&cut).is_ok();
		for seed in 0..10 {
			let store = open(&cut.after_power_cut(seed)).unwrap();
			let is_there = store.is_pinned(&kept.cid) && !store.pins_unconfirmed();
			assert!(is_there, "cut at step {step}, seed {seed}");
		}
		if is_done {
			break;
		}
	}
}

#[test]
fn a_pin_in_a_log_that_was_written_anew_survives_a_power_cut() {
	let (files, kept) = disk_with_a_long_log();
	let store = open(&files).unwrap();
	let root = node(3, &[]);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&root]);
	session.pin(&root.cid, b"").unwrap();
	for seed in 0..10 {
		let store = open(&files.after_power_cut(seed)).unwrap();
		assert!(store.is_pinned(&kept.cid) && store.is_pinned(&root.cid), "seed {seed}");
	}
}

#[test]
fn a_hole_never_reaches_the_disk_before_its_skip_header() {
	let mut holes = 0;
	for step in 0.. {
		let files = SimulatedFiles::default();
		let store = open(&files).unwrap();
		let session = store.open_session().unwrap();
		let (dead, kept) = (chunk(1, 900), node(2, &[]));
		put_all(&*session, &[&dead, &kept]);
		session.pin(&kept.cid, b"").unwrap();
		drop(session);
		files.cut_after(step);
		let is_done = store.collect().is_ok();
		let hole = |files: &SimulatedFiles| {
			let pack = files.content("00000001.pack");
			let (header, data) = pack.split_first_chunk().unwrap();
			(Header::decode(header, &[]), data[..900] == [0; 900])
		};
		if hole(&files).1 {
			for seed in 0..10 {
				let (header, _) = hole(&files.after_power_cut(seed));
				let kind = header.map(|header| header.kind);
				assert_eq!(kind, Some(Kind::Skip), "cut at step {step}, seed {seed}");
			}
			holes += 1;
		}
		if is_done {
			break;
		}
	}
	assert!(holes > 1, "{holes} steps with a hole");
}

#[test]
fn a_failing_sync_is_reported_and_loses_nothing_acknowledged() {
	let mut failures = 0;
	for sync in 0.. {
		let files = SimulatedFiles::default();
		let store = open(&files).unwrap();
		files.fail_sync_in(Some(sync));
		let mut told = Told::default();
		let mut run = |number: u64| -> Result<(), RepositoryError> {
			let leaf = chunk(number, 900);
			let root = node(number, &[&leaf]);
			let session = store.open_session()?;
			put(&*session, &leaf)?;
			put(&*session, &root)?;
			told.pin(&*session, &root.cid, b"")
		};
		let failed = (0..8).filter(|number| run(*number).is_err()).count();
		assert!(failed <= 1, "sync {sync} failed, and {failed} snapshots with it");
		files.fail_sync_in(None);
		let context = format!("sync {sync} failed");
		assert_sound(&store, &told, &context);
		assert_usable(&store, &told, &context);
		drop(store);
		assert_usable(&open(&files).unwrap(), &told, &context);
		failures += failed;
		if failed == 0 {
			break;
		}
	}
	assert!(failures >= 8 * 3, "{failures} failures");
}

#[test]
fn a_session_whose_writes_were_lost_is_told_so() {
	let files = SimulatedFiles::default();
	let store = open(&files).unwrap();
	let (unlucky, other) = (store.open_session().unwrap(), store.open_session().unwrap());
	let leaf = chunk(1, 900);
	put_all(&*unlucky, &[&leaf]);
	files.fail_sync_in(Some(0));
	assert!(other.flush().is_err());
	let lost = |result| matches!(result, Err(RepositoryError::SessionLost));
	assert!(lost(unlucky.has(&leaf.cid).map(|_| ())));
	assert!(lost(unlucky.flush()));
	assert!(lost(put(&*unlucky, &chunk(2, 900)).map(|_| ())));
	assert_gone(&store, &[&leaf]);
	assert_usable(&store, &Told::default(), "after the loss");
}

#[test]
fn the_simulated_disk_does_lose_what_was_not_synced() {
	let lost = (0..20).filter(|seed| {
		let files = SimulatedFiles::default();
		let store = open(&files).unwrap();
		let session = store.open_session().unwrap();
		put_all(&*session, &[&chunk(1, 5000), &chunk(2, 5000)]);
		let before = files.used();
		files.after_power_cut(*seed).used() < before
	});
	assert!(lost.count() > 5);
	let mut chance = Chance::new(1);
	assert!((0..1000).all(|_| chance.below(3) < 3));
	assert!(is_node(&node(1, &[]).cid));
}
