//! What the chain expects of this node's machines, and what other nodes have of them, as its workers
//! tell.
//!
//! A backup on the machine that it protects is none: where the chain wants copies, only what another
//! node has counts. Nothing of this is written down, for a worker says it again within a few blocks.

use super::{MEMORY_BLOCKS, block_time::BlockTime};
use backup_primitives::{
	OpaqueId,
	job::{CopyHolder, Desired, LineagePlace},
};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// A snapshot, by its request and its place.
pub(super) type Place = (OpaqueId, u64);

/// What the chain expects of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
	/// How often it wants a snapshot. Nothing while it wants none.
	pub cadence: Option<Cadence>,
	/// What other nodes confirm, where it wants copies.
	pub confirmed: Option<Confirmed>,
}

/// How often the chain wants a snapshot of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cadence {
	/// Blocks of the chain's clock from one snapshot to the next.
	pub blocks: u64,
	/// How long so many take, in milliseconds, as they came of late. Not known for the first blocks
	/// after the agent starts.
	pub ms: Option<u64>,
}

/// What other nodes confirm of a machine whose copies the chain wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confirmed {
	/// Sequence of the newest snapshot that one of them has, if any.
	pub sequence: Option<u64>,
	/// When that one was begun, in milliseconds since 1970. Not known of one that another node took,
	/// or that was long ago.
	pub started_at_ms: Option<u64>,
	/// Whether a snapshot waits for longer than it may until one of them has it.
	pub is_late: bool,
	/// The nodes that are to have copies.
	pub holders: Vec<Holder>,
}

/// A node that is to have copies of a machine's snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
	/// Its id.
	pub node: String,
	/// Sequence of the newest snapshot that it says to have.
	pub sequence: Option<u64>,
	/// Whether it has not been heard of for too long.
	pub is_silent: bool,
}

impl From<&CopyHolder> for Holder {
	fn from(holder: &CopyHolder) -> Self {
		let CopyHolder { node, confirmed, is_silent } = holder;
		Self { node: node.to_string(), sequence: *confirmed, is_silent: *is_silent }
	}
}

/// What is known of all machines, by their requests.
#[derive(Debug, Default)]
pub(super) struct Expectations {
	known: HashMap<OpaqueId, Known>,
	block_time: BlockTime,
}

#[derive(Debug)]
struct Known {
	cadence: Option<u64>,
	confirmed: Option<Confirmed>,
	/// Number of the best block when it was last told.
	told_at: u64,
}

impl Expectations {
	/// Note what a worker says at a time, in milliseconds since 1970. `starts` tells when snapshots
	/// were begun, as far as it knows, and is asked for those that were not confirmed before.
	pub(super) fn note(
		&mut self,
		desired: &Desired,
		now_ms: u64,
		starts: impl FnOnce(&HashSet<Place>) -> HashMap<Place, u64>,
	) {
		self.block_time.note(desired.now, now_ms);
		let now = desired.at.number;
		self.known.retain(|_, known| known.told_at.saturating_add(MEMORY_BLOCKS) >= now);
		let mut fresh = HashSet::new();
		for place in &desired.lineages {
			let request = place.lineage.request.clone();
			let confirmed = self.confirmed(place);
			if let Some(Confirmed { sequence: Some(sequence), started_at_ms: None, .. }) = confirmed
				&& !self.is_known(&request, sequence)
			{
				fresh.insert((request.clone(), sequence));
			}
			let known = Known { cadence: place.cadence, confirmed, told_at: now };
			self.known.insert(request, known);
		}
		if fresh.is_empty() {
			return;
		}
		for ((request, _), started_at_ms) in starts(&fresh) {
			let known = self.known.get_mut(&request);
			if let Some(confirmed) = known.and_then(|known| known.confirmed.as_mut()) {
				confirmed.started_at_ms = Some(started_at_ms);
			}
		}
	}

	/// What is told of a machine's copies, with the time that is known from before.
	fn confirmed(&self, place: &LineagePlace) -> Option<Confirmed> {
		let copied = place.copied.as_ref()?;
		let before = self.known.get(&place.lineage.request);
		let before = before.and_then(|known| known.confirmed.as_ref());
		let before = before.filter(|before| before.sequence == copied.confirmed);
		Some(Confirmed {
			sequence: copied.confirmed,
			started_at_ms: before.and_then(|before| before.started_at_ms),
			is_late: copied.is_late,
			holders: copied.holders.iter().map(Holder::from).collect(),
		})
	}

	/// Whether this snapshot was the newest one that others confirm before, too.
	fn is_known(&self, request: &OpaqueId, sequence: u64) -> bool {
		let confirmed = self.known.get(request).and_then(|known| known.confirmed.as_ref());
		confirmed.is_some_and(|before| before.sequence == Some(sequence))
	}

	pub(super) fn all(&self) -> HashMap<OpaqueId, Expected> {
		let block_ms = self.block_time.ms();
		let expected = |known: &Known| Expected {
			cadence: known
				.cadence
				.map(|blocks| Cadence { blocks, ms: block_ms.map(|ms| ms.saturating_mul(blocks)) }),
			confirmed: known.confirmed.clone(),
		};
		let all = self.known.iter().map(|(request, known)| (request.clone(), expected(known)));
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
	fn note(known: &mut Expectations, desired: &Desired) -> usize {
		let mut asked = 0;
		known.note(desired, 0, |places| {
			asked = places.len();
			places.iter().map(|place| (place.clone(), place.1 * 1000)).collect()
		});
		asked
	}

	fn confirmed_of(known: &Expectations, request_id: u64) -> Confirmed {
		known.all()[&request(request_id)].confirmed.clone().unwrap()
	}

	#[test]
	fn each_confirmation_is_looked_up_once() {
		let mut known = Expectations::default();
		let copied = Copied { confirmed: Some(2), ..Copied::default() };
		let late = Copied { is_late: true, ..copied.clone() };
		assert_eq!(note(&mut known, &confirmed(7, 3, copied.clone())), 1);
		assert_eq!(note(&mut known, &confirmed(7, 5, late.clone())), 0);
		let told = confirmed_of(&known, 7);
		assert_eq!((told.sequence, told.started_at_ms, told.is_late), (Some(2), Some(2000), true));
		assert_eq!(note(&mut known, &confirmed(7, 5, Copied { confirmed: Some(4), ..copied })), 1);
		assert_eq!(confirmed_of(&known, 7).started_at_ms, Some(4000));
		assert_eq!(note(&mut known, &confirmed(7, 5, Copied { confirmed: None, ..late })), 0);
		assert_eq!(confirmed_of(&known, 7).started_at_ms, None, "nobody has it any more");
	}

	#[test]
	fn a_machine_is_forgotten_when_nobody_speaks_of_it_and_its_copies_when_none_are_wanted() {
		let mut known = Expectations::default();
		let copied = Copied { confirmed: None, is_late: true, ..Copied::default() };
		note(&mut known, &confirmed(7, 3, copied.clone()));
		note(&mut known, &confirmed(8, 3, copied));
		note(&mut known, &gone_on(7, 3));
		assert_eq!(known.all()[&request(7)].confirmed, None);
		assert!(confirmed_of(&known, 8).is_late);
		let much_later = BlockRef { number: 101 + MEMORY_BLOCKS, hash: [8; 32] };
		note(&mut known, &Desired { at: much_later, ..nothing() });
		assert!(known.all().is_empty());
	}

	#[test]
	fn holders_are_told_as_the_chain_lists_them() {
		let mut known = Expectations::default();
		let holder = |node: u32, confirmed, is_silent| {
			let node = OpaqueId::of(&node).unwrap();
			CopyHolder { node, confirmed, is_silent }
		};
		let holders = vec![holder(3, Some(1), false), holder(2, None, true)].try_into().unwrap();
		note(&mut known, &confirmed(7, 3, Copied { holders, ..Copied::default() }));
		let is =
			|node: &str, sequence, is_silent| Holder { node: node.into(), sequence, is_silent };
		let expected = [is("3", Some(1), false), is("2", None, true)];
		assert_eq!(confirmed_of(&known, 7).holders, expected);
	}

	#[test]
	fn a_cadence_is_in_blocks_and_in_time_once_it_is_known_how_long_they_take() {
		let mut known = Expectations::default();
		let mut note_at = |block: u64, cadence| {
			let desired = Desired { now: block, ..every(7, cadence) };
			known.note(&desired, block * 6_000, |_| HashMap::new());
			known.all()[&request(7)].cadence
		};
		assert_eq!(note_at(100, Some(10)), Some(Cadence { blocks: 10, ms: None }));
		let last = (101..106).map(|block| note_at(block, Some(10))).last().unwrap();
		assert_eq!(last, Some(Cadence { blocks: 10, ms: Some(60_000) }));
		assert_eq!(note_at(107, None), None, "none is wanted any more");
	}
}
