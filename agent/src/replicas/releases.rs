//! Roots that a replica has to let go of.
//!
//! A root goes from a replica only because it was given up here, never because it is missing here:
//! a store that lost its disk must not take the last copies with it. So each root that is given up
//! is noted, durably and before the agent's own store lets go of it, and the note stays until the
//! replica has done the same. One file a root, with the lineage in it.

use backup_primitives::{Cid, LineageId};
use codec::{DecodeAll, Encode};
use std::{
	collections::BTreeMap,
	fs, io,
	io::Write,
	os::unix::fs::DirBuilderExt,
	path::{Path, PathBuf},
	sync::{Mutex, MutexGuard, PoisonError},
};

/// The notes for one replica.
#[derive(Debug)]
pub(super) struct Releases {
	folder: PathBuf,
	notes: Mutex<BTreeMap<Cid, Option<LineageId>>>,
}

impl Releases {
	/// The notes in a folder, which is made if it is not there.
	pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
		fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
		let mut notes = BTreeMap::new();
		for entry in fs::read_dir(&folder)? {
			let entry = entry?;
			// Whatever else lies there, a note that was being written for example, is none.
			let Some(Ok(cid)) = entry.file_name().to_str().map(str::parse) else { continue };
			let lineage = LineageId::decode_all(&mut fs::read(entry.path())?.as_slice()).ok();
			notes.insert(cid, lineage);
		}
		Ok(Self { folder, notes: Mutex::new(notes) })
	}

	fn notes(&self) -> MutexGuard<'_, BTreeMap<Cid, Option<LineageId>>> {
		self.notes.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Notes a root. When this returns, a power cut does not undo it.
	pub(super) fn add(&self, root: &Cid, lineage: &LineageId) -> io::Result<()> {
		let mut notes = self.notes();
		let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
		file.write_all(&lineage.encode())?;
		file.as_file().sync_all()?;
		file.persist(self.file(root)).map_err(|error| error.error)?;
		sync_folder(&self.folder)?;
		notes.insert(*root, Some(lineage.clone()));
		Ok(())
	}

	/// Forgets a root, which the replica has let go of or which is wanted again. If that is undone
	/// by a power cut, it is done once more.
	pub(super) fn remove(&self, root: &Cid) -> io::Result<()> {
		let mut notes = self.notes();
		match fs::remove_file(self.file(root)) {
			Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
			_ => notes.remove(root),
		};
		Ok(())
	}

	/// All roots that are noted.
	pub(super) fn list(&self) -> Vec<Cid> {
		self.notes().keys().copied().collect()
	}

	/// Whether a root is.
	pub(super) fn has(&self, root: &Cid) -> bool {
		self.notes().contains_key(root)
	}

	/// Whether one of a lineage is.
	pub(super) fn has_any_of(&self, lineage: &LineageId) -> bool {
		self.notes().values().flatten().any(|of| of == lineage)
	}

	fn file(&self, root: &Cid) -> PathBuf {
		self.folder.join(root.to_string())
	}
}

fn sync_folder(folder: &Path) -> io::Result<()> {
	fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
	use super::*;
	use backup_primitives::OpaqueId;

	#[test]
	fn notes_survive_a_start_until_they_are_removed() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("released");
		let lineage =
			|number: u64| LineageId { request: OpaqueId::of(&number).unwrap(), salt: [1; 32] };
		let (one, two) = (Cid::dag_cbor([1; 32]), Cid::dag_cbor([2; 32]));
		let notes = Releases::open(path.clone()).unwrap();
		notes.add(&one, &lineage(1)).unwrap();
		notes.add(&two, &lineage(2)).unwrap();
		notes.remove(&one).unwrap();
		notes.remove(&one).unwrap();
		fs::write(path.join(".tmp-torn"), b"x").unwrap();
		let notes = Releases::open(path).unwrap();
		assert_eq!(notes.list(), [two]);
		assert!(notes.has(&two) && !notes.has(&one));
		assert!(notes.has_any_of(&lineage(2)) && !notes.has_any_of(&lineage(1)));
	}
}
