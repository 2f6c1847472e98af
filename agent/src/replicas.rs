//! Replicas of the agent's store at Kubo daemons.
//!
//! The agent's own store comes first: what it pins is what replicas should hold.
//! 1. Each replica is compared with it once a minute, and as soon as there is a new snapshot. What
//!    it lacks is sent, the newest snapshot first, and of each no more than what differs from one
//!    that it has. A pin that is gone, for whatever reason, is so made good. What is taken meanwhile
//!    goes before all that is old.
//! 2. At each look some blocks are fetched and hashed, by chance and in turn (module `rounds`). One that is missing makes the whole replica
//!    be gone through block by block; one that is damaged is told of and, if it still is at the next
//!    look, replaced by a sound one (module `mend`).
//! 3. Each agent pins blocks of its own (module `hold`). Pins of others are never touched, nor relied on.
//! 4. What was given up here is unpinned there. A replica keeps what was not given up, though it be
//!    missing here: if the finalized chain wants it here, it is fetched back.
//! 5. With a quorum, a snapshot is told to the chain once so many replicas hold it, this store
//!    included. Nothing is lost meanwhile: it is in the store, and it is gone on with after a start.
//! 6. A daemon that fails is tried again after 2 seconds and up to 5 minutes, give or take a
//!    quarter, and keeps no other from anything.
//!
//! Whoever reads asks all daemons in turn and believes none: each block is hashed.

mod fetch_back;
mod fill;
mod hold;
mod listing;
mod mend;
mod names;
mod notes;
mod pass;
mod read;
mod rounds;
mod send;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub use view::ReplicaView;

use crate::{
	chain::FinalizedChain,
	jobs::{HeldRoot, now_ms},
	pipeline::Cancel,
	repositories::{EmbeddedStore, Kubo, Repository, RepositoryError, is_trial},
	secret::NodeIdentities,
};
use backup_primitives::{Cid, LineageId, OpaqueId};
use codec::Encode;
use fetch_back::FetchingBack;
use names::{Names, Series};
use notes::Notes;
use pass::PassError;
use rand::Rng;
use state::State;
use std::{
	collections::BTreeMap,
	fmt, io,
	path::Path,
	sync::{
		Arc, Mutex, MutexGuard, OnceLock, PoisonError,
		atomic::{AtomicU64, AtomicUsize, Ordering},
	},
	time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Notify};

/// Most daemons.
pub const REPLICAS_MAX: usize = 8;

/// How often a replica is compared with the store without a reason.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// How long after a failure the next try is made; twice as long each further time.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long after the agent's start nothing is collected at most, so that what an earlier run had
/// fetched back is gone on with.
const TAKE_UP_TIME_MAX: Duration = Duration::from_secs(900);

/// Says for which nodes workers speak here, once that is known.
type Nodes = Box<dyn Fn() -> Option<Vec<OpaqueId>> + Send + Sync>;

/// All replicas beside the agent's own store.
pub struct Replicas {
	store: EmbeddedStore,
	names: Names,
	members: Vec<Replica>,
	/// How many must hold a snapshot, the store included.
	quorum: usize,
	/// Says of what is not here whether it is to come back, on the runtime of this handle.
	chain: Arc<dyn FinalizedChain>,
	handle: Handle,
	nodes: OnceLock<Nodes>,
	/// One at a time gives roots up, or looks which were: between the note and the store's own pin
	/// nobody takes a root for one that is wanted again.
	giving_up: Mutex<()>,
	/// One at a time fetches snapshots back.
	fetching_back: Mutex<FetchingBack>,
	/// Which is asked first, the next time.
	turn: AtomicUsize,
	cancel: Cancel,
	began: Instant,
}

/// One of them.
struct Replica {
	name: String,
	kubo: Kubo,
	/// Roots that it has to let go of.
	releases: Notes,
	/// Batches that are on their way to it, until their pins have names.
	imports: Notes,
	state: Mutex<State>,
	wake: Notify,
	/// How often there was something new, and how often as far as this look has taken account of it.
	news: AtomicU64,
	seen: AtomicU64,
}

impl Replica {
	fn state(&self) -> MutexGuard<'_, State> {
		lock(&self.state)
	}

	/// Whether something new came since it was noted.
	fn has_news(&self) -> bool {
		self.news.load(Ordering::Acquire) != self.seen.load(Ordering::Relaxed)
	}

	/// Account is taken of all that is new.
	fn note_news(&self) {
		self.seen.store(self.news.load(Ordering::Acquire), Ordering::Relaxed);
	}
}

impl Replicas {
	/// These daemons, by their names, as replicas of a store. Notes of what they have to let go of and
	/// of what is on its way to them are kept in a folder. The chain is asked on the runtime of a handle.
	///
	/// # Errors
	/// If that folder cannot be used.
	pub fn open(
		store: EmbeddedStore,
		identities: &NodeIdentities,
		daemons: Vec<(String, Kubo)>,
		quorum: usize,
		folder: &Path,
		chain: Arc<dyn FinalizedChain>,
		handle: Handle,
	) -> io::Result<Self> {
		let member = |(name, kubo): (String, Kubo)| {
			let notes = |kind| Notes::open(folder.join(&name).join(kind));
			let (releases, imports) = (notes("released")?, notes("imports")?);
			let (state, wake) = (Mutex::default(), Notify::new());
			let (news, seen) = (AtomicU64::new(0), AtomicU64::new(0));
			Ok(Replica { name, kubo, releases, imports, state, wake, news, seen })
		};
		Ok(Self {
			store,
			names: Names::of(identities),
			members: daemons.into_iter().map(member).collect::<io::Result<_>>()?,
			quorum,
			chain,
			handle,
			nodes: OnceLock::new(),
			giving_up: Mutex::default(),
			fetching_back: Mutex::default(),
			turn: AtomicUsize::new(0),
			cancel: Cancel::new(),
			began: Instant::now(),
		})
	}

	/// Learn from this, once it is known, for which nodes workers speak here. Before that nothing is
	/// fetched back: only what one of them sealed or has to keep is theirs.
	pub fn speak_for(&self, nodes: impl Fn() -> Option<Vec<OpaqueId>> + Send + Sync + 'static) {
		// Whoever comes second has nothing else to say.
		let _ = self.nodes.set(Box::new(nodes));
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
		let holds = |member: &&Replica| member.state().held.contains_key(root);
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

	/// There is something new: do not wait for the next look, and let it go first.
	pub fn wake(&self) {
		for member in &self.members {
			member.news.fetch_add(1, Ordering::Release);
			member.wake.notify_one();
		}
	}

	/// Let go of a root, here at once and at all replicas as soon as they can be reached.
	///
	/// First it is noted: what is noted and pinned all the same stays, what is neither comes back.
	///
	/// A root that is not here, or is by now for something else, goes only from where a pin's name says
	/// the very same of it: whoever reaches one daemon can pin under our name there, and must not
	/// take anything from the others.
	pub(crate) fn give_up(&self, root: &HeldRoot) -> Result<(), RepositoryError> {
		let turn = lock(&self.giving_up);
		let series = Series { lineage: root.lineage.clone(), copy_for: root.copy_for.clone() };
		let is_here = self.is_pinned_as(&root.cid, &series)?;
		let claims = |member: &&Replica| is_here || member.state().claims(&root.cid, &series);
		let noted = self
			.members
			.iter()
			.filter(claims)
			.try_for_each(|member| member.releases.add(&root.cid, Some(&root.lineage)));
		noted.map_err(RepositoryError::io("note what replicas have to let go of"))?;
		if is_here {
			self.store.unpin(&root.cid)?;
		}
		drop(turn);
		self.wake();
		Ok(())
	}

	/// Whether the store pins a root, and for that series.
	fn is_pinned_as(&self, root: &Cid, series: &Series) -> Result<bool, RepositoryError> {
		if !self.store.is_pinned(root) {
			return Ok(false);
		}
		let pins = self.store.pins()?;
		let label = pins.iter().find(|pin| pin.root == *root).map(|pin| &pin.label);
		let found = label.and_then(|label| names::series(&names::place(label).0));
		Ok(found.as_ref() == Some(series))
	}

	/// Whether a replica may still hold something of a lineage that the store does not: it has to let
	/// go of it, it was sent blocks of which nobody knows whether it took them, or it is not known yet
	/// what it holds.
	pub(crate) fn may_hold(&self, lineage: &LineageId) -> bool {
		let may = |member: &Replica| {
			member.releases.has_any_of(lineage)
				|| member.imports.has_any_of(lineage)
				|| member.state().may_hold(lineage)
		};
		self.members.iter().any(may)
	}

	/// Roots of ours that replicas hold and the store does not, as of the last looks. They are given up
	/// like those that are here, and else fetched back. One comes as often as pins say different things
	/// of it.
	pub(crate) fn roots_elsewhere(&self) -> Vec<HeldRoot> {
		let mut roots = BTreeMap::new();
		for member in &self.members {
			let state = member.state();
			let said = |root: &HeldRoot| (root.cid, (&root.lineage, &root.copy_for).encode());
			roots.extend(state.roots_elsewhere().map(|root| (said(&root), root)));
		}
		roots.into_values().filter(|root| !self.store.is_pinned(&root.cid)).collect()
	}

	/// Whether blocks may lie here that an earlier run of the agent had fetched back, of which no root
	/// is pinned, and with which this run has not gone on yet.
	pub(crate) fn are_unfinished(&self) -> bool {
		let is_waiting = |member: &Replica| !member.state().is_taken_up;
		self.began.elapsed() < TAKE_UP_TIME_MAX && self.members.iter().any(is_waiting)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Replicas {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Replicas").field("replicas", &self.list()).finish_non_exhaustive()
	}
}
