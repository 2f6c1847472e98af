//! A real agent, with a folder of its own.

use crate::{
	front::Front,
	lab::{Lab, free_port},
	link::Link,
	process::{Process, built},
	story::Contact,
	wait,
};
use anyhow::{Context, Result, bail};
use backup_primitives::{Recipient, VmTag};
use serde_json::Value as Json;
use std::{
	env, fs,
	path::{Path, PathBuf},
	process::Command,
	time::Duration,
};

/// Names the agent's program where it is not the one that was built beside us: a release build, where it is
/// measured what guests notice of it.
const PROGRAM: &str = "BACKUP_AGENT_PROGRAM";

/// How long an agent may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// An agent. Its folder stays when it is stopped, so it can be started again.
#[derive(Debug)]
pub struct Agent {
	process: Option<Process>,
	program: PathBuf,
	folder: PathBuf,
	log: PathBuf,
	port: u16,
	gateway_port: u16,
	node_url: String,
	recipient: Recipient,
	settings: Vec<(&'static str, String)>,
	http: reqwest::Client,
}

impl Agent {
	/// Make folders, secret and identity, and a configuration for the node at `node_url`.
	/// Nothing runs yet.
	pub fn prepare(lab: &Lab, node_url: &str) -> Result<Self> {
		Self::prepare_at(lab, node_url, lab.path().join("agent"))
	}

	/// The same, with its state in a certain folder.
	pub fn prepare_at(lab: &Lab, node_url: &str, folder: PathBuf) -> Result<Self> {
		let program = match env::var_os(PROGRAM) {
			Some(path) => path.into(),
			None => built("backup-agent")?,
		};
		let gateway_port = free_port()?;
		let name = folder.file_name().context("a folder has a name")?;
		let mut agent = Self {
			process: None,
			program,
			log: lab.log(&name.to_string_lossy()),
			port: free_port()?,
			gateway_port,
			node_url: node_url.to_owned(),
			recipient: Recipient([0; 32]),
			settings: vec![
				("RESTORE_FORMAT", "raw".into()),
				("SWEEP_SECONDS", "1".into()),
				("UNKNOWN_ROOT_GRACE_SECONDS", "60".into()),
				("GATEWAY_LISTEN", format!("127.0.0.1:{gateway_port}")),
				("PEER_NETWORKS", "127.0.0.0/8".into()),
			],
			http: reqwest::Client::builder().timeout(ANSWER_TIME_MAX).build()?,
			folder,
		};
		agent.tool(&["init"])?;
		let recipient = agent.tool(&["recipient"])?;
		let recipient = recipient.trim().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
		agent.recipient = recipient;
		Ok(agent)
	}

	/// Change a setting, by its name in the environment, from the next start on.
	pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
		self.settings.retain(|(known, _)| *known != name);
		self.settings.push((name, value.into()));
	}

	fn command(&self, words: &[&str]) -> Command {
		let mut command = Command::new(&self.program);
		command
			.args(words)
			.env("RUST_LOG", "info,backup_agent=debug")
			.env("NO_COLOR", "1")
			.env("BACKUP_AGENT_LISTEN", format!("127.0.0.1:{}", self.port))
			.env("BACKUP_AGENT_STATE_DIR", &self.folder)
			.env("BACKUP_AGENT_NODE_RPC", &self.node_url);
		for (name, value) in &self.settings {
			command.env(format!("BACKUP_AGENT_{name}"), value);
		}
		command
	}

	/// Run one of its verbs to the end, and give what it prints.
	pub fn tool(&self, words: &[&str]) -> Result<String> {
		let output = self.command(words).output().context("failed to run backup-agent")?;
		if !output.status.success() {
			let error = String::from_utf8_lossy(&output.stderr);
			bail!("backup-agent {} failed: {error}", words.join(" "));
		}
		Ok(String::from_utf8(output.stdout)?)
	}

	/// Start it, and wait until it answers.
	pub async fn start(&mut self) -> Result<()> {
		self.process = Some(Process::start("backup-agent", self.command(&["run"]), &self.log)?);
		let http = self.http.clone();
		let url = format!("{}/healthz", self.url());
		let process = &mut self.process;
		wait::until_async("the agent", START_TIME_MAX, || {
			let runs = process.as_mut().map_or(Ok(()), Process::ensure_runs);
			let answer = http.get(&url).send();
			async move {
				runs?;
				Ok(answer.await.ok().filter(|answer| answer.status().is_success()).map(drop))
			}
		})
		.await
	}

	/// Start it although it should refuse, and give its last words.
	pub fn start_and_fail(&mut self) -> Result<String> {
		let mut process = Process::start("backup-agent", self.command(&["run"]), &self.log)?;
		let status = process.wait(START_TIME_MAX)?;
		if status.success() {
			bail!("the agent ended well, although it should have refused to start");
		}
		Ok(process.output())
	}

	/// Its address.
	pub fn url(&self) -> String {
		format!("http://127.0.0.1:{}", self.port)
	}

	/// How other nodes reach it.
	pub fn contact(&self) -> Contact {
		let gateways = vec![format!("http://127.0.0.1:{}", self.gateway_port)];
		Contact { recipient: self.recipient, gateways }
	}

	/// How other nodes reach it on a line, which leads to it from now on.
	pub fn contact_on(&self, link: &Link) -> Contact {
		link.lead_to(self.gateway_port);
		Contact { recipient: self.recipient, gateways: vec![link.url().to_owned()] }
	}

	/// How other nodes reach it behind others, which lead to it from now on.
	pub fn contact_behind(&self, fronts: &[Front]) -> Contact {
		fronts.iter().for_each(|front| front.lead_to(self.gateway_port));
		let gateways = fronts.iter().map(|front| front.url().to_owned()).collect();
		Contact { recipient: self.recipient, gateways }
	}

	/// The file with the secret that it shares with the node.
	pub fn secret_file(&self) -> PathBuf {
		self.folder.join("secret")
	}

	/// The key that backups of the node are sealed to.
	pub fn recipient(&self) -> Recipient {
		self.recipient
	}

	/// Where its blocks are.
	pub fn store(&self) -> PathBuf {
		self.folder.join("blocks")
	}

	/// Where it keeps guests' writes while it reads.
	pub fn scratch(&self) -> PathBuf {
		self.folder.join("scratch")
	}

	/// The file in which it is told of a machine.
	pub fn machine_file(&self, name: &str) -> PathBuf {
		self.folder.join("vms").join(format!("{name}.toml"))
	}

	/// Where it puts images.
	pub fn restored(&self) -> PathBuf {
		self.folder.join("restored")
	}

	/// The image of a restore.
	pub fn image(&self, request: u64, sequence: u64, restore: u64) -> PathBuf {
		self.restored().join(format!("request-{request}-{sequence}-{restore}/vda.raw"))
	}

	/// Tell it of a machine with one raw disk called `vda`.
	pub fn add_machine(
		&self,
		name: &str,
		tag: VmTag,
		qmp: Option<&Path>,
		disk: &Path,
	) -> Result<()> {
		let qmp = qmp.map_or(String::new(), |path| format!("qmp = {:?}\n", path.display()));
		let text = format!(
			"uuid = \"{tag}\"\n{qmp}\n[[disk]]\nname = \"vda\"\nimage = {:?}\nformat = \"raw\"\n",
			disk.display()
		);
		let path = self.machine_file(name);
		fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
	}

	/// Tell it where the guest agent of a machine that it knows listens.
	pub fn add_guest_agent(&self, name: &str, socket: &Path) -> Result<()> {
		let path = self.machine_file(name);
		let context = || format!("failed to change {}", path.display());
		let text = fs::read_to_string(&path).with_context(context)?;
		fs::write(&path, format!("guest_agent = {:?}\n{text}", socket.display()))
			.with_context(context)
	}

	/// What it answers at a path.
	pub async fn get(&self, path: &str) -> Result<Json> {
		Ok(serde_json::from_str(&self.text(path).await?)?)
	}

	/// The same as it stands, where it is no JSON.
	pub async fn text(&self, path: &str) -> Result<String> {
		let answer = self.http.get(format!("{}{path}", self.url())).send().await?;
		Ok(answer.error_for_status()?.text().await?)
	}

	/// Its jobs.
	pub async fn jobs(&self) -> Result<Vec<Json>> {
		let jobs = self.get("/v1/jobs").await?;
		Ok(jobs.as_array().context("jobs are a list")?.clone())
	}

	/// Roots that it has pinned, as text.
	pub async fn pinned(&self) -> Result<Vec<String>> {
		let snapshots = self.get("/v1/snapshots").await?;
		let list = snapshots.as_array().context("snapshots are a list")?;
		Ok(list.iter().filter_map(|one| one["cid"].as_str()).map(str::to_owned).collect())
	}

	/// Bytes of all its blocks.
	pub async fn stored_bytes(&self) -> Result<u64> {
		self.get("/v1/status").await?["stored_bytes"].as_u64().context("no stored bytes")
	}

	/// Whether its store has a block.
	pub async fn has_block(&self, cid: &str) -> Result<bool> {
		let url = format!("{}/ipfs/{cid}?format=raw", self.url());
		Ok(self.http.get(url).send().await?.status().is_success())
	}

	/// Its copies of other nodes' snapshots.
	pub async fn copies(&self) -> Result<Vec<Json>> {
		let copies = self.get("/v1/copies").await?;
		Ok(copies.as_array().context("copies are a list")?.clone())
	}

	/// Lose its folder, as with the disk that it is on.
	pub fn destroy(&mut self) -> Result<()> {
		self.kill()?;
		fs::remove_dir_all(&self.folder).context("failed to remove the agent's folder")
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
		String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
	}
}
