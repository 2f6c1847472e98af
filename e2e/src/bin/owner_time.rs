//! How long the command `backup` takes for an owner with a long history. The figures in
//! `docs/performance.md` come from here.
//!
//! ```text
//! cargo build --release -p backup
//! cargo run -p backup-e2e --bin owner_time -- [SNAPSHOTS] [COMMAND]
//! ```
//!
//! It starts a node of its own, on a chain that begins with all these snapshots of one account. The
//! command is the one beside this program, unless another one is named.

use anyhow::{Context, Result, ensure};
use backup_e2e::{lab::Lab, node::Node, process::built, story};
use backup_primitives::Cid;
use codec::Encode;
use serde_json::Value as Json;
use sp_crypto_hashing::{blake2_128, twox_64, twox_128};
use std::{
	path::{Path, PathBuf},
	process::Command,
	time::{Duration, Instant},
};
use subxt::utils::AccountId32;

/// Snapshots of one machine, as many as the chain keeps at most.
const SNAPSHOTS_OF_MACHINE: u64 = 365;

/// How often each call is timed.
const RUNS: usize = 15;

#[tokio::main]
async fn main() -> Result<()> {
	let mut arguments = std::env::args().skip(1);
	let snapshots: u64 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
	let command = arguments.next().map_or_else(|| built("backup"), |path| Ok(path.into()))?;
	let lab = Lab::new("owner-time")?;
	let mut node = Node::prepare_with(&lab, history(snapshots))?;
	node.start()?;
	node.connect().await?;

	let owner = AccountId32(story::owner().public_key().0).to_string();
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

/// Machines of the owner with so many snapshots in all, as the pallets keep them.
fn history(snapshots: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
	let owner = story::owner().public_key().0;
	let machines = snapshots.div_ceil(SNAPSHOTS_OF_MACHINE);
	let mut entries = Vec::new();
	for request in 0..machines {
		let count = SNAPSHOTS_OF_MACHINE.min(snapshots - request * SNAPSHOTS_OF_MACHINE);
		let id = concat(blake2_128, &request);
		let vm = format!("vm-{request}").into_bytes();
		// Running, on the first node.
		let state = (2u8, story::NODE, vm);
		entries.push((key("Compute", "Requests", &[&id]), (owner, 1u64 << 30, state).encode()));
		entries.push((key("Backup", "Lineages", &[&id]), lineage(owner, count)));
		let of_account = key("Backup", "LineagesOfAccount", &[&concat(blake2_128, &owner), &id]);
		entries.push((of_account, Vec::new()));
		for sequence in 0..count {
			let place = concat(twox_64, &sequence);
			let record = snapshot(request, sequence);
			entries.push((key("Backup", "Snapshots", &[&id, &place]), record));
		}
	}
	let count = u32::try_from(machines).unwrap_or(u32::MAX).encode();
	let of_account = &concat(blake2_128, &owner);
	entries.push((key("Backup", "LineageCountOfAccount", &[of_account]), count));
	entries
}

/// A lineage without gaps. What is not told below is as at its beginning.
fn lineage(owner: [u8; 32], count: u64) -> Vec<u8> {
	let (salt, created_at, kept) = ([7u8; 32], 0u32, u32::try_from(count).unwrap_or(u32::MAX));
	let begin = (story::NODE, owner, salt, created_at, count, kept, count << 20);
	let eviction = (0u64, None::<u64>, 0u64);
	let (holds, deletion) = ((0u32, 0u32), (None::<u32>, false));
	let times = (Some(0u32), Some(0u32), None::<u32>);
	let (failure, settings) = (None::<()>, (false, Some(365u32)));
	(begin, eviction, holds, deletion, times, failure, settings).encode()
}

fn snapshot(request: u64, sequence: u64) -> Vec<u8> {
	let cid = Cid::dag_cbor(sp_crypto_hashing::blake2_256(&(request, sequence).encode()));
	let (taken_at, recorded_at, description) = (0u32, 0u32, None::<Vec<u8>>);
	let (logical_bytes, new_bytes, consistency) = (1u64 << 30, 1u64 << 20, 1u8);
	let begin = (cid, request, taken_at, recorded_at, description);
	(begin, logical_bytes, new_bytes, consistency, story::NODE, 1u32).encode()
}

/// Where a map keeps what these keys lead to.
fn key(pallet: &str, map: &str, keys: &[&[u8]]) -> Vec<u8> {
	[&twox_128(pallet.as_bytes())[..], &twox_128(map.as_bytes()), &keys.concat()].concat()
}

/// A key behind its hash.
fn concat<const N: usize>(hash: fn(&[u8]) -> [u8; N], key: &impl Encode) -> Vec<u8> {
	let key = key.encode();
	[&hash(&key)[..], &key].concat()
}
