//! Every invariant is broken on purpose, and the check names it.

use crate::{
	Backups, Grant, Grants, Holder, HoldersOf, LineageCountOfNode, Lineages, Owed, OwedCount,
	OwnerKeys, Pallet, SnapshotLocks, Snapshots, SnapshotsByCid, StorageNodePlaces, StorageNodes,
	UserDeletion, UserDeletions, mock::*,
};
use frame_support::{BoundedVec, assert_ok, traits::Hooks};
use sp_runtime::TryRuntimeError;

/// Nodes that hold copies of Alice's machine.
const HOLDER: NodeId = 21;
const OTHER_HOLDER: NodeId = 22;

/// What the check says after a sound state was broken.
fn verdict(break_it: impl FnOnce()) -> String {
	new_test_ext().execute_with(|| {
		for node in [HOLDER, OTHER_HOLDER] {
			World::add_node(node);
			assert_ok!(Backup::admit_storage_node(RuntimeOrigin::root(), node));
		}
		begin(REQUEST, ALICE);
		record(REQUEST, 1);
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(root(1))));
		assert_eq!(Backup::do_try_state(), Ok(()));
		break_it();
		match Backup::do_try_state() {
			Err(TryRuntimeError::Other(reason)) => {
				reason.split_once(':').expect("a number").0.to_owned()
			}
			other => format!("{other:?}"),
		}
	})
}

#[test]
fn the_configuration_of_the_mock_is_sound() {
	Pallet::<Test>::integrity_test();
}

#[test]
fn invariant_1_sequences_and_records_agree() {
	assert_eq!(verdict(|| Snapshots::<Test>::remove(REQUEST, 0)), "1");
	assert_eq!(
		verdict(|| {
			let record = Snapshots::<Test>::get(REQUEST, 0).unwrap();
			Snapshots::<Test>::insert(REQUEST, 5, record);
		}),
		"1"
	);
}

#[test]
fn invariant_2_records_and_index_agree() {
	assert_eq!(verdict(|| SnapshotsByCid::<Test>::remove((ALICE, root(1), REQUEST))), "2");
	assert_eq!(verdict(|| SnapshotsByCid::<Test>::insert((BOB, root(1), REQUEST), 0)), "2");
}

#[test]
fn invariant_3_headers_count_right() {
	let miscount = || {
		Backups::<Test>::mutate(NODE, ALICE, |header| header.as_mut().unwrap().snapshots = 2);
	};
	assert_eq!(verdict(miscount), "3");
}

#[test]
fn invariant_4_lists_agree_with_lineages() {
	assert_eq!(verdict(|| LineageCountOfNode::<Test>::insert(NODE, 2)), "4");
	assert_eq!(
		verdict(|| {
			crate::LineagesOfAccount::<Test>::remove(ALICE, REQUEST);
		}),
		"4"
	);
}

#[test]
fn invariant_5_restores_hold_their_snapshots() {
	assert_eq!(verdict(|| SnapshotLocks::<Test>::remove(REQUEST, 0)), "5");
	assert_eq!(verdict(|| crate::RestoresOfNode::<Test>::remove(NODE, 0)), "5");
	assert_eq!(verdict(|| crate::RestoreCountOfAccount::<Test>::insert(BOB, 1)), "5");
}

#[test]
fn invariant_6_deletions_count_right() {
	let deletion = UserDeletion { effective_at: 9, remaining: 2 };
	assert_eq!(verdict(|| UserDeletions::<Test>::insert(ALICE, deletion)), "6");
}

#[test]
fn invariant_7_key_versions_are_dense() {
	assert_eq!(verdict(|| OwnerKeys::<Test>::remove(ALICE, 1)), "7");
	let stray = OwnerKeys::<Test>::insert::<u64, u32, _>;
	assert_eq!(
		verdict(|| stray(BOB, 1, crate::OwnerKey { recipient: key(1), active_from: 0u64 })),
		"7"
	);
}

#[test]
fn a_lineage_that_goes_back_is_noticed() {
	let go_back = || {
		Lineages::<Test>::mutate(REQUEST, |lineage| lineage.as_mut().unwrap().kept = 9);
	};
	assert_eq!(verdict(go_back), "1");
}

#[test]
fn invariant_8_grants_are_of_lineages_and_to_others() {
	let grant = |account| {
		let grant = Grant { account, granted_at: 1, expires_at: None, recipient: None };
		BoundedVec::try_from(vec![grant]).unwrap()
	};
	assert_eq!(verdict(|| Grants::<Test>::insert(OTHER_REQUEST, grant(BOB))), "8");
	assert_eq!(verdict(|| Grants::<Test>::insert(REQUEST, grant(ALICE))), "8");
	assert_eq!(verdict(|| Grants::<Test>::insert(REQUEST, BoundedVec::new())), "8");
	let twice = || {
		Grants::<Test>::insert(REQUEST, grant(BOB));
		Grants::<Test>::mutate(REQUEST, |grants| {
			let again = grants[0].clone();
			grants.try_push(again).unwrap();
		});
	};
	assert_eq!(verdict(twice), "8");
}

#[test]
fn invariant_9_what_is_to_be_deleted_is_there() {
	assert_eq!(verdict(|| crate::SnapshotDeletions::<Test>::insert(REQUEST, 7, 9)), "9");
}

#[test]
fn invariant_10_backups_and_restores_have_deposits() {
	assert_eq!(verdict(|| crate::HistoryTickets::<Test>::remove(ALICE, REQUEST)), "10");
	assert_eq!(verdict(|| crate::RestoreTickets::<Test>::remove(0)), "10");
}

#[test]
fn invariant_11_the_list_of_storage_nodes_has_no_gap() {
	assert_eq!(verdict(|| StorageNodes::<Test>::remove(0)), "11");
	assert_eq!(verdict(|| StorageNodePlaces::<Test>::insert(HOLDER, 1)), "11");
	assert_eq!(verdict(|| StorageNodes::<Test>::insert(7, HOLDER)), "11");
}

#[test]
fn invariant_12_holders_owe_their_copies() {
	assert_eq!(verdict(|| Owed::<Test>::remove(HOLDER, REQUEST)), "12");
	assert_eq!(verdict(|| Owed::<Test>::insert(HOLDER, OTHER_REQUEST, ())), "12");
	assert_eq!(verdict(|| OwedCount::<Test>::insert(HOLDER, 2)), "12");
	let edit = |edit: fn(&mut Holder<NodeId, u64>)| {
		move || HoldersOf::<Test>::mutate(REQUEST, |holders| edit(&mut holders[0]))
	};
	assert_eq!(verdict(edit(|holder| holder.to = 9)), "12");
	assert_eq!(verdict(edit(|holder| holder.from = 1)), "12");
	assert_eq!(verdict(edit(|holder| holder.node = NODE)), "12");
	assert_eq!(verdict(|| HoldersOf::<Test>::insert(REQUEST, BoundedVec::new())), "12");
}

#[cfg(feature = "try-runtime")]
#[test]
fn the_hook_of_try_runtime_checks_the_state() {
	story_of_alice(|| {
		assert_ok!(<Backup as Hooks<u64>>::try_state(1));
		crate::HistoryTickets::<Test>::remove(ALICE, REQUEST);
		assert!(<Backup as Hooks<u64>>::try_state(1).is_err());
		// Setting it anew takes the deposit again.
		assert_ok!(Backup::set_backup_settings(signed(ALICE), REQUEST, Default::default()));
	});
}
