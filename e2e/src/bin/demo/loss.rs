//! The second act: the node that runs a machine is gone, and the machine comes back elsewhere.

use crate::{narrator::Narrator, row, seconds};
use anyhow::{Result, ensure};
use backup_e2e::{
	chain::View,
	host::Host,
	recovery::{boot, restore, snapshot, take_over, wait_for_copies},
	story::{self, Pace},
	world::{COMMAND_TIME_MAX, SNAPSHOT_TIME_MAX, World, checksum},
};
use std::{fs, time::Instant};
use subxt_signer::sr25519::dev;

const HOST: u32 = 2;
const HOLDER: u32 = 3;

/// Size of the machine's disk, and what it writes, in MiB.
const DISK_MIB: u64 = 256;
const WRITES_MIB: u64 = 16;

pub(crate) async fn show(narrator: &mut Narrator) -> Result<()> {
	narrator.begin("a chain, and three nodes with an agent each");
	let world = World::start("demo-loss", Pace::COPIED).await?;
	let result = play(&world, narrator).await;
	if result.is_err() {
		eprintln!("{}", world.lab.logs());
	}
	result
}

async fn play(world: &World, narrator: &mut Narrator) -> Result<()> {
	let mut host = Host::start(world, HOST, dev::dave(), "//Dave").await?;
	let holder = Host::start(world, HOLDER, dev::eve(), "//Eve").await?;
	for node in [story::NODE, HOLDER] {
		story::admit_storage_node(&world.chain, node).await?;
	}
	narrator.end("node 2 runs machines; governance lets nodes 1 and 3 hold copies");

	narrator.begin("node 2 starts a machine, which writes");
	let machine = world.machine_on(&host, &story::owner(), "vm-1", DISK_MIB).await?;
	machine.guest.write(WRITES_MIB, COMMAND_TIME_MAX)?;
	machine.guest.quiet(COMMAND_TIME_MAX)?;
	world.begin_backups(&machine).await?;
	world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
	narrator.end(format_args!("snapshot 0 of request {} is recorded", machine.request));

	narrator.begin("nodes 1 and 3 fetch it");
	wait_for_copies(world, &machine, &[story::NODE, HOLDER], 1).await?;
	narrator.end("both copies are confirmed on chain");
	machine.guest.write(WRITES_MIB, COMMAND_TIME_MAX)?;
	machine.guest.quiet(COMMAND_TIME_MAX)?;
	let last = snapshot(world, &machine, 2).await?;
	wait_for_copies(world, &machine, &[story::NODE, HOLDER], 2).await?;
	narrator.end("the machine wrote more; snapshot 1 and its copies are confirmed");

	let lost = checksum(&machine.disk)?;
	let lost_at = world.chain.number(View::Best).await?;
	let gone = Instant::now();
	machine.guest.kill();
	host.destroy()?;
	fs::remove_file(&machine.disk)?;
	narrator.end("node 2 is gone: its machine, its disks, its agent and its backups");

	narrator.begin("node 3 takes the request over");
	take_over(world, &machine, &holder).await?;
	narrator.end("the history of the machine goes on at node 3");
	narrator.begin("the owner lets node 3 open the snapshot, and asks for the image");
	let image = restore(world, &machine, &last, &holder).await?;
	let restored = checksum(&image)?;
	let restored_in = gone.elapsed();
	narrator.end("the image is back");
	narrator.begin("the machine boots from it");
	let guest = boot(world, &machine, &image, &holder)?;
	narrator.end("the machine runs, and finds all that it had written");

	println!();
	row("lost disk", &lost);
	row("restored disk", &restored);
	row("RPO", format_args!("{} blocks", lost_at.saturating_sub(last.taken_at)));
	row("RTO, image", seconds(restored_in));
	row("RTO, machine", seconds(gone.elapsed()));
	ensure!(restored == lost, "the disk came back changed");
	ensure!(guest.is_running(), "the machine does not run");
	println!("\na node was lost, and nothing that was confirmed was lost with it");
	Ok(())
}
