//! What is done when the node of a machine is gone: copies that are waited for before, and the way back
//! after.

use crate::{
	chain::{Snapshot, number, to_json},
	command::backup,
	guest::Guest,
	host::Host,
	story, wait,
	world::{BOOT_TIME_MAX, COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World},
};
use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use std::{
	fs,
	path::{Path, PathBuf},
};
use subxt::dynamic::Value;

/// The holders of a machine's copies, each with the sequence behind the newest that it confirmed.
async fn confirmed(world: &World, machine: &Machine) -> Result<Vec<(u64, u64)>> {
	let request = vec![number(machine.request)];
	let holders: Json = world.chain.storage("Backup", "HoldersOf", request).await?;
	let number = |holder: &Json, name: &str| {
		holder[name].as_u64().with_context(|| format!("a holder has no {name}: {holders}"))
	};
	// A bounded list is a list in a tuple.
	let list = holders[0].as_array().cloned().unwrap_or_default();
	list.iter().map(|holder| Ok((number(holder, "node")?, number(holder, "to")?))).collect()
}

/// What the chain says of how a machine is protected: the newest snapshot that the host claims, and the
/// newest that another node confirms, by their sequences.
pub async fn protection(world: &World, machine: &Machine) -> Result<(Option<u64>, Option<u64>)> {
	let answer: Value = world.chain.ask("protection", vec![number(machine.request)]).await?;
	let protection = to_json(&answer);
	ensure!(protection.is_object(), "no protection of request {}", machine.request);
	let point = |name: &str| protection[name]["sequence"].as_u64();
	Ok((point("claimed"), point("confirmed")))
}

/// Wait until these nodes have confirmed all snapshots below a sequence.
pub async fn wait_for_copies(
	world: &World,
	machine: &Machine,
	nodes: &[u32],
	to: u64,
) -> Result<()> {
	wait::until_async("copies to be confirmed", SNAPSHOT_TIME_MAX, || async move {
		let confirmed = confirmed(world, machine).await?;
		let has_all = |node: &u32| confirmed.contains(&(u64::from(*node), to));
		Ok(nodes.iter().all(has_all).then_some(()))
	})
	.await
}

/// The owner asks for a snapshot until the shortest cadence is over, and waits for it.
pub async fn snapshot(world: &World, machine: &Machine, count: usize) -> Result<Snapshot> {
	wait::until_async("a wish to be allowed", COMMAND_TIME_MAX, || async move {
		let arguments = vec![number(machine.request)];
		let asked = world.chain.submit(&machine.owner, "Backup", "request_snapshot", arguments);
		Ok(asked.await.is_ok().then_some(()))
	})
	.await?;
	let chain = &world.chain;
	let all = chain.wait_for_snapshots(machine.request, count, SNAPSHOT_TIME_MAX).await?;
	all.into_iter().nth(count - 1).context("no snapshot")
}

/// The machine's request goes to another node, whose operator takes it over.
pub async fn take_over(world: &World, machine: &Machine, host: &Host) -> Result<()> {
	let arguments = vec![number(machine.request)];
	world.chain.submit(&machine.owner, "Compute", "release_request", arguments).await?;
	let (operator, name) = (&host.operator, &machine.name);
	story::fulfil_on(&world.chain, operator, host.id, machine.request, name).await?;
	world.chain.wait_for_event("Backup.BackupMoved", 0, COMMAND_TIME_MAX).await?;
	Ok(())
}

/// The owner lets the node open the snapshot, and asks it for the image.
pub async fn restore(
	world: &World,
	machine: &Machine,
	snapshot: &Snapshot,
	host: &Host,
) -> Result<PathBuf> {
	let envelope = world.lab.path().join("envelope");
	let recipient = host.agent.recipient().to_string();
	backup([
		"envelope".as_ref(),
		"--root".as_ref(),
		snapshot.cid.as_ref(),
		"--identity".as_ref(),
		machine.identity.path.as_os_str(),
		"--gateway".as_ref(),
		host.agent.url().as_ref(),
		"--to".as_ref(),
		recipient.as_ref(),
		"--output".as_ref(),
		envelope.as_os_str(),
	])?;
	let envelope = Value::from_bytes(fs::read(envelope)?);
	let options = Value::named_composite([
		("mode", Value::unnamed_variant("Aside", [])),
		("target", Value::unnamed_variant("None", [])),
		("envelope", Value::unnamed_variant("Some", [envelope])),
	]);
	let arguments = vec![number(machine.request), number(snapshot.sequence), options];
	let events =
		world.chain.submit(&machine.owner, "Backup", "restore_snapshot", arguments).await?;
	let asked = events.iter().find(|event| event.name == "Backup.SnapshotRestoreRequested");
	let restore = asked.context("no restore was asked for")?.fields["restore_id"].as_u64();
	let restore = restore.context("a restore has a number")?;
	let image = host.agent.image(machine.request, snapshot.sequence, restore);
	wait::until("the image", SNAPSHOT_TIME_MAX, || Ok(image.exists().then_some(())))?;
	Ok(image)
}

/// The machine runs on what was restored, and finds all that it had written.
pub fn boot(world: &World, machine: &Machine, image: &Path, host: &Host) -> Result<Guest> {
	let guest = world.boot("vm-back", image, machine.tag)?;
	guest.wait_ready(BOOT_TIME_MAX)?;
	guest.verify(COMMAND_TIME_MAX)?;
	let qmp = guest.backup_qmp();
	host.agent.add_machine(&machine.name, machine.tag, Some(&qmp), image)?;
	Ok(guest)
}
