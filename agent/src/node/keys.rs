//! The repository keys of a node, one per owner.
//!
//! A key is needed to write and never to read. It lies in the state folder, sealed to the node
//! and, in a file of its own, to the owner, so that a restore never depends on it and an owner
//! can prove what was sealed.

use crate::{
	format::{RepositoryKey, envelope::EnvelopeError},
	jobs::JobError,
	secret::NodeIdentity,
};
use backup_primitives::{FailureReason, OpaqueId, Recipient};
use std::{
	fs,
	io::{self, Write},
	path::{Path, PathBuf},
	sync::{Mutex, PoisonError},
};

/// Most bytes of a sealed key.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The folder of keys.
#[derive(Debug)]
pub(super) struct RepositoryKeys {
	folder: PathBuf,
	/// Two jobs of one owner must not make two keys.
	turn: Mutex<()>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
enum KeyError {
	#[error("read or write the repository key {}: {source}", path.display())]
	Io { path: PathBuf, source: io::Error },
	#[error("open the repository key {}: {source}; was the node's identity replaced?", path.display())]
	Envelope { path: PathBuf, source: EnvelopeError },
}

impl RepositoryKeys {
	pub(super) fn at(folder: PathBuf) -> Self {
		Self { folder, turn: Mutex::new(()) }
	}

	/// The key of an owner; a new one the first time.
	pub(super) fn of(
		&self,
		owner: &OpaqueId,
		recipients: &[Recipient],
		identity: &NodeIdentity,
	) -> Result<RepositoryKey, JobError> {
		let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
		self.load_or_make(owner, recipients, identity)
			.map_err(|error| JobError::new(FailureReason::StoreUnavailable, &error))
	}

	fn load_or_make(
		&self,
		owner: &OpaqueId,
		recipients: &[Recipient],
		identity: &NodeIdentity,
	) -> Result<RepositoryKey, KeyError> {
		let own = self.folder.join(format!("{}.node.age", owner.to_hex()));
		let failed = |source| KeyError::Io { path: own.clone(), source };
		let refused = |source| KeyError::Envelope { path: own.clone(), source };
		match fs::metadata(&own) {
			Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
				return Err(failed(io::ErrorKind::FileTooLarge.into()));
			}
			Ok(_) => {
				let sealed = fs::read(&own).map_err(failed)?;
				return RepositoryKey::open(&sealed, identity.expose()).map_err(refused);
			}
			Err(error) if error.kind() == io::ErrorKind::NotFound => (),
			Err(error) => return Err(failed(error)),
		}
		let key = RepositoryKey::generate();
		// The owner's copy first: once the node's copy is there, the key is in use.
		let theirs = self.folder.join(format!("{}.owner.age", owner.to_hex()));
		write(&theirs, &key.seal_to(recipients).map_err(refused)?).map_err(failed)?;
		write(&own, &key.seal_to(&[identity.recipient()]).map_err(refused)?).map_err(failed)?;
		Ok(key)
	}
}

/// Write a file as a whole, durably. Temporary files have mode 600.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
	let folder = path.parent().unwrap_or(Path::new("."));
	let mut file = tempfile::NamedTempFile::new_in(folder)?;
	file.write_all(bytes)?;
	file.as_file().sync_all()?;
	file.persist(path).map_err(|error| error.error)?;
	fs::File::open(folder)?.sync_all()
}
