//! A real node: alone with a chain of its own, a host on that chain, or one of its authorities.

use crate::{
	chain::Chain,
	lab::{Lab, free_port},
	network::Seat,
	process::{Process, built},
	wait,
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value as Json;
use std::{
	fs,
	io::Write,
	path::{Path, PathBuf},
	process::Command,
	sync::{Mutex, PoisonError},
	time::{Duration, UNIX_EPOCH},
};
use tempfile::NamedTempFile;

/// How long a node may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Where a node listens whose peers ask it for its address.
const ANY_PORT: &str = "/ip4/127.0.0.1/tcp/0";

/// The authorities of a local network, by the names of their development accounts.
const AUTHORITIES: [&str; 3] = ["alice", "bob", "charlie"];

/// A node that runs. Its database stays when it is stopped, so it can be started again.
#[derive(Debug)]
pub struct Node {
	process: Option<Process>,
	program: PathBuf,
	chain_spec: PathBuf,
	base_path: PathBuf,
	log: PathBuf,
	rpc_port: u16,
	agent: Option<(String, PathBuf)>,
	role: Role,
}

/// What a node does for its chain.
#[derive(Clone, Debug)]
enum Role {
	/// It makes the blocks of a chain of its own, and hosts machines with the same key.
	Author,
	/// It follows the chain of the node at an address, and hosts machines with a key.
	Host { peer: String, suri: String },
	/// It is one of several authorities of a chain, and hosts machines with the same key.
	Authority { name: &'static str, seat: Seat, peers: Vec<Seat> },
}

impl Node {
	/// Choose a folder and ports for a development chain. Nothing runs yet.
	pub fn prepare(lab: &Lab) -> Result<Self> {
		Self::prepare_as(lab, "node", "dev", built("backup-node")?, Role::Author)
	}

	/// The same for a chain that begins with further entries in its storage, keys and values.
	pub fn prepare_with(lab: &Lab, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Self> {
		Self::prepare_of(lab, entries, built("backup-node")?)
	}

	/// The same for a node that is another program.
	pub fn prepare_of(
		lab: &Lab,
		entries: Vec<(Vec<u8>, Vec<u8>)>,
		program: PathBuf,
	) -> Result<Self> {
		let mut node = Self::prepare_as(lab, "node", "dev", program, Role::Author)?;
		let plain = fs::read(&node.chain_spec).context("failed to read a specification")?;
		let mut spec: Json = serde_json::from_slice(&plain)?;
		let top = spec["genesis"]["raw"]["top"].as_object_mut().context("no raw genesis")?;
		let text = |bytes: Vec<u8>| format!("0x{}", hex::encode(bytes));
		top.extend(entries.into_iter().map(|(key, value)| (text(key), text(value).into())));
		node.chain_spec = lab.path().join("chain.json");
		let filled = serde_json::to_vec(&spec)?;
		fs::write(&node.chain_spec, filled).context("failed to write a specification")?;
		Ok(node)
	}

	/// The same for a node that makes no blocks. `chain` is a connection to the one that does,
	/// `suri` the key that it reports with.
	pub async fn prepare_host(lab: &Lab, name: &str, chain: &Chain, suri: &str) -> Result<Self> {
		let addresses = chain.rpc("system_localListenAddresses", &[]).await?;
		let peer = addresses[0].as_str().context("the node listens nowhere")?.to_owned();
		let role = Role::Host { peer, suri: suri.to_owned() };
		Self::prepare_as(lab, name, "dev", built("backup-node")?, role)
	}

	/// All authorities of a local network, the operator's own first. They speak with each other
	/// and with nobody else.
	pub fn prepare_authorities(lab: &Lab) -> Result<Vec<Self>> {
		let program = built("backup-node")?;
		let key_file = |name: &str| lab.path().join(format!("{name}.p2p"));
		let seats = AUTHORITIES.iter().map(|name| Seat::make(&program, key_file(name)));
		let seats: Vec<Seat> = seats.collect::<Result<_>>()?;
		let prepare = |(place, name): (usize, &&'static str)| {
			let mut peers = seats.clone();
			let seat = peers.remove(place);
			let role = Role::Authority { name, seat, peers };
			Self::prepare_as(lab, name, "local", program.clone(), role)
		};
		AUTHORITIES.iter().enumerate().map(prepare).collect()
	}

	fn prepare_as(
		lab: &Lab,
		name: &str,
		chain: &str,
		program: PathBuf,
		role: Role,
	) -> Result<Self> {
		Ok(Self {
			process: None,
			chain_spec: raw_spec(&program, chain)?,
			program,
			base_path: lab.path().join(name),
			log: lab.log(name),
			rpc_port: free_port()?,
			agent: None,
			role,
		})
	}

	/// Its place in the network, if that is known before it starts.
	pub fn seat(&self) -> Result<&Seat> {
		match &self.role {
			Role::Authority { seat, .. } => Ok(seat),
			Role::Author | Role::Host { .. } => bail!("this node finds its own place"),
		}
	}

	/// The address of the node that it follows, if it follows one.
	pub fn followed(&self) -> Option<&str> {
		match &self.role {
			Role::Host { peer, .. } => Some(peer),
			Role::Author | Role::Authority { .. } => None,
		}
	}

	/// From the next start on, use the agent at this address, with the secret in this file.
	/// Without one the worker is idle.
	pub fn use_agent(&mut self, url: String, secret_file: PathBuf) {
		self.agent = Some((url, secret_file));
	}

	/// Start it, on the database that it had before, if it had one.
	pub fn start(&mut self) -> Result<()> {
		let mut command = Command::new(&self.program);
		match &self.role {
			Role::Author => command.args(["--dev", "--listen-addr", ANY_PORT]),
			Role::Host { peer, suri } => command
				.args(["--offchain-worker", "always"])
				.args(["--listen-addr", ANY_PORT])
				// It speaks with the node that it follows and with no other, so that it can be cut off.
				.args(["--in-peers", "0", "--out-peers", "0"])
				.args(["--reserved-only", "--reserved-nodes", peer])
				.args(["--backup-dev-key", suri]),
			Role::Authority { name, seat, peers } => command
				.arg(format!("--{name}"))
				// One that is cut off goes on making blocks.
				.arg("--force-authoring")
				.args(["--listen-addr", &format!("/ip4/127.0.0.1/tcp/{}", seat.port)])
				.arg("--node-key-file")
				.arg(&seat.key_file)
				// A reserved peer that is removed would else stay as one of many.
				.args(["--in-peers", "0", "--out-peers", "0"])
				.args(["--reserved-only", "--reserved-nodes"])
				.args(peers.iter().map(Seat::address)),
		};
		command
			.arg("--chain")
			.arg(&self.chain_spec)
			.arg("--base-path")
			.arg(&self.base_path)
			.args(["--rpc-port", &self.rpc_port.to_string()])
			.args(["--no-mdns", "--no-telemetry", "--no-prometheus"])
			.args(["--state-pruning", "archive", "--blocks-pruning", "archive"])
			.args(["-l", "runtime::backup=debug,txpool=debug"]);
		if let Some((url, secret)) = &self.agent {
			command.args(["--backup-agent-url", url]).arg("--backup-agent-secret-file").arg(secret);
		}
		self.process = Some(Process::start("backup-node", command, &self.log)?);
		Ok(())
	}

	/// Address of its RPC.
	pub fn url(&self) -> String {
		format!("ws://127.0.0.1:{}", self.rpc_port)
	}

	/// Connect to it, as soon as it answers.
	pub async fn connect(&mut self) -> Result<Chain> {
		let url = self.url();
		let process = &mut self.process;
		wait::until_async("the node's RPC", START_TIME_MAX, || {
			let runs = process.as_mut().map_or(Ok(()), Process::ensure_runs);
			let url = url.clone();
			async move {
				runs?;
				Ok(Chain::connect(&url).await.ok())
			}
		})
		.await
	}

	/// End it in good order.
	pub fn stop(&mut self) -> Result<()> {
		if let Some(mut process) = self.process.take() {
			process.terminate()?;
		}
		Ok(())
	}

	/// End it as a power cut would.
	pub fn kill(&mut self) -> Result<()> {
		if let Some(mut process) = self.process.take() {
			process.kill()?;
		}
		Ok(())
	}

	/// How much memory it has in use, in bytes.
	pub fn memory_bytes(&self) -> Result<u64> {
		self.process.as_ref().context("the node does not run")?.memory_bytes()
	}

	/// The runs of its worker after a block, as it has logged them.
	pub fn worker_runs(&self, after: u64) -> Vec<WorkerRun> {
		let runs = self.output();
		let runs = runs.lines().filter_map(WorkerRun::read);
		runs.filter(|run| run.block > after).collect()
	}

	/// All that it has logged.
	pub fn output(&self) -> String {
		let log = fs::read(&self.log).unwrap_or_default();
		String::from_utf8_lossy(&log).into_owned()
	}
}

/// A run of the worker at a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRun {
	/// The block.
	pub block: u64,
	/// Lineages that it told the agent of.
	pub lineages: u64,
	/// Time from the first read to the agent's answer, or until it gave up.
	pub took_ms: u64,
}

impl WorkerRun {
	fn read(line: &str) -> Option<Self> {
		let (_, words) = line.split_once("block ")?;
		let (block, words) = words.split_once(": reconciled ")?;
		let (lineages, words) = words.split_once(" lineages in ")?;
		let (took_ms, _) = words.split_once(" ms")?;
		let (block, lineages) = (block.parse().ok()?, lineages.parse().ok()?);
		Some(Self { block, lineages, took_ms: took_ms.parse().ok()? })
	}
}

/// The specification of a chain with its genesis made. A node that starts from the chain's name
/// makes it anew, which takes longer than all the rest; so it is kept beside the program.
pub(crate) fn raw_spec(program: &Path, chain: &str) -> Result<PathBuf> {
	let about = fs::metadata(program).context("backup-node is gone")?;
	let built_at = about.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
	// One of several tests that begin at once makes it for all.
	static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
	let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
	// Another build may have another genesis.
	let path = program.with_file_name(format!("backup-node-{chain}-{built_at}.json"));
	if path.exists() {
		return Ok(path);
	}
	let output = Command::new(program)
		.args(["export-chain-spec", "--raw", "--chain", chain])
		.output()
		.context("failed to run backup-node")?;
	let words = String::from_utf8_lossy(&output.stderr).into_owned();
	ensure!(output.status.success(), "backup-node wrote no specification: {words}");
	// Another process may be about to do the same.
	let folder = program.parent().context("a program is in a folder")?;
	let mut file = NamedTempFile::new_in(folder).context("failed to write a specification")?;
	file.write_all(&output.stdout).context("failed to write a specification")?;
	file.persist(&path).context("failed to write a specification")?;
	Ok(path)
}
