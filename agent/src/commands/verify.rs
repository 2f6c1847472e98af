//! `backup-agent verify`: through the agent if it runs, on its store if it does not.

use super::{Context, answer::Versioned, exit_code, parse_cid, runtime};
use crate::{
	api::{VERIFY_PATH, VerificationsView, VerifyOrder},
	client::AgentClient,
	config::{Config, Settings},
	console::{existing_store, spinner},
	jobs::{Ledger, now_ms},
	repositories::{EmbeddedStore, RepositoryError, StoreOptions},
	secret::NodeIdentities,
	verification::{Depth, Verdict, Verification, Verifier},
};
use anyhow::{Context as _, Result, bail};
use backup_primitives::Cid;
use indicatif::ProgressBar;
use std::{process::ExitCode, sync::Arc, time::Duration};

/// How often a running agent is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
	/// How closely: presence looks every block up, blocks reads and hashes every block, drill
	/// restores every disk into the scratch folder and removes it.
	#[arg(long, value_enum, default_value = "blocks")]
	depth: Depth,
	/// Root of a snapshot; can be given more than once. All that are pinned if not given.
	#[arg(long, value_name = "CID", value_parser = parse_cid)]
	root: Vec<Cid>,
	/// Print one JSON object for each result.
	#[arg(long)]
	json: bool,
	#[command(flatten)]
	settings: Settings,
}

pub(super) fn run(context: &Context, arguments: Verify) -> Result<ExitCode> {
	let Verify { depth, root, json, settings } = arguments;
	let (config, order) = (context.load(settings)?, VerifyOrder { depth, roots: root });
	runtime()?.block_on(verify(&config, order, json)).map(exit_code)
}

/// Verifies some roots, or all that are pinned, and prints each result. Says whether all are good.
async fn verify(config: &Config, order: VerifyOrder, json: bool) -> Result<bool> {
	match EmbeddedStore::open(&existing_store(config)?, StoreOptions::V1) {
		Ok(store) => run_here(config, store, order, json).await,
		Err(RepositoryError::InUse { .. }) => ask_agent(config, &order, json).await,
		Err(error) => Err(error).context("failed to open the block store"),
	}
}

/// What is shown while it runs, and what is printed.
struct Display {
	bar: ProgressBar,
	json: bool,
	all_good: bool,
	count: usize,
}

impl Display {
	fn new(json: bool) -> Self {
		let bar = match json {
			true => ProgressBar::hidden(),
			false => spinner("{spinner} {msg} {bytes}, {bytes_per_sec}"),
		};
		Self { bar, json, all_good: true, count: 0 }
	}

	fn running(&self, root: &Cid, done_bytes: u64) {
		self.bar.set_message(root.to_string());
		self.bar.set_position(done_bytes);
	}

	fn result(&mut self, result: &Verification) -> Result<()> {
		self.count += 1;
		self.all_good &= result.verdict == Verdict::Good;
		let line = match self.json {
			true => Versioned::new(result).line()?,
			false => words(result),
		};
		self.bar.suspend(|| println!("{line}"));
		Ok(())
	}

	fn end(self) -> bool {
		self.bar.finish_and_clear();
		if self.count == 0 && !self.json {
			println!("nothing is pinned here");
		}
		self.all_good
	}
}

fn words(result: &Verification) -> String {
	let seconds = result.took.as_secs_f64();
	let bytes = indicatif::HumanBytes(result.bytes);
	let mended = result.mending.words().map_or_else(String::new, |words| format!("; {words}"));
	match &result.verdict {
		Verdict::Good => format!("{}  good     {bytes} in {seconds:.1} s{mended}", result.root),
		Verdict::Bad { detail, first, .. } => {
			let first = first.map_or_else(String::new, |cid| format!(", such as {cid}"));
			format!("{}  BAD      {detail}{first}{mended}", result.root)
		}
		Verdict::Failed { detail } => format!("{}  UNKNOWN  {detail}", result.root),
	}
}

async fn run_here(
	config: &Config,
	store: EmbeddedStore,
	order: VerifyOrder,
	json: bool,
) -> Result<bool> {
	let identities = Arc::new(NodeIdentities::load(&config.identity_file)?);
	let ledger = Ledger::open(&config.state_dir.join("jobs.redb"))?;
	let verifier = Verifier::new(store, identities, config.scratch_dir.clone(), ledger);
	let turn = verifier.begin(&order.roots, order.depth)?;
	let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
	let mut work = tokio::task::spawn_blocking(move || {
		turn.run(&mut |result| {
			// Nobody listens any more when it was interrupted.
			let _ = tell.send(result.clone());
		})
	});
	let mut display = Display::new(json);
	let mut shown = tokio::time::interval(SHOW_EVERY);
	loop {
		tokio::select! {
			result = told.recv() => match result {
				Some(result) => display.result(&result)?,
				None => break,
			},
			_ = shown.tick() => if let Some(running) = verifier.running() {
				display.running(&running.root, running.done_bytes);
			},
			_ = tokio::signal::ctrl_c() => {
				verifier.stop();
				(&mut work).await??;
				bail!("interrupted; nothing was left behind");
			}
		}
	}
	work.await??;
	Ok(display.end())
}

async fn ask_agent(config: &Config, order: &VerifyOrder, json: bool) -> Result<bool> {
	let agent = AgentClient::new(config)?;
	let asked_at_ms = now_ms();
	let roots: Vec<Cid> = agent.order(VERIFY_PATH, order).await.context("the store is in use")?;
	let mut display = Display::new(json);
	let mut shown = Vec::new();
	loop {
		let view: VerificationsView = agent.view("/v1/verifications").await?;
		let is_new = |result: &&Verification| {
			let is_asked_for = result.depth == order.depth && roots.contains(&result.root);
			is_asked_for && result.at_ms >= asked_at_ms && !shown.contains(&result.root)
		};
		// The newest come first.
		let new: Vec<_> = view.results.iter().rev().filter(is_new).cloned().collect();
		for result in new {
			display.result(&result)?;
			shown.push(result.root);
		}
		if let Some(running) = view.running {
			display.running(&running.root, running.done_bytes);
		}
		if !view.is_busy {
			let (found, wanted) = (shown.len(), roots.len());
			let all_good = display.end();
			if found < wanted {
				bail!(
					"{} of {wanted} snapshots have no result: they were given up meanwhile, or the agent's log says why",
					wanted - found
				);
			}
			return Ok(all_good);
		}
		tokio::time::sleep(ASK_EVERY).await;
	}
}
