//! `backup node register`: what an operator does once for each node.

use crate::{
	args::{Global, Node},
	chain::{Chain, keypair, read_secret, signer},
	error::CliError,
	output::Output,
};
use backup_primitives::{OpaqueId, Recipient, report::possession_payload};
use serde_json::json;
use subxt_signer::sr25519::Keypair;

pub(crate) async fn run(verb: Node, global: &Global, output: Output) -> Result<(), CliError> {
	let Node::Register { id, authority_suri, authority_suri_file, recipient, gateway } = verb;
	let authority = match (authority_suri, authority_suri_file) {
		(Some(suri), _) => keypair(&suri)?,
		(None, Some(path)) => keypair(&read_secret(&path)?)?,
		(None, None) => unreachable!("the parser demands one of the two"),
	};
	register(id, &authority, recipient, gateway, global, output).await
}

async fn register(
	id: u32,
	authority: &Keypair,
	recipient: Recipient,
	gateways: Vec<String>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let signer = signer(global)?;
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
