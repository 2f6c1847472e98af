//! Copies on other nodes. The model knows how many nodes are chosen and which may be, not which of
//! them: that it reads from the chain, and goes on from there.

use super::{
	HOLDER_PERIOD, HOLDER_SILENCE, History, MACHINES, Model, QUOTA_WINDOW, REPLACEMENTS_MAX,
	REPLICAS, Tale, Verdict, reports::machine_of,
};
use crate::{HoldersOf, mock::*};
use backup_primitives::report::Watermark;

/// A node that holds copies of a machine, and what it said of them.
pub(super) type Holder = crate::Holder<NodeId, u64>;

/// Which of the holders are replaced, and how many more there are then.
struct Replacement {
	is_replaced: Vec<bool>,
	added: usize,
}

impl History {
	pub(super) fn holder(&self, node: NodeId) -> Option<&Holder> {
		self.holders.iter().find(|holder| holder.node == node)
	}
}

impl Model {
	pub(super) fn take_admit(&mut self, node: NodeId) -> Verdict {
		let expected = self.storage_nodes.insert(node);
		(Backup::admit_storage_node(RuntimeOrigin::root(), node).is_ok(), expected)
	}

	pub(super) fn take_dismiss(&mut self, node: NodeId) -> Verdict {
		let expected = self.storage_nodes.remove(&node);
		(Backup::dismiss_storage_node(RuntimeOrigin::root(), node).is_ok(), expected)
	}

	fn is_silent(&self, holder: &Holder) -> bool {
		holder.confirmed_at.unwrap_or(holder.since) + HOLDER_SILENCE < self.now
	}

	/// The newest snapshot of a history that another node has, if any.
	pub(super) fn newest_confirmed(&self, history: &History) -> Option<u64> {
		let heard = history.holders.iter().filter(|h| h.to > h.from && !self.is_silent(h));
		heard.map(|holder| holder.to - 1).max()
	}

	/// The storage nodes that may hold one more copy of a machine.
	fn candidates(&self, machine: usize, taken: &[NodeId]) -> Vec<NodeId> {
		let is_free = |node: &NodeId| *node != self.hosts[machine] && !taken.contains(node);
		self.storage_nodes.iter().copied().filter(is_free).collect()
	}

	/// How many holders a machine gets beside these.
	fn lacking(&self, machine: usize, taken: &[NodeId]) -> usize {
		self.candidates(machine, taken).len().min(REPLICAS.saturating_sub(taken.len()))
	}

	/// A machine gets the holders that it lacks.
	pub(super) fn choose_holders(&mut self, machine: usize) {
		let holders = &self.histories[&machine].holders;
		let taken: Vec<_> = holders.iter().map(|holder| holder.node).collect();
		let added = self.lacking(machine, &taken);
		self.adopt(machine, &Replacement { is_replaced: vec![false; taken.len()], added });
	}

	/// A host is no holder of its own copies.
	pub(super) fn drop_host(&mut self, machine: usize) {
		let host = self.hosts[machine];
		let history = self.histories.get_mut(&machine).expect("seen by the caller");
		let before = history.holders.len();
		history.holders.retain(|holder| holder.node != host);
		if history.holders.len() < before {
			self.choose_holders(machine);
		}
	}

	/// Read the nodes that the chain chose, which are storage nodes, each once, and not the host.
	fn adopt(&mut self, machine: usize, replacement: &Replacement) {
		let chosen: Vec<NodeId> =
			HoldersOf::<Test>::get(MACHINES[machine].0).iter().map(|h| h.node).collect();
		let (now, host) = (self.now, self.hosts[machine]);
		let storage_nodes = &self.storage_nodes;
		let holders = &mut self.histories.get_mut(&machine).expect("seen by the caller").holders;
		assert_eq!(chosen.len(), holders.len() + replacement.added, "holders of {machine}");
		for (slot, node) in chosen.iter().copied().enumerate() {
			if replacement.is_replaced.get(slot) == Some(&false) {
				assert_eq!(node, holders[slot].node, "a holder that is heard of stays");
				continue;
			}
			assert!(storage_nodes.contains(&node) && node != host, "{node} may not hold it");
			assert_eq!(chosen.iter().filter(|other| **other == node).count(), 1);
			let holder = Holder { node, since: now, from: 0, to: 0, confirmed_at: None };
			match holders.get_mut(slot) {
				Some(old) => *old = holder,
				None => holders.push(holder),
			}
		}
	}

	pub(super) fn take_replace(&mut self, machine: usize) -> Verdict {
		let replacement = self.is_free(machine).then(|| self.plan_replacement(machine));
		let window = self.now - self.now % QUOTA_WINDOW;
		let (begun, mut count) = self.replacements;
		if begun != window {
			count = 0;
		}
		let replacement = replacement.filter(|plan| {
			count += plan.is_replaced.iter().filter(|is_replaced| **is_replaced).count();
			let is_any = plan.added > 0 || plan.is_replaced.contains(&true);
			is_any && count <= REPLACEMENTS_MAX
		});
		let replaced = Backup::replace_holders(signed(CHARLIE), MACHINES[machine].0).is_ok();
		if let Some(replacement) = replacement.as_ref().filter(|_| replaced) {
			self.replacements = (window, count);
			self.adopt(machine, replacement);
		}
		(replaced, replacement.is_some())
	}

	/// Holders that are silent or dismissed are replaced, as far as there are others. How many there
	/// are does not depend on which of them are chosen.
	fn plan_replacement(&self, machine: usize) -> Replacement {
		let holders = &self.histories[&machine].holders;
		let mut taken: Vec<_> = holders.iter().map(|holder| holder.node).collect();
		let mut is_replaced = Vec::new();
		for (slot, holder) in holders.iter().enumerate() {
			let is_good = self.storage_nodes.contains(&holder.node) && !self.is_silent(holder);
			let other = self.candidates(machine, &taken).first().copied().filter(|_| !is_good);
			is_replaced.push(other.is_some());
			taken[slot] = other.unwrap_or(holder.node);
		}
		let added = self.lacking(machine, &taken);
		Replacement { is_replaced, added }
	}

	/// Whether what a holder says of a copy is believed.
	pub(super) fn believes_mark(&self, node: NodeId, mark: &Watermark) -> bool {
		let machine = machine_of(mark.lineage.request.decode_as().expect("a request"));
		let history = self.histories.get(&machine).filter(|h| h.salt == mark.lineage.salt);
		let holder = history.and_then(|history| history.holder(node));
		holder.is_some_and(|holder| {
			let may_speak = holder.confirmed_at.is_none_or(|at| at + HOLDER_PERIOD <= self.now);
			mark.from <= mark.to
				&& mark.to <= self.next[machine]
				&& (may_speak || mark.to < holder.to)
		})
	}

	/// A holder said what it has of a copy.
	pub(super) fn follow_mark(&mut self, node: NodeId, mark: &Watermark) {
		let (now, machine) = (self.now, machine_of(mark.lineage.request.decode_as().unwrap()));
		let history = self.histories.get_mut(&machine).expect("it is believed");
		let holder = history.holders.iter_mut().find(|holder| holder.node == node);
		let holder = holder.expect("it is believed");
		(holder.from, holder.to, holder.confirmed_at) = (mark.from, mark.to, Some(now));
	}

	/// Whether a deletion waits for the word of a node: of the host, and of each holder.
	pub(super) fn is_awaited(&self, node: NodeId, machine: usize) -> bool {
		let history = &self.histories[&machine];
		match self.hosts[machine] == node {
			true => !history.is_given_up || history.holders.is_empty(),
			false => history.holder(node).is_some(),
		}
	}

	/// A node has given up what it has of a machine. The records go when all have.
	pub(super) fn give_up(&mut self, node: NodeId, machine: usize) {
		let history = self.histories.get_mut(&machine).expect("it is believed");
		match self.hosts[machine] == node {
			true => history.is_given_up = true,
			false => history.holders.retain(|holder| holder.node != node),
		}
		if history.is_given_up && history.holders.is_empty() {
			self.take_records(machine);
		}
	}
}

impl Tale {
	/// A holder says that it has a machine's snapshots from a place on, but for the newest few.
	pub(super) fn take_say(
		&mut self,
		node: NodeId,
		machine: usize,
		from: u64,
		missing: u64,
	) -> Verdict {
		if !self.model.histories.contains_key(&machine) {
			return (true, true);
		}
		// One more than there is, if nothing is missing.
		let to = (self.model.next[machine] + 1).saturating_sub(missing);
		self.submit(held_report(node, &[(MACHINES[machine].0, from, to)]).into())
	}
}
