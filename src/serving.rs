//! Blocks between nodes: where a node fetches them, and whom it serves.
//!
//! Roots are public, so a gateway that served everybody would hand all ciphertext to everybody. It
//! serves whoever proves to hold a key that stands here, and has a reason to ask.

use crate::{
	ClockFor, Compute, Config, Grants, Holder, HoldersOf, LineageCountOfAccount, LineageOf,
	Lineages, LineagesOfNode, Owed, OwnerKeyVersion, OwnerKeys, Pallet, RestoresOfNode, Snapshots,
	StorageNodePlaces,
};
use alloc::vec::Vec;
use backup_primitives::{
	KeptRoot, Reader, Recipient,
	job::{GATEWAYS_MAX, SOURCES_MAX, Source, Sources},
};

impl<T: Config> Pallet<T> {
	/// Where a node can fetch the blocks of a request: from its host first, then from those that
	/// hold copies.
	pub fn sources_of_request(node: T::NodeId, request_id: T::RequestId) -> Sources {
		let lineage = Lineages::<T>::get(request_id);
		lineage.map_or(Sources::new(), |lineage| Self::sources_for(&node, &request_id, &lineage))
	}

	/// The same of a lineage that was read.
	pub(crate) fn sources_for(
		reader: &T::NodeId,
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
	) -> Sources {
		let holders = HoldersOf::<T>::get(request_id).into_iter().map(|holder| holder.node);
		let nodes = core::iter::once(lineage.node).chain(holders).filter(|node| node != reader);
		let infos: Vec<_> = nodes.filter_map(|node| T::Compute::node(&node)).collect();
		// The first of each node comes before the second of any: one with many takes no other's
		// place.
		let sources = (0..GATEWAYS_MAX as usize).flat_map(|place| {
			infos.iter().filter_map(move |info| {
				let gateway = info.gateways.get(place)?.clone();
				Some(Source { gateway, recipient: info.recipient })
			})
		});
		Sources::truncate_from(sources.take(SOURCES_MAX as usize).collect())
	}

	/// The roots that the records of a lineage name, in the order of their places. Nothing of a
	/// lineage that is not there.
	pub fn roots_of_request(request_id: T::RequestId, salt: [u8; 32]) -> Vec<KeptRoot> {
		if Lineages::<T>::get(request_id).is_none_or(|lineage| lineage.salt != salt) {
			return Vec::new();
		}
		let records = Snapshots::<T>::iter_prefix(request_id);
		let kept = |(sequence, record): (u64, crate::SnapshotOf<T>)| KeptRoot {
			sequence,
			cid: record.cid,
			logical_bytes: record.logical_bytes,
		};
		let mut roots: Vec<_> = records.map(kept).collect();
		roots.sort_unstable_by_key(|root| root.sequence);
		roots
	}

	/// Whether a node has to keep copies of what other nodes sealed of a request: it holds them for
	/// its host, has become its host, or was struck off while no holder has all. The last is asked
	/// by who has copies; of another node it says nothing.
	pub fn keeps_copies(node: T::NodeId, request_id: T::RequestId) -> bool {
		let Some(lineage) = Lineages::<T>::get(request_id) else { return false };
		lineage.node == node
			|| Owed::<T>::contains_key(node, request_id)
			|| !Self::has_whole_copy(&request_id, &lineage)
	}

	/// Whether a holder that is not silent says to have every snapshot that is kept.
	fn has_whole_copy(request_id: &T::RequestId, lineage: &LineageOf<T>) -> bool {
		let first = Snapshots::<T>::iter_key_prefix(request_id).min().unwrap_or(lineage.next);
		let has_all = |holder: &Holder<T::NodeId, ClockFor<T>>| {
			!Self::is_silent(holder) && holder.from <= first && holder.to >= lineage.next
		};
		lineage.kept == 0 || HoldersOf::<T>::get(request_id).iter().any(has_all)
	}

	/// Whether somebody who proves to hold the secret of `recipient` may fetch blocks: a node that
	/// registered this key and hosts machines, holds copies, is admitted to, or has to restore
	/// something; an owner of backups with any of its keys; or whom the owner of a request has let
	/// in with this key.
	pub fn is_reader(
		reader: Reader<T::NodeId, T::AccountId, T::RequestId>,
		recipient: Recipient,
	) -> bool {
		match reader {
			Reader::Node(node) => {
				let is_its_key = T::Compute::node(&node).is_some_and(|n| n.recipient == recipient);
				is_its_key && Self::has_to_fetch(&node)
			}
			Reader::Owner(owner) => {
				LineageCountOfAccount::<T>::get(&owner) > 0
					&& (1..=OwnerKeyVersion::<T>::get(&owner))
						.filter_map(|version| OwnerKeys::<T>::get(&owner, version))
						.any(|key| key.recipient == recipient)
			}
			Reader::Grantee(request_id) => {
				let now = Self::now();
				let grants = Grants::<T>::get(request_id);
				grants.iter().any(|g| g.recipient == Some(recipient) && g.is_valid_at(now))
			}
		}
	}

	fn has_to_fetch(node: &T::NodeId) -> bool {
		StorageNodePlaces::<T>::contains_key(node)
			|| LineagesOfNode::<T>::iter_key_prefix(node).next().is_some()
			|| Owed::<T>::iter_key_prefix(node).next().is_some()
			|| RestoresOfNode::<T>::iter_key_prefix(node).next().is_some()
	}
}
