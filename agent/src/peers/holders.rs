//! Who has the blocks of a request, as the chain said last.
//!
//! Holders come and go while a machine fills in, so the chain is asked again now and then. Whoever
//! needs a block meanwhile goes on with those that were known, and does so too when the chain does
//! not answer: that says nothing about them. Only who has never heard of any waits.

use super::{Elsewhere, Peers};
use crate::{pipeline::Cancel, repositories::RepositoryError};
use backup_primitives::OpaqueId;
use std::{
	fmt, io,
	sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
	thread,
	time::{Duration, Instant},
};

/// For how long the chain's word is taken.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// For how long, if it was that nobody has the blocks, and how long it is gone on with an old one
/// after that.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How soon the chain is asked again that could not say who has them.
const UNKNOWN_FOR: Duration = Duration::from_secs(2);

/// How soon who waits sees that it is to stop.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Those who have the blocks of a request.
pub(super) struct Holders {
	elsewhere: Elsewhere,
	node: OpaqueId,
	request: OpaqueId,
	cancel: Cancel,
	/// How long it is waited for them.
	patience: Duration,
	/// What is known. Held for a moment only.
	found: Mutex<Found>,
	/// Told when something is.
	said: Condvar,
}

#[derive(Default)]
struct Found {
	peers: Option<Arc<Peers>>,
	/// Why they are not known.
	failure: Option<String>,
	/// Until when that is taken for true.
	until: Option<Instant>,
	/// Whether the chain is being asked because nothing is known.
	is_asked: bool,
}

impl Found {
	fn is_fresh(&self) -> bool {
		self.until.is_some_and(|until| until > Instant::now())
	}

	/// Who can be asked, even if others have come since.
	fn somebody(&self) -> Option<&Arc<Peers>> {
		self.peers.as_ref().filter(|peers| !peers.is_empty())
	}
}

impl Holders {
	/// Nobody is looked for yet.
	pub(super) fn new(
		elsewhere: &Elsewhere,
		node: &OpaqueId,
		request: &OpaqueId,
		cancel: &Cancel,
		patience: Duration,
	) -> Self {
		Self {
			elsewhere: elsewhere.clone(),
			node: node.clone(),
			request: request.clone(),
			cancel: cancel.clone(),
			patience,
			found: Mutex::default(),
			said: Condvar::new(),
		}
	}

	/// The same, to be looked for anew and waited for so long.
	pub(super) fn with_patience(&self, patience: Duration) -> Self {
		Self::new(&self.elsewhere, &self.node, &self.request, &self.cancel, patience)
	}

	pub(super) fn elsewhere(&self) -> &Elsewhere {
		&self.elsewhere
	}

	pub(super) fn cancel(&self) -> &Cancel {
		&self.cancel
	}

	pub(super) fn patience(&self) -> Duration {
		self.patience
	}

	fn found(&self) -> MutexGuard<'_, Found> {
		self.found.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Whether somebody can be asked at once.
	pub(super) fn are_known(&self) -> bool {
		self.found().somebody().is_some()
	}

	/// Whether it is known that there is nobody.
	pub(super) fn are_none(&self) -> bool {
		let found = self.found();
		found.is_fresh() && found.peers.as_ref().is_some_and(|peers| peers.is_empty())
	}

	/// Whether one of them can be asked again before then, for all that is known.
	pub(super) fn are_back_by(&self, end: Instant) -> bool {
		self.found().somebody().is_none_or(|peers| peers.are_back_by(end))
	}

	/// Who they are. Waits for the chain's word if there is none, until a time.
	///
	/// # Errors
	/// If the chain never said and does not answer now, which may pass.
	pub(super) fn peers(self: &Arc<Self>, end: Instant) -> Result<Arc<Peers>, RepositoryError> {
		if let Some(peers) = self.known() {
			return Ok(peers);
		}
		self.look_beside();
		let mut found = self.found();
		while !found.is_fresh() && !self.cancel.is_cancelled() {
			let left = end.saturating_duration_since(Instant::now()).min(CANCEL_POLL);
			if left.is_zero() {
				break;
			}
			let waited = self.said.wait_timeout(found, left);
			found = waited.unwrap_or_else(PoisonError::into_inner).0;
		}
		found.peers.clone().ok_or_else(|| unknown(found.failure.as_deref()))
	}

	/// What needs no waiting. If it is old, the chain is asked beside.
	fn known(self: &Arc<Self>) -> Option<Arc<Peers>> {
		let mut found = self.found();
		if found.is_fresh() {
			return found.peers.clone();
		}
		let peers = found.somebody()?.clone();
		// Whoever comes next leaves it at that.
		found.until = Some(Instant::now() + AGAIN_AFTER);
		drop(found);
		let holders = Arc::clone(self);
		// They were let in before.
		in_background(move || holders.ask(Duration::ZERO));
		Some(peers)
	}

	/// Have the chain asked while others serve, unless it is or has been.
	pub(super) fn look_beside(self: &Arc<Self>) {
		{
			let mut found = self.found();
			if found.is_fresh() || found.is_asked {
				return;
			}
			found.is_asked = true;
		}
		let holders = Arc::clone(self);
		if !in_background(move || holders.ask(holders.patience)) {
			// Whoever comes next tries again.
			self.found().is_asked = false;
		}
	}

	fn ask(&self, patience: Duration) {
		let Self { elsewhere, node, request, cancel, .. } = self;
		let said = elsewhere.peers_within(patience, node, request, cancel);
		let now = Instant::now();
		let mut found = self.found();
		*found = match said {
			Ok(peers) => {
				let known_for = if peers.is_empty() { AGAIN_AFTER } else { KNOWN_FOR };
				let peers = Some(Arc::new(peers));
				Found { peers, failure: None, until: Some(now + known_for), is_asked: false }
			}
			Err(error) => {
				// Said once, not each time that the same is tried again.
				if found.failure.is_none() {
					tracing::warn!(%error, "the chain cannot say where blocks are that are missing here");
				}
				let peers = found.peers.take();
				let known_for = if peers.is_some() { AGAIN_AFTER } else { UNKNOWN_FOR };
				let failure = Some(error.to_string());
				Found { peers, failure, until: Some(now + known_for), is_asked: false }
			}
		};
		drop(found);
		self.said.notify_all();
	}
}

/// Says whether there is a thread for it.
fn in_background(work: impl FnOnce() + Send + 'static) -> bool {
	thread::Builder::new().name("find-peers".to_owned()).spawn(work).is_ok()
}

fn unknown(why: Option<&str>) -> RepositoryError {
	let source = io::Error::other(why.unwrap_or("the chain has not said").to_owned());
	RepositoryError::Io { action: "find who else has the block", source }
}

impl fmt::Debug for Holders {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Holders").field("request", &self.request).finish_non_exhaustive()
	}
}

#[cfg(test)]
impl Holders {
	/// As if all that is known had been said long ago.
	pub(super) fn age(&self) {
		self.found().until = None;
	}
}
