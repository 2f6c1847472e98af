//! Restores into place, to another machine, and by a node that did not seal the snapshot.

use crate::{Error, Event, RestoreOptions, RestoreRequests, mock::*, worker::Speaker};
use backup_primitives::job::{Envelope, RestoreMode, RestorePlace};
use frame_support::{assert_noop, assert_ok};
use sp_runtime::{DispatchResult, transaction_validity::InvalidTransaction};

fn options() -> RestoreOptions<RequestId> {
	RestoreOptions::default()
}

fn replace() -> RestoreOptions<RequestId> {
	RestoreOptions { mode: RestoreMode::Replace, ..options() }
}

fn to(target: RequestId) -> RestoreOptions<RequestId> {
	RestoreOptions { target: Some(target), ..options() }
}

fn envelope() -> Option<Envelope> {
	Some(b"sealed by the owner".to_vec().try_into().unwrap())
}

fn ask(who: AccountId, options: RestoreOptions<RequestId>) -> DispatchResult {
	Backup::restore_snapshot(signed(who), REQUEST, 0, options)
}

/// The node that carries a restore out.
fn node_of(restore: u64) -> NodeId {
	RestoreRequests::<Test>::get(restore).expect("a restore").node
}

/// What the worker of a node asks its agent to restore.
fn orders_of(node: NodeId) -> Vec<backup_primitives::job::RestoreOrder> {
	let number = System::block_number();
	frame_system::BlockHash::<Test>::insert(number, hash_of(number));
	let speaker = Speaker::of(World::authority(node)).expect("a registered node");
	Backup::desired(&speaker).restores.into_inner()
}

/// Tell a story of a snapshot of Alice's machine.
fn story_of_a_snapshot(tell: impl FnOnce()) {
	story_of_alice(|| {
		record(REQUEST, 1);
		tell();
	});
}

/// The same, where the machine has moved since.
fn story_of_a_move(tell: impl FnOnce()) {
	story_of_a_snapshot(|| {
		World::move_to(REQUEST, OTHER_NODE);
		tell();
	});
}

#[test]
fn an_owner_has_the_disks_of_its_machine_replaced() {
	story_of_a_snapshot(|| {
		assert_ok!(ask(ALICE, replace()));
		let order = &orders_of(NODE)[0];
		let vm = b"vm-7".to_vec().try_into().unwrap();
		let vm_tag = backup_primitives::VmTag([REQUEST as u8; 16]);
		assert_eq!(order.place, RestorePlace::Replace { vm, vm_tag });
		assert_ok!(submit(restore_report(0, None)));
		let restored = Event::SnapshotRestored { restore_id: 0, request_id: REQUEST, cid: root(1) };
		assert_eq!(last_event(), restored);
	});
}

#[test]
fn who_was_let_in_looks_but_does_not_touch() {
	story_of_a_snapshot(|| {
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, None, None));
		World::run(OTHER_REQUEST, BOB);
		assert_noop!(ask(BOB, replace()), Error::<Test>::NotAuthorized);
		assert_noop!(ask(BOB, to(OTHER_REQUEST)), Error::<Test>::NotAuthorized);
		assert_ok!(ask(BOB, options()));
		assert_eq!(orders_of(NODE)[0].place, RestorePlace::Aside);
	});
}

#[test]
fn another_machine_of_the_owner_can_be_meant() {
	story_of_a_snapshot(|| {
		World::run(OTHER_REQUEST, ALICE);
		assert_ok!(ask(ALICE, RestoreOptions { target: Some(OTHER_REQUEST), ..replace() }));
		let vm = b"vm-8".to_vec().try_into().unwrap();
		let vm_tag = backup_primitives::VmTag([OTHER_REQUEST as u8; 16]);
		assert_eq!(orders_of(NODE)[0].place, RestorePlace::Replace { vm, vm_tag });
	});
}

#[test]
fn a_machine_of_somebody_else_cannot_be_meant() {
	story_of_a_snapshot(|| {
		World::run(OTHER_REQUEST, BOB);
		assert_noop!(ask(ALICE, to(OTHER_REQUEST)), Error::<Test>::NotAuthorized);
		assert_noop!(ask(ALICE, to(99)), Error::<Test>::RequestNotRunning);
		World::run(OTHER_REQUEST, ALICE);
		World::edit_request(OTHER_REQUEST, |info| info.running = false);
		assert_noop!(ask(ALICE, to(OTHER_REQUEST)), Error::<Test>::RequestNotRunning);
	});
}

#[test]
fn whose_machine_it_is_is_looked_at_again_when_the_restore_is_carried_out() {
	story_of_a_snapshot(|| {
		World::run(OTHER_REQUEST, ALICE);
		assert_ok!(ask(ALICE, to(OTHER_REQUEST)));
		assert_eq!(orders_of(NODE).len(), 1);
		let report = restore_report(0, None);
		World::edit_request(OTHER_REQUEST, |info| info.owner = BOB);
		assert!(orders_of(NODE).is_empty());
		assert_refused(report, InvalidTransaction::Stale);
		// Such a restore is over: everyone may clear it away.
		assert_ok!(Backup::close_restore(signed(CHARLIE), 0));
	});
}

#[test]
fn another_node_than_the_one_that_sealed_it_needs_an_envelope() {
	story_of_a_move(|| {
		assert_noop!(ask(ALICE, replace()), Error::<Test>::EnvelopeRequired);
		assert_ok!(ask(ALICE, options()));
		assert_eq!(node_of(0), NODE, "the one that sealed it");
		assert_ok!(ask(ALICE, RestoreOptions { envelope: envelope(), ..replace() }));
		assert_eq!(node_of(1), OTHER_NODE, "the one that hosts the machine");
		assert_eq!(orders_of(OTHER_NODE)[0].envelope, envelope());
	});
}

#[test]
fn with_an_envelope_the_host_restores_what_a_node_sealed_that_is_gone() {
	story_of_a_move(|| {
		World::remove_node(NODE);
		assert_noop!(ask(ALICE, options()), Error::<Test>::EnvelopeRequired);
		assert_ok!(ask(ALICE, RestoreOptions { envelope: envelope(), ..options() }));
		assert_eq!(node_of(0), OTHER_NODE);
		assert_ok!(submit(restore_report(0, None)));
	});
}

#[test]
fn a_machine_on_another_node_can_be_meant_with_an_envelope() {
	story_of_a_snapshot(|| {
		World::run(OTHER_REQUEST, ALICE);
		World::edit_request(OTHER_REQUEST, |info| info.node = Some(OTHER_NODE));
		assert_noop!(ask(ALICE, to(OTHER_REQUEST)), Error::<Test>::EnvelopeRequired);
		assert_ok!(ask(ALICE, RestoreOptions { envelope: envelope(), ..to(OTHER_REQUEST) }));
		assert_eq!(node_of(0), OTHER_NODE);
		World::edit_request(OTHER_REQUEST, |info| info.node = Some(NODE));
		assert!(orders_of(OTHER_NODE).is_empty(), "the machine has left it");
	});
}

#[test]
fn a_node_that_is_gone_carries_nothing_out() {
	story_of_a_snapshot(|| {
		World::remove_node(NODE);
		let asked = ask(ALICE, RestoreOptions { envelope: envelope(), ..options() });
		assert_noop!(asked, Error::<Test>::RequestNotRunning);
	});
}
