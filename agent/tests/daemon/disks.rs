//! Disks that are full. They are small tmpfs mounts, which only root can make.

use crate::{
	orders::restore_of,
	world::{World, noise},
};
use backup_primitives::{FailureReason, job::SnapshotOrder};
use std::{
	fs,
	path::{Path, PathBuf},
	process::Command,
};

const MIB: usize = 1 << 20;

/// A small file system. It goes when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
	/// A file system of so many MiB over a folder; nothing, and a word why, where it may not
	/// be mounted.
	pub(crate) fn over(folder: &Path, mib: usize) -> Option<Self> {
		let mounted = Command::new("mount")
			.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "tmpfs"])
			.arg(folder)
			.output()
			.unwrap();
		if !mounted.status.success() {
			println!("skipped: a small disk needs root: {mounted:?}");
			return None;
		}
		Some(Self(folder.to_owned()))
	}

	pub(crate) fn grow(&self, mib: usize) {
		let options = format!("remount,size={mib}m");
		let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
		assert!(status.unwrap().success());
	}
}

impl Drop for SmallDisk {
	fn drop(&mut self) {
		let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
	}
}

/// The store keeps 256 MiB in reserve, so this leaves 104 MiB for blocks.
pub(crate) const STORE_MIB: usize = 360;

#[test]
fn a_full_store_fails_the_job_loses_nothing_and_takes_more_when_there_is_room() {
	let mut world = World::prepare();
	let Some(disk) = SmallDisk::over(&world.path("state/blocks"), STORE_MIB) else { return };
	world.start_agent();
	let bytes = noise(1, 8 * MIB);
	let small = world.machine(7, &bytes);
	let kept = world.take(&small).unwrap();

	let large = world.machine(8, &noise(2, 192 * MIB));
	assert_eq!(world.take(&large), Err(FailureReason::StoreFull));
	assert_eq!(world.roots(), [kept.cid.to_string()]);
	let folder = world.restore(&restore_of(&small, kept.cid, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");

	disk.grow(2 * STORE_MIB);
	world.take(&SnapshotOrder { slot: 1, ..large }).unwrap();
	assert_eq!(world.roots().len(), 2);
	world.kill();
}

#[test]
fn a_full_target_fails_the_restore_and_leaves_no_file() {
	let mut world = World::prepare();
	let Some(disk) = SmallDisk::over(&world.path("state/restored"), 16) else { return };
	world.start_agent();
	let bytes = noise(1, 24 * MIB);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	assert_eq!(world.restore(&restore_of(&order, taken.cid, 1)), Err(FailureReason::TargetFull));
	assert_eq!(world.restored().len(), 0);
	disk.grow(32);
	let folder = world.restore(&restore_of(&order, taken.cid, 2)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	world.kill();
}
