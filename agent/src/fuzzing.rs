//! What is fed with arbitrary bytes: by `make fuzz` with those that a fuzzer finds, and by the
//! tests with those that it has found before, in `testdata/fuzz`.
//!
//! Each function holds for all inputs: it returns, and what was read is written as it was.

use crate::{
	format::{
		Geometry, NodeBlock, ReadKey, RepositoryKey, RootBlock, Sealer, digest,
		envelope::open_read_key, links, node, root,
	},
	repositories::{BlockSource, CarFile, EmbeddedStore, StoreOptions},
};
use age::x25519::Identity;
use backup_primitives::cid::BlockCodec;
use std::{fs, path::PathBuf, process, sync::OnceLock};

/// An input that is fed to one part of the program.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders.
pub const TARGETS: [(&str, Target); 8] = [
	("root", root_block),
	("header", sealed_header),
	("node", node_block),
	("secret", node_secret),
	("links", any_links),
	("envelope", envelope),
	("pack", pack),
	("car", car),
];

fn key() -> RepositoryKey {
	RepositoryKey::from_parts([1; 32], [2; 32])
}

/// The block of a root.
pub fn root_block(bytes: &[u8]) {
	if let Ok(root) = RootBlock::decode(bytes) {
		assert_eq!(root.encode(), bytes, "a root has one encoding");
		// What a store sees of it.
		let expected = root.disks().iter().chain(root.blobs()).filter(|o| o.tree.is_some()).count();
		assert_eq!(links(bytes).map(|links| links.len()), Ok(expected));
		let _ = root.open_with_read_key(&ReadKey::from_bytes([0; 32]));
	}
}

/// What is sealed in a root.
pub fn sealed_header(bytes: &[u8]) {
	if let Some(again) = root::reencode_header(&key(), bytes) {
		assert_eq!(again, bytes, "a header has one encoding");
	}
}

/// The block of a node.
pub fn node_block(bytes: &[u8]) {
	if let Ok(node) = NodeBlock::decode(bytes) {
		assert_eq!(node.encode(), bytes, "a node has one encoding");
		assert_eq!(links(bytes).as_deref(), Ok(node.links()));
	}
}

/// What is sealed in a node. The first byte says how many links stand beside it.
pub fn node_secret(bytes: &[u8]) {
	let Some((links, secret)) = bytes.split_first() else { return };
	let geometry = Geometry::new(4096, 8).expect("it is one");
	if let Some(again) = node::reencode_secret(&mut Sealer::new(&key()), geometry, *links, secret) {
		assert_eq!(again, secret, "the secret of a node has one encoding");
	}
}

/// Any dag-cbor, of which a store wants the links.
pub fn any_links(bytes: &[u8]) {
	if let Ok(links) = links(bytes) {
		// Each takes 41 bytes at least.
		assert!(links.len() * 41 <= bytes.len());
	}
}

/// An envelope, from a root or from whoever asks for a restore.
pub fn envelope(bytes: &[u8]) {
	static IDENTITY: OnceLock<Identity> = OnceLock::new();
	let identity = IDENTITY.get_or_init(Identity::generate);
	let _ = open_read_key(bytes, core::slice::from_ref(identity));
}

/// A pack whose index is lost.
pub fn pack(bytes: &[u8]) {
	let folder = scratch("pack");
	let _ = fs::remove_dir_all(&folder);
	fs::create_dir_all(&folder).expect("scratch can be written");
	fs::write(folder.join("00000001.pack"), bytes).expect("scratch can be written");
	let options = StoreOptions { pack_bytes: 1 << 20, reserve_bytes: 0 };
	let store = EmbeddedStore::open(&folder, options).expect("no pack keeps a store from opening");
	for (cid, block) in store.all_blocks() {
		assert_eq!(digest(&block), cid.digest(), "the index names what is there");
		if cid.codec() == BlockCodec::DagCbor {
			let mut children = links(&block).expect("it was stored as a node").into_iter();
			assert!(children.all(|child| store.has(&child).unwrap_or(false)));
		}
	}
}

/// A CAR file.
pub fn car(bytes: &[u8]) {
	let path = scratch("car");
	fs::write(&path, bytes).expect("scratch can be written");
	if let Ok(car) = CarFile::open(&path) {
		assert!(car.blocks() * 37 <= bytes.len());
		for root in car.roots() {
			if let Ok(Some(block)) = car.get(root) {
				assert_eq!(digest(&block), root.digest());
			}
		}
	}
}

/// A place that no other thread or process writes to, in memory if there is such a folder.
fn scratch(name: &str) -> PathBuf {
	let thread = format!("{:?}", std::thread::current().id());
	let memory = PathBuf::from("/dev/shm");
	let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
	let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
	folder.join(format!("backup-fuzz-{name}-{}-{thread}", process::id()))
}

#[cfg(test)]
mod tests {
	use super::*;

	/// What was found once is looked at for ever.
	#[test]
	fn the_corpus_finds_nothing() {
		let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
		for (name, target) in TARGETS {
			let mut count = 0;
			for entry in fs::read_dir(corpus.join(name)).unwrap() {
				let path = entry.unwrap().path();
				let bytes = fs::read(&path).unwrap();
				println!("{}", path.display());
				target(&bytes);
				count += 1;
			}
			assert!(count > 0, "{name} has no corpus");
		}
		let _ = fs::remove_dir_all(scratch("pack"));
		let _ = fs::remove_file(scratch("car"));
	}
}
