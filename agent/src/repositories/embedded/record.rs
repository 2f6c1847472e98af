//! What packs and the pin log consist of: records, one after the other.
//!
//! ```text
//! magic 4 "BKR1" | kind 1 | zero 3 | length 4 LE | CID 36 | check 16 | data
//! ```
//! The check is BLAKE3 over the 48 bytes before it, and over the data too unless the record is
//! a block: a block's data is checked by its CID. A skip stands where dead records stood; its
//! data is their space.

use crate::{
	format::Cid,
	repositories::{embedded::files::StoreFile, error::INPUT_OUTPUT},
};
use std::io;

/// Bytes before a record's data.
pub(crate) const HEADER_BYTES: u64 = 64;

/// What a disk can lose by itself.
const SECTOR_BYTES: u64 = 4096;

const MAGIC: &[u8; 4] = b"BKR1";
const CHECKED_BYTES: usize = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
	Block,
	Pin,
	Unpin,
	Skip,
}

impl Kind {
	fn number(self) -> u8 {
		match self {
			Self::Block => 1,
			Self::Pin => 2,
			Self::Unpin => 3,
			Self::Skip => 4,
		}
	}

	fn of(number: u8) -> Option<Self> {
		[Self::Block, Self::Pin, Self::Unpin, Self::Skip]
			.into_iter()
			.find(|kind| kind.number() == number)
	}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
	pub(crate) kind: Kind,
	pub(crate) len: u32,
	pub(crate) cid: Cid,
}

impl Header {
	/// The header of dead space.
	pub(crate) fn skip(len: u32) -> Self {
		Self { kind: Kind::Skip, len, cid: Cid::raw([0; 32]) }
	}

	/// `data` matters for pins only.
	pub(crate) fn encode(&self, data: &[u8]) -> [u8; HEADER_BYTES as usize] {
		let mut bytes = [0; HEADER_BYTES as usize];
		bytes[..4].copy_from_slice(MAGIC);
		bytes[4] = self.kind.number();
		bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
		bytes[12..CHECKED_BYTES].copy_from_slice(self.cid.as_bytes());
		let check = self.check(&bytes, data);
		bytes[CHECKED_BYTES..].copy_from_slice(&check);
		bytes
	}

	fn check(&self, header: &[u8; HEADER_BYTES as usize], data: &[u8]) -> [u8; 16] {
		let mut hasher = blake3::Hasher::new();
		hasher.update(&header[..CHECKED_BYTES]);
		match self.kind {
			Kind::Pin | Kind::Unpin => drop(hasher.update(data)),
			Kind::Block | Kind::Skip => {}
		}
		let mut check = [0; 16];
		check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
		check
	}

	/// Reads a header whose check covers `data` where it must.
	pub(crate) fn decode(bytes: &[u8; HEADER_BYTES as usize], data: &[u8]) -> Option<Self> {
		if !bytes.starts_with(MAGIC) || bytes[5..8] != [0; 3] {
			return None;
		}
		let header = Self {
			kind: Kind::of(bytes[4])?,
			len: u32::from_le_bytes(bytes[8..12].try_into().ok()?),
			cid: Cid::try_from(&bytes[12..CHECKED_BYTES]).ok()?,
		};
		let check = header.check(bytes, data);
		(bytes[CHECKED_BYTES..] == check).then_some(header)
	}

	/// Bytes of the whole record.
	pub(crate) fn record_bytes(&self) -> u64 {
		HEADER_BYTES + u64::from(self.len)
	}
}

/// The offset of the next magic at or after `from`, for going on behind damage. Punched ranges
/// are stepped over at the speed of reading zeros.
pub(crate) fn find_magic(file: &dyn StoreFile, from: u64, end: u64) -> io::Result<Option<u64>> {
	const WINDOW: u64 = 1024 * 1024;
	let (mut at, mut step) = (from, WINDOW);
	let mut window = Vec::new();
	while at + HEADER_BYTES <= end {
		let len = step.min(end - at);
		window.resize(usize::try_from(len).expect("a window fits memory"), 0);
		match file.read_at(at, &mut window) {
			Ok(()) => step = WINDOW,
			// What the disk cannot read is stepped over, and at most a sector beside it.
			Err(error) if error.raw_os_error() == Some(INPUT_OUTPUT) => {
				match step > SECTOR_BYTES {
					true => step = SECTOR_BYTES,
					false => at = (at / SECTOR_BYTES + 1) * SECTOR_BYTES,
				}
				continue;
			}
			Err(error) => return Err(error),
		}
		let found = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
		if let Some(found) = found {
			return Ok(Some(at + found as u64));
		}
		// The magic may begin in this window and end in the next.
		at += (len - (MAGIC.len() as u64 - 1)).max(1);
	}
	Ok(None)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn headers_come_back() {
		for (kind, data) in [(Kind::Block, &b""[..]), (Kind::Pin, b"label"), (Kind::Unpin, b"")] {
			let header = Header { kind, len: 5, cid: Cid::dag_cbor([3; 32]) };
			assert_eq!(Header::decode(&header.encode(data), data), Some(header));
		}
		let skip = Header::skip(u32::MAX);
		assert_eq!(Header::decode(&skip.encode(&[]), &[]), Some(skip));
		assert_eq!(skip.record_bytes(), 64 + u64::from(u32::MAX));
	}

	#[test]
	fn every_changed_byte_is_found() {
		let header = Header { kind: Kind::Pin, len: 5, cid: Cid::dag_cbor([3; 32]) };
		let bytes = header.encode(b"label");
		for at in 0..bytes.len() {
			let mut changed = bytes;
			changed[at] ^= 0x40;
			assert_eq!(Header::decode(&changed, b"label"), None, "byte {at}");
		}
		assert_eq!(Header::decode(&bytes, b"lable"), None);
	}
}
