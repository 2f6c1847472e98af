//! Opening a store, and rebuilding its index when it is gone.
//!
//! On every start: bytes behind the last indexed record of a pack are cut off, for nobody was
//! told that they are safe; packs that the index does not know hold nothing but such bytes and
//! go. When the index is lost, damaged, or names bytes that are not there, it is rebuilt: every
//! pack is read, every block hashed. After that the pins count as unconfirmed.

use crate::{
	format::{BLOCK_BYTES_MAX, digest, links},
	repositories::{
		RepositoryError, StoreOptions,
		embedded::{
			PACK_BYTES_MAX, Shared,
			entry::{Entry, Flaw, Outlook},
			files::{Files, StoreFile},
			index::{Index, Legacy, Opened, PackState, Unread},
			is_node,
			mark::Obstacles,
			packs::{Packs, Writer, pack_name, pack_number},
			pins::{PINS_NEW_FILE, PinLog, PinsFound},
			record::{HEADER_BYTES, Header, Kind, find_magic},
		},
	},
};
use std::{
	collections::{BTreeMap, HashSet},
	sync::{
		Arc, Mutex, RwLock,
		atomic::{AtomicBool, AtomicU64},
	},
};

/// Blocks that a rebuild adds to the index in one transaction.
const BATCH_BLOCKS: usize = 8192;

pub(crate) fn open(
	files: Arc<dyn Files>,
	options: StoreOptions,
) -> Result<Shared, RepositoryError> {
	let names = files.list().map_err(RepositoryError::io("list the store's files"))?;
	let mut pack_numbers: Vec<u32> = names.iter().filter_map(|name| pack_number(name)).collect();
	pack_numbers.sort_unstable();
	let (mut pins, found) = open_pins(&files, &names)?;

	let index = match open_index(&files, &pack_numbers, &pins, found)? {
		Opened::Complete(index) => index,
		Opened::Lost(legacy) => rebuild(&files, &pack_numbers, legacy)?,
	};
	let unread = index.unread_packs()?;
	let is_empty = pack_numbers.is_empty() && unread.is_empty();
	if found == PinsFound::PerhapsNotAll && !is_empty {
		index.complete(true)?;
	}
	// Not before: whoever finds a log without damage takes it for all that is pinned.
	pins.mend()?;
	let obstacles = Obstacles::of_packs(&unread);
	obstacles.warn_of_packs();
	let states = index.packs()?;
	trim(&files, &pack_numbers, &states)?;

	// The number of a pack that is away is not given again: it may come back.
	let next_pack = pack_numbers.iter().max().map_or(1, |last| last + 1).max(index.next_pack()?);
	let StoreOptions { pack_bytes, reserve_bytes } = options;
	let pack_bytes = pack_bytes.min(PACK_BYTES_MAX);
	let next_id = index.next_id()?;
	let mut writer = Writer::new(files.clone(), pack_bytes, reserve_bytes, next_pack, next_id);
	// Where a pack has lost its end, nothing else is to stand when it comes back.
	if let Some((pack, state)) = states.last_key_value()
		&& state.end < pack_bytes
		&& !unread.contains(pack)
	{
		writer.resume(*pack, open_pack(&*files, *pack)?, state.end);
	}
	Ok(Shared {
		packs: Packs::new(files.clone()),
		pins_unconfirmed: AtomicBool::new(index.pins_unconfirmed()?),
		// A session may have been killed.
		has_garbage: AtomicBool::new(!is_empty),
		files,
		options,
		index,
		gate: RwLock::default(),
		commit_turn: Mutex::default(),
		writer: Mutex::new(writer),
		pins: Mutex::new(pins),
		sessions: Mutex::default(),
		obstacles: Mutex::new(obstacles),
		times_noted: AtomicU64::default(),
	})
}

fn open_pins(
	files: &Arc<dyn Files>,
	names: &[String],
) -> Result<(PinLog, PinsFound), RepositoryError> {
	if names.iter().any(|name| name == PINS_NEW_FILE) {
		files.remove(PINS_NEW_FILE).map_err(RepositoryError::io("remove an unfinished file"))?;
	}
	PinLog::open(files.clone(), names)
}

/// The index, if there is one, all that it names is there, and it is not an old one.
fn open_index(
	files: &Arc<dyn Files>,
	pack_numbers: &[u32],
	pins: &PinLog,
	found: PinsFound,
) -> Result<Opened, RepositoryError> {
	let index = match Index::open(files.clone())? {
		Opened::Complete(index) => index,
		lost @ Opened::Lost(_) => return Ok(lost),
	};
	let (states, legacy) = (index.packs()?, index.legacy()?);
	for (pack, PackState { end, .. }) in &states {
		if pack_len(files, pack_numbers, *pack)? < *end {
			tracing::error!(target: "store", pack, "a pack is missing or too short");
			return Ok(Opened::Lost(legacy));
		}
	}
	for place in index.unread()? {
		let known = states.get(&place.pack).map_or(0, |state| state.end);
		let is_there_again = match pack_len(files, pack_numbers, place.pack)? > place.offset {
			// What comes behind all that is known is there, whether or not it can be read.
			true if place.offset >= known => true,
			true => is_readable(&**files, &place)?,
			false => false,
		};
		if is_there_again {
			let pack = place.pack;
			tracing::warn!(target: "store", pack, "what could not be read of a pack is there again");
			return Ok(Opened::Lost(legacy));
		}
	}
	let unknown = unknown_bytes(files, pack_numbers, &states, legacy.next_pack)?;
	// Which of them are needed nobody knows now. Once the log is made anew, what a crash leaves
	// behind all else is no more than that.
	let may_be_needed = match unknown {
		UnknownBytes::None => false,
		UnknownBytes::Behind => found == PinsFound::PerhapsNotAll,
		UnknownBytes::AmongKnownOnes => {
			found == PinsFound::PerhapsNotAll || index.pins_unconfirmed()?
		}
	};
	if may_be_needed {
		tracing::error!(target: "store", "the index may lack what lost pins named");
		return Ok(Opened::Lost(legacy));
	}
	if unknown != UnknownBytes::None {
		// After a crash these are bytes that nobody was told are safe. But when the index lacks
		// a pinned root, it is older than the pins, and these bytes are all that is left. And
		// when something was missing below a root, they may be just that, put back.
		for root in pins.roots() {
			let entry = index.get(&root.digest())?;
			let is_lost = entry.is_none_or(|entry| {
				entry.flaw.is_some() && unknown == UnknownBytes::AmongKnownOnes
			});
			if is_lost {
				tracing::error!(target: "store", %root, "the index lacks a pinned root");
				return Ok(Opened::Lost(legacy));
			}
		}
	}
	Ok(Opened::Complete(index))
}

/// Where there are bytes that [`trim`] would remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnknownBytes {
	None,
	/// Behind all that is known, where a crash leaves them.
	Behind,
	/// Before the last known pack ends.
	AmongKnownOnes,
}

fn unknown_bytes(
	files: &Arc<dyn Files>,
	pack_numbers: &[u32],
	states: &BTreeMap<u32, PackState>,
	next_pack: u32,
) -> Result<UnknownBytes, RepositoryError> {
	let last = states.last_key_value().map_or(0, |(last, _)| *last);
	let mut found = UnknownBytes::None;
	for pack in pack_numbers {
		let (is_unknown, is_among) = match states.get(pack) {
			Some(state) => (file_len(&*open_pack(&**files, *pack)?)? > state.end, *pack < last),
			// A crash leaves none with the number of one that was away.
			None => (true, *pack < next_pack),
		};
		match is_unknown {
			true if is_among => return Ok(UnknownBytes::AmongKnownOnes),
			true => found = UnknownBytes::Behind,
			false => {}
		}
	}
	Ok(found)
}

fn is_readable(files: &dyn Files, place: &Unread) -> Result<bool, RepositoryError> {
	let mut bytes = vec![0; usize::try_from(place.len).unwrap_or(usize::MAX).min(BLOCK_BYTES_MAX)];
	let read = open_pack(files, place.pack)?.read_at(place.offset, &mut bytes);
	match read.map_err(RepositoryError::io("read a pack")) {
		Err(error) if error.is_loss() => Ok(false),
		read => read.map(|()| true),
	}
}

fn open_pack(files: &dyn Files, pack: u32) -> Result<Arc<dyn StoreFile>, RepositoryError> {
	files.open(&pack_name(pack)).map_err(RepositoryError::io("open a pack"))
}

/// Bytes of a pack; none if it is away.
fn pack_len(
	files: &Arc<dyn Files>,
	pack_numbers: &[u32],
	pack: u32,
) -> Result<u64, RepositoryError> {
	match pack_numbers.binary_search(&pack) {
		Ok(_) => file_len(&*open_pack(&**files, pack)?),
		Err(_) => Ok(0),
	}
}

fn file_len(file: &dyn StoreFile) -> Result<u64, RepositoryError> {
	file.len().map_err(RepositoryError::io("read a pack"))
}

/// Removes bytes that the index does not know.
fn trim(
	files: &Arc<dyn Files>,
	pack_numbers: &[u32],
	states: &BTreeMap<u32, PackState>,
) -> Result<(), RepositoryError> {
	for pack in pack_numbers {
		let Some(state) = states.get(pack) else {
			tracing::warn!(target: "store", pack, "a pack that the index does not know is removed");
			files.remove(&pack_name(*pack)).map_err(RepositoryError::io("remove a pack"))?;
			continue;
		};
		let file = open_pack(&**files, *pack)?;
		if file_len(&*file)? > state.end {
			file.set_len(state.end).map_err(RepositoryError::io("cut a pack"))?;
		}
	}
	Ok(())
}

fn rebuild(
	files: &Arc<dyn Files>,
	pack_numbers: &[u32],
	legacy: Legacy,
) -> Result<Index, RepositoryError> {
	if !pack_numbers.is_empty() {
		let packs = pack_numbers.len();
		tracing::warn!(target: "store", packs, "the index is lost, rebuilding it from the packs");
	}
	let mut rebuild = Rebuild {
		index: Index::create(files.clone(), &legacy)?,
		batch: Vec::new(),
		batch_at: BTreeMap::new(),
		next_id: 0,
		ends: BTreeMap::new(),
		damaged: 0,
		unread: Vec::new(),
	};
	for pack in pack_numbers {
		rebuild.pack(*pack, &*open_pack(&**files, *pack)?)?;
	}
	for place in legacy.places {
		rebuild.unread.extend(place.behind(pack_len(files, pack_numbers, place.pack)?));
	}
	rebuild.store()?;
	rebuild.complete_nodes(&Packs::new(files.clone()))?;
	if rebuild.damaged > 0 {
		let ranges = rebuild.damaged;
		tracing::error!(target: "store", ranges, "damage was found while rebuilding the index");
	}
	rebuild.note_unread()?;
	rebuild.index.complete(!pack_numbers.is_empty() || !rebuild.unread.is_empty())?;
	Ok(rebuild.index)
}

/// An index in the making. Packs are read in order, so children come before their parents.
struct Rebuild {
	index: Index,
	batch: Vec<([u8; 32], Entry)>,
	/// Where in the batch a block stands.
	batch_at: BTreeMap<[u8; 32], usize>,
	next_id: u64,
	ends: BTreeMap<u32, u64>,
	/// Ranges that are neither records nor holes.
	damaged: u64,
	/// What the disk did not give.
	unread: Vec<Unread>,
}

impl Rebuild {
	fn pack(&mut self, pack: u32, file: &dyn StoreFile) -> Result<(), RepositoryError> {
		let io = RepositoryError::io;
		// A crash leaves bytes that are not durable, and nobody syncs them again.
		file.sync().map_err(io("sync a pack"))?;
		let len = file_len(file)?;
		let mut at = 0;
		let mut header = [0; HEADER_BYTES as usize];
		while at + HEADER_BYTES <= len {
			let read = file.read_at(at, &mut header).map_err(io("read a pack"));
			match read {
				// What the disk cannot read is damage like any other.
				Err(error) if error.is_loss() => {
					self.unread.push(Unread { pack, offset: at, len: HEADER_BYTES });
					header = [0xff; HEADER_BYTES as usize];
				}
				read => read?,
			}
			let decoded = Header::decode(&header, &[]).filter(|decoded| match decoded.kind {
				Kind::Block => {
					decoded.len as usize <= BLOCK_BYTES_MAX && at + decoded.record_bytes() <= len
				}
				Kind::Skip => at + decoded.record_bytes() <= len,
				Kind::Pin | Kind::Unpin => false,
			});
			let Some(decoded) = decoded else {
				self.damaged += u64::from(header != [0; HEADER_BYTES as usize]);
				let next = find_magic(file, at + 1, len).map_err(io("read a pack"))?;
				at = next.unwrap_or(len);
				continue;
			};
			let good = match decoded.kind {
				Kind::Skip => true,
				Kind::Block | Kind::Pin | Kind::Unpin => self.block(pack, at, &decoded, file)?,
			};
			// Behind a bad block the length may be wrong as well as the bytes.
			at = match good {
				true => at + decoded.record_bytes(),
				false => find_magic(file, at + 1, len).map_err(io("read a pack"))?.unwrap_or(len),
			};
		}
		// Appending goes on behind everything that may be a record, damaged or not.
		self.ends.insert(pack, len);
		Ok(())
	}

	/// Indexes a block if its bytes are what its CID says; otherwise says no.
	fn block(
		&mut self,
		pack: u32,
		at: u64,
		header: &Header,
		file: &dyn StoreFile,
	) -> Result<bool, RepositoryError> {
		let mut block = vec![0; header.len as usize];
		let read = file.read_at(at + HEADER_BYTES, &mut block);
		match read.map_err(RepositoryError::io("read a pack")) {
			Err(error) if error.is_loss() => {
				let (offset, len) = (at + HEADER_BYTES, header.len.into());
				self.unread.push(Unread { pack, offset, len });
				self.damaged += 1;
				return Ok(false);
			}
			read => read?,
		}
		if digest(&block) != header.cid.digest() {
			// Zeros are a block that was removed, whose skip header did not reach the disk.
			self.damaged += u64::from(block.iter().any(|byte| *byte != 0));
			return Ok(false);
		}
		// A node whose children are not there was about to be removed, or they were damaged and
		// perhaps stored anew further on. Its bytes are kept track of, as those of no node.
		let (is_node, flaw) = match is_node(&header.cid) {
			true if self.is_complete(&block, &HashSet::new())? => (true, None),
			// What it lacks may be in a pack that is away.
			true => (false, Some(Flaw::Incomplete(Outlook::MayComeBack))),
			false => (false, None),
		};
		let offset = u32::try_from(at).expect("packs are smaller than 4 GiB");
		let entry = Entry { pack, offset, len: header.len, id: self.next_id, is_node, flaw };
		self.next_id += 1;
		self.insert(header.cid.digest(), entry)?;
		Ok(true)
	}

	fn note_unread(&self) -> Result<(), RepositoryError> {
		if !self.unread.is_empty() {
			let places = self.unread.len();
			tracing::error!(
				target: "store", places,
				"packs are away, or could not be read in full: what stands in them is waited for until \
				 it can be read, or until `fsck --repair`"
			);
		}
		self.index.set_unread(&self.unread)
	}

	/// Whether all children are there, or among those that were just found complete.
	fn is_complete(
		&self,
		node: &[u8],
		completed: &HashSet<[u8; 32]>,
	) -> Result<bool, RepositoryError> {
		let Ok(children) = links(node) else {
			return Ok(false);
		};
		for child in children {
			let there = match self.batch_at.get(&child.digest()) {
				Some(at) => Some(self.batch[*at].1),
				None => self.index.get(&child.digest())?,
			};
			let is_there = there.is_some_and(|entry| entry.is_node || !is_node(&child));
			if !is_there && !completed.contains(&child.digest()) {
				return Ok(false);
			}
		}
		Ok(true)
	}

	/// Looks at incomplete nodes again, now that everything is indexed. Children usually have
	/// lower ids than their parents, so few rounds are needed.
	fn complete_nodes(&mut self, packs: &Packs) -> Result<(), RepositoryError> {
		loop {
			let mut nodes = Vec::new();
			self.index.scan(None, usize::MAX, &mut |digest, entry| {
				if entry.is_incomplete() {
					nodes.push((*digest, *entry));
				}
			})?;
			nodes.sort_unstable_by_key(|(_, entry)| entry.id);
			let (mut completed, mut notes) = (HashSet::new(), Vec::new());
			for (digest, entry) in nodes {
				let node = match packs.read(&entry) {
					// It stays incomplete.
					Err(error) if error.is_loss() => {
						let Entry { pack, offset, len, .. } = entry;
						let offset = u64::from(offset) + HEADER_BYTES;
						self.unread.push(Unread { pack, offset, len: len.into() });
						continue;
					}
					node => node?,
				};
				if self.is_complete(&node, &completed)? {
					completed.insert(digest);
					notes.push((digest, Entry { is_node: true, flaw: None, ..entry }));
				}
			}
			if notes.is_empty() {
				return Ok(());
			}
			self.index.note(&notes)?;
		}
	}

	fn insert(&mut self, digest: [u8; 32], entry: Entry) -> Result<(), RepositoryError> {
		// Twice in one batch: the later one would hide the dead space of the first.
		if self.batch_at.contains_key(&digest) || self.batch.len() >= BATCH_BLOCKS {
			self.store()?;
		}
		self.batch_at.insert(digest, self.batch.len());
		self.batch.push((digest, entry));
		Ok(())
	}

	fn store(&mut self) -> Result<(), RepositoryError> {
		let ends: Vec<_> = self.ends.iter().map(|(pack, end)| (*pack, *end)).collect();
		self.index.add(&self.batch, &ends, self.next_id)?;
		self.batch.clear();
		self.batch_at.clear();
		Ok(())
	}
}
