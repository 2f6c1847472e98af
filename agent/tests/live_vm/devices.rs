//! Disks that are block devices: partitions, LVM volumes, LUNs.

use crate::{
	loop_device::Loop,
	machine::{Machine, pattern, read, tag},
};
use backup_agent::sources::{Disk, ImageFormat, SourceError, Vm};
use backup_primitives::Consistency;

fn disk_on(device: &Loop) -> Disk {
	Disk { name: "vda".into(), image: device.0.clone(), format: ImageFormat::Raw, skip: false }
}

#[test]
fn a_block_device_of_a_machine_that_is_off_is_read() {
	let folder = tempfile::tempdir().unwrap();
	let Some(device) = Loop::over(&folder.path().join("volume"), &pattern(3)) else { return };
	let machine = Machine::start(ImageFormat::Raw);
	let vm = Vm { qmp: None, disks: vec![disk_on(&device)], ..machine.vm() };
	let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.consistency, Consistency::Stopped);
	assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(3));
	open.close().unwrap();
}

#[test]
fn a_block_device_of_a_running_machine_is_read_and_its_writes_are_recorded() {
	let folder = tempfile::tempdir().unwrap();
	let Some(device) = Loop::over(&folder.path().join("volume"), &pattern(0)) else { return };
	let machine = Machine::start_on(&device.0);
	let vm = Vm { disks: vec![disk_on(&device)], ..machine.vm() };
	let mut open = vm.open(tag(), &[], &machine.options()).unwrap();
	machine.write(0xee, 0, 8 << 20);
	assert!(read(open.disks[0].reader.as_mut()).unwrap() == pattern(0));
	let checkpoint = open.checkpoint.unwrap();
	open.close().unwrap();
	vm.settle(&[checkpoint]).unwrap();
	let open = vm.open(tag(), &[checkpoint], &machine.options()).unwrap();
	let written = 0..8 << 20;
	assert_eq!(open.disks[0].written.as_deref(), Some(std::slice::from_ref(&written)));
	open.close().unwrap();
	assert!(machine.is_running() && machine.leftovers().is_empty());
	// The inventory takes it for off: QEMU's lock on the device says no.
	let blind = Vm { qmp: None, ..vm };
	let error = blind.open(tag(), &[], &machine.options()).unwrap_err();
	assert!(matches!(error, SourceError::ImageInUse { .. }), "{error}");
}
