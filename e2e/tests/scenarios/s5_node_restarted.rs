//! The node is restarted in mid-job; exactly one snapshot is recorded.

use crate::busy::wait_for_running_job;
use anyhow::{Result, ensure};
use backup_e2e::{
	chain::View,
	story::{self, Pace},
	world::{SNAPSHOT_TIME_MAX, World, scenario},
};
use std::time::Duration;

async fn one_snapshot_is_recorded(name: &str, how: impl FnOnce(&mut World) -> Result<()>) {
	scenario(name, Pace::ONCE, async |world| {
		let machine = world.full_machine(&story::owner(), "vm-1", 1024, 600).await?;
		world.begin_backups(&machine).await?;
		wait_for_running_job(&world.agent, "snapshot").await?;
		how(world)?;
		world.resume_node().await?;

		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		let now = world.chain.number(View::Best).await?;
		// Long enough for every report that is still under way to get into a block.
		world.chain.wait_for_block(now + 12, Duration::from_secs(120)).await?;
		let snapshots = world.chain.snapshots(machine.request).await?;
		let sequences: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.sequence).collect();
		ensure!(sequences == [0], "recorded: {snapshots:?}");
		let pinned = world.agent.pinned().await?;
		ensure!(pinned.iter().eq([&snapshots[0].cid]), "pinned: {pinned:?}");
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_in_mid_job_records_one_snapshot() {
	one_snapshot_is_recorded("s5-stop", |world| world.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_in_mid_job_records_one_snapshot() {
	one_snapshot_is_recorded("s5-kill", |world| world.node.kill()).await;
}
