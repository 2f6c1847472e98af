//! What a verification finds missing or damaged is put right.
//!
//! 1. It is noted, with all nodes above it: nobody relies on it any more, and whoever puts it
//!    stores it anew.
//! 2. Replicas and other nodes that have it give it again.
//! 3. What nobody has is left to the next backup, which reads the disk at those places even if
//!    nothing was written there, and stores what still stands there.
//! 4. Nodes below which nothing is missing any more count as whole again.
//!
//! The first step is one transaction, and each other one only adds blocks. So whoever is killed in
//! between leaves a snapshot that is known to lack something, and the next verification or backup
//! goes on.

use crate::{
	jobs::{HeldRoot, Jobs},
	peers::{Elsewhere, Peers},
	pipeline::{Cancel, CopyError, copy},
	repositories::{
		BlockSource, EmbeddedStore, Repository, RepositoryError, Session, VerifyReport,
	},
	verification::{Mending, Verdict, Verification},
};
use backup_primitives::{Cid, OpaqueId};
use std::{
	collections::HashSet,
	fmt,
	num::NonZero,
	sync::Arc,
	time::{Duration, Instant},
};

/// How long at most it is waited for replicas that fail for a moment, for all blocks of a round.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait until it is tried again to note what is lost, while blocks are being freed.
const NOTE_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How often at most blocks are mended that only came to light when others had been. A snapshot has
/// few levels, so this is more than enough.
const ROUNDS_MAX: usize = 8;

/// How long it is tried at most. A later verification tries again.
const NOTE_TIME_MAX: Duration = Duration::from_secs(600);

/// Puts right what a verification finds.
pub struct Mender {
	store: EmbeddedStore,
	elsewhere: Arc<Elsewhere>,
	jobs: Arc<Jobs>,
}

impl Mender {
	/// Mends a store with what others have of its snapshots.
	pub fn new(store: EmbeddedStore, elsewhere: Arc<Elsewhere>, jobs: Arc<Jobs>) -> Self {
		Self { store, elsewhere, jobs }
	}

	/// Note what a walk below a root found missing or damaged, fetch what others have of it, and say
	/// how many blocks came. Blocks below a bad node were not seen; see [`in_rounds`].
	pub(super) fn mend(&self, root: &Cid, report: &VerifyReport, cancel: &Cancel) -> Round {
		let bad: Vec<Cid> = bad_blocks(report).copied().collect();
		let mut mending = Mending { found: report.bad_blocks, ..Mending::default() };
		if let Err(error) = self.note(&bad, cancel) {
			tracing::warn!(%root, %error, "what is damaged is not noted, and so not mended");
			return Round { mending, is_any_good: false };
		}
		// Then perhaps nothing was noted.
		if cancel.is_cancelled() {
			return Round { mending, is_any_good: false };
		}
		let lost = still_bad(&self.store, &bad);
		// Those of replicas are near, and need no leave of the chain's.
		let replicas = self.elsewhere.replicas();
		let patient = replicas.patient(Instant::now() + PATIENCE, cancel);
		let left: Vec<Cid> = match replicas.is_empty() {
			true => lost.clone(),
			false => lost
				.iter()
				.filter(|cid| self.fetch(&patient, cid, cancel).is_err())
				.copied()
				.collect(),
		};
		mending.from_replicas = (lost.len() - left.len()) as u64;
		mending.from_holders = self.fetch_from_holders(root, &left, cancel);
		if let Err(error) = make_whole(&self.store, cancel) {
			tracing::warn!(%root, %error, "what was mended is taken up by the next backup");
		}
		let mended = mending.mended();
		if mended > 0 {
			tracing::warn!(%root, mended, "bad blocks were replaced by good ones of others");
		}
		mending.is_noted = matches!(self.store.has(root), Ok(false));
		Round { mending, is_any_good: mended > 0 || lost.len() < bad.len() }
	}

	/// Count what was found and mended, and say in words what becomes of the rest.
	pub(super) fn conclude(&self, result: &mut Verification, prior: Option<&Verification>) {
		let roots = self.jobs.executor().roots().unwrap_or_default();
		let held = roots.iter().find(|held| held.cid == result.root);
		if held.is_some_and(|held| held.copy_for.is_some()) {
			// What came back of another node's snapshot was fetched again.
			result.mending.from_holders += std::mem::take(&mut result.mending.from_disk);
		}
		let known = prior.map_or(0, Verification::left);
		let Mending { found, from_replicas, from_holders, from_disk, .. } = result.mending;
		let new = found.saturating_sub(known);
		self.jobs.metrics().count_mending(new, [from_replicas, from_holders, from_disk]);
		let outlook = held.and_then(|held| outlook(held, &roots, prior));
		let is_noted = result.mending.is_noted;
		if let (Verdict::Bad { detail, .. }, Some(outlook), true) =
			(&mut result.verdict, outlook, is_noted)
		{
			detail.push_str("; ");
			detail.push_str(outlook);
		}
	}

	/// Waits until blocks are not being freed.
	fn note(&self, bad: &[Cid], cancel: &Cancel) -> Result<u64, RepositoryError> {
		let end = Instant::now() + NOTE_TIME_MAX;
		loop {
			match self.store.note_lost(bad, &mut || !cancel.is_cancelled()) {
				Err(RepositoryError::Collecting)
					if Instant::now() < end
						&& cancel.wait_until(Instant::now() + NOTE_AGAIN_AFTER) => {}
				noted => return noted,
			}
		}
	}

	fn fetch_from_holders(&self, root: &Cid, bad: &[Cid], cancel: &Cancel) -> u64 {
		if bad.is_empty() {
			return 0;
		}
		let Some(peers) = self.peers(root, cancel) else { return 0 };
		let mut fetched = 0;
		for cid in bad {
			match self.fetch(&peers, cid, cancel) {
				Ok(()) => fetched += 1,
				Err(error) => tracing::warn!(%root, block = %cid, error, "a block is not mended"),
			}
			if peers.are_away() || cancel.is_cancelled() {
				break;
			}
		}
		fetched
	}

	/// Those who have the snapshot, too.
	fn peers(&self, root: &Cid, cancel: &Cancel) -> Option<Peers> {
		let roots = self.jobs.executor().roots().ok()?;
		let held = roots.into_iter().find(|held| held.cid == *root)?;
		let nodes: Vec<OpaqueId> = match held.copy_for {
			Some(node) => vec![node],
			None => self.jobs.nodes()?,
		};
		let peers = |node| self.elsewhere.peers(node, &held.lineage.request, cancel);
		nodes.iter().filter_map(peers).find(|peers| !peers.is_empty())
	}

	fn fetch(&self, others: &dyn BlockSource, cid: &Cid, cancel: &Cancel) -> Result<(), String> {
		let words = |error: RepositoryError| error.to_string();
		let session = self.store.open_session().map_err(words)?;
		put_again(others, session.as_ref(), cid, cancel).map_err(|error| error.to_string())?;
		session.flush().map_err(words)
	}
}

/// What came of mending once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
	pub(super) mending: Mending,
	/// Whether any of what was bad is good now: given by others, or there again with its disk.
	pub(super) is_any_good: bool,
}

/// Those of these blocks that cannot be read. The others are there again with their disk.
pub(super) fn still_bad(store: &EmbeddedStore, blocks: &[Cid]) -> Vec<Cid> {
	let is_good = |cid: &Cid| matches!(store.get(cid), Ok(Some(_)));
	blocks.iter().copied().filter(|cid| !is_good(cid)).collect()
}

/// Walks below a root and has mended what is bad, until a walk finds nothing bad that was not bad
/// before: when a node is mended, blocks below it come to light. Gives what the last walk found.
pub(super) fn in_rounds(
	mending: &mut Mending,
	mut walk: impl FnMut() -> Result<VerifyReport, RepositoryError>,
	mut mend: impl FnMut(&VerifyReport) -> Round,
) -> Result<VerifyReport, RepositoryError> {
	let mut seen = HashSet::new();
	for _ in 0..ROUNDS_MAX {
		let report = walk()?;
		let before = seen.len();
		seen.extend(bad_blocks(&report).copied());
		if report.is_good() || seen.len() == before {
			return Ok(report);
		}
		mending.found = mending.found.max(mending.mended() + report.bad_blocks);
		let Round { mending: round, is_any_good } = mend(&report);
		mending.from_replicas += round.from_replicas;
		mending.from_holders += round.from_holders;
		mending.is_noted = round.is_noted;
		// If nothing had to be noted, something could not be read for a moment only. What is good
		// again, by whomever, is bad no more, and what hangs below it comes to light.
		if !is_any_good && round.is_noted {
			return Ok(report);
		}
	}
	let report = walk()?;
	// Not all that is bad now.
	mending.is_noted &= bad_blocks(&report).all(|cid| seen.contains(cid));
	Ok(report)
}

fn bad_blocks(report: &VerifyReport) -> impl Iterator<Item = &Cid> {
	report.missing.iter().chain(&report.corrupt)
}

/// What becomes of blocks of a snapshot that nobody else has; nothing is said of other nodes' ones.
fn outlook(
	held: &HeldRoot,
	roots: &[HeldRoot],
	prior: Option<&Verification>,
) -> Option<&'static str> {
	if held.copy_for.is_some() {
		return None;
	}
	let left = prior.filter(|prior| prior.left() > 0);
	let was_backed_up_since = |prior: &Verification| {
		let ended_at_ms = u128::from(prior.at_ms) + prior.took.as_millis();
		let is_later = |other: &HeldRoot| {
			other.cid != held.cid && u128::from(other.pinned_at_ms) > ended_at_ms
		};
		roots.iter().any(|other| other.lineage == held.lineage && is_later(other))
	};
	Some(match left.is_some_and(was_backed_up_since) {
		true => {
			"nobody else has them, and they are not on the machine's disks any more: this snapshot stays damaged"
		}
		false => "nobody else has them; the next backup of the machine looks for them on its disks",
	})
}

/// What became of pinned snapshots that lacked something.
#[derive(Debug, Default)]
pub(crate) struct MadeWhole {
	/// They lack nothing any more.
	pub(crate) whole: Vec<Cid>,
	/// They still do: a block is missing or damaged. Of others it could not be found out.
	pub(crate) lost: Vec<Cid>,
}

/// Has pinned snapshots count as whole below which nothing is missing any more. Costs a look-up for
/// each that is whole already.
pub(crate) fn make_whole(
	store: &EmbeddedStore,
	cancel: &Cancel,
) -> Result<MadeWhole, RepositoryError> {
	let session = store.open_session()?;
	let mut made = MadeWhole::default();
	for pin in store.pins()? {
		if session.has(&pin.root)? {
			continue;
		}
		match put_again(store, session.as_ref(), &pin.root, cancel) {
			Ok(()) => made.whole.push(pin.root),
			Err(CopyError::Write(error)) => return Err(error),
			Err(CopyError::Cancelled) => break,
			Err(error) if is_of_a_block(&error) => made.lost.push(pin.root),
			Err(error) => {
				tracing::warn!(root = %pin.root, %error, "a damaged snapshot is looked at again later");
			}
		}
	}
	session.flush()?;
	for root in &made.whole {
		tracing::info!(%root, "a damaged snapshot is whole again");
	}
	Ok(made)
}

/// Whether a copy failed since a block is missing or damaged, and not for a moment only.
fn is_of_a_block(error: &CopyError) -> bool {
	match error {
		CopyError::Missing { .. } | CopyError::NotANode { .. } | CopyError::Shape { .. } => true,
		CopyError::Read(error) => {
			matches!(error, RepositoryError::Corrupt { .. }) || error.is_loss()
		}
		CopyError::Write(_) | CopyError::Cancelled => false,
	}
}

/// Puts a block, and what is missing below it.
pub(super) fn put_again(
	from: &dyn BlockSource,
	to: &dyn Session,
	cid: &Cid,
	cancel: &Cancel,
) -> Result<(), CopyError> {
	copy(from, to, cid, NonZero::<usize>::MIN, &|_| (), cancel).map(|_| ())
}

impl fmt::Debug for Mender {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Mender").field("elsewhere", &self.elsewhere).finish_non_exhaustive()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::io;

	#[test]
	fn what_may_pass_says_nothing_of_a_block() {
		let cid = Cid::raw([1; 32]);
		let io = |kind: io::ErrorKind| {
			CopyError::Read(RepositoryError::Io { action: "read a block", source: kind.into() })
		};
		for lost in [
			CopyError::Missing { cid },
			CopyError::Read(RepositoryError::Corrupt { cid }),
			io(io::ErrorKind::UnexpectedEof),
		] {
			assert!(is_of_a_block(&lost), "{lost}");
		}
		for passing in [CopyError::Cancelled, io(io::ErrorKind::OutOfMemory)] {
			assert!(!is_of_a_block(&passing), "{passing}");
		}
	}
}
