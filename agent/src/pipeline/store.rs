//! One disk on its way into the repository.
//!
//! The calling thread reads, workers seal and store, one more thread puts the results in order
//! and builds the tree. Every piece of work carries a buffer, and buffers come back only in the
//! order of the disk: so the number of buffers bounds everything that is under way. Whoever
//! fails says so in its result; the collector keeps taking results until all threads are done,
//! so nobody waits for ever.

use crate::{
	format::{ChildRef, Cid, Sealer, digest},
	pipeline::{
		Backup, BackupError, DiskReader, Progress, Stored,
		base::{Cursor, place_range},
		recorded::{Reading, overlaps},
		tree::TreeBuilder,
	},
	repositories::{BlockSource, Put},
};
use std::{
	collections::BTreeMap,
	ops::Range,
	sync::{
		Mutex, PoisonError,
		atomic::{AtomicBool, Ordering},
		mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
	},
	thread,
	time::Duration,
};

/// Chunks under way for each worker.
const BUFFERS_PER_WORKER: usize = 8;

/// Bytes between two progress reports.
const PROGRESS_STEP_BYTES: u64 = 16 * 1024 * 1024;

/// How soon a reader that waits for a buffer sees that it is to stop.
const POLL: Duration = Duration::from_millis(100);

/// One disk or blob, and what is known of it.
pub(crate) struct ObjectPlan<'a> {
	pub(crate) base: Option<Cursor<&'a dyn BlockSource>>,
	/// What is read of it, if not all.
	pub(crate) reading: Option<Reading>,
}

pub(crate) struct Storing<'a> {
	pub(crate) backup: &'a Backup<'a>,
	/// What it is called.
	pub(crate) name: &'a str,
	/// How far the backup had come before this object.
	pub(crate) before: Progress,
	pub(crate) logical_bytes: u64,
}

/// A chunk to seal.
struct Job {
	turn: u64,
	index: u64,
	buffer: Vec<u8>,
	/// The chunk at the same place of the base.
	base: Option<ChildRef>,
	/// Whether it must be the same.
	is_sample: bool,
}

struct Done {
	turn: u64,
	level: usize,
	index: u64,
	buffer: Vec<u8>,
	outcome: Result<Outcome, BackupError>,
}

enum Outcome {
	Zero,
	Unchanged { child: ChildRef, chunks: u64 },
	Sealed { child: ChildRef, put: Put, block_bytes: u64 },
}

type Finished = Result<(Option<ChildRef>, Stored), BackupError>;

impl Storing<'_> {
	pub(crate) fn run(&self, reader: &mut dyn DiskReader, plan: ObjectPlan<'_>) -> Finished {
		let threads = self.backup.threads.get();
		let buffers = threads * BUFFERS_PER_WORKER;
		let stop = AtomicBool::new(false);
		let (jobs, jobs_end) = sync_channel::<Job>(buffers);
		let (results, results_end) = sync_channel::<Done>(buffers);
		let (free, free_end) = channel::<Vec<u8>>();
		for _ in 0..buffers {
			free.send(Vec::new()).expect("the receiver is in scope");
		}
		let jobs_end = Mutex::new(jobs_end);
		thread::scope(|scope| {
			for _ in 0..threads {
				let results = results.clone();
				scope.spawn(|| self.work(&jobs_end, results, &stop));
			}
			let collector = scope.spawn(|| self.collect(results_end, free, &stop));
			let mut feed = Feed {
				storing: self,
				plan,
				jobs,
				results,
				free: free_end,
				stop: &stop,
				turn: 0,
				has_warned: false,
			};
			let fed = feed.run(reader);
			// The workers end when no job can come any more, and then the collector does.
			drop(feed);
			let (collected, read_bytes) = match collector.join() {
				Ok(collected) => (collected, fed),
				Err(panic) => std::panic::resume_unwind(panic),
			};
			// What stopped the reader may be a consequence; the collector knows the cause.
			let (tree, mut stored) = collected?;
			stored.read_bytes = read_bytes?;
			Ok((tree, stored))
		})
	}

	fn work(&self, jobs: &Mutex<Receiver<Job>>, results: SyncSender<Done>, stop: &AtomicBool) {
		let _stop_on_panic = StopOnPanic(stop);
		let mut sealer = Sealer::with_compression(self.backup.key, self.backup.compression);
		loop {
			let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
			let Ok(Job { turn, index, buffer, base, is_sample }) = job else {
				return;
			};
			let outcome = match is_sample && !is_like(&sealer, &buffer, base.as_ref()) {
				true => Err(self.unrecorded(index)),
				false => self.chunk(&mut sealer, &buffer, base),
			};
			let done = Done { turn, level: 0, index, buffer, outcome };
			if results.send(done).is_err() {
				return;
			}
		}
	}

	fn chunk(
		&self,
		sealer: &mut Sealer,
		chunk: &[u8],
		base: Option<ChildRef>,
	) -> Result<Outcome, BackupError> {
		if is_zero(chunk) {
			return Ok(Outcome::Zero);
		}
		let id = sealer.chunk_id(chunk);
		if let Some(child) = base.filter(|child| child.id == id)
			&& self.backup.session.has(&child.cid)?
		{
			return Ok(Outcome::Unchanged { child, chunks: 1 });
		}
		let (block, key) = sealer.chunk(chunk);
		let cid = Cid::raw(digest(block));
		let put = self.backup.session.put_unchecked(&cid, block)?;
		let child = ChildRef { cid, key, id };
		Ok(Outcome::Sealed { child, put, block_bytes: block.len() as u64 })
	}

	fn unrecorded(&self, index: u64) -> BackupError {
		let offset = index * u64::from(self.backup.geometry.chunk_bytes());
		BackupError::Unrecorded { disk: self.name.to_owned(), offset }
	}

	/// Takes results in any order, uses them in the order of the disk.
	fn collect(
		&self,
		results: Receiver<Done>,
		free: Sender<Vec<u8>>,
		stop: &AtomicBool,
	) -> Finished {
		let mut collector = Collector {
			storing: self,
			sealer: Sealer::with_compression(self.backup.key, self.backup.compression),
			tree: TreeBuilder::new(self.backup.geometry, self.logical_bytes),
			stored: Stored::default(),
			reported_bytes: 0,
		};
		let mut failure = None;
		let mut waiting = BTreeMap::new();
		let mut turn = 0;
		for done in results {
			waiting.insert(done.turn, done);
			while let Some(done) = waiting.remove(&turn) {
				turn += 1;
				let Done { level, index, buffer, outcome, turn: _ } = done;
				if failure.is_none()
					&& let Err(error) = collector.take(level, index, outcome)
				{
					stop.store(true, Ordering::Relaxed);
					failure = Some(error);
				}
				// The reader may be gone already.
				let _ = free.send(buffer);
			}
		}
		match failure {
			Some(error) => Err(error),
			None => collector.finish(),
		}
	}
}

/// Sends work, in the order of the disk.
struct Feed<'a, 'b> {
	storing: &'a Storing<'a>,
	plan: ObjectPlan<'b>,
	jobs: SyncSender<Job>,
	results: SyncSender<Done>,
	free: Receiver<Vec<u8>>,
	stop: &'a AtomicBool,
	turn: u64,
	/// Whether it was said that the base cannot be read.
	has_warned: bool,
}

impl Feed<'_, '_> {
	/// Reads the disk and says how many bytes that were.
	fn run(&mut self, reader: &mut dyn DiskReader) -> Result<u64, BackupError> {
		let geometry = self.storing.backup.geometry;
		let logical_bytes = self.storing.logical_bytes;
		let chunk_bytes = u64::from(geometry.chunk_bytes());
		let mut read_bytes = 0;
		let mut at = 0;
		// Where data is, as far as it is known; behind the last of it stands the end.
		let mut known = 0..0;
		while at < logical_bytes {
			if let Some(end) = self.take_over(at)? {
				reader.release(at..end);
				at = end;
				continue;
			}
			if known.end <= at {
				known = self.extent(reader, at)?.unwrap_or(logical_bytes..u64::MAX);
			}
			// The chunk in which the extent begins, or goes on.
			let start = match known.start {
				end if end == logical_bytes => end,
				start => start.max(at) / chunk_bytes * chunk_bytes,
			};
			if start > at {
				let to = self.next_change(at).min(start);
				self.check_hole(at / chunk_bytes)?;
				reader.release(at..to);
				at = to;
				continue;
			}
			let range = geometry.chunk_range(at / chunk_bytes, logical_bytes);
			self.read(reader, range.clone())?;
			reader.release(range.clone());
			read_bytes += range.end - range.start;
			at = range.end;
		}
		Ok(read_bytes)
	}

	fn extent(
		&self,
		reader: &mut dyn DiskReader,
		from: u64,
	) -> Result<Option<Range<u64>>, BackupError> {
		let disk = || self.storing.name.to_owned();
		let extent = reader.next_extent(from).map_err(|source| BackupError::Read {
			disk: disk(),
			offset: from,
			source,
		})?;
		match extent {
			Some(Range { start, end })
				if start < from || start >= end || end > self.storing.logical_bytes =>
			{
				Err(BackupError::Extent { disk: disk(), start, end })
			}
			extent => Ok(extent),
		}
	}

	fn read(&mut self, reader: &mut dyn DiskReader, range: Range<u64>) -> Result<(), BackupError> {
		let mut buffer = self.buffer()?;
		let len = usize::try_from(range.end - range.start).expect("a chunk fits memory");
		buffer.resize(len, 0);
		reader.read_at(range.start, &mut buffer).map_err(|source| BackupError::Read {
			disk: self.storing.name.to_owned(),
			offset: range.start,
			source,
		})?;
		let index = range.start / u64::from(self.storing.backup.geometry.chunk_bytes());
		let (base, is_sample) = (self.base_chunk(index), self.is_sample(index));
		let job = Job { turn: self.turn, index, buffer, base, is_sample };
		self.turn += 1;
		self.jobs.send(job).map_err(|_| BackupError::Cancelled)
	}

	fn is_sample(&self, index: u64) -> bool {
		self.plan.reading.as_ref().is_some_and(|reading| reading.samples.contains(&index))
	}

	/// A sample where the disk has a hole must be none of the base's chunks.
	fn check_hole(&mut self, index: u64) -> Result<(), BackupError> {
		match self.is_sample(index) && self.base_chunk(index).is_some() {
			true => Err(self.storing.unrecorded(index)),
			false => Ok(()),
		}
	}

	/// The chunk of the base at this place. A base that cannot be read is none.
	fn base_chunk(&mut self, index: u64) -> Option<ChildRef> {
		let cursor = self.plan.base.as_mut()?;
		match cursor.child(0, index) {
			Ok(child) => child,
			Err(error) => {
				let disk = self.storing.name;
				// Once: the next chunk may stand below the same node.
				if !core::mem::replace(&mut self.has_warned, true) {
					tracing::warn!(target: "backup", disk, %error, "the base cannot be read");
				}
				if self.plan.reading.is_none() {
					self.plan.base = None;
				}
				None
			}
		}
	}

	/// Takes the largest unchanged place that begins here from the base, unread, and answers
	/// where it ends; `None` if this chunk has to be looked at.
	fn take_over(&mut self, at: u64) -> Result<Option<u64>, BackupError> {
		let Some(Reading { ranges, .. }) = &self.plan.reading else {
			return Ok(None);
		};
		let geometry = self.storing.backup.geometry;
		let logical_bytes = self.storing.logical_bytes;
		let cursor = self.plan.base.as_mut().expect("changes are relative to a base");
		debug_assert_eq!(cursor.logical_bytes(), logical_bytes);
		let index = at / u64::from(geometry.chunk_bytes());
		let span = |level: usize| geometry.span(u32::try_from(level).unwrap_or(u32::MAX));
		let fits = |level: &usize| {
			let range = place_range(geometry, *level, index / span(*level), logical_bytes);
			range.start == at && !overlaps(ranges, &range)
		};
		let Some(level) = (0..=cursor.levels()).rev().find(fits) else {
			return Ok(None);
		};
		let index = index / span(level);
		let range = cursor.range(level, index);
		let disk = self.storing.name;
		let child = cursor
			.child(level, index)
			.map_err(|source| BackupError::Base { disk: disk.to_owned(), source })?;
		if let Some(child) = child {
			let chunks = geometry.chunks(range.end - range.start);
			let there = self.storing.backup.session.has(&child.cid)?;
			let missing = crate::repositories::RepositoryError::Missing { cid: child.cid };
			if !there {
				let source = missing.into();
				return Err(BackupError::Base { disk: disk.to_owned(), source });
			}
			self.send_unchanged(level, index, child, chunks)?;
		}
		Ok(Some(range.end))
	}

	fn send_unchanged(
		&mut self,
		level: usize,
		index: u64,
		child: ChildRef,
		chunks: u64,
	) -> Result<(), BackupError> {
		let buffer = self.buffer()?;
		let outcome = Ok(Outcome::Unchanged { child, chunks });
		let done = Done { turn: self.turn, level, index, buffer, outcome };
		self.turn += 1;
		self.results.send(done).map_err(|_| BackupError::Cancelled)
	}

	/// Where, at or after `at`, unread places of the base must be asked for again: a hole of
	/// the disk is one of the base only as far as something changed.
	fn next_change(&self, at: u64) -> u64 {
		match self.plan.reading {
			None => u64::MAX,
			Some(_) => at + u64::from(self.storing.backup.geometry.chunk_bytes()),
		}
	}

	fn buffer(&self) -> Result<Vec<u8>, BackupError> {
		loop {
			if self.storing.backup.cancel.is_cancelled() || self.stop.load(Ordering::Relaxed) {
				return Err(BackupError::Cancelled);
			}
			match self.free.recv_timeout(POLL) {
				Ok(buffer) => return Ok(buffer),
				Err(RecvTimeoutError::Timeout) => {}
				Err(RecvTimeoutError::Disconnected) => return Err(BackupError::Cancelled),
			}
		}
	}
}

struct Collector<'a> {
	storing: &'a Storing<'a>,
	sealer: Sealer,
	tree: TreeBuilder,
	stored: Stored,
	reported_bytes: u64,
}

impl Collector<'_> {
	fn take(
		&mut self,
		level: usize,
		index: u64,
		outcome: Result<Outcome, BackupError>,
	) -> Result<(), BackupError> {
		let child = match outcome? {
			Outcome::Zero => {
				self.stored.zero_chunks += 1;
				None
			}
			Outcome::Unchanged { child, chunks } => {
				self.stored.unchanged_chunks += chunks;
				Some(child)
			}
			Outcome::Sealed { child, put: Put::Present, block_bytes: _ } => {
				self.stored.present_chunks += 1;
				Some(child)
			}
			Outcome::Sealed { child, put: Put::Stored, block_bytes } => {
				self.stored.new_chunks += 1;
				self.stored.new_blocks += 1;
				self.stored.new_bytes += block_bytes;
				Some(child)
			}
		};
		if let Some(child) = child {
			let (session, stored) = (self.storing.backup.session, &mut self.stored);
			let mut put = |block: &[u8], child: &ChildRef| put_node(session, stored, block, child);
			self.tree.push(level, index, child, &mut self.sealer, &mut put)?;
		}
		self.report(level, index);
		Ok(())
	}

	fn report(&mut self, level: usize, index: u64) {
		let Storing { backup, name: _, before, logical_bytes } = self.storing;
		let done_bytes = place_range(backup.geometry, level, index, *logical_bytes).end;
		if done_bytes >= self.reported_bytes.saturating_add(PROGRESS_STEP_BYTES) {
			self.reported_bytes = done_bytes;
			(backup.on_progress)(Progress {
				total_bytes: before.total_bytes,
				done_bytes: before.done_bytes + done_bytes,
				written_bytes: before.written_bytes + self.stored.new_bytes,
				..Progress::default()
			});
		}
	}

	fn finish(self) -> Finished {
		let Self { storing, mut sealer, tree, mut stored, reported_bytes: _ } = self;
		let session = storing.backup.session;
		let mut put = |block: &[u8], child: &ChildRef| put_node(session, &mut stored, block, child);
		let tree = tree.finish(&mut sealer, &mut put)?;
		Ok((tree, stored))
	}
}

fn put_node(
	session: &dyn crate::repositories::Session,
	stored: &mut Stored,
	block: &[u8],
	child: &ChildRef,
) -> Result<(), BackupError> {
	let put = session.put_unchecked(&child.cid, block)?;
	stored.count(put, block);
	Ok(())
}

/// Lets the reader end when a worker cannot.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
	fn drop(&mut self) {
		if thread::panicking() {
			self.0.store(true, Ordering::Relaxed);
		}
	}
}

/// Whether a chunk is that of the base, or zero where that has none.
fn is_like(sealer: &Sealer, chunk: &[u8], base: Option<&ChildRef>) -> bool {
	match base {
		Some(base) => base.id == sealer.chunk_id(chunk),
		None => is_zero(chunk),
	}
}

/// Whether all bytes are zero, many at a time and with an early end.
fn is_zero(bytes: &[u8]) -> bool {
	let (blocks, rest) = bytes.as_chunks::<128>();
	blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
		&& rest.iter().all(|byte| *byte == 0)
}
