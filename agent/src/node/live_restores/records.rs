//! What is kept of live restores, so that an agent that starts goes on with them.

use crate::{
	disk::{UNFINISHED_PREFIX, remove_if_there, write_whole},
	jobs::JobError,
	node::written,
};
use backup_primitives::{Cid, OpaqueId};
use serde::{Deserialize, Serialize};
use std::{
	fs, io,
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
				fs::remove_file(&path)?;
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

pub(super) fn read(path: &Path) -> io::Result<Record> {
	let length = fs::metadata(path)?.len();
	if length > BYTES_MAX {
		return Err(io::Error::other(format!("{} is too long", path.display())));
	}
	Ok(serde_json::from_slice(&fs::read(path)?)?)
}
