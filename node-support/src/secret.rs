//! The secret that node and agent share, as it lies in a file.

use std::{
	fs::OpenOptions,
	io::{self, Read},
	os::unix::fs::{OpenOptionsExt, PermissionsExt},
	path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const SECRET_BYTES: usize = 32;
const HEX_DIGITS: usize = SECRET_BYTES * 2;
/// The digits and a line end. What is longer is not our file, and is not read further.
const FILE_BYTES_MAX: usize = HEX_DIGITS + 2;

/// 32 secret bytes. Never shown, and wiped from memory when dropped.
pub(crate) struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl std::fmt::Debug for Secret {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.write_str("Secret(***)")
	}
}

/// Why a file does not give a secret. No variant carries what the file holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
	/// The file could not be opened or read.
	#[error("failed to read {}: {source}", path.display())]
	Read {
		/// The file.
		path: PathBuf,
		/// What the system said.
		#[source]
		source: io::Error,
	},
	/// A directory, a pipe or a device.
	#[error("{} is not a regular file", path.display())]
	NotAFile {
		/// What was given.
		path: PathBuf,
	},
	/// Others than the owner may use the file.
	#[error(
		"{} is open to others (mode {mode:03o}); run: chmod 600 {}",
		path.display(), path.display()
	)]
	TooOpen {
		/// The file.
		path: PathBuf,
		/// Its permission bits.
		mode: u32,
	},
	/// The file holds something else.
	#[error("{} must hold {HEX_DIGITS} hexadecimal digits and nothing else", path.display())]
	Malformed {
		/// The file.
		path: PathBuf,
	},
}

impl Secret {
	/// Reads the secret from `path`, which only its owner may have access to.
	pub(crate) fn read(path: &Path) -> Result<Self, SecretError> {
		let unreadable = |source| SecretError::Read { path: path.to_owned(), source };
		// Without O_NONBLOCK, opening a pipe would wait for its other end.
		let file = OpenOptions::new()
			.read(true)
			.custom_flags(libc::O_NONBLOCK)
			.open(path)
			.map_err(unreadable)?;
		// Asked of the open file, not of the path, which could name another one by now.
		let metadata = file.metadata().map_err(unreadable)?;
		if !metadata.is_file() {
			return Err(SecretError::NotAFile { path: path.to_owned() });
		}
		let mode = metadata.permissions().mode() & 0o777;
		if mode & 0o077 != 0 {
			return Err(SecretError::TooOpen { path: path.to_owned(), mode });
		}
		let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
		file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
		Self::decode(&text).ok_or_else(|| SecretError::Malformed { path: path.to_owned() })
	}

	pub(crate) fn expose(&self) -> &[u8; SECRET_BYTES] {
		&self.0
	}

	fn decode(text: &[u8]) -> Option<Self> {
		let digits = text.strip_suffix(b"\n").unwrap_or(text);
		let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
		let mut secret = Zeroizing::new([0; SECRET_BYTES]);
		hex::decode_to_slice(digits, secret.as_mut_slice()).ok()?;
		Some(Self(secret))
	}
}

#[cfg(test)]
pub(crate) mod tests {
	use super::*;
	use std::fs::{self, Permissions};
	use tempfile::TempDir;

	pub(crate) fn secret_file(directory: &TempDir, text: &str, mode: u32) -> PathBuf {
		let path = directory.path().join("secret");
		fs::write(&path, text).unwrap();
		fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
		path
	}

	fn read(text: &str, mode: u32) -> Result<Secret, SecretError> {
		let directory = tempfile::tempdir().unwrap();
		Secret::read(&secret_file(&directory, text, mode))
	}

	#[test]
	fn reads_hex_with_and_without_a_line_end() {
		let digits = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
		for end in ["", "\n", "\r\n"] {
			let secret = read(&format!("{digits}{end}"), 0o600).unwrap();
			assert_eq!(secret.expose()[..3], [0x00, 0x11, 0x22]);
			assert_eq!(secret.expose()[16..19], [0xff, 0xee, 0xdd]);
		}
		assert!(read(&"ab".repeat(32), 0o400).is_ok());
	}

	#[test]
	fn fails_when_others_have_access() {
		for mode in [0o640, 0o604, 0o620, 0o660, 0o644, 0o610, 0o601] {
			let error = read(&"ab".repeat(32), mode).unwrap_err();
			assert!(matches!(error, SecretError::TooOpen { mode: found, .. } if found == mode));
			assert!(error.to_string().contains(&format!("mode {mode:03o}")), "{error}");
		}
	}

	#[test]
	fn fails_on_anything_but_64_digits() {
		let good = "ab".repeat(32);
		let bad = [
			String::new(),
			good[..63].into(),
			format!("{good}a"),
			format!("{good}\n\n"),
			format!(" {good}"),
			format!("0x{}", &good[2..]),
			good.replace('a', "g"),
			good.repeat(1_000),
		];
		for text in bad {
			let error = read(&text, 0o600).unwrap_err();
			assert!(matches!(error, SecretError::Malformed { .. }), "{error}");
			assert!(!error.to_string().contains("abab"), "the file's content leaked: {error}");
		}
	}

	#[test]
	fn fails_on_what_is_no_file() {
		let directory = tempfile::tempdir().unwrap();
		assert!(matches!(Secret::read(directory.path()), Err(SecretError::NotAFile { .. })));
		let missing = directory.path().join("missing");
		assert!(matches!(Secret::read(&missing), Err(SecretError::Read { .. })));
	}

	#[test]
	fn does_not_wait_for_a_pipe() {
		let directory = tempfile::tempdir().unwrap();
		let pipe = directory.path().join("pipe");
		assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
		assert!(matches!(Secret::read(&pipe), Err(SecretError::NotAFile { .. })));
	}
}
