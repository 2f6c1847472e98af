//! An executor whose every step a test decides.

use super::{Executor, Freed, HeldRoot, JobContext, JobError, Outcome};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId, RecordedRoot,
	job::{RestoreOrder, SnapshotOrder},
	report::TakenSnapshot,
};
use std::{
	path::PathBuf,
	sync::{
		Mutex,
		atomic::{AtomicBool, Ordering},
		mpsc::{Receiver, RecvTimeoutError, Sender, channel},
	},
	time::{Duration, Instant},
};

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until something holds. Fails the test when it does not come.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
	let deadline = Instant::now() + DEADLINE;
	while !holds() {
		assert!(Instant::now() < deadline, "waited in vain until {what}");
		std::thread::sleep(Duration::from_millis(1));
	}
}

/// What a job was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
	Snapshot(SnapshotOrder),
	Restore(RestoreOrder),
}

/// A job that was started. It runs until the test ends it.
#[derive(Debug)]
pub(crate) struct Call {
	pub(crate) order: Order,
	pub(crate) context: JobContext,
	end: Sender<Result<Outcome, JobError>>,
}

impl Call {
	pub(crate) fn succeed(self, outcome: Outcome) {
		self.end.send(Ok(outcome)).unwrap();
	}

	pub(crate) fn fail(self, reason: FailureReason) {
		self.end.send(Err(JobError { reason, detail: "as the test wants".into() })).unwrap();
	}

	/// Lets the job panic.
	pub(crate) fn panic(self) {
		drop(self.end);
	}
}

/// What happened to the store, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
	Confirmed(Vec<RecordedRoot>),
	Unpinned(HeldRoot),
	Collected,
}

pub(crate) type Meanwhile = Box<dyn FnOnce() + Send>;

pub(crate) struct FakeExecutor {
	calls: Sender<Call>,
	pub(crate) roots: Mutex<Vec<HeldRoot>>,
	/// Roots that replicas alone hold.
	pub(crate) roots_elsewhere: Mutex<Vec<HeldRoot>>,
	pub(crate) acts: Mutex<Vec<Act>>,
	/// Whether pins cannot be given up.
	pub(crate) is_stuck: AtomicBool,
	/// Whether jobs are so near their end that they do not mind being cancelled.
	pub(crate) is_deaf: AtomicBool,
	/// Whether blocks lie around that no root needs.
	pub(crate) has_garbage: AtomicBool,
	/// Whether damage keeps blocks from being freed.
	pub(crate) is_obstructed: AtomicBool,
	/// Whether roots that were given up cannot be removed.
	pub(crate) has_left_roots: AtomicBool,
	/// Whether too few replicas hold what was taken.
	pub(crate) is_below_quorum: AtomicBool,
	/// Whether pins may have been lost.
	pub(crate) is_unconfirmed: AtomicBool,
	/// Whether one of them may stand in a pack that is away.
	pub(crate) waits_for_packs: AtomicBool,
	/// Whether copies were begun by an earlier run.
	pub(crate) has_unfinished_copies: AtomicBool,
	/// Whether copies are being fetched.
	pub(crate) is_fetching: AtomicBool,
	/// What happens right after roots were listed.
	pub(crate) meanwhile: Mutex<Option<Meanwhile>>,
	/// Roots whose pins were lost.
	pub(crate) lost: Mutex<Vec<Cid>>,
}

/// The jobs that are started.
pub(crate) struct Calls(Receiver<Call>);

impl Calls {
	pub(crate) fn next(&self) -> Call {
		self.0.recv_timeout(DEADLINE).unwrap()
	}

	pub(crate) fn is_empty(&self) -> bool {
		self.0.try_recv().is_err()
	}
}

impl FakeExecutor {
	pub(crate) fn new() -> (Self, Calls) {
		let (calls, started) = channel();
		(
			Self {
				calls,
				roots: Mutex::default(),
				roots_elsewhere: Mutex::default(),
				acts: Mutex::default(),
				is_stuck: AtomicBool::new(false),
				is_deaf: AtomicBool::new(false),
				has_garbage: AtomicBool::new(false),
				is_obstructed: AtomicBool::new(false),
				has_left_roots: AtomicBool::new(false),
				is_unconfirmed: AtomicBool::new(false),
				waits_for_packs: AtomicBool::new(false),
				is_fetching: AtomicBool::new(false),
				is_below_quorum: AtomicBool::new(false),
				has_unfinished_copies: AtomicBool::new(false),
				meanwhile: Mutex::default(),
				lost: Mutex::default(),
			},
			Calls(started),
		)
	}

	pub(crate) fn take_acts(&self) -> Vec<Act> {
		std::mem::take(&mut *self.acts.lock().unwrap())
	}

	fn run(&self, order: Order, context: &JobContext) -> Result<Outcome, JobError> {
		let (end, ended) = channel();
		self.calls.send(Call { order, context: context.clone(), end }).unwrap();
		loop {
			match ended.recv_timeout(Duration::from_millis(1)) {
				Ok(result) => return result,
				Err(RecvTimeoutError::Timeout)
					if context.cancel.is_cancelled() && !self.is_deaf.load(Ordering::Relaxed) =>
				{
					return Err(JobError::internal("cancelled"));
				}
				Err(RecvTimeoutError::Timeout) => {}
				Err(RecvTimeoutError::Disconnected) => panic!("as the test wants"),
			}
		}
	}
}

impl Executor for FakeExecutor {
	fn snapshot(
		&self,
		_: &[u8; 32],
		_: &OpaqueId,
		order: &SnapshotOrder,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError> {
		match self.run(Order::Snapshot(order.clone()), context)? {
			Outcome::Taken(taken) => Ok(taken),
			other => panic!("{other:?} is not a snapshot"),
		}
	}

	fn restore(
		&self,
		_: &OpaqueId,
		order: &RestoreOrder,
		context: &JobContext,
	) -> Result<PathBuf, JobError> {
		match self.run(Order::Restore(order.clone()), context)? {
			Outcome::Restored { path } => Ok(path.into()),
			other => panic!("{other:?} is not an image"),
		}
	}

	fn roots(&self) -> Result<Vec<HeldRoot>, JobError> {
		let roots = self.roots.lock().unwrap().clone();
		if let Some(happens) = self.meanwhile.lock().unwrap().take() {
			happens();
		}
		Ok(roots)
	}

	fn holds(&self, root: &Cid) -> bool {
		!self.lost.lock().unwrap().contains(root)
	}

	fn has_quorum(&self, _: &Cid) -> bool {
		!self.is_below_quorum.load(Ordering::Relaxed)
	}

	fn pins_unconfirmed(&self) -> bool {
		self.is_unconfirmed.load(Ordering::Relaxed)
	}

	fn confirm_pins(&self, roots: Vec<RecordedRoot>) -> Result<Vec<RecordedRoot>, JobError> {
		self.acts.lock().unwrap().push(Act::Confirmed(roots));
		self.is_unconfirmed.store(self.waits_for_packs.load(Ordering::Relaxed), Ordering::Relaxed);
		Ok(Vec::new())
	}

	fn unpin(&self, root: &HeldRoot) -> Result<(), JobError> {
		if self.is_stuck.load(Ordering::Relaxed) {
			return Err(JobError::internal("as the test wants"));
		}
		for roots in [&self.roots, &self.roots_elsewhere] {
			roots.lock().unwrap().retain(|held| held != root);
		}
		self.acts.lock().unwrap().push(Act::Unpinned(root.clone()));
		self.has_garbage.store(true, Ordering::Relaxed);
		Ok(())
	}

	fn has_unfinished_copies(&self) -> bool {
		self.has_unfinished_copies.load(Ordering::Relaxed)
	}

	fn roots_elsewhere(&self) -> Vec<HeldRoot> {
		self.roots_elsewhere.lock().unwrap().clone()
	}

	fn is_unsettled(&self, _: &LineageId) -> bool {
		self.is_fetching.load(Ordering::Relaxed)
	}

	fn has_garbage(&self) -> bool {
		self.has_garbage.load(Ordering::Relaxed)
	}

	fn collect(&self) -> Result<Freed, JobError> {
		let has_left_roots = self.has_left_roots.load(Ordering::Relaxed);
		let is_obstructed = self.is_obstructed.load(Ordering::Relaxed);
		self.has_garbage.store(has_left_roots || is_obstructed, Ordering::Relaxed);
		self.acts.lock().unwrap().push(Act::Collected);
		Ok(Freed { bytes: 0, has_left_roots, is_obstructed })
	}

	fn recover(&self) -> Result<(), JobError> {
		Ok(())
	}
}
