//! Copies on other nodes. The model knows how many nodes are chosen and which may be, not which of
//! them: that it reads from the chain, and goes on from there.

use super::{
	EVICTION_STEPS, HOLDER_PERIOD, HOLDER_SILENCE, HOLDERS_MAX, History, MACHINES, Model,
	QUOTA_WINDOW, REPLACEMENTS_MAX, REPLICAS, Tale, Verdict, reports::machine_of,
};
use crate::{HoldersOf, mock::*, opaque};
use backup_primitives::{
	job::{Copied, CopyHolder},
	report::Watermark,
};

/// A node that holds copies of a machine, and what it said of them.
pub(super) type Holder = crate::Holder<NodeId, u64>;

/// The holders of a machine after a choice: those that stay, in their order, and new ones behind
/// them.
struct Choice {
	stay: Vec<Holder>,
	added: usize,
	/// How many of the new ones count as replacements.
	replacements: usize,
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

	/// The newest snapshot of a history that another node has, if any: where what holders said ends,
	/// or shortly below.
	pub(super) fn newest_confirmed(&self, history: &History) -> Option<u64> {
		let said =
			history.holders.iter().filter(|h| h.to > h.from).map(|holder| holder.to).max()?;
		let near = said.saturating_sub(EVICTION_STEPS)..said;
		history.kept.range(near).next_back().map(|(sequence, _)| *sequence)
	}

	/// What the host is told of copies.
	pub(super) fn copied(&self, machine: usize) -> Copied {
		let history = &self.histories[&machine];
		let heard = history.holders.iter().filter(|h| h.to > h.from && !self.is_silent(h));
		let confirmed = heard.map(|holder| holder.to - 1).max();
		let first = confirmed.map_or(0, |newest| newest + 1);
		let waits = !history.kept.is_empty() && first < self.next[machine];
		let since = history.kept.get(&first).map_or(history.created_at, |kept| kept.recorded_at);
		let allowed = self.frequency(machine) + HOLDER_PERIOD;
		let told = history.holders.iter().map(|holder| CopyHolder {
			node: opaque(&holder.node),
			confirmed: (holder.to > holder.from).then(|| holder.to - 1),
			is_silent: self.is_silent(holder),
		});
		let holders = told.collect::<Vec<_>>().try_into().unwrap();
		Copied { confirmed, is_late: waits && self.now - since > allowed, holders }
	}

	/// The storage nodes that may hold one more copy of a machine.
	fn candidates(&self, machine: usize, taken: &[NodeId]) -> Vec<NodeId> {
		let is_free = |node: &NodeId| *node != self.hosts[machine] && !taken.contains(node);
		self.storage_nodes.iter().copied().filter(is_free).collect()
	}

	/// How many more nodes may hold a copy beside these and so many others.
	fn free(&self, machine: usize, stay: &[Holder], added: usize) -> usize {
		let taken: Vec<_> = stay.iter().map(|holder| holder.node).collect();
		self.candidates(machine, &taken).len().saturating_sub(added)
	}

	/// A machine gets the holders that it lacks.
	pub(super) fn choose_holders(&mut self, machine: usize) {
		let stay = self.histories[&machine].holders.clone();
		let lacking = REPLICAS.saturating_sub(stay.len());
		let added = self.free(machine, &stay, 0).min(lacking);
		self.adopt(machine, Choice { stay, added, replacements: 0 });
	}

	/// A host is no holder of its own copies.
	pub(super) fn drop_host(&mut self, machine: usize) {
		let host = self.hosts[machine];
		let history = self.histories.get_mut(&machine).expect("seen by the caller");
		let before = history.holders.len();
		history.holders.retain(|holder| holder.node != host);
		if history.holders.len() < before && self.is_free(machine) {
			self.choose_holders(machine);
		}
	}

	/// Read the nodes that the chain chose, which are storage nodes, each once, and not the host.
	fn adopt(&mut self, machine: usize, choice: Choice) {
		let chosen: Vec<NodeId> =
			HoldersOf::<Test>::get(MACHINES[machine].0).iter().map(|h| h.node).collect();
		let Choice { stay: mut holders, added, .. } = choice;
		assert_eq!(chosen.len(), holders.len() + added, "holders of {machine}");
		for (found, stays) in chosen.iter().zip(&holders) {
			assert_eq!(*found, stays.node, "who stays stands first");
		}
		for node in chosen[holders.len()..].iter().copied() {
			let may_hold = self.storage_nodes.contains(&node) && node != self.hosts[machine];
			assert!(may_hold, "{node} may not hold it");
			assert_eq!(chosen.iter().filter(|other| **other == node).count(), 1);
			holders.push(Holder { node, since: self.now, from: 0, to: 0, confirmed_at: None });
		}
		self.histories.get_mut(&machine).expect("seen by the caller").holders = holders;
	}

	pub(super) fn take_replace(&mut self, machine: usize) -> Verdict {
		let choice = self.choice(machine);
		let expected = choice.is_some();
		let replaced = Backup::replace_holders(signed(CHARLIE), MACHINES[machine].0).is_ok();
		if let Some(choice) = choice.filter(|_| replaced) {
			self.carry_out(machine, choice);
		}
		(replaced, expected)
	}

	/// Idle time replaces all holders that can be replaced, in the chain's order of requests: there
	/// are fewer machines than one block looks at.
	pub(super) fn follow_idle_holders(&mut self) {
		let order: Vec<RequestId> = crate::Lineages::<Test>::iter_keys().collect();
		for machine in order.into_iter().map(machine_of) {
			if let Some(choice) = self.choice(machine) {
				self.carry_out(machine, choice);
			}
		}
	}

	/// Who holds a machine's copies after a replacement, if there is anything to replace and the
	/// quota allows it.
	fn choice(&self, machine: usize) -> Option<Choice> {
		let choice = self.is_free(machine).then(|| self.plan_replacement(machine))?;
		let before = self.histories[&machine].holders.len();
		let is_other = choice.added > 0 || choice.stay.len() < before;
		let count = self.replaced_in_window() + choice.replacements;
		(is_other && count <= REPLACEMENTS_MAX).then_some(choice)
	}

	fn carry_out(&mut self, machine: usize, choice: Choice) {
		if choice.replacements > 0 {
			let count = self.replaced_in_window() + choice.replacements;
			self.replacements = (self.window(), count);
		}
		self.adopt(machine, choice);
	}

	fn window(&self) -> u64 {
		self.now - self.now % QUOTA_WINDOW
	}

	fn replaced_in_window(&self) -> usize {
		let (begun, count) = self.replacements;
		if begun == self.window() { count } else { 0 }
	}

	fn is_good(&self, holder: &Holder) -> bool {
		self.storage_nodes.contains(&holder.node) && !self.is_silent(holder)
	}

	/// New holders come as long as there are too few that are heard of and admitted. Others go to
	/// make room, those with the least first, or when one that stays has as much as they have. How
	/// many there are does not depend on which are chosen.
	fn plan_replacement(&self, machine: usize) -> Choice {
		let mut stay = self.histories[&machine].holders.clone();
		let (mut added, mut replacements) = (0, 0);
		let good = |stay: &[Holder]| stay.iter().filter(|holder| self.is_good(holder)).count();
		while good(&stay) + added < REPLICAS && self.free(machine, &stay, added) > 0 {
			if stay.len() + added == HOLDERS_MAX {
				let bad = (0..stay.len()).filter(|slot| !self.is_good(&stay[*slot]));
				let bad: Vec<_> = bad.collect();
				let Some(least) = bad.iter().copied().min_by_key(|slot| stay[*slot].to) else {
					break;
				};
				if bad.len() == 1 && stay[least].to > stay[least].from {
					break;
				}
				stay.remove(least);
			}
			replacements += usize::from(good(&stay) < stay.len());
			added += 1;
		}
		if good(&stay) + added >= REPLICAS {
			let has_something = |holder: &Holder| holder.to > holder.from;
			let best = stay.iter().filter(|h| self.is_good(h) && has_something(h)).map(|h| h.to);
			let best = best.max().unwrap_or(0);
			stay.retain(|h| self.is_good(h) || has_something(h) && h.to > best);
		}
		Choice { stay, added, replacements }
	}

	/// Whether what a holder says of a copy is believed.
	pub(super) fn believes_mark(&self, node: NodeId, mark: &Watermark) -> bool {
		let machine = machine_of(mark.lineage.request.decode_as().expect("a request"));
		let history = self.histories.get(&machine).filter(|h| h.salt == mark.lineage.salt);
		let holder = history.and_then(|history| history.holder(node));
		holder.is_some_and(|holder| {
			let may_speak = holder.confirmed_at.is_none_or(|at| at + HOLDER_PERIOD <= self.now);
			let ends_well = mark.from == mark.to
				|| self.histories[&machine].kept.contains_key(&(mark.to.saturating_sub(1)));
			mark.from <= mark.to
				&& mark.to <= self.next[machine]
				&& ends_well && (may_speak || mark.to < holder.to)
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
