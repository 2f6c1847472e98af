//! Whether snapshots could be restored: asked of a running agent, of a stopped one's store, and
//! by the schedule.

use crate::{
	machine::{Machine, pattern},
	orders::restore_of,
	running::last_reading,
	world::{World, noise, until},
};
use backup_agent::sources::ImageFormat;
use backup_primitives::{Cid, job::SnapshotOrder};
use serde_json::Value as Json;
use std::{fs, os::unix::fs::FileExt, process::Output};

/// Bytes that stand before the data of each record in a pack, and how they name a block; the
/// store's `record` module has the layout.
const HEADER_BYTES: u64 = 64;
const BLOCK: u8 = 1;

impl World {
	fn verify(&self, arguments: &[&str]) -> Output {
		self.run_with("verify", arguments)
	}

	/// The results of a verification with this exit code.
	fn results(&self, arguments: &[&str], code: i32) -> Vec<Json> {
		let output = self.verify(&[arguments, &["--json"]].concat());
		assert_eq!(output.status.code(), Some(code), "{output:?}");
		let text = String::from_utf8(output.stdout).unwrap();
		versioned(&text)
	}

	/// Changes a byte of a block in the middle of the first pack.
	fn damage_the_store(&self) {
		self.damage_a_block(|length| length / 2);
	}

	/// Changes a byte in the data of the block that lies at this place of the first pack, or behind
	/// it. A record's header is not for a verification to see: it is no part of any snapshot.
	fn damage_a_block(&self, choose: impl Fn(u64) -> u64) {
		let pack = self.path("state/blocks/00000001.pack");
		let file = fs::File::options().read(true).write(true).open(pack).unwrap();
		let place = choose(file.metadata().unwrap().len());
		let mut record = 0;
		let data = loop {
			let mut header = [0; HEADER_BYTES as usize];
			file.read_exact_at(&mut header, record).unwrap();
			assert!(header.starts_with(b"BKR1"), "no record at {record}");
			let length = u32::from_le_bytes(header[8..12].try_into().unwrap());
			let data = record + HEADER_BYTES;
			record = data + u64::from(length);
			if record > place && header[4] == BLOCK && length > 0 {
				break data + u64::from(length) / 2;
			}
		};
		let mut byte = [0];
		file.read_exact_at(&mut byte, data).unwrap();
		file.write_all_at(&[!byte[0]], data).unwrap();
	}
}

/// What programs are told, of which each line says the version of its shape.
fn versioned(text: &str) -> Vec<Json> {
	let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
	assert!(lines.iter().all(|line| line["version"] == 1), "{text}");
	lines
}

#[test]
fn a_running_agent_and_a_stopped_ones_store_verify_alike() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, 3 << 20));
	let root = world.take(&order).unwrap().cid.to_string();
	let verified = |world: &World| {
		for depth in ["presence", "blocks", "drill"] {
			let results = world.results(&["--depth", depth, "--root", &root], 0);
			assert_eq!(results.len(), 1);
			let found = [&results[0]["root"], &results[0]["depth"], &results[0]["verdict"]];
			assert_eq!(found, [root.as_str(), depth, "good"]);
		}
		let words = String::from_utf8(world.verify(&[]).stdout).unwrap();
		assert!(words.starts_with(&format!("{root}  good")), "{words}");
	};
	verified(&world);
	let shown = world.get("/v1/verifications").json();
	assert_eq!(shown["results"].as_array().unwrap().len(), 3);
	assert_eq!(shown["running"], Json::Null);
	world.terminate();
	verified(&world);
	assert_eq!(fs::read_dir(world.path("state/scratch")).unwrap().count(), 0);
}

#[test]
fn damage_is_found_named_and_told_by_the_exit_code() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 3 << 20));
	world.take(&order).unwrap();
	world.damage_the_store();
	assert_eq!(world.results(&["--depth", "presence"], 0)[0]["verdict"], "good");
	// Once it is noted, it counts as absent.
	for (depth, kind) in [("blocks", "corrupt"), ("drill", "missing")] {
		let result = &world.results(&["--depth", depth], 3)[0];
		assert_eq!((&result["verdict"], &result[kind]), (&"bad".into(), &1.into()));
		assert!(result["first"].as_str().unwrap().starts_with('b'), "{result}");
	}
	assert!(world.log().contains("a snapshot cannot be restored from here"));
}

#[test]
fn the_schedule_verifies_what_nobody_asks_for() {
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nverify_presence_seconds = 1\n"));
	world.start_agent();
	let order = world.machine(7, &noise(1, 1 << 20));
	let root = world.take(&order).unwrap().cid.to_string();
	let verified = until("the schedule to verify", || {
		let shown = world.get("/v1/verifications").json();
		shown["results"].as_array().unwrap().first().cloned()
	});
	let found = [&verified["root"], &verified["depth"], &verified["verdict"]];
	assert_eq!(found, [root.as_str(), "presence", "good"]);
}

#[test]
fn what_cannot_be_verified_is_told() {
	let world = World::start();
	let unknown = backup_primitives::Cid::dag_cbor([9; 32]).to_string();
	let failed = |arguments: &[&str], words: &str| {
		let output = world.verify(arguments);
		assert_eq!(output.status.code(), Some(1), "{output:?}");
		let errors = String::from_utf8(output.stderr).unwrap();
		assert!(errors.contains(words), "{errors}");
	};
	failed(&["--root", &unknown], "is not pinned here");
	fs::write(world.path("state/secret"), "00".repeat(32)).unwrap();
	failed(&[], "its secret is another");
	failed(&["--state-dir", "/nowhere"], "there is no block store");
	let nothing = World::prepare().verify(&[]);
	assert!(String::from_utf8(nothing.stdout).unwrap().contains("nothing is pinned here"));
}

#[test]
fn a_damaged_store_is_repaired_and_the_next_backup_makes_it_whole() {
	let mut world = World::start();
	let disk = noise(1, 3 << 20);
	let order = world.machine(7, &disk);
	let root = world.take(&order).unwrap().cid;
	let fsck = |world: &World, arguments: &[&str], code: i32| -> Vec<Json> {
		let output = world.run_with("fsck", &[arguments, &["--json"]].concat());
		assert_eq!(output.status.code(), Some(code), "{output:?}");
		let text = String::from_utf8(output.stdout).unwrap();
		versioned(&text)
	};
	let refused = world.run_with("fsck", &[]);
	assert_eq!(refused.status.code(), Some(1));
	assert!(String::from_utf8(refused.stderr).unwrap().contains("stop the agent"));
	world.terminate();
	assert_eq!(fsck(&world, &[], 0)[0]["is_good"], true);

	world.damage_the_store();
	let found = &fsck(&world, &[], 3)[0];
	assert_eq!(
		(&found["damaged_blocks"], &found["lost_roots"][0]),
		(&1.into(), &root.to_string().into())
	);
	// Noted, and so no better: only the next backup has what was lost.
	assert_eq!(fsck(&world, &["--repair"], 3)[1]["lost_roots"][0], root.to_string());
	world.start_agent();
	let next = SnapshotOrder { sequence: 1, parent: Some(root), ..order.clone() };
	let next = world.take(&next).unwrap();
	assert!(next.new_bytes > 0);
	world.terminate();
	assert_eq!(fsck(&world, &["--repair"], 0).last().unwrap()["is_good"], true);
	world.start_agent();
	for (id, cid) in [(1, root), (2, next.cid)] {
		let folder = world.restore(&restore_of(&order, cid, id)).unwrap();
		assert!(fs::read(folder.join("vda.raw")).unwrap() == disk);
	}
}

/// The order after one that was carried out.
fn next(order: &SnapshotOrder, parent: Cid) -> SnapshotOrder {
	let (sequence, slot) = (order.sequence + 1, order.slot + 1);
	SnapshotOrder { sequence, slot, parent: Some(parent), ..order.clone() }
}

/// Waits until the schedule has found on a snapshot that a backup stored again what was lost. Its result
/// may be followed by another one at once, so the counter tells.
fn wait_for_one_from_disk(world: &World) {
	until("the schedule to look at the snapshot again", || {
		world.has_metric("backup_agent_mended_blocks_total{from=\"disk\"} 1").then_some(())
	});
}

impl World {
	fn has_metric(&self, line: &str) -> bool {
		self.get("/metrics").text().lines().any(|found| found == line)
	}
}

#[test]
fn what_nobody_else_has_is_mended_by_the_next_backup_of_a_running_agent() {
	for depth in ["blocks", "drill"] {
		let world = World::start();
		let disk = noise(1, 3 << 20);
		let order = world.machine(7, &disk);
		let first = world.take(&order).unwrap().cid;
		world.damage_the_store();
		let found = &world.results(&["--depth", depth], 3)[0];
		assert_eq!((&found["verdict"], &found["corrupt"]), (&"bad".into(), &1.into()));
		assert_eq!(
			(&found["mending"]["found"], &found["mending"]["is_noted"]),
			(&1.into(), &true.into())
		);
		let detail = found["detail"].as_str().unwrap();
		assert!(detail.contains("the next backup of the machine"), "{detail}");

		let second = next(&order, first);
		let taken = world.take(&second).unwrap();
		assert!(taken.new_bytes > 200 << 10, "what was lost is stored again");
		assert!(world.log().contains("a damaged snapshot is whole again"), "{}", world.log());
		for (id, cid) in [(1, first), (2, taken.cid)] {
			let folder = world.restore(&restore_of(&order, cid, id)).unwrap();
			assert!(fs::read(folder.join("vda.raw")).unwrap() == disk, "{depth}: the disks differ");
		}
		for one in world.results(&["--depth", "blocks"], 0) {
			assert_eq!(one["verdict"], "good");
		}
		assert!(world.has_metric("backup_agent_bad_blocks_total 1"));
		assert!(world.has_metric("backup_agent_mended_blocks_total{from=\"disk\"} 1"));
	}
}

/// By QEMU's record nothing was written there, so nothing else would have been read.
#[test]
fn a_running_machine_is_read_where_a_snapshot_has_lost_something() {
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	let fast = "verify_presence_seconds = 1\n";
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nrestore_format = \"raw\"\n{fast}"));
	world.start_agent();
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = pattern(0);
	let order = world.running_machine(7, &machine.vm());
	let first = world.take(&order).unwrap().cid;
	world.damage_a_block(|length| length / 8);
	assert_eq!(world.results(&["--depth", "blocks"], 3)[0]["mending"]["found"], 1);

	machine.write(0xa1, 40 << 20, 1 << 20);
	let second = next(&order, first);
	let taken = world.take(&second).unwrap();
	let (read_bytes, is_recorded) = last_reading(&world);
	assert!(is_recorded && read_bytes < 20 << 20, "{read_bytes} bytes");
	assert!(world.log().contains("what the base has lost is read again"), "{}", world.log());
	wait_for_one_from_disk(&world);
	let folder = world.restore(&restore_of(&order, first, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == disk, "the first differs");
	disk[40 << 20..41 << 20].fill(0xa1);
	let folder = world.restore(&restore_of(&second, taken.cid, 2)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == disk, "the second differs");
}

/// It is known to be wrong, whatever has become of the snapshot that it belongs to.
#[test]
fn a_record_of_writes_that_lies_is_forgotten_although_its_snapshot_is_damaged() {
	let world = World::start();
	let machine = Machine::start(ImageFormat::Raw);
	let order = world.running_machine(7, &machine.vm());
	let first = world.take(&order).unwrap().cid;
	world.damage_a_block(|length| length / 8);
	assert_eq!(world.results(&["--depth", "blocks"], 3)[0]["mending"]["is_noted"], true);

	machine.write(0xa1, 0, 64 << 20);
	machine.clear_record();
	let second = next(&order, first);
	let taken = world.take(&second).unwrap();
	assert!(!last_reading(&world).1, "{}", world.log());
	let folder = world.restore(&restore_of(&second, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("disk0.raw")).unwrap() == vec![0xa1; 64 << 20]);
	// And recorded anew.
	world.take(&next(&second, taken.cid)).unwrap();
	assert!(last_reading(&world).1, "{}", world.log());
}

#[test]
fn a_snapshot_whose_content_is_gone_from_the_disk_is_named() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 3 << 20));
	let first = world.take(&order).unwrap().cid;
	world.damage_the_store();
	world.results(&["--depth", "blocks"], 3);
	let disk = noise(2, 3 << 20);
	fs::write(world.image(7), &disk).unwrap();
	let second = next(&order, first);
	let taken = world.take(&second).unwrap();
	let log = world.log();
	let line = log.lines().find(|line| line.contains("a snapshot stays damaged")).unwrap();
	assert!(line.contains(&first.to_string()), "{line}");
	let results = world.results(&["--depth", "presence"], 3);
	let of = |cid: Cid| results.iter().find(|one| one["root"] == cid.to_string()).unwrap();
	assert_eq!(of(taken.cid)["verdict"], "good");
	let detail = of(first)["detail"].as_str().unwrap();
	assert!(detail.ends_with("this snapshot stays damaged"), "{detail}");
	let folder = world.restore(&restore_of(&second, taken.cid, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == disk, "the disks differ");
}

/// Between noting and the next backup the agent may be killed: it is written down.
#[test]
fn damage_that_was_noted_is_known_after_a_kill() {
	let mut world = World::start();
	let disk = noise(1, 3 << 20);
	let order = world.machine(7, &disk);
	let first = world.take(&order).unwrap().cid;
	world.damage_the_store();
	world.results(&["--depth", "blocks"], 3);
	world.kill();
	world.start_agent();
	world.take(&next(&order, first)).unwrap();
	let folder = world.restore(&restore_of(&order, first, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == disk, "the disks differ");
}
