//! `backup node`: what an operator says of its nodes.

use crate::{
	args::{Global, Node},
	chain::Chain,
	commands::session::Session,
	error::CliError,
	output::Output,
	secret::{keypair, read_secret, signer},
	terminal,
};
use backup_primitives::{OpaqueId, Recipient, report::possession_payload};
use serde_json::json;
use std::{env, path::Path};
use subxt_signer::sr25519::Keypair;

/// The variable that can hold the secret of a node's authority.
const AUTHORITY_VARIABLE: &str = "BACKUP_AUTHORITY_SECRET";

pub(crate) async fn run(verb: Node, global: &Global, output: Output) -> Result<(), CliError> {
	match verb {
		Node::Register { id, authority_secret_file, recipient, gateway } => {
			let authority = authority(authority_secret_file.as_deref()).await?;
			register(id, &authority, recipient, gateway, global, output).await
		}
		Node::Rotate { id, authority_secret_file, recipient } => {
			let authority = authority(authority_secret_file.as_deref()).await?;
			rotate(id, &authority, recipient, global, output).await
		}
		Node::Deregister { id, yes } => deregister(id, yes, global, output).await,
	}
}

/// The key that is to sign a node's reports.
async fn authority(path: Option<&Path>) -> Result<Keypair, CliError> {
	let secret = match (path, env::var(AUTHORITY_VARIABLE)) {
		(Some(path), _) => read_secret(path)?,
		(None, Ok(secret)) => secret,
		(None, Err(_)) => match terminal::ask_secret("secret of the authority: ").await {
			Err(CliError::NoSigner) => return Err(CliError::NoAuthority),
			asked => asked?,
		},
	};
	keypair(&secret)
}

/// The authority's word that it is to be this node's.
fn proof(chain: &Chain, id: u32, signer: &Keypair, authority: &Keypair) -> [u8; 64] {
	let operator = signer.public_key().0;
	let payload = possession_payload(&chain.genesis(), &opaque(&id), &opaque(&operator));
	authority.sign(&payload).0
}

async fn rotate(
	id: u32,
	authority: &Keypair,
	recipient: Recipient,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let signer = signer(global).await?;
	let session = Session::of(signer.clone(), global).await?;
	let proof = proof(&session.chain, id, &signer, authority);
	let arguments = (id, authority.public_key().0, recipient.0, proof);
	let report = session.submit("Compute", "rotate_keys", arguments).await?.report;
	output.answer(&report, || {
		format!(
			"node {id} has new keys; its old ones sign nothing any more (block {})",
			report.block
		)
	})
}

async fn deregister(id: u32, yes: bool, global: &Global, output: Output) -> Result<(), CliError> {
	let will = format!("Node {id} will be taken off the chain, and its id is never given again.");
	let session = Session::begin_after_asking(global, yes, &will, "deregister").await?;
	let report = session.submit("Compute", "deregister_node", (id,)).await?.report;
	output.answer(&report, || {
		format!(
			"node {id} is off the chain; owners of its machines release them (block {})",
			report.block
		)
	})
}

async fn register(
	id: u32,
	authority: &Keypair,
	recipient: Recipient,
	gateways: Vec<String>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let signer = signer(global).await?;
	let session = Session::of(signer.clone(), global).await?;
	let proof = proof(&session.chain, id, &signer, authority);
	let public = authority.public_key().0;
	let gateways: Vec<Vec<u8>> = gateways.into_iter().map(String::into_bytes).collect();
	let arguments = (id, public, recipient.0, gateways, proof);
	let included = session.submit("Compute", "register_node", arguments).await?;
	let value = json!({
		"node": id,
		"authority": format!("0x{}", hex::encode(public)),
		"recipient": recipient.to_string(),
		"transaction": included.report,
	});
	output.answer(&value, || {
		format!("node {id} is registered with authority 0x{}", hex::encode(public))
	})
}

fn opaque(id: &impl codec::Encode) -> OpaqueId {
	OpaqueId::of(id).expect("numbers and accounts have 32 bytes at most")
}
