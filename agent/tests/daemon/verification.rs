//! Whether snapshots could be restored: asked of a running agent, of a stopped one's store, and
//! by the schedule.

use crate::{
	orders::restore_of,
	world::{World, noise, until},
};
use backup_primitives::job::SnapshotOrder;
use serde_json::Value as Json;
use std::{fs, os::unix::fs::FileExt, process::Output};

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

	/// Changes a byte in the middle of the first pack.
	fn damage_the_store(&self) {
		let pack = self.path("state/blocks/00000001.pack");
		let file = fs::File::options().read(true).write(true).open(pack).unwrap();
		let at = file.metadata().unwrap().len() / 2;
		let mut byte = [0];
		file.read_exact_at(&mut byte, at).unwrap();
		file.write_all_at(&[!byte[0]], at).unwrap();
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
	for depth in ["blocks", "drill"] {
		let result = &world.results(&["--depth", depth], 3)[0];
		assert_eq!((&result["verdict"], &result["corrupt"]), (&"bad".into(), &1.into()));
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
