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
	let mut runs = world.node.worker_runs(from);
	runs.sort_unstable_by_key(|run| run.took_ms);
	let median = *runs.get(runs.len() / 2).context("the worker logged nothing")?;
	let slowest_ms = runs.last().map_or(0, |run| run.took_ms);
	println!(
		"{} runs, {} lineages each: median {} ms, slowest {slowest_ms} ms",
		runs.len(),
		median.lineages,
		median.took_ms
	);
	Ok(())
}
