//! What the calls cost.
//!
//! [`SubstrateWeight`] was measured on the reference runtime by `make weights`. A chain whose
//! neighbours cost more than the reference pallets measures its own: each call and each judgement
//! has a benchmark.

mod measured;

pub use measured::SubstrateWeight;

use frame_support::weights::Weight;

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
