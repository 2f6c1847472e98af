//! Whose pins are whose, and what they are called.

use super::*;
use crate::pipeline::{Cancel, copy};
use std::num::NonZero;

/// Another agent at the same daemon, which holds a copy of a snapshot.
fn holder_of(bench: &Bench, root: &Cid) -> Bench {
	let other = Bench::at(bench.daemon.clone(), 0);
	let session = other.world.store.open_session().unwrap();
	let (one, cancel) = (NonZero::<usize>::MIN, Cancel::new());
	copy(&bench.world.store, &*session, root, one, &|_| (), &cancel).unwrap();
	session.flush().unwrap();
	let label = PinLabel::of_copy(&lineage(), 4, &OpaqueId::of(&9u32).unwrap());
	session.pin(root, &label).unwrap();
	other
}

#[test]
fn two_agents_hold_one_root_at_one_daemon_and_each_lets_go_of_its_own() {
	let mut bench = Bench::new(40);
	let root = bench.take();
	let other = holder_of(&bench, &root);
	bench.pass().unwrap();
	bench.daemon.state().imported_bytes = 0;
	other.pass().unwrap();
	let more = bench.daemon.state().imported_bytes;
	assert!(more < CHUNK as u64, "{more} bytes of what is there");
	bench.daemon.count("dag/import");
	for agent in [&bench, &other] {
		assert!(agent.is_pinned(&root));
		agent.pass().unwrap();
		assert_eq!((agent.view().state, agent.view().held), ("whole", 1));
	}
	assert_eq!(bench.daemon.count("dag/import"), 0);
	bench.replicas.give_up(&own(&root)).unwrap();
	bench.pass().unwrap();
	assert!(!bench.is_pinned(&root));
	other.assert_whole(&[root]);
	assert!(other.replicas.has_quorum(&root));
}

#[test]
fn batches_of_two_agents_with_the_same_blocks_are_two() {
	let mut bench = Bench::new(40 * 16);
	let root = bench.take();
	let other = holder_of(&bench, &root);
	for agent in [&bench, &other] {
		bench.daemon.state().imports_left = Some(1);
		agent.pass().unwrap_err();
		bench.daemon.state().is_down = false;
	}
	bench.daemon.state().imports_left = None;
	assert_eq!(bench.daemon.state().pins.len(), 2);
	bench.pass().unwrap();
	bench.daemon.state().collect();
	other.pass().unwrap();
	other.assert_whole(&[root]);
}

#[test]
fn what_others_have_pinned_stays_theirs() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	bench.daemon.state().pins.insert(root, "theirs".into());
	bench.pass().unwrap();
	bench.replicas.give_up(&own(&root)).unwrap();
	bench.pass().unwrap();
	assert_eq!(
		bench.daemon.state().pins.clone().into_iter().collect::<Vec<_>>(),
		[(root, "theirs".to_owned())]
	);
}

#[test]
fn after_a_rotation_new_pins_bear_the_new_name_and_old_ones_are_ours() {
	let mut bench = Bench::new(8);
	let first = bench.take();
	bench.pass().unwrap();
	NodeIdentities::rotate(&bench.folder.path().join("identity")).unwrap();
	bench.start_again();
	let second = bench.take();
	bench.pass().unwrap();
	bench.assert_whole(&[first, second]);
	let hold = bench.replicas.names.holds(&second).next().unwrap().cid();
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	assert_eq!(bench.daemon.state().pins[&hold], bench.replicas.names.name(&series));
	bench.replicas.give_up(&own(&first)).unwrap();
	bench.pass().unwrap();
	bench.assert_whole(&[second]);
}
