//! Two agents or more: one has snapshots, the others hold copies of them.

use crate::{
	disks::STORE_MIB,
	orders::{nothing, restore_of},
	pair::{HOLDER, MIB, Pair, ask},
	small_disk::SmallDisk,
	world::{World, noise, until},
};
use age::x25519::Identity;
use backup_agent::peers::{GatewayClient, PeerError, Reach, pass::Pass};
use backup_primitives::{Cid, FailureReason, OpaqueId, Reader, RecordedRoot};
use std::{fs, slice, time::Instant};

/// The request of the machine that is backed up.
const REQUEST: u64 = 7;

#[test]
fn a_holder_fetches_what_the_chain_records_and_says_so() {
	let pair = Pair::start(9);
	let sources = [pair.at_host.clone()];
	let held = pair.wait_until_held(&sources, 1);
	assert_eq!((held.from, held.lineage), (0, pair.order.lineage.clone()));
	assert!(pair.has_all(&pair.holder));
	let usage = |world: &World| world.get("/v1/status").json()["stored_bytes"].clone();
	assert_eq!(usage(&pair.holder), usage(&pair.host));
}

#[test]
fn a_machine_with_a_large_file_beside_its_disks_is_copied() {
	let mut pair = Pair::start(9);
	let file = pair.host.path("vars.fd");
	fs::write(&file, noise(2, 3 * MIB)).unwrap();
	let machine = pair.host.path("state/vms/vm-7.toml");
	let more = format!("\n[[file]]\nname = \"vars.fd\"\npath = {file:?}\n");
	let words = fs::read_to_string(&machine).unwrap();
	fs::write(&machine, words + &more).unwrap();
	pair.take();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 2);
	assert!(pair.has_all(&pair.holder));
	assert!(!pair.holder.log().contains("passed over"));
}

#[test]
fn a_snapshot_that_nobody_has_does_not_keep_older_ones() {
	let pair = Pair::start(1);
	let lost = RecordedRoot {
		lineage: pair.order.lineage.clone(),
		sequence: 1,
		cid: Cid::dag_cbor([9; 32]),
	};
	pair.holder.node.state().recorded.push(lost);
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	assert!(pair.has_all(&pair.holder));
	let error = || pair.holder.get("/v1/copies").json()[0]["error"].as_str().map(str::to_owned);
	assert!(until("the reason", error).contains("missing at its origin"));
}

#[test]
fn the_next_snapshot_costs_what_is_new_in_it() {
	let mut pair = Pair::start(40);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	let first = pair.fetched_bytes();
	let mut bytes = fs::read(pair.host.image(7)).unwrap();
	bytes[20 * MIB..][..4096].fill(5);
	fs::write(pair.host.image(7), &bytes).unwrap();
	pair.take();
	pair.wait_until_held(&sources, 2);
	let second = pair.fetched_bytes() - first;
	assert!(first > 40 << 20 && second < 1 << 20, "{first} bytes, then {second}");
}

#[test]
fn a_copy_is_fetched_no_faster_than_the_limit() {
	let mut pair = Pair::start(4);
	let config = pair.holder.path("agent.toml");
	let words = fs::read_to_string(&config).unwrap();
	fs::write(&config, words + "copy_bytes_per_second = 1048576\n").unwrap();
	pair.holder.kill();
	pair.holder.start_agent();
	let began = Instant::now();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	assert!(began.elapsed().as_secs() >= 3, "{:?}", began.elapsed());
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn strangers_are_served_on_this_machine_only() {
	let pair = Pair::start(1);
	let root = pair.taken[0].cid;
	for query in ["format=raw", "format=car"] {
		assert_eq!(ask(&pair.at_host, &root, query).status, 401, "{query}");
	}
	assert_eq!(pair.host.block(&root).status, 200);
}

#[test]
fn a_node_that_the_chain_does_not_know_by_its_key_is_not_served() {
	let pair = Pair::start(1);
	pair.host.node.state().readers.clear();
	let sources = [pair.at_host.clone()];
	until("the refusal", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("403")).map(drop)
	});
	assert!(pair.holder.roots().is_empty());
}

#[test]
fn whom_an_owner_has_let_in_is_served_with_the_key_that_it_named() {
	let pair = Pair::start(1);
	let (root, identity) = (pair.taken[0].cid, Identity::generate());
	let recipient = identity.to_public().to_string().parse().unwrap();
	pair.host.node.state().grants.push((REQUEST, recipient));
	let url = String::from_utf8(pair.at_host.gateway.to_vec()).unwrap();
	let fetch = |request: u64, identity: &Identity| {
		let reader = Reader::Grantee(OpaqueId::of(&request).unwrap());
		let pass = Pass::new(&reader, identity, &pair.at_host.recipient);
		let client = GatewayClient::new(Reach::All).unwrap();
		client.gateway(&url, pass).unwrap().block(&root)
	};
	assert!(fetch(REQUEST, &identity).unwrap().is_some());
	let is_refused = |answer| matches!(answer, Err(PeerError::Refused(403)));
	assert!(is_refused(fetch(REQUEST + 1, &identity)), "another request");
	assert!(is_refused(fetch(REQUEST, &Identity::generate())), "another key");
}

#[test]
fn a_holder_that_lost_its_blocks_says_so_and_fetches_them_again() {
	let mut pair = Pair::start(3);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	pair.holder.kill();
	fs::remove_dir_all(pair.holder.path("state/blocks")).unwrap();
	fs::create_dir(pair.holder.path("state/blocks")).unwrap();
	pair.holder.start_agent();
	pair.wait_until_held(&sources, 1);
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn a_holder_that_is_killed_while_it_fetches_goes_on() {
	let mut pair = Pair::start(48);
	let sources = [pair.at_host.clone()];
	for _ in 0..3 {
		until("some of it to be fetched", || {
			pair.held(&sources);
			let copies = pair.holder.get("/v1/copies").json();
			copies[0]["fetched_bytes"].as_u64().filter(|bytes| *bytes > 0)
		});
		pair.holder.kill();
		pair.holder.start_agent();
	}
	pair.wait_until_held(&sources, 1);
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn a_holder_whose_disk_is_full_says_what_it_has_and_goes_on_when_there_is_room() {
	let mut pair = Pair::start(8);
	pair.holder.terminate();
	let blocks = pair.holder.path("state/blocks");
	let Some(disk) = SmallDisk::over(&blocks, STORE_MIB).unwrap() else { return };
	pair.holder.start_agent();
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	fs::write(pair.host.image(7), noise(2, 160 * MIB)).unwrap();
	pair.take();
	until("the reason", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("full")).map(drop)
	});
	assert_eq!(pair.held(&sources).unwrap().to, 1);
	disk.grow(3 * STORE_MIB).unwrap();
	pair.wait_until_held(&sources, 2);
	assert!(pair.has_all(&pair.holder));
	pair.holder.kill();
}

#[test]
fn a_copy_that_is_given_to_another_holder_goes() {
	let pair = Pair::start(1);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	pair.holder.node.state().keeps_copies = false;
	until("the copy to go", || pair.holder.roots().is_empty().then_some(()));
}

#[test]
fn a_restore_fetches_what_is_missing_here_from_a_holder() {
	let mut pair = Pair::start(9);
	let expected = fs::read(pair.host.image(7)).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.empty_host();
	let order = restore_of(&pair.order, pair.taken[0].cid, 3);
	let folder = pair.host.restore(&order).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == expected, "the disks differ");
}

#[test]
fn a_restore_passes_over_a_damaged_block_if_a_holder_has_a_sound_one() {
	let mut pair = Pair::start(9);
	let expected = fs::read(pair.host.image(7)).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.host.kill();
	damage_a_pack(&pair.host);
	pair.host.start_agent();
	let order = restore_of(&pair.order, pair.taken[0].cid, 3);
	let folder = pair.host.restore(&order).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == expected, "the disks differ");
}

/// Flip a bit in the middle of the first pack, where chunks are.
fn damage_a_pack(world: &World) {
	let entries = fs::read_dir(world.path("state/blocks")).unwrap();
	let paths = entries.map(|entry| entry.unwrap().path());
	let is_pack = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "pack");
	let pack = paths.filter(is_pack).min().unwrap();
	let mut bytes = fs::read(&pack).unwrap();
	let middle = bytes.len() / 2;
	bytes[middle] ^= 1;
	fs::write(&pack, bytes).unwrap();
}

/// A host whose store is damaged, with a holder that may be asked.
fn damaged() -> Pair {
	let mut pair = Pair::start(9);
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.host.kill();
	damage_a_pack(&pair.host);
	pair.host.start_agent();
	pair.host.reconcile(&nothing());
	pair.host.reconcile(&nothing());
	pair
}

fn verdict(world: &World) -> String {
	let output = world.run_with("verify", &["--depth", "blocks", "--json"]);
	let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
	result["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn damage_that_a_verification_finds_is_fetched_back_from_a_holder() {
	let mut pair = damaged();
	assert_eq!(verdict(&pair.host), "good");
	assert!(pair.host.log().contains("replaced by good ones"));
	pair.holder.kill();
	assert_eq!(verdict(&pair.host), "good", "by itself, now");
}

#[test]
fn damage_that_nobody_can_mend_is_told() {
	let mut pair = damaged();
	pair.holder.kill();
	assert_eq!(verdict(&pair.host), "bad");
}

/// What a holder says goes by its index, so damage below it is found by its own verification, daily,
/// and not by the look that it takes every minute.
#[test]
fn a_holder_whose_blocks_are_damaged_finds_it_when_it_verifies_and_fetches_them_again() {
	let mut pair = Pair::start(9);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	let holder = &pair.holder.node;
	holder.state().sources.push(pair.at_host.clone());
	holder.state().readers.push((HOLDER, pair.at_holder.recipient));
	pair.holder.kill();
	damage_a_pack(&pair.holder);
	pair.holder.start_agent();
	pair.wait_until_held(&sources, 1);
	assert_eq!(verdict(&pair.holder), "good");
	assert!(pair.holder.log().contains("replaced by good ones"));
	pair.host.kill();
	assert_eq!(verdict(&pair.holder), "good", "by itself, now");
}

/// Whoever has a holder's authority key can have the chain believe in copies that are not there. The
/// chain does not learn it; who needs them does.
#[test]
fn a_holder_that_confirms_and_has_nothing_is_named_by_who_looks_there() {
	let mut pair = Pair::start(3);
	let expected = fs::read(pair.host.image(7)).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	let (empty, at_empty) = World::start_among_others();
	empty.reconcile(&nothing());
	empty.node.state().readers.push((1, pair.at_host.recipient));
	pair.host.node.state().readers.push((1, pair.at_host.recipient));
	pair.host.node.state().sources.push(at_empty.clone());
	pair.empty_host();
	let order = restore_of(&pair.order, pair.taken[0].cid, 3);
	assert_eq!(pair.host.restore(&order), Err(FailureReason::BlockMissing));
	let url = String::from_utf8(at_empty.gateway.to_vec()).unwrap();
	let is_named = |line: &str| line.contains("has not got a block") && line.contains(&url);
	assert!(pair.host.log().lines().any(is_named), "{}", pair.host.log());
	// Beside one that tells the truth it costs a question.
	pair.let_host_fetch();
	let again = restore_of(&pair.order, pair.taken[0].cid, 4);
	let folder = pair.host.restore(&again).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == expected, "the disks differ");
}

#[test]
fn a_snapshot_that_is_larger_than_its_disks_is_given_up_and_older_ones_are_not() {
	let mut pair = Pair::start(1);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	// The chain says less of both: what was held stays so.
	pair.holder.node.state().logical_bytes = 1 << 20;
	// More than files beside the disks may have: 16 of 16 MiB, and 64 MiB to spare.
	fs::write(pair.host.image(7), noise(2, 360 * MIB)).unwrap();
	pair.take();
	until("the reason", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("it is larger than")).map(drop)
	});
	assert_eq!(pair.held(&sources).unwrap().to, 1);
	let most = 330 << 20;
	assert!(pair.fetched_bytes() < most, "{} bytes came", pair.fetched_bytes());
	let stored = || pair.holder.get("/v1/status").json()["stored_bytes"].as_u64().unwrap();
	until("what came of it to be collected", || {
		pair.held(&sources);
		(stored() < 2 << 20).then_some(())
	});
}

#[test]
fn a_host_whose_agent_is_away_for_a_while_is_asked_again() {
	let mut pair = Pair::start(3);
	let sources = [pair.at_host.clone()];
	pair.host.kill();
	until("the failure", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().map(drop)
	});
	pair.host.start_agent();
	pair.wait_until_held(&sources, 1);
}
