//! An agent that ends in the middle of its work, and what the next one finds.

use crate::world::{World, desired_restore, desired_snapshot, noise, restore_of};
use std::{fs, path::Path};

/// So many bytes that a job is seen in its middle.
const LONG_BYTES: usize = 384 << 20;

fn names(folder: &Path) -> Vec<String> {
	let entries = fs::read_dir(folder).unwrap();
	entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_backup_that_is_killed_ends_well_after_the_restart() {
	let mut world = World::start();
	let bytes = noise(1, LONG_BYTES);
	let order = world.machine(7, &bytes);
	world.reconcile(&desired_snapshot(&order));
	world.wait_for_progress();
	world.kill();
	world.start_agent();
	assert_eq!(names(&world.path("state/scratch")), [""; 0], "nothing of the killed job is left");
	assert_eq!(world.roots(), [""; 0]);
	let taken = world.take(&order).unwrap();
	assert_eq!(world.roots(), [taken.cid.to_string()]);
	let folder = world.restore(&restore_of(&order, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
}

#[test]
fn a_restore_that_is_killed_ends_well_after_the_restart() {
	let mut world = World::start();
	let bytes = noise(2, LONG_BYTES);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	let restore = restore_of(&order, taken.cid, 1);
	world.reconcile(&desired_restore(&restore));
	world.wait_for_progress();
	world.kill();
	assert_eq!(world.restored().len(), 1);
	assert!(names(&world.path("state/restored"))[0].starts_with('.'), "it has no name yet");
	world.start_agent();
	assert_eq!(names(&world.path("state/restored")), [""; 0], "half an image is removed");
	let folder = world.restore(&restore).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	assert_eq!(world.restored().len(), 1);
}

#[test]
fn an_agent_that_is_told_to_end_cleans_up_and_goes_on_at_the_next_start() {
	let mut world = World::start();
	let order = world.machine(7, &noise(3, LONG_BYTES));
	world.reconcile(&desired_snapshot(&order));
	world.wait_for_progress();
	let status = world.terminate();
	assert_eq!(status.code(), Some(0), "{}", world.log());
	assert_eq!(names(&world.path("state/scratch")), [""; 0]);
	world.start_agent();
	world.take(&order).unwrap();
}
