//! Reports: what nodes sign, and which of it the model believes.
//!
//! Every report is judged here by what stands in it, whoever submits it and on whichever branch it
//! was signed: one that was signed on a lost branch is refused, or right on this one as well.

use super::{MACHINES, Model, REPORT_AGE_MAX, Tale, Verdict, root_of};
use crate::{Call, RestoreOf, RestoreRequests, mock::*};
use backup_primitives::{BlockRef, FailureReason};

/// How many of the reports that were signed may come in again.
const SIGNED_MAX: usize = 24;

/// A report as it was signed.
#[derive(Clone, Debug)]
pub(super) struct Signed {
	pub(super) call: Call<Test>,
	/// Of a restore: what was asked for where it was signed. On another branch the same id may stand
	/// for something else.
	pub(super) restored: Option<RestoreOf<Test>>,
}

impl From<Call<Test>> for Signed {
	fn from(call: Call<Test>) -> Self {
		let restored = match &call {
			Call::report_restore { restore_id, .. } => RestoreRequests::<Test>::get(restore_id),
			_ => None,
		};
		Self { call, restored }
	}
}

impl Tale {
	/// Submit a report, and say whether the model believes it.
	pub(super) fn submit(&mut self, report: Signed) -> Verdict {
		let expected = self.model.believes(&report);
		let recorded = submit(report.call.clone()).is_ok();
		if expected && recorded {
			self.model.follow(&report.call);
		}
		self.keep(report);
		(recorded, expected)
	}

	/// Keep a report that may come in again.
	pub(super) fn keep(&mut self, report: Signed) {
		self.signed.push_front(report);
		self.signed.truncate(SIGNED_MAX);
	}

	/// Submit a report that was submitted before.
	pub(super) fn take_again(&mut self, report: usize) -> Verdict {
		match self.signed.remove(report) {
			Some(report) => self.submit(report),
			None => (true, true),
		}
	}

	pub(super) fn take_record(&mut self, machine: usize, age: u64) -> Verdict {
		let now = self.model.now;
		if !self.model.histories.contains_key(&machine) {
			return (true, true);
		}
		let cid = root_of(&mut self.roots);
		let report = snapshot(MACHINES[machine].0, 0).with(|report| {
			report.cid = cid;
			report.claim.taken_at = now.saturating_sub(age);
			// The older the snapshot, the older the block that its report names: after a re-org
			// both branches may know it.
			report.at = block((now - 1).saturating_sub(age));
		});
		self.submit(report.call().into())
	}

	pub(super) fn take_fail(&mut self, machine: usize) -> Verdict {
		let Some(history) = self.model.histories.get(&machine) else { return (true, true) };
		let slot = self.model.slot(machine, history);
		let report = failure_report(MACHINES[machine].0, slot, FailureReason::VmUnreachable);
		self.submit(report.into())
	}

	pub(super) fn take_report_restore(&mut self, restore: usize, failed: bool) -> Verdict {
		let Some(id) = self.model.nth_restore(restore) else { return (true, true) };
		let call = restore_report(id, failed.then_some(FailureReason::BlockMissing));
		self.submit(call.into())
	}

	pub(super) fn take_report_deleted(&mut self, node: NodeId, machine: usize) -> Verdict {
		match self.model.histories.contains_key(&machine) {
			true => self.submit(deleted_report_of(node, MACHINES[machine].0).into()),
			false => (true, true),
		}
	}
}

/// The machine of a request.
pub(super) fn machine_of(request: RequestId) -> usize {
	MACHINES.iter().position(|(known, _)| *known == request).expect("a machine of the story")
}

impl Model {
	/// Whether a report is right at this block.
	fn believes(&self, report: &Signed) -> bool {
		match &report.call {
			Call::add_snapshot { node_id, snapshot_cid, request_id, claim, at, .. } => {
				let machine = machine_of(*request_id);
				self.knows(at)
					&& self.histories.get(&machine).is_some_and(|history| {
						history.salt == claim.salt
							&& self.hosts[machine] == *node_id
							&& self.next[machine] == claim.sequence
							&& history.kept.values().all(|kept| kept.cid != *snapshot_cid)
							&& self.may_record(machine, claim.taken_at, history)
					})
			}
			Call::report_snapshot_failed {
				node_id, request_id, salt, sequence, slot, at, ..
			} => {
				let machine = machine_of(*request_id);
				self.knows(at)
					&& self.histories.get(&machine).is_some_and(|history| {
						history.salt == *salt
							&& self.hosts[machine] == *node_id
							&& self.next[machine] == *sequence
							&& self.slot(machine, history) == *slot
							&& self.is_due(machine, history)
					})
			}
			Call::report_restore { node_id, restore_id, at, .. } => {
				self.knows(at)
					&& self.restores.get(restore_id).is_some_and(|restore| {
						restore.node == *node_id
							&& report.restored.as_ref().is_some_and(|asked| restore.is(asked))
							&& self.is_open(restore)
					})
			}
			Call::report_deleted { node_id, request_id, salt, until, at, .. } => {
				let machine = machine_of(*request_id);
				self.knows(at)
					&& self.histories.get(&machine).is_some_and(|h| h.salt == *salt)
					&& self.is_awaited(*node_id, machine)
					&& self.next[machine] == *until
					&& self.is_deletion_due(machine)
			}
			Call::report_held { node_id, marks, at, .. } => {
				self.knows(at) && marks.iter().all(|mark| self.believes_mark(*node_id, mark))
			}
			call => unreachable!("{call:?} is no report"),
		}
	}

	/// Whether a report may name a block: a recent one of this branch.
	fn knows(&self, at: &BlockRef) -> bool {
		let is_recent = at.number < self.now && at.number + REPORT_AGE_MAX >= self.now;
		is_recent && at.hash == hash_of(at.number).0
	}

	/// What a report changes that is right.
	fn follow(&mut self, report: &Call<Test>) {
		let now = self.now;
		match report {
			Call::add_snapshot { snapshot_cid, request_id, claim, .. } => {
				self.record(machine_of(*request_id), claim.taken_at, *snapshot_cid);
			}
			Call::report_snapshot_failed { request_id, slot, .. } => {
				let history = self.histories.entry(machine_of(*request_id));
				history.and_modify(|history| history.failed = Some((*slot, now)));
			}
			Call::report_restore { restore_id, .. } => {
				let restore = self.restores.get_mut(restore_id).expect("it is believed");
				restore.is_waiting = false;
				let (machine, sequence) = (restore.machine, restore.sequence);
				self.unlock(machine, sequence);
			}
			Call::report_deleted { node_id, request_id, .. } => {
				self.give_up(*node_id, machine_of(*request_id));
			}
			Call::report_held { node_id, marks, .. } => {
				marks.iter().for_each(|mark| self.follow_mark(*node_id, mark));
			}
			call => unreachable!("{call:?} is no report"),
		}
	}
}
