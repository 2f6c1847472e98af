//! Machines that run: no more is read of them than was written since the last snapshot, unless
//! something is wrong with the record of that.

use crate::{
	machine::{Machine, pattern},
	orders::restore_of,
	world::World,
};
use backup_agent::sources::ImageFormat;
use backup_primitives::{Consistency, FailureReason, VmTag, job::SnapshotOrder};
use serde_json::json;
use std::{
	fs,
	time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

/// How many bytes the last snapshot has read, and whether the writes since the one before were
/// recorded.
pub(crate) fn last_reading(world: &World) -> (u64, bool) {
	let log = world.log();
	let line = log.lines().rfind(|line| line.contains("the machine was sealed")).unwrap();
	let value = |key: &str| {
		let rest = line.split(&format!("{key}=")).nth(1).unwrap();
		rest.split_whitespace().next().unwrap().to_owned()
	};
	(value("read_bytes").parse().unwrap(), value("is_recorded").parse().unwrap())
}

#[test]
fn a_running_machine_is_read_in_full_once_and_then_only_what_was_written() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = pattern(0);
	let first = world.running_machine(7, &machine.vm());
	let one = world.take(&first).unwrap();
	assert_eq!(one.consistency, Consistency::Crash);
	assert!(!last_reading(&world).1);

	machine.write(0xa1, 10 << 20, 1 << 20);
	disk[10 * MIB..11 * MIB].fill(0xa1);
	let second = SnapshotOrder { sequence: 1, slot: 1, parent: Some(one.cid), ..first.clone() };
	let two = world.take(&second).unwrap();
	let (read_bytes, is_recorded) = last_reading(&world);
	// What was written, and samples of the rest.
	assert!(is_recorded && (1 << 20..18 << 20).contains(&read_bytes), "{read_bytes} bytes");
	let folder = world.restore(&restore_of(&second, two.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == disk, "the disks differ");
	assert!(machine.is_running() && machine.leftovers().is_empty());

	let metrics = world.get("/metrics").text();
	for line in [
		"backup_agent_jobs_total{kind=\"snapshot\",outcome=\"done\"} 2",
		"backup_agent_jobs_total{kind=\"restore\",outcome=\"done\"} 1",
		"backup_agent_snapshots_total{reading=\"full\"} 1",
		"backup_agent_snapshots_total{reading=\"recorded\"} 1",
		"backup_agent_machine_pause_seconds_count 2",
		"backup_agent_pinned_roots 2",
	] {
		assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
	}
}

/// Its request names the wrong machine, and the record of another one's writes stays.
#[test]
fn a_machine_with_another_tag_keeps_its_record() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let first = world.running_machine(7, &machine.vm());
	let one = world.take(&first).unwrap();
	let stolen =
		SnapshotOrder { vm_tag: VmTag([9; 16]), ..world.running_machine(8, &machine.vm()) };
	assert_eq!(world.take(&stolen), Err(FailureReason::VmTagMismatch));
	let second = SnapshotOrder { sequence: 1, slot: 1, parent: Some(one.cid), ..first };
	world.take(&second).unwrap();
	assert!(last_reading(&world).1, "{}", world.log());
}

#[test]
fn a_limit_holds_back_the_reading_and_nothing_else() {
	let mut world = World::prepare();
	world.configure("read_bytes_per_second = 16777216\nthreads = 1\n");
	world.start_agent();
	let machine = Machine::start(ImageFormat::Raw);
	let order = world.running_machine(7, &machine.vm());
	let began = Instant::now();
	world.take(&order).unwrap();
	// A third of the disk is holes, which nobody reads: 43 MiB are left.
	assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
}

impl Machine {
	/// Has QEMU forget what was written to the first disk.
	pub(crate) fn clear_record(&self) {
		let blocks = self.monitor().run("query-block", json!({})).unwrap();
		let inserted = &blocks[0]["inserted"];
		let mut bitmaps = inserted["dirty-bitmaps"].as_array().unwrap().iter();
		let name = &bitmaps.find(|bitmap| bitmap["recording"] == true).unwrap()["name"];
		let bitmap = json!({ "node": inserted["node-name"], "name": name });
		self.monitor().run("block-dirty-bitmap-clear", bitmap).unwrap();
	}
}

/// A tool that writes past QEMU leaves bitmaps that lie. The samples find out.
#[test]
fn a_record_of_writes_that_lies_is_found_out_and_all_is_read() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let first = world.running_machine(7, &machine.vm());
	let one = world.take(&first).unwrap();
	machine.write(0xa1, 0, 64 << 20);
	machine.clear_record();

	let second = SnapshotOrder { sequence: 1, slot: 1, parent: Some(one.cid), ..first };
	let two = world.take(&second).unwrap();
	assert!(!last_reading(&world).1);
	assert!(world.log().contains("where no write was recorded"), "{}", world.log());
	let folder = world.restore(&restore_of(&second, two.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == vec![0xa1; 64 * MIB]);
}

#[test]
fn a_snapshot_that_fails_leaves_the_record_as_it_was() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let first = world.running_machine(7, &machine.vm());
	let one = world.take(&first).unwrap();
	machine.write(0xa1, 10 << 20, 1 << 20);
	let second = SnapshotOrder { sequence: 1, slot: 1, parent: Some(one.cid), ..first };
	world.take(&SnapshotOrder { capacity_bytes: 1, ..second.clone() }).unwrap_err();
	machine.write(0xa2, 20 << 20, 1 << 20);
	let again = SnapshotOrder { slot: 2, ..second };
	let two = world.take(&again).unwrap();
	assert!(last_reading(&world).1);
	let mut disk = pattern(0);
	disk[10 * MIB..11 * MIB].fill(0xa1);
	disk[20 * MIB..21 * MIB].fill(0xa2);
	let folder = world.restore(&restore_of(&again, two.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == disk, "the disks differ");
}
