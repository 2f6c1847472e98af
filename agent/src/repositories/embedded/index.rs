//! The index: where each block stands, and what each pack still holds.
//!
//! It holds small things only and can be rebuilt from the packs. One commit is one durable
//! transaction. After an error of the disk redb refuses to go on, so the database is opened
//! anew at the next use; what was committed is then there, what was not is not.

mod unread;

use crate::repositories::{
	Collected, RepositoryError,
	embedded::{
		PACK_BYTES_MAX,
		entry::{ENTRY_BYTES, Entry, Flaw, Outlook::MayComeBack},
		files::Files,
	},
};
use redb::{
	Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use std::{
	collections::BTreeMap,
	io,
	panic::{AssertUnwindSafe, catch_unwind},
	sync::{
		Arc, PoisonError, RwLock,
		atomic::{AtomicBool, Ordering},
	},
};

pub(crate) use self::unread::Unread;

pub(crate) const INDEX_FILE: &str = "index.redb";
/// One that is to take its place.
pub(crate) const INDEX_NEW_FILE: &str = "index.new";
pub(crate) const STORE_VERSION: u64 = 1;

/// More packs than any store has had. A number above it is damage.
const PACKS_MAX: u32 = 1 << 30;

const CACHE_BYTES: usize = 64 * 1024 * 1024;

type Digest = [u8; 32];

/// Digest → entry.
const BLOCKS: TableDefinition<&Digest, &[u8; ENTRY_BYTES]> = TableDefinition::new("blocks");
/// Pack → end, live bytes, live blocks.
const PACKS: TableDefinition<u32, (u64, u64, u64)> = TableDefinition::new("packs");
/// Pack and offset → bytes that are dead and not yet given back.
const DEAD: TableDefinition<(u32, u32), u32> = TableDefinition::new("dead");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const META_VERSION: &str = "version";
const META_NEXT_ID: &str = "next-id";
/// The least number that no pack has had, where packs were missing when the index was made anew.
const META_NEXT_PACK: &str = "next-pack";
const META_UNCONFIRMED: &str = "pins-unconfirmed";
/// What stores said of all damaged blocks at once before each said it of itself.
const META_MAY_COME_BACK: &str = "nodes-may-come-back";

/// What the index knows of a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackState {
	/// Where its last indexed record ends.
	pub(crate) end: u64,
	pub(crate) live_bytes: u64,
	pub(crate) live_blocks: u64,
}

impl PackState {
	fn from_row((end, live_bytes, live_blocks): (u64, u64, u64)) -> Self {
		Self { end, live_bytes, live_blocks }
	}

	fn row(self) -> (u64, u64, u64) {
		(self.end, self.live_bytes, self.live_blocks)
	}
}

/// A range of a pack that holds nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadRun {
	pub(crate) offset: u64,
	pub(crate) len: u64,
}

#[derive(Debug)]
pub(crate) struct Index {
	files: Arc<dyn Files>,
	name: &'static str,
	database: RwLock<Option<Database>>,
	/// Whether it was found damaged and is no longer used.
	is_condemned: AtomicBool,
}

/// What opening an index came to.
#[derive(Debug)]
pub(crate) enum Opened {
	/// It is complete.
	Complete(Index),
	/// It has to be made anew.
	Lost(Legacy),
}

/// What an index leaves to the one that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Legacy {
	/// No pack has had this number or a higher one, as far as is known.
	pub(crate) next_pack: u32,
	/// What there is to be read: what the disk did not give, and all packs. Any of these may be away when
	/// they are looked for.
	pub(crate) places: Vec<Unread>,
}

impl Legacy {
	/// Of an index of which nothing is known.
	pub(crate) const NONE: Self = Self { next_pack: 1, places: Vec::new() };
}

impl Index {
	fn over(files: Arc<dyn Files>, name: &'static str) -> Self {
		Self { files, name, database: RwLock::new(None), is_condemned: AtomicBool::new(false) }
	}

	/// Opens the index that is there.
	pub(crate) fn open(files: Arc<dyn Files>) -> Result<Opened, RepositoryError> {
		let (index, nothing) = (Self::over(files, INDEX_FILE), Opened::Lost(Legacy::NONE));
		match index.read(|database| meta(database, META_VERSION)) {
			Ok(Some(STORE_VERSION)) => {
				index.tell_each_what_may_come_back()?;
				Ok(Opened::Complete(index))
			}
			Ok(Some(found)) => Err(RepositoryError::NewerVersion { found, known: STORE_VERSION }),
			Ok(None) => match index.legacy() {
				Err(RepositoryError::Index { .. }) => Ok(nothing),
				legacy => legacy.map(Opened::Lost),
			},
			Err(RepositoryError::Index { source }) if is_damage(&source) => Ok(nothing),
			Err(RepositoryError::Io { source, .. }) if is_foreign(&source) => Ok(nothing),
			Err(error) => Err(error),
		}
	}

	/// An empty index in place of whatever is there, in one step: what is left to it is in the one or
	/// in the other, unless there is no room for both. It counts as complete only after [`complete`](Self::complete).
	pub(crate) fn create(files: Arc<dyn Files>, legacy: &Legacy) -> Result<Self, RepositoryError> {
		match Self::write_new(files.clone(), legacy) {
			// The old one may take all the room that there is.
			Err(RepositoryError::StoreFull) => {
				remove_if_there(&*files, INDEX_FILE)?;
				Self::write_new(files.clone(), legacy)?;
			}
			written => written?,
		}
		files
			.rename(INDEX_NEW_FILE, INDEX_FILE)
			.and_then(|()| files.sync_folder())
			.map_err(RepositoryError::io("make a new index"))?;
		Ok(Self::over(files, INDEX_FILE))
	}

	fn write_new(files: Arc<dyn Files>, legacy: &Legacy) -> Result<(), RepositoryError> {
		remove_if_there(&*files, INDEX_NEW_FILE)?;
		Self::over(files, INDEX_NEW_FILE).write(|transaction| {
			transaction.open_table(BLOCKS)?;
			transaction.open_table(PACKS)?;
			transaction.open_table(DEAD)?;
			unread::put(transaction, &legacy.places)?;
			let mut meta = transaction.open_table(META)?;
			meta.insert(META_NEXT_PACK, u64::from(legacy.next_pack))?;
			Ok(())
		})
	}

	/// What the one that takes its place has to know.
	pub(crate) fn legacy(&self) -> Result<Legacy, RepositoryError> {
		let (next_pack, mut places) = (self.next_pack()?, self.unread()?);
		let whole = |(pack, state): (u32, PackState)| Unread { pack, offset: 0, len: state.end };
		places.extend(self.packs()?.into_iter().map(whole));
		Ok(Legacy { next_pack, places })
	}

	/// Says that everything in the packs is indexed.
	pub(crate) fn complete(&self, pins_unconfirmed: bool) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			let mut table = transaction.open_table(META)?;
			table.insert(META_VERSION, STORE_VERSION)?;
			table.insert(META_UNCONFIRMED, u64::from(pins_unconfirmed))?;
			Ok(())
		})
	}

	pub(crate) fn pins_unconfirmed(&self) -> Result<bool, RepositoryError> {
		Ok(self.read(|database| meta(database, META_UNCONFIRMED))? == Some(1))
	}

	/// Takes over from stores that said of all damaged blocks at once whether they may come back.
	fn tell_each_what_may_come_back(&self) -> Result<(), RepositoryError> {
		if self.read(|database| meta(database, META_MAY_COME_BACK))? != Some(1) {
			return Ok(());
		}
		self.write(|transaction| {
			let mut blocks = transaction.open_table(BLOCKS)?;
			set_flaws(&mut blocks, |flaw| match flaw {
				Flaw::Damaged(_) => Flaw::Damaged(MayComeBack),
				Flaw::Incomplete(outlook) => Flaw::Incomplete(outlook),
			})?;
			transaction.open_table(META)?.remove(META_MAY_COME_BACK)?;
			Ok(())
		})
	}

	/// The least number that no pack has had, as far as is known.
	pub(crate) fn next_pack(&self) -> Result<u32, RepositoryError> {
		let noted = self.read(|database| meta(database, META_NEXT_PACK))?.unwrap_or(1);
		let noted = u32::try_from(noted).unwrap_or(u32::MAX);
		let known = match self.packs() {
			Err(RepositoryError::Index { .. }) => BTreeMap::new(),
			packs => packs?,
		};
		Ok(known.last_key_value().map_or(noted, |(last, _)| noted.max(last.saturating_add(1))))
	}

	/// The least id that no block has.
	pub(crate) fn next_id(&self) -> Result<u64, RepositoryError> {
		Ok(self.read(|database| meta(database, META_NEXT_ID))?.unwrap_or(0))
	}

	pub(crate) fn get(&self, digest: &Digest) -> Result<Option<Entry>, RepositoryError> {
		self.read(|database| {
			let table = database.begin_read()?.open_table(BLOCKS)?;
			Ok(table.get(digest)?.map(|entry| Entry::decode(entry.value())))
		})
	}

	/// Adds blocks whose bytes are durable, and moves the ends of their packs. A block that is
	/// indexed elsewhere already leaves dead space there. Doing it twice changes nothing.
	pub(crate) fn add(
		&self,
		entries: &[(Digest, Entry)],
		ends: &[(u32, u64)],
		next_id: u64,
	) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			let mut blocks = transaction.open_table(BLOCKS)?;
			let mut dead = transaction.open_table(DEAD)?;
			let mut packs = PackRows::load(transaction)?;
			for (digest, entry) in entries {
				let old = blocks.insert(digest, &entry.encode())?;
				let old = old.map(|old| Entry::decode(old.value()));
				match old {
					Some(old) if old.is_at(entry) => {}
					Some(old) => {
						packs.remove(&old);
						dead.insert((old.pack, old.offset), old.record_bytes())?;
						packs.add(entry);
					}
					None => packs.add(entry),
				}
			}
			for (pack, end) in ends {
				let state = packs.0.entry(*pack).or_default();
				state.end = state.end.max(*end);
			}
			packs.store(transaction)?;
			transaction.open_table(META)?.insert(META_NEXT_ID, next_id)?;
			Ok(())
		})
	}

	/// Takes over what became known of blocks, in one commit. Passes over those that meanwhile
	/// stand elsewhere.
	pub(crate) fn note(&self, entries: &[(Digest, Entry)]) -> Result<(), RepositoryError> {
		self.write(|transaction| put_notes(&mut transaction.open_table(BLOCKS)?, entries))
	}

	/// The same, and from then on nothing that is damaged, absent or unread is waited for.
	pub(crate) fn note_and_give_up(
		&self,
		entries: &[(Digest, Entry)],
	) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			let mut blocks = transaction.open_table(BLOCKS)?;
			put_notes(&mut blocks, entries)?;
			unread::give_up(transaction)?;
			set_flaws(&mut blocks, Flaw::given_up)
		})
	}

	/// Removes blocks in one commit and notes the space they leave.
	pub(crate) fn remove(&self, digests: &[Digest]) -> Result<Collected, RepositoryError> {
		self.write(|transaction| {
			let mut blocks = transaction.open_table(BLOCKS)?;
			let mut dead = transaction.open_table(DEAD)?;
			let mut packs = PackRows::load(transaction)?;
			let mut collected = Collected::default();
			for digest in digests {
				let entry = blocks.remove(digest)?.map(|entry| Entry::decode(entry.value()));
				let Some(entry) = entry else { continue };
				packs.remove(&entry);
				dead.insert((entry.pack, entry.offset), entry.record_bytes())?;
				collected.blocks += 1;
				collected.bytes += u64::from(entry.len);
			}
			packs.store(transaction)?;
			Ok(collected)
		})
	}

	/// Shows up to `limit` blocks after `after`, in the order of their digests, and says where
	/// it stopped; `None` at the end.
	pub(crate) fn scan(
		&self,
		after: Option<Digest>,
		limit: usize,
		visit: &mut dyn FnMut(&Digest, &Entry),
	) -> Result<Option<Digest>, RepositoryError> {
		use core::ops::Bound::{Excluded, Unbounded};
		self.read(|database| {
			let table = database.begin_read()?.open_table(BLOCKS)?;
			let start = after.as_ref().map_or(Unbounded, Excluded);
			let mut last = None;
			for row in table.range::<&Digest>((start, Unbounded))?.take(limit) {
				let (digest, entry) = row?;
				visit(digest.value(), &Entry::decode(entry.value()));
				last = Some(*digest.value());
			}
			Ok(last)
		})
	}

	pub(crate) fn len(&self) -> Result<u64, RepositoryError> {
		self.read(|database| Ok(database.begin_read()?.open_table(BLOCKS)?.len()?))
	}

	pub(crate) fn packs(&self) -> Result<BTreeMap<u32, PackState>, RepositoryError> {
		self.read(|database| {
			let table = database.begin_read()?.open_table(PACKS)?;
			let mut packs = BTreeMap::new();
			for row in table.iter()? {
				let (pack, state) = row?;
				packs.insert(pack.value(), PackState::from_row(state.value()));
			}
			Ok(packs)
		})
	}

	/// The dead runs of a pack; neighbours are one run.
	pub(crate) fn dead_runs(&self, pack: u32) -> Result<Vec<DeadRun>, RepositoryError> {
		self.read(|database| {
			let table = database.begin_read()?.open_table(DEAD)?;
			let mut runs: Vec<DeadRun> = Vec::new();
			for row in table.range((pack, 0)..=(pack, u32::MAX))? {
				let (place, len) = row?;
				let (offset, len) = (u64::from(place.value().1), u64::from(len.value()));
				match runs.last_mut() {
					Some(last) if last.offset + last.len == offset => last.len += len,
					Some(_) | None => runs.push(DeadRun { offset, len }),
				}
			}
			Ok(runs)
		})
	}

	/// Forgets the dead runs of a pack, whose space was given back.
	pub(crate) fn clear_dead(&self, pack: u32, runs: &[DeadRun]) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			let mut dead = transaction.open_table(DEAD)?;
			for run in runs {
				let place = |offset: u64| (pack, u32::try_from(offset).unwrap_or(u32::MAX));
				let range = place(run.offset)..place(run.offset + run.len);
				dead.retain_in(range, |_, _| false)?;
			}
			Ok(())
		})
	}

	/// Forgets a pack without live blocks.
	pub(crate) fn drop_pack(&self, pack: u32) -> Result<(), RepositoryError> {
		self.write(|transaction| {
			transaction.open_table(PACKS)?.remove(pack)?;
			let mut dead = transaction.open_table(DEAD)?;
			dead.retain_in((pack, 0)..=(pack, u32::MAX), |_, _| false)?;
			Ok(())
		})
	}

	/// Whether all of its pages are what their checksums say. Nobody else can use it meanwhile.
	pub(crate) fn is_sound(&self) -> Result<bool, RepositoryError> {
		self.reopen()?;
		let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
		let checked = guarded(|| match slot.as_mut() {
			Some(database) => Ok(database.check_integrity()?),
			None => Ok(false),
		});
		match checked {
			Ok(true) => return Ok(true),
			// An index that was put right may be an older one.
			Ok(false) => {}
			Err(error) if is_damage(&error) => {}
			Err(error) => return Err(RepositoryError::index(error)),
		}
		close(&mut slot);
		Ok(false)
	}

	/// Gives the index up: it is not used any more, and the next start rebuilds it.
	pub(crate) fn condemn(&self) -> Result<(), RepositoryError> {
		// It is damaged: what can still be read of it may be wrong, or nothing.
		let is_likely = |legacy: &Legacy| {
			let ends = legacy.places.iter().map(|place| place.offset.saturating_add(place.len));
			legacy.next_pack < PACKS_MAX && ends.max() < Some(PACK_BYTES_MAX * 2)
		};
		let legacy = self.legacy().ok().filter(is_likely);
		let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
		self.is_condemned.store(true, Ordering::Release);
		close(&mut slot);
		let made = Self::create(self.files.clone(), &legacy.unwrap_or(Legacy::NONE));
		made.map(drop).or_else(|_| {
			remove_if_there(&*self.files, INDEX_FILE)?;
			self.files.sync_folder().map_err(RepositoryError::io("sync the store's folder"))
		})
	}

	fn read<T>(
		&self,
		mut work: impl FnMut(&Database) -> Result<T, redb::Error>,
	) -> Result<T, RepositoryError> {
		loop {
			let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
			if let Some(database) = slot.as_ref() {
				let result = guarded(|| work(database));
				drop(slot);
				return result.map_err(|error| self.fail(error));
			}
			drop(slot);
			self.reopen()?;
		}
	}

	/// Runs `work` in one durable transaction.
	fn write<T>(
		&self,
		mut work: impl FnMut(&redb::WriteTransaction) -> Result<T, redb::Error>,
	) -> Result<T, RepositoryError> {
		self.read(|database| {
			let transaction = database.begin_write()?;
			let value = work(&transaction)?;
			transaction.commit()?;
			Ok(value)
		})
	}

	fn reopen(&self) -> Result<(), RepositoryError> {
		let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
		if self.is_condemned.load(Ordering::Acquire) {
			return Err(RepositoryError::IndexDamaged);
		}
		if slot.is_none() {
			let backend =
				self.files.index(self.name).map_err(RepositoryError::io("open its index"))?;
			let mut builder = Builder::new();
			builder.set_cache_size(CACHE_BYTES);
			let database = guarded(|| Ok(builder.create_with_backend(Boxed(backend))?))
				.map_err(RepositoryError::index)?;
			*slot = Some(database);
		}
		Ok(())
	}

	/// Closes a database that will refuse to work on.
	fn fail(&self, error: redb::Error) -> RepositoryError {
		if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) || is_damage(&error) {
			close(&mut self.database.write().unwrap_or_else(PoisonError::into_inner));
		}
		RepositoryError::index(error)
	}
}

impl Drop for Index {
	fn drop(&mut self) {
		close(self.database.get_mut().unwrap_or_else(PoisonError::into_inner));
	}
}

fn remove_if_there(files: &dyn Files, name: &str) -> Result<(), RepositoryError> {
	match files.remove(name) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
		removed => removed.map_err(RepositoryError::io("remove an old index")),
	}
}

/// redb panics at some pages that it cannot make sense of. That must not take the agent down,
/// neither now nor at every start.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
	// A database that panicked is closed and never used again.
	catch_unwind(AssertUnwindSafe(work))
		.unwrap_or_else(|_| Err(redb::Error::Corrupted("redb panicked".to_owned())))
}

/// Closing writes, so it may panic as well.
fn close(slot: &mut Option<Database>) {
	let database = slot.take();
	let close = || {
		drop(database);
		Ok(())
	};
	if guarded(close).is_err() {
		tracing::error!(target: "store", "the index could not be closed, it is damaged");
	}
}

type Blocks<'a> = redb::Table<'a, &'static Digest, &'static [u8; ENTRY_BYTES]>;

fn put_notes(blocks: &mut Blocks<'_>, entries: &[(Digest, Entry)]) -> Result<(), redb::Error> {
	for (digest, entry) in entries {
		let there = blocks.get(digest)?.map(|there| Entry::decode(there.value()));
		if there.is_some_and(|there| there.is_at(entry)) {
			blocks.insert(digest, &entry.encode())?;
		}
	}
	Ok(())
}

/// Changes all flaws that there are.
fn set_flaws(blocks: &mut Blocks<'_>, change: impl Fn(Flaw) -> Flaw) -> Result<(), redb::Error> {
	let mut changed = Vec::new();
	for row in blocks.iter()? {
		let (digest, entry) = row?;
		let entry = Entry::decode(entry.value());
		let flaw = entry.flaw.map(&change);
		if flaw != entry.flaw {
			changed.push((*digest.value(), Entry { flaw, ..entry }));
		}
	}
	put_notes(blocks, &changed)
}

fn meta(database: &Database, key: &str) -> Result<Option<u64>, redb::Error> {
	match database.begin_read()?.open_table(META) {
		Ok(table) => Ok(table.get(key)?.map(|value| value.value())),
		Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
		Err(error) => Err(error.into()),
	}
}

pub(crate) fn is_damage(error: &redb::Error) -> bool {
	matches!(
		error,
		redb::Error::Corrupted(_)
			| redb::Error::UpgradeRequired(_)
			| redb::Error::RepairAborted
			| redb::Error::TableTypeMismatch { .. }
			| redb::Error::TypeDefinitionChanged { .. }
	)
}

/// redb reports a file that is not a database, or only the beginning of one, like this.
fn is_foreign(error: &io::Error) -> bool {
	matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// The rows of all packs while one transaction changes them.
struct PackRows(BTreeMap<u32, PackState>);

impl PackRows {
	fn load(transaction: &redb::WriteTransaction) -> Result<Self, redb::Error> {
		let mut rows = BTreeMap::new();
		for row in transaction.open_table(PACKS)?.iter()? {
			let (pack, state) = row?;
			rows.insert(pack.value(), PackState::from_row(state.value()));
		}
		Ok(Self(rows))
	}

	fn add(&mut self, entry: &Entry) {
		let state = self.0.entry(entry.pack).or_default();
		state.live_bytes += u64::from(entry.record_bytes());
		state.live_blocks += 1;
	}

	fn remove(&mut self, entry: &Entry) {
		let state = self.0.entry(entry.pack).or_default();
		state.live_bytes = state.live_bytes.saturating_sub(entry.record_bytes().into());
		state.live_blocks = state.live_blocks.saturating_sub(1);
	}

	fn store(self, transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
		let mut table = transaction.open_table(PACKS)?;
		for (pack, state) in self.0 {
			table.insert(pack, state.row())?;
		}
		Ok(())
	}
}

/// redb takes a backend by value.
#[derive(Debug)]
struct Boxed(Box<dyn redb::StorageBackend>);

impl redb::StorageBackend for Boxed {
	fn len(&self) -> io::Result<u64> {
		self.0.len()
	}

	fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
		self.0.read(offset, out)
	}

	fn set_len(&self, len: u64) -> io::Result<()> {
		self.0.set_len(len)
	}

	fn sync_data(&self) -> io::Result<()> {
		self.0.sync_data()
	}

	fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
		self.0.write(offset, data)
	}

	fn close(&self) -> io::Result<()> {
		self.0.close()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::repositories::embedded::{
		entry::Outlook::GivenUp, tests::simulated::SimulatedFiles,
	};

	/// Stores of before said of all damaged blocks at once whether they may come back.
	#[test]
	fn what_a_store_said_of_all_damaged_blocks_each_says_of_itself() {
		for (said, expected) in [(Some(1), MayComeBack), (Some(0), GivenUp), (None, GivenUp)] {
			let files: Arc<dyn Files> = Arc::new(SimulatedFiles::default());
			let index = Index::create(files.clone(), &Legacy::NONE).unwrap();
			let flaw = Some(Flaw::Damaged(GivenUp));
			let entry = Entry { pack: 1, offset: 0, len: 3, id: 0, is_node: false, flaw };
			index.add(&[([7; 32], entry)], &[(1, 100)], 1).unwrap();
			if let Some(said) = said {
				let say = index.write(|transaction| {
					transaction.open_table(META)?.insert(META_MAY_COME_BACK, said)?;
					Ok(())
				});
				say.unwrap();
			}
			index.complete(false).unwrap();
			drop(index);
			for _ in 0..2 {
				let Opened::Complete(index) = Index::open(files.clone()).unwrap() else {
					panic!("it is complete");
				};
				let entry = index.get(&[7; 32]).unwrap().unwrap();
				assert_eq!(entry.flaw, Some(Flaw::Damaged(expected)), "{said:?}");
				// Only once: a repair may give them up since.
				let left = index.read(|database| meta(database, META_MAY_COME_BACK)).unwrap();
				assert_ne!(left, Some(1));
			}
		}
	}
}
