//! What the finalized chain says of roots and their readers, asked of the node over RPC.

use crate::jobs::HeldRoot;
use crate::peers::pass::AnyReader;
use backup_primitives::{
	KeptRoot, LineageId, OpaqueId, Reader, Recipient, RecordedRoot, RootStatus, job::Sources,
};
use codec::{Decode, DecodeAll, Encode};
use futures::future::BoxFuture;
use jsonrpsee::{
	core::client::ClientT,
	rpc_params,
	ws_client::{WsClient, WsClientBuilder},
};
use reqwest::Url;
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use tokio::sync::Mutex;

#[cfg(test)]
pub(crate) mod fake;

/// How long the node may take for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u32 = 1024 * 1024;

/// Most roots that a node is believed to hold: 4,096 machines with as many snapshots each.
const ROOTS_MAX: usize = 1 << 24;

/// Why the chain cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
	/// No worker has said yet which chain is served, so no node can be trusted.
	#[error("ask a node: no worker has spoken yet")]
	Unbound,
	/// The node has not come as far as the chain had before.
	#[error(
		"trust the node: its finalized block is {found}, and {seen} was finalized before; it may be synchronising"
	)]
	Behind {
		/// Number of its finalized block.
		found: u64,
		/// Number of the highest finalized block that was seen.
		seen: u64,
	},
	/// The node does not answer.
	#[error("ask the node at {url}: {source}; is it running, and is node_rpc its address?")]
	Rpc {
		/// The node's address.
		url: NodeUrl,
		/// Why.
		source: jsonrpsee::core::ClientError,
	},
	/// The node's answer cannot be read.
	#[error("read the node's answer to {method}; is it a chain with the backup pallet?")]
	Answer {
		/// What was asked.
		method: &'static str,
	},
	/// The node is of another chain than the worker.
	#[error("trust the node at {url}: it is of the chain {found}, the worker's is {expected}")]
	OtherChain {
		/// The node's address.
		url: NodeUrl,
		/// Its genesis hash.
		found: String,
		/// The worker's.
		expected: String,
	},
}

/// A chain whose finalized state can be asked.
pub trait FinalizedChain: Send + Sync {
	/// The newest finalized state.
	fn finalized(&self) -> BoxFuture<'_, Result<Box<dyn FinalizedView>, ChainError>>;
}

/// One finalized state.
pub trait FinalizedView: Send + Sync {
	/// Number of its block.
	fn number(&self) -> u64;

	/// What it says of a root.
	fn root_status<'a>(
		&'a self,
		root: &'a HeldRoot,
	) -> BoxFuture<'a, Result<RootStatus, ChainError>>;

	/// All roots that it wants a node to hold.
	fn roots_of_node<'a>(
		&'a self,
		node: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Vec<RecordedRoot>, ChainError>>;

	/// The roots of a lineage that its records name, in the order of their places.
	fn roots_of_request<'a>(
		&'a self,
		lineage: &'a LineageId,
	) -> BoxFuture<'a, Result<Vec<KeptRoot>, ChainError>>;

	/// Where a node can fetch the blocks of a request.
	fn sources_of_request<'a>(
		&'a self,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Sources, ChainError>>;

	/// Whether a node has to keep copies of what other nodes sealed of a request.
	fn keeps_copies<'a>(
		&'a self,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
	) -> BoxFuture<'a, Result<bool, ChainError>>;

	/// Whether somebody who proves to hold the secret of a key may fetch blocks.
	fn is_reader<'a>(
		&'a self,
		reader: &'a AnyReader,
		recipient: &'a Recipient,
	) -> BoxFuture<'a, Result<bool, ChainError>>;
}

/// Where a node answers: a WebSocket. User, path and query may hold a token, so it is shown without them.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeUrl(Arc<str>);

impl NodeUrl {
	/// All of it, for whoever connects.
	pub(crate) fn expose(&self) -> &str {
		&self.0
	}

	/// Whether more of it is known than a host and a port.
	pub(crate) fn is_secret(&self) -> bool {
		self.to_string() != *self.0
	}
}

impl FromStr for NodeUrl {
	type Err = ();

	/// A `ws` or `wss` address; nothing else will do.
	fn from_str(text: &str) -> Result<Self, ()> {
		let url = Url::parse(text).map_err(drop)?;
		let is_socket = ["ws", "wss"].contains(&url.scheme());
		if is_socket && url.has_host() { Ok(Self(text.into())) } else { Err(()) }
	}
}

impl fmt::Display for NodeUrl {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let url = Url::parse(&self.0).map_err(|_| fmt::Error)?;
		let has_user = !url.username().is_empty() || url.password().is_some();
		let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
		if !has_user && !has_more {
			return f.write_str(&self.0);
		}
		write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or_default())?;
		url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
		f.write_str("/***")
	}
}

impl fmt::Debug for NodeUrl {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		fmt::Display::fmt(self, f)
	}
}

/// The chain of a node.
pub struct NodeChain {
	url: NodeUrl,
	genesis: Box<dyn Fn() -> Option<[u8; 32]> + Send + Sync>,
	client: Mutex<Option<Arc<WsClient>>>,
}

impl NodeChain {
	/// The chain of the node at a WebSocket address. `genesis` tells the hash of the chain that
	/// the worker speaks for, once it is known.
	pub fn new(
		url: NodeUrl,
		genesis: impl Fn() -> Option<[u8; 32]> + Send + Sync + 'static,
	) -> Self {
		Self { url, genesis: Box::new(genesis), client: Mutex::new(None) }
	}

	/// A connection that is known to be to the right chain.
	async fn client(&self) -> Result<Arc<WsClient>, ChainError> {
		let mut slot = self.client.lock().await;
		if let Some(client) = slot.as_ref().filter(|client| client.is_connected()) {
			return Ok(client.clone());
		}
		(self.genesis)().ok_or(ChainError::Unbound)?;
		let client = WsClientBuilder::default()
			.request_timeout(ANSWER_TIME_MAX)
			.connection_timeout(ANSWER_TIME_MAX)
			.max_response_size(ANSWER_BYTES_MAX)
			.build(self.url.expose())
			.await
			.map_err(|source| rpc(&self.url, source))?;
		let client = Arc::new(client);
		self.check_genesis(&client).await?;
		*slot = Some(client.clone());
		Ok(client)
	}

	async fn check_genesis(&self, client: &WsClient) -> Result<(), ChainError> {
		let expected = (self.genesis)().ok_or(ChainError::Unbound)?;
		let found: String = client
			.request("chain_getBlockHash", rpc_params![0])
			.await
			.map_err(|source| rpc(&self.url, source))?;
		let expected = format!("0x{}", hex::encode(expected));
		match found == expected {
			true => Ok(()),
			false => Err(ChainError::OtherChain { url: self.url.clone(), found, expected }),
		}
	}
}

impl FinalizedChain for NodeChain {
	fn finalized(&self) -> BoxFuture<'_, Result<Box<dyn FinalizedView>, ChainError>> {
		Box::pin(async {
			let client = self.client().await?;
			let hash: String = client
				.request("chain_getFinalizedHead", rpc_params![])
				.await
				.map_err(|source| rpc(&self.url, source))?;
			let header: Header = client
				.request("chain_getHeader", rpc_params![&hash])
				.await
				.map_err(|source| rpc(&self.url, source))?;
			let number = u64::from_str_radix(header.number.trim_start_matches("0x"), 16)
				.map_err(|_| ChainError::Answer { method: "chain_getHeader" })?;
			let view = NodeView { url: self.url.clone(), client, hash, number };
			Ok(Box::new(view) as Box<dyn FinalizedView>)
		})
	}
}

/// What is read of a block's header.
#[derive(serde::Deserialize)]
struct Header {
	number: String,
}

/// One finalized block of a node.
struct NodeView {
	url: NodeUrl,
	client: Arc<WsClient>,
	hash: String,
	number: u64,
}

impl FinalizedView for NodeView {
	fn number(&self) -> u64 {
		self.number
	}

	fn root_status<'a>(
		&'a self,
		root: &'a HeldRoot,
	) -> BoxFuture<'a, Result<RootStatus, ChainError>> {
		const METHOD: &str = "BackupApi_root_status";
		Box::pin(async move {
			let mut arguments = root.lineage.request.as_bytes().to_vec();
			(root.lineage.salt, root.sequence, root.cid).encode_to(&mut arguments);
			self.read(METHOD, &arguments).await
		})
	}

	fn roots_of_node<'a>(
		&'a self,
		node: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Vec<RecordedRoot>, ChainError>> {
		const METHOD: &str = "BackupApi_roots_of_node";
		const NO_REQUEST: &[u8] = &[0];
		Box::pin(async move {
			let mut all = Vec::new();
			// How requests are encoded is the chain's matter: what it says where to go on is
			// given back to it as it is.
			let mut after = NO_REQUEST.to_vec();
			loop {
				let answer = self.call(METHOD, &[node.as_bytes(), &after].concat()).await?;
				let mut rest = answer.as_slice();
				let page = Vec::<RecordedRoot>::decode(&mut rest)
					.map_err(|_| ChainError::Answer { method: METHOD })?;
				let is_stuck = rest == after || all.len() > ROOTS_MAX;
				all.extend(page);
				match rest {
					NO_REQUEST => return Ok(all),
					_ if is_stuck => return Err(ChainError::Answer { method: METHOD }),
					rest => after = rest.to_vec(),
				}
			}
		})
	}

	fn roots_of_request<'a>(
		&'a self,
		lineage: &'a LineageId,
	) -> BoxFuture<'a, Result<Vec<KeptRoot>, ChainError>> {
		Box::pin(async move {
			let arguments = [lineage.request.as_bytes(), &lineage.salt].concat();
			self.read("BackupApi_roots_of_request", &arguments).await
		})
	}

	fn sources_of_request<'a>(
		&'a self,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
	) -> BoxFuture<'a, Result<Sources, ChainError>> {
		Box::pin(self.read_of("BackupApi_sources_of_request", node, request))
	}

	fn keeps_copies<'a>(
		&'a self,
		node: &'a OpaqueId,
		request: &'a OpaqueId,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		Box::pin(self.read_of("BackupApi_keeps_copies", node, request))
	}

	fn is_reader<'a>(
		&'a self,
		reader: &'a AnyReader,
		recipient: &'a Recipient,
	) -> BoxFuture<'a, Result<bool, ChainError>> {
		Box::pin(async move {
			// As the runtime reads a `Reader` of its own ids, whose bytes these are.
			let (kind, id) = match reader {
				Reader::Node(id) => (0, id),
				Reader::Owner(id) => (1, id),
				Reader::Grantee(request) => (2, request),
			};
			let arguments = [&[kind], id.as_bytes(), &recipient.0].concat();
			self.read("BackupApi_is_reader", &arguments).await
		})
	}
}

impl NodeView {
	/// Call the runtime, and read what it returned.
	async fn read<T: Decode>(
		&self,
		method: &'static str,
		arguments: &[u8],
	) -> Result<T, ChainError> {
		let answer = self.call(method, arguments).await?;
		T::decode_all(&mut answer.as_slice()).map_err(|_| ChainError::Answer { method })
	}

	/// Call the runtime about a node and a request, and read what it returned.
	async fn read_of<T: Decode>(
		&self,
		method: &'static str,
		node: &OpaqueId,
		request: &OpaqueId,
	) -> Result<T, ChainError> {
		self.read(method, &[node.as_bytes(), request.as_bytes()].concat()).await
	}

	/// Call the runtime, and return what it returned.
	async fn call(&self, method: &'static str, arguments: &[u8]) -> Result<Vec<u8>, ChainError> {
		let arguments = format!("0x{}", hex::encode(arguments));
		let answer: String = self
			.client
			.request("state_call", rpc_params![method, arguments, &self.hash])
			.await
			.map_err(|source| rpc(&self.url, source))?;
		hex::decode(answer.trim_start_matches("0x")).map_err(|_| ChainError::Answer { method })
	}
}

fn rpc(url: &NodeUrl, source: jsonrpsee::core::ClientError) -> ChainError {
	ChainError::Rpc { url: url.clone(), source }
}

impl std::fmt::Debug for NodeChain {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("NodeChain").field("url", &self.url).finish_non_exhaustive()
	}
}
