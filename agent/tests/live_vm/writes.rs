//! What is written to a machine between its backups, and what becomes of the record of it.

use crate::{
	backups::{
		Backup, GRANULE, MIB, Written, assert_only_bitmap, back_up, back_up_through, bitmaps,
		close, read_since,
	},
	guest::Guest,
	machine::{Attached, DISK_BYTES, Machine, read, run, tag, text},
};
use backup_agent::sources::{Checkpoint, ImageFormat, OpenOptions, Vm, qmp::Monitor};
use serde_json::{Value, json};
use std::{fs, ops::Range};

fn one(range: Range<u64>) -> Option<Vec<Range<u64>>> {
	Some(Vec::from([range]))
}

fn node(machine: &Machine) -> Value {
	let blocks = machine.monitor().run("query-block", json!({})).unwrap();
	blocks[0]["inserted"]["node-name"].clone()
}

#[test]
fn no_more_is_read_than_was_written_since_the_last_backup() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let mut disk = Written::of(&machine);
		let first = back_up(&machine, None);
		assert!(first.written.is_none() && first.bytes == disk.bytes);

		let quiet = back_up(&machine, Some(&first));
		assert_eq!(quiet.written.as_deref(), Some(&[][..]));

		disk.write(0xa1, 5, 10);
		disk.write(0xa2, 30 * MIB - 1, 2);
		disk.write(0, 3 * MIB, MIB);
		let second = back_up(&machine, Some(&quiet));
		let expected = [0..GRANULE, 3 * MIB..4 * MIB, 30 * MIB - GRANULE..30 * MIB + GRANULE];
		assert_eq!(second.written.as_deref(), Some(&expected[..]));
		assert!(second.bytes == disk.bytes, "{format:?}");

		assert_only_bitmap(&machine, second.checkpoint);
		assert!(machine.is_running());
	}
}

#[test]
fn what_is_written_while_it_is_read_belongs_to_the_next_backup() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = Written::of(&machine);
	let vm = machine.vm();
	let first = back_up(&machine, None);
	disk.write(0xa1, 10 * MIB, MIB);
	let then = disk.bytes.clone();

	let mut open = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	disk.write(0xa2, 10 * MIB, MIB);
	disk.write(0xa3, 50 * MIB, MIB);
	let (bytes, written) = read_since(&mut open.disks[0], Some(&first));
	assert!(bytes == then, "the writes of meanwhile are in the backup");
	let checkpoint = close(open);
	vm.settle(&[checkpoint]).unwrap();

	let second = Backup { checkpoint, bytes, written };
	let third = back_up(&machine, Some(&second));
	assert_eq!(third.written.as_deref(), Some(&[10 * MIB..11 * MIB, 50 * MIB..51 * MIB][..]));
	assert!(third.bytes == disk.bytes);
}

#[test]
fn after_a_backup_that_failed_the_next_one_reads_what_both_would_have() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = Written::of(&machine);
	let vm = machine.vm();
	let first = back_up(&machine, None);
	disk.write(0xa1, 0, MIB);
	let failed = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	disk.write(0xa2, 20 * MIB, MIB);
	drop(failed);
	disk.write(0xa3, 40 * MIB, MIB);
	vm.settle(&[first.checkpoint]).unwrap();
	assert_only_bitmap(&machine, first.checkpoint);
	let second = back_up(&machine, Some(&first));
	let expected = [0..MIB, 20 * MIB..21 * MIB, 40 * MIB..41 * MIB];
	assert_eq!(second.written.as_deref(), Some(&expected[..]));
	assert!(second.bytes == disk.bytes);
}

#[test]
fn after_a_first_backup_that_failed_no_bitmap_is_left() {
	let machine = Machine::start(ImageFormat::Qcow2);
	drop(machine.vm().open(tag(), &[], &machine.options()).unwrap());
	machine.vm().settle(&[]).unwrap();
	assert_eq!(bitmaps(&machine), [""; 0]);
}

#[test]
fn after_an_agent_was_killed_the_next_one_reads_what_both_would_have() {
	let machine = Machine::start(ImageFormat::Raw);
	let mut disk = Written::of(&machine);
	let first = back_up(&machine, None);
	disk.write(0xa1, 0, MIB);
	let killed = machine.vm().open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	std::mem::forget(killed);
	disk.write(0xa2, 20 * MIB, MIB);
	// QEMU serves one client a socket, and the forgotten one still holds it.
	let over_the_other = Vm { qmp: Some(machine.folder.path().join("guest.qmp")), ..machine.vm() };
	let second = back_up_through(&over_the_other, &machine, Some(&first));
	assert_eq!(second.written.as_deref(), Some(&[0..MIB, 20 * MIB..21 * MIB][..]));
	assert!(second.bytes == disk.bytes);
}

/// A kill after the pin and before the old bitmap goes.
#[test]
fn a_backup_that_was_committed_counts_although_nobody_cleaned_up() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = Written::of(&machine);
	let vm = machine.vm();
	let first = back_up(&machine, None);
	disk.write(0xa1, 0, MIB);
	let mut open = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	let (bytes, written) = read_since(&mut open.disks[0], Some(&first));
	let second = Backup { checkpoint: close(open), bytes, written };
	assert_eq!(bitmaps(&machine).len(), 4, "two records, each with its witness");
	disk.write(0xa2, 20 * MIB, MIB);
	let known = [second.checkpoint, first.checkpoint];
	let mut open = vm.open(tag(), &known, &machine.options()).unwrap();
	assert_eq!(open.base, Some(second.checkpoint));
	let (bytes, written) = read_since(&mut open.disks[0], Some(&second));
	assert_eq!(written, one(20 * MIB..21 * MIB));
	assert!(bytes == disk.bytes);
	drop(open);
}

#[test]
fn a_machine_that_was_switched_off_and_on_again_remembers_what_was_written() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = back_up(&machine, None);
	machine.write(0xa1, 0, MIB);
	machine.quit();
	machine.start_again();
	machine.write(0xa2, 20 * MIB, MIB);
	let mut disk = Written::of(&machine);
	disk.bytes[..MIB as usize].fill(0xa1);
	disk.bytes[20 * MIB as usize..21 * MIB as usize].fill(0xa2);
	let second = back_up(&machine, Some(&first));
	assert_eq!(second.written.as_deref(), Some(&[0..MIB, 20 * MIB..21 * MIB][..]));
	assert!(second.bytes == disk.bytes);
}

#[test]
fn a_machine_that_was_switched_off_while_it_was_read_remembers_too() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = back_up(&machine, None);
	machine.write(0xa1, 0, MIB);
	let open = machine.vm().open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	machine.write(0xa2, 20 * MIB, MIB);
	machine.quit();
	drop(open);
	machine.start_again();
	let second = back_up(&machine, Some(&first));
	assert_eq!(second.written.as_deref(), Some(&[0..MIB, 20 * MIB..21 * MIB][..]));
	assert!(second.bytes[..MIB as usize].iter().all(|byte| *byte == 0xa1));
}

#[test]
fn a_machine_that_is_off_is_read_since_its_last_backup() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = back_up(&machine, None);
	machine.write(0xa1, 20 * MIB, MIB);
	machine.quit();
	let mut vm = machine.vm();
	vm.disks[0].format = ImageFormat::Qcow2;
	let image = fs::read(&vm.disks[0].image).unwrap();
	for _ in 0..2 {
		let mut open = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
		assert_eq!((open.base, open.checkpoint), (Some(first.checkpoint), None));
		let (bytes, written) = read_since(&mut open.disks[0], Some(&first));
		assert_eq!(written, one(20 * MIB..21 * MIB));
		assert!(bytes[20 * MIB as usize..21 * MIB as usize].iter().all(|byte| *byte == 0xa1));
		open.close().unwrap();
		vm.settle(&[first.checkpoint]).unwrap();
	}
	assert!(fs::read(&vm.disks[0].image).unwrap() == image, "the image was touched");
	// The record goes on when the machine does.
	machine.start_again();
	machine.write(0xa2, 40 * MIB, MIB);
	let second = back_up(&machine, Some(&first));
	let expected = [20 * MIB..21 * MIB, 40 * MIB..41 * MIB];
	assert_eq!(second.written.as_deref(), Some(&expected[..]));
}

#[test]
fn a_machine_that_crashed_and_is_off_is_read_in_full() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = back_up(&machine, None);
	machine.write(0xa1, 20 * MIB, MIB);
	machine.crash();
	let mut vm = machine.vm();
	vm.disks[0].format = ImageFormat::Qcow2;
	let open = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	assert!(open.base.is_none() && open.disks[0].written.is_none());
}

#[test]
fn a_machine_that_crashed_is_read_in_full_and_recorded_anew() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let first = back_up(&machine, None);
		machine.write(0xa1, 0, MIB);
		machine.crash();
		machine.start_again();
		let second = back_up(&machine, Some(&first));
		assert!(second.written.is_none());
		assert!(second.bytes[..MIB as usize].iter().all(|byte| *byte == 0xa1));
		assert_only_bitmap(&machine, second.checkpoint);
		machine.write(0xa2, 20 * MIB, MIB);
		let third = back_up(&machine, Some(&second));
		assert_eq!(third.written, one(20 * MIB..21 * MIB));
	}
}

#[test]
fn a_record_since_a_backup_that_is_gone_is_of_no_use() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = back_up(&machine, None);
	machine.write(0xa1, 0, MIB);
	let other = Backup { checkpoint: Checkpoint::new(), ..first };
	let second = back_up(&machine, Some(&other));
	assert!(second.written.is_none());
	assert_only_bitmap(&machine, second.checkpoint);
}

#[test]
fn disks_that_changed_places_are_read_in_full() {
	let machine = Machine::start_with(ImageFormat::Qcow2, Attached::Node, 2);
	let [zero, one] = [machine.disk(0), machine.disk(1)];
	let vm = Vm { disks: vec![zero.clone(), one.clone()], ..machine.vm() };
	let checkpoint = close(vm.open(tag(), &[], &machine.options()).unwrap());
	vm.settle(&[checkpoint]).unwrap();
	let open = vm.open(tag(), &[checkpoint], &machine.options()).unwrap();
	assert!(open.disks.iter().all(|disk| disk.written.is_some()));
	drop(open);
	vm.settle(&[checkpoint]).unwrap();

	let mut swapped = vec![zero, one];
	swapped[0].name = "disk1".into();
	swapped[1].name = "disk0".into();
	let swapped = Vm { disks: swapped, ..machine.vm() };
	let open = swapped.open(tag(), &[checkpoint], &machine.options()).unwrap();
	assert!(open.disks.iter().all(|disk| disk.written.is_none()));
	drop(open);
}

#[test]
fn a_disk_that_lost_its_record_does_not_cost_the_other_one_its_own() {
	let machine = Machine::start_with(ImageFormat::Qcow2, Attached::Node, 2);
	let vm = Vm { disks: vec![machine.disk(0), machine.disk(1)], ..machine.vm() };
	let checkpoint = close(vm.open(tag(), &[], &machine.options()).unwrap());
	vm.settle(&[checkpoint]).unwrap();
	let name = format!("pbk-{checkpoint}-0-disk0");
	let lost = json!({ "node": node(&machine), "name": name });
	machine.monitor().run("block-dirty-bitmap-remove", lost).unwrap();
	machine.write_to(1, 0xa1, 0, MIB);
	let open = vm.open(tag(), &[checkpoint], &machine.options()).unwrap();
	assert_eq!(open.base, Some(checkpoint));
	let written: Vec<_> = open.disks.iter().map(|disk| disk.written.clone()).collect();
	assert_eq!(written, [None, one(0..MIB)]);
	drop(open);
}

#[test]
fn the_bitmap_of_somebody_else_is_left_alone() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let theirs = json!({ "node": node(&machine), "name": "nightly", "persistent": true });
	machine.monitor().run("block-dirty-bitmap-add", theirs).unwrap();
	let first = back_up(&machine, None);
	back_up(&machine, Some(&first));
	machine.vm().settle(&[]).unwrap();
	assert_eq!(bitmaps(&machine), ["nightly"]);
}

fn resize(machine: &Machine, size_bytes: u64) {
	let resize = json!({ "node-name": node(machine), "size": size_bytes });
	machine.monitor().run("block_resize", resize).unwrap();
}

/// QEMU cuts its bitmaps, and calls what comes back clean.
#[test]
fn a_disk_that_shrank_and_grew_back_is_read_in_full() {
	for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
		let machine = Machine::start(format);
		let mut disk = Written::of(&machine);
		let first = back_up(&machine, None);
		resize(&machine, DISK_BYTES - MIB);
		resize(&machine, DISK_BYTES);
		disk.bytes[(DISK_BYTES - MIB) as usize..].fill(0);
		let second = back_up(&machine, Some(&first));
		assert!(second.written.is_none(), "{format:?}");
		assert!(second.bytes == disk.bytes, "{format:?}");
		let third = back_up(&machine, Some(&second));
		assert_eq!(third.written.as_deref(), Some(&[][..]), "and recorded anew");
	}
}

#[test]
fn a_disk_that_was_cut_is_read_in_full_although_a_backup_failed_since() {
	for is_cut_before in [true, false] {
		let machine = Machine::start(ImageFormat::Qcow2);
		let mut disk = Written::of(&machine);
		let first = back_up(&machine, None);
		let cut = || {
			resize(&machine, DISK_BYTES / 2);
			resize(&machine, DISK_BYTES);
		};
		if is_cut_before {
			cut();
		}
		let failed = machine.vm().open(tag(), &[first.checkpoint], &machine.options()).unwrap();
		assert_eq!(failed.disks[0].written.is_none(), is_cut_before);
		drop(failed);
		if !is_cut_before {
			cut();
		}
		machine.vm().settle(&[first.checkpoint]).unwrap();
		disk.bytes[DISK_BYTES as usize / 2..].fill(0);
		let second = back_up(&machine, Some(&first));
		assert!(second.written.is_none() && second.bytes == disk.bytes);
	}
}

/// The record is judged before the guest stands still, and read after that.
#[test]
fn a_disk_that_is_cut_while_its_backup_begins_is_read_in_full() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = Written::of(&machine);
	let first = back_up(&machine, None);
	let socket = machine.folder.path().join("agent");
	let (path, node) = (machine.folder.path().join("guest.qmp"), node(&machine));
	let _guest = Guest::with(&socket, move || {
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		for size_bytes in [DISK_BYTES / 2, DISK_BYTES] {
			let resize = json!({ "node-name": node, "size": size_bytes });
			monitor.run("block_resize", resize).unwrap();
		}
	});
	disk.bytes[DISK_BYTES as usize / 2..].fill(0);
	let vm = Vm { guest_agent: Some(socket), ..machine.vm() };
	let second = back_up_through(&vm, &machine, Some(&first));
	assert!(second.written.is_none() && second.bytes == disk.bytes);
	let third = back_up(&machine, Some(&second));
	assert_eq!(third.written.as_deref(), Some(&[][..]), "and recorded anew");
}

#[test]
fn a_disk_that_has_another_size_is_read_as_it_is() {
	for size_bytes in [DISK_BYTES / 2, DISK_BYTES * 2] {
		let machine = Machine::start(ImageFormat::Qcow2);
		let mut disk = Written::of(&machine);
		let first = back_up(&machine, None);
		disk.write(0xa1, MIB, MIB);
		resize(&machine, size_bytes);
		disk.bytes.resize(size_bytes as usize, 0);
		let mut open = machine.vm().open(tag(), &[first.checkpoint], &machine.options()).unwrap();
		// Whoever knows the size before reads all of it, whatever was recorded.
		assert_eq!(open.disks[0].reader.logical_bytes(), size_bytes);
		assert!(read(open.disks[0].reader.as_mut()).unwrap() == disk.bytes);
		drop(open);
	}
}

/// The record and its witness are in the image, and `qemu-img resize` cuts both.
#[test]
fn a_disk_that_was_cut_while_its_machine_was_off_is_read_in_full() {
	let machine = Machine::start(ImageFormat::Qcow2);
	let mut disk = Written::of(&machine);
	let first = back_up(&machine, None);
	machine.quit();
	let mut vm = machine.vm();
	vm.disks[0].format = ImageFormat::Qcow2;
	let image = vm.disks[0].image.clone();
	for size in ["32M", "64M"] {
		run("qemu-img", &["resize", "-q", "--shrink", "-f", "qcow2", text(&image), size]);
	}
	disk.bytes[DISK_BYTES as usize / 2..].fill(0);
	let mut open = vm.open(tag(), &[first.checkpoint], &machine.options()).unwrap();
	let (bytes, written) = read_since(&mut open.disks[0], Some(&first));
	assert!(written.is_none() && bytes == disk.bytes);
	open.close().unwrap();
	machine.start_again();
	let second = back_up(&machine, Some(&first));
	assert!(second.written.is_none() && second.bytes == disk.bytes);
}

#[test]
fn what_needs_no_reading_costs_no_scratch() {
	let machine = Machine::start(ImageFormat::Raw);
	let first = back_up(&machine, None);
	machine.write(0xa1, 60 * MIB, MIB);
	let options = OpenOptions { scratch_bytes_max: 8 << 20, ..machine.options() };
	let mut open = machine.vm().open(tag(), &[first.checkpoint], &options).unwrap();
	let written = open.disks[0].written.clone().unwrap();
	let mut bytes = first.bytes.clone();
	open.disks[0].reader.restrict(&written);
	// Far more than the scratch holds, and the part that is still to be read.
	for offset in 0..30 {
		machine.write(0xbb, offset * 2 * MIB, 2 * MIB);
	}
	machine.write(0xbb, 60 * MIB, MIB);
	let reader = open.disks[0].reader.as_mut();
	for at in [60 * MIB, 60 * MIB + 3 * GRANULE] {
		reader.next_extent(at).unwrap();
		reader.read_at(at, &mut bytes[at as usize..(at + GRANULE) as usize]).unwrap();
		assert!(bytes[at as usize..(at + GRANULE) as usize].iter().all(|byte| *byte == 0xa1));
	}
	assert!(reader.read_at(0, &mut bytes[..4096]).is_err(), "it was said not to be wanted");
	open.close().unwrap();
	assert_eq!(first.bytes.len() as u64, DISK_BYTES);
}
