//! Tests of the marketplace pallet.

use crate::{Error, Event, Subscriptions, mock::*};
use frame_support::{assert_noop, assert_ok};
use pallet_backup::{Marketplace as _, Subscription};
use sp_runtime::{DispatchError, TokenError};

#[test]
fn an_account_pays_for_periods_in_advance() {
	story(|| {
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Disabled);
		assert_ok!(Marketplace::subscribe(signed(OWNER), 2));
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Active);
		assert_eq!(Balances::free_balance(OWNER), 1_000 - 2 * PRICE);
		assert_eq!(Balances::free_balance(BENEFICIARY), 1 + 2 * PRICE);
		let paid_until = 1 + 2 * PERIOD;
		System::assert_last_event(
			Event::Subscribed { owner: OWNER, paid_until, paid: 2 * PRICE }.into(),
		);
	});
}

#[test]
fn boundary_a_subscription_ends_with_its_last_block() {
	story(|| {
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		System::set_block_number(PERIOD);
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Active);
		System::set_block_number(PERIOD + 1);
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Unpaid);
	});
}

#[test]
fn paying_again_prolongs() {
	story(|| {
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		System::set_block_number(51);
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		assert_eq!(Subscriptions::<Test>::get(OWNER), Some(1 + 2 * PERIOD));
		System::set_block_number(1_000);
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		assert_eq!(Subscriptions::<Test>::get(OWNER), Some(1_000 + PERIOD));
	});
}

#[test]
fn boundary_one_to_four_periods_are_paid_in_advance() {
	story(|| {
		let refused = Error::<Test>::PeriodsOutOfBounds;
		assert_noop!(Marketplace::subscribe(signed(OWNER), 0), refused);
		assert_noop!(Marketplace::subscribe(signed(OWNER), 5), Error::<Test>::PeriodsOutOfBounds);
		assert_ok!(Marketplace::subscribe(signed(OWNER), 4));
		assert_noop!(Marketplace::subscribe(signed(OWNER), 1), Error::<Test>::PeriodsOutOfBounds);
	});
}

#[test]
fn fails_without_the_money() {
	story(|| {
		assert_noop!(
			Marketplace::subscribe(signed(POOR), 2),
			DispatchError::Token(TokenError::FundsUnavailable)
		);
		assert_ok!(Marketplace::set_price(RuntimeOrigin::root(), u64::MAX));
		assert_noop!(Marketplace::subscribe(signed(OWNER), 2), Error::<Test>::PriceOverflow);
	});
}

#[test]
fn an_account_ends_its_subscription() {
	story(|| {
		assert_noop!(Marketplace::unsubscribe(signed(OWNER)), Error::<Test>::NotSubscribed);
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		assert_ok!(Marketplace::unsubscribe(signed(OWNER)));
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Disabled);
		assert!(Told::owners().is_empty());
	});
}

#[test]
fn a_deletion_request_ends_the_subscription_and_tells_the_backup_pallet() {
	story(|| {
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		assert_ok!(Marketplace::request_deletion(signed(OWNER)));
		assert_eq!(Marketplace::subscription(&OWNER), Subscription::Disabled);
		assert_eq!(Told::owners(), [OWNER]);
		System::assert_last_event(Event::DeletionRequested { owner: OWNER }.into());
	});
}

#[test]
fn only_governance_sets_the_price() {
	story(|| {
		assert_noop!(Marketplace::set_price(signed(OWNER), 1), DispatchError::BadOrigin);
		assert_ok!(Marketplace::set_price(RuntimeOrigin::root(), 20));
		assert_ok!(Marketplace::subscribe(signed(OWNER), 1));
		assert_eq!(Balances::free_balance(OWNER), 980);
	});
}
