//! Backups that nodes propose.

use crate::{BackupHooks, Error, Event, Lineages, Proposal, Proposals, Subscription, mock::*};
use frame_support::{assert_noop, assert_ok};

const LIFETIME: u64 = 40;

/// A machine of Alice's runs, who has no backups enabled.
fn proposed(tell: impl FnOnce()) {
	story(|| {
		World::run(REQUEST, ALICE);
		Backup::fulfilled(&REQUEST);
		tell();
	});
}

#[test]
fn a_node_proposes_a_backup_where_the_owner_has_none_enabled() {
	proposed(|| {
		let expires_at = 1 + LIFETIME;
		assert_eq!(
			last_event(),
			Event::BackupProposed { node_id: NODE, owner: ALICE, request_id: REQUEST, expires_at }
		);
		let proposal = Proposal { node: NODE, expires_at };
		assert_eq!(Proposals::<Test>::get(REQUEST), Some(proposal));
		assert!(!Lineages::<Test>::contains_key(REQUEST));
	});
}

#[test]
fn the_owner_approves_it_once_backups_are_paid_for() {
	proposed(|| {
		let approve = |who| Backup::approve_backup(signed(who), REQUEST);
		assert_noop!(approve(ALICE), Error::<Test>::BackupsNotEnabled);
		World::subscribe(ALICE, Subscription::Active);
		assert_noop!(approve(BOB), Error::<Test>::NotAuthorized);
		assert_ok!(approve(ALICE));
		assert_eq!(
			last_event(),
			Event::BackupCreated { node_id: NODE, owner: ALICE, request_id: REQUEST }
		);
		assert_eq!(Proposals::<Test>::get(REQUEST), None);
		assert_noop!(approve(ALICE), Error::<Test>::ProposalNotFound);
	});
}

#[test]
fn who_begins_a_backup_unasked_has_answered_the_proposal() {
	proposed(|| {
		World::subscribe(ALICE, Subscription::Active);
		assert_ok!(Backup::create_backup(signed(ALICE), REQUEST, None));
		assert_eq!(Proposals::<Test>::get(REQUEST), None);
	});
}

#[test]
fn boundary_a_proposal_expires() {
	proposed(|| {
		World::subscribe(ALICE, Subscription::Active);
		run_to(LIFETIME);
		assert_noop!(Backup::reject_backup(signed(BOB), REQUEST), Error::<Test>::NotAuthorized);
		run_to(1 + LIFETIME);
		assert_noop!(
			Backup::approve_backup(signed(ALICE), REQUEST),
			Error::<Test>::ProposalExpired
		);
		assert_ok!(Backup::reject_backup(signed(BOB), REQUEST));
		assert_eq!(last_event(), Event::ProposalRejected { request_id: REQUEST });
		// The owner needs no proposal.
		assert_ok!(Backup::create_backup(signed(ALICE), REQUEST, None));
	});
}

#[test]
fn the_owner_turns_a_proposal_down() {
	proposed(|| {
		assert_ok!(Backup::reject_backup(signed(ALICE), REQUEST));
		assert_noop!(
			Backup::reject_backup(signed(ALICE), REQUEST),
			Error::<Test>::ProposalNotFound
		);
	});
}

#[test]
fn a_proposal_of_a_node_that_the_machine_has_left_is_void() {
	proposed(|| {
		World::subscribe(ALICE, Subscription::Active);
		World::edit_request(REQUEST, |request| request.node = Some(OTHER_NODE));
		assert_noop!(
			Backup::approve_backup(signed(ALICE), REQUEST),
			Error::<Test>::ProposalExpired
		);
	});
}
