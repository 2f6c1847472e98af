//! Deposits: what an owner puts down for the state that its backups take, and gets back.
//!
//! A report touches no balance, since a balance may refuse. So the deposit of a backup stands apart
//! from its lineage, and its owner takes it back when a node's report has closed that.

use crate::{
	Config, Error, Event, HistoryTickets, LineageSettings, Lineages, Pallet, RestoreTickets,
};
use frame_support::{
	ensure,
	traits::{Consideration, Footprint},
};
use sp_runtime::DispatchResult;

/// What a snapshot takes of the state at most, keys and indexes included, in bytes.
pub(crate) const SNAPSHOT_STATE_BYTES: usize = 400;

/// What a restore takes at most.
const RESTORE_STATE_BYTES: usize = 1_000;

impl<T: Config> Pallet<T> {
	/// What the history of a request takes of the state with these settings, now that so many
	/// snapshots are there.
	fn footprint_of(settings: &LineageSettings, kept: u32) -> Footprint {
		let keep_last = settings.keep_last.unwrap_or_else(|| Self::settings().keep_last);
		let kept = keep_last.max(kept) as usize;
		Footprint::from_parts(kept, kept.saturating_mul(SNAPSHOT_STATE_BYTES))
	}

	/// Take the deposit for the history of a request, or make the one that is there fit.
	pub(crate) fn hold_deposit(
		owner: &T::AccountId,
		request_id: &T::RequestId,
		settings: &LineageSettings,
		kept: u32,
	) -> DispatchResult {
		let footprint = Self::footprint_of(settings, kept);
		let ticket = match HistoryTickets::<T>::get(owner, request_id) {
			Some(ticket) => ticket.update(owner, footprint)?,
			None => T::BackupConsideration::new(owner, footprint)?,
		};
		HistoryTickets::<T>::insert(owner, request_id, ticket);
		Ok(())
	}

	/// Give the deposit for a history that is gone back to its owner.
	pub(crate) fn return_deposit(owner: &T::AccountId, request_id: T::RequestId) -> DispatchResult {
		let is_needed =
			Lineages::<T>::get(request_id).is_some_and(|lineage| lineage.owner == *owner);
		ensure!(!is_needed, Error::<T>::BackupAlreadyExists);
		let ticket = HistoryTickets::<T>::take(owner, request_id);
		ticket.ok_or(Error::<T>::DepositNotFound)?.drop(owner)?;
		Self::deposit_event(Event::DepositReturned { owner: owner.clone(), request_id });
		Ok(())
	}

	/// Take the deposit for a restore.
	pub(crate) fn hold_restore_deposit(who: &T::AccountId, restore_id: u64) -> DispatchResult {
		let footprint = Footprint::from_parts(1, RESTORE_STATE_BYTES);
		let ticket = T::RestoreConsideration::new(who, footprint)?;
		RestoreTickets::<T>::insert(restore_id, ticket);
		Ok(())
	}

	/// Give the deposit for a restore back to who asked for it.
	pub(crate) fn return_restore_deposit(who: &T::AccountId, restore_id: u64) -> DispatchResult {
		RestoreTickets::<T>::take(restore_id).map_or(Ok(()), |ticket| ticket.drop(who))
	}
}
