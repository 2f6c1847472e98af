//! Small secrets in age files, sealed to X25519 recipients.
//!
//! A root carries one such envelope. When an owner's key changes, further envelopes with the
//! same read key stand beside the root, which itself never changes.

use crate::format::ReadKey;
use age::x25519::Identity;
use backup_primitives::Recipient;
use std::io::{Read, Write};
use zeroize::Zeroizing;

/// Most bytes of an envelope. One with [`RECIPIENTS_MAX`] recipients has about 2,000.
pub const ENVELOPE_BYTES_MAX: usize = 4096;

/// Most recipients of one envelope.
pub const RECIPIENTS_MAX: usize = 16;

/// Why an envelope cannot be written or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
	/// An envelope for nobody, or for too many.
	#[error("an envelope has 1 to {RECIPIENTS_MAX} recipients, not {found}")]
	Recipients {
		/// How many were given.
		found: usize,
	},
	/// The recipient is not a usable X25519 key.
	#[error("{recipient} is not a usable recipient")]
	Recipient {
		/// Which one.
		recipient: Recipient,
	},
	/// Larger than [`ENVELOPE_BYTES_MAX`] or not an age file.
	#[error("the envelope is not an age file")]
	Malformed,
	/// It is sealed to others.
	#[error("the envelope is not sealed to this identity")]
	WrongIdentity,
	/// It opened, but holds something else.
	#[error("the envelope holds something else")]
	Content,
}

/// Seals a root's read key to further recipients.
pub fn seal_read_key(key: &ReadKey, recipients: &[Recipient]) -> Result<Vec<u8>, EnvelopeError> {
	seal(key.as_bytes(), recipients)
}

/// Opens an envelope that holds a root's read key, with any of the identities.
pub fn open_read_key(sealed: &[u8], identities: &[Identity]) -> Result<ReadKey, EnvelopeError> {
	let secret = open(sealed, identities, 32)?;
	let bytes = secret.as_slice().try_into().map_err(|_| EnvelopeError::Content)?;
	Ok(ReadKey::from_bytes(bytes))
}

pub(crate) fn seal(secret: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, EnvelopeError> {
	let found = recipients.len();
	if found == 0 || found > RECIPIENTS_MAX {
		return Err(EnvelopeError::Recipients { found });
	}
	let recipients = recipients.iter().map(usable).collect::<Result<Vec<_>, _>>()?;
	let refused = EnvelopeError::Recipients { found };
	let as_dyn = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
	let encryptor = age::Encryptor::with_recipients(as_dyn).map_err(|_| refused)?;
	let mut sealed = Vec::new();
	let mut writer = encryptor.wrap_output(&mut sealed).map_err(|_| refused)?;
	writer.write_all(secret).map_err(|_| refused)?;
	writer.finish().map_err(|_| refused)?;
	Ok(sealed)
}

/// Checks the key and brings it into age's form. Keys of low order would make the shared
/// secret the same for everyone.
fn usable(recipient: &Recipient) -> Result<age::x25519::Recipient, EnvelopeError> {
	let unusable = EnvelopeError::Recipient { recipient: *recipient };
	if LOW_ORDER.contains(&canonical(recipient.0)) {
		return Err(unusable);
	}
	recipient.to_string().parse().map_err(|_| unusable)
}

/// X25519 ignores the topmost bit.
fn canonical(mut key: [u8; 32]) -> [u8; 32] {
	key[31] &= 0x7f;
	key
}

/// The u-coordinates of low order on Curve25519, those above the prime included.
const LOW_ORDER: [[u8; 32]; 7] = {
	let mut zero = [0; 32];
	zero[0] = 0;
	let mut one = [0; 32];
	one[0] = 1;
	let mut below = [0xff; 32];
	below[0] = 0xec;
	below[31] = 0x7f;
	let mut prime = below;
	prime[0] = 0xed;
	let mut above = below;
	above[0] = 0xee;
	[
		zero,
		one,
		below,
		prime,
		above,
		[
			0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
			0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
			0x5f, 0x49, 0xb8, 0x00,
		],
		[
			0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83,
			0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd,
			0xd0, 0x9f, 0x11, 0x57,
		],
	]
};

pub(crate) fn open(
	sealed: &[u8],
	identities: &[Identity],
	max: usize,
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
	if sealed.len() > ENVELOPE_BYTES_MAX {
		return Err(EnvelopeError::Malformed);
	}
	let decryptor = age::Decryptor::new_buffered(sealed).map_err(|_| EnvelopeError::Malformed)?;
	let as_dyn = identities.iter().map(|identity| identity as &dyn age::Identity);
	let reader = decryptor.decrypt(as_dyn).map_err(|error| match error {
		age::DecryptError::NoMatchingKeys => EnvelopeError::WrongIdentity,
		_ => EnvelopeError::Malformed,
	})?;
	// The buffer never grows, so no copy of the secret stays behind.
	let mut secret = Zeroizing::new(Vec::with_capacity(ENVELOPE_BYTES_MAX));
	reader
		.take(ENVELOPE_BYTES_MAX as u64)
		.read_to_end(&mut secret)
		.map_err(|_| EnvelopeError::Malformed)?;
	match secret.len() <= max {
		true => Ok(secret),
		false => Err(EnvelopeError::Content),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn low_order_recipients_are_refused() {
		for mut key in LOW_ORDER {
			for top in [0, 0x80] {
				key[31] |= top;
				let recipient = Recipient(key);
				let sealed = seal(b"x", &[recipient]);
				assert_eq!(sealed, Err(EnvelopeError::Recipient { recipient }));
			}
		}
	}

	#[test]
	fn the_number_of_recipients_is_bounded_and_the_largest_envelope_fits() {
		let recipient: Recipient = Identity::generate().to_public().to_string().parse().unwrap();
		assert_eq!(seal(b"x", &[]), Err(EnvelopeError::Recipients { found: 0 }));
		let most = seal(&[7; 32], &[recipient; RECIPIENTS_MAX]).unwrap();
		assert!(most.len() <= ENVELOPE_BYTES_MAX, "{} bytes", most.len());
		let more = seal(&[7; 32], &[recipient; RECIPIENTS_MAX + 1]);
		assert_eq!(more, Err(EnvelopeError::Recipients { found: RECIPIENTS_MAX + 1 }));
	}

	proptest! {
		#![proptest_config(ProptestConfig::with_cases(64))]

		#[test]
		fn arbitrary_bytes_are_no_envelope(bytes: Vec<u8>) {
			prop_assert!(open(&bytes, &[Identity::generate()], 32).is_err());
		}
	}
}
