//! `backup restore --device` with a real block device, which only root can make.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod gateway;
#[path = "../../agent/tests/fixtures/loop_device.rs"]
mod loop_device;
mod world;

use backup_agent::repositories::{EmbeddedStore, StoreOptions};
use gateway::Gateway;
use loop_device::Loop;
use std::{
	fs,
	io::Write,
	process::{Command, Output, Stdio},
	sync::{Arc, atomic::Ordering},
	thread,
	time::{Duration, Instant},
};
use world::{World, noise};

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_device_is_overwritten_when_told_so_and_not_before() {
	let world = World::new();
	let image = [1; 300_000];
	let root = world.snapshot(&[("vda", &image)]);
	let before = vec![2; 1 << 20];
	let Some(device) = Loop::over(&world.path("volume"), &before) else { return };
	let restore = format!(
		"restore --root {root} --identity owner.key --store blocks --device {}",
		device.0.display()
	);

	let (code, words) = world.failure(&restore);
	assert_eq!(code, 2, "{words}");
	assert!(words.contains("--yes"), "{words}");
	assert!(fs::read(&device.0).unwrap() == before);

	let answer = world.answer(&format!("{restore} --yes"));
	assert_eq!(answer["output"], device.0.display().to_string());
	let found = fs::read(&device.0).unwrap();
	assert!(found[..image.len()] == image, "other bytes came back");
	// The device counts in blocks.
	let end = image.len().next_multiple_of(512);
	assert!(found[image.len()..end].iter().all(|byte| *byte == 0));
	assert!(found[end..] == before[end..]);
}

/// `world`'s root restored from a gateway to a device, with a place for what is kept of it.
fn restore(world: &World, root: &str, gateway: &Gateway, device: &Loop) -> Command {
	let mut command = Command::new(env!("CARGO_BIN_EXE_backup"));
	command
		.args(["restore", "--root", root, "--identity", "owner.key", "--yes"])
		.args(["--gateway", &gateway.url, "--device"])
		.arg(&device.0)
		.current_dir(world.folder.path())
		.env("XDG_STATE_HOME", world.path("state"))
		.stderr(Stdio::piped());
	command
}

fn words(output: &Output) -> String {
	String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_killed_restore_to_a_device_goes_on_unless_somebody_wrote_to_it() {
	let world = World::new();
	let disk = noise(16_000_000);
	let root = world.snapshot(&[("vda", &disk)]).to_string();
	let store = EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap();
	let store = Arc::new(store);
	let Some(device) = Loop::over(&world.path("volume"), &vec![2; 16 << 20]) else { return };
	let restores = world.path("state/backup/restores");
	let kept = || {
		let mut entries = fs::read_dir(&restores).into_iter().flatten();
		entries.any(|entry| entry.unwrap().path().extension().is_none())
	};
	let mut asked = Vec::new();
	for is_written_to in [false, true] {
		let gateway = Gateway::giving(40, Arc::clone(&store));
		let mut child = restore(&world, &root, &gateway, &device).spawn().unwrap();
		gateway.stalled.recv_timeout(PATIENCE).unwrap();
		let begun = Instant::now();
		while !kept() {
			assert!(begun.elapsed() < PATIENCE, "it was not noted how far it is");
			thread::sleep(Duration::from_millis(20));
		}
		child.kill().unwrap();
		child.wait().unwrap();
		assert!(fs::read(&device.0).unwrap()[..disk.len()] != disk, "it was complete");
		if is_written_to {
			fs::OpenOptions::new().write(true).open(&device.0).unwrap().write_all(b"mine").unwrap();
		}

		let gateway = Gateway::giving(usize::MAX, Arc::clone(&store));
		let output = restore(&world, &root, &gateway, &device).output().unwrap();
		let words = words(&output);
		assert!(output.status.success(), "{words}");
		assert_eq!(words.contains("going on where an earlier restore was"), !is_written_to);
		assert!(fs::read(&device.0).unwrap()[..disk.len()] == disk, "other bytes came back");
		assert!(!kept());
		asked.push(gateway.asked.load(Ordering::Relaxed));
	}
	assert!(asked[0] < asked[1], "it did not go on: {asked:?}");
}

#[test]
fn who_has_no_place_for_it_is_told_that_a_restore_begins_anew() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 5_000])]);
	let Some(device) = Loop::over(&world.path("volume"), &[0; 65_536]) else { return };
	let call = format!(
		"restore --root {root} --identity owner.key --store blocks --yes --device {}",
		device.0.display()
	);
	let output = world.backup(&call);
	assert!(output.status.success());
	assert!(words(&output).contains("the next one begins anew"), "{}", words(&output));
	assert!(words(&output).contains("neither XDG_STATE_HOME nor HOME is set"));
}

#[test]
fn a_device_that_is_none_is_said_to_be_none() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 5_000])]);
	fs::write(world.path("volume"), "not this").unwrap();
	let (code, words) = world.failure(&format!(
		"restore --root {root} --identity owner.key --store blocks --device volume --yes"
	));
	assert_eq!(code, 8, "{words}");
	assert!(words.contains("this is no block device"), "{words}");
	assert_eq!(fs::read(world.path("volume")).unwrap(), b"not this");
}
