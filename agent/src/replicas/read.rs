//! Replicas as a place to read from.

use super::{Replica, Replicas};
use crate::{
	peers::share,
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

/// Who had less time than this to answer has not failed.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// How long replicas may take for a block, all together, when they are waited for.
const BLOCK_TIME_MAX: Duration = Duration::from_secs(300);

/// How long whoever is patient waits at first, and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Replicas {
	/// As [`get_by`](Self::get_by), again and again until a time while all fail in ways that may pass.
	pub(crate) fn get_patiently(
		&self,
		cid: &Cid,
		until: Instant,
		by: Instant,
		cancel: &Cancel,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		let mut pause = PAUSE;
		loop {
			let found = self.get_by(cid, Some(by));
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

	/// These replicas, with patience until a time for all blocks together.
	pub(crate) fn patient<'a>(&'a self, until: Instant, cancel: &'a Cancel) -> Patient<'a> {
		Patient { replicas: self, until, cancel }
	}

	/// The first sound answer counts. What fails, or is silent for its share of the time, is passed over
	/// for a while, and its error told only if no other one has the block. All together take no longer
	/// than until the end, if there is one.
	pub(crate) fn get_by(
		&self,
		cid: &Cid,
		end: Option<Instant>,
	) -> Result<Option<Vec<u8>>, RepositoryError> {
		let count = self.members.len();
		let first = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
		let turned = self.members.iter().cycle().skip(first).take(count);
		let (asked, passed): (Vec<&Replica>, Vec<&Replica>) =
			turned.partition(|member| !member.state().is_passed_over());
		let mut failure = passed.first().map(|member| passed_over(&member.name));
		for (number, member) in asked.iter().enumerate() {
			let time = end.map_or(Duration::MAX, |end| share(end, asked.len() - number));
			if time.is_zero() {
				failure = failure.or(Some(KuboError::Slow.into()));
				break;
			}
			match member.kubo.block_within(cid, time) {
				Ok(found) => {
					member.state().unreadable = 0;
					if found.is_some() {
						return Ok(found);
					}
				}
				Err(error) => {
					// Who had hardly any time is not to blame.
					if time >= FAIR_TIME || !matches!(error, KuboError::Slow) {
						self.note_unreadable(member, &error);
					}
					// Of two, that which may pass.
					failure = failure.filter(RepositoryError::can_retry).or(Some(error.into()));
				}
			}
		}
		failure.map_or(Ok(None), Err)
	}

	fn note_unreadable(&self, member: &Replica, error: &KuboError) {
		let mut state = member.state();
		match error {
			KuboError::Damaged { cid } => state.note_damaged(*cid),
			// Many threads may be in the middle of a question when a daemon goes away once.
			_ if state.is_passed_over() => (),
			_ => {
				let wait = PASSED_OVER.saturating_mul(1 << state.unreadable.min(10));
				state.unreadable = state.unreadable.saturating_add(1);
				state.passed_over_until = Some(Instant::now() + wait.min(PASSED_OVER_MAX));
			}
		}
		tracing::debug!(target: "replicas", replica = member.name, %error, "a block did not come");
	}
}

/// Replicas for whoever reads many blocks: what fails in a way that may pass is waited for until a
/// time, and then asked once for each block.
pub(crate) struct Patient<'a> {
	replicas: &'a Replicas,
	until: Instant,
	cancel: &'a Cancel,
}

impl BlockSource for Patient<'_> {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.replicas.get_patiently(cid, self.until, Instant::now() + BLOCK_TIME_MAX, self.cancel)
	}
}

impl BlockSource for Replicas {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.get_by(cid, None)
	}
}

fn passed_over(name: &str) -> RepositoryError {
	let words = format!("the replica {name} failed a short while ago");
	RepositoryError::Backend { source: Box::new(io::Error::other(words)), can_retry: true }
}
