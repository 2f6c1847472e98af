//! The pallet against a model of it: random stories, and after each step both must agree on
//! whether it was allowed and on what is kept.
//!
//! What passed `authorize` is dispatched at once and must succeed ([`submit`] sees to that), what
//! was refused must leave the state as it was, and every invariant holds after every step.
//!
//! In these stories branches of the chain are lost, the real worker orders and reports, its agents do
//! well or badly, and the pool drops what it likes. Each module here knows one part of what the chain
//! should do; what it may choose freely, such as the nodes that hold copies, is read from the chain.

mod access;
mod deletion;
mod deposits;
mod forks;
mod history;
mod holders;
mod reports;
mod restores;
mod steps;
mod workers;

use super::desk::Desk;
use crate::{ChainSettings, HoldersOf, Lineages, mock::*};
use backup_primitives::Cid;
use forks::Fork;
use frame_support::{assert_ok, traits::Hooks, weights::Weight};
use history::History;
use proptest::prelude::*;
use reports::Signed;
use restores::Restore;
use sp_core::storage::StateVersion;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use steps::{Party, Step, Target, step};
use workers::Agents;

/// Machines by owner.
const MACHINES: [(RequestId, AccountId); 3] = [(7, ALICE), (8, BOB), (9, ALICE)];
const ACCOUNTS: [AccountId; 3] = [ALICE, BOB, CHARLIE];
const NODES: [NodeId; 4] = [NODE, OTHER_NODE, 21, 22];

// The settings of the mock.
const SNAPSHOTS_MAX: usize = 40;
const KEEP: u32 = 3;
const RESTORES_MAX: usize = 2;
const GRANTS_MAX: usize = 2;
const FREQUENCY_MIN: u64 = 10;
const GRACE: u64 = 20;
const DEADLINE: u64 = 30;
const HOLDS_MAX: usize = 6;
const RESTORE_LIFETIME: u64 = 50;
const REPORT_DELAY_MAX: u64 = 500;
const REPORT_AGE_MAX: u64 = 64;
const TOLERANCE: u64 = 2;
const EVICTIONS: usize = 2;
const EVICTION_STEPS: u64 = 4;
const PRUNED_MAX: u32 = 64;
const DELETIONS: usize = 32;
const REPLICAS: usize = 2;
const HOLDERS_MAX: usize = 3;
const REPLACEMENTS_MAX: usize = 4;
const QUOTA_WINDOW: u64 = 100;
const HOLDER_PERIOD: u64 = 20;
const HOLDER_SILENCE: u64 = 60;

// The story begins with these.

/// How old a snapshot must be to be evicted.
const AGE_MIN: u64 = 25;
/// How many blocks lie between two snapshots: few, so that much happens.
const CADENCE: u64 = 20;

/// Whether a step was done, and whether the model allows it.
type Verdict = (bool, bool);

/// What the chain should know.
#[derive(Clone)]
struct Model {
	now: u64,
	histories: BTreeMap<usize, History>,
	next: [u64; MACHINES.len()],
	/// The nodes that machines run on.
	hosts: [NodeId; MACHINES.len()],
	restores: BTreeMap<u64, Restore>,
	restores_begun: u64,
	frequencies: BTreeMap<AccountId, u64>,
	/// When deletions take effect.
	deletions: BTreeMap<AccountId, u64>,
	/// Nodes that may hold copies.
	storage_nodes: BTreeSet<NodeId>,
	/// How many holders were replaced in which window.
	replacements: (u64, usize),
	/// What [`deposits::POOR`] has left.
	purse: u64,
	/// What was put down for histories, in snapshots.
	tickets: BTreeMap<usize, u64>,
}

/// A story as far as it is told: what the chain should know, and what does not go back with it when
/// a branch is lost.
struct Tale {
	model: Model,
	fork: Option<Fork>,
	/// Reports that may come in again, the last one first.
	signed: VecDeque<Signed>,
	/// How many roots there were.
	roots: u64,
	/// The highest block of a branch that was lost.
	best: u64,
	agents: Agents,
	desk: Desk,
}

impl Model {
	/// All machines run and are backed up, and nothing else has happened.
	fn begin_story() -> Self {
		let settings = ChainSettings { min_age: AGE_MIN, frequency: CADENCE, ..Backup::settings() };
		assert_ok!(Backup::set_settings(RuntimeOrigin::root(), settings));
		let mut model = Self {
			now: 1,
			histories: BTreeMap::new(),
			next: [0; MACHINES.len()],
			hosts: [NODE; MACHINES.len()],
			restores: BTreeMap::new(),
			restores_begun: 0,
			frequencies: BTreeMap::new(),
			deletions: BTreeMap::new(),
			storage_nodes: BTreeSet::new(),
			replacements: (0, 0),
			purse: deposits::PURSE,
			tickets: BTreeMap::new(),
		};
		for node in NODES {
			World::add_node(node);
		}
		for node in &NODES[2..] {
			assert_eq!(model.take_admit(*node), (true, true));
		}
		World::impoverish(deposits::POOR, deposits::PURSE);
		for (machine, (request, owner)) in MACHINES.into_iter().enumerate() {
			begin(request, owner);
			assert!(model.begin(machine));
		}
		model
	}

	fn has_backups(&self, who: AccountId) -> bool {
		self.histories.keys().any(|machine| owner(*machine) == who)
	}

	fn take_pass(&mut self, blocks: u64) -> Verdict {
		skip(blocks);
		self.now += blocks;
		(true, true)
	}

	fn take_idle(&mut self) -> Verdict {
		Backup::on_idle(self.now, Weight::MAX);
		self.follow_idle_restores();
		self.follow_idle_deletions();
		self.follow_idle_holders();
		(true, true)
	}

	/// Check that the chain keeps what the model keeps.
	fn compare(&self) {
		for (machine, (request, _)) in MACHINES.iter().enumerate() {
			let found: Vec<_> = crate::mock::history(*request, u32::MAX)
				.0
				.into_iter()
				.map(|(sequence, record)| (sequence, record.cid, record.node))
				.collect();
			let history = self.histories.get(&machine);
			let expected: Vec<_> = history
				.iter()
				.flat_map(|history| {
					history.kept.iter().map(|(at, kept)| (*at, kept.cid, kept.node))
				})
				.collect();
			assert_eq!(found, expected, "what request {request} keeps");
			let found = Lineages::<Test>::get(request).map(|l| (l.node, l.salt, l.next));
			let expected =
				history.map(|history| (self.hosts[machine], history.salt, self.next[machine]));
			assert_eq!(found, expected, "where request {request} is");
			let found = HoldersOf::<Test>::get(request).into_inner();
			let expected = history.map_or(Vec::new(), |history| history.holders.clone());
			assert_eq!(found, expected, "who holds copies of {request}");
		}
		let found: BTreeMap<_, _> = crate::RestoreRequests::<Test>::iter()
			.map(|(id, restore)| {
				let is_waiting = restore.state == crate::RestoreState::Requested;
				(id, (restore.node, restore.cid, is_waiting))
			})
			.collect();
		let expected: BTreeMap<_, _> = self
			.restores
			.iter()
			.map(|(id, restore)| (*id, (restore.node, restore.cid, restore.is_waiting)))
			.collect();
		assert_eq!(found, expected);
		assert_eq!(World::units(deposits::POOR), self.purse);
	}
}

impl Tale {
	fn begin(desk: Desk) -> Self {
		desk.open();
		Self {
			model: Model::begin_story(),
			fork: None,
			signed: VecDeque::new(),
			roots: 0,
			best: 0,
			agents: Agents::default(),
			desk,
		}
	}

	/// Tell how it goes on: both do the step and must agree.
	fn go_on(&mut self, step: &Step) {
		let before = state_root();
		let (done, expected) = self.take(step);
		assert_eq!(done, expected, "{step:?} at block {}", self.model.now);
		if !done {
			assert_eq!(state_root(), before, "{step:?} was refused and changed the state");
		}
		assert_eq!(Backup::do_try_state(), Ok(()), "after {step:?}");
		self.model.compare();
	}

	/// Carry a step out on the chain, and say whether the model allows it.
	fn take(&mut self, step: &Step) -> Verdict {
		let model = &mut self.model;
		match *step {
			Step::Pass { blocks } => model.take_pass(blocks),
			Step::Create { machine } => model.take_create(machine),
			Step::Record { machine, age } => self.take_record(machine, age),
			Step::Fail { machine } => self.take_fail(machine),
			Step::Ask { machine } => model.take_ask(machine),
			Step::Restore { who, machine, place, wish } => {
				model.take_restore(ACCOUNTS[who], machine, place, wish)
			}
			Step::ReportRestore { restore, failed } => self.take_report_restore(restore, failed),
			Step::Close { who, restore } => model.take_close(who, restore),
			Step::Grant { machine, to, blocks } => {
				let until = blocks.map(|blocks| model.now + blocks);
				model.take_grant(machine, ACCOUNTS[to], until)
			}
			Step::Revoke { who, machine, from } => {
				model.take_revoke(ACCOUNTS[who], machine, ACCOUNTS[from])
			}
			Step::Settings { machine, keep_last, paused } => {
				model.take_settings(machine, keep_last, paused)
			}
			Step::Frequency { who, blocks } => model.take_frequency(ACCOUNTS[who], blocks),
			Step::Hold { party, machine, place } => model.take_hold(party, machine, place),
			Step::Release { party, machine, place } => model.take_release(party, machine, place),
			Step::Prune { machine, limit } => model.take_prune(machine, limit),
			Step::Delete { target } => model.take_delete(target),
			Step::Cancel { party, target } => model.take_cancel(party, target),
			Step::ReportDeleted { node, machine } => self.take_report_deleted(NODES[node], machine),
			Step::CloseLate { machine, place } => model.take_close_late(machine, place),
			Step::Move { machine, to } => model.take_move(machine, NODES[to]),
			Step::Reclaim { machine } => model.take_reclaim(machine),
			Step::Admit { node } => model.take_admit(NODES[node]),
			Step::Dismiss { node } => model.take_dismiss(NODES[node]),
			Step::Say { node, machine, from, missing } => {
				self.take_say(NODES[node], machine, from, missing)
			}
			Step::Replace { machine } => model.take_replace(machine),
			Step::Idle => model.take_idle(),
			Step::Again { report } => self.take_again(report),
			Step::Work { luck, drops } => self.take_work(luck, drops),
			Step::Fork => self.take_fork(),
			Step::Settle => self.take_settle(),
			Step::GoBack => self.take_go_back(),
		}
	}
}

fn owner(machine: usize) -> AccountId {
	MACHINES[machine].1
}

fn origin(party: Party) -> RuntimeOrigin {
	match party {
		None => RuntimeOrigin::root(),
		Some(who) => signed(ACCOUNTS[who]),
	}
}

/// A root that no snapshot has, on no branch, by how many there were.
fn root_of(roots: &mut u64) -> Cid {
	*roots += 1;
	let mut digest = [0; 32];
	digest[..8].copy_from_slice(&roots.to_le_bytes());
	Cid::dag_cbor(digest)
}

fn state_root() -> Vec<u8> {
	sp_io::storage::root(StateVersion::V1)
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(48))]

	#[test]
	fn the_pallet_does_what_its_model_does(steps in prop::collection::vec(step(), 1..200)) {
		let mut ext = new_test_ext();
		let desk = Desk::beside(&mut ext);
		ext.execute_with(|| {
			let mut tale = Tale::begin(desk);
			for step in &steps {
				tale.go_on(step);
			}
			tale.take_settle();
		});
	}
}
