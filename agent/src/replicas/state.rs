//! What is known of a replica.

use super::{
	listing::Wanted,
	names::{self, Series},
	rounds::Round,
};
use crate::jobs::HeldRoot;
use backup_primitives::{Cid, LineageId, OpaqueId};
use std::{
	collections::{BTreeMap, BTreeSet},
	time::{Duration, Instant},
};

/// Most damaged blocks of a replica that are remembered.
const DAMAGED_MAX: usize = 1000;

/// How soon it is looked again at what was no snapshot: a block that was missing or damaged may have
/// come back.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// What is known of a replica.
#[derive(Default)]
pub(super) struct State {
	/// Whether it was compared with the store since the agent started.
	pub(super) is_known: bool,
	/// Roots that it holds as far as is known, and what is pinned above each.
	pub(super) held: BTreeMap<Cid, Cid>,
	/// Roots that are pinned there although blocks below them may be missing.
	pub(super) doubtful: BTreeSet<Cid>,
	/// How often the daemon has failed at snapshots that it lacks.
	pub(super) refused: BTreeMap<Cid, u32>,
	/// What it holds of ours and the store does not, by what is pinned above it.
	pub(super) strangers: BTreeMap<Cid, Stranger>,
	/// Whether more of ours is pinned there than account was taken of.
	pub(super) has_more: bool,
	/// Series of which blocks are pinned there without their snapshots.
	pub(super) on_their_way: BTreeSet<String>,
	/// Whether what an earlier run had begun to fetch back is gone on with.
	pub(super) is_taken_up: bool,
	/// Snapshots of the store that it lacks.
	pub(super) behind: usize,
	pub(super) damaged: BTreeSet<Cid>,
	/// Why one of these was not replaced at the last look.
	pub(super) not_mended: Option<String>,
	/// How many were replaced since the agent started.
	pub(super) mended: u64,
	pub(super) round: Round,
	pub(super) sent_bytes: u64,
	pub(super) failures: u32,
	pub(super) error: Option<(u64, String)>,
	pub(super) last_success_ms: Option<u64>,
	/// How often in a row it gave no block, and until when it is not asked for one.
	pub(super) unreadable: u32,
	pub(super) passed_over_until: Option<Instant>,
}

/// A snapshot of ours that is there and not here.
#[derive(Clone)]
pub(super) struct Stranger {
	pub(super) series: Series,
	pub(super) found: Found,
}

/// What stands below a pin of ours, as far as it was looked at.
#[derive(Clone)]
pub(super) enum Found {
	/// It was not.
	Nothing,
	/// No snapshot of the series, at that time.
	NoSnapshot(Instant),
	/// This one.
	Snapshot(Seat),
}

/// A snapshot, as its own block tells of it.
#[derive(Clone)]
pub(super) struct Seat {
	pub(super) root: Cid,
	pub(super) sequence: u64,
	/// The node that says it sealed it.
	pub(super) sealer: OpaqueId,
}

impl Found {
	/// Whether it has to be looked at.
	pub(super) fn is_open(&self) -> bool {
		match self {
			Self::Nothing => true,
			Self::NoSnapshot(since) => since.elapsed() > LOOK_AGAIN_AFTER,
			Self::Snapshot(_) => false,
		}
	}
}

impl Stranger {
	pub(super) fn seat(&self) -> Option<&Seat> {
		match &self.found {
			Found::Snapshot(seat) => Some(seat),
			Found::Nothing | Found::NoSnapshot(_) => None,
		}
	}

	pub(super) fn held_root(&self) -> Option<HeldRoot> {
		let &Seat { root, sequence, .. } = self.seat()?;
		let Series { lineage, copy_for } = self.series.clone();
		Some(HeldRoot { lineage, sequence, cid: root, pinned_at_ms: 0, copy_for })
	}
}

impl State {
	pub(super) fn note_held(&mut self, root: &Cid, hold: &Cid) {
		self.doubtful.remove(root);
		self.refused.remove(root);
		if self.held.insert(*root, *hold).is_none() {
			self.behind = self.behind.saturating_sub(1);
		}
	}

	/// What the store pins and the replica was not seen to hold is behind.
	pub(super) fn count_missing(&mut self, wanted: &[Wanted]) {
		let is_held = |root| self.held.contains_key(root) || self.doubtful.contains(root);
		self.behind = wanted.iter().filter(|pin| !is_held(&pin.root)).count();
	}

	/// A block is missing that was relied on: what is pinned is held again once it was gone through.
	pub(super) fn doubt_all(&mut self) {
		self.doubtful.extend(std::mem::take(&mut self.held).into_keys());
	}

	/// The replica has let go of a root.
	pub(super) fn forget(&mut self, root: &Cid) {
		self.held.remove(root);
		self.doubtful.remove(root);
		self.refused.remove(root);
		self.strangers.retain(|_, stranger| stranger.seat().is_none_or(|seat| seat.root != *root));
	}

	pub(super) fn note_damaged(&mut self, cid: Cid) {
		if self.damaged.len() < DAMAGED_MAX {
			self.damaged.insert(cid);
		}
	}

	pub(super) fn may_hold(&self, lineage: &LineageId) -> bool {
		let is_of = |series: &Series| series.lineage == *lineage;
		let mut on_their_way = self.on_their_way.iter().filter_map(|series| names::series(series));
		!self.is_known
			|| self.has_more
			|| self.strangers.values().any(|stranger| is_of(&stranger.series))
			|| on_their_way.any(|series| is_of(&series))
	}

	/// Whether it is not asked for blocks for a while.
	pub(super) fn is_passed_over(&self) -> bool {
		self.passed_over_until.is_some_and(|until| until > Instant::now())
	}

	/// Whether a pin there says of a root that the store does not have that it is one of a series.
	pub(super) fn claims(&self, root: &Cid, series: &Series) -> bool {
		let is_it = |stranger: &Stranger| {
			stranger.series == *series && stranger.seat().is_some_and(|seat| seat.root == *root)
		};
		self.strangers.values().any(is_it)
	}

	pub(super) fn roots_elsewhere(&self) -> impl Iterator<Item = HeldRoot> {
		self.strangers.values().filter_map(Stranger::held_root)
	}
}
