//! Blocks between nodes: where a node fetches them, and whom it serves.
//!
//! Roots are public, so a gateway that served everybody would hand all ciphertext to everybody. It
//! serves whoever proves to hold a key that stands here, and has a reason to ask.

use crate::{
	Compute, Config, HoldersOf, LineageCountOfAccount, LineageOf, Lineages, Owed, OwnerKeyVersion,
	OwnerKeys, Pallet, RestoresOfNode, Snapshots, StorageNodePlaces,
};
use alloc::vec::Vec;
use backup_primitives::{
	Cid, Reader, Recipient,
	job::{SOURCES_MAX, Source, Sources},
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
		let sources = nodes.filter_map(|node| T::Compute::node(&node)).flat_map(|info| {
			let recipient = info.recipient;
			info.gateways.into_iter().map(move |gateway| Source { gateway, recipient })
		});
		Sources::truncate_from(sources.take(SOURCES_MAX as usize).collect())
	}

	/// The roots that the records of a lineage name, with their places, in order. Nothing of a
	/// lineage that is not there.
	pub fn roots_of_request(request_id: T::RequestId, salt: [u8; 32]) -> Vec<(u64, Cid)> {
		if Lineages::<T>::get(request_id).is_none_or(|lineage| lineage.salt != salt) {
			return Vec::new();
		}
		let records = Snapshots::<T>::iter_prefix(request_id);
		let mut roots: Vec<_> = records.map(|(sequence, record)| (sequence, record.cid)).collect();
		roots.sort_unstable_by_key(|(sequence, _)| *sequence);
		roots
	}

	/// Whether a node has to keep copies of what other nodes sealed of a request: it holds them for
	/// its host, or has become its host.
	pub fn keeps_copies(node: T::NodeId, request_id: T::RequestId) -> bool {
		Owed::<T>::contains_key(node, request_id)
			|| Lineages::<T>::get(request_id).is_some_and(|lineage| lineage.node == node)
	}

	/// Whether somebody who proves to hold the secret of `recipient` may fetch blocks: a node that
	/// registered this key and holds copies, is admitted to, or has to restore something; or an
	/// owner of backups with any of its keys.
	pub fn is_reader(reader: Reader<T::NodeId, T::AccountId>, recipient: Recipient) -> bool {
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
		}
	}

	fn has_to_fetch(node: &T::NodeId) -> bool {
		StorageNodePlaces::<T>::contains_key(node)
			|| Owed::<T>::iter_key_prefix(node).next().is_some()
			|| RestoresOfNode::<T>::iter_key_prefix(node).next().is_some()
	}
}
