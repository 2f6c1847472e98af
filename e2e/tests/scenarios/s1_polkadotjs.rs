//! polkadot.js against the running node, with nothing but the chain's metadata.

use anyhow::{Result, ensure};
use backup_e2e::{
	book,
	chain::{Chain, View},
	script,
	story::{self, Pace},
	world::{COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, scenario},
};

/// The book's pages name calls, arguments, reads, constants and events as the metadata does, and leave
/// no call out.
fn pages_name_what_is_there(url: &str) -> Result<()> {
	let pages = ["polkadotjs.md", "governance.md"].map(|page| book::pages().join(page));
	let [guide, governance] = pages.each_ref().map(|page| page.to_string_lossy());
	let found = script::run("polkadotjs", &["names.mjs", url, &guide, &governance])?;
	ensure!(found["named"].as_array().is_some_and(|list| list.iter().all(|n| n != 0)), "{found}");
	for kind in ["wrong", "missing", "unknownEvents"] {
		ensure!(found[kind].as_array().is_some_and(Vec::is_empty), "{kind}: {found}");
	}
	Ok(())
}

/// The programs of the guide, as they stand there: they read why nothing is due, ask for a snapshot
/// and list what there is.
async fn the_guide_does_what_it_says(chain: &Chain, url: String, request: u64) -> Result<()> {
	ensure!(request == 0, "the guide speaks of request 0, and the machine is of {request}");
	let page = book::pages().join("polkadotjs.md").to_string_lossy().into_owned();
	let before = chain.number(View::Best).await?;
	let words = move || script::run("polkadotjs", &["guide.mjs", &url, &page]);
	let seen = tokio::task::spawn_blocking(words).await??;
	ensure!(seen["logged"][0].to_string().contains("NotDue"), "{seen}");
	ensure!(seen["logged"][1].to_string().contains("bafy"), "{seen}");
	chain.wait_for_event("Backup.SnapshotRequested", before, SNAPSHOT_TIME_MAX).await?;
	chain.wait_for_snapshots(request, 2, SNAPSHOT_TIME_MAX).await?;
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn polkadotjs_reads_and_writes_everything_that_owners_and_governance_need() {
	script::install("polkadotjs").unwrap();
	scenario("s1", Pace::ONCE, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		world.begin_backups(&machine).await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		let cid = snapshots[0].cid.clone();

		let url = world.node.url();
		let request = machine.request.to_string();
		let words = move || script::run("polkadotjs", &["scenario.mjs", &url, &request, &cid]);
		let seen = tokio::task::spawn_blocking(words).await??;

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
		ensure!(seen["page"].as_array().map(Vec::len) == Some(1), "{seen}");
		ensure!(seen["page"][0]["sequence"] == 0 && seen["next"].is_null(), "{seen}");
		ensure!(seen["page"][0]["cid"] == seen["snapshots"][0]["snapshot"]["cid"], "{seen}");
		ensure!(seen["asOf"] == 0, "{seen}");
		ensure!(seen["eligibility"]["notDue"]["dueAt"].is_u64(), "{seen}");

		let url = world.node.url();
		tokio::task::spawn_blocking(move || pages_name_what_is_there(&url)).await??;

		world.chain.wait_for_event("Backup.SnapshotRestored", 0, SNAPSHOT_TIME_MAX).await?;
		// No sooner than the chain's shortest cadence allows.
		world.chain.wait_for_block(snapshots[0].recorded_at + 5, COMMAND_TIME_MAX).await?;
		the_guide_does_what_it_says(&world.chain, world.node.url(), machine.request).await?;
		Ok(())
	})
	.await;
}
