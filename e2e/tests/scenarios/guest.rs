//! The guest by itself: it boots, writes, can be made quiet, and survives a power cut.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{
	fs::{self, File},
	io::Read,
	path::Path,
	thread,
	time::{Duration, Instant},
};

use backup_e2e::guest::{
	Accelerator, Guest, GuestError, GuestOptions, Verified, check_disk, make_disk, make_guest,
};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(120);
const UUID: &str = "4e9e4bd7-8d2c-4f0e-9d0c-1f4a4d5c6b7a";

fn options(dir: &Path) -> GuestOptions {
	GuestOptions {
		dir: dir.join("vm"),
		disk_image: dir.join("disk.raw"),
		disk_format: "raw".to_owned(),
		uuid: UUID.to_owned(),
		memory_mib: 256,
		has_agent: false,
		guest_cache_dir: make_guest().unwrap(),
	}
}

fn checksum(path: &Path) -> blake3::Hash {
	let mut hasher = blake3::Hasher::new();
	hasher.update_reader(File::open(path).unwrap()).unwrap();
	hasher.finalize()
}

/// Waits for two checksums, taken a second apart, to agree.
fn wait_unchanging(path: &Path) {
	let deadline = Instant::now() + Duration::from_secs(30);
	let mut last = checksum(path);
	loop {
		thread::sleep(Duration::from_secs(1));
		let next = checksum(path);
		if next == last {
			return;
		}
		assert!(Instant::now() < deadline, "the disk of a quiet guest goes on changing");
		last = next;
	}
}

fn wait_synced(guest: &Guest, record: u64) -> u64 {
	let deadline = Instant::now() + COMMAND;
	loop {
		let synced = guest.synced(COMMAND).unwrap();
		if synced >= record {
			return synced;
		}
		assert!(Instant::now() < deadline, "only {synced} records were synced");
	}
}

#[test]
fn a_guest_boots_writes_is_quiet_and_powers_off() {
	let dir = tempfile::tempdir().unwrap();
	let options = options(dir.path());
	make_disk(&options.disk_image, 128).unwrap();
	let started = Instant::now();
	let guest = Guest::start(&options).unwrap();
	guest.wait_ready(BOOT).unwrap();
	println!("booted in {:?} with {:?}", started.elapsed(), Accelerator::detect());

	assert!(guest.is_running());
	assert!(Path::new(&format!("/proc/{}", guest.pid())).exists());
	let written = Instant::now();
	guest.write(4, COMMAND).unwrap();
	println!("wrote 4 files in {:?}", written.elapsed());
	guest.load(COMMAND).unwrap();
	wait_synced(&guest, 5);
	guest.quiet(COMMAND).unwrap();
	let synced = guest.synced(COMMAND).unwrap();
	wait_unchanging(&options.disk_image);
	let copy = dir.path().join("copy.raw");
	fs::copy(&options.disk_image, &copy).unwrap();
	check_disk(&copy).unwrap();
	assert!(guest.is_running());
	assert_eq!(guest.verify(COMMAND).unwrap(), Verified { files: 4, records: synced });

	assert!(guest.power_off(COMMAND).unwrap().success());
	assert!(!guest.is_running());
	check_disk(&options.disk_image).unwrap();
}

#[test]
fn synced_records_survive_a_power_cut() {
	let dir = tempfile::tempdir().unwrap();
	let options = options(dir.path());
	make_disk(&options.disk_image, 64).unwrap();
	let guest = Guest::start(&options).unwrap();
	guest.wait_ready(BOOT).unwrap();
	guest.write(1, COMMAND).unwrap();
	guest.load(COMMAND).unwrap();
	let synced = wait_synced(&guest, 3);
	guest.kill();
	assert!(!guest.is_running());

	let guest = Guest::start(&options).unwrap();
	guest.wait_ready(BOOT).unwrap();
	let verified = guest.verify(COMMAND).unwrap();
	assert_eq!(verified.files, 1);
	assert!(verified.records >= synced, "{} of {synced} records are left", verified.records);
	guest.write(1, COMMAND).unwrap();
	assert_eq!(guest.verify(COMMAND).unwrap().files, 2);
	assert!(guest.stop(COMMAND).unwrap().success());
}

#[test]
fn the_disk_has_the_names_that_a_backup_needs() {
	let dir = tempfile::tempdir().unwrap();
	let options = options(dir.path());
	make_disk(&options.disk_image, 16).unwrap();
	let guest = Guest::start(&options).unwrap();
	let blocks = guest.qmp("query-block", &json!({})).unwrap();
	let disk = &blocks.as_array().unwrap()[0];
	assert_eq!(disk["inserted"]["node-name"], "disk0");
	assert_eq!(disk["qdev"], "/machine/peripheral/vda/virtio-backend");
	assert_eq!(guest.qmp("query-uuid", &json!({})).unwrap()["UUID"], UUID);
	assert!(guest.backup_qmp().exists());
	guest.qmp("stop", &json!({})).unwrap();
	assert!(!guest.is_running());
	guest.qmp("cont", &json!({})).unwrap();
	assert!(guest.is_running());
}

#[test]
fn fails_to_start_on_an_image_that_is_in_use() {
	let dir = tempfile::tempdir().unwrap();
	let first = options(dir.path());
	make_disk(&first.disk_image, 16).unwrap();
	let _running = Guest::start(&first).unwrap();
	let second = GuestOptions { dir: dir.path().join("vm2"), ..first };
	let error = Guest::start(&second).unwrap_err();
	let GuestError::Exited { log } = error else { panic!("another error: {error}") };
	assert!(log.contains("lock"), "QEMU said: {log}");
}

#[test]
fn a_guest_without_a_file_system_says_so() {
	let dir = tempfile::tempdir().unwrap();
	let options = options(dir.path());
	File::create(&options.disk_image).unwrap().set_len(16 << 20).unwrap();
	let guest = Guest::start(&options).unwrap();
	let error = guest.wait_ready(BOOT).unwrap_err();
	assert!(matches!(error, GuestError::Refused { .. }), "{error}");
}

#[test]
fn a_dropped_guest_leaves_no_process() {
	let dir = tempfile::tempdir().unwrap();
	let options = options(dir.path());
	make_disk(&options.disk_image, 16).unwrap();
	let guest = Guest::start(&options).unwrap();
	let process = format!("/proc/{}", guest.pid());
	drop(guest);
	assert!(!Path::new(&process).exists());
}

#[test]
fn a_disk_is_never_made_over_another() {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join("disk.raw");
	make_disk(&path, 16).unwrap();
	let mut first = Vec::new();
	File::open(&path).unwrap().read_to_end(&mut first).unwrap();
	assert!(matches!(make_disk(&path, 8), Err(GuestError::File { .. })));
	assert_eq!(fs::read(&path).unwrap(), first);
}
