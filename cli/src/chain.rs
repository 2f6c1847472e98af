//! One connection to a node: reads at the best block, and signed transactions.
//!
//! Nothing of a certain runtime is compiled in; pallets, calls and types are looked up in
//! the metadata that the node serves.

pub(crate) mod council;
pub(crate) mod reads;
pub(crate) mod records;
pub(crate) mod submit;

use crate::{args::Global, chain::submit::Event, error::CliError};
use std::{
	fs,
	io::Read,
	path::Path,
	process::{Command, Stdio},
	str::FromStr,
	sync::Arc,
};
use subxt::{
	OnlineClient, PolkadotConfig,
	backend::LegacyBackend,
	client::{ClientAtBlock, OnlineClientAtBlockImpl},
	rpcs::{RpcClient, methods::legacy::LegacyRpcMethods},
	utils::AccountId32,
};
use subxt_signer::{SecretUri, sr25519::Keypair};

/// The state of the chain at one block.
pub(crate) type AtBlock = ClientAtBlock<PolkadotConfig, OnlineClientAtBlockImpl<PolkadotConfig>>;

/// The pallets without which no verb makes sense.
const PALLETS: [&str; 3] = ["Backup", "Compute", "Marketplace"];

/// The node that is meant if nothing says otherwise.
const NODE: &str = "ws://127.0.0.1:9944";

/// Most bytes of the line that a command prints a secret in.
const SECRET_BYTES_MAX: u64 = 4096;

/// A node.
#[derive(Clone)]
pub(crate) struct Chain {
	pub(crate) client: OnlineClient<PolkadotConfig>,
	rpc: LegacyRpcMethods<subxt::config::RpcConfigFor<PolkadotConfig>>,
	pub(crate) wait_for_finality: bool,
}

impl Chain {
	/// Connect, and check that the chain has the pallets.
	pub(crate) async fn connect(global: &Global) -> Result<Self, CliError> {
		let url = global.node.as_deref().unwrap_or(NODE);
		let unreachable = |reason: String| CliError::NodeUnreachable {
			url: url.to_owned(),
			reason: shorten(&reason),
		};
		let rpc = RpcClient::from_url(url).await.map_err(|error| unreachable(error.to_string()))?;
		let backend = LegacyBackend::<PolkadotConfig>::builder().build(rpc.clone());
		let client = OnlineClient::from_backend(Arc::new(backend))
			.await
			.map_err(|error| unreachable(error.to_string()))?;
		let rpc = LegacyRpcMethods::new(rpc);
		let chain = Self { client, rpc, wait_for_finality: global.finalized };
		chain.check_pallets().await?;
		Ok(chain)
	}

	async fn check_pallets(&self) -> Result<(), CliError> {
		let at = self.best().await?;
		let metadata = at.metadata_ref();
		match PALLETS.iter().find(|name| metadata.pallet_by_name(name).is_none()) {
			None => Ok(()),
			Some(name) => Err(CliError::ChainLacks { what: format!("pallet {name}") }),
		}
	}

	/// The state at the best block.
	pub(crate) async fn best(&self) -> Result<AtBlock, CliError> {
		let hash = self.rpc.chain_get_block_hash(None).await.map_err(subxt::Error::from)?;
		let hash = hash.ok_or_else(|| CliError::ChainLacks { what: "best block".into() })?;
		Ok(self.client.at_block(hash).await.map_err(subxt::Error::from)?)
	}

	/// The state at the newest final block.
	pub(crate) async fn finalized(&self) -> Result<AtBlock, CliError> {
		Ok(self.client.at_current_block().await.map_err(subxt::Error::from)?)
	}

	/// The events of a pallet in a block of the best chain.
	pub(crate) async fn events(&self, pallet: &str, block: u64) -> Result<Vec<Event>, CliError> {
		let hash = self.rpc.chain_get_block_hash(Some(block.into())).await;
		let Some(hash) = hash.map_err(subxt::Error::from)? else { return Ok(Vec::new()) };
		let at = self.client.at_block(hash).await.map_err(subxt::Error::from)?;
		let events = at.events().fetch().await.map_err(subxt::Error::from)?;
		let mut list = Vec::new();
		for event in events.iter() {
			let event = event.map_err(subxt::Error::from)?;
			if event.pallet_name() == pallet {
				list.push(Event::read(&event)?);
			}
		}
		Ok(list)
	}

	/// Name of the chain, as its specification gives it.
	pub(crate) async fn name(&self) -> Result<String, CliError> {
		Ok(self.rpc.system_chain().await.map_err(subxt::Error::from)?)
	}

	pub(crate) fn genesis(&self) -> [u8; 32] {
		self.client.genesis_hash().0
	}
}

/// The key to sign with, from whichever place has it: an argument, the environment, the
/// configuration file.
pub(crate) fn signer(global: &Global) -> Result<Keypair, CliError> {
	let suri = match (&global.suri, &global.suri_file, &global.suri_command) {
		(Some(suri), _, _) => suri.clone(),
		(None, Some(path), _) => read_secret(path)?,
		(None, None, Some(command)) => secret_of(command)?,
		(None, None, None) => std::env::var("BACKUP_SURI").map_err(|_| CliError::NoSigner)?,
	};
	keypair(&suri)
}

/// The first line that a shell's command prints. It may ask the person at the terminal first.
fn secret_of(command: &str) -> Result<String, CliError> {
	let failed = |reason: String| CliError::SecretCommand { reason };
	let mut child = Command::new("sh")
		.args(["-c", command])
		.stdout(Stdio::piped())
		.spawn()
		.map_err(|error| failed(error.to_string()))?;
	let out = child.stdout.take().expect("its output was asked for");
	// All of it, though the first line is what counts: a command whose output nobody reads ends badly.
	let mut text = String::new();
	let read = out.take(SECRET_BYTES_MAX).read_to_string(&mut text);
	let status = child.wait().map_err(|error| failed(error.to_string()))?;
	read.map_err(|error| failed(error.to_string()))?;
	match status.success() {
		true => Ok(text.lines().next().unwrap_or_default().trim().to_owned()),
		false => Err(failed(format!("it ended with {status}"))),
	}
}

/// The text of a file that holds a secret, without the end of the line.
pub(crate) fn read_secret(path: &Path) -> Result<String, CliError> {
	let text = fs::read_to_string(path)
		.map_err(|source| CliError::FileRead { path: path.to_owned(), source })?;
	Ok(text.trim().to_owned())
}

/// A key pair from its secret. The error never repeats the secret.
pub(crate) fn keypair(suri: &str) -> Result<Keypair, CliError> {
	let bad = |reason: String| CliError::BadSigner { reason };
	let uri = SecretUri::from_str(suri).map_err(|error| bad(error.to_string()))?;
	Keypair::from_uri(&uri).map_err(|error| bad(error.to_string()))
}

/// The account that is meant: the one that was named, or the signer's.
pub(crate) fn account(named: Option<&str>, global: &Global) -> Result<AccountId32, CliError> {
	match named {
		Some(text) => parse_account(text),
		None => match signer(global) {
			Ok(key) => Ok(AccountId32(key.public_key().0)),
			Err(CliError::NoSigner) => Err(CliError::NoAccount),
			Err(error) => Err(error),
		},
	}
}

/// An account from its SS58 address or from hexadecimal digits.
pub(crate) fn parse_account(text: &str) -> Result<AccountId32, CliError> {
	let bad = |reason: String| CliError::BadAccount { text: text.to_owned(), reason };
	match text.strip_prefix("0x") {
		Some(digits) => {
			let mut bytes = [0; 32];
			hex::decode_to_slice(digits, &mut bytes).map_err(|error| bad(error.to_string()))?;
			Ok(AccountId32(bytes))
		}
		None => text.parse().map_err(|error: <AccountId32 as FromStr>::Err| bad(error.to_string())),
	}
}

/// The first line of a message without the layers that it came through, at most 200
/// characters of it.
fn shorten(message: &str) -> String {
	let line = message.lines().next().unwrap_or_default();
	let words = line.replace("RPC error: ", "").replace("client error: ", "");
	words.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

	#[test]
	fn an_account_reads_from_both_forms() {
		let alice = parse_account(ALICE).unwrap();
		assert_eq!(parse_account(&format!("0x{}", hex::encode(alice.0))).unwrap(), alice);
		assert_eq!(keypair("//Alice").unwrap().public_key().0, alice.0);
	}

	#[test]
	fn a_command_tells_its_first_line_or_how_it_ended() {
		assert_eq!(secret_of("echo //Alice; echo more").unwrap(), "//Alice");
		let Err(CliError::SecretCommand { reason }) = secret_of("echo //Alice; exit 3") else {
			panic!("a command that failed was believed")
		};
		assert!(reason.contains('3') && !reason.contains("Alice"), "{reason}");
	}

	#[test]
	fn wrong_accounts_and_secrets_say_so() {
		assert!(matches!(parse_account("5Grw"), Err(CliError::BadAccount { .. })));
		assert!(matches!(parse_account("0x12"), Err(CliError::BadAccount { .. })));
		let Err(CliError::BadSigner { reason }) = keypair("not a phrase at all") else {
			panic!("a bad phrase was taken")
		};
		assert!(!reason.contains("phrase at all"));
	}
}
