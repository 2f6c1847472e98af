//! What a file system has left.

use std::{io, path::Path};

/// Bytes that can still be written to the file system of a folder, by a user without privileges.
pub(crate) fn available_bytes(folder: &Path) -> io::Result<u64> {
	let stat = rustix::fs::statvfs(folder)?;
	Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
