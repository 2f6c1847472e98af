//! Reports of snapshots: what is recorded, and what is refused for which reason.

use crate::{
	Backups, Error, Event, Invalidity, LineageSettings, Lineages, ReportsInBlock, ReportsOfNode,
	Snapshots, SnapshotsByCid, Subscription, mock::*,
};
use backup_primitives::{Cid, FailureReason, cid::CID_BYTES};
use frame_support::{assert_noop, assert_ok, traits::Authorize, weights::Weight};
use sp_runtime::{
	DispatchError,
	transaction_validity::{InvalidTransaction, TransactionSource},
};

#[test]
fn a_right_report_is_recorded_once_and_for_all() {
	story_of_alice(|| {
		run_to(5);
		assert_ok!(snapshot(REQUEST, 1).submit());
		let record = Snapshots::<Test>::get(REQUEST, 0).unwrap();
		assert_eq!((record.cid, record.taken_at, record.recorded_at), (root(1), 5, 5));
		assert_eq!((record.node, record.request_id), (NODE, REQUEST));
		assert_eq!((record.logical_bytes, record.new_bytes), (DISK_BYTES, 1_000));
		assert_eq!(SnapshotsByCid::<Test>::get((ALICE, root(1), REQUEST)), Some(0));
		let header = Backups::<Test>::get(NODE, ALICE).unwrap();
		assert_eq!((header.snapshots, header.last_snapshot), (1, Some(root(1))));
		assert_eq!((header.created_at, header.updated_at), (1, 5));
		assert_eq!(
			last_event(),
			Event::SnapshotAdded {
				node_id: NODE,
				owner: ALICE,
				request_id: REQUEST,
				sequence: 0,
				cid: root(1),
			}
		);
	});
}

#[test]
fn the_pool_hears_how_long_a_report_lives_and_what_it_provides() {
	story_of_alice(|| {
		run_to(10);
		let valid = snapshot(REQUEST, 1).submit().unwrap();
		assert_eq!(valid.longevity, 63);
		assert_eq!(valid.priority, 1000);
		assert_eq!((valid.requires.len(), valid.provides.len()), (0, 1));
		assert!(valid.propagate);
	});
}

#[test]
fn a_replayed_report_is_stale() {
	story_of_alice(|| {
		let report = snapshot(REQUEST, 1);
		assert_ok!(report.submit());
		assert_refused(report.call(), InvalidTransaction::Stale);
	});
}

#[test]
fn a_report_with_a_wrong_key_or_over_other_words_is_a_bad_proof() {
	story_of_alice(|| {
		let wrong_key = snapshot(REQUEST, 1).with(|r| r.signer = OTHER_NODE);
		assert_refused(wrong_key.call(), InvalidTransaction::BadProof);
		let mut call = snapshot(REQUEST, 1).call();
		if let crate::Call::add_snapshot { snapshot_cid, .. } = &mut call {
			*snapshot_cid = root(2);
		}
		assert_refused(call, InvalidTransaction::BadProof);
	});
}

#[test]
fn every_signed_word_counts() {
	story_of_alice(|| {
		run_to(3);
		let changes: [fn(&mut crate::SnapshotClaim); 4] = [
			|claim| claim.taken_at = 2,
			|claim| claim.logical_bytes -= 1,
			|claim| claim.new_bytes += 1,
			|claim| claim.consistency = backup_primitives::Consistency::Application,
		];
		for change in changes {
			let mut call = snapshot(REQUEST, 1).call();
			if let crate::Call::add_snapshot { claim, .. } = &mut call {
				change(claim);
			}
			assert_refused(call, InvalidTransaction::BadProof);
		}
	});
}

#[test]
fn another_node_cannot_report() {
	story_of_alice(|| {
		let other = snapshot(REQUEST, 1).with(|r| (r.node, r.signer) = (OTHER_NODE, OTHER_NODE));
		assert_refused(other.call(), Invalidity::WrongNode);
	});
}

#[test]
fn a_node_that_left_cannot_report() {
	story_of_alice(|| {
		let report = snapshot(REQUEST, 1).call();
		World::remove_node(NODE);
		assert_refused(report, Invalidity::WrongNode);
	});
}

#[test]
fn a_report_after_the_request_moved_away_is_refused() {
	story_of_alice(|| {
		World::edit_request(REQUEST, |request| request.node = Some(OTHER_NODE));
		assert_refused(snapshot(REQUEST, 1).call(), Invalidity::WrongNode);
	});
}

#[test]
fn a_report_for_another_owner_is_refused() {
	story_of_alice(|| {
		assert_refused(snapshot(REQUEST, 1).with(|r| r.owner = BOB).call(), Invalidity::WrongOwner);
	});
}

#[test]
fn a_report_of_an_unknown_request_is_refused() {
	story_of_alice(|| {
		let unknown = snapshot(REQUEST, 1).with(|r| r.request = OTHER_REQUEST);
		assert_refused(unknown.call(), Invalidity::Unknown);
	});
}

#[test]
fn a_report_from_another_fork_is_refused() {
	story_of_alice(|| {
		let forked = snapshot(REQUEST, 1).with(|r| r.claim.salt = [9; 32]);
		assert_refused(forked.call(), Invalidity::WrongLineage);
	});
}

#[test]
fn malformed_roots_are_refused() {
	story_of_alice(|| {
		let mut version_zero = *root(1).as_bytes();
		version_zero[0] = 0;
		let mut identity = *root(1).as_bytes();
		identity[2] = 0;
		let wrong = [
			Cid::from_bytes_unchecked([0; CID_BYTES]),
			Cid::from_bytes_unchecked(version_zero),
			Cid::from_bytes_unchecked(identity),
			Cid::raw([1; 32]),
		];
		for cid in wrong {
			let report = snapshot(REQUEST, 1).with(|r| r.cid = cid);
			assert_refused(report.call(), Invalidity::MalformedCid);
		}
	});
}

#[test]
fn a_report_ahead_of_its_sequence_waits() {
	story_of_alice(|| {
		let ahead = snapshot(REQUEST, 1).with(|r| r.claim.sequence = 1);
		assert_refused(ahead.call(), InvalidTransaction::Future);
	});
}

#[test]
fn nobody_but_the_authority_can_make_the_pool_wait() {
	story_of_alice(|| {
		let ahead = snapshot(REQUEST, 1).with(|r| {
			r.claim.sequence = 1;
			r.signer = OTHER_NODE;
		});
		assert_refused(ahead.call(), InvalidTransaction::BadProof);
	});
}

#[test]
fn boundary_a_report_lives_for_64_blocks() {
	story_of_alice(|| {
		run_to(10);
		let report = snapshot(REQUEST, 1).call();
		run_to(9 + 65);
		assert_refused(report.clone(), InvalidTransaction::AncientBirthBlock);
		let old = snapshot(REQUEST, 1).with(|r| {
			r.at.number = System::block_number() - 64;
			r.at.hash = hash_of(r.at.number).0;
		});
		assert_ok!(old.submit());
	});
}

#[test]
fn the_hash_of_the_block_that_is_being_made_is_no_ancestor() {
	story_of_alice(|| {
		run_to(5);
		let ahead = snapshot(REQUEST, 1).with(|r| {
			r.at.number = 5;
			r.at.hash = [0; 32];
		});
		assert_refused(ahead.call(), InvalidTransaction::Future);
	});
}

#[test]
fn a_paused_history_stays_as_it_is() {
	story_of_alice(|| {
		run_to(5);
		let settings = |paused| LineageSettings { paused, keep_last: None };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings(true)));
		let report = snapshot(REQUEST, 1).call();
		assert_refused(report.clone(), InvalidTransaction::Future);
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings(false)));
		assert_ok!(submit(report));
	});
}

#[test]
fn a_report_on_an_unknown_block_waits() {
	story_of_alice(|| {
		run_to(5);
		let forked = snapshot(REQUEST, 1).with(|r| r.at.hash = [1; 32]);
		assert_refused(forked.call(), InvalidTransaction::Future);
		let ahead = snapshot(REQUEST, 1).with(|r| r.at.number = 6);
		assert_refused(ahead.call(), InvalidTransaction::Future);
	});
}

#[test]
fn boundary_a_snapshot_may_be_taken_two_blocks_early() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(1 + FREQUENCY - 3);
		assert_refused(snapshot(REQUEST, 2).call(), InvalidTransaction::Future);
		run_to(1 + FREQUENCY - 2);
		assert_ok!(snapshot(REQUEST, 2).submit());
	});
}

#[test]
fn a_snapshot_from_before_the_last_is_refused_and_one_from_after_now_must_wait() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(1 + FREQUENCY);
		let not_newer = snapshot(REQUEST, 2).with(|r| r.claim.taken_at = 1);
		assert_refused(not_newer.call(), Invalidity::TakenTooEarly);
		let ahead = snapshot(REQUEST, 2).with(|r| r.claim.taken_at = 2 + FREQUENCY);
		assert_refused(ahead.call(), InvalidTransaction::Future);
		run_for(1);
		assert_ok!(ahead.submit());
	});
}

#[test]
fn boundary_a_snapshot_is_recorded_up_to_500_blocks_late() {
	story_of_alice(|| {
		run_to(600);
		let late = |taken_at| snapshot(REQUEST, 1).with(move |r| r.claim.taken_at = taken_at);
		assert_refused(late(99).call(), Invalidity::TakenTooEarly);
		assert_ok!(late(100).submit());
	});
}

#[test]
fn boundary_claims_are_capped_by_the_provisioned_disk() {
	story_of_alice(|| {
		let larger = snapshot(REQUEST, 1).with(|r| r.claim.logical_bytes = DISK_BYTES + 1);
		assert_refused(larger.call(), Invalidity::TooLarge);
		let most = DISK_BYTES + DISK_BYTES / 1024 + (64 << 20);
		let more = snapshot(REQUEST, 1).with(|r| r.claim.new_bytes = most + 1);
		assert_refused(more.call(), Invalidity::TooLarge);
		let full = snapshot(REQUEST, 1).with(|r| r.claim.new_bytes = most);
		assert_ok!(full.submit());
	});
}

#[test]
fn a_root_sealed_to_an_unknown_key_is_refused() {
	story_of_alice(|| {
		for version in [0, 2] {
			let report = snapshot(REQUEST, 1).with(|r| r.claim.owner_key_version = version);
			assert_refused(report.call(), Invalidity::UnknownKeyVersion);
		}
	});
}

#[test]
fn a_request_has_a_root_only_once() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_for(FREQUENCY);
		assert_refused(snapshot(REQUEST, 1).call(), Invalidity::DuplicateCid);
	});
}

#[test]
fn a_node_cannot_keep_another_of_the_same_owner_from_recording_a_root() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		record(OTHER_REQUEST, 1);
		record(REQUEST, 1);
		// Which of the two is meant the owner has to say then.
		assert_noop!(
			Backup::restore_from_snapshot(signed(ALICE), bytes(root(1))),
			Error::<Test>::CidAmbiguous
		);
		assert_ok!(restore(ALICE, REQUEST, 0));
	});
}

#[test]
fn two_owners_may_name_the_same_root() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, BOB);
		record(REQUEST, 1);
		assert_ok!(snapshot(OTHER_REQUEST, 1).submit());
		assert_eq!(SnapshotsByCid::<Test>::get((ALICE, root(1), REQUEST)), Some(0));
		assert_eq!(SnapshotsByCid::<Test>::get((BOB, root(1), OTHER_REQUEST)), Some(0));
	});
}

#[test]
fn a_snapshot_of_an_owner_who_does_not_pay_waits() {
	story_of_alice(|| {
		World::subscribe(ALICE, Subscription::Unpaid);
		assert_refused(snapshot(REQUEST, 1).call(), InvalidTransaction::Future);
	});
}

#[test]
fn a_filtered_report_is_refused_before_it_can_fail() {
	story_of_alice(|| {
		let report = snapshot(REQUEST, 1).call();
		World::filter_calls();
		assert_refused(report, InvalidTransaction::Call);
	});
}

#[test]
fn reports_do_not_work_as_calls_of_anybody() {
	story_of_alice(|| {
		use sp_runtime::traits::Dispatchable;
		for origin in [signed(ALICE), RuntimeOrigin::root(), RuntimeOrigin::none()] {
			let call = RuntimeCall::from(snapshot(REQUEST, 1).call());
			let error = call.dispatch(origin).unwrap_err().error;
			assert_eq!(error, DispatchError::BadOrigin);
		}
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().next, 0);
	});
}

#[test]
fn calls_of_users_are_not_authorized_by_anything() {
	story(|| {
		let call = RuntimeCall::from(crate::Call::close_restore { restore_id: 0 });
		assert!(call.authorize(TransactionSource::External).is_none());
	});
}

#[test]
fn a_failure_is_recorded_once_a_slot() {
	story_of_alice(|| {
		run_to(2);
		assert_ok!(submit(failure_report(REQUEST, 1, FailureReason::VmTagMismatch)));
		assert_eq!(
			last_event(),
			Event::SnapshotFailed {
				request_id: REQUEST,
				sequence: 0,
				reason: FailureReason::VmTagMismatch,
			}
		);
		let again = failure_report(REQUEST, 1, FailureReason::VmTagMismatch);
		assert_refused(again, InvalidTransaction::Stale);
		let early = failure_report(REQUEST, 2, FailureReason::VmTagMismatch);
		assert_refused(early, InvalidTransaction::Future);
	});
}

#[test]
fn a_failure_of_a_slot_that_is_over_is_refused() {
	story_of_alice(|| {
		run_to(1 + FREQUENCY);
		let late = failure_report(REQUEST, 1, FailureReason::VmTagMismatch);
		assert_refused(late, InvalidTransaction::Stale);
	});
}

#[test]
fn a_recorded_snapshot_clears_the_failure() {
	story_of_alice(|| {
		run_to(2);
		assert_ok!(submit(failure_report(REQUEST, 1, FailureReason::StoreFull)));
		record(REQUEST, 1);
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().failure, None);
	});
}

#[test]
fn a_machine_that_is_not_due_or_may_not_be_backed_up_has_no_failure_to_tell() {
	story_of_alice(|| {
		let refused = || {
			let lineage = Lineages::<Test>::get(REQUEST).unwrap();
			let slot = lineage.slot(System::block_number(), FREQUENCY);
			let report = failure_report(REQUEST, slot, FailureReason::StoreFull);
			assert_refused(report, InvalidTransaction::Future);
		};
		run_to(2);
		World::subscribe(ALICE, Subscription::Unpaid);
		refused();
		World::subscribe(ALICE, Subscription::Active);
		record(REQUEST, 1);
		run_for(10);
		refused();
	});
}

#[test]
fn a_node_cannot_replace_a_history_by_reports_of_times_gone_by() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(480);
		let back_dated = |tag, taken_at| {
			snapshot(REQUEST, tag).with(|report| report.claim.taken_at = taken_at).submit()
		};
		assert_ok!(back_dated(2, 200));
		for taken_at in [300, 400, 479, 480] {
			assert_eq!(back_dated(3, taken_at), Err(InvalidTransaction::Future.into()));
		}
		// The shortest cadence after that one was recorded, less the tolerance.
		run_to(488);
		assert_ok!(back_dated(3, 488));
	});
}

#[test]
fn boundary_reports_take_a_quarter_of_a_block_at_most() {
	story_of_alice(|| {
		run_to(2);
		let call = RuntimeCall::from(snapshot(REQUEST, 1).call());
		let judge = |source| call.authorize(source).unwrap().map(|_| ());
		let weight = crate::authorize::ReportKind::Snapshot.weight::<Test>();
		let room = Backup::weight_max_of_reports().saturating_sub(weight);
		ReportsInBlock::<Test>::put((2, room));
		assert_ok!(judge(TransactionSource::InBlock));
		ReportsInBlock::<Test>::put((2, room.saturating_add(Weight::from_parts(1, 0))));
		assert_eq!(
			judge(TransactionSource::InBlock),
			Err(InvalidTransaction::ExhaustsResources.into())
		);
		// The pool would ban it, although the next block has room.
		assert_ok!(judge(TransactionSource::External));
		run_to(3);
		assert_ok!(judge(TransactionSource::InBlock));
	});
}

#[test]
fn every_report_counts_against_its_block() {
	story_of_alice(|| {
		run_to(2);
		assert_ok!(submit(failure_report(REQUEST, 1, FailureReason::StoreFull)));
		let weight = crate::authorize::ReportKind::SnapshotFailed.weight::<Test>();
		assert_eq!(Backup::weight_of_reports(), weight);
		run_to(3);
		assert_eq!(Backup::weight_of_reports(), Weight::zero());
	});
}

#[test]
fn boundary_a_node_has_a_quota_of_reports() {
	story_of_alice(|| {
		run_to(2);
		ReportsOfNode::<Test>::insert(NODE, (0, 199));
		assert_ok!(submit(failure_report(REQUEST, 1, FailureReason::StoreFull)));
		assert_eq!(ReportsOfNode::<Test>::get(NODE), Some((0, 200)));
		assert_refused(snapshot(REQUEST, 1).call(), InvalidTransaction::Future);
		run_to(100);
		assert_ok!(snapshot(REQUEST, 1).submit());
		assert_eq!(ReportsOfNode::<Test>::get(NODE), Some((100, 1)));
	});
}
