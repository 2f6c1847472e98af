//! Backups of a machine as the agent makes them, and a plain copy of its disk beside them.

use crate::machine::{Machine, pattern, read, tag};
use backup_agent::{
	pipeline::DiskReader,
	sources::{Checkpoint, OpenDisk, OpenVm, Vm},
};
use serde_json::json;
use std::ops::Range;

pub(crate) const MIB: u64 = 1 << 20;
/// How finely writes are recorded.
pub(crate) const GRANULE: u64 = 256 << 10;

/// A backup that ended well: its instant, and what the disk held then.
pub(crate) struct Backup {
	pub(crate) checkpoint: Checkpoint,
	pub(crate) bytes: Vec<u8>,
	/// What was read of the disk, if not all.
	pub(crate) written: Option<Vec<Range<u64>>>,
}

/// Back the first disk up as the agent does: no more is read than was written since the base.
pub(crate) fn back_up(machine: &Machine, base: Option<&Backup>) -> Backup {
	back_up_through(&machine.vm(), machine, base)
}

pub(crate) fn back_up_through(vm: &Vm, machine: &Machine, base: Option<&Backup>) -> Backup {
	let known: Vec<Checkpoint> = base.iter().map(|base| base.checkpoint).collect();
	let mut open = vm.open(tag(), &known, &machine.options()).unwrap();
	let (bytes, written) = read_since(&mut open.disks[0], base);
	let checkpoint = close(open);
	vm.settle(&[checkpoint]).unwrap();
	Backup { checkpoint, bytes, written }
}

pub(crate) fn close(open: OpenVm) -> Checkpoint {
	let checkpoint = open.checkpoint.expect("writes are recorded from here on");
	open.close().unwrap();
	checkpoint
}

pub(crate) fn read_since(
	disk: &mut OpenDisk,
	base: Option<&Backup>,
) -> (Vec<u8>, Option<Vec<Range<u64>>>) {
	let Some(written) = disk.written.clone() else {
		return (read(disk.reader.as_mut()).unwrap(), None);
	};
	let mut bytes = base.expect("it is told since when").bytes.clone();
	read_written(disk.reader.as_mut(), &written, &mut bytes);
	(bytes, Some(written))
}

pub(crate) fn read_written(reader: &mut dyn DiskReader, written: &[Range<u64>], bytes: &mut [u8]) {
	reader.restrict(written);
	for range in written {
		for at in (range.start..range.end).step_by(GRANULE as usize) {
			let end = (at + GRANULE).min(range.end);
			reader.next_extent(at).unwrap();
			reader.read_at(at, &mut bytes[at as usize..end as usize]).unwrap();
			reader.release(at..end);
		}
	}
}

/// A disk whose content is known beside it.
pub(crate) struct Written<'m> {
	machine: &'m Machine,
	index: usize,
	pub(crate) bytes: Vec<u8>,
}

impl<'m> Written<'m> {
	pub(crate) fn of(machine: &'m Machine) -> Self {
		Self::of_disk(machine, 0)
	}

	pub(crate) fn of_disk(machine: &'m Machine, index: usize) -> Self {
		Self { machine, index, bytes: pattern(index as u8) }
	}

	pub(crate) fn write(&mut self, byte: u8, offset: u64, length: u64) {
		self.machine.write_to(self.index, byte, offset, length);
		self.bytes[offset as usize..(offset + length) as usize].fill(byte);
	}
}

/// Names of all bitmaps on the first disk.
pub(crate) fn bitmaps(machine: &Machine) -> Vec<String> {
	bitmaps_of(machine, 0)
}

/// The same of another disk.
fn bitmaps_of(machine: &Machine, disk: usize) -> Vec<String> {
	let blocks = machine.monitor().run("query-block", json!({})).unwrap();
	let bitmaps = &blocks[disk]["inserted"]["dirty-bitmaps"];
	let bitmaps = bitmaps.as_array().map(Vec::as_slice).unwrap_or_default();
	bitmaps.iter().map(|bitmap| bitmap["name"].as_str().unwrap().to_owned()).collect()
}

/// Check that the first disk has one bitmap, which records since a checkpoint, and its witness.
pub(crate) fn assert_only_bitmap(machine: &Machine, checkpoint: Checkpoint) {
	assert_only_bitmap_of(machine, 0, checkpoint);
}

/// The same of another disk.
pub(crate) fn assert_only_bitmap_of(machine: &Machine, disk: usize, checkpoint: Checkpoint) {
	let mut names = bitmaps_of(machine, disk);
	names.sort();
	let prefixes = [format!("pbk-{checkpoint}-"), format!("pbk-size-{checkpoint}-")];
	let fits = names.len() == 2 && names.iter().zip(&prefixes).all(|(n, p)| n.starts_with(p));
	assert!(fits, "{names:?}, not {prefixes:?}");
}
