//! How backups begin, and when a snapshot is due.

use crate::{
	BackupBytes, BackupHooks, Backups, Compute, Eligibility, Error, Event, LineageSettings,
	Lineages, LineagesOfNode, Marketplace, Pallet, Subscription, WeightInfo, crypto::AuthorityId,
	lineage_id, mock::*,
};
use backup_primitives::{FailureReason, RecordedRoot};
use frame_support::{assert_noop, assert_ok};

fn eligibility() -> Eligibility<u64> {
	Pallet::<Test>::eligibility(REQUEST)
}

#[test]
fn a_backup_begins_when_a_request_is_fulfilled_and_its_owner_wants_backups() {
	story(|| {
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		Backup::fulfilled(&REQUEST);
		let lineage = Lineages::<Test>::get(REQUEST).unwrap();
		assert_eq!((lineage.node, lineage.owner, lineage.next), (NODE, ALICE, 0));
		assert_eq!(lineage.salt, hash_of(0).0);
		assert!(LineagesOfNode::<Test>::contains_key(NODE, REQUEST));
		assert_eq!(
			events(),
			[Event::BackupCreated { node_id: NODE, owner: ALICE, request_id: REQUEST }]
		);
	});
}

#[test]
fn a_fulfilled_request_without_a_subscription_has_no_backup() {
	story(|| {
		World::run(REQUEST, ALICE);
		Backup::fulfilled(&REQUEST);
		assert_eq!(eligibility(), Eligibility::NoBackup);
	});
}

#[test]
fn an_owner_begins_a_backup_later() {
	story(|| {
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		let words = Some(b"mail server".to_vec().try_into().unwrap());
		assert_ok!(Backup::create_backup(signed(ALICE), REQUEST, words.clone()));
		let header = Backups::<Test>::get(NODE, ALICE).unwrap();
		assert_eq!((header.owner, header.lineages, header.snapshots), (ALICE, 1, 0));
		assert_eq!(header.description, words);
	});
}

#[test]
fn fails_to_begin_a_backup_twice() {
	story_of_alice(|| {
		assert_noop!(
			Backup::create_backup(signed(ALICE), REQUEST, None),
			Error::<Test>::BackupAlreadyExists
		);
	});
}

#[test]
fn fails_to_begin_a_backup_of_anothers_request() {
	story_of_alice(|| {
		World::run(OTHER_REQUEST, BOB);
		assert_noop!(
			Backup::create_backup(signed(ALICE), OTHER_REQUEST, None),
			Error::<Test>::NotAuthorized
		);
	});
}

#[test]
fn fails_to_begin_a_backup_of_what_does_not_run() {
	story(|| {
		assert_noop!(
			Backup::create_backup(signed(ALICE), REQUEST, None),
			Error::<Test>::RequestNotRunning
		);
		World::run(REQUEST, ALICE);
		World::edit_request(REQUEST, |request| request.running = false);
		assert_noop!(
			Backup::create_backup(signed(ALICE), REQUEST, None),
			Error::<Test>::RequestNotRunning
		);
	});
}

#[test]
fn fails_to_begin_a_backup_that_is_not_paid_for() {
	story(|| {
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Unpaid);
		assert_noop!(
			Backup::create_backup(signed(ALICE), REQUEST, None),
			Error::<Test>::BackupsNotEnabled
		);
	});
}

#[test]
fn boundary_an_account_has_three_backups_and_no_fourth() {
	story(|| {
		for request in 0..3 {
			begin(request, ALICE);
		}
		World::run(3, ALICE);
		assert_noop!(Backup::create_backup(signed(ALICE), 3, None), Error::<Test>::TooManyBackups);
	});
}

#[test]
fn the_first_snapshot_is_due_at_once() {
	story_of_alice(|| assert_eq!(eligibility(), Eligibility::Eligible { slot: 1 }));
}

#[test]
fn the_next_snapshot_is_due_a_cadence_after_the_last_was_taken() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let due_at = 1 + FREQUENCY;
		assert_eq!(eligibility(), Eligibility::NotDue { due_at });
		run_to(due_at - 1);
		assert_eq!(eligibility(), Eligibility::NotDue { due_at });
		run_to(due_at);
		assert_eq!(eligibility(), Eligibility::Eligible { slot: due_at });
	});
}

#[test]
fn the_first_reason_that_stands_in_the_way_is_named() {
	story(|| {
		assert_eq!(eligibility(), Eligibility::NoBackup);
		begin(REQUEST, ALICE);
		let settings = LineageSettings { paused: true, keep_last: None };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert_eq!(eligibility(), Eligibility::Paused);
		World::subscribe(ALICE, Subscription::Unpaid);
		assert_eq!(eligibility(), Eligibility::Unpaid);
		World::subscribe(ALICE, Subscription::Disabled);
		assert_eq!(eligibility(), Eligibility::Disabled);
		World::remove_node(NODE);
		assert_eq!(eligibility(), Eligibility::NoNode);
		World::edit_request(REQUEST, |request| request.node = Some(OTHER_NODE));
		assert_eq!(eligibility(), Eligibility::NotRunning);
	});
}

#[test]
fn without_an_owner_key_nothing_is_due() {
	story(|| {
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		Backup::fulfilled(&REQUEST);
		assert_eq!(eligibility(), Eligibility::NoOwnerKey);
	});
}

#[test]
fn a_failed_snapshot_waits_for_the_next_slot() {
	story_of_alice(|| {
		run_to(5);
		let reason = FailureReason::VmTagMismatch;
		assert_ok!(submit(failure_report(REQUEST, 1, reason)));
		let retry_at = 1 + FREQUENCY;
		assert_eq!(eligibility(), Eligibility::FailedInSlot { reason, retry_at });
		assert_eq!(Backup::lineage(REQUEST).unwrap().last_failure, Some(reason));
		run_to(retry_at);
		assert_eq!(eligibility(), Eligibility::Eligible { slot: retry_at });
	});
}

#[test]
fn a_shorter_cadence_does_not_undo_a_failure() {
	story_of_alice(|| {
		run_to(1 + FREQUENCY);
		assert_ok!(submit(failure_report(REQUEST, 1 + FREQUENCY, FailureReason::VmUnreachable)));
		let longer = FREQUENCY * 3;
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), longer));
		assert!(matches!(eligibility(), Eligibility::FailedInSlot { .. }));
		run_to(1 + longer);
		assert_eq!(eligibility(), Eligibility::Eligible { slot: 1 + longer });
	});
}

#[test]
fn an_owner_changes_the_settings_of_a_backup() {
	story_of_alice(|| {
		let settings = LineageSettings { paused: false, keep_last: Some(40) };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings.clone()));
		assert_eq!(Lineages::<Test>::get(REQUEST).unwrap().settings, settings);
		assert_eq!(
			last_event(),
			Event::BackupUpdated { node_id: NODE, owner: ALICE, request_id: REQUEST }
		);
	});
}

#[test]
fn fails_to_change_settings_of_no_or_anothers_backup_or_out_of_bounds() {
	story_of_alice(|| {
		let set = |who, request, keep_last| {
			let settings = LineageSettings { paused: false, keep_last };
			Backup::set_backup_settings(signed(who), request, settings)
		};
		assert_noop!(set(ALICE, OTHER_REQUEST, None), Error::<Test>::BackupNotFound);
		assert_noop!(set(BOB, REQUEST, None), Error::<Test>::NotBackupOwner);
		assert_noop!(set(ALICE, REQUEST, Some(0)), Error::<Test>::SettingsOutOfBounds);
		assert_noop!(set(ALICE, REQUEST, Some(41)), Error::<Test>::SettingsOutOfBounds);
	});
}

#[test]
fn reads_show_an_accounts_backups() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		assert_eq!(Backup::lineages_of(ALICE).len(), 2);
		assert_eq!(Backup::lineages_of(BOB), []);
	});
}

#[test]
fn reads_add_up_what_an_accounts_backups_take() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		assert_eq!(Backup::bytes_of(ALICE), BackupBytes::default());
		for (request, tag, new_bytes) in [(REQUEST, 1, 30), (OTHER_REQUEST, 2, 12)] {
			let report = snapshot(request, tag).with(|report| report.claim.new_bytes = new_bytes);
			assert_ok!(report.submit());
		}
		let expected =
			BackupBytes { snapshots: 2, stored_bytes: 42, logical_bytes: 2 * DISK_BYTES };
		assert_eq!(Backup::bytes_of(ALICE), expected);
		assert_eq!(Backup::bytes_of(BOB), BackupBytes::default());
	});
}

#[test]
fn reads_name_the_machines_of_a_node_whose_snapshot_is_due() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, BOB);
		record(REQUEST, 1);
		assert_eq!(Backup::due_of_node(NODE, None), (vec![OTHER_REQUEST], None));
		assert_eq!(Backup::due_of_node(NODE, Some(OTHER_REQUEST)), (vec![], None));
		assert_eq!(Backup::due_of_node(OTHER_NODE, None), (vec![], None));
		World::subscribe(BOB, Subscription::Unpaid);
		assert_eq!(Backup::due_of_node(NODE, None), (vec![], None));
	});
}

#[test]
fn reads_show_a_backup_whose_machine_is_gone() {
	story_of_alice(|| {
		record(REQUEST, 1);
		World::forget(REQUEST);
		let backup = Backup::lineage(REQUEST).unwrap();
		assert_eq!((backup.kept, backup.eligibility), (1, Eligibility::NotRunning));
	});
}

#[test]
fn a_neighbour_that_fulfils_pays_for_the_holders_it_makes_the_chain_choose() {
	story(|| {
		let beginning = <Test as crate::Config>::WeightInfo::create_backup();
		let choice = Backup::weight_of_choice();
		let fulfilled = <Backup as BackupHooks<_, _>>::weight_of_fulfilled();
		assert!(choice.any_gt(sp_runtime::Weight::zero()));
		assert!(beginning.saturating_add(choice).all_lte(fulfilled), "{fulfilled}");
	});
}

#[test]
fn a_chain_without_neighbours_has_nothing_to_back_up() {
	fn request_of<N: Compute<NodeId, RequestId, AccountId, AuthorityId>>(
		authority: &AuthorityId,
	) -> (bool, bool, Option<NodeId>) {
		(N::request(&REQUEST).is_some(), N::node(&NODE).is_some(), N::node_of(authority))
	}
	story(|| {
		let authority = World::authority(NODE);
		assert_eq!(request_of::<World>(&authority), (false, true, Some(NODE)));
		assert_eq!(request_of::<()>(&authority), (false, false, None));
		let subscription = <() as Marketplace<AccountId>>::subscription(&ALICE);
		assert_eq!(subscription, Subscription::Disabled);
	});
}

fn ask() -> sp_runtime::DispatchResult {
	Backup::request_snapshot(signed(ALICE), REQUEST)
}

#[test]
fn an_owner_asks_for_a_snapshot_out_of_turn() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(20);
		assert_ok!(ask());
		assert_eq!(last_event(), Event::SnapshotRequested { owner: ALICE, request_id: REQUEST });
		assert_eq!(eligibility(), Eligibility::Eligible { slot: 20 });
		run_for(1);
		assert_ok!(snapshot(REQUEST, 2).submit());
		// The cadence goes on from it.
		assert_eq!(eligibility(), Eligibility::NotDue { due_at: 21 + FREQUENCY });
	});
}

#[test]
fn a_snapshot_from_before_the_wish_is_no_answer() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(1 + FREQUENCY);
		let older = snapshot(REQUEST, 2).with(|report| report.claim.taken_at = FREQUENCY);
		Lineages::<Test>::mutate(REQUEST, |lineage| {
			lineage.as_mut().unwrap().asked_at = Some(FREQUENCY + 1);
		});
		assert_ok!(older.submit());
		// The shortest cadence after that one was recorded.
		assert_eq!(eligibility(), Eligibility::NotDue { due_at: FREQUENCY + 11 });
		run_for(10);
		assert_eq!(eligibility(), Eligibility::Eligible { slot: FREQUENCY + 1 });
	});
}

#[test]
fn boundary_the_shortest_cadence_lies_between_two_snapshots() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(10);
		assert_noop!(ask(), Error::<Test>::TooSoon);
		run_to(11);
		assert_ok!(ask());
	});
}

#[test]
fn who_asks_while_a_snapshot_is_due_is_told() {
	story_of_alice(|| {
		assert_noop!(ask(), Error::<Test>::SnapshotPending);
		record(REQUEST, 1);
		run_to(20);
		assert_ok!(ask());
		assert_noop!(ask(), Error::<Test>::SnapshotPending);
	});
}

#[test]
fn a_wish_that_failed_is_tried_again_at_the_cadence() {
	story_of_alice(|| {
		record(REQUEST, 1);
		run_to(20);
		assert_ok!(ask());
		run_for(1);
		let reason = FailureReason::VmUnreachable;
		assert_ok!(submit(failure_report(REQUEST, 20, reason)));
		let retry_at = 1 + FREQUENCY;
		assert_eq!(eligibility(), Eligibility::FailedInSlot { reason, retry_at });
		run_to(retry_at);
		assert_eq!(eligibility(), Eligibility::Eligible { slot: retry_at });
	});
}

#[test]
fn who_asks_in_vain_is_told_why() {
	story(|| {
		assert_noop!(ask(), Error::<Test>::BackupNotFound);
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		run_to(20);
		assert_noop!(Backup::request_snapshot(signed(BOB), REQUEST), Error::<Test>::NotBackupOwner);
		let settings = LineageSettings { paused: true, keep_last: None };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert_noop!(ask(), Error::<Test>::BackupPaused);
		Backup::deletion_requested(&ALICE);
		assert_noop!(ask(), Error::<Test>::DeletionPending);
		World::subscribe(ALICE, Subscription::Unpaid);
		assert_noop!(ask(), Error::<Test>::BackupsNotEnabled);
		World::edit_request(REQUEST, |request| request.running = false);
		assert_noop!(ask(), Error::<Test>::RequestNotRunning);
	});
}

#[test]
fn who_asks_without_a_key_is_told() {
	story(|| {
		World::run(REQUEST, ALICE);
		World::subscribe(ALICE, Subscription::Active);
		Backup::fulfilled(&REQUEST);
		assert_noop!(ask(), Error::<Test>::NoOwnerKey);
	});
}

#[test]
fn a_node_reads_all_roots_that_it_has_to_hold_page_by_page() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, BOB);
		let mut expected = Vec::new();
		for (request, tag) in [(REQUEST, 1), (OTHER_REQUEST, 2), (REQUEST, 3)] {
			run_to(FREQUENCY * u64::from(tag) * 2);
			let story = snapshot(request, tag);
			story.submit().unwrap();
			let lineage = lineage_id(&request, story.claim.salt);
			let sequence = story.claim.sequence;
			expected.push(RecordedRoot { lineage, sequence, cid: root(tag) });
		}
		for (roots_max, lineages_max) in [(1, 9), (9, 1), (9, 9)] {
			let (mut found, mut after) = (Vec::new(), None);
			for page in 0.. {
				let (roots, next) = Backup::page_of_roots(NODE, after, roots_max, lineages_max);
				assert!(page < 3, "no end of pages");
				found.extend(roots);
				after = next;
				if after.is_none() {
					break;
				}
			}
			found.sort_by_key(|root| root.cid);
			assert_eq!(found, expected);
		}
		assert_eq!(Backup::roots_of_node(OTHER_NODE, None), (Vec::new(), None));
	});
}

#[test]
fn who_asked_and_saw_it_fail_may_ask_again() {
	story_of_alice(|| {
		run_to(5);
		assert_noop!(
			Backup::request_snapshot(signed(ALICE), REQUEST),
			Error::<Test>::SnapshotPending
		);
		assert_ok!(submit(failure_report(REQUEST, 1, FailureReason::VmUnreachable)));
		run_to(14);
		assert_noop!(Backup::request_snapshot(signed(ALICE), REQUEST), Error::<Test>::TooSoon);
		run_to(15);
		assert_ok!(Backup::request_snapshot(signed(ALICE), REQUEST));
		assert_eq!(eligibility(), Eligibility::Eligible { slot: 15 });
		assert_ok!(submit(failure_report(REQUEST, 15, FailureReason::VmUnreachable)));
		run_to(25);
		assert_ok!(Backup::request_snapshot(signed(ALICE), REQUEST));
		assert_eq!(eligibility(), Eligibility::Eligible { slot: 25 });
	});
}
