//! Instants since which machines record what is written to their disks.

use codec::{Decode, Encode};
use std::fmt;

/// Names the instant of a backup. From there on bitmaps of the same name record the writes to
/// the machine's disks, so the next backup reads no more than those, if it knows what the disks
/// held then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Checkpoint([u8; 16]);

impl Checkpoint {
	/// A name that nobody has used.
	pub fn new() -> Self {
		Self(rand::random())
	}
}

impl Default for Checkpoint {
	fn default() -> Self {
		Self::new()
	}
}

impl fmt::Display for Checkpoint {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&hex::encode(self.0))
	}
}
