//! The example at work: from a machine that runs to its recorded snapshot, through real blocks.

use crate::{
	AccountId, Backup, Executive, Runtime, RuntimeCall, RuntimeOrigin, System,
	machines::{Machine, Machines},
};
use backup_primitives::{
	BlockRef, Cid, Consistency, LineageId, OpaqueId, Recipient, RootStatus, VmTag,
	report::{Report, signing_payload},
};
use frame_support::{assert_ok, dispatch::DispatchResult};
use frame_system::offchain::CreateAuthorizedTransaction;
use pallet_backup::{
	Call, Eligibility, SnapshotClaim, crypto::AuthorityId,
	runtime_api::runtime_decl_for_backup_api::BackupApi as _,
};
use sp_application_crypto::RuntimeAppPublic;
use sp_core::H256;
use sp_keyring::Sr25519Keyring;
use sp_keystore::{KeystoreExt, testing::MemoryKeystore};
use sp_runtime::{
	BuildStorage,
	generic::Header,
	transaction_validity::{InvalidTransaction, TransactionSource, TransactionValidityError},
};

const NODE: u32 = 1;
const REQUEST: u64 = 7;

fn alice() -> AccountId {
	Sr25519Keyring::Alice.to_account_id()
}

/// A chain on which Alice pays for backups, and her machine runs on a node.
fn story(tell: impl FnOnce(AuthorityId)) {
	let storage = frame_system::GenesisConfig::<Runtime>::default().build_storage().unwrap();
	let mut chain = sp_io::TestExternalities::new(storage);
	chain.register_extension(KeystoreExt::new(MemoryKeystore::new()));
	chain.execute_with(|| {
		start_block(1);
		let authority = AuthorityId::generate_pair(None);
		let node = crate::machines::Node {
			operator: alice(),
			authority: authority.clone(),
			recipient: Recipient([2; 32]),
		};
		Machines::join(NODE, node);
		Machines::pay(&alice(), true);
		let machine = Machine {
			owner: alice(),
			node: NODE,
			name: b"web".to_vec().try_into().unwrap(),
			tag: VmTag([3; 16]),
			disk_bytes: 1 << 30,
		};
		Machines::run(REQUEST, machine);
		start_block(2);
		tell(authority);
	});
}

fn start_block(number: u32) {
	let header = Header {
		parent_hash: parent(number),
		number,
		state_root: H256::zero(),
		extrinsics_root: H256::zero(),
		digest: Default::default(),
	};
	Executive::initialize_block(&header);
}

fn parent(number: u32) -> H256 {
	H256::from_low_u64_be(number.into())
}

fn root() -> Cid {
	Cid::dag_cbor([9; 32])
}

/// The report of the first snapshot, as the worker makes it.
fn report(authority: &AuthorityId) -> Call<Runtime> {
	let lineage = Runtime::lineage(REQUEST).expect("it began when the machine ran");
	let number = System::block_number() - 1;
	let at = BlockRef { number: number.into(), hash: System::block_hash(number).0 };
	let claim = SnapshotClaim {
		salt: lineage.salt,
		sequence: lineage.next,
		taken_at: System::block_number().into(),
		logical_bytes: 1 << 30,
		new_bytes: 1,
		consistency: Consistency::Crash,
		owner_key_version: 1,
	};
	let id = LineageId { request: OpaqueId::of(&REQUEST).unwrap(), salt: lineage.salt };
	let words = Report::Snapshot {
		lineage: id,
		sequence: claim.sequence,
		owner: OpaqueId::of(&alice()).unwrap(),
		description: None,
		snapshot: claim.snapshot(root()),
	};
	let genesis = System::block_hash(0).0;
	let payload = signing_payload(&genesis, &OpaqueId::of(&NODE).unwrap(), &at, &words);
	Call::add_snapshot {
		node_id: NODE,
		snapshot_cid: root(),
		description: None,
		request_id: REQUEST,
		account_id: alice(),
		claim,
		at,
		signature: authority.sign(&payload).expect("its key is in the keystore"),
	}
}

/// What the pool says of a report, and a block after it.
fn submit(call: Call<Runtime>) -> Result<DispatchResult, TransactionValidityError> {
	let transaction =
		<Runtime as CreateAuthorizedTransaction<Call<Runtime>>>::create_authorized_transaction(
			RuntimeCall::from(call),
		);
	Executive::validate_transaction(
		TransactionSource::External,
		transaction.clone(),
		H256::zero(),
	)?;
	Executive::apply_extrinsic(transaction)
}

fn register_key() {
	let origin = RuntimeOrigin::signed(alice());
	assert_ok!(Backup::register_owner_key(origin, Recipient([5; 32])));
}

#[test]
fn a_snapshot_that_the_node_signed_is_recorded() {
	story(|authority| {
		assert_eq!(Runtime::eligibility(REQUEST), Eligibility::NoOwnerKey);
		register_key();
		assert!(matches!(Runtime::eligibility(REQUEST), Eligibility::Eligible { .. }));
		let call = report(&authority);
		assert_eq!(submit(call.clone()), Ok(Ok(())));
		assert_eq!(submit(call), Err(InvalidTransaction::Stale.into()));
		let (recorded, next) = Runtime::snapshots(REQUEST, None, u32::MAX);
		let roots: Vec<_> = recorded.into_iter().map(|(_, record)| record.cid).collect();
		assert_eq!((roots, next), (vec![root()], None));
		let salt = Runtime::lineage(REQUEST).unwrap().salt;
		assert_eq!(Runtime::root_status(REQUEST, salt, 0, root()), RootStatus::Retained);
		assert_eq!(Runtime::roots_of_node(NODE, None).0.len(), 1);
		assert!(Runtime::grants(REQUEST).is_empty());
	});
}

#[test]
fn a_snapshot_that_a_stranger_signed_is_refused() {
	story(|_| {
		register_key();
		let stranger = AuthorityId::generate_pair(None);
		assert_eq!(submit(report(&stranger)), Err(InvalidTransaction::BadProof.into()));
		assert_eq!(Runtime::snapshots(REQUEST, None, u32::MAX), (vec![], None));
	});
}

#[test]
fn a_machine_that_nobody_pays_for_is_not_due() {
	story(|_| {
		register_key();
		Machines::pay(&alice(), false);
		assert_eq!(Runtime::eligibility(REQUEST), Eligibility::Unpaid);
	});
}
