//! What a copy may cost.
//!
//! Whoever hosts a machine decides what a root links to, and a holder stores it unread. What bounds
//! that is the size of the machine's disks: the chain holds what a host says of it against what was
//! provisioned. A snapshot that turns out larger is given up, what came of it is collected, and it is
//! not tried again until the agent is started anew.

use crate::sources::{FILES_MAX, MACHINE_FILE_BYTES_MAX};
use backup_primitives::{Cid, KeptRoot};
use std::{
	collections::HashMap,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What sealing and the tree add to a disk at most, as a part of it: about 108 bytes for each chunk
/// of 4 KiB, the smallest there are.
const OVERHEAD_SHARE: u64 = 32;

/// What belongs to a machine beside its disks, which the chain does not count: the files that its own
/// file names, and 64 MiB for its description and the tree.
const MARGIN_BYTES: u64 = FILES_MAX as u64 * MACHINE_FILE_BYTES_MAX + (64 << 20);

/// Most bytes that a snapshot may take.
fn bytes_max(logical_bytes: u64) -> u64 {
	let overhead = logical_bytes / OVERHEAD_SHARE;
	logical_bytes.saturating_add(overhead).saturating_add(MARGIN_BYTES)
}

/// What the snapshots of one lineage have cost that are not whole yet. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Spending(Arc<Mutex<HashMap<Cid, Spent>>>);

#[derive(Clone, Copy, Debug)]
struct Spent {
	bytes: u64,
	max: u64,
}

impl Spent {
	fn is_all(&self) -> bool {
		self.bytes > self.max
	}
}

impl Spending {
	fn spent(&self) -> MutexGuard<'_, HashMap<Cid, Spent>> {
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Forget all but these.
	pub(super) fn keep_only(&self, roots: &[KeptRoot]) {
		self.spent().retain(|cid, _| roots.iter().any(|root| root.cid == *cid));
	}

	/// What came of unfinished ones may be collected from now on, and have to be fetched again.
	pub(super) fn begin_anew(&self) {
		self.spent().retain(|_, spent| spent.is_all());
	}

	/// What one snapshot may still cost.
	pub(super) fn budget(&self, root: &KeptRoot) -> Budget {
		let max = bytes_max(root.logical_bytes);
		let before = self.spent().get(&root.cid).map_or(0, |spent| spent.bytes);
		Budget { spending: self.clone(), cid: root.cid, before, max }
	}
}

/// What one snapshot may cost.
#[derive(Debug)]
pub(super) struct Budget {
	spending: Spending,
	cid: Cid,
	before: u64,
	max: u64,
}

impl Budget {
	/// All that it may cost, in bytes.
	pub(super) fn max(&self) -> u64 {
		self.max
	}

	/// Note that this attempt has brought so many bytes, and say whether that is too much.
	pub(super) fn spend(&self, bytes: u64) -> bool {
		let spent = Spent { bytes: self.before.saturating_add(bytes), max: self.max };
		self.spending.spent().insert(self.cid, spent);
		spent.is_all()
	}

	/// Whether more came than may.
	pub(super) fn is_spent(&self) -> bool {
		self.spending.spent().get(&self.cid).is_some_and(Spent::is_all)
	}

	/// Note that the snapshot is whole.
	pub(super) fn close(self) {
		self.spending.spent().remove(&self.cid);
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const GIB: u64 = 1 << 30;

	fn root(seed: u8) -> KeptRoot {
		KeptRoot { sequence: 0, cid: Cid::raw([seed; 32]), logical_bytes: GIB }
	}

	#[test]
	fn boundary_a_snapshot_takes_what_its_disks_and_files_have_and_a_little_more() {
		let spending = Spending::default();
		let files = 16 * (16 << 20);
		let max = GIB + GIB / 32 + files + (64 << 20);
		let budget = spending.budget(&root(1));
		assert_eq!(budget.max(), max);
		assert!(!budget.spend(max) && !budget.is_spent());
		assert!(budget.spend(max + 1) && budget.is_spent());
		assert_eq!(bytes_max(u64::MAX), u64::MAX);
	}

	#[test]
	fn several_attempts_cost_together() {
		let spending = Spending::default();
		assert!(!spending.budget(&root(1)).spend(GIB));
		assert!(!spending.budget(&root(2)).spend(GIB), "another one");
		assert!(spending.budget(&root(1)).spend(GIB));
	}

	#[test]
	fn what_was_whole_once_or_was_collected_may_be_fetched_again() {
		let spending = Spending::default();
		let budget = spending.budget(&root(1));
		budget.spend(GIB);
		budget.close();
		assert!(!spending.budget(&root(1)).spend(GIB));
		spending.begin_anew();
		assert!(!spending.budget(&root(1)).spend(GIB));
	}

	#[test]
	fn what_was_too_much_stays_so_while_the_chain_names_it() {
		let spending = Spending::default();
		spending.budget(&root(1)).spend(2 * GIB);
		spending.begin_anew();
		spending.keep_only(&[root(1)]);
		assert!(spending.budget(&root(1)).is_spent());
		spending.keep_only(&[root(2)]);
		assert!(!spending.budget(&root(1)).is_spent());
	}
}
