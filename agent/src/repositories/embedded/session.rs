//! Sessions: what a writer relies on stays while the writer lives.
//!
//! Every block has an id that rises with time. A session protects all blocks with an id at or
//! above the one at which it began, and every older block that it was told is there. It also
//! remembers the nodes among the latter, because what is below them must stay too.
//!
//! Sessions live in memory: a process that dies takes its sessions with it, as it should.

use crate::{
	format::{BLOCK_BYTES_MAX, Cid, links},
	repositories::{
		Put, RepositoryError, Session,
		embedded::{COMMIT_BLOCKS, COMMIT_BYTES, Shared, entry::Entry, is_node, lock},
	},
};
use std::{
	collections::{BTreeMap, HashSet},
	sync::{
		Arc, Mutex,
		atomic::{AtomicBool, Ordering},
	},
};

/// All sessions that collections have to mind.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
	open: Vec<Arc<SessionState>>,
	/// Whether a collection runs. Sessions that end meanwhile are kept until it is done, for
	/// what they pinned was perhaps not pinned yet when it looked.
	pub(crate) is_collecting: bool,
	ended: Vec<Arc<SessionState>>,
}

impl Sessions {
	/// All that are open, or ended during the running collection.
	pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<SessionState>> {
		self.open.iter().chain(&self.ended)
	}

	pub(crate) fn end_collection(&mut self) {
		self.is_collecting = false;
		self.ended.clear();
	}
}

/// What one session protects.
#[derive(Debug)]
pub(crate) struct SessionState {
	pub(crate) first_id: u64,
	protected: Mutex<Protected>,
}

#[derive(Debug, Default)]
struct Protected {
	ids: IdSet,
	nodes: HashSet<Cid>,
}

impl SessionState {
	pub(crate) fn protects(&self, id: u64) -> bool {
		id >= self.first_id || lock(&self.protected).ids.contains(id)
	}

	/// The nodes that the session was told are there.
	pub(crate) fn nodes(&self) -> Vec<Cid> {
		lock(&self.protected).nodes.iter().copied().collect()
	}

	fn protect(&self, cid: &Cid, entry: &Entry) {
		let mut protected = lock(&self.protected);
		if entry.id < self.first_id {
			protected.ids.insert(entry.id);
		}
		if entry.is_node {
			protected.nodes.insert(Cid::dag_cbor(cid.digest()));
		}
	}
}

/// A set of ids of which many are neighbours: one bit each, in pages.
#[derive(Debug, Default)]
struct IdSet(BTreeMap<u64, Box<[u64; 64]>>);

impl IdSet {
	fn insert(&mut self, id: u64) {
		let page = self.0.entry(id >> 12).or_insert_with(|| Box::new([0; 64]));
		page[(id >> 6 & 63) as usize] |= 1 << (id & 63);
	}

	fn contains(&self, id: u64) -> bool {
		let page = self.0.get(&(id >> 12));
		page.is_some_and(|page| page[(id >> 6 & 63) as usize] & 1 << (id & 63) != 0)
	}
}

/// One writer of the store.
#[derive(Debug)]
pub(crate) struct StoreSession {
	store: Arc<Shared>,
	state: Arc<SessionState>,
	/// How often unfinished writes had been lost when the session began.
	losses: u64,
	/// Whether blocks were stored since the last pin.
	has_loose_blocks: AtomicBool,
}

impl StoreSession {
	pub(crate) fn open(store: &Arc<Shared>) -> Self {
		// With the sessions locked, a collection either sees this one or has begun before it,
		// and then minds no id from here on.
		let mut sessions = lock(&store.sessions);
		let writer = lock(&store.writer);
		let state =
			Arc::new(SessionState { first_id: writer.next_id(), protected: Mutex::default() });
		sessions.open.push(state.clone());
		let losses = writer.losses();
		Self { store: store.clone(), state, losses, has_loose_blocks: AtomicBool::new(false) }
	}

	/// Refuses to go on when blocks of this session may be gone.
	fn ensure_nothing_lost(&self) -> Result<(), RepositoryError> {
		match lock(&self.store.writer).losses() == self.losses {
			true => Ok(()),
			false => Err(RepositoryError::SessionLost),
		}
	}

	/// Whether the block is there; if so it is protected. Needs the gate.
	fn protect(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		let entry = self.store.find(cid)?;
		if let Some(entry) = &entry {
			self.state.protect(cid, entry);
		}
		Ok(entry.is_some())
	}

	fn protect_children(&self, node: &Cid, block: &[u8]) -> Result<(), RepositoryError> {
		let children =
			links(block).map_err(|source| RepositoryError::NotANode { cid: *node, source })?;
		for child in children {
			if !self.protect(&child)? {
				return Err(RepositoryError::Incomplete { node: *node, child });
			}
		}
		Ok(())
	}

	fn append(&self, cid: &Cid, block: &[u8]) -> Result<Put, RepositoryError> {
		let mut writer = lock(&self.store.writer);
		let digest = cid.digest();
		let there = match writer.find(&digest) {
			Some(entry) => Some(entry),
			None => self.store.index.get(&digest)?,
		};
		let damaged = there.filter(Entry::is_damaged);
		let Some(mut entry) = there.filter(|_| damaged.is_none()) else {
			if let Some(old) = damaged {
				// A collection that has listed the old place must not take the new one for it.
				self.state.protect(cid, &old);
			}
			writer.append(cid, is_node(cid), block)?;
			self.has_loose_blocks.store(true, Ordering::Release);
			return Ok(Put::Stored);
		};
		if is_node(cid) && !entry.is_node {
			// The same bytes were stored as a raw block, or something below them was missing.
			// Their children are there by now.
			entry.is_node = true;
			entry.flaw = None;
			writer.restage(digest, entry);
		}
		drop(writer);
		self.state.protect(cid, &entry);
		Ok(Put::Present)
	}
}

impl Session for StoreSession {
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		let _gate = self.store.enter();
		self.ensure_nothing_lost()?;
		self.protect(cid)
	}

	fn put_unchecked(&self, cid: &Cid, block: &[u8]) -> Result<Put, RepositoryError> {
		debug_assert_eq!(crate::format::digest(block), cid.digest());
		let (found, max) = (block.len(), BLOCK_BYTES_MAX);
		if found > max {
			return Err(RepositoryError::BlockTooLarge { found, max });
		}
		let _gate = self.store.enter();
		self.ensure_nothing_lost()?;
		if is_node(cid) {
			self.protect_children(cid, block)?;
		}
		let put = self.append(cid, block)?;
		let (blocks, bytes) = lock(&self.store.writer).staged();
		if blocks >= COMMIT_BLOCKS || bytes >= COMMIT_BYTES {
			self.store.commit()?;
		}
		Ok(put)
	}

	fn flush(&self) -> Result<(), RepositoryError> {
		let _gate = self.store.enter();
		self.store.commit()?;
		self.ensure_nothing_lost()
	}

	fn pin(&self, root: &Cid, label: &[u8]) -> Result<(), RepositoryError> {
		let _gate = self.store.enter();
		if !self.protect(root)? {
			return Err(RepositoryError::Missing { cid: *root });
		}
		self.store.commit()?;
		self.ensure_nothing_lost()?;
		lock(&self.store.pins).pin(root, label)?;
		self.has_loose_blocks.store(false, Ordering::Release);
		Ok(())
	}
}

impl Drop for StoreSession {
	fn drop(&mut self) {
		let mut sessions = lock(&self.store.sessions);
		sessions.open.retain(|state| !Arc::ptr_eq(state, &self.state));
		if sessions.is_collecting {
			sessions.ended.push(self.state.clone());
		}
		drop(sessions);
		// Only now: a collection that begins before this is over would keep the blocks.
		if *self.has_loose_blocks.get_mut() {
			self.store.has_garbage.store(true, Ordering::Release);
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_id_set_holds_what_was_inserted() {
		let mut set = IdSet::default();
		let ids = [0, 1, 63, 64, 4095, 4096, 1 << 40, u64::MAX];
		ids.iter().for_each(|id| set.insert(*id));
		assert!(ids.iter().all(|id| set.contains(*id)));
		assert!([2, 62, 65, 4094, 4097, 1 << 41].iter().all(|id| !set.contains(*id)));
	}
}
