//! What comes back, what does not, and when nothing is left.

use super::*;
use crate::{
	peers::{Elsewhere, PeerDirectory, Reach},
	pipeline::Cancel,
	repositories::kubo::IMPORT_TIME_MAX,
};

#[test]
fn a_store_that_lost_its_disk_gets_everything_back_but_what_was_given_up() {
	let mut bench = Bench::new(20);
	let (old, new) = (bench.take(), bench.take());
	bench.pass().unwrap();
	bench.replicas.give_up(&own(&old)).unwrap();
	bench.lose_store();
	bench.pass().unwrap();
	let pins = bench.world.store.pins().unwrap();
	assert_eq!(pins.iter().map(|pin| pin.root).collect::<Vec<_>>(), [new]);
	// The root says 4, whatever the label said.
	let (series, sequence) = names::place(&pins[0].label);
	assert_eq!((names::series(&series).unwrap().lineage, sequence), (lineage(), 4));
	let report = verify(&bench.world.store, &new, Chunks::Hashed, &mut |_| true).unwrap();
	assert!(report.is_good(), "{report:?}");
	assert_eq!((bench.view().lost, bench.replicas.may_hold(&lineage())), (0, false));
	bench.assert_whole(&[new]);
}

#[test]
fn a_root_that_is_pinned_again_is_not_taken_for_given_up() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	let label = bench.world.store.pins().unwrap().remove(0).label;
	bench.pass().unwrap();
	bench.daemon.state().is_down = true;
	bench.replicas.give_up(&own(&root)).unwrap();
	bench.world.store.open_session().unwrap().pin(&root, &label).unwrap();
	bench.pass().unwrap_err();
	assert_eq!(bench.view().releasing, 0);
	// Now what the daemon has is the last copy.
	bench.lose_store();
	bench.daemon.state().is_down = false;
	bench.pass().unwrap();
	assert!(bench.world.store.is_pinned(&root));
	bench.assert_whole(&[root]);
}

#[test]
fn what_was_given_up_and_is_pinned_again_between_note_and_look_stays_there() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	// A kill came between the note and the store's pin.
	bench.replicas.members[0].releases.add(&root, Some(&lineage())).unwrap();
	bench.start_again();
	bench.pass().unwrap();
	assert_eq!(bench.view().releasing, 0);
	bench.assert_whole(&[root]);
}

#[test]
fn a_lost_store_deletes_nothing_before_all_daemons_are_known_and_have_let_go() {
	let mut bench = Bench::new(8);
	let (one, two) = (bench.take(), bench.take());
	bench.pass().unwrap();
	bench.chain.say(&one, RootStatus::Deleted);
	bench.chain.say(&two, RootStatus::Deleted);
	bench.lose_store();
	bench.daemon.state().is_down = true;
	bench.pass().unwrap_err();
	assert!(bench.replicas.may_hold(&lineage()), "nobody has looked");
	bench.daemon.state().is_down = false;
	bench.pass().unwrap();
	assert!(bench.world.store.pins().unwrap().is_empty(), "what is deleted does not come back");
	assert!(bench.replicas.may_hold(&lineage()));
	let mut roots = bench.replicas.roots_elsewhere();
	roots.sort_by_key(|root| root.cid != one);
	assert_eq!(roots.iter().map(|root| root.cid).collect::<Vec<_>>(), [one, two]);
	assert!(roots.iter().all(|root| root.lineage == lineage() && root.sequence == 4));
	for root in roots {
		assert!(bench.replicas.may_hold(&lineage()));
		bench.replicas.give_up(&root).unwrap();
		bench.pass().unwrap();
	}
	assert!(!bench.replicas.may_hold(&lineage()));
	assert!(bench.daemon.state().pins.is_empty());
}

#[test]
fn blocks_on_their_way_hold_the_deletion_of_their_snapshot() {
	let mut bench = Bench::new(40 * 16);
	let root = bench.take();
	bench.daemon.state().imports_left = Some(1);
	bench.pass().unwrap_err();
	bench.daemon.state().imports_left = None;
	bench.replicas.give_up(&own(&root)).unwrap();
	bench.lose_store();
	assert!(bench.replicas.may_hold(&lineage()));
	bench.daemon.state().is_down = false;
	bench.pass().unwrap();
	assert!(bench.daemon.state().pins.is_empty());
	assert!(bench.replicas.may_hold(&lineage()), "the daemon may be at an import still");
	bench.replicas.members[0].imports.age(IMPORT_TIME_MAX);
	bench.pass().unwrap();
	assert!(!bench.replicas.may_hold(&lineage()));
}

#[test]
fn what_the_chain_does_not_know_is_not_fetched_back_whatever_its_name() {
	let mut bench = Bench::new(8);
	let own = bench.take();
	bench.pass().unwrap();
	// Another's snapshot of the same request, pinned by somebody under our name.
	let mut other = Bench::at(bench.daemon.clone(), 30);
	let forged = other.take();
	other.pass().unwrap();
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	let hold = bench.replicas.names.holds(&forged).next().unwrap();
	bench.daemon.state().forge(&hold.encode(), &hold.cid(), bench.replicas.names.name(&series));
	bench.chain.say(&forged, RootStatus::Unknown);
	bench.daemon.count("block/get");
	bench.pass().unwrap();
	let asked = bench.daemon.count("block/get");
	assert!(asked < 25, "{asked} blocks were read of a forged root");
	assert!(!bench.world.store.is_pinned(&forged) && bench.view().lost == 1);
	// Nor while nobody can be asked.
	bench.chain.state().is_unbound = true;
	let error = bench.pass().unwrap_err();
	assert!(error.contains("no worker has spoken yet"), "{error}");
	assert!(bench.world.store.is_pinned(&own));
}

#[test]
fn a_pin_of_our_name_that_is_no_snapshot_is_named() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	let name = bench.replicas.names.name(&series);
	let no_hold = Cid::dag_cbor(crate::format::digest(b"\xa0"));
	bench.daemon.state().forge(b"\xa0", &no_hold, name);
	let error = bench.pass().unwrap_err();
	assert!(error.contains(&format!("`ipfs pin rm {no_hold}`")), "{error}");
	assert!(bench.replicas.may_hold(&lineage()), "it may be one of a deleted snapshot");
	assert!(bench.replicas.has_quorum(&root));
}

#[test]
fn more_pins_of_our_name_than_any_agent_has_are_not_all_kept_in_mind() {
	let (replicas, mut theirs) = (Bench::new(0).replicas, listing::Theirs::default());
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	for number in 0..=listing::STRANGERS_MAX as u64 {
		let mut digest = [0; 32];
		digest[..8].copy_from_slice(&number.to_le_bytes());
		theirs.note_stranger(Cid::dag_cbor(digest), &series);
	}
	theirs.note(&replicas.members[0], &[]);
	assert_eq!(replicas.list()[0].lost, listing::STRANGERS_MAX);
	let other = LineageId { request: OpaqueId::of(&8u64).unwrap(), salt: [9; 32] };
	assert!(replicas.may_hold(&other), "it may be among those that were left out");
}

#[test]
fn what_came_back_in_part_is_gone_on_with() {
	let mut bench = Bench::new(200);
	let root = bench.take();
	bench.pass().unwrap();
	bench.lose_store();
	assert!(bench.replicas.are_unfinished());
	bench.daemon.state().gets_left = Some(120);
	bench.pass().unwrap_err();
	assert!(!bench.world.store.is_pinned(&root));
	// What has come stays, whatever is collected meanwhile.
	bench.world.store.collect().unwrap();
	assert!(!bench.replicas.are_unfinished());
	{
		let mut daemon = bench.daemon.state();
		(daemon.is_down, daemon.gets_left) = (false, None);
	}
	bench.replicas.members[0].state().passed_over_until = None;
	bench.daemon.count("block/get");
	bench.pass().unwrap();
	let asked = bench.daemon.count("block/get");
	assert!(asked < 160, "{asked} of about 215 blocks were fetched again");
	bench.assert_whole(&[root]);
}

#[test]
fn whoever_reads_from_replicas_alone_waits_for_what_passes() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	bench.lose_store();
	let identities = NodeIdentities::load(&bench.folder.path().join("identity")).unwrap();
	let directory = PeerDirectory::new(Reach::public_and([]), Arc::new(identities)).unwrap();
	let (directory, chain) = (Arc::new(directory), Arc::new(bench.chain.clone()));
	let handle = bench.runtime.handle().clone();
	let elsewhere = Elsewhere::new(bench.replicas.clone(), directory, chain, handle);
	let (node, request) = (OpaqueId::of(&2u32).unwrap(), lineage().request);
	let cancel = Cancel::new();
	let source = elsewhere.beside(&bench.world.store, &node, &request, &cancel);
	bench.daemon.state().hiccups = 2;
	assert!(source.get(&root).unwrap().is_some());
	assert_eq!(source.get(&Cid::raw([5; 32])).unwrap(), None, "what nobody has is not waited for");
	bench.daemon.state().is_down = true;
	cancel.cancel();
	let began = Instant::now();
	assert!(source.get(&root).is_err());
	assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn whoever_mends_many_blocks_waits_for_what_passes_but_not_for_each() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	let cancel = Cancel::new();
	let patient = bench.replicas.patient(Instant::now() + Duration::from_secs(60), &cancel);
	bench.daemon.state().hiccups = 2;
	assert!(patient.get(&root).unwrap().is_some());
	assert_eq!(patient.get(&Cid::raw([5; 32])).unwrap(), None);
	bench.daemon.state().is_down = true;
	let began = Instant::now();
	let patient = bench.replicas.patient(began, &cancel);
	(0..100).for_each(|number| assert!(patient.get(&Cid::raw([number; 32])).is_err()));
	assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_forged_pin_at_one_daemon_takes_nothing_from_another() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	let other = FakeKubo::start();
	other.state().blocks = bench.daemon.state().blocks.clone();
	let label = PinLabel::of_copy(&lineage(), 4, &OpaqueId::of(&9u32).unwrap());
	let (series, _) = names::place(&label);
	let hold = bench.replicas.names.holds(&root).next().unwrap();
	other.state().forge(&hold.encode(), &hold.cid(), bench.replicas.names.name(&series));
	bench.chain.say(&root, RootStatus::Evicted);
	bench.lose_store();
	let open =
		Open { identities: &bench.identities, folder: &bench.folder, runtime: &bench.runtime };
	let daemons = [("rack-2", &bench.daemon), ("rack-3", &other)];
	bench.replicas = open.replicas_at(&bench.world.store, &daemons, &bench.chain);
	let look =
		|| bench.replicas.members.iter().for_each(|member| bench.replicas.pass(member).unwrap());
	look();
	let claimed = bench.replicas.roots_elsewhere();
	assert!(claimed.len() == 2 && claimed.iter().all(|claim| claim.cid == root), "{claimed:?}");
	let forged = claimed.iter().find(|claim| claim.copy_for.is_some()).unwrap();
	bench.replicas.give_up(forged).unwrap();
	look();
	assert!(bench.is_pinned(&root) && other.state().pins.is_empty());
	// Nor does it once the root is here again.
	bench.chain.say(&root, RootStatus::Retained);
	look();
	bench.replicas.give_up(forged).unwrap();
	assert!(bench.world.store.is_pinned(&root));
}

/// Blocks that are no holds, pinned under our name.
fn forge(bench: &Bench, count: u32) -> Vec<Cid> {
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	let name = bench.replicas.names.name(&series);
	let mut daemon = bench.daemon.state();
	let forge = |number: u32| {
		let block = number.to_be_bytes();
		let cid = Cid::dag_cbor(crate::format::digest(&block));
		daemon.forge(&block, &cid, name.clone());
		cid
	};
	(0..count).map(forge).collect()
}

fn times_read(bench: &Bench, cids: &[Cid]) -> usize {
	let daemon = bench.daemon.state();
	let read = daemon.order.iter().filter(|(verb, cid)| verb == "block/get" && cids.contains(cid));
	read.count()
}

#[test]
fn a_pin_that_is_no_snapshot_is_looked_at_once_and_told_of_each_time() {
	let mut bench = Bench::new(4);
	bench.take();
	let forged = forge(&bench, 3);
	for _ in 0..3 {
		let error = bench.pass().unwrap_err();
		assert!(error.contains("`ipfs pin rm"), "{error}");
		assert_eq!(times_read(&bench, &forged), 3);
	}
	// Under another name it may be one.
	let other = LineageId { request: OpaqueId::of(&8u64).unwrap(), salt: [9; 32] };
	let (series, _) = names::place(&PinLabel::of_found(other, 0, None));
	bench.daemon.state().pins.insert(forged[0], bench.replicas.names.name(&series));
	bench.pass().unwrap_err();
	assert_eq!(times_read(&bench, &forged), 4);
}

#[test]
fn what_is_new_goes_before_pins_of_our_name_are_looked_at() {
	let mut bench = Bench::new(4);
	bench.take();
	bench.pass().unwrap();
	let forged = forge(&bench, 40);
	let (replicas, prepared) = (bench.replicas.clone(), bench.prepare());
	let new = prepared.root;
	bench.daemon.state().order.clear();
	bench.daemon.state().at_get = Some((
		3,
		Box::new(move || {
			prepared.pin();
			replicas.wake();
		}),
	));
	bench.pass().unwrap_err();
	assert!(bench.is_pinned(&new));
	let order = bench.daemon.state().order.clone();
	let hold = bench.replicas.names.holds(&new).next().unwrap().cid();
	let pinned = order.iter().position(|(verb, cid)| verb != "block/get" && *cid == hold).unwrap();
	let last = order.iter().rposition(|(_, cid)| forged.contains(cid)).unwrap();
	assert!(pinned < last, "all {} were looked at before", forged.len());
	assert_eq!(times_read(&bench, &forged), 40, "none was looked at twice");
}

#[test]
fn an_agent_that_ends_does_not_look_at_all_pins_of_our_name_before() {
	let bench = Bench::new(0);
	let forged = forge(&bench, 40);
	let replicas = bench.replicas.clone();
	bench.daemon.state().at_get = Some((3, Box::new(move || replicas.stop())));
	let _ = bench.pass();
	assert_eq!(times_read(&bench, &forged), 3);
}

#[test]
fn a_pin_with_more_bytes_than_a_block_of_ours_keeps_nothing_from_coming_back() {
	let mut bench = Bench::new(4);
	let root = bench.take();
	bench.pass().unwrap();
	let (series, _) = names::place(&PinLabel::of_found(lineage(), 0, None));
	let name = bench.replicas.names.name(&series);
	let block = vec![7; crate::format::BLOCK_BYTES_MAX + 1];
	let cid = Cid::raw(crate::format::digest(&block));
	bench.daemon.state().forge(&block, &cid, name);
	bench.lose_store();
	bench.pass().unwrap_err();
	assert!(bench.world.store.is_pinned(&root));
}

#[test]
fn a_copy_does_not_come_back_as_a_snapshot_of_our_own() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	// Workers here speak for a node that has to keep what another one sealed.
	let holder = OpaqueId::of(&9u32).unwrap();
	bench.chain.state().nodes = vec![holder.clone()];
	bench.lose_store();
	bench.pass().unwrap();
	assert!(bench.world.store.pins().unwrap().is_empty() && bench.view().lost == 1);
	let (series, _) = names::place(&PinLabel::of_copy(&lineage(), 0, &holder));
	let hold = bench.replicas.names.holds(&root).next().unwrap().cid();
	bench.daemon.state().pins.insert(hold, bench.replicas.names.name(&series));
	bench.pass().unwrap();
	let pins = bench.world.store.pins().unwrap();
	let (series, _) = names::place(&pins[0].label);
	assert_eq!(names::series(&series).unwrap().copy_for, Some(holder));
}

#[test]
fn what_was_sealed_here_does_not_come_back_as_a_copy() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	let (series, _) = names::place(&PinLabel::of_copy(&lineage(), 0, &sealer()));
	let hold = bench.replicas.names.holds(&root).next().unwrap().cid();
	bench.daemon.state().pins.insert(hold, bench.replicas.names.name(&series));
	bench.lose_store();
	bench.pass().unwrap();
	assert!(bench.world.store.pins().unwrap().is_empty() && bench.view().lost == 1);
}

#[test]
fn what_the_chain_records_of_no_node_here_does_not_come_back_whatever_its_block_says() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	bench.chain.state().recorded.clear();
	bench.lose_store();
	bench.pass().unwrap();
	assert!(bench.world.store.pins().unwrap().is_empty() && bench.view().lost == 1);
	// What it waits for it cannot record yet.
	bench.chain.say(&root, RootStatus::Pending);
	bench.pass().unwrap();
	assert!(bench.world.store.is_pinned(&root));
}
