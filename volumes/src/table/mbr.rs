//! Partition tables in the first sector, with logical partitions in a chain behind.

use super::{Table, field, u32_at};
use crate::{Area, ReadError};

const SECTOR: u64 = 512;
const ENTRY_BYTES: usize = 16;

/// Where the four entries are.
const ENTRIES_AT: usize = 446;

/// Most logical partitions. The first has number 5.
const LOGICAL_MAX: usize = 128;
const FIRST_LOGICAL: usize = 5;

const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
const ACTIVE: [u8; 2] = [0x00, 0x80];

#[derive(Clone, Copy)]
struct Entry {
	kind: u8,
	first: u64,
	sectors: u64,
}

impl Entry {
	fn is_used(&self) -> bool {
		self.kind != 0 && self.sectors != 0
	}

	fn is_extended(&self) -> bool {
		EXTENDED.contains(&self.kind)
	}
}

/// The table of a disk; nothing if it has none. A file system without a table ends its first sector
/// in the same way, so what cannot be a table is taken for none.
pub(super) fn read(disk: &Area) -> Result<Option<Table>, ReadError> {
	let Some(entries) = entries_at(disk, 0)? else { return Ok(None) };
	if !entries.iter().any(Entry::is_used) {
		return Ok(None);
	}
	let mut table = Table::default();
	for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.is_used()) {
		if entry.is_extended() {
			logical(disk, *entry, &mut table)?;
		} else {
			table.add(index + 1, String::new(), disk, entry.first * SECTOR, entry.sectors * SECTOR);
		}
	}
	table.partitions.sort_by_key(|partition| partition.number);
	Ok(Some(table))
}

/// The entries of a sector; nothing if they are none.
fn entries_at(disk: &Area, sector: u64) -> Result<Option<[Entry; 4]>, ReadError> {
	let block = disk.peek(sector * SECTOR, SECTOR as usize)?;
	if block.len() < SECTOR as usize || block[510..] != [0x55, 0xaa] {
		return Ok(None);
	}
	let entries: [[u8; ENTRY_BYTES]; 4] =
		[0, 1, 2, 3].map(|place| field(&block, ENTRIES_AT + place * ENTRY_BYTES));
	if entries.iter().any(|entry| !ACTIVE.contains(&entry[0])) {
		return Ok(None);
	}
	Ok(Some(entries.map(|entry| Entry {
		kind: entry[4],
		first: u32_at(&entry, 8).into(),
		sectors: u32_at(&entry, 12).into(),
	})))
}

/// The logical partitions: each link of the chain has one, and says where the next link is.
fn logical(disk: &Area, extended: Entry, table: &mut Table) -> Result<(), ReadError> {
	let mut link = extended.first;
	let mut seen = Vec::new();
	for number in FIRST_LOGICAL..FIRST_LOGICAL + LOGICAL_MAX {
		let Some([data, next, ..]) = entries_at(disk, link)? else {
			table.problems.push(format!("the chain of logical partitions breaks before {number}"));
			return Ok(());
		};
		if data.is_used() {
			let offset = (link + data.first) * SECTOR;
			table.add(number, String::new(), disk, offset, data.sectors * SECTOR);
		}
		if !next.is_used() || !next.is_extended() {
			return Ok(());
		}
		seen.push(link);
		link = extended.first + next.first;
		if seen.contains(&link) {
			table.problems.push("the chain of logical partitions leads back".into());
			return Ok(());
		}
	}
	table.problems.push(format!("there are more than {LOGICAL_MAX} logical partitions"));
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::memory::area;

	struct Image(Vec<u8>);

	impl Image {
		fn new() -> Self {
			Self(vec![0; 1 << 20])
		}

		fn with(mut self, sector: usize, entry: usize, kind: u8, first: u32, count: u32) -> Self {
			let block = &mut self.0[sector * 512..(sector + 1) * 512];
			block[510..].copy_from_slice(&[0x55, 0xaa]);
			let at = ENTRIES_AT + entry * ENTRY_BYTES;
			block[at + 4] = kind;
			block[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
			block[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
			self
		}

		fn read(&self) -> Option<Table> {
			read(&area(self.0.clone())).unwrap()
		}
	}

	fn numbers(table: &Table) -> Vec<(usize, u64)> {
		table.partitions.iter().map(|one| (one.number, one.area.bytes())).collect()
	}

	#[test]
	fn primary_and_logical_partitions_have_their_numbers() {
		let table = Image::new()
			.with(0, 0, 0x83, 64, 64)
			.with(0, 1, 0x05, 256, 512)
			.with(256, 0, 0x83, 8, 100)
			.with(256, 1, 0x05, 128, 128)
			.with(384, 0, 0x82, 8, 90)
			.read()
			.unwrap();
		assert_eq!(numbers(&table), [(1, 64 * 512), (5, 100 * 512), (6, 90 * 512)]);
	}

	#[test]
	fn a_chain_that_leads_back_ends() {
		let table = Image::new()
			.with(0, 0, 0x0f, 256, 512)
			.with(256, 0, 0x83, 8, 8)
			.with(256, 1, 0x05, 128, 128)
			.with(384, 0, 0x83, 8, 8)
			.with(384, 1, 0x05, 0, 128)
			.read()
			.unwrap();
		assert_eq!(table.partitions.len(), 2);
		assert!(table.problems[0].contains("leads back"), "{:?}", table.problems);
		let table = Image::new().with(0, 0, 0x05, 256, 512).with(256, 1, 0x05, 0, 9).read();
		assert!(table.unwrap().problems[0].contains("leads back"));
	}

	#[test]
	fn what_reaches_beyond_the_disk_is_left_out_and_told() {
		for (kind, first, count) in [(0x83, 64, u32::MAX), (0x83, u32::MAX, 1), (0x05, u32::MAX, 1)]
		{
			let table = Image::new().with(0, 0, kind, first, count).read().unwrap();
			assert!(table.partitions.is_empty() && table.problems.len() == 1, "{first}");
		}
	}

	#[test]
	fn what_only_ends_like_a_table_is_none() {
		let mut image = Image::new().with(0, 0, 0x83, 64, 64);
		image.0[ENTRIES_AT] = 0x41;
		assert!(image.read().is_none());
		assert!(Image::new().with(0, 0, 0, 0, 0).read().is_none());
		assert!(Image::new().read().is_none());
		assert!(read(&area(vec![0x55; 100])).unwrap().is_none());
	}
}
