//! Noting what somebody found missing or damaged, beside readers and writers.
//!
//! 1. What is named is read again: it may be good by now, or known.
//! 2. So is all that stands in the same packs. Whatever hit a block rarely hit it alone, and nobody
//!    sees what hangs below a node that is gone.
//! 3. All nodes are looked at for what stands on damage, and noted with it in one commit.
//!
//! Of very much damage a bounded number is noted at a time, until nothing is left.

use crate::{
	format::Cid,
	repositories::{
		RepositoryError,
		embedded::{
			Shared,
			check::groups,
			collect::{Running, scan},
			entry::Outlook,
			findings::{Findings, nodes_from},
			is_node, lock,
			repair::note,
			verdict::{Verdict, cid_of, read_record},
		},
	},
};
use std::collections::BTreeSet;

/// Notes those of some blocks that are damaged, those beside them that are, and all that stands on
/// them or on what is absent. Says how many are damaged.
pub(crate) fn note_lost(
	store: &Shared,
	cids: &[Cid],
	proceed: &mut dyn FnMut() -> bool,
) -> Result<u64, RepositoryError> {
	let _running = Running::begin(store)?;
	let first_young = lock(&store.writer).next_id();
	let mut found = Findings::default();
	let mut is_known = true;
	for cid in cids {
		if !proceed() {
			return Ok(0);
		}
		is_known &= found.look_again(store, cid)?;
	}
	// Then so is all that stands on it.
	if is_known {
		return Ok(0);
	}
	store.commit()?;
	let (mut noted, mut packs) = (0, found.packs());
	while found.look_around(store, &mut packs, proceed)? {
		// A child that nobody knows of is no damage of a pack.
		found.report.is_index_suspect |= found.nodes.is_unexplained;
		if found.report.is_index_suspect && !store.index.is_sound()? {
			// The look may have brought back what the index was before its last commit.
			let condemned = store.index.condemn();
			lock(&store.writer).end_sessions();
			condemned?;
			return Err(RepositoryError::IndexDamaged);
		}
		note(store, &mut found, first_young, Outlook::MayComeBack)?;
		noted += found.damaged.len() as u64;
		if !found.has_more {
			break;
		}
		tracing::warn!(target: "store", noted, "there is more damage than is noted at a time");
		found = Findings::default();
	}
	Ok(noted)
}

impl Findings {
	/// Reads a block again of which somebody says that it is damaged or missing. Says whether that
	/// is known already, or not so.
	fn look_again(&mut self, store: &Shared, cid: &Cid) -> Result<bool, RepositoryError> {
		let name = &cid.digest();
		let _gate = store.enter();
		// What is absent is known to nobody: the nodes above it may still vouch for it.
		let Some(entry) = store.index.get(name)? else { return Ok(false) };
		let record = read_record(store, name, &entry)?;
		let is_known = entry.is_damaged();
		let verdict = record.verdict(&entry);
		self.report.is_index_suspect |=
			verdict == Verdict::Strange && record.is_readable && !is_known;
		match verdict {
			Verdict::GoodAgain => {
				self.good_again.push((*name, record.as_good_again(&entry)));
				Ok(false)
			}
			Verdict::Damaged | Verdict::Strange => {
				if !is_known {
					self.damaged.insert(*name, entry);
				}
				Ok(is_known)
			}
			Verdict::Good | Verdict::BadHeader | Verdict::WrongEntry => {
				Ok(!is_node(cid) || entry.counts_as_node())
			}
		}
	}

	/// Looks at all that stands on what is damaged or absent, and at all that stands in the same
	/// packs, these ones included. Says whether it came to the end, or is full; then the packs are
	/// those that are to be looked at again.
	fn look_around(
		&mut self,
		store: &Shared,
		packs: &mut BTreeSet<u32>,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		self.nodes.nodes = nodes_from(store, 0)?;
		let mut next = packs.clone();
		loop {
			if !self.look_at_packs(store, &next, proceed)? {
				return Ok(false);
			}
			self.nodes.broken.extend(self.damaged.keys().copied());
			if !self.nodes.look_at_all(store, proceed)? {
				return Ok(false);
			}
			self.damaged.extend(self.nodes.damaged.drain());
			next = self.packs().difference(packs).copied().collect();
			packs.extend(&next);
			if next.is_empty() || self.has_more {
				return Ok(true);
			}
		}
	}

	/// Says whether it came to the end, or is full.
	fn look_at_packs(
		&mut self,
		store: &Shared,
		packs: &BTreeSet<u32>,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		if packs.is_empty() {
			return Ok(true);
		}
		let mut states = store.index.packs()?;
		states.retain(|pack, _| packs.contains(pack));
		for group in groups(&states) {
			let mut entries = Vec::new();
			scan(store, &mut |name, entry| {
				if packs.contains(&entry.pack) && group.contains(&entry.pack) {
					entries.push((cid_of(name, entry), *entry));
				}
			})?;
			entries.sort_unstable_by_key(|(_, entry)| (entry.pack, entry.offset));
			for (cid, _) in &entries {
				if !proceed() {
					return Ok(false);
				}
				if self.is_full() {
					self.has_more = true;
					return Ok(true);
				}
				if !self.damaged.contains_key(&cid.digest()) {
					self.look_again(store, cid)?;
				}
			}
		}
		Ok(true)
	}
}
