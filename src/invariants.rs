//! What must hold: of a runtime's configuration, and of the state at every block.
//!
//! 1. A lineage counts its records and their bytes. They stand below its next sequence; those
//!    below the place where eviction goes on are held, or guarded as the newest copy elsewhere.
//! 2. Every snapshot has one index entry under its owner, root and request, and no other entry is.
//! 3. A node's header counts its owner's lineages and their snapshots.
//! 4. The lists and counts of lineages by node and by account agree with the lineages.
//! 5. A restore that is not done stands in its node's list and locks its snapshot. Besides these,
//!    holds lock snapshots, and a lineage counts its own. The count of an account is that of its
//!    open restores.
//! 6. A pending deletion has as many lineages left as its owner has.
//! 7. The versions of an owner's keys are dense from 1 to the newest.
//! 8. Grants are those of lineages, to accounts that do not own them, one each.
//! 9. What is to be deleted is there.
//! 10. Every backup has its deposit, every restore its own.
//! 11. The list of storage nodes has no gap, and each node's place in it is known.
//! 12. The holders of lineages are owed copies of them, and no other copies are owed. No host holds
//!     copies of its own machines, and none claims more than there is.

use crate::{ChainSettings, Config, Pallet, authorize::ReportKind};
use codec::MaxEncodedLen;
use frame_support::traits::Get;

impl<T: Config> Pallet<T> {
	/// Refuse a runtime in which the pallet could not keep its promises.
	pub(crate) fn check_config() {
		let id_bytes_max = backup_primitives::id::ID_BYTES_MAX as usize;
		for (what, bytes) in [
			("NodeId", T::NodeId::max_encoded_len()),
			("RequestId", T::RequestId::max_encoded_len()),
			("AccountId", T::AccountId::max_encoded_len()),
		] {
			assert!(bytes <= id_bytes_max, "{what} may have {bytes} bytes, {id_bytes_max} at most");
		}
		assert!(T::MinFrequency::get() >= 1u32.into(), "a cadence of zero blocks is none");
		assert!(T::MaxSnapshots::get() >= 2, "one snapshot would go before the next is safe");
		assert!(
			T::MaxHolds::get() < T::MaxSnapshots::get(),
			"an owner's holds would leave no room for new snapshots"
		);
		let settings: ChainSettings<_> = T::DefaultSettings::get();
		let in_bounds = Self::ensure_in_bounds(&settings);
		assert!(in_bounds.is_ok(), "DefaultSettings are out of bounds: {in_bounds:?}");
		assert!(
			T::MaxReportDelay::get() >= T::MinFrequency::get(),
			"a snapshot would be too old before the next one is due"
		);
		Self::check_weights();
	}

	/// Refuse a runtime whose blocks are too small for a report: it would never get in.
	fn check_weights() {
		let weight_max = Self::weight_max_of_reports();
		for kind in ReportKind::ALL {
			let weight = kind.weight::<T>();
			assert!(
				weight.all_lte(weight_max),
				"a report of {kind:?} costs {weight}, those of a block may cost {weight_max}"
			);
		}
	}
}

#[cfg(any(test, feature = "try-runtime"))]
mod state {
	use crate::{
		BackupMetadata, Backups, Config, Grants, HistoryTickets, HoldersOf, LineageCountOfAccount,
		LineageCountOfNode, Lineages, LineagesOfAccount, LineagesOfNode, Owed, OwedCount,
		OwnerKeyVersion, OwnerKeys, Pallet, RestoreCountOfAccount, RestoreRequests, RestoreState,
		RestoreTickets, RestoresOfNode, SnapshotDeletions, SnapshotLocks, Snapshots,
		SnapshotsByCid, StorageNodeCount, StorageNodePlaces, StorageNodes, UserDeletions,
	};
	use alloc::{collections::BTreeMap, vec::Vec};
	use frame_support::ensure;
	use sp_runtime::TryRuntimeError;

	impl<T: Config> Pallet<T> {
		/// Check every invariant of the state. Reads all of it.
		pub fn do_try_state() -> Result<(), TryRuntimeError> {
			Self::check_snapshots()?;
			Self::check_headers()?;
			Self::check_lists()?;
			Self::check_restores()?;
			Self::check_deletions_and_keys()?;
			Self::check_grants()?;
			Self::check_deposits()?;
			Self::check_storage_nodes()?;
			Self::check_holders()
		}

		fn check_deposits() -> Result<(), TryRuntimeError> {
			for (request_id, lineage) in Lineages::<T>::iter() {
				let is_paid = HistoryTickets::<T>::contains_key(&lineage.owner, request_id);
				ensure!(is_paid, "10: a backup has no deposit");
			}
			let mut restores: Vec<_> = RestoreRequests::<T>::iter_keys().collect();
			let mut tickets: Vec<_> = RestoreTickets::<T>::iter_keys().collect();
			restores.sort_unstable();
			tickets.sort_unstable();
			ensure!(restores == tickets, "10: deposits and restores do not agree");
			Ok(())
		}

		fn check_storage_nodes() -> Result<(), TryRuntimeError> {
			let count = StorageNodeCount::<T>::get();
			for place in 0..count {
				let node = StorageNodes::<T>::get(place).ok_or("11: the list has a gap")?;
				let known = StorageNodePlaces::<T>::get(node);
				ensure!(known == Some(place), "11: a node's place is wrong");
			}
			let listed = StorageNodes::<T>::iter_keys().count() as u32;
			let placed = StorageNodePlaces::<T>::iter_keys().count() as u32;
			ensure!(listed == count && placed == count, "11: a list is too long");
			Ok(())
		}

		fn check_holders() -> Result<(), TryRuntimeError> {
			let mut owed = BTreeMap::new();
			for (request_id, holders) in HoldersOf::<T>::iter() {
				let lineage = Lineages::<T>::get(request_id).ok_or("12: a holder of nothing")?;
				ensure!(!holders.is_empty(), "12: an empty list of holders is kept");
				for holder in &holders {
					let listed = Owed::<T>::contains_key(holder.node, request_id);
					ensure!(listed, "12: a holder does not owe its copy");
					ensure!(holder.node != lineage.node, "12: a host holds its own copy");
					let is_sound = holder.from <= holder.to && holder.to <= lineage.next;
					ensure!(is_sound, "12: a holder claims more than there is");
					*owed.entry(holder.node).or_insert(0u32) += 1;
				}
			}
			let counted: BTreeMap<_, _> = OwedCount::<T>::iter().collect();
			ensure!(counted == owed, "12: a count of copies is wrong");
			let entries = Owed::<T>::iter_keys().count() as u32;
			ensure!(entries == owed.values().sum::<u32>(), "12: a copy is owed by nobody");
			Ok(())
		}

		fn check_snapshots() -> Result<(), TryRuntimeError> {
			let mut expected = 0u64;
			for (request_id, lineage) in Lineages::<T>::iter() {
				let (mut count, mut bytes) = (0, 0);
				for (sequence, record) in Snapshots::<T>::iter_prefix(request_id) {
					count += 1;
					bytes += record.new_bytes;
					ensure!(sequence < lineage.next, "1: a record is ahead of its lineage");
					let is_held = SnapshotLocks::<T>::contains_key(request_id, sequence);
					let is_guarded = lineage.guarded == Some(sequence);
					let is_held = is_held || is_guarded;
					let is_behind = sequence < lineage.evict_from;
					ensure!(is_held || !is_behind, "1: eviction has passed over a snapshot");
					let place = (&lineage.owner, record.cid, request_id);
					let indexed = SnapshotsByCid::<T>::get(place);
					ensure!(indexed == Some(sequence), "2: a snapshot is not indexed");
				}
				ensure!(count == lineage.kept, "1: a lineage counts its records wrong");
				ensure!(bytes == lineage.stored_bytes, "1: a lineage counts its bytes wrong");
				expected += u64::from(count);
			}
			let records = Snapshots::<T>::iter_keys().count() as u64;
			ensure!(records == expected, "1: a record is outside of its lineage");
			let entries = SnapshotsByCid::<T>::iter_keys().count() as u64;
			ensure!(entries == expected, "2: an index entry has no snapshot");
			Ok(())
		}

		fn check_headers() -> Result<(), TryRuntimeError> {
			let mut expected = BTreeMap::new();
			for (_, lineage) in Lineages::<T>::iter() {
				let kept = u64::from(lineage.kept);
				let counts = expected.entry((lineage.node, lineage.owner)).or_insert((0, 0));
				*counts = (counts.0 + 1, counts.1 + kept);
			}
			let stored: BTreeMap<_, _> = Backups::<T>::iter()
				.map(|(node, owner, BackupMetadata { lineages, snapshots, .. })| {
					((node, owner), (u64::from(lineages), u64::from(snapshots)))
				})
				.collect();
			ensure!(stored == expected, "3: a header counts wrong");
			Ok(())
		}

		fn check_lists() -> Result<(), TryRuntimeError> {
			let (mut by_node, mut by_account) = (BTreeMap::new(), BTreeMap::new());
			for (request_id, lineage) in Lineages::<T>::iter() {
				let listed = LineagesOfNode::<T>::contains_key(lineage.node, request_id)
					&& LineagesOfAccount::<T>::contains_key(&lineage.owner, request_id);
				ensure!(listed, "4: a lineage is not listed");
				*by_node.entry(lineage.node).or_insert(0u32) += 1;
				*by_account.entry(lineage.owner).or_insert(0u32) += 1;
			}
			let lineages = Lineages::<T>::iter_keys().count();
			ensure!(LineagesOfNode::<T>::iter_keys().count() == lineages, "4: a list is too long");
			ensure!(
				LineagesOfAccount::<T>::iter_keys().count() == lineages,
				"4: a list is too long"
			);
			let node_counts: BTreeMap<_, _> = LineageCountOfNode::<T>::iter().collect();
			let account_counts: BTreeMap<_, _> = LineageCountOfAccount::<T>::iter().collect();
			ensure!(node_counts == by_node && account_counts == by_account, "4: a count is wrong");
			Ok(())
		}

		fn check_restores() -> Result<(), TryRuntimeError> {
			let (mut locks, mut open) = (BTreeMap::new(), BTreeMap::new());
			let mut waiting = 0;
			for (id, restore) in RestoreRequests::<T>::iter() {
				*open.entry(restore.requester).or_insert(0u32) += 1;
				let listed = RestoresOfNode::<T>::contains_key(restore.node, id);
				let is_waiting = restore.state == RestoreState::Requested;
				ensure!(listed == is_waiting, "5: the list of a node is wrong");
				if is_waiting {
					waiting += 1;
					// A deletion takes the snapshot away under a restore, and the hold with it.
					if Snapshots::<T>::contains_key(restore.request_id, restore.sequence) {
						*locks.entry((restore.request_id, restore.sequence)).or_insert(0u32) += 1;
					}
				}
			}
			ensure!(RestoresOfNode::<T>::iter_keys().count() == waiting, "5: a list is too long");
			let mut holds = BTreeMap::new();
			for (request_id, sequence, lock) in SnapshotLocks::<T>::iter() {
				ensure!(!lock.is_open(), "5: a lock keeps nothing");
				let is_there = Snapshots::<T>::contains_key(request_id, sequence);
				ensure!(is_there, "5: a lock has no snapshot");
				let restores = locks.remove(&(request_id, sequence)).unwrap_or(0);
				ensure!(lock.restores == restores, "5: the restores of a lock are wrong");
				let counts = holds.entry(request_id).or_insert((0, 0));
				counts.0 += u32::from(lock.by_owner);
				counts.1 += u32::from(lock.by_governance);
			}
			ensure!(locks.is_empty(), "5: a restore does not lock its snapshot");
			for (request_id, lineage) in Lineages::<T>::iter() {
				let counted = (lineage.owner_holds, lineage.governance_holds);
				let held = holds.remove(&request_id).unwrap_or_default();
				ensure!(counted == held, "5: a lineage counts its holds wrong");
			}
			let counted: BTreeMap<_, _> = RestoreCountOfAccount::<T>::iter().collect();
			ensure!(counted == open, "5: the count of an account is wrong");
			Ok(())
		}

		fn check_deletions_and_keys() -> Result<(), TryRuntimeError> {
			for (owner, deletion) in UserDeletions::<T>::iter() {
				let left = LineageCountOfAccount::<T>::get(&owner);
				ensure!(left == deletion.remaining && left > 0, "6: a deletion counts wrong");
			}
			for (request_id, sequence, _) in SnapshotDeletions::<T>::iter() {
				let is_there = Snapshots::<T>::contains_key(request_id, sequence);
				ensure!(is_there, "9: a snapshot that is to be deleted is not there");
			}
			let mut versions = 0;
			for (owner, newest) in OwnerKeyVersion::<T>::iter() {
				let dense = (1..=newest).all(|v| OwnerKeys::<T>::contains_key(&owner, v));
				ensure!(dense, "7: a version of an owner's key is missing");
				versions += newest as usize;
			}
			ensure!(OwnerKeys::<T>::iter_keys().count() == versions, "7: a key has no version");
			Ok(())
		}

		fn check_grants() -> Result<(), TryRuntimeError> {
			for (request_id, grants) in Grants::<T>::iter() {
				let lineage = Lineages::<T>::get(request_id).ok_or("8: a grant has no lineage")?;
				let mut accounts: Vec<_> = grants.iter().map(|grant| &grant.account).collect();
				ensure!(!accounts.is_empty(), "8: an empty list of grants is kept");
				ensure!(!accounts.contains(&&lineage.owner), "8: a grant is to the owner");
				accounts.sort();
				accounts.dedup();
				ensure!(accounts.len() == grants.len(), "8: an account has two grants");
			}
			Ok(())
		}
	}
}
