//! Secrets: the key of a repository, which writes, and read keys, which read.
//!
//! Both are wiped when dropped and print as `***`.

use crate::format::{
	PlaintextId,
	envelope::{self, EnvelopeError},
};
use age::x25519::Identity;
use backup_primitives::Recipient;
use core::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Separates read keys from whatever else may once be derived from `k_enc`.
pub(crate) const READ_KEY_CONTEXT: &[u8] = b"pallet-backup v1 read key";

const PLAINTEXT_ID_CONTEXT: &str = "pallet-backup v1 plaintext id";

/// First byte of a repository key's sealed form.
const REPOSITORY_KEY_VERSION: u8 = 1;
const REPOSITORY_KEY_BYTES: usize = 1 + 32 + 32;

/// The key of one sealed block. A root's read key opens all of its tree.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ReadKey([u8; 32]);

impl ReadKey {
	/// Wraps key bytes that came out of an envelope.
	pub fn from_bytes(bytes: [u8; 32]) -> Self {
		Self(bytes)
	}

	/// The key itself. It must not be shown or logged.
	pub fn as_bytes(&self) -> &[u8; 32] {
		&self.0
	}
}

impl fmt::Debug for ReadKey {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("***")
	}
}

/// The secret with which one node seals for one owner: `k_siv` and `k_enc`.
///
/// It is needed to write, never to read. Whoever holds it can tell which blocks of the
/// repository hold a given plaintext, and can open whatever it can guess the payload of.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RepositoryKey {
	siv: [u8; 32],
	enc: [u8; 32],
	id: [u8; 32],
}

impl RepositoryKey {
	/// A new random key.
	///
	/// # Panics
	/// If the operating system has no randomness to give; nothing can be sealed then.
	pub fn generate() -> Self {
		let mut parts = Zeroizing::new([0; 64]);
		aws_lc_rs::rand::fill(parts.as_mut()).expect("the operating system gives random bytes");
		Self::from_halves(parts.as_ref()).expect("64 bytes are two halves of 32")
	}

	pub(crate) fn from_parts(siv: [u8; 32], enc: [u8; 32]) -> Self {
		let id = blake3::derive_key(PLAINTEXT_ID_CONTEXT, &siv);
		Self { siv, enc, id }
	}

	fn from_halves(bytes: &[u8]) -> Option<Self> {
		let (siv, enc) = bytes.split_first_chunk::<32>()?;
		Some(Self::from_parts(*siv, enc.try_into().ok()?))
	}

	/// The key as an age file that each of the recipients can open.
	pub fn seal_to(&self, recipients: &[Recipient]) -> Result<Vec<u8>, EnvelopeError> {
		let mut secret = Zeroizing::new(Vec::with_capacity(REPOSITORY_KEY_BYTES));
		secret.push(REPOSITORY_KEY_VERSION);
		secret.extend_from_slice(&self.siv);
		secret.extend_from_slice(&self.enc);
		envelope::seal(&secret, recipients)
	}

	/// Opens what [`seal_to`](Self::seal_to) wrote, with any of the identities.
	pub fn open(sealed: &[u8], identities: &[Identity]) -> Result<Self, EnvelopeError> {
		let secret = envelope::open(sealed, identities, REPOSITORY_KEY_BYTES)?;
		match secret.split_first() {
			Some((&REPOSITORY_KEY_VERSION, halves)) => {
				Self::from_halves(halves).ok_or(EnvelopeError::Content)
			}
			Some(_) | None => Err(EnvelopeError::Content),
		}
	}

	pub(crate) fn siv_key(&self) -> &[u8; 32] {
		&self.siv
	}

	pub(crate) fn enc_key(&self) -> &[u8; 32] {
		&self.enc
	}

	pub(crate) fn plaintext_id(&self, domain: &[u8], plaintext: &[u8]) -> PlaintextId {
		let mut hasher = blake3::Hasher::new_keyed(&self.id);
		hasher.update(&(domain.len() as u64).to_le_bytes());
		hasher.update(domain);
		hasher.update(plaintext);
		let mut id = [0; 16];
		id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
		PlaintextId(id)
	}
}

impl fmt::Debug for RepositoryKey {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("***")
	}
}

/// The bytes of a hash that serves as a secret.
pub(crate) fn secret_bytes(hash: blake3::Hash) -> [u8; 32] {
	*hash.as_bytes()
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::slice;

	fn recipient(identity: &Identity) -> Recipient {
		identity.to_public().to_string().parse().unwrap()
	}

	#[test]
	fn a_repository_key_opens_for_node_and_owner_and_nobody_else() {
		let (node, owner, stranger) =
			(Identity::generate(), Identity::generate(), Identity::generate());
		let key = RepositoryKey::generate();
		let sealed = key.seal_to(&[recipient(&node), recipient(&owner)]).unwrap();
		for identity in [&node, &owner] {
			let opened = RepositoryKey::open(&sealed, slice::from_ref(identity)).unwrap();
			assert_eq!((opened.siv, opened.enc, opened.id), (key.siv, key.enc, key.id));
		}
		let opened = RepositoryKey::open(&sealed, &[stranger]);
		assert!(matches!(opened, Err(EnvelopeError::WrongIdentity)));
	}

	#[test]
	fn another_secret_in_an_envelope_is_not_a_repository_key() {
		let node = Identity::generate();
		for content in [&[1u8; 33][..], &[2; 65], &[], &[1; 66]] {
			let sealed = envelope::seal(content, &[recipient(&node)]).unwrap();
			let opened = RepositoryKey::open(&sealed, slice::from_ref(&node));
			assert!(matches!(opened, Err(EnvelopeError::Content)), "{} bytes", content.len());
		}
	}

	#[test]
	fn secrets_print_as_stars() {
		let key = RepositoryKey::from_parts([0xab; 32], [0xcd; 32]);
		let shown = format!("{key:?} {:?}", ReadKey::from_bytes([0xab; 32]));
		assert_eq!(shown, "*** ***");
	}
}
