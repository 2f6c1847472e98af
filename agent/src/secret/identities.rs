//! The age identities of a node: what opens the snapshots that were sealed to it.
//!
//! They stand in one file as `age-keygen` writes them, one on each line, **the newest first**.
//! 1. The newest is the node: its public key is the recipient that is registered on chain, and
//!    what is sealed from now on is sealed to it.
//! 2. All of them open. A root is sealed once and stays as it is, so whoever takes an identity
//!    out of the file gives up every root that is sealed to no other.
//! 3. [`rotate`](NodeIdentities::rotate) puts a new one on top and leaves the others as they
//!    are. Nothing here ever takes one away: only the operator can know that no root needs it.
//!
//! The newest stands first, so that a reader of the file, person or program, that knows of one
//! identity only takes the one that counts. One that was put at the end by hand harms nothing:
//! it opens like the others, and the agent says that it is not the newest.

use super::{FILE_BYTES_MAX, SecretError, read_private, replace_private, write_private};
use age::{secrecy::ExposeSecret, x25519::Identity};
use backup_primitives::Recipient;
use std::{fmt, fs, path::Path};
use zeroize::Zeroizing;

/// Most identities of a node. Every envelope is tried with each of them.
pub const IDENTITIES_MAX: usize = 32;

/// What opens snapshots that were sealed to this node: one identity or more, the newest first.
pub struct NodeIdentities(Vec<Identity>);

impl NodeIdentities {
	/// Reads the identities of a file as `age-keygen` writes it: comments, and keys.
	pub fn load(path: &Path) -> Result<Self, SecretError> {
		Self::parse(&read_private(path)?, path)
	}

	fn parse(text: &str, path: &Path) -> Result<Self, SecretError> {
		let keys = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
		let identities = keys.map(str::parse).collect::<Result<Vec<Identity>, _>>();
		let refused = || SecretError::NotAnIdentity { path: path.to_owned() };
		let identities = identities.map_err(|_| refused())?;
		match identities.len() {
			0 => Err(refused()),
			1..=IDENTITIES_MAX => Ok(Self(identities)),
			_ => Err(SecretError::TooManyIdentities { path: path.to_owned() }),
		}
	}

	/// Draws an identity and writes it, unless the file is there. Says whether it was written.
	pub fn create(path: &Path) -> Result<bool, SecretError> {
		write_private(path, entry(&Identity::generate()).as_bytes())
	}

	/// Draws an identity and puts it on top of those in the file, which all stay.
	///
	/// The file is replaced as a whole: a kill at any time leaves the one before or the one
	/// after.
	pub fn rotate(path: &Path) -> Result<Self, SecretError> {
		let failed = |source| SecretError::Io { path: path.to_owned(), source };
		// What a link points to is rotated, not the link.
		let path = fs::canonicalize(path).map_err(|source| match source.kind() {
			std::io::ErrorKind::NotFound => SecretError::Missing { path: path.to_owned() },
			_ => failed(source),
		})?;
		// Of two rotations at once, the second would write over what the first has drawn.
		let folder = path.parent().unwrap_or(Path::new("/"));
		let turn = fs::File::open(folder).map_err(failed)?;
		turn.lock().map_err(failed)?;
		let before = read_private(&path)?;
		// A file of something else does not become one of identities.
		Self::parse(&before, &path)?;
		let mut text = entry(&Identity::generate());
		text.push_str(&before);
		// Only what can be read again is written.
		if text.len() as u64 > FILE_BYTES_MAX {
			return Err(SecretError::TooLong { path });
		}
		let identities = Self::parse(&text, &path)?;
		replace_private(&path, text.as_bytes())?;
		Ok(identities)
	}

	/// The public key of the newest, as it is registered on chain.
	pub fn recipient(&self) -> Recipient {
		recipient_of(self.newest())
	}

	/// The public keys of all of them, the newest first.
	pub fn recipients(&self) -> Vec<Recipient> {
		self.0.iter().map(recipient_of).collect()
	}

	/// Whether one of them opens what is sealed to this recipient.
	pub fn opens(&self, recipient: &Recipient) -> bool {
		self.of(recipient).is_some()
	}

	/// The one of them that opens what is sealed to this recipient.
	pub fn of(&self, recipient: &Recipient) -> Option<&Identity> {
		self.0.iter().find(|identity| recipient_of(identity) == *recipient)
	}

	/// How many there are.
	pub fn count(&self) -> usize {
		self.0.len()
	}

	/// All of them, the newest first.
	pub fn expose(&self) -> &[Identity] {
		&self.0
	}

	/// The newest.
	pub fn newest(&self) -> &Identity {
		self.0.first().expect("a file without identities is refused")
	}
}

/// An identity as `age-keygen` writes it.
fn entry(identity: &Identity) -> Zeroizing<String> {
	let secret = identity.to_string();
	// Room for the others, so that no copy stays behind in a buffer that was outgrown.
	let mut text = Zeroizing::new(String::with_capacity(2 * FILE_BYTES_MAX as usize));
	text.push_str(&format!("# public key: {}\n", identity.to_public()));
	text.push_str(secret.expose_secret());
	text.push('\n');
	text
}

/// The public key of an identity.
pub(crate) fn recipient_of(identity: &Identity) -> Recipient {
	let text = identity.to_public().to_string();
	text.parse().expect("what age writes as an X25519 recipient, age recipients are read from")
}

impl fmt::Debug for NodeIdentities {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "NodeIdentities({}, ***; {} in all)", self.recipient(), self.count())
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::fs::PermissionsExt;

	/// A folder, and a path in it with these bytes and mode 600.
	fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("identity");
		write_private(&path, text.as_bytes()).unwrap();
		(folder, path)
	}

	#[test]
	fn an_identity_is_written_once_and_shows_its_recipient_only() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("identity");
		assert!(NodeIdentities::create(&path).unwrap());
		assert!(!NodeIdentities::create(&path).unwrap());
		let identities = NodeIdentities::load(&path).unwrap();
		let shown = format!("{identities:?}");
		assert!(shown.contains(&identities.recipient().to_string()) && !shown.contains("SECRET"));
		assert!(fs::read_to_string(&path).unwrap().contains(&identities.recipient().to_string()));
	}

	#[test]
	fn the_first_of_several_is_the_newest_and_all_of_them_open() {
		let all: Vec<_> = (0..3).map(|_| Identity::generate()).collect();
		let text: String = all.iter().map(|identity| entry(identity).to_string()).collect();
		let (_folder, path) = file(&text);
		let identities = NodeIdentities::load(&path).unwrap();
		assert_eq!(identities.recipient(), recipient_of(&all[0]));
		assert!(all.iter().all(|identity| identities.opens(&recipient_of(identity))));
		assert!(!identities.opens(&recipient_of(&Identity::generate())));
		assert_eq!(identities.count(), 3);
	}

	#[test]
	fn a_rotation_puts_a_new_one_on_top_and_leaves_the_rest_of_the_file_as_it_was() {
		let (folder, path) = file("");
		fs::remove_file(&path).unwrap();
		NodeIdentities::create(&path).unwrap();
		let before = NodeIdentities::load(&path).unwrap().recipient();
		let text = format!("{}# the first, of May\n", fs::read_to_string(&path).unwrap());
		fs::write(&path, &text).unwrap();
		let rotated = NodeIdentities::rotate(&path).unwrap();
		let after = fs::read_to_string(&path).unwrap();
		assert!(after.ends_with(&text) && after.len() > text.len(), "{after}");
		assert_eq!(NodeIdentities::load(&path).unwrap().recipient(), rotated.recipient());
		assert!(rotated.recipient() != before && rotated.opens(&before));
		assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
		assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
	}

	#[test]
	fn a_rotation_writes_beside_the_file_and_not_over_it() {
		let (folder, path) = file(&entry(&Identity::generate()));
		let before = fs::read(&path).unwrap();
		let held = folder.path().join("held");
		fs::hard_link(&path, &held).unwrap();
		NodeIdentities::rotate(&path).unwrap();
		assert_eq!(fs::read(held).unwrap(), before);
	}

	#[test]
	fn rotations_at_once_lose_no_identity() {
		let (_folder, path) = file(&entry(&Identity::generate()));
		let drawn: Vec<_> = std::thread::scope(|scope| {
			let rotate = || NodeIdentities::rotate(&path).unwrap().recipient();
			let threads: Vec<_> = (0..8).map(|_| scope.spawn(rotate)).collect();
			threads.into_iter().map(|thread| thread.join().unwrap()).collect()
		});
		let identities = NodeIdentities::load(&path).unwrap();
		assert_eq!(identities.count(), 9);
		assert!(drawn.iter().all(|recipient| identities.opens(recipient)));
	}

	#[test]
	fn a_rotation_behind_a_link_replaces_the_file_and_keeps_the_link() {
		let (folder, path) = file(&entry(&Identity::generate()));
		let link = folder.path().join("link");
		std::os::unix::fs::symlink(&path, &link).unwrap();
		NodeIdentities::rotate(&link).unwrap();
		assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
		assert_eq!(NodeIdentities::load(&path).unwrap().count(), 2);
	}

	#[test]
	fn boundary_one_identity_more_than_allowed_is_neither_read_nor_drawn() {
		let most = entry(&Identity::generate()).repeat(IDENTITIES_MAX);
		let (_folder, path) = file(&most);
		assert_eq!(NodeIdentities::load(&path).unwrap().count(), IDENTITIES_MAX);
		let refused = NodeIdentities::rotate(&path).unwrap_err();
		assert!(matches!(refused, SecretError::TooManyIdentities { .. }), "{refused}");
		assert_eq!(fs::read_to_string(&path).unwrap(), most, "and nothing was written");
	}

	#[test]
	fn other_content_is_refused_and_not_rotated() {
		let good = entry(&Identity::generate());
		for text in ["", "# only words\n", &format!("{}hunter2\n", *good)] {
			let (_folder, path) = file(text);
			for refused in [NodeIdentities::load(&path), NodeIdentities::rotate(&path)] {
				let words = refused.unwrap_err().to_string();
				assert!(words.contains("AGE-SECRET-KEY"), "{words}");
			}
			assert_eq!(fs::read_to_string(&path).unwrap(), text);
		}
	}

	#[test]
	fn the_file_that_is_missing_is_named() {
		let folder = tempfile::tempdir().unwrap();
		let words = NodeIdentities::rotate(&folder.path().join("none")).unwrap_err().to_string();
		assert!(words.contains("none") && words.contains("backup-agent init"), "{words}");
	}
}
