//! The walk over one snapshot that finds missing and damaged blocks.

use crate::{
	format::{Cid, links},
	repositories::{BlockSource, RepositoryError},
	walk::{WHOLE, shares},
};
use backup_primitives::cid::BlockCodec;
use std::collections::HashSet;

/// Most missing, and most damaged blocks that a report names. The walk goes on and counts the
/// others.
pub const NAMED_BLOCKS_MAX: usize = 1 << 16;

/// How closely chunks are looked at. Nodes are always read and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
	/// Asked for only.
	Asked,
	/// Read and hashed.
	Hashed,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
	/// Blocks that are there and are what their CIDs say. A chunk that stands in several places
	/// counts in each.
	pub good_blocks: u64,
	/// Bytes of those that were read.
	pub good_bytes: u64,
	/// How much was gone through, of [`WHOLE`].
	pub walked: u64,
	/// Blocks that are missing or damaged. One that stands in several places counts once, as long
	/// as all are named.
	pub bad_blocks: u64,
	/// The first of the missing blocks.
	pub missing: Vec<Cid>,
	/// The first of the damaged blocks.
	pub corrupt: Vec<Cid>,
}

impl VerifyReport {
	/// Whether nothing is wrong.
	pub fn is_good(&self) -> bool {
		self.bad_blocks == 0
	}

	fn note_missing(&mut self, cid: Cid, named: &mut HashSet<Cid>) {
		Self::bad(&mut self.missing, &mut self.bad_blocks, cid, named);
	}

	fn note_corrupt(&mut self, cid: Cid, named: &mut HashSet<Cid>) {
		Self::bad(&mut self.corrupt, &mut self.bad_blocks, cid, named);
	}

	fn bad(list: &mut Vec<Cid>, count: &mut u64, cid: Cid, named: &mut HashSet<Cid>) {
		if named.contains(&cid) {
			return;
		}
		*count += 1;
		if list.len() < NAMED_BLOCKS_MAX {
			list.push(cid);
			named.insert(cid);
		}
	}
}

/// Looks at everything below `root`, depth first. `proceed` is asked before each block and ends
/// the walk early by saying no.
pub fn verify(
	repository: &dyn BlockSource,
	root: &Cid,
	chunks: Chunks,
	proceed: &mut dyn FnMut(&VerifyReport) -> bool,
) -> Result<VerifyReport, RepositoryError> {
	let mut report = VerifyReport::default();
	let mut seen = HashSet::new();
	let mut named = HashSet::new();
	let mut pending = vec![(*root, WHOLE)];
	while let Some((cid, share)) = pending.pop() {
		if !proceed(&report) {
			break;
		}
		let is_node = cid.codec() == BlockCodec::DagCbor;
		if is_node && !seen.insert(cid) {
			report.walked += share;
			continue;
		}
		if !is_node && chunks == Chunks::Asked {
			report.walked += share;
			match repository.has(&cid)? {
				true => report.good_blocks += 1,
				false => report.note_missing(cid, &mut named),
			}
			continue;
		}
		let children = match repository.get(&cid) {
			Ok(Some(block)) => {
				report.good_bytes += block.len() as u64;
				if is_node { links(&block).ok() } else { Some(Vec::new()) }
			}
			Ok(None) => {
				report.walked += share;
				report.note_missing(cid, &mut named);
				continue;
			}
			Err(RepositoryError::Corrupt { .. }) => None,
			Err(error) if error.is_loss() => None,
			Err(error) => return Err(error),
		};
		match children {
			Some(children) => {
				report.good_blocks += 1;
				match children.is_empty() {
					true => report.walked += share,
					false => pending.extend(shares(share, children).rev()),
				}
			}
			None => {
				report.walked += share;
				report.note_corrupt(cid, &mut named);
			}
		}
	}
	Ok(report)
}
