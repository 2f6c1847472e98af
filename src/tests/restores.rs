//! Restores: who may ask, what is reported, what is closed.

use crate::{
	Error, Event, Invalidity, RestoreRequests, RestoreState, RestoresOfNode, SnapshotLocks, mock::*,
};
use backup_primitives::{Cid, FailureReason};
use frame_support::{assert_noop, assert_ok, traits::Hooks, weights::Weight};
use sp_runtime::transaction_validity::InvalidTransaction;

fn ask(cid: Cid) {
	assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
}

#[test]
fn an_owner_asks_for_an_image_by_root_in_binary_or_text() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		ask(cid);
		let restore = RestoreRequests::<Test>::get(0).unwrap();
		assert_eq!((restore.requester, restore.request_id, restore.sequence), (ALICE, REQUEST, 0));
		assert_eq!((restore.node, restore.cid), (NODE, cid));
		assert_eq!(restore.state, RestoreState::Requested);
		assert!(RestoresOfNode::<Test>::contains_key(NODE, 0));
		assert_eq!(
			last_event(),
			Event::SnapshotRestoreRequested {
				restore_id: 0,
				requester: ALICE,
				request_id: REQUEST,
				cid,
			}
		);
		let text = cid.to_string().into_bytes().try_into().unwrap();
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), text));
	});
}

#[test]
fn a_stranger_has_no_snapshot_of_that_root() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		assert_noop!(
			Backup::restore_from_snapshot(signed(BOB), bytes(cid)),
			Error::<Test>::SnapshotNotFound
		);
	});
}

#[test]
fn fails_on_what_is_no_root() {
	story_of_alice(|| {
		for wrong in [&b""[..], b"bafy", &[1; 36]] {
			assert_noop!(
				Backup::restore_from_snapshot(signed(ALICE), wrong.to_vec().try_into().unwrap()),
				Error::<Test>::MalformedCid
			);
		}
	});
}

#[test]
fn boundary_an_account_has_two_open_restores() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		ask(cid);
		ask(cid);
		assert_noop!(
			Backup::restore_from_snapshot(signed(ALICE), bytes(cid)),
			Error::<Test>::TooManyRestores
		);
		assert_ok!(Backup::close_restore(signed(ALICE), 0));
		ask(cid);
	});
}

#[test]
fn a_fulfilled_restore_is_recorded_and_lets_its_snapshot_go() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		ask(cid);
		assert_eq!(SnapshotLocks::<Test>::get(REQUEST, 0).unwrap().restores, 1);
		run_for(1);
		assert_ok!(submit(restore_report(0, None)));
		let state = RestoreRequests::<Test>::get(0).unwrap().state;
		assert_eq!(state, RestoreState::Fulfilled { at: System::block_number() });
		assert_eq!(SnapshotLocks::<Test>::get(REQUEST, 0), None);
		assert_eq!(
			last_event(),
			Event::SnapshotRestored { restore_id: 0, request_id: REQUEST, cid }
		);
	});
}

#[test]
fn a_failed_restore_says_why() {
	story_of_alice(|| {
		ask(record(REQUEST, 1));
		run_for(1);
		let reason = FailureReason::BlockCorrupt;
		assert_ok!(submit(restore_report(0, Some(reason))));
		let state = RestoreRequests::<Test>::get(0).unwrap().state;
		assert_eq!(state, RestoreState::Failed { reason, at: System::block_number() });
		assert_eq!(
			last_event(),
			Event::SnapshotRestoreFailed { restore_id: 0, request_id: REQUEST, reason }
		);
	});
}

#[test]
fn a_restore_is_reported_once_in_time_and_by_its_node() {
	story_of_alice(|| {
		ask(record(REQUEST, 1));
		ask(root(1));
		run_for(1);
		let mut stranger = restore_report(0, None);
		if let crate::Call::report_restore { node_id, .. } = &mut stranger {
			*node_id = OTHER_NODE;
		}
		assert_refused(stranger, Invalidity::WrongNode);
		let mut other_words = restore_report(0, None);
		if let crate::Call::report_restore { failure, .. } = &mut other_words {
			*failure = Some(FailureReason::Internal);
		}
		assert_refused(other_words, InvalidTransaction::BadProof);
		assert_ok!(submit(restore_report(0, None)));
		assert_refused(restore_report(0, None), InvalidTransaction::Stale);
		run_for(50);
		assert_refused(restore_report(1, None), InvalidTransaction::Stale);
	});
}

#[test]
fn a_restore_is_closed_by_who_asked_or_once_expired_by_anybody() {
	story_of_alice(|| {
		ask(record(REQUEST, 1));
		assert_noop!(Backup::close_restore(signed(BOB), 0), Error::<Test>::NotAuthorized);
		run_for(50);
		assert_ok!(Backup::close_restore(signed(BOB), 0));
		assert_eq!(last_event(), Event::RestoreClosed { restore_id: 0, request_id: REQUEST });
		assert_eq!(RestoreRequests::<Test>::iter_keys().count(), 0);
		assert_noop!(
			Backup::close_restore(signed(ALICE), 0),
			Error::<Test>::RestoreRequestNotFound
		);
	});
}

#[test]
fn restores_that_are_over_are_closed_by_the_way() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		ask(cid);
		run_for(10);
		ask(cid);
		let room = Weight::MAX;
		// One look is at both, and the next begins anew.
		for _ in 0..3 {
			Backup::on_idle(System::block_number(), room);
		}
		assert_eq!(RestoreRequests::<Test>::iter_keys().count(), 2);
		run_for(40);
		for _ in 0..2 {
			Backup::on_idle(System::block_number(), room);
		}
		assert_eq!(RestoreRequests::<Test>::iter_keys().collect::<Vec<_>>(), [1]);
		assert_eq!(last_event(), Event::RestoreClosed { restore_id: 0, request_id: REQUEST });
		run_for(10);
		for _ in 0..2 {
			Backup::on_idle(System::block_number(), room);
		}
		assert!(!SnapshotLocks::<Test>::contains_key(REQUEST, 0));
	});
}

#[test]
fn a_full_block_closes_nothing() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		ask(cid);
		run_for(50);
		assert_eq!(Backup::on_idle(System::block_number(), Weight::zero()), Weight::zero());
		assert_eq!(RestoreRequests::<Test>::iter_keys().count(), 1);
	});
}

#[test]
fn a_report_of_a_lost_branch_is_not_taken_for_another_restore() {
	story_of_alice(|| {
		record(REQUEST, 0);
		record(REQUEST, 1);
		run_for(1);
		sp_io::storage::start_transaction();
		assert_ok!(restore(ALICE, REQUEST, 0));
		let lost = restore_report(0, None);
		sp_io::storage::rollback_transaction();
		// On this branch the same id stands for another snapshot.
		assert_ok!(restore(ALICE, REQUEST, 1));
		assert_refused(lost, sp_runtime::transaction_validity::InvalidTransaction::BadProof);
	});
}
