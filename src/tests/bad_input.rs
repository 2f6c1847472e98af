//! Every call with what is wrong for it: the named error, and a state that has not changed.
//!
//! Reports have tests of their own in `reports`; here is everything that somebody signs.

use crate::{ChainSettings, DeletionTarget, Error, LineageSettings, Subscription, mock::*};
use backup_primitives::Cid;
use frame_support::{assert_noop, assert_ok};
use sp_runtime::{DispatchError, DispatchResult};
use std::collections::BTreeMap;

/// A request that nobody made.
const NO_REQUEST: RequestId = 99;

/// A world in which Alice has a backup of one snapshot, Bob a machine without, and Charlie
/// nothing.
fn world(tell: impl FnOnce()) {
	story_of_alice(|| {
		record(REQUEST, 1);
		World::run(OTHER_REQUEST, BOB);
		tell();
	});
}

/// A call as anybody might make it.
type AnyCall = Box<dyn Fn(RuntimeOrigin) -> DispatchResult>;

fn call(call: impl Fn(RuntimeOrigin) -> DispatchResult + 'static) -> AnyCall {
	Box::new(call)
}

/// Every call that takes a signature, with arguments that are right for Alice.
fn signed_calls() -> Vec<(&'static str, AnyCall)> {
	let settings = LineageSettings { paused: true, keep_last: None };
	vec![
		("create_backup", call(|who| Backup::create_backup(who, REQUEST, None))),
		(
			"set_backup_settings",
			call(move |who| Backup::set_backup_settings(who, REQUEST, settings.clone())),
		),
		("register_owner_key", call(|who| Backup::register_owner_key(who, key(9)))),
		("restore_from_snapshot", call(|who| Backup::restore_from_snapshot(who, bytes(root(1))))),
		(
			"restore_snapshot",
			call(|who| Backup::restore_snapshot(who, REQUEST, 0, Default::default())),
		),
		("close_restore", call(|who| Backup::close_restore(who, 0))),
		("grant_access", call(|who| Backup::grant_access(who, REQUEST, BOB, None, None))),
		("revoke_access", call(|who| Backup::revoke_access(who, REQUEST, BOB))),
		("request_snapshot", call(|who| Backup::request_snapshot(who, REQUEST))),
		("prune", call(|who| Backup::prune(who, REQUEST, 1))),
		("hold_snapshot", call(|who| Backup::hold_snapshot(who, REQUEST, 0))),
		("release_snapshot", call(|who| Backup::release_snapshot(who, REQUEST, 0))),
		("delete_backup", call(|who| Backup::delete_backup(who, REQUEST))),
		("delete_snapshot", call(|who| Backup::delete_snapshot(who, REQUEST, 0))),
		(
			"cancel_deletion",
			call(|who| Backup::cancel_deletion(who, DeletionTarget::Request(REQUEST))),
		),
		("close_deletion", call(|who| Backup::close_deletion(who, REQUEST, None))),
		("approve_backup", call(|who| Backup::approve_backup(who, REQUEST))),
		("reject_backup", call(|who| Backup::reject_backup(who, REQUEST))),
		("reclaim_deposit", call(|who| Backup::reclaim_deposit(who, REQUEST))),
		("dismiss_storage_node", call(|who| Backup::dismiss_storage_node(who, NODE))),
		("replace_holders", call(|who| Backup::replace_holders(who, REQUEST))),
		(
			"set_backup_offchain_worker_frequency",
			call(|who| Backup::set_backup_offchain_worker_frequency(who, 50)),
		),
	]
}

#[test]
fn nobody_calls_anything() {
	world(|| {
		for (name, call) in signed_calls() {
			let refused = call(RuntimeOrigin::none());
			assert_eq!(refused, Err(DispatchError::BadOrigin), "{name}");
		}
		for origin in [RuntimeOrigin::none(), signed(ALICE)] {
			let bad = DispatchError::BadOrigin;
			assert_noop!(Backup::set_settings(origin.clone(), Backup::settings()), bad);
			assert_noop!(Backup::set_paused(origin.clone(), true), bad);
			assert_noop!(Backup::admit_storage_node(origin, OTHER_NODE), bad);
		}
	});
}

#[test]
fn governance_is_no_owner() {
	world(|| {
		for (name, call) in signed_calls() {
			// These are governance's too.
			let is_shared = matches!(
				name,
				"set_backup_offchain_worker_frequency"
					| "hold_snapshot"
					| "dismiss_storage_node"
					| "release_snapshot"
					| "cancel_deletion"
			);
			if !is_shared {
				assert_eq!(call(RuntimeOrigin::root()), Err(DispatchError::BadOrigin), "{name}");
			}
		}
	});
}

#[test]
fn a_stranger_changes_nothing_of_anothers() {
	world(|| {
		let refusals: Vec<(&str, Error<Test>)> = vec![
			("create_backup", Error::NotAuthorized),
			("set_backup_settings", Error::NotBackupOwner),
			("register_owner_key", Error::BackupsNotEnabled),
			("restore_from_snapshot", Error::SnapshotNotFound),
			("restore_snapshot", Error::NotAuthorized),
			("close_restore", Error::RestoreRequestNotFound),
			("grant_access", Error::NotBackupOwner),
			("revoke_access", Error::NotBackupOwner),
			("request_snapshot", Error::NotBackupOwner),
			("prune", Error::NothingToPrune),
			("hold_snapshot", Error::NotBackupOwner),
			("release_snapshot", Error::NotBackupOwner),
			("delete_backup", Error::NotBackupOwner),
			("delete_snapshot", Error::NotBackupOwner),
			("cancel_deletion", Error::NotBackupOwner),
			("close_deletion", Error::DeletionNotFound),
			("approve_backup", Error::ProposalNotFound),
			("reject_backup", Error::ProposalNotFound),
			("reclaim_deposit", Error::DepositNotFound),
			("dismiss_storage_node", Error::NotAuthorized),
			("replace_holders", Error::NothingToReplace),
			("set_backup_offchain_worker_frequency", Error::BackupNotFound),
		];
		let mut refusals: BTreeMap<_, _> = refusals.into_iter().collect();
		for (name, call) in signed_calls() {
			let error = refusals.remove(name).expect(name);
			let before = sp_io::storage::root(sp_core::storage::StateVersion::V1);
			assert_eq!(call(signed(CHARLIE)), Err(DispatchError::from(error)), "{name}");
			let after = sp_io::storage::root(sp_core::storage::StateVersion::V1);
			assert_eq!(before, after, "{name} changed the state");
		}
	});
}

#[test]
fn what_is_not_there_is_named() {
	world(|| {
		let none: DispatchError = Error::<Test>::BackupNotFound.into();
		for request in [OTHER_REQUEST, NO_REQUEST] {
			let settings = LineageSettings::default();
			assert_noop!(Backup::set_backup_settings(signed(BOB), request, settings), none);
			assert_noop!(restore(BOB, request, 0), none);
			assert_noop!(Backup::grant_access(signed(BOB), request, ALICE, None, None), none);
			assert_noop!(Backup::revoke_access(signed(BOB), request, ALICE), none);
			assert_noop!(Backup::request_snapshot(signed(BOB), request), none);
			assert_noop!(Backup::prune(signed(BOB), request, 1), none);
			assert_noop!(Backup::hold_snapshot(signed(BOB), request, 0), none);
			assert_noop!(Backup::release_snapshot(RuntimeOrigin::root(), request, 0), none);
			assert_noop!(Backup::delete_backup(signed(BOB), request), none);
			assert_noop!(Backup::delete_snapshot(signed(BOB), request, 0), none);
			assert_noop!(Backup::close_deletion(signed(BOB), request, None), none);
			let target = DeletionTarget::Snapshot(request, 0);
			assert_noop!(Backup::cancel_deletion(signed(BOB), target), none);
		}
		let missing: DispatchError = Error::<Test>::SnapshotNotFound.into();
		for sequence in [1, u64::MAX] {
			assert_noop!(restore(ALICE, REQUEST, sequence), missing);
			assert_noop!(Backup::hold_snapshot(signed(ALICE), REQUEST, sequence), missing);
			assert_noop!(Backup::delete_snapshot(signed(ALICE), REQUEST, sequence), missing);
		}
		assert_noop!(
			Backup::create_backup(signed(ALICE), NO_REQUEST, None),
			Error::<Test>::RequestNotRunning
		);
		assert_noop!(
			Backup::close_restore(signed(ALICE), u64::MAX),
			Error::<Test>::RestoreRequestNotFound
		);
	});
}

#[test]
fn roots_that_are_none_are_told_from_roots_that_are_unknown() {
	world(|| {
		let restore = |bytes: Vec<u8>| {
			Backup::restore_from_snapshot(signed(ALICE), bytes.try_into().unwrap())
		};
		let good = root(1).as_bytes().to_vec();
		let text = root(1).to_string();
		let changed = |at: usize, byte: u8| {
			let mut bytes = good.clone();
			bytes[at] = byte;
			bytes
		};
		let malformed = [
			("nothing", Vec::new()),
			("a cut root", good[..35].to_vec()),
			("a longer root", [&good[..], &[0]].concat()),
			("version 0", [&[0x12, 0x20][..], &good[4..]].concat()),
			("version 2", changed(0, 2)),
			("another codec", changed(1, 0x70)),
			("the identity hash", changed(2, 0)),
			("another length of hash", changed(3, 0x1f)),
			("upper case", text.to_uppercase().into_bytes()),
			("another base", format!("z{}", &text[1..]).into_bytes()),
			("cut text", text.as_bytes()[..58].to_vec()),
			("no letters", vec![b'!'; 59]),
		];
		for (what, bytes) in malformed {
			let before = sp_io::storage::root(sp_core::storage::StateVersion::V1);
			assert_eq!(restore(bytes), Err(Error::<Test>::MalformedCid.into()), "{what}");
			assert_eq!(sp_io::storage::root(sp_core::storage::StateVersion::V1), before);
		}
		for unknown in [root(2), Cid::raw([1; 32])] {
			let refused = restore(unknown.as_bytes().to_vec());
			assert_eq!(refused, Err(Error::<Test>::SnapshotNotFound.into()), "{unknown}");
		}
		assert_ok!(restore(text.into_bytes()));
	});
}

#[test]
fn boundary_numbers_out_of_bounds_are_refused() {
	world(|| {
		let frequency =
			|blocks| Backup::set_backup_offchain_worker_frequency(signed(ALICE), blocks);
		for blocks in [0, 9, 1_001, u64::MAX] {
			assert_noop!(frequency(blocks), Error::<Test>::FrequencyOutOfBounds);
		}
		for keep_last in [0, 41, u32::MAX] {
			let settings = LineageSettings { paused: false, keep_last: Some(keep_last) };
			assert_noop!(
				Backup::set_backup_settings(signed(ALICE), REQUEST, settings),
				Error::<Test>::SettingsOutOfBounds
			);
		}
		let right = Backup::settings();
		let cadence: DispatchError = Error::<Test>::FrequencyOutOfBounds.into();
		let bounds: DispatchError = Error::<Test>::FrequencyBoundsInvalid.into();
		let other: DispatchError = Error::<Test>::SettingsOutOfBounds.into();
		let wrong = [
			(ChainSettings { frequency: 0, ..right.clone() }, cadence),
			(ChainSettings { frequency: u64::MAX, ..right.clone() }, cadence),
			(ChainSettings { min_frequency: 0, ..right.clone() }, bounds),
			(ChainSettings { min_frequency: u64::MAX, ..right.clone() }, bounds),
			(ChainSettings { max_frequency: 0, ..right.clone() }, bounds),
			(ChainSettings { max_frequency: u64::MAX, ..right.clone() }, bounds),
			(ChainSettings { keep_last: 0, ..right.clone() }, other),
			(ChainSettings { keep_last: 41, ..right.clone() }, other),
			(ChainSettings { restore_lifetime: 0, ..right.clone() }, other),
			(ChainSettings { proposal_lifetime: 0, ..right.clone() }, other),
		];
		for (settings, error) in wrong {
			assert_noop!(Backup::set_settings(RuntimeOrigin::root(), settings), error);
		}
		assert_noop!(
			Backup::grant_access(signed(ALICE), REQUEST, BOB, Some(System::block_number()), None),
			Error::<Test>::ExpiryInThePast
		);
		assert_noop!(Backup::prune(signed(ALICE), REQUEST, 0), Error::<Test>::NothingToPrune);
	});
}

#[test]
fn the_greatest_times_do_not_overflow() {
	world(|| {
		let settings = ChainSettings {
			min_age: u64::MAX,
			deletion_grace: u64::MAX,
			deletion_deadline: u64::MAX,
			restore_lifetime: u64::MAX,
			proposal_lifetime: u64::MAX,
			key_activation_delay: u64::MAX,
			..Backup::settings()
		};
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		assert_ok!(restore(ALICE, REQUEST, 0));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(8)));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 1_000));
		assert_noop!(
			Backup::close_deletion(signed(BOB), REQUEST, None),
			Error::<Test>::DeletionNotOver
		);
		assert_ok!(Backup::cancel_deletion(signed(ALICE), DeletionTarget::Request(REQUEST)));
		World::subscribe(ALICE, Subscription::Active);
		record(REQUEST, 2);
	});
}
