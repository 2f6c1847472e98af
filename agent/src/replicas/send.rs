//! What a replica lacks of a snapshot, on its way there.
//!
//! The tree of the snapshot is walked in step with that of another one that the replica has. Nodes
//! are read, links compared, and what the other tree has is stepped over with all below it; so the
//! walk and what is sent follow what changed. No key is needed. Which place a link stands for is
//! sealed, so trees are compared by the links of nodes at about the same place: where a node gains
//! or loses many links at once, some blocks are sent that are there already, and none is left out.

use crate::{
	format::{CborError, links},
	pipeline::Cancel,
	repositories::{
		BlockSource, RepositoryError,
		kubo::{Batch, Kubo, KuboError},
	},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::collections::HashSet;

/// Nodes of the other tree that one is compared with. Each has 256 links at most.
const NEIGHBOURS: usize = 5;

/// Most nodes above one another, as in a copy.
const LEVELS_MAX: usize = 64;

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
	#[error("block {cid} is missing here")]
	Missing { cid: Cid },
	#[error("block {cid} is not a node: {source}")]
	NotANode { cid: Cid, source: CborError },
	#[error("block {cid} lies deeper than a snapshot has nodes")]
	TooDeep { cid: Cid },
	#[error("a block cannot be read here: {0}")]
	Read(#[source] RepositoryError),
	#[error(transparent)]
	Kubo(#[from] KuboError),
	#[error("it was told to end")]
	Cancelled,
}

/// Sends blocks of a store to a daemon.
pub(super) struct Sender<'a> {
	pub(super) from: &'a dyn BlockSource,
	pub(super) kubo: &'a Kubo,
	/// The name of the pins that keep what was sent until its root is pinned.
	pub(super) batch_name: String,
	/// Whether to ask for each block whether it is there, instead of relying on what was pinned.
	pub(super) is_careful: bool,
	/// Told of bytes that have arrived.
	pub(super) on_sent: &'a dyn Fn(u64),
	pub(super) cancel: &'a Cancel,
	/// What was sent before, by the first bytes of digests, which tell nearly all apart: eight bytes
	/// for each block of the largest snapshot. Whatever is left out for it makes the pin fail, and
	/// is found by the next, careful try.
	sent: HashSet<u64>,
	/// Roots of the batches that were sent.
	batches: Vec<Cid>,
	batch: Batch,
}

impl<'a> Sender<'a> {
	pub(super) fn new(
		from: &'a dyn BlockSource,
		kubo: &'a Kubo,
		batch_name: String,
		is_careful: bool,
		on_sent: &'a dyn Fn(u64),
		cancel: &'a Cancel,
	) -> Self {
		let (sent, batches, batch) = (HashSet::new(), Vec::new(), Batch::default());
		Self { from, kubo, batch_name, is_careful, on_sent, cancel, sent, batches, batch }
	}

	/// Goes on with a batch that an earlier run has sent.
	pub(super) fn take_up(&mut self, batch: Cid) -> Result<(), KuboError> {
		self.batches.push(batch);
		// What is looked for block by block may be missing there, too.
		if !self.is_careful
			&& let Some(node) = self.kubo.block(&batch)?
		{
			let sent = links(&node).unwrap_or_default();
			self.sent.extend(sent.iter().map(start_of_digest));
		}
		Ok(())
	}

	/// Sends what is below a root and the root, without what is below these others.
	pub(super) fn send(&mut self, root: &Cid, others: &[Cid]) -> Result<(), SendError> {
		self.walk(root, others, 0)?;
		self.ship()
	}

	/// Lets go of all that was sent: it is below pinned roots now.
	pub(super) fn finish(self) -> Result<(), KuboError> {
		self.batches.iter().try_for_each(|batch| self.kubo.unpin(batch).map(drop))
	}

	fn walk(&mut self, cid: &Cid, others: &[Cid], depth: usize) -> Result<(), SendError> {
		if depth > LEVELS_MAX {
			return Err(SendError::TooDeep { cid: *cid });
		}
		if others.contains(cid) {
			return Ok(());
		}
		let block = self.read(cid)?;
		let (nodes, chunks) = children(cid, &block)?;
		// Another one that cannot be read here only makes more be sent.
		let read = others.iter().filter_map(|other| self.from.get(other).ok().flatten());
		let theirs: Vec<Cid> = read.flat_map(|block| links(&block).unwrap_or_default()).collect();
		let known: HashSet<&Cid> = theirs.iter().collect();
		let fresh = |cids: &[Cid]| -> Vec<Cid> {
			cids.iter().filter(|cid| !known.contains(cid)).copied().collect()
		};
		self.add_chunks(&fresh(&chunks))?;
		let ours: HashSet<&Cid> = nodes.iter().collect();
		let is_stale = |cid: &&Cid| cid.codec() == BlockCodec::DagCbor && !ours.contains(cid);
		let stale: Vec<Cid> = theirs.iter().filter(is_stale).copied().collect();
		let nodes = fresh(&nodes);
		for (place, node) in nodes.iter().enumerate() {
			self.walk(node, near(&stale, place, nodes.len()), depth + 1)?;
		}
		self.add(cid, &block)
	}

	fn read(&self, cid: &Cid) -> Result<Vec<u8>, SendError> {
		if self.cancel.is_cancelled() {
			return Err(SendError::Cancelled);
		}
		self.from.get(cid).map_err(SendError::Read)?.ok_or(SendError::Missing { cid: *cid })
	}

	fn add_chunks(&mut self, chunks: &[Cid]) -> Result<(), SendError> {
		let missing: Vec<Cid> = chunks.iter().filter(|cid| !self.was_sent(cid)).copied().collect();
		let missing = match self.is_careful && !missing.is_empty() {
			true => self.kubo.absent(&missing)?,
			false => missing,
		};
		for cid in missing {
			// The same chunk may stand here twice.
			if !self.was_sent(&cid) {
				let block = self.read(&cid)?;
				self.put(&cid, &block)?;
			}
		}
		Ok(())
	}

	fn add(&mut self, cid: &Cid, block: &[u8]) -> Result<(), SendError> {
		if self.was_sent(cid) || self.is_careful && self.kubo.absent(&[*cid])?.is_empty() {
			return Ok(());
		}
		self.put(cid, block)
	}

	fn put(&mut self, cid: &Cid, block: &[u8]) -> Result<(), SendError> {
		self.batch.add(cid, block);
		self.sent.insert(start_of_digest(cid));
		if self.batch.is_full() { self.ship() } else { Ok(()) }
	}

	fn was_sent(&self, cid: &Cid) -> bool {
		self.sent.contains(&start_of_digest(cid))
	}

	/// Sends the batch, and gives its pin the name by which it is found again.
	fn ship(&mut self) -> Result<(), SendError> {
		let batch = std::mem::take(&mut self.batch);
		if batch.is_empty() {
			return Ok(());
		}
		let bytes = batch.bytes();
		let root = self.kubo.import(batch)?;
		self.batches.push(root);
		self.kubo.pin_add(&root, &self.batch_name)?;
		(self.on_sent)(bytes);
		Ok(())
	}
}

/// The nodes and the chunks below a block.
fn children(cid: &Cid, block: &[u8]) -> Result<(Vec<Cid>, Vec<Cid>), SendError> {
	if cid.codec() == BlockCodec::Raw {
		return Ok((Vec::new(), Vec::new()));
	}
	let children = links(block).map_err(|source| SendError::NotANode { cid: *cid, source })?;
	Ok(children.into_iter().partition(|child| child.codec() == BlockCodec::DagCbor))
}

/// Those of the other tree's nodes that stand at about the place of one of ours.
fn near(stale: &[Cid], place: usize, count: usize) -> &[Cid] {
	let middle = place * stale.len() / count.max(1);
	let first = middle.saturating_sub(NEIGHBOURS / 2).min(stale.len().saturating_sub(NEIGHBOURS));
	&stale[first..stale.len().min(first + NEIGHBOURS)]
}

fn start_of_digest(cid: &Cid) -> u64 {
	let digest = cid.digest();
	let (start, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
	u64::from_be_bytes(*start)
}
