//! Partition tables.
//!
//! The tables are read here and not by a crate, because those at hand make room for as many
//! entries as a table says it has.

mod gpt;
mod mbr;

use crate::{Area, ReadError};

/// Most partitions of a disk that are looked at.
pub(crate) const PARTITIONS_MAX: usize = 1024;

/// A partition, as its table has it.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
	/// Counted from 1, as systems name them.
	pub(crate) number: usize,
	/// What the table calls it.
	pub(crate) label: String,
	pub(crate) area: Area,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
	#[error(transparent)]
	Read(#[from] ReadError),
	#[error("the GPT is damaged, and so is its copy at the end of the disk: {0}")]
	Gpt(&'static str),
}

/// What a table says.
#[derive(Debug, Default)]
pub(crate) struct Table {
	pub(crate) partitions: Vec<Partition>,
	/// What in it cannot be used, in words.
	pub(crate) problems: Vec<String>,
}

impl Table {
	/// The table of a disk; nothing if it has none.
	pub(crate) fn read(disk: &Area) -> Result<Option<Self>, TableError> {
		if let Some(table) = gpt::read(disk)? {
			return Ok(Some(table));
		}
		Ok(mbr::read(disk)?)
	}

	fn add(&mut self, number: usize, label: String, disk: &Area, offset: u64, bytes: u64) {
		match disk.part(offset, bytes) {
			Some(area) => self.partitions.push(Partition { number, label, area }),
			None => self.problems.push(format!("partition {number} reaches beyond its disk")),
		}
	}
}

/// Bytes at a place of a buffer that was found to be long enough.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
	bytes[at..at + N].try_into().expect("the range has N bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
	u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
	u64::from_le_bytes(field(bytes, at))
}
