//! Images that take others' places: after kills at any step, and gone on with.

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

	/// What the next agent does at its start, so long after.
	fn recover_after(&self, time: Duration) {
		// It knows of none under way.
		let replacements = Replacements::at(self.replacements.folder.clone());
		replacements.undo_all(|_| Ok(())).unwrap();
		let images = self.images();
		replacements.tidy(images.iter().map(PathBuf::as_path), SystemTime::now() + time);
	}

	/// When nobody goes on any more.
	fn recover(&self) {
		self.recover_after(ABANDONED_AFTER + Duration::from_secs(60));
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
	let none = |_: &str| false;
	world.images().iter().for_each(|i| world.replacements.remove_leftovers(i, none).unwrap());
	assert_eq!(world.contents()[0].as_deref(), Some("new 0"));
	world.recover();
	world.assert_old("when nobody uses them any more");
}

#[test]
fn new_images_are_kept_for_a_day_and_gone_on_with() {
	let world = World::new();
	world.begin().leave();
	world.recover_after(ABANDONED_AFTER / 2);
	let replacement = world.replacements.begin(ID, world.disks()).unwrap();
	for (index, image) in world.images().iter().enumerate() {
		let new = fs::read_to_string(replacement.new_image(image).unwrap()).unwrap();
		assert_eq!(new, format!("new {index}"));
	}
	replacement.commit().unwrap();
	world.assert_new("gone on with");
	assert!(!world.replacements.file(ID, BEGUN_SUFFIX).exists());
}

#[test]
fn new_images_that_nobody_goes_on_with_are_removed_after_a_day() {
	let world = World::new();
	world.begin().leave();
	world.recover();
	world.assert_old("a day later");
	assert!(!world.replacements.file(ID, BEGUN_SUFFIX).exists());
}

/// A restore may take more than a day, and its first image be complete from the beginning.
#[test]
fn new_images_are_kept_while_anything_happens_to_one_of_them() {
	let world = World::new();
	let replacement = world.begin();
	let days_ago = SystemTime::now() - 2 * ABANDONED_AFTER;
	let set = |path: &Path| File::open(path).unwrap().set_modified(days_ago).unwrap();
	let [first, second] = [0, 1].map(|index| replacement.places[index].new.clone());
	[&first, &second].into_iter().for_each(|new| set(new));
	set(&replacement.places[2].new);
	set(&world.replacements.file(ID, BEGUN_SUFFIX));
	// In this agent it is under way, whatever the clock says.
	world.replacements.tidy([], SystemTime::now());
	assert!(first.exists());
	File::open(&second).unwrap().set_modified(SystemTime::now()).unwrap();
	replacement.leave();
	world.recover_after(Duration::ZERO);
	assert!(first.exists() && second.exists());
	set(&second);
	world.recover_after(Duration::ZERO);
	assert!(!first.exists() && !second.exists());
}

/// Its bytes would be taken for those of the other format.
#[test]
fn a_new_image_in_another_format_is_not_gone_on_with() {
	let world = World::new();
	world.begin().leave();
	let mut disks = world.disks();
	disks[1].format = ImageFormat::Qcow2;
	let replacement = world.replacements.begin(ID, disks).unwrap();
	assert!(replacement.places.iter().all(|place| !place.new.exists()));
}

#[test]
fn another_restore_of_the_disks_removes_what_the_first_one_left() {
	let world = World::new();
	world.begin().leave();
	drop(world.replacements.begin(&"08".repeat(32), world.disks()).unwrap());
	world.assert_old("another one");
}

#[test]
fn what_somebody_else_wrote_is_no_new_image_of_ours() {
	let world = World::new();
	world.begin().leave();
	let new = world.replacements.begin(ID, world.disks()).unwrap().places[0].new.clone();
	world.begin().leave();
	fs::remove_file(&new).unwrap();
	std::os::unix::fs::symlink(world.image(1), &new).unwrap();
	let _replacement = world.replacements.begin(ID, world.disks()).unwrap();
	assert!(fs::symlink_metadata(&new).is_err());
	assert!(world.image(1).exists());
}

/// The place of the third image was free, and somebody has put one there since.
#[test]
fn an_image_that_came_meanwhile_is_not_taken_for_ours_when_all_is_undone_late() {
	let world = World::new();
	let replacement = world.begin();
	replacement.write_journal(&world.replacements.file(ID, JOURNAL_SUFFIX)).unwrap();
	replacement.leave();
	fs::write(world.image(2), "theirs").unwrap();
	let replacements = Replacements::at(world.replacements.folder.clone());
	let images = world.images();
	let late = SystemTime::now() + 2 * ABANDONED_AFTER;
	// Its machine runs, so it cannot be undone before it is tidied.
	replacements.tidy(images.iter().map(PathBuf::as_path), late);
	replacements.undo_all(|_| Ok(())).unwrap();
	assert_eq!(world.contents()[2].as_deref(), Some("theirs"));
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
