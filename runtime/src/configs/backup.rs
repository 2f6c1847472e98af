//! Virtual machines, and their backups.

use crate::{
	AccountId, Backup, Balances, BlockNumber, Compute, DAYS, Governance, Marketplace, Runtime,
	System,
};
use frame_support::{
	PalletId, parameter_types,
	traits::{ConstU32, ConstU64},
};
use pallet_backup::{ChainSettings, crypto::AuthorityId};
use sp_runtime::traits::AccountIdConversion;

parameter_types! {
	/// One backup a day, thirty of them, and time to change one's mind.
	pub const DefaultSettings: ChainSettings<BlockNumber> = ChainSettings {
		frequency: DAYS,
		keep_last: 30,
		deletion_grace: DAYS,
		restore_lifetime: 7 * DAYS,
		key_activation_delay: DAYS,
	};
	/// For development. A chain with money on it wants an hour here.
	pub const MinFrequency: BlockNumber = 5;
	pub const MaxFrequency: BlockNumber = 30 * DAYS;
	pub const MaxReportDelay: BlockNumber = DAYS;
	pub const Period: BlockNumber = 30 * DAYS;
	/// What owners pay for backups goes here; governance spends it.
	pub BackupFund: AccountId = PalletId(*b"py/bkupf").into_account_truncating();
}

impl pallet_compute::Config for Runtime {
	type AuthorityId = AuthorityId;
	type Backup = Backup;
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

impl pallet_backup::Config for Runtime {
	type AuthorityId = AuthorityId;
	type BlockNumberProvider = System;
	type Compute = Compute;
	type DefaultSettings = DefaultSettings;
	type GovernanceOrigin = Governance;
	type Marketplace = Marketplace;
	type MaxFrequency = MaxFrequency;
	type MaxLineages = ConstU32<1_000>;
	type MaxOwnerKeys = ConstU32<32>;
	type MaxReportDelay = MaxReportDelay;
	type MaxGrants = ConstU32<16>;
	type MaxRestores = ConstU32<8>;
	type MaxSnapshots = ConstU32<365>;
	type MinFrequency = MinFrequency;
	type NodeId = pallet_compute::NodeId;
	type OnSnapshot = ();
	type ReportPriority = ConstU64<{ u64::MAX / 4 }>;
	type RequestId = pallet_compute::RequestId;
	type WeightInfo = pallet_backup::weights::CountedWeight<Runtime>;
}
