//! What other nodes confirm of this node's machines, as its workers tell.
//!
//! A backup on the machine that it protects is none: where the chain wants copies, only what another
//! node has counts. Nothing of this is written down, for a worker says it again within a few blocks.

use super::MEMORY_BLOCKS;
use backup_primitives::{OpaqueId, job::Desired};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// A snapshot, by its request and its place.
pub(super) type Place = (OpaqueId, u64);

/// What other nodes confirm of a machine whose copies the chain wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confirmed {
	/// Sequence of the newest snapshot that one of them has, if any.
	pub sequence: Option<u64>,
	/// When that one was begun, in milliseconds since 1970. Not known of one that another node took,
	/// or that was long ago.
	pub started_at_ms: Option<u64>,
	/// Whether a snapshot waits for longer than it may until one of them has it.
	pub is_late: bool,
}

/// What is known of all machines, by their requests.
#[derive(Debug, Default)]
pub(super) struct Confirmations(HashMap<OpaqueId, Known>);

#[derive(Debug)]
struct Known {
	confirmed: Confirmed,
	/// Number of the best block when it was last told.
	told_at: u64,
}

impl Confirmations {
	/// Note what a worker says. `starts` tells when snapshots were begun, as far as it knows, and is
	/// asked for those that were not confirmed before.
	pub(super) fn note(
		&mut self,
		desired: &Desired,
		starts: impl FnOnce(&HashSet<Place>) -> HashMap<Place, u64>,
	) {
		let now = desired.at.number;
		self.0.retain(|_, known| known.told_at.saturating_add(MEMORY_BLOCKS) >= now);
		let mut fresh = HashSet::new();
		for place in &desired.lineages {
			let request = place.lineage.request.clone();
			let Some(copied) = place.copied else {
				self.0.remove(&request);
				continue;
			};
			let before = self.0.get(&request).map(|known| known.confirmed);
			let before = before.filter(|before| before.sequence == copied.confirmed);
			if let (None, Some(sequence)) = (before, copied.confirmed) {
				fresh.insert((request.clone(), sequence));
			}
			let confirmed = Confirmed {
				sequence: copied.confirmed,
				started_at_ms: before.and_then(|before| before.started_at_ms),
				is_late: copied.is_late,
			};
			self.0.insert(request, Known { confirmed, told_at: now });
		}
		if fresh.is_empty() {
			return;
		}
		for ((request, _), started_at_ms) in starts(&fresh) {
			if let Some(known) = self.0.get_mut(&request) {
				known.confirmed.started_at_ms = Some(started_at_ms);
			}
		}
	}

	pub(super) fn all(&self) -> HashMap<OpaqueId, Confirmed> {
		let all = self.0.iter().map(|(request, known)| (request.clone(), known.confirmed));
		all.collect()
	}
}

#[cfg(test)]
mod tests {
	use super::{super::fixture::*, *};
	use backup_primitives::{BlockRef, job::Copied};

	fn request(request: u64) -> OpaqueId {
		lineage(request).request
	}

	/// The worker says this, and every snapshot was begun at a thousand times its place.
	fn note(known: &mut Confirmations, desired: &Desired) -> usize {
		let mut asked = 0;
		known.note(desired, |places| {
			asked = places.len();
			places.iter().map(|place| (place.clone(), place.1 * 1000)).collect()
		});
		asked
	}

	#[test]
	fn each_confirmation_is_looked_up_once() {
		let mut known = Confirmations::default();
		let copied = Copied { confirmed: Some(2), is_late: false };
		let late = Copied { is_late: true, ..copied };
		assert_eq!(note(&mut known, &confirmed(7, 3, copied)), 1);
		assert_eq!(note(&mut known, &confirmed(7, 5, late)), 0);
		let told = known.all()[&request(7)];
		assert_eq!((told.sequence, told.started_at_ms, told.is_late), (Some(2), Some(2000), true));
		assert_eq!(note(&mut known, &confirmed(7, 5, Copied { confirmed: Some(4), ..copied })), 1);
		assert_eq!(known.all()[&request(7)].started_at_ms, Some(4000));
		assert_eq!(note(&mut known, &confirmed(7, 5, Copied { confirmed: None, ..late })), 0);
		assert_eq!(known.all()[&request(7)].started_at_ms, None, "nobody has it any more");
	}

	#[test]
	fn a_machine_is_forgotten_when_no_copies_are_wanted_or_nobody_speaks_of_it() {
		let mut known = Confirmations::default();
		let copied = Copied { confirmed: None, is_late: true };
		note(&mut known, &confirmed(7, 3, copied));
		note(&mut known, &confirmed(8, 3, copied));
		note(&mut known, &gone_on(7, 3));
		assert_eq!(known.all().into_keys().collect::<Vec<_>>(), [request(8)]);
		let much_later = BlockRef { number: 101 + MEMORY_BLOCKS, hash: [8; 32] };
		note(&mut known, &Desired { at: much_later, ..nothing() });
		assert!(known.all().is_empty());
	}
}
