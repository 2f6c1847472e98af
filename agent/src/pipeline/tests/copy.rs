use super::fixture::*;
use crate::{
	format::{cbor::Encoder, digest, links},
	pipeline::{Cancel, CopyError, Progress, Stored, copy},
	repositories::{BlockSource, Chunks, Repository, RepositoryError, VerifyReport, verify},
	walk::WHOLE,
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{collections::HashMap, num::NonZero, ops::ControlFlow, sync::Mutex};

#[test]
fn a_copy_moves_what_is_new_and_nothing_else() {
	let world = World::new();
	let mut bytes = noise(1, 100 * CHUNK);
	let (first, root) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	bytes[0] ^= 1;
	let (second, _) = world.keep(Some(&root), MemoryDisk::new(bytes.clone()), None);
	let other = World { store: memory_store(), ..World::new() };
	let session = other.store.open_session().unwrap();
	let threads = NonZero::new(3).unwrap();
	let walked = Mutex::new(Vec::new());
	let look = |progress: Progress| walked.lock().unwrap().push(progress.walked);
	let all = copy(&world.store, &*session, &first.root, threads, &look, &world.cancel).unwrap();
	assert_walked(&walked.into_inner().unwrap());
	assert_eq!(all.new_blocks, first.stored.new_blocks);
	let rest =
		copy(&world.store, &*session, &second.root, threads, &|_| {}, &world.cancel).unwrap();
	assert_eq!(rest.new_blocks, second.stored.new_blocks);
	session.pin(&second.root, b"").unwrap();
	assert!(verify(&other.store, &second.root, Chunks::Hashed, &mut |_| true).unwrap().is_good());

	let missing = backup_primitives::Cid::dag_cbor([9; 32]);
	let result = copy(&world.store, &*session, &missing, threads, &|_| {}, &world.cancel);
	assert!(matches!(result, Err(CopyError::Missing { cid }) if cid == missing));
	world.cancel.cancel();
	let session = memory_store().open_session().unwrap();
	let result = copy(&world.store, &*session, &first.root, threads, &|_| {}, &world.cancel);
	assert!(matches!(result, Err(CopyError::Cancelled)));
	assert!(matches!(session.pin(&first.root, b""), Err(RepositoryError::Missing { .. })));
}

/// A walk goes on step by step, and its shares make up the whole but for what is lost in dividing.
fn assert_walked(walked: &[u64]) {
	assert!(walked.is_sorted(), "{walked:?}");
	let last = walked.last().copied().unwrap();
	assert!(last <= WHOLE && last > WHOLE - (WHOLE >> 20), "{last} of {WHOLE}");
	let between = walked.iter().filter(|share| (WHOLE / 4..WHOLE / 4 * 3).contains(*share));
	assert!(between.count() > 1, "{walked:?}");
}

#[test]
fn a_walk_that_verifies_tells_how_far_it_has_come() {
	let world = World::new();
	let (report, _) = world.keep(None, MemoryDisk::new(noise(1, 100 * CHUNK)), None);
	for chunks in [Chunks::Asked, Chunks::Hashed] {
		let mut walked = Vec::new();
		let mut proceed = |report: &VerifyReport| {
			walked.push(report.walked);
			true
		};
		let found = verify(&world.store, &report.root, chunks, &mut proceed).unwrap();
		walked.push(found.walked);
		assert_walked(&walked);
	}
}

/// What a stranger says, block by block.
struct Said(HashMap<Cid, Vec<u8>>);

impl Said {
	/// Adds a node with these links, and names it.
	fn node(&mut self, links: &[Cid]) -> Cid {
		let mut node = Encoder::default();
		node.array(links.len());
		links.iter().for_each(|link| node.link(link));
		let node = node.finish();
		let cid = Cid::dag_cbor(digest(&node));
		self.0.insert(cid, node);
		cid
	}
}

impl BlockSource for Said {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		Ok(self.0.get(cid).cloned())
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.get(cid)
	}

	fn get_children(
		&self,
		node: &Cid,
		_: &[Cid],
		_: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) {
		let children = links(&self.0[node]).unwrap();
		assert!(children.iter().all(|child| child.codec() == BlockCodec::Raw), "no leaf");
	}
}

fn copy_of(said: &Said, root: &Cid) -> Result<Stored, CopyError> {
	let store = memory_store();
	let session = store.open_session().unwrap();
	copy(said, &*session, root, NonZero::<usize>::MIN, &|_| {}, &Cancel::new())
}

#[test]
fn boundary_a_copy_of_a_tree_that_is_too_wide_or_too_high_ends() {
	let mut said = Said(HashMap::new());
	let chunk = Cid::raw(digest(b"chunk"));
	said.0.insert(chunk, b"chunk".to_vec());
	let wide = said.node(&[chunk; 4096]);
	assert_eq!(copy_of(&said, &wide).unwrap().new_blocks, 2);
	let wider = said.node(&[chunk; 4097]);
	assert!(matches!(copy_of(&said, &wider), Err(CopyError::Shape { cid }) if cid == wider));
	let mut top = said.node(&[chunk]);
	for _ in 0..64 {
		top = said.node(&[top]);
	}
	assert!(copy_of(&said, &top).is_ok());
	let top = said.node(&[top]);
	assert!(matches!(copy_of(&said, &top), Err(CopyError::Shape { .. })));
}

/// A stream of all below the node would bring much that nobody asked for.
#[test]
fn chunks_beside_nodes_are_copied_one_by_one() {
	let mut said = Said(HashMap::new());
	let chunks = [b"one", b"two"].map(|chunk| {
		let cid = Cid::raw(digest(chunk));
		said.0.insert(cid, chunk.to_vec());
		cid
	});
	let leaf = said.node(&chunks);
	let mixed = said.node(&[chunks[0], leaf, chunks[1]]);
	assert_eq!(copy_of(&said, &mixed).unwrap().new_blocks, 4);
}
