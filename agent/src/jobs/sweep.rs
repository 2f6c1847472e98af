//! Giving up roots: only what the finalized chain does not need.
//!
//! Workers run on best blocks, which can be undone, so nothing is destroyed on their word. A
//! sweep asks the finalized state about every root that is pinned. An evicted or deleted root
//! goes at once. One that the chain does not know goes when it was unknown for a whole grace
//! period and nothing works on its lineage, or together with its lineage. Everything else stays,
//! and so does everything while the chain cannot be asked, or while the node is behind what was
//! finalized before: one that starts again from nothing knows no root at all.
//!
//! A kill between any two steps is made good by the next sweep.

use super::{HeldRoot, JobError, Jobs, LedgerError};
use crate::chain::{ChainError, FinalizedChain, FinalizedView};
use backup_primitives::{Cid, LineageId, RootStatus};
use std::{
	collections::{HashMap, HashSet},
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

/// What is known of a root, beside its status, when it is decided about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
	/// For how long the chain has said that it does not know it.
	pub unknown_for: Duration,
	/// Whether a job about this very snapshot runs.
	pub is_used: bool,
	/// Whether a job about its lineage runs.
	pub is_lineage_used: bool,
	/// Whether the finalized chain deletes its lineage, and it is one of those that are meant.
	pub is_lineage_deleted: bool,
}

/// Whether a root is to be given up, from what the finalized chain says of it.
pub fn is_to_go(status: RootStatus, facts: &Facts, unknown_grace: Duration) -> bool {
	match status {
		RootStatus::Retained | RootStatus::Pending => false,
		// A restore may still read it.
		RootStatus::Evicted | RootStatus::Deleted => !facts.is_used,
		RootStatus::Unknown => {
			let is_due = facts.is_lineage_deleted || facts.unknown_for >= unknown_grace;
			is_due && !facts.is_lineage_used
		}
	}
}

/// Why a sweep could not finish.
#[derive(Debug, thiserror::Error)]
enum SweepError {
	#[error(transparent)]
	Chain(#[from] ChainError),
	#[error(transparent)]
	Store(#[from] JobError),
	#[error(transparent)]
	Ledger(#[from] LedgerError),
}

/// Sweep whenever there is a reason, for ever.
pub async fn run(jobs: Arc<Jobs>, chain: Arc<dyn FinalizedChain>, options: SweepOptions) {
	let mut unknown_since = HashMap::new();
	let mut warned_at: Option<Instant> = None;
	loop {
		let mut wait = options.interval;
		let swept = sweep(&jobs, chain.as_ref(), &options, &mut unknown_since).await;
		if let Err(SweepError::Chain(ChainError::Unbound)) = swept {
			// Nothing can be compared before the first call of a worker.
			wait = RETRY_AFTER;
		} else if let Err(error) = swept {
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
	let asked = ask(jobs, chain, &roots).await?;
	let released = released(jobs, &asked, &deletions, options, unknown_since);
	let gone = unpin(jobs, released).await?;
	let left: Vec<&HeldRoot> = roots.iter().filter(|root| !gone.contains(root)).collect();
	let is_done = |(lineage, until): &(LineageId, u64)| {
		!left.iter().any(|root| root.lineage == *lineage && root.sequence < *until)
			&& !jobs.is_running(lineage)
	};
	let done: Vec<_> = deletions.into_iter().filter(is_done).collect();
	// Of a deletion that is done the agent may have been killed before it could collect.
	if !gone.is_empty() || !done.is_empty() {
		let executor = jobs.executor().clone();
		let bytes = blocking(move || executor.collect()).await?;
		tracing::info!(roots = gone.len(), bytes, "space freed");
	}
	for (lineage, until) in done {
		jobs.mark_deleted(lineage, until);
	}
	Ok(())
}

/// What the newest finalized state says of these roots.
async fn ask<'a>(
	jobs: &Jobs,
	chain: &dyn FinalizedChain,
	roots: &'a [HeldRoot],
) -> Result<Vec<(&'a HeldRoot, RootStatus)>, SweepError> {
	let view = chain.finalized().await?;
	ensure_not_behind(jobs, view.as_ref())?;
	let mut asked = Vec::with_capacity(roots.len());
	for root in roots {
		asked.push((root, view.root_status(root).await?));
	}
	Ok(asked)
}

/// Finality never goes back, so a node that lost its database shows itself by its height.
fn ensure_not_behind(jobs: &Jobs, view: &dyn FinalizedView) -> Result<(), SweepError> {
	let (found, seen) = (view.number(), jobs.ledger().finalized()?);
	if found < seen {
		return Err(ChainError::Behind { found, seen }.into());
	}
	if found > seen {
		jobs.ledger().remember_finalized(found)?;
	}
	Ok(())
}

/// The roots that are to be given up. Keeps account of those that the chain does not know.
fn released(
	jobs: &Jobs,
	asked: &[(&HeldRoot, RootStatus)],
	deletions: &[(LineageId, u64)],
	options: &SweepOptions,
	unknown_since: &mut HashMap<Cid, Instant>,
) -> Vec<HeldRoot> {
	let now = Instant::now();
	let of_status = |wanted| asked.iter().filter(move |(_, status)| *status == wanted);
	let unknown: HashSet<&Cid> =
		of_status(RootStatus::Unknown).map(|(root, _)| &root.cid).collect();
	let deleted: HashSet<&LineageId> =
		of_status(RootStatus::Deleted).map(|(root, _)| &root.lineage).collect();
	unknown_since.retain(|cid, _| unknown.contains(cid));
	let is_lineage_deleted = |root: &HeldRoot| {
		let is_meant =
			|(of, until): &(LineageId, u64)| *of == root.lineage && root.sequence < *until;
		deleted.contains(&root.lineage) && deletions.iter().any(is_meant)
	};
	let mut is_released = |root: &HeldRoot, status: RootStatus| {
		let since = match status {
			RootStatus::Unknown => *unknown_since.entry(root.cid).or_insert(now),
			_ => now,
		};
		let facts = Facts {
			unknown_for: now - since,
			is_used: jobs.is_used(root),
			is_lineage_used: jobs.is_running(&root.lineage),
			is_lineage_deleted: is_lineage_deleted(root),
		};
		is_to_go(status, &facts, options.unknown_grace)
	};
	let released = asked.iter().filter(|(root, status)| is_released(root, *status));
	released.map(|(root, _)| (*root).clone()).collect()
}

/// Unpin roots, and say which. One that cannot be unpinned does not keep the others.
async fn unpin(jobs: &Jobs, roots: Vec<HeldRoot>) -> Result<Vec<HeldRoot>, JobError> {
	let executor = jobs.executor().clone();
	let unpin = move |root: &HeldRoot| match executor.unpin(root) {
		Ok(()) => {
			tracing::info!(root = %root.cid, sequence = root.sequence, "root given up");
			true
		}
		Err(error) => {
			tracing::error!(%error, root = %root.cid, "failed to give up a root");
			false
		}
	};
	blocking(move || Ok(roots.into_iter().filter(unpin).collect())).await
}

async fn blocking<R: Send + 'static>(
	work: impl FnOnce() -> Result<R, JobError> + Send + 'static,
) -> Result<R, JobError> {
	tokio::task::spawn_blocking(work)
		.await
		.unwrap_or_else(|_| Err(JobError::internal("a thread of the block store panicked")))
}

#[cfg(test)]
mod tests;
