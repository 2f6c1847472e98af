//! Damaged stores: what is said of them, what still restores, and that the next backup of the same
//! content makes all whole.

mod index;
mod noting;
mod obstacles;
mod opening;
mod repairs;
mod unread;

use super::{fixture::*, simulated::SimulatedFiles};
use crate::{
	format::Cid,
	repositories::{
		BlockSource, Chunks, EmbeddedStore, Obstacles, Repository, StoreReport,
		embedded::{findings::DAMAGED_MAX, record::HEADER_BYTES},
		verify,
	},
};
use std::sync::Arc;

/// Two snapshots that share a chunk and a node; each has a chunk and a node of its own.
struct Snapshots {
	shared: [Block; 2],
	shared_node: Block,
	own: [Block; 2],
	own_nodes: [Block; 2],
	roots: [Block; 2],
}

impl Snapshots {
	fn new() -> Self {
		let shared = [chunk(1, 3000), chunk(2, 3000)];
		let shared_node = node(3, &[&shared[0], &shared[1]]);
		let own = [chunk(10, 3000), chunk(20, 3000)];
		let own_nodes = [node(11, &[&own[0]]), node(21, &[&own[1]])];
		let roots = [0, 1].map(|at| node(30 + at as u64, &[&shared_node, &own_nodes[at]]));
		Self { shared, shared_node, own, own_nodes, roots }
	}

	/// In the order of a backup.
	fn blocks(&self, snapshot: usize) -> [&Block; 6] {
		[
			&self.shared[0],
			&self.shared[1],
			&self.shared_node,
			&self.own[snapshot],
			&self.own_nodes[snapshot],
			&self.roots[snapshot],
		]
	}

	fn back_up(&self, store: &EmbeddedStore, snapshot: usize) {
		let session = store.open_session().unwrap();
		put_all(&*session, &self.blocks(snapshot));
		session.pin(&self.roots[snapshot].cid, b"label").unwrap();
	}

	fn is_whole(&self, store: &EmbeddedStore, snapshot: usize) -> bool {
		let root = &self.roots[snapshot].cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}

fn open_on(files: &SimulatedFiles) -> EmbeddedStore {
	EmbeddedStore::open_files(Arc::new(files.clone()), SMALL).unwrap()
}

/// A disk with both snapshots on it, the store closed.
fn disk() -> (SimulatedFiles, Snapshots) {
	let (files, snapshots) = (SimulatedFiles::default(), Snapshots::new());
	let store = open_on(&files);
	snapshots.back_up(&store, 0);
	snapshots.back_up(&store, 1);
	drop(store);
	(files, snapshots)
}

const PACK: &str = "00000001.pack";

/// Flips a bit within the record of a block, at an offset from its header.
fn flip_in(files: &SimulatedFiles, block: &Block, at: usize) {
	files.edit(PACK, |bytes| {
		let cid = block.cid.as_bytes();
		let found = bytes.windows(cid.len()).position(|window| window == cid).unwrap();
		bytes[found - 12 + at] ^= 4;
	});
}

const DATA: usize = HEADER_BYTES as usize + 7;

fn check(store: &EmbeddedStore) -> StoreReport {
	store.check(&mut |_| true).unwrap()
}

fn repair(store: &EmbeddedStore) -> StoreReport {
	store.repair(&mut |_| true).unwrap()
}

/// A new backup of the same content, and everything is as if nothing had happened.
fn assert_heals(store: &EmbeddedStore, snapshots: &Snapshots) {
	snapshots.back_up(store, 0);
	snapshots.back_up(store, 1);
	repair(store);
	let report = check(store);
	assert!(report.is_good(), "{report:?}");
	assert!((0..2).all(|snapshot| snapshots.is_whole(store, snapshot)));
	store.confirm_pins().unwrap();
	store.collect().unwrap();
	assert!((0..2).all(|snapshot| snapshots.is_whole(store, snapshot)));
}

/// Flips a bit of a block's bytes, found by its bytes.
fn flip_in_data_at(files: &SimulatedFiles, block: &Block) {
	files.edit(PACK, |bytes| {
		let found = bytes.windows(32).position(|window| window == &block.bytes[..32]).unwrap();
		bytes[found + 40] ^= 1;
	});
}

/// Has a pinned tree count as whole again, as a backup does that puts the same nodes.
fn put_again(store: &EmbeddedStore, blocks: &[&Block]) {
	let session = store.open_session().unwrap();
	put_all(&*session, blocks);
	session.flush().unwrap();
}

fn note_lost(store: &EmbeddedStore, cids: &[Cid]) -> u64 {
	store.note_lost(cids, &mut || true).unwrap()
}

/// A pinned tree in three packs, and a block that nothing needs.
struct Spread {
	/// In the first pack, with the block that nothing needs.
	first: Block,
	/// In the second, with all that hangs below it.
	inner: Block,
	leaf: Block,
	chunks: [Block; 2],
	/// In the third.
	last: Block,
	root: Block,
	unneeded: Block,
}

impl Spread {
	fn new() -> (SimulatedFiles, Self, EmbeddedStore) {
		let chunks = [chunk(1, 10_000), chunk(2, 10_000)];
		let leaf = node(3, &[&chunks[0], &chunks[1]]);
		let inner = node(4, &[&leaf]);
		let (first, last) = (chunk(5, 55_000), chunk(6, 60_000));
		let root = node(7, &[&first, &inner, &last]);
		let spread = Self { first, inner, leaf, chunks, last, root, unneeded: chunk(8, 5_000) };
		let files = SimulatedFiles::default();
		let store = open_on(&files);
		put_again(&store, &[&spread.unneeded]);
		spread.back_up(&store);
		let place = |block: &Block| store.shared.index.get(&block.cid.digest()).unwrap().unwrap();
		let Self { chunks: [child, _], .. } = &spread;
		assert_eq!([&spread.first, child, &spread.inner].map(|b| place(b).pack), [1, 2, 2]);
		assert_eq!([&spread.last, &spread.root].map(|block| place(block).pack), [3, 3]);
		(files, spread, store)
	}

	fn back_up(&self, store: &EmbeddedStore) {
		let Self { first, inner, leaf, chunks: [one, two], last, root, .. } = self;
		let session = store.open_session().unwrap();
		put_all(&*session, &[first, one, two, leaf, inner, last, root]);
		session.pin(&root.cid, b"label").unwrap();
	}

	fn is_whole(&self, store: &EmbeddedStore) -> bool {
		let root = &self.root.cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}

const PACKS: [&str; 3] = [PACK, "00000002.pack", "00000003.pack"];

/// Flips a bit within the bytes of a block in some pack.
fn rot(files: &SimulatedFiles, pack: &str, block: &Block) {
	files.edit(pack, |bytes| {
		let found = bytes.windows(block.bytes.len()).position(|window| window == block.bytes);
		bytes[found.unwrap() + 3] ^= 1;
	});
}

/// A pinned tree of more chunks in one pack than are held when they are damaged, the root in another.
struct Many {
	chunks: Vec<Block>,
	root: Block,
}

impl Many {
	fn new() -> (SimulatedFiles, Self, EmbeddedStore) {
		let number = 2 * DAMAGED_MAX as u64 + 5;
		let bytes = SMALL.pack_bytes as usize / number as usize;
		let chunks: Vec<Block> = (0..number).map(|name| chunk(name, bytes)).collect();
		let root = node(1, &chunks.iter().collect::<Vec<_>>());
		let many = Self { chunks, root };
		let files = SimulatedFiles::default();
		let store = open_on(&files);
		many.back_up(&store);
		(files, many, store)
	}

	fn back_up(&self, store: &EmbeddedStore) {
		let session = store.open_session().unwrap();
		put_all(&*session, &self.chunks.iter().chain([&self.root]).collect::<Vec<_>>());
		session.pin(&self.root.cid, b"label").unwrap();
	}

	/// Takes every chunk in the first pack, which are nearly all, and says which.
	fn lose(&self, files: &SimulatedFiles, store: &EmbeddedStore) -> Vec<&Block> {
		files.edit(PACK, |bytes| bytes.clear());
		let is_lost = |chunk: &&Block| !matches!(store.get(&chunk.cid), Ok(Some(_)));
		let lost: Vec<_> = self.chunks.iter().filter(is_lost).collect();
		assert!(lost.len() > 2 * DAMAGED_MAX, "{}", lost.len());
		lost
	}

	fn is_whole(&self, store: &EmbeddedStore) -> bool {
		let root = &self.root.cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}
