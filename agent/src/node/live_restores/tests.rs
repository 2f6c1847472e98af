//! Records that are of no use, beside those that are.

use super::*;
use crate::{peers::Bench, pipeline::tests::fixture::memory_store};
use std::process::Command;

/// The folders of an agent, and all else that it needs.
struct World {
	folder: tempfile::TempDir,
	bench: Bench,
}

impl World {
	fn new() -> Self {
		let (folder, bench) = (tempfile::tempdir().unwrap(), Bench::new(None));
		fs::create_dir(folder.path().join("records")).unwrap();
		NodeIdentities::create(&folder.path().join("identity")).unwrap();
		Self { folder, bench }
	}

	/// What an agent does when it starts.
	fn start(&self) -> LiveRestores {
		let identities = NodeIdentities::load(&self.folder.path().join("identity")).unwrap();
		let live_restores = LiveRestores::at(
			self.folder.path().join("records"),
			self.folder.path().join("vms"),
			memory_store(),
			Arc::new(self.bench.elsewhere.clone()),
			Arc::new(identities),
		);
		live_restores.resume().unwrap();
		live_restores
	}

	fn path(&self, vm: &str) -> PathBuf {
		self.folder.path().join(format!("records/{vm}.json"))
	}

	/// A record as an agent leaves it, and its text.
	fn record(&self, vm: &str, is_ready: bool) -> String {
		let record = Record {
			root: root(),
			node: OpaqueId::of(&1u32).unwrap(),
			request: OpaqueId::of(&7u64).unwrap(),
			socket: self.folder.path().join("a.nbd"),
			images: Vec::new(),
			total_bytes: 0,
			is_ready,
		};
		let text = serde_json::to_string(&record).unwrap();
		fs::write(self.path(vm), &text).unwrap();
		text
	}
}

fn root() -> Cid {
	Cid::dag_cbor([5; 32])
}

fn other() -> Cid {
	Cid::dag_cbor([6; 32])
}

fn problem(live_restores: &LiveRestores, vm: &str) -> String {
	let found = live_restores.list().into_iter().find(|view| view.vm == vm).unwrap();
	assert_eq!(found.state, "stuck");
	found.problem.unwrap()
}

#[test]
fn a_torn_record_stops_its_own_live_restore_alone_and_keeps_its_snapshot() {
	let world = World::new();
	let text = world.record("unfinished", false);
	fs::write(world.path("torn"), &text[..text.len() / 2]).unwrap();
	let live_restores = world.start();
	assert!(!live_restores.has("unfinished") && !world.path("unfinished").exists());
	assert!(live_restores.has("torn") && world.path("torn").exists());
	assert!(live_restores.needs(&root()) && !live_restores.needs(&other()));
	assert!(live_restores.exclude("torn").is_err() && live_restores.exclude("unfinished").is_ok());
	let problem = problem(&live_restores, "torn");
	assert!(problem.contains(&world.path("torn").display().to_string()), "{problem}");
	assert!(problem.contains(&format!("the snapshot {} is kept", root())), "{problem}");
	assert!(live_restores.obstacle("torn").unwrap().contains("is of no use"));
}

#[test]
fn a_record_that_does_not_name_its_snapshot_says_what_follows() {
	let world = World::new();
	fs::write(world.path("empty"), "").unwrap();
	let live_restores = world.start();
	let problem = problem(&live_restores, "empty");
	assert!(problem.contains("cannot be told"), "{problem}");
	assert!(!live_restores.needs(&root()));
	assert_eq!(live_restores.list()[0].root, None);
}

#[test]
fn a_record_of_another_version_keeps_its_snapshot() {
	let world = World::new();
	fs::write(world.path("older"), format!("{{\"version\": 9, \"root\": \"{}\"}}", root()))
		.unwrap();
	let live_restores = world.start();
	assert!(live_restores.needs(&root()));
	assert!(problem(&live_restores, "older").contains("missing field"));
}

#[test]
fn what_is_no_file_or_has_no_end_keeps_nobody_waiting() {
	let world = World::new();
	assert!(Command::new("mkfifo").arg(world.path("pipe")).status().unwrap().success());
	fs::create_dir(world.path("folder")).unwrap();
	fs::write(world.path("long"), vec![b' '; (1 << 20) + 1]).unwrap();
	let live_restores = world.start();
	for (vm, reason) in [("pipe", "no file"), ("folder", "no file"), ("long", "too long")] {
		assert!(problem(&live_restores, vm).contains(reason), "{vm}");
	}
}

#[test]
fn a_record_that_is_put_right_goes_on_and_one_that_is_taken_away_is_over() {
	let world = World::new();
	let text = world.record("back", true);
	fs::write(world.path("back"), &text[..9]).unwrap();
	fs::write(world.path("foreign"), "not ours").unwrap();
	let live_restores = world.start();
	assert!(problem(&live_restores, "back").contains("is of no use"));
	fs::write(world.path("back"), text).unwrap();
	fs::remove_file(world.path("foreign")).unwrap();
	live_restores.step();
	assert!(!live_restores.has("foreign"));
	// The record is of use, but its snapshot is nowhere.
	assert!(!problem(&live_restores, "back").contains("is of no use"));
	assert!(live_restores.needs(&root()));
}

#[test]
fn ending_takes_away_a_record_that_is_of_no_use() {
	let world = World::new();
	fs::write(world.path("torn"), "{").unwrap();
	let live_restores = world.start();
	assert!(live_restores.end("torn").unwrap());
	assert!(!world.path("torn").exists() && !live_restores.has("torn"));
	assert!(!live_restores.end("torn").unwrap());
}
