//! Disks that are full.

use crate::{
	orders::restore_of,
	small_disk::SmallDisk,
	world::{World, noise},
};
use backup_primitives::{FailureReason, job::SnapshotOrder};
use std::fs;

const MIB: usize = 1 << 20;

/// The store keeps 256 MiB in reserve, so this leaves 104 MiB for blocks.
pub(crate) const STORE_MIB: usize = 360;

#[test]
fn a_full_store_fails_the_job_loses_nothing_and_takes_more_when_there_is_room() {
	let mut world = World::prepare();
	let Some(disk) = SmallDisk::over(&world.path("state/blocks"), STORE_MIB).unwrap() else {
		return;
	};
	world.start_agent();
	let bytes = noise(1, 8 * MIB);
	let small = world.machine(7, &bytes);
	let kept = world.take(&small).unwrap();

	let large = world.machine(8, &noise(2, 192 * MIB));
	assert_eq!(world.take(&large), Err(FailureReason::StoreFull));
	assert_eq!(world.roots(), [kept.cid.to_string()]);
	let folder = world.restore(&restore_of(&small, kept.cid, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");

	disk.grow(2 * STORE_MIB).unwrap();
	world.take(&SnapshotOrder { slot: 1, ..large }).unwrap();
	assert_eq!(world.roots().len(), 2);
	world.kill();
}

#[test]
fn a_full_target_fails_the_restore_and_leaves_no_file() {
	let mut world = World::prepare();
	let Some(disk) = SmallDisk::over(&world.path("state/restored"), 16).unwrap() else { return };
	world.start_agent();
	let bytes = noise(1, 24 * MIB);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	assert_eq!(world.restore(&restore_of(&order, taken.cid, 1)), Err(FailureReason::TargetFull));
	assert_eq!(world.restored().len(), 0);
	disk.grow(32).unwrap();
	let folder = world.restore(&restore_of(&order, taken.cid, 2)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	world.kill();
}
