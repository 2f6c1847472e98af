//! What the calls cost, as measured. Made by `make weights`, not by hand.
//!
//! Steps: 20, repeats: 5, CPU: AMD EPYC. A proof is estimated for maps
//! of 1000000 entries.
//!
//! Grants have a key since then, 33 bytes each: the estimates of their proofs were raised by that.

#![cfg_attr(rustfmt, rustfmt_skip)]

use frame_support::{traits::Get, weights::Weight};

/// Weights as measured, with the runtime's prices for reads and writes.
#[derive(Debug)]
pub struct SubstrateWeight<T>(core::marker::PhantomData<T>);

impl<T: frame_system::Config> super::WeightInfo for SubstrateWeight<T> {
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:0)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:0 w:1)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	fn set_backup_offchain_worker_frequency() -> Weight {
		// Proof in bytes, measured: `318`,
		// estimated: `3517`.
		Weight::from_parts(33_382_000, 3517)
			.saturating_add(T::DbWeight::get().reads(1))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Marketplace::Subscriptions` (r:1 w:0)
	// Proof: `Marketplace::Subscriptions` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:1)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::HistoryTickets` (r:1 w:1)
	// Proof: `Backup::HistoryTickets` (`max_values`: None, `max_size`: Some(88), added: 2563, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextSequences` (r:1 w:0)
	// Proof: `Backup::NextSequences` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `System::ParentHash` (r:1 w:0)
	// Proof: `System::ParentHash` (`max_values`: Some(1), `max_size`: Some(32), added: 527, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfNode` (r:1 w:1)
	// Proof: `Backup::LineageCountOfNode` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:0)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfAccount` (r:0 w:1)
	// Proof: `Backup::LineagesOfAccount` (`max_values`: None, `max_size`: Some(72), added: 2547, mode: `MaxEncodedLen`)
	// Storage: `Backup::Proposals` (r:0 w:1)
	// Proof: `Backup::Proposals` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfNode` (r:0 w:1)
	// Proof: `Backup::LineagesOfNode` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn create_backup() -> Weight {
		// Proof in bytes, measured: `551`,
		// estimated: `4102`.
		Weight::from_parts(254_735_000, 4102)
			.saturating_add(T::DbWeight::get().reads(16))
			.saturating_add(T::DbWeight::get().writes(10))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::HistoryTickets` (r:1 w:1)
	// Proof: `Backup::HistoryTickets` (`max_values`: None, `max_size`: Some(88), added: 2563, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	fn set_backup_settings() -> Weight {
		// Proof in bytes, measured: `708`,
		// estimated: `3685`.
		Weight::from_parts(142_215_000, 3685)
			.saturating_add(T::DbWeight::get().reads(4))
			.saturating_add(T::DbWeight::get().writes(4))
	}
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:0)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeyVersion` (r:1 w:1)
	// Proof: `Backup::OwnerKeyVersion` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeys` (r:1 w:1)
	// Proof: `Backup::OwnerKeys` (`max_values`: None, `max_size`: Some(96), added: 2571, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn register_owner_key() -> Weight {
		// Proof in bytes, measured: `479`,
		// estimated: `3561`.
		Weight::from_parts(59_892_000, 3561)
			.saturating_add(T::DbWeight::get().reads(4))
			.saturating_add(T::DbWeight::get().writes(2))
	}
	// Storage: `Backup::SnapshotsByCid` (r:2 w:0)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:1 w:0)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:1 w:0)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:1 w:0)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreCountOfAccount` (r:1 w:1)
	// Proof: `Backup::RestoreCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextRestoreId` (r:1 w:1)
	// Proof: `Backup::NextRestoreId` (`max_values`: Some(1), `max_size`: Some(8), added: 503, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoresOfNode` (r:0 w:1)
	// Proof: `Backup::RestoresOfNode` (`max_values`: None, `max_size`: Some(36), added: 2511, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreTickets` (r:0 w:1)
	// Proof: `Backup::RestoreTickets` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreRequests` (r:0 w:1)
	// Proof: `Backup::RestoreRequests` (`max_values`: None, `max_size`: Some(707), added: 3182, mode: `MaxEncodedLen`)
	fn restore_from_snapshot() -> Weight {
		// Proof in bytes, measured: `1335`,
		// estimated: `6172`.
		Weight::from_parts(227_735_000, 6172)
			.saturating_add(T::DbWeight::get().reads(13))
			.saturating_add(T::DbWeight::get().writes(7))
	}
	// Storage: `Backup::RestoreRequests` (r:1 w:1)
	// Proof: `Backup::RestoreRequests` (`max_values`: None, `max_size`: Some(707), added: 3182, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreTickets` (r:1 w:1)
	// Proof: `Backup::RestoreTickets` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `System::Account` (r:1 w:1)
	// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreCountOfAccount` (r:1 w:1)
	// Proof: `Backup::RestoreCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoresOfNode` (r:0 w:1)
	// Proof: `Backup::RestoresOfNode` (`max_values`: None, `max_size`: Some(36), added: 2511, mode: `MaxEncodedLen`)
	fn close_restore() -> Weight {
		// Proof in bytes, measured: `1172`,
		// estimated: `4172`.
		Weight::from_parts(128_720_000, 4172)
			.saturating_add(T::DbWeight::get().reads(7))
			.saturating_add(T::DbWeight::get().writes(8))
	}
	// Storage: `Backup::Settings` (r:0 w:1)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn set_settings() -> Weight {
		// Proof in bytes, measured: `0`,
		// estimated: `0`.
		Weight::from_parts(15_479_000, 0)
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Paused` (r:0 w:1)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	fn set_paused() -> Weight {
		// Proof in bytes, measured: `0`,
		// estimated: `0`.
		Weight::from_parts(16_761_000, 0)
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:1 w:1)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	fn grant_access() -> Weight {
		// Proof in bytes, measured: `1001`,
		// estimated: `4674`.
		Weight::from_parts(51_817_000, 4674)
			.saturating_add(T::DbWeight::get().reads(2))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:1 w:1)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	fn revoke_access() -> Weight {
		// Proof in bytes, measured: `1038`,
		// estimated: `4674`.
		Weight::from_parts(49_202_000, 4674)
			.saturating_add(T::DbWeight::get().reads(2))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:1 w:0)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:1 w:0)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:1 w:0)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreCountOfAccount` (r:1 w:1)
	// Proof: `Backup::RestoreCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextRestoreId` (r:1 w:1)
	// Proof: `Backup::NextRestoreId` (`max_values`: Some(1), `max_size`: Some(8), added: 503, mode: `MaxEncodedLen`)
	// Storage: `System::Account` (r:1 w:1)
	// Proof: `System::Account` (`max_values`: None, `max_size`: Some(128), added: 2603, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoresOfNode` (r:0 w:1)
	// Proof: `Backup::RestoresOfNode` (`max_values`: None, `max_size`: Some(36), added: 2511, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreTickets` (r:0 w:1)
	// Proof: `Backup::RestoreTickets` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoreRequests` (r:0 w:1)
	// Proof: `Backup::RestoreRequests` (`max_values`: None, `max_size`: Some(707), added: 3182, mode: `MaxEncodedLen`)
	fn restore_snapshot() -> Weight {
		// Proof in bytes, measured: `1797`,
		// estimated: `4674`.
		Weight::from_parts(201_676_000, 4674)
			.saturating_add(T::DbWeight::get().reads(12))
			.saturating_add(T::DbWeight::get().writes(8))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Marketplace::Subscriptions` (r:1 w:0)
	// Proof: `Marketplace::Subscriptions` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeyVersion` (r:1 w:0)
	// Proof: `Backup::OwnerKeyVersion` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeys` (r:1 w:0)
	// Proof: `Backup::OwnerKeys` (`max_values`: None, `max_size`: Some(96), added: 2571, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:1 w:0)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn request_snapshot() -> Weight {
		// Proof in bytes, measured: `1166`,
		// estimated: `4102`.
		Weight::from_parts(145_001_000, 4102)
			.saturating_add(T::DbWeight::get().reads(11))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:0)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:64 w:0)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:64 w:64)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:0 w:64)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotsByCid` (r:0 w:64)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	// The range of component `n` is `[1, 64]`.
	fn prune(n: u32, ) -> Weight {
		// Proof in bytes, measured: `880 + n * (167 ±0)`,
		// estimated: `3685 + n * (2659 ±0)`.
		Weight::from_parts(97_302_000, 3685)
			// Standard error: 192_954
			.saturating_add(Weight::from_parts(33_537_225, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(2))
			.saturating_add(T::DbWeight::get().writes((3_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 2659).saturating_mul(n.into()))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:1 w:0)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:1 w:0)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	fn hold_snapshot() -> Weight {
		// Proof in bytes, measured: `683`,
		// estimated: `3655`.
		Weight::from_parts(76_904_000, 3655)
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().writes(2))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	fn release_snapshot() -> Weight {
		// Proof in bytes, measured: `574`,
		// estimated: `3655`.
		Weight::from_parts(60_703_000, 3655)
			.saturating_add(T::DbWeight::get().reads(2))
			.saturating_add(T::DbWeight::get().writes(2))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn delete_backup() -> Weight {
		// Proof in bytes, measured: `467`,
		// estimated: `3655`.
		Weight::from_parts(61_655_000, 3655)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:1 w:0)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:1 w:1)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn delete_snapshot() -> Weight {
		// Proof in bytes, measured: `716`,
		// estimated: `3655`.
		Weight::from_parts(75_721_000, 3655)
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:0)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:1 w:1)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn cancel_deletion() -> Weight {
		// Proof in bytes, measured: `571`,
		// estimated: `3655`.
		Weight::from_parts(57_597_000, 3655)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:1)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:0)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:33 w:32)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:32 w:0)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfNode` (r:1 w:1)
	// Proof: `Backup::LineageCountOfNode` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:1)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfAccount` (r:0 w:1)
	// Proof: `Backup::LineagesOfAccount` (`max_values`: None, `max_size`: Some(72), added: 2547, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextSequences` (r:0 w:1)
	// Proof: `Backup::NextSequences` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:0 w:1)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:0 w:32)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:0 w:1)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotsByCid` (r:0 w:32)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfNode` (r:0 w:1)
	// Proof: `Backup::LineagesOfNode` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// The range of component `n` is `[0, 32]`.
	fn close_deletion(n: u32, ) -> Weight {
		// Proof in bytes, measured: `996 + n * (168 ±0)`,
		// estimated: `3685 + n * (2659 ±0)`.
		Weight::from_parts(162_182_982, 3685)
			// Standard error: 273_370
			.saturating_add(Weight::from_parts(29_180_328, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(9))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(10))
			.saturating_add(T::DbWeight::get().writes((3_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 2659).saturating_mul(n.into()))
	}
	// Storage: `Backup::Proposals` (r:1 w:1)
	// Proof: `Backup::Proposals` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Marketplace::Subscriptions` (r:1 w:0)
	// Proof: `Marketplace::Subscriptions` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:1)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::HistoryTickets` (r:1 w:1)
	// Proof: `Backup::HistoryTickets` (`max_values`: None, `max_size`: Some(88), added: 2563, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextSequences` (r:1 w:0)
	// Proof: `Backup::NextSequences` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `System::ParentHash` (r:1 w:0)
	// Proof: `System::ParentHash` (`max_values`: Some(1), `max_size`: Some(32), added: 527, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfNode` (r:1 w:1)
	// Proof: `Backup::LineageCountOfNode` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:0)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfAccount` (r:0 w:1)
	// Proof: `Backup::LineagesOfAccount` (`max_values`: None, `max_size`: Some(72), added: 2547, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfNode` (r:0 w:1)
	// Proof: `Backup::LineagesOfNode` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn approve_backup() -> Weight {
		// Proof in bytes, measured: `604`,
		// estimated: `4102`.
		Weight::from_parts(290_753_000, 4102)
			.saturating_add(T::DbWeight::get().reads(17))
			.saturating_add(T::DbWeight::get().writes(10))
	}
	// Storage: `Backup::Proposals` (r:1 w:1)
	// Proof: `Backup::Proposals` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn reject_backup() -> Weight {
		// Proof in bytes, measured: `347`,
		// estimated: `3600`.
		Weight::from_parts(80_771_000, 3600)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfNode` (r:1 w:1)
	// Proof: `Backup::LineageCountOfNode` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:1 w:0)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfNode` (r:0 w:1)
	// Proof: `Backup::LineagesOfNode` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn move_backup() -> Weight {
		// Proof in bytes, measured: `943`,
		// estimated: `3685`.
		Weight::from_parts(92_483_000, 3685)
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().writes(5))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsInBlock` (r:1 w:1)
	// Proof: `Backup::ReportsInBlock` (`max_values`: Some(1), `max_size`: Some(20), added: 515, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:1)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:0)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:4 w:0)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:4 w:3)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:0 w:2)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotsByCid` (r:0 w:3)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	fn add_snapshot() -> Weight {
		// Proof in bytes, measured: `1844`,
		// estimated: `11626`.
		Weight::from_parts(252_551_000, 11626)
			.saturating_add(T::DbWeight::get().reads(14))
			.saturating_add(T::DbWeight::get().writes(12))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:2 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:0)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeys` (r:1 w:0)
	// Proof: `Backup::OwnerKeys` (`max_values`: None, `max_size`: Some(96), added: 2571, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotsByCid` (r:1 w:0)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:1 w:0)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Marketplace::Subscriptions` (r:1 w:0)
	// Proof: `Marketplace::Subscriptions` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	fn authorize_add_snapshot() -> Weight {
		// Proof in bytes, measured: `2306`,
		// estimated: `6028`.
		Weight::from_parts(280_404_000, 6028)
			.saturating_add(T::DbWeight::get().reads(13))
	}
	// Storage: `Backup::ReportsInBlock` (r:1 w:1)
	// Proof: `Backup::ReportsInBlock` (`max_values`: Some(1), `max_size`: Some(20), added: 515, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:1)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	fn report_snapshot_failed() -> Weight {
		// Proof in bytes, measured: `393`,
		// estimated: `3655`.
		Weight::from_parts(40_166_000, 3655)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(3))
	}
	// Storage: `Backup::RestoreRequests` (r:1 w:1)
	// Proof: `Backup::RestoreRequests` (`max_values`: None, `max_size`: Some(707), added: 3182, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsInBlock` (r:1 w:1)
	// Proof: `Backup::ReportsInBlock` (`max_values`: Some(1), `max_size`: Some(20), added: 515, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:1)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:1 w:1)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::RestoresOfNode` (r:0 w:1)
	// Proof: `Backup::RestoresOfNode` (`max_values`: None, `max_size`: Some(36), added: 2511, mode: `MaxEncodedLen`)
	fn report_restore() -> Weight {
		// Proof in bytes, measured: `896`,
		// estimated: `4172`.
		Weight::from_parts(74_940_000, 4172)
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().writes(6))
	}
	// Storage: `Backup::Lineages` (r:1 w:1)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsInBlock` (r:1 w:1)
	// Proof: `Backup::ReportsInBlock` (`max_values`: Some(1), `max_size`: Some(20), added: 515, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:1)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::Snapshots` (r:33 w:32)
	// Proof: `Backup::Snapshots` (`max_values`: None, `max_size`: Some(184), added: 2659, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotLocks` (r:32 w:0)
	// Proof: `Backup::SnapshotLocks` (`max_values`: None, `max_size`: Some(46), added: 2521, mode: `MaxEncodedLen`)
	// Storage: `Backup::Backups` (r:1 w:1)
	// Proof: `Backup::Backups` (`max_values`: None, `max_size`: Some(220), added: 2695, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfNode` (r:1 w:1)
	// Proof: `Backup::LineageCountOfNode` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:1)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:1)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfAccount` (r:0 w:1)
	// Proof: `Backup::LineagesOfAccount` (`max_values`: None, `max_size`: Some(72), added: 2547, mode: `MaxEncodedLen`)
	// Storage: `Backup::NextSequences` (r:0 w:1)
	// Proof: `Backup::NextSequences` (`max_values`: None, `max_size`: Some(32), added: 2507, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:0 w:1)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotDeletions` (r:0 w:32)
	// Proof: `Backup::SnapshotDeletions` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:0 w:1)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	// Storage: `Backup::SnapshotsByCid` (r:0 w:32)
	// Proof: `Backup::SnapshotsByCid` (`max_values`: None, `max_size`: Some(116), added: 2591, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineagesOfNode` (r:0 w:1)
	// Proof: `Backup::LineagesOfNode` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// The range of component `n` is `[0, 32]`.
	fn report_deleted(n: u32, ) -> Weight {
		// Proof in bytes, measured: `979 + n * (168 ±0)`,
		// estimated: `3685 + n * (2659 ±0)`.
		Weight::from_parts(161_107_906, 3685)
			// Standard error: 205_755
			.saturating_add(Weight::from_parts(27_473_812, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(9))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(13))
			.saturating_add(T::DbWeight::get().writes((3_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 2659).saturating_mul(n.into()))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::BackupOffchainWorkerFrequency` (r:1 w:0)
	// Proof: `Backup::BackupOffchainWorkerFrequency` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:0)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Compute::Requests` (r:1 w:0)
	// Proof: `Compute::Requests` (`max_values`: None, `max_size`: Some(135), added: 2610, mode: `MaxEncodedLen`)
	// Storage: `Marketplace::Subscriptions` (r:1 w:0)
	// Proof: `Marketplace::Subscriptions` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeyVersion` (r:1 w:0)
	// Proof: `Backup::OwnerKeyVersion` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwnerKeys` (r:1 w:0)
	// Proof: `Backup::OwnerKeys` (`max_values`: None, `max_size`: Some(96), added: 2571, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	fn authorize_snapshot_failed() -> Weight {
		// Proof in bytes, measured: `1055`,
		// estimated: `4102`.
		Weight::from_parts(237_293_000, 4102)
			.saturating_add(T::DbWeight::get().reads(12))
	}
	// Storage: `Backup::RestoreRequests` (r:1 w:0)
	// Proof: `Backup::RestoreRequests` (`max_values`: None, `max_size`: Some(707), added: 3182, mode: `MaxEncodedLen`)
	// Storage: `Backup::Grants` (r:1 w:0)
	// Proof: `Backup::Grants` (`max_values`: None, `max_size`: Some(1209), added: 3684, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:2 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:0)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	fn authorize_restore() -> Weight {
		// Proof in bytes, measured: `1708`,
		// estimated: `6028`.
		Weight::from_parts(168_755_000, 6028)
			.saturating_add(T::DbWeight::get().reads(7))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:0)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:2 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:0)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	fn authorize_deleted() -> Weight {
		// Proof in bytes, measured: `989`,
		// estimated: `6028`.
		Weight::from_parts(165_309_000, 6028)
			.saturating_add(T::DbWeight::get().reads(8))
	}
	// Storage: `Backup::UserDeletions` (r:1 w:1)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::LineageCountOfAccount` (r:1 w:0)
	// Proof: `Backup::LineageCountOfAccount` (`max_values`: None, `max_size`: Some(52), added: 2527, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	fn deletion_requested() -> Weight {
		// Proof in bytes, measured: `392`,
		// estimated: `3521`.
		Weight::from_parts(41_066_000, 3521)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(1))
	}
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::HistoryTickets` (r:1 w:1)
	// Proof: `Backup::HistoryTickets` (`max_values`: None, `max_size`: Some(88), added: 2563, mode: `MaxEncodedLen`)
	// Storage: `Balances::Holds` (r:1 w:1)
	// Proof: `Balances::Holds` (`max_values`: None, `max_size`: Some(121), added: 2596, mode: `MaxEncodedLen`)
	fn reclaim_deposit() -> Weight {
		// Proof in bytes, measured: `327`,
		// estimated: `3655`.
		Weight::from_parts(110_877_000, 3655)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(2))
	}
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodePlaces` (r:1 w:1)
	// Proof: `Backup::StorageNodePlaces` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:1)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodes` (r:0 w:1)
	// Proof: `Backup::StorageNodes` (`max_values`: None, `max_size`: Some(16), added: 2491, mode: `MaxEncodedLen`)
	fn admit_storage_node() -> Weight {
		// Proof in bytes, measured: `226`,
		// estimated: `4102`.
		Weight::from_parts(54_311_000, 4102)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(3))
	}
	// Storage: `Backup::StorageNodePlaces` (r:1 w:2)
	// Proof: `Backup::StorageNodePlaces` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:1)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodes` (r:1 w:2)
	// Proof: `Backup::StorageNodes` (`max_values`: None, `max_size`: Some(16), added: 2491, mode: `MaxEncodedLen`)
	fn dismiss_storage_node() -> Weight {
		// Proof in bytes, measured: `201`,
		// estimated: `3489`.
		Weight::from_parts(66_474_000, 3489)
			.saturating_add(T::DbWeight::get().reads(3))
			.saturating_add(T::DbWeight::get().writes(5))
	}
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:0)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:5 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::ParentHash` (r:1 w:0)
	// Proof: `System::ParentHash` (`max_values`: Some(1), `max_size`: Some(32), added: 527, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodes` (r:4 w:0)
	// Proof: `Backup::StorageNodes` (`max_values`: None, `max_size`: Some(16), added: 2491, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwedCount` (r:4 w:4)
	// Proof: `Backup::OwedCount` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::Owed` (r:0 w:4)
	// Proof: `Backup::Owed` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// The range of component `n` is `[1, 4]`.
	fn choose_holders(n: u32, ) -> Weight {
		// Proof in bytes, measured: `763 + n * (112 ±0)`,
		// estimated: `4102 + n * (3112 ±0)`.
		Weight::from_parts(43_941_552, 4102)
			// Standard error: 542_496
			.saturating_add(Weight::from_parts(50_333_649, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().reads((3_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(1))
			.saturating_add(T::DbWeight::get().writes((2_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 3112).saturating_mul(n.into()))
	}
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:1 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::UserDeletions` (r:1 w:0)
	// Proof: `Backup::UserDeletions` (`max_values`: None, `max_size`: Some(56), added: 2531, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:1 w:1)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Compute::Nodes` (r:6 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodePlaces` (r:5 w:0)
	// Proof: `Backup::StorageNodePlaces` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::ResumedAt` (r:1 w:0)
	// Proof: `Backup::ResumedAt` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodeCount` (r:1 w:0)
	// Proof: `Backup::StorageNodeCount` (`max_values`: Some(1), `max_size`: Some(4), added: 499, mode: `MaxEncodedLen`)
	// Storage: `System::ParentHash` (r:1 w:0)
	// Proof: `System::ParentHash` (`max_values`: Some(1), `max_size`: Some(32), added: 527, mode: `MaxEncodedLen`)
	// Storage: `Backup::StorageNodes` (r:5 w:0)
	// Proof: `Backup::StorageNodes` (`max_values`: None, `max_size`: Some(16), added: 2491, mode: `MaxEncodedLen`)
	// Storage: `Backup::Replacements` (r:1 w:1)
	// Proof: `Backup::Replacements` (`max_values`: Some(1), `max_size`: Some(8), added: 503, mode: `MaxEncodedLen`)
	// Storage: `Backup::OwedCount` (r:2 w:2)
	// Proof: `Backup::OwedCount` (`max_values`: None, `max_size`: Some(24), added: 2499, mode: `MaxEncodedLen`)
	// Storage: `Backup::Owed` (r:0 w:2)
	// Proof: `Backup::Owed` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	fn replace_holders() -> Weight {
		// Proof in bytes, measured: `2290`,
		// estimated: `19662`.
		Weight::from_parts(758_647_000, 19662)
			.saturating_add(T::DbWeight::get().reads(27))
			.saturating_add(T::DbWeight::get().writes(6))
	}
	// Storage: `Backup::ReportsInBlock` (r:1 w:1)
	// Proof: `Backup::ReportsInBlock` (`max_values`: Some(1), `max_size`: Some(20), added: 515, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:1)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:64 w:64)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// The range of component `n` is `[1, 64]`.
	fn report_held(n: u32, ) -> Weight {
		// Proof in bytes, measured: `400 + n * (54 ±0)`,
		// estimated: `3493 + n * (2616 ±0)`.
		Weight::from_parts(30_524_097, 3493)
			// Standard error: 163_809
			.saturating_add(Weight::from_parts(11_013_681, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(2))
			.saturating_add(T::DbWeight::get().reads((1_u64).saturating_mul(n.into())))
			.saturating_add(T::DbWeight::get().writes(2))
			.saturating_add(T::DbWeight::get().writes((1_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 2616).saturating_mul(n.into()))
	}
	// Storage: `Compute::Nodes` (r:1 w:0)
	// Proof: `Compute::Nodes` (`max_values`: None, `max_size`: Some(637), added: 3112, mode: `MaxEncodedLen`)
	// Storage: `System::BlockHash` (r:1 w:0)
	// Proof: `System::BlockHash` (`max_values`: None, `max_size`: Some(44), added: 2519, mode: `MaxEncodedLen`)
	// Storage: `Backup::Paused` (r:1 w:0)
	// Proof: `Backup::Paused` (`max_values`: Some(1), `max_size`: Some(1), added: 496, mode: `MaxEncodedLen`)
	// Storage: `Backup::ReportsOfNode` (r:1 w:0)
	// Proof: `Backup::ReportsOfNode` (`max_values`: None, `max_size`: Some(28), added: 2503, mode: `MaxEncodedLen`)
	// Storage: `Backup::Lineages` (r:64 w:0)
	// Proof: `Backup::Lineages` (`max_values`: None, `max_size`: Some(190), added: 2665, mode: `MaxEncodedLen`)
	// Storage: `Backup::HoldersOf` (r:64 w:0)
	// Proof: `Backup::HoldersOf` (`max_values`: None, `max_size`: Some(141), added: 2616, mode: `MaxEncodedLen`)
	// Storage: `Backup::Settings` (r:1 w:0)
	// Proof: `Backup::Settings` (`max_values`: Some(1), `max_size`: Some(44), added: 539, mode: `MaxEncodedLen`)
	// The range of component `n` is `[1, 64]`.
	fn authorize_held(n: u32, ) -> Weight {
		// Proof in bytes, measured: `868 + n * (211 ±0)`,
		// estimated: `4102 + n * (2665 ±0)`.
		Weight::from_parts(145_593_232, 4102)
			// Standard error: 381_726
			.saturating_add(Weight::from_parts(16_606_936, 0).saturating_mul(n.into()))
			.saturating_add(T::DbWeight::get().reads(5))
			.saturating_add(T::DbWeight::get().reads((2_u64).saturating_mul(n.into())))
			.saturating_add(Weight::from_parts(0, 2665).saturating_mul(n.into()))
	}
}
