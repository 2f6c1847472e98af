//! Roots that an agent remembers for a replica, whatever becomes of the agent.
//!
//! 1. *What the replica has to let go of.* A root goes from there only because it was given up here,
//!    never because it is missing here: a store that lost its disk must not take the last copies with
//!    it. So each root that is given up is noted before the agent's own store lets go of it, and the
//!    note stays until the replica has done the same.
//! 2. *Batches whose pin has no name yet.* A daemon pins a batch as it takes it, and names it when it
//!    is asked to. In between nobody finds that pin there: the note tells of it.
//!
//! One file a root, with the lineage in it, or with nothing if that is not known.

use backup_primitives::{Cid, LineageId};
use codec::{DecodeAll, Encode};
use std::{
	collections::BTreeMap,
	fs, io,
	io::Write,
	os::unix::fs::DirBuilderExt,
	path::{Path, PathBuf},
	sync::{Mutex, MutexGuard, PoisonError},
	time::{Duration, Instant},
};

/// Notes of one kind for one replica.
#[derive(Debug)]
pub(super) struct Notes {
	folder: PathBuf,
	notes: Mutex<BTreeMap<Cid, Note>>,
}

#[derive(Debug)]
struct Note {
	lineage: Option<LineageId>,
	/// When it was made, or read at the agent's start.
	since: Instant,
}

impl Notes {
	/// The notes in a folder, which is made if it is not there.
	pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
		fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
		let (mut notes, since) = (BTreeMap::new(), Instant::now());
		for entry in fs::read_dir(&folder)? {
			let entry = entry?;
			// Whatever else lies there, a note that was being written for example, is none.
			let Some(Ok(cid)) = entry.file_name().to_str().map(str::parse) else { continue };
			let lineage = LineageId::decode_all(&mut fs::read(entry.path())?.as_slice()).ok();
			notes.insert(cid, Note { lineage, since });
		}
		Ok(Self { folder, notes: Mutex::new(notes) })
	}

	fn notes(&self) -> MutexGuard<'_, BTreeMap<Cid, Note>> {
		self.notes.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Notes a root. When this returns, a power cut does not undo it.
	pub(super) fn add(&self, root: &Cid, lineage: Option<&LineageId>) -> io::Result<()> {
		let mut notes = self.notes();
		let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
		file.write_all(&lineage.map(LineageId::encode).unwrap_or_default())?;
		file.as_file().sync_all()?;
		file.persist(self.file(root)).map_err(|error| error.error)?;
		sync_folder(&self.folder)?;
		notes.insert(*root, Note { lineage: lineage.cloned(), since: Instant::now() });
		Ok(())
	}

	/// Forgets a root, of which the note is of no use any more. If that is undone by a power cut, what
	/// follows from the note is done once more.
	pub(super) fn remove(&self, root: &Cid) -> io::Result<()> {
		let mut notes = self.notes();
		if !notes.contains_key(root) {
			return Ok(());
		}
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
		self.notes().values().any(|note| note.lineage.as_ref() == Some(lineage))
	}

	/// Whether a root was noted longer ago than that, and not by an earlier run of the agent only.
	pub(super) fn is_older(&self, root: &Cid, time: Duration) -> bool {
		self.notes().get(root).is_some_and(|note| note.since.elapsed() > time)
	}

	fn file(&self, root: &Cid) -> PathBuf {
		self.folder.join(root.to_string())
	}
}

fn sync_folder(folder: &Path) -> io::Result<()> {
	fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
impl Notes {
	/// As if all had been noted so much earlier.
	pub(super) fn age(&self, time: Duration) {
		self.notes().values_mut().for_each(|note| note.since -= time);
	}
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
		let notes = Notes::open(path.clone()).unwrap();
		notes.add(&one, Some(&lineage(1))).unwrap();
		notes.add(&two, Some(&lineage(2))).unwrap();
		notes.remove(&one).unwrap();
		notes.remove(&one).unwrap();
		fs::write(path.join(".tmp-torn"), b"x").unwrap();
		let notes = Notes::open(path).unwrap();
		assert_eq!(notes.list(), [two]);
		assert!(notes.has(&two) && !notes.has(&one));
		assert!(notes.has_any_of(&lineage(2)) && !notes.has_any_of(&lineage(1)));
	}

	#[test]
	fn a_note_need_not_name_a_lineage_and_ages_from_when_it_was_read() {
		let folder = tempfile::tempdir().unwrap();
		let root = Cid::dag_cbor([1; 32]);
		Notes::open(folder.path().into()).unwrap().add(&root, None).unwrap();
		let notes = Notes::open(folder.path().into()).unwrap();
		let hour = Duration::from_secs(3600);
		assert!(notes.has(&root) && !notes.is_older(&root, hour));
		notes.age(2 * hour);
		assert!(notes.is_older(&root, hour));
	}
}
