//! Take-over: other nodes get the copies of holders that are gone, dismissed or silent, and requests
//! that lack holders get them, with nobody asking for it.
//!
//! The idle time of each block looks at a few requests, one after the other, and begins anew at the
//! end of the list. What is done to one of them is what [`crate::Call::replace_holders`] does: all
//! that it goes by stands on chain, so there is no report that could be forged, doubled or lost, and
//! nobody pays. Who is late but not silent yet keeps its place; the quota of replacements counts here
//! too.

use crate::{
	Config, HoldersOf, LineageOf, Lineages, Pallet, TakeOverCursor, WeightInfo,
	deletion::idle_steps,
};
use alloc::vec::Vec;
use frame_support::{storage::with_storage_layer, traits::Get, weights::Weight};

/// Most requests that one block looks at. With blocks of six seconds that is all of 100,000 in less
/// than half a day, which is less than most chains let holders be silent.
const REQUESTS_MAX: u64 = 16;

impl<T: Config> Pallet<T> {
	/// Replace holders of a few requests, as far as there is anything to do about them. Returns what
	/// that has cost.
	pub(crate) fn take_over(room: Weight) -> Weight {
		let count = idle_steps(room, Self::weight_of_take_over(), REQUESTS_MAX);
		if count == 0 {
			return Weight::zero();
		}
		let lineages = match TakeOverCursor::<T>::get() {
			Some(last) => Lineages::<T>::iter_from(Lineages::<T>::hashed_key_for(last)),
			None => Lineages::<T>::iter(),
		};
		let looked_at: Vec<_> = lineages.take(count as usize).collect();
		let is_over = (looked_at.len() as u64) < count;
		TakeOverCursor::<T>::set(looked_at.last().map(|(id, _)| *id).filter(|_| !is_over));
		// The end of the list is looked for, too.
		let mut spent = Self::weight_of_look().saturating_mul(looked_at.len().max(1) as u64);
		for (request_id, lineage) in &looked_at {
			if !Self::is_well_held(request_id, lineage) {
				spent = spent.saturating_add(Self::weight_of_probes());
				Self::replace_if_possible(*request_id);
			}
		}
		spent
	}

	/// Whether a request has as many holders as are wanted, and nothing is wrong with any.
	fn is_well_held(request_id: &T::RequestId, lineage: &LineageOf<T>) -> bool {
		let holders = HoldersOf::<T>::get(request_id);
		holders.len() >= Self::settings().replicas as usize
			&& holders.iter().all(|h| Self::is_good(h) && !Self::is_gone(h, lineage))
	}

	/// Replace what can be replaced of a request's holders, or change nothing. What stands in the way
	/// is there to be seen, and need not stand there the next time.
	fn replace_if_possible(request_id: T::RequestId) {
		if let Err(reason) = with_storage_layer(|| Self::replace_missing(request_id)) {
			log::trace!(
				target: crate::LOG_TARGET,
				"no holder of request {request_id:?} was replaced: {reason:?}",
			);
		}
	}

	/// What it costs to look at a request whose holders need nothing: less than to replace them all,
	/// which reads the same and more. Beside that the request is found, and the place kept where the
	/// search goes on.
	fn weight_of_look() -> Weight {
		T::WeightInfo::replace_holders().saturating_add(T::DbWeight::get().reads_writes(2, 1))
	}

	/// What a request costs at most.
	pub(crate) fn weight_of_take_over() -> Weight {
		Self::weight_of_look().saturating_add(Self::weight_of_probes())
	}
}
