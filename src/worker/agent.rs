//! The one call to the agent: bounded in time and size, authenticated both ways.

use alloc::vec::Vec;
use backup_primitives::{
	auth::{
		AgentEndpoint, ENDPOINT_STORAGE_KEY, Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER,
		answer_mac_is_right, request_mac,
	},
	job::{Achieved, BODY_BYTES_MAX, Desired, RECONCILE_PATH, decode_body, encode_body},
};
use core::fmt;
use sp_core::{bytes::to_hex, offchain::Duration};
use sp_runtime::offchain::{http, storage::StorageValueRef};

/// Time for the whole call, in milliseconds. Workers of all pallets run one after the
/// other, so what this one takes is missing elsewhere.
const CALL_TIME_MAX_MS: u64 = 2_000;

/// Why the agent's answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
	/// The agent's address is not text.
	Address,
	/// Nobody listens there, or the call could not be made.
	Unreachable,
	/// The answer was not there in time.
	Late,
	/// The answer is not a success. 401 means that the shared secrets differ, 409 that the
	/// agent serves another chain.
	Status(u16),
	/// The answer is longer than any that the protocol allows.
	TooLong,
	/// The answer is not authenticated: another program listens there, or the secrets
	/// differ.
	NotTheAgent,
	/// The answer is authentic and cannot be read: another version of the protocol.
	Unreadable,
}

impl fmt::Display for ExchangeError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Address => f.write_str("its address is not text; check --backup-agent-url"),
			Self::Unreachable => {
				f.write_str("nobody answers at its address, or not in HTTP; is it running there?")
			}
			Self::Late => write!(f, "no complete answer within {CALL_TIME_MAX_MS} ms"),
			Self::Status(401) => f.write_str(
				"it refused our secret; both sides must have the same secret file and time",
			),
			Self::Status(409) => f.write_str("it serves another chain; check its node and state"),
			Self::Status(code) => write!(f, "it answered with HTTP status {code}"),
			Self::TooLong => write!(f, "its answer is longer than {BODY_BYTES_MAX} bytes"),
			Self::NotTheAgent => f.write_str(
				"the answer is not signed with our secret; another program may use its port",
			),
			Self::Unreadable => f.write_str("it speaks another version of the protocol"),
		}
	}
}

/// A way to the agent.
pub(crate) struct Exchange {
	endpoint: AgentEndpoint,
}

impl Exchange {
	/// The agent that this node was started with, if any.
	pub(crate) fn open() -> Option<Self> {
		let stored = StorageValueRef::persistent(ENDPOINT_STORAGE_KEY).get::<AgentEndpoint>();
		Some(Self { endpoint: stored.ok()?? })
	}

	/// Tell the agent what should exist, and learn what it achieved.
	pub(crate) fn reconcile(&self, desired: &Desired) -> Result<Achieved, ExchangeError> {
		let url = core::str::from_utf8(&self.endpoint.url).map_err(|_| ExchangeError::Address)?;
		let url = alloc::format!("{url}{RECONCILE_PATH}");
		let body = encode_body(desired);
		let seed = sp_io::offchain::random_seed();
		let mut nonce = [0; 16];
		nonce.copy_from_slice(&seed[..16]);
		let now = sp_io::offchain::timestamp();
		let freshness = Freshness { nonce, time_ms: now.unix_millis() };
		let mac = request_mac(&self.endpoint.secret, &freshness, &body);

		let deadline = now.add(Duration::from_millis(CALL_TIME_MAX_MS));
		let pending = http::Request::post(&url, alloc::vec![&body])
			.add_header("content-type", "application/octet-stream")
			.add_header("content-length", &alloc::format!("{}", body.len()))
			.add_header(NONCE_HEADER, bare_hex(&nonce).as_str())
			.add_header(TIME_HEADER, &alloc::format!("{}", freshness.time_ms))
			.add_header(MAC_HEADER, bare_hex(&mac).as_str())
			.deadline(deadline)
			.send()
			.map_err(|_| ExchangeError::Unreachable)?;
		let mut response = pending
			.try_wait(deadline)
			.map_err(|_| ExchangeError::Late)?
			.map_err(|_| ExchangeError::Unreachable)?;
		if response.code != 200 {
			return Err(ExchangeError::Status(response.code));
		}
		let stated = response.headers().find(MAC_HEADER).and_then(parse_mac);
		let mut answer = response.body();
		answer.deadline(deadline);
		let answer = read_bounded(&mut answer)?;
		let is_authentic =
			stated.is_some_and(|m| answer_mac_is_right(&self.endpoint.secret, &mac, &answer, &m));
		match is_authentic {
			true => decode_body(&answer).map_err(|_| ExchangeError::Unreadable),
			false => Err(ExchangeError::NotTheAgent),
		}
	}
}

/// Read a body that is no longer than the protocol allows.
fn read_bounded(body: &mut http::ResponseBody) -> Result<Vec<u8>, ExchangeError> {
	let bytes: Vec<u8> = body.by_ref().take(BODY_BYTES_MAX + 1).collect();
	if bytes.len() > BODY_BYTES_MAX {
		return Err(ExchangeError::TooLong);
	}
	match body.error() {
		Some(_) => Err(ExchangeError::Late),
		None => Ok(bytes),
	}
}

fn bare_hex(bytes: &[u8]) -> alloc::string::String {
	to_hex(bytes, false).split_off(2)
}

fn parse_mac(text: &str) -> Option<[u8; 32]> {
	sp_core::bytes::from_hex(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
	use super::{ExchangeError, ExchangeError::*};

	#[test]
	fn each_reason_says_what_an_operator_can_look_at() {
		let said = |error: ExchangeError| alloc::string::ToString::to_string(&error);
		for (error, part) in [
			(Address, "--backup-agent-url"),
			(Unreachable, "is it running"),
			(Late, "2000 ms"),
			(Status(401), "secret"),
			(Status(409), "another chain"),
			(Status(503), "503"),
			(TooLong, "longer than"),
			(NotTheAgent, "another program"),
			(Unreadable, "another version"),
		] {
			let text = said(error);
			assert!(text.contains(part), "{text}");
		}
	}
}
