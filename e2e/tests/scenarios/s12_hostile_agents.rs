//! Where the agent should be, a node meets programs that are silent, slow, endless, senseless or
//! something else. It goes on making blocks, hangs up in time, keeps its memory, and records
//! nothing. Then the agent comes back, and the snapshot is recorded.

use crate::manners::{Case, cases};
use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::View,
	impostor::{Impostor, Visit},
	story::{self, Pace},
	wait,
	world::{Machine, SNAPSHOT_TIME_MAX, World, scenario},
};
use std::{cell::Cell, ops::Range, time::Duration};

/// Blocks in which each kind is met.
const BLOCKS: u64 = 3;

/// How long so many blocks may take: two seconds each, one slot that a busy machine misses, and a
/// second for looking. If runs kept blocks from being made, each would take two slots.
const BLOCKS_TIME_MAX: Duration = Duration::from_secs(2 * (BLOCKS + 1) + 1);

/// How long a run may take: its deadline, and what a busy machine adds.
const RUN_TIME_MAX: Duration = Duration::from_millis(2_000 + 1_000);

/// How often the log must say what is wrong. One of them at least is of these runs: the last of
/// the case before may have come late.
const VERDICTS_MIN: usize = 2;

/// Visits at one time. A run may take as long as the time between two blocks.
const VISITS_AT_ONCE_MAX: usize = 2;

/// Bytes that may be taken of an answer: 512 KiB, and what the system's buffers hold.
const TAKEN_BYTES_MAX: u64 = 48 << 20;

/// By how much the node's memory may grow meanwhile.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// What was seen of a node while it met one kind.
struct Seen {
	/// The first block that was made meanwhile.
	from: u64,
	/// The last one.
	until: u64,
	/// Its visits.
	visits: Vec<Visit>,
	/// What it logged.
	log: String,
	/// The most memory that it had in use, in bytes.
	memory_bytes: u64,
}

/// Let some blocks pass while the impostor behaves like this.
async fn meet(world: &World, impostor: &Impostor, case: &Case) -> Result<Seen> {
	impostor.behave(case.manners.clone());
	let (first, logged) = (impostor.visits().len(), world.node.output().len());
	let before = world.chain.number(View::Best).await?;
	let memory_bytes = Cell::new(0);
	let until = wait::until_async("blocks at their pace", BLOCKS_TIME_MAX, || async {
		memory_bytes.set(memory_bytes.get().max(world.node.memory_bytes()?));
		let now = world.chain.number(View::Best).await?;
		Ok((now >= before + BLOCKS).then_some(now))
	})
	.await?;
	let visits = settled(impostor, first, (until - before) as usize).await?;
	let log = told(world, case, before + 1..until, logged).await?;
	Ok(Seen { from: before + 1, until, visits, log, memory_bytes: memory_bytes.get() })
}

/// The node's log, as soon as it tells how the runs at these blocks went: that comes after the
/// visits are over.
async fn told(world: &World, case: &Case, blocks: Range<u64>, logged: usize) -> Result<String> {
	wait::until_async("the node to tell of its runs", RUN_TIME_MAX, || async {
		let runs = world.node.worker_runs(blocks.start - 1);
		let are_told = blocks.clone().all(|block| runs.iter().any(|run| run.block == block));
		let log = world.node.output().split_off(logged);
		let verdicts = log.matches(case.verdict).count();
		Ok((are_told && verdicts >= VERDICTS_MIN).then_some(log))
	})
	.await
}

/// So many visits, as soon as all of them are over.
async fn settled(impostor: &Impostor, first: usize, count: usize) -> Result<Vec<Visit>> {
	wait::until_async("the visits to end", RUN_TIME_MAX + wait::LOOK_INTERVAL, || async {
		let visits: Vec<_> = impostor.visits().into_iter().skip(first).take(count).collect();
		let are_over = visits.len() == count && visits.iter().all(|visit| visit.ended.is_some());
		Ok(are_over.then_some(visits))
	})
	.await
}

impl Seen {
	fn ensure_bearable(&self, world: &World) -> Result<()> {
		self.ensure_one_run_a_block(world)?;
		for visit in &self.visits {
			let stay = visit.ended.context("a visit goes on")?.duration_since(visit.began);
			ensure!(stay <= RUN_TIME_MAX, "a visit took {} ms", stay.as_millis());
			let taken = visit.taken_bytes;
			ensure!(taken <= TAKEN_BYTES_MAX, "{taken} bytes of an answer were taken");
		}
		ensure!(!self.log.contains("reporting "), "something was reported");
		Ok(())
	}

	/// Runs begin with their block, one each, and do not pile up.
	fn ensure_one_run_a_block(&self, world: &World) -> Result<()> {
		let runs = world.node.worker_runs(self.from - 1);
		// The run of the last block may still be on its way.
		for block in self.from..self.until {
			let of_block: Vec<_> = runs.iter().filter(|run| run.block == block).collect();
			ensure!(of_block.len() == 1, "runs at block {block}: {of_block:?}");
			let took = Duration::from_millis(of_block[0].took_ms);
			ensure!(took <= RUN_TIME_MAX, "the run at block {block} took {} ms", took.as_millis());
		}
		for visit in &self.visits {
			let is_open = |other: &&Visit| {
				other.began <= visit.began && other.ended.is_none_or(|ended| ended > visit.began)
			};
			let at_once = self.visits.iter().filter(is_open).count();
			ensure!(at_once <= VISITS_AT_ONCE_MAX, "{at_once} visits at one time");
		}
		Ok(())
	}
}

async fn bear_all(world: &World, machine: &Machine, impostor: &Impostor) -> Result<()> {
	let eligibility = world.chain.eligibility(machine.request).await?;
	ensure!(eligibility.get("Eligible").is_some(), "nothing is asked for: {eligibility}");
	let memory_before = world.node.memory_bytes()?;
	for case in cases() {
		let seen = meet(world, impostor, &case).await.context(case.name)?;
		seen.ensure_bearable(world).context(case.name)?;
		let grown = seen.memory_bytes.saturating_sub(memory_before);
		ensure!(grown <= GROWTH_BYTES_MAX, "{}: {} MiB more memory", case.name, grown >> 20);
	}
	let snapshots = world.chain.snapshots(machine.request).await?;
	ensure!(snapshots.is_empty(), "recorded: {snapshots:?}");
	Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_bears_whatever_answers_in_the_place_of_its_agent() {
	scenario("s12", Pace::ONCE, async |world| {
		let machine = world.machine(&story::owner(), "vm-1", 128).await?;
		world.agent.stop()?;
		let url = world.agent.url();
		let address = url.trim_start_matches("http://");
		let impostor = Impostor::listen(address).await?;
		world.begin_backups(&machine).await?;
		bear_all(world, &machine, &impostor).await?;

		impostor.leave().await;
		world.agent.start().await?;
		let snapshots =
			world.chain.wait_for_snapshots(machine.request, 1, SNAPSHOT_TIME_MAX).await?;
		ensure!(world.agent.pinned().await? == [snapshots[0].cid.clone()], "{snapshots:?}");
		ensure!(machine.guest.is_running(), "the machine stopped");
		Ok(())
	})
	.await;
}
