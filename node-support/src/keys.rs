//! The key that signs reports, in the node's keystore.

use crate::args::DevKey;
use sp_core::{
	Pair,
	crypto::{KeyTypeId, SecretStringError},
	sr25519,
};
use sp_keystore::Keystore;

/// Type of the keys with which nodes sign their reports (sr25519). It is the type that
/// `pallet-backup` looks for.
pub const BACKUP_KEY_TYPE: KeyTypeId = KeyTypeId(*b"bkup");

/// Why a key could not be put into the keystore. No variant carries the secret URI.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
	/// The secret URI is malformed.
	#[error("--backup-dev-key is not a secret URI; give one such as //Alice")]
	Malformed(#[source] SecretStringError),
	/// The chain is not for development, where a key on the command line has no place.
	#[error(
		"--backup-dev-key is for development chains only; insert the key with: \
		 key insert --key-type bkup --scheme sr25519"
	)]
	NotADevelopmentChain,
	/// The keystore refused.
	#[error("failed to put the development key into the keystore")]
	Keystore(#[from] sp_keystore::Error),
}

/// Holds the key in memory until the node stops; it is not written to disk.
pub(crate) fn insert(keystore: &dyn Keystore, key: &DevKey) -> Result<sr25519::Public, KeyError> {
	sr25519::Pair::from_string(&key.0, None).map_err(KeyError::Malformed)?;
	Ok(keystore.sr25519_generate_new(BACKUP_KEY_TYPE, Some(&key.0))?)
}

pub(crate) fn exists(keystore: &dyn Keystore) -> bool {
	!keystore.sr25519_public_keys(BACKUP_KEY_TYPE).is_empty()
}
