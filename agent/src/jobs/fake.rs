//! An executor whose every step a test decides.

use super::{Executor, HeldRoot, JobContext, JobError, Outcome};
use backup_primitives::{
	FailureReason, OpaqueId,
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
	Unpinned(HeldRoot),
	Collected,
}

#[derive(Debug)]
pub(crate) struct FakeExecutor {
	calls: Sender<Call>,
	pub(crate) roots: Mutex<Vec<HeldRoot>>,
	pub(crate) acts: Mutex<Vec<Act>>,
	/// Whether pins cannot be given up.
	pub(crate) is_stuck: AtomicBool,
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
				acts: Mutex::default(),
				is_stuck: AtomicBool::new(false),
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
				Err(RecvTimeoutError::Timeout) if context.cancel.is_cancelled() => {
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

	fn restore(&self, order: &RestoreOrder, context: &JobContext) -> Result<PathBuf, JobError> {
		match self.run(Order::Restore(order.clone()), context)? {
			Outcome::Restored { path } => Ok(path.into()),
			other => panic!("{other:?} is not an image"),
		}
	}

	fn roots(&self) -> Result<Vec<HeldRoot>, JobError> {
		Ok(self.roots.lock().unwrap().clone())
	}

	fn unpin(&self, root: &HeldRoot) -> Result<(), JobError> {
		if self.is_stuck.load(Ordering::Relaxed) {
			return Err(JobError::internal("as the test wants"));
		}
		self.roots.lock().unwrap().retain(|held| held != root);
		self.acts.lock().unwrap().push(Act::Unpinned(root.clone()));
		Ok(())
	}

	fn collect(&self) -> Result<u64, JobError> {
		self.acts.lock().unwrap().push(Act::Collected);
		Ok(0)
	}

	fn recover(&self) -> Result<(), JobError> {
		Ok(())
	}
}
