//! Tree nodes: links in clear, everything else about the children sealed.
//!
//! ```text
//! {"v": 1, "kind": "node", "links": [cid…], "sealed": bytes}
//! sealed: bitmap of the places that have a child, then 32 bytes key and 16 bytes id per child
//! ```
//! Links are dense: a hole, or a chunk of zeros, has neither link nor key. The links are
//! additional data of the seal, so none can be exchanged.

use crate::format::{
	Cid, FORMAT_VERSION, Geometry, OpenError, PlaintextId, ReadKey, Sealer,
	cbor::{CborError, Decoder, Encoder},
	digest,
	seal::{Domain, Sealed, open_bounded},
};
use backup_primitives::cid::BlockCodec;
use zeroize::Zeroizing;

const CHILD_SECRET_BYTES: usize = 32 + 16;

/// Most children of any node, over all geometries.
const FAN_OUT_MAX: usize = 256;

/// Most bytes of a node's sealed part.
const SEALED_BYTES_MAX: usize = FAN_OUT_MAX / 8 + FAN_OUT_MAX * CHILD_SECRET_BYTES + 64;

/// All that is needed to find a chunk or a node, to open it, and to tell that it is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRef {
	/// The block.
	pub cid: Cid,
	/// What opens it.
	pub key: ReadKey,
	/// What it holds, for deduplication.
	pub id: PlaintextId,
}

impl ChildRef {
	/// Refuses a link that this level of a tree cannot have: chunks are raw, all above is not.
	pub(crate) fn ensure_level(&self, level: usize) -> Result<(), NodeError> {
		let expected = if level == 0 { BlockCodec::Raw } else { BlockCodec::DagCbor };
		match self.cid.check() == Ok(expected) {
			true => Ok(()),
			false => Err(NodeError::Inconsistent),
		}
	}
}

/// A node as it is used: one place per child, empty where the disk is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
	/// As many places as the fan-out says.
	pub children: Vec<Option<ChildRef>>,
}

/// A node as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeBlock {
	links: Vec<Cid>,
	sealed: Vec<u8>,
}

/// Why a block is not a usable node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
	/// The block is not a node.
	#[error("the block is not a node: {0}")]
	Malformed(#[from] CborError),
	/// The sealed part does not open.
	#[error("the node does not open: {0}")]
	Open(#[from] OpenError),
	/// The sealed part and the links do not fit together, or a link does not fit its level.
	#[error("the node's children do not fit its links")]
	Inconsistent,
}

impl Node {
	/// A node without children.
	pub fn empty(geometry: Geometry) -> Self {
		Self { children: vec![None; geometry.fan_out() as usize] }
	}

	/// Whether there is nothing to store.
	pub fn is_empty(&self) -> bool {
		self.children.iter().all(Option::is_none)
	}

	/// Seals the node. The result is its block, and the reference that its parent keeps.
	pub fn seal(&self, sealer: &mut Sealer) -> (Vec<u8>, ChildRef) {
		let secret = self.secret();
		let links: Vec<Cid> = self.present().map(|child| child.cid).collect();
		let id = sealer.node_id(&secret);
		let Sealed { bytes, key } = sealer.seal(Domain::Node, &additional_data(&links), &secret);
		let sealed = bytes.to_vec();
		let block = NodeBlock { links, sealed }.encode();
		let cid = Cid::dag_cbor(digest(&block));
		(block, ChildRef { cid, key, id })
	}

	fn present(&self) -> impl Iterator<Item = &ChildRef> {
		self.children.iter().flatten()
	}

	fn secret(&self) -> Zeroizing<Vec<u8>> {
		let bitmap_bytes = self.children.len().div_ceil(8);
		let capacity = bitmap_bytes + self.children.len() * CHILD_SECRET_BYTES;
		let mut secret = Zeroizing::new(Vec::with_capacity(capacity));
		secret.resize(bitmap_bytes, 0);
		for (place, child) in self.children.iter().enumerate() {
			if let Some(child) = child {
				secret[place / 8] |= 1 << (place % 8);
				secret.extend_from_slice(child.key.as_bytes());
				secret.extend_from_slice(&child.id.0);
			}
		}
		secret
	}
}

impl NodeBlock {
	/// The children's blocks, in the order of their places.
	pub fn links(&self) -> &[Cid] {
		&self.links
	}

	pub(crate) fn encode(&self) -> Vec<u8> {
		let mut encoder = Encoder::with_capacity(64 + self.links.len() * 41 + self.sealed.len());
		encoder.map(4);
		encoder.text("v");
		encoder.unsigned(FORMAT_VERSION);
		encoder.text("kind");
		encoder.text("node");
		encoder.text("links");
		encoder.array(self.links.len());
		for link in &self.links {
			encoder.link(link);
		}
		encoder.text("sealed");
		encoder.bytes(&self.sealed);
		encoder.finish()
	}

	/// Reads a node without opening it.
	pub fn decode(block: &[u8]) -> Result<Self, NodeError> {
		let mut decoder = Decoder::new(block);
		decoder.map_of(4)?;
		decoder.key("v")?;
		if decoder.unsigned()? != FORMAT_VERSION {
			return Err(CborError::Unexpected { at: 3 }.into());
		}
		decoder.key("kind")?;
		decoder.key("node")?;
		decoder.key("links")?;
		let links =
			(0..decoder.array(FAN_OUT_MAX)?).map(|_| decoder.link()).collect::<Result<_, _>>()?;
		decoder.key("sealed")?;
		let sealed = decoder.bytes(SEALED_BYTES_MAX)?.to_vec();
		decoder.end()?;
		Ok(Self { links, sealed })
	}

	/// Opens the node.
	pub fn open(&self, key: &ReadKey, geometry: Geometry) -> Result<Node, NodeError> {
		let bitmap_bytes = geometry.bitmap_bytes();
		let max = bitmap_bytes + geometry.fan_out() as usize * CHILD_SECRET_BYTES;
		let aad = additional_data(&self.links);
		let secret = Zeroizing::new(open_bounded(key, &aad, &self.sealed, max)?);
		let (bitmap, secrets) =
			secret.split_at_checked(bitmap_bytes).ok_or(NodeError::Inconsistent)?;
		let children: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
		if children as usize != self.links.len()
			|| secrets.len() != self.links.len() * CHILD_SECRET_BYTES
		{
			return Err(NodeError::Inconsistent);
		}
		let mut node = Node::empty(geometry);
		let places = (0..node.children.len())
			.filter(|place| bitmap[place / 8] & 1 << (place % 8) != 0)
			.collect::<Vec<_>>();
		if places.len() != self.links.len() {
			return Err(NodeError::Inconsistent);
		}
		let with_secrets = self.links.iter().zip(secrets.chunks_exact(CHILD_SECRET_BYTES));
		for (place, (cid, secret)) in places.into_iter().zip(with_secrets) {
			node.children[place] = Some(child(*cid, secret));
		}
		Ok(node)
	}
}

fn child(cid: Cid, secret: &[u8]) -> ChildRef {
	let (mut key, mut id) = ([0; 32], [0; 16]);
	key.copy_from_slice(&secret[..32]);
	id.copy_from_slice(&secret[32..CHILD_SECRET_BYTES]);
	ChildRef { cid, key: ReadKey::from_bytes(key), id: PlaintextId(id) }
}

fn additional_data(links: &[Cid]) -> Vec<u8> {
	links.iter().flat_map(|cid| *cid.as_bytes()).collect()
}

/// Seals bytes as the secret of a node with so many links, opens it and writes it anew; `None` if
/// it is refused.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reencode_secret(
	sealer: &mut Sealer,
	geometry: Geometry,
	links: u8,
	secret: &[u8],
) -> Option<Vec<u8>> {
	let links: Vec<_> = (0..links).map(|link| Cid::raw([link; 32])).collect();
	let Sealed { bytes, key } = sealer.seal(Domain::Node, &additional_data(&links), secret);
	let block = NodeBlock { links, sealed: bytes.to_vec() };
	Some(block.open(&key, geometry).ok()?.secret().to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
	use super::*;
	use crate::format::{RepositoryKey, links};
	use proptest::prelude::*;

	fn sealer() -> Sealer {
		Sealer::new(&RepositoryKey::from_parts([1; 32], [2; 32]))
	}

	fn child_at(place: u8) -> ChildRef {
		ChildRef {
			cid: Cid::raw([place; 32]),
			key: ReadKey::from_bytes([place ^ 0xff; 32]),
			id: PlaintextId([place; 16]),
		}
	}

	pub(crate) fn sparse_node() -> Node {
		let mut node = Node::empty(Geometry::V1);
		for place in [0u8, 7, 8, 63] {
			node.children[usize::from(place)] = Some(child_at(place));
		}
		node
	}

	#[test]
	fn a_node_comes_back_with_its_holes() {
		let node = sparse_node();
		let (block, reference) = node.seal(&mut sealer());
		let decoded = NodeBlock::decode(&block).unwrap();
		assert_eq!(decoded.encode(), block);
		assert_eq!(decoded.links(), links(&block).unwrap());
		assert_eq!(decoded.open(&reference.key, Geometry::V1), Ok(node));
	}

	#[test]
	fn full_and_empty_nodes_of_every_fan_out_fit() {
		for fan_out in [2, 4, 8, 64, 256] {
			let geometry = Geometry::new(4096, fan_out).unwrap();
			let mut node = Node::empty(geometry);
			for filled in [false, true] {
				if filled {
					for (place, child) in node.children.iter_mut().enumerate() {
						*child = Some(child_at(place.to_le_bytes()[0]));
					}
				}
				let (block, reference) = node.seal(&mut sealer());
				let decoded = NodeBlock::decode(&block).unwrap();
				assert_eq!(decoded.open(&reference.key, geometry).as_ref(), Ok(&node));
			}
		}
	}

	#[test]
	fn exchanged_links_are_found() {
		let (block, reference) = sparse_node().seal(&mut sealer());
		let mut decoded = NodeBlock::decode(&block).unwrap();
		decoded.links.swap(0, 1);
		assert_eq!(
			decoded.open(&reference.key, Geometry::V1),
			Err(NodeError::Open(OpenError::WrongKey))
		);
	}

	#[test]
	fn another_geometry_does_not_fit() {
		let (block, reference) = sparse_node().seal(&mut sealer());
		let decoded = NodeBlock::decode(&block).unwrap();
		for fan_out in [2, 32, 128] {
			let geometry = Geometry::new(4096, fan_out).unwrap();
			assert!(decoded.open(&reference.key, geometry).is_err(), "fan-out {fan_out}");
		}
	}

	proptest! {
		#[test]
		fn decoding_arbitrary_bytes_never_panics(bytes: Vec<u8>) {
			let _ = NodeBlock::decode(&bytes);
		}

		#[test]
		fn what_decodes_after_a_change_encodes_to_the_same_bytes(at in 0usize..400, byte: u8) {
			let (mut block, _) = sparse_node().seal(&mut sealer());
			let at = at % block.len();
			block[at] = byte;
			if let Ok(decoded) = NodeBlock::decode(&block) {
				prop_assert_eq!(decoded.encode(), block);
			}
		}

		#[test]
		fn opening_any_secret_never_panics(secret in proptest::collection::vec(any::<u8>(), 0..300)) {
			let cids = vec![Cid::raw([1; 32]); 3];
			let mut sealer = sealer();
			let sealed = sealer.seal(Domain::Node, &additional_data(&cids), &secret);
			let block = NodeBlock { links: cids, sealed: sealed.bytes.to_vec() };
			let _ = block.open(&sealed.key, Geometry::V1);
		}
	}
}
