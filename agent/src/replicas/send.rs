//! What a replica lacks of a snapshot, on its way there.
//!
//! The tree of the snapshot is walked in step with that of another one that the replica has. Nodes
//! are read, links compared, and what the other tree has is stepped over with all below it; so the
//! walk and what is sent follow what changed. No key is needed. Which place a link stands for is
//! sealed, so trees are compared by the links of nodes at about the same place: where a node gains
//! or loses many links at once, some blocks are sent that are there already, and none is left out.

use super::{
	hold::Hold,
	names::{self, Names},
	notes::Notes,
};
use crate::{
	format::{CborError, links},
	pipeline::Cancel,
	repositories::{
		BlockSource, RepositoryError,
		kubo::{Batch, Kubo, KuboError},
	},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::{HashMap, HashSet},
	io,
};

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
	#[error("notes of what is on its way cannot be written: {0}")]
	Notes(#[from] io::Error),
	#[error("something newer goes first")]
	Interrupted,
	#[error("it was told to end")]
	Cancelled,
}

/// What is sent for one snapshot.
pub(super) struct Order<'a> {
	pub(super) series: &'a str,
	/// The root, and what is to be pinned above it and sent after it.
	pub(super) hold: Hold,
	/// Roots that the replica has.
	pub(super) others: &'a [Cid],
	/// Whether to ask for each block whether it is there, instead of relying on what was pinned.
	pub(super) is_careful: bool,
}

/// Sends blocks of a store to a daemon.
pub(super) struct Sender<'a> {
	from: &'a dyn BlockSource,
	kubo: &'a Kubo,
	names: &'a Names,
	/// Batches of which nobody knows yet whether they are there.
	imports: &'a Notes,
	/// Told of bytes that have arrived.
	on_sent: &'a dyn Fn(u64),
	/// Asked after each batch whether something else is more urgent.
	is_urged: &'a dyn Fn() -> bool,
	cancel: &'a Cancel,
	/// What is there of snapshots that are not pinned yet, by their series and the first bytes of
	/// digests, which tell nearly all apart: eight bytes for each block of the largest snapshot.
	/// Whatever is left out for it makes the pin fail, and is found by the next, careful try.
	sent: HashMap<String, HashSet<u64>>,
	/// Nodes that this walk has been through. A tree that was made by another may link one node from
	/// so many places that ways through it cannot be counted.
	walked: HashSet<Cid>,
	/// Roots of the batches that were sent for the snapshot that is sent now.
	batches: Vec<Cid>,
	batch: Batch,
}

impl<'a> Sender<'a> {
	pub(super) fn new(
		from: &'a dyn BlockSource,
		(kubo, imports): (&'a Kubo, &'a Notes),
		names: &'a Names,
		on_sent: &'a dyn Fn(u64),
		is_urged: &'a dyn Fn() -> bool,
		cancel: &'a Cancel,
	) -> Self {
		let (sent, walked) = (HashMap::new(), HashSet::new());
		let (batches, batch) = (Vec::new(), fresh_batch());
		Self { from, kubo, names, imports, on_sent, is_urged, cancel, sent, walked, batches, batch }
	}

	/// Whether it is known what an earlier run has sent of a series.
	pub(super) fn knows(&self, series: &str) -> bool {
		self.sent.contains_key(series)
	}

	/// Goes on with a batch that an earlier run has sent. Says whether it is of any use.
	pub(super) fn take_up(&mut self, series: &str, batch: &Cid) -> Result<bool, KuboError> {
		let node = match self.kubo.block(batch) {
			Ok(node) => node,
			Err(KuboError::Damaged { .. }) => None,
			Err(error) => return Err(error),
		};
		let Some(Ok(there)) = node.map(|node| links(&node)) else { return Ok(false) };
		let sent = self.sent.entry(series.to_owned()).or_default();
		sent.extend(there.iter().map(start_of_digest));
		Ok(true)
	}

	/// Sends what is below a root, the root and its hold, without what is below others. Returns with
	/// whatever result when all that was read has arrived, unless nothing can arrive any more.
	pub(super) fn send(&mut self, order: &Order<'_>) -> Result<(), SendError> {
		self.sent.entry(order.series.to_owned()).or_default();
		self.walked.clear();
		let walked = self.walk(order, &order.hold.root, order.others, 0);
		if let Err(SendError::Kubo(_) | SendError::Notes(_) | SendError::Cancelled) = walked {
			return walked;
		}
		if walked.is_ok() {
			self.add(order, &order.hold.cid(), &order.hold.encode())?;
		}
		self.ship(order.series)?;
		walked
	}

	/// The batches that were sent since this was asked.
	pub(super) fn take_batches(&mut self) -> Vec<Cid> {
		std::mem::take(&mut self.batches)
	}

	/// What was sent of a series is pinned: what is there of it is found by comparing.
	pub(super) fn forget(&mut self, series: &str) {
		self.sent.insert(series.to_owned(), HashSet::new());
	}

	/// It is not known any more what is there of a series: the daemon has failed.
	pub(super) fn abandon(&mut self, series: &str) {
		self.sent.remove(series);
		self.batch = fresh_batch();
	}

	fn walk(
		&mut self,
		order: &Order<'_>,
		cid: &Cid,
		others: &[Cid],
		depth: usize,
	) -> Result<(), SendError> {
		if depth > LEVELS_MAX {
			return Err(SendError::TooDeep { cid: *cid });
		}
		if others.contains(cid) || !self.walked.insert(*cid) {
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
		self.add_chunks(order, &fresh(&chunks))?;
		let ours: HashSet<&Cid> = nodes.iter().collect();
		let is_stale = |cid: &&Cid| cid.codec() == BlockCodec::DagCbor && !ours.contains(cid);
		let stale: Vec<Cid> = theirs.iter().filter(is_stale).copied().collect();
		let nodes = fresh(&nodes);
		for (place, node) in nodes.iter().enumerate() {
			self.walk(order, node, near(&stale, place, nodes.len()), depth + 1)?;
		}
		self.add(order, cid, &block)
	}

	fn read(&self, cid: &Cid) -> Result<Vec<u8>, SendError> {
		if self.cancel.is_cancelled() {
			return Err(SendError::Cancelled);
		}
		self.from.get(cid).map_err(SendError::Read)?.ok_or(SendError::Missing { cid: *cid })
	}

	fn add_chunks(&mut self, order: &Order<'_>, chunks: &[Cid]) -> Result<(), SendError> {
		for cid in self.missing(order, chunks)? {
			// The same chunk may stand here twice.
			if !self.was_sent(order, &cid) {
				let block = self.read(&cid)?;
				self.put(order, &cid, &block)?;
			}
		}
		Ok(())
	}

	fn add(&mut self, order: &Order<'_>, cid: &Cid, block: &[u8]) -> Result<(), SendError> {
		match self.missing(order, &[*cid])?.is_empty() {
			true => Ok(()),
			false => self.put(order, cid, block),
		}
	}

	/// Those of these blocks that are not known to be there.
	fn missing(&mut self, order: &Order<'_>, cids: &[Cid]) -> Result<Vec<Cid>, SendError> {
		let unsent = cids.iter().filter(|cid| !self.was_sent(order, cid));
		let unsent: Vec<Cid> = unsent.copied().collect();
		if !order.is_careful || unsent.is_empty() {
			return Ok(unsent);
		}
		let absent = self.kubo.absent(&unsent)?;
		let gone: HashSet<&Cid> = absent.iter().collect();
		let there = unsent.iter().filter(|cid| !gone.contains(cid));
		let sent = self.sent.entry(order.series.to_owned()).or_default();
		sent.extend(there.map(start_of_digest));
		Ok(absent)
	}

	fn put(&mut self, order: &Order<'_>, cid: &Cid, block: &[u8]) -> Result<(), SendError> {
		self.batch.add(cid, block);
		self.sent.entry(order.series.to_owned()).or_default().insert(start_of_digest(cid));
		if !self.batch.is_full() {
			return Ok(());
		}
		self.ship(order.series)?;
		// What was sent is not sent again.
		if (self.is_urged)() { Err(SendError::Interrupted) } else { Ok(()) }
	}

	fn was_sent(&self, order: &Order<'_>, cid: &Cid) -> bool {
		let sent = self.sent.get(order.series);
		sent.is_some_and(|sent| sent.contains(&start_of_digest(cid)))
	}

	/// Sends the batch, and gives its pin the name by which it is found again. Until it has that, a
	/// note tells of it: an agent that is killed in between would leave a pin that nobody finds.
	fn ship(&mut self, series: &str) -> Result<(), SendError> {
		let batch = std::mem::replace(&mut self.batch, fresh_batch());
		if batch.is_empty() {
			return Ok(());
		}
		let bytes = batch.bytes();
		let lineage = names::series(series).map(|series| series.lineage);
		self.imports.add(&batch.root(), lineage.as_ref())?;
		let root = self.kubo.import(batch)?;
		self.batches.push(root);
		self.kubo.pin_add(&root, &self.names.of_blocks(series))?;
		self.imports.remove(&root)?;
		(self.on_sent)(bytes);
		Ok(())
	}
}

fn fresh_batch() -> Batch {
	Batch::new(rand::random())
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

pub(super) fn start_of_digest(cid: &Cid) -> u64 {
	let digest = cid.digest();
	let (start, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
	u64::from_be_bytes(*start)
}
