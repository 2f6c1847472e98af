//! Blocks on their way to a daemon: a CAR with a root of its own that keeps them.
//!
//! ```text
//! { "v": 1, "kind": "batch", "salt": bytes 16, "links": [cid…] }
//! ```
//! The salt makes each root another one: two agents that send the same blocks share no pin, and a
//! root that went bad there, which Kubo would not replace, stands in nobody's way.
//! The root links every block of the batch **as raw**, whatever it is. Kubo keeps blocks by their
//! hash alone, so the pin of the root keeps nodes, too, and goes no further down from them: it
//! costs what is in the batch, however much hangs below.

use crate::{
	format::{Cid, cbor::Encoder, digest},
	repositories::CarWriter,
};
use backup_primitives::cid::BlockCodec;

/// Bytes of blocks after which a batch is sent. It stands in memory as a whole.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes of one as it is sent, with its last block, its root and what is around them.
#[cfg(test)]
pub(super) const BATCH_BYTES_MAX: usize = BATCH_BYTES + crate::format::BLOCK_BYTES_MAX + (1 << 20);

/// Most blocks of one, so that its root stays small.
const BATCH_BLOCKS_MAX: usize = 4096;

/// Blocks for a daemon, in memory.
#[derive(Debug)]
pub struct Batch {
	salt: [u8; 16],
	/// The sections of a CAR, without its header.
	sections: Option<CarWriter<Vec<u8>>>,
	links: Vec<Cid>,
}

/// A batch as it is sent.
pub(super) struct Packed {
	pub(super) root: Cid,
	/// How many blocks it has, the root included.
	pub(super) blocks: u64,
	pub(super) content_type: String,
	pub(super) body: Vec<u8>,
}

impl Batch {
	/// None yet. No two batches have the same salt.
	pub fn new(salt: [u8; 16]) -> Self {
		Self { salt, sections: None, links: Vec::new() }
	}

	/// Adds a block, whose hash the caller has checked.
	pub fn add(&mut self, cid: &Cid, block: &[u8]) {
		let mut sections = self.sections.take().unwrap_or_else(|| head(cid));
		sections.block(cid, block).expect("memory can be written to");
		self.sections = Some(sections);
		self.links.push(as_raw(cid));
	}

	/// Whether it is time to send it.
	pub fn is_full(&self) -> bool {
		self.links.len() >= BATCH_BLOCKS_MAX || self.bytes() >= BATCH_BYTES as u64
	}

	/// Whether there is nothing in it.
	pub fn is_empty(&self) -> bool {
		self.links.is_empty()
	}

	/// Bytes of its CAR so far.
	pub fn bytes(&self) -> u64 {
		self.sections.as_ref().map_or(0, CarWriter::written_bytes)
	}

	/// The root, which keeps all that is in it so far.
	pub fn root(&self) -> Cid {
		Cid::dag_cbor(digest(&self.node()))
	}

	/// The form that a browser would send with the CAR as a file.
	pub(super) fn pack(self) -> Packed {
		let node = self.node();
		let root = Cid::dag_cbor(digest(&node));
		let mut car = self.sections.unwrap_or_else(|| head(&root));
		car.block(&root, &node).expect("memory can be written to");
		let mut car = car.finish().expect("memory can be written to");
		// Only now is it known. Headers with one root are all equally long.
		let header = head(&root).finish().expect("memory can be written to");
		car[..header.len()].copy_from_slice(&header);
		let (content_type, body) = form("path", &car);
		Packed { root, blocks: self.links.len() as u64 + 1, content_type, body }
	}

	fn node(&self) -> Vec<u8> {
		let mut encoder = Encoder::with_capacity(64 + self.links.len() * 41);
		encoder.map(4);
		encoder.text("v");
		encoder.unsigned(1);
		encoder.text("kind");
		encoder.text("batch");
		encoder.text("salt");
		encoder.bytes(&self.salt);
		encoder.text("links");
		encoder.array(self.links.len());
		self.links.iter().for_each(|link| encoder.link(link));
		encoder.finish()
	}
}

/// The form that a browser would send with these bytes as a file: its type, and itself.
pub(super) fn form(field: &str, file: &[u8]) -> (String, Vec<u8>) {
	let boundary = hex::encode(rand::random::<[u8; 16]>());
	let before = format!(
		"--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{field}\"\r\n\
		 Content-Type: application/octet-stream\r\n\r\n"
	);
	let after = format!("\r\n--{boundary}--\r\n");
	let body = [before.as_bytes(), file, after.as_bytes()].concat();
	(format!("multipart/form-data; boundary={boundary}"), body)
}

fn head(root: &Cid) -> CarWriter<Vec<u8>> {
	CarWriter::new(Vec::new(), root).expect("memory can be written to")
}

fn as_raw(cid: &Cid) -> Cid {
	match cid.codec() {
		BlockCodec::Raw => *cid,
		BlockCodec::DagCbor => Cid::raw(cid.digest()),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{format::links, repositories::CarStream};

	#[test]
	fn a_batch_is_a_car_whose_root_links_all_blocks_as_raw() {
		let (chunk, node) = (b"chunk".as_slice(), b"\xa0".as_slice());
		let (of_chunk, of_node) = (Cid::raw(digest(chunk)), Cid::dag_cbor(digest(node)));
		let mut batch = Batch::new([7; 16]);
		assert!(batch.is_empty() && !batch.is_full());
		batch.add(&of_chunk, chunk);
		batch.add(&of_node, node);
		let root = batch.root();
		let packed = batch.pack();
		assert_eq!((packed.blocks, packed.root), (3, root));
		let start = packed.body.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
		let boundary = packed.content_type.split_once("boundary=").unwrap().1;
		let end = packed.body.len() - boundary.len() - 8;
		let mut car = CarStream::new(&packed.body[start..end]).unwrap();
		assert_eq!(car.roots(), [packed.root]);
		let mut blocks = Vec::new();
		while let Some(block) = car.next_block().unwrap() {
			blocks.push(block);
		}
		let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
		assert_eq!(cids, [of_chunk, of_node, packed.root]);
		assert_eq!(links(&blocks[2].1).unwrap(), [of_chunk, Cid::raw(of_node.digest())]);
	}

	#[test]
	fn boundary_a_batch_is_full_by_bytes_and_by_blocks() {
		let block = vec![7; 1 << 20];
		let mut batch = Batch::new([7; 16]);
		let count = std::iter::from_fn(|| {
			batch.add(&Cid::raw(digest(&block)), &block);
			(!batch.is_full()).then_some(())
		});
		assert_eq!(count.count(), 15);
		let mut batch = Batch::new([7; 16]);
		for _ in 0..BATCH_BLOCKS_MAX - 1 {
			batch.add(&Cid::raw(digest(b"")), b"");
		}
		assert!(!batch.is_full());
		batch.add(&Cid::raw(digest(b"")), b"");
		assert!(batch.is_full());
	}
}
