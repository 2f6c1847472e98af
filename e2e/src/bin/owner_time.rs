//! How long the command `backup` takes for an owner with a long history. The figures in
//! `docs/performance.md` come from here.
//!
//! ```text
//! cargo build --release -p backup
//! cargo build --release -p backup-node
//! cargo run -p backup-e2e --bin owner_time -- [SNAPSHOTS] [COMMAND] [NODE]
//! ```
//!
//! It starts a node of its own, on a chain that begins with all these snapshots of one account. Command
//! and node are the programs beside this one, unless others are named.

use anyhow::{Context, Result, ensure};
use backup_e2e::{history::snapshots_of, lab::Lab, node::Node, process::built, story};
use serde_json::Value as Json;
use std::{
	path::{Path, PathBuf},
	process::Command,
	time::{Duration, Instant},
};
use subxt::utils::AccountId32;

/// How often each call is timed.
const RUNS: usize = 15;

#[tokio::main]
async fn main() -> Result<()> {
	let mut arguments = std::env::args().skip(1);
	let snapshots: u64 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
	let command = arguments.next().map_or_else(|| built("backup"), |path| Ok(path.into()))?;
	let program = arguments.next().map_or_else(|| built("backup-node"), |path| Ok(path.into()))?;
	let lab = Lab::new("owner-time")?;
	let owner = story::owner().public_key().0;
	let mut node = Node::prepare_of(&lab, snapshots_of(owner, snapshots), program)?;
	node.start()?;
	node.connect().await?;

	let owner = AccountId32(owner).to_string();
	let url = node.url();
	let call = |words: &str| Call::new(&command, &url, words);
	let all = call(&format!("snapshots --owner {owner}"));
	let answer: Json = serde_json::from_slice(&all.answer("--json")?)?;
	let backups = answer["backups"].as_array().context("no backups")?;
	let of = |backup: &Json| backup["snapshots"].as_array().map_or(0, Vec::len);
	let listed: usize = backups.iter().map(of).sum();
	ensure!(listed as u64 == snapshots, "{listed} snapshots are listed");

	println!("{snapshots} snapshots of {} machines", backups.len());
	for call in [
		call("--help"),
		all,
		call("snapshots 0"),
		call("snapshots 0 --newest 1"),
		call("root 0"),
		call(&format!("vms --owner {owner}")),
		call(&format!("status --owner {owner}")),
		call(&format!("cost --owner {owner}")),
	] {
		let mut times = (0..RUNS).map(|_| call.time()).collect::<Result<Vec<_>>>()?;
		times.sort_unstable();
		let (median, slowest) = (times[RUNS / 2].as_millis(), times[RUNS - 1].as_millis());
		println!("median {median:>5} ms, slowest {slowest:>5} ms: backup {}", call.words);
	}
	Ok(())
}

/// A call of the command.
struct Call {
	command: PathBuf,
	node: String,
	words: String,
}

impl Call {
	fn new(command: &Path, node: &str, words: &str) -> Self {
		Self { command: command.to_owned(), node: node.to_owned(), words: words.to_owned() }
	}

	fn answer(&self, further: &str) -> Result<Vec<u8>> {
		let output = Command::new(&self.command)
			.args(self.words.split_whitespace())
			.args(further.split_whitespace())
			.env("BACKUP_NODE", &self.node)
			.output()
			.context("failed to run backup")?;
		let errors = String::from_utf8_lossy(&output.stderr);
		ensure!(output.status.success(), "backup {}: {errors}", self.words);
		Ok(output.stdout)
	}

	fn time(&self) -> Result<Duration> {
		let begun = Instant::now();
		self.answer("")?;
		Ok(begun.elapsed())
	}
}
