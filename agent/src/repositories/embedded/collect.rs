//! Collection: frees what no pin and no session needs.
//!
//! 1. *Mark.* Walk from the pins, from the nodes that sessions rely on, and from every node that
//!    is younger than the oldest session. Live nodes are kept exactly, live chunks in a filter.
//! 2. *Sweep nodes.* With the gate shut: mark what sessions came to rely on meanwhile, then
//!    remove all dead nodes in one commit. A node never stays behind its children.
//! 3. *Sweep chunks*, in batches, each with the gate shut for one commit.
//! 4. *Reclaim.* Write a skip header over each run of dead records, sync, punch the hole; unlink
//!    packs without live blocks. Whoever held an old place has passed the gate since.
//!
//! It stops without removing anything when a node that is needed cannot be read: what is below
//! it is unknown. Only what the index knows to be lost is passed over, and all that can still be
//! reached of a pinned tree stays. What a running agent noted as lost may come back, so it stops at
//! such a node, too, until the node is stored again, nothing needs it, or a repair gives it up.
//!
//! A crash leaves dead space noted in the index; the next collection frees it.

use crate::{
	format::{Cid, digest, links},
	repositories::{
		Collected, RepositoryError,
		embedded::{
			Shared,
			bloom::Bloom,
			files::StoreFile,
			index::{DeadRun, Entry, Flaw},
			is_node, lock,
			record::{HEADER_BYTES, Header},
		},
	},
};
use std::{
	collections::HashSet,
	io,
	sync::{PoisonError, RwLockWriteGuard, atomic::Ordering},
};

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
		live.mark_all(lock(&store.pins).roots())?;
		live.mark_sessions()?;
		live.mark_all(young_nodes(store, keep_from)?)?;
		if live.may_come_back && !live.has_damaged_nodes {
			store.index.none_may_come_back()?;
		}
		Ok(Self { store, live, keep_from, _running: running })
	}

	/// Removes the rest, but for what sessions came to rely on since.
	pub(crate) fn sweep(mut self) -> Result<Collected, RepositoryError> {
		let mut collected = sweep_nodes(self.store, &mut self.live, self.keep_from)?;
		let chunks = sweep_chunks(self.store, &self.live, self.keep_from)?;
		collected.blocks += chunks.blocks;
		collected.bytes += chunks.bytes;
		reclaim(self.store)?;
		Ok(collected)
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

/// What has to stay.
struct Live<'a> {
	store: &'a Shared,
	/// Exact: a node that was wrongly taken for visited would lose its children.
	nodes: HashSet<Digest>,
	/// May hold more than is live, which only keeps garbage.
	chunks: Bloom,
	/// Whether damaged nodes may be readable again one day, or be given by others.
	may_come_back: bool,
	/// Whether there are any, readable or not.
	has_damaged_nodes: bool,
}

impl<'a> Live<'a> {
	fn new(store: &'a Shared) -> Result<Self, RepositoryError> {
		let mut seed = [0; 8];
		// Without randomness the same garbage may stay again, nothing worse.
		let _ = aws_lc_rs::rand::fill(&mut seed);
		let chunks = Bloom::for_digests(store.index.len()?, u64::from_le_bytes(seed));
		let may_come_back = store.index.may_come_back()?;
		let nodes = HashSet::new();
		Ok(Self { store, nodes, chunks, may_come_back, has_damaged_nodes: false })
	}

	fn mark_all(&mut self, roots: Vec<Cid>) -> Result<(), RepositoryError> {
		let mut pending: Vec<_> = roots.into_iter().map(|root| (root, Expected::Whole)).collect();
		while let Some((cid, expected)) = pending.pop() {
			if !is_node(&cid) {
				self.chunks.insert(&cid.digest());
			} else if self.nodes.insert(cid.digest()) {
				let (children, expected) = self.children(&cid, expected)?;
				pending.extend(children.into_iter().map(|child| (child, expected)));
			}
		}
		Ok(())
	}

	fn mark_sessions(&mut self) -> Result<(), RepositoryError> {
		let nodes = lock(&self.store.sessions).all().flat_map(|session| session.nodes()).collect();
		self.mark_all(nodes)
	}

	/// The children of a node, and what to expect of them.
	fn children(
		&mut self,
		node: &Cid,
		expected: Expected,
	) -> Result<(Vec<Cid>, Expected), RepositoryError> {
		let entry = match self.store.look_up(&node.digest())? {
			Some(entry) if entry.is_node || entry.flaw.is_some() => entry,
			Some(_) | None if expected == Expected::Parts => {
				return Ok((Vec::new(), Expected::Parts));
			}
			Some(_) | None => return Err(RepositoryError::Missing { cid: *node }),
		};
		let expected = match entry.flaw {
			None => Expected::Whole,
			Some(_) => {
				// It does not stand among the nodes. Its entry stays as long as the pin, or an
				// index without it would be taken for an old one.
				self.chunks.insert(&node.digest());
				Expected::Parts
			}
		};
		let is_damaged = entry.flaw == Some(Flaw::Damaged);
		self.has_damaged_nodes |= is_damaged;
		let block = match self.store.read(&entry) {
			Ok(block) if digest(&block) == node.digest() => block,
			Err(error) if !(is_damaged && error.is_loss()) => return Err(error),
			// Where it can be read again after all, what is below it stays.
			Ok(_) | Err(_) if is_damaged && !self.may_come_back => {
				return Ok((Vec::new(), expected));
			}
			Ok(_) | Err(_) => {
				if is_damaged {
					tracing::warn!(
						target: "store",
						%node,
						"nothing is freed: what hangs below a damaged node is unknown, until it is \
						 mended, its snapshots are given up, or `fsck --repair` goes on without it"
					);
				}
				return Err(RepositoryError::Corrupt { cid: *node });
			}
		};
		let children = links(&block);
		let children =
			children.map_err(|source| RepositoryError::NotANode { cid: *node, source })?;
		Ok((children, expected))
	}
}

/// What a walk may count on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
	/// The node, with everything below it.
	Whole,
	/// Whatever is left below a node that is known to be incomplete.
	Parts,
}

/// Waits until nobody uses the answer of a look-up, and keeps everybody out.
pub(crate) fn shut(store: &Shared) -> RwLockWriteGuard<'_, ()> {
	store.gate.write().unwrap_or_else(PoisonError::into_inner)
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
	let also_chunks = candidates.iter().filter(|digest| live.chunks.contains(digest));
	live.mark_all(also_chunks.map(|digest| Cid::dag_cbor(*digest)).collect())?;
	candidates.retain(|digest| !live.nodes.contains(digest));
	match candidates.is_empty() {
		true => Ok(Collected::default()),
		false => store.index.remove(&candidates),
	}
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

fn reclaim(store: &Shared) -> Result<(), RepositoryError> {
	// Readers that looked up a place before the last commit are gone after this.
	drop(shut(store));
	// Asked before the index: a block that is committed in between is found there.
	let in_use = lock(&store.writer).packs_in_use();
	for (pack, state) in store.index.packs()? {
		if state.live_blocks == 0 && !in_use.contains(&pack) {
			store.index.drop_pack(pack)?;
			store.packs.remove(pack)?;
		} else {
			punch(store, pack)?;
		}
	}
	Ok(())
}

fn punch(store: &Shared, pack: u32) -> Result<(), RepositoryError> {
	let runs = store.index.dead_runs(pack)?;
	if runs.is_empty() {
		return Ok(());
	}
	let file = match store.packs.file(pack) {
		// A pack that is gone takes no space, and is dead in the same places when it comes back.
		Err(error) if error.is_loss() => return Ok(()),
		file => file?,
	};
	let io = RepositoryError::io;
	let mut records = Vec::new();
	for run in &runs {
		// An entry that was damaged may have named any place, even one amid good blocks.
		let is_record = match consists_of_records(&*file, run).map_err(io("read a pack")) {
			// What the disk cannot read any more is left alone too.
			Err(error) if error.is_loss() => false,
			checked => checked?,
		};
		match is_record {
			true => records.push(*run),
			false => {
				let at = run.offset;
				tracing::error!(target: "store", pack, at, "dead space is no record, left alone");
			}
		}
	}
	for run in &records {
		let skipped = u32::try_from(run.len - HEADER_BYTES).expect("packs are below 4 GiB");
		let header = Header::skip(skipped).encode(&[]);
		file.write_at(run.offset, &header).map_err(io("write a pack"))?;
	}
	// A hole without its skip header would be taken for damage by a rebuild.
	file.sync().map_err(io("sync a pack"))?;
	for run in &records {
		file.punch(run.offset + HEADER_BYTES, run.len - HEADER_BYTES)
			.map_err(io("free space in a pack"))?;
	}
	store.index.clear_dead(pack, &runs)
}

fn consists_of_records(file: &dyn StoreFile, run: &DeadRun) -> io::Result<bool> {
	let (mut at, end) = (run.offset, run.offset + run.len);
	while at + HEADER_BYTES <= end.min(file.len()?) {
		let mut header = [0; HEADER_BYTES as usize];
		file.read_at(at, &mut header)?;
		match Header::decode(&header, &[]) {
			Some(header) => at += header.record_bytes(),
			None => return Ok(false),
		}
	}
	Ok(at == end)
}
