use super::*;
use crate::{
	pipeline::{Cancel, CopyError, ExportError, copy, export},
	repositories::{
		Chunks, EmbeddedStore, Repository,
		embedded::tests::fixture::{Block, chunk, node, open, put_all},
	},
};
use proptest::prelude::*;
use std::num::NonZero;
use tempfile::TempDir;

/// A small snapshot in which one chunk stands twice, in the order in which it is exported.
fn snapshot() -> Vec<Block> {
	let (shared, own) = (chunk(1, 300_000), chunk(2, 5));
	let first = node(3, &[&shared, &own]);
	let second = node(4, &[&shared]);
	let root = node(5, &[&first, &second]);
	vec![root, first, shared, own, second]
}

struct World {
	folder: TempDir,
	blocks: Vec<Block>,
	store: EmbeddedStore,
}

impl World {
	fn new() -> Self {
		let folder = tempfile::tempdir().unwrap();
		let blocks = snapshot();
		let store = open(&folder.path().join("store"));
		let session = store.open_session().unwrap();
		let [root, first, shared, own, second] = &blocks[..] else { unreachable!() };
		put_all(&*session, &[shared, own, first, second, root]);
		session.pin(&blocks[0].cid, b"").unwrap();
		drop(session);
		Self { folder, blocks, store }
	}

	fn root(&self) -> Cid {
		self.blocks[0].cid
	}

	fn export(&self) -> Vec<u8> {
		let cancel = Cancel::new();
		let (exported, bytes) =
			export(&self.store, &self.root(), Vec::new(), &|_| {}, &cancel).unwrap();
		assert_eq!(exported.blocks, self.blocks.len() as u64);
		assert_eq!(exported.file_bytes, bytes.len() as u64);
		bytes
	}

	fn open(&self, bytes: &[u8]) -> Result<CarFile, CarError> {
		open_bytes(self.folder.path(), bytes)
	}

	/// Copy what a file names into a new store.
	fn import(&self, car: &CarFile) -> Result<EmbeddedStore, CopyError> {
		let store = open(&self.folder.path().join("other"));
		let session = store.open_session().unwrap();
		let threads = NonZero::new(2).unwrap();
		copy(car, &*session, &car.roots()[0], threads, &|_| {}, &Cancel::new())?;
		session.pin(&car.roots()[0], b"").unwrap();
		drop(session);
		Ok(store)
	}
}

fn open_bytes(folder: &Path, bytes: &[u8]) -> Result<CarFile, CarError> {
	let path = folder.join("snapshot.car");
	std::fs::write(&path, bytes).unwrap();
	CarFile::open(&path)
}

#[test]
fn a_snapshot_comes_back_from_its_file() {
	let world = World::new();
	let car = world.open(&world.export()).unwrap();
	assert_eq!((car.roots(), car.blocks()), ([world.root()].as_slice(), world.blocks.len()));
	for block in &world.blocks {
		assert_eq!(car.get(&block.cid).unwrap().as_ref(), Some(&block.bytes));
	}
	assert_eq!(car.get(&chunk(9, 9).cid).unwrap(), None);
	let store = world.import(&car).unwrap();
	assert!(store.is_pinned(&world.root()));
	let report =
		crate::repositories::verify(&store, &world.root(), Chunks::Hashed, &mut |_| true).unwrap();
	assert!(report.is_good());
}

/// The bytes of a file with one root and one block, as the specification has them.
#[test]
fn files_are_written_as_specified() {
	let block = chunk(1, 3);
	let mut car = CarWriter::new(Vec::new(), &block.cid).unwrap();
	car.block(&block.cid, &block.bytes).unwrap();
	let bytes = car.finish().unwrap();
	let expected = [
		&[0x3a, 0xa2, 0x65][..],
		b"roots",
		&[0x81, 0xd8, 0x2a, 0x58, 0x25, 0x00],
		block.cid.as_bytes(),
		&[0x67],
		b"version",
		&[0x01, 36 + 3],
		block.cid.as_bytes(),
		&block.bytes,
	]
	.concat();
	assert_eq!(bytes, expected);
}

#[test]
fn blocks_are_written_depth_first_and_once() {
	let world = World::new();
	let bytes = world.export();
	let at = |block: &Block| {
		let found: Vec<_> = (0..bytes.len() - CID_BYTES)
			.filter(|at| bytes[*at..].starts_with(block.cid.as_bytes()))
			// Links are behind a zero byte, sections behind a length.
			.filter(|at| bytes[at - 1] != 0)
			.collect();
		assert_eq!(found.len(), 1, "{}", block.cid);
		found[0]
	};
	assert!(world.blocks.iter().map(at).is_sorted());
}

#[test]
fn a_missing_block_ends_the_export() {
	let world = World::new();
	let missing = node(77, &[]).cid;
	let result = export(&world.store, &missing, Vec::new(), &|_| {}, &Cancel::new());
	assert!(matches!(result, Err(ExportError::Missing { cid }) if cid == missing));
}

#[test]
fn an_export_that_is_cancelled_ends() {
	let world = World::new();
	let cancel = Cancel::new();
	cancel.cancel();
	let result = export(&world.store, &world.root(), Vec::new(), &|_| {}, &cancel);
	assert!(matches!(result, Err(ExportError::Cancelled)));
}

#[test]
fn a_file_that_is_cut_is_noticed_wherever_it_is_cut() {
	let world = World::new();
	let bytes = world.export();
	let near_the_end = bytes.len() - 500..bytes.len();
	for end in (0..500).chain(near_the_end) {
		match world.open(&bytes[..end]) {
			Err(CarError::Truncated { .. } | CarError::HeaderLength) => (),
			// Between two sections nothing shows, until a block is asked for.
			Ok(car) => assert!(
				matches!(world.import(&car), Err(CopyError::Missing { .. })),
				"cut at byte {end}"
			),
			other => panic!("cut at byte {end}: {other:?}"),
		}
	}
}

#[test]
fn a_changed_block_is_noticed_when_it_is_read() {
	let world = World::new();
	let mut bytes = world.export();
	let last = bytes.len() - 1;
	bytes[last] ^= 1;
	let car = world.open(&bytes).unwrap();
	let result = world.import(&car);
	let damaged = world.blocks.last().unwrap().cid;
	assert!(
		matches!(result, Err(CopyError::Read(RepositoryError::Corrupt { cid })) if cid == damaged)
	);
}

#[test]
fn blocks_may_stand_in_any_order_and_twice() {
	let world = World::new();
	let mut car = CarWriter::new(Vec::new(), &world.root()).unwrap();
	for block in world.blocks.iter().rev().chain(&world.blocks) {
		car.block(&block.cid, &block.bytes).unwrap();
	}
	let car = world.open(&car.finish().unwrap()).unwrap();
	world.import(&car).unwrap();
}

#[test]
fn other_files_are_told_from_a_car() {
	let folder = tempfile::tempdir().unwrap();
	let open = |bytes: &[u8]| open_bytes(folder.path(), bytes).unwrap_err();
	let header = |text: &[u8]| [&[text.len() as u8], text].concat();
	assert!(matches!(open(b""), CarError::Truncated { at: 0 }));
	assert!(matches!(open(b"\0"), CarError::HeaderLength));
	assert!(matches!(open(b"\xff\xff\xff\xff\x7f"), CarError::HeaderLength));
	assert!(matches!(open(b"PK\x03\x04 some archive"), CarError::HeaderLength));
	assert!(matches!(open(&header(b"{\"roots\": []}")), CarError::Header(_)));
	assert!(matches!(open(&header(VERSION_2)), CarError::Version { found: 2 }));
	let newer = header(b"\xa2\x65roots\x80\x67version\x03");
	assert!(matches!(open(&newer), CarError::Version { found: 3 }));
}

const HEADER_WITHOUT_ROOTS: &[u8] = b"\x11\xa2\x65roots\x80\x67version\x01";

#[test]
fn lengths_that_no_section_has_are_refused() {
	let folder = tempfile::tempdir().unwrap();
	let open = |section: &[u8]| {
		open_bytes(folder.path(), &[HEADER_WITHOUT_ROOTS, section].concat()).unwrap_err()
	};
	let at = HEADER_WITHOUT_ROOTS.len() as u64;
	let wrong_length =
		|error| matches!(error, CarError::SectionLength { at: found } if found == at);
	assert!(wrong_length(open(&[0])));
	// A length of five bytes, and one with a needless byte.
	assert!(wrong_length(open(&[0xff, 0xff, 0xff, 0xff, 1])));
	assert!(wrong_length(open(&[0xa4, 0x00, 1, 2])));
	let too_large = [varint(CID_BYTES + BLOCK_BYTES_MAX + 1), chunk(1, 1).cid.as_bytes().to_vec()];
	let too_large = [too_large.concat(), vec![0; BLOCK_BYTES_MAX + 1]].concat();
	assert!(wrong_length(open(&too_large)));
}

#[test]
fn blocks_of_foreign_kinds_are_stepped_over() {
	let folder = tempfile::tempdir().unwrap();
	let identity = [4, 0x01, 0x55, 0x00, 0x00];
	let version_0 = [&[36, 0x12, 0x20][..], &[7; 34]].concat();
	let ours = chunk(1, 3);
	let ours_as_section = [&[36 + 3], ours.cid.as_bytes().as_slice(), &ours.bytes].concat();
	let bytes = [HEADER_WITHOUT_ROOTS, &identity, &version_0, &ours_as_section].concat();
	let car = open_bytes(folder.path(), &bytes).unwrap();
	assert_eq!((car.roots(), car.blocks()), ([].as_slice(), 1));
	assert_eq!(car.get(&ours.cid).unwrap(), Some(ours.bytes));
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(256))]

	#[test]
	fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
		let folder = tempfile::tempdir().unwrap();
		let _ = open_bytes(folder.path(), &bytes);
		let _ = open_bytes(folder.path(), &[HEADER_WITHOUT_ROOTS, &bytes].concat());
	}
}
