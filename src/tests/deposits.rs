//! What owners put down, and get back.

use crate::{
	DeletionTarget, Error, Event, HistoryTickets, LineageSettings, Lineages, Proposals,
	RestoreRequests, RestoreState, SnapshotLocks, Subscription, mock::*,
};
use frame_support::{assert_noop, assert_ok, traits::Hooks, weights::Weight};
use sp_runtime::TokenError;

/// Delete the backup of Alice's machine to the end.
fn delete() {
	assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
	run_for(20);
	submit(deleted_report(REQUEST)).unwrap();
}

#[test]
fn a_backup_costs_a_deposit_for_each_snapshot_that_is_kept() {
	story(|| {
		World::impoverish(ALICE, 10);
		begin(REQUEST, ALICE);
		assert_eq!(World::units(ALICE), 10 - 3);
		keep_last(5);
		assert_eq!(World::units(ALICE), 10 - 5);
		keep_last(1);
		assert_eq!(World::units(ALICE), 10 - 1);
		let settings = LineageSettings { paused: false, keep_last: Some(11) };
		assert_noop!(
			Backup::set_backup_settings(signed(ALICE), REQUEST, settings),
			TokenError::FundsUnavailable
		);
	});
}

#[test]
fn the_deposit_covers_what_is_there_until_it_is_evicted() {
	story(|| {
		World::impoverish(ALICE, 10);
		begin(REQUEST, ALICE);
		for tag in 0..3 {
			record(REQUEST, tag);
		}
		// Paused, so that nothing is evicted.
		let settings = LineageSettings { paused: true, keep_last: Some(1) };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert_eq!(World::units(ALICE), 10 - 3);
	});
}

#[test]
fn who_cannot_pay_the_deposit_has_no_backup() {
	story(|| {
		World::impoverish(ALICE, 2);
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		assert_noop!(
			Backup::create_backup(signed(ALICE), REQUEST, None),
			TokenError::FundsUnavailable
		);
	});
}

#[test]
fn a_machine_whose_owner_cannot_pay_is_proposed_until_the_owner_can() {
	story(|| {
		World::impoverish(ALICE, 2);
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		<Backup as crate::BackupHooks<_, _>>::fulfilled(&REQUEST);
		assert!(!Lineages::<Test>::contains_key(REQUEST));
		assert!(Proposals::<Test>::contains_key(REQUEST));
		World::impoverish(ALICE, 3);
		assert_ok!(Backup::approve_backup(signed(ALICE), REQUEST));
	});
}

#[test]
fn the_deposit_comes_back_when_the_history_is_gone() {
	story(|| {
		World::impoverish(ALICE, 10);
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		let held = Error::<Test>::BackupAlreadyExists;
		assert_noop!(Backup::reclaim_deposit(signed(ALICE), REQUEST), held);
		delete();
		// The node's report has touched no balance.
		assert_eq!(World::units(ALICE), 10 - 3);
		let none = || Error::<Test>::DepositNotFound;
		assert_noop!(Backup::reclaim_deposit(signed(BOB), REQUEST), none());
		assert_ok!(Backup::reclaim_deposit(signed(ALICE), REQUEST));
		assert_eq!(last_event(), Event::DepositReturned { owner: ALICE, request_id: REQUEST });
		assert_eq!(World::units(ALICE), 10);
		assert_noop!(Backup::reclaim_deposit(signed(ALICE), REQUEST), none());
	});
}

#[test]
fn a_backup_that_begins_again_takes_the_deposit_that_is_there() {
	story(|| {
		World::impoverish(ALICE, 3);
		begin(REQUEST, ALICE);
		delete();
		assert_ok!(Backup::create_backup(signed(ALICE), REQUEST, None));
		assert_eq!(World::units(ALICE), 0);
		assert!(HistoryTickets::<Test>::contains_key(ALICE, REQUEST));
	});
}

#[test]
fn a_restore_costs_a_deposit_until_it_is_closed() {
	story(|| {
		World::impoverish(ALICE, 4);
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		assert_ok!(restore(ALICE, REQUEST, 0));
		assert_noop!(restore(ALICE, REQUEST, 0), TokenError::FundsUnavailable);
		submit(restore_report(0, None)).unwrap();
		assert_eq!(World::units(ALICE), 0);
		assert_ok!(Backup::close_restore(signed(ALICE), 0));
		assert_eq!(World::units(ALICE), 1);
	});
}

#[test]
fn the_deposit_for_a_restore_that_is_over_comes_back_by_itself() {
	story(|| {
		World::impoverish(ALICE, 4);
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		assert_ok!(restore(ALICE, REQUEST, 0));
		run_for(50);
		Backup::on_idle(System::block_number(), Weight::MAX);
		assert_eq!(World::units(ALICE), 1);
	});
}

#[test]
fn a_restore_whose_deposit_cannot_be_returned_lets_go_of_its_snapshot_all_the_same() {
	story(|| {
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		assert_ok!(restore(ALICE, REQUEST, 0));
		World::freeze_purses(true);
		run_for(50);
		Backup::on_idle(System::block_number(), Weight::MAX);
		assert_eq!(RestoreRequests::<Test>::get(0).unwrap().state, RestoreState::Expired);
		assert!(!SnapshotLocks::<Test>::contains_key(REQUEST, 0));
		assert_eq!(Backup::do_try_state(), Ok(()));
		assert_noop!(Backup::close_restore(signed(ALICE), 0), TokenError::Frozen);
		World::freeze_purses(false);
		assert_ok!(Backup::close_restore(signed(ALICE), 0));
		assert!(!RestoreRequests::<Test>::contains_key(0));
	});
}

#[test]
fn a_deletion_that_is_taken_back_keeps_the_deposit() {
	story(|| {
		World::impoverish(ALICE, 3);
		begin(REQUEST, ALICE);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_ok!(Backup::cancel_deletion(signed(ALICE), DeletionTarget::Request(REQUEST)));
		assert_eq!(World::units(ALICE), 0);
	});
}
