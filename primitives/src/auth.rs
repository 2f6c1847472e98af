//! How worker and agent know each other: an HMAC over every message.
//!
//! Both sides hold a secret of 32 bytes that never travels. A request carries a nonce, the
//! sender's time and HMAC-SHA256 over these and the body; the answer carries an HMAC over
//! the request's one and its own body. So another program on the agent's port can neither
//! read the secret nor forge an answer, and an old message is of no use.

use alloc::vec::Vec;
use codec::{Decode, Encode};
use core::fmt;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Name of the header with the nonce, 16 bytes in hexadecimal digits.
pub const NONCE_HEADER: &str = "x-backup-nonce";

/// Name of the header with the sender's time, in milliseconds since 1970, decimal.
pub const TIME_HEADER: &str = "x-backup-time";

/// Name of the header with the HMAC of a request or an answer, in hexadecimal digits.
pub const MAC_HEADER: &str = "x-backup-mac";

/// How far the clocks of both sides may differ, in milliseconds. A nonce is remembered for
/// twice as long.
pub const CLOCK_SKEW_MAX_MS: u64 = 60_000;

/// Key in the node's persistent offchain storage under which [`AgentEndpoint`] lies.
pub const ENDPOINT_STORAGE_KEY: &[u8] = b"pallet-backup/agent";

/// Most bytes of the agent's URL.
pub const URL_BYTES_MAX: usize = 256;

/// Where the worker finds its agent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentEndpoint {
	/// Base URL, without a path and a trailing slash, UTF-8, at most [`URL_BYTES_MAX`].
	pub url: Vec<u8>,
	/// The shared secret.
	pub secret: [u8; 32],
}

impl fmt::Debug for AgentEndpoint {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("AgentEndpoint").field("url", &self.url).field("secret", &"***").finish()
	}
}

/// What a request's HMAC covers beside the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
	/// A random value that the sender uses once.
	pub nonce: [u8; 16],
	/// The sender's time, in milliseconds since 1970.
	pub time_ms: u64,
}

/// The HMAC of a request.
pub fn request_mac(secret: &[u8; 32], freshness: &Freshness, body: &[u8]) -> [u8; 32] {
	finish(request(secret, freshness, body))
}

/// Whether a request's HMAC is right. Takes the same time wherever it is wrong.
pub fn request_mac_is_right(
	secret: &[u8; 32],
	freshness: &Freshness,
	body: &[u8],
	mac: &[u8; 32],
) -> bool {
	request(secret, freshness, body).verify_slice(mac).is_ok()
}

/// The HMAC of the answer to the request with the HMAC `request`.
pub fn answer_mac(secret: &[u8; 32], request: &[u8; 32], body: &[u8]) -> [u8; 32] {
	finish(answer(secret, request, body))
}

/// Whether an answer's HMAC is right. Takes the same time wherever it is wrong.
pub fn answer_mac_is_right(
	secret: &[u8; 32],
	request: &[u8; 32],
	body: &[u8],
	mac: &[u8; 32],
) -> bool {
	answer(secret, request, body).verify_slice(mac).is_ok()
}

fn request(secret: &[u8; 32], freshness: &Freshness, body: &[u8]) -> Hmac<Sha256> {
	let mut mac = keyed(secret);
	mac.update(b"pallet-backup/request/v1");
	mac.update(&freshness.nonce);
	mac.update(&freshness.time_ms.to_le_bytes());
	mac.update(body);
	mac
}

fn answer(secret: &[u8; 32], request: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
	let mut mac = keyed(secret);
	mac.update(b"pallet-backup/answer/v1");
	mac.update(request);
	mac.update(body);
	mac
}

fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
	Hmac::new_from_slice(secret).expect("HMAC takes keys of any length; qed")
}

fn finish(mac: Hmac<Sha256>) -> [u8; 32] {
	mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
	use super::*;
	use data_encoding::HEXLOWER;

	const SECRET: [u8; 32] = [1; 32];
	const FRESH: Freshness = Freshness { nonce: [2; 16], time_ms: 3 };

	#[test]
	fn vector_request_and_answer() {
		let request = request_mac(&SECRET, &FRESH, b"body");
		assert_eq!(
			HEXLOWER.encode(&request),
			"3fd9c0b97d4660b6f40a434087cb34fb30972954f00f90c58ab5e494dfe49c6b"
		);
		assert_eq!(
			HEXLOWER.encode(&answer_mac(&SECRET, &request, b"body")),
			"4c0ae7dc6c8847e51489c478b64864690ea1d55ece43672746a9de0521097245"
		);
	}

	#[test]
	fn any_change_is_noticed() {
		let mac = request_mac(&SECRET, &FRESH, b"body");
		assert!(request_mac_is_right(&SECRET, &FRESH, b"body", &mac));
		assert!(!request_mac_is_right(&[9; 32], &FRESH, b"body", &mac));
		assert!(!request_mac_is_right(&SECRET, &Freshness { time_ms: 4, ..FRESH }, b"body", &mac));
		assert!(!request_mac_is_right(
			&SECRET,
			&Freshness { nonce: [9; 16], ..FRESH },
			b"body",
			&mac
		));
		assert!(!request_mac_is_right(&SECRET, &FRESH, b"bodY", &mac));
	}

	#[test]
	fn an_answer_fits_only_its_own_request() {
		let answer = answer_mac(&SECRET, &[4; 32], b"body");
		assert!(answer_mac_is_right(&SECRET, &[4; 32], b"body", &answer));
		assert!(!answer_mac_is_right(&SECRET, &[5; 32], b"body", &answer));
		assert!(!answer_mac_is_right(&SECRET, &[4; 32], b"", &answer));
	}

	#[test]
	fn the_secret_is_not_printed() {
		let endpoint = AgentEndpoint { url: Vec::new(), secret: [0x77; 32] };
		assert!(!alloc::format!("{endpoint:?}").contains("119"));
	}
}
