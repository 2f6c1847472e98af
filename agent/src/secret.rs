//! The two secrets of an agent: what it shares with its node, and its own age identity.
//!
//! Both are files that only their owner may read; an agent refuses to start on one that
//! others can read, since it may have leaked already. Neither is ever logged, and
//! `Debug` shows asterisks.

use age::secrecy::ExposeSecret;
use backup_primitives::Recipient;
use rand::{TryRngCore, rngs::OsRng};
use std::{
	fmt, fs,
	io::{self, Read, Write},
	os::unix::fs::PermissionsExt,
	path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// Most bytes of a file with a secret.
const FILE_BYTES_MAX: u64 = 4096;

/// The secret that node and agent share.
pub struct SharedSecret(Zeroizing<[u8; 32]>);

/// The identity that opens snapshots which were sealed to this node.
pub struct NodeIdentity(age::x25519::Identity);

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
	/// The file is not there.
	#[error("open {path}: there is no such file; `backup-agent init` creates it", path = .path.display())]
	Missing {
		/// The file.
		path: PathBuf,
	},
	/// The file could not be read or written.
	#[error("read or write {path}", path = .path.display())]
	Io {
		/// The file.
		path: PathBuf,
		/// What the system said.
		#[source]
		source: io::Error,
	},
	/// Others can read the file.
	#[error(
		"use {path}: its mode is {mode:03o}, so others may have read it; replace it, or `chmod 600` it if you know that nobody did",
		path = .path.display()
	)]
	Exposed {
		/// The file.
		path: PathBuf,
		/// Its permission bits.
		mode: u32,
	},
	/// The file does not hold a shared secret.
	#[error("use {path}: 64 hexadecimal digits are expected", path = .path.display())]
	NotASecret {
		/// The file.
		path: PathBuf,
	},
	/// The file does not hold an age identity.
	#[error("use {path}: an age identity, AGE-SECRET-KEY-1…, is expected on a line of its own", path = .path.display())]
	NotAnIdentity {
		/// The file.
		path: PathBuf,
	},
	/// The system gave no random bytes.
	#[error("draw random bytes")]
	Random(#[source] rand::rand_core::OsError),
}

impl SharedSecret {
	/// Reads the secret of a file.
	pub fn load(path: &Path) -> Result<Self, SecretError> {
		let text = read_private(path)?;
		let mut secret = Zeroizing::new([0; 32]);
		hex::decode_to_slice(text.trim().trim_start_matches("0x"), &mut *secret)
			.map_err(|_| SecretError::NotASecret { path: path.to_owned() })?;
		Ok(Self(secret))
	}

	/// Draws a secret and writes it, unless the file is there. Says whether it was written.
	pub fn create(path: &Path) -> Result<bool, SecretError> {
		let mut secret = Zeroizing::new([0; 32]);
		OsRng.try_fill_bytes(&mut *secret).map_err(SecretError::Random)?;
		let mut text = hex::encode(*secret);
		text.push('\n');
		let created = write_private(path, text.as_bytes());
		text.zeroize();
		created
	}

	/// The secret itself.
	pub fn expose(&self) -> &[u8; 32] {
		&self.0
	}
}

impl From<[u8; 32]> for SharedSecret {
	fn from(secret: [u8; 32]) -> Self {
		Self(Zeroizing::new(secret))
	}
}

impl fmt::Debug for SharedSecret {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("SharedSecret(***)")
	}
}

impl NodeIdentity {
	/// Reads the identity of a file as `age-keygen` writes it: comments, and one key.
	pub fn load(path: &Path) -> Result<Self, SecretError> {
		let text = read_private(path)?;
		let refused = || SecretError::NotAnIdentity { path: path.to_owned() };
		let mut keys = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
		match (keys.next(), keys.next()) {
			(Some(key), None) => key.parse().map(Self).map_err(|_| refused()),
			_ => Err(refused()),
		}
	}

	/// Draws an identity and writes it, unless the file is there. Says whether it was written.
	pub fn create(path: &Path) -> Result<bool, SecretError> {
		let identity = age::x25519::Identity::generate();
		let secret = identity.to_string();
		let text = Zeroizing::new(format!(
			"# public key: {}\n{}\n",
			identity.to_public(),
			secret.expose_secret()
		));
		write_private(path, text.as_bytes())
	}

	/// The public key that belongs to it, as it is registered on chain.
	pub fn recipient(&self) -> Recipient {
		let text = self.0.to_public().to_string();
		text.parse().expect("what age writes as an X25519 recipient, age recipients are read from")
	}

	/// The identity itself.
	pub fn expose(&self) -> &age::x25519::Identity {
		&self.0
	}
}

impl fmt::Debug for NodeIdentity {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "NodeIdentity({}, ***)", self.recipient())
	}
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
	let failed = |source: io::Error| match source.kind() {
		io::ErrorKind::NotFound => SecretError::Missing { path: path.to_owned() },
		_ => SecretError::Io { path: path.to_owned(), source },
	};
	let file = fs::File::open(path).map_err(failed)?;
	let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
	if mode & 0o077 != 0 {
		return Err(SecretError::Exposed { path: path.to_owned(), mode });
	}
	// All at once, so that no copy stays behind in a buffer that was outgrown.
	let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize));
	file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
	Ok(text)
}

/// Writes a new file of mode 600 and makes it durable. An existing one is never replaced.
fn write_private(path: &Path, bytes: &[u8]) -> Result<bool, SecretError> {
	let failed = |source| SecretError::Io { path: path.to_owned(), source };
	let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
	// The file gets its name when it is complete. Temporary files have mode 600.
	let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
	file.write_all(bytes).map_err(failed)?;
	file.as_file().sync_all().map_err(failed)?;
	match file.persist_noclobber(path) {
		Ok(_) => {}
		Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
		Err(error) => return Err(failed(error.error)),
	}
	fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
	Ok(true)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_secret_is_written_once_and_read_back() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("secret");
		assert!(SharedSecret::create(&path).unwrap());
		let first = fs::read_to_string(&path).unwrap();
		assert_eq!(first.trim().len(), 64);
		assert!(!SharedSecret::create(&path).unwrap());
		assert_eq!(fs::read_to_string(&path).unwrap(), first);
		let secret = SharedSecret::load(&path).unwrap();
		assert_eq!(hex::encode(secret.expose()), first.trim());
		assert_eq!(format!("{secret:?}"), "SharedSecret(***)");
	}

	#[test]
	fn an_identity_is_written_once_and_shows_its_recipient_only() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("identity");
		assert!(NodeIdentity::create(&path).unwrap());
		assert!(!NodeIdentity::create(&path).unwrap());
		let identity = NodeIdentity::load(&path).unwrap();
		let shown = format!("{identity:?}");
		assert!(shown.contains(&identity.recipient().to_string()) && !shown.contains("SECRET"));
		assert!(fs::read_to_string(&path).unwrap().contains(&identity.recipient().to_string()));
	}

	#[test]
	fn a_file_that_others_can_read_is_refused() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("secret");
		SharedSecret::create(&path).unwrap();
		fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
		let error = SharedSecret::load(&path).unwrap_err();
		assert!(matches!(error, SecretError::Exposed { mode: 0o640, .. }), "{error}");
		assert!(error.to_string().contains("chmod 600"));
	}

	#[test]
	fn other_content_and_missing_files_say_what_is_expected() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("secret");
		assert!(SharedSecret::load(&path).unwrap_err().to_string().contains("init"));
		write_private(&path, b"hunter2").unwrap();
		assert!(SharedSecret::load(&path).unwrap_err().to_string().contains("64 hex"));
		assert!(NodeIdentity::load(&path).unwrap_err().to_string().contains("AGE-SECRET-KEY"));
	}
}
