//! The worker's call: who may speak, and what is answered.

use super::Api;
use crate::{
	jobs::{Ledger, LedgerError, now_ms},
	secret::SharedSecret,
};
use axum::{
	body::Bytes,
	extract::{Request, State},
	http::{HeaderMap, StatusCode},
	middleware::Next,
	response::{IntoResponse, Response},
};
use backup_primitives::{
	auth::{
		CLOCK_SKEW_MAX_MS, Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER, answer_mac,
		request_mac_is_right,
	},
	job::{Achieved, BodyError, Desired, decode_body, encode_body},
};
use std::{
	collections::HashMap,
	fmt,
	mem::{Discriminant, discriminant},
	sync::{Mutex, PoisonError},
	time::Duration,
};

/// How long a call may take, from its headers to the answer.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Most nonces that are remembered. A worker uses one a block.
const NONCES_MAX: usize = 100_000;

/// How often at most the operator is told of one kind of refusal, in milliseconds.
const WARN_EVERY_MS: u64 = 30_000;

/// Knows the shared secret, recent nonces, and the one chain that is served.
pub struct Gatekeeper {
	secret: SharedSecret,
	nonces: Mutex<HashMap<[u8; 16], u64>>,
	chain: Mutex<Option<[u8; 32]>>,
	ledger: Ledger,
	/// When the operator was last told of each kind of refusal. A stranger's calls must not
	/// hide why the worker's own are refused.
	warned_at_ms: Mutex<HashMap<Discriminant<Refusal>, u64>>,
}

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
	#[error("the call carries no or malformed headers for authentication")]
	Headers,
	#[error("the clocks of node and agent differ by more than {CLOCK_SKEW_MAX_MS} ms; set them")]
	Clock,
	#[error("the secrets of node and agent differ; give both the same secret file")]
	Secret,
	#[error("the same call came twice")]
	Replay,
	#[error("too many calls came within two minutes")]
	Flood,
	#[error(transparent)]
	Body(#[from] BodyError),
	#[error(
		"the node is of the chain {offered}, this agent serves {served}; give each chain an agent and a state folder of its own"
	)]
	OtherChain { offered: String, served: String },
	#[error(transparent)]
	Ledger(#[from] LedgerError),
}

impl Refusal {
	pub(super) fn status(&self) -> StatusCode {
		match self {
			Self::Headers | Self::Clock | Self::Secret | Self::Replay | Self::Flood => {
				StatusCode::UNAUTHORIZED
			}
			Self::Body(_) => StatusCode::BAD_REQUEST,
			Self::OtherChain { .. } => StatusCode::CONFLICT,
			Self::Ledger(_) => StatusCode::INTERNAL_SERVER_ERROR,
		}
	}
}

/// Ends calls whose sender does not come to an end.
pub(super) async fn within_time(call: Request, next: Next) -> Response {
	let answer = tokio::time::timeout(CALL_TIME_MAX, next.run(call)).await;
	answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// The handler of `POST /v1/reconcile`.
pub(super) async fn reconcile(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
	match api.gatekeeper.admit(&headers, &body, now_ms()) {
		Ok((desired, mac)) => answer(&api, desired, mac).await,
		Err(refusal) => {
			api.gatekeeper.warn(&refusal);
			// Strangers learn nothing but the status.
			refusal.status().into_response()
		}
	}
}

async fn answer(api: &Api, desired: Desired, mac: [u8; 32]) -> Response {
	let (jobs, copies) = (api.jobs.clone(), api.copies.clone());
	let achieved = tokio::task::spawn_blocking(move || {
		let copies = copies.map(|copies| copies.reconcile(&desired)).unwrap_or_default();
		Achieved { copies, ..jobs.reconcile(&desired) }
	});
	let achieved = achieved.await;
	let Ok(achieved) = achieved else {
		return StatusCode::INTERNAL_SERVER_ERROR.into_response();
	};
	let body = encode_body(&achieved);
	let mac = hex::encode(answer_mac(api.gatekeeper.secret.expose(), &mac, &body));
	([(MAC_HEADER, mac)], body).into_response()
}

impl Gatekeeper {
	/// Guard with this secret. The ledger remembers which chain is served.
	pub fn new(secret: SharedSecret, ledger: &Ledger) -> Result<Self, LedgerError> {
		let known = ledger.known_genesis()?;
		Ok(Self {
			secret,
			nonces: Mutex::default(),
			chain: Mutex::new(known),
			ledger: ledger.clone(),
			warned_at_ms: Mutex::default(),
		})
	}

	/// The genesis hash of the chain that is served, once it is known.
	pub fn genesis(&self) -> Option<[u8; 32]> {
		*self.chain.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Check a call, cheapest first, and read it.
	fn admit(
		&self,
		headers: &HeaderMap,
		body: &[u8],
		now_ms: u64,
	) -> Result<(Desired, [u8; 32]), Refusal> {
		let mac = self.authenticate(headers, body, now_ms)?;
		let desired: Desired = decode_body(body)?;
		self.check_chain(desired.genesis)?;
		Ok((desired, mac))
	}

	/// Check that a call comes from somebody who has the secret, is of now and not a repetition.
	pub(super) fn authenticate(
		&self,
		headers: &HeaderMap,
		body: &[u8],
		now_ms: u64,
	) -> Result<[u8; 32], Refusal> {
		let nonce: [u8; 16] = hex_header(headers, NONCE_HEADER).ok_or(Refusal::Headers)?;
		let mac: [u8; 32] = hex_header(headers, MAC_HEADER).ok_or(Refusal::Headers)?;
		let time_ms = headers.get(TIME_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
		let time_ms: u64 = time_ms.ok_or(Refusal::Headers)?;
		let freshness = Freshness { nonce, time_ms };
		if !request_mac_is_right(self.secret.expose(), &freshness, body, &mac) {
			return Err(Refusal::Secret);
		}
		if now_ms.abs_diff(time_ms) > CLOCK_SKEW_MAX_MS {
			return Err(Refusal::Clock);
		}
		self.use_nonce(nonce, now_ms)?;
		Ok(mac)
	}

	/// Remember a nonce for as long as its call could be sent again.
	fn use_nonce(&self, nonce: [u8; 16], now_ms: u64) -> Result<(), Refusal> {
		let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
		nonces.retain(|_, at| now_ms.saturating_sub(*at) <= 2 * CLOCK_SKEW_MAX_MS);
		if nonces.len() >= NONCES_MAX {
			return Err(Refusal::Flood);
		}
		match nonces.insert(nonce, now_ms) {
			None => Ok(()),
			Some(_) => Err(Refusal::Replay),
		}
	}

	fn check_chain(&self, offered: [u8; 32]) -> Result<(), Refusal> {
		let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
		let served = match *chain {
			Some(served) => served,
			None => *chain.insert(self.ledger.genesis(offered)?),
		};
		match served == offered {
			true => Ok(()),
			false => Err(Refusal::OtherChain {
				offered: hex::encode(offered),
				served: hex::encode(served),
			}),
		}
	}

	/// Tell the operator, but not every time.
	pub(super) fn warn(&self, refusal: &Refusal) {
		let now = now_ms();
		let mut warned = self.warned_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
		let last = warned.entry(discriminant(refusal)).or_insert(0);
		if now.saturating_sub(*last) >= WARN_EVERY_MS {
			*last = now;
			tracing::warn!(%refusal, "a call was refused");
		}
	}
}

fn hex_header<const N: usize>(headers: &HeaderMap, name: &str) -> Option<[u8; N]> {
	let mut bytes = [0; N];
	hex::decode_to_slice(headers.get(name)?.as_bytes(), &mut bytes).ok()?;
	Some(bytes)
}

impl fmt::Debug for Gatekeeper {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Gatekeeper").field("secret", &self.secret).finish_non_exhaustive()
	}
}
