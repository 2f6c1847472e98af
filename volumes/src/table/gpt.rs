//! GUID partition tables, as the UEFI specification has them in chapter 5.3.

use super::{PARTITIONS_MAX, Table, TableError, u32_at, u64_at};
use crate::{Area, ReadError};

const MAGIC: &[u8] = b"EFI PART";

/// Sizes of sectors that are tried.
const SECTORS: [u64; 2] = [512, 4096];

const HEADER_BYTES_MIN: usize = 92;
const ENTRY_BYTES_MIN: usize = 128;
const ENTRY_BYTES_MAX: usize = 4096;
const NAME_BYTES: usize = 72;

/// What the header says, checked.
struct Header {
	first_entry: u64,
	entries: usize,
	entry_bytes: usize,
	checksum: u32,
}

/// The table of a disk; nothing if it has none. Where the first is damaged its copy counts.
pub(super) fn read(disk: &Area) -> Result<Option<Table>, TableError> {
	for sector in SECTORS {
		let first = header_at(disk, sector, 1)?;
		let Some(first) = first else { continue };
		return match first.and_then(|header| table(disk, sector, &header)) {
			Ok(table) => Ok(Some(table)),
			Err(Unusable::Read(error)) => Err(error.into()),
			Err(Unusable::Damaged(reason)) => match copy(disk, sector)? {
				Some(mut table) => {
					let problem = format!("the GPT is damaged ({reason}); its copy is used");
					table.problems.push(problem);
					Ok(Some(table))
				}
				None => Err(TableError::Gpt(reason)),
			},
		};
	}
	Ok(None)
}

/// The copy in the last sector.
fn copy(disk: &Area, sector: u64) -> Result<Option<Table>, ReadError> {
	let last = (disk.bytes() / sector).saturating_sub(1);
	let Some(Ok(header)) = header_at(disk, sector, last)? else { return Ok(None) };
	match table(disk, sector, &header) {
		Ok(table) => Ok(Some(table)),
		Err(Unusable::Damaged(_)) => Ok(None),
		Err(Unusable::Read(error)) => Err(error),
	}
}

enum Unusable {
	Read(ReadError),
	Damaged(&'static str),
}

impl From<ReadError> for Unusable {
	fn from(error: ReadError) -> Self {
		Self::Read(error)
	}
}

/// The header in a sector; nothing if there is none at all.
fn header_at(
	disk: &Area,
	sector: u64,
	number: u64,
) -> Result<Option<Result<Header, Unusable>>, ReadError> {
	let block = disk.peek(number.saturating_mul(sector), sector as usize)?;
	Ok(block.starts_with(MAGIC).then(|| header(&block, sector).map_err(Unusable::Damaged)))
}

fn header(block: &[u8], sector: u64) -> Result<Header, &'static str> {
	if block.len() < HEADER_BYTES_MIN {
		return Err("the header is cut off");
	}
	let bytes = u32_at(block, 12) as usize;
	if !(HEADER_BYTES_MIN..=block.len()).contains(&bytes) {
		return Err("the header has no possible length");
	}
	let mut checked = block[..bytes].to_vec();
	checked[16..20].fill(0);
	if crc32fast::hash(&checked) != u32_at(block, 16) {
		return Err("the header's checksum is wrong");
	}
	let (entries, entry_bytes) = (u32_at(block, 80) as usize, u32_at(block, 84) as usize);
	if entries > PARTITIONS_MAX {
		return Err("it has more entries than any table");
	}
	if !(ENTRY_BYTES_MIN..=ENTRY_BYTES_MAX).contains(&entry_bytes) {
		return Err("its entries have no possible length");
	}
	let first_entry = u64_at(block, 72).checked_mul(sector).ok_or("its entries are nowhere")?;
	Ok(Header { first_entry, entries, entry_bytes, checksum: u32_at(block, 88) })
}

fn table(disk: &Area, sector: u64, header: &Header) -> Result<Table, Unusable> {
	let bytes = header.entries * header.entry_bytes;
	let array = disk.peek(header.first_entry, bytes)?;
	if array.len() < bytes {
		return Err(Unusable::Damaged("its entries are beyond the disk"));
	}
	if crc32fast::hash(&array) != header.checksum {
		return Err(Unusable::Damaged("the entries' checksum is wrong"));
	}
	let mut table = Table::default();
	for (index, entry) in array.chunks_exact(header.entry_bytes).enumerate() {
		if entry[..16].iter().all(|byte| *byte == 0) {
			continue;
		}
		let (number, first, last) = (index + 1, u64_at(entry, 32), u64_at(entry, 40));
		let sectors = last.checked_sub(first).and_then(|count| count.checked_add(1));
		let offset = first.checked_mul(sector);
		let length = sectors.and_then(|count| count.checked_mul(sector));
		match (offset, length) {
			(Some(offset), Some(length)) => {
				table.add(number, name(&entry[56..56 + NAME_BYTES]), disk, offset, length);
			}
			_ => table.problems.push(format!("partition {number} ends before it begins")),
		}
	}
	Ok(table)
}

/// A name in UTF-16, up to its first zero.
fn name(bytes: &[u8]) -> String {
	let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
	let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
	String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::memory::area;

	const SECTOR: usize = 512;

	/// A disk of 1 MiB whose one partition has sectors 64 to 127, with a table at each end.
	struct Image(Vec<u8>);

	impl Image {
		fn new() -> Self {
			let mut image = Self(vec![0; 1 << 20]);
			let mut entry = vec![0; 128];
			entry[..16].fill(7);
			entry[32..40].copy_from_slice(&64u64.to_le_bytes());
			entry[40..48].copy_from_slice(&127u64.to_le_bytes());
			entry[56..60].copy_from_slice(&[b'o', 0, b's', 0]);
			let last = image.0.len() / SECTOR - 1;
			image.put(1, 2, &entry, 128, 4);
			image.put(last, last - 1, &entry, 128, 4);
			image
		}

		/// Write a header with fitting checksums.
		fn put(
			&mut self,
			at: usize,
			array_at: usize,
			entry: &[u8],
			entry_bytes: u32,
			entries: u32,
		) {
			let mut array =
				vec![0; (entry_bytes as usize).saturating_mul(entries as usize).min(4096)];
			array[..entry.len()].copy_from_slice(entry);
			let array_offset = array_at * SECTOR;
			let end = (array_offset + array.len()).min(self.0.len());
			self.0[array_offset..end].copy_from_slice(&array[..end - array_offset]);
			let header = &mut self.0[at * SECTOR..(at + 1) * SECTOR];
			header[..8].copy_from_slice(MAGIC);
			header[12..16].copy_from_slice(&92u32.to_le_bytes());
			header[72..80].copy_from_slice(&(array_at as u64).to_le_bytes());
			header[80..84].copy_from_slice(&entries.to_le_bytes());
			header[84..88].copy_from_slice(&entry_bytes.to_le_bytes());
			header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
			self.seal(at);
		}

		fn seal(&mut self, at: usize) {
			let header = &mut self.0[at * SECTOR..(at + 1) * SECTOR];
			header[16..20].fill(0);
			let bytes = u32_at(header, 12) as usize;
			let checksum = crc32fast::hash(&header[..bytes.min(SECTOR)]);
			header[16..20].copy_from_slice(&checksum.to_le_bytes());
		}

		fn read(&self) -> Result<Option<Table>, TableError> {
			read(&area(self.0.clone()))
		}

		/// Damage both headers in the same way, with fitting checksums.
		fn damaged(change: impl Fn(&mut [u8])) -> Result<Option<Table>, TableError> {
			let mut image = Self::new();
			for at in [1, image.0.len() / SECTOR - 1] {
				change(&mut image.0[at * SECTOR..(at + 1) * SECTOR]);
				image.seal(at);
			}
			image.read()
		}
	}

	#[test]
	fn partitions_have_numbers_names_and_places() {
		let table = Image::new().read().unwrap().unwrap();
		let [partition] = &table.partitions[..] else { panic!("{table:?}") };
		assert_eq!((partition.number, partition.label.as_str()), (1, "os"));
		assert_eq!(partition.area.bytes(), 64 * SECTOR as u64);
		assert!(table.problems.is_empty());
	}

	#[test]
	fn the_copy_counts_where_the_first_table_is_damaged() {
		let mut image = Image::new();
		image.0[SECTOR + 80] ^= 1;
		let table = image.read().unwrap().unwrap();
		assert_eq!(table.partitions.len(), 1);
		assert!(table.problems[0].contains("copy"), "{:?}", table.problems);
		let last = image.0.len() - SECTOR;
		image.0[last + 80] ^= 1;
		assert!(matches!(image.read(), Err(TableError::Gpt(_))));
	}

	#[test]
	fn hostile_numbers_are_refused() {
		let refused = |change: fn(&mut [u8])| {
			assert!(matches!(Image::damaged(change), Err(TableError::Gpt(_))));
		};
		// As many entries as a number can say, entries of no or of any length.
		refused(|header| header[80..84].fill(0xff));
		refused(|header| header[84..88].fill(0));
		refused(|header| header[84..88].fill(0xff));
		// Entries beyond the disk, and beyond all disks.
		refused(|header| header[72..80].copy_from_slice(&(1u64 << 40).to_le_bytes()));
		refused(|header| header[72..80].fill(0xff));
		// A header that is longer than its sector, or shorter than any.
		refused(|header| header[12..16].copy_from_slice(&5000u32.to_le_bytes()));
		refused(|header| header[12..16].copy_from_slice(&20u32.to_le_bytes()));
	}

	#[test]
	fn hostile_partitions_are_left_out_and_told() {
		for (first, last) in [(64u64, 63u64), (0, u64::MAX), (u64::MAX, u64::MAX), (64, 2048)] {
			let mut image = Image::new();
			let mut entry = vec![7; 128];
			entry[32..40].copy_from_slice(&first.to_le_bytes());
			entry[40..48].copy_from_slice(&last.to_le_bytes());
			image.put(1, 2, &entry, 128, 4);
			let table = image.read().unwrap().unwrap();
			assert!(table.partitions.is_empty() && table.problems.len() == 1, "{first} {last}");
		}
	}

	#[test]
	fn boundary_a_disk_that_ends_early_has_no_table() {
		for bytes in [0, 1, 511, 512, 513, 600, 1024] {
			let image = Image::new();
			assert!(!matches!(read(&area(image.0[..bytes].to_vec())), Ok(Some(_))), "{bytes}");
		}
	}
}
