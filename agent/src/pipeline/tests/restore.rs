use super::fixture::*;
use crate::{
	format::{
		ChildRef, Node, NodeBlock, NodeError, Object, ReadKey, Root, RootError, Sealer,
		seal::open_chunk,
	},
	pipeline::{Cancel, RestoreError, RestoreTarget, open_root, source::OnFound},
	repositories::{BlockSource, RepositoryError},
};
use age::x25519::Identity;
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::HashMap,
	io,
	num::NonZero,
	sync::{
		Mutex,
		atomic::{AtomicU64, Ordering},
	},
	time::Duration,
};

/// A repository in which one block is missing or damaged.
struct Broken<'a> {
	repository: &'a dyn BlockSource,
	cid: Cid,
	is_damaged: bool,
}

impl BlockSource for Broken<'_> {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		match *cid == self.cid && self.is_damaged {
			true => Err(RepositoryError::Corrupt { cid: *cid }),
			false => self.get_unchecked(cid),
		}
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let block = self.repository.get(cid)?;
		match *cid == self.cid {
			false => Ok(block),
			true if !self.is_damaged => Ok(None),
			true => Ok(block.map(|mut block| {
				let middle = block.len() / 2;
				block[middle] ^= 1;
				block
			})),
		}
	}
}

fn restore_from(
	world: &World,
	repository: &dyn BlockSource,
	object: &Object,
) -> Result<u64, RestoreError> {
	let mut target = MemoryTarget::default();
	let restore = crate::pipeline::Restore {
		repository,
		geometry: world.geometry,
		object,
		threads: NonZero::new(3).unwrap(),
		on_progress: &|_| {},
		cancel: &world.cancel,
	};
	let result = restore.run(&mut target);
	assert_eq!(target.is_finished, result.is_ok());
	result
}

/// A target that is told at once how far it is, and checks it.
struct Checked<'a> {
	expected: &'a [u8],
	written: Mutex<Vec<u8>>,
	/// The most that it was told.
	kept_bytes: AtomicU64,
	/// Cancels when so much was written.
	until: (&'a Cancel, u64),
}

impl RestoreTarget for Checked<'_> {
	fn resume(&mut self, _: &Cid, _: u64, _: OnFound<'_>) -> io::Result<u64> {
		Ok(*self.kept_bytes.get_mut())
	}

	fn keep_every(&self) -> Option<Duration> {
		Some(Duration::from_micros(50))
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		let done = done_bytes as usize;
		assert!(self.written.lock().unwrap()[..done] == self.expected[..done], "too much is told");
		assert!(self.kept_bytes.fetch_max(done_bytes, Ordering::Relaxed) <= done_bytes);
		Ok(())
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		self.written.get_mut().unwrap().resize(logical_bytes as usize, 0);
		Ok(())
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		// Workers overtake each other.
		std::thread::sleep(Duration::from_micros(u64::from(bytes[0])));
		let offset = offset as usize;
		self.written.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
		if offset as u64 >= self.until.1 {
			self.until.0.cancel();
		}
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		Ok(())
	}
}

#[test]
fn a_restore_tells_no_more_than_is_written_and_goes_on_from_there() {
	let mut expected = noise(1, 300 * CHUNK + 17);
	expected[50 * CHUNK..70 * CHUNK].fill(0);
	let world = World::new();
	let (_, root) = world.keep(None, MemoryDisk::new(expected.clone()), None);
	let mut kept_bytes = 0;
	let mut written = Vec::new();
	for end in [60, 100, 180, 400] {
		let cancel = Cancel::new();
		let mut target = Checked {
			expected: &expected,
			written: Mutex::new(written),
			kept_bytes: AtomicU64::new(kept_bytes),
			until: (&cancel, end * CHUNK as u64),
		};
		let restore = crate::pipeline::Restore {
			repository: &world.store,
			geometry: root.geometry,
			object: &root.disks[0],
			threads: NonZero::new(3).unwrap(),
			on_progress: &|_| {},
			cancel: &cancel,
		};
		let result = restore.run(&mut target);
		assert_eq!(result.is_ok(), end == 400, "{result:?}");
		let kept = target.kept_bytes.into_inner();
		assert!(kept >= kept_bytes);
		kept_bytes = kept;
		written = target.written.into_inner().unwrap();
		// What is beyond is lost.
		if end < 400 {
			written[kept_bytes as usize..].fill(0);
		}
	}
	assert!(kept_bytes > 0 && written == expected);
}

fn world_with_a_disk() -> (World, Cid, Root) {
	let world = World::new();
	let (report, root) = world.keep(None, MemoryDisk::new(noise(1, 100 * CHUNK)), None);
	(world, report.root, root)
}

/// The blocks of the first disk that stand alone at the third level and below.
fn path_to_chunk(world: &World, root: &Root) -> Vec<Cid> {
	let mut child = root.disks[0].tree.clone().unwrap();
	let mut path = vec![child.cid];
	while child.cid.codec() == backup_primitives::cid::BlockCodec::DagCbor {
		let block = world.store.get(&child.cid).unwrap().unwrap();
		let node = crate::format::NodeBlock::decode(&block).unwrap();
		let node = node.open(&child.key, world.geometry).unwrap();
		child = node.children.into_iter().flatten().last().unwrap();
		path.push(child.cid);
	}
	path
}

#[test]
fn missing_and_damaged_blocks_are_named_with_their_place() {
	let (world, _, root) = world_with_a_disk();
	let places = [0, 64 * CHUNK, 96 * CHUNK, 96 * CHUNK, 99 * CHUNK];
	let path = path_to_chunk(&world, &root);
	assert_eq!(path.len(), places.len());
	for (cid, place) in path.into_iter().zip(places) {
		for is_damaged in [false, true] {
			let broken = Broken { repository: &world.store, cid, is_damaged };
			match restore_from(&world, &broken, &root.disks[0]) {
				Err(RestoreError::Missing { cid: found, offset }) if !is_damaged => {
					assert_eq!((found, offset), (cid, place as u64));
				}
				Err(RestoreError::Corrupt { cid: found, offset }) if is_damaged => {
					assert_eq!((found, offset), (cid, place as u64));
				}
				result => panic!("{cid} at {place}, damaged: {is_damaged}: {result:?}"),
			}
		}
	}
}

#[test]
fn a_sound_block_with_another_key_is_unusable() {
	let (world, _, root) = world_with_a_disk();
	let mut object = root.disks[0].clone();
	object.tree.as_mut().unwrap().key = crate::format::ReadKey::from_bytes([0; 32]);
	let result = restore_from(&world, &world.store, &object);
	assert!(matches!(result, Err(RestoreError::Unusable { offset: 0, .. })));
}

#[test]
fn a_tree_that_is_larger_than_its_disk_is_refused() {
	let (world, _, root) = world_with_a_disk();
	let mut object = root.disks[0].clone();
	object.logical_bytes = 90 * CHUNK as u64;
	let result = restore_from(&world, &world.store, &object);
	assert!(matches!(result, Err(RestoreError::Unusable { .. })), "{result:?}");
}

/// Blocks, whatever they are.
struct Blocks(HashMap<Cid, Vec<u8>>);

impl BlockSource for Blocks {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		Ok(self.0.get(cid).cloned())
	}
}

#[test]
fn links_that_do_not_fit_their_level_are_refused() {
	let world = World::new();
	let mut sealer = Sealer::new(&world.key);
	let (block, key) = sealer.chunk(&[7; CHUNK]);
	let (block, id) = (block.to_vec(), sealer.chunk_id(&[7; CHUNK]));
	let digest = crate::format::digest(&block);
	let named = |cid| ChildRef { cid, key: key.clone(), id };
	let node_over = |child: ChildRef, sealer: &mut Sealer| {
		let mut node = Node::empty(world.geometry);
		node.children[0] = Some(child);
		node.seal(sealer)
	};
	let restore = |tree: ChildRef, blocks: Vec<(Cid, Vec<u8>)>, chunks: usize| {
		let object =
			Object { name: "vda".into(), logical_bytes: (chunks * CHUNK) as u64, tree: Some(tree) };
		let source = Blocks(blocks.into_iter().collect());
		restore_from(&world, &source, &object)
	};
	let inconsistent = |result| {
		let source = NodeError::Inconsistent;
		matches!(result, Err(RestoreError::Unusable { source: found, .. }) if found == source)
	};
	// A chunk that is linked as a node.
	let (raw, as_node) = (Cid::raw(digest), Cid::dag_cbor(digest));
	let (wrong, over_wrong) = node_over(named(as_node), &mut sealer);
	let blocks = vec![(as_node, block.clone()), (over_wrong.cid, wrong)];
	assert!(inconsistent(restore(over_wrong, blocks, 4)));
	// A node that is linked as a chunk.
	let (right, over_right) = node_over(named(raw), &mut sealer);
	let hidden = ChildRef { cid: Cid::raw(over_right.cid.digest()), ..over_right.clone() };
	let (top, over_top) = node_over(hidden.clone(), &mut sealer);
	let blocks = vec![(raw, block.clone()), (hidden.cid, right.clone()), (over_top.cid, top)];
	assert!(inconsistent(restore(over_top, blocks, 16)));
	// As it should be.
	let (top, over_top) = node_over(over_right.clone(), &mut sealer);
	let blocks = vec![(raw, block), (over_right.cid, right), (over_top.cid, top)];
	restore(over_top, blocks, 16).unwrap();
}

#[test]
fn a_root_by_the_name_of_a_chunk_is_refused() {
	let (world, cid, _) = world_with_a_disk();
	let block = world.store.get(&cid).unwrap().unwrap();
	let raw = Cid::raw(cid.digest());
	let result = open_root(&Blocks([(raw, block)].into()), &raw);
	assert!(matches!(result, Err(RestoreError::Root(RootError::NotARoot))));
}

#[test]
fn the_wrong_secret_is_told_apart_from_damage() {
	let (world, cid, _) = world_with_a_disk();
	let block = open_root(&world.store, &cid).unwrap();
	let opened = block.open_with_identity(&Identity::generate());
	assert!(RestoreError::from(opened.unwrap_err()).is_wrong_secret());
	assert!(block.open_with_identity(&world.node).is_ok());
	let missing = Cid::dag_cbor([9; 32]);
	let result = open_root(&world.store, &missing);
	assert!(matches!(result, Err(RestoreError::NoSuchRoot { cid }) if cid == missing));
	let broken = Broken { repository: &world.store, cid, is_damaged: true };
	assert!(!open_root(&broken, &cid).err().is_some_and(|error| error.is_wrong_secret()));
}

#[test]
fn a_full_target_and_a_cancel_end_the_restore() {
	let (world, _, root) = world_with_a_disk();
	let mut target = MemoryTarget { is_full: true, ..MemoryTarget::default() };
	let result = world.restore(&root, 0, &mut target);
	assert!(matches!(result, Err(RestoreError::Target { .. })));
	world.cancel.cancel();
	let result = world.restore(&root, 0, &mut MemoryTarget::default());
	assert!(matches!(result, Err(RestoreError::Cancelled)));
}

/// Every block of a snapshot with the key that its parent has for it, tops first.
fn keys(world: &World, root: &Root) -> Vec<ChildRef> {
	let mut found: Vec<ChildRef> = root.disks.iter().filter_map(|disk| disk.tree.clone()).collect();
	let mut at = 0;
	while let Some(child) = found.get(at).cloned() {
		if child.cid.codec() == BlockCodec::DagCbor {
			let block = world.store.get(&child.cid).unwrap().unwrap();
			let node = NodeBlock::decode(&block).unwrap().open(&child.key, world.geometry).unwrap();
			found.extend(node.children.into_iter().flatten());
		}
		at += 1;
	}
	found
}

/// Whether a key opens a block of the store, whatever it is.
fn opens(world: &World, key: &ReadKey, cid: &Cid) -> bool {
	let mut block = world.store.get(cid).unwrap().unwrap();
	match cid.codec() {
		BlockCodec::DagCbor => NodeBlock::decode(&block).unwrap().open(key, world.geometry).is_ok(),
		BlockCodec::Raw => open_chunk(key, &mut block, &mut [0; CHUNK]).is_ok(),
	}
}

#[test]
fn a_read_key_opens_its_block_and_no_other_of_two_snapshots() {
	let world = World::new();
	let bytes = noise(1, 12 * CHUNK);
	let (first_report, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	let other = [&bytes[..8 * CHUNK], &noise(2, 4 * CHUNK)].concat();
	let (second_report, second) = world.keep(Some(&first), MemoryDisk::new(other), None);
	let mut blocks = keys(&world, &first);
	blocks.extend(keys(&world, &second));
	let mut by_cid: HashMap<Cid, ReadKey> = HashMap::new();
	for child in &blocks {
		let key = by_cid.entry(child.cid).or_insert_with(|| child.key.clone());
		assert_eq!(*key, child.key, "one block has one key");
	}
	for (cid, key) in &by_cid {
		for other in by_cid.keys() {
			assert_eq!(opens(&world, key, other), cid == other);
		}
		let sealed = open_root(&world.store, &second_report.root).unwrap();
		assert!(sealed.open_with_read_key(key).is_err());
	}
	// And a root's key no other root, though both have the same disk in part.
	let block = open_root(&world.store, &first_report.root).unwrap();
	assert!(block.open_with_read_key(&first_report.read_key).is_ok());
	assert!(block.open_with_read_key(&second_report.read_key).is_err());
}
