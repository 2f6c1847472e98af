//! Deletion: metadata gone, pins gone, blocks collected, event seen. What another machine of
//! the owner shares survives an eviction, and another owner's backups survive everything.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::{View, bytes, number},
	command::backup,
	story::{self, NODE, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, checksum, scenario},
};
use std::time::Duration;

/// How long the agent may take to give up a root: finality, and its sweep.
const GIVE_UP_TIME_MAX: Duration = Duration::from_secs(90);

async fn quiet_machine(
	world: &World,
	owner: &subxt_signer::sr25519::Keypair,
	name: &str,
) -> Result<Machine> {
	let machine = world.machine(owner, name, 128).await?;
	machine.guest.write(8, COMMAND_TIME_MAX)?;
	machine.guest.quiet(COMMAND_TIME_MAX)?;
	Ok(machine)
}

async fn first_snapshot(world: &World, machine: &Machine) -> Result<String> {
	let taken = world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
	Ok(taken[0].cid.clone())
}

/// The image of a root, as the owner gets it from the agent, is the machine's disk.
fn comes_back(world: &World, machine: &Machine, cid: &str) -> Result<()> {
	let image = world.lab.path().join(format!("{}-back.raw", machine.name));
	let (key, output) = (machine.identity.path.display().to_string(), image.display().to_string());
	let url = world.agent.url();
	let arguments = ["restore", "--root", cid, "--identity", &key, "--gateway", &url];
	backup(arguments.into_iter().chain(["--output", &output]))?;
	ensure!(checksum(&image)? == checksum(&machine.disk)?, "{} came back changed", machine.name);
	Ok(())
}

async fn wait_until_unpinned(world: &World, cid: &str) -> Result<()> {
	wait::until_async("the root to be unpinned", GIVE_UP_TIME_MAX, || async move {
		let pinned = world.agent.pinned().await?;
		Ok((!pinned.iter().any(|root| root == cid)).then_some(()))
	})
	.await?;
	wait::until_async("the root's block to be collected", GIVE_UP_TIME_MAX, || async move {
		Ok((!world.agent.has_block(cid).await?).then_some(()))
	})
	.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_everything_of_the_owner_and_nothing_else() {
	scenario("s7", Pace::ONCE, async |world| {
		let bobs = quiet_machine(world, &story::owner(), "vm-bob").await?;
		let charlies = quiet_machine(world, &story::stranger(), "vm-charlie").await?;
		world.begin_backups(&bobs).await?;
		world.begin_backups(&charlies).await?;
		let bobs_root = first_snapshot(world, &bobs).await?;
		let charlies_root = first_snapshot(world, &charlies).await?;
		comes_back(world, &bobs, &bobs_root)?;
		let stored_before = world.agent.stored_bytes().await?;

		let from = world.chain.number(View::Best).await?;
		let events =
			world.chain.submit(&bobs.owner, "Marketplace", "request_deletion", vec![]).await?;
		ensure!(
			events.iter().any(|event| event.name == "Backup.UserDeletionRequested"),
			"{events:?}"
		);
		ensure!(world.agent.pinned().await?.contains(&bobs_root), "deleted before its time");
		let (_, event) = world
			.chain
			.wait_for_event("Backup.UserStorageDeleted", from, GIVE_UP_TIME_MAX)
			.await
			.context("the chain never said that the storage is gone")?;
		ensure!(event.fields["owner"] == format!("0x{}", hex::encode(bobs.owner.public_key().0)));

		let request = vec![number(bobs.request)];
		ensure!(world.chain.snapshots(bobs.request).await?.is_empty(), "snapshots stay");
		ensure!(world.chain.storage("Backup", "Lineages", request).await?.is_null());
		let header = vec![number(NODE.into()), bytes(&bobs.owner.public_key().0)];
		ensure!(
			world.chain.storage("Backup", "Backups", header).await?.is_null(),
			"the header stays"
		);
		wait_until_unpinned(world, &bobs_root).await?;
		let stored = world.agent.stored_bytes().await?;
		ensure!(stored < stored_before * 2 / 3, "{stored_before} bytes became {stored}");

		ensure!(world.agent.pinned().await? == std::slice::from_ref(&charlies_root));
		comes_back(world, &charlies, &charlies_root)?;
		ensure!(bobs.guest.is_running() && charlies.guest.is_running(), "a machine stopped");
		Ok(())
	})
	.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_another_machine_shares_survive_an_eviction() {
	let pace = Pace { keep_last: 1, ..Pace::FAST };
	scenario("s7-shared", pace, async |world| {
		// Both machines of one owner hold the same disk, so they share all blocks of it.
		let first = quiet_machine(world, &story::owner(), "vm-1").await?;
		world.begin_backups(&first).await?;
		let evicted = first_snapshot(world, &first).await?;
		let second = twin(world, &first).await?;
		let shared = first_snapshot(world, &second).await?;
		pause(world, &second).await?;

		first.guest.write(4, COMMAND_TIME_MAX)?;
		wait_until_unpinned(world, &evicted).await?;
		let kept = world.chain.snapshots(second.request).await?;
		let newest = kept.last().map_or(shared, |snapshot| snapshot.cid.clone());
		comes_back(world, &second, &newest)?;
		Ok(())
	})
	.await;
}

/// A stopped machine of the same owner whose disk is a copy.
async fn twin(world: &World, first: &Machine) -> Result<Machine> {
	let name = "vm-2";
	let request = story::order_machine(&world.chain, &first.owner, 128 << 20).await?;
	let tag = story::vm_tag(&world.chain, request, &first.owner);
	let disk = world.lab.path().join("vm-2.raw");
	std::fs::copy(&first.disk, &disk)?;
	let guest = world.boot(name, &disk, tag)?;
	guest.wait_ready(backup_e2e::world::BOOT_TIME_MAX)?;
	guest.quiet(COMMAND_TIME_MAX)?;
	world.agent.add_machine(name, tag, Some(&guest.backup_qmp()), &disk)?;
	story::fulfil(&world.chain, request, name).await?;
	let (owner, identity) = (first.owner.clone(), first.identity.clone());
	Ok(Machine { guest, disk, request, tag, name: name.into(), identity, owner })
}

async fn pause(world: &World, machine: &Machine) -> Result<()> {
	let settings = subxt::dynamic::Value::named_composite([
		("paused", subxt::dynamic::Value::bool(true)),
		("keep_last", subxt::dynamic::Value::unnamed_variant("None", [])),
	]);
	let arguments = vec![number(machine.request), settings];
	world.chain.submit(&machine.owner, "Backup", "set_backup_settings", arguments).await?;
	Ok(())
}
