//! The worker against an agent that the tests play.

use super::desk::{Desk, nothing};
use crate::{
	BackupHooks, Call, LineageSettings, Lineages, RestoreRequests, Snapshots, lineage_id, mock::*,
	opaque,
};
use backup_primitives::{
	Consistency, FailureReason,
	auth::ENDPOINT_STORAGE_KEY,
	job::{
		Achieved, BODY_BYTES_MAX, Copied, CopyHolder, CopyOrder, CopyResult, DeletionResult,
		Desired, RestoreResult, SnapshotResult, decode_body, encode_body,
	},
	report::TakenSnapshot,
};
use frame_support::{
	assert_ok,
	traits::{Authorize, Hooks},
};
use sp_runtime::transaction_validity::TransactionSource;

/// Tell a story of Alice's machine on a node that has an agent.
fn desk_story(tell: impl FnOnce(Desk)) {
	let mut ext = new_test_ext();
	let desk = Desk::beside(&mut ext);
	ext.execute_with(|| {
		// One key in the keystore, as on a real node: the other node is elsewhere.
		begin(REQUEST, ALICE);
		desk.open();
		World::remove_node(OTHER_NODE);
		tell(desk);
		assert_eq!(Backup::do_try_state(), Ok(()));
	});
}

/// The agent holds copies of these ranges.
fn holding(copies: Vec<(RequestId, u64, u64)>) -> impl FnOnce(&Desired) -> Achieved {
	move |desired| {
		let result = |(request, from, to)| CopyResult {
			lineage: lineage_id(&request, Lineages::<Test>::get(request).unwrap().salt),
			from,
			to,
		};
		let results: Vec<_> = copies.into_iter().map(result).collect();
		Achieved { copies: results.try_into().unwrap(), ..nothing(desired) }
	}
}

/// Tell a story of a node that holds copies of Alice's machine, which another node hosts.
fn holder_story(tell: impl FnOnce(Desk)) {
	desk_story(|desk| {
		World::add_node(OTHER_NODE);
		World::move_to(REQUEST, OTHER_NODE);
		assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), NODE));
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		tell(desk);
	});
}

#[test]
fn what_a_node_has_to_hold_is_ordered_with_where_to_fetch_it() {
	holder_story(|desk| {
		record(REQUEST, 1);
		World::withhold(OTHER_NODE);
		let desired = desk.peek();
		assert!(desired.snapshots.is_empty() && desired.lineages.is_empty());
		let order = &desired.copies[0];
		assert_eq!((order.next, &order.owner), (1, &opaque(&ALICE)));
		assert_eq!(order.sources.len(), 1);
		assert_eq!(&order.sources[0].gateway[..], b"http://node-11");
	});
}

#[test]
fn what_a_node_holds_is_said_once_a_period() {
	holder_story(|desk| {
		record(REQUEST, 1);
		World::withhold(OTHER_NODE);
		let mut reports = Vec::new();
		for number in System::block_number() + 1..=System::block_number() + 30 {
			run_to(number);
			desk.run(holding(vec![(REQUEST, 0, 1)]));
			for call in desk.submitted() {
				assert_ok!(submit(call));
				reports.push(number);
			}
		}
		assert_eq!(reports.len(), 2, "{reports:?}");
		assert!(reports[1] - reports[0] >= 20, "{reports:?}");
		assert_eq!(Backup::confirmed_to(&REQUEST), 1);
	});
}

#[test]
fn every_copy_of_many_is_spoken_of() {
	holder_story(|desk| {
		let settings = crate::ChainSettings { holder_period: 50, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		// Four pages: as many blocks as lie between two reports.
		for request in 100..220 {
			begin(request, 1_000 + request / 3);
			World::move_to(request, OTHER_NODE);
			assert_ok!(Backup::replace_holders(signed(BOB), request));
		}
		World::withhold(OTHER_NODE);
		for number in System::block_number() + 1..=System::block_number() + 16 {
			start_block(number);
			desk.run(|desired| {
				let result = |order: &CopyOrder| {
					let lineage = order.lineage.clone();
					CopyResult { lineage, from: 0, to: 0 }
				};
				let copies: Vec<_> = desired.copies.iter().map(result).collect();
				Achieved { copies: copies.try_into().unwrap(), ..nothing(desired) }
			});
			for call in desk.submitted() {
				assert_ok!(submit(call));
			}
		}
		let all = crate::HoldersOf::<Test>::iter_values().flatten();
		assert_eq!(all.filter(|holder| holder.confirmed_at.is_none()).count(), 0);
	});
}

#[test]
fn a_report_of_copies_that_the_pool_dropped_is_made_again() {
	holder_story(|desk| {
		record(REQUEST, 1);
		World::withhold(OTHER_NODE);
		let mut made = Vec::new();
		for number in System::block_number() + 1..=System::block_number() + 12 {
			run_to(number);
			desk.run(holding(vec![(REQUEST, 0, 1)]));
			made.extend(desk.submitted().into_iter().map(encoded));
		}
		assert_eq!(made.len(), 3);
		made.dedup();
		assert_eq!(made.len(), 3, "each is another transaction");
	});
}

#[test]
fn what_an_agent_says_of_copies_that_are_not_its_own_goes_nowhere() {
	holder_story(|desk| {
		begin(OTHER_REQUEST, BOB);
		World::withhold(OTHER_NODE);
		run_to(4);
		desk.run(holding(vec![(OTHER_REQUEST, 0, 0), (REQUEST, 0, 9), (REQUEST, 1, 0)]));
		assert_eq!(desk.submitted(), []);
	});
}

#[test]
fn a_holder_gives_up_what_is_deleted_and_says_so() {
	holder_story(|desk| {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		World::withhold(OTHER_NODE);
		let desired = desk.run(|desired| {
			let order = &desired.deletions[0];
			let (lineage, until) = (order.lineage.clone(), order.until);
			let done = DeletionResult { lineage, until, handed_out: 0 };
			Achieved { deletions: vec![done].try_into().unwrap(), ..nothing(desired) }
		});
		assert!(desired.copies.is_empty());
		let calls = desk.submitted();
		assert_ok!(submit(calls[0].clone()));
		assert!(!crate::HoldersOf::<Test>::contains_key(REQUEST));
	});
}

/// The agent took the snapshot that was ordered.
fn taken(handed_out: u32, outcome: Result<u8, FailureReason>) -> impl FnOnce(&Desired) -> Achieved {
	move |desired| {
		let order = &desired.snapshots[0];
		let result = SnapshotResult {
			lineage: order.lineage.clone(),
			sequence: order.sequence,
			slot: order.slot,
			handed_out,
			outcome: outcome.map(|tag| TakenSnapshot {
				cid: root(tag),
				taken_at: desired.now,
				logical_bytes: DISK_BYTES,
				new_bytes: 10,
				consistency: Consistency::Application,
				owner_key_version: order.owner_key_version,
			}),
		};
		Achieved { snapshots: vec![result].try_into().unwrap(), ..nothing(desired) }
	}
}

#[test]
fn a_due_snapshot_is_ordered_with_all_that_the_agent_needs() {
	desk_story(|desk| {
		run_to(3);
		let desired = desk.run(nothing);
		assert_eq!(desired.genesis, hash_of(0).0);
		assert_eq!((desired.node.clone(), desired.now), (opaque(&NODE), 3));
		let order = &desired.snapshots[0];
		assert_eq!((order.sequence, order.slot), (0, 1));
		assert_eq!(order.owner, opaque(&ALICE));
		assert_eq!(&order.vm[..], b"vm-7");
		assert_eq!(order.owner_recipients[..], [key(ALICE as u8)]);
		assert_eq!(order.node_recipient, key(NODE as u8));
		assert_eq!((order.parent, order.capacity_bytes), (None, DISK_BYTES));
		assert_eq!(desired.lineages.len(), 1);
	});
}

/// What the worker tells the host of copies of Alice's machine.
fn copied(desk: &Desk) -> Option<Copied> {
	desk.peek().lineages[0].copied.clone()
}

/// The same, but for who holds them.
fn confirmed(desk: &Desk) -> Option<(Option<u64>, bool)> {
	copied(desk).map(|copied| (copied.confirmed, copied.is_late))
}

/// Tell a story of Alice's machine on a node that has an agent, whose copies node 21 holds.
fn copied_story(tell: impl FnOnce(Desk)) {
	desk_story(|desk| {
		World::add_node(21);
		assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), 21));
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		tell(desk);
	});
}

#[test]
fn a_host_is_told_what_others_confirm_and_when_that_is_late() {
	copied_story(|desk| {
		let allowed = FREQUENCY + Backup::settings().holder_period;
		let is = |newest, is_late| Some((newest, is_late));
		run_for(2 * allowed);
		assert_eq!(confirmed(&desk), is(None, false), "there is nothing to copy");
		record(REQUEST, 1);
		let recorded_at = System::block_number();
		run_to(recorded_at + allowed);
		assert_eq!(confirmed(&desk), is(None, false), "a holder may not have spoken yet");
		run_to(recorded_at + allowed + 1);
		assert_eq!(confirmed(&desk), is(None, true));
		assert_ok!(submit(held_report(21, &[(REQUEST, 0, 1)])));
		run_for(Backup::settings().holder_silence);
		assert_eq!(confirmed(&desk), is(Some(0), false), "nothing waits to be confirmed");
		run_for(1);
		assert_eq!(confirmed(&desk), is(None, true), "who was not heard of confirms nothing");
	});
}

#[test]
fn a_host_is_told_who_holds_copies_and_how_far_each_has_come() {
	copied_story(|desk| {
		World::add_node(22);
		assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), 22));
		let settings = crate::ChainSettings { replicas: 2, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		assert_ok!(Backup::replace_holders(signed(BOB), REQUEST));
		record(REQUEST, 1);
		assert_ok!(submit(held_report(21, &[(REQUEST, 0, 1)])));
		let holders = || copied(&desk).unwrap().holders.into_inner();
		let is = |node: NodeId, confirmed, is_silent| CopyHolder {
			node: opaque(&node),
			confirmed,
			is_silent,
		};
		assert_eq!(holders(), [is(21, Some(0), false), is(22, None, false)]);
		run_for(Backup::settings().holder_silence + 1);
		assert_eq!(holders(), [is(21, Some(0), true), is(22, None, true)]);
	});
}

#[test]
fn a_host_is_told_the_cadence_and_that_no_snapshots_are_wanted() {
	desk_story(|desk| {
		let cadence = || desk.peek().lineages[0].cadence;
		assert_eq!(cadence(), Some(FREQUENCY));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), FREQUENCY + 1));
		assert_eq!(cadence(), Some(FREQUENCY + 1), "the owner has one of her own");
		let paused = |paused| LineageSettings { paused, keep_last: None };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, paused(true)));
		assert_eq!(cadence(), None);
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, paused(false)));
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		assert_eq!(cadence(), None, "all is paused");
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), false));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_eq!(cadence(), None, "it is to be deleted");
	});
}

#[test]
fn copies_are_not_late_while_nobody_may_report_and_for_a_while_after() {
	copied_story(|desk| {
		let allowed = FREQUENCY + Backup::settings().holder_period;
		let is_late = || copied(&desk).unwrap().is_late;
		record(REQUEST, 1);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		run_for(allowed + 1);
		assert!(!is_late(), "all is paused");
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), false));
		run_for(allowed);
		assert!(!is_late(), "the pause does not count");
		run_for(1);
		assert!(is_late());
	});
}

#[test]
fn a_host_is_told_nothing_of_copies_that_nobody_wants() {
	copied_story(|desk| {
		let settings = crate::ChainSettings { replicas: 0, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		assert_eq!(copied(&desk), None);
	});
}

#[test]
fn what_is_not_due_is_not_ordered() {
	desk_story(|desk| {
		record(REQUEST, 1);
		assert!(desk.run(nothing).snapshots.is_empty());
		run_to(1 + FREQUENCY);
		let order = desk.run(nothing).snapshots[0].clone();
		assert_eq!((order.sequence, order.slot, order.parent), (1, 1 + FREQUENCY, Some(root(1))));
		let settings = LineageSettings { paused: true, keep_last: None };
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, settings));
		assert!(desk.run(nothing).snapshots.is_empty());
	});
}

#[test]
fn a_snapshot_is_reported_so_that_the_chain_records_it() {
	desk_story(|desk| {
		run_to(3);
		desk.run(taken(0, Ok(1)));
		let calls = desk.submitted();
		assert_eq!(calls.len(), 1);
		// A peer that has not seen the worker's block yet takes the report all the same.
		assert_ok!(submit(calls[0].clone()));
		assert_eq!(Snapshots::<Test>::get(REQUEST, 0).unwrap().cid, root(1));
	});
}

#[test]
fn a_result_is_reported_at_once_and_then_every_fourth_time() {
	desk_story(|desk| {
		let reported: Vec<u32> = (0..10)
			.filter(|handed_out| {
				desk.run(taken(*handed_out, Ok(1)));
				!desk.submitted().is_empty()
			})
			.collect();
		assert_eq!(reported, [0, 4, 8]);
	});
}

#[test]
fn each_report_is_another_transaction() {
	desk_story(|desk| {
		desk.run(taken(0, Ok(1)));
		let first = desk.submitted();
		run_for(1);
		desk.run(taken(4, Ok(1)));
		assert_ne!(encoded(first[0].clone()), encoded(desk.submitted()[0].clone()));
	});
}

#[test]
fn what_the_chain_has_recorded_is_not_reported_again() {
	desk_story(|desk| {
		let desired = desk.peek();
		let old = taken(0, Ok(1))(&desired);
		record(REQUEST, 1);
		desk.run(|_| old);
		assert_eq!(desk.submitted(), []);
	});
}

#[test]
fn a_failure_is_reported_with_its_reason() {
	desk_story(|desk| {
		run_to(3);
		desk.run(taken(0, Err(FailureReason::VmTagMismatch)));
		run_to(4);
		assert_ok!(submit(desk.submitted().remove(0)));
		let failure = Lineages::<Test>::get(REQUEST).unwrap().failure.unwrap();
		assert_eq!((failure.slot, failure.reason), (1, FailureReason::VmTagMismatch));
		assert!(desk.run(nothing).snapshots.is_empty(), "the slot is over");
	});
}

#[test]
fn a_restore_is_ordered_and_reported() {
	desk_story(|desk| {
		let cid = record(REQUEST, 1);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		run_for(1);
		let done = |desired: &Desired| {
			let order = &desired.restores[0];
			assert_eq!((order.restore, order.sequence, order.cid), (0, 0, cid));
			let result = RestoreResult {
				restore: order.restore,
				lineage: order.lineage.clone(),
				handed_out: 0,
				failure: None,
			};
			Achieved { restores: vec![result].try_into().unwrap(), ..nothing(desired) }
		};
		desk.run(done);
		run_for(1);
		assert_ok!(submit(desk.submitted().remove(0)));
		assert!(matches!(
			RestoreRequests::<Test>::get(0).unwrap().state,
			crate::RestoreState::Fulfilled { .. }
		));
		assert!(desk.run(nothing).restores.is_empty());
	});
}

#[test]
fn an_expired_restore_is_not_ordered() {
	desk_story(|desk| {
		let cid = record(REQUEST, 1);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		run_for(50);
		assert!(desk.run(nothing).restores.is_empty());
	});
}

#[test]
fn a_deletion_is_ordered_after_its_grace_period_and_reported() {
	desk_story(|desk| {
		record(REQUEST, 1);
		Backup::deletion_requested(&ALICE);
		assert!(desk.run(nothing).deletions.is_empty());
		run_for(20);
		let done = |desired: &Desired| {
			let order = &desired.deletions[0];
			assert_eq!(order.until, 1);
			let (lineage, until) = (order.lineage.clone(), order.until);
			let result = DeletionResult { lineage, until, handed_out: 0 };
			Achieved { deletions: vec![result].try_into().unwrap(), ..nothing(desired) }
		};
		desk.run(done);
		run_for(1);
		assert_ok!(submit(desk.submitted().remove(0)));
		assert_eq!(Lineages::<Test>::get(REQUEST), None);
	});
}

#[test]
fn results_of_others_are_not_reported() {
	desk_story(|desk| {
		desk.run(|desired| {
			let mut achieved = taken(0, Ok(1))(desired);
			achieved.snapshots[0].lineage.request = opaque(&OTHER_REQUEST);
			achieved
		});
		assert_eq!(desk.submitted(), []);
		desk.run(|desired| {
			let mut achieved = taken(0, Ok(1))(desired);
			achieved.snapshots[0].lineage.salt = [9; 32];
			achieved
		});
		assert_eq!(desk.submitted(), []);
	});
}

#[test]
fn an_answer_of_another_program_is_not_believed() {
	desk_story(|desk| {
		let desired = desk.peek();
		let answer = encode_body(&taken(0, Ok(1))(&desired));
		desk.run_with(&desired, 200, &answer, false);
		assert_eq!(desk.submitted(), []);
	});
}

#[test]
fn garbage_and_endless_answers_are_survived() {
	desk_story(|desk| {
		let desired = desk.peek();
		for answer in [vec![], vec![0xff; 100], vec![1; BODY_BYTES_MAX + 1]] {
			desk.run_with(&desired, 200, &answer, true);
			assert_eq!(desk.submitted(), []);
		}
	});
}

#[test]
fn without_an_agent_the_worker_rests() {
	desk_story(|desk| {
		sp_io::offchain::local_storage_clear(
			sp_core::offchain::StorageKind::PERSISTENT,
			ENDPOINT_STORAGE_KEY,
		);
		Backup::offchain_worker(System::block_number());
		assert_eq!(desk.submitted(), []);
	});
}

#[test]
fn a_page_of_many_lineages_reaches_each_of_them() {
	desk_story(|desk| {
		for request in 100..700 {
			World::run(request, request);
			World::subscribe(request, crate::Subscription::Active);
			assert_ok!(Backup::create_backup(signed(request), request, None));
		}
		let mut seen = std::collections::BTreeSet::new();
		for _ in 0..5 {
			let desired = desk.peek();
			assert!(decode_body::<Desired>(&encode_body(&desired)).is_ok());
			seen.extend(desired.lineages.into_iter().map(|range| range.lineage.request));
			run_for(1);
		}
		assert_eq!(seen.len(), 601);
	});
}

#[test]
fn the_pool_takes_what_the_worker_submits() {
	desk_story(|desk| {
		desk.run(taken(0, Ok(1)));
		let call = RuntimeCall::from(desk.submitted().remove(0));
		run_for(1);
		for source in [TransactionSource::Local, TransactionSource::External] {
			assert!(call.authorize(source).unwrap().is_ok());
		}
	});
}

#[test]
fn restores_that_are_over_do_not_hide_the_others() {
	desk_story(|desk| {
		let cid = record(REQUEST, 1);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		let over = RestoreRequests::<Test>::get(0).unwrap();
		for id in 1..2_000 {
			let over = crate::RestoreRequest { expires_at: 0, ..over.clone() };
			RestoreRequests::<Test>::insert(id, over);
			crate::RestoresOfNode::<Test>::insert(NODE, id, ());
		}
		let mut seen = false;
		for block in 0..40u64 {
			System::set_block_number(System::block_number() + block % 2);
			seen |= desk.peek().restores.iter().any(|order| order.restore == 0);
		}
		assert!(seen, "the one that waits was ordered in no block");
		for id in 1..2_000 {
			RestoreRequests::<Test>::remove(id);
			crate::RestoresOfNode::<Test>::remove(NODE, id);
		}
	});
}

#[test]
fn accounts_take_turns_with_their_restores() {
	desk_story(|desk| {
		let cid = record(REQUEST, 1);
		assert_ok!(Backup::grant_access(signed(ALICE), REQUEST, BOB, None, None));
		for _ in 0..2 {
			assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		}
		assert_ok!(restore(BOB, REQUEST, 0));
		let order: Vec<_> = desk.peek().restores.iter().map(|order| order.restore).collect();
		assert_eq!(order, [0, 2, 1]);
	});
}

#[test]
fn while_all_is_paused_nothing_is_ordered() {
	desk_story(|desk| {
		let cid = record(REQUEST, 1);
		run_for(FREQUENCY);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		assert_eq!((desk.peek().snapshots.len(), desk.peek().restores.len()), (1, 1));
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		let desired = desk.peek();
		assert_eq!((desired.snapshots.len(), desired.restores.len()), (0, 0));
		assert_eq!(desired.lineages.len(), 1, "the agent learns how far the history is");
	});
}

#[test]
fn the_deletion_of_one_backup_is_reported_too() {
	desk_story(|desk| {
		record(REQUEST, 1);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(20);
		desk.run(|desired| {
			let order = desired.deletions[0].clone();
			let (lineage, until) = (order.lineage, order.until);
			let done = DeletionResult { lineage, until, handed_out: 0 };
			Achieved { deletions: vec![done].try_into().unwrap(), ..nothing(desired) }
		});
		assert!(matches!(desk.submitted()[..], [Call::report_deleted { .. }]));
	});
}

#[test]
fn a_snapshot_from_before_its_time_is_ordered_anew() {
	desk_story(|desk| {
		record(REQUEST, 1);
		run_for(FREQUENCY);
		let due_at = Lineages::<Test>::get(REQUEST).map(|lineage| Backup::due_at(&lineage));
		// What was taken earlier the chain would refuse for as long as it is not too old.
		assert_eq!(desk.peek().snapshots[0].oldest_taken_at, due_at.unwrap() - 2);
	});
}
