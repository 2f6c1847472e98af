//! What a job is at, for the log, the metrics and whoever looks at it while it runs.
//!
//! A job has a thread of its own, and that knows its stage. So whoever does a part of the work says
//! so where it is done, without being handed the job; on other threads nothing is kept.

use std::{
	cell::RefCell,
	marker::PhantomData,
	sync::{
		Arc,
		atomic::{AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tracing::span::EnteredSpan;

/// A part of a job. All that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
	/// The operator's programs around a snapshot are run.
	Hooks,
	/// A machine's disks, or a snapshot's root, are opened.
	Open,
	/// The guest's file systems stand still, and with them the machine for a moment.
	Freeze,
	/// Disks are read, and sealed into the store.
	Read,
	/// What was stored is made durable, and pinned.
	Pin,
	/// The machine is let go.
	Close,
	/// Images are written.
	Write,
	/// Images take the places of others.
	Replace,
}

impl Stage {
	pub(crate) const ALL: [Self; 8] = [
		Self::Hooks,
		Self::Open,
		Self::Freeze,
		Self::Read,
		Self::Pin,
		Self::Close,
		Self::Write,
		Self::Replace,
	];

	/// The word for it.
	pub(crate) fn word(self) -> &'static str {
		match self {
			Self::Hooks => "hooks",
			Self::Open => "open",
			Self::Freeze => "freeze",
			Self::Read => "read",
			Self::Pin => "pin",
			Self::Close => "close",
			Self::Write => "write",
			Self::Replace => "replace",
		}
	}
}

/// The stage of a job, readable while it runs. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct StageCell(Arc<AtomicUsize>);

impl StageCell {
	/// The word for the stage, if the job is in one.
	pub(crate) fn word(&self) -> Option<&'static str> {
		let place = self.0.load(Ordering::Relaxed).checked_sub(1)?;
		Stage::ALL.get(place).map(|stage| stage.word())
	}

	fn set(&self, stage: Option<Stage>) {
		self.0.store(stage.map_or(0, |stage| stage as usize + 1), Ordering::Relaxed);
	}
}

/// How long a job was in each stage, in the order of [`Stage::ALL`]. A stage within another does not
/// count for that.
pub(crate) type Times = [Duration; Stage::ALL.len()];

/// What this thread's job is at.
struct Current {
	stage: Option<Stage>,
	since: Instant,
	times: Times,
	cell: StageCell,
}

thread_local! {
	static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

impl Current {
	/// Go on to another stage, and say which one it was.
	fn turn_to(&mut self, stage: Option<Stage>) -> Option<Stage> {
		let now = Instant::now();
		if let Some(stage) = self.stage {
			self.times[stage as usize] += now.saturating_duration_since(self.since);
		}
		self.since = now;
		self.cell.set(stage);
		std::mem::replace(&mut self.stage, stage)
	}
}

/// Do a job's work on this thread, and say how long it was at what.
pub(crate) fn watch<T>(cell: StageCell, work: impl FnOnce() -> T) -> (T, Times) {
	let times = Times::default();
	let current = Current { stage: None, since: Instant::now(), times, cell };
	CURRENT.set(Some(current));
	let result = work();
	let times = CURRENT.take().map_or(times, |current| current.times);
	(result, times)
}

/// A stage, until it is dropped; then the one that it is within goes on.
#[must_use]
pub(crate) struct InStage {
	outer: Option<Stage>,
	_span: EnteredSpan,
	/// It belongs to its thread.
	_here: PhantomData<*const ()>,
}

/// Begin a stage of this thread's job. Each line that is logged meanwhile tells it.
pub(crate) fn enter(stage: Stage) -> InStage {
	let span = tracing::info_span!("stage", stage = stage.word()).entered();
	let outer = CURRENT.with_borrow_mut(|current| {
		current.as_mut().and_then(|current| current.turn_to(Some(stage)))
	});
	InStage { outer, _span: span, _here: PhantomData }
}

impl Drop for InStage {
	fn drop(&mut self) {
		CURRENT.with_borrow_mut(|current| {
			if let Some(current) = current.as_mut() {
				current.turn_to(self.outer);
			}
		});
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn stages_stand_where_their_numbers_say() {
		for (place, stage) in Stage::ALL.into_iter().enumerate() {
			assert_eq!(stage as usize, place);
		}
	}

	#[test]
	fn a_stage_within_another_does_not_count_for_that() {
		let cell = StageCell::default();
		let began = Instant::now();
		let ((), times) = watch(cell.clone(), || {
			assert_eq!(cell.word(), None);
			let open = enter(Stage::Open);
			assert_eq!(cell.word(), Some("open"));
			{
				let _freeze = enter(Stage::Freeze);
				assert_eq!(cell.word(), Some("freeze"));
				std::thread::sleep(Duration::from_millis(20));
			}
			assert_eq!(cell.word(), Some("open"));
			drop(open);
			assert_eq!(cell.word(), None);
		});
		let took = began.elapsed();
		let [open, freeze] = [Stage::Open, Stage::Freeze].map(|stage| times[stage as usize]);
		assert!(freeze >= Duration::from_millis(20) && open + freeze <= took);
		assert!(open < freeze || took > Duration::from_millis(40), "{open:?}, {freeze:?}");
		assert_eq!(times[Stage::Read as usize], Duration::ZERO);
	}

	#[test]
	fn a_job_that_panics_leaves_no_stage() {
		let cell = StageCell::default();
		let work = || {
			let _read = enter(Stage::Read);
			panic!("a fault");
		};
		let (result, _) = watch(cell.clone(), || {
			std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err()
		});
		assert!(result && cell.word().is_none());
		// On a thread without a job nothing is kept.
		drop(enter(Stage::Pin));
		assert_eq!(cell.word(), None);
	}
}
