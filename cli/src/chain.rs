//! One connection to a node: reads at the best block, and signed transactions.
//!
//! Nothing of a certain runtime is compiled in; pallets, calls and types are looked up in
//! the metadata that the node serves.

pub(crate) mod council;
pub(crate) mod follow;
pub(crate) mod histories;
pub(crate) mod machines;
pub(crate) mod nodes;
mod pages;
pub(crate) mod reads;
pub(crate) mod records;
pub(crate) mod submit;
mod time;

use crate::{args::Global, chain::submit::Event, error::CliError, output::Output};
use backup_agent::chain::NodeUrl;
use std::sync::Arc;
use subxt::{
	OnlineClient, PolkadotConfig,
	backend::LegacyBackend,
	client::{ClientAtBlock, OnlineClientAtBlockImpl},
	config::HashFor,
	events::Events,
	rpcs::{Error as RpcError, RpcClient, methods::legacy::LegacyRpcMethods},
};

/// The state of the chain at one block.
pub(crate) type AtBlock = ClientAtBlock<PolkadotConfig, OnlineClientAtBlockImpl<PolkadotConfig>>;

type Hash = HashFor<PolkadotConfig>;

/// The pallets without which no verb makes sense.
const PALLETS: [&str; 3] = ["Backup", "Compute", "Marketplace"];

/// A node.
#[derive(Clone)]
pub(crate) struct Chain {
	pub(crate) client: OnlineClient<PolkadotConfig>,
	rpc: LegacyRpcMethods<subxt::config::RpcConfigFor<PolkadotConfig>>,
	pub(crate) wait_for_finality: bool,
	pub(crate) output: Output,
}

impl Chain {
	/// Connect to the node that is meant.
	pub(crate) async fn connect(global: &Global) -> Result<Self, CliError> {
		let url = global.address()?;
		let unreachable = |reason: String| CliError::NodeUnreachable {
			url: without_secrets(url),
			reason: shorten(&reason),
		};
		let rpc = RpcClient::from_url(url).await.map_err(|error| unreachable(error.to_string()))?;
		let backend = LegacyBackend::<PolkadotConfig>::builder().build(rpc.clone());
		// The types of Polkadot's first years, which reading takes long, and no chain here has.
		let config = PolkadotConfig::builder().use_historic_types(false).build();
		let client = OnlineClient::from_backend_with_config(config, Arc::new(backend))
			.await
			.map_err(|error| unreachable(error.to_string()))?;
		let rpc = LegacyRpcMethods::new(rpc);
		let output = Output::new(global.json);
		Ok(Self { client, rpc, wait_for_finality: global.finalized, output })
	}

	/// The state at the best block, of a chain that has the pallets.
	pub(crate) async fn best(&self) -> Result<AtBlock, CliError> {
		let hash = self.rpc.chain_get_block_hash(None).await.map_err(subxt::Error::from)?;
		let hash = hash.ok_or_else(|| CliError::ChainLacks { what: "best block".into() })?;
		let at = self.client.at_block(hash).await.map_err(subxt::Error::from)?;
		let metadata = at.metadata_ref();
		match PALLETS.iter().find(|name| metadata.pallet_by_name(name).is_none()) {
			None => Ok(at),
			Some(name) => Err(CliError::ChainLacks { what: format!("pallet {name}") }),
		}
	}

	/// The state at the newest final block.
	pub(crate) async fn finalized(&self) -> Result<AtBlock, CliError> {
		Ok(self.client.at_current_block().await.map_err(subxt::Error::from)?)
	}

	/// The events of a pallet in a block of the best chain. Nothing, if the node has forgotten the state
	/// of that block.
	pub(crate) async fn events(
		&self,
		pallet: &str,
		block: u64,
	) -> Result<Option<Vec<Event>>, CliError> {
		let hash = self.rpc.chain_get_block_hash(Some(block.into())).await;
		// One that was there a moment ago and is not any more is on a branch that was left.
		let Some(hash) = hash.map_err(subxt::Error::from)? else { return Ok(Some(Vec::new())) };
		let events = match self.events_at(hash).await {
			Err(_) if self.is_forgotten(hash).await? => return Ok(None),
			events => events?,
		};
		let mut list = Vec::new();
		for event in events.iter() {
			let event = event.map_err(subxt::Error::from)?;
			if event.pallet_name() == pallet {
				list.push(Event::read(&event)?);
			}
		}
		Ok(Some(list))
	}

	async fn events_at(&self, hash: Hash) -> Result<Events<PolkadotConfig>, subxt::Error> {
		Ok(self.client.at_block(hash).await?.events().fetch().await?)
	}

	/// Whether a node that knows its newest state refuses to read this one.
	async fn is_forgotten(&self, hash: Hash) -> Result<bool, CliError> {
		let is_refused = matches!(
			self.rpc.state_get_keys_paged(&[], 1, None, Some(hash)).await,
			Err(RpcError::User(_))
		);
		self.best().await?;
		Ok(is_refused)
	}

	/// Name of the chain, as its specification gives it.
	pub(crate) async fn name(&self) -> Result<String, CliError> {
		Ok(self.rpc.system_chain().await.map_err(subxt::Error::from)?)
	}

	pub(crate) fn genesis(&self) -> [u8; 32] {
		self.client.genesis_hash().0
	}
}

/// A node's address as it may be shown: its path may hold a token.
fn without_secrets(url: &str) -> String {
	url.parse().map_or_else(|()| url.to_owned(), |url: NodeUrl| url.to_string())
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

	#[test]
	fn a_token_in_the_address_of_a_node_is_not_shown() {
		for (url, shown) in [
			("ws://127.0.0.1:9944", "ws://127.0.0.1:9944"),
			("wss://node.example/T0KEN", "wss://node.example/***"),
			("wss://me:T0KEN@node.example:443/?key=1", "wss://node.example/***"),
			("node.example", "node.example"),
		] {
			assert_eq!(without_secrets(url), shown);
		}
	}
}
