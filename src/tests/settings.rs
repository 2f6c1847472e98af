//! Cadence, chain settings and owner keys.

use crate::{
	BackupOffchainWorkerFrequency, ChainSettings, Error, Event, OwnerKeyVersion, Pallet,
	Subscription, mock::*,
};
use backup_primitives::RootStatus;
use frame_support::{assert_noop, assert_ok, traits::BuildGenesisConfig};
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

#[test]
fn boundary_the_cadence_is_between_ten_and_a_thousand_blocks() {
	story_of_alice(|| {
		for (frequency, is_fine) in
			[(0, false), (9, false), (10, true), (1_000, true), (1_001, false), (u64::MAX, false)]
		{
			for origin in [signed(ALICE), RuntimeOrigin::root()] {
				let result = Backup::set_backup_offchain_worker_frequency(origin, frequency);
				match is_fine {
					true => assert_eq!(result, Ok(())),
					false => assert_eq!(result, Err(Error::<Test>::FrequencyOutOfBounds.into())),
				}
			}
		}
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
			ChainSettings { frequency: 9, ..settings.clone() },
			ChainSettings { restore_lifetime: 0, ..settings },
		] {
			assert_noop!(
				Backup::set_settings(RuntimeOrigin::root(), wrong),
				Error::<Test>::SettingsOutOfBounds
			);
		}
	});
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
