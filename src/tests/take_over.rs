//! Other nodes take over from holders that left or fell silent, with nobody asking for it.

use super::replicas::{HOLDERS, hold_up_to, holders, replicas, story_with, with_holders};
use crate::{Error, Event, HoldersOf, Lineages, Pallet, TakeOverCursor, WeightInfo, mock::*};
use frame_support::{assert_noop, assert_ok, traits::Hooks, weights::Weight};
use proptest::prelude::*;

/// What holders may be silent for, in the mock.
const SILENCE: u64 = 60;

/// Most requests that one block looks at.
const LOOKS: u64 = 16;

/// Other owners, with a machine each.
const CROWD: std::ops::Range<u64> = 100..140;

fn idle() {
	Backup::on_idle(System::block_number(), Weight::MAX);
}

/// Go on by so many blocks, each with idle time.
fn idle_for(blocks: u64) {
	for _ in 0..blocks {
		run_for(1);
		idle();
	}
}

/// As much room as so many requests take that get other holders.
fn room_for(requests: u64) -> Weight {
	let others = <Test as crate::Config>::WeightInfo::close_restore()
		.saturating_add(<Test as crate::Config>::WeightInfo::close_deletion(1));
	// They come first, and take four steps each.
	Pallet::<Test>::weight_of_take_over()
		.saturating_mul(requests)
		.saturating_add(others.saturating_mul(4))
}

fn begin_crowd() {
	CROWD.for_each(|number| begin(number, number));
}

#[test]
fn a_silent_holder_is_replaced_with_nobody_asking() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		run_for(40);
		hold_up_to(21, 0);
		idle_for(20);
		assert_eq!(holders(REQUEST), [21, 22], "22 is late, and not silent yet");
		idle_for(1);
		assert_eq!(holders(REQUEST), [21, 23]);
		let dropped = Event::HolderDropped { node_id: 22, request_id: REQUEST };
		let chosen = Event::HolderChosen { node_id: 23, request_id: REQUEST };
		assert_eq!(events(), [dropped, chosen]);
	});
}

#[test]
fn once_replaced_nothing_moves_any_more() {
	story_with(&HOLDERS, || {
		with_holders(&[24]);
		run_for(SILENCE + 1);
		idle();
		let taken_over = HoldersOf::<Test>::get(REQUEST);
		// Late, but never as late as they may be.
		for _ in 0..5 {
			idle_for(SILENCE);
			assert_eq!(HoldersOf::<Test>::get(REQUEST).len(), taken_over.len());
			for holder in &taken_over {
				hold_up_to(holder.node, 0);
			}
			let nodes: Vec<_> = taken_over.iter().map(|holder| holder.node).collect();
			let now: Vec<_> =
				HoldersOf::<Test>::get(REQUEST).iter().map(|holder| holder.node).collect();
			assert_eq!(now, nodes);
		}
	});
}

#[test]
fn a_holder_that_left_or_was_dismissed_is_replaced_in_the_next_block() {
	story_with(&HOLDERS[..2], || {
		with_holders(&[23]);
		assert_ok!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21));
		idle_for(1);
		assert_eq!(holders(REQUEST), [22, 23]);
		with_holders(&[24]);
		World::remove_node(22);
		idle_for(1);
		assert_eq!(holders(REQUEST), [23, 24]);
	});
}

#[test]
fn a_backup_gets_the_holders_that_it_lacks_as_nodes_are_admitted() {
	story_of_alice(|| {
		idle_for(1);
		assert!(holders(REQUEST).is_empty());
		with_holders(&HOLDERS);
		idle_for(1);
		assert_eq!(holders(REQUEST).len(), 2);
		replicas(3);
		idle_for(1);
		assert_eq!(holders(REQUEST), HOLDERS);
	});
}

#[test]
fn a_silent_holder_with_the_only_copy_stays_until_another_has_as_much() {
	story_with(&[21, 22], || {
		record(REQUEST, 0);
		hold_up_to(21, 1);
		run_for(SILENCE + 1);
		with_holders(&[23, 24]);
		idle_for(1);
		assert_eq!(holders(REQUEST), [21, 23, 24], "22 had nothing and went");
		idle_for(5);
		assert_eq!(holders(REQUEST), [21, 23, 24], "21 has the only copy");
		hold_up_to(24, 1);
		idle_for(1);
		assert_eq!(holders(REQUEST), [23, 24]);
	});
}

#[test]
fn where_no_other_node_is_there_nothing_changes() {
	story_with(&[21, 22], || {
		run_for(SILENCE + 1);
		let before = sp_io::storage::root(sp_core::storage::StateVersion::V1);
		idle();
		assert_eq!(sp_io::storage::root(sp_core::storage::StateVersion::V1), before);
		assert_eq!(holders(REQUEST), [21, 22]);
	});
}

#[test]
fn nobody_takes_over_while_all_is_paused_or_right_after() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		assert_ok!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21));
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		idle_for(2 * SILENCE);
		assert_eq!(holders(REQUEST), [21, 22]);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), false));
		idle_for(1);
		assert_eq!(holders(REQUEST), [22, 23], "21 was dismissed; 22 could not be heard");
	});
}

#[test]
fn nobody_takes_over_what_is_to_be_deleted() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_ok!(Backup::dismiss_storage_node(RuntimeOrigin::root(), 21));
		idle_for(5);
		assert_eq!(holders(REQUEST), [21, 22]);
	});
}

#[test]
fn when_all_fall_silent_at_once_only_so_many_are_replaced_in_a_window() {
	story(|| {
		with_holders(&HOLDERS);
		begin_crowd();
		skip(104);
		with_holders(&[31, 32, 33, 34]);
		let replaced_after = |block| {
			let now = CROWD.flat_map(HoldersOf::<Test>::get);
			now.filter(|holder| holder.since > block).count()
		};
		idle_for(10);
		assert_eq!(replaced_after(1), 4, "MaxReplacements");
		let many = Error::<Test>::TooManyReplacements;
		assert_noop!(Backup::replace_holders(signed(BOB), untouched()), many);
		skip(200 - System::block_number());
		idle_for(10);
		assert_eq!(replaced_after(200), 4);
	});
}

/// A request none of whose holders was replaced.
fn untouched() -> RequestId {
	let mut crowd = CROWD;
	let is_old = |number: &u64| HoldersOf::<Test>::get(number).iter().all(|h| h.since == 1);
	crowd.find(is_old).expect("not all are replaced")
}

#[test]
fn of_many_requests_each_gets_its_turn_however_small_the_room() {
	for at_once in [1, 3, LOOKS] {
		story(|| {
			begin_crowd();
			with_holders(&HOLDERS);
			let count = CROWD.end - CROWD.start;
			let room = room_for(at_once);
			for _ in 0..count.div_ceil(at_once) {
				run_for(1);
				Backup::on_idle(System::block_number(), room);
			}
			let mut crowd = CROWD;
			assert!(crowd.all(|request| holders(request).len() == 2), "{at_once} at once");
		});
	}
}

#[test]
fn boundary_one_block_looks_at_sixteen_requests_and_goes_on_behind_them() {
	story(|| {
		begin_crowd();
		with_holders(&HOLDERS);
		let held = || CROWD.filter(|request| !holders(*request).is_empty()).count();
		for expected in [16, 32, 40] {
			assert_eq!(TakeOverCursor::<Test>::exists(), expected > 16);
			idle();
			assert_eq!(held(), expected);
		}
		assert!(!TakeOverCursor::<Test>::exists(), "the list is over, and begins anew");
	});
}

#[test]
fn the_search_goes_on_when_the_request_where_it_stopped_is_gone() {
	story(|| {
		begin_crowd();
		idle();
		let last = TakeOverCursor::<Test>::get().expect("there are more");
		let owner = Lineages::<Test>::get(last).unwrap().owner;
		assert_ok!(Backup::delete_backup(signed(owner), last));
		run_for(20);
		assert_ok!(submit(deleted_report(last)));
		with_holders(&HOLDERS);
		(0..2).for_each(|_| idle());
		let lacking = |request: &u64| holders(*request).is_empty();
		assert_eq!(CROWD.filter(lacking).count(), 16, "those before, and it");
		idle();
		assert_eq!(CROWD.filter(lacking).collect::<Vec<_>>(), [last]);
	});
}

#[test]
fn a_full_block_replaces_nothing() {
	story_with(&[21, 22], || {
		with_holders(&[23]);
		run_for(SILENCE + 1);
		assert_eq!(Backup::on_idle(System::block_number(), Weight::zero()), Weight::zero());
		assert_eq!(Pallet::<Test>::take_over(Weight::zero()), Weight::zero());
		assert_eq!(holders(REQUEST), [21, 22]);
	});
}

#[test]
fn looking_at_requests_that_need_nothing_costs_less_than_replacing() {
	story_with(&[21, 22], || {
		let looking = Pallet::<Test>::take_over(Weight::MAX);
		run_for(SILENCE + 1);
		with_holders(&[23]);
		let replacing = Pallet::<Test>::take_over(Weight::MAX);
		assert!(looking.proof_size() < replacing.proof_size(), "{looking} and {replacing}");
		assert_eq!(replacing, Pallet::<Test>::weight_of_take_over());
	});
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(24))]

	/// Whatever the room is, no more than that is taken.
	#[test]
	fn idle_time_is_never_overdrawn(
		ref_time in 0..200_000_000_000u64,
		proof_size in 0..20_000_000u64,
		silent in any::<bool>(),
	) {
		story(|| {
			with_holders(&HOLDERS);
			begin_crowd();
			if silent {
				skip(SILENCE + 1);
			}
			let room = Weight::from_parts(ref_time, proof_size);
			let spent = Backup::on_idle(System::block_number(), room);
			assert!(spent.all_lte(room), "{spent} of {room}");
		});
	}

	/// A holder that is late, but never silent for longer than it may be, keeps its place whatever
	/// becomes of the other; the other loses it as soon as it is silent, and not before.
	#[test]
	fn who_is_heard_in_time_stays_and_who_is_silent_goes(
		gaps in prop::collection::vec(20..=SILENCE, 1..8),
		leaves in any::<bool>(),
	) {
		story_with(&[21, 22], || {
			with_holders(&[23]);
			let mut silent_for = 0;
			if leaves {
				World::remove_node(22);
			}
			for gap in gaps {
				for _ in 0..gap {
					idle_for(1);
					silent_for += 1;
					let gone = leaves || silent_for > SILENCE;
					let expected = if gone { [21, 23] } else { [21, 22] };
					assert_eq!(holders(REQUEST), expected, "after {silent_for} blocks");
					// The one that took over is there, and says so.
					if gone && may_speak(23) {
						hold_up_to(23, 0);
					}
				}
				hold_up_to(21, 0);
			}
		});
	}
}

fn may_speak(node: NodeId) -> bool {
	let holders = HoldersOf::<Test>::get(REQUEST);
	holders.iter().any(|holder| holder.node == node && Pallet::<Test>::may_speak(holder))
}
