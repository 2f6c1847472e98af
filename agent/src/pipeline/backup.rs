//! A complete backup: all disks and blobs of a machine, and the root over them.

use crate::{
	format::{Compression, Geometry, Object, ReadKey, RepositoryKey, Root, RootError},
	pipeline::{
		Base, Cancel, DiskReader, OnProgress, Progress,
		base::{BaseError, Cursor},
		recorded::{Reading, union},
		store::{ObjectPlan, Storing},
	},
	repositories::{BlockSource, Put, RepositoryError, Session},
};
use backup_primitives::{Cid, Consistency, OpaqueId, Recipient};
use std::{io, num::NonZero, ops::Range};

/// What a backup is of, and where it goes.
///
/// The root is stored but not pinned: pin it with the same session, or copy it to other
/// repositories first.
#[expect(missing_debug_implementations, reason = "sources and repositories have none")]
pub struct Backup<'a> {
	/// Genesis hash of the chain that asks for it.
	pub genesis: [u8; 32],
	/// The node that seals.
	pub node: OpaqueId,
	/// The compute request.
	pub request: OpaqueId,
	/// The snapshot's place among those of the request.
	pub sequence: u64,
	/// When the content is current, in milliseconds since the Unix epoch.
	pub taken_at_ms: u64,
	/// How well the disks fit together.
	pub consistency: Consistency,
	/// A snapshot whose unchanged parts are taken over.
	pub base: Option<Base<'a>>,
	/// How disks are cut. Unchanged parts are found only in a base of the same geometry.
	pub geometry: Geometry,
	/// Seals blocks.
	pub key: &'a RepositoryKey,
	/// How many chunks of each disk that were not written to, as somebody recorded, are read all
	/// the same and compared with the base.
	pub samples: usize,
	/// How hard is tried to make them smaller. Chunks that were stored at another level are found
	/// again in the base, and nowhere else.
	pub compression: Compression,
	/// Who can open the root: its owner and its node.
	pub recipients: &'a [Recipient],
	/// Where blocks go.
	pub session: &'a dyn Session,
	/// Where the base is read from: the repository of the session.
	pub repository: &'a dyn BlockSource,
	/// How many threads compress and seal.
	pub threads: NonZero<usize>,
	/// Is told how far it has come, about every 16 MiB.
	pub on_progress: OnProgress<'a>,
	/// Ends it early.
	pub cancel: &'a Cancel,
}

/// One disk to back up.
#[expect(missing_debug_implementations, reason = "sources and repositories have none")]
pub struct Disk<'a> {
	/// Which disk of the machine it is: a plain file name.
	pub name: String,
	/// Its content.
	pub reader: Box<dyn DiskReader + 'a>,
	/// The only ranges that may differ from the base, sorted and apart from each other; `None`
	/// when that is not known. What lies outside is not read but taken from the base, so it
	/// must come from whoever recorded every write since that very snapshot. A few samples
	/// outside are read, and must be as in the base. What the base has lost is read, too, and so
	/// stored again.
	pub changed: Option<Vec<Range<u64>>>,
}

/// Something small to keep beside the disks.
#[derive(Clone, Debug)]
pub struct Blob {
	/// What it is: a plain file name.
	pub name: String,
	/// Its content.
	pub bytes: Vec<u8>,
}

/// What was stored, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
	/// Bytes that were read from the sources.
	pub read_bytes: u64,
	/// Bytes of blocks that were not in the repository before.
	pub new_bytes: u64,
	/// How many blocks those are, nodes included.
	pub new_blocks: u64,
	/// Chunks that were sealed and are new.
	pub new_chunks: u64,
	/// Chunks that were sealed, to blocks that were there.
	pub present_chunks: u64,
	/// Chunks that are the same as in the base, read or not.
	pub unchanged_chunks: u64,
	/// Chunks that were read and hold zeros only.
	pub zero_chunks: u64,
}

impl Stored {
	pub(crate) fn add(&mut self, other: &Self) {
		self.read_bytes += other.read_bytes;
		self.new_bytes += other.new_bytes;
		self.new_blocks += other.new_blocks;
		self.new_chunks += other.new_chunks;
		self.present_chunks += other.present_chunks;
		self.unchanged_chunks += other.unchanged_chunks;
		self.zero_chunks += other.zero_chunks;
	}

	pub(crate) fn count(&mut self, put: Put, block: &[u8]) {
		match put {
			Put::Stored => {
				self.new_bytes += block.len() as u64;
				self.new_blocks += 1;
			}
			Put::Present => {}
		}
	}
}

/// A finished backup.
#[derive(Clone, Debug)]
pub struct BackupReport {
	/// The name of the snapshot.
	pub root: Cid,
	/// What opens it, for further envelopes.
	pub read_key: ReadKey,
	/// Sizes of all disks and blobs together.
	pub logical_bytes: u64,
	/// What was stored.
	pub stored: Stored,
}

/// Why a backup did not finish. What it stored meanwhile is collected later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
	/// A source cannot be read.
	#[error("disk {disk} cannot be read at byte {offset}: {source}")]
	Read {
		/// The disk.
		disk: String,
		/// Where.
		offset: u64,
		/// Why.
		source: io::Error,
	},
	/// A source says that data lies where it cannot.
	#[error("disk {disk} reports data at bytes {start} to {end}, which cannot be")]
	Extent {
		/// The disk.
		disk: String,
		/// Where the data is said to begin.
		start: u64,
		/// And to end.
		end: u64,
	},
	/// The base is needed for parts that were not read, and cannot be.
	#[error("the base of disk {disk} cannot be read: {source}")]
	Base {
		/// The disk.
		disk: String,
		/// Why.
		source: BaseError,
	},
	/// A change list was given for a disk that the base does not have in this size and geometry.
	#[error("disk {disk} has a list of changes, but no base that it could be relative to")]
	NoBase {
		/// The disk.
		disk: String,
	},
	/// Something else stands where nothing was written, by the list of changes.
	#[error("disk {disk} is not as in its base at byte {offset}, where no write was recorded")]
	Unrecorded {
		/// The disk.
		disk: String,
		/// Where the chunk begins that differs.
		offset: u64,
	},
	/// The repository cannot store a block.
	#[error("a block cannot be stored: {0}")]
	Repository(#[from] RepositoryError),
	/// The root cannot be sealed.
	#[error("the root cannot be sealed: {0}")]
	Root(#[from] RootError),
	/// It was told to end.
	#[error("the backup was cancelled")]
	Cancelled,
}

impl BackupError {
	/// Whether the base or the record of changes since is of no use, so that a full reading may
	/// do better.
	pub fn is_of_base(&self) -> bool {
		matches!(self, Self::Base { .. } | Self::NoBase { .. } | Self::Unrecorded { .. })
	}
}

impl Backup<'_> {
	/// Runs the backup to its end, blocking: of the disks in the order of the machine, and of
	/// what belongs to the machine beside them.
	pub fn run(&self, disks: Vec<Disk<'_>>, blobs: Vec<Blob>) -> Result<BackupReport, BackupError> {
		let disk_bytes = disks.iter().map(|disk| disk.reader.logical_bytes()).sum::<u64>();
		let blob_bytes = blobs.iter().map(|blob| blob.bytes.len() as u64).sum::<u64>();
		let logical_bytes = disk_bytes + blob_bytes;
		let mut run = Run {
			backup: self,
			stored: Stored::default(),
			progress: Progress { total_bytes: logical_bytes, ..Progress::default() },
		};
		let disks = disks.into_iter().map(|disk| run.disk(disk)).collect::<Result<Vec<_>, _>>()?;
		let blobs = blobs.into_iter().map(|blob| run.blob(blob)).collect::<Result<Vec<_>, _>>()?;
		let mut stored = run.stored;

		let root = self.root(disks, blobs).seal(self.key, self.recipients)?;
		let put = self.session.put_unchecked(&root.cid, &root.block)?;
		stored.count(put, &root.block);
		Ok(BackupReport { root: root.cid, read_key: root.read_key, logical_bytes, stored })
	}

	fn root(&self, disks: Vec<Object>, blobs: Vec<Object>) -> Root {
		Root {
			genesis: self.genesis,
			node: self.node.clone(),
			request: self.request.clone(),
			sequence: self.sequence,
			geometry: self.geometry,
			taken_at_ms: self.taken_at_ms,
			consistency: self.consistency,
			disks,
			blobs,
		}
	}
}

struct Run<'a> {
	backup: &'a Backup<'a>,
	stored: Stored,
	progress: Progress,
}

impl Run<'_> {
	fn disk(&mut self, mut disk: Disk<'_>) -> Result<Object, BackupError> {
		let backup = self.backup;
		let base = backup.base.and_then(|base| base.disk(&disk.name, backup.geometry));
		let logical_bytes = disk.reader.logical_bytes();
		let fits = base.is_some_and(|base| base.logical_bytes == logical_bytes);
		if disk.changed.is_some() && !fits {
			return Err(BackupError::NoBase { disk: disk.name });
		}
		let mut base = base.map(|base| Cursor::new(backup.repository, backup.geometry, base));
		let mut reading = None;
		if let (Some(changed), Some(base)) = (&disk.changed, &mut base) {
			let lost = base.lost(&|cid| backup.session.has(cid))?;
			if !lost.is_empty() {
				let bytes = lost.iter().map(|range| range.end - range.start).sum::<u64>();
				let disk = &disk.name;
				tracing::warn!(target: "backup", disk, bytes, "what the base has lost is read again");
			}
			let wanted = union(changed, &lost);
			let last = base.last_apart_from(&wanted);
			let last =
				last.map_err(|source| BackupError::Base { disk: disk.name.clone(), source })?;
			let found = Reading::of(&wanted, last, backup.samples, backup.geometry, logical_bytes);
			disk.reader.restrict(&found.ranges);
			reading = Some(found);
		}
		let plan = ObjectPlan { base, reading };
		self.object(disk.name, &mut *disk.reader, plan)
	}

	fn blob(&mut self, blob: Blob) -> Result<Object, BackupError> {
		let mut reader = BlobReader(blob.bytes);
		self.object(blob.name, &mut reader, ObjectPlan { base: None, reading: None })
	}

	fn object(
		&mut self,
		name: String,
		reader: &mut dyn DiskReader,
		plan: ObjectPlan<'_>,
	) -> Result<Object, BackupError> {
		let logical_bytes = reader.logical_bytes();
		let storing =
			Storing { backup: self.backup, name: &name, before: self.progress, logical_bytes };
		let (tree, stored) = storing.run(reader, plan)?;
		self.stored.add(&stored);
		self.progress.done_bytes += logical_bytes;
		self.progress.written_bytes += stored.new_bytes;
		(self.backup.on_progress)(self.progress);
		Ok(Object { name, logical_bytes, tree })
	}
}

/// A blob, read like a disk.
struct BlobReader(Vec<u8>);

impl DiskReader for BlobReader {
	fn logical_bytes(&self) -> u64 {
		self.0.len() as u64
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		let end = self.logical_bytes();
		Ok((from < end).then_some(from..end))
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let start = usize::try_from(offset).map_err(io::Error::other)?;
		let bytes = self.0.get(start..start + buffer.len());
		buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
		Ok(())
	}
}
