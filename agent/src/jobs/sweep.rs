//! Giving up roots: only what the finalized chain does not need.
//!
//! Workers run on best blocks, which can be undone, so nothing is destroyed on their word. A
//! sweep asks the finalized state about every root that is pinned, here or at a replica alone. An
//! evicted or deleted root goes at once. One that the chain does not know, or in whose place a newer
//! one waits, goes when no worker was told of it for a whole grace period, finality has passed the
//! beginning of that, and nothing works on its lineage; or together with its lineage. Everything
//! else stays, and so does everything while the chain cannot be asked, or while the node is behind
//! what was finalized before: one that starts again from nothing knows no root at all.
//!
//! A kill between any two steps is made good by the next sweep.

use super::{Executor, HeldRoot, JobError, Jobs, LedgerError};
use crate::{
	chain::{ChainError, FinalizedChain, FinalizedView},
	config::InForce,
};
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
	/// For how long the chain has said that it does not know it, if finality has passed the
	/// beginning of that.
	pub unknown_for: Option<Duration>,
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
			let is_due = facts.is_lineage_deleted || facts.unknown_for >= Some(unknown_grace);
			is_due && !facts.is_lineage_used
		}
	}
}

/// Since when the finalized chain does not know a root, or waits for another in its place.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
	since: Instant,
	/// The best block at that time. What was recorded before stands in it or below.
	best: u64,
}

/// What sweeps tell the next one.
#[derive(Debug, Default)]
struct Memory {
	unsettled: HashMap<Cid, Unsettled>,
	/// When damage last kept blocks from being freed.
	obstructed_at: Option<Instant>,
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
pub async fn run(jobs: Arc<Jobs>, chain: Arc<dyn FinalizedChain>, mut in_force: InForce) {
	let mut memory = Memory::default();
	let mut warned_at: Option<Instant> = None;
	loop {
		let options = {
			let config = in_force.borrow_and_update();
			let (interval, unknown_grace) = (config.sweep_interval, config.unknown_root_grace);
			SweepOptions { interval, unknown_grace }
		};
		let mut wait = options.interval;
		let swept = sweep(&jobs, chain.as_ref(), &options, &mut memory).await;
		if let Ok(Swept::RootsAreLeft) = swept {
			// Damage does not pass within seconds, and to look for it takes all nodes.
		} else if let Err(SweepError::Chain(ChainError::Unbound)) = swept {
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
			Ok(()) = in_force.changed() => (),
			() = tokio::time::sleep(wait) => (),
		}
	}
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swept {
	/// All that could be done is done.
	Done,
	/// No deletion is told, since roots that were given up may be left, or nobody knows which blocks are
	/// needed.
	RootsAreLeft,
}

/// Compare all roots with the finalized chain once.
async fn sweep(
	jobs: &Arc<Jobs>,
	chain: &dyn FinalizedChain,
	options: &SweepOptions,
	memory: &mut Memory,
) -> Result<Swept, SweepError> {
	let deletions = jobs.open_deletions();
	// Before the roots are listed: a job that ends meanwhile may have pinned one more.
	let busy: HashSet<LineageId> = deletions
		.iter()
		.map(|(lineage, _)| lineage.clone())
		.filter(|lineage| jobs.is_running(lineage) || jobs.executor().is_unsettled(lineage))
		.collect();
	let view = chain.finalized().await?;
	ensure_not_behind(jobs, view.as_ref())?;
	confirm_pins(jobs, view.as_ref()).await?;
	let executor = jobs.executor().clone();
	let roots = blocking(move || all_roots(executor.as_ref())).await?;
	let asked = ask(view.as_ref(), &roots).await?;
	let released =
		released(jobs, view.number(), &asked, &deletions, options, &mut memory.unsettled);
	let gone = unpin(jobs, released).await?;
	let left: Vec<&HeldRoot> = roots.iter().filter(|root| !gone.contains(root)).collect();
	let is_done = |(lineage, until): &(LineageId, u64)| {
		!left.iter().any(|root| root.lineage == *lineage && root.sequence < *until)
			&& !busy.contains(lineage)
			&& !jobs.is_running(lineage)
			// Replicas let go of what has just been given up a little later.
			&& !jobs.executor().is_unsettled(lineage)
	};
	let done: Vec<_> = deletions.into_iter().filter(is_done).collect();
	// Also what jobs left that failed, or whatever was killed before it could collect.
	let executor = jobs.executor().clone();
	if executor.pins_unconfirmed() {
		return Ok(Swept::RootsAreLeft);
	}
	// Damage does not pass within seconds, and to look past it takes all nodes.
	let is_hopeless = memory.obstructed_at.is_some_and(|at| at.elapsed() < options.interval)
		&& gone.is_empty()
		&& done.is_empty();
	if executor.has_garbage() && !is_hopeless {
		if executor.has_unfinished_copies() {
			return Ok(Swept::Done);
		}
		let freed = blocking(move || executor.collect()).await?;
		let is_obstructed = freed.is_obstructed || freed.has_left_roots;
		memory.obstructed_at = is_obstructed.then(Instant::now);
		if freed.bytes > 0 || !gone.is_empty() {
			tracing::info!(roots = gone.len(), bytes = freed.bytes, "space freed");
		}
		// Whoever gets hold of its root and an identity can read what is left of a snapshot.
		if freed.has_left_roots {
			return Ok(Swept::RootsAreLeft);
		}
	}
	for (lineage, until) in done {
		jobs.mark_deleted(lineage, until);
	}
	Ok(Swept::Done)
}

/// The roots that are pinned here, and those that are only elsewhere, on this node's behalf.
fn all_roots(executor: &dyn Executor) -> Result<Vec<HeldRoot>, JobError> {
	// In this order: what is fetched back meanwhile is in both rather than in none.
	let elsewhere = executor.roots_elsewhere();
	let mut roots = executor.roots()?;
	let here: HashSet<Cid> = roots.iter().map(|root| root.cid).collect();
	roots.extend(elsewhere.into_iter().filter(|root| !here.contains(&root.cid)));
	Ok(roots)
}

/// What a finalized state says of these roots.
async fn ask<'a>(
	view: &dyn FinalizedView,
	roots: &'a [HeldRoot],
) -> Result<Vec<(&'a HeldRoot, RootStatus)>, ChainError> {
	let mut asked = Vec::with_capacity(roots.len());
	for root in roots {
		asked.push((root, status(view, root).await?));
	}
	Ok(asked)
}

/// What a finalized state says of a root that this node holds, or did.
pub(crate) async fn status(
	view: &dyn FinalizedView,
	root: &HeldRoot,
) -> Result<RootStatus, ChainError> {
	Ok(match view.root_status(root).await? {
		// A copy that was given to another holder.
		RootStatus::Retained if !is_kept_here(view, root).await? => RootStatus::Evicted,
		status => status,
	})
}

/// Whether a recorded root has to be here. One that was sealed here always has.
async fn is_kept_here(view: &dyn FinalizedView, root: &HeldRoot) -> Result<bool, ChainError> {
	match &root.copy_for {
		Some(node) => view.keeps_copies(node, &root.lineage.request).await,
		None => Ok(true),
	}
}

/// After the store lost its index or a part of its pins: pin again what the chain wants this node
/// to hold, so that collections can go on.
async fn confirm_pins(jobs: &Jobs, view: &dyn FinalizedView) -> Result<(), SweepError> {
	let executor = jobs.executor().clone();
	if !executor.pins_unconfirmed() {
		return Ok(());
	}
	let mut roots = Vec::new();
	for node in jobs.nodes().ok_or(ChainError::Unbound)? {
		roots.extend(view.roots_of_node(&node).await?);
	}
	tracing::warn!(roots = roots.len(), "pins may have been lost: pinning what the chain records");
	for lost in blocking(move || executor.confirm_pins(roots)).await? {
		tracing::error!(
			root = %lost.cid, request = %lost.lineage.request, sequence = lost.sequence,
			"a recorded snapshot is not in the store any more, or not all of it"
		);
	}
	Ok(())
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
	finalized: u64,
	asked: &[(&HeldRoot, RootStatus)],
	deletions: &[(LineageId, u64)],
	options: &SweepOptions,
	unsettled: &mut HashMap<Cid, Unsettled>,
) -> Vec<HeldRoot> {
	let deleted: HashSet<&LineageId> = asked
		.iter()
		.filter(|(_, status)| *status == RootStatus::Deleted)
		.map(|(root, _)| &root.lineage)
		.collect();
	let is_lineage_deleted = |root: &HeldRoot| {
		let is_meant =
			|(of, until): &(LineageId, u64)| *of == root.lineage && root.sequence < *until;
		deleted.contains(&root.lineage) && deletions.iter().any(is_meant)
	};
	let newest = newest_of_each_place(asked);
	// One that the chain waits for, although a newer one took its place, it will never know.
	let statuses = asked.iter().map(|(root, status)| match status {
		RootStatus::Pending if newest[&(&root.lineage, root.sequence)] != &root.cid => {
			(*root, RootStatus::Unknown)
		}
		status => (*root, *status),
	});
	let statuses: Vec<_> = statuses.collect();
	keep_account(jobs, &statuses, unsettled);
	let is_released = |root: &HeldRoot, status: RootStatus| {
		// While finality lags, the chain may know of it what is not final yet.
		let unsettled = unsettled.get(&root.cid).filter(|unsettled| finalized >= unsettled.best);
		let facts = Facts {
			unknown_for: unsettled.map(|unsettled| unsettled.since.elapsed()),
			is_used: jobs.is_used(root),
			is_lineage_used: jobs.is_running(&root.lineage),
			is_lineage_deleted: is_lineage_deleted(root),
		};
		is_to_go(status, &facts, options.unknown_grace)
	};
	// What pins elsewhere say of a root may be forged: one that is right keeps it.
	let wanted: HashSet<&Cid> = statuses
		.iter()
		.filter(|(_, status)| matches!(status, RootStatus::Retained | RootStatus::Pending))
		.map(|(root, _)| &root.cid)
		.collect();
	let released = statuses
		.iter()
		.filter(|(root, status)| !wanted.contains(&root.cid) && is_released(root, *status));
	released.map(|(root, _)| (*root).clone()).collect()
}

/// The root that was pinned last for each place of a lineage.
fn newest_of_each_place<'a>(
	asked: &[(&'a HeldRoot, RootStatus)],
) -> HashMap<(&'a LineageId, u64), &'a Cid> {
	let mut roots: Vec<&HeldRoot> = asked.iter().map(|(root, _)| *root).collect();
	roots.sort_by_key(|root| root.pinned_at_ms);
	roots.iter().map(|root| ((&root.lineage, root.sequence), &root.cid)).collect()
}

/// Note since when roots are unknown. One that workers are told of may be recorded at any time,
/// so its account begins when that is over.
fn keep_account(
	jobs: &Jobs,
	statuses: &[(&HeldRoot, RootStatus)],
	unsettled: &mut HashMap<Cid, Unsettled>,
) {
	let told = jobs.told_roots();
	let unknown: HashSet<&Cid> = statuses
		.iter()
		.filter(|(root, status)| *status == RootStatus::Unknown && !told.contains(&root.cid))
		.map(|(root, _)| &root.cid)
		.collect();
	unsettled.retain(|cid, _| unknown.contains(cid));
	let Some(best) = jobs.best() else { return };
	for cid in unknown {
		unsettled.entry(*cid).or_insert(Unsettled { since: Instant::now(), best });
	}
}

/// Unpin roots, and say which. One that cannot be unpinned does not keep the others.
async fn unpin(jobs: &Arc<Jobs>, roots: Vec<HeldRoot>) -> Result<Vec<HeldRoot>, JobError> {
	let executor = jobs.executor().clone();
	let forgetful = jobs.clone();
	let unpin = move |root: &HeldRoot| match executor.unpin(root) {
		Ok(()) => {
			tracing::info!(root = %root.cid, sequence = root.sequence, "root given up");
			forgetful.forget_root(&root.cid);
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
