//! What a guest notices of a backup: how long its syncs take before, while its disk is read for the
//! first time, and while only what it wrote is read. The figures in `docs/performance.md` come from
//! here.
//!
//! ```text
//! cargo build --release -p backup-agent
//! BACKUP_AGENT_PROGRAM=target/release/backup-agent \
//!   cargo run -p backup-e2e --bin guest_latency -- [MiB a second that the agent may read]
//! ```

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	guest::{Guest, Latency},
	story::{self, Pace},
	wait,
	world::{COMMAND_TIME_MAX, World},
};
use std::time::Duration;

/// How long syncs are measured each time, in seconds.
const SECONDS: u64 = 20;

/// Size of the disk, and how much of it is noise, in MiB.
const DISK_MIB: u64 = 6 << 10;
const NOISE_MIB: u64 = 5 << 10;

fn show(when: &str, latency: Latency, base: Latency) {
	let ratio = |one: u64, other: u64| one as f64 / other as f64;
	println!(
		"{when:<24} median {:>7} us ({:.2})  p99 {:>7} us ({:.2})  longest {:>7} us  of {}",
		latency.median_us,
		ratio(latency.median_us, base.median_us),
		latency.p99_us,
		ratio(latency.p99_us, base.p99_us),
		latency.max_us,
		latency.count
	);
}

fn measure(guest: &Guest) -> Result<Latency> {
	Ok(guest.latency(SECONDS, COMMAND_TIME_MAX)?)
}

async fn wait_for_job(world: &World) -> Result<()> {
	wait::until_async("a snapshot to be read", COMMAND_TIME_MAX, || async {
		let jobs = world.agent.jobs().await?;
		let is_read = |job: &&serde_json::Value| {
			job["state"] == "running" && job["done_bytes"].as_u64().is_some_and(|done| done > 0)
		};
		Ok(jobs.iter().find(is_read).map(drop))
	})
	.await
}

#[tokio::main]
async fn main() -> Result<()> {
	let mib: Option<u64> = std::env::args().nth(1).map(|number| number.parse()).transpose()?;
	let mut world = World::start("guest-latency", Pace::ONCE).await?;
	if let Some(mib) = mib {
		world.agent.set("READ_BYTES_PER_SECOND", (mib << 20).to_string());
		world.agent.stop()?;
		world.agent.start().await?;
	}
	let machine = world.full_machine(&story::owner(), "vm-1", DISK_MIB, NOISE_MIB).await?;
	// The first writes make the file.
	measure(&machine.guest)?;
	let base = measure(&machine.guest)?;
	match mib {
		Some(mib) => println!("the agent reads {mib} MiB a second at most"),
		None => println!("the agent reads as fast as it can"),
	}
	show("without a backup", base, base);
	world.begin_backups(&machine).await?;
	wait_for_job(&world).await?;
	let during = measure(&machine.guest)?;
	let jobs = world.agent.jobs().await?;
	let is_still_read = jobs.iter().any(|job| job["state"] == "running");
	show("while all is read", during, base);
	println!("the backup went on to the end of that: {is_still_read}");
	if mib.is_some() && is_still_read {
		// At such a pace it takes minutes, and there is nothing more to learn.
		ensure!(machine.guest.is_running(), "the machine stopped");
		return world.agent.stop().context("the agent ends");
	}
	let wait = Duration::from_secs(600);
	world.chain.wait_for_snapshots(machine.request, 1, wait).await?;
	show("after it", measure(&machine.guest)?, base);
	ensure!(machine.guest.is_running(), "the machine stopped");
	world.agent.stop().context("the agent ends")
}
