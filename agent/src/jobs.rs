//! What the agent does about orders.
//!
//! The worker sends the same orders again at every block, so nothing is queued here: each call
//! of [`Jobs::reconcile`] decides anew what to start, what to answer and what to end.
//!
//! 1. An order is looked up by what it is about: a place in a lineage, or a restore.
//! 2. [`decide`](plan::decide) says what to do, from what is known and nothing else.
//! 3. A job runs on a thread of its own; its end is written to the ledger before it is told.
//! 4. What ended is answered, again and again, for as long as it is asked for.
//!
//! What a killed agent was doing is simply ordered again. Deletions are no jobs: [`sweep`]
//! compares roots with the finalized chain, and a deletion is done when no root of it is left.

mod block_time;
pub mod executor;
mod expected;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod fixture;
pub mod history;
mod ledger;
pub mod plan;
mod priority;
pub mod sweep;

pub use executor::{Effort, Executor, Freed, HeldRoot, JobContext, JobError};
pub use expected::{Cadence, Confirmed, Expected, Holder};
pub use ledger::{Ledger, LedgerError};

use crate::{
	metrics::Metrics,
	pipeline::Cancel,
	stage::{self, StageCell},
};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId,
	job::{
		Achieved, DeletionResult, Desired, JobId, Orders, RestoreOrder, RestorePlace,
		RestoreResult, SnapshotOrder, SnapshotResult,
	},
	report::TakenSnapshot,
};
use codec::{Decode, Encode};
use executor::ProgressCell;
use expected::Expectations;
use history::Attempt;
use plan::{Decision, Known};
use std::{
	collections::{BTreeMap, HashMap, HashSet},
	fmt,
	mem::discriminant,
	sync::{
		Arc, Mutex, MutexGuard, PoisonError,
		atomic::{AtomicU64, AtomicUsize, Ordering},
	},
	thread,
	time::{Duration, Instant},
};
use tokio::sync::Notify;

/// What a job is about. At most one job about the same thing runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Subject {
	/// A place in a lineage.
	Snapshot {
		/// The lineage.
		lineage: LineageId,
		/// The place.
		sequence: u64,
	},
	/// A restore.
	Restore {
		/// The lineage that it reads.
		lineage: LineageId,
		/// Its id on chain.
		restore: u64,
	},
}

impl Subject {
	/// `snapshot` or `restore`.
	fn kind(&self) -> &'static str {
		match self {
			Self::Snapshot { .. } => "snapshot",
			Self::Restore { .. } => "restore",
		}
	}
}

impl fmt::Display for Subject {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Snapshot { lineage, sequence } => {
				write!(f, "snapshot {sequence} of request {}", lineage.request)
			}
			Self::Restore { lineage, restore } => {
				write!(f, "restore {restore} of request {}", lineage.request)
			}
		}
	}
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
	/// The snapshot is pinned.
	Taken(TakenSnapshot),
	/// The image is complete.
	Restored {
		/// Where it is.
		path: String,
	},
	/// It failed.
	Failed {
		/// What the owner is told.
		reason: FailureReason,
		/// What the operator is told.
		detail: String,
	},
}

impl fmt::Display for Outcome {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Taken(taken) => write!(
				f,
				"{} of {} bytes, {} of them new, {:?}-consistent",
				taken.cid, taken.logical_bytes, taken.new_bytes, taken.consistency
			),
			Self::Restored { path } => write!(f, "{path}"),
			Self::Failed { reason, detail } => write!(f, "{reason:?}: {detail}"),
		}
	}
}

/// A job that ended, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
	/// Identity of the order that was carried out.
	pub id: JobId,
	/// The slot of the order; zero for restores.
	pub slot: u64,
	/// When it ended, in milliseconds since 1970.
	pub ended_at_ms: u64,
	/// How.
	pub outcome: Outcome,
}

impl Ended {
	/// The root of the snapshot that was taken.
	fn root(&self) -> Option<&Cid> {
		match &self.outcome {
			Outcome::Taken(snapshot) => Some(&snapshot.cid),
			Outcome::Restored { .. } | Outcome::Failed { .. } => None,
		}
	}
}

/// An order, as far as it matters when and whether it is carried out.
struct Work<'a> {
	id: JobId,
	/// The snapshot that is taken or read.
	sequence: u64,
	/// What only one job at a time may touch.
	vm: &'a str,
	wanted: plan::Wanted,
}

/// A job that runs.
struct Running {
	id: JobId,
	sequence: u64,
	vm: String,
	started_at_ms: u64,
	cancel: Cancel,
	progress: Arc<ProgressCell>,
	stage: StageCell,
}

/// All jobs of an agent.
pub struct Jobs {
	executor: Arc<dyn Executor>,
	ledger: Ledger,
	jobs_max: AtomicUsize,
	agent_ends: Cancel,
	clock: Arc<AtomicU64>,
	metrics: Metrics,
	/// Number of the highest block that a worker ran on; zero before the first.
	best: AtomicU64,
	state: Mutex<State>,
	expectations: Mutex<Expectations>,
	/// Told when there may be roots to give up.
	pub(crate) sweep_wanted: Notify,
	/// Told when a job ends.
	job_ended: Notify,
}

/// A deletion, as it was last ordered.
struct Deletion {
	/// The first sequence that is not meant.
	until: u64,
	/// Number of the best block at that time.
	ordered_at: u64,
}

/// How long an order is believed to stand after it was last given: workers repeat theirs at every
/// block.
const WAITING_MAX: Duration = Duration::from_secs(120);

/// For how many blocks something is minded that no worker speaks of. Workers order one page of a
/// node's lineages after the other.
pub(crate) const MEMORY_BLOCKS: u64 = 512;

#[derive(Default)]
struct State {
	running: HashMap<Subject, Running>,
	ended: BTreeMap<Subject, Ended>,
	handed_out: HashMap<Subject, u32>,
	/// Number of the best block when a snapshot was last told to a worker, or became known.
	told_at: HashMap<Subject, u64>,
	/// The nodes that workers speak for, and how often each did: a keystore may hold the keys of
	/// several.
	nodes: BTreeMap<OpaqueId, u64>,
	/// Lineages that are to be deleted.
	deletions: HashMap<LineageId, Deletion>,
	/// Deletions that are done, and how often that was told.
	deleted: HashMap<LineageId, (u64, u32)>,
	/// When a worker last spoke.
	heard: Option<Instant>,
	/// Machines whose backup is ordered and has not begun, and when that was last said.
	waiting: BTreeMap<String, Instant>,
	is_stopping: bool,
}

impl State {
	/// Forget how a job ended, and how often that was told.
	fn forget(&mut self, subject: &Subject) {
		self.ended.remove(subject);
		self.handed_out.remove(subject);
	}

	/// The same of all jobs that are over in some sense, in the ledger too.
	fn forget_all(&mut self, ledger: &Ledger, is_over: impl Fn(&Subject, &Ended) -> bool) {
		let over = self.ended.iter().filter(|(subject, ended)| is_over(subject, ended));
		let over: Vec<Subject> = over.map(|(subject, _)| subject.clone()).collect();
		for subject in &over {
			self.forget(subject);
		}
		ledger.forget(&over);
	}
}

/// A job as people see it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct JobView {
	/// Its identity, in hexadecimal digits.
	pub id: String,
	/// `snapshot` or `restore`.
	pub kind: &'static str,
	/// What it works on, while it runs: a machine, or a restore aside.
	pub vm: Option<String>,
	/// The compute request.
	pub request: String,
	/// The snapshot's sequence, or the restore's id.
	pub number: u64,
	/// `running`, `done` or `failed`.
	pub state: &'static str,
	/// What it is at, while it runs: `hooks`, `open`, `freeze`, `read`, `pin`, `close`, `write` or
	/// `replace`.
	pub stage: Option<&'static str>,
	/// Bytes that are done, of those that are to do.
	pub done_bytes: u64,
	/// Bytes that are to do, as far as known.
	pub total_bytes: u64,
	/// When it began or ended, in milliseconds since 1970.
	pub since_ms: u64,
	/// Root, path or what went wrong.
	pub detail: Option<String>,
}

impl Jobs {
	/// Take up what the ledger remembers.
	pub fn open(
		executor: Arc<dyn Executor>,
		ledger: Ledger,
		jobs_max: u32,
	) -> Result<Arc<Self>, LedgerError> {
		let ended = ledger.load()?;
		Ok(Arc::new(Self {
			executor,
			ledger,
			jobs_max: AtomicUsize::new(jobs_max as usize),
			agent_ends: Cancel::new(),
			metrics: Metrics::default(),
			clock: Arc::default(),
			best: AtomicU64::new(0),
			state: Mutex::new(State { ended, ..State::default() }),
			expectations: Mutex::default(),
			sweep_wanted: Notify::new(),
			job_ended: Notify::new(),
		}))
	}

	/// Run so many jobs of each kind at once from now on. Those that run go on.
	pub fn set_jobs_max(&self, jobs_max: u32) {
		self.jobs_max.store(jobs_max as usize, Ordering::Relaxed);
	}

	fn state(&self) -> MutexGuard<'_, State> {
		// A thread that panicked has left whole entries: each is written in one step.
		self.state.lock().unwrap_or_else(PoisonError::into_inner)
	}

	pub(crate) fn executor(&self) -> &Arc<dyn Executor> {
		&self.executor
	}

	pub(crate) fn metrics(&self) -> &Metrics {
		&self.metrics
	}

	pub(crate) fn ledger(&self) -> &Ledger {
		&self.ledger
	}

	/// Start what is missing, end what is not wanted any more, and say what has ended.
	pub fn reconcile(self: &Arc<Self>, desired: &Desired) -> Achieved {
		self.clock.fetch_max(desired.now, Ordering::Relaxed);
		self.best.fetch_max(desired.at.number, Ordering::Relaxed);
		{
			let mut state = self.state();
			*state.nodes.entry(desired.node.clone()).or_insert(0) += 1;
			state.heard = Some(Instant::now());
			state.waiting.retain(|_, at| at.elapsed() < WAITING_MAX);
		}
		self.note_expected(desired);
		self.forget_the_past(desired);
		let mut snapshots = Orders::new();
		let mut restores = Orders::new();
		for order in &desired.restores {
			if let Some(result) = self.reconcile_restore(desired, order) {
				let _ = restores.try_push(result);
			}
		}
		for order in &desired.snapshots {
			if let Some(result) = self.reconcile_snapshot(desired, order) {
				let _ = snapshots.try_push(result);
			}
		}
		let deletions = self.reconcile_deletions(desired);
		Achieved { snapshots, restores, deletions, copies: Orders::new() }
	}

	/// Note what other nodes have of this node's machines.
	fn note_expected(&self, desired: &Desired) {
		self.expectations().note(desired, now_ms(), |places| {
			self.ledger.starts(places).unwrap_or_else(|error| {
				tracing::warn!(%error, "it is not known how old confirmed snapshots are");
				HashMap::new()
			})
		});
	}

	fn expectations(&self) -> MutexGuard<'_, Expectations> {
		self.expectations.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// What the chain expects of this node's machines, by request. Nothing of those that no worker
	/// has spoken of.
	pub(crate) fn expected(&self) -> HashMap<OpaqueId, Expected> {
		self.expectations().all()
	}

	/// End jobs whose place is taken on chain or is to be deleted, and forget their ends.
	fn forget_the_past(&self, desired: &Desired) {
		let next: HashMap<&LineageId, u64> =
			desired.lineages.iter().map(|place| (&place.lineage, place.next)).collect();
		let until: HashMap<&LineageId, u64> =
			desired.deletions.iter().map(|order| (&order.lineage, order.until)).collect();
		let is_past = |subject: &Subject| match subject {
			Subject::Snapshot { lineage, sequence } => [&next, &until]
				.iter()
				.any(|past| past.get(lineage).is_some_and(|end| end > sequence)),
			Subject::Restore { .. } => false,
		};
		let mut state = self.state();
		for (subject, running) in &state.running {
			if is_past(subject) {
				running.cancel.cancel();
			}
		}
		state.forget_all(&self.ledger, |subject, _| is_past(subject));
	}

	fn reconcile_snapshot(
		self: &Arc<Self>,
		desired: &Desired,
		order: &SnapshotOrder,
	) -> Option<SnapshotResult> {
		let subject =
			Subject::Snapshot { lineage: order.lineage.clone(), sequence: order.sequence };
		let id = order.job_id(&desired.genesis);
		let vm = String::from_utf8_lossy(&order.vm).into_owned();
		let work = order.clone();
		let genesis = desired.genesis;
		let node = desired.node.clone();
		let start = move |executor: &dyn Executor, context: &JobContext| {
			executor.snapshot(&genesis, &node, &work, context).map(Outcome::Taken)
		};
		let wanted = plan::Wanted { slot: order.slot, oldest_taken_at: order.oldest_taken_at };
		let about = Work { id, sequence: order.sequence, vm: &vm, wanted };
		let (ended, handed_out) = self.advance(subject, &about, start)?;
		Some(SnapshotResult {
			lineage: order.lineage.clone(),
			sequence: order.sequence,
			slot: ended.slot,
			handed_out,
			outcome: match ended.outcome {
				Outcome::Taken(snapshot) => Ok(snapshot),
				Outcome::Failed { reason, .. } => Err(reason),
				Outcome::Restored { .. } => Err(FailureReason::Internal),
			},
		})
	}

	fn reconcile_restore(
		self: &Arc<Self>,
		desired: &Desired,
		order: &RestoreOrder,
	) -> Option<RestoreResult> {
		let subject = Subject::Restore { lineage: order.lineage.clone(), restore: order.restore };
		// What is replaced is neither backed up nor replaced a second time meanwhile.
		let vm = match &order.place {
			RestorePlace::Aside => format!("restore {}", order.restore),
			RestorePlace::Replace { vm, .. } => String::from_utf8_lossy(vm).into_owned(),
		};
		let work = order.clone();
		let node = desired.node.clone();
		let start = move |executor: &dyn Executor, context: &JobContext| {
			let path = executor.restore(&node, &work, context)?;
			Ok(Outcome::Restored { path: path.display().to_string() })
		};
		let wanted = plan::Wanted { slot: 0, oldest_taken_at: 0 };
		let id = order.job_id(&desired.genesis);
		let about = Work { id, sequence: order.sequence, vm: &vm, wanted };
		let (ended, handed_out) = self.advance(subject, &about, start)?;
		Some(RestoreResult {
			restore: order.restore,
			lineage: order.lineage.clone(),
			handed_out,
			failure: match ended.outcome {
				Outcome::Restored { .. } => None,
				Outcome::Failed { reason, .. } => Some(reason),
				Outcome::Taken(_) => Some(FailureReason::Internal),
			},
		})
	}

	/// Do what is to be done about one subject: answer with its end, or start it.
	fn advance(
		self: &Arc<Self>,
		subject: Subject,
		about: &Work<'_>,
		start: impl FnOnce(&dyn Executor, &JobContext) -> Result<Outcome, JobError> + Send + 'static,
	) -> Option<(Ended, u32)> {
		let mut state = self.state();
		let known = if state.running.contains_key(&subject) {
			Known::Running
		} else {
			let is_true = |ended: &&Ended| match &ended.outcome {
				// A pin that is gone, whoever took it, must not be reported.
				Outcome::Taken(snapshot) => self.executor.holds(&snapshot.cid),
				// After a re-org the same id may stand for the restore of another snapshot.
				Outcome::Restored { .. } => ended.id == about.id,
				Outcome::Failed { .. } => {
					matches!(subject, Subject::Snapshot { .. }) || ended.id == about.id
				}
			};
			state.ended.get(&subject).filter(is_true).map_or(Known::Nothing, Known::Ended)
		};
		match plan::decide(&known, &about.wanted) {
			Decision::Wait => None,
			Decision::Answer => {
				let ended = state.ended.get(&subject).cloned()?;
				// Whoever asks wants it to be kept, told or not.
				state.told_at.insert(subject.clone(), self.best.load(Ordering::Relaxed));
				if ended.root().is_some_and(|root| !self.executor.has_quorum(root)) {
					return None;
				}
				let count = state.handed_out.entry(subject).or_insert(0);
				let handed_out = *count;
				*count = count.saturating_add(1);
				Some((ended, handed_out))
			}
			Decision::Start => {
				// Each kind has its own share, so that none starves the other.
				let is_like = |other: &&Subject| discriminant(*other) == discriminant(&subject);
				let is_snapshot = matches!(subject, Subject::Snapshot { .. });
				let is_busy = state.is_stopping
					|| state.running.keys().filter(is_like).count()
						>= self.jobs_max.load(Ordering::Relaxed)
					|| state.running.values().any(|running| running.vm == about.vm);
				if !is_busy {
					state.forget(&subject);
					state.waiting.remove(about.vm);
					self.start(&mut state, subject, about, start);
				} else if is_snapshot && !state.running.contains_key(&subject) {
					state.waiting.insert(about.vm.to_owned(), Instant::now());
				}
				None
			}
		}
	}

	fn start(
		self: &Arc<Self>,
		state: &mut State,
		subject: Subject,
		about: &Work<'_>,
		work: impl FnOnce(&dyn Executor, &JobContext) -> Result<Outcome, JobError> + Send + 'static,
	) {
		let &Work { id, sequence, vm, wanted: plan::Wanted { slot, .. } } = about;
		let context = JobContext {
			id,
			cancel: Cancel::new(),
			agent_ends: self.agent_ends.clone(),
			progress: Arc::default(),
			effort: Arc::default(),
			metrics: self.metrics.clone(),
			clock: self.clock.clone(),
		};
		let running = Running {
			id,
			sequence,
			vm: vm.to_owned(),
			started_at_ms: now_ms(),
			cancel: context.cancel.clone(),
			progress: context.progress.clone(),
			stage: StageCell::default(),
		};
		let jobs = self.clone();
		let key = subject.clone();
		let short = hex::encode(&id.0[..4]);
		let span = tracing::info_span!("job", id = short, kind = subject.kind(), vm);
		let stage = running.stage.clone();
		let spawned = thread::Builder::new().name(format!("job-{short}")).spawn(move || {
			let _in_job = span.entered();
			if let Subject::Snapshot { .. } = &key {
				priority::give_way();
			}
			// A panic is a fault of ours; it must not leave a job that never ends.
			let (result, times) = stage::watch(stage, || {
				std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
					work(jobs.executor.as_ref(), &context)
				}))
			});
			jobs.metrics.count_stages(key.kind(), &times);
			let result = result.unwrap_or_else(|_| Err(JobError::internal("the job panicked")));
			jobs.finish(key, slot, &context, result);
		});
		match spawned {
			Ok(_) => {
				tracing::info!(job = %hex::encode(&id.0[..4]), vm, %subject, "job started");
				state.running.insert(subject, running);
			}
			Err(error) => tracing::error!(%error, "failed to start a thread; tried again"),
		}
	}

	/// Write down how a job ended. One that was cancelled leaves nothing: it is ordered again.
	fn finish(
		&self,
		subject: Subject,
		slot: u64,
		context: &JobContext,
		result: Result<Outcome, JobError>,
	) {
		let id = context.id;
		let job = hex::encode(&id.0[..4]);
		let outcome = match result {
			Ok(outcome) => {
				tracing::info!(job, %subject, %outcome, "job done");
				Some(outcome)
			}
			Err(error) if context.cancel.is_cancelled() => {
				tracing::info!(job, %subject, %error, "job cancelled");
				None
			}
			Err(error) => {
				let detail = error.to_string();
				tracing::warn!(job, %subject, reason = ?error.reason, detail, "job failed");
				Some(Outcome::Failed { reason: error.reason, detail })
			}
		};
		let ended = outcome.map(|outcome| Ended { id, slot, ended_at_ms: now_ms(), outcome });
		if let Some(ended) = &ended
			&& let Err(error) = self.ledger.remember(&subject, ended)
		{
			tracing::error!(%error, job, "failed to write down how a job ended");
		}
		if let Some(ended) = &ended
			&& let Err(error) = self.remember_attempt(&subject, ended, context)
		{
			tracing::warn!(%error, job, "the history lacks a job");
		}
		let mut state = self.state();
		if let Some(running) = state.running.remove(&subject) {
			let took = Duration::from_millis(now_ms().saturating_sub(running.started_at_ms));
			let outcome = ended.as_ref().map(|ended| &ended.outcome);
			self.metrics.count_job(subject.kind(), outcome, took);
		}
		if let Some(ended) = ended {
			state.ended.insert(subject, ended);
		}
		drop(state);
		self.job_ended.notify_waiters();
		self.sweep_wanted.notify_one();
	}

	/// Write down what people look back at. Before the job counts as ended, so that the end of the
	/// agent waits for it.
	fn remember_attempt(
		&self,
		subject: &Subject,
		ended: &Ended,
		context: &JobContext,
	) -> Result<(), LedgerError> {
		let Subject::Snapshot { lineage, sequence } = subject else { return Ok(()) };
		let running =
			self.state().running.get(subject).map(|job| (job.vm.clone(), job.started_at_ms));
		let effort = context.effort.get().copied().unwrap_or_default();
		let executor = self.executor.as_ref();
		let ending = history::ending(executor, &self.ledger, &ended.outcome, effort)?;
		let (Some((vm, started_at_ms)), Some(ending)) = (running, ending) else { return Ok(()) };
		self.ledger.remember_attempt(&Attempt {
			vm,
			request: lineage.request.clone(),
			sequence: *sequence,
			job: ended.id,
			started_at_ms,
			ended_at_ms: ended.ended_at_ms,
			ending,
		})
	}

	/// How long ago a worker last spoke, if one did since the agent started.
	pub(crate) fn heard(&self) -> Option<Duration> {
		self.state().heard.map(|at| at.elapsed())
	}

	/// Machines whose backup is ordered and waits for its turn.
	pub(crate) fn waiting(&self) -> HashSet<String> {
		let state = self.state();
		let waiting = state.waiting.iter().filter(|(_, at)| at.elapsed() < WAITING_MAX);
		waiting.map(|(vm, _)| vm.clone()).collect()
	}

	fn reconcile_deletions(&self, desired: &Desired) -> Orders<DeletionResult> {
		let mut state = self.state();
		let now = desired.at.number;
		// One that was cancelled is not ordered, although its lineage is on the page.
		let page: HashSet<_> = desired.lineages.iter().map(|place| &place.lineage).collect();
		state.deletions.retain(|lineage, known| {
			known.ordered_at + MEMORY_BLOCKS >= now && !page.contains(lineage)
		});
		for order in &desired.deletions {
			let deletion = Deletion { until: order.until, ordered_at: now };
			state.deletions.insert(order.lineage.clone(), deletion);
		}
		let mut results = Orders::new();
		let mut is_open = false;
		for order in &desired.deletions {
			match state.deleted.get_mut(&order.lineage) {
				Some((until, count)) if *until >= order.until => {
					let result = DeletionResult {
						lineage: order.lineage.clone(),
						until: order.until,
						handed_out: *count,
					};
					*count = count.saturating_add(1);
					let _ = results.try_push(result);
				}
				_ => is_open = true,
			}
		}
		let wanted = &state.deletions;
		let done: HashMap<_, _> = state
			.deleted
			.iter()
			.filter(|(lineage, _)| wanted.contains_key(*lineage))
			.map(|(lineage, told)| (lineage.clone(), *told))
			.collect();
		state.deleted = done;
		if is_open {
			self.sweep_wanted.notify_one();
		}
		results
	}

	/// Deletions that are ordered and not done.
	pub(crate) fn open_deletions(&self) -> Vec<(LineageId, u64)> {
		let state = self.state();
		let is_open = |(lineage, wanted): &(&LineageId, &Deletion)| {
			state.deleted.get(*lineage).is_none_or(|(done, _)| *done < wanted.until)
		};
		let open = state.deletions.iter().filter(is_open);
		open.map(|(lineage, wanted)| (lineage.clone(), wanted.until)).collect()
	}

	/// Say that nothing of a lineage is left below a sequence.
	pub(crate) fn mark_deleted(&self, lineage: LineageId, until: u64) {
		self.state().deleted.insert(lineage, (until, 0));
	}

	/// Number of the highest block that a worker ran on, once one did.
	pub(crate) fn best(&self) -> Option<u64> {
		Some(self.best.load(Ordering::Relaxed)).filter(|number| *number > 0)
	}

	/// All nodes that workers speak for, once that is certain: a worker speaks for one after the
	/// other at each block, so whoever speaks again has let all others speak.
	pub(crate) fn nodes(&self) -> Option<Vec<OpaqueId>> {
		let state = self.state();
		let has_round_passed = state.nodes.values().any(|count| *count > 1);
		has_round_passed.then(|| state.nodes.keys().cloned().collect())
	}

	/// The roots that are told to workers until the chain has recorded them.
	///
	/// One that no worker asks for any more, because its machine has moved or its backup was
	/// deleted, is none of them after a while.
	pub(crate) fn told_roots(&self) -> HashSet<Cid> {
		let best = self.best.load(Ordering::Relaxed);
		let mut guard = self.state();
		let State { ended, told_at, .. } = &mut *guard;
		told_at.retain(|subject, _| ended.contains_key(subject));
		let is_told = |(subject, ended): (&Subject, &Ended)| {
			let told_at = *told_at.entry(subject.clone()).or_insert(best);
			ended.root().copied().filter(|_| told_at + MEMORY_BLOCKS >= best)
		};
		ended.iter().filter_map(is_told).collect()
	}

	/// Tell nobody any more of a root that was given up.
	pub(crate) fn forget_root(&self, root: &Cid) {
		self.state().forget_all(&self.ledger, |_, ended| ended.root() == Some(root));
	}

	/// Whether a job about this very snapshot runs.
	pub(crate) fn is_used(&self, root: &HeldRoot) -> bool {
		self.state().running.iter().any(|(subject, running)| match subject {
			Subject::Snapshot { lineage, .. } | Subject::Restore { lineage, .. } => {
				*lineage == root.lineage && running.sequence == root.sequence
			}
		})
	}

	/// Whether a job about a lineage runs.
	pub(crate) fn is_running(&self, lineage: &LineageId) -> bool {
		self.state().running.keys().any(|subject| match subject {
			Subject::Snapshot { lineage: of, .. } | Subject::Restore { lineage: of, .. } => {
				of == lineage
			}
		})
	}

	/// Cancel all jobs and wait until they have cleaned up.
	pub async fn stop(&self) {
		self.agent_ends.cancel();
		loop {
			let ended = self.job_ended.notified();
			{
				let mut state = self.state();
				state.is_stopping = true;
				for running in state.running.values() {
					running.cancel.cancel();
				}
				if state.running.is_empty() {
					return;
				}
			}
			ended.await;
		}
	}

	/// All jobs, the running ones first, then those that ended last.
	pub fn list(&self) -> Vec<JobView> {
		let state = self.state();
		let running = state.running.iter().map(|(subject, running)| {
			let (done_bytes, total_bytes) = running.progress.get();
			let state = ("running", running.started_at_ms, None);
			let view = view(subject, &running.id, state, (done_bytes, total_bytes));
			JobView { vm: Some(running.vm.clone()), stage: running.stage.word(), ..view }
		});
		let ended = state.ended.iter().map(|(subject, ended)| {
			let (state, detail) = match &ended.outcome {
				Outcome::Taken(snapshot) => ("done", snapshot.cid.to_string()),
				Outcome::Restored { path } => ("done", path.clone()),
				Outcome::Failed { detail, .. } => ("failed", detail.clone()),
			};
			view(subject, &ended.id, (state, ended.ended_at_ms, Some(detail)), (0, 0))
		});
		let mut all: Vec<JobView> = running.chain(ended).collect();
		all.sort_by_key(|job| (job.state != "running", std::cmp::Reverse(job.since_ms)));
		all
	}
}

fn view(
	subject: &Subject,
	id: &JobId,
	(state, since_ms, detail): (&'static str, u64, Option<String>),
	(done_bytes, total_bytes): (u64, u64),
) -> JobView {
	let (lineage, number) = match subject {
		Subject::Snapshot { lineage, sequence } => (lineage, *sequence),
		Subject::Restore { lineage, restore } => (lineage, *restore),
	};
	JobView {
		id: hex::encode(id.0),
		kind: subject.kind(),
		vm: None,
		request: lineage.request.to_string(),
		number,
		state,
		stage: None,
		done_bytes,
		total_bytes,
		since_ms,
		detail,
	}
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
	std::time::SystemTime::now()
		.duration_since(std::time::UNIX_EPOCH)
		.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl std::fmt::Debug for Jobs {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Jobs").field("jobs_max", &self.jobs_max).finish_non_exhaustive()
	}
}

#[cfg(test)]
mod tests;
