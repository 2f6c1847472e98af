//! The smallest runtime with the backup pallet: `System`, `Backup`, and three facts of its own.
//!
//! It has none of the reference pallets. What the pallet asks of the chain around it stands in
//! [`machines`]; how its reports become transactions in [`transactions`]. A real runtime adds the
//! pallets that make blocks and money, and builds itself for WASM; nothing of what is here
//! changes by that. `docs/integrate.md` goes through it step by step.

#![cfg_attr(not(feature = "std"), no_std)]
#![expect(missing_docs, reason = "the macros of FRAME write public items without any")]

extern crate alloc;

pub mod apis;
pub mod machines;
pub mod transactions;

use alloc::borrow::Cow;
use frame_support::{derive_impl, parameter_types, traits::ConstU32};
use frame_system::EnsureRoot;
use pallet_backup::ChainSettings;
use sp_runtime::{
	MultiAddress, MultiSignature,
	generic::Header,
	traits::{BlakeTwo256, IdentifyAccount, Verify},
};
use sp_version::RuntimeVersion;
use transactions::UncheckedExtrinsic;

/// Signs transactions.
pub type Signature = MultiSignature;
/// Somebody who signs.
pub type AccountId = <<Signature as Verify>::Signer as IdentifyAccount>::AccountId;
/// How transactions name an account.
pub type Address = MultiAddress<AccountId, ()>;
/// The number of a block, which the worker and the agent expect to fit 64 bits.
pub type BlockNumber = u32;
/// A block.
pub type Block = sp_runtime::generic::Block<Header<BlockNumber, BlakeTwo256>, UncheckedExtrinsic>;

/// The version of this runtime.
#[sp_version::runtime_version]
pub const VERSION: RuntimeVersion = RuntimeVersion {
	spec_name: Cow::Borrowed("backup-example"),
	impl_name: Cow::Borrowed("backup-example"),
	authoring_version: 1,
	spec_version: 1,
	impl_version: 1,
	apis: apis::RUNTIME_API_VERSIONS,
	transaction_version: 1,
	system_version: 1,
};

/// Runs blocks and transactions.
pub type Executive = frame_executive::Executive<
	Runtime,
	Block,
	frame_system::ChainContext<Runtime>,
	Runtime,
	AllPalletsWithSystem,
>;

#[frame_support::runtime]
mod runtime {
	/// The example.
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Runtime;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;

	#[runtime::pallet_index(1)]
	pub type Backup = pallet_backup;
}

#[derive_impl(frame_system::config_preludes::SolochainDefaultConfig)]
impl frame_system::Config for Runtime {
	type AccountId = AccountId;
	type Block = Block;
	type Lookup = sp_runtime::traits::AccountIdLookup<AccountId, ()>;
}

/// One hour, at six seconds a block.
const HOURS: BlockNumber = 600;
const DAYS: BlockNumber = 24 * HOURS;

/// The bounds that governance starts with are the widest that it may set.
const MIN_FREQUENCY: BlockNumber = HOURS;
const MAX_FREQUENCY: BlockNumber = 30 * DAYS;

parameter_types! {
	/// One backup a day, thirty of them, and time to change one's mind.
	pub const DefaultSettings: ChainSettings<BlockNumber> = ChainSettings {
		frequency: DAYS,
		min_frequency: MIN_FREQUENCY,
		max_frequency: MAX_FREQUENCY,
		keep_last: 30,
		min_age: 2 * DAYS,
		deletion_grace: DAYS,
		deletion_deadline: 7 * DAYS,
		restore_lifetime: 7 * DAYS,
		proposal_lifetime: 7 * DAYS,
		key_activation_delay: DAYS,
		replicas: 2,
		holder_period: HOURS,
		holder_silence: DAYS,
	};
}

// Bounds, quotas and hooks are the defaults; what is named here depends on the chain.
#[derive_impl(pallet_backup::config_preludes::SolochainDefaultConfig)]
impl pallet_backup::Config for Runtime {
	type NodeId = machines::NodeId;
	type RequestId = machines::RequestId;
	type Compute = machines::Machines;
	type Marketplace = machines::Machines;
	type GovernanceOrigin = EnsureRoot<AccountId>;
	// A parachain takes the relay chain's block number: its own blocks come irregularly.
	type BlockNumberProvider = System;
	type DefaultSettings = DefaultSettings;
	type MinFrequency = ConstU32<MIN_FREQUENCY>;
	type MaxFrequency = ConstU32<MAX_FREQUENCY>;
	type MaxReportDelay = ConstU32<DAYS>;
	type WeightInfo = pallet_backup::weights::SubstrateWeight<Runtime>;
}

#[cfg(test)]
mod tests;
