//! Nothing is destroyed unless the finalized chain has let it go.

use crate::{
	doctor::Found,
	orders::{deletion, nothing, restore_of, snapshots},
	world::{World, noise, until},
};
use backup_agent::format::links;
use backup_primitives::{
	Cid, RootStatus,
	cid::BlockCodec,
	job::{DeletionResult, Desired, SnapshotOrder},
};
use std::{fs, os::unix::fs::FileExt};

const MIB: usize = 1 << 20;

/// Wait until the finalized state was asked about roots so many more times.
fn asked_again(world: &World, times: u64) {
	let before = world.node.state().asked;
	until("the chain to be asked", || (world.node.state().asked >= before + times).then_some(()));
}

fn logged(world: &World, words: &str) {
	until(words, || world.log().contains(words).then_some(()));
}

#[test]
fn a_deletion_is_carried_out_when_it_is_final_and_spares_what_others_share() {
	let world = World::start();
	let shared = noise(1, 2 * MIB);
	let gone = world.machine(7, &shared);
	let stays = world.machine(8, &shared);
	let [gone_root, kept_root] = [&gone, &stays].map(|order| world.take(order).unwrap().cid);
	world.node.say(gone_root, RootStatus::Retained);
	world.node.say(kept_root, RootStatus::Retained);

	let deletion = deletion(7, 1);
	assert_eq!(world.reconcile(&deletion).deletions.len(), 0);
	asked_again(&world, 4);
	assert_eq!(world.reconcile(&deletion).deletions.len(), 0, "it is not final yet");
	assert_eq!(world.roots().len(), 2);

	world.node.say(gone_root, RootStatus::Deleted);
	let done = until("the deletion", || world.reconcile(&deletion).deletions.into_iter().next());
	let lineage = gone.lineage.clone();
	assert_eq!(done, DeletionResult { lineage, until: 1, handed_out: 0 });
	assert_eq!(world.roots(), [kept_root.to_string()]);
	assert_eq!(world.block(&gone_root).status, 404, "its blocks are collected");
	let folder = world.restore(&restore_of(&stays, kept_root, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == shared, "the disks differ");
}

/// A lineage goes on after its first snapshots were deleted. Its new ones were cancelled and
/// forgotten at every block for as long as the deletion stood.
#[test]
fn a_deletion_does_not_touch_later_snapshots_of_its_lineage() {
	let world = World::start();
	let order = SnapshotOrder { sequence: 4, ..world.machine(7, &noise(1, MIB)) };
	let both = Desired { snapshots: snapshots([order.clone()]).snapshots, ..deletion(7, 4) };
	let told = |handed_out| {
		until("the snapshot to be told", || {
			let result = world.reconcile(&both).snapshots.into_iter().next()?;
			(result.handed_out == handed_out).then_some(result.outcome.unwrap().cid)
		})
	};
	let roots = [told(0), told(1)].map(|cid| cid.to_string());
	assert_eq!(roots[0], roots[1]);
	assert_eq!(world.roots(), roots[..1]);
}

#[test]
fn an_evicted_root_goes_and_all_others_stay() {
	let world = World::start();
	let orders = [7, 8, 9, 10].map(|request| world.machine(request, &noise(request, MIB)));
	let [evicted, retained, pending, unknown] =
		orders.each_ref().map(|order| world.take(order).unwrap().cid);
	world.node.say(retained, RootStatus::Retained);
	world.node.say(pending, RootStatus::Pending);
	world.node.say(unknown, RootStatus::Unknown);
	asked_again(&world, 8);
	assert_eq!(world.roots().len(), 4);
	world.node.say(evicted, RootStatus::Evicted);
	until("the evicted root to go", || (world.roots().len() == 3).then_some(()));
	asked_again(&world, 6);
	let roots = world.roots();
	for root in [retained, pending, unknown] {
		assert!(roots.contains(&root.to_string()), "{roots:?}");
	}
}

#[test]
fn nothing_goes_while_the_node_cannot_be_asked() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let root = world.take(&order).unwrap().cid;
	world.node.stop();
	world.node.say(root, RootStatus::Deleted);
	let deletion = deletion(7, 1);
	assert_eq!(world.reconcile(&deletion).deletions.len(), 0);
	logged(&world, "nothing is given up");
	assert_eq!(world.reconcile(&deletion).deletions.len(), 0);
	assert_eq!(world.roots(), [root.to_string()]);
	world.node.start_again();
	until("the deletion", || world.reconcile(&deletion).deletions.into_iter().next());
	assert_eq!(world.roots(), [""; 0]);
}

/// The agent connects before the first call of a worker, so before it knows its chain. A
/// connection from that time must not be believed later: an operator who names the node of
/// another chain would lose every backup, since that chain knows none of the roots.
#[test]
fn a_node_of_another_chain_is_not_believed() {
	let mut world = World::prepare();
	world.node.state().genesis = [0xee; 32];
	world.start_agent();
	world.reconcile(&nothing());
	let order = world.machine(7, &noise(1, MIB));
	let root = world.take(&order).unwrap().cid;
	world.node.say(root, RootStatus::Deleted);
	assert_eq!(world.reconcile(&deletion(7, 1)).deletions.len(), 0);
	logged(&world, &"ee".repeat(32));
	assert_eq!(world.roots(), [root.to_string()]);
	assert_eq!(world.node.state().asked, 0);
}

/// A node whose database was lost syncs from nothing, and its finalized state knows no root
/// for as long as that takes.
#[test]
fn a_node_that_lost_its_chain_is_not_believed() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, MIB));
	let root = world.take(&order).unwrap().cid;
	asked_again(&world, 1);
	world.kill();
	world.node.state().finalized = 3;
	world.node.say(root, RootStatus::Evicted);
	let before = world.node.state().asked;
	world.start_agent();
	logged(&world, "nothing is given up");
	assert_eq!(world.roots(), [root.to_string()]);
	assert_eq!(world.node.state().asked, before);
}

impl World {
	/// Changes a byte of a block where it stands in the first pack.
	fn damage(&self, cid: &Cid) {
		let block = self.block(cid).body;
		let pack = self.path("state/blocks/00000001.pack");
		let bytes = fs::read(&pack).unwrap();
		let at = bytes.windows(block.len()).position(|window| window == block).unwrap() as u64;
		let file = fs::File::options().write(true).open(&pack).unwrap();
		file.write_all_at(&[!block[0]], at).unwrap();
	}
}

/// Cause: while a node could not be read, nothing at all was freed. Effect: no deletion of anybody was
/// told because of one damaged snapshot.
#[test]
fn a_deletion_is_told_although_a_snapshot_of_another_machine_is_damaged() {
	let mut world = World::start();
	let [damaged, deleted] = [7, 8].map(|request| world.machine(request, &noise(request, 3 * MIB)));
	let [kept, gone] = [&damaged, &deleted].map(|order| world.take(order).unwrap().cid);
	world.node.say(kept, RootStatus::Retained);
	world.node.say(gone, RootStatus::Retained);
	let [tree, other] = [kept, gone].map(|root| {
		let links = links(&world.block(&root).body).unwrap();
		links.into_iter().find(|cid| cid.codec() == BlockCodec::DagCbor).unwrap()
	});
	let chunk = links(&world.block(&other).body).unwrap()[0];
	world.damage(&tree);
	let verified = world.run_with("verify", &["--depth", "blocks", "--root", &kept.to_string()]);
	assert_eq!(verified.status.code(), Some(3), "{verified:?}");

	let deletion = deletion(8, 1);
	world.reconcile(&deletion);
	world.node.say(gone, RootStatus::Deleted);
	until("the deletion", || world.reconcile(&deletion).deletions.into_iter().next());
	assert_eq!(world.block(&gone).status, 404, "its keys are gone");
	assert_eq!(world.block(&chunk).status, 200, "who knows what else needs it");
	let found = world.get("/v1/status").json()["obstacles"].clone();
	assert_eq!((&found["count"], &found["has_dead_roots"]), (&1.into(), &false.into()));
	let named = &found["named"][0];
	assert_eq!(
		(&named["node"], &named["root"]),
		(&tree.to_string().into(), &kept.to_string().into())
	);
	let is_told = |line: &str| line == "backup_agent_store_unreadable_nodes 1";
	assert!(world.get("/metrics").text().lines().any(is_told));
	let told = |world: &World| {
		let report = Found::on(world);
		let check = report.check("freeing").clone();
		assert_eq!(check["verdict"], "warning");
		let text = |key: &str| check[key].as_str().unwrap().to_owned();
		assert!(text("found").contains(&tree.to_string()), "{check:#}");
		assert!(text("found").contains(&kept.to_string()), "{check:#}");
		assert!(text("mend").contains("fsck --repair"), "{check:#}");
	};
	told(&world);
	world.terminate();
	told(&world);

	assert_eq!(world.run_with("fsck", &["--repair"]).status.code(), Some(3));
	world.start_agent();
	until("the rest to be freed", || {
		// A start waits to hear which copies belong here.
		world.reconcile(&nothing());
		(world.block(&chunk).status == 404).then_some(())
	});
	assert_eq!(world.roots(), [kept.to_string()], "what is left of it stays");
}
