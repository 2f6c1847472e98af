//! Reading a machine that runs: a real QEMU without a guest system, whose disk is written
//! through its monitor as a guest would.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use backup_agent::{
	pipeline::DiskReader,
	sources::{Disk, ImageFormat, OpenOptions, SourceError, Vm, qmp::Monitor},
};
use backup_primitives::{Consistency, FailureReason, VmTag};
use serde_json::json;
use std::{
	fs,
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	sync::{Mutex, MutexGuard, PoisonError},
	thread,
	time::{Duration, Instant},
};

const DISK_BYTES: u64 = 64 << 20;
const TAG: &str = "c0ffee00-0000-8000-8000-000000000001";

/// Machines take turns: ten emulators at once starve each other of time.
static TURN: Mutex<()> = Mutex::new(());

/// A QEMU with one virtio disk, two control sockets, and nothing to boot.
struct Machine {
	folder: tempfile::TempDir,
	qemu: Child,
	_turn: MutexGuard<'static, ()>,
}

impl Machine {
	fn start(format: ImageFormat) -> Self {
		let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
		let folder = tempfile::tempdir().unwrap();
		fs::create_dir(folder.path().join("scratch")).unwrap();
		let raw = folder.path().join("disk.raw");
		fs::write(&raw, pattern(0)).unwrap();
		let image = image(folder.path());
		let driver = format.driver();
		run("qemu-img", &["convert", "-O", driver, text(&raw), text(&image)]);
		let qemu = Command::new("qemu-system-x86_64")
			.args(["-machine", "q35", "-accel", "tcg", "-m", "64", "-nodefaults"])
			.args(["-display", "none", "-uuid", TAG])
			.arg("-blockdev")
			.arg(format!("driver=file,node-name=f0,filename={}", text(&image)))
			.arg("-blockdev")
			.arg(format!("driver={driver},node-name=d0,file=f0"))
			.args(["-device", "virtio-blk-pci,drive=d0,id=disk0"])
			.arg("-qmp")
			.arg(format!("unix:{},server=on,wait=off", text(&folder.path().join("backup.qmp"))))
			.arg("-qmp")
			.arg(format!("unix:{},server=on,wait=off", text(&folder.path().join("guest.qmp"))))
			.stdin(Stdio::null())
			.spawn()
			.unwrap();
		let machine = Self { folder, qemu, _turn: turn };
		let deadline = Instant::now() + Duration::from_secs(20);
		while !machine.folder.path().join("guest.qmp").exists() {
			assert!(Instant::now() < deadline, "QEMU did not start");
			thread::yield_now();
		}
		// The socket is there before the disk is; who is answered finds a machine that runs.
		machine.is_running();
		machine
	}

	fn vm(&self) -> Vm {
		Vm {
			uuid: TAG.parse().unwrap(),
			qmp: Some(self.folder.path().join("backup.qmp")),
			guest_agent: None,
			disks: vec![Disk {
				name: "vda".into(),
				image: image(self.folder.path()),
				format: ImageFormat::Raw,
			}],
		}
	}

	fn options(&self) -> OpenOptions {
		OpenOptions {
			scratch_dir: self.folder.path().join("scratch"),
			scratch_bytes_max: 128 << 20,
			freeze_time_max: Duration::from_secs(1),
		}
	}

	fn monitor(&self) -> Monitor {
		Monitor::connect(&self.folder.path().join("guest.qmp")).unwrap().unwrap()
	}

	/// Write to the disk as the guest's driver would: through whatever stands over it.
	fn write(&self, byte: u8, offset: u64, length: u64) {
		let line = format!(
			"qemu-io -d /machine/peripheral/disk0/virtio-backend \"write -P {byte} {offset} {length}\""
		);
		let answer =
			self.monitor().run("human-monitor-command", json!({ "command-line": line })).unwrap();
		let answer = answer.as_str().unwrap();
		assert!(!answer.contains("rror"), "the guest's write failed: {answer}");
	}

	fn is_running(&self) -> bool {
		self.monitor().run("query-status", json!({})).unwrap()["running"] == true
	}

	/// Names of nodes in QEMU that a backup put there.
	fn leftovers(&self) -> Vec<String> {
		let nodes = self.monitor().run("query-named-block-nodes", json!({ "flat": true })).unwrap();
		let names = nodes.as_array().unwrap().iter().filter_map(|n| n["node-name"].as_str());
		names.filter(|name| name.starts_with("pbk-")).map(str::to_owned).collect()
	}

	fn scratch(&self) -> Vec<PathBuf> {
		let entries = fs::read_dir(self.folder.path().join("scratch")).unwrap();
		entries.map(|entry| entry.unwrap().path()).collect()
	}
}

impl Drop for Machine {
	fn drop(&mut self) {
		let _ = self.qemu.kill();
		let _ = self.qemu.wait();
	}
}

fn image(folder: &Path) -> PathBuf {
	folder.join("disk.img")
}

fn text(path: &Path) -> &str {
	path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
	assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program}");
}

/// The content of a disk: data in most places, zeros in every third MiB.
fn pattern(seed: u8) -> Vec<u8> {
	let mut bytes = vec![0; DISK_BYTES as usize];
	for (index, block) in bytes.chunks_mut(4096).enumerate() {
		if (index / 256) % 3 != 2 {
			block.fill((index % 251) as u8 ^ seed | 1);
		}
	}
	bytes
}

/// Read a disk as the pipeline does.
fn read(reader: &mut dyn DiskReader) -> std::io::Result<Vec<u8>> {
	const CHUNK: u64 = 256 << 10;
	let size = reader.logical_bytes();
	let mut bytes = vec![0; size as usize];
	let mut at = 0;
	while let Some(extent) = reader.next_extent(at)? {
		let start = extent.start / CHUNK * CHUNK;
		let end = (start + CHUNK).min(size);
		reader.read_at(start, &mut bytes[start as usize..end as usize])?;
		reader.release(at..end);
		at = end;
	}
	Ok(bytes)
}

fn tag() -> VmTag {
	TAG.parse().unwrap()
}

#[test]
fn a_running_machine_is_read_as_it_was_when_it_was_opened() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let mut open = machine.vm().open(tag(), &machine.options()).unwrap();
		assert_eq!(open.consistency, Consistency::Crash);
		machine.write(0xee, 0, 8 << 20);
		machine.write(0xee, 33 << 20, 5 << 20);
		let bytes = read(open.disks[0].reader.as_mut()).unwrap();
		assert!(bytes == pattern(0), "the snapshot is not the disk at the instant of opening");
		machine.write(0xdd, 60 << 20, 1 << 20);
		open.close().unwrap();
		assert!(machine.is_running());
		assert_eq!(machine.leftovers(), [""; 0]);
		assert!(machine.scratch().is_empty());
	}
}

#[test]
fn a_machine_can_be_read_again_and_again() {
	let machine = Machine::start(ImageFormat::Qcow2);
	for round in 1..4 {
		machine.write(round, 0, 1 << 20);
		let mut open = machine.vm().open(tag(), &machine.options()).unwrap();
		let bytes = read(open.disks[0].reader.as_mut()).unwrap();
		assert!(bytes[..1 << 20].iter().all(|byte| *byte == round));
		open.close().unwrap();
	}
}

#[test]
fn a_machine_with_another_tag_is_refused_and_not_touched() {
	let machine = Machine::start(ImageFormat::Raw);
	let wrong = VmTag([9; 16]);
	let error = machine.vm().open(wrong, &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::TagMismatch { .. }), "{error}");
	assert_eq!(error.reason(), FailureReason::VmTagMismatch);
	assert!(error.to_string().contains(TAG), "{error}");
	assert_eq!(machine.leftovers(), [""; 0]);
	assert!(machine.is_running());
}

#[test]
fn what_a_killed_agent_left_is_taken_away() {
	let machine = Machine::start(ImageFormat::Raw);
	let open = machine.vm().open(tag(), &machine.options()).unwrap();
	assert!(!machine.leftovers().is_empty());
	// A killed process runs no destructor, but its sockets close.
	std::mem::forget(open);
	let backup = machine.vm();
	// QEMU serves one client a socket, and the forgotten one still holds it.
	let over_the_other = Vm { qmp: Some(machine.folder.path().join("guest.qmp")), ..backup };
	over_the_other.recover().unwrap();
	assert_eq!(machine.leftovers(), [""; 0]);
	machine.write(0xaa, 0, 1 << 20);
	assert!(machine.is_running());
}

#[test]
fn guest_writes_past_the_scratch_cap_end_the_backup_and_not_the_guest() {
	let machine = Machine::start(ImageFormat::Raw);
	let options = OpenOptions { scratch_bytes_max: 8 << 20, ..machine.options() };
	let mut open = machine.vm().open(tag(), &options).unwrap();
	for offset in 0..16 {
		machine.write(0xbb, offset << 21, 1 << 21);
	}
	let error = read(open.disks[0].reader.as_mut()).unwrap_err();
	let error = SourceError::of(&error).expect("one of ours");
	assert!(matches!(error, SourceError::ScratchFull), "{error}");
	drop(open);
	machine.write(0xcc, 0, 1 << 20);
	assert!(machine.is_running());
	assert_eq!(machine.leftovers(), [""; 0]);
}

#[test]
fn what_was_read_costs_no_scratch() {
	let machine = Machine::start(ImageFormat::Raw);
	let options = OpenOptions { scratch_bytes_max: 8 << 20, ..machine.options() };
	let mut open = machine.vm().open(tag(), &options).unwrap();
	let reader = open.disks[0].reader.as_mut();
	let mut chunk = vec![0; 1 << 20];
	for at in (0..32u64 << 20).step_by(1 << 20) {
		reader.next_extent(at).unwrap();
		reader.read_at(at, &mut chunk).unwrap();
		reader.release(at..at + (1 << 20));
	}
	// Far more than the scratch holds, all of it in the part that was read and trimmed.
	for offset in 0..15 {
		machine.write(0xbb, offset << 20, 1 << 20);
	}
	let at = 40 << 20;
	reader.next_extent(at).unwrap();
	reader.read_at(at, &mut chunk).unwrap();
	assert!(chunk == pattern(0)[at as usize..][..1 << 20]);
	open.close().unwrap();
}

#[test]
fn a_machine_that_ends_in_the_middle_has_vanished() {
	let mut machine = Machine::start(ImageFormat::Raw);
	let mut open = machine.vm().open(tag(), &machine.options()).unwrap();
	machine.qemu.kill().unwrap();
	machine.qemu.wait().unwrap();
	let error = read(open.disks[0].reader.as_mut()).unwrap_err();
	let error = SourceError::of(&error).expect("one of ours");
	assert!(matches!(error, SourceError::Vanished), "{error}");
}

#[test]
fn a_machine_that_is_off_is_read_from_its_image() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let mut machine = Machine::start(format);
		machine.qemu.kill().unwrap();
		machine.qemu.wait().unwrap();
		let mut vm = machine.vm();
		vm.disks[0].format = format;
		let mut open = vm.open(tag(), &machine.options()).unwrap();
		assert_eq!(open.consistency, Consistency::Stopped);
		let bytes = read(open.disks[0].reader.as_mut()).unwrap();
		assert!(bytes == pattern(0));
		open.close().unwrap();
		assert!(machine.scratch().is_empty());
	}
}

#[test]
fn an_image_in_use_is_refused() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let mut vm = Vm { qmp: None, ..machine.vm() };
		vm.disks[0].format = format;
		let error = vm.open(tag(), &machine.options()).unwrap_err();
		assert!(matches!(error, SourceError::ImageInUse { .. }), "{error}");
	}
}

#[test]
fn a_missing_disk_and_a_missing_image_are_named() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut vm = machine.vm();
	vm.disks[0].image = "/nowhere/disk.img".into();
	let error = vm.open(tag(), &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::DiskNotFound { .. }), "{error}");
	vm.qmp = None;
	let error = vm.open(tag(), &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::ImageUnreadable { .. }), "{error}");
}
