//! What the index says of one block: where it stands, and what is wrong with it.
//!
//! ```text
//! pack u32 | offset u32 | length u32 | id u64 | a byte: chunk, node, or what is wrong
//! ```

use crate::repositories::embedded::record::HEADER_BYTES;
use Outlook::{GivenUp, MayComeBack};

pub(crate) const ENTRY_BYTES: usize = 21;

/// Where a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
	pub(crate) pack: u32,
	/// Of the record's header.
	pub(crate) offset: u32,
	/// Of the block.
	pub(crate) len: u32,
	/// Rises with every block that is stored.
	pub(crate) id: u64,
	/// Whether it was stored as a node, with all its children.
	pub(crate) is_node: bool,
	/// What is known to be wrong with it; a node with a flaw is not taken for one.
	pub(crate) flaw: Option<Flaw>,
}

/// What a check or a rebuild found to be wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
	/// Its bytes are not what its digest says. It counts as absent, and is stored anew.
	Damaged(Outlook),
	/// The bytes of a node that are good, while something below it is not.
	Incomplete(Outlook),
}

/// What becomes of a node that is damaged, or of those that are absent below an incomplete one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
	/// The disk may have it again, or others give it: what hangs below it is not freed until then.
	MayComeBack,
	/// A repair went on without it: what only it leads to can go. A damaged chunk, too, below which
	/// nothing is.
	GivenUp,
}

impl Flaw {
	/// The last byte of an entry; 0 and 1 are a chunk and a node without a flaw.
	fn encode(self) -> u8 {
		match self {
			Self::Damaged(GivenUp) => 2,
			Self::Incomplete(MayComeBack) => 3,
			Self::Damaged(MayComeBack) => 4,
			Self::Incomplete(GivenUp) => 5,
		}
	}

	pub(crate) fn given_up(self) -> Self {
		match self {
			Self::Damaged(_) => Self::Damaged(GivenUp),
			Self::Incomplete(_) => Self::Incomplete(GivenUp),
		}
	}
}

impl Entry {
	pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
		let mut bytes = [0; ENTRY_BYTES];
		bytes[..4].copy_from_slice(&self.pack.to_le_bytes());
		bytes[4..8].copy_from_slice(&self.offset.to_le_bytes());
		bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
		bytes[12..20].copy_from_slice(&self.id.to_le_bytes());
		bytes[20] = self.flaw.map_or(self.is_node.into(), Flaw::encode);
		bytes
	}

	pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
		let word = |at: usize| {
			u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of 4 bytes"))
		};
		let id = u64::from_le_bytes(bytes[12..20].try_into().expect("a slice of 8 bytes"));
		let (is_node, flaw) = match bytes[20] {
			0 => (false, None),
			1 => (true, None),
			2 => (false, Some(Flaw::Damaged(GivenUp))),
			3 => (false, Some(Flaw::Incomplete(MayComeBack))),
			5 => (false, Some(Flaw::Incomplete(GivenUp))),
			_ => (false, Some(Flaw::Damaged(MayComeBack))),
		};
		Self { pack: word(0), offset: word(4), len: word(8), id, is_node, flaw }
	}

	/// Whether it counts as absent.
	pub(crate) fn is_damaged(&self) -> bool {
		matches!(self.flaw, Some(Flaw::Damaged(_)))
	}

	/// Whether it is that of a node below which something is damaged or absent.
	pub(crate) fn is_incomplete(&self) -> bool {
		matches!(self.flaw, Some(Flaw::Incomplete(_)))
	}

	/// Whether it is that of a node, complete or not. Of what is damaged it is not known.
	pub(crate) fn counts_as_node(&self) -> bool {
		self.is_node || self.is_incomplete()
	}

	/// Where its record ends.
	pub(crate) fn end(&self) -> u64 {
		u64::from(self.offset) + u64::from(self.record_bytes())
	}

	/// Whether both stand at the same place.
	pub(crate) fn is_at(&self, other: &Self) -> bool {
		(self.pack, self.offset) == (other.pack, other.offset)
	}

	/// Bytes of the whole record.
	pub(crate) fn record_bytes(&self) -> u32 {
		self.len.saturating_add(HEADER_BYTES as u32)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn entries_come_back() {
		let good = Entry {
			pack: 1,
			offset: u32::MAX,
			len: 3,
			id: u64::MAX - 1,
			is_node: true,
			flaw: None,
		};
		// The numbers are those on disk.
		for (byte, flaw) in [
			(2, Flaw::Damaged(GivenUp)),
			(3, Flaw::Incomplete(MayComeBack)),
			(4, Flaw::Damaged(MayComeBack)),
			(5, Flaw::Incomplete(GivenUp)),
		] {
			let entry = Entry { is_node: false, flaw: Some(flaw), ..good };
			assert_eq!(entry.encode()[20], byte);
			assert_eq!(Entry::decode(&entry.encode()), entry);
		}
		assert_eq!(Entry::decode(&good.encode()), good);
	}
}
