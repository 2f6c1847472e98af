//! `backup restore --device` with a real block device, which only root can make.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[path = "../../agent/tests/fixtures/loop_device.rs"]
mod loop_device;
mod world;

use loop_device::Loop;
use std::fs;
use world::World;

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
