//! One reading of a machine that runs or is off, and what it leaves behind.

use crate::machine::{Attached, Machine, NEIGHBOUR_TAG, TAG, pattern, read, tag};
use backup_agent::sources::{ImageFormat, OpenOptions, SourceError, Vm};
use backup_primitives::{Consistency, FailureReason, VmTag};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_running_machine_is_read_as_it_was_when_it_was_opened() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
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
		let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
		let bytes = read(open.disks[0].reader.as_mut()).unwrap();
		assert!(bytes[..1 << 20].iter().all(|byte| *byte == round));
		open.close().unwrap();
	}
}

#[test]
fn machines_with_like_disks_are_read_at_once() {
	let machine = Machine::start(ImageFormat::Raw);
	let neighbour = machine.neighbour();
	neighbour.write(0xaa, 0, 1 << 20);
	let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	let mut beside =
		neighbour.vm().open(NEIGHBOUR_TAG.parse().unwrap(), &[], &machine.options()).unwrap();
	// Each keeps what it overwrites to itself.
	machine.write(0xee, 0, 8 << 20);
	neighbour.write(0xbb, 0, 8 << 20);
	assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(0));
	let bytes = read(beside.disks[0].reader.as_mut()).unwrap();
	assert!(bytes[..1 << 20].iter().all(|byte| *byte == 0xaa));
	assert!(bytes[1 << 20..] == pattern(0)[1 << 20..]);
	open.close().unwrap();
	beside.close().unwrap();
	assert!(machine.scratch().is_empty());
}

#[test]
fn a_machine_with_another_tag_is_refused_and_not_touched() {
	let machine = Machine::start(ImageFormat::Raw);
	let wrong = VmTag([9; 16]);
	let error = machine.vm().open(wrong, &[], &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::TagMismatch { .. }), "{error}");
	assert_eq!(error.reason(), FailureReason::VmTagMismatch);
	assert!(error.to_string().contains(TAG), "{error}");
	assert_eq!(machine.leftovers(), [""; 0]);
	assert!(machine.is_running());
}

#[test]
fn what_a_killed_agent_left_is_taken_away() {
	let machine = Machine::start(ImageFormat::Raw);
	let open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert!(!machine.leftovers().is_empty());
	// A killed process runs no destructor.
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
	let mut open = machine.vm().open(tag(), &[], &options).unwrap();
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
	let mut open = machine.vm().open(tag(), &[], &options).unwrap();
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
	let machine = Machine::start(ImageFormat::Raw);
	let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	machine.crash();
	let error = read(open.disks[0].reader.as_mut()).unwrap_err();
	let error = SourceError::of(&error).expect("one of ours");
	assert!(matches!(error, SourceError::Vanished), "{error}");
}

#[test]
fn a_machine_that_is_off_is_read_from_its_image() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		machine.crash();
		let mut vm = machine.vm();
		vm.disks[0].format = format;
		let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
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
		let error = vm.open(tag(), &[], &machine.options()).unwrap_err();
		assert!(matches!(error, SourceError::ImageInUse { .. }), "{error}");
	}
}

#[test]
fn a_missing_disk_and_a_missing_image_are_named() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut vm = machine.vm();
	vm.disks[0].image = "/nowhere/disk.img".into();
	let error = vm.open(tag(), &[], &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::DiskNotFound { .. }), "{error}");
	vm.qmp = None;
	let error = vm.open(tag(), &[], &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::ImageUnreadable { .. }), "{error}");
}

#[test]
fn disks_are_read_however_they_were_attached() {
	for attached in [Attached::Node, Attached::Drive] {
		let machine = Machine::start_with(ImageFormat::Qcow2, attached, 1);
		let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
		machine.write(0xee, 0, 8 << 20);
		assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(0));
		open.close().unwrap();
		assert!(machine.is_running());
		assert_eq!(machine.leftovers(), [""; 0]);
	}
}

/// QEMU 7.2 failed an assertion when the client of an export on an I/O thread hung up: the guest
/// was gone. So such a machine is not touched.
#[test]
fn a_disk_on_an_io_thread_is_refused_where_qemu_would_crash() {
	let machine = Machine::start_with(ImageFormat::Raw, Attached::IoThread, 1);
	let version = machine.monitor().run("query-version", json!({})).unwrap();
	let opened = machine.vm().open(tag(), &[], &machine.options());
	if version["qemu"]["major"].as_u64().unwrap() < 9 {
		let error = opened.unwrap_err();
		assert!(matches!(error, SourceError::IoThread { .. }), "{error}");
	} else {
		opened.unwrap().close().unwrap();
	}
	assert!(machine.is_running());
	assert_eq!(machine.leftovers(), [""; 0]);
}

/// A reader with requests in flight that it did not attend to once hung the machine: QEMU waits
/// for their answers to be taken when it quiets its disks, as it does to stop.
#[test]
fn a_reader_that_is_busy_elsewhere_does_not_hang_the_machine() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	let reader = open.disks[0].reader.as_mut();
	let mut chunk = vec![0; 256 << 10];
	for at in [0, 20 << 20] {
		reader.next_extent(at).unwrap();
		reader.read_at(at, &mut chunk).unwrap();
		reader.release(0..at + (256 << 10));
		machine.monitor().run("stop", json!({})).unwrap();
		machine.monitor().run("cont", json!({})).unwrap();
	}
	open.close().unwrap();
}

#[test]
fn all_disks_are_read_as_of_one_instant() {
	let machine = Machine::start_with(ImageFormat::Raw, Attached::Node, 2);
	let vm = Vm { disks: vec![machine.disk(1), machine.disk(0)], ..machine.vm() };
	let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
	println!("two disks: the machine stood still for {:?}", open.pause);
	assert!(open.pause > Duration::ZERO);
	machine.write_to(0, 0xee, 0, 8 << 20);
	machine.write_to(1, 0xee, 0, 8 << 20);
	for (disk, seed) in open.disks.iter_mut().zip([1, 0]) {
		assert!(read(disk.reader.as_mut()).unwrap() == pattern(seed), "{}", disk.name);
	}
	open.close().unwrap();
	assert_eq!(machine.leftovers(), [""; 0]);
}

#[test]
fn a_machine_that_a_killed_agent_left_stopped_goes_on() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut monitor = machine.monitor();
	let mark = json!({ "driver": "null-co", "node-name": "pbk-mark-stopped", "size": 0 });
	monitor.run("blockdev-add", mark).unwrap();
	monitor.run("stop", json!({})).unwrap();
	drop(monitor);
	machine.vm().recover().unwrap();
	assert!(machine.is_running());
	assert_eq!(machine.leftovers(), [""; 0]);
}

#[test]
fn a_machine_that_its_operator_paused_stays_paused() {
	let machine = Machine::start(ImageFormat::Raw);
	machine.monitor().run("stop", json!({})).unwrap();
	let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.pause, Duration::ZERO);
	assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(0));
	open.close().unwrap();
	machine.vm().recover().unwrap();
	assert!(!machine.is_running());
}

#[test]
fn the_nbd_server_of_somebody_else_is_left_alone() {
	let machine = Machine::start(ImageFormat::Raw);
	let path = machine.folder.path().join("theirs.nbd");
	let address = json!({ "addr": { "type": "unix", "data": { "path": path } } });
	machine.monitor().run("nbd-server-start", address.clone()).unwrap();
	let error = machine.vm().open(tag(), &[], &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::Refused { .. }), "{error}");
	let again = machine.monitor().run("nbd-server-start", address).unwrap_err();
	assert!(again.to_string().contains("already running"), "{again}");
	assert!(machine.is_running());
	assert_eq!(machine.leftovers(), [""; 0]);
	assert!(machine.scratch().is_empty());
}

#[test]
fn bytes_that_were_passed_over_are_not_answered_with_zeros() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	let reader = open.disks[0].reader.as_mut();
	let mut chunk = vec![0; 1 << 20];
	for at in [0, 3 << 20] {
		reader.next_extent(at).unwrap();
		reader.read_at(at, &mut chunk).unwrap();
	}
	let error = reader.read_at(0, &mut chunk).unwrap_err();
	let error = SourceError::of(&error).expect("one of ours");
	assert!(matches!(error, SourceError::Nbd(_)), "{error}");
}
