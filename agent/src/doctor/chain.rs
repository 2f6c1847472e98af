//! The node, its chain, and the clocks.

use super::{Case, Finding, agent::block_on};
use crate::jobs::{Ledger, now_ms};
use jsonrpsee::{
	core::{
		client::{ClientT, Error as ClientError},
		params::ArrayParams,
	},
	rpc_params,
	ws_client::{WsClient, WsClientBuilder},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fs, time::Duration};

/// How long the node may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Most bytes of an answer: a runtime's version has a few hundred.
const ANSWER_BYTES_MAX: u32 = 256 * 1024;

/// Where a chain keeps its time: `Now` of `Timestamp`, in milliseconds since 1970.
const TIMESTAMP_NOW: &str = "0xf0c365c3cf59d671eb72da0e7a4113c49f1f0515f462cdcf84e0f1d6045dfcbb";

/// What the backup pallet's runtime API is called in a runtime's version: BLAKE2b of `BackupApi`.
const BACKUP_API: &str = "0x5520af659b029dd6";

/// What JSON-RPC says of a method that is not there.
const NO_METHOD: i32 = -32_601;

/// How far a chain's time may be ahead of ours: authors may be, by their chain's own rules.
const AHEAD_MAX_MS: u64 = 30_000;

/// How far it may lie behind: several blocks may have no author.
const BEHIND_MAX_MS: u64 = 120_000;

/// How far a file of the agent's may be ahead of now.
const FILE_AHEAD_MAX: Duration = Duration::from_secs(60);

/// What a node says of its chain.
#[derive(Debug)]
struct Facts {
	genesis: String,
	finalized: u64,
	/// Whether it has the backup pallet, if it says.
	has_pallet: Option<bool>,
	/// Whether it is behind others, if it says.
	is_syncing: Option<bool>,
	/// The time of its best block, if it keeps one.
	time_ms: Option<u64>,
}

/// What is read of a header.
#[derive(Deserialize)]
struct Header {
	number: String,
}

/// What is read of a runtime's version.
#[derive(Deserialize)]
struct RuntimeVersion {
	apis: Vec<(String, u32)>,
}

/// What is read of a node's health.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
	is_syncing: bool,
}

/// Ask the node, and compare clocks.
pub(super) fn chain(case: &Case) -> Vec<Finding> {
	let url = &case.config.node_rpc;
	let asked = block_on(ask(url.expose())).map_err(|error| error.to_string());
	let facts = asked.and_then(|answer| answer.map_err(|error| error.to_string()));
	let mut findings = match &facts {
		Ok(facts) => vec![judge(facts, known_genesis(case).as_deref())],
		Err(error) => vec![Finding::failed(
			"chain",
			format!("ask the node at {url}: {error}"),
			"start the node, or set node_rpc to the address of its WebSocket",
		)],
	};
	let time_ms = facts.ok().and_then(|facts| facts.time_ms);
	findings.push(from_the_future(case).unwrap_or_else(|| clock(time_ms, now_ms())));
	findings
}

/// Connect to the node, and take answers of so many bytes.
pub(super) async fn connect(url: &str, answer_bytes_max: u32) -> Result<WsClient, ClientError> {
	let builder = WsClientBuilder::default()
		.request_timeout(ANSWER_TIME_MAX)
		.connection_timeout(ANSWER_TIME_MAX)
		.max_response_size(answer_bytes_max);
	builder.build(url).await
}

async fn ask(url: &str) -> Result<Facts, ClientError> {
	let node = connect(url, ANSWER_BYTES_MAX).await?;
	let head: String = node.request("chain_getFinalizedHead", rpc_params![]).await?;
	let header: Header = node.request("chain_getHeader", rpc_params![head]).await?;
	let version: Option<RuntimeVersion> =
		optional(&node, "state_getRuntimeVersion", rpc_params![]).await?;
	let health: Option<Health> = optional(&node, "system_health", rpc_params![]).await?;
	let time: Option<Option<String>> =
		optional(&node, "state_getStorage", rpc_params![TIMESTAMP_NOW]).await?;
	Ok(Facts {
		genesis: node.request("chain_getBlockHash", rpc_params![0]).await?,
		finalized: u64::from_str_radix(header.number.trim_start_matches("0x"), 16).unwrap_or(0),
		has_pallet: version.map(|version| version.apis.iter().any(|(id, _)| id == BACKUP_API)),
		is_syncing: health.map(|health| health.is_syncing),
		time_ms: time.flatten().as_deref().and_then(milliseconds),
	})
}

/// What not every node tells: nothing if it knows no such method, or gives it to nobody.
pub(super) async fn optional<T: DeserializeOwned>(
	node: &WsClient,
	method: &str,
	arguments: ArrayParams,
) -> Result<Option<T>, ClientError> {
	match node.request(method, arguments).await {
		Err(ClientError::Call(error)) if error.code() == NO_METHOD => Ok(None),
		answer => answer.map(Some),
	}
}

/// Eight bytes in SCALE.
fn milliseconds(hex_text: &str) -> Option<u64> {
	let mut bytes = [0; 8];
	hex::decode_to_slice(hex_text.trim_start_matches("0x"), &mut bytes).ok()?;
	Some(u64::from_le_bytes(bytes))
}

/// The chain that the agent serves, once a worker has said which.
fn known_genesis(case: &Case) -> Option<String> {
	if let Some(running) = &case.running {
		return running.genesis.clone();
	}
	let ledger = case.config.state_dir.join("jobs.redb");
	if case.is_foreign || !ledger.exists() {
		return None;
	}
	let genesis = Ledger::open(&ledger).ok()?.known_genesis().ok()??;
	Some(format!("0x{}", hex::encode(genesis)))
}

fn judge(facts: &Facts, known: Option<&str>) -> Finding {
	const NAME: &str = "chain";
	let Facts { genesis, finalized, .. } = facts;
	let found = format!("{genesis}, finalized block {finalized}");
	match (known, facts.has_pallet, facts.is_syncing) {
		(Some(known), ..) if known != genesis => Finding::failed(
			NAME,
			format!("the node is of the chain {genesis}, this agent serves {known}"),
			"give each chain an agent and a state folder of its own, or set node_rpc to the right node",
		),
		(_, Some(false), _) => Finding::failed(
			NAME,
			format!("{genesis} has no backup pallet"),
			"set node_rpc to a node of the chain that backs machines up",
		),
		(.., Some(true)) => Finding::warning(
			NAME,
			format!("{found}; the node is synchronising"),
			"wait until it is done",
		),
		(None, ..) => {
			Finding::ok(NAME, format!("{found}; no worker has said yet that it is the one"))
		}
		(Some(_), ..) => Finding::ok(NAME, found),
	}
}

/// Compare the chain's time with the host's.
fn clock(time_ms: Option<u64>, now_ms: u64) -> Finding {
	const NAME: &str = "clock";
	let Some(time_ms) = time_ms else {
		return Finding::warning(
			NAME,
			"not compared: no chain has told its time",
			"see that the node answers; meanwhile compare the host's clock with another one",
		);
	};
	let seconds = now_ms.abs_diff(time_ms) / 1000;
	let is_behind = now_ms < time_ms;
	match is_behind {
		true if time_ms - now_ms > AHEAD_MAX_MS => Finding::failed(
			NAME,
			format!("this host is {seconds} s behind the chain"),
			"set the host's clock, and have it kept right (Debian: apt install chrony)",
		),
		false if now_ms - time_ms > BEHIND_MAX_MS => Finding::warning(
			NAME,
			format!("the chain's best block is {seconds} s old"),
			"set the host's clock if it is fast; if it is right, see why the chain makes no blocks",
		),
		_ => Finding::ok(NAME, format!("{seconds} s from the time of the chain's best block")),
	}
}

/// What the agent wrote in the future shows that the clock went back.
fn from_the_future(case: &Case) -> Option<Finding> {
	let files = ["jobs.redb", "blocks/index.redb", "blocks/pins.log", "secret", "identity"];
	let ahead = files.iter().find_map(|name| {
		let path = case.config.state_dir.join(name);
		let written = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
		let ahead = written.duration_since(std::time::SystemTime::now()).ok()?;
		(ahead > FILE_AHEAD_MAX).then_some((path, ahead))
	});
	let (path, ahead) = ahead?;
	let found = format!("{} was written in {} s from now", path.display(), ahead.as_secs());
	let mend = "set the host's clock, and have it kept right; if it is right now, touch that file";
	Some(Finding::failed("clock", found, mend))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::doctor::Verdict;

	fn facts() -> Facts {
		Facts {
			genesis: "0x01".into(),
			finalized: 7,
			has_pallet: Some(true),
			is_syncing: Some(false),
			time_ms: None,
		}
	}

	#[test]
	fn another_chain_one_without_backups_and_one_that_is_behind_are_told_apart() {
		let verdict = |facts, known| judge(&facts, known).verdict;
		assert_eq!(verdict(facts(), Some("0x01")), Verdict::Ok);
		assert_eq!(verdict(facts(), None), Verdict::Ok);
		assert_eq!(verdict(facts(), Some("0x02")), Verdict::Failed);
		assert_eq!(verdict(Facts { has_pallet: Some(false), ..facts() }, None), Verdict::Failed);
		assert_eq!(verdict(Facts { is_syncing: Some(true), ..facts() }, None), Verdict::Warning);
		// A node that keeps these to itself is no worse for it.
		let silent = Facts { has_pallet: None, is_syncing: None, ..facts() };
		assert_eq!(verdict(silent, None), Verdict::Ok);
	}

	#[test]
	fn boundary_a_clock_may_be_off_by_so_much_and_no_more() {
		let verdict = |time_ms, now_ms| clock(Some(time_ms), now_ms).verdict;
		let now = 1_000_000_000;
		assert_eq!(verdict(now + AHEAD_MAX_MS, now), Verdict::Ok);
		assert_eq!(verdict(now + AHEAD_MAX_MS + 1, now), Verdict::Failed);
		assert_eq!(verdict(now - BEHIND_MAX_MS, now), Verdict::Ok);
		assert_eq!(verdict(now - BEHIND_MAX_MS - 1, now), Verdict::Warning);
		assert_eq!(clock(None, now).verdict, Verdict::Warning, "nothing was compared");
	}

	#[test]
	fn a_chain_s_time_is_eight_bytes() {
		assert_eq!(milliseconds("0x0100000000000000"), Some(1));
		assert_eq!(milliseconds("0x01"), None);
		assert_eq!(milliseconds("hello"), None);
	}
}
