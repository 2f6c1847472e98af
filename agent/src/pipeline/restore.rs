//! A disk or blob on its way back from the repository.
//!
//! The calling thread walks the tree in the order of the disk, workers fetch, open and write.
//! Blocks are authenticated by the keys in the tree. Only when one does not open is it hashed,
//! to say whether it is damaged.

use crate::{
	direct::AlignedBytes,
	format::{
		ChildRef, Geometry, NodeBlock, NodeError, Object, OpenError, RootBlock, RootError,
		seal::open_chunk,
	},
	pipeline::{Cancel, OnProgress, Progress, RestoreTarget, base::place_range},
	repositories::{BlockSource, RepositoryError},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::BTreeSet,
	io,
	num::NonZero,
	sync::{
		Mutex, MutexGuard, PoisonError,
		atomic::{AtomicBool, AtomicU64, Ordering},
		mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
	},
	thread,
	time::{Duration, Instant},
};

/// Chunks that wait for each worker.
const JOBS_PER_WORKER: usize = 2;

/// How much longer than it took to note how far a restore is, it is not noted again.
const KEEP_PAUSE: u32 = 4;

/// Bytes between two progress reports.
const PROGRESS_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// One disk or blob to restore.
#[expect(missing_debug_implementations, reason = "repositories have none")]
pub struct Restore<'a> {
	/// Where blocks come from.
	pub repository: &'a dyn BlockSource,
	/// How the snapshot's trees are built.
	pub geometry: Geometry,
	/// The disk or blob of the opened root.
	pub object: &'a Object,
	/// How many threads fetch, open and write.
	pub threads: NonZero<usize>,
	/// Is told how far it has come, about every 16 MiB.
	pub on_progress: OnProgress<'a>,
	/// Ends it early.
	pub cancel: &'a Cancel,
}

/// Why a restore did not finish. The target is incomplete then; its maker removes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
	/// There is no such snapshot in the repository.
	#[error("there is no snapshot {cid}")]
	NoSuchRoot {
		/// Its root.
		cid: Cid,
	},
	/// The block is not a root, or does not open with this secret.
	#[error(transparent)]
	Root(#[from] RootError),
	/// A block is missing.
	#[error("block {cid} is missing, which belongs at byte {offset}")]
	Missing {
		/// The block.
		cid: Cid,
		/// Where on the disk it belongs.
		offset: u64,
	},
	/// A block is not what its CID says.
	#[error("block {cid} is damaged, which belongs at byte {offset}")]
	Corrupt {
		/// The block.
		cid: Cid,
		/// Where on the disk it belongs.
		offset: u64,
	},
	/// A sound block whose content does not open.
	#[error("block {cid}, which belongs at byte {offset}, is sound but unusable: {source}")]
	Unusable {
		/// The block.
		cid: Cid,
		/// Where on the disk it belongs.
		offset: u64,
		/// What is wrong with it.
		source: NodeError,
	},
	/// The repository failed.
	#[error("block {cid} cannot be read: {source}")]
	Repository {
		/// The block.
		cid: Cid,
		/// Why.
		source: RepositoryError,
	},
	/// The target cannot be written.
	#[error("the target cannot be written at byte {offset}: {source}")]
	Target {
		/// Where.
		offset: u64,
		/// Why.
		source: io::Error,
	},
	/// It was told to end.
	#[error("the restore was cancelled")]
	Cancelled,
}

impl RestoreError {
	/// Whether the secret is not the one that the snapshot is sealed to.
	pub fn is_wrong_secret(&self) -> bool {
		use crate::format::envelope::EnvelopeError;
		matches!(
			self,
			Self::Root(
				RootError::Envelope(EnvelopeError::WrongIdentity)
					| RootError::Open(OpenError::WrongKey)
			)
		)
	}
}

/// Fetches the root of a snapshot, checked against its CID. It opens with an identity or a read
/// key; a repository key is not needed.
pub fn open_root(repository: &dyn BlockSource, cid: &Cid) -> Result<RootBlock, RestoreError> {
	let block = match repository.get(cid) {
		Ok(block) => block.ok_or(RestoreError::NoSuchRoot { cid: *cid })?,
		Err(RepositoryError::Corrupt { cid }) => {
			return Err(RestoreError::Corrupt { cid, offset: 0 });
		}
		Err(source) => return Err(RestoreError::Repository { cid: *cid, source }),
	};
	match cid.codec() {
		BlockCodec::DagCbor => Ok(RootBlock::decode(&block)?),
		BlockCodec::Raw => Err(RootError::NotARoot.into()),
	}
}

/// A chunk to fetch.
struct Job {
	offset: u64,
	len: usize,
	child: ChildRef,
}

/// How far the walk is, and what of that is not written yet.
struct Front {
	walked_bytes: u64,
	/// Where chunks begin that workers have, or will have next.
	pending: BTreeSet<u64>,
}

impl Front {
	/// Everything before is written.
	fn done_bytes(&self) -> u64 {
		self.pending.first().copied().unwrap_or(self.walked_bytes)
	}
}

/// What the threads of one restore share.
struct Shared<'a> {
	restore: &'a Restore<'a>,
	target: &'a dyn RestoreTarget,
	/// What an earlier attempt has written.
	resumed_bytes: u64,
	front: Mutex<Front>,
	written_bytes: AtomicU64,
	stop: AtomicBool,
	failure: Mutex<Option<RestoreError>>,
}

impl Restore<'_> {
	/// Restores all of the object, blocking, and says how many bytes were written.
	pub fn run(&self, target: &mut dyn RestoreTarget) -> Result<u64, RestoreError> {
		let logical_bytes = self.object.logical_bytes;
		let at = |offset| move |source| RestoreError::Target { offset, source };
		let resumed_bytes = self.resume(target)?;
		target.set_len(logical_bytes).map_err(at(0))?;
		let front = Front { walked_bytes: resumed_bytes, pending: BTreeSet::new() };
		let shared = Shared {
			restore: self,
			target,
			resumed_bytes,
			front: Mutex::new(front),
			written_bytes: AtomicU64::new(0),
			stop: AtomicBool::new(false),
			failure: Mutex::new(None),
		};
		let written_bytes = shared.run()?;
		target.finish().map_err(at(logical_bytes))?;
		let done = Progress {
			total_bytes: logical_bytes,
			done_bytes: logical_bytes,
			resumed_bytes,
			written_bytes,
			..Progress::default()
		};
		(self.on_progress)(done);
		Ok(written_bytes)
	}

	/// How much an earlier attempt has written.
	fn resume(&self, target: &mut dyn RestoreTarget) -> Result<u64, RestoreError> {
		let Object { name: disk, logical_bytes, tree } = self.object;
		let Some(tree) = tree else { return Ok(0) };
		let on_found = |found_bytes| {
			if self.cancel.is_cancelled() {
				return Err(io::ErrorKind::Interrupted.into());
			}
			(self.on_progress)(Progress {
				total_bytes: *logical_bytes,
				done_bytes: found_bytes,
				resumed_bytes: found_bytes,
				..Progress::default()
			});
			Ok(())
		};
		let resumed = target.resume(&tree.cid, *logical_bytes, &on_found);
		let resumed_bytes = resumed.map_err(|source| match self.cancel.is_cancelled() {
			true => RestoreError::Cancelled,
			false => RestoreError::Target { offset: 0, source },
		})?;
		if resumed_bytes > 0 {
			tracing::info!(disk, resumed_bytes, "a restore goes on where an earlier attempt was");
		}
		Ok(resumed_bytes)
	}

	/// Reads a small object into memory: a blob of at most `max` bytes. `None` if it is larger.
	pub fn run_to_memory(&self, max: usize) -> Result<Option<Vec<u8>>, RestoreError> {
		if self.object.logical_bytes > max as u64 {
			return Ok(None);
		}
		let mut target = MemoryTarget(Mutex::default());
		self.run(&mut target)?;
		Ok(Some(target.0.into_inner().unwrap_or_else(PoisonError::into_inner)))
	}
}

impl Shared<'_> {
	fn run(self) -> Result<u64, RestoreError> {
		let threads = self.restore.threads.get();
		let (jobs, jobs_end) = sync_channel(threads * JOBS_PER_WORKER);
		let jobs_end = Mutex::new(jobs_end);
		thread::scope(|scope| {
			for _ in 0..threads {
				scope.spawn(|| self.work(&jobs_end));
			}
			let (over, is_over) = sync_channel(0);
			if let Some(every) = self.target.keep_every() {
				let shared = &self;
				scope.spawn(move || shared.keep(every, &is_over));
			}
			if let Err(error) = self.walk(&jobs) {
				self.fail(error);
			}
			drop(jobs);
			drop::<SyncSender<()>>(over);
		});
		match self.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
			Some(error) => Err(error),
			None => Ok(self.written_bytes.into_inner()),
		}
	}

	/// Keeps the first failure, which is the cause of the others.
	fn fail(&self, error: RestoreError) {
		let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
		failure.get_or_insert(error);
		self.stop.store(true, Ordering::Relaxed);
	}

	/// Sends the chunks in the order of the disk.
	fn walk(&self, jobs: &SyncSender<Job>) -> Result<(), RestoreError> {
		let Restore { geometry, object, .. } = *self.restore;
		let fan_out = u64::from(geometry.fan_out());
		let mut reported_bytes = 0;
		let top = geometry.levels(object.logical_bytes) as usize;
		let mut pending: Vec<_> = object.tree.iter().map(|tree| (top, 0, tree.clone())).collect();
		while let Some((level, index, child)) = pending.pop() {
			let range = place_range(geometry, level, index, object.logical_bytes);
			if range.end <= self.resumed_bytes && !range.is_empty() {
				continue;
			}
			let offset = range.start;
			let fits = match range.is_empty() {
				true => Err(NodeError::Inconsistent),
				false => child.ensure_level(level),
			};
			fits.map_err(|source| RestoreError::Unusable { cid: child.cid, offset, source })?;
			if level == 0 {
				let len = usize::try_from(range.end - offset).expect("a chunk fits memory");
				self.send(jobs, Job { offset, len, child })?;
				if offset >= reported_bytes + PROGRESS_STEP_BYTES {
					reported_bytes = offset;
					self.report(offset);
				}
				continue;
			}
			let node = self.node(&child, offset)?;
			let places = (index * fan_out..).zip(node.children);
			let present = places.filter_map(|(index, child)| Some((level - 1, index, child?)));
			let from = pending.len();
			pending.extend(present);
			pending[from..].reverse();
		}
		Ok(())
	}

	fn send(&self, jobs: &SyncSender<Job>, job: Job) -> Result<(), RestoreError> {
		let is_over = self.restore.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed);
		{
			let mut front = self.front();
			front.pending.insert(job.offset);
			front.walked_bytes = job.offset + job.len as u64;
		}
		if is_over || jobs.send(job).is_err() {
			return Err(RestoreError::Cancelled);
		}
		Ok(())
	}

	fn front(&self) -> MutexGuard<'_, Front> {
		self.front.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Tells the target how far it is, now and then, until the walk is over.
	fn keep(&self, every: Duration, is_over: &Receiver<()>) {
		let (mut kept_bytes, mut wait) = (self.resumed_bytes, every);
		while is_over.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
			let done_bytes = self.front().done_bytes();
			if done_bytes == kept_bytes {
				continue;
			}
			let begin = Instant::now();
			match self.target.keep(done_bytes) {
				Ok(()) => kept_bytes = done_bytes,
				// The restore itself meets what is wrong with the target, if it matters.
				Err(error) => tracing::warn!(%error, "a restore could not note how far it is"),
			}
			wait = every.max(begin.elapsed() * KEEP_PAUSE);
		}
	}

	fn report(&self, done_bytes: u64) {
		(self.restore.on_progress)(Progress {
			total_bytes: self.restore.object.logical_bytes,
			done_bytes,
			resumed_bytes: self.resumed_bytes,
			written_bytes: self.written_bytes.load(Ordering::Relaxed),
			..Progress::default()
		});
	}

	fn node(&self, child: &ChildRef, offset: u64) -> Result<crate::format::Node, RestoreError> {
		let open = |block: &[u8]| {
			let node = NodeBlock::decode(block)?;
			node.open(&child.key, self.restore.geometry)
		};
		open(&self.fetch(&child.cid, offset)?).or_else(|_| {
			let block = self.fetch_sound(&child.cid, offset)?;
			open(&block).map_err(|source| unusable(&child.cid, offset, source))
		})
	}

	fn fetch(&self, cid: &Cid, offset: u64) -> Result<Vec<u8>, RestoreError> {
		Self::found(cid, offset, self.restore.repository.get_unchecked(cid))
	}

	/// The block whose first reading did not open, checked this time. Where it is damaged, the
	/// repository may know another place that has it.
	fn fetch_sound(&self, cid: &Cid, offset: u64) -> Result<Vec<u8>, RestoreError> {
		Self::found(cid, offset, self.restore.repository.get(cid))
	}

	fn found(
		cid: &Cid,
		offset: u64,
		block: Result<Option<Vec<u8>>, RepositoryError>,
	) -> Result<Vec<u8>, RestoreError> {
		match block {
			Ok(Some(block)) => Ok(block),
			Ok(None) => Err(RestoreError::Missing { cid: *cid, offset }),
			Err(RepositoryError::Corrupt { cid }) => Err(RestoreError::Corrupt { cid, offset }),
			Err(source) => Err(RestoreError::Repository { cid: *cid, source }),
		}
	}

	/// Takes jobs until there are no more, also after a failure: the walk must never wait for
	/// nobody.
	fn work(&self, jobs: &Mutex<Receiver<Job>>) {
		let mut plaintext = AlignedBytes::new(self.restore.geometry.chunk_bytes() as usize);
		loop {
			let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
			let Ok(job) = job else { return };
			if self.stop.load(Ordering::Relaxed) {
				continue;
			}
			if let Err(error) = self.chunk(&job, &mut plaintext) {
				self.fail(error);
			}
		}
	}

	fn chunk(&self, job: &Job, plaintext: &mut [u8]) -> Result<(), RestoreError> {
		let Job { offset, len, child } = job;
		let plaintext = &mut plaintext[..*len];
		let mut block = self.fetch(&child.cid, *offset)?;
		if open_chunk(&child.key, &mut block, plaintext).is_err() {
			let mut block = self.fetch_sound(&child.cid, *offset)?;
			open_chunk(&child.key, &mut block, plaintext)
				.map_err(|error| unusable(&child.cid, *offset, error.into()))?;
		}
		self.target
			.write_at(*offset, plaintext)
			.map_err(|source| RestoreError::Target { offset: *offset, source })?;
		self.front().pending.remove(offset);
		self.written_bytes.fetch_add(*len as u64, Ordering::Relaxed);
		Ok(())
	}
}

/// A sound block that does not fit.
fn unusable(cid: &Cid, offset: u64, source: NodeError) -> RestoreError {
	RestoreError::Unusable { cid: *cid, offset, source }
}

struct MemoryTarget(Mutex<Vec<u8>>);

impl RestoreTarget for MemoryTarget {
	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		let bytes = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
		bytes.resize(usize::try_from(logical_bytes).map_err(io::Error::other)?, 0);
		Ok(())
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
		let start = usize::try_from(offset).map_err(io::Error::other)?;
		all[start..start + bytes.len()].copy_from_slice(bytes);
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		Ok(())
	}
}
