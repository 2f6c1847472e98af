//! Virtual machines, and their backups.

use crate::{
	AccountId, Backup, Balance, Balances, BlockNumber, Compute, DAYS, Governance, HOURS,
	Marketplace, Runtime, RuntimeHoldReason, System, deposit,
};
use frame_support::{
	PalletId, parameter_types,
	traits::{ConstU32, ConstU64, LinearStoragePrice, fungible::HoldConsideration},
};
use pallet_backup::{ChainSettings, crypto::AuthorityId};
use sp_runtime::traits::AccountIdConversion;
#[cfg(feature = "runtime-benchmarks")]
use {
	backup_primitives::Recipient,
	frame_support::BoundedVec,
	pallet_compute::{NodeId, RequestId},
};

/// For development. A chain with money on it wants an hour here.
pub(crate) const MIN_FREQUENCY: BlockNumber = 5;
pub(crate) const MAX_FREQUENCY: BlockNumber = 30 * DAYS;

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
	pub const MinFrequency: BlockNumber = MIN_FREQUENCY;
	pub const MaxFrequency: BlockNumber = MAX_FREQUENCY;
	pub const MaxReportDelay: BlockNumber = DAYS;
	pub const Period: BlockNumber = 30 * DAYS;
	pub const HistoryReason: RuntimeHoldReason =
		RuntimeHoldReason::Backup(pallet_backup::HoldReason::History);
	pub const RestoreReason: RuntimeHoldReason =
		RuntimeHoldReason::Backup(pallet_backup::HoldReason::Restore);
	pub const ItemDeposit: Balance = deposit(1, 0);
	pub const ByteDeposit: Balance = deposit(0, 1);
	/// What owners pay for backups goes here; governance spends it.
	pub BackupFund: AccountId = PalletId(*b"py/bkupf").into_account_truncating();
}

impl pallet_compute::Config for Runtime {
	type AuthorityId = AuthorityId;
	type Backup = Backup;
	type GovernanceOrigin = Governance;
	type MaxDiskBytes = ConstU64<{ 16 << 40 }>;
}

impl pallet_marketplace::Config for Runtime {
	type Backup = Backup;
	type Beneficiary = BackupFund;
	type Currency = Balances;
	type MaxPeriods = ConstU32<24>;
	type Period = Period;
	type PriceOrigin = Governance;
	type RequestId = pallet_compute::RequestId;
}

/// What is held of an owner for state in its name.
type Held<Reason> = HoldConsideration<
	AccountId,
	Balances,
	Reason,
	LinearStoragePrice<ItemDeposit, ByteDeposit, Balance>,
>;

impl pallet_backup::Config for Runtime {
	type AuthorityId = AuthorityId;
	type BackupConsideration = Held<HistoryReason>;
	type BlockNumberProvider = System;
	type Compute = Compute;
	type DefaultSettings = DefaultSettings;
	type GovernanceOrigin = Governance;
	type Marketplace = Marketplace;
	type MaxFrequency = MaxFrequency;
	type MaxLineages = ConstU32<1_000>;
	type MaxHolders = ConstU32<4>;
	type MaxHolds = ConstU32<16>;
	type MaxReplacements = ConstU32<100>;
	type MaxOwnerKeys = ConstU32<32>;
	type MaxReportDelay = MaxReportDelay;
	type MaxGrants = ConstU32<16>;
	type MaxRestores = ConstU32<8>;
	type MaxSnapshots = ConstU32<365>;
	type MinFrequency = MinFrequency;
	type NodeId = pallet_compute::NodeId;
	type OnSnapshot = ();
	/// Above all that pays: reports take a quarter of a block at most.
	type ReportPriority = ConstU64<{ u64::MAX / 4 }>;
	/// A node of 10,000 machines that are all backed up in 100 blocks, half of them in vain.
	type ReportQuota = ConstU32<20_000>;
	type RequestId = pallet_compute::RequestId;
	type RestoreConsideration = Held<RestoreReason>;
	type WeightInfo = pallet_backup::weights::SubstrateWeight<Runtime>;
	#[cfg(feature = "runtime-benchmarks")]
	type BenchmarkHelper = BenchmarkHelper;
}

/// Makes what benchmarks of the backups need, straight in the storage of its neighbours.
#[cfg(feature = "runtime-benchmarks")]
#[derive(Debug)]
pub struct BenchmarkHelper;

#[cfg(feature = "runtime-benchmarks")]
impl pallet_backup::BenchmarkHelper<NodeId, RequestId, AccountId, AuthorityId> for BenchmarkHelper {
	fn register_node(authority: AuthorityId) -> NodeId {
		let node_id = (0..).find(|id| !pallet_compute::Nodes::<Runtime>::contains_key(id));
		let node_id = node_id.unwrap_or(NodeId::MAX);
		pallet_compute::NodeOfAuthority::<Runtime>::insert(&authority, node_id);
		let node = pallet_compute::Node {
			operator: frame_benchmarking::account("operator", node_id, 0),
			authority,
			recipient: Recipient([1; 32]),
			gateways: Default::default(),
		};
		pallet_compute::Nodes::<Runtime>::insert(node_id, node);
		node_id
	}

	fn run_request(node: NodeId, owner: &AccountId) -> RequestId {
		let request_id = pallet_compute::NextRequestId::<Runtime>::mutate(|next| {
			*next += 1;
			*next
		});
		let vm = BoundedVec::truncate_from(b"vm".to_vec());
		let request = pallet_compute::Request {
			owner: owner.clone(),
			disk_bytes: 1,
			state: pallet_compute::RequestState::Running { node, vm },
		};
		pallet_compute::Requests::<Runtime>::insert(request_id, request);
		pallet_marketplace::Subscriptions::<Runtime>::insert(owner, BlockNumber::MAX);
		request_id
	}
}
