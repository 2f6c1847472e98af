//! Who is served beyond this machine.
//!
//! A request has to show a pass of somebody whom the finalized chain knows with that key: a node
//! with copies to hold or a restore to carry out, an owner of backups, or whom an owner has let in.
//! It may fetch any block whose CID it knows; the chain's readers are trusted with ciphertext, not
//! with each other's keys.

use super::refuse;
use crate::{
	chain::{ChainError, FinalizedChain},
	jobs::now_ms,
	peers::pass::{AnyReader, SharedKey, Shown},
	secret::NodeIdentities,
};
use axum::{
	extract::{Request, State},
	http::{HeaderMap, StatusCode, Uri},
	middleware::Next,
	response::Response,
};
use backup_primitives::Recipient;
use std::{
	collections::HashMap,
	fmt,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// For how long the chain's word about a reader is taken.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// For how long, if it was a no: the next finalized block may let the reader in.
const UNKNOWN_FOR: Duration = Duration::from_secs(3);

/// Most readers of whom it is remembered.
const KNOWN_MAX: usize = 4096;

/// Questions to the chain at once. The rest wait.
const QUESTIONS_MAX: usize = 4;

/// Knows who is let in.
pub struct Access {
	identities: Arc<NodeIdentities>,
	chain: Arc<dyn FinalizedChain>,
	known: Mutex<HashMap<Asking, Known>>,
	questions: Semaphore,
}

/// A reader with its key, and ours.
type Asking = (AnyReader, Recipient, Recipient);

#[derive(Clone, Debug)]
struct Known {
	key: SharedKey,
	is_reader: bool,
	until: Instant,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
	#[error("show who you are: the gateway serves nodes and owners that the chain knows")]
	Nobody,
	#[error("the pass is for another gateway, or for a key that it had before")]
	OtherGateway,
	#[error("the pass is not right, of another time, or for another block")]
	Wrong,
	#[error("the chain knows no such reader with this key")]
	Unknown,
	#[error("the chain cannot be asked now")]
	Chain(#[from] ChainError),
}

impl Refusal {
	fn response(&self) -> Response {
		let (status, words) = match self {
			Self::Nobody => (StatusCode::UNAUTHORIZED, "show a pass"),
			Self::OtherGateway => (StatusCode::UNAUTHORIZED, "the pass is for another gateway"),
			Self::Wrong => (StatusCode::UNAUTHORIZED, "the pass is not right"),
			Self::Unknown => (StatusCode::FORBIDDEN, "the chain knows no such reader"),
			Self::Chain(_) => (StatusCode::SERVICE_UNAVAILABLE, "the chain cannot be asked now"),
		};
		refuse(status, words)
	}
}

impl Access {
	/// Lets those in whom the chain knows, and who prove it to one of these identities.
	pub fn new(identities: Arc<NodeIdentities>, chain: Arc<dyn FinalizedChain>) -> Self {
		Self {
			identities,
			chain,
			known: Mutex::default(),
			questions: Semaphore::new(QUESTIONS_MAX),
		}
	}

	fn known(&self) -> MutexGuard<'_, HashMap<Asking, Known>> {
		self.known.lock().unwrap_or_else(PoisonError::into_inner)
	}

	async fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Refusal> {
		let shown = Shown::read(headers).ok_or(Refusal::Nobody)?;
		let target = uri.path_and_query().map_or("", |target| target.as_str());
		let asking = (shown.reader.clone(), shown.recipient, shown.gateway);
		let known = self.recall(&asking);
		let key = match &known {
			Some(known) => known.key.clone(),
			None => self.agree(&shown)?,
		};
		// Only who has the secret of its key makes us ask or remember anything.
		if !shown.is_right(&key, target, now_ms()) {
			return Err(Refusal::Wrong);
		}
		let is_reader = match known {
			Some(known) => known.is_reader,
			None => self.ask(asking, key).await?,
		};
		if is_reader { Ok(()) } else { Err(Refusal::Unknown) }
	}

	/// What is known of a reader, and still taken for true.
	fn recall(&self, asking: &Asking) -> Option<Known> {
		self.known().get(asking).filter(|known| known.until > Instant::now()).cloned()
	}

	fn agree(&self, shown: &Shown) -> Result<SharedKey, Refusal> {
		let identity = self.identities.of(&shown.gateway).ok_or(Refusal::OtherGateway)?;
		SharedKey::of_gateway(identity, &shown.recipient).ok_or(Refusal::Wrong)
	}

	async fn ask(&self, asking: Asking, key: SharedKey) -> Result<bool, Refusal> {
		let (reader, recipient, _) = &asking;
		let _turn = self.questions.acquire().await;
		// One reader asks for many blocks at once, and its first request has the answer by now.
		if let Some(known) = self.recall(&asking) {
			return Ok(known.is_reader);
		}
		let view = self.chain.finalized().await?;
		let is_reader = view.is_reader(reader, recipient).await?;
		let mut known = self.known();
		if known.len() >= KNOWN_MAX {
			let now = Instant::now();
			known.retain(|_, known| known.until > now);
		}
		if known.len() >= KNOWN_MAX {
			known.clear();
		}
		let known_for = if is_reader { KNOWN_FOR } else { UNKNOWN_FOR };
		known.insert(asking, Known { key, is_reader, until: Instant::now() + known_for });
		Ok(is_reader)
	}
}

/// Lets a request through if its pass is right.
pub(crate) async fn require_pass(
	State(access): State<Arc<Access>>,
	request: Request,
	next: Next,
) -> Response {
	// The request itself cannot wait here: its body is of one thread.
	let (headers, uri) = (request.headers().clone(), request.uri().clone());
	match access.check(&headers, &uri).await {
		Ok(()) => next.run(request).await,
		Err(refusal) => {
			tracing::debug!(%refusal, "a reader is not let in");
			refusal.response()
		}
	}
}

impl fmt::Debug for Access {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Access").field("identities", &self.identities).finish_non_exhaustive()
	}
}
