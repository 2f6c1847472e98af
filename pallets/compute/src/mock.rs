//! A chain of the compute pallet alone.

use crate as pallet_compute;
use backup_primitives::{Recipient, report::possession_payload};
use codec::Encode;
use frame_support::derive_impl;
use pallet_backup::crypto::{AuthorityId, AuthoritySignature};
use sp_application_crypto::RuntimeAppPublic;
use sp_keystore::{KeystoreExt, testing::MemoryKeystore};
use sp_runtime::{BuildStorage, traits::IdentityLookup};

pub(crate) const OPERATOR: u64 = 1;
pub(crate) const OWNER: u64 = 2;
pub(crate) const NODE: u32 = 10;

#[frame_support::runtime]
mod runtime {
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Test;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;
	#[runtime::pallet_index(1)]
	pub type Compute = pallet_compute;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = frame_system::mocking::MockBlock<Test>;
	type AccountId = u64;
	type Lookup = IdentityLookup<u64>;
}

impl pallet_compute::Config for Test {
	type AuthorityId = AuthorityId;
	type Backup = ();
	type GovernanceOrigin = frame_system::EnsureRoot<u64>;
	type MaxDiskBytes = frame_support::traits::ConstU64<1_000>;
}

/// Tell a story on a new chain.
pub(crate) fn story(tell: impl FnOnce()) {
	let storage = frame_system::GenesisConfig::<Test>::default().build_storage().unwrap();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.register_extension(KeystoreExt::new(MemoryKeystore::new()));
	ext.execute_with(|| {
		System::set_block_number(1);
		tell();
	});
}

pub(crate) fn signed(who: u64) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}

pub(crate) fn authority(tag: &str) -> AuthorityId {
	AuthorityId::generate_pair(Some(format!("//{tag}").into_bytes()))
}

/// The proof that a key's holder wants the operator to register it for a node.
pub(crate) fn proof(key: &AuthorityId, node: u32, operator: u64) -> AuthoritySignature {
	let genesis = System::block_hash(0).0;
	let id = |id: &dyn Fn() -> Vec<u8>| backup_primitives::OpaqueId::from_bytes(id()).unwrap();
	let payload = possession_payload(&genesis, &id(&|| node.encode()), &id(&|| operator.encode()));
	key.sign(&payload).expect("the key is in the keystore")
}

/// Register [`NODE`] for [`OPERATOR`].
pub(crate) fn register() -> sp_runtime::DispatchResult {
	let key = authority("node");
	let proof = proof(&key, NODE, OPERATOR);
	Compute::register_node(
		signed(OPERATOR),
		NODE,
		key,
		Recipient([3; 32]),
		Default::default(),
		proof,
	)
}

pub(crate) fn vm(name: &str) -> backup_primitives::job::VmName {
	name.as_bytes().to_vec().try_into().unwrap()
}
