//! Public keys that backups are sealed to.
//!
//! A [`Recipient`] is an X25519 public key as age uses it
//! (<https://age-encryption.org/v1>): 32 bytes on chain, `age1…` for people.

use alloc::string::String;
use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use core::{fmt, str::FromStr};
use scale_info::TypeInfo;

const HRP: Hrp = Hrp::parse_unchecked("age");

/// An age X25519 public key.
#[derive(
	Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct Recipient(pub [u8; 32]);

/// Why text is not a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientError {
	/// The text is not Bech32 or its checksum is wrong.
	Bech32,
	/// The text is Bech32, but not an age recipient: `age1…` is expected.
	Prefix,
	/// The key has not 32 bytes.
	Length,
}

impl FromStr for Recipient {
	type Err = RecipientError;

	fn from_str(text: &str) -> Result<Self, RecipientError> {
		let parsed = CheckedHrpstring::new::<Bech32>(text).map_err(|_| RecipientError::Bech32)?;
		if parsed.hrp() != HRP {
			return Err(RecipientError::Prefix);
		}
		let mut key = [0; 32];
		let mut bytes = parsed.byte_iter();
		for byte in &mut key {
			*byte = bytes.next().ok_or(RecipientError::Length)?;
		}
		match bytes.next() {
			None => Ok(Self(key)),
			Some(_) => Err(RecipientError::Length),
		}
	}
}

impl TryFrom<String> for Recipient {
	type Error = RecipientError;

	fn try_from(text: String) -> Result<Self, RecipientError> {
		text.parse()
	}
}

impl From<Recipient> for String {
	fn from(recipient: Recipient) -> Self {
		alloc::format!("{recipient}")
	}
}

impl fmt::Display for Recipient {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		bech32::encode_lower_to_fmt::<Bech32, _>(f, HRP, &self.0).map_err(|_| fmt::Error)
	}
}

impl fmt::Debug for Recipient {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

impl fmt::Display for RecipientError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(match self {
			Self::Bech32 => "the text is not Bech32 with a good checksum",
			Self::Prefix => "an age recipient starts with 'age1'",
			Self::Length => "an age recipient holds a key of 32 bytes",
		})
	}
}

impl core::error::Error for RecipientError {}

#[cfg(test)]
mod tests {
	use super::*;
	use alloc::string::ToString;

	/// Recipient of the identity that the age specification's test vectors use.
	const PUBLISHED: &str = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z";

	#[test]
	fn a_published_recipient_reads_and_writes_the_same() {
		assert_eq!(PUBLISHED.parse::<Recipient>().unwrap().to_string(), PUBLISHED);
	}

	#[test]
	fn typing_errors_are_found() {
		let wrong = PUBLISHED.replace("lvyv", "lvyw");
		assert_eq!(wrong.parse::<Recipient>(), Err(RecipientError::Bech32));
		assert_eq!("".parse::<Recipient>(), Err(RecipientError::Bech32));
	}

	#[test]
	fn other_bech32_texts_are_refused() {
		let other = bech32::encode::<Bech32>(Hrp::parse("bc").unwrap(), &[0; 32]).unwrap();
		assert_eq!(other.parse::<Recipient>(), Err(RecipientError::Prefix));
		let short = bech32::encode::<Bech32>(HRP, &[0; 31]).unwrap();
		assert_eq!(short.parse::<Recipient>(), Err(RecipientError::Length));
		let long = bech32::encode::<Bech32>(HRP, &[0; 33]).unwrap();
		assert_eq!(long.parse::<Recipient>(), Err(RecipientError::Length));
	}
}
