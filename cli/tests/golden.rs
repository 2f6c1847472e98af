//! A whole snapshot that was written once, and must come back for ever.

use std::{fs, path::PathBuf, process::Command};

/// The files of `testdata/vectors/snapshot-v1`; its README says what they hold.
fn folder() -> PathBuf {
	PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/vectors/snapshot-v1")
}

/// Bytes of the disk that the snapshot holds.
fn disk() -> Vec<u8> {
	let mut disk = vec![0; 20 * 1024 * 1024 + 777];
	let mut write = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
	// One chunk that is made smaller, one that is not, the same one again, and the last bytes.
	let text: Vec<u8> = (0..262_144u32).map(|at| b"backup "[at as usize % 7]).collect();
	let mut state = 1u64;
	let noise: Vec<u8> = (0..4_000)
		.map(|_| {
			state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
			(state >> 56) as u8
		})
		.collect();
	write(0, &text);
	write(3 * 262_144, &noise);
	write(70 * 262_144, &noise);
	write(20 * 1024 * 1024 + 700, b"the last bytes of a chunk that is not full");
	disk
}

#[test]
fn its_disk_comes_back_to_owner_and_node() {
	let root = fs::read_to_string(folder().join("root")).unwrap();
	let scratch = tempfile::tempdir().unwrap();
	let image = scratch.path().join("image");
	for identity in ["owner.key", "node.key"] {
		let output = Command::new(env!("CARGO_BIN_EXE_backup"))
			.args(["restore", "--root", root.trim(), "--disk", "vda", "--car"])
			.arg(folder().join("snapshot.car"))
			.arg("--identity")
			.arg(folder().join(identity))
			.arg("--output")
			.arg(&image)
			.output()
			.unwrap();
		assert!(output.status.success(), "{output:?}");
		assert!(fs::read(&image).unwrap() == disk(), "other bytes came back");
		fs::remove_file(&image).unwrap();
	}
}

#[test]
fn its_blob_and_its_empty_disk_come_back() {
	let scratch = tempfile::tempdir().unwrap();
	let root = fs::read_to_string(folder().join("root")).unwrap();
	for (what, name, expected) in [
		("--blob", "machine.toml", b"uuid = \"none\"\n".to_vec()),
		("--disk", "vdb", vec![0; 5000]),
	] {
		let image = scratch.path().join(name);
		let output = Command::new(env!("CARGO_BIN_EXE_backup"))
			.args(["restore", "--root", root.trim(), what, name, "--car"])
			.arg(folder().join("snapshot.car"))
			.arg("--identity")
			.arg(folder().join("owner.key"))
			.arg("--output")
			.arg(&image)
			.output()
			.unwrap();
		assert!(output.status.success(), "{output:?}");
		assert_eq!(fs::read(&image).unwrap(), expected);
	}
}
