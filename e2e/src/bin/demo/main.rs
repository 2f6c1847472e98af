//! The whole job, shown live: a chain, its node and agent, and a real machine that writes.
//!
//! Blocks pass, the worker snapshots the machine at its cadence, twice; the owner asks for a
//! restore, the image comes back, and its checksum is that of the disk at the snapshot. Then, on
//! another chain, the node of a machine is lost with all that it had, and the machine comes back
//! on another one. Each act ends with a table, and all of it with 1 when anything differs. Leaves
//! nothing behind, also on Ctrl-C.

mod loss;
mod narrator;

use anyhow::{Context, Result, bail};
use backup_e2e::{
	chain::{Snapshot, View},
	guest::{Accelerator, make_guest},
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, Machine, World, checksum},
};
use narrator::Narrator;
use std::{
	fmt::Display,
	path::PathBuf,
	process::ExitCode,
	time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// Size of the machine's disk, in MiB.
const DISK_MIB: u64 = 512;

/// MiB that the machine writes before each of the two snapshots.
const WRITES_MIB: [u64; 2] = [16, 4];

/// Long enough to write, and to read the disk twice, between two snapshots.
const PACE: Pace = Pace { frequency: 6, ..Pace::FAST };

/// How long a snapshot or restore may take.
const JOB_TIME_MAX: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> ExitCode {
	let mut narrator = Narrator::new();
	let shown = tokio::select! {
		shown = both_acts(&mut narrator) => shown,
		() = told_to_end() => {
			narrator.settle();
			println!("\ninterrupted; node, agent and machine are ended, their folder is gone");
			return ExitCode::from(130);
		}
	};
	match shown {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => {
			narrator.settle();
			println!("\nthe demonstration failed: {error:#}");
			ExitCode::FAILURE
		}
	}
}

async fn both_acts(narrator: &mut Narrator) -> Result<()> {
	show(narrator).await?;
	println!("\nSecond act: a node is lost\n");
	loss::show(narrator).await
}

/// Ctrl-C, or the polite way to end a program.
async fn told_to_end() {
	let Ok(mut terminate) = signal(SignalKind::terminate()) else {
		let _ = tokio::signal::ctrl_c().await;
		return;
	};
	tokio::select! {
		_ = terminate.recv() => (),
		_ = tokio::signal::ctrl_c() => (),
	}
}

/// What is known of one snapshot when it is over.
struct Taken {
	snapshot: Snapshot,
	disk_checksum: String,
	stored_bytes: u64,
	took: Duration,
}

async fn show(narrator: &mut Narrator) -> Result<()> {
	let began = Instant::now();
	narrator.begin("making the guest's kernel and initramfs");
	tokio::task::spawn_blocking(make_guest).await??;
	narrator.end("the guest's kernel and initramfs are there");

	narrator.begin("starting a node with a chain of its own, and its agent");
	let world = World::start("demo", PACE).await?;
	let result = play(&world, narrator, began).await;
	if result.is_err() {
		narrator.settle();
		println!("{}", world.lab.logs());
	}
	result
}

async fn play(world: &World, narrator: &mut Narrator, began: Instant) -> Result<()> {
	let block = world.chain.number(View::Best).await?;
	narrator.end(format_args!("the chain makes blocks (now {block}); node 1 is registered"));

	narrator.begin("an owner subscribes to backups and orders a machine; it boots");
	let machine = world.machine(&story::owner(), "vm-1", DISK_MIB).await?;
	narrator.end(format_args!(
		"request {} runs as {} on node 1 (QEMU with {:?}), UUID {}",
		machine.request,
		machine.name,
		Accelerator::detect(),
		machine.tag
	));

	write(&machine, WRITES_MIB[0], narrator).await?;
	narrator.begin("the owner registers a key; the first snapshot is due");
	let before = checksum(&machine.disk)?;
	world.begin_backups(&machine).await?;
	narrator.end(format_args!("backups are sealed to {}", machine.identity.recipient));
	let first = watch_snapshot(world, &machine, before, 0, narrator).await?;

	// On a slow host the writing may take longer than the cadence, and the next snapshot would
	// catch the machine in the middle of it. Its owner pauses backups meanwhile.
	story::set_paused(&world.chain, &machine.owner, machine.request, true).await?;
	write(&machine, WRITES_MIB[1], narrator).await?;
	let before = checksum(&machine.disk)?;
	story::set_paused(&world.chain, &machine.owner, machine.request, false).await?;
	let quiet_since = world.chain.number(View::Best).await?;
	let second = watch_snapshot(world, &machine, before, quiet_since, narrator).await?;

	let restored = restore(world, &machine, &second.snapshot, narrator).await?;
	let ended = conclude(world, &machine, [&first, &second], &restored).await;
	println!("\nall of it took {} s", began.elapsed().as_secs());
	ended
}

/// The machine writes files of 1 MiB, and is quiet then.
async fn write(machine: &Machine, mib: u64, narrator: &mut Narrator) -> Result<()> {
	narrator.begin(format_args!("the machine writes {mib} MiB to its disk"));
	machine.guest.write(mib, COMMAND_TIME_MAX)?;
	machine.guest.quiet(COMMAND_TIME_MAX)?;
	narrator.end(format_args!("the machine wrote {mib} MiB, synced, and is quiet"));
	Ok(())
}

/// Follow the worker and the agent until a snapshot is recorded whose disks stood still after
/// `quiet_since`, and check that the disk is what it was before.
async fn watch_snapshot(
	world: &World,
	machine: &Machine,
	before: String,
	quiet_since: u64,
	narrator: &mut Narrator,
) -> Result<Taken> {
	let began = Instant::now();
	let stored_before = world.agent.stored_bytes().await?;
	narrator.begin("waiting for the worker");
	let shown = &*narrator;
	let snapshot = wait::until_async("a snapshot", JOB_TIME_MAX, || async move {
		shown.update(progress(world, machine).await?);
		let snapshots = world.chain.snapshots(machine.request).await?;
		Ok(snapshots.into_iter().rev().find(|snapshot| snapshot.taken_at >= quiet_since.max(1)))
	})
	.await?;
	let disk_checksum = checksum(&machine.disk)?;
	if disk_checksum != before {
		bail!("the disk changed while the machine was quiet: {before} became {disk_checksum}");
	}
	if !machine.guest.is_running() {
		bail!("the machine does not run any more");
	}
	let stored_bytes = world.agent.stored_bytes().await?.saturating_sub(stored_before);
	narrator.end(format_args!(
		"snapshot {} is recorded in block {}: {} of new blocks",
		snapshot.sequence,
		snapshot.recorded_at,
		mib(stored_bytes)
	));
	Ok(Taken { snapshot, disk_checksum, stored_bytes, took: began.elapsed() })
}

/// Where the chain stands and what the agent does, in one line.
async fn progress(world: &World, machine: &Machine) -> Result<String> {
	let block = world.chain.number(View::Best).await?;
	let jobs = world.agent.jobs().await?;
	let running = jobs.iter().find(|job| job["state"] == "running");
	if let Some(job) = running {
		let (done, total) = (job["done_bytes"].as_u64(), job["total_bytes"].as_u64());
		let percent = match (done, total) {
			(Some(done), Some(total)) if total > 0 => done * 100 / total,
			_ => 0,
		};
		return Ok(format!("block {block}: the agent reads the disk, {percent} %"));
	}
	let eligibility = world.chain.eligibility(machine.request).await?;
	let due_at = eligibility["NotDue"]["due_at"].as_u64();
	Ok(match due_at {
		Some(due_at) => format!("block {block}: the next snapshot is due at block {due_at}"),
		None => format!("block {block}: the worker orders the snapshot or reports it"),
	})
}

/// A restored image and what the chain says of it.
struct Restored {
	image: PathBuf,
	checksum: String,
	event_block: u64,
	took: Duration,
}

/// The owner asks, the node writes, the chain says so.
async fn restore(
	world: &World,
	machine: &Machine,
	snapshot: &Snapshot,
	narrator: &mut Narrator,
) -> Result<Restored> {
	let began = Instant::now();
	narrator.begin("the owner asks for a restore, in an ordinary signed transaction");
	let from = world.chain.number(View::Best).await?;
	let restore = story::request_restore(&world.chain, &machine.owner, &snapshot.cid).await?;
	narrator.end(format_args!("restore {restore} of snapshot {} is asked for", snapshot.sequence));
	narrator.begin("waiting for the node");
	let shown = &*narrator;
	let (event_block, event) = wait::until_async("the restore", JOB_TIME_MAX, || async move {
		shown.update(format!(
			"block {}: the node writes the image",
			world.chain.number(View::Best).await?
		));
		if let Some((_, failed)) =
			world.chain.find_event("Backup.SnapshotRestoreFailed", from).await?
		{
			bail!("the restore failed: {}", failed.fields);
		}
		world.chain.find_event("Backup.SnapshotRestored", from).await
	})
	.await?;
	if event.fields["restore_id"] != restore {
		bail!("the event tells of another restore: {}", event.fields);
	}
	let image = world.agent.image(machine.request, snapshot.sequence, restore);
	let checksum = checksum(&image)?;
	narrator.end(format_args!("the image is back; block {event_block} says SnapshotRestored"));
	Ok(Restored { image, checksum, event_block, took: began.elapsed() })
}

/// The table, and whether everything is as it should be.
async fn conclude(
	world: &World,
	machine: &Machine,
	taken: [&Taken; 2],
	restored: &Restored,
) -> Result<()> {
	let [first, second] = taken;
	println!();
	for (taken, parent) in [(first, None), (second, Some(first))] {
		let Taken { snapshot, disk_checksum, stored_bytes, took } = taken;
		let parent = parent.map_or("none, it is the first", |parent| parent.snapshot.cid.as_str());
		row(format_args!("snapshot {}", snapshot.sequence), &snapshot.cid);
		row("  parent", parent);
		row(
			"  taken, recorded",
			format_args!("block {}, {}", snapshot.taken_at, snapshot.recorded_at),
		);
		row("  disk", format_args!("{} ({})", mib(snapshot.logical_bytes), snapshot.consistency));
		row("  new in the store", mib(*stored_bytes));
		row("  due to recorded", seconds(*took));
		row("  disk's checksum", disk_checksum);
	}
	row("restored", restored.image.display());
	row("  asked to reported", seconds(restored.took));
	row("  event", format_args!("SnapshotRestored in block {}", restored.event_block));
	row("  image's checksum", &restored.checksum);

	if second.snapshot.sequence != first.snapshot.sequence + 1 {
		bail!("the second snapshot is not the next of the first");
	}
	if restored.checksum != second.disk_checksum {
		bail!("the image's checksum is not that of the disk at the snapshot");
	}
	if second.disk_checksum == first.disk_checksum {
		bail!("the disk did not change between the snapshots");
	}
	if second.stored_bytes.saturating_mul(2) > first.stored_bytes {
		bail!("the second snapshot stored more than what changed");
	}
	let pinned = world.agent.pinned().await?;
	if !taken.iter().all(|taken| pinned.contains(&taken.snapshot.cid)) {
		bail!("the agent has not pinned both roots");
	}
	machine.guest.verify(COMMAND_TIME_MAX).context("the machine finds its disk changed")?;
	println!("\nthe image is the disk at the snapshot, byte for byte; the machine never stopped");
	Ok(())
}

pub(crate) fn row(name: impl Display, value: impl Display) {
	// A width applies to text, not to what is formatted later.
	println!("{:<19} {value}", name.to_string());
}

fn mib(bytes: u64) -> String {
	format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024)
}

pub(crate) fn seconds(took: Duration) -> String {
	format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100)
}
