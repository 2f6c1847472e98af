//! Identifiers of the chain, as the agent sees them.
//!
//! The pallet leaves the types of node, request and account ids to the runtime. Beyond the
//! chain they are only compared and shown, so there they are the bytes of their SCALE form.

use alloc::{string::String, vec::Vec};
use bounded_collections::{BoundedVec, ConstU32};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use core::{fmt, str::FromStr};
use data_encoding::HEXLOWER;
use scale_info::TypeInfo;

/// Most bytes that an id may have in its SCALE form.
pub const ID_BYTES_MAX: u32 = 64;

/// A node, request or account id: its SCALE bytes, 64 at most.
///
/// Shown as a decimal number where its length is that of a `u32`, `u64` or `u128`, and as
/// `0x…` otherwise. Its JSON and file names are always hexadecimal, without a prefix.
#[derive(
	Clone,
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
pub struct OpaqueId(BoundedVec<u8, ConstU32<ID_BYTES_MAX>>);

/// Why something is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
	/// The SCALE form is longer than [`ID_BYTES_MAX`].
	TooLong {
		/// The length that was found, in bytes.
		found: usize,
	},
	/// The text is not lower-case hexadecimal.
	Hex,
}

impl OpaqueId {
	/// The id as bytes. Fails if its SCALE form is longer than [`ID_BYTES_MAX`].
	pub fn of(id: &impl Encode) -> Result<Self, IdError> {
		Self::from_bytes(id.encode())
	}

	/// Take over the bytes of an id's SCALE form.
	pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, IdError> {
		let found = bytes.len();
		BoundedVec::try_from(bytes).map(Self).map_err(|_| IdError::TooLong { found })
	}

	/// The bytes of the id's SCALE form.
	pub fn as_bytes(&self) -> &[u8] {
		&self.0
	}

	/// The id as hexadecimal text without a prefix, fit for a file name.
	pub fn to_hex(&self) -> String {
		HEXLOWER.encode(&self.0)
	}

	/// The id as the runtime's own type, if these bytes are exactly one.
	pub fn decode_as<T: Decode>(&self) -> Option<T> {
		codec::DecodeAll::decode_all(&mut self.as_bytes()).ok()
	}
}

impl FromStr for OpaqueId {
	type Err = IdError;

	fn from_str(text: &str) -> Result<Self, IdError> {
		let digits = text.strip_prefix("0x").unwrap_or(text);
		let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| IdError::Hex)?;
		Self::from_bytes(bytes)
	}
}

impl TryFrom<String> for OpaqueId {
	type Error = IdError;

	fn try_from(text: String) -> Result<Self, IdError> {
		text.parse()
	}
}

impl From<OpaqueId> for String {
	fn from(id: OpaqueId) -> Self {
		id.to_hex()
	}
}

impl fmt::Display for OpaqueId {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self.as_bytes() {
			number @ ([_, _, _, _] | [_, _, _, _, _, _, _, _]) => {
				let mut wide = [0; 8];
				wide[..number.len()].copy_from_slice(number);
				write!(f, "{}", u64::from_le_bytes(wide))
			}
			bytes => match <[u8; 16]>::try_from(bytes) {
				Ok(number) => write!(f, "{}", u128::from_le_bytes(number)),
				Err(_) => write!(f, "0x{}", self.to_hex()),
			},
		}
	}
}

impl fmt::Debug for OpaqueId {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

impl fmt::Display for IdError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::TooLong { found } => {
				write!(f, "an id has at most {ID_BYTES_MAX} bytes, this has {found}")
			}
			Self::Hex => f.write_str("an id is written in lower-case hexadecimal digits"),
		}
	}
}

impl core::error::Error for IdError {}

#[cfg(test)]
mod tests {
	use super::*;
	use alloc::{string::ToString, vec};

	#[test]
	fn numbers_read_as_numbers_and_accounts_as_hex() {
		assert_eq!(OpaqueId::of(&7u32).unwrap().to_string(), "7");
		assert_eq!(OpaqueId::of(&u64::MAX).unwrap().to_string(), "18446744073709551615");
		assert_eq!(OpaqueId::of(&7u128).unwrap().to_string(), "7");
		assert_eq!(
			OpaqueId::of(&[0xabu8; 32]).unwrap().to_string(),
			["0x", &"ab".repeat(32)].concat()
		);
	}

	#[test]
	fn an_id_comes_back_as_the_type_it_was() {
		let id = OpaqueId::of(&42u64).unwrap();
		assert_eq!(id.decode_as::<u64>(), Some(42));
		assert_eq!(id.decode_as::<u32>(), None);
		assert_eq!(id.to_hex().parse(), Ok(id));
	}

	#[test]
	fn an_id_past_the_bound_is_refused() {
		assert!(OpaqueId::from_bytes(vec![0; 64]).is_ok());
		assert_eq!(OpaqueId::from_bytes(vec![0; 65]), Err(IdError::TooLong { found: 65 }));
	}
}
