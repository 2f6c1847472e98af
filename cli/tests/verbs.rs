//! `backup show`, `verify`, `completions` and `man`, which need no chain.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod world;

use serde_json::json;
use std::fs;
use world::World;

#[test]
fn a_root_tells_of_its_snapshot() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 5000]), ("vdb", &[])]);
	let place = format!("--root {root} --identity owner.key --store blocks");
	let answer = world.answer(&format!("show {place}"));
	assert_eq!((&answer["sequence"], &answer["taken_at_ms"]), (&json!(4), &json!(5)));
	assert_eq!(answer["consistency"], "stopped");
	assert_eq!(
		answer["disks"],
		json!([{ "name": "vda", "bytes": 5000 }, { "name": "vdb", "bytes": 0 }])
	);
	let text = String::from_utf8(world.backup(&format!("show {place}")).stdout).unwrap();
	assert!(
		text.contains("taken 1970-01-01 00:00:00 UTC") && text.contains("vda   4.8 KiB"),
		"{text}"
	);
}

#[test]
fn a_place_is_verified_without_a_secret() {
	let world = World::new();
	let disk: Vec<u8> =
		(0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
	let root = world.snapshot(&[("vda", &disk)]);
	let place = format!("--root {root} --store blocks");
	let there = world.answer(&format!("verify {place}"));
	assert_eq!((&there["depth"], &there["bad_blocks"]), (&json!("there"), &json!(0)));
	let read = world.answer(&format!("verify --read {place}"));
	assert_eq!(read["good_blocks"], there["good_blocks"]);
	assert!(read["read_bytes"].as_u64() > there["read_bytes"].as_u64());
	// A byte of a chunk turns; who only asks for it does not see that.
	let pack = fs::read_dir(world.path("blocks"))
		.unwrap()
		.map(|entry| entry.unwrap().path())
		.find(|path| path.extension().is_some_and(|extension| extension == "pack"))
		.unwrap();
	let mut bytes = fs::read(&pack).unwrap();
	let middle = bytes.len() / 2;
	bytes[middle] ^= 1;
	fs::write(&pack, bytes).unwrap();
	let (code, words) = world.failure(&format!("verify --read {place}"));
	assert!(code == 7 && words.contains("missing or damaged"), "{code} {words}");
}

#[test]
fn shells_and_manuals_know_every_verb() {
	let world = World::new();
	for shell in ["bash", "zsh", "fish"] {
		let script = world.backup(&format!("completions {shell}"));
		let script = String::from_utf8(script.stdout).unwrap();
		assert!(script.contains("restore-file") && script.contains("governance"), "{shell}");
	}
	world.answer("man pages");
	let page = fs::read_to_string(world.path("pages/backup-restore-file.1")).unwrap();
	assert!(page.contains(".TH") && page.contains("output"));
	assert!(world.path("pages/backup.1").exists());
}
