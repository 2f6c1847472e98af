//! Collection: frees what no pin and no session needs.
//!
//! 1. *Mark* what has to stay.
//! 2. *Sweep nodes.* With the gate shut: mark what sessions came to rely on meanwhile, then
//!    remove all dead nodes in one commit. A node never stays behind its children.
//! 3. *Sweep chunks*, in batches, each with the gate shut for one commit.
//! 4. *Reclaim* the space. Whoever held an old place has passed the gate since.
//!
//! While a node that is needed cannot be read, what hangs below it is unknown, and any block may be
//! among it. Any but the root of a snapshot: none hangs below a node. So dead roots go even then,
//! for without its root nobody can open what is left of a snapshot that was given up.
//!
//! A pack that is away keeps nothing from being freed by itself. But a root that was given up may stand
//! in it, and nobody is told that it is gone.
//!
//! A crash leaves dead space noted in the index; the next collection frees it.

use crate::{
	format::{Cid, RootBlock, RootError, digest},
	repositories::{
		Collected, RepositoryError,
		embedded::{
			Shared,
			entry::{Entry, Flaw, Outlook},
			lock,
			mark::{Live, Obstacle, Obstacles},
			reclaim::reclaim,
		},
	},
};
use std::sync::{PoisonError, RwLockWriteGuard, atomic::Ordering};

/// Blocks looked at, or chunks removed, in one transaction.
const BATCH_BLOCKS: usize = 65_536;

type Digest = [u8; 32];

pub(crate) fn collect(store: &Shared) -> Result<Collected, RepositoryError> {
	Marked::new(store)?.sweep()
}

/// A collection that knows what has to stay, as far as anyone relied on it until now.
pub(crate) struct Marked<'a> {
	store: &'a Shared,
	live: Live<'a>,
	/// The id from which on everything stays.
	keep_from: u64,
	_running: Running<'a>,
}

impl<'a> Marked<'a> {
	pub(crate) fn new(store: &'a Shared) -> Result<Self, RepositoryError> {
		if store.pins_unconfirmed.load(Ordering::Acquire) {
			return Err(RepositoryError::PinsUnconfirmed);
		}
		let running = Running::begin(store)?;
		store.commit()?;
		let keep_from = keep_from(store);
		let mut live = Live::new(store)?;
		live.mark_pins()?;
		live.mark_sessions()?;
		let young = young_nodes(store, keep_from)?;
		for node in young.iter().filter(|node| !live.nodes.contains(&node.digest())) {
			let _gate = store.enter();
			live.obstacles.has_dead_roots |= may_be_root(store, &node.digest())?;
		}
		live.mark(young, None)?;
		Ok(Self { store, live, keep_from, _running: running })
	}

	/// Removes the rest, but for what sessions came to rely on since.
	pub(crate) fn sweep(mut self) -> Result<Collected, RepositoryError> {
		let Self { store, live, keep_from, .. } = &mut self;
		let collected = match live.obstacles.any() {
			false => sweep_all(store, live, *keep_from)?,
			true => sweep_roots(store, live, *keep_from)?,
		};
		live.obstacles.wait_for(&reclaim(store)?);
		remember(store, &live.obstacles);
		Ok(collected)
	}
}

/// What would keep a collection from freeing blocks. Walks through the store only where something is
/// known to be missing that may come back.
pub(crate) fn look_for_obstacles(store: &Shared) -> Result<Obstacles, RepositoryError> {
	let mut is_noted = false;
	scan(store, &mut |_, entry| {
		is_noted |= matches!(
			entry.flaw,
			Some(Flaw::Damaged(Outlook::MayComeBack) | Flaw::Incomplete(Outlook::MayComeBack))
		);
	})?;
	let roots = lock(&store.pins).roots();
	for root in roots {
		is_noted |= store.index.get(&root.digest())?.is_none();
	}
	match is_noted {
		true => Ok(Marked::new(store)?.live.obstacles),
		false => Ok(Obstacles::of_packs(&store.index.unread_packs()?)),
	}
}

/// One collection at a time; sessions that end meanwhile are remembered.
pub(crate) struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
	pub(crate) fn begin(store: &'a Shared) -> Result<Self, RepositoryError> {
		let mut sessions = lock(&store.sessions);
		match core::mem::replace(&mut sessions.is_collecting, true) {
			false => Ok(Self(store)),
			true => Err(RepositoryError::Collecting),
		}
	}
}

impl Drop for Running<'_> {
	fn drop(&mut self) {
		lock(&self.0.sessions).end_collection();
	}
}

/// The id from which on everything stays.
fn keep_from(store: &Shared) -> u64 {
	let sessions = lock(&store.sessions);
	let next_id = lock(&store.writer).next_id();
	sessions.all().map(|session| session.first_id).fold(next_id, u64::min)
}

/// Visits all of the index, in several short transactions.
pub(crate) fn scan(
	store: &Shared,
	visit: &mut dyn FnMut(&Digest, &Entry),
) -> Result<(), RepositoryError> {
	let mut at = None;
	loop {
		at = store.index.scan(at, BATCH_BLOCKS, visit)?;
		if at.is_none() {
			return Ok(());
		}
	}
}

fn young_nodes(store: &Shared, keep_from: u64) -> Result<Vec<Cid>, RepositoryError> {
	let mut nodes = Vec::new();
	scan(store, &mut |digest, entry| {
		if entry.is_node && entry.id >= keep_from {
			nodes.push(Cid::dag_cbor(*digest));
		}
	})?;
	Ok(nodes)
}

/// Waits until nobody uses the answer of a look-up, and keeps everybody out.
pub(crate) fn shut(store: &Shared) -> RwLockWriteGuard<'_, ()> {
	store.gate.write().unwrap_or_else(PoisonError::into_inner)
}

fn sweep_all(
	store: &Shared,
	live: &mut Live<'_>,
	keep_from: u64,
) -> Result<Collected, RepositoryError> {
	let mut collected = sweep_nodes(store, live, keep_from)?;
	if live.obstacles.any() {
		return Ok(collected);
	}
	let chunks = sweep_chunks(store, live, keep_from)?;
	collected.blocks += chunks.blocks;
	collected.bytes += chunks.bytes;
	Ok(collected)
}

fn sweep_nodes(
	store: &Shared,
	live: &mut Live<'_>,
	keep_from: u64,
) -> Result<Collected, RepositoryError> {
	let mut candidates = Vec::new();
	scan(store, &mut |digest, entry| {
		if entry.is_node && entry.id < keep_from && !live.nodes.contains(digest) {
			candidates.push(*digest);
		}
	})?;
	let _shut = shut(store);
	live.mark_sessions()?;
	// What is live as a chunk although it was stored as a node stays, and so does all below.
	let is_kept = |digest: &&Digest| !live.nodes.contains(*digest) && live.chunks.contains(digest);
	let also_chunks: Vec<Digest> = candidates.iter().filter(is_kept).copied().collect();
	for digest in &also_chunks {
		live.obstacles.has_dead_roots |= may_be_root(store, digest)?;
	}
	live.mark(also_chunks.into_iter().map(Cid::dag_cbor).collect(), None)?;
	if live.obstacles.any() {
		// Of one that was good a moment ago. The next collection knows it from the beginning.
		live.obstacles.has_dead_roots = true;
		return Ok(Collected::default());
	}
	candidates.retain(|digest| !live.nodes.contains(digest));
	match candidates.is_empty() {
		true => Ok(Collected::default()),
		false => store.index.remove(&candidates),
	}
}

/// Removes only the roots of snapshots, while it is not known what else is needed.
fn sweep_roots(
	store: &Shared,
	live: &mut Live<'_>,
	keep_from: u64,
) -> Result<Collected, RepositoryError> {
	let (mut dead, mut has_dead_roots) = (Vec::new(), false);
	scan(store, &mut |digest, entry| {
		if entry.id >= keep_from || live.nodes.contains(digest) {
			return;
		}
		match entry.flaw {
			// It may be one, and be there again with the disk.
			Some(Flaw::Damaged(Outlook::MayComeBack)) => {
				has_dead_roots = true;
			}
			Some(Flaw::Damaged(Outlook::GivenUp)) => {}
			Some(Flaw::Incomplete(_)) => dead.push((*digest, *entry)),
			None if entry.is_node => dead.push((*digest, *entry)),
			None => {}
		}
	})?;
	let mut roots = Vec::new();
	for (digest, entry) in dead {
		let _gate = store.enter();
		match is_root(store, &digest, &entry)? {
			Some(true) => roots.push(digest),
			Some(false) => {}
			None => has_dead_roots = true,
		}
	}
	let _shut = shut(store);
	live.mark_sessions()?;
	let count = roots.len();
	// What may be live as a chunk stays: the filter is another one at the next collection.
	roots.retain(|digest| !live.nodes.contains(digest) && !live.chunks.contains(digest));
	live.obstacles.has_dead_roots |= has_dead_roots || roots.len() < count;
	match roots.is_empty() {
		true => Ok(Collected::default()),
		false => store.index.remove(&roots),
	}
}

/// Whether a block that nothing needs, and that stays, could open a snapshot.
fn may_be_root(store: &Shared, name: &Digest) -> Result<bool, RepositoryError> {
	match store.index.get(name)? {
		Some(entry) => Ok(is_root(store, name, &entry)?.unwrap_or(true)),
		None => Ok(false),
	}
}

/// Whether a block is the root of a snapshot; `None` if it cannot be read. The caller is in the gate.
fn is_root(store: &Shared, name: &Digest, entry: &Entry) -> Result<Option<bool>, RepositoryError> {
	match store.read(entry) {
		Ok(block) if digest(&block) == *name => {
			let decoded = RootBlock::decode(&block);
			Ok(Some(matches!(decoded, Ok(_) | Err(RootError::NewerVersion { .. }))))
		}
		Err(error) if !error.is_loss() => Err(error),
		Ok(_) | Err(_) => Ok(None),
	}
}

/// Keeps account of what stands in the way, and tells it when it is another than before.
fn remember(store: &Shared, found: &Obstacles) {
	let mut known = lock(&store.obstacles);
	if *known == *found {
		return;
	}
	for Obstacle { node, root } in &found.named {
		let root = root.map(|root| root.to_string());
		tracing::warn!(
			target: "store",
			%node, root,
			"nothing is freed but roots: what hangs below a damaged node is unknown, until it is \
			 mended, its snapshots are given up, or `fsck --repair` goes on without it"
		);
	}
	if known.unread_packs != found.unread_packs {
		found.warn_of_packs();
	}
	*known = found.clone();
}

fn sweep_chunks(
	store: &Shared,
	live: &Live<'_>,
	keep_from: u64,
) -> Result<Collected, RepositoryError> {
	let mut collected = Collected::default();
	let mut at = None;
	loop {
		let mut candidates = Vec::new();
		at = store.index.scan(at, BATCH_BLOCKS, &mut |digest, entry| {
			if !entry.is_node && entry.id < keep_from && !live.chunks.contains(digest) {
				candidates.push((*digest, *entry));
			}
		})?;
		let removed = remove_chunks(store, candidates)?;
		collected.blocks += removed.blocks;
		collected.bytes += removed.bytes;
		if at.is_none() {
			return Ok(collected);
		}
	}
}

fn remove_chunks(
	store: &Shared,
	candidates: Vec<(Digest, Entry)>,
) -> Result<Collected, RepositoryError> {
	if candidates.is_empty() {
		return Ok(Collected::default());
	}
	let _shut = shut(store);
	let sessions: Vec<_> = lock(&store.sessions).all().cloned().collect();
	let dead: Vec<Digest> = candidates
		.into_iter()
		.filter(|(_, entry)| !sessions.iter().any(|session| session.protects(entry.id)))
		.map(|(digest, _)| digest)
		.collect();
	store.index.remove(&dead)
}
