//! What a machine is beside its disks, and what its operator has run around a snapshot.

use crate::{
	machine::{Machine, pattern},
	orders::{restore_of, snapshots},
	world::{World, noise, until},
};
use backup_agent::sources::{Hooks, ImageFormat, MachineFile, Vm};
use backup_primitives::{FailureReason, job::SnapshotOrder};
use std::fs;

const MIB: usize = 1 << 20;

fn shell(script: &str) -> Vec<String> {
	["/bin/sh", "-c", script].map(str::to_owned).into()
}

#[test]
fn firmware_and_description_travel_with_the_disks() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Qcow2);
	let variables = world.path("vars.fd");
	fs::write(&variables, noise(5, 540_672)).unwrap();
	let file = MachineFile { name: "uefi-vars.fd".into(), path: variables.clone() };
	let vm = Vm { files: vec![file], ..machine.vm() };
	let order = world.running_machine(7, &vm);
	let taken = world.take(&order).unwrap();
	fs::write(&variables, "changed since").unwrap();
	let folder = world.restore(&restore_of(&order, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("uefi-vars.fd")).unwrap() == noise(5, 540_672));
	assert_eq!(fs::read_to_string(folder.join("machine.toml")).unwrap(), vm.describe());
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == pattern(0));

	// What belongs to the machine and is not there is not left out in silence.
	fs::remove_file(&variables).unwrap();
	let later = SnapshotOrder { sequence: 1, slot: 1, parent: Some(taken.cid), ..order };
	assert_eq!(world.take(&later), Err(FailureReason::ImageUnreadable));
	assert!(world.log().contains("vars.fd"), "{}", world.log());
	assert!(machine.is_running() && machine.leftovers().is_empty());
}

#[test]
fn a_disk_that_is_to_be_skipped_is_neither_read_nor_needed() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let path = world.path("state/vms/vm-7.toml");
	let more = "\n[[disk]]\nname = \"swap\"\nimage = \"/nowhere/swap.raw\"\nformat = \"raw\"\nskip = true\n";
	let description = fs::read_to_string(&path).unwrap() + more;
	fs::write(&path, description).unwrap();
	let taken = world.take(&order).unwrap();
	assert_eq!(taken.logical_bytes, 1 << 20);
}

#[test]
fn hooks_are_run_around_the_snapshot_and_one_that_fails_prevents_it() {
	let world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let (log, image) = (world.path("hooks"), world.image(7));
	let path = world.path("state/vms/vm-7.toml");
	let description = fs::read_to_string(&path).unwrap();
	let describe = |before: &str| {
		let hooks = Hooks {
			before: shell(before),
			after: shell(&format!("echo after >> {}", log.display())),
			seconds: 20,
		};
		let vm: Vm = toml::from_str(&description).unwrap();
		fs::write(&path, Vm { hooks: Some(hooks), ..vm }.describe()).unwrap();
	};
	// What the hook writes is in the snapshot.
	let write = format!(
		"echo before >> {}; printf quiet | dd of={} conv=notrunc status=none",
		log.display(),
		image.display()
	);
	describe(&write);
	let taken = world.take(&order).unwrap();
	assert_eq!(fs::read_to_string(&log).unwrap(), "before\nafter\n");
	let folder = world.restore(&restore_of(&order, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap().starts_with(b"quiet"));

	describe("echo the database is busy >&2; exit 7");
	let later = SnapshotOrder { sequence: 1, slot: 1, parent: Some(taken.cid), ..order };
	assert_eq!(world.take(&later), Err(FailureReason::Internal));
	assert_eq!(fs::read_to_string(&log).unwrap(), "before\nafter\nafter\n");
	assert!(world.log().contains("the database is busy"), "{}", world.log());
}

#[test]
fn what_a_killed_agent_owes_the_machine_is_run_by_the_next() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let (begun, log) = (world.path("begun"), world.path("hooks"));
	let path = world.path("state/vms/vm-7.toml");
	let vm: Vm = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
	let hooks = Hooks {
		before: shell(&format!("touch {}; sleep 30", begun.display())),
		after: shell(&format!("echo after >> {}", log.display())),
		seconds: 600,
	};
	fs::write(&path, Vm { hooks: Some(hooks), ..vm }.describe()).unwrap();
	world.reconcile(&snapshots([order]));
	until("the hook to run", || begun.exists().then_some(()));
	world.kill();
	assert!(!log.exists());
	world.start_agent();
	assert_eq!(fs::read_to_string(&log).unwrap(), "after\n");
}

/// Around a machine that runs: a hook before the snapshot that hangs prevents it, one after it does not.
#[test]
fn a_hook_that_hangs_is_ended_when_its_time_is_over() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Qcow2);
	let log = world.path("hooks");
	let say = |word: &str| format!("echo {word} >> {}", log.display());
	let with = |before: &str, after: &str| {
		let hooks = Hooks { before: shell(before), after: shell(after), seconds: 1 };
		Vm { hooks: Some(hooks), ..machine.vm() }
	};
	let hangs = |word: &str| format!("{}; sleep 1000", say(word));

	let first = world.running_machine(7, &with(&hangs("before"), &say("after")));
	assert_eq!(world.take(&first), Err(FailureReason::Internal));
	// The one after is owed whatever became of the one before.
	assert_eq!(fs::read_to_string(&log).unwrap(), "before\nafter\n");
	assert!(world.log().contains("it did not end within 1 s"), "{}", world.log());
	let is_untouched = || machine.is_running() && machine.leftovers().is_empty();
	assert!(is_untouched() && world.roots().is_empty());
	let scratch = || fs::read_dir(world.path("state/scratch")).unwrap().count();
	assert_eq!(scratch(), 0, "nothing is owed any more");

	world.running_machine(7, &with(&say("before"), &hangs("after")));
	let second = SnapshotOrder { slot: 1, ..first };
	let taken = world.take(&second).unwrap();
	assert_eq!(fs::read_to_string(&log).unwrap(), "before\nafter\nbefore\nafter\n");
	assert!(world.log().contains("the hook after the snapshot failed"), "{}", world.log());
	assert!(is_untouched() && scratch() == 0);
	let folder = world.restore(&restore_of(&second, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == pattern(0));
}
