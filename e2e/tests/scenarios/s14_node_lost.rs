//! The node that runs a machine is gone, with its disks and its backups. From the chain, the owner's
//! secret and the copies on two other nodes the machine comes back on one of these, with all that
//! it had written before the last snapshot; its history goes on there, and a new node takes over the
//! copy.

use anyhow::{Result, ensure};
use backup_e2e::{
	chain::View,
	command,
	host::Host,
	recovery::{boot, restore, snapshot, take_over, wait_for_copies},
	script,
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use serde_json::json;
use std::{fs, time::Instant};
use subxt_signer::sr25519::dev;

const HOST: u32 = 2;
const HOLDER: u32 = 3;
const NEXT_HOLDER: u32 = 4;

/// A foreign IPFS client fetches the whole snapshot from its root, and hashes each block.
async fn ensure_read_by_helia(holder: &Host, root: &str) -> Result<()> {
	let (url, root) = (holder.agent.url(), root.to_owned());
	let words = move || {
		let words = ["--require", "./promise.cjs", "walk.mjs", &url, &root];
		script::run("helia", &words)
	};
	let found = tokio::task::spawn_blocking(words).await??;
	let status = holder.agent.get("/v1/status").await?;
	ensure!(found["blocks"] == status["blocks"], "Helia found {found}, the store has {status}");
	ensure!(found["bytes"] == status["stored_bytes"], "Helia found {found}, not {status}");
	Ok(())
}

/// The host's agent hears from its worker which snapshot others confirm, who they are, that none is late,
/// and how often the chain wants one: what its alarms go by.
async fn wait_until_told(host: &Host, sequence: u64) -> Result<()> {
	wait::until_async("the host's agent to hear of the copies", SNAPSHOT_TIME_MAX, || async {
		let machine = &host.agent.get("/v1/machines").await?[0];
		let confirmed = &machine["confirmed"];
		let has_it = |node: u32| {
			let holder =
				json!({ "node": node.to_string(), "sequence": sequence, "is_silent": false });
			confirmed["holders"].as_array().is_some_and(|holders| holders.contains(&holder))
		};
		let is_told = confirmed["sequence"] == sequence
			&& confirmed["is_late"] == false
			&& [story::NODE, HOLDER].into_iter().any(has_it)
			&& machine["cadence"]["blocks"] == Pace::COPIED.frequency;
		Ok(is_told.then_some(()))
	})
	.await
}

/// The owner needs nobody's help: the chain says who has copies, and their gateways, which are not open
/// to all, let the owner in.
fn restore_as_an_owner(world: &World, machine: &Machine, lost: &str) -> Result<()> {
	let image = world.lab.path().join("by-the-owner.raw");
	let (request, identity) = (machine.request, machine.identity.path.display());
	let words = format!(
		"restore --machine {request} --identity {identity} --peer-network 127.0.0.0/8 --node {} \
		 --output {}",
		world.node.url(),
		image.display()
	);
	command::backup(words.split_whitespace())?;
	ensure!(checksum(&image)? == lost, "the disk came to its owner changed");
	Ok(fs::remove_file(image)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_node_is_gone_comes_back_on_a_holder_of_its_copies() {
	script::install("helia").unwrap();
	scenario("s14", Pace::COPIED, async |world| {
		let mut host = Host::start(world, HOST, dev::dave(), "//Dave").await?;
		let holder = Host::start(world, HOLDER, dev::eve(), "//Eve").await?;
		for node in [story::NODE, HOLDER] {
			story::admit_storage_node(&world.chain, node).await?;
		}
		let mut machine = world.machine_on(&host, &story::owner(), "vm-1", 128).await?;
		world.begin_backups(&machine).await?;
		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		wait_for_copies(world, &machine, &[story::NODE, HOLDER], 1).await?;

		let first = world.chain.snapshots(machine.request).await?.remove(0);
		ensure_read_by_helia(&holder, &first.cid).await?;

		machine.guest.write(4, COMMAND_TIME_MAX)?;
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		let last = snapshot(world, &machine, 2).await?;
		wait_for_copies(world, &machine, &[story::NODE, HOLDER], 2).await?;
		wait_until_told(&host, last.sequence).await?;
		let lost = checksum(&machine.disk)?;

		let lost_at = world.chain.number(View::Best).await?;
		let gone = Instant::now();
		machine.guest.kill();
		host.destroy()?;
		fs::remove_file(&machine.disk)?;

		restore_as_an_owner(world, &machine, &lost)?;
		let next = Host::start(world, NEXT_HOLDER, dev::ferdie(), "//Ferdie").await?;
		story::admit_storage_node(&world.chain, NEXT_HOLDER).await?;
		take_over(world, &machine, &holder).await?;
		let image = restore(world, &machine, &last, &holder).await?;
		ensure!(checksum(&image)? == lost, "the disk came back changed");
		machine.guest = boot(world, &machine, &image, &holder)?;
		println!(
			"RPO: {} blocks; RTO: {} s from the loss to a machine that runs",
			lost_at.saturating_sub(last.taken_at),
			gone.elapsed().as_secs()
		);

		let further = snapshot(world, &machine, 3).await?;
		ensure!(further.sequence == last.sequence + 1, "the history goes on: {further:?}");
		wait_for_copies(world, &machine, &[story::NODE, NEXT_HOLDER], 3).await?;
		let pinned = next.agent.pinned().await?;
		for snapshot in world.chain.snapshots(machine.request).await? {
			ensure!(pinned.contains(&snapshot.cid), "the new holder lacks {}", snapshot.cid);
		}
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
