//! Cadence, chain settings and owner keys.

use crate::{
	BackupOffchainWorkerFrequency, ChainSettings, Error, Event, OwnerKeyVersion, Pallet,
	Subscription, mock::*,
};
use backup_primitives::RootStatus;
use frame_support::{assert_noop, assert_ok, traits::BuildGenesisConfig};
use proptest::prelude::*;
use sp_runtime::{DispatchError, transaction_validity::InvalidTransaction};

#[test]
fn governance_sets_the_cadence_of_the_chain() {
	story_of_alice(|| {
		assert_ok!(Backup::set_backup_offchain_worker_frequency(RuntimeOrigin::root(), 200));
		assert_eq!(Backup::frequency_of(&ALICE), 200);
		assert_eq!(
			last_event(),
			Event::BackupOffchainWorkerFrequencyUpdated { account: None, frequency: 200 }
		);
	});
}

#[test]
fn an_account_sets_its_own_cadence() {
	story_of_alice(|| {
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 50));
		assert_eq!(BackupOffchainWorkerFrequency::<Test>::get(ALICE), Some(50));
		assert_eq!(Backup::frequency_of(&ALICE), 50);
		assert_eq!(Backup::frequency_of(&BOB), FREQUENCY);
		assert_eq!(
			last_event(),
			Event::BackupOffchainWorkerFrequencyUpdated { account: Some(ALICE), frequency: 50 }
		);
	});
}

/// Which cadences an account and governance may set.
fn assert_allowed(cadences: &[(u64, bool)]) {
	for &(frequency, is_fine) in cadences {
		for origin in [signed(ALICE), RuntimeOrigin::root()] {
			let result = Backup::set_backup_offchain_worker_frequency(origin, frequency);
			match is_fine {
				true => assert_eq!(result, Ok(())),
				false => assert_eq!(result, Err(Error::<Test>::FrequencyOutOfBounds.into())),
			}
		}
	}
}

#[test]
fn boundary_the_cadence_is_between_ten_and_a_thousand_blocks() {
	story_of_alice(|| {
		assert_allowed(&[
			(0, false),
			(9, false),
			(10, true),
			(1_000, true),
			(1_001, false),
			(u64::MAX, false),
		]);
	});
}

#[test]
fn fails_to_set_a_cadence_without_a_backup() {
	story_of_alice(|| {
		assert_noop!(
			Backup::set_backup_offchain_worker_frequency(signed(BOB), 50),
			Error::<Test>::BackupNotFound
		);
	});
}

#[test]
fn fails_to_set_a_cadence_as_nobody() {
	story(|| {
		assert!(!is_governance(RuntimeOrigin::none()));
		assert_noop!(
			Backup::set_backup_offchain_worker_frequency(RuntimeOrigin::none(), 50),
			DispatchError::BadOrigin
		);
	});
}

#[test]
fn a_chain_begins_with_the_settings_of_its_genesis() {
	new_test_ext().execute_with(|| {
		let settings = Backup::settings();
		let built = |settings: Option<ChainSettings<u64>>| {
			crate::GenesisConfig::<Test> { settings, ..Default::default() }.build();
			Backup::settings()
		};
		assert_eq!(built(None), settings);
		let wanted = ChainSettings { keep_last: 9, restore_lifetime: 77, ..settings };
		assert_eq!(built(Some(wanted.clone())), wanted);
	});
}

#[test]
#[should_panic(expected = "backup settings of the genesis are out of bounds")]
fn a_chain_does_not_begin_with_settings_out_of_bounds() {
	new_test_ext().execute_with(|| {
		let settings = ChainSettings { frequency: 1, ..Backup::settings() };
		let settings = Some(settings);
		crate::GenesisConfig::<Test> { settings, ..Default::default() }.build();
	});
}

#[test]
fn governance_changes_the_settings_within_bounds() {
	story(|| {
		let settings = ChainSettings { keep_last: 7, ..Settings::get() };
		assert_noop!(
			Backup::set_settings(signed(ALICE), settings.clone()),
			DispatchError::BadOrigin
		);
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings.clone()));
		assert_eq!(Pallet::<Test>::settings(), settings);
		for wrong in [
			ChainSettings { keep_last: 0, ..settings.clone() },
			ChainSettings { keep_last: 41, ..settings.clone() },
			ChainSettings { restore_lifetime: 0, ..settings },
		] {
			assert_noop!(
				Backup::set_settings(RuntimeOrigin::root(), wrong),
				Error::<Test>::SettingsOutOfBounds
			);
		}
	});
}

/// Settings with these bounds of the cadence, and a default.
fn bounds(min_frequency: u64, frequency: u64, max_frequency: u64) -> ChainSettings<u64> {
	ChainSettings { min_frequency, frequency, max_frequency, ..Backup::settings() }
}

fn bound(min: u64, max: u64) {
	assert_ok!(Backup::set_settings(RuntimeOrigin::root(), bounds(min, FREQUENCY, max)));
}

#[test]
fn boundary_governance_bounds_the_cadence_within_the_constants_of_the_runtime() {
	story(|| {
		let invalid = Err(Error::<Test>::FrequencyBoundsInvalid.into());
		let outside = Err(Error::<Test>::FrequencyOutOfBounds.into());
		for (min, default, max, expected) in [
			(10, 10, 1_000, Ok(())),
			(10, 1_000, 1_000, Ok(())),
			(100, 100, 100, Ok(())),
			(9, 100, 1_000, invalid),
			(0, 100, 1_000, invalid),
			(10, 100, 1_001, invalid),
			(10, 100, u64::MAX, invalid),
			(101, 100, 100, invalid),
			(101, 100, 1_000, outside),
			(10, 100, 99, outside),
		] {
			let settings = bounds(min, default, max);
			let result = Backup::set_settings(RuntimeOrigin::root(), settings);
			assert_eq!(result, expected, "{min} to {max}, {default} as the default");
		}
	});
}

#[test]
fn boundary_a_cadence_is_within_what_governance_allows() {
	story_of_alice(|| {
		bound(50, 200);
		assert_allowed(&[(49, false), (50, true), (200, true), (201, false)]);
	});
}

#[test]
fn a_cadence_outside_of_new_bounds_counts_as_the_nearest_within_and_is_not_forgotten() {
	story_of_alice(|| {
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 20));
		record(REQUEST, 1);
		let taken_at = System::block_number();
		let due_at = || Backup::due_at(&crate::Lineages::<Test>::get(REQUEST).unwrap());
		assert_eq!((Backup::frequency_of(&ALICE), due_at()), (20, taken_at + 20));
		bound(50, 200);
		assert_eq!((Backup::frequency_of(&ALICE), due_at()), (50, taken_at + 50));
		assert_eq!(Backup::frequency_of(&BOB), FREQUENCY, "it set none");
		assert_eq!(Backup::lineage(REQUEST).unwrap().frequency, 50);
		run_for(49);
		let not_due = crate::Eligibility::NotDue { due_at: taken_at + 50 };
		assert_eq!(Backup::eligibility(REQUEST), not_due);
		let early = snapshot(REQUEST, 2).with(|report| report.claim.taken_at = taken_at + 20);
		assert_refused(early.call(), InvalidTransaction::Future);
		bound(10, 1_000);
		assert_eq!((Backup::frequency_of(&ALICE), due_at()), (20, taken_at + 20));
		assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), 500));
		bound(10, 200);
		assert_eq!(Backup::frequency_of(&ALICE), 200);
	});
}

#[test]
fn no_snapshot_out_of_turn_is_younger_than_the_shortest_cadence_that_governance_allows() {
	story_of_alice(|| {
		bound(50, 200);
		record(REQUEST, 1);
		run_for(49);
		let soon = Error::<Test>::TooSoon;
		assert_noop!(Backup::request_snapshot(signed(ALICE), REQUEST), soon);
		run_for(1);
		assert_ok!(Backup::request_snapshot(signed(ALICE), REQUEST));
		assert_ok!(snapshot(REQUEST, 2).submit());
	});
}

#[test]
#[should_panic(expected = "FrequencyBoundsInvalid")]
fn a_chain_does_not_begin_with_bounds_beyond_those_of_the_runtime() {
	new_test_ext().execute_with(|| {
		let settings = Some(bounds(1, FREQUENCY, 1_000));
		crate::GenesisConfig::<Test> { settings, ..Default::default() }.build();
	});
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(64))]

	/// Whatever an account and governance set one after the other, what applies is allowed; what the
	/// account set is what applies where that is allowed.
	#[test]
	fn the_cadence_that_applies_is_always_within_bounds(
		own in 10..=1_000u64,
		min in 0..1_100u64,
		default in 0..1_100u64,
		max in 0..1_100u64,
	) {
		story_of_alice(|| {
			assert_ok!(Backup::set_backup_offchain_worker_frequency(signed(ALICE), own));
			let before = Backup::settings();
			let is_fine = Backup::set_settings(RuntimeOrigin::root(), bounds(min, default, max));
			let valid = 10 <= min && min <= default && default <= max && max <= 1_000;
			assert_eq!(is_fine.is_ok(), valid);
			let allowed = if valid { min..=max } else { 10..=1_000 };
			let now = Backup::frequency_of(&ALICE);
			assert!(allowed.contains(&now));
			assert!(now == own || !allowed.contains(&own));
			assert!(allowed.contains(&Backup::frequency_of(&BOB)));
			assert!(valid || Backup::settings() == before);
		});
	}
}

#[test]
fn the_first_key_counts_at_once() {
	story(|| {
		World::subscribe(ALICE, Subscription::Active);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(1)));
		assert_eq!(Pallet::<Test>::owner_key_version_of(&ALICE), Some(1));
		assert_eq!(
			last_event(),
			Event::OwnerKeyRegistered { owner: ALICE, version: 1, active_from: 1 }
		);
	});
}

#[test]
fn a_new_key_stands_beside_the_old_one_until_its_delay_is_over() {
	story(|| {
		World::subscribe(ALICE, Subscription::Active);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(1)));
		run_to(10);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(2)));
		let state = || {
			let version = Pallet::<Test>::owner_key_version_of(&ALICE).unwrap();
			(version, Pallet::<Test>::owner_recipients(&ALICE, version))
		};
		run_to(39);
		assert_eq!(state(), (1, vec![key(1), key(2)]));
		run_to(40);
		assert_eq!(state(), (2, vec![key(2)]));
	});
}

#[test]
fn fails_to_register_a_key_while_one_waits_or_past_the_bound() {
	story(|| {
		World::subscribe(ALICE, Subscription::Active);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(1)));
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(2)));
		assert_noop!(
			Backup::register_owner_key(signed(ALICE), key(3)),
			Error::<Test>::OwnerKeyPending
		);
		run_for(30);
		assert_ok!(Backup::register_owner_key(signed(ALICE), key(3)));
		run_for(30);
		assert_noop!(
			Backup::register_owner_key(signed(ALICE), key(4)),
			Error::<Test>::TooManyOwnerKeys
		);
		assert_eq!(OwnerKeyVersion::<Test>::get(ALICE), 3);
	});
}

#[test]
fn governance_pauses_everything_and_resumes_it() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		run_for(FREQUENCY);
		assert_noop!(Backup::set_paused(signed(ALICE), true), DispatchError::BadOrigin);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		assert_eq!(last_event(), Event::AllPaused);
		assert_eq!(Backup::eligibility(REQUEST), crate::Eligibility::ChainPaused);
		assert_refused(snapshot(REQUEST, 2).call(), InvalidTransaction::Future);
		// Owners may ask all the same; it waits.
		assert_ok!(Backup::restore_from_snapshot(signed(ALICE), bytes(cid)));
		assert_refused(restore_report(0, None), InvalidTransaction::Future);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), false));
		assert_eq!(last_event(), Event::AllResumed);
		assert_ok!(submit(restore_report(0, None)));
		assert_ok!(snapshot(REQUEST, 2).submit());
	});
}

#[test]
fn what_is_paused_is_not_deleted() {
	story_of_alice(|| {
		let cid = record(REQUEST, 1);
		let salt = crate::Lineages::<Test>::get(REQUEST).unwrap().salt;
		let status = || Backup::root_status(REQUEST, salt, 0, cid);
		assert_ok!(Backup::delete_snapshot(signed(ALICE), REQUEST, 0));
		assert_ok!(Backup::delete_backup(signed(ALICE), REQUEST));
		run_for(1_000);
		assert_eq!(status(), RootStatus::Deleted);
		assert_ok!(Backup::set_paused(RuntimeOrigin::root(), true));
		assert_eq!(status(), RootStatus::Retained);
		for sequence in [None, Some(0)] {
			assert_noop!(
				Backup::close_deletion(signed(BOB), REQUEST, sequence),
				Error::<Test>::DeletionNotOver
			);
		}
	});
}
