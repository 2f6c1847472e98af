//! A real node with a chain of its own that makes blocks.

use crate::{
	chain::Chain,
	lab::{Lab, free_port},
	process::{Process, built},
	wait,
};
use anyhow::{Context, Result};
use std::{path::PathBuf, process::Command, time::Duration};

/// How long a node may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A node that runs. Its database stays when it is stopped, so it can be started again.
#[derive(Debug)]
pub struct Node {
	process: Option<Process>,
	program: PathBuf,
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
}

impl Node {
	/// Choose a folder and ports for a development chain. Nothing runs yet.
	pub fn prepare(lab: &Lab) -> Result<Self> {
		Ok(Self {
			process: None,
			program: built("backup-node")?,
			base_path: lab.path().join("node"),
			log: lab.log("node"),
			rpc_port: free_port()?,
			agent: None,
			role: Role::Author,
		})
	}

	/// The same for a node that makes no blocks. `chain` is a connection to the one that does,
	/// `suri` the key that it reports with.
	pub async fn prepare_host(lab: &Lab, name: &str, chain: &Chain, suri: &str) -> Result<Self> {
		let addresses = chain.rpc("system_localListenAddresses", &[]).await?;
		let peer = addresses[0].as_str().context("the node listens nowhere")?.to_owned();
		Ok(Self {
			base_path: lab.path().join(name),
			log: lab.log(name),
			role: Role::Host { peer, suri: suri.to_owned() },
			..Self::prepare(lab)?
		})
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
			Role::Author => command.arg("--dev"),
			Role::Host { peer, suri } => command
				.args(["--chain", "dev", "--offchain-worker", "always"])
				.args(["--bootnodes", peer, "--backup-dev-key", suri]),
		};
		command
			.arg("--base-path")
			.arg(&self.base_path)
			.args(["--rpc-port", &self.rpc_port.to_string()])
			.args(["--listen-addr", "/ip4/127.0.0.1/tcp/0"])
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

	/// All that it has logged.
	pub fn output(&self) -> String {
		let log = std::fs::read(&self.log).unwrap_or_default();
		String::from_utf8_lossy(&log).into_owned()
	}
}
