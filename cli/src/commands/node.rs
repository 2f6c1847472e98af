//! `backup node register`: what an operator does once for each node.

use crate::{
	args::{Global, Node},
	chain::Chain,
	error::CliError,
	output::Output,
	secret::{keypair, read_secret, signer},
	terminal,
};
use backup_primitives::{OpaqueId, Recipient, report::possession_payload};
use serde_json::json;
use std::env;
use subxt_signer::sr25519::Keypair;

/// The variable that can hold the secret of a node's authority.
const AUTHORITY_VARIABLE: &str = "BACKUP_AUTHORITY_SECRET";

pub(crate) async fn run(verb: Node, global: &Global, output: Output) -> Result<(), CliError> {
	let Node::Register { id, authority_secret_file, recipient, gateway } = verb;
	let secret = match (authority_secret_file, env::var(AUTHORITY_VARIABLE)) {
		(Some(path), _) => read_secret(&path)?,
		(None, Ok(secret)) => secret,
		(None, Err(_)) => match terminal::ask_secret("secret of the authority: ").await {
			Err(CliError::NoSigner) => return Err(CliError::NoAuthority),
			asked => asked?,
		},
	};
	register(id, &keypair(&secret)?, recipient, gateway, global, output).await
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
	let chain = Chain::connect(global).await?;
	let operator = signer.public_key().0;
	let payload = possession_payload(&chain.genesis(), &opaque(&id), &opaque(&operator));
	let proof = authority.sign(&payload).0;
	let public = authority.public_key().0;
	let gateways: Vec<Vec<u8>> = gateways.into_iter().map(String::into_bytes).collect();
	let arguments = (id, public, recipient.0, gateways, proof);
	let included = chain.submit(&signer, "Compute", "register_node", arguments).await?;
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
