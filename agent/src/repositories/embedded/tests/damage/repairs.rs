//! What a check says, what a repair notes, and what is left to restore.

use super::*;
use crate::repositories::{
	RepositoryError,
	embedded::{entry::Entry, index::INDEX_FILE, pins::PINS_FILE},
};
use std::{sync::mpsc, time::Duration};

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
	let other = |label: &[u8]| (label == b"label").then(|| b"other".to_vec());
	assert!(store.relabel(&roots[0], other).unwrap());
	assert!(!store.relabel(&roots[0], other).unwrap(), "it is another one by now");
	drop(store);
	let store = open_on(&files);
	let pins = store.pins().unwrap();
	let label = |root| pins.iter().find(|pin| pin.root == root).unwrap().label.as_slice();
	assert_eq!(roots.map(label), [&b"other"[..], b"label"]);
	// What is not pinned does not become so.
	assert!(store.unpin(&roots[0]).unwrap());
	assert!(!store.relabel(&roots[0], |_| Some(b"other".to_vec())).unwrap());
	let refused = store.open_session().unwrap().pin(&roots[0], b"label");
	assert!(matches!(refused, Err(RepositoryError::Missing { cid }) if cid == roots[0]));
	assert!(!store.is_pinned(&roots[0]));
}

/// Cause: a label was read, and another written later. Effect: of two changes at once, one was lost.
#[test]
fn of_two_changes_of_a_label_at_once_none_is_lost() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let root = snapshots.roots[0].cid;
	let with = |label: &[u8], more: &[u8]| Some([label, more].concat());
	let (done, is_done) = mpsc::channel();
	std::thread::scope(|scope| {
		let first = |label: &[u8]| {
			scope.spawn(|| {
				assert!(store.relabel(&root, |label| with(label, b" second")).unwrap());
				done.send(()).unwrap();
			});
			// If it could be in between, it would be by now.
			let _ = is_done.recv_timeout(Duration::from_millis(300));
			with(label, b" first")
		};
		assert!(store.relabel(&root, first).unwrap());
	});
	let pins = store.pins().unwrap();
	let label = &pins.iter().find(|pin| pin.root == root).unwrap().label;
	assert_eq!(label, b"label first second");
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
	assert_eq!(store.collect().unwrap().blocks, 0);
	assert_eq!(store.obstacles().named[0].node, snapshots.roots[0].cid);
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

#[test]
fn more_damage_than_is_held_is_repaired_turn_by_turn() {
	let (files, many, store) = Many::new();
	let lost = many.lose(&files, &store);
	let report = check(&store);
	assert!(!report.is_finished && !report.is_good(), "{report:?}");
	let mut turns = 0;
	while repair(&store).unnoted > 0 {
		turns += 1;
		assert!(turns < 10);
	}
	assert!(turns > 2, "{turns} turns");
	assert!(lost.iter().all(|chunk| !store.has(&chunk.cid).unwrap()));
	many.back_up(&store);
	assert!(many.is_whole(&store));
}
