//! Giving up roots: only what the finalized chain does not need.
//!
//! Workers run on best blocks, which can be undone, so nothing is destroyed on their word. A
//! sweep asks the finalized state about every root that is pinned. An evicted or deleted root
//! goes at once. One that the chain does not know goes when it was unknown for a whole grace
//! period and nothing works on its lineage. Everything else stays, and so does everything while
//! the chain cannot be asked.

use super::{HeldRoot, JobError, Jobs};
use crate::chain::{ChainError, FinalizedChain};
use backup_primitives::{Cid, LineageId, RootStatus};
use std::{
	collections::HashMap,
	sync::Arc,
	time::{Duration, Instant},
};

/// How often at most the operator is told that the chain cannot be asked.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How long a sweep waits after one that could not finish.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// When sweeps happen, and how patient they are.
#[derive(Clone, Copy, Debug)]
pub struct SweepOptions {
	/// Time between two sweeps without a reason.
	pub interval: Duration,
	/// How long a root must be unknown before it goes.
	pub unknown_grace: Duration,
}

/// What to do with a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
	/// Keep it.
	Keep,
	/// Keep it for now; it is not known since then.
	KeepUnknown,
	/// Unpin it.
	Release,
}

/// Decide about a root, from what the finalized chain says of it and for how long it has said
/// that it does not know it.
pub fn judge(
	status: RootStatus,
	unknown_for: Duration,
	is_worked_on: bool,
	options: &SweepOptions,
) -> Verdict {
	match status {
		RootStatus::Retained | RootStatus::Pending => Verdict::Keep,
		RootStatus::Evicted | RootStatus::Deleted => Verdict::Release,
		RootStatus::Unknown if is_worked_on || unknown_for < options.unknown_grace => {
			Verdict::KeepUnknown
		},
		RootStatus::Unknown => Verdict::Release,
	}
}

/// Why a sweep could not finish.
#[derive(Debug, thiserror::Error)]
enum SweepError {
	#[error(transparent)]
	Chain(#[from] ChainError),
	#[error(transparent)]
	Store(#[from] JobError),
}

/// Sweep whenever there is a reason, for ever.
pub async fn run(jobs: Arc<Jobs>, chain: Arc<dyn FinalizedChain>, options: SweepOptions) {
	let mut unknown_since = HashMap::new();
	let mut warned_at: Option<Instant> = None;
	loop {
		let mut wait = options.interval;
		if let Err(error) = sweep(&jobs, chain.as_ref(), &options, &mut unknown_since).await {
			wait = RETRY_AFTER;
			if warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
				warned_at = Some(Instant::now());
				tracing::warn!(%error, "nothing is given up: failed to compare roots with the chain");
			}
		} else if !jobs.open_deletions().is_empty() {
			// Finality follows the best block by a few seconds.
			wait = RETRY_AFTER;
		}
		tokio::select! {
			() = jobs.sweep_wanted.notified() => (),
			() = tokio::time::sleep(wait) => (),
		}
	}
}

/// Compare all roots with the finalized chain once.
async fn sweep(
	jobs: &Arc<Jobs>,
	chain: &dyn FinalizedChain,
	options: &SweepOptions,
	unknown_since: &mut HashMap<Cid, Instant>,
) -> Result<(), SweepError> {
	let deletions = jobs.open_deletions();
	let executor = jobs.executor().clone();
	let roots = blocking(move || executor.roots()).await?;
	let mut released = Vec::new();
	let view = chain.finalized().await?;
	for root in roots.iter() {
		let status = view.root_status(root).await?;
		let now = Instant::now();
		let since = match status {
			RootStatus::Unknown => *unknown_since.entry(root.cid).or_insert(now),
			_ => {
				unknown_since.remove(&root.cid);
				now
			},
		};
		let is_worked_on = jobs.is_running(&root.lineage);
		if judge(status, now - since, is_worked_on, options) == Verdict::Release {
			tracing::info!(root = %root.cid, ?status, sequence = root.sequence, "root given up");
			released.push(root.clone());
		}
	}
	unknown_since.retain(|cid, _| roots.iter().any(|root| root.cid == *cid));
	let is_left = |root: &&HeldRoot| !released.contains(root);
	let left: Vec<HeldRoot> = roots.iter().filter(is_left).cloned().collect();
	if !released.is_empty() {
		let executor = jobs.executor().clone();
		blocking(move || {
			released.iter().try_for_each(|root| executor.unpin(root))?;
			let bytes = executor.collect()?;
			tracing::info!(roots = released.len(), bytes, "space freed");
			Ok(())
		})
		.await?;
	}
	for (lineage, until) in deletions {
		if is_done(&lineage, until, &left) && !jobs.is_running(&lineage) {
			jobs.mark_deleted(lineage, until);
		}
	}
	Ok(())
}

/// Whether no root of a lineage below a sequence is left.
fn is_done(lineage: &LineageId, until: u64, left: &[HeldRoot]) -> bool {
	!left.iter().any(|root| root.lineage == *lineage && root.sequence < until)
}

async fn blocking<R: Send + 'static>(
	work: impl FnOnce() -> Result<R, JobError> + Send + 'static,
) -> Result<R, JobError> {
	tokio::task::spawn_blocking(work)
		.await
		.unwrap_or_else(|_| Err(JobError::internal("a thread of the block store panicked")))
}

#[cfg(test)]
mod tests {
	use super::*;

	const OPTIONS: SweepOptions = SweepOptions {
		interval: Duration::from_secs(600),
		unknown_grace: Duration::from_secs(3600),
	};
	const LONG: Duration = Duration::from_secs(3600);

	#[test]
	fn what_the_chain_retains_or_waits_for_stays() {
		for status in [RootStatus::Retained, RootStatus::Pending] {
			assert_eq!(judge(status, LONG, false, &OPTIONS), Verdict::Keep);
		}
	}

	#[test]
	fn what_the_chain_gave_up_goes_at_once() {
		for status in [RootStatus::Evicted, RootStatus::Deleted] {
			assert_eq!(judge(status, Duration::ZERO, true, &OPTIONS), Verdict::Release);
		}
	}

	#[test]
	fn boundary_what_the_chain_does_not_know_goes_after_its_grace_period() {
		let almost = LONG - Duration::from_millis(1);
		let unknown = RootStatus::Unknown;
		assert_eq!(judge(unknown, almost, false, &OPTIONS), Verdict::KeepUnknown);
		assert_eq!(judge(unknown, LONG, true, &OPTIONS), Verdict::KeepUnknown);
		assert_eq!(judge(unknown, LONG, false, &OPTIONS), Verdict::Release);
	}
}
