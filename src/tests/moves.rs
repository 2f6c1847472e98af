//! Machines that move, nodes that change keys or go.

use crate::{
	Backups, Error, Event, Invalidity, Lineages, LineagesOfNode, RestoreRequests, mock::*,
};
use backup_primitives::{FailureReason, RootStatus};
use frame_support::{assert_noop, assert_ok};
use sp_runtime::transaction_validity::InvalidTransaction;

#[test]
fn a_history_goes_on_with_the_new_node() {
	story_of_alice(|| {
		record(REQUEST, 1);
		World::move_to(REQUEST, OTHER_NODE);
		assert_eq!(
			last_event(),
			Event::BackupMoved { request_id: REQUEST, from: NODE, to: OTHER_NODE }
		);
		assert!(!LineagesOfNode::<Test>::contains_key(NODE, REQUEST));
		assert!(LineagesOfNode::<Test>::contains_key(OTHER_NODE, REQUEST));
		assert_eq!(Backups::<Test>::get(NODE, ALICE), None);
		let header = Backups::<Test>::get(OTHER_NODE, ALICE).unwrap();
		assert_eq!((header.lineages, header.snapshots), (1, 1));
		assert_eq!(header.last_snapshot, Some(root(1)));
		record(REQUEST, 2);
		let (records, _) = history(REQUEST, u32::MAX);
		let nodes: Vec<_> = records.into_iter().map(|(at, record)| (at, record.node)).collect();
		assert_eq!(nodes, [(0, NODE), (1, OTHER_NODE)]);
	});
}

#[test]
fn the_old_nodes_reports_are_refused_from_that_block_on() {
	story_of_alice(|| {
		run_to(2);
		let report = snapshot(REQUEST, 1);
		let failure = failure_report(REQUEST, 1, FailureReason::StoreFull);
		World::move_to(REQUEST, OTHER_NODE);
		assert_refused(report.call(), Invalidity::WrongNode);
		assert_refused(failure, Invalidity::WrongNode);
		// Nor may the new node speak with the old one's key.
		let forged = snapshot(REQUEST, 1).with(|report| report.signer = NODE);
		assert_refused(forged.call(), InvalidTransaction::BadProof);
		assert_ok!(snapshot(REQUEST, 1).submit());
	});
}

#[test]
fn what_the_old_node_sealed_stays_there_and_is_restored_there() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		let salt = Lineages::<Test>::get(REQUEST).unwrap().salt;
		World::move_to(REQUEST, OTHER_NODE);
		assert_eq!(Backup::root_status(REQUEST, salt, 0, cid), RootStatus::Retained);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		assert_eq!(RestoreRequests::<Test>::get(0).unwrap().node, NODE);
		assert_ok!(submit(restore_report(0, None)));
		World::remove_node(NODE);
		assert_noop!(
			Backup::restore_from_snapshot(signed(ALICE), bytes(cid)),
			Error::<Test>::EnvelopeRequired
		);
	});
}

#[test]
fn other_machines_of_the_owner_stay_where_they_are() {
	story_of_alice(|| {
		begin(OTHER_REQUEST, ALICE);
		record(REQUEST, 1);
		record(OTHER_REQUEST, 2);
		World::move_to(REQUEST, OTHER_NODE);
		let header = |node| Backups::<Test>::get(node, ALICE).unwrap();
		assert_eq!((header(NODE).lineages, header(NODE).snapshots), (1, 1));
		assert_eq!((header(OTHER_NODE).lineages, header(OTHER_NODE).snapshots), (1, 1));
		World::move_to(OTHER_REQUEST, OTHER_NODE);
		assert_eq!(Backups::<Test>::get(NODE, ALICE), None);
		assert_eq!((header(OTHER_NODE).lineages, header(OTHER_NODE).snapshots), (2, 2));
	});
}

#[test]
fn a_machine_that_is_fulfilled_again_on_its_node_changes_nothing() {
	story_of_alice(|| {
		record(REQUEST, 1);
		let before = Lineages::<Test>::get(REQUEST);
		World::move_to(REQUEST, NODE);
		assert_eq!(Lineages::<Test>::get(REQUEST), before);
	});
}

#[test]
fn a_rotated_key_signs_nothing_any_more() {
	story_of_alice(|| {
		run_to(2);
		let old = snapshot(REQUEST, 1).call();
		World::rotate(NODE);
		assert_refused(old, InvalidTransaction::BadProof);
		assert_ok!(snapshot(REQUEST, 1).submit());
	});
}

#[test]
fn a_node_reads_what_it_sealed_wherever_the_machine_is_now() {
	story_of_alice(|| {
		let first = record(REQUEST, 1);
		World::move_to(REQUEST, OTHER_NODE);
		let second = record(REQUEST, 2);
		let roots = |node| {
			let (roots, _) = Backup::roots_of_node(node, None);
			roots.into_iter().map(|root| root.cid).collect::<Vec<_>>()
		};
		assert_eq!(roots(NODE), [first]);
		assert_eq!(roots(OTHER_NODE), [second]);
	});
}
