//! Room in a file system, and files that are written as a whole.

use std::{
	fs,
	io::{self, Write},
	path::Path,
};

/// What a file is called that [`write_whole`] has not finished.
pub(crate) const UNFINISHED_PREFIX: &str = ".unfinished-";

/// Write a file as a whole, durably, for this user only: whoever reads it finds what was there
/// before, or this.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
	let folder = path.parent().unwrap_or(Path::new("."));
	// Temporary files have mode 600.
	let mut file = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(folder)?;
	file.write_all(bytes)?;
	file.as_file().sync_all()?;
	file.persist(path).map_err(|error| error.error)?;
	fs::File::open(folder)?.sync_all()
}

/// Write a file that is not there, durably and as a whole, for this user only. Says whether it was
/// written: one that is there stays as it is.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<bool> {
	let folder = path.parent().unwrap_or(Path::new("."));
	// Temporary files have mode 600.
	let mut file = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(folder)?;
	file.write_all(bytes)?;
	file.as_file().sync_all()?;
	match file.persist_noclobber(path) {
		Ok(_) => fs::File::open(folder)?.sync_all().map(|()| true),
		Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
		Err(error) => Err(error.error),
	}
}

/// Remove a file, and say whether it was there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
	match fs::remove_file(path) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
		result => result.map(|()| true),
	}
}

/// Bytes that can still be written to the file system of a folder, by a user without privileges.
pub(crate) fn available_bytes(folder: &Path) -> io::Result<u64> {
	let stat = rustix::fs::statvfs(folder)?;
	Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
