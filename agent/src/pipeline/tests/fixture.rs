//! A small language for pipeline tests: disks in memory, a store in memory, one machine.

use crate::{
	format::{Compression, Geometry, RepositoryKey, Root},
	pipeline::{
		Backup, BackupError, BackupReport, Base, Blob, Cancel, Disk, DiskReader, Restore,
		RestoreError, RestoreTarget, open_root,
	},
	repositories::{
		EmbeddedStore, Repository, Session, StoreOptions,
		embedded::tests::simulated::SimulatedFiles,
	},
};
use age::x25519::Identity;
use backup_primitives::{Cid, Consistency, OpaqueId, Recipient};
use std::{
	io,
	num::NonZero,
	ops::Range,
	sync::{Arc, Mutex},
};

pub(crate) const CHUNK: usize = 4096;

/// Small chunks and nodes, so that small disks have high trees.
pub(crate) fn small() -> Geometry {
	Geometry::new(CHUNK as u32, 4).unwrap()
}

/// A disk in memory. What is zero may be a hole.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
	pub(crate) bytes: Vec<u8>,
	/// Where data is said to be; everywhere if there is nothing here.
	pub(crate) extents: Option<Vec<Range<u64>>>,
	pub(crate) bad_at: Option<u64>,
	/// What was read, and what was released.
	pub(crate) read: Arc<Mutex<Vec<Range<u64>>>>,
	pub(crate) released: Arc<Mutex<Vec<Range<u64>>>>,
}

impl MemoryDisk {
	pub(crate) fn new(bytes: Vec<u8>) -> Self {
		Self { bytes, ..Self::default() }
	}
}

impl DiskReader for MemoryDisk {
	fn logical_bytes(&self) -> u64 {
		self.bytes.len() as u64
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		let end = self.logical_bytes();
		match &self.extents {
			None => Ok((from < end).then_some(from..end)),
			Some(extents) => {
				let next = extents.iter().find(|extent| extent.end > from);
				Ok(next.map(|extent| extent.start.max(from)..extent.end))
			}
		}
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let range = offset..offset + buffer.len() as u64;
		if self.bad_at.is_some_and(|bad| range.contains(&bad)) {
			return Err(io::Error::other("bad sector"));
		}
		buffer.copy_from_slice(&self.bytes[range.start as usize..range.end as usize]);
		self.read.lock().unwrap().push(range);
		Ok(())
	}

	fn release(&mut self, range: Range<u64>) {
		self.released.lock().unwrap().push(range);
	}
}

/// Where a disk is restored to.
#[derive(Default)]
pub(crate) struct MemoryTarget {
	pub(crate) bytes: Mutex<Vec<u8>>,
	pub(crate) is_finished: bool,
	pub(crate) is_full: bool,
}

impl RestoreTarget for MemoryTarget {
	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		self.bytes.get_mut().unwrap().resize(logical_bytes as usize, 0);
		Ok(())
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		if self.is_full {
			return Err(io::ErrorKind::StorageFull.into());
		}
		let offset = offset as usize;
		self.bytes.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		self.is_finished = true;
		Ok(())
	}
}

/// Bytes that look random and follow from their name.
pub(crate) fn noise(name: u64, len: usize) -> Vec<u8> {
	let mut bytes = vec![0; len];
	blake3::Hasher::new().update(&name.to_le_bytes()).finalize_xof().fill(&mut bytes);
	bytes
}

/// One owner, one node, one store.
pub(crate) struct World {
	pub(crate) store: EmbeddedStore,
	pub(crate) key: RepositoryKey,
	pub(crate) owner: Identity,
	pub(crate) node: Identity,
	pub(crate) geometry: Geometry,
	pub(crate) compression: Compression,
	pub(crate) samples: usize,
	pub(crate) cancel: Cancel,
}

impl World {
	pub(crate) fn new() -> Self {
		Self {
			store: memory_store(),
			key: RepositoryKey::generate(),
			owner: Identity::generate(),
			node: Identity::generate(),
			geometry: small(),
			compression: Compression::DEFAULT,
			samples: 0,
			cancel: Cancel::new(),
		}
	}

	pub(crate) fn backup(
		&self,
		session: &dyn Session,
		base: Option<&Root>,
		disks: Vec<Disk<'_>>,
		blobs: Vec<Blob>,
	) -> Result<BackupReport, BackupError> {
		let recipients = [recipient(&self.owner), recipient(&self.node)];
		let backup = Backup {
			genesis: [1; 32],
			node: OpaqueId::of(&2u32).unwrap(),
			request: OpaqueId::of(&3u64).unwrap(),
			sequence: 4,
			taken_at_ms: 5,
			consistency: Consistency::Crash,
			base: base.map(|root| Base { root }),
			geometry: self.geometry,
			key: &self.key,
			samples: self.samples,
			compression: self.compression,
			recipients: &recipients,
			session,
			repository: &self.store,
			threads: NonZero::new(3).unwrap(),
			on_progress: &|_| {},
			cancel: &self.cancel,
		};
		backup.run(disks, blobs)
	}

	/// Backs one disk up, pins it and opens its root.
	pub(crate) fn keep(
		&self,
		base: Option<&Root>,
		reader: MemoryDisk,
		changed: Option<Vec<Range<u64>>>,
	) -> (BackupReport, Root) {
		let session = self.store.open_session().unwrap();
		let report = self.backup(&*session, base, vec![disk(reader, changed)], vec![]).unwrap();
		session.pin(&report.root, b"").unwrap();
		let root = self.open(&report.root);
		(report, root)
	}

	/// Opens a root as its owner, who knows no repository key.
	pub(crate) fn open(&self, root: &Cid) -> Root {
		open_root(&self.store, root).unwrap().open_with_identity(&self.owner).unwrap()
	}

	pub(crate) fn restore(
		&self,
		root: &Root,
		disk: usize,
		target: &mut MemoryTarget,
	) -> Result<u64, RestoreError> {
		let restore = Restore {
			repository: &self.store,
			geometry: root.geometry,
			object: &root.disks[disk],
			threads: NonZero::new(3).unwrap(),
			on_progress: &|_| {},
			cancel: &self.cancel,
		};
		restore.run(target)
	}

	pub(crate) fn assert_restores(&self, root: &Root, disk: usize, expected: &[u8]) {
		let mut target = MemoryTarget::default();
		self.restore(root, disk, &mut target).unwrap();
		assert!(target.is_finished);
		assert!(*target.bytes.lock().unwrap() == expected, "other bytes came back");
	}
}

pub(crate) fn memory_store() -> EmbeddedStore {
	let options = StoreOptions { pack_bytes: 1 << 20, reserve_bytes: 0 };
	EmbeddedStore::open_files(Arc::new(SimulatedFiles::default()), options).unwrap()
}

pub(crate) fn recipient(identity: &Identity) -> Recipient {
	identity.to_public().to_string().parse().unwrap()
}

pub(crate) fn disk(reader: MemoryDisk, changed: Option<Vec<Range<u64>>>) -> Disk<'static> {
	Disk { name: "vda".to_owned(), reader: Box::new(reader), changed }
}
