//! Replicas as a place to read from.

use super::{Replica, Replicas};
use crate::{
	pipeline::Cancel,
	repositories::{BlockSource, KuboError, RepositoryError},
};
use backup_primitives::Cid;
use rand::Rng;
use std::{
	io,
	sync::atomic::Ordering,
	time::{Duration, Instant},
};

/// How long a daemon is not asked for blocks after it failed to give one; twice as long each further
/// time.
const PASSED_OVER: Duration = Duration::from_millis(500);

/// How long at most.
const PASSED_OVER_MAX: Duration = Duration::from_secs(30);

/// How long whoever is patient waits at first, and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Replicas {
	/// As [`get`](BlockSource::get), again and again until a time while all fail in ways that may pass.
	pub(crate) fn get_patiently(
		&self,
		cid: &Cid,
		until: Instant,
		cancel: &Cancel,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		let mut pause = PAUSE;
		loop {
			let found = self.get(cid);
			if !found.as_ref().is_err_and(RepositoryError::can_retry) {
				return found;
			}
			// So that threads which were turned away at once do not come back at once.
			let end = Instant::now() + pause.mul_f64(rand::rng().random_range(0.75..1.25));
			if end > until || !cancel.wait_until(end) {
				return found;
			}
			pause = (pause * 2).min(PAUSE_MAX);
		}
	}

	fn note_unreadable(&self, member: &Replica, error: &KuboError) {
		let mut state = member.state();
		match error {
			KuboError::Damaged { cid } => state.note_damaged(*cid),
			// Many threads may be in the middle of a question when a daemon goes away once.
			_ if state.passed_over_until.is_some_and(|until| until > Instant::now()) => (),
			_ => {
				let wait = PASSED_OVER.saturating_mul(1 << state.unreadable.min(10));
				state.unreadable = state.unreadable.saturating_add(1);
				state.passed_over_until = Some(Instant::now() + wait.min(PASSED_OVER_MAX));
			}
		}
		tracing::debug!(target: "replicas", replica = member.name, %error, "a block did not come");
	}
}

impl BlockSource for Replicas {
	/// The first sound answer counts. What fails is passed over for a while, and its error told only
	/// if no other one has the block.
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let count = self.members.len();
		let first = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
		let mut failure: Option<RepositoryError> = None;
		for member in self.members.iter().cycle().skip(first).take(count) {
			let is_passed_over = member.state().passed_over_until;
			if is_passed_over.is_some_and(|until| until > Instant::now()) {
				failure = Some(passed_over(&member.name));
				continue;
			}
			match member.kubo.block(cid) {
				Ok(found) => {
					member.state().unreadable = 0;
					if found.is_some() {
						return Ok(found);
					}
				}
				Err(error) => {
					self.note_unreadable(member, &error);
					// Of two, that which may pass.
					failure = failure.filter(RepositoryError::can_retry).or(Some(error.into()));
				}
			}
		}
		failure.map_or(Ok(None), Err)
	}
}

fn passed_over(name: &str) -> RepositoryError {
	let words = format!("the replica {name} failed a short while ago");
	RepositoryError::Backend { source: Box::new(io::Error::other(words)), can_retry: true }
}
