//! A machine moves from one node to another, each with an agent of its own. Its history goes on
//! there, each snapshot is recorded once, and each is restored by the node that sealed it.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	agent::Agent,
	chain::{Chain, number},
	host::Host,
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use std::path::PathBuf;
use subxt_signer::sr25519::dev;

const OTHER_NODE: u32 = 2;

/// The owner takes the machine from its node, and the other one runs it.
async fn move_machine(world: &World, agent: &Agent, machine: &Machine) -> Result<()> {
	agent.add_machine(
		&machine.name,
		machine.tag,
		Some(&machine.guest.backup_qmp()),
		&machine.disk,
	)?;
	let arguments = vec![number(machine.request)];
	world.chain.submit(&machine.owner, "Compute", "release_request", arguments).await?;
	let (operator, name) = (dev::dave(), &machine.name);
	story::fulfil_on(&world.chain, &operator, OTHER_NODE, machine.request, name).await?;
	world.chain.wait_for_event("Backup.BackupMoved", 0, COMMAND_TIME_MAX).await?;
	Ok(())
}

/// The owner asks until the shortest cadence is over.
async fn ask_for_snapshot(chain: &Chain, machine: &Machine) -> Result<()> {
	wait::until_async("a wish to be allowed", COMMAND_TIME_MAX, || async move {
		let arguments = vec![number(machine.request)];
		let asked = chain.submit(&machine.owner, "Backup", "request_snapshot", arguments).await;
		Ok(asked.is_ok().then_some(()))
	})
	.await
}

async fn restore(chain: &Chain, machine: &Machine, cid: &str, agent: &Agent) -> Result<PathBuf> {
	let snapshots = chain.snapshots(machine.request).await?;
	let snapshot = snapshots.iter().find(|snapshot| snapshot.cid == cid).context("no snapshot")?;
	let restore = story::request_restore(chain, &machine.owner, cid).await?;
	let image = agent.image(machine.request, snapshot.sequence, restore);
	wait::until("the image", SNAPSHOT_TIME_MAX, || Ok(image.exists().then_some(())))?;
	Ok(image)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_moves_takes_its_history_along() {
	scenario("s10", Pace::ONCE, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 256).await?;
		// Nothing is written from here on, so that every image is the disk as it is.
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		world.begin_backups(&machine).await?;
		let first =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?.remove(0);

		let host = Host::start(world, OTHER_NODE, dev::dave(), "//Dave").await?;
		let agent = &host.agent;
		move_machine(world, agent, &machine).await?;
		ask_for_snapshot(&world.chain, &machine).await?;
		let history = world.chain.wait_for_snapshots(machine.request, 2, SNAPSHOT_TIME_MAX).await?;
		let sequences: Vec<_> = history.iter().map(|snapshot| snapshot.sequence).collect();
		ensure!(sequences == [0, 1], "each place is taken once: {sequences:?}");
		let second = &history[1];
		ensure!(history[0].cid == first.cid, "the history was changed");
		ensure!(world.agent.pinned().await? == [first.cid.clone()], "the old node holds its own");
		ensure!(agent.pinned().await? == [second.cid.clone()], "the new node holds its own");

		for (cid, agent) in [(&first.cid, &world.agent), (&second.cid, agent)] {
			let image = restore(&world.chain, &machine, cid, agent).await?;
			ensure!(checksum(&image)? == checksum(&machine.disk)?, "{cid} came back changed");
		}
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
