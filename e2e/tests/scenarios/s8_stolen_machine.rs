//! An owner whose request claims another owner's machine gets nothing, and the reason can be
//! seen on chain and in the agent's log.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	command::backup,
	story::{self, Identity, Pace},
	wait,
	world::{SNAPSHOT_TIME_MAX, scenario},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_claims_a_neighbours_machine_gets_nothing() {
	scenario("s8", Pace::ONCE, async |world| {
		let bobs = world.machine(&story::owner(), "vm-bob", 128).await?;

		// The node is careless: it serves the stranger's request with Bob's machine.
		let thief = story::stranger();
		let request = story::order_machine(&world.chain, &thief, 1 << 30).await?;
		let tag = story::vm_tag(&world.chain, request, &thief);
		world.agent.add_machine("vm-thief", tag, Some(&bobs.guest.backup_qmp()), &bobs.disk)?;
		story::fulfil(&world.chain, request, "vm-thief").await?;
		let identity = Identity::new(world.lab.path(), "thief.key")?;
		story::register_key(&world.chain, &thief, identity.recipient).await?;

		let eligibility = wait::until_async("the refusal", SNAPSHOT_TIME_MAX, || async {
			let eligibility = world.chain.eligibility(request).await?;
			Ok(eligibility.get("FailedInSlot").is_some().then_some(eligibility))
		})
		.await?;
		ensure!(eligibility["FailedInSlot"]["reason"] == "VmTagMismatch", "{eligibility}");
		ensure!(world.chain.snapshots(request).await?.is_empty(), "the thief has a snapshot");
		ensure!(world.agent.pinned().await?.is_empty(), "something was stored for the thief");
		ensure!(world.agent.stored_bytes().await? == 0, "the neighbour's disk was read");
		let log = world.agent.output();
		ensure!(log.contains(&tag.to_string()) || log.contains("tag"), "the log is silent:\n{log}");

		let status = cli_status(&world.node.url(), request)?;
		ensure!(status["backups"][0]["last_failure"] == "vm-tag-mismatch", "{status}");

		// The rightful owner is served.
		world.begin_backups(&bobs).await?;
		world.chain.wait_for_snapshots(bobs.request, 1, SNAPSHOT_TIME_MAX).await?;
		ensure!(world.chain.snapshots(request).await?.is_empty(), "the thief has a snapshot");
		ensure!(bobs.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}

fn cli_status(node: &str, request: u64) -> Result<serde_json::Value> {
	backup(["--node", node, "status", &request.to_string()]).context("backup status")
}
