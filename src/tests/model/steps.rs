//! What can happen in a story. Numbers pick among what there is, so that a story stays one when
//! steps are taken out of it.

use super::{ACCOUNTS, MACHINES, NODES, owner, restores::Wish, workers::Luck};
use proptest::prelude::*;

/// One step of a story.
///
/// Three of them concern forks: from `Fork` on blocks may be lost; with `Settle` they are final, with
/// `GoBack` they are lost. `Again` submits a report anew that was signed before, be it on a branch
/// that was lost. With `Work` the workers of all nodes run, and the pool drops their first reports.
/// With `Say` a node says that it has copies, but for the newest few.
#[derive(Clone, Debug)]
pub(super) enum Step {
	Pass { blocks: u64 },
	Create { machine: usize },
	Record { machine: usize, age: u64 },
	Fail { machine: usize },
	Ask { machine: usize },
	Restore { who: usize, machine: usize, place: u64, wish: Wish },
	ReportRestore { restore: usize, failed: bool },
	Close { who: usize, restore: usize },
	Grant { machine: usize, to: usize, blocks: Option<u64> },
	Revoke { who: usize, machine: usize, from: usize },
	Settings { machine: usize, keep_last: Option<u32>, paused: bool },
	Frequency { who: usize, blocks: u64 },
	Hold { party: Party, machine: usize, place: u64 },
	Release { party: Party, machine: usize, place: u64 },
	Prune { machine: usize, limit: u32 },
	Delete { target: Target },
	Cancel { party: Party, target: Target },
	ReportDeleted { node: usize, machine: usize },
	CloseLate { machine: usize, place: Option<u64> },
	Reclaim { machine: usize },
	Move { machine: usize, to: usize },
	Admit { node: usize },
	Dismiss { node: usize },
	Say { node: usize, machine: usize, from: u64, missing: u64 },
	Replace { machine: usize },
	Work { luck: Luck, drops: usize },
	Idle,
	Again { report: usize },
	Fork,
	Settle,
	GoBack,
}

/// Who speaks: governance, or one of the accounts.
pub(super) type Party = Option<usize>;

/// What is deleted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
	Account(usize),
	Machine(usize),
	Snapshot(usize, u64),
}

fn machine() -> impl Strategy<Value = usize> {
	0..MACHINES.len()
}

fn who() -> impl Strategy<Value = usize> {
	0..ACCOUNTS.len()
}

fn node() -> impl Strategy<Value = usize> {
	0..NODES.len()
}

fn place() -> impl Strategy<Value = u64> {
	prop_oneof![3 => 0..2u64, 1 => 2..5u64]
}

fn keep() -> impl Strategy<Value = u32> {
	prop_oneof![3 => 1..5u32, 1 => 0..45u32]
}

/// A machine, and somebody who speaks of it: mostly its owner.
fn owned() -> impl Strategy<Value = (usize, usize)> {
	(machine(), proptest::option::weighted(0.2, who())).prop_map(|(machine, other)| {
		let owner = ACCOUNTS.iter().position(|account| *account == owner(machine));
		(machine, other.or(owner).expect("every owner has an account"))
	})
}

/// A machine, and its owner, governance or somebody else.
fn spoken() -> impl Strategy<Value = (usize, Party)> {
	prop_oneof![
		2 => owned().prop_map(|(machine, who)| (machine, Some(who))),
		1 => machine().prop_map(|machine| (machine, None)),
	]
}

fn party() -> impl Strategy<Value = Party> {
	proptest::option::weighted(0.6, who())
}

fn target() -> impl Strategy<Value = Target> {
	prop_oneof![
		1 => who().prop_map(Target::Account),
		1 => machine().prop_map(Target::Machine),
		6 => (machine(), place()).prop_map(|(machine, place)| Target::Snapshot(machine, place)),
	]
}

/// Any step, the more often the more there is to see in it.
pub(super) fn step() -> impl Strategy<Value = Step> {
	prop_oneof![
		10 => time(),
		10 => work(),
		16 => reports(),
		20 => owners(),
		5 => deletions(),
		8 => holders(),
		4 => forks(),
	]
}

fn time() -> impl Strategy<Value = Step> {
	prop_oneof![
		2 => (1..4u64).prop_map(|blocks| Step::Pass { blocks }),
		6 => (1..40u64).prop_map(|blocks| Step::Pass { blocks }),
		2 => Just(Step::Idle),
	]
}

fn work() -> impl Strategy<Value = Step> {
	let luck = prop_oneof![1 => Just(Luck::Slow), 4 => Just(Luck::Good), 1 => Just(Luck::Bad)];
	let drops = prop_oneof![2 => Just(0), 1 => 1..4usize];
	(luck, drops).prop_map(|(luck, drops)| Step::Work { luck, drops })
}

fn reports() -> impl Strategy<Value = Step> {
	prop_oneof![
		8 => (machine(), 0..4u64).prop_map(|(machine, age)| Step::Record { machine, age }),
		2 => machine().prop_map(|machine| Step::Fail { machine }),
		3 => (0..3usize, any::<bool>())
			.prop_map(|(restore, failed)| Step::ReportRestore { restore, failed }),
		2 => (node(), machine()).prop_map(|(node, machine)| Step::ReportDeleted { node, machine }),
		3 => (0..6usize).prop_map(|report| Step::Again { report }),
	]
}

fn owners() -> impl Strategy<Value = Step> {
	prop_oneof![
		2 => machine().prop_map(|machine| Step::Create { machine }),
		2 => machine().prop_map(|machine| Step::Ask { machine }),
		6 => (owned(), place(), wish()).prop_map(|((machine, who), place, wish)| {
			Step::Restore { who, machine, place, wish }
		}),
		2 => (who(), 0..4usize).prop_map(|(who, restore)| Step::Close { who, restore }),
		2 => (machine(), who(), proptest::option::of(1..80u64))
			.prop_map(|(machine, to, blocks)| Step::Grant { machine, to, blocks }),
		1 => (owned(), who())
			.prop_map(|((machine, who), from)| Step::Revoke { who, machine, from }),
		1 => (machine(), proptest::option::of(keep()), proptest::bool::weighted(0.2)).prop_map(
			|(machine, keep_last, paused)| Step::Settings { machine, keep_last, paused }
		),
		1 => (machine(), 0..70u32).prop_map(|(machine, limit)| Step::Prune { machine, limit }),
		1 => (who(), 5..60u64).prop_map(|(who, blocks)| Step::Frequency { who, blocks }),
		2 => (spoken(), place())
			.prop_map(|((machine, party), place)| Step::Hold { party, machine, place }),
		2 => (spoken(), place())
			.prop_map(|((machine, party), place)| Step::Release { party, machine, place }),
		1 => (machine(), node()).prop_map(|(machine, to)| Step::Move { machine, to }),
		1 => machine().prop_map(|machine| Step::Reclaim { machine }),
	]
}

fn deletions() -> impl Strategy<Value = Step> {
	prop_oneof![
		2 => target().prop_map(|target| Step::Delete { target }),
		1 => (party(), target()).prop_map(|(party, target)| Step::Cancel { party, target }),
		1 => (machine(), proptest::option::weighted(0.7, place()))
			.prop_map(|(machine, place)| Step::CloseLate { machine, place }),
	]
}

fn wish() -> impl Strategy<Value = Wish> {
	let target = proptest::option::of(machine());
	let wish = (any::<bool>(), target, any::<bool>())
		.prop_map(|(replaces, target, has_envelope)| Wish { replaces, target, has_envelope });
	prop_oneof![1 => Just(Wish::default()), 1 => wish]
}

fn holders() -> impl Strategy<Value = Step> {
	prop_oneof![
		2 => node().prop_map(|node| Step::Admit { node }),
		1 => node().prop_map(|node| Step::Dismiss { node }),
		6 => (node(), machine(), prop_oneof![3 => Just(0), 1 => 0..4u64], 0..4u64).prop_map(
			|(node, machine, from, missing)| Step::Say { node, machine, from, missing }
		),
		3 => machine().prop_map(|machine| Step::Replace { machine }),
	]
}

fn forks() -> impl Strategy<Value = Step> {
	prop_oneof![4 => Just(Step::Fork), 1 => Just(Step::Settle), 4 => Just(Step::GoBack)]
}
