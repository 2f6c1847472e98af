//! Machines that are off: backed up, restored, refused.

use crate::{
	orders::{restore_of, snapshots},
	world::{World, noise, until},
};
use backup_primitives::{Consistency, FailureReason, VmTag, job::SnapshotOrder};
use sha2::{Digest, Sha256};
use std::{
	fs,
	io::{BufRead, BufReader, Write},
	os::unix::net::UnixStream,
	process::{Command, Stdio},
};

const MIB: usize = 1 << 20;

/// A disk with data at both ends and a hole between.
fn disk() -> Vec<u8> {
	let mut bytes = noise(1, 6 * MIB);
	bytes.resize(23 * MIB, 0);
	bytes.extend(noise(2, MIB / 2));
	bytes
}

#[test]
fn a_machine_comes_back_byte_for_byte_and_the_second_snapshot_stores_the_change_only() {
	let world = World::start();
	let mut bytes = disk();
	let first = world.machine(7, &bytes);
	let one = world.take(&first).unwrap();
	assert_eq!(one.logical_bytes, bytes.len() as u64);
	assert_eq!((one.taken_at, one.consistency), (100, Consistency::Stopped));
	assert!(one.new_bytes > 6 << 20, "{one:?}");

	let before = bytes.clone();
	bytes[3 * MIB..][..4096].fill(5);
	fs::write(world.image(7), &bytes).unwrap();
	let second = SnapshotOrder { sequence: 1, parent: Some(one.cid), ..first.clone() };
	let two = world.take(&second).unwrap();
	assert!((1..1 << 20).contains(&two.new_bytes), "{two:?}");

	for (order, taken, expected) in [(&first, &one, &before), (&second, &two, &bytes)] {
		let folder = world.restore(&restore_of(order, taken.cid, 3)).unwrap();
		assert!(fs::read(folder.join("vda.raw")).unwrap() == *expected, "the disks differ");
	}
	let mut roots = world.roots();
	roots.sort();
	let mut expected = [one.cid, two.cid].map(|cid| cid.to_string());
	expected.sort();
	assert_eq!(roots, expected);
	let block = world.block(&two.cid);
	assert_eq!(block.status, 200);
	assert_eq!(Sha256::digest(&block.body)[..], two.cid.digest());
}

#[test]
fn a_result_is_told_again_and_again_also_after_a_restart() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let taken = world.take(&order).unwrap();
	let asked = |order: &SnapshotOrder| {
		let achieved = world.reconcile(&snapshots([order.clone()]));
		let result = achieved.snapshots.into_iter().next().unwrap();
		(result.handed_out, result.outcome)
	};
	assert_eq!(asked(&order), (1, Ok(taken.clone())));
	let later = SnapshotOrder { slot: 4, parent: Some(taken.cid), ..order.clone() };
	assert_eq!(asked(&later), (2, Ok(taken.clone())), "one result for a place, whatever the slot");
	world.kill();
	world.start_agent();
	assert_eq!(world.take(&later).unwrap(), taken);
	assert_eq!(world.roots(), [taken.cid.to_string()]);
}

#[test]
fn a_snapshot_that_is_too_old_for_the_chain_is_taken_anew() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let old = world.take(&order).unwrap();
	let strict = SnapshotOrder { oldest_taken_at: old.taken_at + 1, ..order };
	let mut desired = snapshots([strict.clone()]);
	desired.now = old.taken_at + 5;
	let new = until("a newer snapshot", || world.reconcile(&desired).snapshots.into_iter().next());
	let new = new.outcome.unwrap();
	assert_eq!(new.taken_at, old.taken_at + 5);
	assert_ne!(new.cid, old.cid);
}

#[test]
fn fails_with_the_reason_and_the_next_slot_tries_again() {
	let world = World::start();
	let good = world.machine(7, &noise(1, MIB));
	let check = |order: &SnapshotOrder, reason: FailureReason| {
		assert_eq!(world.take(order), Err(reason));
		// The same slot is not tried twice, whatever has become better.
		assert_eq!(
			world.take(&SnapshotOrder { vm_tag: good.vm_tag, ..order.clone() }),
			Err(reason)
		);
		let log = world.log();
		assert!(log.contains(&format!("reason={reason:?}")), "{log}");
	};
	let stolen = SnapshotOrder { vm_tag: VmTag([1; 16]), ..good.clone() };
	check(&stolen, FailureReason::VmTagMismatch);
	let small = SnapshotOrder { slot: 1, capacity_bytes: (1 << 20) - 1, ..good.clone() };
	check(&small, FailureReason::CapacityExceeded);
	let other =
		SnapshotOrder { slot: 2, vm: b"other".to_vec().try_into().unwrap(), ..good.clone() };
	check(&other, FailureReason::VmNotFound);
	let path =
		SnapshotOrder { slot: 3, vm: b"../vm-7".to_vec().try_into().unwrap(), ..good.clone() };
	check(&path, FailureReason::VmNotFound);
	let away = world.path("away");
	fs::rename(world.image(7), &away).unwrap();
	check(&SnapshotOrder { slot: 4, ..good.clone() }, FailureReason::ImageUnreadable);
	fs::rename(&away, world.image(7)).unwrap();
	assert_eq!(world.roots(), [""; 0]);
	world.take(&SnapshotOrder { slot: 5, capacity_bytes: 1 << 20, ..good.clone() }).unwrap();
}

#[test]
fn an_image_that_a_machine_uses_which_the_inventory_takes_for_off_is_left_alone() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let socket = world.path("machine.sock");
	let mut machine = Command::new("qemu-system-x86_64")
		.args(["-machine", "q35", "-accel", "tcg", "-m", "64", "-nodefaults", "-S"])
		.args(["-display", "none", "-drive"])
		.arg(format!("if=virtio,format=raw,file={}", world.image(7).display()))
		.arg("-qmp")
		.arg(format!("unix:{},server=on,wait=off", socket.display()))
		.stdin(Stdio::null())
		.spawn()
		.unwrap();
	// It greets early, and obeys when its disks are open.
	let mut monitor = until("the machine", || UnixStream::connect(&socket).ok());
	monitor.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
	let obeyed = BufReader::new(monitor).lines().map(Result::unwrap).nth(1).unwrap();
	assert!(obeyed.contains("return"), "{obeyed}");
	let refused = world.take(&order);
	machine.kill().unwrap();
	machine.wait().unwrap();
	assert_eq!(refused, Err(FailureReason::ImageInUse));
	world.take(&SnapshotOrder { slot: 1, ..order }).unwrap();
}

#[test]
fn a_restore_of_what_is_not_here_fails_and_leaves_no_file() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let missing = restore_of(&order, backup_primitives::Cid::dag_cbor([5; 32]), 1);
	assert_eq!(world.restore(&missing), Err(FailureReason::BlockMissing));
	assert_eq!(world.restored(), [""; 0].map(std::path::PathBuf::from));
}

/// A restore that a re-org undid had left its folder, and another restore with the same numbers
/// was told to be done although the images were those of the first.
#[test]
fn images_of_another_restore_are_neither_taken_for_its_own_nor_overwritten() {
	let world = World::start();
	let bytes = noise(1, MIB);
	let first = world.machine(7, &bytes);
	let taken = world.take(&first).unwrap();
	let folder = world.restore(&restore_of(&first, taken.cid, 1)).unwrap();
	let mut forked = first.clone();
	forked.lineage.salt = [3; 32];
	fs::write(world.image(7), noise(2, MIB)).unwrap();
	let other = world.take(&forked).unwrap();
	let refused = world.restore(&restore_of(&forked, other.cid, 1));
	assert_eq!(refused, Err(FailureReason::TargetUnwritable));
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes);
	assert_eq!(world.restore(&restore_of(&first, taken.cid, 1)), Ok(folder));
}
