//! Deletion of everything an account has.

use crate::{
	BackupHooks, Backups, Eligibility, Error, Event, Invalidity, LineageSettings, Lineages,
	NextSequences, Pallet, Snapshots, SnapshotsByCid, Subscription, UserDeletions, mock::*,
};
use backup_primitives::RootStatus;
use frame_support::{assert_noop, assert_ok};
use sp_runtime::transaction_validity::InvalidTransaction;

const GRACE: u64 = 20;

#[test]
fn a_deletion_takes_effect_after_its_grace_period() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status = || Pallet::<Test>::root_status(REQUEST, salt, 0, cid);
		run_to(30);
		Backup::deletion_requested(&ALICE);
		assert_eq!(
			last_event(),
			Event::UserDeletionRequested { owner: ALICE, effective_at: 30 + GRACE }
		);
		assert_eq!(Backup::eligibility(REQUEST), Eligibility::DeletionPending);
		run_to(29 + GRACE);
		assert_eq!(status(), RootStatus::Retained);
		assert_refused(deleted_report(REQUEST), Invalidity::NothingToDelete);
		run_to(30 + GRACE);
		assert_eq!(status(), RootStatus::Deleted);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(status(), RootStatus::Unknown);
	});
}

#[test]
fn nothing_of_the_account_is_left() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		record(REQUEST, 1);
		record(OTHER_REQUEST, 2);
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(
			last_event(),
			Event::LineageDeleted { node_id: NODE, owner: ALICE, request_id: REQUEST }
		);
		assert!(UserDeletions::<Test>::contains_key(ALICE));
		assert_ok!(submit(deleted_report(OTHER_REQUEST)));
		assert_eq!(last_event(), Event::UserStorageDeleted { owner: ALICE });
		assert_eq!(Snapshots::<Test>::iter_keys().count(), 0);
		assert_eq!(SnapshotsByCid::<Test>::iter_keys().count(), 0);
		assert_eq!(Lineages::<Test>::iter_keys().count(), 0);
		assert_eq!(Backups::<Test>::iter_keys().count(), 0);
		assert!(!UserDeletions::<Test>::contains_key(ALICE));
	});
}

#[test]
fn the_backups_of_others_stay() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, BOB);
		record(OTHER_REQUEST, 2);
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		assert_refused(deleted_report(OTHER_REQUEST), Invalidity::NothingToDelete);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(Snapshots::<Test>::iter_keys().count(), 1);
	});
}

#[test]
fn an_account_without_backups_is_done_at_once() {
	story(|| {
		Backup::deletion_requested(&ALICE);
		assert_eq!(last_event(), Event::UserStorageDeleted { owner: ALICE });
	});
}

#[test]
fn asking_again_does_not_prolong_the_grace_period() {
	story_of_alice(|| {
		Backup::deletion_requested(&ALICE);
		let before = UserDeletions::<Test>::get(ALICE);
		run_for(5);
		Backup::deletion_requested(&ALICE);
		assert_eq!(UserDeletions::<Test>::get(ALICE), before);
	});
}

#[test]
fn nothing_begins_and_nothing_is_restored_while_a_deletion_is_pending() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		Backup::deletion_requested(&ALICE);
		World::run(OTHER_REQUEST, ALICE);
		assert_noop!(
			Backup::create_backup(signed(ALICE), OTHER_REQUEST, None),
			Error::<Test>::DeletionPending
		);
		assert_noop!(
			Backup::restore_from_snapshot(signed(ALICE), bytes(cid)),
			Error::<Test>::DeletionPending
		);
		run_to(1 + FREQUENCY);
		assert_refused(snapshot(REQUEST, 2).call(), InvalidTransaction::Future);
	});
}

#[test]
fn a_sequence_goes_on_after_a_deletion() {
	story_of_alice(|| {
		record(REQUEST, 1);
		record(REQUEST, 2);
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(NextSequences::<Test>::get(REQUEST), Some(2));
		World::subscribe(ALICE, Subscription::Active);
		assert_ok!(Backup::create_backup(signed(ALICE), REQUEST, None));
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().next, 2);
		record(REQUEST, 3);
		assert_eq!(Snapshots::<Test>::get(REQUEST, 2).unwrap().cid, root(3));
	});
}

#[test]
fn boundary_a_long_lineage_goes_32_snapshots_at_a_time() {
	story_of_alice(|| {
		let settings = LineageSettings { paused: false, keep_last: Some(40) };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 10));
		for tag in 0..40 {
			record(REQUEST, tag);
		}
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().tail, 32);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_eq!(last_event(), Event::UserStorageDeleted { owner: ALICE });
	});
}

#[test]
fn a_restore_that_a_deletion_overtook_can_be_closed() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_ok!(Backup::close_restore(signed(ALICE), 0));
	});
}

#[test]
fn a_deletion_report_needs_the_right_words_and_key() {
	story_of_alice(|| {
		record(REQUEST, 1);
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		let mut call = deleted_report(REQUEST);
		if let crate::Call::report_deleted { at, .. } = &mut call {
			at.number -= 1;
			at.hash = hash_of(at.number).0;
		}
		assert_refused(call, InvalidTransaction::BadProof);
		let mut call = deleted_report(REQUEST);
		if let crate::Call::report_deleted { until, .. } = &mut call {
			*until -= 1;
		}
		assert_refused(call, Invalidity::NothingToDelete);
	});
}
