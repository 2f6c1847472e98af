//! How long the worker takes at a block when nothing is due, with a real node and agent. The
//! figures in `docs/performance.md` come from here.
//!
//! ```text
//! cargo run -p backup-e2e --bin worker_time -- [lineages]
//! ```

use anyhow::{Context, Result};
use backup_e2e::{
	chain::{View, bytes, number},
	story::{self, NODE, Pace},
	wait,
	world::World,
};
use std::time::Duration;

/// Requests in one transaction.
const BATCH: u64 = 40;

/// Blocks that are watched.
const BLOCKS: u64 = 30;

#[tokio::main]
async fn main() -> Result<()> {
	// Their owner has no key and pauses them, so no snapshot is due.
	let lineages: u64 = std::env::args().nth(1).map_or(Ok(120), |count| count.parse())?;
	let world = World::start("worker-time", Pace::ONCE).await?;
	let owner = story::owner();
	let chain = &world.chain;
	let subscribe = story::runtime_call("Marketplace", "subscribe", [("periods", number(1))]);
	story::batch(chain, &owner, [subscribe]).await?;
	for first in (0..lineages).step_by(BATCH as usize) {
		let requests = first..lineages.min(first + BATCH);
		let ordered = requests.clone().map(|_| {
			story::runtime_call("Compute", "create_request", [("disk_bytes", number(1 << 30))])
		});
		story::batch(chain, &owner, ordered).await?;
		let fulfilled = requests.clone().flat_map(|request| {
			let request_id = ("request_id", number(request));
			let vm_id = ("vm_id", bytes(format!("vm-{request}").as_bytes()));
			let node_id = ("node_id", number(NODE.into()));
			[
				story::runtime_call("Compute", "assign_request", [request_id.clone(), node_id]),
				story::runtime_call("Compute", "fulfil_request", [request_id, vm_id]),
			]
		});
		story::batch(chain, &story::operator(), fulfilled).await?;
		let paused = requests.map(|request| story::pause_call(request, true));
		story::batch(chain, &owner, paused).await?;
	}
	let from = chain.number(View::Best).await?;
	let until = from + BLOCKS;
	wait::until_async("blocks", Duration::from_secs(300), || async move {
		Ok((chain.number(View::Best).await? > until).then_some(()))
	})
	.await?;
	let mut times = times(&world.node.output(), from);
	times.sort_unstable_by_key(|(_, milliseconds)| *milliseconds);
	let (lineages, median) = *times.get(times.len() / 2).context("the worker logged nothing")?;
	let slowest = times.last().map_or(0, |(_, milliseconds)| *milliseconds);
	println!(
		"{} runs, {lineages} lineages each: median {median} ms, slowest {slowest} ms",
		times.len()
	);
	Ok(())
}

/// Lineages and milliseconds of each run after a block, from the node's log.
fn times(log: &str, after: u64) -> Vec<(u64, u64)> {
	let runs = log.lines().filter_map(|line| {
		let (_, words) = line.split_once("block ")?;
		let (block, words) = words.split_once(": reconciled ")?;
		let (lineages, words) = words.split_once(" lineages in ")?;
		let (milliseconds, _) = words.split_once(" ms")?;
		Some((block.parse::<u64>().ok()?, lineages.parse().ok()?, milliseconds.parse().ok()?))
	});
	runs.filter(|(block, ..)| *block > after).map(|(_, lineages, ms)| (lineages, ms)).collect()
}
