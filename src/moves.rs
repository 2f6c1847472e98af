//! Moves: a request that runs on another node takes its history along.
//!
//! From the block of the move on, only the new node's reports are right. What the old one sealed
//! stays where it is: its agent holds it for as long as the chain retains it.

use crate::{
	BackupMetadata, Backups, Config, Event, LineageCountOfNode, LineageOf, Lineages,
	LineagesOfNode, Pallet, Snapshots, lineages::decrease,
};
use backup_primitives::report::Description;
use sp_runtime::Saturating;

impl<T: Config> Pallet<T> {
	/// Let the history of a request go on with another node.
	pub(crate) fn move_lineage(
		request_id: &T::RequestId,
		mut lineage: LineageOf<T>,
		to: T::NodeId,
	) {
		let from = core::mem::replace(&mut lineage.node, to);
		// What stood in the way there need not stand here.
		lineage.failure = None;
		LineagesOfNode::<T>::remove(from, request_id);
		LineagesOfNode::<T>::insert(to, request_id, ());
		LineageCountOfNode::<T>::mutate_exists(from, decrease);
		LineageCountOfNode::<T>::mutate(to, |count| count.saturating_inc());
		let description = Self::leave_header(from, &lineage);
		Self::join_header(to, request_id, &lineage, description);
		Lineages::<T>::insert(request_id, lineage);
		Self::deposit_event(Event::BackupMoved { request_id: *request_id, from, to });
	}

	/// Take a lineage out of the header of the node that it leaves, and return the owner's words.
	fn leave_header(node: T::NodeId, lineage: &LineageOf<T>) -> Option<Description> {
		Backups::<T>::mutate_exists(node, &lineage.owner, |slot| {
			let header = slot.as_mut()?;
			header.lineages = header.lineages.saturating_sub(1);
			header.snapshots = header.snapshots.saturating_sub(lineage.kept);
			header.updated_at = Self::now();
			let description = header.description.clone();
			if header.lineages == 0 {
				*slot = None;
			}
			description
		})
	}

	fn join_header(
		node: T::NodeId,
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
		description: Option<Description>,
	) {
		let now = Self::now();
		let newest = lineage.next.checked_sub(1);
		let newest = newest.and_then(|sequence| Snapshots::<T>::get(request_id, sequence));
		Backups::<T>::mutate(node, &lineage.owner, |slot| {
			let header = slot.get_or_insert_with(|| BackupMetadata {
				owner: lineage.owner.clone(),
				lineages: 0,
				snapshots: 0,
				last_snapshot: newest.map(|record| record.cid),
				created_at: now,
				updated_at: now,
				description,
			});
			header.lineages = header.lineages.saturating_add(1);
			header.snapshots = header.snapshots.saturating_add(lineage.kept);
			header.updated_at = now;
		});
	}
}
