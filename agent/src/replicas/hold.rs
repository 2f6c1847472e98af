//! What an agent pins at a daemon for a snapshot: a small block of its own above the root.
//!
//! ```text
//! { "v": 1, "by": bytes 8, "kind": "hold", "root": cid }
//! ```
//! Kubo knows one recursive pin of a CID, with one name, whoever made it: of two agents that pin one
//! root, the second takes the name from the first, and whoever unpins it takes it from both. So each
//! pins a block that nobody else has, and what is below stays until the last of these pins is gone.
//! The block follows from the agent and the root alone: where a root is held is known without asking.

use crate::format::{
	cbor::{CborError, Decoder, Encoder},
	digest,
};
use backup_primitives::Cid;

/// Bytes of what tells one agent from another.
pub(super) const TAG_BYTES: usize = 8;

/// Tells one agent from another.
pub(super) type Tag = [u8; TAG_BYTES];

const VERSION: u64 = 1;
const KIND: &str = "hold";

/// A root, and who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
	pub(super) by: Tag,
	pub(super) root: Cid,
}

impl Hold {
	pub(super) fn encode(&self) -> Vec<u8> {
		let mut encoder = Encoder::default();
		encoder.map(4);
		encoder.text("v");
		encoder.unsigned(VERSION);
		encoder.text("by");
		encoder.bytes(&self.by);
		encoder.text("kind");
		encoder.text(KIND);
		encoder.text("root");
		encoder.link(&self.root);
		encoder.finish()
	}

	pub(super) fn cid(&self) -> Cid {
		Cid::dag_cbor(digest(&self.encode()))
	}

	pub(super) fn decode(block: &[u8]) -> Result<Self, CborError> {
		let mut decoder = Decoder::new(block);
		decoder.map_of(4)?;
		decoder.key("v")?;
		let at = decoder.at();
		if decoder.unsigned()? != VERSION {
			return Err(CborError::Unexpected { at });
		}
		decoder.key("by")?;
		let by = decoder.array_of_bytes()?;
		decoder.key("kind")?;
		decoder.key(KIND)?;
		decoder.key("root")?;
		let root = decoder.link()?;
		decoder.end()?;
		Ok(Self { by, root })
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::format::links;

	#[test]
	fn a_hold_names_its_root_to_its_agent_and_to_kubo() {
		let hold = Hold { by: [3; TAG_BYTES], root: Cid::dag_cbor([7; 32]) };
		let block = hold.encode();
		assert_eq!(Hold::decode(&block), Ok(hold));
		assert_eq!(links(&block).unwrap(), [hold.root]);
		let other = Hold { by: [4; TAG_BYTES], ..hold };
		assert_ne!(other.cid(), hold.cid());
	}

	#[test]
	fn what_is_no_hold_is_refused() {
		let block = Hold { by: [3; TAG_BYTES], root: Cid::dag_cbor([7; 32]) }.encode();
		for cut in 0..block.len() {
			assert!(Hold::decode(&block[..cut]).is_err());
		}
		assert!(Hold::decode(&[&block[..], b"x"].concat()).is_err());
		assert!(Hold::decode(b"\xa0").is_err());
	}
}
