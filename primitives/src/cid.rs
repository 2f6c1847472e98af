//! Content identifiers, in the one form that this system writes.
//!
//! A [`Cid`] is always version 1 with a SHA2-256 digest, and names either a raw block or a
//! dag-cbor block. Its 36 bytes are `0x01`, the codec, `0x12`, `0x20` and the digest; its
//! text is multibase base32 (`b…`), 59 characters. See <https://github.com/multiformats/cid>.

use alloc::string::String;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use core::{fmt, str::FromStr};
use data_encoding::{Encoding, Specification};
use scale_info::TypeInfo;

/// Length of a CID in bytes.
pub const CID_BYTES: usize = 36;

/// Length of a CID as text, in characters: the multibase prefix and 58 digits.
pub const CID_TEXT_CHARS: usize = 59;

const VERSION: u8 = 0x01;
const CODEC_RAW: u8 = 0x55;
const CODEC_DAG_CBOR: u8 = 0x71;
const SHA2_256: u8 = 0x12;
const DIGEST_BYTES: u8 = 0x20;
const MULTIBASE_BASE32: char = 'b';

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockCodec {
	/// Bytes without structure: a sealed chunk or blob.
	Raw,
	/// A dag-cbor document: a root or a tree node.
	DagCbor,
}

/// A content identifier: CIDv1, SHA2-256, raw or dag-cbor.
///
/// NOTE: SCALE decoding accepts any 36 bytes, because the chain must be able to decode a
/// transaction before it can refuse it. Whoever takes one from outside calls [`Cid::check`].
#[derive(
	Clone,
	Copy,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Hash,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct Cid([u8; CID_BYTES]);

/// Why bytes or text are not a CID that this system accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidError {
	/// Binary CIDs have 36 bytes, text CIDs 59 characters.
	Length {
		/// The length that was found, in bytes.
		found: usize,
	},
	/// The text does not start with `b` or holds a character outside of base32.
	Multibase,
	/// The version is not 1.
	Version,
	/// The codec is neither raw nor dag-cbor.
	Codec,
	/// The hash function is not SHA2-256 with 32 bytes.
	Hash,
}

impl Cid {
	/// The CID of a raw block with this SHA2-256 digest.
	pub const fn raw(digest: [u8; 32]) -> Self {
		Self::assemble(CODEC_RAW, digest)
	}

	/// The CID of a dag-cbor block with this SHA2-256 digest.
	pub const fn dag_cbor(digest: [u8; 32]) -> Self {
		Self::assemble(CODEC_DAG_CBOR, digest)
	}

	const fn assemble(codec: u8, digest: [u8; 32]) -> Self {
		let mut bytes = [0; CID_BYTES];
		bytes[0] = VERSION;
		bytes[1] = codec;
		bytes[2] = SHA2_256;
		bytes[3] = DIGEST_BYTES;
		let mut i = 0;
		while i < digest.len() {
			bytes[4 + i] = digest[i];
			i += 1;
		}
		Self(bytes)
	}

	/// Whether the bytes are a CID that this system accepts; decoding alone does not say so.
	pub fn check(&self) -> Result<BlockCodec, CidError> {
		if self.0[0] != VERSION {
			return Err(CidError::Version);
		}
		let codec = match self.0[1] {
			CODEC_RAW => BlockCodec::Raw,
			CODEC_DAG_CBOR => BlockCodec::DagCbor,
			_ => return Err(CidError::Codec),
		};
		if self.0[2] != SHA2_256 || self.0[3] != DIGEST_BYTES {
			return Err(CidError::Hash);
		}
		Ok(codec)
	}

	/// The SHA2-256 digest of the block.
	pub fn digest(&self) -> [u8; 32] {
		let mut digest = [0; 32];
		digest.copy_from_slice(&self.0[4..]);
		digest
	}

	/// What the block holds. Raw, if the CID is one that [`Cid::check`] refuses.
	pub fn codec(&self) -> BlockCodec {
		self.check().unwrap_or(BlockCodec::Raw)
	}

	/// The 36 bytes of the binary form.
	pub const fn as_bytes(&self) -> &[u8; CID_BYTES] {
		&self.0
	}

	/// Read a CID that a person or a foreign program gave, as 36 bytes or as base32 text.
	pub fn parse(input: &[u8]) -> Result<Self, CidError> {
		match core::str::from_utf8(input) {
			Ok(text) if text.starts_with(MULTIBASE_BASE32) => text.parse(),
			_ => Self::try_from(input),
		}
	}

	/// Wrap bytes without checking them, to show that a check elsewhere refuses them.
	pub const fn from_bytes_unchecked(bytes: [u8; CID_BYTES]) -> Self {
		Self(bytes)
	}
}

impl TryFrom<&[u8]> for Cid {
	type Error = CidError;

	fn try_from(bytes: &[u8]) -> Result<Self, CidError> {
		let bytes = bytes.try_into().map_err(|_| CidError::Length { found: bytes.len() })?;
		let cid = Self(bytes);
		cid.check()?;
		Ok(cid)
	}
}

impl FromStr for Cid {
	type Err = CidError;

	fn from_str(text: &str) -> Result<Self, CidError> {
		if text.len() != CID_TEXT_CHARS {
			return Err(CidError::Length { found: text.len() });
		}
		let digits = text.strip_prefix(MULTIBASE_BASE32).ok_or(CidError::Multibase)?;
		let bytes = base32().decode(digits.as_bytes()).map_err(|_| CidError::Multibase)?;
		Self::try_from(bytes.as_slice())
	}
}

impl TryFrom<String> for Cid {
	type Error = CidError;

	fn try_from(text: String) -> Result<Self, CidError> {
		text.parse()
	}
}

impl From<Cid> for String {
	fn from(cid: Cid) -> Self {
		alloc::format!("{cid}")
	}
}

impl fmt::Display for Cid {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{MULTIBASE_BASE32}{}", base32().encode(&self.0))
	}
}

impl fmt::Debug for Cid {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

impl fmt::Display for CidError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Length { found } => write!(
				f,
				"a CID has {CID_BYTES} bytes or {CID_TEXT_CHARS} characters, this has {found}"
			),
			Self::Multibase => f.write_str("the text is not base32 with the prefix 'b'"),
			Self::Version => f.write_str("the CID is not of version 1"),
			Self::Codec => f.write_str("the CID names neither a raw nor a dag-cbor block"),
			Self::Hash => f.write_str("the CID does not carry a SHA2-256 digest of 32 bytes"),
		}
	}
}

impl core::error::Error for CidError {}

/// RFC 4648 base32 in lower case, without padding: the alphabet of multibase `b`.
fn base32() -> Encoding {
	let mut specification = Specification::new();
	specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
	specification.encoding().expect("32 distinct ASCII symbols are a base32 alphabet; qed")
}

#[cfg(test)]
mod tests {
	use super::*;
	use alloc::string::ToString;

	/// The empty raw block, whose CID is published in many places.
	const EMPTY_RAW: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";

	fn empty_digest() -> [u8; 32] {
		sp_crypto_hashing::sha2_256(&[])
	}

	#[test]
	fn the_published_cid_of_the_empty_block_is_ours() {
		assert_eq!(Cid::raw(empty_digest()).to_string(), EMPTY_RAW);
	}

	#[test]
	fn text_and_bytes_name_the_same_block() {
		let cid = Cid::dag_cbor([7; 32]);
		assert_eq!(cid.to_string().parse(), Ok(cid));
		assert_eq!(Cid::try_from(cid.as_bytes().as_slice()), Ok(cid));
		assert_eq!(Cid::parse(cid.to_string().as_bytes()), Ok(cid));
		assert_eq!(Cid::parse(cid.as_bytes()), Ok(cid));
		assert_eq!(cid.to_string().len(), CID_TEXT_CHARS);
	}

	#[test]
	fn foreign_cids_are_refused_with_the_reason() {
		let with = |at: usize, byte: u8| {
			let mut bytes = *Cid::raw([1; 32]).as_bytes();
			bytes[at] = byte;
			Cid::try_from(bytes.as_slice())
		};
		assert_eq!(with(0, 0), Err(CidError::Version));
		assert_eq!(with(1, 0x70), Err(CidError::Codec));
		assert_eq!(with(2, 0x00), Err(CidError::Hash));
		assert_eq!(with(3, 0x10), Err(CidError::Hash));
		assert_eq!(Cid::try_from([1u8; 34].as_slice()), Err(CidError::Length { found: 34 }));
		assert_eq!("Qm".parse::<Cid>(), Err(CidError::Length { found: 2 }));
		assert_eq!(EMPTY_RAW.to_uppercase().parse::<Cid>(), Err(CidError::Multibase));
	}

	#[test]
	fn a_last_digit_with_stray_bits_is_refused() {
		let mut text = EMPTY_RAW.to_string();
		text.pop();
		text.push('v');
		assert_eq!(text.parse::<Cid>(), Err(CidError::Multibase));
	}

	proptest::proptest! {
		#[test]
		fn parsing_never_panics(bytes: Vec<u8>) {
			let _ = Cid::parse(&bytes);
		}
	}
}
