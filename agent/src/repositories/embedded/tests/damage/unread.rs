//! What the disk does not give while the index is made anew, and may give later.

use super::{
	obstacles::{Deep, open_and_confirm},
	*,
};
use crate::repositories::{
	RepositoryError,
	embedded::{index::INDEX_FILE, lock, pins::PINS_FILE},
};

/// How a pack is not there for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
	/// Its file is away.
	Away,
	/// Its file has lost its end.
	Cut,
	/// The disk does not read it, just when the index is lost.
	Unreadable,
}

impl Absence {
	const ALL: [Self; 3] = [Self::Away, Self::Cut, Self::Unreadable];

	fn begin(self, files: &SimulatedFiles, pack: &str) -> Vec<u8> {
		let content = files.content(pack);
		match self {
			Self::Away => files.take_away(pack),
			Self::Cut => files.edit(pack, |bytes| bytes.truncate(100)),
			Self::Unreadable => {
				files.take_away(INDEX_FILE);
				files.set_unreadable(pack, true);
			}
		}
		content
	}

	fn end(self, files: &SimulatedFiles, pack: &str, content: Vec<u8>) {
		match self {
			Self::Away => files.put_back(pack, &content),
			Self::Cut => files.edit(pack, |bytes| *bytes = content),
			Self::Unreadable => files.set_unreadable(pack, false),
		}
	}
}

/// Cause: nothing said any more that there is a pack of which nothing is known. Effect: a deletion was
/// told to the chain, and then the disk gave the root again.
#[test]
fn nobody_is_told_that_a_root_is_gone_while_a_pack_is_away_in_which_it_may_stand() {
	for absence in Absence::ALL {
		let (files, tree) = Deep::new();
		let content = absence.begin(&files, PACKS[2]);
		let store = open_and_confirm(&files);
		store.unpin(&tree.root.cid).unwrap();
		drop(store);
		// Over several starts, and with nothing in the way of freeing blocks.
		for _ in 0..2 {
			let store = open_on(&files);
			assert_eq!(store.look_for_obstacles().unwrap().unread_packs, [PACKS[2]]);
			store.collect().unwrap();
			let found = store.obstacles();
			assert!(!found.any() && found.has_dead_roots, "{absence:?}: {found:?}");
			assert_eq!(found.unread_packs, [PACKS[2]], "{absence:?}");
			assert!(store.has_garbage() && !check(&store).is_good(), "{absence:?}");
		}
		absence.end(&files, PACKS[2], content);
		let store = open_and_confirm(&files);
		store.collect().unwrap();
		assert_eq!(store.obstacles(), Obstacles::default(), "{absence:?}");
		assert!(store.get(&tree.root.cid).unwrap().is_none());
		assert_eq!(store.usage().unwrap().blocks, 0);
	}
}

/// Cause: only a start noticed that a pack is away. Effect: a deletion was told although the root was
/// not overwritten, and the file might come back.
#[test]
fn nobody_is_told_that_a_root_is_gone_whose_pack_went_away_beside_the_agent() {
	let (files, tree) = Deep::new();
	let store = open_on(&files);
	assert!(tree.is_whole(&store), "its packs are open");
	let content = Absence::Away.begin(&files, PACKS[2]);
	store.unpin(&tree.root.cid).unwrap();
	for _ in 0..2 {
		store.collect().unwrap();
		let found = store.obstacles();
		assert!(!found.any() && found.has_dead_roots && store.has_garbage(), "{found:?}");
		assert_eq!(found.unread_packs, [PACKS[2]]);
	}
	Absence::Away.end(&files, PACKS[2], content);
	store.collect().unwrap();
	assert_eq!(store.obstacles(), Obstacles::default());
	assert!(!store.has_garbage());
	let pack = files.content(PACKS[2]);
	assert!(!pack.windows(tree.root.bytes.len()).any(|bytes| bytes == tree.root.bytes));
}

#[test]
fn a_deletion_is_told_once_a_repair_went_on_without_a_pack() {
	for absence in Absence::ALL {
		let (files, tree) = Deep::new();
		absence.begin(&files, PACKS[2]);
		let store = open_and_confirm(&files);
		store.unpin(&tree.root.cid).unwrap();
		repair(&store);
		store.collect().unwrap();
		assert_eq!(store.obstacles(), Obstacles::default(), "{absence:?}");
		assert!(check(&store).is_good(), "{absence:?}");
	}
}

/// Cause: pins were confirmed although a recorded root was unknown that may come back. Effect: the rest
/// of a snapshot was freed because its root stood in a pack that was not there just then.
#[test]
fn a_recorded_snapshot_stays_although_its_root_is_in_a_pack_that_is_away() {
	for absence in Absence::ALL {
		let (files, tree) = Deep::new();
		files.take_away(PINS_FILE);
		let content = absence.begin(&files, PACKS[2]);
		for start in 0..2 {
			let store = open_on(&files);
			assert!(!store.pin_what_is_left(&tree.root.cid, b"label").unwrap(), "{absence:?}");
			assert!(store.waits_for_packs().unwrap(), "{absence:?}, start {start}");
			assert!(matches!(store.collect(), Err(RepositoryError::PinsUnconfirmed)));
		}
		absence.end(&files, PACKS[2], content);
		let store = open_on(&files);
		assert!(!store.waits_for_packs().unwrap());
		store.open_session().unwrap().pin(&tree.root.cid, b"label").unwrap();
		store.confirm_pins().unwrap();
		store.collect().unwrap();
		assert!(tree.is_whole(&store) && check(&store).is_good(), "{absence:?}");
	}
}

/// Cause: a store without pack files counted as an empty one. Effect: a deletion was told, and pins that
/// were lost counted as all, while every pack was away.
#[test]
fn a_store_of_which_all_packs_are_away_is_not_an_empty_one() {
	for are_pins_lost in [false, true] {
		let (files, tree) = Deep::new();
		let packs = PACKS.map(|pack| Absence::Away.begin(&files, pack));
		if are_pins_lost {
			files.take_away(PINS_FILE);
		}
		for _ in 0..2 {
			let store = open_on(&files);
			assert!(store.has_garbage() && store.obstacles().has_dead_roots);
			assert!(store.pins_unconfirmed() && store.waits_for_packs().unwrap());
		}
		for (pack, content) in PACKS.iter().zip(packs) {
			Absence::Away.end(&files, pack, content);
		}
		let store = open_on(&files);
		assert!(store.pins_unconfirmed() && tree.is_whole(&store));
	}
}

/// Cause: the index in the making knew only of packs that were away at its beginning. Effect: one that
/// went away between two attempts was forgotten.
#[test]
fn a_power_cut_while_an_index_is_made_anew_does_not_forget_packs_that_go_away_then() {
	let prepared = || {
		let (files, _) = Deep::new();
		let content = Absence::Away.begin(&files, PACKS[1]);
		drop(open_and_confirm(&files));
		Absence::Away.end(&files, PACKS[1], content);
		files
	};
	let files = prepared();
	let before = files.steps();
	drop(open_on(&files));
	let steps = files.steps() - before;
	for (step, away) in (0..steps).flat_map(|step| [(step, PACKS[1]), (step, PACKS[2])]) {
		let files = prepared();
		files.cut_after(step);
		let _ = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL);
		let files = files.after_power_cut(step);
		files.take_away(away);
		let store = open_on(&files);
		assert_eq!(check(&store).unread_packs, [away], "step {step}");
	}
}

#[test]
fn a_pack_that_comes_back_with_a_bad_beginning_is_not_removed() {
	let (files, tree) = Deep::new();
	let content = Absence::Away.begin(&files, PACKS[2]);
	let store = open_and_confirm(&files);
	store.unpin(&tree.root.cid).unwrap();
	drop(store);
	Absence::Away.end(&files, PACKS[2], content);
	files.set_unreadable(PACKS[2], true);
	for _ in 0..2 {
		let store = open_on(&files);
		store.confirm_pins().unwrap();
		store.collect().unwrap();
		assert!(files.names().iter().any(|name| name == PACKS[2]));
		assert!(store.obstacles().has_dead_roots);
	}
	assert!(!open_on(&files).pins_unconfirmed(), "it is not made anew at each start");
}

/// Cause: the log was made anew under the feet of one that went on with the old file. Effect: pins that
/// were acknowledged were gone at the next start.
#[test]
fn pins_stay_although_making_their_log_anew_failed_at_any_sync() {
	for syncs in 0..4 {
		let (files, snapshots) = disk();
		let store = open_on(&files);
		store.unpin(&snapshots.roots[1].cid).unwrap();
		lock(&store.shared.pins).distrust();
		files.fail_sync_in(Some(syncs));
		let _ = lock(&store.shared.pins).mend();
		files.fail_sync_in(None);
		store.open_session().unwrap().pin(&snapshots.roots[1].cid, b"again").unwrap();
		drop(store);
		for seed in 0..4 {
			let store = open_on(&files.after_power_cut(seed));
			assert!(snapshots.roots.iter().all(|root| store.is_pinned(&root.cid)), "{syncs}");
		}
	}
}

#[test]
fn a_log_of_pins_that_is_damaged_throughout_is_no_empty_one() {
	let damages: [fn(&mut Vec<u8>); 2] = [
		|bytes| *bytes = vec![7; 5_000],
		|bytes| [9, 80].into_iter().for_each(|at| bytes[at] ^= 1),
	];
	for damage in damages {
		let (files, _) = disk();
		files.edit(PINS_FILE, damage);
		let store = open_on(&files);
		assert!(store.pins_unconfirmed() && store.pins().unwrap().is_empty());
	}
}

/// Cause: what a killed program had written and not synced was indexed. Effect: after a power cut it was
/// gone, and waited for as for the end of a pack.
#[test]
fn what_is_indexed_anew_is_durable() {
	let back_up = |files: &SimulatedFiles, snapshots: &Snapshots| -> Option<()> {
		let store = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL).ok()?;
		let session = store.open_session().ok()?;
		for block in snapshots.blocks(0) {
			put(&*session, block).ok()?;
		}
		session.pin(&snapshots.roots[0].cid, b"label").ok()
	};
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	back_up(&files, &snapshots).unwrap();
	let steps = files.steps();
	let mut unacknowledged = 0;
	for step in 0..steps {
		let files = SimulatedFiles::default();
		files.cut_after(step);
		if back_up(&files, &snapshots).is_some() {
			continue;
		}
		let files = files.after_kill();
		if !files.names().iter().any(|name| name == INDEX_FILE) {
			continue;
		}
		files.take_away(INDEX_FILE);
		let store = open_on(&files);
		unacknowledged += u64::from(store.usage().unwrap().blocks > 0);
		drop(store);
		for seed in 0..4 {
			let store = open_on(&files.after_power_cut(seed));
			let found = check(&store);
			assert!(found.unread_packs.is_empty(), "step {step}, seed {seed}");
			assert_eq!(found.damaged_blocks, 0, "step {step}, seed {seed}");
		}
	}
	assert!(unacknowledged > 0);
}

#[test]
fn an_index_is_given_up_although_no_other_can_be_made() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	files.fail_sync_in(Some(0));
	store.shared.index.condemn().unwrap();
	drop(store);
	for seed in 0..8 {
		let store = open_on(&files.after_power_cut(seed));
		assert!(store.pins_unconfirmed(), "seed {seed}: it was not made anew");
		assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
	}
}

/// Cause: an empty log was made before the index said that pins may be lost. Effect: after a kill in
/// between, the next start took the empty log for all there is, and everything was freed.
#[test]
fn a_power_cut_at_any_step_of_noticing_that_pins_are_lost_frees_nothing() {
	let prepared = |is_index_lost: bool| {
		let (files, tree) = Deep::new();
		files.take_away(PINS_FILE);
		if is_index_lost {
			files.take_away(INDEX_FILE);
		}
		(files, tree)
	};
	for is_index_lost in [false, true] {
		let (files, _) = prepared(is_index_lost);
		let before = files.steps();
		drop(open_on(&files));
		let steps = files.steps() - before;
		assert!(steps > 4, "{steps}");
		for step in 0..steps {
			let (files, tree) = prepared(is_index_lost);
			files.cut_after(step);
			let _ = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL);
			for seed in 0..4 {
				let store = open_on(&files.after_power_cut(seed));
				assert!(store.pins_unconfirmed(), "step {step}, seed {seed}");
				assert!(tree.is_whole(&store));
			}
		}
	}
}

/// Cause: with pins lost, what stands behind all that an old index knows was taken for what a crash
/// leaves. Effect: it was cut off, though lost pins had named it.
#[test]
fn an_old_index_costs_nothing_although_the_pins_are_lost() {
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	snapshots.back_up(&open_on(&files), 0);
	let old = files.content(INDEX_FILE);
	snapshots.back_up(&open_on(&files), 1);
	files.edit(INDEX_FILE, |bytes| *bytes = old);
	files.take_away(PINS_FILE);
	let store = open_on(&files);
	assert!(store.pins_unconfirmed());
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
}

/// Cause: damage in the middle of the log stayed there. Effect: each start doubted the pins again.
#[test]
fn pins_that_were_confirmed_are_not_doubted_at_the_next_start() {
	let (files, snapshots) = disk();
	files.edit(PINS_FILE, |bytes| bytes[30] ^= 1);
	let store = open_on(&files);
	assert!(store.pins_unconfirmed());
	assert!(store.pin_what_is_left(&snapshots.roots[0].cid, b"label").unwrap());
	store.confirm_pins().unwrap();
	drop(store);
	let store = open_on(&files);
	assert!(!store.pins_unconfirmed());
	assert!(snapshots.roots.iter().all(|root| store.is_pinned(&root.cid)));
}

/// Cause: which numbers packs have had was known to the old index alone, and the new one was told after
/// the old one was gone. Effect: a pack that came back stood under the number of another one.
#[test]
fn a_power_cut_while_an_index_is_made_anew_does_not_forget_a_pack_that_is_away() {
	let prepared = || {
		let (files, tree) = Deep::new();
		let content = files.content(PACKS[2]);
		files.take_away(PACKS[2]);
		(files, tree, content)
	};
	let (files, ..) = prepared();
	let before = files.steps();
	drop(open_on(&files));
	let steps = files.steps() - before;
	for step in 0..steps {
		let (files, tree, content) = prepared();
		files.cut_after(step);
		let _ = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL);
		let files = files.after_power_cut(step);
		let store = open_on(&files);
		assert_eq!(check(&store).unread_packs, [PACKS[2]], "step {step}");
		tree.back_up(&store);
		drop(store);
		assert!(!files.names().iter().any(|name| name == PACKS[2]), "step {step}");
		files.put_back(PACKS[2], &content);
		let store = open_on(&files);
		assert!(tree.is_whole(&store) && check(&store).is_good(), "step {step}");
	}
}

#[test]
fn an_index_that_is_given_up_leaves_what_it_knew_of_a_pack_that_is_away() {
	let (files, tree) = Deep::new();
	let content = files.content(PACKS[2]);
	files.take_away(PACKS[2]);
	let store = open_and_confirm(&files);
	store.shared.index.condemn().unwrap();
	drop(store);
	let store = open_and_confirm(&files);
	assert_eq!(check(&store).unread_packs, [PACKS[2]]);
	tree.back_up(&store);
	drop(store);
	files.put_back(PACKS[2], &content);
	assert!(tree.is_whole(&open_and_confirm(&files)));
}

/// Cause: an index that was made anew knew no live block in a pack that the disk did not give just
/// then. Effect: the next collection removed the pack, and the disk would have given it again.
#[test]
fn a_pack_that_could_not_be_read_when_the_index_was_made_anew_stays() {
	for unread in [0, 1] {
		let (files, tree) = Deep::new();
		files.take_away(INDEX_FILE);
		files.set_unreadable(PACKS[unread], true);
		// Over several starts.
		for start in 0..2 {
			let store = open_on(&files);
			assert_eq!(store.pins_unconfirmed(), start == 0, "the index is made anew once");
			store.confirm_pins().unwrap();
			store.collect().unwrap();
			assert!(!tree.is_whole(&store));
			assert!(files.names().iter().any(|name| name == PACKS[unread]), "start {start}");
		}
		files.set_unreadable(PACKS[unread], false);
		let store = open_and_confirm(&files);
		assert!(tree.is_whole(&store) && check(&store).is_good());
		store.collect().unwrap();
		assert!(tree.is_whole(&store) && !store.obstacles().any());
		drop(store);
		assert!(!open_on(&files).pins_unconfirmed(), "nothing is left to be read again");
	}
}

#[test]
fn a_pack_that_could_not_be_read_goes_once_a_repair_went_on_without_it() {
	let (files, tree) = Deep::new();
	files.take_away(INDEX_FILE);
	files.set_unreadable(PACKS[0], true);
	let store = open_and_confirm(&files);
	repair(&store);
	store.collect().unwrap();
	assert!(!files.names().iter().any(|name| name == PACKS[0]));
	tree.back_up(&store);
	assert!(tree.is_whole(&store) && check(&store).is_good());
}

/// Cause: with pins lost nobody knew that the index lacked one of them. Effect: a pack that came back
/// was taken for what a crash had left, and removed.
#[test]
fn a_pack_that_comes_back_is_taken_up_although_the_pins_are_lost() {
	for is_confirmed_late in [false, true] {
		let (files, tree) = Deep::new();
		let pack = files.content(PACKS[0]);
		files.take_away(PACKS[0]);
		drop(open_and_confirm(&files));
		files.take_away(PINS_FILE);
		if is_confirmed_late {
			drop(open_on(&files));
		}
		files.put_back(PACKS[0], &pack);
		let store = open_on(&files);
		assert!(store.pins_unconfirmed() && tree.is_whole(&store));
	}
}

/// Cause: only whole snapshots were pinned again. Effect: what was left of the others was freed, and
/// missing when a pack came back.
#[test]
fn what_is_left_of_a_snapshot_is_pinned_again() {
	let (files, tree) = Deep::new();
	let pack = files.content(PACKS[0]);
	files.take_away(PACKS[0]);
	files.take_away(PINS_FILE);
	let store = open_on(&files);
	assert!(store.open_session().unwrap().pin(&tree.root.cid, b"label").is_err());
	assert!(store.pin_what_is_left(&tree.root.cid, b"label").unwrap());
	store.confirm_pins().unwrap();
	store.collect().unwrap();
	drop(store);
	files.put_back(PACKS[0], &pack);
	assert!(tree.is_whole(&open_and_confirm(&files)));
}

/// Cause: the next blocks were appended to a pack that had lost its end. Effect: whoever put the file
/// back as it was lost them.
#[test]
fn nothing_is_appended_to_a_pack_that_has_lost_its_end() {
	let (files, tree) = Deep::new();
	let content = Absence::Cut.begin(&files, PACKS[2]);
	let store = open_and_confirm(&files);
	let (other, root) = (chunk(7, 100), node(8, &[&chunk(7, 100)]));
	let session = store.open_session().unwrap();
	put_all(&*session, &[&other, &root]);
	session.pin(&root.cid, b"label").unwrap();
	drop((session, store));
	Absence::Cut.end(&files, PACKS[2], content);
	let store = open_and_confirm(&files);
	assert!(tree.is_whole(&store));
	assert_there(&store, &[&other, &root]);
}
