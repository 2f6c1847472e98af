//! Whether the node beside this agent can sign reports: the chain has registered it with a recipient of
//! this agent's, and its authority key is in the node's keystore.
//!
//! Both are asked of the node. Who runs on a chain is for each chain to say, and only the list of the
//! compute pallet is read here: of other chains it is only known whether a worker speaks, for one that
//! does has the authority key of a registered node. About its keystore a node answers on an address of
//! its own host, and nobody else unless it is started with `--rpc-methods unsafe`.

use super::{
	Case, Finding,
	agent::{Running, block_on},
	chain::{connect, optional},
};
use crate::secret::NodeIdentities;
use backup_primitives::{Recipient, job::Gateways};
use codec::{Decode, DecodeAll, Encode};
use jsonrpsee::{
	core::client::{ClientT, Error as ClientError},
	rpc_params,
	ws_client::WsClient,
};
use serde::Deserialize;

const NAME: &str = "authority";

/// What the compute pallet's runtime API is called in a runtime's version: BLAKE2b of `ComputeApi`.
const COMPUTE_API: &str = "0x2e3e35f40728511a";

/// Its method that lists nodes, page by page.
const NODES: &str = "ComputeApi_nodes";

/// The keystore's name for keys that sign reports.
const KEY_TYPE: &str = "bkup";

/// Most bytes of an answer: a page has 256 nodes.
const ANSWER_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// Most pages that are read.
const PAGES_MAX: usize = 64;

/// Most nodes of this agent's that are looked at. There is one, or two while it moves.
const NODES_MAX: usize = 8;

const REGISTER: &str =
	"register it: backup node register --id ID --recipient RECIPIENT, or backup node rotate";

const LOOK: &str = "see on the node's host whether its log says that the keystore has no key of type \
	bkup, or set node_rpc to the node's address on this host";

/// A node, as the compute pallet lists it.
#[derive(Debug, Decode)]
struct Registered {
	_operator: [u8; 32],
	authority: [u8; 32],
	recipient: Recipient,
	_gateways: Gateways,
}

type Page = (Vec<(u32, Registered)>, Option<u32>);

/// A node that the chain has registered with a recipient of this agent's.
#[derive(Debug)]
struct Ours {
	id: u32,
	authority: [u8; 32],
	/// Whether the node has the key, if it says.
	is_there: Option<bool>,
}

/// What the node says.
#[derive(Debug)]
enum Answer {
	/// The chain has no list of nodes that is known here.
	NoList,
	/// These are this agent's.
	Listed(Vec<Ours>),
}

/// What is read of a runtime's version.
#[derive(Deserialize)]
struct RuntimeVersion {
	apis: Vec<(String, u32)>,
}

/// Ask the node. What keeps it from being asked is told where the chain and the identity are tried.
pub(super) fn authority(case: &Case) -> Vec<Finding> {
	let Ok(identities) = NodeIdentities::load(&case.config.identity_file) else {
		return Vec::new();
	};
	let recipients = identities.recipients();
	let asked = block_on(ask(case.config.node_rpc.expose(), &recipients));
	let Ok(Ok(answer)) = asked else { return Vec::new() };
	let is_heard = case.running.as_ref().is_some_and(Running::hears_a_worker);
	match answer {
		Answer::NoList => vec![no_list(is_heard)],
		Answer::Listed(ours) if ours.is_empty() => vec![nobody(&identities.recipient(), is_heard)],
		Answer::Listed(ours) => ours.iter().map(|node| judge(node, is_heard)).collect(),
	}
}

async fn ask(url: &str, recipients: &[Recipient]) -> Result<Answer, ClientError> {
	let node = connect(url, ANSWER_BYTES_MAX).await?;
	let version: Option<RuntimeVersion> =
		optional(&node, "state_getRuntimeVersion", rpc_params![]).await?;
	let has_list = version.is_some_and(|one| one.apis.iter().any(|(id, _)| id == COMPUTE_API));
	let listed = match has_list {
		true => list(&node, recipients).await?,
		false => None,
	};
	let Some(mut ours) = listed else { return Ok(Answer::NoList) };
	for node_of_ours in &mut ours {
		node_of_ours.is_there = has_key(&node, &node_of_ours.authority).await?;
	}
	Ok(Answer::Listed(ours))
}

/// The nodes with one of these recipients, unless the list is not one that is known here.
async fn list(node: &WsClient, recipients: &[Recipient]) -> Result<Option<Vec<Ours>>, ClientError> {
	let head: String = node.request("chain_getFinalizedHead", rpc_params![]).await?;
	let (mut ours, mut after) = (Vec::new(), None::<u32>);
	for _ in 0..PAGES_MAX {
		let arguments = hex_text(&after.encode());
		let answer: String =
			node.request("state_call", rpc_params![NODES, arguments, &head]).await?;
		let Some((nodes, next)) = read(&answer) else { return Ok(None) };
		let is_ours = |one: &(u32, Registered)| recipients.contains(&one.1.recipient);
		let found = nodes.into_iter().filter(is_ours);
		let left = NODES_MAX.saturating_sub(ours.len());
		ours.extend(found.take(left).map(|(id, one)| Ours {
			id,
			authority: one.authority,
			is_there: None,
		}));
		match next {
			Some(next) => after = Some(next),
			None => return Ok(Some(ours)),
		}
	}
	// Not all were seen: that none is ours cannot be said.
	Ok((!ours.is_empty()).then_some(ours))
}

fn read(answer: &str) -> Option<Page> {
	let bytes = hex::decode(answer.trim_start_matches("0x")).ok()?;
	Page::decode_all(&mut bytes.as_slice()).ok()
}

/// Whether the node has a key, or nothing if it tells nobody.
async fn has_key(node: &WsClient, key: &[u8; 32]) -> Result<Option<bool>, ClientError> {
	let answer = node.request("author_hasKey", rpc_params![hex_text(key), KEY_TYPE]).await;
	match answer {
		Ok(is_there) => Ok(Some(is_there)),
		// Refused, in whatever words: nothing is known.
		Err(ClientError::Call(_)) => Ok(None),
		Err(error) => Err(error),
	}
}

fn no_list(is_heard: bool) -> Finding {
	let why = "its nodes are not listed as the compute pallet lists them";
	match is_heard {
		true => Finding::ok(NAME, format!("registered, for a worker speaks; {why}")),
		false => Finding::ok(NAME, format!("not asked of this chain: {why}; see worker")),
	}
}

fn nobody(recipient: &Recipient, is_heard: bool) -> Finding {
	let found = format!("the finalized chain has no node with the recipient {recipient}");
	match is_heard {
		// Its node has another recipient: orders will fail, and say with which.
		true => Finding::failed(
			NAME,
			format!("{found}, and a worker speaks for one"),
			"give that node this agent's recipient: backup node rotate --id ID --recipient RECIPIENT",
		),
		false => Finding::failed(NAME, found, REGISTER),
	}
}

fn judge(Ours { id, authority, is_there }: &Ours, is_heard: bool) -> Finding {
	let key = hex_text(authority);
	let registered = format!("node {id} is registered");
	match (is_there, is_heard) {
		(Some(true), _) => {
			Finding::ok(NAME, format!("{registered}, and the node has its key {key}"))
		}
		(Some(false), true) => Finding::warning(
			NAME,
			format!("a worker speaks, but the node at node_rpc has not the key {key} of node {id}"),
			"set node_rpc to the node that is started with this agent's address",
		),
		(Some(false), false) => Finding::failed(
			NAME,
			format!("{registered}, but its key {key} is not in the node's keystore"),
			format!("insert it: key insert --key-type {KEY_TYPE} --scheme sr25519, at the node"),
		),
		(None, true) => Finding::ok(
			NAME,
			format!(
				"{registered} with {key}; the node tells nobody of its keys, but a worker speaks"
			),
		),
		(None, false) => Finding::warning(
			NAME,
			format!("{registered} with {key}; the node tells nobody whether it has that key"),
			LOOK,
		),
	}
}

fn hex_text(bytes: &[u8]) -> String {
	format!("0x{}", hex::encode(bytes))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::doctor::Verdict;

	fn verdict(is_there: Option<bool>, is_heard: bool) -> Verdict {
		judge(&Ours { id: 1, authority: [7; 32], is_there }, is_heard).verdict
	}

	#[test]
	fn a_key_is_there_or_not_and_a_node_that_does_not_say_is_judged_by_its_worker() {
		assert_eq!([verdict(Some(true), false), verdict(Some(true), true)], [Verdict::Ok; 2]);
		assert_eq!(verdict(Some(false), false), Verdict::Failed);
		assert_eq!(verdict(Some(false), true), Verdict::Warning, "node_rpc is another node");
		assert_eq!(verdict(None, true), Verdict::Ok);
		assert_eq!(verdict(None, false), Verdict::Warning);
	}

	#[test]
	fn a_chain_that_lists_its_nodes_otherwise_is_no_fault() {
		assert_eq!([no_list(true).verdict, no_list(false).verdict], [Verdict::Ok; 2]);
		assert!(read("0x").is_none() && read("hello").is_none() && read("0x0400").is_none());
		assert!(read("0x0000").is_some_and(|(nodes, next)| nodes.is_empty() && next.is_none()));
	}
}
