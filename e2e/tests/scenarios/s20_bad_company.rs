//! Holders and gateways that are of no use. A holder's disk is full; a host has gateways that change
//! bytes, never end, drip, or send their readers elsewhere; a holder loses its blocks after it has
//! confirmed them, below its running agent and while that is away. Each time it is looked at what is
//! told, by whom, and that it heals; and that nobody is sent where the chain does not send.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	agent::Agent,
	front::{Front, Manner},
	host::Host,
	impostor::Impostor,
	lab::free_port,
	recovery::{protection, wait_for_copies},
	small_disk::SmallDisk,
	story::{self, Pace},
	wait,
	world::{Machine, SNAPSHOT_TIME_MAX, World, scenario},
};
use serde_json::Value as Json;
use std::{fs, path::PathBuf};
use subxt_signer::sr25519::dev;

const HOST: u32 = 2;
const HOLDER: u32 = 3;

/// The agent keeps 256 MiB of its disk in reserve: this leaves less than the machine's noise takes.
const FULL_MIB: usize = 256 + 12;
const ROOMY_MIB: usize = 256 + 128;
const NOISE_MIB: u64 = 24;

/// How often the holder looks itself whether all is there: daily, where nobody sets it.
const VERIFY_SECONDS: &str = "5";

/// Most bytes that one without an end may give: what the system's buffers hold, a few times.
const GIVEN_BYTES_MAX: u64 = 64 << 20;

/// The host's gateways while they mean harm.
fn manners(elsewhere: &str) -> [Manner; 4] {
	let redirect = Manner::Redirect(elsewhere.to_owned());
	[Manner::EndlessCar, Manner::WrongBytes, redirect, Manner::Drip]
}

/// What the holder's agent tells of its copy.
async fn copy(holder: &Agent) -> Result<Json> {
	holder.copies().await?.into_iter().next().context("it holds no copy")
}

async fn wait_for_error(holder: &Agent, words: &str) -> Result<()> {
	wait::until_async(words, SNAPSHOT_TIME_MAX, || async {
		let copies = holder.copies().await?;
		let error = copies.first().and_then(|copy| copy["error"].as_str());
		Ok(error.filter(|error| error.contains(words)).map(drop))
	})
	.await
}

/// The agent starts anew with its store on a disk that is soon full. Where none can be mounted, it stays
/// away instead.
async fn give_a_small_disk(agent: &mut Agent) -> Result<Option<SmallDisk>> {
	agent.stop()?;
	agent.set("VERIFY_PRESENCE_SECONDS", VERIFY_SECONDS);
	let disk = SmallDisk::over(&agent.store(), FULL_MIB)?;
	if disk.is_some() {
		agent.start().await?;
	}
	Ok(disk)
}

/// Bytes that the holder had fetched when it is given the room that it lacks.
async fn give_room(agent: &mut Agent, disk: Option<&SmallDisk>) -> Result<u64> {
	let Some(disk) = disk else {
		agent.start().await?;
		return Ok(0);
	};
	let before = copy(agent).await?["fetched_bytes"].as_u64().unwrap_or_default();
	disk.grow(ROOMY_MIB)?;
	Ok(before)
}

/// While a holder has no room, it says so, and the chain counts it for nothing; another one confirms.
async fn ensure_told_as_full(world: &World, machine: &Machine, holder: &Agent) -> Result<()> {
	wait_for_error(holder, "full").await?;
	wait_for_copies(world, machine, &[story::NODE], 1).await?;
	wait_for_copies(world, machine, &[HOLDER], 0).await?;
	ensure!(protection(world, machine).await? == (Some(0), Some(0)), "one of two confirms it");
	let metrics = holder.text("/metrics").await?;
	ensure!(metrics.contains("backup_agent_copies_behind 1"), "{metrics}");
	Ok(())
}

/// The copy came although each of these did its worst. What they could do is bounded.
async fn ensure_borne(holder: &Agent, fronts: &[Front], before: u64) -> Result<()> {
	let log = holder.output();
	for front in fronts {
		let is_told = |line: &str| line.contains("passed over") && line.contains(front.url());
		ensure!(front.harmed() > 0, "{} was never asked", front.url());
		ensure!(log.lines().any(is_told), "{} is not passed over", front.url());
		let given = front.given_bytes();
		ensure!(given < GIVEN_BYTES_MAX, "{given} bytes were taken from {}", front.url());
	}
	// What came before there was room may have come twice, and nothing else.
	let fetched = copy(holder).await?["fetched_bytes"].as_u64().unwrap_or_default() - before;
	let stored = holder.stored_bytes().await?;
	ensure!(fetched <= 2 * stored, "{fetched} bytes came for {stored}");
	Ok(())
}

/// The files with blocks in a store.
fn packs(agent: &Agent) -> Result<Vec<PathBuf>> {
	let entries = fs::read_dir(agent.store())?;
	let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
	let is_pack = |path: &PathBuf| path.extension().is_some_and(|end| end == "pack");
	Ok(paths.into_iter().filter(is_pack).collect())
}

/// The blocks are taken away below an agent that runs. It finds out when it verifies next, and nobody
/// does before; then it fetches them from the other holder.
async fn empty_below(world: &World, machine: &Machine, holder: &Agent) -> Result<()> {
	for pack in packs(holder)? {
		fs::File::options().write(true).open(pack)?.set_len(0)?;
	}
	wait_for_copies(world, machine, &[HOLDER], 1).await?;
	wait::until_async("the holder to mend its store", SNAPSHOT_TIME_MAX, || async {
		let is_mended = holder.output().contains("replaced by good ones");
		let verdict = &holder.get("/v1/verifications").await?["results"][0]["verdict"];
		Ok((is_mended && *verdict == "good").then_some(()))
	})
	.await?;
	let metrics = holder.text("/metrics").await?;
	let is_counted = |line: &str| {
		let count = line.strip_prefix("backup_agent_mended_blocks_total{from=\"holder\"} ");
		count.is_some_and(|count| count != "0")
	};
	ensure!(metrics.lines().any(is_counted), "{metrics}");
	Ok(())
}

/// The store goes while the agent is away. It says so as soon as it is back, although nobody can give
/// anything now.
async fn empty_while_away(world: &mut World, machine: &Machine, holder: &mut Agent) -> Result<()> {
	world.agent.stop()?;
	holder.kill()?;
	for entry in fs::read_dir(holder.store())? {
		fs::remove_file(entry?.path())?;
	}
	holder.start().await?;
	wait_for_copies(world, machine, &[HOLDER], 0).await?;
	let told = copy(holder).await?;
	ensure!(told["to"] == 0 && told["state"] != "whole", "{told}");
	world.agent.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn full_and_emptied_holders_and_evil_gateways_are_told_of_borne_and_got_over() {
	scenario("s20", Pace::COPIED, async |world| {
		let elsewhere = format!("127.0.0.1:{}", free_port()?);
		let bait = Impostor::listen(&elsewhere).await?;
		let mut fronts = Vec::new();
		for _ in 0..4 {
			fronts.push(Front::open().await?);
		}
		let (host, mut holder) = tokio::try_join!(
			Host::start_behind(world, HOST, dev::dave(), "//Dave", &fronts),
			Host::start(world, HOLDER, dev::eve(), "//Eve"),
		)?;
		let disk = give_a_small_disk(&mut holder.agent).await?;
		for node in [story::NODE, HOLDER] {
			story::admit_storage_node(&world.chain, node).await?;
		}
		let machine = world.full_machine_on(&host, &story::owner(), "vm-1", 104, NOISE_MIB).await?;
		world.begin_backups(&machine).await?;
		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;

		match &disk {
			Some(_) => ensure_told_as_full(world, &machine, &holder.agent).await?,
			None => wait_for_copies(world, &machine, &[story::NODE], 1).await?,
		}
		for (front, manner) in fronts.iter().zip(manners(&format!("http://{elsewhere}"))) {
			front.behave(manner);
		}
		let before = give_room(&mut holder.agent, disk.as_ref()).await?;
		wait_for_copies(world, &machine, &[story::NODE, HOLDER], 1).await?;
		ensure_borne(&holder.agent, &fronts, before).await?;

		fronts.iter().for_each(|front| front.behave(Manner::Deaf));
		empty_below(world, &machine, &holder.agent).await?;
		empty_while_away(world, &machine, &mut holder.agent).await?;
		fronts.iter().for_each(|front| front.behave(Manner::Honest));
		wait_for_copies(world, &machine, &[HOLDER], 1).await?;

		ensure!(bait.visits().is_empty(), "a redirect was followed");
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
