//! What a look at the store found, on its way to the index or to a report.

use crate::{
	format::{Cid, digest, links},
	repositories::{
		RepositoryError,
		embedded::{Shared, StoreReport, collect::scan, entry::Entry, is_node},
	},
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Damaged blocks after which a look goes no further: those are noted, and it begins again. Few in
/// tests, so that they have more.
pub(crate) const DAMAGED_MAX: usize = if cfg!(test) { 16 } else { 1 << 20 };

type Digest = [u8; 32];

/// A report, and what a repair needs besides.
#[derive(Debug, Default)]
pub(crate) struct Findings {
	pub(crate) report: StoreReport,
	/// What is damaged, and where it stands.
	pub(crate) damaged: HashMap<Digest, Entry>,
	/// Whether more is damaged than is held.
	pub(crate) has_more: bool,
	/// Good blocks with a bad header.
	pub(crate) bad_headers: Vec<(Digest, Entry)>,
	/// What was damaged and can be read again, as it is to be noted.
	pub(crate) good_again: Vec<(Digest, Entry)>,
	pub(crate) nodes: NodeFindings,
	/// Pinned roots of which the index knows nothing.
	pub(crate) absent_roots: Vec<Cid>,
}

/// Which nodes are incomplete.
#[derive(Debug, Default)]
pub(crate) struct NodeFindings {
	/// All nodes that something is wrong with or below.
	pub(crate) broken: HashSet<Digest>,
	/// Those among them whose own bytes are gone or wrong, although nobody had said so.
	pub(crate) damaged: HashMap<Digest, Entry>,
	/// Nodes to be looked at, by rising id.
	pub(crate) nodes: Vec<(Digest, Entry)>,
	/// Whether a child is missing of which nothing is known to be wrong.
	pub(crate) is_unexplained: bool,
}

impl Findings {
	/// Whether no more is held before it is noted.
	pub(crate) fn is_full(&self) -> bool {
		self.damaged.len() + self.good_again.len() >= DAMAGED_MAX
	}

	/// The packs in which something changed.
	pub(crate) fn packs(&self) -> BTreeSet<u32> {
		let good_again = self.good_again.iter().map(|(_, entry)| entry);
		self.damaged.values().chain(good_again).map(|entry| entry.pack).collect()
	}
}

impl NodeFindings {
	/// Takes up all nodes that there are, and what is known to be damaged.
	pub(crate) fn begin(
		&mut self,
		store: &Shared,
		damaged: &HashMap<Digest, Entry>,
	) -> Result<(), RepositoryError> {
		self.broken.extend(damaged.keys().copied());
		self.nodes = nodes_from(store, 0)?;
		Ok(())
	}

	/// Looks at all nodes until no more broken ones are found, holding the gate for one at a time.
	/// Says whether it came to the end.
	pub(crate) fn look_at_all(
		&mut self,
		store: &Shared,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		loop {
			let mut has_changed = false;
			for at in 0..self.nodes.len() {
				if !proceed() {
					return Ok(false);
				}
				let _gate = store.enter();
				has_changed |= self.look_at(store, at)?;
			}
			if !has_changed {
				return Ok(true);
			}
		}
	}

	/// Adds the node to the broken ones if it belongs there. Says whether that is new. Needs the
	/// gate.
	pub(crate) fn look_at(&mut self, store: &Shared, at: usize) -> Result<bool, RepositoryError> {
		let (name, listed) = self.nodes[at];
		if self.broken.contains(&name) {
			return Ok(false);
		}
		// Meanwhile it was removed.
		let Some(entry) = store.look_up(&name)? else { return Ok(false) };
		let is_whole = match store.read(&entry) {
			Ok(block) if digest(&block) == name => {
				self.has_children(store, &block, listed.flaw.is_none())?
			}
			Err(error) if !error.is_loss() => return Err(error),
			Ok(_) | Err(_) => {
				// Were it called incomplete, nobody would store its bytes anew.
				self.damaged.insert(name, entry);
				false
			}
		};
		Ok(!is_whole && self.broken.insert(name))
	}

	fn has_children(
		&mut self,
		store: &Shared,
		block: &[u8],
		is_trusted: bool,
	) -> Result<bool, RepositoryError> {
		let Ok(children) = links(block) else { return Ok(false) };
		for child in children {
			if self.broken.contains(&child.digest()) {
				return Ok(false);
			}
			match store.look_up(&child.digest())? {
				Some(entry) if entry.is_damaged() => return Ok(false),
				// It is among the nodes that are looked at.
				Some(entry) if entry.is_incomplete() => {}
				Some(entry) if entry.is_node || !is_node(&child) => {}
				Some(_) | None => {
					self.is_unexplained |= is_trusted;
					return Ok(false);
				}
			}
		}
		Ok(true)
	}
}

/// Nodes, complete or not, from an id on; children usually before their parents.
pub(crate) fn nodes_from(
	store: &Shared,
	first_id: u64,
) -> Result<Vec<(Digest, Entry)>, RepositoryError> {
	let mut nodes = Vec::new();
	scan(store, &mut |digest, entry| {
		if entry.counts_as_node() && entry.id >= first_id {
			nodes.push((*digest, *entry));
		}
	})?;
	nodes.sort_unstable_by_key(|(_, entry)| entry.id);
	Ok(nodes)
}
