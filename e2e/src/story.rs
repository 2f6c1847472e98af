//! The cast that every scenario starts with: an operator with a node, an owner with a
//! machine, backups that are paid for and fast enough to watch.

use crate::{
	chain::{Chain, Event, bytes, number},
	command::backup,
};
use anyhow::{Context, Result};
use backup_primitives::{OpaqueId, Recipient, VmTag, report::possession_payload};
use std::path::{Path, PathBuf};
use subxt::dynamic::Value;
use subxt_signer::sr25519::{Keypair, dev};

/// The node that the development chain's first authority runs.
pub const NODE: u32 = 1;

/// The bounds of the cadence, in blocks: the widest that the reference runtime lets governance set.
const FREQUENCY_MIN: u64 = 5;
const FREQUENCY_MAX: u64 = 432_000;

/// The node's operator and authority, and the only member of the council.
pub fn operator() -> Keypair {
	dev::alice()
}

/// The owner of the machine.
pub fn owner() -> Keypair {
	dev::bob()
}

/// Another owner, on the same node.
pub fn stranger() -> Keypair {
	dev::charlie()
}

/// The chain's settings in a scenario, in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
	/// Cadence.
	pub frequency: u32,
	/// Snapshots that are kept.
	pub keep_last: u32,
	/// Time in which a deletion can be taken back.
	pub deletion_grace: u32,
	/// Time that a restore may take.
	pub restore_lifetime: u32,
	/// Nodes that hold copies of each machine.
	pub replicas: u32,
	/// For how long a holder may say nothing.
	pub holder_silence: u32,
}

impl Pace {
	/// Fast: ten seconds from snapshot to snapshot.
	pub const FAST: Self = Self {
		frequency: 5,
		keep_last: 10,
		deletion_grace: 3,
		restore_lifetime: 300,
		replicas: 0,
		holder_silence: 100,
	};

	/// Only the first snapshot comes by itself.
	pub const ONCE: Self = Self { frequency: 100_000, ..Self::FAST };

	/// The same, with copies on two other nodes.
	pub const COPIED: Self = Self { replicas: 2, ..Self::ONCE };
}

/// An owner's age identity, in a file.
#[derive(Clone, Debug)]
pub struct Identity {
	/// The file.
	pub path: PathBuf,
	/// Its public half.
	pub recipient: Recipient,
}

impl Identity {
	/// Make one, as an owner would.
	pub fn new(folder: &Path, name: &str) -> Result<Self> {
		let path = folder.join(name);
		let arguments = ["key".as_ref(), "new".as_ref(), "--output".as_ref(), path.as_os_str()];
		let answer = backup(arguments)?;
		let recipient = answer["recipient"].as_str().context("no recipient")?;
		let recipient = recipient.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
		Ok(Self { path, recipient })
	}
}

/// How others reach a node's agent.
#[derive(Clone, Debug)]
pub struct Contact {
	/// The key that backups are sealed to.
	pub recipient: Recipient,
	/// Where its blocks are served.
	pub gateways: Vec<String>,
}

/// The operator, who is the council too, sets the chain's pace and registers the node with its
/// agent.
pub async fn open(chain: &Chain, pace: Pace, agent: Contact) -> Result<()> {
	let settings = Value::named_composite([
		("frequency", number(pace.frequency.into())),
		("min_frequency", number(FREQUENCY_MIN)),
		("max_frequency", number(FREQUENCY_MAX)),
		("keep_last", number(pace.keep_last.into())),
		("min_age", number(0)),
		("deletion_grace", number(pace.deletion_grace.into())),
		("deletion_deadline", number(1_000)),
		("restore_lifetime", number(pace.restore_lifetime.into())),
		("proposal_lifetime", number(1_000)),
		("key_activation_delay", number(2)),
		("replicas", number(pace.replicas.into())),
		("holder_period", number(4)),
		("holder_silence", number(pace.holder_silence.into())),
	]);
	let set = runtime_call("Backup", "set_settings", [("settings", settings)]);
	let operator = operator();
	let calls = [decided(set), registration(chain, &operator, NODE, agent)];
	batch(chain, &operator, calls).await?;
	Ok(())
}

/// A call that the council makes. One of a single member decides at once.
fn decided(call: Value) -> Value {
	runtime_call(
		"Council",
		"propose",
		[("threshold", number(1)), ("proposal", call), ("length_bound", number(1_000))],
	)
}

/// The council lets a node hold copies.
pub async fn admit_storage_node(chain: &Chain, node: u32) -> Result<()> {
	let admit = [("node_id", number(node.into()))];
	let call = decided(runtime_call("Backup", "admit_storage_node", admit));
	batch(chain, &operator(), [call]).await?;
	Ok(())
}

/// An owner subscribes and asks for a machine. Gives the request.
pub async fn order_machine(chain: &Chain, owner: &Keypair, disk_bytes: u64) -> Result<u64> {
	let calls = [
		runtime_call("Marketplace", "subscribe", [("periods", number(1))]),
		runtime_call("Compute", "create_request", [("disk_bytes", number(disk_bytes))]),
	];
	let events = batch(chain, owner, calls).await?;
	let created = events.iter().find(|event| event.name == "Compute.RequestCreated");
	created.context("no request was created")?.fields["request_id"]
		.as_u64()
		.context("a request has a number")
}

/// The operator takes a request and says that its machine runs.
pub async fn fulfil(chain: &Chain, request: u64, vm: &str) -> Result<()> {
	fulfil_on(chain, &operator(), NODE, request, vm).await
}

/// The same with another operator and its node.
pub async fn fulfil_on(
	chain: &Chain,
	operator: &Keypair,
	node: u32,
	request: u64,
	vm: &str,
) -> Result<()> {
	let calls = [
		runtime_call(
			"Compute",
			"assign_request",
			[("request_id", number(request)), ("node_id", number(node.into()))],
		),
		runtime_call(
			"Compute",
			"fulfil_request",
			[("request_id", number(request)), ("vm_id", bytes(vm.as_bytes()))],
		),
	];
	batch(chain, operator, calls).await?;
	Ok(())
}

/// An operator registers a node whose authority key is the operator's own.
pub async fn register_node(
	chain: &Chain,
	operator: &Keypair,
	node: u32,
	agent: Contact,
) -> Result<()> {
	batch(chain, operator, [registration(chain, operator, node, agent)]).await?;
	Ok(())
}

/// The call that registers a node whose authority key is the operator's own.
fn registration(chain: &Chain, operator: &Keypair, node: u32, agent: Contact) -> Value {
	let account = operator.public_key().0;
	let payload = possession_payload(&chain.genesis(), &opaque(&node), &opaque(&account));
	let gateways = agent.gateways.iter().map(|url| bytes(url.as_bytes()));
	runtime_call(
		"Compute",
		"register_node",
		[
			("node_id", number(node.into())),
			("authority", bytes(&account)),
			("recipient", bytes(&agent.recipient.0)),
			("gateways", Value::unnamed_composite(gateways)),
			("proof", bytes(&operator.sign(&payload).0)),
		],
	)
}

/// The owner registers the key; from now on the first snapshot is due.
pub async fn register_key(chain: &Chain, owner: &Keypair, recipient: Recipient) -> Result<()> {
	let arguments = vec![bytes(&recipient.0)];
	chain.submit(owner, "Backup", "register_owner_key", arguments).await?;
	Ok(())
}

/// The owner pauses the backups of a request, or lets them go on.
pub async fn set_paused(chain: &Chain, owner: &Keypair, request: u64, paused: bool) -> Result<()> {
	batch(chain, owner, [pause_call(request, paused)]).await?;
	Ok(())
}

/// The call that pauses the backups of a request, or lets them go on.
pub fn pause_call(request: u64, paused: bool) -> Value {
	let settings = Value::named_composite([
		("paused", Value::bool(paused)),
		("keep_last", Value::unnamed_variant("None", [])),
	]);
	let request_id = ("request_id", number(request));
	runtime_call("Backup", "set_backup_settings", [request_id, ("settings", settings)])
}

/// The owner asks for an image. Gives the restore and the block of the request.
pub async fn request_restore(chain: &Chain, owner: &Keypair, cid: &str) -> Result<u64> {
	let arguments = vec![bytes(cid.as_bytes())];
	let events = chain.submit(owner, "Backup", "restore_from_snapshot", arguments).await?;
	let asked = events.iter().find(|event| event.name == "Backup.SnapshotRestoreRequested");
	asked.context("no restore was asked for")?.fields["restore_id"]
		.as_u64()
		.context("a restore has a number")
}

/// The tag that the machine of a request must carry.
pub fn vm_tag(chain: &Chain, request: u64, owner: &Keypair) -> VmTag {
	VmTag::derive(&chain.genesis(), &opaque(&request), &opaque(&owner.public_key().0))
}

/// All of these calls in one transaction, or none.
pub async fn batch(
	chain: &Chain,
	signer: &Keypair,
	calls: impl IntoIterator<Item = Value>,
) -> Result<Vec<Event>> {
	let calls = Value::unnamed_composite(calls);
	chain.submit(signer, "Utility", "batch_all", vec![calls]).await
}

/// A call as an argument of another call.
pub fn runtime_call(
	pallet: &str,
	call: &str,
	fields: impl IntoIterator<Item = (&'static str, Value)>,
) -> Value {
	Value::unnamed_variant(pallet, [Value::named_variant(call, fields)])
}

/// An id as the agent knows it.
pub fn opaque(id: &impl codec::Encode) -> OpaqueId {
	OpaqueId::of(id).expect("numbers and accounts have 32 bytes at most")
}
