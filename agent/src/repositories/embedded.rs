//! The embedded store: packs of blocks, an index of where they stand, and a log of pins.
//!
//! ```text
//! lock            held while the store is open; one process at a time
//! 00000001.pack   blocks, append-only, 256 MiB each
//! index.redb      digest → pack and offset; can be rebuilt from the packs
//! pins.log        roots that must stay, with their labels
//! ```
//!
//! How a block becomes durable:
//! 1. it is appended to the active pack;
//! 2. the pack is synced, and the folder when the pack is new;
//! 3. the index takes it in one durable transaction;
//! 4. a pin is appended to the pin log and synced, and only then acknowledged.
//!
//! A crash between two of these steps leaves bytes that nothing names. They are cut off or
//! stepped over at the next start; an index entry without bytes never exists.
//!
//! How locks are taken, in this order: `gate`, `commit_turn`, `writer`; `sessions` and `pins`
//! stand alone. The gate is shared by all who use the answer of a look-up, and held alone for
//! the moment in which a collection removes entries: afterwards nobody knows the old places, and
//! their space can go.

mod bloom;
mod check;
mod collect;
mod entry;
mod files;
mod findings;
mod index;
mod lost;
mod mark;
mod packs;
mod pins;
mod reclaim;
mod record;
mod recovery;
mod repair;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

use crate::{
	format::{Cid, digest},
	repositories::{BlockSource, Collected, Pin, Repository, RepositoryError, Session, Usage},
};
use backup_primitives::cid::BlockCodec;
pub use check::StoreReport;
use entry::Entry;
use files::{DiskFiles, Files};
use index::Index;
pub use mark::{Obstacle, Obstacles};
use packs::{Packs, Writer};
use pins::PinLog;
use session::{Sessions, StoreSession};
use std::{
	fmt,
	path::Path,
	sync::{
		Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
		atomic::{AtomicBool, AtomicU64, Ordering},
	},
};

/// Bytes that are staged before they are committed to the index.
const COMMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Blocks that are staged at most before that: tiny ones take more memory than room.
const COMMIT_BLOCKS: usize = 65_536;

/// Most bytes of a pack: offsets have 32 bits, and one record may go past the limit.
const PACK_BYTES_MAX: u64 = 1 << 31;

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
	/// Where a pack ends and the next begins, in bytes. What is above 2 GiB counts as that.
	pub pack_bytes: u64,
	/// Bytes of the file system that stay free, so that there is always room to remove blocks.
	pub reserve_bytes: u64,
}

impl StoreOptions {
	/// What production uses: packs of 256 MiB, a reserve of 256 MiB.
	pub const V1: Self = Self { pack_bytes: 256 * 1024 * 1024, reserve_bytes: 256 * 1024 * 1024 };
}

/// A store of blocks in a folder of its own. Clones are the same store.
#[derive(Clone)]
pub struct EmbeddedStore {
	shared: Arc<Shared>,
}

impl fmt::Debug for EmbeddedStore {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("EmbeddedStore").field("files", &self.shared.files).finish_non_exhaustive()
	}
}

impl EmbeddedStore {
	/// Opens the store in this folder, or makes one. An index that is lost or damaged is rebuilt
	/// from the packs, which reads all of them.
	///
	/// # Errors
	/// [`RepositoryError::InUse`] while another process has it open.
	pub fn open(folder: &Path, options: StoreOptions) -> Result<Self, RepositoryError> {
		let files = DiskFiles::open(folder)
			.map_err(RepositoryError::io("open its folder"))?
			.ok_or_else(|| RepositoryError::InUse { path: folder.to_owned() })?;
		Self::open_files(Arc::new(files), options)
	}

	pub(crate) fn open_files(
		files: Arc<dyn Files>,
		options: StoreOptions,
	) -> Result<Self, RepositoryError> {
		Ok(Self { shared: Arc::new(recovery::open(files, options)?) })
	}

	/// Whether a root is pinned.
	pub fn is_pinned(&self, root: &Cid) -> bool {
		lock(&self.shared.pins).is_pinned(root)
	}

	/// Whether a collection may find something to free: blocks of a session that pinned nothing
	/// after them, or of a root that was unpinned. Also after every start, since such a session
	/// may have been killed.
	pub fn has_garbage(&self) -> bool {
		self.shared.has_garbage.load(Ordering::Acquire)
	}

	/// All that the index names.
	#[cfg(any(test, feature = "fuzzing"))]
	pub(crate) fn all_blocks(&self) -> Vec<(Cid, Vec<u8>)> {
		let mut entries = Vec::new();
		let collect = &mut |digest: &[u8; 32], entry: &Entry| entries.push((*digest, *entry));
		self.shared.index.scan(None, usize::MAX, collect).expect("the index can be read");
		let block = |(digest, entry): ([u8; 32], Entry)| {
			let cid = if entry.is_node { Cid::dag_cbor(digest) } else { Cid::raw(digest) };
			(cid, self.shared.read(&entry).expect("what the index names can be read"))
		};
		entries.into_iter().map(block).collect()
	}

	/// How often damage was noted in this run. Each time something was found that was not known.
	pub fn times_noted(&self) -> u64 {
		self.shared.times_noted.load(Ordering::Acquire)
	}

	/// Whether pins may have been lost, so that nothing is collected.
	pub fn pins_unconfirmed(&self) -> bool {
		self.shared.pins_unconfirmed.load(Ordering::Acquire)
	}

	/// What kept the last collection of this run from freeing all that nothing needs.
	pub fn obstacles(&self) -> Obstacles {
		lock(&self.shared.obstacles).clone()
	}

	/// Looks for what would keep a collection from freeing blocks, as far as damage is noted.
	///
	/// # Errors
	/// As a collection.
	pub fn look_for_obstacles(&self) -> Result<Obstacles, RepositoryError> {
		collect::look_for_obstacles(&self.shared)
	}

	/// Reads everything and compares it with what the index says, beside whatever else is going
	/// on. Changes nothing. The inner workings of the index are looked at by a repair only.
	/// `proceed` is asked before each block and ends the check early by saying no.
	///
	/// # Errors
	/// When files fail for other reasons than damage; damage is reported.
	pub fn check(
		&self,
		proceed: &mut dyn FnMut(&StoreReport) -> bool,
	) -> Result<StoreReport, RepositoryError> {
		check::check(&self.shared, proceed)
	}

	/// Checks, then notes what is damaged and incomplete, so that the next backup stores it anew
	/// instead of relying on it, and that collections go on. Reports what it found, as
	/// [`check`](Self::check) does; ended early, it changes nothing.
	///
	/// Nothing is removed. When something new was noted, open sessions end with
	/// [`RepositoryError::SessionLost`], for they may rely on it. When the index itself is
	/// damaged, it is given up, and the store must be opened anew.
	///
	/// # Errors
	/// [`RepositoryError::Collecting`] while a collection runs.
	pub fn repair(
		&self,
		proceed: &mut dyn FnMut(&StoreReport) -> bool,
	) -> Result<StoreReport, RepositoryError> {
		repair::repair(&self.shared, proceed)
	}

	/// Reads blocks again that somebody found missing or damaged, and notes what is so: a damaged
	/// block counts as absent from then on, and all nodes above it as incomplete, so whoever puts
	/// them again stores them anew. So is what is damaged in the same packs, and any node that turns
	/// out to be. What can be read again after all counts as present again. Says how many are newly
	/// noted as damaged. `proceed` is asked before each block, and ends it by saying no: nothing more
	/// is noted then.
	///
	/// Until a damaged node is stored again, nothing needs it, or a [`repair`](Self::repair) gives it
	/// up, [`collect`](Repository::collect) frees roots of snapshots only: the node may come back,
	/// and what hangs below it is unknown.
	///
	/// All of it is one durable step for each million damaged blocks, beside readers and writers.
	/// Nothing is removed. Open sessions end with [`RepositoryError::SessionLost`] if one of them
	/// relies on what was noted.
	///
	/// # Errors
	/// [`RepositoryError::Collecting`] while a collection runs, [`RepositoryError::IndexDamaged`]
	/// when the index is at fault rather than the blocks: the next start makes it anew.
	pub fn note_lost(
		&self,
		cids: &[Cid],
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<u64, RepositoryError> {
		lost::note_lost(&self.shared, cids, proceed)
	}

	/// Replaces the label of a root that is pinned by what is made of it, durably, and touches nothing
	/// else: it may lack something below it, for which [`Session::pin`] refuses it. Nobody else
	/// changes the label between the two. Says whether it was replaced: what is not pinned stays so,
	/// and so does a label of which nothing is made. `change` must not use the store.
	pub fn relabel(
		&self,
		root: &Cid,
		change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
	) -> Result<bool, RepositoryError> {
		lock(&self.shared.pins).relabel(root, change)
	}

	/// Pins a root below which something is damaged or absent, for which [`Session::pin`] refuses it,
	/// so that what is left of it stays. Says whether anything is known of the root itself. It is for
	/// pins that were lost: nothing is collected before they are [confirmed](Self::confirm_pins).
	pub fn pin_what_is_left(&self, root: &Cid, label: &[u8]) -> Result<bool, RepositoryError> {
		let _gate = self.shared.enter();
		let is_known = self.shared.look_up(&root.digest())?.is_some();
		if is_known {
			self.shared.commit()?;
			lock(&self.shared.pins).pin(root, label)?;
		}
		Ok(is_known)
	}

	/// Whether packs are away, or could not be read when the index was made anew, and are waited for. A
	/// root of which nothing is known may stand in one: it cannot be pinned, and what hangs below it is
	/// kept only as long as the pins are not confirmed.
	pub fn waits_for_packs(&self) -> Result<bool, RepositoryError> {
		Ok(!self.shared.index.unread()?.is_empty())
	}

	/// Says that the pins are complete again, and allows collections.
	pub fn confirm_pins(&self) -> Result<(), RepositoryError> {
		self.shared.index.complete(false)?;
		self.shared.pins_unconfirmed.store(false, Ordering::Release);
		Ok(())
	}
}

impl BlockSource for EmbeddedStore {
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		let _gate = self.shared.enter();
		Ok(self.shared.find(cid)?.is_some())
	}

	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		match self.get_unchecked(cid)? {
			Some(block) if digest(&block) != cid.digest() => {
				Err(RepositoryError::Corrupt { cid: *cid })
			}
			block => Ok(block),
		}
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let _gate = self.shared.enter();
		// A node with something missing below it can be read too: much of it may be of use.
		match self.shared.find_any(cid)? {
			Some(entry) => self.shared.read(&entry).map(Some),
			None => Ok(None),
		}
	}
}

impl Repository for EmbeddedStore {
	fn open_session(&self) -> Result<Box<dyn Session>, RepositoryError> {
		Ok(Box::new(StoreSession::open(&self.shared)))
	}

	fn pins(&self) -> Result<Vec<Pin>, RepositoryError> {
		Ok(lock(&self.shared.pins).list())
	}

	fn unpin(&self, root: &Cid) -> Result<bool, RepositoryError> {
		let was_pinned = lock(&self.shared.pins).unpin(root)?;
		if was_pinned {
			self.shared.has_garbage.store(true, Ordering::Release);
		}
		Ok(was_pinned)
	}

	fn collect(&self) -> Result<Collected, RepositoryError> {
		// Before it begins: what is left behind meanwhile is the next one's.
		self.shared.has_garbage.store(false, Ordering::Release);
		let collected = collect::collect(&self.shared);
		let obstacles = self.obstacles();
		if collected.is_err() || obstacles.any() || obstacles.has_dead_roots {
			self.shared.has_garbage.store(true, Ordering::Release);
		}
		collected
	}

	fn usage(&self) -> Result<Usage, RepositoryError> {
		let available = self.shared.files.available_bytes();
		let available = available.map_err(RepositoryError::io("ask for the space left"))?;
		let available_bytes = available.saturating_sub(self.shared.options.reserve_bytes);
		let mut usage = Usage { available_bytes, ..Usage::default() };
		for state in self.shared.index.packs()?.values() {
			usage.blocks += state.live_blocks;
			let headers = state.live_blocks * record::HEADER_BYTES;
			usage.bytes += state.live_bytes.saturating_sub(headers);
		}
		Ok(usage)
	}
}

/// An open store.
#[derive(Debug)]
pub(crate) struct Shared {
	files: Arc<dyn Files>,
	options: StoreOptions,
	packs: Packs,
	index: Index,
	gate: RwLock<()>,
	/// One commit at a time.
	commit_turn: Mutex<()>,
	writer: Mutex<Writer>,
	pins: Mutex<PinLog>,
	sessions: Mutex<Sessions>,
	/// What kept the last collection from freeing blocks.
	obstacles: Mutex<Obstacles>,
	pins_unconfirmed: AtomicBool,
	/// How often damage was noted.
	times_noted: AtomicU64,
	/// Whether blocks may be there that no pin and no open session needs.
	has_garbage: AtomicBool,
}

/// What a lock guards is changed as a whole or not at all, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
	/// Keeps what a look-up answers true for as long as the guard lives. Not to be nested.
	fn enter(&self) -> RwLockReadGuard<'_, ()> {
		self.gate.read().unwrap_or_else(PoisonError::into_inner)
	}

	/// Where a block stands; a node only if it was stored as one.
	fn find(&self, cid: &Cid) -> Result<Option<Entry>, RepositoryError> {
		Ok(self.find_any(cid)?.filter(|entry| entry.is_node || !is_node(cid)))
	}

	/// Where the bytes of a block stand, whatever they were stored as.
	fn find_any(&self, cid: &Cid) -> Result<Option<Entry>, RepositoryError> {
		let entry = self.look_up(&cid.digest())?;
		Ok(entry.filter(|entry| !entry.is_damaged()))
	}

	/// What is known of a block, damaged or not.
	fn look_up(&self, digest: &[u8; 32]) -> Result<Option<Entry>, RepositoryError> {
		// A block moves from the writer to the index, so it is not missed in this order. The
		// lock must not be held during the second look.
		let staged = lock(&self.writer).find(digest);
		match staged {
			Some(entry) => Ok(Some(entry)),
			None => self.index.get(digest),
		}
	}

	fn read(&self, entry: &Entry) -> Result<Vec<u8>, RepositoryError> {
		let buffered = lock(&self.writer).read_buffered(entry);
		if let Some(block) = buffered {
			return Ok(block);
		}
		self.packs.read(entry)
	}

	/// Makes everything that is staged durable and known to the index.
	fn commit(&self) -> Result<(), RepositoryError> {
		let _turn = lock(&self.commit_turn);
		let Some(mut batch) = lock(&self.writer).begin_commit()? else {
			return Ok(());
		};
		if let Err(error) = batch.sync(&*self.files) {
			self.lose(batch);
			return Err(RepositoryError::io("sync a pack")(error));
		}
		// Neighbours in the index are written together.
		batch.entries.sort_unstable_by_key(|(digest, _)| *digest);
		let ends: Vec<_> = batch.packs.iter().map(|pack| (pack.pack, pack.end)).collect();
		match self.index.add(&batch.entries, &ends, batch.next_id) {
			Ok(()) => {
				lock(&self.writer).end_commit();
				Ok(())
			}
			Err(error) => {
				lock(&self.writer).undo_commit(batch);
				Err(error)
			}
		}
	}

	/// Forgets what a failed sync leaves uncertain. Needs the turn to commit.
	fn lose(&self, batch: packs::Batch) {
		tracing::error!(target: "store", "a sync failed, unfinished writes are lost");
		let packs = lock(&self.writer).lose(batch);
		// Without the index nobody knows where to cut, and not cutting is safe.
		if let Ok(indexed) = self.index.packs() {
			for pack in packs {
				pack.cut(indexed.get(&pack.pack).map_or(0, |state| state.end));
			}
		}
	}
}

fn is_node(cid: &Cid) -> bool {
	cid.codec() == BlockCodec::DagCbor
}
