//! Reads and transactions, over the metadata that the node serves.
//!
//! Values are JSON: what tests compare is what a person would read.

use crate::wait;
use anyhow::{Context, Result, anyhow, bail};
use backup_primitives::Cid;
use serde_json::{Value as Json, json};
use std::{sync::Arc, time::Duration};
use subxt::{
	OnlineClient, PolkadotConfig,
	backend::LegacyBackend,
	client::{ClientAtBlock, OnlineClientAtBlockImpl},
	config::DefaultExtrinsicParamsBuilder,
	dynamic::{self, Value},
	ext::{
		scale_decode::DecodeAsType,
		scale_value::{Composite, Primitive, ValueDef},
	},
	rpcs::{RpcClient, methods::legacy::LegacyRpcMethods},
	transactions::TransactionStatus,
	utils::{AccountId32, MultiSignature},
};
use subxt_signer::sr25519::Keypair;

/// Snapshots that are asked for at once.
const PAGE: u64 = 512;

/// How long a transaction may take to get into a block.
const INCLUSION_TIME_MAX: Duration = Duration::from_secs(30);

type AtBlock = ClientAtBlock<PolkadotConfig, OnlineClientAtBlockImpl<PolkadotConfig>>;

/// A connection to a node.
#[derive(Clone)]
pub struct Chain {
	client: OnlineClient<PolkadotConfig>,
	rpc: RpcClient,
	url: String,
}

impl std::fmt::Debug for Chain {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Chain").field("url", &self.url).finish_non_exhaustive()
	}
}

/// An event, with its fields as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
	/// `Pallet.Name`.
	pub name: String,
	/// Its fields by name.
	pub fields: Json,
}

/// Which state is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
	/// The best block.
	Best,
	/// The newest final block.
	Finalized,
}

impl Chain {
	/// Connect to the node at this address.
	pub async fn connect(url: &str) -> Result<Self> {
		let rpc = RpcClient::from_insecure_url(url).await?;
		let backend = LegacyBackend::<PolkadotConfig>::builder().build(rpc.clone());
		let client = OnlineClient::from_backend(Arc::new(backend)).await?;
		Ok(Self { client, rpc, url: url.to_owned() })
	}

	/// Genesis hash of the chain.
	pub fn genesis(&self) -> [u8; 32] {
		self.client.genesis_hash().0
	}

	/// Any method of the node's RPC.
	pub async fn rpc(&self, method: &str, parameters: &[Json]) -> Result<Json> {
		let mut list = subxt::rpcs::client::RpcParams::new();
		for parameter in parameters {
			list.push(parameter)?;
		}
		Ok(self.rpc.request(method, list).await?)
	}

	/// The state at a block.
	pub async fn at(&self, view: View) -> Result<AtBlock> {
		match view {
			View::Finalized => Ok(self.client.at_current_block().await?),
			View::Best => {
				let rpc: LegacyRpcMethods<subxt::config::RpcConfigFor<PolkadotConfig>> =
					LegacyRpcMethods::new(self.rpc.clone());
				let hash = rpc.chain_get_block_hash(None).await?.context("no best block")?;
				Ok(self.client.at_block(hash).await?)
			}
		}
	}

	/// Number of a block.
	pub async fn number(&self, view: View) -> Result<u64> {
		Ok(self.at(view).await?.block_number())
	}

	/// Hash of the block with this number on the node's best chain, `null` if it is not there yet.
	pub async fn block_hash(&self, number: u64) -> Result<Json> {
		self.rpc("chain_getBlockHash", &[json!(number)]).await
	}

	/// A value in storage, `null` if there is none.
	pub async fn storage(&self, pallet: &str, entry: &str, keys: Vec<Value>) -> Result<Json> {
		let at = self.at(View::Best).await?;
		let address = dynamic::storage::<Vec<Value>, Value>(pallet.to_owned(), entry.to_owned());
		let value = at.storage().try_fetch(address, keys).await?;
		value.map_or(Ok(Json::Null), |value| Ok(to_json(&value.decode()?)))
	}

	/// All values of a map, whatever their keys.
	pub async fn storage_values(&self, pallet: &str, entry: &str) -> Result<Vec<Json>> {
		let at = self.at(View::Best).await?;
		let address = dynamic::storage::<Vec<Value>, Value>(pallet.to_owned(), entry.to_owned());
		let mut entries = at.storage().iter(address, Vec::<Value>::new()).await?;
		let mut values = Vec::new();
		while let Some(entry) = entries.next().await {
			values.push(to_json(&entry?.value().decode()?));
		}
		Ok(values)
	}

	/// The answer of the backup pallet's runtime API.
	pub async fn ask<Answer: DecodeAsType>(
		&self,
		method: &str,
		arguments: Vec<Value>,
	) -> Result<Answer> {
		let at = self.at(View::Best).await?;
		let call = dynamic::runtime_api_call::<_, Answer>("BackupApi", method, arguments);
		Ok(at.runtime_apis().call(call).await?)
	}

	/// Whether a snapshot of a request would be taken now, and if not, why.
	pub async fn eligibility(&self, request: u64) -> Result<Json> {
		let answer: Value = self.ask("eligibility", vec![number(request)]).await?;
		Ok(to_json(&answer))
	}

	/// The snapshots of a request, oldest first.
	pub async fn snapshots(&self, request: u64) -> Result<Vec<Snapshot>> {
		let (mut records, mut before) = (Vec::new(), None);
		loop {
			let place = match before {
				None => Value::unnamed_variant("None", []),
				Some(place) => Value::unnamed_variant("Some", [number(place)]),
			};
			let arguments = vec![number(request), place, number(PAGE)];
			let (page, next): (Vec<(u64, Value)>, Option<u64>) =
				self.ask("snapshots", arguments).await?;
			records.extend(page);
			before = next;
			if before.is_none() {
				break;
			}
		}
		// The newest come first.
		let records = records.into_iter().rev();
		records.map(|(sequence, record)| Snapshot::read(sequence, &to_json(&record))).collect()
	}

	/// Sign a call and wait until it is in a best block, where it succeeded.
	pub async fn submit(
		&self,
		signer: &Keypair,
		pallet: &str,
		call: &str,
		arguments: Vec<Value>,
	) -> Result<Vec<Event>> {
		let sent = self.send(signer, pallet, call, arguments);
		tokio::time::timeout(INCLUSION_TIME_MAX, sent)
			.await
			.with_context(|| format!("{pallet}.{call} did not get into a block"))?
			.with_context(|| format!("{pallet}.{call} failed"))
	}

	async fn send(
		&self,
		signer: &Keypair,
		pallet: &str,
		call: &str,
		arguments: Vec<Value>,
	) -> Result<Vec<Event>> {
		let at = self.at(View::Best).await?;
		let call = dynamic::transaction(pallet, call, arguments);
		// Born at the genesis: the pool may not have come yet to the block that was told of last.
		let life = DefaultExtrinsicParamsBuilder::new().immortal().build();
		let mut progress =
			at.transactions().sign_and_submit_then_watch(&call, signer, life).await?;
		while let Some(status) = progress.next().await {
			match status? {
				TransactionStatus::InBestBlock(block)
				| TransactionStatus::InFinalizedBlock(block) => {
					let events = block.wait_for_success().await?;
					return events.iter().map(|event| read_event(&event?)).collect();
				}
				TransactionStatus::Error { message }
				| TransactionStatus::Invalid { message }
				| TransactionStatus::Dropped { message } => bail!(message),
				TransactionStatus::Validated
				| TransactionStatus::Broadcasted
				| TransactionStatus::NoLongerInBestBlock => (),
			}
		}
		bail!("the node closed the connection")
	}

	/// The events of a block.
	pub async fn events_at(&self, block: u64) -> Result<Vec<Event>> {
		let at = self.client.at_block(block).await?;
		let events = at.events().fetch().await?;
		events.iter().map(|event| read_event(&event?)).collect()
	}

	/// The first event of this name, `Pallet.Name`, from a block on, with the block's number.
	pub async fn find_event(&self, name: &str, from: u64) -> Result<Option<(u64, Event)>> {
		let best = self.number(View::Best).await?;
		for block in from..=best {
			let events = self.events_at(block).await?;
			if let Some(event) = events.into_iter().find(|event| event.name == name) {
				return Ok(Some((block, event)));
			}
		}
		Ok(None)
	}

	/// Wait for an event.
	pub async fn wait_for_event(
		&self,
		name: &str,
		from: u64,
		deadline: Duration,
	) -> Result<(u64, Event)> {
		let what = format!("the event {name}");
		wait::until_async(&what, deadline, || self.find_event(name, from)).await
	}

	/// Wait until the best block has at least this number.
	pub async fn wait_for_block(&self, block: u64, deadline: Duration) -> Result<()> {
		let what = format!("block {block}");
		wait::until_async(&what, deadline, || async move {
			Ok((self.number(View::Best).await? >= block).then_some(()))
		})
		.await
	}

	/// Wait until so many snapshots of a request are recorded, and give all.
	pub async fn wait_for_snapshots(
		&self,
		request: u64,
		count: usize,
		deadline: Duration,
	) -> Result<Vec<Snapshot>> {
		let what = format!("{count} snapshots of request {request}");
		wait::until_async(&what, deadline, || async move {
			let snapshots = self.snapshots(request).await?;
			Ok((snapshots.len() >= count).then_some(snapshots))
		})
		.await
	}

	/// An authorized transaction of the backup pallet: nobody signs it as an account.
	pub async fn general_transaction(&self, call: &str, arguments: Vec<Value>) -> Result<Vec<u8>> {
		let at = self.at(View::Best).await?;
		let call = dynamic::transaction("Backup", call, arguments);
		let parameters = DefaultExtrinsicParamsBuilder::<PolkadotConfig>::new().build();
		let transactions = at.transactions();
		let mut transaction = transactions.create_v5_signable_offline(&call, parameters)?;
		// The chain has no extension that would carry these two; nothing of them is sent.
		let (nobody, nothing) = (AccountId32([0; 32]), MultiSignature::Sr25519([0; 64]));
		Ok(transaction.sign_with_account_and_signature(&nobody, &nothing)?.into_encoded())
	}
}

/// A recorded snapshot, as tests use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
	/// Its place in the lineage.
	pub sequence: u64,
	/// Its root, as base32 text.
	pub cid: String,
	/// When the disks stood still, in blocks.
	pub taken_at: u64,
	/// When it was recorded, in blocks.
	pub recorded_at: u64,
	/// Size of the disks.
	pub logical_bytes: u64,
	/// What was new.
	pub new_bytes: u64,
	/// How well the disks fit together.
	pub consistency: String,
}

impl Snapshot {
	fn read(sequence: u64, record: &Json) -> Result<Self> {
		let field = |name: &str| {
			record[name].as_u64().with_context(|| format!("a snapshot has no {name}: {record}"))
		};
		Ok(Self {
			sequence,
			cid: cid_text(&record["cid"])?,
			taken_at: field("taken_at")?,
			recorded_at: field("recorded_at")?,
			logical_bytes: field("logical_bytes")?,
			new_bytes: field("new_bytes")?,
			consistency: record["consistency"].as_str().unwrap_or_default().to_owned(),
		})
	}
}

/// The base32 text of a CID that came as hexadecimal digits.
pub fn cid_text(digits: &Json) -> Result<String> {
	let digits = digits.as_str().and_then(|text| text.strip_prefix("0x"));
	let bytes = hex::decode(digits.context("a CID is shown in hexadecimal digits")?)?;
	let cid = Cid::try_from(bytes.as_slice()).map_err(|error| anyhow!("{error}"))?;
	Ok(cid.to_string())
}

/// A number as an argument.
pub fn number(number: u64) -> Value {
	Value::u128(number.into())
}

/// Bytes as an argument.
pub fn bytes(bytes: &[u8]) -> Value {
	Value::from_bytes(bytes)
}

fn read_event(event: &subxt::events::Event<'_, PolkadotConfig>) -> Result<Event> {
	let fields = event.decode_fields_unchecked_as::<Composite<()>>()?;
	let name = format!("{}.{}", event.pallet_name(), event.event_name());
	let fields = match fields {
		Composite::Named(list) => {
			list.into_iter().map(|(name, value)| (name, to_json(&value))).collect()
		}
		Composite::Unnamed(list) => list.iter().map(to_json).collect(),
	};
	Ok(Event { name, fields })
}

/// A value as JSON. Options are their value or `null`, newtypes their content, keys, hashes
/// and the like `0x…`, numbers beyond 64 bits text.
pub fn to_json(value: &Value) -> Json {
	match &value.value {
		ValueDef::Composite(composite) => composite_to_json(composite),
		ValueDef::Variant(variant) => {
			let name = variant.name.as_str();
			match (name, variant.values.values().next()) {
				("None", None) => Json::Null,
				("Some", Some(inner)) => to_json(inner),
				(_, None) => name.into(),
				(_, Some(_)) => json!({ name: composite_to_json(&variant.values) }),
			}
		}
		ValueDef::Primitive(primitive) => primitive_to_json(primitive),
		ValueDef::BitSequence(bits) => format!("{bits:?}").into(),
	}
}

fn composite_to_json(composite: &Composite<()>) -> Json {
	match composite {
		Composite::Named(fields) => {
			fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect()
		}
		Composite::Unnamed(values) => {
			let list: Vec<Json> = values.iter().map(to_json).collect();
			match list.as_slice() {
				[Json::String(only)] => only.as_str().into(),
				_ => hexadecimal(&list).unwrap_or_else(|| list.into()),
			}
		}
	}
}

/// A list of bytes as text, if it is as long as a key or a hash.
fn hexadecimal(list: &[Json]) -> Option<Json> {
	let byte = |value: &Json| value.as_u64().and_then(|number| u8::try_from(number).ok());
	let bytes: Vec<u8> = list.iter().map(byte).collect::<Option<_>>()?;
	(bytes.len() >= 16).then(|| format!("0x{}", hex::encode(bytes)).into())
}

fn primitive_to_json(primitive: &Primitive) -> Json {
	match primitive {
		Primitive::Bool(yes) => (*yes).into(),
		Primitive::Char(c) => c.to_string().into(),
		Primitive::String(text) => text.clone().into(),
		Primitive::U128(number) => {
			u64::try_from(*number).map_or_else(|_| number.to_string().into(), Json::from)
		}
		Primitive::I128(number) => {
			i64::try_from(*number).map_or_else(|_| number.to_string().into(), Json::from)
		}
		Primitive::U256(bytes) | Primitive::I256(bytes) => hex::encode(bytes).into(),
	}
}
