//! Proof of who asks for blocks, with the keys that the chain knows.
//!
//! Every node and every owner of backups has an X25519 key pair whose public half stands on chain:
//! what backups are sealed to. So has whom an owner has let in with a key. Reader and gateway agree on a secret that only these two can compute
//! (<https://www.rfc-editor.org/rfc/rfc7748>), and the request carries an HMAC under it:
//!
//! ```text
//! x-backup-reader:    node:HEX or owner:HEX, the reader's id on chain; or grantee:HEX, the request
//!                     whose owner has let it in
//! x-backup-recipient: age1…, the reader's public key
//! x-backup-gateway:   age1…, the gateway's public key
//! x-backup-time, x-backup-nonce, x-backup-mac: as in calls of the worker
//!
//! secret = BLAKE3 derive_key("pallet-backup v1 gateway pass", X25519 | reader | gateway)
//! mac    = HMAC over reader, newline, path and query
//! ```
//!
//! A reader takes the gateway's key from the chain and not from the gateway, so what it proves to
//! one is of no use at another. Whoever listens in can send the same request again for a minute,
//! and gets the same sealed bytes that it has just seen.

use crate::secret::recipient_of;
use age::{secrecy::ExposeSecret, x25519::Identity};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use axum::http::HeaderMap;
use backup_primitives::{
	OpaqueId, Reader, Recipient,
	auth::{
		CLOCK_SKEW_MAX_MS, Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER, request_mac,
		request_mac_is_right,
	},
};
use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use std::fmt;
use zeroize::Zeroizing;

/// Name of the header with the reader's id.
pub const READER_HEADER: &str = "x-backup-reader";

/// Name of the header with the reader's public key.
pub const RECIPIENT_HEADER: &str = "x-backup-recipient";

/// Name of the header with the gateway's public key.
pub const GATEWAY_HEADER: &str = "x-backup-gateway";

const CONTEXT: &str = "pallet-backup v1 gateway pass";

/// How secret keys begin as text.
const IDENTITY_HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");

/// A reader, by the bytes of its id.
pub type AnyReader = Reader<OpaqueId, OpaqueId, OpaqueId>;

/// What two key pairs agree on.
#[derive(Clone)]
pub struct SharedKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for SharedKey {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("***")
	}
}

impl SharedKey {
	/// What a reader computes. Nothing if the gateway's key is none that can be agreed with.
	pub fn of_reader(identity: &Identity, gateway: &Recipient) -> Option<Self> {
		Self::agreed(identity, gateway, &recipient_of(identity), gateway)
	}

	/// What the gateway computes.
	pub fn of_gateway(identity: &Identity, reader: &Recipient) -> Option<Self> {
		Self::agreed(identity, reader, reader, &recipient_of(identity))
	}

	fn agreed(
		identity: &Identity,
		other: &Recipient,
		reader: &Recipient,
		gateway: &Recipient,
	) -> Option<Self> {
		let own = PrivateKey::from_private_key(&X25519, secret_bytes(identity)?.as_ref()).ok()?;
		agree(&own, UnparsedPublicKey::new(&X25519, other.0), (), |point| {
			let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
			hasher.update(point).update(&reader.0).update(&gateway.0);
			Ok(Self(Zeroizing::new(*hasher.finalize().as_bytes())))
		})
		.ok()
	}
}

/// The scalar, which age hands out as text only.
fn secret_bytes(identity: &Identity) -> Option<Zeroizing<[u8; 32]>> {
	let text = identity.to_string();
	let parsed = CheckedHrpstring::new::<Bech32>(text.expose_secret()).ok()?;
	if parsed.hrp() != IDENTITY_HRP {
		return None;
	}
	let mut bytes = Zeroizing::new([0; 32]);
	let mut found = parsed.byte_iter();
	for byte in bytes.iter_mut() {
		*byte = found.next()?;
	}
	found.next().is_none().then_some(bytes)
}

/// What a reader shows one gateway.
#[derive(Clone, Debug)]
pub struct Pass {
	reader: String,
	recipient: Recipient,
	gateway: Recipient,
	key: SharedKey,
}

impl Pass {
	/// A pass for the gateway with a public key. Nothing if that is none.
	pub fn new(reader: &AnyReader, identity: &Identity, gateway: &Recipient) -> Option<Self> {
		let key = SharedKey::of_reader(identity, gateway)?;
		let recipient = recipient_of(identity);
		Some(Self { reader: reader_text(reader), recipient, gateway: *gateway, key })
	}

	/// The headers of a request for a path with its query.
	///
	/// # Panics
	/// If the operating system has no randomness to give.
	pub fn headers(&self, target: &str, now_ms: u64) -> [(&'static str, String); 6] {
		let mut nonce = [0; 16];
		aws_lc_rs::rand::fill(&mut nonce).expect("the operating system gives random bytes");
		let freshness = Freshness { nonce, time_ms: now_ms };
		let mac = request_mac(&self.key.0, &freshness, &covered(&self.reader, target));
		[
			(READER_HEADER, self.reader.clone()),
			(RECIPIENT_HEADER, self.recipient.to_string()),
			(GATEWAY_HEADER, self.gateway.to_string()),
			(NONCE_HEADER, hex::encode(nonce)),
			(TIME_HEADER, now_ms.to_string()),
			(MAC_HEADER, hex::encode(mac)),
		]
	}
}

/// What a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
	/// Who it says it is of.
	pub reader: AnyReader,
	/// That one's public key.
	pub recipient: Recipient,
	/// Whom it is shown to.
	pub gateway: Recipient,
	freshness: Freshness,
	mac: [u8; 32],
}

impl Shown {
	/// Reads the headers of a request. Nothing if one is missing or malformed.
	pub fn read(headers: &HeaderMap) -> Option<Self> {
		let text = |name| headers.get(name)?.to_str().ok();
		let (mut nonce, mut mac) = ([0; 16], [0; 32]);
		hex::decode_to_slice(text(NONCE_HEADER)?, &mut nonce).ok()?;
		hex::decode_to_slice(text(MAC_HEADER)?, &mut mac).ok()?;
		Some(Self {
			reader: parse_reader(text(READER_HEADER)?)?,
			recipient: text(RECIPIENT_HEADER)?.parse().ok()?,
			gateway: text(GATEWAY_HEADER)?.parse().ok()?,
			freshness: Freshness { nonce, time_ms: text(TIME_HEADER)?.parse().ok()? },
			mac,
		})
	}

	/// Whether it was made with this key, for this target, and now.
	pub fn is_right(&self, key: &SharedKey, target: &str, now_ms: u64) -> bool {
		let covered = covered(&reader_text(&self.reader), target);
		now_ms.abs_diff(self.freshness.time_ms) <= CLOCK_SKEW_MAX_MS
			&& request_mac_is_right(&key.0, &self.freshness, &covered, &self.mac)
	}
}

fn covered(reader: &str, target: &str) -> Vec<u8> {
	format!("{reader}\n{target}").into_bytes()
}

fn reader_text(reader: &AnyReader) -> String {
	match reader {
		Reader::Node(id) => format!("node:{}", hex::encode(id.as_bytes())),
		Reader::Owner(id) => format!("owner:{}", hex::encode(id.as_bytes())),
		Reader::Grantee(request) => format!("grantee:{}", hex::encode(request.as_bytes())),
	}
}

fn parse_reader(text: &str) -> Option<AnyReader> {
	let (kind, id) = text.split_once(':')?;
	let id = OpaqueId::from_bytes(hex::decode(id).ok()?).ok()?;
	match kind {
		"node" => Some(Reader::Node(id)),
		"owner" => Some(Reader::Owner(id)),
		"grantee" => Some(Reader::Grantee(id)),
		_ => None,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const NOW: u64 = 1_000_000;
	const TARGET: &str = "/ipfs/bafy?format=raw";

	fn identity(seed: u8) -> Identity {
		let text = bech32::encode_upper::<Bech32>(IDENTITY_HRP, &[seed; 32]).unwrap();
		text.parse().unwrap()
	}

	fn node() -> AnyReader {
		Reader::Node(OpaqueId::of(&7u32).unwrap())
	}

	/// What a gateway reads of the request that the first of these makes for the second.
	fn shown(reader: &Identity, gateway: &Identity, target: &str) -> Shown {
		let pass = Pass::new(&node(), reader, &recipient_of(gateway)).unwrap();
		read(&pass.headers(target, NOW)).unwrap()
	}

	fn read(headers: &[(&'static str, String)]) -> Option<Shown> {
		let headers = headers.iter().map(|(name, value)| {
			(axum::http::HeaderName::from_static(name), value.parse().unwrap())
		});
		Shown::read(&headers.collect())
	}

	#[test]
	fn both_sides_agree_on_one_key() {
		let (reader, gateway) = (identity(1), identity(2));
		let ours = SharedKey::of_reader(&reader, &recipient_of(&gateway)).unwrap();
		let theirs = SharedKey::of_gateway(&gateway, &recipient_of(&reader)).unwrap();
		assert_eq!(ours.0, theirs.0);
		let turned = SharedKey::of_reader(&gateway, &recipient_of(&reader)).unwrap();
		assert_ne!(ours.0, turned.0, "who asks and who serves are told apart");
	}

	#[test]
	fn vector_key() {
		let key = SharedKey::of_reader(&identity(1), &recipient_of(&identity(2))).unwrap();
		assert_eq!(hex::encode(*key.0), VECTOR);
	}

	/// Computed with another implementation of both.
	const VECTOR: &str = "bf7f33d563489d4cc9e033d6c3bbcdbfe8c85909cb401c91fe1b7c836a0163e9";

	#[test]
	fn a_pass_is_right_where_it_is_shown() {
		let (reader, gateway) = (identity(1), identity(2));
		let shown = shown(&reader, &gateway, TARGET);
		let key = SharedKey::of_gateway(&gateway, &shown.recipient).unwrap();
		assert_eq!(shown.reader, node());
		assert!(shown.is_right(&key, TARGET, NOW + CLOCK_SKEW_MAX_MS));
	}

	#[test]
	fn a_pass_is_of_no_use_for_anything_else() {
		let (reader, gateway, other) = (identity(1), identity(2), identity(3));
		let shown = shown(&reader, &gateway, TARGET);
		let key = SharedKey::of_gateway(&gateway, &shown.recipient).unwrap();
		assert!(!shown.is_right(&key, "/ipfs/bafz?format=raw", NOW), "another block");
		assert!(!shown.is_right(&key, TARGET, NOW + CLOCK_SKEW_MAX_MS + 1), "too late");
		let elsewhere = SharedKey::of_gateway(&other, &shown.recipient).unwrap();
		assert!(!shown.is_right(&elsewhere, TARGET, NOW), "another gateway");
		let renamed = Shown { reader: Reader::Node(OpaqueId::of(&8u32).unwrap()), ..shown.clone() };
		assert!(!renamed.is_right(&key, TARGET, NOW), "another node");
		let owner = Shown { reader: Reader::Owner(OpaqueId::of(&7u32).unwrap()), ..shown };
		assert!(!owner.is_right(&key, TARGET, NOW), "an owner of that number");
	}

	#[test]
	fn every_reader_is_read_as_it_was_written() {
		let id = || OpaqueId::of(&7u64).unwrap();
		for reader in [Reader::Node(id()), Reader::Owner(id()), Reader::Grantee(id())] {
			assert_eq!(parse_reader(&reader_text(&reader)), Some(reader));
		}
		assert_eq!(reader_text(&Reader::Grantee(id())), "grantee:0700000000000000");
		for text in ["", "node", "node:7", "guest:07", "NODE:07"] {
			assert_eq!(parse_reader(text), None, "{text:?}");
		}
	}

	#[test]
	fn a_key_that_anybody_can_agree_with_is_refused() {
		assert!(SharedKey::of_gateway(&identity(1), &Recipient([0; 32])).is_none());
		assert!(Pass::new(&node(), &identity(1), &Recipient([0; 32])).is_none());
	}

	#[test]
	fn headers_that_are_missing_or_malformed_show_nothing() {
		let pass = Pass::new(&node(), &identity(1), &recipient_of(&identity(2))).unwrap();
		let headers = pass.headers(TARGET, NOW);
		assert!(read(&headers).is_some());
		for place in 0..headers.len() {
			let mut fewer = headers.to_vec();
			fewer.remove(place);
			assert_eq!(read(&fewer), None, "without {}", headers[place].0);
			let mut broken = headers.to_vec();
			broken[place].1 = "x:zz".into();
			assert_eq!(read(&broken), None, "with a broken {}", headers[place].0);
		}
	}

	#[test]
	fn the_key_is_not_printed() {
		let pass = Pass::new(&node(), &identity(1), &recipient_of(&identity(2))).unwrap();
		assert!(format!("{pass:?}").contains("***"));
	}
}
