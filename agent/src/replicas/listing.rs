//! What the store pins, and what a replica pins of ours.

use super::{
	Replica, Replicas,
	names::{self, Name},
	state::{Found, Stranger},
};
use crate::repositories::{KuboError, Repository, RepositoryError, is_trial};
use backup_primitives::Cid;
use std::{
	collections::{BTreeMap, HashMap, HashSet},
	mem,
};

/// Most snapshots that are there and not here, of which one look takes account. Others follow.
pub(super) const STRANGERS_MAX: usize = 1 << 16;

/// Most batches of which one look takes account: 4 TiB of blocks on their way. Others follow.
const BATCHES_MAX: usize = 1 << 18;

/// A snapshot that the store pins.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
	pub(super) root: Cid,
	pub(super) series: String,
	pub(super) sequence: u64,
}

/// What a replica pins of ours. Names are kept of no more than that.
#[derive(Default)]
pub(super) struct Theirs {
	/// Snapshots that the store pins, too, and what is pinned above each.
	pub(super) held: BTreeMap<Cid, Cid>,
	/// Batches, by the series that they were sent for.
	pub(super) batches: BTreeMap<String, Vec<Cid>>,
	strangers: BTreeMap<Cid, Stranger>,
	/// Whether there is more than account was taken of.
	has_more: bool,
}

impl Replicas {
	/// What the store pins.
	pub(super) fn wanted(&self) -> Result<Vec<Wanted>, RepositoryError> {
		let pins = self.store.pins()?.into_iter().filter(|pin| !is_trial(&pin.label)).map(|pin| {
			let (series, sequence) = names::place(&pin.label);
			Wanted { root: pin.root, series, sequence }
		});
		Ok(pins.collect())
	}

	/// What a replica pins of ours. What was pinned here after `wanted` was asked for is not taken for
	/// lost: see where it is fetched back.
	pub(super) fn theirs(&self, member: &Replica, wanted: &[Wanted]) -> Result<Theirs, KuboError> {
		let holds = |root: &Cid| self.names.holds(root).map(|hold| hold.cid()).collect::<Vec<_>>();
		let expected: HashMap<Cid, Cid> = wanted
			.iter()
			.flat_map(|pin| holds(&pin.root).into_iter().map(|hold| (hold, pin.root)))
			.collect();
		let given_up: HashSet<Cid> = member.releases.list().iter().flat_map(holds).collect();
		let mut theirs = Theirs::default();
		let mut batches = 0;
		member.kubo.pins(names::PREFIX, &mut |cid, name| match self.names.read(name) {
			Some(Name::Blocks(series)) if batches < BATCHES_MAX => {
				batches += 1;
				theirs.batches.entry(series).or_default().push(cid);
			}
			Some(Name::Series(series)) => match expected.get(&cid) {
				Some(root) => drop(theirs.held.insert(*root, cid)),
				None if given_up.contains(&cid) => (),
				None => theirs.note_stranger(cid, &series),
			},
			Some(Name::Blocks(_)) => theirs.has_more = true,
			None => (),
		})?;
		Ok(theirs)
	}
}

impl Theirs {
	/// What says nothing of a lineage, an operator's own pin for example, cannot come back.
	pub(super) fn note_stranger(&mut self, hold: Cid, series: &str) {
		let Some(series) = names::series(series) else { return };
		match self.strangers.len() < STRANGERS_MAX {
			true => drop(self.strangers.insert(hold, Stranger { series, found: Found::Nothing })),
			false => self.has_more = true,
		}
	}

	/// Note at a replica what it holds.
	pub(super) fn note(&mut self, member: &Replica, wanted: &[Wanted]) {
		let mut state = member.state();
		let is_there = |root: &Cid| self.held.contains_key(root);
		let doubtful = mem::take(&mut state.doubtful);
		state.doubtful = doubtful.into_iter().filter(is_there).collect();
		let mut held = self.held.clone();
		held.retain(|root, _| !state.doubtful.contains(root));
		state.held = held;
		state.behind = wanted.iter().filter(|pin| !is_there(&pin.root)).count();
		let mut known = mem::replace(&mut state.strangers, mem::take(&mut self.strangers));
		for (hold, stranger) in &mut state.strangers {
			// It was looked at before. By another name it may be nothing.
			let known = known.remove(hold).filter(|known| known.series == stranger.series);
			stranger.found = known.map_or(Found::Nothing, |known| known.found);
		}
		state.has_more = self.has_more;
		state.on_their_way = self.batches.keys().cloned().collect();
		state.is_known = true;
	}
}
