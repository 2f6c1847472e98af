//! A chain of the marketplace pallet and balances.

use crate as pallet_marketplace;
use frame_support::{derive_impl, parameter_types};
use frame_system::EnsureRoot;
use pallet_backup::BackupHooks;
use sp_runtime::{BuildStorage, traits::IdentityLookup};
use std::cell::RefCell;

pub(crate) const OWNER: u64 = 1;
pub(crate) const POOR: u64 = 2;
pub(crate) const BENEFICIARY: u64 = 3;
pub(crate) const PRICE: u64 = 10;
pub(crate) const PERIOD: u64 = 100;

#[frame_support::runtime]
mod runtime {
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeTask,
		RuntimeHoldReason,
		RuntimeFreezeReason
	)]
	pub struct Test;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;
	#[runtime::pallet_index(1)]
	pub type Balances = pallet_balances;
	#[runtime::pallet_index(2)]
	pub type Marketplace = pallet_marketplace;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = frame_system::mocking::MockBlock<Test>;
	type AccountId = u64;
	type Lookup = IdentityLookup<u64>;
	type AccountData = pallet_balances::AccountData<u64>;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
	type AccountStore = System;
}

parameter_types! {
	pub const Beneficiary: u64 = BENEFICIARY;
}

impl pallet_marketplace::Config for Test {
	type Currency = Balances;
	type Beneficiary = Beneficiary;
	type PriceOrigin = EnsureRoot<u64>;
	type RequestId = u64;
	type Backup = Told;
	type Period = frame_support::traits::ConstU64<PERIOD>;
	type MaxPeriods = frame_support::traits::ConstU32<4>;
}

thread_local! {
	static TOLD: RefCell<Vec<u64>> = RefCell::default();
}

/// Remembers which owners' deletion was asked for.
pub struct Told;

impl Told {
	/// The owners whose deletion was asked for.
	pub(crate) fn owners() -> Vec<u64> {
		TOLD.with_borrow(Clone::clone)
	}
}

impl BackupHooks<u64, u64> for Told {
	fn fulfilled(_: &u64) {}

	fn weight_of_fulfilled() -> frame_support::weights::Weight {
		Default::default()
	}

	fn deletion_requested(owner: &u64) {
		TOLD.with_borrow_mut(|owners| owners.push(*owner));
	}

	fn weight_of_deletion_requested() -> frame_support::weights::Weight {
		Default::default()
	}
}

/// Tell a story on a new chain.
pub(crate) fn story(tell: impl FnOnce()) {
	let mut storage = frame_system::GenesisConfig::<Test>::default().build_storage().unwrap();
	pallet_balances::GenesisConfig::<Test> {
		balances: vec![(OWNER, 1_000), (POOR, 15), (BENEFICIARY, 1)],
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	pallet_marketplace::GenesisConfig::<Test> { price: PRICE }
		.assimilate_storage(&mut storage)
		.unwrap();
	sp_io::TestExternalities::new(storage).execute_with(|| {
		TOLD.set(Vec::new());
		System::set_block_number(1);
		tell();
	});
}

pub(crate) fn signed(who: u64) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}
