//! Trials that each have an end, whatever they hang in.

use super::Finding;
use std::{
	collections::{BTreeMap, VecDeque},
	sync::{Mutex, MutexGuard, PoisonError, mpsc},
	thread,
	time::Duration,
};

/// Something to try.
pub(super) struct Trial {
	name: &'static str,
	machine: Option<String>,
	time_max: Duration,
	work: Box<dyn FnOnce() -> Vec<Finding> + Send>,
}

impl Trial {
	pub(super) fn new(
		name: &'static str,
		time_max: Duration,
		work: impl FnOnce() -> Vec<Finding> + Send + 'static,
	) -> Self {
		Self { name, machine: None, time_max, work: Box::new(work) }
	}

	pub(super) fn of(self, machine: &str) -> Self {
		Self { machine: Some(machine.to_owned()), ..self }
	}

	fn run(self) -> Vec<Finding> {
		let found = within(self.name, self.time_max, self.work).unwrap_or_else(|late| vec![late]);
		match self.machine {
			Some(machine) => found.into_iter().map(|finding| finding.of(&machine)).collect(),
			None => found,
		}
	}
}

/// Run trials, so many at once, and give what they found in their order.
pub(super) fn side_by_side(trials: Vec<Trial>, at_once: usize) -> Vec<Finding> {
	let queue: Mutex<VecDeque<_>> = Mutex::new(trials.into_iter().enumerate().collect());
	let found = Mutex::new(BTreeMap::new());
	thread::scope(|scope| {
		for _ in 0..at_once {
			scope.spawn(|| {
				loop {
					// The lock is not held while the trial runs.
					let Some((place, trial)) = lock(&queue).pop_front() else { break };
					let findings = trial.run();
					lock(&found).insert(place, findings);
				}
			});
		}
	});
	let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
	found.into_values().flatten().collect()
}

/// Do something on a thread that is left behind when its time is over.
pub(super) fn within<T: Send + 'static>(
	name: &'static str,
	time_max: Duration,
	work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Finding> {
	let (tell, told) = mpsc::channel();
	let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
		// Nobody listens any more when it is late.
		let _ = tell.send(work());
	});
	let late = |words: String| {
		Finding::failed(
			name,
			words,
			"look at what it waits for, and report it if it is the agent's fault",
		)
	};
	if let Err(error) = spawned {
		return Err(late(format!("it could not be tried: {error}")));
	}
	told.recv_timeout(time_max).map_err(|error| match error {
		mpsc::RecvTimeoutError::Timeout => {
			late(format!("it did not end within {} s", time_max.as_secs()))
		}
		mpsc::RecvTimeoutError::Disconnected => late("trying it panicked".to_owned()),
	})
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::doctor::Verdict;
	use std::{sync::Arc, sync::Barrier};

	#[test]
	fn what_hangs_fails_in_its_time_and_holds_up_nothing() {
		let hang = || loop {
			thread::park();
		};
		let quick = || vec![Finding::ok("quick", "")];
		let trials = vec![
			Trial::new("hangs", Duration::from_millis(50), hang).of("web"),
			Trial::new("panics", Duration::from_secs(60), || panic!("on purpose")),
			Trial::new("quick", Duration::from_secs(60), quick),
		];
		let found = side_by_side(trials, 1);
		let told: Vec<_> = found.iter().map(|f| (f.check, f.verdict)).collect();
		let expected =
			[("hangs", Verdict::Failed), ("panics", Verdict::Failed), ("quick", Verdict::Ok)];
		assert_eq!(told, expected);
		assert_eq!(found[0].machine.as_deref(), Some("web"));
		assert!(found[0].found.contains("did not end within"), "{found:?}");
	}

	#[test]
	fn trials_run_at_the_same_time_and_are_told_in_their_order() {
		let meet = Arc::new(Barrier::new(3));
		let trial = |name| {
			let meet = meet.clone();
			Trial::new(name, Duration::from_secs(60), move || {
				// Goes on when all three are here.
				meet.wait();
				vec![Finding::ok(name, "")]
			})
		};
		let found = side_by_side(["a", "b", "c"].map(trial).into(), 3);
		assert_eq!(found.iter().map(|f| f.check).collect::<Vec<_>>(), ["a", "b", "c"]);
	}
}
