//! The agent is killed in mid-backup and in mid-restore; after its restart the jobs end well,
//! nothing is left over, and the guest never stopped. A store that lost what it knew of its
//! blocks learns it again.

use crate::busy::wait_for_running_job;
use anyhow::{Result, ensure};
use backup_e2e::{
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use serde_json::json;
use std::fs;

/// Names of the block nodes in QEMU.
fn block_nodes(machine: &Machine) -> Result<Vec<String>> {
	let nodes = machine.guest.qmp("query-named-block-nodes", &json!({ "flat": true }))?;
	let names = nodes.as_array().into_iter().flatten();
	let mut names: Vec<String> =
		names.map(|node| node["node-name"].as_str().unwrap_or_default().to_owned()).collect();
	names.sort();
	Ok(names)
}

fn entries(folder: &std::path::Path) -> Result<Vec<String>> {
	let mut names = Vec::new();
	for entry in fs::read_dir(folder)? {
		names.push(entry?.file_name().to_string_lossy().into_owned());
	}
	Ok(names)
}

async fn kill_in_mid_job(world: &mut World, kind: &str) -> Result<()> {
	wait_for_running_job(&world.agent, kind).await?;
	world.agent.kill()
}

/// The store takes from the chain what it has to keep.
async fn wait_until_pinned(world: &World, cid: &str) -> Result<()> {
	wait::until_async("the root to be pinned again", COMMAND_TIME_MAX, || async move {
		Ok(world.agent.pinned().await?.iter().any(|root| root == cid).then_some(()))
	})
	.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_ends_its_jobs_after_the_restart() {
	scenario("s4", Pace::ONCE, async |world| {
		let machine = world.full_machine(&story::owner(), "vm-1", 1024, 600).await?;
		let untouched = block_nodes(&machine)?;
		machine.guest.load(COMMAND_TIME_MAX)?;
		world.begin_backups(&machine).await?;

		kill_in_mid_job(world, "snapshot").await?;
		ensure!(machine.guest.is_running(), "the machine stopped with the agent");
		let synced = machine.guest.synced(COMMAND_TIME_MAX)?;
		world.agent.start().await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		ensure!(machine.guest.synced(COMMAND_TIME_MAX)? > synced, "the machine stood still");
		ensure!(block_nodes(&machine)? == untouched, "nodes stay: {:?}", block_nodes(&machine)?);
		let scratch = entries(&world.agent.scratch())?;
		ensure!(scratch.is_empty(), "scratch stays: {scratch:?}");

		let cid = &snapshots[0].cid;
		let restore = story::request_restore(&world.chain, &machine.owner, cid).await?;
		kill_in_mid_job(world, "restore").await?;
		let image = world.agent.image(machine.request, 0, restore);
		ensure!(!image.exists(), "an image has its name before it is complete");
		world.agent.start().await?;
		world.chain.wait_for_event("Backup.SnapshotRestored", 0, SNAPSHOT_TIME_MAX).await?;
		let left: Vec<_> = entries(&world.agent.restored())?
			.into_iter()
			.filter(|name| name.starts_with('.'))
			.collect();
		ensure!(left.is_empty(), "partial images stay: {left:?}");

		let again = story::request_restore(&world.chain, &machine.owner, cid).await?;
		let second = world.agent.image(machine.request, 0, again);
		wait::until("the second image", SNAPSHOT_TIME_MAX, || Ok(second.exists().then_some(())))?;
		ensure!(checksum(&image)? == checksum(&second)?, "two restores of one root differ");

		world.agent.kill()?;
		for file in ["index.redb", "pins.log"] {
			fs::remove_file(world.agent.store().join(file))?;
		}
		world.agent.start().await?;
		wait_until_pinned(world, cid).await?;
		ensure!(machine.guest.is_running(), "the machine stopped");
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		machine.guest.verify(COMMAND_TIME_MAX)?;
		Ok(())
	})
	.await;
}
