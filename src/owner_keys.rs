//! The keys that owners' backups are sealed to, by version.

use crate::{
	ClockFor, Config, Error, Event, LineageCountOfAccount, Marketplace, OwnerKey, OwnerKeyVersion,
	OwnerKeys, Pallet, Subscription,
};
use alloc::vec::Vec;
use backup_primitives::Recipient;
use frame_support::{ensure, traits::Get};
use sp_runtime::{DispatchResult, Saturating};

impl<T: Config> Pallet<T> {
	pub(crate) fn add_owner_key(who: T::AccountId, recipient: Recipient) -> DispatchResult {
		// Keys stay for ever, so only who has backups or pays for them may leave one.
		let is_customer = LineageCountOfAccount::<T>::get(&who) > 0
			|| T::Marketplace::subscription(&who) == Subscription::Active;
		ensure!(is_customer, Error::<T>::BackupsNotEnabled);
		let newest = OwnerKeyVersion::<T>::get(&who);
		ensure!(newest < T::MaxOwnerKeys::get(), Error::<T>::TooManyOwnerKeys);
		let now = Self::now();
		let pending = OwnerKeys::<T>::get(&who, newest).is_some_and(|key| key.active_from > now);
		ensure!(!pending, Error::<T>::OwnerKeyPending);
		let active_from = match newest {
			0 => now,
			_ => now.saturating_add(Self::settings().key_activation_delay),
		};
		let version = newest.saturating_add(1);
		OwnerKeys::<T>::insert(&who, version, OwnerKey { recipient, active_from });
		OwnerKeyVersion::<T>::insert(&who, version);
		Self::deposit_event(Event::OwnerKeyRegistered { owner: who, version, active_from });
		Ok(())
	}

	/// Version of the key that an owner's backups are sealed to now, if there is one.
	pub(crate) fn owner_key_version_of(owner: &T::AccountId) -> Option<u32> {
		let newest = OwnerKeyVersion::<T>::get(owner);
		let key: OwnerKey<ClockFor<T>> = OwnerKeys::<T>::get(owner, newest)?;
		match key.active_from <= Self::now() {
			true => Some(newest),
			false => newest.checked_sub(1).filter(|version| *version > 0),
		}
	}

	/// The keys to seal to now: the active one, and the one that waits, if any.
	pub(crate) fn owner_recipients(owner: &T::AccountId, active: u32) -> Vec<Recipient> {
		[active, active.saturating_add(1)]
			.iter()
			.filter_map(|version| OwnerKeys::<T>::get(owner, version))
			.map(|key| key.recipient)
			.collect()
	}
}
