//! A snapshot on its way into a CAR file, still sealed.
//!
//! Blocks are written depth first, a node before what is below it, children in the order of
//! their links: as gateways write them. No key is needed.

use crate::{
	format::{CborError, links},
	pipeline::{Cancel, OnProgress, Progress},
	repositories::{BlockSource, RepositoryError, car::CarWriter},
	walk::{WHOLE, shares},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::HashSet,
	io::{self, Write},
};

/// Blocks that are remembered, so that each is written once. Beyond that number one may be
/// written again, which readers of CAR files allow.
const REMEMBERED_MAX: usize = 1 << 20;

/// Why a snapshot was not exported as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
	/// A block is not there.
	#[error("block {cid} is missing")]
	Missing {
		/// Which one.
		cid: Cid,
	},
	/// What should be a node is none.
	#[error("block {cid} is not a node: {source}")]
	NotANode {
		/// Which block.
		cid: Cid,
		/// What is wrong with it.
		source: CborError,
	},
	/// A block cannot be read, or is damaged.
	#[error("a block cannot be read: {0}")]
	Read(#[source] RepositoryError),
	/// The file cannot be written.
	#[error("the file cannot be written: {0}")]
	Write(#[from] io::Error),
	/// It was told to end.
	#[error("the export was cancelled")]
	Cancelled,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
	/// Blocks of the snapshot.
	pub blocks: u64,
	/// Bytes of the file.
	pub file_bytes: u64,
}

/// Writes a snapshot as a CAR, blocking. How many bytes there will be is not known beforehand, so
/// progress tells how much of the tree was gone through.
pub fn export<W: Write>(
	from: &dyn BlockSource,
	root: &Cid,
	out: W,
	on_progress: OnProgress<'_>,
	cancel: &Cancel,
) -> Result<(Exported, W), ExportError> {
	let mut car = CarWriter::new(out, root)?;
	let mut exported = Exported::default();
	let mut written = HashSet::new();
	let mut pending = vec![(*root, WHOLE)];
	let mut walked = 0;
	while let Some((cid, share)) = pending.pop() {
		if cancel.is_cancelled() {
			return Err(ExportError::Cancelled);
		}
		if written.contains(&cid) {
			walked += share;
			continue;
		}
		if written.len() < REMEMBERED_MAX {
			written.insert(cid);
		}
		let block =
			from.get(&cid).map_err(ExportError::Read)?.ok_or(ExportError::Missing { cid })?;
		let children = match cid.codec() {
			BlockCodec::Raw => Vec::new(),
			BlockCodec::DagCbor => {
				links(&block).map_err(|source| ExportError::NotANode { cid, source })?
			}
		};
		match children.is_empty() {
			true => walked += share,
			false => pending.extend(shares(share, children).rev()),
		}
		car.block(&cid, &block)?;
		exported.blocks += 1;
		let written_bytes = car.written_bytes();
		on_progress(Progress { written_bytes, walked, ..Progress::default() });
	}
	exported.file_bytes = car.written_bytes();
	Ok((exported, car.finish()?))
}
