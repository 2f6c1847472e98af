//! The runtime of the reference chain: everything that `pallet-backup` needs to
//! run on a solochain, and nothing else.
//!
//! Blocks come from Aura every two seconds, finality from GRANDPA, decisions from
//! a council. Pallets are listed in `runtime`, configured one subject a file under
//! `configs`, and shown to the node through `apis`. Pallet indexes are part of the
//! encoding of every call, so they are written out and never reused.

#![cfg_attr(not(feature = "std"), no_std)]
#![expect(
	missing_docs,
	reason = "the runtime macros and the WASM builder generate public items without any"
)]

extern crate alloc;

// First, as the macros it defines are used in the next.
#[cfg(feature = "runtime-benchmarks")]
#[macro_use]
mod benches;

mod apis;
mod configs;
mod constants;
mod genesis;
mod transactions;

pub use apis::RuntimeApi;
pub use configs::{Governance, GovernanceMajority};
pub use constants::{
	BYTE_FEE, DAYS, EXISTENTIAL_DEPOSIT, HOURS, MICRO_UNIT, MILLI_UNIT, MILLISECS_PER_BLOCK,
	MINUTES, UNIT, deposit,
};
pub use transactions::{TxExtension, UncheckedExtrinsic};

use alloc::{borrow::Cow, vec::Vec};
use sp_runtime::{
	MultiAddress, MultiSignature, generic, impl_opaque_keys,
	traits::{BlakeTwo256, IdentifyAccount, Verify},
};
use sp_version::RuntimeVersion;

#[cfg(feature = "std")]
include!(concat!(env!("OUT_DIR"), "/wasm_binary.rs"));

/// Index of a block.
pub type BlockNumber = u32;
/// A signature of any scheme that accounts may use.
pub type Signature = MultiSignature;
/// An account: the public key, or the hash of one.
pub type AccountId = <<Signature as Verify>::Signer as IdentifyAccount>::AccountId;
/// An amount of the native token, in its smallest unit.
pub type Balance = u128;
/// Number of transactions that an account has sent.
pub type Nonce = u32;
/// Output of the chain's hash function.
pub type Hash = sp_core::H256;
/// How accounts are addressed in transactions.
pub type Address = MultiAddress<AccountId, ()>;
/// The header of a block.
pub type Header = generic::Header<BlockNumber, BlakeTwo256>;
/// A block with decoded transactions.
pub type Block = generic::Block<Header, UncheckedExtrinsic>;

/// Runs blocks and transactions through the pallets.
pub type Executive = frame_executive::Executive<
	Runtime,
	Block,
	frame_system::ChainContext<Runtime>,
	Runtime,
	AllPalletsWithSystem,
>;

/// Types for the node, which stores and gossips blocks without decoding them, and
/// so survives upgrades of the runtime.
pub mod opaque {
	use super::{BlakeTwo256, BlockNumber, generic};
	use sp_runtime::OpaqueExtrinsic;

	/// The header of a block.
	pub type Header = generic::Header<BlockNumber, BlakeTwo256>;
	/// A block with encoded transactions.
	pub type Block = generic::Block<Header, OpaqueExtrinsic>;
}

impl_opaque_keys! {
	/// The keys with which an authority makes and finalizes blocks.
	pub struct SessionKeys {
		/// Signs blocks.
		pub aura: Aura,
		/// Signs finality votes.
		pub grandpa: Grandpa,
	}
}

/// The version of this runtime. Raise `spec_version` with every change that is
/// released, and `transaction_version` when a call's encoding or the transaction
/// extensions change.
#[sp_version::runtime_version]
pub const VERSION: RuntimeVersion = RuntimeVersion {
	spec_name: Cow::Borrowed("backup-chain"),
	impl_name: Cow::Borrowed("backup-chain"),
	authoring_version: 1,
	spec_version: 1,
	impl_version: 1,
	apis: apis::RUNTIME_API_VERSIONS,
	transaction_version: 1,
	system_version: 1,
};

#[frame_support::runtime]
mod runtime {
	/// The reference chain.
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeFreezeReason,
		RuntimeHoldReason,
		RuntimeSlashReason,
		RuntimeLockId,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Runtime;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;

	#[runtime::pallet_index(1)]
	pub type Timestamp = pallet_timestamp;

	#[runtime::pallet_index(2)]
	pub type Aura = pallet_aura;

	#[runtime::pallet_index(3)]
	pub type Grandpa = pallet_grandpa;

	#[runtime::pallet_index(4)]
	pub type Balances = pallet_balances;

	#[runtime::pallet_index(5)]
	pub type TransactionPayment = pallet_transaction_payment;

	#[runtime::pallet_index(6)]
	pub type Utility = pallet_utility;

	#[runtime::pallet_index(7)]
	pub type Council = pallet_collective<Instance1>;

	#[runtime::pallet_index(20)]
	pub type Compute = pallet_compute;

	#[runtime::pallet_index(21)]
	pub type Marketplace = pallet_marketplace;

	#[runtime::pallet_index(22)]
	pub type Backup = pallet_backup;
}
