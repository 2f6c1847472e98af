//! Replicas of the agent's store at Kubo daemons.
//!
//! The agent's own store comes first: what it pins is what replicas should hold.
//! 1. Each replica is compared with it once a minute, and as soon as there is a new snapshot. What
//!    it lacks is sent, the newest snapshot first, and of each no more than what differs from one
//!    that it has. A pin that is gone, for whatever reason, is so made good.
//! 2. At each look some blocks are fetched and hashed. One that is missing makes the whole replica
//!    be gone through block by block; one that is damaged is named, for Kubo replaces no block that
//!    it believes to have.
//! 3. What was given up here is unpinned there. A replica keeps what was not given up, though it be
//!    missing here: it is fetched back. Pins of others are never touched, nor counted on as ours.
//! 4. With a quorum, a snapshot is told to the chain once so many replicas hold it, this store
//!    included. Nothing is lost meanwhile: it is in the store, and it is gone on with after a start.
//! 5. A daemon that fails is tried again after 2 seconds and up to 5 minutes, give or take a
//!    quarter, and keeps no other from anything.
//!
//! Whoever reads asks all daemons in turn and believes none: each block is hashed.

mod names;
mod pass;
mod releases;
mod send;
#[cfg(test)]
mod tests;
mod view;

pub use view::ReplicaView;

use crate::{
	jobs::now_ms,
	pipeline::Cancel,
	repositories::{
		BlockSource, EmbeddedStore, Kubo, KuboError, Repository, RepositoryError, is_trial,
	},
	secret::NodeIdentities,
};
use backup_primitives::{Cid, LineageId};
use names::Names;
use pass::PassError;
use rand::Rng;
use releases::Releases;
use std::{
	collections::BTreeSet,
	fmt, io,
	path::Path,
	sync::{
		Arc, Mutex, MutexGuard, PoisonError,
		atomic::{AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Most daemons.
pub const REPLICAS_MAX: usize = 8;

/// How often a replica is compared with the store without a reason.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// How long after a failure the next try is made; twice as long each further time.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long a daemon is not asked for blocks after it failed to give one.
const PASSED_OVER: Duration = Duration::from_secs(5);

/// Most damaged blocks of a replica that are remembered.
const DAMAGED_MAX: usize = 1000;

/// All replicas beside the agent's own store.
pub struct Replicas {
	store: EmbeddedStore,
	names: Names,
	members: Vec<Replica>,
	/// How many must hold a snapshot, the store included.
	quorum: usize,
	/// One at a time fetches snapshots back.
	fetching_back: Mutex<()>,
	/// Which is asked first, the next time.
	turn: AtomicUsize,
	cancel: Cancel,
}

/// One of them.
struct Replica {
	name: String,
	kubo: Kubo,
	releases: Releases,
	state: Mutex<State>,
	wake: Notify,
}

/// What is known of it.
#[derive(Default)]
struct State {
	/// Whether it was compared with the store since the agent started.
	is_known: bool,
	/// What it holds, as of the last look.
	held: BTreeSet<Cid>,
	/// Snapshots of the store that it lacks.
	behind: usize,
	/// Whether blocks are missing below pins.
	is_hollow: bool,
	damaged: BTreeSet<Cid>,
	sent_bytes: u64,
	failures: u32,
	error: Option<(u64, String)>,
	last_success_ms: Option<u64>,
	passed_over_until: Option<Instant>,
}

impl Replica {
	fn state(&self) -> MutexGuard<'_, State> {
		self.state.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

impl Replicas {
	/// These daemons, by their names, as replicas of a store. Notes of what they have to let go of
	/// are kept in a folder.
	///
	/// # Errors
	/// If that folder cannot be used.
	pub fn open(
		store: EmbeddedStore,
		identities: &NodeIdentities,
		daemons: Vec<(String, Kubo)>,
		quorum: usize,
		folder: &Path,
	) -> io::Result<Self> {
		let member = |(name, kubo): (String, Kubo)| {
			let releases = Releases::open(folder.join(&name).join("released"))?;
			let (state, wake) = (Mutex::default(), Notify::new());
			Ok(Replica { name, kubo, releases, state, wake })
		};
		Ok(Self {
			store,
			names: Names::of(identities),
			members: daemons.into_iter().map(member).collect::<io::Result<_>>()?,
			quorum,
			fetching_back: Mutex::new(()),
			turn: AtomicUsize::new(0),
			cancel: Cancel::new(),
		})
	}

	/// Whether there is none beside the store.
	pub fn is_empty(&self) -> bool {
		self.members.is_empty()
	}

	/// How many must hold a snapshot until the chain is told of it, the store included.
	pub fn quorum(&self) -> usize {
		self.quorum
	}

	/// Whether so many hold a root that is in the store.
	pub fn has_quorum(&self, root: &Cid) -> bool {
		let holds = |member: &&Replica| member.state().held.contains(root);
		self.quorum <= 1 || 1 + self.members.iter().filter(holds).count() >= self.quorum
	}

	/// Snapshots of the store that fewer hold.
	pub fn below_quorum(&self) -> Result<usize, RepositoryError> {
		if self.quorum <= 1 {
			return Ok(0);
		}
		let pins = self.store.pins()?;
		let wanted = pins.iter().filter(|pin| !is_trial(&pin.label));
		Ok(wanted.filter(|pin| !self.has_quorum(&pin.root)).count())
	}

	/// There is something new: do not wait for the next look.
	pub fn wake(&self) {
		self.members.iter().for_each(|member| member.wake.notify_one());
	}

	/// Have all replicas let go of a root that the store lets go of after this.
	pub(crate) fn release(&self, root: &Cid, lineage: &LineageId) -> io::Result<()> {
		self.members.iter().try_for_each(|member| member.releases.add(root, lineage))?;
		self.wake();
		Ok(())
	}

	/// Whether a replica still has to let go of a root of a lineage.
	pub(crate) fn are_releasing(&self, lineage: &LineageId) -> bool {
		self.members.iter().any(|member| member.releases.has_any_of(lineage))
	}

	/// End what is sent and fetched, for good.
	pub fn stop(&self) {
		self.cancel.cancel();
	}

	/// Keep all replicas as they should be, for ever.
	pub async fn run(self: Arc<Self>) {
		let keep = |place| self.clone().keep(place);
		futures::future::join_all((0..self.members.len()).map(keep)).await;
	}

	async fn keep(self: Arc<Self>, place: usize) {
		loop {
			let this = self.clone();
			let pass = tokio::task::spawn_blocking(move || this.pass(&this.members[place]));
			let result = pass.await.unwrap_or(Err(PassError::Panic));
			if self.cancel.is_cancelled() {
				return;
			}
			let is_failed = result.is_err();
			let wait = self.settle(&self.members[place], result);
			// Whoever failed is not hurried.
			tokio::select! {
				() = self.members[place].wake.notified(), if !is_failed => (),
				() = tokio::time::sleep(wait) => (),
			}
		}
	}

	/// Note how a look ended, and say how long to wait for the next.
	fn settle(&self, member: &Replica, result: Result<(), PassError>) -> Duration {
		let mut state = member.state();
		let Err(error) = result else {
			if state.failures > 0 {
				tracing::info!(target: "replicas", replica = member.name, "the replica is whole again");
			}
			state.failures = 0;
			state.error = None;
			state.last_success_ms = Some(now_ms());
			return CHECK_EVERY;
		};
		let wait = RETRY_AFTER.saturating_mul(1 << state.failures.min(10)).min(RETRY_AFTER_MAX);
		state.failures = state.failures.saturating_add(1);
		let words = error.to_string();
		if state.error.as_ref().is_none_or(|(_, known)| *known != words) {
			tracing::warn!(
				target: "replicas", replica = member.name, url = member.kubo.url(), error = words,
				"the replica is not whole"
			);
		}
		state.error = Some((now_ms(), words));
		// So that replicas which a daemon left at once do not come back at once.
		wait.mul_f64(rand::rng().random_range(0.75..1.25))
	}
}

impl BlockSource for Replicas {
	/// The first sound answer counts. What fails is passed over for a while, and its error told only
	/// if no other one has the block.
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let count = self.members.len();
		let first = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
		let mut failure = None;
		for member in self.members.iter().cycle().skip(first).take(count) {
			let is_passed_over = member.state().passed_over_until;
			if is_passed_over.is_some_and(|until| until > Instant::now()) {
				failure.get_or_insert_with(|| passed_over(&member.name));
				continue;
			}
			match member.kubo.block(cid) {
				Ok(Some(block)) => return Ok(Some(block)),
				Ok(None) => (),
				Err(error) => {
					self.note_unreadable(member, &error);
					failure = Some(error.into());
				}
			}
		}
		failure.map_or(Ok(None), Err)
	}
}

impl Replicas {
	fn note_unreadable(&self, member: &Replica, error: &KuboError) {
		let mut state = member.state();
		match error {
			KuboError::Damaged { cid } => note_damaged(&mut state, *cid),
			_ => state.passed_over_until = Some(Instant::now() + PASSED_OVER),
		}
		tracing::debug!(target: "replicas", replica = member.name, %error, "a block did not come");
	}
}

fn note_damaged(state: &mut State, cid: Cid) {
	if state.damaged.len() < DAMAGED_MAX {
		state.damaged.insert(cid);
	}
}

fn passed_over(name: &str) -> RepositoryError {
	let words = format!("the replica {name} failed a short while ago");
	RepositoryError::Backend { source: Box::new(io::Error::other(words)), can_retry: true }
}

impl fmt::Debug for Replicas {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Replicas").field("replicas", &self.list()).finish_non_exhaustive()
	}
}
