//! Holds: what stays although retention would let it go.

use crate::{Error, Event, LineageSettings, Lineages, SnapshotLock, SnapshotLocks, mock::*};
use backup_primitives::RootStatus;
use frame_support::{assert_noop, assert_ok};

fn root_origin() -> RuntimeOrigin {
	RuntimeOrigin::root()
}

#[test]
fn a_held_snapshot_stays_and_those_around_it_go() {
	story_of_alice(|| {
		for tag in 0..2 {
			record(REQUEST, tag);
		}
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 1));
		assert_eq!(
			last_event(),
			Event::SnapshotHeld { request_id: REQUEST, sequence: 1, by_governance: false }
		);
		for tag in 2..6 {
			record(REQUEST, tag);
		}
		assert_eq!(kept(), [1, 4, 5]);
		assert_ok!(Backup::release_snapshot(signed(ALICE), REQUEST, 1));
		assert_eq!(
			last_event(),
			Event::SnapshotReleased { request_id: REQUEST, sequence: 1, by_governance: false }
		);
		record(REQUEST, 6);
		assert_eq!(kept(), [4, 5, 6]);
	});
}

#[test]
fn owner_and_governance_hold_and_release_each_their_own() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::hold_snapshot(root_origin(), REQUEST, 0));
		assert_noop!(
			Backup::hold_snapshot(signed(ALICE), REQUEST, 0),
			Error::<Test>::SnapshotHeldAlready
		);
		assert_ok!(Backup::release_snapshot(signed(ALICE), REQUEST, 0));
		assert_noop!(
			Backup::release_snapshot(signed(ALICE), REQUEST, 0),
			Error::<Test>::SnapshotNotHeld
		);
		let lock = SnapshotLock { restores: 0, by_owner: false, by_governance: true };
		assert_eq!(SnapshotLocks::<Test>::get(REQUEST, 0), Some(lock));
		assert_ok!(Backup::release_snapshot(root_origin(), REQUEST, 0));
		assert_eq!(SnapshotLocks::<Test>::get(REQUEST, 0), None);
	});
}

#[test]
fn fails_to_hold_what_is_not_there_or_not_ones_own() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let hold = |who, request, sequence| Backup::hold_snapshot(who, request, sequence);
		assert_noop!(hold(signed(BOB), REQUEST, 0), Error::<Test>::NotBackupOwner);
		assert_noop!(hold(signed(ALICE), REQUEST, 1), Error::<Test>::SnapshotNotFound);
		assert_noop!(hold(root_origin(), OTHER_REQUEST, 0), Error::<Test>::BackupNotFound);
		assert_noop!(
			Backup::release_snapshot(root_origin(), REQUEST, 0),
			Error::<Test>::SnapshotNotHeld
		);
	});
}

#[test]
fn boundary_an_owner_holds_six_snapshots_of_a_request() {
	story_of_alice(|| {
		keep_last(40);
		for tag in 0..7 {
			record(REQUEST, tag);
		}
		for sequence in 0..6 {
			assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, sequence));
		}
		assert_noop!(Backup::hold_snapshot(signed(ALICE), REQUEST, 6), Error::<Test>::TooManyHolds);
		assert_ok!(Backup::hold_snapshot(root_origin(), REQUEST, 6));
	});
}

#[test]
fn eviction_passes_over_many_held_snapshots_a_few_at_a_time() {
	story_of_alice(|| {
		keep_last(40);
		for tag in 0..8 {
			record(REQUEST, tag);
		}
		for sequence in 0..6 {
			assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, sequence));
		}
		keep_last(7);
		record(REQUEST, 8);
		assert_eq!(kept(), (0..9).collect::<Vec<_>>(), "four places were looked at");
		record(REQUEST, 9);
		assert_eq!(kept(), [0, 1, 2, 3, 4, 5, 8, 9]);
	});
}

#[test]
fn anyone_prunes_what_is_too_much() {
	story_of_alice(|| {
		keep_last(40);
		for tag in 0..10 {
			record(REQUEST, tag);
		}
		assert_noop!(Backup::prune(signed(BOB), REQUEST, 64), Error::<Test>::NothingToPrune);
		keep_last(2);
		assert_ok!(Backup::prune(signed(BOB), REQUEST, 3));
		assert_eq!(kept(), (3..10).collect::<Vec<_>>());
		assert_ok!(Backup::prune(signed(BOB), REQUEST, u32::MAX));
		assert_eq!(kept(), [8, 9]);
		assert_noop!(Backup::prune(signed(BOB), OTHER_REQUEST, 1), Error::<Test>::BackupNotFound);
	});
}

#[test]
fn a_young_snapshot_stays_although_it_is_too_much() {
	story_of_alice(|| {
		let settings = crate::ChainSettings { min_age: 350, ..Backup::settings() };
		assert_ok!(Backup::set_settings(root_origin(), settings));
		for tag in 0..4 {
			record(REQUEST, tag);
		}
		assert_eq!(System::block_number(), 301);
		assert_eq!(kept(), [0, 1, 2, 3]);
		run_to(350);
		assert_noop!(Backup::prune(signed(BOB), REQUEST, 64), Error::<Test>::NothingToPrune);
		run_to(351);
		assert_ok!(Backup::prune(signed(BOB), REQUEST, 64));
		assert_eq!(kept(), [1, 2, 3]);
	});
}

#[test]
fn boundary_at_the_hard_cap_a_young_snapshot_goes_and_that_is_told() {
	story_of_alice(|| {
		let settings = crate::ChainSettings { min_age: 100_000, ..Backup::settings() };
		assert_ok!(Backup::set_settings(root_origin(), settings));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 10));
		for tag in 0..40 {
			record(REQUEST, tag);
		}
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().kept, 40);
		record(REQUEST, 40);
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().kept, 40);
		let cid = root(0);
		assert!(events().contains(&Event::SnapshotEvicted {
			request_id: REQUEST,
			sequence: 0,
			cid,
			is_young: true
		}));
	});
}

#[test]
fn what_governance_holds_is_not_deleted() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		record(REQUEST, 2);
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status = || Backup::root_status(REQUEST, salt, 0, cid);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::hold_snapshot(root_origin(), REQUEST, 0));
		run_for(50);
		assert_eq!(status(), RootStatus::Retained);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(60);
		assert_eq!(status(), RootStatus::Retained);
		assert_refused(deleted_report(REQUEST), crate::Invalidity::NothingToDelete);
		assert_noop!(
			Backup::close_deletion(signed(BOB), REQUEST, None),
			Error::<Test>::DeletionNotOver
		);
		assert_ok!(Backup::release_snapshot(root_origin(), REQUEST, 0));
		assert_eq!(status(), RootStatus::Deleted);
		assert_ok!(submit(deleted_report(REQUEST)));
	});
}

#[test]
fn prune_passes_over_a_gap_however_long() {
	story_of_alice(|| {
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 10));
		record(REQUEST, 0);
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 0));
		for tag in 1..100 {
			record(REQUEST, tag);
		}
		assert_ok!(Backup::release_snapshot(signed(ALICE), REQUEST, 0));
		keep_last(1);
		for _ in 0..2 {
			assert_ok!(Backup::prune(signed(BOB), REQUEST, 64));
		}
		assert_eq!(kept(), [99]);
		assert_noop!(Backup::prune(signed(BOB), REQUEST, 64), Error::<Test>::NothingToPrune);
	});
}

#[test]
fn nobody_prunes_what_is_paused() {
	story_of_alice(|| {
		keep_last(40);
		for tag in 0..5 {
			record(REQUEST, tag);
		}
		let paused = LineageSettings { paused: true, keep_last: Some(1) };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, paused));
		assert_noop!(Backup::prune(signed(BOB), REQUEST, 64), Error::<Test>::BackupPaused);
		keep_last(1);
		assert_ok!(Backup::set_paused(root_origin(), true));
		assert_noop!(Backup::prune(signed(BOB), REQUEST, 64), Error::<Test>::BackupPaused);
	});
}

#[test]
fn a_deletion_that_governance_has_stopped_is_taken_back_however_late() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let targets =
			[crate::DeletionTarget::Snapshot(REQUEST, 0), crate::DeletionTarget::Request(REQUEST)];
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_ok!(Backup::hold_snapshot(root_origin(), REQUEST, 0));
		run_for(1_000);
		for target in targets {
			assert_ok!(Backup::cancel_deletion(root_origin(), target));
		}
		assert_ok!(restore(ALICE, REQUEST, 0));
	});
}

#[test]
fn fails_to_hold_what_nodes_may_have_given_up() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		run_for(20);
		assert_noop!(
			Backup::hold_snapshot(root_origin(), REQUEST, 0),
			Error::<Test>::DeletionInEffect
		);
	});
}
