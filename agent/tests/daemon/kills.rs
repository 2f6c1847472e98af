//! An agent that ends in the middle of its work, and what the next one finds.

use crate::{
	orders::{nothing, restore_of, restores, snapshots},
	world::{World, noise, until},
};
use backup_primitives::{RecordedRoot, RootStatus};
use std::{
	fs::{self, File},
	os::unix::fs::FileExt,
	path::{Path, PathBuf},
	time::{Duration, SystemTime},
};

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
	world.reconcile(&snapshots([order.clone()]));
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
	world.reconcile(&restores([restore.clone()]));
	world.wait_for_progress();
	world.kill();
	assert_eq!(world.restored().len(), 1);
	assert!(names(&world.path("state/restored"))[0].starts_with('.'), "it has no name yet");
	world.start_agent();
	let folder = world.restore(&restore).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	assert_eq!(world.restored().len(), 1);
}

/// The file that tells how far a restore is, once there is one.
fn progress(world: &World) -> Option<PathBuf> {
	let folder = world.restored().into_iter().next()?;
	let path = folder.join("vda.raw.partial.progress");
	path.exists().then_some(path)
}

#[test]
fn a_restore_goes_on_where_it_was_when_the_agent_was_killed_or_told_to_end() {
	let mut world = World::start();
	// Written in full, which takes longer than it takes to note something down, and taken in quickly.
	let bytes = noise(5, LONG_BYTES / 16).repeat(4 * 16);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	let restore = restore_of(&order, taken.cid, 1);
	for is_killed in [true, false] {
		world.reconcile(&restores([restore.clone()]));
		until("it to be noted how far a restore is", || progress(&world));
		match is_killed {
			true => world.kill(),
			false => assert!(world.terminate().success()),
		}
		assert!(progress(&world).is_some(), "the restore had ended before: {}", world.log());
		world.start_agent();
	}
	let folder = world.restore(&restore).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	assert_eq!(names(&folder).len(), 3, "image, description, order: {:?}", names(&folder));
	assert_eq!(world.log().matches("goes on where").count(), 2, "{}", world.log());
}

#[test]
fn a_restore_that_nobody_asks_for_any_more_is_removed() {
	let mut world = World::start();
	world.terminate();
	let abandoned = world.path("state/restored/.partial-request-7-0-1");
	fs::create_dir(&abandoned).unwrap();
	fs::write(abandoned.join("vda.raw.partial"), "half").unwrap();
	world.start_agent();
	assert!(abandoned.exists(), "the chain may still want it");
	world.terminate();
	let days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
	fs::File::open(&abandoned).unwrap().set_modified(days_ago).unwrap();
	world.start_agent();
	assert!(!abandoned.exists());
}

#[test]
fn an_agent_that_is_told_to_end_cleans_up_and_goes_on_at_the_next_start() {
	let mut world = World::start();
	let order = world.machine(7, &noise(3, LONG_BYTES));
	world.reconcile(&snapshots([order.clone()]));
	world.wait_for_progress();
	let status = world.terminate();
	assert_eq!(status.code(), Some(0), "{}", world.log());
	assert_eq!(names(&world.path("state/scratch")), [""; 0]);
	world.start_agent();
	world.take(&order).unwrap();
}

#[test]
fn what_a_killed_backup_had_stored_is_collected() {
	let mut world = World::start();
	let order = world.machine(7, &noise(4, LONG_BYTES));
	world.reconcile(&snapshots([order.clone()]));
	let stored = |world: &World| world.get("/v1/status").json()["stored_bytes"].as_u64().unwrap();
	until("blocks to be stored", || (stored(&world) > 0).then_some(()));
	world.kill();
	world.start_agent();
	world.reconcile(&nothing());
	until("the blocks to be collected", || (stored(&world) == 0).then_some(()));
}

#[test]
fn a_store_that_lost_index_and_pins_takes_them_from_the_chain() {
	let mut world = World::start();
	let orders = [1, 2].map(|request| world.machine(request, &noise(request, 1 << 20)));
	let roots = orders.each_ref().map(|order| world.take(order).unwrap().cid);
	for (order, cid) in orders.iter().zip(roots) {
		world.node.say(cid, RootStatus::Retained);
		let (lineage, sequence) = (order.lineage.clone(), order.sequence);
		world.node.state().recorded.push(RecordedRoot { lineage, sequence, cid });
	}
	// One that the store never had.
	let (lineage, cid) = (orders[0].lineage.clone(), backup_primitives::Cid::dag_cbor([1; 32]));
	world.node.state().recorded.push(RecordedRoot { lineage, sequence: 9, cid });
	world.kill();
	for file in ["index.redb", "pins.log"] {
		fs::remove_file(world.path("state/blocks").join(file)).unwrap();
	}
	world.start_agent();
	assert_eq!(world.roots(), [""; 0]);
	until("the pins", || {
		world.reconcile(&nothing());
		(world.roots().len() == 2).then_some(())
	});
	until("the lost root to be told", || {
		world.log().contains("is not in the store any more").then_some(())
	});
	for (order, cid) in orders.iter().zip(roots) {
		let id = order.sequence + 1;
		let folder = world.restore(&restore_of(order, cid, id)).unwrap();
		assert_eq!(fs::metadata(folder.join("vda.raw")).unwrap().len(), 1 << 20);
	}
}

/// Cause: only whole snapshots were pinned again. Effect: what was left of the others was freed, and
/// could not be made whole by others any more.
#[test]
fn what_is_left_of_a_snapshot_is_pinned_again_though_index_and_pins_are_lost() {
	let mut world = World::start();
	let order = world.machine(1, &noise(1, 1 << 20));
	let cid = world.take(&order).unwrap().cid;
	world.node.say(cid, RootStatus::Retained);
	let (lineage, sequence) = (order.lineage.clone(), order.sequence);
	world.node.state().recorded.push(RecordedRoot { lineage, sequence, cid });
	world.kill();
	for file in ["index.redb", "pins.log"] {
		fs::remove_file(world.path("state/blocks").join(file)).unwrap();
	}
	let pack = File::options().write(true).open(world.path("state/blocks/00000001.pack")).unwrap();
	pack.write_all_at(b"rotten", 1000).unwrap();
	world.start_agent();
	until("the pin", || {
		world.reconcile(&nothing());
		(world.roots() == [cid.to_string()]).then_some(())
	});
	until("the lost block to be told", || world.log().contains("or not all of it").then_some(()));
}
