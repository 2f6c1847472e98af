//! Small files that the user names. They may be pipes, devices, or anything else.

use crate::error::CliError;
use std::{fs, io::Read, path::Path};

/// What a file holds, of one that is longer than `bytes_max` one byte more than that.
pub(crate) fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, CliError> {
	let failed = |source| CliError::FileRead { path: path.to_owned(), source };
	let mut bytes = Vec::new();
	let file = fs::File::open(path).map_err(failed)?;
	file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
	Ok(bytes)
}
