//! Packs: append-only files of block records, and the one writer that appends.
//!
//! A block goes through three states. It is *staged* when it stands in the writer's buffer or
//! in the file, but is not durable; *committing* while its pack is synced and the index takes
//! it; *indexed* afterwards. Only indexed blocks survive a crash; all three can be read.

use crate::{
	direct::{ALIGNMENT, AlignedBytes},
	format::Cid,
	repositories::{
		RepositoryError,
		embedded::{
			entry::Entry,
			files::{Files, StoreFile},
			record::{HEADER_BYTES, Header, Kind},
		},
	},
};
use std::{
	collections::{BTreeSet, HashMap},
	io,
	ops::Deref,
	sync::{Arc, Mutex, PoisonError},
};

/// Bytes gathered before they are written: a few, so that the disk works all the time and no
/// sync ever waits for gigabytes.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// Most packs that are open at once.
const OPEN_FILES_MAX: usize = 128;

const PACK_SUFFIX: &str = ".pack";

type Digest = [u8; 32];

pub(crate) fn pack_name(pack: u32) -> String {
	format!("{pack:08}{PACK_SUFFIX}")
}

pub(crate) fn pack_number(name: &str) -> Option<u32> {
	let number = name.strip_suffix(PACK_SUFFIX)?.parse().ok()?;
	(pack_name(number) == name).then_some(number)
}

/// The packs that are open for reading.
#[derive(Debug)]
pub(crate) struct Packs {
	files: Arc<dyn Files>,
	open: Mutex<OpenPacks>,
}

#[derive(Debug, Default)]
struct OpenPacks {
	files: HashMap<u32, (Arc<dyn StoreFile>, u64)>,
	clock: u64,
}

impl Packs {
	pub(crate) fn new(files: Arc<dyn Files>) -> Self {
		Self { files, open: Mutex::default() }
	}

	/// The file of a pack, from the least recently used few that are kept open.
	pub(crate) fn file(&self, pack: u32) -> Result<Arc<dyn StoreFile>, RepositoryError> {
		let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
		open.clock += 1;
		let now = open.clock;
		if let Some((file, used)) = open.files.get_mut(&pack) {
			*used = now;
			return Ok(file.clone());
		}
		let file = self.files.open(&pack_name(pack)).map_err(RepositoryError::io("open a pack"))?;
		if open.files.len() >= OPEN_FILES_MAX {
			let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used);
			if let Some(oldest) = oldest.map(|(pack, _)| *pack) {
				open.files.remove(&oldest);
			}
		}
		open.files.insert(pack, (file.clone(), now));
		Ok(file)
	}

	/// The bytes of a block that is in its file.
	pub(crate) fn read(&self, entry: &Entry) -> Result<Vec<u8>, RepositoryError> {
		let mut block = vec![0; entry.len as usize];
		self.file(entry.pack)?
			.read_at(u64::from(entry.offset) + HEADER_BYTES, &mut block)
			.map_err(RepositoryError::io("read a pack"))?;
		Ok(block)
	}

	/// Removes a pack that nobody reads any more.
	pub(crate) fn remove(&self, pack: u32) -> Result<(), RepositoryError> {
		self.open.lock().unwrap_or_else(PoisonError::into_inner).files.remove(&pack);
		match self.files.remove(&pack_name(pack)) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
			removed => removed.map_err(RepositoryError::io("remove a pack")),
		}
	}
}

/// Appends blocks and keeps track of those that are not in the index yet.
#[derive(Debug)]
pub(crate) struct Writer {
	files: Arc<dyn Files>,
	pack_bytes: u64,
	reserve_bytes: u64,
	active: Option<Active>,
	next_pack: u32,
	next_id: u64,
	staged: HashMap<Digest, Entry>,
	staged_bytes: u64,
	committing: HashMap<Digest, Entry>,
	/// Packs with bytes that are not durable, besides the active one.
	unsynced: Vec<UnsyncedPack>,
	/// Whether a pack was made whose name is not durable.
	has_new_file: bool,
	/// Counts how often sessions lost what they relied on.
	losses: u64,
}

#[derive(Debug)]
struct Active {
	pack: u32,
	file: Arc<dyn StoreFile>,
	/// Bytes that are in the file.
	written: u64,
	/// Bytes that come after those.
	buffer: Gathered,
}

/// Bytes for the end of a pack, placed in memory as they will be in the file: so most of them can
/// go past the page cache.
#[derive(Debug)]
struct Gathered {
	bytes: AlignedBytes,
	/// Bytes before them, up to where the file was aligned.
	skip: usize,
	len: usize,
}

impl Gathered {
	/// None yet, for behind `written` bytes.
	fn behind(written: u64) -> Self {
		let mut gathered =
			Self { bytes: AlignedBytes::new(WRITE_BYTES + ALIGNMENT), skip: 0, len: 0 };
		gathered.clear(written);
		gathered
	}

	/// Forgets them; the next ones come behind `written` bytes.
	fn clear(&mut self, written: u64) {
		self.skip = (written % ALIGNMENT as u64) as usize;
		self.len = 0;
	}

	/// Needs room for them, of [`WRITE_BYTES`] in all.
	fn push(&mut self, bytes: &[u8]) {
		self.bytes[self.skip + self.len..][..bytes.len()].copy_from_slice(bytes);
		self.len += bytes.len();
	}
}

impl Deref for Gathered {
	type Target = [u8];

	fn deref(&self) -> &[u8] {
		&self.bytes[self.skip..][..self.len]
	}
}

#[derive(Clone, Debug)]
pub(crate) struct UnsyncedPack {
	pub(crate) pack: u32,
	pub(crate) end: u64,
	file: Arc<dyn StoreFile>,
}

/// What has to become durable before the index may take it.
#[derive(Debug)]
pub(crate) struct Batch {
	pub(crate) entries: Vec<(Digest, Entry)>,
	pub(crate) packs: Vec<UnsyncedPack>,
	pub(crate) has_new_file: bool,
	pub(crate) next_id: u64,
}

impl Batch {
	/// Makes the batch durable, but for the index.
	pub(crate) fn sync(&self, files: &dyn Files) -> std::io::Result<()> {
		for pack in &self.packs {
			pack.file.sync()?;
		}
		if self.has_new_file {
			files.sync_folder()?;
		}
		Ok(())
	}
}

impl Writer {
	pub(crate) fn new(
		files: Arc<dyn Files>,
		pack_bytes: u64,
		reserve_bytes: u64,
		next_pack: u32,
		next_id: u64,
	) -> Self {
		Self {
			files,
			pack_bytes,
			reserve_bytes,
			active: None,
			next_pack,
			next_id,
			staged: HashMap::new(),
			staged_bytes: 0,
			committing: HashMap::new(),
			unsynced: Vec::new(),
			has_new_file: false,
			losses: 0,
		}
	}

	/// Goes on in a pack that is not full, behind its last indexed record.
	pub(crate) fn resume(&mut self, pack: u32, file: Arc<dyn StoreFile>, end: u64) {
		self.active = Some(Active { pack, file, written: end, buffer: Gathered::behind(end) });
	}

	pub(crate) fn next_id(&self) -> u64 {
		self.next_id
	}

	pub(crate) fn losses(&self) -> u64 {
		self.losses
	}

	/// Ends all sessions: what they were told is there may be no more.
	pub(crate) fn end_sessions(&mut self) {
		self.losses += 1;
	}

	/// Blocks that are not in the index yet, and their bytes.
	pub(crate) fn staged(&self) -> (usize, u64) {
		(self.staged.len(), self.staged_bytes)
	}

	fn active_pack(&self) -> Option<u32> {
		self.active.as_ref().map(|active| active.pack)
	}

	/// Packs that hold, or may soon hold, blocks of which the index does not know.
	pub(crate) fn packs_in_use(&self) -> BTreeSet<u32> {
		let uncommitted = self.staged.values().chain(self.committing.values());
		let left = self.unsynced.iter().map(|pack| pack.pack);
		uncommitted.map(|entry| entry.pack).chain(left).chain(self.active_pack()).collect()
	}

	/// A block that is not in the index yet.
	pub(crate) fn find(&self, digest: &Digest) -> Option<Entry> {
		self.staged.get(digest).or_else(|| self.committing.get(digest)).copied()
	}

	/// The bytes of a block that is not in its file yet.
	pub(crate) fn read_buffered(&self, entry: &Entry) -> Option<Vec<u8>> {
		let active = self.active.as_ref().filter(|active| active.pack == entry.pack)?;
		let start = u64::from(entry.offset).checked_sub(active.written)? + HEADER_BYTES;
		let start = usize::try_from(start).ok()?;
		active.buffer.get(start..start + entry.len as usize).map(<[u8]>::to_vec)
	}

	/// Appends a block. When it fails, nothing that was appended before is lost.
	pub(crate) fn append(
		&mut self,
		cid: &Cid,
		is_node: bool,
		block: &[u8],
	) -> Result<(), RepositoryError> {
		let len = u32::try_from(block.len()).expect("blocks are bounded");
		let header = Header { kind: Kind::Block, len, cid: *cid };
		let need = header.record_bytes();
		let active = self.room_for(need)?;
		let offset = active.written + active.buffer.len() as u64;
		active.buffer.push(&header.encode(&[]));
		active.buffer.push(block);
		let offset = u32::try_from(offset).expect("packs are smaller than 4 GiB");
		let entry = Entry { pack: active.pack, offset, len, id: self.next_id, is_node, flaw: None };
		self.next_id += 1;
		self.staged.insert(cid.digest(), entry);
		self.staged_bytes += need;
		Ok(())
	}

	/// Notes that a block that stands at `entry` is now also known as a node.
	pub(crate) fn restage(&mut self, digest: Digest, entry: Entry) {
		self.staged.insert(digest, entry);
	}

	/// The active pack, with room in pack, buffer and disk.
	fn room_for(&mut self, need: u64) -> Result<&mut Active, RepositoryError> {
		let fits_pack =
			|active: &Active| active.written + active.buffer.len() as u64 + need <= self.pack_bytes;
		if !self.active.as_ref().is_some_and(fits_pack) {
			self.ensure_space(need)?;
			self.rotate()?;
		}
		let buffered = self.active.as_ref().map_or(0, |active| active.buffer.len());
		if buffered == 0 || buffered as u64 + need > WRITE_BYTES as u64 {
			self.ensure_space(need.max(WRITE_BYTES as u64))?;
			self.write_out()?;
		}
		Ok(self.active.as_mut().expect("rotating makes an active pack"))
	}

	/// Keeps a reserve, because removing blocks takes space in the index too.
	fn ensure_space(&self, need: u64) -> Result<(), RepositoryError> {
		if self.reserve_bytes == 0 {
			return Ok(());
		}
		let available =
			self.files.available_bytes().map_err(RepositoryError::io("ask for the space left"))?;
		match available >= self.reserve_bytes.saturating_add(need) {
			true => Ok(()),
			false => Err(RepositoryError::StoreFull),
		}
	}

	fn rotate(&mut self) -> Result<(), RepositoryError> {
		self.write_out()?;
		let file = self
			.files
			.create(&pack_name(self.next_pack))
			.map_err(RepositoryError::io("make a pack"))?;
		let new = Active { pack: self.next_pack, file, written: 0, buffer: Gathered::behind(0) };
		self.next_pack += 1;
		self.has_new_file = true;
		if let Some(Active { pack, file, written, buffer: _ }) = self.active.replace(new) {
			self.unsynced.push(UnsyncedPack { pack, end: written, file });
		}
		Ok(())
	}

	/// Hands the buffer to the file. On failure the buffer stays for another try.
	fn write_out(&mut self) -> Result<(), RepositoryError> {
		let Some(active) = self.active.as_mut().filter(|active| !active.buffer.is_empty()) else {
			return Ok(());
		};
		if let Err(error) = active.file.write_at(active.written, &active.buffer) {
			// Gives the space of a partial write back; the next try writes over it anyway.
			let _ = active.file.set_len(active.written);
			return Err(RepositoryError::io("write a pack")(error));
		}
		active.written += active.buffer.len() as u64;
		active.buffer.clear(active.written);
		Ok(())
	}

	/// Moves what is staged to committing. `None` if there is nothing.
	pub(crate) fn begin_commit(&mut self) -> Result<Option<Batch>, RepositoryError> {
		if self.staged.is_empty() {
			return Ok(None);
		}
		self.write_out()?;
		self.committing = core::mem::take(&mut self.staged);
		self.staged_bytes = 0;
		let mut packs = core::mem::take(&mut self.unsynced);
		packs.extend(self.active.as_ref().map(|active| UnsyncedPack {
			pack: active.pack,
			end: active.written,
			file: active.file.clone(),
		}));
		Ok(Some(Batch {
			entries: self.committing.iter().map(|(digest, entry)| (*digest, *entry)).collect(),
			packs,
			has_new_file: core::mem::take(&mut self.has_new_file),
			next_id: self.next_id,
		}))
	}

	/// The index has taken the batch.
	pub(crate) fn end_commit(&mut self) {
		self.committing.clear();
	}

	/// The index has not taken the batch, whose bytes are safe: it joins the next one.
	pub(crate) fn undo_commit(&mut self, batch: Batch) {
		for (digest, entry) in core::mem::take(&mut self.committing) {
			self.staged.entry(digest).or_insert(entry);
		}
		let active = self.active_pack();
		self.unsynced.extend(batch.packs.into_iter().filter(|pack| Some(pack.pack) != active));
		self.has_new_file |= batch.has_new_file;
	}

	/// A sync failed, and nobody knows what of the unsynced bytes is on the disk. Forgets all
	/// of them and never appends to those packs again; answers which packs to cut.
	pub(crate) fn lose(&mut self, batch: Batch) -> Vec<UnsyncedPack> {
		self.losses += 1;
		self.staged.clear();
		self.staged_bytes = 0;
		self.committing.clear();
		let mut packs = batch.packs;
		packs.append(&mut self.unsynced);
		if let Some(active) = self.active.take() {
			packs.push(UnsyncedPack { pack: active.pack, end: active.written, file: active.file });
		}
		packs
	}
}

impl UnsyncedPack {
	/// Cuts the pack to what the index knows of it. Failing is harmless: unindexed bytes are
	/// garbage that the next start cuts off.
	pub(crate) fn cut(&self, end: u64) {
		let _ = self.file.set_len(end);
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn only_canonical_names_are_packs() {
		assert_eq!(pack_number(&pack_name(0)), Some(0));
		assert_eq!(pack_number(&pack_name(u32::MAX)), Some(u32::MAX));
		for name in ["1.pack", "00000001.pack.tmp", "+0000001.pack", "000000001.pack", "lock"] {
			assert_eq!(pack_number(name), None, "{name}");
		}
	}
}
