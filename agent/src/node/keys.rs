//! The repository keys of a node, one per owner.
//!
//! A key is needed to write and never to read. It lies in the state folder, sealed to the node
//! and, in a file of its own, to the owner, so that a restore never depends on it and an owner
//! can prove what was sealed.
//!
//! The node's file is sealed to the newest of its identities. One that is sealed to an older is
//! sealed anew, at the start and whenever it is opened, so that no key is lost when the older
//! identity goes. The file is replaced as a whole: a kill leaves the one before or the one
//! after, and the same key in both.

use crate::{
	disk::{UNFINISHED_PREFIX, write_whole},
	format::{RepositoryKey, envelope::EnvelopeError},
	jobs::JobError,
	secret::NodeIdentities,
};
use backup_primitives::{FailureReason, OpaqueId, Recipient};
use std::{
	fs, io,
	path::{Path, PathBuf},
	slice,
	sync::{Mutex, PoisonError},
};

/// Most bytes of a sealed key.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// How the names of keys that are sealed to the node end.
const NODE_SUFFIX: &str = ".node.age";

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
	#[error("read or write the repository keys in {}: {source}", path.display())]
	Io { path: PathBuf, source: io::Error },
	#[error("seal the repository key {}: {source}", path.display())]
	Seal { path: PathBuf, source: EnvelopeError },
	#[error(
		"open the repository key {}: {source}; put the identity that it is sealed to back into the identity file, below the newest",
		path.display()
	)]
	Open { path: PathBuf, source: EnvelopeError },
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
		identities: &NodeIdentities,
	) -> Result<RepositoryKey, JobError> {
		let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
		self.load_or_make(owner, recipients, identities)
			.map_err(|error| JobError::new(FailureReason::StoreUnavailable, &error))
	}

	/// Seal all keys to the newest identity that are sealed to an older one, and remove what a
	/// kill left.
	///
	/// A key that does not open is told and left as it is: it is the matter of one owner, and the
	/// identity that opens it may come back.
	pub(super) fn renew(&self, identities: &NodeIdentities) -> Result<(), JobError> {
		let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
		self.renew_all(identities).map_err(|source| {
			let error = KeyError::Io { path: self.folder.clone(), source };
			JobError::new(FailureReason::StoreUnavailable, &error)
		})
	}

	fn renew_all(&self, identities: &NodeIdentities) -> io::Result<()> {
		for entry in fs::read_dir(&self.folder)? {
			let path = entry?.path();
			let name = path.file_name().unwrap_or_default().to_string_lossy();
			if name.starts_with(UNFINISHED_PREFIX) {
				fs::remove_file(&path)?;
			} else if name.ends_with(NODE_SUFFIX)
				&& let Err(error) = load(&path, identities)
			{
				tracing::error!(%error, "failed to see to a repository key");
			}
		}
		Ok(())
	}

	fn load_or_make(
		&self,
		owner: &OpaqueId,
		recipients: &[Recipient],
		identities: &NodeIdentities,
	) -> Result<RepositoryKey, KeyError> {
		let own = self.folder.join(format!("{}{NODE_SUFFIX}", owner.to_hex()));
		if let Some(key) = load(&own, identities)? {
			return Ok(key);
		}
		let key = RepositoryKey::generate();
		// The owner's copy first: once the node's copy is there, the key is in use.
		let theirs = self.folder.join(format!("{}.owner.age", owner.to_hex()));
		save(&theirs, &key, recipients)?;
		save(&own, &key, &[identities.recipient()])?;
		Ok(key)
	}
}

/// The key of a file, if there is one. Afterwards it is sealed to the newest identity.
fn load(path: &Path, identities: &NodeIdentities) -> Result<Option<RepositoryKey>, KeyError> {
	let failed = |source| KeyError::Io { path: path.to_owned(), source };
	match fs::metadata(path) {
		Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
			return Err(failed(io::ErrorKind::FileTooLarge.into()));
		}
		Ok(_) => (),
		Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
		Err(error) => return Err(failed(error)),
	}
	let sealed = fs::read(path).map_err(failed)?;
	if let Ok(key) = RepositoryKey::open(&sealed, slice::from_ref(identities.newest())) {
		return Ok(Some(key));
	}
	let key = RepositoryKey::open(&sealed, identities.expose())
		.map_err(|source| KeyError::Open { path: path.to_owned(), source })?;
	save(path, &key, &[identities.recipient()])?;
	tracing::info!(path = %path.display(), "repository key sealed to the newest identity");
	Ok(Some(key))
}

/// Seal a key into a file, which has the new content or the old one at any time.
fn save(path: &Path, key: &RepositoryKey, recipients: &[Recipient]) -> Result<(), KeyError> {
	let refused = |source| KeyError::Seal { path: path.to_owned(), source };
	let failed = |source| KeyError::Io { path: path.to_owned(), source };
	write_whole(path, &key.seal_to(recipients).map_err(refused)?).map_err(failed)
}

#[cfg(test)]
mod tests {
	use super::*;

	/// A folder with an identity file, and one for keys.
	struct Bench {
		folder: tempfile::TempDir,
		keys: RepositoryKeys,
	}

	impl Bench {
		fn new() -> Self {
			let folder = tempfile::tempdir().unwrap();
			NodeIdentities::create(&folder.path().join("identity")).unwrap();
			let keys = RepositoryKeys::at(folder.path().join("keys"));
			fs::create_dir(&keys.folder).unwrap();
			Self { folder, keys }
		}

		fn identities(&self) -> NodeIdentities {
			NodeIdentities::load(&self.folder.path().join("identity")).unwrap()
		}

		fn rotate(&self) {
			NodeIdentities::rotate(&self.folder.path().join("identity")).unwrap();
		}

		/// Take all identities out of the file but the newest.
		fn keep_the_newest(&self) {
			let path = self.folder.path().join("identity");
			let text = fs::read_to_string(&path).unwrap();
			let newest: Vec<_> = text.lines().take(2).collect();
			fs::write(&path, newest.join("\n")).unwrap();
		}

		/// The key of an owner, told by what it makes of a plaintext.
		fn key(&self, owner: u8) -> Result<[u8; 16], JobError> {
			let owner = OpaqueId::of(&[owner; 32]).unwrap();
			let theirs = age::x25519::Identity::generate().to_public().to_string();
			let key = self.keys.of(&owner, &[theirs.parse().unwrap()], &self.identities())?;
			Ok(key.plaintext_id(b"test", b"test").0)
		}

		/// The bytes of all files, by name.
		fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
			let entries = fs::read_dir(&self.keys.folder).unwrap();
			let paths = entries.map(|entry| entry.unwrap().path());
			let mut all: Vec<_> =
				paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
			all.sort();
			all
		}
	}

	#[test]
	fn a_key_is_made_once_for_each_owner() {
		let bench = Bench::new();
		let first = bench.key(1).unwrap();
		let files = bench.files();
		assert_eq!(bench.key(1).unwrap(), first);
		assert_eq!(bench.files(), files, "what is sealed to the newest stays as it is");
		assert_ne!(bench.key(2).unwrap(), first);
	}

	#[test]
	fn a_key_that_was_opened_after_a_rotation_opens_with_the_new_identity_alone() {
		let bench = Bench::new();
		let key = bench.key(1).unwrap();
		let before = bench.files();
		bench.rotate();
		assert_eq!(bench.key(1).unwrap(), key);
		bench.keep_the_newest();
		assert_eq!(bench.key(1).unwrap(), key);
		let changed = |suffix: &str| {
			let after = bench.files();
			let pairs = before.iter().zip(&after);
			let of = |path: &Path| path.to_string_lossy().ends_with(suffix);
			pairs.filter(|(old, new)| of(&old.0) && old != new).count()
		};
		assert_eq!((changed(NODE_SUFFIX), changed(".owner.age")), (1, 0));
	}

	#[test]
	fn a_renewal_sees_to_the_keys_of_all_owners() {
		let bench = Bench::new();
		let keys = [1, 2, 3].map(|owner| bench.key(owner).unwrap());
		bench.rotate();
		bench.rotate();
		bench.keys.renew(&bench.identities()).unwrap();
		bench.keep_the_newest();
		assert_eq!([1, 2, 3].map(|owner| bench.key(owner).unwrap()), keys);
	}

	/// A new key would seal a second copy of everything, and nobody would know why.
	#[test]
	fn a_key_that_no_identity_opens_is_neither_replaced_nor_in_the_way_of_others() {
		let bench = Bench::new();
		bench.key(1).unwrap();
		let sealed = bench.files();
		bench.rotate();
		bench.keep_the_newest();
		let error = bench.key(1).unwrap_err();
		assert_eq!(error.reason, FailureReason::StoreUnavailable);
		assert!(error.detail.contains("put the identity that it is sealed to back"), "{error}");
		assert_eq!(bench.files(), sealed);
		bench.keys.renew(&bench.identities()).unwrap();
		assert_eq!(bench.files(), sealed);
		bench.key(2).unwrap();
	}

	/// What a power cut leaves of a file that is written over is anything; the one before stays
	/// whole until the next has its name.
	#[test]
	fn a_key_is_sealed_anew_beside_the_one_before_and_not_over_it() {
		let bench = Bench::new();
		bench.key(1).unwrap();
		let mut files = bench.files();
		files.retain(|(path, _)| path.to_string_lossy().ends_with(NODE_SUFFIX));
		let (path, sealed) = files.remove(0);
		let held = bench.folder.path().join("held");
		fs::hard_link(&path, &held).unwrap();
		bench.rotate();
		bench.key(1).unwrap();
		assert_eq!(fs::read(&held).unwrap(), sealed);
		assert_ne!(fs::read(&path).unwrap(), sealed);
	}

	#[test]
	fn what_a_kill_left_is_removed_and_the_key_is_the_one_before() {
		let bench = Bench::new();
		let key = bench.key(1).unwrap();
		let whole = bench.files().len();
		bench.rotate();
		let left = bench.keys.folder.join(format!("{UNFINISHED_PREFIX}a1b2c3"));
		fs::write(left, "half a k").unwrap();
		bench.keys.renew(&bench.identities()).unwrap();
		assert_eq!(bench.files().len(), whole);
		assert_eq!(bench.key(1).unwrap(), key);
	}
}
