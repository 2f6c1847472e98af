//! # Marketplace pallet
//!
//! A small marketplace, enough to sell backups: an account subscribes for a number of
//! periods and pays in advance, ends its subscription, or asks that all its backups go.

#![cfg_attr(not(feature = "std"), no_std)]
#![expect(missing_debug_implementations, reason = "FRAME's macros write types without it")]

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;

pub use pallet::*;

use frame_support::traits::fungible::Inspect;
use frame_system::pallet_prelude::BlockNumberFor;
use pallet_backup::{BackupHooks, Marketplace, Subscription};

/// Balance of the currency that backups are paid in.
pub type BalanceOf<T> =
	<<T as Config>::Currency as Inspect<<T as frame_system::Config>::AccountId>>::Balance;

#[frame_support::pallet]
pub mod pallet {
	use super::*;
	use frame_support::{
		pallet_prelude::*,
		traits::{fungible::Mutate, tokens::Preservation},
		weights::Weight,
	};
	use frame_system::pallet_prelude::*;
	use sp_runtime::{
		Saturating,
		traits::{CheckedMul, SaturatedConversion},
	};

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(0);

	/// Computing time of a call without its database accesses.
	const CALL: Weight = Weight::from_parts(50_000_000, 16_384);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	#[pallet::config]
	pub trait Config: frame_system::Config {
		/// What backups are paid in.
		type Currency: Mutate<Self::AccountId>;

		/// Who gets what owners pay.
		type Beneficiary: Get<Self::AccountId>;

		/// Who sets the price.
		type PriceOrigin: EnsureOrigin<Self::RuntimeOrigin>;

		/// Id of a compute request, as the backup pallet knows it.
		type RequestId;

		/// Told when an owner wants all its backups deleted.
		type Backup: BackupHooks<Self::RequestId, Self::AccountId>;

		/// Length of a period, in blocks.
		#[pallet::constant]
		type Period: Get<BlockNumberFor<Self>>;

		/// Most periods that can be paid in advance.
		#[pallet::constant]
		type MaxPeriods: Get<u32>;
	}

	/// Until when an account has paid for backups. It stays when that time is over: the
	/// account still wants backups, it only does not get them.
	#[pallet::storage]
	pub type Subscriptions<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, BlockNumberFor<T>>;

	/// Price of a period.
	#[pallet::storage]
	pub type Price<T: Config> = StorageValue<_, BalanceOf<T>, ValueQuery>;

	#[pallet::genesis_config]
	#[derive(frame_support::DefaultNoBound)]
	pub struct GenesisConfig<T: Config> {
		/// Price of a period.
		pub price: BalanceOf<T>,
	}

	#[pallet::genesis_build]
	impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
		fn build(&self) {
			Price::<T>::put(self.price);
		}
	}

	#[pallet::event]
	#[pallet::generate_deposit(pub(super) fn deposit_event)]
	pub enum Event<T: Config> {
		/// An account paid for backups.
		Subscribed {
			/// The account.
			owner: T::AccountId,
			/// First block that is not paid for.
			paid_until: BlockNumberFor<T>,
			/// What it paid.
			paid: BalanceOf<T>,
		},
		/// An account wants no more backups.
		Unsubscribed {
			/// The account.
			owner: T::AccountId,
		},
		/// An account wants all its backups deleted.
		DeletionRequested {
			/// The account.
			owner: T::AccountId,
		},
		/// The price of a period was set.
		PriceSet {
			/// The price.
			price: BalanceOf<T>,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// So many periods cannot be paid in advance, or none were asked for.
		PeriodsOutOfBounds,
		/// The price of so many periods is more than the currency can express.
		PriceOverflow,
		/// The account has no subscription.
		NotSubscribed,
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Enable backups for the calling account and pay for a number of periods. Paid
		/// again before the time is over, it is prolonged.
		#[pallet::call_index(0)]
		#[pallet::weight(T::DbWeight::get().reads_writes(4, 3).saturating_add(CALL))]
		pub fn subscribe(origin: OriginFor<T>, periods: u32) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			let in_bounds = (1..=T::MaxPeriods::get()).contains(&periods);
			ensure!(in_bounds, Error::<T>::PeriodsOutOfBounds);
			let now = frame_system::Pallet::<T>::block_number();
			let from = Subscriptions::<T>::get(&owner).map_or(now, |until| until.max(now));
			let length = T::Period::get().saturating_mul(periods.saturated_into());
			let paid_until = from.saturating_add(length);
			let bound = T::Period::get().saturating_mul(T::MaxPeriods::get().saturated_into());
			ensure!(paid_until <= now.saturating_add(bound), Error::<T>::PeriodsOutOfBounds);

			let count: BalanceOf<T> = periods.saturated_into();
			let paid = Price::<T>::get().checked_mul(&count).ok_or(Error::<T>::PriceOverflow)?;
			T::Currency::transfer(&owner, &T::Beneficiary::get(), paid, Preservation::Preserve)?;
			Subscriptions::<T>::insert(&owner, paid_until);
			Self::deposit_event(Event::Subscribed { owner, paid_until, paid });
			Ok(())
		}

		/// Disable backups for the calling account. What is stored stays.
		#[pallet::call_index(1)]
		#[pallet::weight(T::DbWeight::get().reads_writes(1, 1).saturating_add(CALL))]
		pub fn unsubscribe(origin: OriginFor<T>) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Subscriptions::<T>::take(&owner).ok_or(Error::<T>::NotSubscribed)?;
			Self::deposit_event(Event::Unsubscribed { owner });
			Ok(())
		}

		/// Ask that all backups of the calling account are deleted, after the chain's grace
		/// period: blocks and metadata.
		#[pallet::call_index(2)]
		#[pallet::weight(
			T::DbWeight::get()
				.reads_writes(1, 1)
				.saturating_add(CALL)
				.saturating_add(T::Backup::weight_of_deletion_requested())
		)]
		pub fn request_deletion(origin: OriginFor<T>) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			Subscriptions::<T>::remove(&owner);
			T::Backup::deletion_requested(&owner);
			Self::deposit_event(Event::DeletionRequested { owner });
			Ok(())
		}

		/// Set the price of a period.
		#[pallet::call_index(3)]
		#[pallet::weight(T::DbWeight::get().reads_writes(0, 1).saturating_add(CALL))]
		pub fn set_price(origin: OriginFor<T>, price: BalanceOf<T>) -> DispatchResult {
			T::PriceOrigin::ensure_origin(origin)?;
			Price::<T>::put(price);
			Self::deposit_event(Event::PriceSet { price });
			Ok(())
		}
	}
}

impl<T: Config> Marketplace<T::AccountId> for Pallet<T> {
	fn subscription(owner: &T::AccountId) -> Subscription {
		match Subscriptions::<T>::get(owner) {
			None => Subscription::Disabled,
			Some(until) if until > frame_system::Pallet::<T>::block_number() => {
				Subscription::Active
			}
			Some(_) => Subscription::Unpaid,
		}
	}
}
