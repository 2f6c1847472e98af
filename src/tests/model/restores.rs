//! Restores: who may ask for which, who carries it out, how long it waits, and when it is over.

use super::{ACCOUNTS, MACHINES, Model, RESTORE_LIFETIME, RESTORES_MAX, Verdict, owner};
use crate::{RestoreOf, RestoreOptions, mock::*};
use backup_primitives::{
	Cid, LineageId,
	job::{Envelope, RestoreMode},
};

/// What is asked for beside a snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
	/// Whether the disks of a machine are replaced.
	pub(super) replaces: bool,
	/// A machine that it is meant for.
	pub(super) target: Option<usize>,
	/// Whether a key comes with it that opens the snapshot on any node.
	pub(super) has_envelope: bool,
}

impl Wish {
	fn mode(self) -> RestoreMode {
		match self.replaces {
			true => RestoreMode::Replace,
			false => RestoreMode::Aside,
		}
	}

	pub(super) fn envelope(self) -> Option<Envelope> {
		self.has_envelope.then(|| b"sealed".to_vec().try_into().unwrap())
	}

	/// The machine that is meant, if one is, of a snapshot of another or the same.
	pub(super) fn target(self, machine: usize) -> Option<usize> {
		let names_one = self.replaces || self.target.is_some();
		names_one.then(|| self.target.unwrap_or(machine))
	}
}

/// What the model knows of a restore.
#[derive(Clone, Debug)]
pub(super) struct Restore {
	pub(super) requester: AccountId,
	pub(super) machine: usize,
	/// That of its history, which may be gone.
	pub(super) salt: [u8; 32],
	pub(super) sequence: u64,
	pub(super) cid: Cid,
	pub(super) wish: Wish,
	/// Who carries it out.
	pub(super) node: NodeId,
	pub(super) asked_at: u64,
	pub(super) is_waiting: bool,
}

impl Restore {
	/// Whether this is what was asked for elsewhere.
	pub(super) fn is(&self, asked: &RestoreOf<Test>) -> bool {
		let wish = self.wish;
		let request = |machine: usize| MACHINES[machine].0;
		asked.requester == self.requester
			&& (asked.request_id, asked.salt) == (request(self.machine), self.salt)
			&& (asked.sequence, asked.cid) == (self.sequence, self.cid)
			&& (asked.node, asked.requested_at) == (self.node, self.asked_at)
			&& (asked.mode, asked.target) == (wish.mode(), wish.target.map(request))
			&& asked.envelope == wish.envelope()
	}

	pub(super) fn lineage(&self) -> LineageId {
		crate::lineage_id(&MACHINES[self.machine].0, self.salt)
	}
}

impl Model {
	pub(super) fn is_open(&self, restore: &Restore) -> bool {
		let owns = restore.requester == owner(restore.machine);
		let history = self.histories.get(&restore.machine);
		let since = history.and_then(|history| history.access_since(restore.requester, self.now));
		let target = restore.wish.target(restore.machine);
		restore.is_waiting
			&& self.now < restore.asked_at + RESTORE_LIFETIME
			&& target.is_none_or(|target| self.hosts[target] == restore.node)
			&& (owns || since.is_some_and(|since| since <= restore.asked_at))
	}

	/// Whether everyone may take the record of a restore away.
	pub(super) fn is_over(&self, restore: &Restore) -> bool {
		self.now >= restore.asked_at + RESTORE_LIFETIME
			|| restore.is_waiting && !self.is_open(restore)
	}

	/// The restore that a step means.
	pub(super) fn nth_restore(&self, restore: usize) -> Option<u64> {
		self.restores.keys().copied().nth(restore)
	}

	pub(super) fn take_restore(
		&mut self,
		who: AccountId,
		machine: usize,
		place: u64,
		wish: Wish,
	) -> Verdict {
		let request = MACHINES[machine].0;
		let history = self.histories.get(&machine);
		let sequence = history.map_or(0, |history| history.place(place));
		let asked = self.restore_of(who, machine, sequence, wish);
		let asked = asked.filter(|_| self.pay(who, 0, 1));
		let expected = asked.is_some();
		if let Some(restore) = asked {
			self.restores.insert(self.restores_begun, restore);
			self.restores_begun += 1;
		}
		let options = RestoreOptions {
			mode: wish.mode(),
			target: wish.target.map(|target| MACHINES[target].0),
			envelope: wish.envelope(),
		};
		(Backup::restore_snapshot(signed(who), request, sequence, options).is_ok(), expected)
	}

	/// The restore that somebody asks for, if it may be.
	fn restore_of(
		&self,
		who: AccountId,
		machine: usize,
		sequence: u64,
		wish: Wish,
	) -> Option<Restore> {
		let history = self.histories.get(&machine)?;
		let snapshot = history.kept.get(&sequence)?;
		let count = self.restores.values().filter(|restore| restore.requester == who).count();
		let target = wish.target(machine);
		// Who was let in may look at a machine, not change one.
		let is_let_in = target.is_none() && history.access_since(who, self.now).is_some();
		let may = (who == owner(machine) || is_let_in)
			&& target.is_none_or(|target| owner(target) == owner(machine));
		// Without an envelope only who sealed it can open it.
		let node = match target {
			Some(target) => self.hosts[target],
			None if wish.has_envelope => self.hosts[machine],
			None => snapshot.node,
		};
		let can = wish.has_envelope || node == snapshot.node;
		let is_deleted =
			self.deletion_of(machine, history).is_some() || history.dooms.contains_key(&sequence);
		(may && can && !is_deleted && count < RESTORES_MAX).then_some(Restore {
			requester: who,
			machine,
			salt: history.salt,
			sequence,
			cid: snapshot.cid,
			wish,
			node,
			asked_at: self.now,
			is_waiting: true,
		})
	}

	pub(super) fn take_close(&mut self, who: usize, restore: usize) -> Verdict {
		let Some(id) = self.nth_restore(restore) else { return (true, true) };
		let (who, restore) = (ACCOUNTS[who], self.restores[&id].clone());
		let expected =
			who == restore.requester || who == owner(restore.machine) || self.is_over(&restore);
		if expected {
			self.close(id);
		}
		(Backup::close_restore(signed(who), id).is_ok(), expected)
	}

	/// The record of a restore goes.
	fn close(&mut self, id: u64) {
		let restore = self.restores.remove(&id).expect("seen by the caller");
		self.pay(restore.requester, 1, 0);
		// One that was reported let go of the snapshot then.
		if restore.is_waiting {
			self.unlock(restore.machine, restore.sequence);
		}
	}

	/// Idle time takes a few of those that are over, in its own order, and nothing else.
	pub(super) fn follow_idle_restores(&mut self) {
		for (id, restore) in self.restores.clone() {
			if !crate::RestoreRequests::<Test>::contains_key(id) {
				assert!(self.is_over(&restore), "restore {id} was closed before its time");
				self.close(id);
			}
		}
	}
}
