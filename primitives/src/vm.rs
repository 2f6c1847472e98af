//! The tag that ties a virtual machine to the request it was started for.
//!
//! A node that fulfils a request starts the machine with this UUID. The agent compares it
//! with the UUID that the running machine reports before it reads a byte, so that a request
//! which names a neighbour's machine gets nothing, whoever made the mistake.

use crate::OpaqueId;
use alloc::string::String;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use core::{fmt, str::FromStr};
use data_encoding::HEXLOWER;
use scale_info::TypeInfo;

const DOMAIN: &[u8; 23] = b"pallet-backup/vm-tag/v1";

/// A machine's UUID (RFC 9562), in network byte order.
#[derive(
	Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct VmTag(pub [u8; 16]);

/// The text is not a UUID of the form `8-4-4-4-12` in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmTagError;

impl VmTag {
	/// The tag of the machine that serves `request` of `owner` on the chain with this genesis.
	///
	/// A UUID of version 8: the first 16 bytes of BLAKE2b-256 over the domain and the three
	/// values, with version and variant set as RFC 9562 asks.
	pub fn derive(genesis: &[u8; 32], request: &OpaqueId, owner: &OpaqueId) -> Self {
		let hash = sp_crypto_hashing::blake2_256(&(DOMAIN, genesis, request, owner).encode());
		let mut tag = [0; 16];
		tag.copy_from_slice(&hash[..16]);
		tag[6] = (tag[6] & 0x0f) | 0x80;
		tag[8] = (tag[8] & 0x3f) | 0x80;
		Self(tag)
	}
}

impl FromStr for VmTag {
	type Err = VmTagError;

	fn from_str(text: &str) -> Result<Self, VmTagError> {
		let groups = [8, 13, 18, 23];
		let well_formed = text.len() == 36
			&& text.bytes().enumerate().all(|(i, b)| (b == b'-') == groups.contains(&i));
		if !well_formed {
			return Err(VmTagError);
		}
		let digits = text.replace('-', "").to_ascii_lowercase();
		let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| VmTagError)?;
		bytes.try_into().map(Self).map_err(|_| VmTagError)
	}
}

impl TryFrom<String> for VmTag {
	type Error = VmTagError;

	fn try_from(text: String) -> Result<Self, VmTagError> {
		text.parse()
	}
}

impl From<VmTag> for String {
	fn from(tag: VmTag) -> Self {
		alloc::format!("{tag}")
	}
}

impl fmt::Display for VmTag {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		for (i, byte) in self.0.iter().enumerate() {
			if matches!(i, 4 | 6 | 8 | 10) {
				f.write_str("-")?;
			}
			write!(f, "{byte:02x}")?;
		}
		Ok(())
	}
}

impl fmt::Debug for VmTag {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

impl fmt::Display for VmTagError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("a UUID is written as 8-4-4-4-12 hexadecimal digits")
	}
}

impl core::error::Error for VmTagError {}

#[cfg(test)]
mod tests {
	use super::*;
	use alloc::string::ToString;

	fn tag(request: u64, owner: u8) -> VmTag {
		let request = OpaqueId::of(&request).unwrap();
		VmTag::derive(&[1; 32], &request, &OpaqueId::of(&[owner; 32]).unwrap())
	}

	#[test]
	fn another_request_or_owner_has_another_tag() {
		assert_ne!(tag(1, 1), tag(2, 1));
		assert_ne!(tag(1, 1), tag(1, 2));
	}

	#[test]
	fn the_tag_is_a_uuid_of_version_8() {
		let text = tag(1, 1).to_string();
		assert_eq!(text.as_bytes()[14], b'8');
		assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
		assert_eq!(text.parse(), Ok(tag(1, 1)));
		assert_eq!(text.to_uppercase().parse(), Ok(tag(1, 1)));
	}

	#[test]
	fn other_text_is_refused() {
		for text in [
			"",
			"not-a-uuid",
			"00000000-0000-0000-0000-00000000000g",
			"0000000000000000000000000000000000000",
		] {
			assert_eq!(text.parse::<VmTag>(), Err(VmTagError));
		}
	}
}
