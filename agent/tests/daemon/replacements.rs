//! Disks of machines that are off, replaced by those of a snapshot.

use crate::{
	machine::Machine,
	orders::{restore_of, restores},
	world::{World, noise, until},
};
use backup_agent::sources::ImageFormat;
use backup_primitives::{
	Cid, FailureReason, VmTag,
	job::{RestoreOrder, RestorePlace, SnapshotOrder},
};
use std::{
	fs::{self, Permissions},
	os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
	path::Path,
	process::Command,
};

const MIB: usize = 1 << 20;

/// An order to put what an order to back up has brought back in its place.
fn replace(order: &SnapshotOrder, cid: Cid, restore: u64) -> RestoreOrder {
	let place = RestorePlace::Replace { vm: order.vm.clone(), vm_tag: order.vm_tag };
	RestoreOrder { place, ..restore_of(order, cid, restore) }
}

/// Order until the job has ended, and say how.
fn run(world: &World, order: &RestoreOrder) -> Option<FailureReason> {
	let result = until("a restore job to end", || {
		world.reconcile(&restores([order.clone()])).restores.into_iter().next()
	});
	result.failure
}

fn files_beside(image: &Path) -> Vec<String> {
	let entries = fs::read_dir(image.parent().unwrap()).unwrap();
	let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
	names.filter(|name| name.contains(".pbk-")).collect()
}

#[test]
fn a_disk_is_what_it_was_at_the_snapshot_and_nothing_else_has_changed() {
	let world = World::start();
	let (then, now) = (noise(1, 3 * MIB + 512), noise(2, 4 * MIB));
	let order = world.machine(7, &then);
	let taken = world.take(&order).unwrap();
	let image = world.image(7);
	fs::write(&image, &now).unwrap();
	fs::set_permissions(&image, Permissions::from_mode(0o640)).unwrap();
	assert_eq!(run(&world, &replace(&order, taken.cid, 1)), None);
	assert!(fs::read(&image).unwrap() == then, "the disk is not that of the snapshot");
	assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o777, 0o640);
	assert_eq!(files_beside(&image), [""; 0]);
	// The image is whole: the machine can be backed up and replaced again.
	fs::write(&image, &now).unwrap();
	let later = SnapshotOrder { sequence: 1, slot: 1, parent: Some(taken.cid), ..order.clone() };
	world.take(&later).unwrap();
	assert_eq!(run(&world, &replace(&order, taken.cid, 2)), None);
	assert!(fs::read(&image).unwrap() == then);
}

#[test]
fn a_disk_that_is_lost_comes_back() {
	let world = World::start();
	let bytes = noise(1, 3 * MIB);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	fs::remove_file(world.image(7)).unwrap();
	assert_eq!(run(&world, &replace(&order, taken.cid, 1)), None);
	assert!(fs::read(world.image(7)).unwrap() == bytes);
}

#[test]
fn what_was_replaced_once_is_not_replaced_again_after_a_restart() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let taken = world.take(&order).unwrap();
	let restore = replace(&order, taken.cid, 1);
	assert_eq!(run(&world, &restore), None);
	world.kill();
	fs::remove_file(world.path("state/jobs.redb")).unwrap();
	// The machine ran meanwhile, and its owner works with what came back.
	let worked = noise(3, MIB);
	fs::write(world.image(7), &worked).unwrap();
	world.start_agent();
	assert_eq!(run(&world, &restore), None);
	assert!(fs::read(world.image(7)).unwrap() == worked, "it was replaced twice");
}

#[test]
fn a_machine_that_runs_or_is_another_one_keeps_its_disks() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let order = world.running_machine(7, &machine.vm());
	let taken = world.take(&order).unwrap();
	assert_eq!(run(&world, &replace(&order, taken.cid, 1)), Some(FailureReason::VmRunning));
	assert!(machine.is_running());
	let place = RestorePlace::Replace { vm: order.vm.clone(), vm_tag: VmTag([9; 16]) };
	let stolen = RestoreOrder { place, ..restore_of(&order, taken.cid, 2) };
	assert_eq!(run(&world, &stolen), Some(FailureReason::VmTagMismatch));
	// The inventory takes it for off.
	let blind = backup_agent::sources::Vm { qmp: None, ..machine.vm() };
	world.running_machine(7, &blind);
	assert_eq!(run(&world, &replace(&order, taken.cid, 3)), Some(FailureReason::ImageInUse));
	assert_eq!(files_beside(&machine.vm().disks[0].image), [""; 0]);
}

#[test]
fn a_link_to_an_image_stays_a_link() {
	let world = World::start();
	let bytes = noise(1, MIB);
	let order = world.machine(7, &bytes);
	let taken = world.take(&order).unwrap();
	let file = world.path("elsewhere.raw");
	fs::remove_file(world.image(7)).unwrap();
	fs::write(&file, noise(2, MIB)).unwrap();
	symlink(&file, world.image(7)).unwrap();
	assert_eq!(run(&world, &replace(&order, taken.cid, 1)), None);
	assert_eq!(fs::read_link(world.image(7)).unwrap(), file);
	assert!(fs::read(&file).unwrap() == bytes);
}

/// A block device whose node was overwritten would be gone, and its volume stay as it is.
#[test]
fn what_is_no_file_is_not_replaced() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let taken = world.take(&order).unwrap();
	let volume = world.path("volume");
	fs::write(&volume, noise(2, MIB)).unwrap();
	let made = Command::new("losetup").args(["--find", "--show"]).arg(&volume).output().unwrap();
	if !made.status.success() {
		println!("skipped: a device needs root");
		return;
	}
	let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
	fs::remove_file(world.image(7)).unwrap();
	symlink(&device, world.image(7)).unwrap();
	let failure = run(&world, &replace(&order, taken.cid, 1));
	let is_device = fs::metadata(&device).unwrap().file_type().is_block_device();
	assert!(Command::new("losetup").args(["--detach", &device]).status().unwrap().success());
	assert_eq!(failure, Some(FailureReason::Unsupported));
	assert!(is_device && fs::read(&volume).unwrap() == noise(2, MIB));
}

#[test]
fn a_restore_that_fails_leaves_the_disk_as_it_is() {
	let world = World::start();
	let bytes = noise(1, MIB);
	let order = world.machine(7, &bytes);
	world.take(&order).unwrap();
	let missing = replace(&order, Cid::dag_cbor([5; 32]), 1);
	assert_eq!(run(&world, &missing), Some(FailureReason::BlockMissing));
	assert!(fs::read(world.image(7)).unwrap() == bytes);
	assert_eq!(files_beside(&world.image(7)), [""; 0]);
}

#[test]
fn a_restore_that_is_killed_leaves_the_disk_and_ends_well_after_the_restart() {
	let mut world = World::start();
	let (then, now) = (noise(1, 384 * MIB), noise(2, MIB));
	let order = world.machine(7, &then);
	let taken = world.take(&order).unwrap();
	fs::write(world.image(7), &now).unwrap();
	let restore = replace(&order, taken.cid, 1);
	world.reconcile(&restores([restore.clone()]));
	world.wait_for_progress();
	world.kill();
	assert!(fs::read(world.image(7)).unwrap() == now, "the disk was touched");
	assert_eq!(files_beside(&world.image(7)).len(), 1);
	world.start_agent();
	assert_eq!(files_beside(&world.image(7)), [""; 0]);
	assert_eq!(run(&world, &restore), None);
	assert!(fs::read(world.image(7)).unwrap() == then);
}
