//! A node whose finalized state the test decides, behind real JSON-RPC over WebSocket.

use crate::orders::GENESIS;
use backup_primitives::{
	Cid, KeptRoot, Reader, Recipient, RecordedRoot, RootStatus,
	job::{Gateways, Source},
};
use codec::{DecodeAll, Encode};
use jsonrpsee::{
	RpcModule,
	server::{Server, ServerHandle},
	types::{ErrorObjectOwned, Params},
};
use std::{
	collections::HashMap,
	net::SocketAddr,
	sync::{Arc, Mutex, MutexGuard},
};
use tokio::runtime::Runtime;

pub(crate) struct FakeNode {
	runtime: Runtime,
	address: SocketAddr,
	server: Option<ServerHandle>,
	state: Arc<Mutex<State>>,
}

pub(crate) struct State {
	pub(crate) genesis: [u8; 32],
	/// Number of the newest finalized block.
	pub(crate) finalized: u64,
	/// What the finalized state says of a root; `Pending` of those that are not named.
	pub(crate) statuses: HashMap<Cid, RootStatus>,
	/// What the finalized state wants the node to hold.
	pub(crate) recorded: Vec<RecordedRoot>,
	/// What it says of the size of each machine's disks.
	pub(crate) logical_bytes: u64,
	/// Who may fetch blocks: the keys of nodes.
	pub(crate) readers: Vec<(u32, Recipient)>,
	/// Requests, with keys that their owners have let in.
	pub(crate) grants: Vec<(u64, Recipient)>,
	/// Whether the node has to keep copies.
	pub(crate) keeps_copies: bool,
	/// Where other nodes serve theirs.
	pub(crate) sources: Vec<Source>,
	/// How often it was asked about a root.
	pub(crate) asked: u64,
	/// The time of its best block, in milliseconds since 1970.
	pub(crate) time_ms: Option<u64>,
	/// What its runtime can be asked, by the ids of APIs.
	pub(crate) apis: Vec<&'static str>,
	/// The nodes that the finalized state has registered: id, authority key, recipient.
	pub(crate) registered: Vec<(u32, [u8; 32], Recipient)>,
	/// Whether it lists them in a form of its own.
	pub(crate) is_listed_otherwise: bool,
	/// The keys of its keystore, unless it tells nobody.
	pub(crate) keystore: Option<Vec<[u8; 32]>>,
}

/// The backup pallet's runtime API.
pub(crate) const BACKUP_API: &str = "0x5520af659b029dd6";

/// The compute pallet's.
pub(crate) const COMPUTE_API: &str = "0x2e3e35f40728511a";

/// What a node says that keeps unsafe methods to itself.
const UNSAFE_METHOD: i32 = -32_601;

/// Where a chain keeps its time.
const TIMESTAMP_NOW: &str = "0xf0c365c3cf59d671eb72da0e7a4113c49f1f0515f462cdcf84e0f1d6045dfcbb";

impl FakeNode {
	pub(crate) fn start() -> Self {
		let runtime =
			tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
		let state = State {
			genesis: GENESIS,
			finalized: 100,
			statuses: HashMap::new(),
			recorded: Vec::new(),
			logical_bytes: 1 << 30,
			readers: Vec::new(),
			grants: Vec::new(),
			keeps_copies: true,
			sources: Vec::new(),
			asked: 0,
			time_ms: None,
			apis: vec![BACKUP_API],
			registered: Vec::new(),
			is_listed_otherwise: false,
			keystore: Some(Vec::new()),
		};
		let mut node = Self {
			runtime: runtime.unwrap(),
			address: ([127, 0, 0, 1], 0).into(),
			server: None,
			state: Arc::new(Mutex::new(state)),
		};
		node.start_again();
		node
	}

	/// Serve at the address that was served before.
	pub(crate) fn start_again(&mut self) {
		let server = self.runtime.block_on(Server::builder().build(self.address)).unwrap();
		self.address = server.local_addr().unwrap();
		let module = module(self.state.clone());
		self.server = Some(self.runtime.block_on(async { server.start(module) }));
	}

	/// End, and cut all connections.
	pub(crate) fn stop(&mut self) {
		let server = self.server.take().unwrap();
		server.stop().unwrap();
		self.runtime.block_on(server.stopped());
	}

	pub(crate) fn url(&self) -> String {
		format!("ws://{}", self.address)
	}

	pub(crate) fn state(&self) -> MutexGuard<'_, State> {
		self.state.lock().unwrap()
	}

	/// From the next finalized block on, say this of a root.
	pub(crate) fn say(&self, root: Cid, status: RootStatus) {
		let mut state = self.state();
		state.statuses.insert(root, status);
		state.finalized += 1;
	}
}

fn module(state: Arc<Mutex<State>>) -> RpcModule<Arc<Mutex<State>>> {
	let mut module = RpcModule::new(state);
	module
		.register_method("chain_getBlockHash", |params, state, _| {
			let [number]: [u64; 1] = params.parse()?;
			let state = state.lock().unwrap();
			Ok::<_, ErrorObjectOwned>((number == 0).then(|| hex_text(&state.genesis)))
		})
		.unwrap();
	module
		.register_method("chain_getFinalizedHead", |_, state, _| {
			Ok::<_, ErrorObjectOwned>(state.lock().unwrap().head())
		})
		.unwrap();
	module
		.register_method("chain_getHeader", |_, state, _| {
			let number = format!("{:#x}", state.lock().unwrap().finalized);
			Ok::<_, ErrorObjectOwned>(serde_json::json!({ "number": number }))
		})
		.unwrap();
	module
		.register_method("state_getRuntimeVersion", |_, state, _| {
			let apis: Vec<_> = state.lock().unwrap().apis.iter().map(|api| (*api, 1)).collect();
			Ok::<_, ErrorObjectOwned>(serde_json::json!({ "specName": "test", "apis": apis }))
		})
		.unwrap();
	module
		.register_method("state_getStorage", |params, state, _| {
			let [key]: [String; 1] = params.parse()?;
			let time = state.lock().unwrap().time_ms.filter(|_| key == TIMESTAMP_NOW);
			Ok::<_, ErrorObjectOwned>(time.map(|time| hex_text(&time.encode())))
		})
		.unwrap();
	module
		.register_method("author_hasKey", |params, state, _| {
			let (key, kind): (String, String) = params.parse()?;
			let state = state.lock().unwrap();
			let refused = || {
				let words = "RPC call is unsafe to be called externally";
				ErrorObjectOwned::owned(UNSAFE_METHOD, words, None::<()>)
			};
			let keystore = state.keystore.as_ref().ok_or_else(refused)?;
			Ok::<_, ErrorObjectOwned>(
				kind == "bkup" && keystore.iter().any(|one| hex_text(one) == key),
			)
		})
		.unwrap();
	module
		.register_method("state_call", |params, state, _| state.lock().unwrap().call(&params))
		.unwrap();
	module
}

impl State {
	fn head(&self) -> String {
		format!("0x{:064x}", self.finalized)
	}

	/// Read the arguments as the runtime does. Ids of nodes have four bytes, those of requests
	/// eight.
	fn call(&mut self, params: &Params<'_>) -> Result<String, ErrorObjectOwned> {
		let (method, arguments, at): (String, String, String) = params.parse()?;
		let arguments = hex::decode(arguments.trim_start_matches("0x"))
			.map_err(|_| refuse("the arguments are not hexadecimal"))?;
		if !at.starts_with("0x") || at > self.head() {
			return Err(refuse("there is no such block"));
		}
		let mut arguments = arguments.as_slice();
		let wrong = |_| refuse("the runtime cannot read the arguments");
		match method.as_str() {
			"BackupApi_root_status" => {
				let (_, _, _, root) =
					<(u64, [u8; 32], u64, Cid)>::decode_all(&mut arguments).map_err(wrong)?;
				self.asked += 1;
				let status = self.statuses.get(&root).copied().unwrap_or(RootStatus::Pending);
				Ok(hex_text(&status.encode()))
			}
			// A page holds one root, and the next begins behind as many requests.
			"BackupApi_roots_of_node" => {
				let (_, after) = <(u32, Option<u64>)>::decode_all(&mut arguments).map_err(wrong)?;
				let begin = after.unwrap_or(0) as usize;
				let next = (begin + 1 < self.recorded.len()).then_some(begin as u64 + 1);
				let page: Vec<_> = self.recorded.iter().skip(begin).take(1).collect();
				Ok(hex_text(&(page, next).encode()))
			}
			"BackupApi_roots_of_request" => {
				let (request, salt) =
					<(u64, [u8; 32])>::decode_all(&mut arguments).map_err(wrong)?;
				let is_meant = |root: &&RecordedRoot| {
					root.lineage.request.decode_as() == Some(request) && root.lineage.salt == salt
				};
				let roots = self.recorded.iter().filter(is_meant);
				let roots: Vec<_> = roots
					.map(|root| KeptRoot {
						sequence: root.sequence,
						cid: root.cid,
						logical_bytes: self.logical_bytes,
					})
					.collect();
				Ok(hex_text(&roots.encode()))
			}
			"BackupApi_sources_of_request" => {
				<(u32, u64)>::decode_all(&mut arguments).map_err(wrong)?;
				Ok(hex_text(&self.sources.encode()))
			}
			"ComputeApi_nodes" if self.is_listed_otherwise => {
				Ok(hex_text(&(vec![("web", [7u8; 20])], None::<String>).encode()))
			}
			// A page holds one node.
			"ComputeApi_nodes" => {
				let after = <Option<u32>>::decode_all(&mut arguments).map_err(wrong)?;
				let mut behind = self.registered.iter().filter(|(id, ..)| Some(*id) > after);
				let entry = |(id, authority, recipient): &(u32, [u8; 32], Recipient)| {
					(*id, ([1u8; 32], *authority, *recipient, Gateways::default()))
				};
				let page: Vec<_> = behind.by_ref().take(1).map(entry).collect();
				let next = behind.next().and(page.first()).map(|(id, _)| *id);
				Ok(hex_text(&(page, next).encode()))
			}
			"BackupApi_keeps_copies" => {
				<(u32, u64)>::decode_all(&mut arguments).map_err(wrong)?;
				Ok(hex_text(&self.keeps_copies.encode()))
			}
			"BackupApi_is_reader" => {
				let (reader, recipient) =
					<(Reader<u32, [u8; 32], u64>, Recipient)>::decode_all(&mut arguments)
						.map_err(wrong)?;
				let is_reader = match reader {
					Reader::Node(node) => self.readers.contains(&(node, recipient)),
					Reader::Owner(_) => false,
					Reader::Grantee(request) => self.grants.contains(&(request, recipient)),
				};
				Ok(hex_text(&is_reader.encode()))
			}
			_ => Err(refuse("there is no such call")),
		}
	}
}

fn hex_text(bytes: &[u8]) -> String {
	format!("0x{}", hex::encode(bytes))
}

fn refuse(words: &str) -> ErrorObjectOwned {
	ErrorObjectOwned::owned(1, words, None::<()>)
}
