//! The secrets of an agent: what it shares with its node, its own age identities, and what it shows
//! to Kubo daemons.
//!
//! All are files that only their owner may read; an agent refuses to start on one that
//! others can read, since it may have leaked already. None is ever logged, and
//! `Debug` shows asterisks.

mod identities;
mod kubo_token;

pub(crate) use identities::recipient_of;
pub use identities::{IDENTITIES_MAX, NodeIdentities};
pub use kubo_token::KuboToken;

use rand::{TryRngCore, rngs::OsRng};
use std::{
	fmt, fs,
	io::{self, Read, Write},
	os::unix::fs::{MetadataExt, PermissionsExt, fchown},
	path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// Most bytes of a file with a secret. An identity has 150, more with an operator's words.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// The secret that node and agent share.
pub struct SharedSecret(Zeroizing<[u8; 32]>);

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
	/// The file does not hold age identities.
	#[error("use {path}: age identities, AGE-SECRET-KEY-1…, are expected, each on a line of its own", path = .path.display())]
	NotAnIdentity {
		/// The file.
		path: PathBuf,
	},
	/// The file does not hold what a Kubo daemon asks for.
	#[error("use {path}: what stands in Kubo's AuthSecret is expected, bearer:TOKEN or basic:USER:PASSWORD", path = .path.display())]
	NotAToken {
		/// The file.
		path: PathBuf,
	},
	/// The file holds more identities than are tried.
	#[error("use {path}: it may hold {IDENTITIES_MAX} identities; move those at its end away that no root needs any more", path = .path.display())]
	TooManyIdentities {
		/// The file.
		path: PathBuf,
	},
	/// The file is longer than any with secrets.
	#[error("use {path}: it has more than {FILE_BYTES_MAX} bytes", path = .path.display())]
	TooLong {
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
	let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
	file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
	// A part of the file would be taken for the whole: the identities at its end would be gone.
	match text.len() as u64 <= FILE_BYTES_MAX {
		true => Ok(text),
		false => Err(SecretError::TooLong { path: path.to_owned() }),
	}
}

/// Writes a new file of mode 600 and makes it durable. An existing one is never replaced.
fn write_private(path: &Path, bytes: &[u8]) -> Result<bool, SecretError> {
	let failed = |source| SecretError::Io { path: path.to_owned(), source };
	let folder = folder_of(path);
	let file = write_aside(folder, bytes).map_err(failed)?;
	match file.persist_noclobber(path) {
		Ok(_) => {}
		Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
		Err(error) => return Err(failed(error.error)),
	}
	sync_folder(folder).map_err(failed)?;
	Ok(true)
}

/// Replaces a file by one of mode 600 and the same owner, durably and as a whole.
fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
	let failed = |source| SecretError::Io { path: path.to_owned(), source };
	let folder = folder_of(path);
	let before = fs::metadata(path).map_err(failed)?;
	let file = write_aside(folder, bytes).map_err(failed)?;
	// An operator may be root where the agent is not, and the agent must be able to read it.
	fchown(file.as_file(), Some(before.uid()), Some(before.gid())).map_err(failed)?;
	file.as_file().sync_all().map_err(failed)?;
	file.persist(path).map_err(|error| failed(error.error))?;
	sync_folder(folder).map_err(failed)
}

/// The bytes, durable in a file that is not complete by its name. Temporary files have mode 600.
fn write_aside(folder: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
	let mut file = tempfile::NamedTempFile::new_in(folder)?;
	file.write_all(bytes)?;
	file.as_file().sync_all()?;
	Ok(file)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
	fs::File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
	path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
	}

	#[test]
	fn boundary_a_file_that_is_too_long_is_refused_and_not_read_in_part() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("secret");
		let longest = format!("{}{}", "ab".repeat(32), " ".repeat(FILE_BYTES_MAX as usize - 64));
		write_private(&path, longest.as_bytes()).unwrap();
		SharedSecret::load(&path).unwrap();
		fs::write(&path, format!("{longest} ")).unwrap();
		let error = SharedSecret::load(&path).unwrap_err();
		assert!(matches!(error, SecretError::TooLong { .. }), "{error}");
	}
}
