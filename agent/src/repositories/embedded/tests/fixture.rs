//! A small language for store tests: chunks and nodes by name.

use crate::{
	format::{Cid, cbor::Encoder, digest},
	repositories::{EmbeddedStore, Put, Repository, RepositoryError, Session, StoreOptions},
};
use std::path::Path;

/// Small packs, so that tests have several.
pub(crate) const SMALL: StoreOptions = StoreOptions { pack_bytes: 64 * 1024, reserve_bytes: 0 };

pub(crate) struct Block {
	pub(crate) cid: Cid,
	pub(crate) bytes: Vec<u8>,
}

/// A chunk whose bytes follow from its name.
pub(crate) fn chunk(name: u64, len: usize) -> Block {
	let mut bytes = vec![0; len];
	blake3::Hasher::new().update(&name.to_le_bytes()).finalize_xof().fill(&mut bytes);
	Block { cid: Cid::raw(digest(&bytes)), bytes }
}

/// A node over other blocks, told from its like by its name.
pub(crate) fn node(name: u64, children: &[&Block]) -> Block {
	let mut encoder = Encoder::default();
	encoder.map(2);
	encoder.text("name");
	encoder.unsigned(name);
	encoder.text("links");
	encoder.array(children.len());
	children.iter().for_each(|child| encoder.link(&child.cid));
	// "name" is shorter than "links", so this is canonical.
	let bytes = encoder.finish();
	Block { cid: Cid::dag_cbor(digest(&bytes)), bytes }
}

pub(crate) fn open(folder: &Path) -> EmbeddedStore {
	EmbeddedStore::open(folder, SMALL).unwrap()
}

pub(crate) fn put(session: &dyn Session, block: &Block) -> Result<Put, RepositoryError> {
	session.put(&block.cid, &block.bytes)
}

pub(crate) fn put_all(session: &dyn Session, blocks: &[&Block]) {
	for block in blocks {
		put(session, block).unwrap();
	}
}

pub(crate) fn assert_there(store: &dyn Repository, blocks: &[&Block]) {
	for block in blocks {
		assert_eq!(store.get(&block.cid).unwrap().as_ref(), Some(&block.bytes), "{}", block.cid);
	}
}

pub(crate) fn assert_gone(store: &dyn Repository, blocks: &[&Block]) {
	for block in blocks {
		assert_eq!(store.get(&block.cid).unwrap(), None, "{}", block.cid);
		assert!(!store.has(&block.cid).unwrap());
	}
}
