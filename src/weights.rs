//! What the calls cost.
//!
//! Each figure counts the database reads and writes of the call's longest path, and adds
//! the computing time: 50 µs for a call, 100 µs for checking an sr25519 signature with its
//! payload. The proof size takes 4 KiB for each read, the bound on one record with its path
//! in a trie of a billion entries.

use frame_support::{
	traits::Get,
	weights::{Weight, constants::WEIGHT_REF_TIME_PER_MICROS},
};

/// What each call costs.
pub trait WeightInfo {
	/// [`crate::Call::set_backup_offchain_worker_frequency`].
	fn set_backup_offchain_worker_frequency() -> Weight;
	/// [`crate::Call::create_backup`].
	fn create_backup() -> Weight;
	/// [`crate::Call::set_backup_settings`].
	fn set_backup_settings() -> Weight;
	/// [`crate::Call::register_owner_key`].
	fn register_owner_key() -> Weight;
	/// [`crate::Call::restore_from_snapshot`].
	fn restore_from_snapshot() -> Weight;
	/// [`crate::Call::close_restore`].
	fn close_restore() -> Weight;
	/// [`crate::Call::grant_access`].
	fn grant_access() -> Weight;
	/// [`crate::Call::revoke_access`].
	fn revoke_access() -> Weight;
	/// [`crate::Call::restore_snapshot`].
	fn restore_snapshot() -> Weight;
	/// [`crate::Call::set_settings`].
	fn set_settings() -> Weight;
	/// [`crate::Call::request_snapshot`].
	fn request_snapshot() -> Weight;
	/// [`crate::Call::prune`], looking at `n` places.
	fn prune(n: u32) -> Weight;
	/// [`crate::Call::hold_snapshot`].
	fn hold_snapshot() -> Weight;
	/// [`crate::Call::release_snapshot`].
	fn release_snapshot() -> Weight;
	/// [`crate::Call::delete_backup`].
	fn delete_backup() -> Weight;
	/// [`crate::Call::delete_snapshot`].
	fn delete_snapshot() -> Weight;
	/// [`crate::Call::cancel_deletion`].
	fn cancel_deletion() -> Weight;
	/// [`crate::Call::close_deletion`], which takes `n` snapshots and what was left of the lineage.
	fn close_deletion(n: u32) -> Weight;
	/// [`crate::Call::approve_backup`].
	fn approve_backup() -> Weight;
	/// [`crate::Call::reject_backup`].
	fn reject_backup() -> Weight;
	/// [`crate::BackupHooks::fulfilled`] of a request that has a backup on another node.
	fn move_backup() -> Weight;
	/// [`crate::Call::set_paused`].
	fn set_paused() -> Weight;
	/// [`crate::Call::reclaim_deposit`].
	fn reclaim_deposit() -> Weight;
	/// [`crate::Call::admit_storage_node`].
	fn admit_storage_node() -> Weight;
	/// [`crate::Call::dismiss_storage_node`].
	fn dismiss_storage_node() -> Weight;
	/// [`crate::Call::replace_holders`], all of them.
	fn replace_holders() -> Weight;
	/// Choosing `n` holders, each found at the first place.
	fn choose_holders(n: u32) -> Weight;
	/// Dispatch of [`crate::Call::report_held`], of `n` copies.
	fn report_held(n: u32) -> Weight;
	/// Judging [`crate::Call::report_held`], of `n` copies.
	fn authorize_held(n: u32) -> Weight;
	/// Dispatch of [`crate::Call::add_snapshot`].
	fn add_snapshot() -> Weight;
	/// Judging [`crate::Call::add_snapshot`].
	fn authorize_add_snapshot() -> Weight;
	/// Dispatch of [`crate::Call::report_snapshot_failed`].
	fn report_snapshot_failed() -> Weight;
	/// Dispatch of [`crate::Call::report_restore`].
	fn report_restore() -> Weight;
	/// Dispatch of [`crate::Call::report_deleted`], which takes `n` snapshots and what was left of
	/// the lineage.
	fn report_deleted(n: u32) -> Weight;
	/// Judging [`crate::Call::report_snapshot_failed`].
	fn authorize_snapshot_failed() -> Weight;
	/// Judging [`crate::Call::report_restore`].
	fn authorize_restore() -> Weight;
	/// Judging [`crate::Call::report_deleted`].
	fn authorize_deleted() -> Weight;
	/// [`crate::BackupHooks::deletion_requested`].
	fn deletion_requested() -> Weight;
}

/// Weights from counted reads and writes, priced by the runtime's database.
#[derive(Debug)]
pub struct CountedWeight<T>(core::marker::PhantomData<T>);

const CALL_MICROS: u64 = 50;
const SIGNATURE_MICROS: u64 = 100;
pub(crate) const PROOF_BYTES_PER_READ: u64 = 4096;

impl<T: frame_system::Config> CountedWeight<T> {
	fn counted(micros: u64, reads: u64, writes: u64) -> Weight {
		let time = micros.saturating_mul(WEIGHT_REF_TIME_PER_MICROS);
		Weight::from_parts(time, reads.saturating_mul(PROOF_BYTES_PER_READ))
			.saturating_add(T::DbWeight::get().reads_writes(reads, writes))
	}
}

impl<T: frame_system::Config> WeightInfo for CountedWeight<T> {
	fn set_backup_offchain_worker_frequency() -> Weight {
		Self::counted(CALL_MICROS, 2, 1)
	}

	fn create_backup() -> Weight {
		Self::counted(CALL_MICROS, 11, 8)
	}

	fn set_backup_settings() -> Weight {
		Self::counted(CALL_MICROS, 3, 2)
	}

	fn register_owner_key() -> Weight {
		Self::counted(CALL_MICROS, 6, 2)
	}

	fn restore_from_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 11, 5)
	}

	fn close_restore() -> Weight {
		Self::counted(CALL_MICROS, 6, 5)
	}

	fn grant_access() -> Weight {
		Self::counted(CALL_MICROS, 2, 1)
	}

	fn revoke_access() -> Weight {
		Self::counted(CALL_MICROS, 2, 1)
	}

	fn restore_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 10, 5)
	}

	fn set_settings() -> Weight {
		Self::counted(CALL_MICROS, 1, 1)
	}

	fn request_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 9, 1)
	}

	fn prune(n: u32) -> Weight {
		let places = u64::from(n.min(crate::snapshots::PRUNED_MAX));
		Self::counted(CALL_MICROS, 4 + 2 * places, 2 + 3 * places)
	}

	fn hold_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 6, 2)
	}

	fn release_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 2, 2)
	}

	fn delete_backup() -> Weight {
		Self::counted(CALL_MICROS, 3, 1)
	}

	fn delete_snapshot() -> Weight {
		Self::counted(CALL_MICROS, 5, 1)
	}

	fn cancel_deletion() -> Weight {
		Self::counted(CALL_MICROS, 3, 1)
	}

	fn close_deletion(n: u32) -> Weight {
		Self::report_deleted(n)
	}

	fn approve_backup() -> Weight {
		Self::create_backup().saturating_add(T::DbWeight::get().reads(1))
	}

	fn reject_backup() -> Weight {
		Self::counted(CALL_MICROS, 2, 1)
	}

	fn move_backup() -> Weight {
		Self::counted(CALL_MICROS, 8, 7)
	}

	fn set_paused() -> Weight {
		Self::counted(CALL_MICROS, 1, 1)
	}

	fn add_snapshot() -> Weight {
		// Snapshot, its index, lineage, header; two evictions of three entries each, for which
		// four places are looked at; quotas.
		let places = u64::from(crate::snapshots::EVICTION_STEPS);
		Self::counted(CALL_MICROS, 7 + 2 * places, 12)
	}

	fn authorize_add_snapshot() -> Weight {
		Self::counted(CALL_MICROS + SIGNATURE_MICROS, 16, 0)
	}

	fn report_snapshot_failed() -> Weight {
		Self::counted(CALL_MICROS, 3, 3)
	}

	fn report_restore() -> Weight {
		Self::counted(CALL_MICROS, 6, 6)
	}

	fn report_deleted(n: u32) -> Weight {
		let snapshots = u64::from(n);
		Self::counted(CALL_MICROS, 10 + 2 * snapshots, 12 + 4 * snapshots)
	}

	fn authorize_snapshot_failed() -> Weight {
		Self::counted(CALL_MICROS + SIGNATURE_MICROS, 17, 0)
	}

	fn authorize_restore() -> Weight {
		Self::counted(CALL_MICROS + SIGNATURE_MICROS, 12, 0)
	}

	fn authorize_deleted() -> Weight {
		Self::counted(CALL_MICROS + SIGNATURE_MICROS, 12, 0)
	}

	fn deletion_requested() -> Weight {
		Self::counted(CALL_MICROS, 3, 1)
	}

	fn reclaim_deposit() -> Weight {
		Self::counted(CALL_MICROS, 4, 3)
	}

	fn admit_storage_node() -> Weight {
		Self::counted(CALL_MICROS, 3, 3)
	}

	fn dismiss_storage_node() -> Weight {
		Self::counted(CALL_MICROS, 5, 5)
	}

	fn replace_holders() -> Weight {
		Self::counted(CALL_MICROS, 40, 30)
	}

	fn choose_holders(n: u32) -> Weight {
		let nodes = u64::from(n);
		Self::counted(CALL_MICROS, 3 + 4 * nodes, 1 + 2 * nodes)
	}

	fn report_held(n: u32) -> Weight {
		Self::counted(CALL_MICROS, 2 + u64::from(n), 2 + u64::from(n))
	}

	fn authorize_held(n: u32) -> Weight {
		Self::counted(CALL_MICROS + SIGNATURE_MICROS, 7 + 2 * u64::from(n), 0)
	}
}
