//! Holds: an owner's keeps a snapshot from eviction, governance's from deletion too.

use crate::{
	Config, Error, Event, LineageOf, Lineages, Pallet, SnapshotLock, SnapshotLocks, Snapshots,
};
use frame_support::{
	ensure,
	traits::{EnsureOrigin, Get},
};
use frame_system::{ensure_signed, pallet_prelude::OriginFor};
use sp_runtime::{DispatchError, DispatchResult};

/// Who keeps a snapshot, or takes a deletion back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Party<AccountId> {
	Governance,
	Account(AccountId),
}

impl<T: Config> Pallet<T> {
	/// Who speaks: governance, or an account for itself.
	pub(crate) fn party_of(origin: OriginFor<T>) -> Result<Party<T::AccountId>, DispatchError> {
		match T::GovernanceOrigin::try_origin(origin) {
			Ok(_) => Ok(Party::Governance),
			Err(origin) => Ok(Party::Account(ensure_signed(origin)?)),
		}
	}

	/// The lineage of a request, for its owner and for governance.
	pub(crate) fn lineage_for(
		party: &Party<T::AccountId>,
		request_id: &T::RequestId,
	) -> Result<LineageOf<T>, Error<T>> {
		match party {
			Party::Governance => Lineages::<T>::get(request_id).ok_or(Error::BackupNotFound),
			Party::Account(who) => Self::owned_lineage(who, request_id),
		}
	}

	pub(crate) fn hold(
		party: &Party<T::AccountId>,
		request_id: T::RequestId,
		sequence: u64,
	) -> DispatchResult {
		let mut lineage = Self::lineage_for(party, &request_id)?;
		let is_there = Snapshots::<T>::contains_key(request_id, sequence);
		ensure!(is_there, Error::<T>::SnapshotNotFound);
		let is_gone = Self::may_be_gone(&request_id, sequence, &lineage);
		ensure!(!is_gone, Error::<T>::DeletionInEffect);
		let mut lock = SnapshotLocks::<T>::get(request_id, sequence).unwrap_or_default();
		let (is_held, count) = hold_of(party, &mut lock, &mut lineage);
		ensure!(!*is_held, Error::<T>::SnapshotHeldAlready);
		let has_room = *party == Party::Governance || *count < T::MaxHolds::get();
		ensure!(has_room, Error::<T>::TooManyHolds);
		*is_held = true;
		*count = count.saturating_add(1);
		SnapshotLocks::<T>::insert(request_id, sequence, lock);
		Lineages::<T>::insert(request_id, lineage);
		let by_governance = *party == Party::Governance;
		Self::deposit_event(Event::SnapshotHeld { request_id, sequence, by_governance });
		Ok(())
	}

	pub(crate) fn release(
		party: &Party<T::AccountId>,
		request_id: T::RequestId,
		sequence: u64,
	) -> DispatchResult {
		let mut lineage = Self::lineage_for(party, &request_id)?;
		let lock = SnapshotLocks::<T>::get(request_id, sequence);
		let mut lock = lock.ok_or(Error::<T>::SnapshotNotHeld)?;
		let (is_held, count) = hold_of(party, &mut lock, &mut lineage);
		ensure!(*is_held, Error::<T>::SnapshotNotHeld);
		*is_held = false;
		*count = count.saturating_sub(1);
		if lock.is_open() {
			SnapshotLocks::<T>::remove(request_id, sequence);
			lineage.look_again_at(sequence);
		} else {
			SnapshotLocks::<T>::insert(request_id, sequence, lock);
		}
		Lineages::<T>::insert(request_id, lineage);
		let by_governance = *party == Party::Governance;
		Self::deposit_event(Event::SnapshotReleased { request_id, sequence, by_governance });
		Ok(())
	}

	/// Keep a snapshot while a restore waits for it.
	pub(crate) fn lock_for_restore(request_id: &T::RequestId, sequence: u64) {
		SnapshotLocks::<T>::mutate(request_id, sequence, |slot| {
			let lock = slot.get_or_insert_default();
			lock.restores = lock.restores.saturating_add(1);
		});
	}

	/// Let go of a snapshot after a restore. Eviction looks at it again if nothing else keeps it.
	pub(crate) fn unlock_after_restore(request_id: &T::RequestId, sequence: u64) {
		let is_open = SnapshotLocks::<T>::mutate_exists(request_id, sequence, |slot| {
			let Some(lock) = slot else { return false };
			lock.restores = lock.restores.saturating_sub(1);
			let is_open = lock.is_open();
			if is_open {
				*slot = None;
			}
			is_open
		});
		if is_open {
			Lineages::<T>::mutate_extant(request_id, |lineage| lineage.look_again_at(sequence));
		}
	}
}

/// Whether a party keeps the snapshot, and how many of the lineage it keeps.
fn hold_of<'a, AccountId, Owner, NodeId, BlockNumber>(
	party: &Party<AccountId>,
	lock: &'a mut SnapshotLock,
	lineage: &'a mut crate::Lineage<Owner, NodeId, BlockNumber>,
) -> (&'a mut bool, &'a mut u32) {
	match party {
		Party::Governance => (&mut lock.by_governance, &mut lineage.governance_holds),
		Party::Account(_) => (&mut lock.by_owner, &mut lineage.owner_holds),
	}
}
