//! Copies on other nodes: who holds them, what they say, and what that keeps.

use crate::{
	Error, Event, Holder, HoldersOf, Invalidity, Lineages, Owed, OwedCount, Snapshots,
	StorageNodes, mock::*,
};
use backup_primitives::FailureReason;
use frame_support::{assert_noop, assert_ok};
use sp_runtime::{DispatchError, transaction_validity::InvalidTransaction};

/// Nodes that hold copies, beside the host.
pub(super) const HOLDERS: [NodeId; 3] = [21, 22, 23];

fn admit(node: NodeId) {
	assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), node));
}

/// Nodes join the chain and are admitted.
pub(super) fn with_holders(nodes: &[NodeId]) {
	for node in nodes {
		World::add_node(*node);
		admit(*node);
	}
}

pub(super) fn replicas(replicas: u32) {
	let settings = crate::ChainSettings { replicas, ..Backup::settings() };
	assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
}

/// Tell a story of Alice's machine, whose copies these nodes may hold.
pub(super) fn story_with(nodes: &[NodeId], tell: impl FnOnce()) {
	story(|| {
		with_holders(nodes);
		begin(REQUEST, ALICE);
		tell();
	});
}

pub(super) fn holders(request: RequestId) -> Vec<NodeId> {
	let mut nodes: Vec<_> = HoldersOf::<Test>::get(request).iter().map(|h| h.node).collect();
	nodes.sort_unstable();
	nodes
}

fn holder(node: NodeId) -> Holder<NodeId, u64> {
	let holders = HoldersOf::<Test>::get(REQUEST);
	holders.into_iter().find(|holder| holder.node == node).expect("a holder")
}

/// A holder says that it has Alice's snapshots up to a place.
pub(super) fn hold_up_to(node: NodeId, to: u64) {
	submit(held_report(node, &[(REQUEST, 0, to)])).expect("it is its time");
}

fn confirmed() -> Option<u64> {
	Backup::protection(REQUEST).unwrap().confirmed.map(|point| point.sequence)
}

fn nothing_to_replace() {
	let nothing = Error::<Test>::NothingToReplace;
	assert_noop!(Backup::replace_holders(signed(BOB), REQUEST), nothing);
}

#[test]
fn governance_admits_storage_nodes_and_dismisses_them() {
	story(|| {
		with_holders(&HOLDERS);
		let list = || -> Vec<_> { (0..3).map(StorageNodes::<Test>::get).collect() };
		assert_eq!(list(), [Some(21), Some(22), Some(23)]);
		let again = Error::<Test>::StorageNodeAdmitted;
		assert_noop!(Backup::admit_storage_node(RuntimeOrigin::root(), 21), again);
		let unknown = Error::<Test>::NodeNotFound;
		assert_noop!(Backup::admit_storage_node(RuntimeOrigin::root(), 99), unknown);
		assert_noop!(Backup::admit_storage_node(signed(ALICE), 21), DispatchError::BadOrigin);
		assert_ok!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21));
		assert_eq!(list(), [Some(23), Some(22), None]);
		let none = Error::<Test>::NotAStorageNode;
		assert_noop!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21), none);
	});
}

#[test]
fn everyone_may_strike_a_node_off_that_is_not_registered_any_more() {
	story(|| {
		with_holders(&HOLDERS);
		let not_yet = Error::<Test>::NotAuthorized;
		assert_noop!(Backup::dismiss_storage_node(signed(BOB), 22), not_yet);
		World::remove_node(22);
		assert_ok!(Backup::dismiss_storage_node(signed(BOB), 22));
		assert_eq!(last_event(), Event::StorageNodeDismissed { node_id: 22 });
	});
}

#[test]
fn a_backup_that_begins_gets_its_holders() {
	story_with(&HOLDERS, || {
		let chosen = holders(REQUEST);
		assert_eq!(chosen.len(), 2);
		for node in chosen {
			assert!(Owed::<Test>::contains_key(node, REQUEST));
			assert_eq!(OwedCount::<Test>::get(node), 1);
			let chosen = Event::HolderChosen { node_id: node, request_id: REQUEST };
			assert!(events().contains(&chosen));
			let (owed, more) = Backup::owed_copies(node, None);
			assert_eq!((owed.len(), owed[0].request_id, owed[0].host), (1, REQUEST, NODE));
			assert_eq!(more, None);
		}
	});
}

#[test]
fn a_host_never_holds_its_own_copy() {
	story(|| {
		admit(NODE);
		with_holders(&[21]);
		begin(REQUEST, ALICE);
		assert_eq!(holders(REQUEST), [21]);
	});
}

#[test]
fn no_two_copies_lie_with_one_operator() {
	story(|| {
		World::operate(NODE, BOB);
		World::operate(21, BOB);
		World::operate(22, CHARLIE);
		World::operate(23, CHARLIE);
		with_holders(&HOLDERS);
		begin(REQUEST, ALICE);
		let chosen = holders(REQUEST);
		assert!(chosen == [22] || chosen == [23], "{chosen:?}");
	});
}

#[test]
fn among_eight_nodes_the_only_one_that_may_is_always_found() {
	for seed in 0..20 {
		story(|| {
			run_to(2 + seed);
			for node in 30..38 {
				World::operate(node, if node == 33 { BOB } else { CHARLIE });
			}
			World::operate(NODE, CHARLIE);
			with_holders(&(30..38).collect::<Vec<_>>());
			begin(REQUEST, ALICE);
			assert_eq!(holders(REQUEST), [33]);
		});
	}
}

#[test]
fn a_holder_says_what_it_has_once_a_period() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		hold_up_to(21, 1);
		assert_eq!((holder(21).from, holder(21).to), (0, 1));
		assert_eq!(last_event(), Event::CopiesConfirmed { node_id: 21, count: 1 });
		assert_eq!((confirmed(), Backup::confirmed_to(&REQUEST)), (Some(0), 1));
		assert_refused(held_report(21, &[(REQUEST, 0, 1)]), InvalidTransaction::Stale);
		run_for(20);
		hold_up_to(21, 1);
		assert_eq!(holder(21).confirmed_at, Some(System::block_number()));
	});
}

#[test]
fn a_holder_that_lost_something_says_so_at_once() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		hold_up_to(21, 1);
		assert_ok!(submit(held_report(21, &[(REQUEST, 0, 0)])));
		assert_eq!(confirmed(), None);
	});
}

#[test]
fn what_is_not_a_holders_to_say_is_refused() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		begin(OTHER_REQUEST, BOB);
		run_for(1);
		let refused = [
			(held_report(NODE, &[(REQUEST, 0, 1)]), Invalidity::WrongNode),
			(held_report(21, &[]), Invalidity::NothingHeld),
			(held_report(21, &[(REQUEST, 1, 0)]), Invalidity::NothingHeld),
			(held_report(21, &[(REQUEST, 0, 1), (REQUEST, 0, 0)]), Invalidity::NothingHeld),
		];
		for (report, reason) in refused {
			assert_refused(report, reason);
		}
		// More than there is may be there at the next block.
		assert_refused(held_report(21, &[(REQUEST, 0, 2)]), InvalidTransaction::Future);
		let forged = match held_report(22, &[(REQUEST, 0, 1)]) {
			crate::Call::report_held { marks, at, signature, .. } => {
				crate::Call::report_held { node_id: 21, marks, at, signature }
			}
			_ => unreachable!(),
		};
		assert_refused(forged, InvalidTransaction::BadProof);
		let mut lineage = Lineages::<Test>::get(REQUEST).unwrap();
		let report = held_report(21, &[(REQUEST, 0, 1)]);
		lineage.salt = [9; 32];
		Lineages::<Test>::insert(REQUEST, lineage);
		assert_refused(report, Invalidity::WrongLineage);
	});
}

#[test]
fn one_report_speaks_of_many_copies_or_of_none() {
	story_with(&[21, 22], || {
		begin(OTHER_REQUEST, BOB);
		record(REQUEST, 1);
		record(OTHER_REQUEST, 1);
		let both = [(REQUEST, 0, 1), (OTHER_REQUEST, 0, 1)];
		assert_refused(
			held_report(21, &[both[0], (OTHER_REQUEST, 0, 2)]),
			InvalidTransaction::Future,
		);
		assert_ok!(submit(held_report(21, &both)));
		assert_eq!(Backup::confirmed_to(&OTHER_REQUEST), 1);
	});
}

#[test]
fn a_silent_holder_is_replaced_by_everyone_who_asks() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		nothing_to_replace();
		run_for(40);
		hold_up_to(21, 0);
		run_for(21);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST), [21, 23]);
		assert!(!Owed::<Test>::contains_key(22, REQUEST));
		assert_eq!(holder(23).since, System::block_number());
		assert!(events().contains(&Event::HolderDropped { node_id: 22, request_id: REQUEST }));
		nothing_to_replace();
	});
}

#[test]
fn a_silent_holder_stays_until_another_node_is_there() {
	story_with(&[21, 22], || {
		run_for(61);
		nothing_to_replace();
		assert_eq!(holders(REQUEST), [21, 22]);
	});
}

#[test]
fn what_a_silent_holder_said_counts_no_more() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		hold_up_to(21, 1);
		run_for(60);
		assert_eq!(confirmed(), Some(0));
		run_for(1);
		assert_eq!(confirmed(), None);
		let protection = Backup::protection(REQUEST).unwrap();
		assert_eq!(protection.claimed.map(|point| point.sequence), Some(0));
		assert!(protection.holders.iter().all(|(_, is_silent)| *is_silent));
	});
}

#[test]
fn nobody_is_silent_while_everything_is_paused_or_right_after() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		run_for(100);
		let paused = Error::<Test>::BackupPaused;
		assert_noop!(Backup::replace_holders(signed(BOB), REQUEST), paused);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), false));
		run_for(60);
		nothing_to_replace();
		run_for(1);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
	});
}

#[test]
fn only_so_many_holders_are_replaced_at_once() {
	story(|| {
		with_holders(&HOLDERS);
		World::add_node(24);
		for (request, owner) in [(REQUEST, ALICE), (OTHER_REQUEST, BOB), (9, CHARLIE)] {
			begin(request, owner);
		}
		run_to(105);
		with_holders(&[31, 32, 33, 34]);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_ok!(Backup::replace_holders(signed(BOB), OTHER_REQUEST));
		let many = Error::<Test>::TooManyReplacements;
		assert_noop!(Backup::replace_holders(signed(BOB), 9), many);
		run_to(200);
		assert_ok!(Backup::replace_holders(signed(BOB), 9));
	});
}

#[test]
fn a_dismissed_or_deregistered_holder_is_replaced_before_it_falls_silent() {
	story_with(&HOLDERS[..2], || {
		with_holders(&[23]);
		assert_ok!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21));
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST), [22, 23]);
		World::remove_node(22);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST), [23], "there is no other node");
	});
}

#[test]
fn a_backup_gets_the_holders_that_it_lacks_when_there_are_nodes_for_it() {
	story_of_alice(|| {
		assert!(holders(REQUEST).is_empty());
		with_holders(&HOLDERS);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST).len(), 2);
		replicas(3);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST), HOLDERS);
	});
}

#[test]
fn a_machine_that_moves_to_a_holder_gets_another_one() {
	story_with(&HOLDERS, || {
		let host = holders(REQUEST)[0];
		World::move_to(REQUEST, host);
		let now = holders(REQUEST);
		assert_eq!(now.len(), 2);
		assert!(!now.contains(&host));
	});
}

#[test]
fn the_newest_snapshot_that_another_node_has_is_not_evicted() {
	story_with(&[21, 22], || {
		record(REQUEST, 0);
		record(REQUEST, 1);
		hold_up_to(21, 2);
		// Silent holders count no more, so this one goes on to speak, without getting further.
		for tag in 2..7 {
			let due_at = Backup::due_at(&Lineages::<Test>::get(REQUEST).unwrap());
			while System::block_number() + 20 <= due_at {
				run_for(20);
				hold_up_to(21, 2);
			}
			record(REQUEST, tag);
		}
		assert_eq!(kept(), [1, 5, 6], "0 was older, 2 to 4 were confirmed by nobody");
		run_for(20);
		hold_up_to(21, 6);
		let due_at = Backup::due_at(&Lineages::<Test>::get(REQUEST).unwrap());
		while System::block_number() + 20 <= due_at {
			run_for(20);
			hold_up_to(21, 6);
		}
		record(REQUEST, 7);
		assert_eq!(kept(), [5, 6, 7], "1 is not the newest copy any more");
	});
}

#[test]
fn at_the_hard_cap_the_oldest_goes_that_nobody_has_confirmed() {
	story_with(&[21, 22], || {
		nothing_goes_by_age();
		for tag in 0..5 {
			record(REQUEST, tag);
		}
		hold_up_to(21, 5);
		for tag in 5..43 {
			record(REQUEST, tag);
		}
		let gone: Vec<u64> = (0..43).filter(|sequence| !kept().contains(sequence)).collect();
		assert_eq!(gone, [5, 6, 7], "not one of those that another node has");
		let event = events().into_iter().rev().find_map(|event| match event {
			Event::SnapshotEvicted { sequence, is_young, .. } => Some((sequence, is_young)),
			_ => None,
		});
		assert_eq!(event, Some((7, true)));
	});
}

#[test]
fn at_the_hard_cap_the_oldest_goes_if_all_are_confirmed() {
	story_with(&[21, 22], || {
		nothing_goes_by_age();
		for tag in 0..40 {
			record(REQUEST, tag);
		}
		hold_up_to(21, 40);
		record(REQUEST, 40);
		assert_eq!(kept(), (1..41).collect::<Vec<_>>());
	});
}

#[test]
fn a_deletion_waits_for_host_and_holders() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		assert_ok!(submit(deleted_report_of(21, REQUEST)));
		assert_eq!(last_event(), Event::DeletionConfirmed { node_id: 21, request_id: REQUEST });
		assert_refused(deleted_report_of(21, REQUEST), Invalidity::WrongNode);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_refused(deleted_report(REQUEST), InvalidTransaction::Stale);
		assert!(Lineages::<Test>::contains_key(REQUEST));
		assert_ok!(submit(deleted_report_of(22, REQUEST)));
		assert!(!Lineages::<Test>::contains_key(REQUEST));
		assert!(Snapshots::<Test>::get(REQUEST, 0).is_none());
	});
}

#[test]
fn a_deletion_that_is_closed_names_all_who_did_not_confirm() {
	story_with(&[21, 22], || {
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		assert_ok!(submit(deleted_report_of(22, REQUEST)));
		run_for(30);
		assert_ok!(Backup::close_deletion(signed(BOB), REQUEST, None));
		let closed = Event::DeletionClosed { request_id: REQUEST, unconfirmed: vec![NODE, 21] };
		assert!(events().contains(&closed));
		assert_eq!(Owed::<Test>::iter_keys().count(), 0);
	});
}

#[test]
fn a_copy_is_no_host() {
	story_with(&[21, 22], || {
		run_to(5);
		let stolen = snapshot(REQUEST, 1).with(|report| {
			report.node = 21;
			report.signer = 21;
		});
		assert_refused(stolen.call(), Invalidity::WrongNode);
		let mut failure = failure_report(REQUEST, 1, FailureReason::Internal);
		if let crate::Call::report_snapshot_failed { node_id, .. } = &mut failure {
			*node_id = 21;
		}
		assert_refused(failure, Invalidity::WrongNode);
	});
}

/// Settings under which nothing is old enough to go and nobody falls silent.
fn nothing_goes_by_age() {
	let settings =
		crate::ChainSettings { min_age: 10_000, holder_silence: 10_000, ..Backup::settings() };
	assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
}

#[test]
fn a_range_ends_with_a_snapshot_so_that_no_gap_passes_for_the_newest_copy() {
	story_with(&[21, 22], || {
		for tag in 0..5 {
			record(REQUEST, tag);
		}
		assert_eq!(kept(), [2, 3, 4]);
		run_for(1);
		assert_refused(held_report(21, &[(REQUEST, 0, 2)]), Invalidity::NothingHeld);
		assert_ok!(submit(held_report(21, &[(REQUEST, 0, 3)])));
	});
}

#[test]
fn a_copy_stays_guarded_when_its_holder_falls_silent() {
	story_with(&[21, 22], || {
		record(REQUEST, 0);
		hold_up_to(21, 1);
		for tag in 1..7 {
			record(REQUEST, tag);
		}
		assert_eq!(confirmed(), None, "it is silent");
		assert_eq!(kept(), [0, 5, 6], "but when it is back, its copy counts");
	});
}

#[test]
fn where_the_newest_copy_is_deleted_the_one_before_is_guarded() {
	story_with(&[21, 22], || {
		keep_last(10);
		for tag in 0..3 {
			record(REQUEST, tag);
		}
		hold_up_to(21, 3);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 2));
		run_for(20);
		assert_ok!(Backup::close_deletion(signed(BOB), REQUEST, Some(2)));
		keep_last(2);
		for tag in 3..7 {
			record(REQUEST, tag);
		}
		assert_eq!(kept(), [1, 6]);
	});
}

#[test]
fn a_silent_holder_that_has_something_stays_until_another_has_as_much() {
	story_with(&[21, 22], || {
		record(REQUEST, 0);
		hold_up_to(21, 1);
		run_for(61);
		with_holders(&[23]);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		// 22 had nothing and went, 23 came; there is no fourth node.
		let mut nodes = holders(REQUEST);
		assert!(nodes.contains(&21) && nodes.contains(&23), "{nodes:?}");
		with_holders(&[24]);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		nodes = holders(REQUEST);
		assert_eq!(nodes, [21, 23, 24], "21 has the only copy");
		nothing_to_replace();
		hold_up_to(24, 1);
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		assert_eq!(holders(REQUEST), [23, 24]);
	});
}

#[test]
fn a_holder_whose_operator_becomes_the_host_confirms_no_more() {
	story(|| {
		World::operate(21, BOB);
		World::operate(OTHER_NODE, BOB);
		with_holders(&HOLDERS);
		replicas(3);
		begin(REQUEST, ALICE);
		assert_eq!(holders(REQUEST), HOLDERS);
		World::move_to(REQUEST, OTHER_NODE);
		assert_eq!(holders(REQUEST), [22, 23]);
	});
}

#[test]
fn the_search_for_what_nobody_has_goes_on_where_it_stopped() {
	story_with(&[21, 22], || {
		nothing_goes_by_age();
		for tag in 0..40 {
			record(REQUEST, tag);
		}
		hold_up_to(21, 2);
		for tag in 40..50 {
			record(REQUEST, tag);
		}
		assert_eq!(kept()[..3], [0, 1, 12]);
		// Somebody lets go of an old one: the search begins again, at a gap of ten places.
		assert_ok!(Backup::hold_snapshot(signed(ALICE), REQUEST, 1));
		assert_ok!(Backup::release_snapshot(signed(ALICE), REQUEST, 1));
		record(REQUEST, 50);
		assert_eq!(kept()[..3], [0, 1, 12], "no good copy goes for that");
		assert_eq!(Backup::eligibility(REQUEST), crate::Eligibility::Full);
		while Backup::prune(signed(BOB), REQUEST, 4).is_ok() {}
		assert_eq!(kept()[..3], [0, 1, 13]);
	});
}

#[test]
fn a_deletion_that_was_taken_back_forgets_who_had_confirmed() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		assert_ok!(Backup::hold_snapshot(RuntimeOrigin::root(), REQUEST, 0));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		let target = crate::DeletionTarget::Request(REQUEST);
		assert_ok!(Backup::cancel_deletion(signed(ALICE), target));
		Lineages::<Test>::mutate(REQUEST, |lineage| {
			assert!(!lineage.as_ref().unwrap().is_given_up);
		});
	});
}

#[test]
fn what_nodes_may_have_given_up_is_not_held_while_all_is_paused() {
	story_with(&[21, 22], || {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		let late = Error::<Test>::DeletionInEffect;
		assert_noop!(Backup::hold_snapshot(RuntimeOrigin::root(), REQUEST, 0), late);
	});
}

#[test]
fn a_holder_that_lost_its_pins_asks_for_its_copies_too() {
	story_with(&[21, 22], || {
		let cid = record(REQUEST, 1);
		let (roots, _) = Backup::roots_of_node(21, None);
		assert_eq!(roots.iter().map(|root| root.cid).collect::<Vec<_>>(), [cid]);
		assert_eq!(Backup::roots_of_node(23, None).0, []);
	});
}

#[test]
fn each_copy_counts_in_the_quota_of_its_holder() {
	story_with(&[21, 22], || {
		begin(OTHER_REQUEST, BOB);
		run_for(1);
		assert_ok!(submit(held_report(21, &[(REQUEST, 0, 0), (OTHER_REQUEST, 0, 0)])));
		assert_eq!(crate::ReportsOfNode::<Test>::get(21).unwrap().1, 2);
	});
}

#[test]
fn nobody_waits_for_the_word_of_a_holder_that_is_gone() {
	story_with(&[21, 22], || {
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		assert_ok!(submit(deleted_report_of(21, REQUEST)));
		World::remove_node(22);
		assert_ok!(submit(deleted_report(REQUEST)));
		assert!(!Lineages::<Test>::contains_key(REQUEST));
	});
}
