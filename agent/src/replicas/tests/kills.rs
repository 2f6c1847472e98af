//! Agents that are killed, at every point at which it makes a difference to a daemon.

use super::*;
use crate::repositories::kubo::IMPORT_TIME_MAX;
use fake::Death;

/// Kill an agent that sends its first snapshot before the daemon has done so many things of it, or
/// before it has heard of the last of them. Nothing if it had less to do.
fn killed_at(number: u32, is_heard: bool) -> Option<(Bench, Cid)> {
	let mut bench = Bench::new(8);
	let root = bench.take();
	let death = if is_heard { Death::Before(number + 1) } else { Death::Behind(number) };
	bench.daemon.state().death = Some(death);
	let _ = bench.pass();
	let mut daemon = bench.daemon.state();
	let has_died = std::mem::take(&mut daemon.is_down);
	daemon.death = None;
	drop(daemon);
	has_died.then_some((bench, root))
}

/// One for each point.
fn all_kills() -> impl Iterator<Item = (Bench, Cid)> {
	let points = (0..).flat_map(|number| [(number, false), (number, true)]);
	points.map_while(|(number, is_heard)| killed_at(number, is_heard))
}

#[test]
fn wherever_a_kill_comes_the_snapshot_is_gone_on_with_and_nothing_else_stays_pinned() {
	let mut count = 0;
	for (mut bench, root) in all_kills() {
		bench.start_again();
		bench.pass().unwrap();
		bench.assert_whole(&[root]);
		bench.replicas.members[0].imports.age(IMPORT_TIME_MAX);
		bench.pass().unwrap();
		assert!(!bench.replicas.may_hold(&lineage()));
		bench.assert_whole(&[root]);
		count += 1;
	}
	assert!(count > 10, "{count} points");
}

#[test]
fn wherever_a_kill_comes_a_deletion_waits_until_nothing_is_pinned() {
	for (mut bench, root) in all_kills() {
		bench.replicas.give_up(&own(&root)).unwrap();
		bench.lose_store();
		assert!(bench.replicas.may_hold(&lineage()), "nobody has looked");
		bench.pass().unwrap();
		let pins = bench.daemon.state().pins.clone();
		assert!(pins.is_empty(), "{pins:?}");
		bench.replicas.members[0].imports.age(IMPORT_TIME_MAX);
		bench.pass().unwrap();
		assert!(!bench.replicas.may_hold(&lineage()));
	}
}

#[test]
fn an_import_that_a_daemon_ends_after_its_agent_was_killed_is_undone() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.daemon.state().death = Some(Death::InImport);
	bench.pass().unwrap_err();
	bench.daemon.state().is_down = false;
	bench.replicas.give_up(&own(&root)).unwrap();
	bench.lose_store();
	bench.pass().unwrap();
	assert!(bench.replicas.may_hold(&lineage()), "it may be at it still");
	bench.daemon.state().end_import();
	assert_eq!(bench.daemon.state().pins.len(), 1);
	bench.pass().unwrap();
	assert!(!bench.replicas.may_hold(&lineage()));
	assert!(bench.daemon.state().pins.is_empty());
}
