//! Access: an owner lets others restore a machine, and takes that back.

use crate::{
	BackupHooks, Error, Event, Grants, Invalidity, RestoreRequests, SnapshotLocks, mock::*,
};
use frame_support::{assert_noop, assert_ok};
use sp_runtime::transaction_validity::InvalidTransaction;

fn grant(expires_at: Option<u64>) {
	assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, expires_at, None));
}

fn restore_as_bob() {
	assert_ok!(restore(BOB, REQUEST, 0));
}

#[test]
fn who_was_let_in_restores_what_the_owner_could() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		grant(None);
		assert_eq!(
			last_event(),
			Event::AccessGranted {
				owner: ALICE,
				request_id: REQUEST,
				account: BOB,
				expires_at: None
			}
		);
		restore_as_bob();
		let restore = RestoreRequests::<Test>::get(0).unwrap();
		assert_eq!((restore.requester, restore.owner, restore.cid), (BOB, ALICE, cid));
		run_for(1);
		assert_ok!(submit(restore_report(0, None)));
		assert_eq!(
			last_event(),
			Event::SnapshotRestored { restore_id: 0, request_id: REQUEST, cid }
		);
	});
}

#[test]
fn an_owner_restores_by_sequence_too() {
	story_of_alice(|| {
		record(REQUEST, 1);
		assert_ok!(restore(ALICE, REQUEST, 0));
		assert_noop!(restore(ALICE, REQUEST, 1), Error::<Test>::SnapshotNotFound);
		assert_noop!(restore(ALICE, OTHER_REQUEST, 0), Error::<Test>::BackupNotFound);
	});
}

#[test]
fn who_was_not_let_in_restores_nothing() {
	story_of_alice(|| {
		record(REQUEST, 1);
		grant(None);
		assert_noop!(restore(CHARLIE, REQUEST, 0), Error::<Test>::NotAuthorized);
	});
}

#[test]
fn only_the_owner_lets_others_in() {
	story_of_alice(|| {
		assert_noop!(
			Backup::grant_access(signed(BOB), REQUEST, CHARLIE, None, None),
			Error::<Test>::NotBackupOwner
		);
		assert_noop!(
			Backup::grant_access(signed(ALICE), OTHER_REQUEST, BOB, None, None),
			Error::<Test>::BackupNotFound
		);
	});
}

#[test]
fn fails_on_access_that_is_there_already() {
	story_of_alice(|| {
		grant(None);
		for account in [BOB, ALICE] {
			assert_noop!(
				Backup::grant_access(signed(ALICE), REQUEST, account, None, None),
				Error::<Test>::AccessAlreadyGranted
			);
		}
	});
}

#[test]
fn boundary_a_request_is_open_to_two_accounts() {
	story_of_alice(|| {
		grant(Some(10));
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, CHARLIE, None, None));
		assert_noop!(
			Backup::grant_access(signed(ALICE), REQUEST, DAVE, None, None),
			Error::<Test>::TooManyGrants
		);
		// What has expired makes room.
		run_to(10);
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, DAVE, None, None));
	});
}

#[test]
fn boundary_access_ends_at_its_block() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(5);
		assert_noop!(
			Backup::grant_access(signed(ALICE), REQUEST, BOB, Some(5), None),
			Error::<Test>::ExpiryInThePast
		);
		grant(Some(7));
		run_to(6);
		restore_as_bob();
		assert_eq!(Backup::grants(REQUEST).len(), 1);
		run_to(7);
		assert_noop!(restore(BOB, REQUEST, 0), Error::<Test>::NotAuthorized);
		assert_eq!(Backup::grants(REQUEST), []);
		// An expired grant is no obstacle to another one.
		grant(None);
	});
}

#[test]
fn revoking_ends_the_restores_of_the_account() {
	story_of_alice(|| {
		record(REQUEST, 1);
		grant(None);
		restore_as_bob();
		run_for(1);
		assert_ok!(Backup::revoke_access(signed(ALICE), REQUEST, BOB));
		assert_eq!(
			last_event(),
			Event::AccessRevoked { owner: ALICE, request_id: REQUEST, account: BOB }
		);
		assert!(!Grants::<Test>::contains_key(REQUEST));
		assert_refused(restore_report(0, None), InvalidTransaction::Stale);
		// The snapshot is not held for longer than it takes anybody to say so.
		assert_ok!(Backup::close_restore(signed(CHARLIE), 0));
		assert_eq!(SnapshotLocks::<Test>::get(REQUEST, 0), None);
	});
}

#[test]
fn access_that_is_given_again_revives_no_restore() {
	story_of_alice(|| {
		record(REQUEST, 1);
		grant(None);
		restore_as_bob();
		assert_ok!(Backup::revoke_access(signed(ALICE), REQUEST, BOB));
		run_for(1);
		grant(None);
		assert_refused(restore_report(0, None), InvalidTransaction::Stale);
		restore_as_bob();
		run_for(1);
		assert_ok!(submit(restore_report(1, None)));
	});
}

#[test]
fn access_is_revoked_by_the_owner_or_given_up_by_who_has_it() {
	story_of_alice(|| {
		grant(None);
		assert_noop!(
			Backup::revoke_access(signed(CHARLIE), REQUEST, BOB),
			Error::<Test>::NotBackupOwner
		);
		assert_ok!(Backup::revoke_access(signed(BOB), REQUEST, BOB));
		assert_noop!(
			Backup::revoke_access(signed(ALICE), REQUEST, BOB),
			Error::<Test>::AccessNotFound
		);
		assert_noop!(
			Backup::revoke_access(signed(ALICE), OTHER_REQUEST, BOB),
			Error::<Test>::BackupNotFound
		);
	});
}

#[test]
fn an_owner_may_close_the_restore_of_another() {
	story_of_alice(|| {
		record(REQUEST, 1);
		grant(None);
		restore_as_bob();
		assert_noop!(Backup::close_restore(signed(CHARLIE), 0), Error::<Test>::NotAuthorized);
		run_for(1);
		let report = restore_report(0, None);
		assert_ok!(Backup::close_restore(signed(ALICE), 0));
		assert_refused(report, Invalidity::Unknown);
	});
}

#[test]
fn access_ends_with_the_backup() {
	story_of_alice(|| {
		grant(None);
		Backup::deletion_requested(&ALICE);
		run_for(20);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert!(!Grants::<Test>::contains_key(REQUEST));
	});
}
