//! Images of a machine that is off, replaced all together or not at all.
//!
//! 1. The new images are written beside the old ones, under names of their own.
//! 2. A journal names them all. Whoever finds it after a kill undoes what follows.
//! 3. Each old image gets a second name, and the new one takes its place.
//! 4. The journal becomes a note that it is done: from here on nothing is undone. The old images go.

use crate::{
	disk::{remove_if_there, write_whole},
	sources::{Disk, SourceError},
	targets::rename_new,
};
use serde::{Deserialize, Serialize};
use std::{
	ffi::OsString,
	fs::{self, File},
	io,
	os::unix::fs::{MetadataExt, chown},
	path::{Path, PathBuf},
	time::Duration,
};

/// What files of ours beside images have in their names, behind that of the image.
const INFIX: &str = ".pbk-";
const NEW: &str = "new";
const OLD: &str = "old";
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
}

impl Replacements {
	pub(super) fn at(folder: PathBuf) -> Self {
		Self { folder }
	}

	fn file(&self, id: &str, suffix: &str) -> PathBuf {
		self.folder.join(format!("{id}{suffix}"))
	}

	/// Whether the replacement of this name is done.
	pub(super) fn is_done(&self, id: &str) -> bool {
		self.file(id, DONE_SUFFIX).exists()
	}

	/// Begin to replace the images of these disks, which are held, so that nobody uses them. What
	/// an earlier attempt left is undone.
	pub(super) fn begin(
		&self,
		id: &str,
		disks: impl IntoIterator<Item = Disk>,
	) -> io::Result<Replacement<'_>> {
		fs::create_dir_all(&self.folder)?;
		let journal = self.file(id, JOURNAL_SUFFIX);
		if journal.exists() {
			undo(&journal, &read_journal(&journal)?)?;
		}
		let places = disks.into_iter().map(|disk| {
			self.remove_leftovers(&disk.image)?;
			ensure_inheritable(&disk.image)?;
			let beside = |ending: &str| {
				let mut name = OsString::from(&disk.image);
				name.push(format!("{INFIX}{id}.{ending}"));
				PathBuf::from(name)
			};
			let (new, old, has_old) = (beside(NEW), beside(OLD), disk.image.exists());
			Ok(Place { disk, new, old, has_old })
		});
		let places = places.collect::<io::Result<_>>()?;
		Ok(Replacement { replacements: self, id: id.to_owned(), places })
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

	/// Remove what killed replacements have left beside an image: new ones that nobody writes, and
	/// old ones after all was done.
	pub(super) fn remove_leftovers(&self, image: &Path) -> io::Result<()> {
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
				_ => !self.file(id, JOURNAL_SUFFIX).exists() && is_unlocked(&path)?,
			};
			if is_left {
				remove_if_there(&path)?;
			}
		}
		Ok(())
	}
}

/// The name of the replacement and what the file is of it, if it is a file of ours.
fn of_ours(rest: &str) -> Option<(&str, &str)> {
	let (id, ending) = rest.split_once('.')?;
	let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
	let without = |ending, suffix: &str| str::strip_suffix(ending, suffix).unwrap_or(ending);
	let ending = without(without(without(ending, ".next"), ".progress"), ".partial");
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
		for place in &self.places {
			if let Err(error) = remove_if_there(&place.new) {
				tracing::warn!(%error, path = %place.new.display(), "failed to remove a new image");
			}
		}
	}
}

fn read_journal(journal: &Path) -> io::Result<Vec<Place>> {
	let file = File::open(journal)?;
	if file.metadata()?.len() > JOURNAL_BYTES_MAX {
		return Err(io::Error::other(format!("{} is no journal of ours", journal.display())));
	}
	Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

fn undo_held<H>(
	journal: &Path,
	hold: &impl Fn(&[Disk]) -> Result<H, SourceError>,
) -> io::Result<()> {
	let places = read_journal(journal)?;
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

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::ImageFormat;
	use std::os::unix::fs::PermissionsExt;

	const ID: &str = "0707070707070707070707070707070707070707070707070707070707070707";

	struct World {
		folder: tempfile::TempDir,
		replacements: Replacements,
	}

	impl World {
		/// Two images, and the place of a third which is lost.
		fn new() -> Self {
			let folder = tempfile::tempdir().unwrap();
			let replacements = Replacements::at(folder.path().join("journals"));
			let world = Self { folder, replacements };
			fs::write(world.image(0), "old 0").unwrap();
			fs::write(world.image(1), "old 1").unwrap();
			world
		}

		fn image(&self, index: usize) -> PathBuf {
			self.folder.path().join(format!("disk{index}.img"))
		}

		fn images(&self) -> [PathBuf; 3] {
			[0, 1, 2].map(|index| self.image(index))
		}

		fn disks(&self) -> Vec<Disk> {
			let disk =
				|image| Disk { name: "vda".into(), image, format: ImageFormat::Raw, skip: false };
			self.images().map(disk).into()
		}

		/// A replacement whose new images are written.
		fn begin(&self) -> Replacement<'_> {
			let replacement = self.replacements.begin(ID, self.disks()).unwrap();
			for (index, image) in self.images().iter().enumerate() {
				fs::write(replacement.new_image(image).unwrap(), format!("new {index}")).unwrap();
			}
			replacement
		}

		fn contents(&self) -> [Option<String>; 3] {
			self.images().map(|image| fs::read_to_string(image).ok())
		}

		fn assert_old(&self, context: &str) {
			let old = [Some("old 0".to_owned()), Some("old 1".to_owned()), None];
			assert_eq!(self.contents(), old, "{context}");
			self.assert_no_leftovers(context);
		}

		fn assert_new(&self, context: &str) {
			let new = [0, 1, 2].map(|index| Some(format!("new {index}")));
			assert_eq!(self.contents(), new, "{context}");
			self.assert_no_leftovers(context);
		}

		fn assert_no_leftovers(&self, context: &str) {
			let names = fs::read_dir(self.folder.path()).unwrap();
			let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
			let left: Vec<_> = names.filter(|name| name.contains(INFIX)).collect();
			assert!(left.is_empty(), "{context}: {left:?}");
		}

		/// What the next agent does at its start.
		fn recover(&self) {
			self.replacements.undo_all(|_| Ok(())).unwrap();
			let clean = |image: &PathBuf| self.replacements.remove_leftovers(image).unwrap();
			self.images().iter().for_each(clean);
		}
	}

	#[test]
	fn new_images_take_the_places_and_the_rights_of_the_old_ones() {
		let world = World::new();
		fs::set_permissions(world.image(0), fs::Permissions::from_mode(0o640)).unwrap();
		assert!(!world.replacements.is_done(ID));
		world.begin().commit().unwrap();
		world.assert_new("after all");
		assert!(world.replacements.is_done(ID));
		assert_eq!(fs::metadata(world.image(0)).unwrap().permissions().mode() & 0o777, 0o640);
		world.recover();
		world.assert_new("after the next start");
	}

	#[test]
	fn a_replacement_that_is_given_up_leaves_the_old_images() {
		let world = World::new();
		drop(world.begin());
		world.assert_old("given up");
	}

	/// The steps of a commit, as a kill leaves them.
	#[test]
	fn after_a_kill_at_any_step_the_old_images_are_all_back() {
		for steps in 0..=7 {
			let world = World::new();
			let replacement = world.begin();
			let journal = world.replacements.file(ID, JOURNAL_SUFFIX);
			let mut left = steps;
			let mut may_go_on = || {
				left -= 1;
				left >= 0
			};
			if may_go_on() {
				replacement.write_journal(&journal).unwrap();
			}
			for place in &replacement.places {
				if place.has_old && may_go_on() {
					fs::hard_link(&place.disk.image, &place.old).unwrap();
				}
				if may_go_on() {
					fs::rename(&place.new, &place.disk.image).unwrap();
				}
			}
			std::mem::forget(replacement);
			world.recover();
			world.assert_old(&format!("killed after {steps} steps"));
		}
	}

	#[test]
	fn a_kill_in_the_middle_of_undoing_is_undone_as_well() {
		let world = World::new();
		let replacement = world.begin();
		let journal = world.replacements.file(ID, JOURNAL_SUFFIX);
		replacement.write_journal(&journal).unwrap();
		replacement.swap().unwrap();
		// The first image is back, the others are not.
		fs::rename(&replacement.places[0].old, world.image(0)).unwrap();
		std::mem::forget(replacement);
		world.recover();
		world.assert_old("killed again");
	}

	#[test]
	fn after_a_kill_behind_the_commit_the_new_images_stay() {
		let world = World::new();
		let replacement = world.begin();
		let journal = world.replacements.file(ID, JOURNAL_SUFFIX);
		replacement.write_journal(&journal).unwrap();
		replacement.swap().unwrap();
		fs::rename(&journal, world.replacements.file(ID, DONE_SUFFIX)).unwrap();
		std::mem::forget(replacement);
		world.recover();
		world.assert_new("committed");
	}

	#[test]
	fn a_second_attempt_begins_anew() {
		let world = World::new();
		let replacement = world.begin();
		replacement.write_journal(&world.replacements.file(ID, JOURNAL_SUFFIX)).unwrap();
		replacement.swap().unwrap();
		std::mem::forget(replacement);
		world.begin().commit().unwrap();
		world.assert_new("the second time");
	}

	/// The machine may have started before the agent.
	#[test]
	fn images_that_somebody_uses_are_not_put_back_under_him() {
		let world = World::new();
		let replacement = world.begin();
		replacement.write_journal(&world.replacements.file(ID, JOURNAL_SUFFIX)).unwrap();
		replacement.swap().unwrap();
		std::mem::forget(replacement);
		let in_use = |disks: &[Disk]| -> Result<(), SourceError> {
			Err(SourceError::ImageInUse { path: disks[0].image.clone() })
		};
		world.replacements.undo_all(in_use).unwrap();
		world.images().iter().for_each(|i| world.replacements.remove_leftovers(i).unwrap());
		assert_eq!(world.contents()[0].as_deref(), Some("new 0"));
		world.recover();
		world.assert_old("when nobody uses them any more");
	}

	#[test]
	fn files_of_others_beside_an_image_are_left_alone() {
		let world = World::new();
		let theirs = world.folder.path().join("disk0.img.pbk-before-upgrade");
		fs::write(&theirs, "theirs").unwrap();
		let written = world.folder.path().join(format!("disk0.img.pbk-{ID}.new.partial"));
		let file = File::create(&written).unwrap();
		file.lock().unwrap();
		let old = world.folder.path().join(format!("disk0.img.pbk-{ID}.old"));
		fs::write(&old, "of a replacement that this agent does not know").unwrap();
		world.recover();
		assert!(theirs.exists() && written.exists() && old.exists());
		drop(file);
		world.recover();
		assert!(!written.exists());
	}
}
