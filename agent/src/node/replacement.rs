//! Images of a machine that is off, replaced all together or not at all.
//!
//! 1. A note says what is to be replaced. The new images are written beside the old ones, under
//!    names of their own. An attempt that was cut short is gone on with by the next one for the same
//!    disks; one that nobody goes on with for a day is removed.
//! 2. A journal names them all. Whoever finds it after a kill undoes what follows.
//! 3. Each old image gets a second name, and the new one takes its place.
//! 4. The journal becomes a note that it is done: from here on nothing is undone. The old images go.

#[cfg(test)]
mod tests;

use super::ABANDONED_AFTER;
use crate::{
	disk::{remove_if_there, write_whole},
	sources::{Disk, SourceError},
	targets::rename_new,
};
use serde::{Deserialize, Serialize};
use std::{
	collections::HashSet,
	ffi::OsString,
	fs::{self, File},
	io,
	os::unix::fs::{MetadataExt, chown},
	path::{Path, PathBuf},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	time::{Duration, SystemTime},
};

/// What files of ours beside images have in their names, behind that of the image.
const INFIX: &str = ".pbk-";
const NEW: &str = "new";
const OLD: &str = "old";
/// What else there may be of a new image: as long as it is not complete, and how far it is.
const UNFINISHED: [&str; 3] = [".partial", ".partial.progress", ".partial.progress.next"];
const BEGUN_SUFFIX: &str = ".begun";
const JOURNAL_SUFFIX: &str = ".journal";
const DONE_SUFFIX: &str = ".done";

/// Most bytes of a journal that are read: that of a machine with all its disks has far less.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// How long it is known that a replacement is done. Its order has ended long before.
const DONE_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The folder of journals.
#[derive(Clone, Debug)]
pub(super) struct Replacements {
	folder: PathBuf,
	/// Those that are under way.
	active: Arc<Mutex<HashSet<String>>>,
}

/// One image that is to be replaced.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
	disk: Disk,
	new: PathBuf,
	old: PathBuf,
	/// Whether there was an image before.
	has_old: bool,
}

/// The images of one machine. Dropping it before [`commit`](Self::commit) removes the new ones.
#[derive(Debug)]
pub(super) struct Replacement<'r> {
	replacements: &'r Replacements,
	id: String,
	places: Vec<Place>,
	/// Whether another attempt will go on with what is there.
	is_left: bool,
}

impl Place {
	fn of(disk: Disk, id: &str) -> io::Result<Self> {
		ensure_inheritable(&disk.image)?;
		let beside = |ending: &str| {
			let mut name = OsString::from(&disk.image);
			name.push(format!("{INFIX}{id}.{ending}"));
			PathBuf::from(name)
		};
		let (new, old, has_old) = (beside(NEW), beside(OLD), disk.image.exists());
		Ok(Self { disk, new, old, has_old })
	}

	/// The new image, complete or not, and what is kept of how far it is.
	fn new_files(&self) -> impl Iterator<Item = PathBuf> + use<'_> {
		let unfinished = UNFINISHED.iter().map(|suffix| {
			let mut name = self.new.clone().into_os_string();
			name.push(suffix);
			PathBuf::from(name)
		});
		std::iter::once(self.new.clone()).chain(unfinished)
	}

	fn remove_new(&self) -> io::Result<()> {
		self.new_files().try_for_each(|file| remove_if_there(&file).map(drop))
	}

	/// What has the name of a complete image is one only if this user has written it.
	fn remove_foreign(&self) -> io::Result<()> {
		let ours = rustix::process::geteuid().as_raw();
		match fs::symlink_metadata(&self.new) {
			Ok(found) if !found.is_file() || found.uid() != ours => fs::remove_file(&self.new),
			_ => Ok(()),
		}
	}
}

impl Replacements {
	pub(super) fn at(folder: PathBuf) -> Self {
		Self { folder, active: Arc::default() }
	}

	fn file(&self, id: &str, suffix: &str) -> PathBuf {
		self.folder.join(format!("{id}{suffix}"))
	}

	/// Whether the replacement of this name is done.
	pub(super) fn is_done(&self, id: &str) -> bool {
		self.file(id, DONE_SUFFIX).exists()
	}

	/// Begin to replace the images of these disks, which are held, so that nobody uses them, or go
	/// on with that. What other attempts left beside them is removed.
	pub(super) fn begin(
		&self,
		id: &str,
		disks: impl IntoIterator<Item = Disk>,
	) -> io::Result<Replacement<'_>> {
		fs::create_dir_all(&self.folder)?;
		let journal = self.file(id, JOURNAL_SUFFIX);
		if journal.exists() {
			undo(&journal, &read_places(&journal)?)?;
		}
		let places = disks.into_iter().map(|disk| Place::of(disk, id));
		let places = places.collect::<io::Result<Vec<Place>>>()?;
		self.active().insert(id.to_owned());
		let replacement =
			Replacement { replacements: self, id: id.to_owned(), places, is_left: false };
		replacement.prepare()?;
		Ok(replacement)
	}

	fn active(&self) -> MutexGuard<'_, HashSet<String>> {
		self.active.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Undo what was not done when an agent was killed, where nobody uses the images. Those of
	/// which that cannot be said are left as they are, and told.
	pub(super) fn undo_all<H>(
		&self,
		hold: impl Fn(&[Disk]) -> Result<H, SourceError>,
	) -> io::Result<()> {
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
			entries => entries?,
		};
		for entry in entries {
			let entry = entry?;
			let (path, name) = (entry.path(), entry.file_name());
			if name.to_string_lossy().ends_with(JOURNAL_SUFFIX) {
				tracing::info!(path = %path.display(), "images that were half replaced are put back");
				if let Err(error) = undo_held(&path, &hold) {
					tracing::error!(%error, path = %path.display(), "images are half replaced and stay so: shut their machine down, then start the agent again");
				}
			} else if name.to_string_lossy().ends_with(DONE_SUFFIX) && is_old(&entry) {
				remove_if_there(&path)?;
			}
		}
		Ok(())
	}

	/// Remove what nobody goes on with: attempts that were cut short a day ago, and what is beside
	/// these images that no note speaks of.
	pub(super) fn tidy<'i>(&self, images: impl IntoIterator<Item = &'i Path>, now: SystemTime) {
		if let Err(error) = self.forget_abandoned(now) {
			tracing::warn!(%error, "failed to remove images that were half restored");
		}
		for image in images {
			let is_kept = |id: &str| self.file(id, BEGUN_SUFFIX).exists();
			if let Err(error) = self.remove_leftovers(image, is_kept) {
				tracing::warn!(%error, image = %image.display(), "failed to look for leftovers");
			}
		}
	}

	fn forget_abandoned(&self, now: SystemTime) -> io::Result<()> {
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
			entries => entries?,
		};
		for entry in entries {
			let (note, name) = {
				let entry = entry?;
				(entry.path(), entry.file_name().to_string_lossy().into_owned())
			};
			let Some(id) = name.strip_suffix(BEGUN_SUFFIX) else { continue };
			// Held, so that none begins meanwhile.
			let active = self.active();
			// What is half in its place is undone first.
			if active.contains(id) || self.file(id, JOURNAL_SUFFIX).exists() {
				continue;
			}
			let places = read_places(&note).unwrap_or_default();
			if self.is_done(id) || is_abandoned(&note, &places, now) {
				tracing::info!(id, "what is left of a replacement is removed");
				places.iter().try_for_each(Place::remove_new)?;
				remove_if_there(&note)?;
			}
		}
		Ok(())
	}

	/// Remove what replacements have left beside an image: new ones that nobody writes and that are
	/// not kept, and old ones after all was done.
	pub(super) fn remove_leftovers(
		&self,
		image: &Path,
		is_kept: impl Fn(&str) -> bool,
	) -> io::Result<()> {
		let image = match fs::canonicalize(image) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => image.to_owned(),
			image => image?,
		};
		let (Some(folder), Some(name)) = (image.parent(), image.file_name()) else {
			return Ok(());
		};
		let prefix = format!("{}{INFIX}", name.to_string_lossy());
		let entries = match fs::read_dir(folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
			entries => entries?,
		};
		for entry in entries {
			let path = entry?.path();
			let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
			let Some((id, ending)) = name.strip_prefix(&prefix).and_then(of_ours) else { continue };
			let is_left = match ending {
				OLD => self.is_done(id),
				_ => !is_kept(id) && !self.file(id, JOURNAL_SUFFIX).exists() && is_unlocked(&path)?,
			};
			if is_left {
				remove_if_there(&path)?;
			}
		}
		Ok(())
	}
}

/// Whether nothing has happened to a replacement for so long that nobody will go on with it.
fn is_abandoned(note: &Path, places: &[Place], now: SystemTime) -> bool {
	let files = std::iter::once(note.to_owned()).chain(places.iter().flat_map(Place::new_files));
	let changed = files.filter_map(|file| fs::metadata(file).and_then(|file| file.modified()).ok());
	let age = changed.max().and_then(|changed| now.duration_since(changed).ok());
	age.is_some_and(|age| age > ABANDONED_AFTER)
}

/// The name of the replacement and what the file is of it, if it is a file of ours.
fn of_ours(rest: &str) -> Option<(&str, &str)> {
	let (id, ending) = rest.split_once('.')?;
	let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
	let unfinished = UNFINISHED.iter().find_map(|suffix| ending.strip_suffix(suffix));
	let ending = unfinished.unwrap_or(ending);
	(is_id && (ending == NEW || ending == OLD)).then_some((id, ending))
}

/// Whether nobody writes a file: who does so holds a lock.
fn is_unlocked(path: &Path) -> io::Result<bool> {
	match File::open(path) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
		file => Ok(file?.try_lock().is_ok()),
	}
}

fn is_old(entry: &fs::DirEntry) -> bool {
	let modified = entry.metadata().and_then(|file| file.modified()).ok();
	modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > DONE_TIME)
}

impl Replacement<'_> {
	/// Where the new image goes that is to take the place of this one.
	pub(super) fn new_image(&self, image: &Path) -> Option<&Path> {
		let place = self.places.iter().find(|place| place.disk.image == image)?;
		Some(&place.new)
	}

	/// Note what is to be replaced, and see that what is there of the new images belongs to that: an
	/// image in another format would be gone on with in the wrong one.
	fn prepare(&self) -> io::Result<()> {
		let note = self.replacements.file(&self.id, BEGUN_SUFFIX);
		let known = read_places(&note).unwrap_or_default();
		if !known.iter().map(|place| &place.disk).eq(self.places.iter().map(|place| &place.disk)) {
			known.iter().chain(&self.places).try_for_each(Place::remove_new)?;
		}
		for place in &self.places {
			place.remove_foreign()?;
			self.replacements.remove_leftovers(&place.disk.image, |id| id == self.id)?;
		}
		write_whole(&note, &serde_json::to_vec(&self.places)?)
	}

	/// Leave what is there for another attempt.
	pub(super) fn leave(mut self) {
		self.is_left = true;
	}

	/// Put the new images, which are complete and durable, in the places of the old ones.
	pub(super) fn commit(mut self) -> io::Result<()> {
		self.places.iter().try_for_each(inherit_owner)?;
		let journal = self.replacements.file(&self.id, JOURNAL_SUFFIX);
		self.write_journal(&journal)?;
		let done = self.replacements.file(&self.id, DONE_SUFFIX);
		if let Err(error) = self.swap().and_then(|()| fs::rename(&journal, &done)) {
			// If that fails, too, the journal stays, and the next start tries again.
			undo(&journal, &self.places)?;
			return Err(error);
		}
		sync_folder_of(&journal)?;
		for place in std::mem::take(&mut self.places) {
			remove_if_there(&place.old)?;
		}
		Ok(())
	}

	fn write_journal(&self, journal: &Path) -> io::Result<()> {
		write_whole(journal, &serde_json::to_vec(&self.places)?)
	}

	fn swap(&self) -> io::Result<()> {
		for place in &self.places {
			if place.has_old {
				fs::hard_link(&place.disk.image, &place.old)?;
				sync_folder_of(&place.disk.image)?;
			}
			match place.has_old {
				true => fs::rename(&place.new, &place.disk.image)?,
				// What came there meanwhile is not ours to replace.
				false => rename_new(&place.new, &place.disk.image)?,
			}
			sync_folder_of(&place.disk.image)?;
		}
		Ok(())
	}
}

impl Drop for Replacement<'_> {
	fn drop(&mut self) {
		let mut active = self.replacements.active();
		active.remove(&self.id);
		// A journal that could not be undone speaks of the new images, and takes them with it.
		if self.is_left || self.replacements.file(&self.id, JOURNAL_SUFFIX).exists() {
			return;
		}
		let note = self.replacements.file(&self.id, BEGUN_SUFFIX);
		let removed = self.places.iter().try_for_each(Place::remove_new);
		if let Err(error) = removed.and_then(|()| remove_if_there(&note).map(drop)) {
			tracing::warn!(%error, "failed to remove new images; they go in a day");
		}
	}
}

fn read_places(file: &Path) -> io::Result<Vec<Place>> {
	let found = File::open(file)?;
	if found.metadata()?.len() > JOURNAL_BYTES_MAX {
		return Err(io::Error::other(format!("{} is no journal of ours", file.display())));
	}
	Ok(serde_json::from_reader(io::BufReader::new(found))?)
}

fn undo_held<H>(
	journal: &Path,
	hold: &impl Fn(&[Disk]) -> Result<H, SourceError>,
) -> io::Result<()> {
	let places = read_places(journal)?;
	let disks: Vec<Disk> = places.iter().map(|place| place.disk.clone()).collect();
	let _held = hold(&disks)?;
	undo(journal, &places)
}

/// Put everything back to where it was before a replacement. It may be done again after a kill.
fn undo(journal: &Path, places: &[Place]) -> io::Result<()> {
	for place in places {
		let image = &place.disk.image;
		match place.has_old {
			true if place.old.exists() => {
				fs::rename(&place.old, image)?;
				// Two names of one file are left as they are by a renaming.
				remove_if_there(&place.old)?;
			}
			false if !place.new.exists() && image.exists() => fs::rename(image, &place.new)?,
			_ => (),
		}
		sync_folder_of(image)?;
	}
	fs::remove_file(journal)?;
	sync_folder_of(journal)?;
	places.iter().try_for_each(|place| remove_if_there(&place.new).map(drop))
}

/// Whether new images can be given to whom the old one belongs: known before hours are spent.
fn ensure_inheritable(image: &Path) -> io::Result<()> {
	let ours = rustix::process::geteuid();
	match fs::metadata(image) {
		Ok(old) if !ours.is_root() && old.uid() != ours.as_raw() => Err(io::Error::other(format!(
			"{} belongs to another user; run the agent as root to replace it",
			image.display()
		))),
		_ => Ok(()),
	}
}

/// Who could use the old image can use the new one.
fn inherit_owner(place: &Place) -> io::Result<()> {
	if !place.has_old {
		return Ok(());
	}
	let old = fs::metadata(&place.disk.image)?;
	fs::set_permissions(&place.new, old.permissions())?;
	chown(&place.new, Some(old.uid()), Some(old.gid()))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
	File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
