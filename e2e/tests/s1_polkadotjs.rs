//! polkadot.js against the running node, with nothing but the chain's metadata.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	story::{self, Pace},
	world::{SNAPSHOT_TIME_MAX, scenario},
};
use serde_json::Value as Json;
use std::{path::PathBuf, process::Command};

fn script_folder() -> PathBuf {
	PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("polkadotjs")
}

/// Install what the lock file names, unless it is there.
fn install() -> Result<()> {
	let folder = script_folder();
	let (lock, done) =
		(folder.join("package-lock.json"), folder.join("node_modules/.package-lock.json"));
	let is_newer = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
	if is_newer(&done) >= is_newer(&lock) && done.exists() {
		return Ok(());
	}
	let output = Command::new("npm")
		.args(["ci", "--prefer-offline", "--no-audit", "--no-fund"])
		.current_dir(folder)
		.output()
		.context("failed to run npm; Node.js 20 or newer is needed")?;
	ensure!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
	Ok(())
}

fn run_script(arguments: &[&str]) -> Result<Json> {
	let output = Command::new("node")
		.arg("scenario.mjs")
		.args(arguments)
		.current_dir(script_folder())
		.output()
		.context("failed to run node; Node.js 20 or newer is needed")?;
	let errors = String::from_utf8_lossy(&output.stderr);
	ensure!(output.status.success(), "the script failed: {errors}");
	serde_json::from_slice(&output.stdout).context("the script printed no JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn polkadotjs_reads_and_writes_everything_that_owners_and_governance_need() {
	install().unwrap();
	scenario("s1", Pace::ONCE, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		world.begin_backups(&machine).await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		let cid = snapshots[0].cid.clone();

		let url = world.node.url();
		let request = machine.request.to_string();
		let seen =
			tokio::task::spawn_blocking(move || run_script(&[&url, &request, &cid])).await??;

		ensure!(seen["pallets"].as_array().map(Vec::len) == Some(4), "{seen}");
		let calls = seen["calls"].to_string();
		for call in ["setBackupOffchainWorkerFrequency", "addSnapshot", "restoreFromSnapshot"] {
			ensure!(calls.contains(call), "no call {call}: {calls}");
		}
		ensure!(seen["ownFrequency"] == 50_000, "{seen}");
		ensure!(
			seen["frequency"][1] == 50_000 || seen["frequency"]["frequency"] == 50_000,
			"{seen}"
		);
		ensure!(seen["settings"]["keepLast"] == 7, "the council's settings do not stand: {seen}");
		ensure!(seen["refused"].to_string().contains("BadOrigin"), "an owner governs: {seen}");
		ensure!(seen["backups"]["snapshots"] == 1, "{seen}");
		ensure!(seen["snapshots"].as_array().map(Vec::len) == Some(1), "{seen}");
		ensure!(seen["snapshots"][0]["sequence"] == 0, "{seen}");
		ensure!(seen["snapshots"][0]["snapshot"]["logicalBytes"] == 128 << 20, "{seen}");
		ensure!(seen["pagedSnapshots"] == 1, "{seen}");
		ensure!(seen["eligibility"]["notDue"]["dueAt"].is_u64(), "{seen}");

		world.chain.wait_for_event("Backup.SnapshotRestored", 0, SNAPSHOT_TIME_MAX).await?;
		Ok(())
	})
	.await;
}
