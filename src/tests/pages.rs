//! Long lists, page by page.

use crate::{OwnerKeys, RestoreRequests, mock::*, pages::ENTRIES_MAX};
use backup_primitives::Recipient;
use frame_support::assert_ok;

/// More than two pages.
const MANY: u64 = 2 * ENTRIES_MAX as u64 + 100;

/// A restore of another account, again and again, up to so many.
fn crowd_of_restores() {
	begin(OTHER_REQUEST, BOB);
	record(OTHER_REQUEST, 2);
	assert_ok!(restore(BOB, OTHER_REQUEST, 0));
	let (id, model) = RestoreRequests::<Test>::iter().find(|(_, r)| r.requester == BOB).unwrap();
	for copy in (0..MANY).map(|number| 1_000 + id + number) {
		RestoreRequests::<Test>::insert(copy, model.clone());
	}
}

/// The restores of an account, and how many reads that took.
fn all_restores_of(who: AccountId) -> (Vec<u64>, usize) {
	let (mut ids, mut after, mut reads) = (Vec::new(), None, 0);
	loop {
		let (page, next) = Backup::restores_of(who, after);
		assert!(page.iter().all(|(_, restore)| restore.requester == who));
		assert!(page.len() <= ENTRIES_MAX);
		ids.extend(page.into_iter().map(|(id, _)| id));
		reads += 1;
		match next {
			None => break,
			Some(_) => after = next,
		}
	}
	ids.sort_unstable();
	(ids, reads)
}

#[test]
fn an_accounts_restores_are_found_among_those_of_many_and_no_read_looks_at_all() {
	// Records that nobody asked for break invariants.
	new_test_ext().execute_with(|| {
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		assert_ok!(restore(ALICE, REQUEST, 0));
		assert_ok!(restore(ALICE, REQUEST, 0));
		assert_eq!(all_restores_of(ALICE), (vec![0, 1], 1));
		crowd_of_restores();
		assert_eq!(all_restores_of(ALICE), (vec![0, 1], 3));
		let (ids, reads) = all_restores_of(BOB);
		assert_eq!((ids.len() as u64, reads), (MANY + 1, 3), "each of them, once");
		assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
		assert_eq!(all_restores_of(CHARLIE), (vec![], 3));
	});
}

#[test]
fn a_page_goes_on_behind_a_record_that_is_gone() {
	new_test_ext().execute_with(|| {
		crowd_of_restores();
		let (first, next) = Backup::restores_of(BOB, None);
		let next = next.expect("there are more");
		RestoreRequests::<Test>::remove(next);
		let (second, _) = Backup::restores_of(BOB, Some(next));
		assert_eq!((first.len(), second.len()), (ENTRIES_MAX, ENTRIES_MAX));
		assert!(second.iter().all(|(id, _)| first.iter().all(|(seen, _)| seen != id)));
	});
}

/// Who registered a key, and how many reads it took to find out.
fn who_registered(recipient: Recipient) -> (Option<(AccountId, u32)>, usize) {
	let (mut after, mut reads) = (None, 0);
	loop {
		let (found, next) = Backup::owner_of_key(recipient, after);
		reads += 1;
		if found.is_some() || next.is_none() {
			assert!(found.is_none() || next.is_none(), "who is found is not looked for");
			return (found, reads);
		}
		after = next;
	}
}

#[test]
fn who_registered_a_key_is_found_among_many() {
	new_test_ext().execute_with(|| {
		assert_eq!(who_registered(key(9)), (None, 1));
		begin(REQUEST, ALICE);
		run_for(30);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(9)));
		assert_eq!(who_registered(key(9)), (Some((ALICE, 2)), 1));
		let model = OwnerKeys::<Test>::get(ALICE, 1).unwrap();
		for stranger in 1_000..1_000 + MANY {
			let recipient = Recipient([8; 32]);
			OwnerKeys::<Test>::insert(stranger, 1, crate::OwnerKey { recipient, ..model.clone() });
		}
		let (found, reads) = who_registered(key(9));
		assert_eq!(found, Some((ALICE, 2)));
		assert!(reads <= 3);
		assert_eq!(who_registered(Recipient([7; 32])), (None, 3));
	});
}
