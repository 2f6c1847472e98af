//! Disks of machines that are off, replaced by those of a snapshot.

use crate::{
	machine::Machine,
	orders::{restore_of, restores},
	world::{World, noise, until},
};
use backup_agent::sources::{Disk, ImageFormat, Vm};
use backup_primitives::{
	Cid, FailureReason, VmTag,
	job::{RestoreOrder, RestorePlace, SnapshotOrder},
};
use std::{
	fs::{self, Permissions},
	os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
	path::{Path, PathBuf},
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

/// A machine that is off with two raw disks of these bytes, and an order to back it up.
fn two_disks(world: &World, bytes: [&[u8]; 2]) -> (SnapshotOrder, [PathBuf; 2]) {
	let images = [world.image(7), world.image(8)];
	let disks = ["vda", "vdb"].iter().zip(&images).zip(bytes).map(|((name, image), bytes)| {
		fs::write(image, bytes).unwrap();
		Disk { name: (*name).into(), image: image.clone(), format: ImageFormat::Raw, skip: false }
	});
	let mut vm = Vm::parse(&format!(
		"uuid = \"{}\"\n[[disk]]\nname = \"vda\"\nimage = \"/\"\nformat = \"raw\"\n",
		VmTag([7; 16])
	))
	.unwrap();
	vm.disks = disks.collect();
	(world.running_machine(7, &vm), images)
}

/// The file beside an image with this ending.
fn beside(image: &Path, ending: &str) -> Option<PathBuf> {
	let name = image.file_name().unwrap().to_str().unwrap();
	let mut files = files_beside(image).into_iter();
	let file = files.find(|file| file.starts_with(name) && file.ends_with(ending))?;
	Some(image.with_file_name(file))
}

#[test]
fn a_restore_that_is_cut_short_leaves_the_disks_and_goes_on_where_it_was() {
	let mut world = World::start();
	let then = [noise(1, 2 * 384 * MIB), noise(2, 2 * 384 * MIB)];
	let now = noise(3, MIB);
	let (order, images) = two_disks(&world, [&then[0], &then[1]]);
	let taken = world.take(&order).unwrap();
	images.iter().for_each(|image| fs::write(image, &now).unwrap());
	let restore = replace(&order, taken.cid, 1);
	let mut first = None;
	for is_killed in [true, false] {
		world.reconcile(&restores([restore.clone()]));
		// The first disk is complete, and the second is not.
		until("a restore to be in its middle", || beside(&images[1], ".new.partial"));
		match is_killed {
			true => world.kill(),
			false => assert!(world.terminate().success()),
		}
		assert!(images.iter().all(|image| fs::read(image).unwrap() == now), "a disk was touched");
		assert!(beside(&images[1], ".new.partial").is_some(), "{}", world.log());
		let inode = fs::metadata(beside(&images[0], ".new").unwrap()).unwrap().ino();
		assert_eq!(*first.get_or_insert(inode), inode, "the first disk was written anew");
		world.start_agent();
	}
	assert_eq!(run(&world, &restore), None);
	for (image, then) in images.iter().zip(&then) {
		assert!(fs::read(image).unwrap() == *then, "a disk is not that of the snapshot");
	}
	assert_eq!(fs::metadata(&images[0]).unwrap().ino(), first.unwrap());
	// No more was written than what was missing.
	assert!(world.written_bytes() < (then[1].len() + 16 * MIB) as u64, "{}", world.written_bytes());
	assert_eq!(files_beside(&images[0]), [""; 0]);
	let notes = fs::read_dir(world.path("state/replacements")).unwrap();
	let notes: Vec<_> = notes.map(|note| note.unwrap().file_name()).collect();
	assert!(notes.len() == 1 && notes[0].to_str().unwrap().ends_with(".done"), "{notes:?}");
}
