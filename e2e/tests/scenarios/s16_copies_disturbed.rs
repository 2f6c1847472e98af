//! Copies that do not come easily: the line between the host and its holders is cut in the middle of
//! the first one, and one holder's node is cut off from the chain, too, so that it lags behind; both
//! are joined again. Then both holders are lost at once, and two others take over with nobody asking
//! for it. The host goes on all the while, and the chain tells what is claimed from what is confirmed.

use anyhow::{Result, ensure};
use backup_e2e::{
	chain::View,
	command::backup,
	host::Host,
	link::Link,
	recovery::{protection, snapshot, wait_for_copies},
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, SNAPSHOT_TIME_MAX, World, scenario},
};
use subxt_signer::sr25519::{Keypair, dev};

const HOST: u32 = 2;
const HOLDERS: [u32; 2] = [3, 4];
const NEXT_HOLDERS: [u32; 2] = [5, 6];

/// The secret of one more operator.
const STASH: &str = "//Alice//stash";

/// Slow enough for a copy to be cut in its middle.
const SLOW: u64 = 2 << 20;

const PACE: Pace = Pace { holder_silence: 20, ..Pace::COPIED };

/// Bytes that a holder fetched, and what went wrong the last time.
async fn fetched(holder: &Host) -> Result<(u64, Option<String>)> {
	let copies = holder.agent.copies().await?;
	let copy = copies.first();
	let bytes = copy.and_then(|copy| copy["fetched_bytes"].as_u64()).unwrap_or_default();
	Ok((bytes, copy.and_then(|copy| copy["error"].as_str()).map(str::to_owned)))
}

/// The line is cut when each holder has a part of the first snapshot.
async fn cut_in_mid_copy(link: &Link, holders: &[Host; 2]) -> Result<()> {
	for holder in holders {
		wait::until_async("a part of the copy", SNAPSHOT_TIME_MAX, || async {
			Ok((fetched(holder).await?.0 > 0).then_some(()))
		})
		.await?;
	}
	link.cut();
	for holder in holders {
		wait::until_async("a holder to notice", SNAPSHOT_TIME_MAX, || async {
			Ok(fetched(holder).await?.1.map(drop))
		})
		.await?;
	}
	Ok(())
}

/// The node of a holder was cut off at this block: it knows nothing of what came since.
async fn ensure_behind(world: &World, machine: &Machine, holder: &Host, cut_at: u64) -> Result<()> {
	let (own, all) =
		(holder.chain.number(View::Best).await?, world.chain.number(View::Best).await?);
	ensure!(own <= cut_at && all > cut_at, "it is at block {own}, the others at {all}");
	let known = holder.chain.snapshots(machine.request).await?.len();
	ensure!(known == 1, "it knows {known} snapshots");
	Ok(())
}

/// The node of a holder is joined with the others, and learns what came meanwhile.
async fn catch_up(world: &World, machine: &Machine, holder: &Host) -> Result<()> {
	holder.rejoin().await?;
	let all = world.chain.number(View::Best).await?;
	holder.chain.wait_for_block(all, COMMAND_TIME_MAX).await?;
	holder.chain.wait_for_snapshots(machine.request, 2, COMMAND_TIME_MAX).await?;
	Ok(())
}

/// Both holders go with all that they have. The chain finds out by their silence.
async fn lose_both(world: &World, machine: &Machine, holders: [Host; 2]) -> Result<()> {
	for mut holder in holders {
		holder.destroy()?;
	}
	wait::until_async("the holders' silence", SNAPSHOT_TIME_MAX, || async {
		Ok(protection(world, machine).await?.1.is_none().then_some(()))
	})
	.await?;
	let (claimed, _) = protection(world, machine).await?;
	ensure!(claimed == Some(1), "the host's own snapshots are still claimed: {claimed:?}");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_outlive_a_cut_line_and_the_loss_of_all_holders() {
	scenario("s16", PACE, async |world| {
		let link = Link::lay().await?;
		link.slow(Some(SLOW));
		let host = Host::start_on(world, HOST, dev::dave(), "//Dave", &link).await?;
		let holders = [
			Host::start(world, HOLDERS[0], dev::eve(), "//Eve").await?,
			Host::start(world, HOLDERS[1], dev::ferdie(), "//Ferdie").await?,
		];
		for node in HOLDERS {
			story::admit_storage_node(&world.chain, node).await?;
		}
		let machine = world.full_machine_on(&host, &story::owner(), "vm-1", 128, 48).await?;
		world.begin_backups(&machine).await?;
		world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;

		cut_in_mid_copy(&link, &holders).await?;
		holders[0].cut_off().await?;
		let cut_at = holders[0].chain.number(View::Best).await?;
		machine.guest.write(4, COMMAND_TIME_MAX)?;
		machine.guest.quiet(COMMAND_TIME_MAX)?;
		snapshot(world, &machine, 2).await?;
		let apart = protection(world, &machine).await?;
		ensure!(apart == (Some(1), None), "claimed and confirmed: {apart:?}");
		let request = machine.request.to_string();
		let status = backup(["--node", &world.node.url(), "status", &request])?;
		let told = &status["backups"][0]["protection"];
		ensure!(told["claimed"]["sequence"] == 1 && told["confirmed"].is_null(), "{status}");

		ensure_behind(world, &machine, &holders[0], cut_at).await?;
		link.slow(None);
		link.join();
		// The other one has all before, for it knows of all.
		wait_for_copies(world, &machine, &HOLDERS[1..], 2).await?;
		ensure_behind(world, &machine, &holders[0], cut_at).await?;
		catch_up(world, &machine, &holders[0]).await?;
		wait_for_copies(world, &machine, &HOLDERS, 2).await?;
		ensure!(protection(world, &machine).await? == (Some(1), Some(1)), "both have both");
		for holder in &holders {
			let (fetched, stored) = (fetched(holder).await?.0, holder.agent.stored_bytes().await?);
			ensure!(fetched <= stored + stored / 10, "{fetched} bytes came for {stored}");
		}

		lose_both(world, &machine, holders).await?;
		let next = [
			Host::start(world, NEXT_HOLDERS[0], dev::charlie(), "//Charlie").await?,
			Host::start(world, NEXT_HOLDERS[1], Keypair::from_uri(&STASH.parse()?)?, STASH).await?,
		];
		for node in NEXT_HOLDERS {
			story::admit_storage_node(&world.chain, node).await?;
		}
		// Nobody asks: the chain chooses them as they are admitted, in the place of the silent ones.
		wait_for_copies(world, &machine, &NEXT_HOLDERS, 2).await?;
		ensure!(protection(world, &machine).await? == (Some(1), Some(1)), "protected again");
		for holder in &next {
			ensure!(holder.agent.pinned().await?.len() == 2, "a new holder lacks a snapshot");
		}
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
