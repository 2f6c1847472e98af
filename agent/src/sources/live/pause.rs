//! Stopping a machine for an instant, so that it runs again whatever happens.
//!
//! While it stands still by our doing, a node of ours in QEMU says so: who finds that node after
//! the agent was killed knows that the machine is to go on, and that no operator stopped it.

use super::nodes::{Marker, mark, unmark};
use crate::sources::{SourceError, qmp::Monitor};
use serde_json::json;
use std::{
	thread,
	time::{Duration, Instant},
};

/// How often a machine is told to go on before that is left to those who clean up, and how long
/// after one failure the next try is made.
const RESUME_TRIES: usize = 5;
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// A machine that stands still. It goes on when this is dropped.
#[derive(Debug)]
pub(super) struct Pause<'m> {
	pub(super) monitor: &'m mut Monitor,
	since: Instant,
	/// Whether it is ours to let it go on.
	is_ours: bool,
}

impl<'m> Pause<'m> {
	/// Stop the machine, unless somebody else has.
	pub(super) fn begin(monitor: &'m mut Monitor) -> Result<Self, SourceError> {
		let status = monitor.run("query-status", json!({}))?;
		let is_running = status["running"] == true;
		if is_running {
			mark(monitor, Marker::Stopped)?;
		}
		let pause = Self { monitor, since: Instant::now(), is_ours: is_running };
		if is_running {
			// One that is not acknowledged may stop it all the same; the drop sees to that.
			pause.monitor.run("stop", json!({}))?;
		}
		Ok(pause)
	}

	/// Let the machine go on, and say how long it stood still.
	pub(super) fn end(mut self) -> Result<Duration, SourceError> {
		if !std::mem::take(&mut self.is_ours) {
			return Ok(Duration::ZERO);
		}
		let resumed = resume(self.monitor);
		let lasted = self.since.elapsed();
		resumed?;
		unmark(self.monitor, Marker::Stopped)?;
		Ok(lasted)
	}
}

impl Drop for Pause<'_> {
	fn drop(&mut self) {
		if self.is_ours && resume(self.monitor).is_ok() {
			// The clean-up of all nodes takes what is left.
			let _ = unmark(self.monitor, Marker::Stopped);
		}
	}
}

/// Tell the machine to go on, over a new connection if need be.
pub(super) fn resume(monitor: &mut Monitor) -> Result<(), SourceError> {
	let mut tries = 1;
	while let Err(error) = monitor.run("cont", json!({})) {
		if matches!(error, SourceError::Vanished) {
			return Err(error);
		}
		if tries == RESUME_TRIES {
			tracing::error!(%error, "failed to let the machine go on: it may be paused");
			return Err(error);
		}
		tracing::warn!(%error, "the machine does not go on yet; it is told again");
		tries += 1;
		thread::sleep(RESUME_PAUSE);
	}
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::qmp::tests::{GREETING, server};

	const DONE: &str = "{\"return\":{}}\n";

	/// After it hung up somebody looks whether it is there.
	const LOOK: &[&str] = &[];
	/// It does not greet.
	const BUSY: &[&str] = &[];

	#[test]
	fn a_machine_is_told_to_go_on_however_often_the_connection_breaks() {
		let (_folder, path) = server(&[
			&[GREETING, DONE, ""],
			LOOK,
			BUSY,
			&["no QEMU\n"],
			&[GREETING, DONE, ""],
			LOOK,
			&[GREETING, DONE, DONE],
		]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		resume(&mut monitor).unwrap();
	}

	#[test]
	fn a_machine_that_is_gone_needs_not_be_told() {
		let (_folder, path) = server(&[&[GREETING, DONE, ""]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		std::fs::remove_file(&path).unwrap();
		assert!(matches!(resume(&mut monitor), Err(SourceError::Vanished)));
	}
}
