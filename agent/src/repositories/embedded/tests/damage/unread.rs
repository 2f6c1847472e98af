//! What the disk does not give while the index is made anew, and may give later.

use super::{
	obstacles::{Deep, open_and_confirm},
	*,
};
use crate::repositories::embedded::{index::INDEX_FILE, pins::PINS_FILE};

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
	assert!(!store.pin_what_is_left(&tree.deep.cid, b"label").unwrap(), "nothing is known of it");
	store.confirm_pins().unwrap();
	store.collect().unwrap();
	drop(store);
	files.put_back(PACKS[0], &pack);
	assert!(tree.is_whole(&open_and_confirm(&files)));
}
