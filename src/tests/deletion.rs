//! Deletion of everything an account has.

use crate::{
	BackupHooks, Backups, DeletionTarget, Eligibility, Error, Event, Invalidity, LineageSettings,
	Lineages, NextSequences, Pallet, SnapshotDeletions, Snapshots, SnapshotsByCid, Subscription,
	UserDeletions, mock::*,
};
use backup_primitives::RootStatus;
use frame_support::{assert_noop, assert_ok, traits::Hooks, weights::Weight};
use sp_runtime::{DispatchResult, transaction_validity::InvalidTransaction};

const GRACE: u64 = 20;
const DEADLINE: u64 = 30;

fn cancel(who: RuntimeOrigin, target: DeletionTarget<AccountId, RequestId>) -> DispatchResult {
	Backup::cancel_deletion(who, target)
}

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
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().kept, 8);
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

#[test]
fn an_owner_deletes_the_backup_of_one_machine() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		record(REQUEST, 1);
		record(OTHER_REQUEST, 2);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		let effective_at = System::block_number() + GRACE;
		assert_eq!(
			last_event(),
			Event::BackupDeletionRequested { owner: ALICE, request_id: REQUEST, effective_at }
		);
		assert_eq!(Backup::eligibility(REQUEST), Eligibility::DeletionPending);
		assert_eq!(Backup::lineage(REQUEST).unwrap().delete_at, Some(effective_at));
		assert_noop!(Backup::delete_backup(signed(ALICE), REQUEST), Error::<Test>::DeletionPending);
		run_to(effective_at);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_refused(deleted_report(OTHER_REQUEST), Invalidity::NothingToDelete);
		assert_eq!(Backups::<Test>::get(NODE, ALICE).unwrap().snapshots, 1);
	});
}

#[test]
fn an_owner_deletes_one_snapshot_and_its_record_goes_by_the_way() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		record(REQUEST, 2);
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status = || Backup::root_status(REQUEST, salt, 0, cid);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		assert_noop!(
			Backup::delete_snapshot(signed(ALICE), REQUEST, 0),
			Error::<Test>::DeletionPending
		);
		assert_noop!(restore(ALICE, REQUEST, 0), Error::<Test>::DeletionPending);
		run_for(GRACE - 1);
		Backup::on_idle(System::block_number(), Weight::MAX);
		assert_eq!(status(), RootStatus::Retained);
		run_for(1);
		assert_eq!(status(), RootStatus::Deleted);
		// One look finds the end of the list, the next begins anew.
		for _ in 0..2 {
			Backup::on_idle(System::block_number(), Weight::MAX);
		}
		assert_eq!(last_event(), Event::SnapshotDeleted { request_id: REQUEST, sequence: 0, cid });
		assert_eq!(status(), RootStatus::Evicted);
		assert_eq!(Backups::<Test>::get(NODE, ALICE).unwrap().snapshots, 1);
		// What is left has its place still.
		record(REQUEST, 3);
		assert_eq!(Snapshots::<Test>::get(REQUEST, 2).unwrap().cid, root(3));
	});
}

#[test]
fn anyone_carries_out_the_deletion_of_a_snapshot_that_is_due() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		let close = || Backup::close_deletion(signed(BOB), REQUEST, Some(0));
		assert_noop!(close(), Error::<Test>::DeletionNotOver);
		run_for(GRACE);
		assert_ok!(close());
		assert_noop!(close(), Error::<Test>::DeletionNotOver);
	});
}

#[test]
fn an_evicted_snapshot_is_no_more_to_be_deleted() {
	story_of_alice(|| {
		let settings = crate::ChainSettings { deletion_grace: 100_000, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		record(REQUEST, 1);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		for tag in 2..5 {
			record(REQUEST, tag);
		}
		assert_eq!(SnapshotDeletions::<Test>::iter_keys().count(), 0);
	});
}

#[test]
fn a_deletion_is_taken_back_in_its_grace_period() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let targets = [
			DeletionTarget::Snapshot(REQUEST, 0),
			DeletionTarget::Request(REQUEST),
			DeletionTarget::Account(ALICE),
		];
		for target in targets {
			for governance in [false, true] {
				let who = || match governance {
					true => RuntimeOrigin::root(),
					false => signed(ALICE),
				};
				let taken_back = || cancel(who(), target.clone());
				assert_noop!(taken_back(), Error::<Test>::DeletionNotFound);
				match target {
					DeletionTarget::Snapshot(request, sequence) => {
						assert_ok!(Backup::delete_snapshot(signed(ALICE), request, sequence));
					}
					DeletionTarget::Request(request) => {
						assert_ok!(Backup::delete_backup(signed(ALICE), request));
					}
					DeletionTarget::Account(owner) => Backup::deletion_requested(&owner),
				}
				run_for(GRACE - 1);
				assert!(cancel(signed(BOB), target.clone()).is_err());
				assert_ok!(taken_back());
				assert_eq!(last_event(), Event::DeletionCancelled { target: target.clone() });
				run_for(1);
				assert_refused(deleted_report(REQUEST), Invalidity::NothingToDelete);
			}
		}
		record(REQUEST, 2);
	});
}

#[test]
fn boundary_a_deletion_in_effect_is_not_taken_back() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		Backup::deletion_requested(&ALICE);
		run_for(GRACE);
		for target in [
			DeletionTarget::Snapshot(REQUEST, 0),
			DeletionTarget::Request(REQUEST),
			DeletionTarget::Account(ALICE),
		] {
			assert_noop!(cancel(signed(ALICE), target), Error::<Test>::DeletionInEffect);
		}
	});
}

#[test]
fn boundary_a_deletion_that_nobody_confirms_is_closed_after_its_deadline() {
	story_of_alice(|| {
		record(REQUEST, 1);
		Backup::deletion_requested(&ALICE);
		let close = || Backup::close_deletion(signed(BOB), REQUEST, None);
		run_for(GRACE + DEADLINE - 1);
		assert_noop!(close(), Error::<Test>::DeletionNotOver);
		run_for(1);
		assert_ok!(close());
		let told = Event::DeletionClosed { request_id: REQUEST, unconfirmed: vec![NODE] };
		assert!(events().contains(&told));
		assert_eq!(last_event(), Event::UserStorageDeleted { owner: ALICE });
		assert_noop!(close(), Error::<Test>::BackupNotFound);
	});
}

#[test]
fn fails_to_close_a_deletion_that_nobody_asked_for() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_noop!(
			Backup::close_deletion(signed(ALICE), REQUEST, None),
			Error::<Test>::DeletionNotFound
		);
		assert_noop!(Backup::delete_backup(signed(BOB), REQUEST), Error::<Test>::NotBackupOwner);
		assert_noop!(
			Backup::delete_snapshot(signed(ALICE), REQUEST, 9),
			Error::<Test>::SnapshotNotFound
		);
	});
}

#[test]
fn what_was_never_recorded_goes_with_its_lineage() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status = || Backup::root_status(REQUEST, salt, 1, root(2));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_eq!(status(), RootStatus::Pending);
		run_for(GRACE);
		assert_eq!(status(), RootStatus::Deleted);
	});
}
