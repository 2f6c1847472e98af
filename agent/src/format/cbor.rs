//! The part of dag-cbor that blocks are written in.
//!
//! The decoder is strict: integers and lengths in their shortest form, definite lengths only,
//! map keys sorted by length and then by bytes, CIDs as tag 42, nothing after the end. What it
//! accepts, re-encodes to the same bytes. See <https://ipld.io/specs/codecs/dag-cbor/spec/>.

use backup_primitives::{
	Cid,
	cid::{CID_BYTES, CidError},
};

const MAJOR_UNSIGNED: u8 = 0;
const MAJOR_NEGATIVE: u8 = 1;
const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;
const MAJOR_SIMPLE: u8 = 7;

const TAG_CID: u64 = 42;
const SIMPLE_FALSE: u8 = 20;
const SIMPLE_NULL: u8 = 22;
const SIMPLE_FLOAT_64: u8 = 27;

/// Deepest nesting that [`links`] follows.
const DEPTH_MAX: u32 = 32;

/// Why bytes are not the dag-cbor that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
	/// The block ends before its content does.
	#[error("the block ends early, at byte {at}")]
	Truncated {
		/// Where the block ended.
		at: usize,
	},
	/// The content ends before the block does.
	#[error("the block goes on after its content, at byte {at}")]
	Trailing {
		/// Where the content ended.
		at: usize,
	},
	/// Valid CBOR that dag-cbor forbids: a second way to say the same.
	#[error("the encoding is not canonical at byte {at}")]
	NotCanonical {
		/// Where it stands.
		at: usize,
	},
	/// Another type, key or length than this kind of block has here.
	#[error("something else than expected stands at byte {at}")]
	Unexpected {
		/// Where it stands.
		at: usize,
	},
	/// The link is not a CID that this system writes.
	#[error("the link at byte {at} is of a foreign kind: {source}")]
	ForeignLink {
		/// Where it stands.
		at: usize,
		/// What is foreign about it.
		source: CidError,
	},
	/// Nested deeper than any block of ours.
	#[error("the content is nested too deeply at byte {at}")]
	TooDeep {
		/// Where the limit was passed.
		at: usize,
	},
}

/// Writes canonical dag-cbor. The caller writes map keys in canonical order.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
	out: Vec<u8>,
}

impl Encoder {
	pub(crate) fn with_capacity(bytes: usize) -> Self {
		Self { out: Vec::with_capacity(bytes) }
	}

	pub(crate) fn finish(self) -> Vec<u8> {
		self.out
	}

	fn head(&mut self, major: u8, value: u64) {
		let major = major << 5;
		match value {
			0..=23 => self.out.push(major | value.to_be_bytes()[7]),
			24..=0xff => self.out.extend_from_slice(&[major | 24, value.to_be_bytes()[7]]),
			0x100..=0xffff => {
				self.out.push(major | 25);
				self.out.extend_from_slice(&value.to_be_bytes()[6..]);
			}
			0x1_0000..=0xffff_ffff => {
				self.out.push(major | 26);
				self.out.extend_from_slice(&value.to_be_bytes()[4..]);
			}
			_ => {
				self.out.push(major | 27);
				self.out.extend_from_slice(&value.to_be_bytes());
			}
		}
	}

	pub(crate) fn unsigned(&mut self, value: u64) {
		self.head(MAJOR_UNSIGNED, value);
	}

	pub(crate) fn bytes(&mut self, bytes: &[u8]) {
		self.head(MAJOR_BYTES, bytes.len() as u64);
		self.out.extend_from_slice(bytes);
	}

	pub(crate) fn text(&mut self, text: &str) {
		self.head(MAJOR_TEXT, text.len() as u64);
		self.out.extend_from_slice(text.as_bytes());
	}

	pub(crate) fn array(&mut self, items: usize) {
		self.head(MAJOR_ARRAY, items as u64);
	}

	pub(crate) fn map(&mut self, entries: usize) {
		self.head(MAJOR_MAP, entries as u64);
	}

	pub(crate) fn link(&mut self, cid: &Cid) {
		self.head(MAJOR_TAG, TAG_CID);
		self.head(MAJOR_BYTES, CID_BYTES as u64 + 1);
		self.out.push(0);
		self.out.extend_from_slice(cid.as_bytes());
	}
}

/// Reads canonical dag-cbor whose shape is known.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
	input: &'a [u8],
	at: usize,
}

/// The first bytes of an item: its major type and its value or length.
struct Head {
	at: usize,
	major: u8,
	/// The low five bits, which tell simple values and floats apart.
	info: u8,
	value: u64,
}

impl<'a> Decoder<'a> {
	pub(crate) fn new(input: &'a [u8]) -> Self {
		Self { input, at: 0 }
	}

	/// Where the next item stands.
	pub(crate) fn at(&self) -> usize {
		self.at
	}

	/// Says that the content is complete; fails if the block is not.
	pub(crate) fn end(&self) -> Result<(), CborError> {
		match self.at == self.input.len() {
			true => Ok(()),
			false => Err(CborError::Trailing { at: self.at }),
		}
	}

	fn take(&mut self, len: u64) -> Result<&'a [u8], CborError> {
		let truncated = CborError::Truncated { at: self.input.len() };
		let len = usize::try_from(len).map_err(|_| truncated)?;
		let end = self.at.checked_add(len).ok_or(truncated)?;
		let bytes = self.input.get(self.at..end).ok_or(truncated)?;
		self.at = end;
		Ok(bytes)
	}

	fn head(&mut self) -> Result<Head, CborError> {
		let at = self.at;
		let first = self.take(1)?[0];
		let (major, info) = (first >> 5, first & 0x1f);
		let (extra, smallest) = match info {
			0..=23 => (0, 0),
			24 => (1, 24),
			25 => (2, 1 << 8),
			26 => (4, 1 << 16),
			27 => (8, 1 << 32),
			_ => return Err(CborError::NotCanonical { at }),
		};
		let value = match extra {
			0 => u64::from(info),
			_ => self.take(extra)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
		};
		// A float's bits are not a number that could be written shorter.
		if value < smallest && major != MAJOR_SIMPLE {
			return Err(CborError::NotCanonical { at });
		}
		Ok(Head { at, major, info, value })
	}

	fn expect(&mut self, major: u8) -> Result<Head, CborError> {
		let head = self.head()?;
		match head.major == major {
			true => Ok(head),
			false => Err(CborError::Unexpected { at: head.at }),
		}
	}

	pub(crate) fn unsigned(&mut self) -> Result<u64, CborError> {
		Ok(self.expect(MAJOR_UNSIGNED)?.value)
	}

	/// An unsigned integer that fits 32 bits.
	pub(crate) fn unsigned_32(&mut self) -> Result<u32, CborError> {
		let head = self.expect(MAJOR_UNSIGNED)?;
		u32::try_from(head.value).map_err(|_| CborError::Unexpected { at: head.at })
	}

	/// A byte string of at most `max` bytes.
	pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], CborError> {
		let head = self.expect(MAJOR_BYTES)?;
		if head.value > max as u64 {
			return Err(CborError::Unexpected { at: head.at });
		}
		self.take(head.value)
	}

	/// A byte string of exactly `N` bytes.
	pub(crate) fn array_of_bytes<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
		let at = self.at;
		self.bytes(N)?.try_into().map_err(|_| CborError::Unexpected { at })
	}

	/// A text of at most `max` bytes.
	pub(crate) fn text(&mut self, max: usize) -> Result<&'a str, CborError> {
		let head = self.expect(MAJOR_TEXT)?;
		if head.value > max as u64 {
			return Err(CborError::Unexpected { at: head.at });
		}
		let bytes = self.take(head.value)?;
		core::str::from_utf8(bytes).map_err(|_| CborError::Unexpected { at: head.at })
	}

	/// The length of an array, at most `max`.
	pub(crate) fn array(&mut self, max: usize) -> Result<usize, CborError> {
		self.length(MAJOR_ARRAY, max)
	}

	/// The number of entries of a map, at most `max`.
	pub(crate) fn map(&mut self, max: usize) -> Result<usize, CborError> {
		self.length(MAJOR_MAP, max)
	}

	fn length(&mut self, major: u8, max: usize) -> Result<usize, CborError> {
		let head = self.expect(major)?;
		match usize::try_from(head.value) {
			Ok(length) if length <= max => Ok(length),
			Ok(_) | Err(_) => Err(CborError::Unexpected { at: head.at }),
		}
	}

	/// A map with exactly this many entries.
	pub(crate) fn map_of(&mut self, entries: usize) -> Result<(), CborError> {
		let at = self.at;
		match self.map(entries)? == entries {
			true => Ok(()),
			false => Err(CborError::Unexpected { at }),
		}
	}

	/// Exactly this map key.
	pub(crate) fn key(&mut self, key: &str) -> Result<(), CborError> {
		let at = self.at;
		match self.text(key.len())? == key {
			true => Ok(()),
			false => Err(CborError::Unexpected { at }),
		}
	}

	pub(crate) fn link(&mut self) -> Result<Cid, CborError> {
		let head = self.expect(MAJOR_TAG)?;
		self.link_after(&head)
	}

	fn link_after(&mut self, tag: &Head) -> Result<Cid, CborError> {
		let at = tag.at;
		if tag.value != TAG_CID {
			return Err(CborError::Unexpected { at });
		}
		match self.bytes(self.input.len())?.split_first() {
			Some((0, cid)) => {
				Cid::try_from(cid).map_err(|source| CborError::ForeignLink { at, source })
			}
			Some(_) | None => Err(CborError::Unexpected { at }),
		}
	}

	/// Steps over one item of any shape and hands its links over.
	fn walk(&mut self, depth: u32, visit: &mut impl FnMut(Cid)) -> Result<(), CborError> {
		let head = self.head()?;
		if depth > DEPTH_MAX {
			return Err(CborError::TooDeep { at: head.at });
		}
		match head.major {
			MAJOR_UNSIGNED | MAJOR_NEGATIVE => {}
			MAJOR_BYTES => drop(self.take(head.value)?),
			MAJOR_TEXT => self.check_text(&head)?,
			MAJOR_ARRAY => {
				for _ in 0..head.value {
					self.walk(depth + 1, visit)?;
				}
			}
			MAJOR_MAP => self.walk_map(&head, depth, visit)?,
			MAJOR_TAG => visit(self.link_after(&head)?),
			_ => match head.info {
				SIMPLE_FALSE..=SIMPLE_NULL => {}
				SIMPLE_FLOAT_64 if f64::from_bits(head.value).is_finite() => {}
				_ => return Err(CborError::NotCanonical { at: head.at }),
			},
		}
		Ok(())
	}

	fn check_text(&mut self, head: &Head) -> Result<(), CborError> {
		let bytes = self.take(head.value)?;
		core::str::from_utf8(bytes).map(drop).map_err(|_| CborError::NotCanonical { at: head.at })
	}

	fn walk_map(
		&mut self,
		map: &Head,
		depth: u32,
		visit: &mut impl FnMut(Cid),
	) -> Result<(), CborError> {
		let mut previous: Option<&str> = None;
		for _ in 0..map.value {
			let at = self.at;
			let key = self.text(self.input.len())?;
			let in_order =
				previous.is_none_or(|previous| (previous.len(), previous) < (key.len(), key));
			if !in_order {
				return Err(CborError::NotCanonical { at });
			}
			previous = Some(key);
			self.walk(depth + 1, visit)?;
		}
		Ok(())
	}
}

/// The links of any dag-cbor block, in the order in which they stand, repetitions included.
///
/// # Errors
/// If the block is not canonical dag-cbor or holds a link of a kind that this system does not
/// write; such a block could not be kept complete.
pub fn links(block: &[u8]) -> Result<Vec<Cid>, CborError> {
	let mut links = Vec::new();
	let mut decoder = Decoder::new(block);
	decoder.walk(0, &mut |cid| links.push(cid))?;
	decoder.end()?;
	Ok(links)
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn heads_are_written_in_their_shortest_form() {
		let cases: [(u64, &[u8]); 7] = [
			(0, &[0x00]),
			(23, &[0x17]),
			(24, &[0x18, 24]),
			(255, &[0x18, 255]),
			(256, &[0x19, 1, 0]),
			(65_536, &[0x1a, 0, 1, 0, 0]),
			(1 << 32, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
		];
		for (value, expected) in cases {
			let mut encoder = Encoder::default();
			encoder.unsigned(value);
			assert_eq!(encoder.finish(), expected);
			assert_eq!(Decoder::new(expected).unsigned(), Ok(value));
		}
	}

	#[test]
	fn longer_forms_are_refused() {
		for bytes in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 1, 0], &[0x5f, 0xff]] {
			assert_eq!(links(bytes), Err(CborError::NotCanonical { at: 0 }));
		}
	}

	#[test]
	fn unsorted_and_repeated_keys_are_refused() {
		for bytes in [
			// {"b": 0, "a": 0}
			&[0xa2, 0x61, b'b', 0, 0x61, b'a', 0][..],
			// {"a": 0, "a": 0}
			&[0xa2, 0x61, b'a', 0, 0x61, b'a', 0],
		] {
			assert_eq!(links(bytes), Err(CborError::NotCanonical { at: 4 }));
		}
		// {"a": 0, "aa": 0} is shorter first, which bytewise order of the text would also say;
		// {"b": 0, "aa": 0} is not.
		assert_eq!(links(&[0xa2, 0x61, b'b', 0, 0x62, b'a', b'a', 0]), Ok(vec![]));
	}

	#[test]
	fn foreign_links_are_refused() {
		let mut encoder = Encoder::default();
		encoder.link(&Cid::raw([1; 32]));
		let mut bytes = encoder.finish();
		assert_eq!(links(&bytes), Ok(vec![Cid::raw([1; 32])]));
		bytes[6] = 0x70;
		let source = CidError::Codec;
		assert_eq!(links(&bytes), Err(CborError::ForeignLink { at: 0, source }));
	}

	#[test]
	fn nesting_is_bounded() {
		let mut bytes = vec![0x81; 4096];
		bytes.push(0);
		assert!(matches!(links(&bytes), Err(CborError::TooDeep { .. })));
	}

	#[test]
	fn a_huge_length_ends_at_the_end_of_the_block() {
		let bytes = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
		assert_eq!(links(&bytes), Err(CborError::Truncated { at: 9 }));
	}

	proptest! {
		#[test]
		fn walking_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
			let _ = links(&bytes);
		}
	}
}
