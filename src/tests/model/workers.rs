//! Workers: at a best block each node's worker orders what should exist, its agent does some of it,
//! and the worker reports that.
//!
//! Two things must hold: the orders are those of the model, and on a chain that has not changed
//! since, no report of a worker is refused. The pool may drop reports silently; they come in again.

use super::{
	MACHINES, Model, Tale, Verdict, owner,
	reports::{Signed, machine_of},
	restores::Restore,
};
use crate::{Call, Snapshots, mock::*, opaque, tests::desk::nothing};
use backup_primitives::{
	Cid, Consistency, FailureReason, LineageId, OpaqueId, VmTag,
	job::{
		Achieved, CopyOrder, CopyResult, DeletionOrder, DeletionResult, Desired, LineagePlace,
		RestoreOrder, RestorePlace, RestoreResult, SnapshotOrder, SnapshotResult, VmName,
	},
	report::{TakenSnapshot, Watermark},
};
use frame_support::{BoundedVec, pallet_prelude::ConstU32};
use std::collections::BTreeMap;

/// Every how many times that a result is handed out the worker reports it.
const REPORT_EVERY: u32 = 4;

/// How the agents fare with what they have not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
	/// Nothing gets done.
	Slow,
	Good,
	Bad,
}

/// What the agents of all nodes have done. It stays when a branch is lost.
#[derive(Default)]
pub(super) struct Agents {
	snapshots: BTreeMap<(OpaqueId, LineageId, u64), SnapshotResult>,
	restores: BTreeMap<(OpaqueId, u64), (RestoreOrder, RestoreResult)>,
	deletions: BTreeMap<(OpaqueId, LineageId), DeletionResult>,
	/// Behind which sequence they have no more copies.
	copies: BTreeMap<(OpaqueId, LineageId), u64>,
}

/// Hand a result out, and say how often that was done before.
fn hand_out(count: &mut u32) -> u32 {
	core::mem::replace(count, *count + 1)
}

impl Agents {
	/// Do what is ordered of a node, as far as it goes, and answer with all that is done.
	fn reconcile(
		&mut self,
		desired: &Desired,
		luck: Luck,
		mut root: impl FnMut() -> Cid,
	) -> Achieved {
		let node = &desired.node;
		let mut achieved = nothing(desired);
		for order in &desired.snapshots {
			let result = self.snapshot(node, order, desired.now, luck, &mut root);
			result.into_iter().for_each(|result| achieved.snapshots.try_push(result).unwrap());
		}
		for order in &desired.restores {
			let result = self.restore(node, order, luck);
			result.into_iter().for_each(|result| achieved.restores.try_push(result).unwrap());
		}
		for order in &desired.deletions {
			let result = self.delete(node, order, luck);
			result.into_iter().for_each(|result| achieved.deletions.try_push(result).unwrap());
		}
		for order in &desired.copies {
			achieved.copies.try_push(self.copy(node, order, luck)).unwrap();
		}
		achieved
	}

	/// With good luck all copies are there, with bad luck none is.
	fn copy(&mut self, node: &OpaqueId, order: &CopyOrder, luck: Luck) -> CopyResult {
		let to = self.copies.entry((node.clone(), order.lineage.clone())).or_insert(0);
		*to = match luck {
			Luck::Slow => order.next.min(*to),
			Luck::Good => order.next,
			Luck::Bad => 0,
		};
		CopyResult { lineage: order.lineage.clone(), from: 0, to: *to }
	}

	/// A snapshot answers the orders of every slot while the chain would take it, a failure those
	/// of its own.
	fn snapshot(
		&mut self,
		node: &OpaqueId,
		order: &SnapshotOrder,
		now: u64,
		luck: Luck,
		mut root: impl FnMut() -> Cid,
	) -> Option<SnapshotResult> {
		let place = (node.clone(), order.lineage.clone(), order.sequence);
		let is_done = self.snapshots.get(&place).is_some_and(|done| match &done.outcome {
			Ok(taken) => taken.taken_at >= order.oldest_taken_at,
			Err(_) => done.slot >= order.slot,
		});
		if !is_done && luck != Luck::Slow {
			let mut taken = || TakenSnapshot {
				cid: root(),
				taken_at: now,
				logical_bytes: order.capacity_bytes,
				new_bytes: 1_000,
				consistency: Consistency::Application,
				owner_key_version: order.owner_key_version,
			};
			let result = SnapshotResult {
				lineage: order.lineage.clone(),
				sequence: order.sequence,
				slot: order.slot,
				handed_out: 0,
				outcome: match luck {
					Luck::Bad => Err(FailureReason::VmUnreachable),
					Luck::Good | Luck::Slow => Ok(taken()),
				},
			};
			self.snapshots.insert(place.clone(), result);
		} else if !is_done {
			return None;
		}
		let done = self.snapshots.get_mut(&place)?;
		let handed_out = hand_out(&mut done.handed_out);
		Some(SnapshotResult { handed_out, ..done.clone() })
	}

	/// A restore is done once; after a re-org the same id may stand for another one.
	fn restore(
		&mut self,
		node: &OpaqueId,
		order: &RestoreOrder,
		luck: Luck,
	) -> Option<RestoreResult> {
		let place = (node.clone(), order.restore);
		let is_done = self.restores.get(&place).is_some_and(|(done, _)| done == order);
		if !is_done && luck != Luck::Slow {
			let result = RestoreResult {
				restore: order.restore,
				lineage: order.lineage.clone(),
				handed_out: 0,
				failure: (luck == Luck::Bad).then_some(FailureReason::BlockMissing),
			};
			self.restores.insert(place.clone(), (order.clone(), result));
		} else if !is_done {
			return None;
		}
		let (_, done) = self.restores.get_mut(&place)?;
		let handed_out = hand_out(&mut done.handed_out);
		Some(RestoreResult { handed_out, ..done.clone() })
	}

	fn delete(
		&mut self,
		node: &OpaqueId,
		order: &DeletionOrder,
		luck: Luck,
	) -> Option<DeletionResult> {
		let place = (node.clone(), order.lineage.clone());
		let is_done = self.deletions.get(&place).is_some_and(|done| done.until == order.until);
		if !is_done && luck == Luck::Good {
			let (lineage, until) = (order.lineage.clone(), order.until);
			self.deletions.insert(place.clone(), DeletionResult { lineage, until, handed_out: 0 });
		} else if !is_done {
			return None;
		}
		let done = self.deletions.get_mut(&place)?;
		let handed_out = hand_out(&mut done.handed_out);
		Some(DeletionResult { handed_out, ..done.clone() })
	}
}

impl Tale {
	/// Let the workers of all nodes run at this block, if it is the best one: while the branch is
	/// no longer than one that was lost, it is not. The pool drops the first few reports.
	pub(super) fn take_work(&mut self, luck: Luck, drops: usize) -> Verdict {
		if self.model.now <= self.best {
			return (true, true);
		}
		let Self { model, agents, desk, roots, .. } = self;
		let mut expected = 0;
		desk.run_for_all(|desired| {
			let node = desired.node.decode_as().expect("a node of the story");
			compare(node, sorted(desired.clone()), sorted(model.desired(node)));
			let achieved = agents.reconcile(desired, luck, || super::root_of(roots));
			expected += model.reports_of(node, desired, &achieved);
			achieved
		});
		let calls = self.desk.submitted();
		assert_eq!(calls.len(), expected, "reports of what is done: {calls:?}");
		for (place, call) in calls.into_iter().enumerate() {
			let report = Signed::from(call);
			if place < drops {
				self.keep(report);
				continue;
			}
			let is_right = !is_overtaken(&report.call);
			let verdict = self.submit(report.clone());
			assert_eq!(verdict, (is_right, is_right), "a worker reported {report:?}");
		}
		(true, true)
	}
}

/// Whether a report names a range of copies whose last snapshot is not kept any more: one that was
/// reported before it in the same block has evicted it. The holder says so in the next period.
fn is_overtaken(call: &Call<Test>) -> bool {
	let Call::report_held { marks, .. } = call else { return false };
	marks.iter().any(|mark| {
		let request: RequestId = mark.lineage.request.decode_as().expect("a request");
		mark.to > mark.from && !Snapshots::<Test>::contains_key(request, mark.to - 1)
	})
}

/// Check what a worker orders, part by part, so that a difference can be read.
fn compare(node: NodeId, found: Desired, expected: Desired) {
	assert_eq!(found.snapshots, expected.snapshots, "snapshots that {node} orders");
	assert_eq!(found.restores, expected.restores, "restores that {node} orders");
	assert_eq!(found.deletions, expected.deletions, "deletions that {node} orders");
	assert_eq!(found.copies, expected.copies, "copies that {node} orders");
	assert_eq!(found, expected, "what {node} knows of the chain");
}

/// Orders in an order that does not depend on hashes.
fn sorted(mut desired: Desired) -> Desired {
	desired.lineages.sort_by_key(|place| place.lineage.clone());
	desired.snapshots.sort_by_key(|order| order.lineage.clone());
	desired.deletions.sort_by_key(|order| order.lineage.clone());
	desired.copies.sort_by_key(|order| order.lineage.clone());
	desired.restores.sort_by_key(|order| order.restore);
	desired
}

fn vm_of(request: RequestId) -> VmName {
	list(format!("vm-{request}").into_bytes())
}

fn list<T, const MAX: u32>(items: impl IntoIterator<Item = T>) -> BoundedVec<T, ConstU32<MAX>> {
	BoundedVec::truncate_from(items.into_iter().collect())
}

fn restore_order(id: u64, restore: &Restore) -> RestoreOrder {
	let target = MACHINES[restore.wish.target.unwrap_or(restore.machine)].0;
	RestoreOrder {
		restore: id,
		lineage: restore.lineage(),
		sequence: restore.sequence,
		cid: restore.cid,
		owner: opaque(&owner(restore.machine)),
		place: match restore.wish.replaces {
			false => RestorePlace::Aside,
			true => RestorePlace::Replace { vm: vm_of(target), vm_tag: VmTag([target as u8; 16]) },
		},
		envelope: restore.wish.envelope(),
	}
}

impl Model {
	fn lineage(&self, machine: usize) -> LineageId {
		crate::lineage_id(&MACHINES[machine].0, self.histories[&machine].salt)
	}

	/// What should exist on a node.
	fn desired(&self, node: NodeId) -> Desired {
		let hosted = || self.histories.keys().copied().filter(|m| self.hosts[*m] == node);
		let lineages = hosted().map(|machine| LineagePlace {
			lineage: self.lineage(machine),
			next: self.next[machine],
			cadence: self.cadence(machine),
			copied: Some(self.copied(machine)),
		});
		let held = || {
			let is_held = |machine: &usize| self.histories[machine].holder(node).is_some();
			self.histories.keys().copied().filter(is_held)
		};
		let copies = held()
			.filter(|machine| !self.is_deletion_due(*machine))
			.map(|machine| self.copy_order(node, machine));
		let gone = hosted().chain(held()).filter(|machine| self.is_deletion_due(*machine));
		let deletions = gone.map(|machine| DeletionOrder {
			lineage: self.lineage(machine),
			until: self.next[machine],
		});
		let restores = self
			.restores
			.iter()
			.filter(|(_, restore)| restore.node == node && self.is_open(restore))
			.map(|(id, restore)| restore_order(*id, restore));
		Desired {
			genesis: hash_of(0).0,
			node: opaque(&node),
			at: block(self.now),
			now: self.now,
			snapshots: list(hosted().filter_map(|machine| self.snapshot_order(machine))),
			restores: list(restores),
			deletions: list(deletions),
			copies: list(copies),
			lineages: list(lineages),
		}
	}

	/// What a holder is to have, from the host first, then from the other holders.
	fn copy_order(&self, node: NodeId, machine: usize) -> CopyOrder {
		let others = self.histories[&machine].holders.iter().map(|holder| holder.node);
		let sources = core::iter::once(self.hosts[machine]).chain(others.filter(|n| *n != node));
		CopyOrder {
			lineage: self.lineage(machine),
			owner: opaque(&owner(machine)),
			next: self.next[machine],
			sources: list(sources.map(source)),
		}
	}

	fn snapshot_order(&self, machine: usize) -> Option<SnapshotOrder> {
		let (history, sequence) = (&self.histories[&machine], self.next[machine]);
		let (request, owner) = MACHINES[machine];
		let parent = sequence.checked_sub(1).and_then(|last| history.kept.get(&last));
		self.is_due(machine, history).then(|| SnapshotOrder {
			lineage: self.lineage(machine),
			sequence,
			slot: self.slot(machine, history),
			owner: opaque(&owner),
			vm: vm_of(request),
			vm_tag: VmTag([request as u8; 16]),
			owner_recipients: vec![key(owner as u8)].try_into().unwrap(),
			owner_key_version: 1,
			node_recipient: key(self.hosts[machine] as u8),
			capacity_bytes: DISK_BYTES,
			parent: parent.map(|kept| kept.cid),
			oldest_taken_at: self.oldest_taken_at(machine, history),
		})
	}

	/// How many reports a worker should make of what its agent has done.
	fn reports_of(&self, node: NodeId, desired: &Desired, achieved: &Achieved) -> usize {
		let is_time = |handed_out: u32| handed_out.is_multiple_of(REPORT_EVERY);
		let snapshots = achieved.snapshots.iter().filter(|result| {
			let is_of_slot = desired
				.snapshots
				.iter()
				.any(|order| order.slot == result.slot && order.lineage == result.lineage);
			is_time(result.handed_out) && (result.outcome.is_ok() || is_of_slot)
		});
		let restores = achieved.restores.iter().filter(|result| is_time(result.handed_out));
		let deletions = achieved.deletions.iter().filter(|result| {
			let machine = machine_of(result.lineage.request.decode_as().unwrap());
			is_time(result.handed_out) && self.is_awaited(node, machine)
		});
		// All copies in one, every few blocks.
		let is_news = |copy: &CopyResult| {
			let CopyResult { lineage, from, to } = copy.clone();
			self.believes_mark(node, &Watermark { lineage, from, to })
		};
		let has_news =
			self.now.is_multiple_of(REPORT_EVERY.into()) && achieved.copies.iter().any(is_news);
		snapshots.count() + restores.count() + deletions.count() + usize::from(has_news)
	}
}
