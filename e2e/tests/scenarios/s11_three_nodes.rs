//! Three real nodes make the blocks of one chain. The one that hosts a machine is cut off until
//! its blocks are undone, and is killed while a snapshot is due: each snapshot is recorded once,
//! none is missing, and finality goes on.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::{Chain, Snapshot, View, cid_text},
	story, wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, network_scenario},
};
use serde_json::Value as Json;
use std::time::Duration;

/// How long it may take until a block is final on all nodes. All three must vote for it.
const FINALITY_TIME_MAX: Duration = Duration::from_secs(120);

/// How many blocks the host makes alone before its snapshot is taken. Reports name a block two
/// below the best one: now that is one which the others never see, so the report of it cannot
/// simply get into one of their blocks.
const FORK_BLOCKS: u64 = 3;

/// By how many blocks the others must be ahead of the node that was cut off. It may make one
/// more while it learns of theirs, and a chain as long as its own would not undo it.
const LEAD_BLOCKS: u64 = 3;

/// The snapshots of a request that were added, by place and root, as the events of all blocks of a
/// node's chain tell. Storage would not show that one was added twice.
async fn additions(chain: &Chain, view: View, request: u64) -> Result<Vec<(u64, String)>> {
	let mut additions = Vec::new();
	for block in 1..=chain.number(view).await? {
		for event in chain.events_at(block).await? {
			if event.name == "Backup.SnapshotAdded" && event.fields["request_id"] == request {
				let sequence = event.fields["sequence"].as_u64().context("no sequence")?;
				additions.push((sequence, cid_text(&event.fields["cid"])?));
			}
		}
	}
	Ok(additions)
}

async fn wait_until_due(chain: &Chain, machine: &Machine) -> Result<()> {
	wait::until_async("a snapshot to be due", SNAPSHOT_TIME_MAX, || async move {
		Ok(chain.eligibility(machine.request).await?.get("Eligible").map(drop))
	})
	.await
}

/// Cut the host off while a snapshot is due, and wait until its own chain has recorded it.
async fn record_on_a_fork(world: &mut World, machine: &Machine) -> Result<Snapshot> {
	// There is no agent before the host is cut off, so nothing can be recorded elsewhere.
	world.agent.stop()?;
	world.begin_backups(machine).await?;
	for peer in &world.peers {
		wait_until_due(&peer.chain, machine).await?;
	}
	world.cut_off().await?;
	let cut_off_at = world.chain.number(View::Best).await?;
	world.chain.wait_for_block(cut_off_at + FORK_BLOCKS, COMMAND_TIME_MAX).await?;
	world.agent.start().await?;
	let mut snapshots =
		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
	Ok(snapshots.remove(0))
}

/// Wait until the others' chain is longer than that of the host.
async fn wait_until_outgrown(world: &World) -> Result<()> {
	let other = &world.peers[0].chain;
	wait::until_async("the others' chain to be longer", COMMAND_TIME_MAX, || async move {
		let own = world.chain.number(View::Best).await?;
		Ok((other.number(View::Best).await? >= own + LEAD_BLOCKS).then_some(()))
	})
	.await
}

/// Wait until the host's chain has the others' block in this place, instead of this one.
async fn wait_until_undone(world: &World, block: u64, hash: &Json) -> Result<()> {
	let other = &world.peers[0].chain;
	wait::until_async("the host's blocks to be undone", COMMAND_TIME_MAX, || async move {
		let (own, others) = (world.chain.block_hash(block).await?, other.block_hash(block).await?);
		ensure!(others != *hash, "the others took over the host's block {block}");
		Ok((own == others).then_some(()))
	})
	.await
}

/// The host is cut off, records the first snapshot, and learns that the others' chain is longer.
async fn lose_the_first_snapshot(world: &mut World, machine: &Machine) -> Result<()> {
	let undone = record_on_a_fork(world, machine).await?;
	let block = undone.recorded_at;
	let hash = world.chain.block_hash(block).await?;
	let own = additions(&world.chain, View::Best, machine.request).await?;
	ensure!(own == [(0, undone.cid)], "the host's own chain: {own:?}");
	wait_until_outgrown(world).await?;
	for peer in &world.peers {
		let others = additions(&peer.chain, View::Best, machine.request).await?;
		ensure!(others.is_empty(), "recorded although the host is cut off: {others:?}");
	}
	world.rejoin().await?;
	wait_until_undone(world, block, &hash).await
}

/// How many reports the host's worker has made.
fn reports(world: &World) -> usize {
	world.node.output().matches("reporting ").count()
}

/// The host is killed when a snapshot is due, and again when it has just reported one. Gives the
/// block from which on it works again.
async fn die_twice(world: &mut World, machine: &Machine) -> Result<u64> {
	let other = world.peers[0].chain.clone();
	wait_until_due(&other, machine).await?;
	world.node.kill()?;
	let reported = reports(world);
	let killed_at = other.number(View::Best).await?;
	other.wait_for_block(killed_at + 2, COMMAND_TIME_MAX).await?;
	world.resume_node().await?;

	let has_reported = || Ok((reports(world) > reported).then_some(()));
	wait::until("a report", SNAPSHOT_TIME_MAX, has_reported)?;
	world.node.kill()?;
	world.resume_node().await?;
	other.number(View::Best).await
}

/// Wait until the others have recorded a snapshot that was taken from this block on, and give all.
async fn wait_for_snapshot_after(
	world: &World,
	machine: &Machine,
	block: u64,
) -> Result<Vec<Snapshot>> {
	let other = &world.peers[0].chain;
	wait::until_async("a snapshot after the restart", SNAPSHOT_TIME_MAX, || async move {
		let snapshots = other.snapshots(machine.request).await?;
		let is_new = snapshots.last().is_some_and(|snapshot| snapshot.taken_at >= block);
		Ok(is_new.then_some(snapshots))
	})
	.await
}

/// The final chain of every node records these snapshots, each once and without a gap.
async fn ensure_recorded_once(
	world: &World,
	machine: &Machine,
	snapshots: &[Snapshot],
) -> Result<()> {
	let last = snapshots.last().context("no snapshot")?.recorded_at;
	let expected: Vec<_> = (0..).zip(snapshots.iter().map(|one| one.cid.clone())).collect();
	let others = world.peers.iter().map(|peer| &peer.chain);
	for chain in others.chain([&world.chain]) {
		wait::until_async("the last snapshot to be final", FINALITY_TIME_MAX, || async move {
			Ok((chain.number(View::Finalized).await? >= last).then_some(()))
		})
		.await?;
		let found = additions(chain, View::Finalized, machine.request).await?;
		// Another one may have followed meanwhile.
		ensure!(found.starts_with(&expected), "{chain:?} records {found:?}, not {expected:?}");
		let places = found.iter().map(|(sequence, _)| *sequence);
		ensure!(places.eq(0..found.len() as u64), "{chain:?} records {found:?}");
	}
	Ok(())
}

/// The store has every root that the chain records.
async fn ensure_pinned(world: &World, snapshots: &[Snapshot]) -> Result<()> {
	let pinned = world.agent.pinned().await?;
	let lost: Vec<_> = snapshots.iter().filter(|one| !pinned.contains(&one.cid)).collect();
	ensure!(lost.is_empty(), "recorded and not pinned: {lost:?}");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_snapshot_is_recorded_once_whatever_becomes_of_its_host() {
	network_scenario("s11", async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		lose_the_first_snapshot(world, &machine).await?;
		let other = world.peers[0].chain.clone();
		other.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;

		let resumed_at = die_twice(world, &machine).await?;
		let snapshots = wait_for_snapshot_after(world, &machine, resumed_at).await?;
		ensure_recorded_once(world, &machine, &snapshots).await?;
		ensure_pinned(world, &snapshots).await?;
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
