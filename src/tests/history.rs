//! Histories, page by page from the newest down.

use crate::{
	Lineages, SnapshotOf, Snapshots, history::SNAPSHOTS_PAGE, mock::*, pages::ENTRIES_MAX,
};
use frame_support::assert_ok;

/// Places that one read looks at.
const PLACES: u64 = ENTRIES_MAX as u64;

/// Leave of Alice's history what stands at these places, and let it end at `next`. Each was taken at
/// the block of its number.
fn rewrite(places: impl IntoIterator<Item = u64>, next: u64) {
	let model: SnapshotOf<Test> = Snapshots::<Test>::get(REQUEST, 0).expect("one was recorded");
	Snapshots::<Test>::remove(REQUEST, 0);
	let mut kept = 0;
	for place in places {
		let record = SnapshotOf::<Test> { taken_at: place, ..model.clone() };
		Snapshots::<Test>::insert(REQUEST, place, record);
		kept += 1;
	}
	Lineages::<Test>::mutate_extant(REQUEST, |lineage| {
		lineage.kept = kept;
		lineage.next = next;
	});
}

/// Alice's history, rewritten. Records that nobody reported break invariants.
fn rewritten(places: impl IntoIterator<Item = u64>, next: u64, test: impl FnOnce()) {
	new_test_ext().execute_with(|| {
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		rewrite(places, next);
		test();
	});
}

/// The places on a page, and where to go on.
fn page(before: Option<u64>, limit: u32) -> (Vec<u64>, Option<u64>) {
	let (records, next) = Backup::snapshots(REQUEST, before, limit);
	(records.into_iter().map(|(sequence, _)| sequence).collect(), next)
}

/// The snapshot as of a block, and how many reads it took to find it.
fn as_of(at: u64) -> (Option<u64>, usize) {
	let (mut before, mut reads) = (None, 0);
	loop {
		let (found, next) = Backup::snapshot_as_of(REQUEST, at, before);
		assert!(found.is_none() || next.is_none(), "what is found is not looked for");
		reads += 1;
		match next {
			None => return (found, reads),
			Some(_) => before = next,
		}
	}
}

#[test]
fn a_page_begins_with_the_newest_or_before_a_place() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		for tag in 0..3 {
			record(REQUEST, tag);
		}
		let (records, next) = Backup::snapshots(REQUEST, None, 10);
		let roots: Vec<_> = records.into_iter().map(|(at, record)| (at, record.cid)).collect();
		assert_eq!((roots, next), (vec![(2, root(2)), (1, root(1)), (0, root(0))], None));
		assert_eq!(page(Some(2), 10), (vec![1, 0], None));
		assert_eq!(page(Some(u64::MAX), 10), (vec![2, 1, 0], None), "as from the newest on");
		assert_eq!(page(Some(0), 10), (vec![], None));
	});
}

#[test]
fn a_history_that_is_empty_or_not_there_ends_at_once() {
	story_of_alice(|| {
		assert_eq!(page(None, 10), (vec![], None));
		assert_eq!(Backup::snapshots(OTHER_REQUEST, None, 10), (vec![], None));
		assert_eq!(as_of(u64::MAX), (None, 1));
		assert_eq!(Backup::snapshot_as_of(OTHER_REQUEST, u64::MAX, None), (None, None));
	});
	rewritten([], 10 * PLACES, || assert_eq!(page(None, 10), (vec![], None)));
}

#[test]
fn boundary_a_page_that_has_all_that_is_kept_names_no_other() {
	rewritten(100..103, 103, || {
		assert_eq!(page(None, 2), (vec![102, 101], Some(101)));
		assert_eq!(page(Some(101), 2), (vec![100], None), "nothing is below");
		assert_eq!(page(None, 3), (vec![102, 101, 100], None));
		assert_eq!(page(None, 4), (vec![102, 101, 100], None));
	});
}

#[test]
fn boundary_a_page_has_no_fewer_than_one_and_no_more_than_512() {
	let count = u64::from(SNAPSHOTS_PAGE) + 2;
	rewritten(0..count, count, || {
		assert_eq!(page(None, 0), (vec![count - 1], Some(count - 1)));
		let (places, next) = page(None, u32::MAX);
		assert_eq!(places, (2..count).rev().collect::<Vec<_>>());
		assert_eq!(next, Some(2));
		assert_eq!(page(next, u32::MAX), (vec![1, 0], None));
	});
}

#[test]
fn what_was_held_is_found_behind_what_has_gone() {
	story_of_alice(|| {
		for tag in 0..2 {
			record(REQUEST, tag);
		}
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 1));
		for tag in 2..8 {
			record(REQUEST, tag);
		}
		assert_eq!(page(None, 10), (vec![7, 6, 1], None));
		assert_eq!(page(None, 2), (vec![7, 6], Some(6)));
		assert_eq!(page(Some(6), 2), (vec![1], None));
		assert_eq!(as_of(Snapshots::<Test>::get(REQUEST, 6).unwrap().taken_at - 1), (Some(1), 1));
	});
}

#[test]
fn no_read_looks_at_more_places_than_its_bound_and_all_are_found() {
	// Two old ones, held, and nothing else for more than two reads.
	let next = 3 * PLACES;
	let places = [5, 6, next - 2, next - 1];
	rewritten(places, next, || {
		assert_eq!(page(None, 10), (vec![next - 1, next - 2], Some(next - PLACES)));
		assert_eq!(page(Some(next - PLACES), 10), (vec![], Some(next - 2 * PLACES)));
		assert_eq!(page(Some(next - 2 * PLACES), 10), (vec![6, 5], None));
		let (records, reads) = history(REQUEST, u32::MAX);
		assert_eq!(reads, 3);
		assert!(records.into_iter().map(|(sequence, _)| sequence).eq(places));
		assert_eq!(as_of(next), (Some(next - 1), 1));
		assert_eq!(as_of(next - 3), (Some(6), 3));
		assert_eq!(as_of(5), (Some(5), 3));
		assert_eq!(as_of(4), (None, 3));
	});
}

#[test]
fn a_page_goes_on_before_a_snapshot_that_is_gone() {
	rewritten(0..10, 10, || {
		let (first, next) = page(None, 4);
		assert_eq!((first, next), (vec![9, 8, 7, 6], Some(6)));
		Snapshots::<Test>::remove(REQUEST, 6);
		Snapshots::<Test>::remove(REQUEST, 5);
		Lineages::<Test>::mutate_extant(REQUEST, |lineage| lineage.kept -= 2);
		assert_eq!(page(next, 4), (vec![4, 3, 2, 1], Some(1)));
		assert_eq!(page(Some(1), 4), (vec![0], None));
	});
}

#[test]
fn boundary_the_snapshot_as_of_a_block_is_the_newest_before_it() {
	story_of_alice(|| {
		for tag in 0..3 {
			record(REQUEST, tag);
		}
		let taken_at = [1, 1 + FREQUENCY, 1 + 2 * FREQUENCY];
		assert_eq!(as_of(0), (None, 1));
		for (sequence, at) in (0..).zip(taken_at) {
			assert_eq!(as_of(at), (Some(sequence), 1));
			assert_eq!(as_of(at - 1), (sequence.checked_sub(1), 1));
		}
		assert_eq!(as_of(u64::MAX), (Some(2), 1));
	});
}
