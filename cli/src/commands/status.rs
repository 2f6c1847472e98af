//! `backup status`: the chain, the backups of an account or request, and the agent.

use crate::{
	args::{Global, Machine},
	chain::{
		AtBlock, Chain, machines, reads,
		records::{Lineage, Protection, RequestState, Restore, RestoreState},
	},
	error::CliError,
	glance,
	output::{Mood, Output},
	progress::Bar,
	secret::{account, parse_account},
	words,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::time::Duration;
use subxt::utils::AccountId32;

/// Longest time to wait for an agent.
const AGENT_TIME_MAX: Duration = Duration::from_secs(5);

/// Most bytes of an agent's answer.
const AGENT_BYTES_MAX: usize = 1024 * 1024;

/// The whole answer.
#[derive(Debug, Serialize)]
struct Answer {
	chain: Head,
	account: Option<Account>,
	request: Option<Request>,
	backups: Vec<Backup>,
	restores: Vec<Restore>,
	agent: Option<serde_json::Value>,
	/// Whether there may be more restores.
	truncated: bool,
}

/// A backup, and how well it is protected.
#[derive(Debug, Serialize)]
struct Backup {
	#[serde(flatten)]
	lineage: Lineage,
	protection: Protection,
}

impl Backup {
	async fn read(at: &AtBlock, lineage: Lineage) -> Result<Self, CliError> {
		let protection = reads::protection(at, lineage.request).await?;
		Ok(Self { lineage, protection })
	}
}

/// Where the chain stands.
#[derive(Debug, Serialize)]
struct Head {
	name: String,
	genesis: String,
	best: u64,
	finalized: u64,
}

/// What an owner has.
#[derive(Debug, Serialize)]
struct Account {
	address: String,
	paid_until: Option<u64>,
	key_version: u32,
	deletion_from: Option<u64>,
}

/// A request for a machine.
#[derive(Debug, Serialize)]
struct Request {
	request: u64,
	owner: String,
	disk_bytes: u64,
	#[serde(flatten)]
	state: RequestState,
}

pub(crate) async fn run(
	machine: Option<&Machine>,
	owner: Option<&str>,
	agent: Option<&str>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let named = match owner {
		Some(text) => Some(parse_account(text)?),
		None => match account(None, global).await {
			Ok(account) => Some(account),
			Err(CliError::NoAccount) => None,
			Err(error) => return Err(error),
		},
	};
	let bar = Bar::waiting(output, "the chain");
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let chain = head(&chain, &at).await?;
	let agent = match agent {
		Some(url) => Some(ask_agent(url).await?),
		None => None,
	};
	let mut answer = Answer {
		chain,
		account: None,
		request: None,
		backups: Vec::new(),
		restores: Vec::new(),
		agent,
		truncated: false,
	};
	match (machine, named) {
		(Some(machine), named) => {
			let id = match (machine, named) {
				(Machine::Name(name), Some(owner)) => {
					machines::request_of(&at, name, &owner).await?
				}
				(machine, _) => machines::find(&at, machine, global).await?,
			};
			add_request(&mut answer, &at, id, output).await?;
		}
		(None, Some(owner)) => {
			let lineages = stream::iter(reads::lineages_of(&at, &owner).await?);
			let backups = lineages.map(|lineage| Backup::read(&at, lineage));
			answer.backups = backups.buffered(reads::AT_ONCE).try_collect().await?;
			let restores = reads::restores_of(&at, &owner).await?;
			(answer.restores, answer.truncated) = restores.told("restores", output);
			answer.account = Some(read_account(&at, &owner).await?);
		}
		(None, None) => (),
	}
	drop(bar);
	output.answer(&answer, || text(&answer))
}

async fn head(chain: &Chain, at: &AtBlock) -> Result<Head, CliError> {
	Ok(Head {
		name: words::escape(chain.name().await?.as_bytes()),
		genesis: format!("0x{}", hex::encode(chain.genesis())),
		best: at.block_number(),
		finalized: chain.finalized().await?.block_number(),
	})
}

async fn add_request(
	answer: &mut Answer,
	at: &AtBlock,
	id: u64,
	output: Output,
) -> Result<(), CliError> {
	let record = reads::request(at, id).await?;
	let owner = record.owner;
	answer.request = Some(Request {
		request: id,
		owner: owner.to_string(),
		disk_bytes: record.disk_bytes,
		state: record.state.into(),
	});
	answer.account = Some(read_account(at, &owner).await?);
	match reads::lineage(at, id).await {
		Ok(lineage) => answer.backups.push(Backup::read(at, lineage).await?),
		Err(CliError::NoBackup { .. }) => (),
		Err(error) => return Err(error),
	}
	let restores = reads::restores_of(at, &owner).await?;
	(answer.restores, answer.truncated) = restores.told("restores", output);
	answer.restores.retain(|restore| restore.request == id);
	Ok(())
}

async fn read_account(at: &AtBlock, owner: &AccountId32) -> Result<Account, CliError> {
	Ok(Account {
		address: owner.to_string(),
		paid_until: reads::paid_until(at, owner).await?,
		key_version: reads::owner_key_version(at, owner).await?,
		deletion_from: reads::deletion_from(at, owner).await?,
	})
}

/// The agent's own words, as JSON. An agent may be newer than this build, so its answer is
/// passed on as it is.
async fn ask_agent(url: &str) -> Result<serde_json::Value, CliError> {
	let fail = |reason: String| CliError::AgentUnreachable { url: url.to_owned(), reason };
	let address = format!("{}/v1/status", url.trim_end_matches('/'));
	let client = reqwest::Client::builder()
		.timeout(AGENT_TIME_MAX)
		.redirect(reqwest::redirect::Policy::none())
		.build()
		.map_err(|error| fail(error.to_string()))?;
	let mut answer = client.get(address).send().await.map_err(|error| fail(error.to_string()))?;
	if !answer.status().is_success() {
		return Err(fail(format!("it answered with {}", answer.status())));
	}
	let mut body = Vec::new();
	while let Some(chunk) = answer.chunk().await.map_err(|error| fail(error.to_string()))? {
		body.extend_from_slice(&chunk);
		if body.len() > AGENT_BYTES_MAX {
			return Err(fail(format!("its answer is longer than {AGENT_BYTES_MAX} bytes")));
		}
	}
	serde_json::from_slice(&body).map_err(|_| fail("its answer is not JSON".into()))
}

fn text(answer: &Answer) -> String {
	let chain = &answer.chain;
	let mut lines = vec![format!(
		"chain {}: best block {}, finalized {}",
		chain.name, chain.best, chain.finalized
	)];
	if let Some(request) = &answer.request {
		lines.push(format!(
			"request {} of {}: {}, disks of {}",
			request.request,
			request.owner,
			request_words(&request.state),
			words::bytes(request.disk_bytes)
		));
	}
	if let Some(account) = &answer.account {
		lines.push(account_words(account, chain.best));
	}
	lines.extend(answer.backups.iter().map(backup_words));
	lines.extend(answer.restores.iter().map(restore_words));
	if let Some(agent) = &answer.agent {
		lines.push("agent:".into());
		lines.extend(agent_words(agent));
	}
	lines.join("\n")
}

fn request_words(state: &RequestState) -> String {
	match state {
		RequestState::Open => "no node has taken it".into(),
		RequestState::Assigned { node } => format!("node {node} has taken it"),
		RequestState::Running { node, vm } => format!("runs on node {node} as {vm}"),
		RequestState::Ended => "has ended".into(),
	}
}

fn account_words(account: &Account, best: u64) -> String {
	let paid = match account.paid_until {
		None => Mood::Bad.paint("no subscription"),
		Some(until) if until > best => format!("paid until block {until}"),
		Some(until) => Mood::Bad.paint(&format!("subscription ended at block {until}")),
	};
	let key = match account.key_version {
		0 => Mood::Bad.paint("no key registered"),
		version => format!("key version {version}"),
	};
	let deletion = match account.deletion_from {
		None => String::new(),
		Some(from) => {
			let words = format!("all backups are deleted from block {from} on");
			format!(", {}", Mood::Careful.paint(&words))
		}
	};
	format!("account {}: {paid}, {key}{deletion}", account.address)
}

fn backup_words(Backup { lineage, protection }: &Backup) -> String {
	let failure = match &lineage.last_failure {
		None => String::new(),
		Some(reason) => {
			let words = reason.known().map(|known| words::failure(&known).to_owned());
			let failure = format!("last failure: {}", words.unwrap_or_else(|| reason.kebab()));
			format!("\n  {}", Mood::Bad.paint_head(&failure))
		}
	};
	format!(
		"backup of request {}: {} snapshots, every {} blocks\n  {}\n  {}{failure}",
		lineage.request,
		lineage.kept,
		lineage.frequency_blocks,
		glance::eligibility(&lineage.eligibility),
		glance::protection(protection),
	)
}

fn restore_words(restore: &Restore) -> String {
	let state = match &restore.state {
		RestoreState::Requested => format!("waits for node {}", restore.node),
		RestoreState::Expired => Mood::Bad.paint("expired without a report of the node"),
		RestoreState::Fulfilled { at } => Mood::Good.paint(&format!("complete since block {at}")),
		RestoreState::Failed { reason, at } => {
			let words = reason.known().map(|known| words::failure(&known).to_owned());
			let words = words.unwrap_or_else(|| reason.kebab());
			Mood::Bad.paint_head(&format!("failed at block {at}: {words}"))
		}
	};
	format!(
		"restore {} of request {} sequence {}: {state}",
		restore.restore, restore.request, restore.sequence
	)
}

fn agent_words(agent: &serde_json::Value) -> Vec<String> {
	let pretty = serde_json::to_string_pretty(agent).unwrap_or_default();
	pretty.lines().map(|line| format!("  {}", words::escape(line.as_bytes()))).collect()
}
