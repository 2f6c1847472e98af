//! Moves: a request that runs on another node takes its history along.
//!
//! From the block of the move on, only the new node's reports are right. What the old one sealed
//! stays where it is: its agent holds it for as long as the chain retains it.

use crate::{Config, Event, LineageOf, Lineages, Pallet};

impl<T: Config> Pallet<T> {
	/// Let the history of a request go on with another node.
	pub(crate) fn move_lineage(
		request_id: &T::RequestId,
		mut lineage: LineageOf<T>,
		to: T::NodeId,
	) {
		let from = lineage.node;
		let description = Self::leave_node(request_id, &lineage);
		lineage.node = to;
		// What stood in the way there need not stand here.
		lineage.failure = None;
		lineage.is_given_up = false;
		Self::join_node(request_id, &lineage);
		Self::update_header(to, &lineage.owner, |header| {
			header.description = header.description.take().or(description);
		});
		// A host is no holder of its own copies.
		let is_short = Self::drop_gone(request_id, &lineage) > 0;
		if is_short && Self::deletion_of(&lineage).is_none() {
			Self::choose_holders(request_id, &lineage);
		}
		Lineages::<T>::insert(request_id, lineage);
		Self::deposit_event(Event::BackupMoved { request_id: *request_id, from, to });
	}
}
