//! What is kept of live restores, so that an agent that starts goes on with them.
//!
//! A file that is no record, or is torn, costs the live restore that it is of and nothing else. It
//! stays where it is, and so does the snapshot if that can be told from it.

use crate::{
	disk::{UNFINISHED_PREFIX, remove_if_there, write_whole},
	jobs::JobError,
	node::written,
};
use backup_primitives::{Cid, OpaqueId};
use serde::{Deserialize, Serialize};
use std::{
	fmt,
	fs::{self, File},
	io::{self, Read},
	path::{Path, PathBuf},
};

/// Most bytes of a record that are read: one with all disks has far less.
const BYTES_MAX: u64 = 1 << 20;

const SUFFIX: &str = ".json";

/// What is kept of a live restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
	pub(super) root: Cid,
	/// The node that sealed it, as which others are asked.
	pub(super) node: OpaqueId,
	pub(super) request: OpaqueId,
	/// Nothing else ever has this name.
	pub(super) socket: PathBuf,
	pub(super) images: Vec<PathBuf>,
	pub(super) total_bytes: u64,
	/// Whether all images are in their places, so that the machine may have been started.
	pub(super) is_ready: bool,
}

/// The records of a node, in a folder, by the names of their machines.
#[derive(Debug)]
pub(super) struct Records {
	folder: PathBuf,
}

impl Records {
	pub(super) fn at(folder: PathBuf) -> Self {
		Self { folder }
	}

	/// Machines that have a record, and where it is. What was not written to its end is removed.
	///
	/// # Errors
	/// If the folder cannot be read.
	pub(super) fn all(&self) -> io::Result<Vec<(String, PathBuf)>> {
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
			entries => entries?,
		};
		let mut all = Vec::new();
		for entry in entries {
			let path = entry?.path();
			let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
			if name.starts_with(UNFINISHED_PREFIX) {
				if let Err(error) = fs::remove_file(&path) {
					tracing::warn!(path = %path.display(), %error, "failed to remove what was not written to its end");
				}
			} else if let Some(vm) = name.strip_suffix(SUFFIX) {
				all.push((vm.to_owned(), path));
			}
		}
		Ok(all)
	}

	/// Write the record of a machine, in place of the one that it has.
	pub(super) fn write(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		fs::create_dir_all(&self.folder).map_err(written)?;
		let bytes = serde_json::to_vec(record).map_err(|error| written(error.into()))?;
		write_whole(&self.file(vm), &bytes).map_err(written)
	}

	pub(super) fn remove(&self, vm: &str) -> Result<(), JobError> {
		remove_if_there(&self.file(vm)).map(drop).map_err(written)
	}

	fn file(&self, vm: &str) -> PathBuf {
		self.folder.join(format!("{vm}{SUFFIX}"))
	}
}

/// A record of which nothing can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
	pub(super) path: PathBuf,
	/// The snapshot, if that much can be read.
	pub(super) root: Option<Cid>,
	/// What is wrong with it.
	pub(super) reason: String,
}

impl Unusable {
	pub(super) fn new(path: &Path, error: &io::Error) -> Self {
		Self { path: path.to_owned(), root: root_in(path), reason: error.to_string() }
	}
}

/// What is wrong, what follows, and what to do.
impl fmt::Display for Unusable {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "its record {} is of no use ({}): ", self.path.display(), self.reason)?;
		match self.root {
			Some(root) => write!(f, "its disks do not fill in, and the snapshot {root} is kept")?,
			None => write!(
				f,
				"its disks do not fill in, and which snapshot they need cannot be told, so that is given up if the chain does not record it any more"
			)?,
		}
		write!(f, "; put the record right, or end the live restore")
	}
}

/// The record in a file.
pub(super) fn read(path: &Path) -> io::Result<Record> {
	Ok(serde_json::from_slice(&bytes(path)?)?)
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
	// Whoever opens a pipe waits for its other end.
	if !fs::metadata(path)?.is_file() {
		return Err(io::Error::other("it is no file"));
	}
	let mut bytes = Vec::new();
	File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
	match bytes.len() as u64 <= BYTES_MAX {
		true => Ok(bytes),
		false => Err(io::Error::other("it is too long")),
	}
}

/// The snapshot of a record whose rest is missing or says something else.
fn root_in(path: &Path) -> Option<Cid> {
	let bytes = bytes(path).ok()?;
	let text = String::from_utf8_lossy(&bytes);
	let (_, rest) = text.split_once("\"root\"")?;
	let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
	value.split_once('"')?.0.parse().ok()
}
