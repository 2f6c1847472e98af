//! Which snapshots stay, and what the chain says of each root.

use crate::{Event, LineageSettings, Lineages, Pallet, Snapshots, mock::*};
use backup_primitives::RootStatus;
use frame_support::assert_ok;

#[test]
fn the_newest_three_snapshots_stay() {
	story_of_alice(|| {
		for tag in 0..5 {
			record(REQUEST, tag);
		}
		assert_eq!(kept(), [2, 3, 4]);
		let evicted: Vec<_> = events()
			.into_iter()
			.filter_map(|event| match event {
				Event::SnapshotEvicted { sequence, cid, .. } => Some((sequence, cid)),
				_ => None,
			})
			.collect();
		assert_eq!(evicted, [(1, root(1))], "the event of this block; the others are older");
	});
}

#[test]
fn a_smaller_number_takes_effect_two_snapshots_at_a_time() {
	story_of_alice(|| {
		keep_last(40);
		for tag in 0..6 {
			record(REQUEST, tag);
		}
		keep_last(1);
		record(REQUEST, 6);
		assert_eq!(kept(), [2, 3, 4, 5, 6]);
		record(REQUEST, 7);
		assert_eq!(kept(), [4, 5, 6, 7]);
	});
}

#[test]
fn a_snapshot_that_a_restore_needs_stays_and_goes_later() {
	story_of_alice(|| {
		let oldest = record(REQUEST, 0);
		record(REQUEST, 1);
		record(REQUEST, 2);
		let lifetime = 50;
		let asked_at = System::block_number();
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(oldest)));
		record(REQUEST, 3);
		assert_eq!(kept(), [0, 2, 3], "the next oldest goes in its place");
		run_to(asked_at + lifetime);
		assert_ok!(Backup::close_restore(signed(BOB), 0));
		record(REQUEST, 4);
		assert_eq!(kept(), [2, 3, 4]);
	});
}

#[test]
fn the_chain_says_what_became_of_a_root() {
	story_of_alice(|| {
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status =
			|sequence, tag| Pallet::<Test>::root_status(REQUEST, salt, sequence, root(tag));
		assert_eq!(status(0, 0), RootStatus::Pending);
		for tag in 0..4 {
			record(REQUEST, tag);
		}
		assert_eq!(status(0, 0), RootStatus::Evicted);
		assert_eq!(status(3, 3), RootStatus::Retained);
		assert_eq!(status(3, 9), RootStatus::Unknown, "another root was recorded there");
		assert_eq!(status(4, 4), RootStatus::Pending);
		let forked = Pallet::<Test>::root_status(REQUEST, [9; 32], 3, root(3));
		assert_eq!(forked, RootStatus::Unknown);
		let unknown = Pallet::<Test>::root_status(OTHER_REQUEST, salt, 3, root(3));
		assert_eq!(unknown, RootStatus::Unknown);
	});
}

#[test]
fn boundary_a_lineage_at_the_hard_cap_waits_while_what_could_go_is_held() {
	story_of_alice(|| {
		let settings = LineageSettings { paused: false, keep_last: Some(40) };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 10));
		for tag in 0..40 {
			record(REQUEST, tag);
		}
		// As many as one new snapshot looks at.
		for sequence in 0..4 {
			assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, sequence));
		}
		record(REQUEST, 40);
		run_for(10);
		assert_eq!(Pallet::<Test>::eligibility(REQUEST), crate::Eligibility::Full);
		assert_refused(
			snapshot(REQUEST, 41).call(),
			sp_runtime::transaction_validity::InvalidTransaction::Future,
		);
		assert_ok!(Backup::prune(signed(BOB), REQUEST, 64));
		assert_ok!(snapshot(REQUEST, 41).submit());
		assert_eq!(Snapshots::<Test>::iter_keys().count(), 40);
	});
}
