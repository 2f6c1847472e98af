//! Access: whom an owner lets restore a machine besides itself.

use crate::{
	ClockFor, Config, Error, Event, Grant, Grants, Lineages, Pallet, RestoreOf, RestoreState,
};
use backup_primitives::Recipient;
use frame_support::ensure;
use sp_runtime::DispatchResult;

impl<T: Config> Pallet<T> {
	pub(crate) fn grant(
		who: T::AccountId,
		request_id: T::RequestId,
		account: T::AccountId,
		expires_at: Option<ClockFor<T>>,
		recipient: Option<Recipient>,
	) -> DispatchResult {
		Self::owned_lineage(&who, &request_id)?;
		ensure!(account != who, Error::<T>::AccessAlreadyGranted);
		let now = Self::now();
		ensure!(expires_at.is_none_or(|at| at > now), Error::<T>::ExpiryInThePast);
		Grants::<T>::try_mutate(request_id, |grants| {
			grants.retain(|grant| grant.is_valid_at(now));
			let is_granted = grants.iter().any(|grant| grant.account == account);
			ensure!(!is_granted, Error::<T>::AccessAlreadyGranted);
			let grant = Grant { account: account.clone(), granted_at: now, expires_at, recipient };
			grants.try_push(grant).map_err(|_| Error::<T>::TooManyGrants)
		})?;
		Self::deposit_event(Event::AccessGranted { owner: who, request_id, account, expires_at });
		Ok(())
	}

	pub(crate) fn revoke(
		who: T::AccountId,
		request_id: T::RequestId,
		account: T::AccountId,
	) -> DispatchResult {
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		// Who was let in may leave.
		ensure!(who == lineage.owner || who == account, Error::<T>::NotBackupOwner);
		Grants::<T>::try_mutate_exists(request_id, |slot| {
			let grants = slot.as_mut().ok_or(Error::<T>::AccessNotFound)?;
			let position = grants.iter().position(|grant| grant.account == account);
			grants.remove(position.ok_or(Error::<T>::AccessNotFound)?);
			if grants.is_empty() {
				*slot = None;
			}
			Ok::<_, Error<T>>(())
		})?;
		Self::deposit_event(Event::AccessRevoked { owner: lineage.owner, request_id, account });
		Ok(())
	}

	/// Since when an account that does not own a request may restore it, if it may.
	pub(crate) fn access_since(
		request_id: &T::RequestId,
		account: &T::AccountId,
	) -> Option<ClockFor<T>> {
		let now = Self::now();
		let grants = Grants::<T>::get(request_id);
		let valid = grants.iter().find(|g| g.account == *account && g.is_valid_at(now));
		valid.map(|grant| grant.granted_at)
	}

	/// Whether a restore is to be carried out: it has not ended, its time is not over, and who
	/// asked for it still may. A grant that was taken back and given again revives nothing.
	pub(crate) fn restore_is_open(restore: &RestoreOf<T>) -> bool {
		restore.state == RestoreState::Requested
			&& restore.expires_at > Self::now()
			&& Self::target_is_there(restore)
			&& (restore.requester == restore.owner
				|| Self::access_since(&restore.request_id, &restore.requester)
					.is_some_and(|since| since <= restore.requested_at))
	}
}
