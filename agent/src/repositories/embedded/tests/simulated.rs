//! A disk in memory that can lose power.
//!
//! What was written since the last sync of a file may be there after the power cut, or not, or
//! in parts: each write on its own, torn at any sector. Names change in order, and the last
//! changes since the folder was synced may be missing. Every operation that changes something
//! is a step; from a chosen step on, every one fails.

use crate::repositories::{
	embedded::files::{Files, StoreFile},
	error::INPUT_OUTPUT,
};
use redb::StorageBackend;
use std::{
	collections::{BTreeMap, BTreeSet},
	fmt, io,
	sync::{Arc, Mutex, MutexGuard},
};

const SECTOR_BYTES: usize = 512;

/// The folder. Clones are the same folder.
#[derive(Clone, Default)]
pub(crate) struct SimulatedFiles(Arc<Mutex<Disk>>);

#[derive(Clone, Default)]
struct Disk {
	inodes: Vec<Inode>,
	names: BTreeMap<String, usize>,
	durable_names: BTreeMap<String, usize>,
	/// The folder after each change since it was synced.
	name_changes: Vec<BTreeMap<String, usize>>,
	steps: u64,
	/// Every step from this one on fails.
	cut_at: Option<u64>,
	/// Bytes that all files may have together.
	capacity: Option<u64>,
	/// Inodes of which nothing can be read.
	unreadable: BTreeSet<usize>,
	/// Syncs that still succeed before one fails.
	failing_sync_in: Option<u64>,
}

#[derive(Clone, Default)]
struct Inode {
	bytes: Vec<u8>,
	durable: Vec<u8>,
	changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
	Write { offset: usize, bytes: Vec<u8> },
	SetLen(usize),
}

impl Change {
	fn apply(&self, file: &mut Vec<u8>) {
		match self {
			Self::Write { offset, bytes } => {
				let end = offset + bytes.len();
				file.resize(file.len().max(end), 0);
				file[*offset..end].copy_from_slice(bytes);
			}
			Self::SetLen(len) => file.resize(*len, 0),
		}
	}

	/// Parts of the change, as chance has it.
	fn apply_torn(&self, file: &mut Vec<u8>, chance: &mut Chance) {
		match (self, chance.below(4)) {
			(_, 0) => {}
			(_, 1) | (Self::SetLen(_), _) => self.apply(file),
			(Self::Write { offset, bytes }, _) => {
				let mut at = 0;
				while at < bytes.len() {
					let sector_end = (offset + at + 1).next_multiple_of(SECTOR_BYTES) - offset;
					let end = sector_end.min(bytes.len());
					if chance.below(2) == 0 {
						let bytes = bytes[at..end].to_vec();
						Self::Write { offset: offset + at, bytes }.apply(file);
					}
					at = end;
				}
			}
		}
	}
}

/// Numbers that look random and follow from a seed.
pub(crate) struct Chance(u64);

impl Chance {
	pub(crate) fn new(seed: u64) -> Self {
		Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
	}

	pub(crate) fn below(&mut self, end: u64) -> u64 {
		self.0 ^= self.0 << 13;
		self.0 ^= self.0 >> 7;
		self.0 ^= self.0 << 17;
		(self.0 >> 11) % end
	}
}

impl Disk {
	fn step(&mut self) -> io::Result<()> {
		self.steps += 1;
		match self.cut_at {
			Some(cut_at) if self.steps > cut_at => Err(io::Error::other("the power is off")),
			Some(_) | None => Ok(()),
		}
	}

	fn sync_step(&mut self) -> io::Result<()> {
		self.step()?;
		match &mut self.failing_sync_in {
			Some(0) => {
				self.failing_sync_in = None;
				Err(io::Error::other("the sync failed"))
			}
			Some(syncs) => {
				*syncs -= 1;
				Ok(())
			}
			None => Ok(()),
		}
	}

	fn used(&self) -> u64 {
		self.names.values().map(|inode| self.inodes[*inode].bytes.len() as u64).sum()
	}

	fn names_changed(&mut self) {
		self.name_changes.push(self.names.clone());
	}

	fn inode(&self, name: &str) -> io::Result<usize> {
		self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
	}

	fn make(&mut self, name: &str) -> usize {
		self.inodes.push(Inode::default());
		let inode = self.inodes.len() - 1;
		self.names.insert(name.to_owned(), inode);
		self.names_changed();
		inode
	}
}

impl SimulatedFiles {
	fn disk(&self) -> MutexGuard<'_, Disk> {
		self.0.lock().unwrap()
	}

	pub(crate) fn steps(&self) -> u64 {
		self.disk().steps
	}

	/// Lets every step after so many fail.
	pub(crate) fn cut_after(&self, steps: u64) {
		let mut disk = self.disk();
		disk.cut_at = Some(disk.steps + steps);
	}

	pub(crate) fn set_capacity(&self, capacity: Option<u64>) {
		self.disk().capacity = capacity;
	}

	pub(crate) fn used(&self) -> u64 {
		self.disk().used()
	}

	/// Lets one sync fail, after so many that succeed; or none.
	pub(crate) fn fail_sync_in(&self, syncs: Option<u64>) {
		self.disk().failing_sync_in = syncs;
	}

	/// The same disk, once the program was killed at its cut: what was written is there, synced or not.
	pub(crate) fn after_kill(&self) -> Self {
		Self(Arc::new(Mutex::new(Disk { cut_at: None, ..self.disk().clone() })))
	}

	/// Another disk, as this one is found after the power cut.
	pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
		let disk = self.disk();
		let mut chance = Chance::new(seed);
		let kept = chance.below(disk.name_changes.len() as u64 + 1) as usize;
		let names = match kept {
			0 => disk.durable_names.clone(),
			kept => disk.name_changes[kept - 1].clone(),
		};
		let inodes = disk.inodes.iter().map(|inode| {
			let mut bytes = inode.durable.clone();
			for change in &inode.changes {
				change.apply_torn(&mut bytes, &mut chance);
			}
			Inode { durable: bytes.clone(), bytes, changes: Vec::new() }
		});
		Self(Arc::new(Mutex::new(Disk {
			inodes: inodes.collect(),
			durable_names: names.clone(),
			names,
			..Disk::default()
		})))
	}

	/// Puts a file where none is, as somebody does who has a copy.
	pub(crate) fn put_back(&self, name: &str, bytes: &[u8]) {
		let file = self.create(name).unwrap();
		file.write_at(0, bytes).unwrap();
		file.sync().unwrap();
		self.sync_folder().unwrap();
	}

	/// Lets the disk fail at every read of a file, or no longer.
	pub(crate) fn set_unreadable(&self, name: &str, is_unreadable: bool) {
		let mut disk = self.disk();
		let inode = disk.inode(name).unwrap();
		match is_unreadable {
			true => disk.unreadable.insert(inode),
			false => disk.unreadable.remove(&inode),
		};
	}

	/// Takes a file away without a trace.
	pub(crate) fn take_away(&self, name: &str) {
		let mut disk = self.disk();
		disk.names.remove(name);
		disk.durable_names.remove(name);
		disk.name_changes.clear();
	}

	/// The files.
	pub(crate) fn names(&self) -> Vec<String> {
		self.disk().names.keys().cloned().collect()
	}

	/// The bytes of a file.
	pub(crate) fn content(&self, name: &str) -> Vec<u8> {
		let disk = self.disk();
		disk.inodes[disk.inode(name).unwrap()].bytes.clone()
	}

	/// Changes the bytes of a file behind everybody's back.
	pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
		let mut disk = self.disk();
		let inode = disk.inode(name).unwrap();
		let inode = &mut disk.inodes[inode];
		edit(&mut inode.bytes);
		inode.durable = inode.bytes.clone();
		inode.changes.clear();
	}
}

impl fmt::Debug for SimulatedFiles {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("SimulatedFiles")
	}
}

#[derive(Clone, Debug)]
struct SimulatedFile {
	files: SimulatedFiles,
	inode: usize,
}

impl Files for SimulatedFiles {
	fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
		let mut disk = self.disk();
		disk.step()?;
		if disk.names.contains_key(name) {
			return Err(io::ErrorKind::AlreadyExists.into());
		}
		let inode = disk.make(name);
		Ok(Arc::new(SimulatedFile { files: self.clone(), inode }))
	}

	fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
		let inode = self.disk().inode(name)?;
		Ok(Arc::new(SimulatedFile { files: self.clone(), inode }))
	}

	fn list(&self) -> io::Result<Vec<String>> {
		Ok(self.disk().names.keys().cloned().collect())
	}

	fn remove(&self, name: &str) -> io::Result<()> {
		let mut disk = self.disk();
		disk.step()?;
		disk.inode(name)?;
		disk.names.remove(name);
		disk.names_changed();
		Ok(())
	}

	fn rename(&self, from: &str, to: &str) -> io::Result<()> {
		let mut disk = self.disk();
		disk.step()?;
		let inode = disk.inode(from)?;
		disk.names.remove(from);
		disk.names.insert(to.to_owned(), inode);
		disk.names_changed();
		Ok(())
	}

	fn sync_folder(&self) -> io::Result<()> {
		let mut disk = self.disk();
		disk.sync_step()?;
		disk.durable_names = disk.names.clone();
		disk.name_changes.clear();
		Ok(())
	}

	fn index(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
		let mut disk = self.disk();
		let inode = match disk.inode(name) {
			Ok(inode) => inode,
			Err(_) => {
				disk.step()?;
				disk.make(name)
			}
		};
		Ok(Box::new(SimulatedFile { files: self.clone(), inode }))
	}

	fn available_bytes(&self) -> io::Result<u64> {
		let disk = self.disk();
		Ok(disk.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(disk.used())))
	}
}

impl SimulatedFile {
	fn change(&self, change: Change) -> io::Result<()> {
		let mut disk = self.files.disk();
		disk.step()?;
		let end = match &change {
			Change::Write { offset, bytes } => offset + bytes.len(),
			Change::SetLen(len) => *len,
		};
		let growth = end.saturating_sub(disk.inodes[self.inode].bytes.len()) as u64;
		if growth > 0 && disk.capacity.is_some_and(|capacity| disk.used() + growth > capacity) {
			return Err(io::ErrorKind::StorageFull.into());
		}
		let inode = &mut disk.inodes[self.inode];
		change.apply(&mut inode.bytes);
		inode.changes.push(change);
		Ok(())
	}

	fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let disk = self.files.disk();
		if disk.unreadable.contains(&self.inode) {
			return Err(io::Error::from_raw_os_error(INPUT_OUTPUT));
		}
		let start = usize::try_from(offset).unwrap();
		let bytes = disk.inodes[self.inode].bytes.get(start..start + buffer.len());
		buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
		Ok(())
	}
}

impl StoreFile for SimulatedFile {
	fn len(&self) -> io::Result<u64> {
		Ok(self.files.disk().inodes[self.inode].bytes.len() as u64)
	}

	fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.read(offset, buffer)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		let offset = usize::try_from(offset).unwrap();
		self.change(Change::Write { offset, bytes: bytes.to_vec() })
	}

	fn set_len(&self, len: u64) -> io::Result<()> {
		self.change(Change::SetLen(usize::try_from(len).unwrap()))
	}

	fn sync(&self) -> io::Result<()> {
		let mut disk = self.files.disk();
		disk.sync_step()?;
		let inode = &mut disk.inodes[self.inode];
		inode.durable = inode.bytes.clone();
		inode.changes.clear();
		Ok(())
	}

	fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
		self.write_at(offset, &vec![0; usize::try_from(len).unwrap()])
	}
}

impl StorageBackend for SimulatedFile {
	fn len(&self) -> io::Result<u64> {
		StoreFile::len(self)
	}

	fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
		SimulatedFile::read(self, offset, out)
	}

	fn set_len(&self, len: u64) -> io::Result<()> {
		StoreFile::set_len(self, len)
	}

	fn sync_data(&self) -> io::Result<()> {
		self.sync()
	}

	fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
		self.write_at(offset, data)
	}
}
