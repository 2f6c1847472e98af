//! Forged reports over raw RPC are all refused by the pool and change nothing. A genuine one,
//! made the same way, is taken: so it is the forgery that is refused.

use anyhow::{Context, Result, bail, ensure};
use backup_e2e::{
	chain::{Chain, View, bytes, number},
	story::{self, NODE, Pace, opaque},
	world::{World, scenario},
};
use backup_primitives::{
	BlockRef, Cid, Consistency, LineageId, Recipient,
	report::{Report, TakenSnapshot, signing_payload},
};
use serde_json::{Value as Json, json};
use subxt::dynamic::Value;
use subxt_signer::sr25519::{Keypair, dev};

/// A report of a snapshot, genuine unless something is changed.
#[derive(Clone)]
struct Claim {
	node: u32,
	request: u64,
	owner: [u8; 32],
	salt: [u8; 32],
	sequence: u64,
	cid: Cid,
	at: BlockRef,
	signer: Keypair,
}

impl Claim {
	async fn genuine(chain: &Chain, request: u64, sequence: u64, cid: u8) -> Result<Self> {
		Ok(Self {
			node: NODE,
			request,
			owner: story::owner().public_key().0,
			salt: salt(chain, request).await?,
			sequence,
			cid: Cid::dag_cbor([cid; 32]),
			at: best(chain).await?,
			signer: story::operator(),
		})
	}

	fn taken(&self) -> TakenSnapshot {
		TakenSnapshot {
			cid: self.cid,
			taken_at: self.at.number,
			logical_bytes: 1 << 20,
			new_bytes: 1 << 10,
			consistency: Consistency::Crash,
			owner_key_version: 1,
		}
	}

	/// The transaction, signed over exactly what it says.
	async fn transaction(&self, chain: &Chain) -> Result<Vec<u8>> {
		let report = Report::Snapshot {
			lineage: LineageId { request: opaque(&self.request), salt: self.salt },
			sequence: self.sequence,
			owner: opaque(&self.owner),
			description: None,
			snapshot: self.taken(),
		};
		let payload = signing_payload(&chain.genesis(), &opaque(&self.node), &self.at, &report);
		self.with_signature(chain, self.signer.sign(&payload).0).await
	}

	async fn with_signature(&self, chain: &Chain, signature: [u8; 64]) -> Result<Vec<u8>> {
		let claim = Value::named_composite([
			("salt", bytes(&self.salt)),
			("sequence", number(self.sequence)),
			("taken_at", number(self.at.number)),
			("logical_bytes", number(1 << 20)),
			("new_bytes", number(1 << 10)),
			("consistency", Value::unnamed_variant("Crash", [])),
			("owner_key_version", number(1)),
		]);
		let at = Value::named_composite([
			("number", number(self.at.number)),
			("hash", bytes(&self.at.hash)),
		]);
		let arguments = vec![
			number(self.node.into()),
			bytes(self.cid.as_bytes()),
			Value::unnamed_variant("None", []),
			number(self.request),
			bytes(&self.owner),
			claim,
			at,
			bytes(&signature),
		];
		chain.general_transaction("add_snapshot", arguments).await
	}
}

async fn best(chain: &Chain) -> Result<BlockRef> {
	let at = chain.at(View::Best).await?;
	Ok(BlockRef { number: at.block_number(), hash: at.block_hash().0 })
}

async fn salt(chain: &Chain, request: u64) -> Result<[u8; 32]> {
	let lineage = chain.storage("Backup", "Lineages", vec![number(request)]).await?;
	let digits = lineage["salt"].as_str().context("the lineage has no salt")?;
	let mut salt = [0; 32];
	hex::decode_to_slice(digits.trim_start_matches("0x"), &mut salt)?;
	Ok(salt)
}

/// All that a report could change.
async fn state(chain: &Chain, request: u64) -> Result<Json> {
	let owner = story::owner().public_key().0;
	let backups = vec![number(NODE.into()), bytes(&owner)];
	Ok(json!({
		"lineage": chain.storage("Backup", "Lineages", vec![number(request)]).await?,
		"snapshots": chain.storage_values("Backup", "Snapshots").await?,
		"backups": chain.storage("Backup", "Backups", backups).await?,
	}))
}

async fn submit(chain: &Chain, transaction: &[u8]) -> Result<Json> {
	let text = format!("0x{}", hex::encode(transaction));
	chain.rpc("author_submitExtrinsic", &[text.into()]).await
}

async fn refused(chain: &Chain, what: &str, transaction: &[u8]) -> Result<String> {
	match submit(chain, transaction).await {
		Ok(hash) => bail!("{what} was taken into the pool as {hash}"),
		Err(error) => Ok(format!("{error:#}")),
	}
}

/// A chain on which a report is due and the real worker is silent.
async fn due_request(world: &mut World) -> Result<u64> {
	world.agent.stop()?;
	let chain = &world.chain;
	let owner = story::owner();
	let request = story::order_machine(chain, &owner, 1 << 30).await?;
	story::fulfil(chain, request, "vm-1").await?;
	let identity = story::Identity::new(world.lab.path(), "owner.key")?;
	story::register_key(chain, &owner, identity.recipient).await?;
	Ok(request)
}

async fn forgeries(chain: &Chain, request: u64) -> Result<Vec<(&'static str, Vec<u8>)>> {
	let genuine = Claim::genuine(chain, request, 0, 1).await?;
	let stranger = story::stranger();
	let mut cut = genuine.transaction(chain).await?;
	cut.truncate(cut.len() - 1);
	let mut wrong_codec = *genuine.cid.as_bytes();
	wrong_codec[1] = 0x70;
	let forged = [
		("another key", Claim { signer: stranger.clone(), ..genuine.clone() }),
		("another node", Claim { node: 2, signer: stranger.clone(), ..genuine.clone() }),
		("a node that is not registered", Claim { node: 99, ..genuine.clone() }),
		("another owner", Claim { owner: stranger.public_key().0, ..genuine.clone() }),
		("a request that is not there", Claim { request: 999, ..genuine.clone() }),
		("another lineage", Claim { salt: [7; 32], ..genuine.clone() }),
		(
			"a sequence ahead of its time",
			Claim { sequence: 5, signer: dev::dave(), ..genuine.clone() },
		),
		(
			"a root of another codec",
			Claim { cid: Cid::from_bytes_unchecked(wrong_codec), ..genuine.clone() },
		),
		("a root that is a raw block", Claim { cid: Cid::raw([1; 32]), ..genuine.clone() }),
		(
			"a root of noise",
			Claim { cid: Cid::from_bytes_unchecked([0xff; 36]), ..genuine.clone() },
		),
		(
			"a block of another fork",
			Claim { at: BlockRef { hash: [9; 32], ..genuine.at }, ..genuine.clone() },
		),
	];
	let mut list = Vec::new();
	for (what, claim) in forged {
		list.push((what, claim.transaction(chain).await?));
	}
	list.push(("no signature", genuine.with_signature(chain, [0; 64]).await?));
	list.push(("a cut transaction", cut));
	Ok(list)
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_reports_are_refused_by_the_pool_and_change_nothing() {
	scenario("s3", Pace::ONCE, async |world| {
		let request = due_request(world).await?;
		let chain = &world.chain;
		register_second_node(chain).await?;
		let before = state(chain, request).await?;

		for (what, transaction) in forgeries(chain, request).await? {
			refused(chain, what, &transaction).await?;
		}
		pass_blocks(chain, 3).await?;
		ensure!(state(chain, request).await? == before, "a forged report changed the state");

		// The same, with nothing wrong.
		let genuine = Claim::genuine(chain, request, 0, 1).await?.transaction(chain).await?;
		submit(chain, &genuine).await.context("a genuine report was refused")?;
		let deadline = std::time::Duration::from_secs(30);
		chain.wait_for_snapshots(request, 1, deadline).await?;
		let recorded = state(chain, request).await?;

		refused(chain, "a replayed report", &genuine).await?;
		let stale = Claim::genuine(chain, request, 0, 2).await?;
		refused(chain, "a stale sequence", &stale.transaction(chain).await?).await?;
		let twice = Claim::genuine(chain, request, 1, 1).await?;
		refused(chain, "a root that is recorded", &twice.transaction(chain).await?).await?;
		pass_blocks(chain, 3).await?;
		ensure!(state(chain, request).await? == recorded, "a stale report changed the state");
		Ok(())
	})
	.await;
}

async fn pass_blocks(chain: &Chain, count: u64) -> Result<()> {
	let now = chain.number(View::Best).await?;
	chain.wait_for_block(now + count, std::time::Duration::from_secs(60)).await
}

/// Another operator's node, whose reports about the first node's machines are forgeries.
async fn register_second_node(chain: &Chain) -> Result<()> {
	let agent = story::Contact { recipient: Recipient([3; 32]), gateways: Vec::new() };
	story::register_node(chain, &story::stranger(), 2, agent).await
}
