//! Images of a machine that is off, replaced all together or not at all.
//!
//! 1. The new images are written beside the old ones, under names of their own.
//! 2. A journal names them all. Whoever finds it after a kill undoes what follows.
//! 3. Each old image gets a second name, and the new one takes its place.
//! 4. The journal becomes a note that it is done: from here on nothing is undone. The old images go.

use serde::{Deserialize, Serialize};
use std::{
	ffi::OsString,
	fs::{self, File},
	io::{self, Write},
	os::unix::fs::{MetadataExt, chown},
	path::{Path, PathBuf},
};

/// What files of ours beside images have in their names, behind that of the image.
const INFIX: &str = ".pbk-";
const JOURNAL_SUFFIX: &str = ".journal";
const DONE_SUFFIX: &str = ".done";

/// Most bytes of a journal that are read: that of a machine with all its disks has far less.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;

/// The folder of journals.
#[derive(Clone, Debug)]
pub(super) struct Replacements {
	folder: PathBuf,
}

/// One image that is to be replaced.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
	image: PathBuf,
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

	/// Begin to replace these images. What an earlier attempt left is undone.
	pub(super) fn begin(
		&self,
		id: &str,
		images: impl IntoIterator<Item = PathBuf>,
	) -> io::Result<Replacement<'_>> {
		fs::create_dir_all(&self.folder)?;
		let journal = self.file(id, JOURNAL_SUFFIX);
		if journal.exists() {
			undo(&journal)?;
		}
		let places = images.into_iter().map(|image| {
			remove_leftovers(&image)?;
			let beside = |ending: &str| {
				let mut name = OsString::from(&image);
				name.push(format!("{INFIX}{id}.{ending}"));
				PathBuf::from(name)
			};
			let (new, old) = (beside("new"), beside("old"));
			Ok(Place { has_old: image.exists(), new, old, image })
		});
		let places = places.collect::<io::Result<_>>()?;
		Ok(Replacement { replacements: self, id: id.to_owned(), places })
	}

	/// Undo what was not done when the agent was killed.
	pub(super) fn undo_all(&self) -> io::Result<()> {
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
			entries => entries?,
		};
		for entry in entries {
			let path = entry?.path();
			if path.to_string_lossy().ends_with(JOURNAL_SUFFIX) {
				tracing::info!(path = %path.display(), "images that were half replaced are put back");
				undo(&path)?;
			}
		}
		Ok(())
	}
}

impl Replacement<'_> {
	/// Where the new image goes that is to take the place of this one.
	pub(super) fn new_image(&self, image: &Path) -> Option<&Path> {
		let place = self.places.iter().find(|place| place.image == image)?;
		Some(&place.new)
	}

	/// Put the new images, which are complete and durable, in the places of the old ones.
	pub(super) fn commit(mut self) -> io::Result<()> {
		self.places.iter().try_for_each(inherit_owner)?;
		let journal = self.replacements.file(&self.id, JOURNAL_SUFFIX);
		self.write_journal(&journal)?;
		if let Err(error) = self.swap() {
			// If that fails, too, the journal stays, and the next start tries again.
			undo(&journal)?;
			return Err(error);
		}
		fs::rename(&journal, self.replacements.file(&self.id, DONE_SUFFIX))?;
		sync_folder_of(&journal)?;
		for place in std::mem::take(&mut self.places) {
			remove(&place.old)?;
		}
		Ok(())
	}

	fn write_journal(&self, journal: &Path) -> io::Result<()> {
		let partial = journal.with_extension("partial");
		let mut file = File::create(&partial)?;
		file.write_all(&serde_json::to_vec(&self.places)?)?;
		file.sync_all()?;
		fs::rename(&partial, journal)?;
		sync_folder_of(journal)
	}

	fn swap(&self) -> io::Result<()> {
		for place in &self.places {
			if place.has_old {
				fs::hard_link(&place.image, &place.old)?;
				sync_folder_of(&place.image)?;
			}
			fs::rename(&place.new, &place.image)?;
			sync_folder_of(&place.image)?;
		}
		Ok(())
	}
}

impl Drop for Replacement<'_> {
	fn drop(&mut self) {
		for place in &self.places {
			if let Err(error) = remove(&place.new) {
				tracing::warn!(%error, path = %place.new.display(), "failed to remove a new image");
			}
		}
	}
}

/// Put everything back to where it was before a replacement. It may be done again after a kill.
fn undo(journal: &Path) -> io::Result<()> {
	let file = File::open(journal)?;
	if file.metadata()?.len() > JOURNAL_BYTES_MAX {
		return Err(io::Error::other(format!("{} is no journal of ours", journal.display())));
	}
	let places: Vec<Place> = serde_json::from_reader(io::BufReader::new(file))?;
	for place in &places {
		match place.has_old {
			true if place.old.exists() => {
				fs::rename(&place.old, &place.image)?;
				// Two names of one file are left as they are by a renaming.
				remove(&place.old)?;
			}
			false if !place.new.exists() && place.image.exists() => {
				fs::rename(&place.image, &place.new)?;
			}
			_ => (),
		}
		sync_folder_of(&place.image)?;
	}
	fs::remove_file(journal)?;
	sync_folder_of(journal)?;
	places.iter().try_for_each(|place| remove(&place.new))
}

/// Who could use the old image can use the new one.
fn inherit_owner(place: &Place) -> io::Result<()> {
	if !place.has_old {
		return Ok(());
	}
	let old = fs::metadata(&place.image)?;
	fs::set_permissions(&place.new, old.permissions())?;
	chown(&place.new, Some(old.uid()), Some(old.gid()))
}

/// Remove what replacements without a journal have left beside an image.
pub(super) fn remove_leftovers(image: &Path) -> io::Result<()> {
	let (Some(folder), Some(name)) = (image.parent(), image.file_name()) else { return Ok(()) };
	let prefix = format!("{}{INFIX}", name.to_string_lossy());
	let entries = match fs::read_dir(folder) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
		entries => entries?,
	};
	for entry in entries {
		let entry = entry?;
		if entry.file_name().to_string_lossy().starts_with(&prefix) {
			remove(&entry.path())?;
		}
	}
	Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
	match fs::remove_file(path) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
		result => result,
	}
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
	File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::fs::PermissionsExt;

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

		/// A replacement whose new images are written.
		fn begin(&self) -> Replacement<'_> {
			let replacement = self.replacements.begin("7", self.images()).unwrap();
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
			self.replacements.undo_all().unwrap();
			self.images().iter().for_each(|image| remove_leftovers(image).unwrap());
		}
	}

	#[test]
	fn new_images_take_the_places_and_the_rights_of_the_old_ones() {
		let world = World::new();
		fs::set_permissions(world.image(0), fs::Permissions::from_mode(0o640)).unwrap();
		assert!(!world.replacements.is_done("7"));
		world.begin().commit().unwrap();
		world.assert_new("after all");
		assert!(world.replacements.is_done("7"));
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
			let journal = world.replacements.file("7", JOURNAL_SUFFIX);
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
					fs::hard_link(&place.image, &place.old).unwrap();
				}
				if may_go_on() {
					fs::rename(&place.new, &place.image).unwrap();
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
		let journal = world.replacements.file("7", JOURNAL_SUFFIX);
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
		let journal = world.replacements.file("7", JOURNAL_SUFFIX);
		replacement.write_journal(&journal).unwrap();
		replacement.swap().unwrap();
		fs::rename(&journal, world.replacements.file("7", DONE_SUFFIX)).unwrap();
		std::mem::forget(replacement);
		world.recover();
		world.assert_new("committed");
	}

	#[test]
	fn a_second_attempt_begins_anew() {
		let world = World::new();
		let replacement = world.begin();
		replacement.write_journal(&world.replacements.file("7", JOURNAL_SUFFIX)).unwrap();
		replacement.swap().unwrap();
		std::mem::forget(replacement);
		world.begin().commit().unwrap();
		world.assert_new("the second time");
	}
}
