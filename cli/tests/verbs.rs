//! `backup show`, `verify`, `drill`, `key`, `completions` and `man`, which need no chain.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod world;

use serde_json::json;
use std::{
	fs,
	io::Write,
	path::PathBuf,
	process::{Command, Output, Stdio},
};
use world::World;

/// A call to which somebody types something.
fn typed(world: &World, arguments: &str, words: &str) -> Output {
	let mut child = Command::new(env!("CARGO_BIN_EXE_backup"))
		.args(arguments.split_whitespace())
		.current_dir(world.folder.path())
		.env_clear()
		.stdin(Stdio::piped())
		.stdout(Stdio::piped())
		.stderr(Stdio::piped())
		.spawn()
		.unwrap();
	child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
	child.wait_with_output().unwrap()
}

/// Turn a bit in the middle of the store.
fn damage(world: &World) {
	let is_pack = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "pack");
	let mut files = fs::read_dir(world.path("blocks")).unwrap().map(|file| file.unwrap().path());
	let pack = files.find(is_pack).unwrap();
	let mut bytes = fs::read(&pack).unwrap();
	let middle = bytes.len() / 2;
	bytes[middle] ^= 1;
	fs::write(&pack, bytes).unwrap();
}

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
	damage(&world);
	let (code, words) = world.failure(&format!("verify --read {place}"));
	assert!(code == 7 && words.contains("missing or damaged"), "{code} {words}");
}

#[test]
fn a_drill_restores_everything_and_keeps_nothing() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 500_000]), ("vdb", &[])]);
	let call = format!("drill --root {root} --identity owner.key --store blocks");
	let before = fs::read_dir(world.folder.path()).unwrap().count();
	let answer = world.answer(&call);
	let (disks, blobs) = (&answer["disks"], &answer["blobs"]);
	assert_eq!((&disks[0]["name"], &disks[0]["logical_bytes"]), (&json!("vda"), &json!(500_000)));
	assert_eq!(disks[0]["written_bytes"], 500_000);
	assert_eq!((&disks[1]["written_bytes"], blobs), (&json!(0), &json!([])));
	assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), before);
	let text = String::from_utf8(world.backup(&call).stdout).unwrap();
	assert!(text.starts_with("request ") && text.contains("can be restored"), "{text}");

	// A byte of a chunk turns.
	damage(&world);
	let (code, words) = world.failure(&call);
	assert!(code == 7 && words.contains("damaged"), "{code} {words}");
}

#[test]
fn an_identity_comes_back_from_the_words_on_paper() {
	let world = World::new();
	let answer = world.answer("key words --identity owner.key");
	let words = answer["keys"][0]["words"].as_array().unwrap();
	assert_eq!(words.len(), 24);
	let shown = world.answer("key show --identity owner.key");
	assert_eq!(shown["recipients"], json!([answer["keys"][0]["recipient"]]));

	// As they stand on paper, in lines.
	let text = String::from_utf8(world.backup("key words --identity owner.key").stdout).unwrap();
	let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
	assert_eq!(lines.len(), 4, "{text}");
	let output = typed(&world, "key recover --output again.key --json", &(lines.join("\n") + "\n"));
	assert!(output.status.success(), "{output:?}");
	let secret = |name: &str| {
		let text = fs::read_to_string(world.path(name)).unwrap();
		text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap().to_owned()
	};
	assert_eq!(secret("again.key"), secret("owner.key"));

	let output = typed(&world, "key recover --output third.key", "zoo zoo\n\n");
	let errors = String::from_utf8(output.stderr).unwrap();
	assert_eq!(output.status.code(), Some(6), "{errors}");
	assert!(errors.contains("there are 2 words, and 24 are needed"), "{errors}");
	assert!(!world.path("third.key").exists());
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
	assert!(page.contains("Examples:\n  backup restore\\-file \\-\\-machine web\\-1"), "{page}");
	assert!(world.path("pages/backup.1").exists());
}
