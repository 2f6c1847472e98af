//! Single places of a history: `backup root` finds one on the chain, `backup show` opens one
//! without a chain.

use crate::{
	args::{Global, Machine, Unlock, When},
	chain::{AtBlock, Chain, histories, machines, reads, records::Snapshot},
	commands::{
		blocks::work,
		locate::locate_sealed,
		restore::{open, taken_at},
	},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
	words,
};
use backup_agent::format::Object;
use backup_primitives::Cid;
use serde::Serialize;
use serde_json::json;
use subxt::utils::AccountId32;

/// Print the root of the newest snapshot of a machine, or of the newest as of a time.
pub(crate) async fn print_root(
	machine: &Machine,
	when: Option<When>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let bar = Bar::waiting(output, "the chain");
	let Found { at, request, snapshot, .. } = find(machine, when, global).await?;
	drop(bar);
	let answer = json!({ "block": at.block_number(), "request": request, "snapshot": snapshot });
	output.answer(&answer, || snapshot.cid.clone())
}

/// A snapshot that the chain has, and the state that says so.
pub(super) struct Found {
	pub(super) at: AtBlock,
	pub(super) request: u64,
	/// Whose machine it is of.
	pub(super) owner: AccountId32,
	pub(super) snapshot: Snapshot,
}

impl Found {
	pub(super) fn root(&self) -> Cid {
		self.snapshot.cid.parse().expect("a CID's own text reads back")
	}
}

/// The newest snapshot of a machine, or the newest as of a time.
pub(super) async fn find(
	machine: &Machine,
	when: Option<When>,
	global: &Global,
) -> Result<Found, CliError> {
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let request = machines::find(&at, machine, global).await?;
	let lineage = reads::lineage(&at, request).await?;
	let when = when.unwrap_or(When::Block(at.block_number()));
	let missing = || CliError::NoSnapshot { request, when };
	let snapshot = match when {
		// The chain knows which one it is.
		When::Block(block) => match histories::snapshot_as_of(&at, request, block).await? {
			Some(sequence) => reads::snapshot(&at, request, sequence).await?,
			None => None,
		},
		When::Time(_) => {
			let all = histories::snapshots(&at, &lineage, usize::MAX).await?;
			let mut all = all.complete("snapshots")?;
			let taken_by = chain.taken_by(&at, &all, when).await?;
			taken_by.checked_sub(1).map(|newest| all.swap_remove(newest))
		}
	};
	let snapshot = snapshot.ok_or_else(missing)?;
	let owner = lineage.owner.parse().expect("an account's own text reads back");
	Ok(Found { at, request, owner, snapshot })
}

/// Two snapshots of a machine, by their places in its history.
pub(super) async fn find_pair(
	machine: &Machine,
	places: [u64; 2],
	global: &Global,
) -> Result<[Found; 2], CliError> {
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let request = machines::find(&at, machine, global).await?;
	let lineage = reads::lineage(&at, request).await?;
	let owner: AccountId32 = lineage.owner.parse().expect("an account's own text reads back");
	let found = places.map(async |sequence| {
		let snapshot = histories::snapshot(&at, request, sequence).await?;
		Ok::<_, CliError>(Found { at: at.clone(), request, owner, snapshot })
	});
	let [before, after] = found;
	Ok([before.await?, after.await?])
}

/// What a root says when it is opened.
#[derive(Debug, Serialize)]
struct Shown {
	root: Cid,
	genesis: String,
	request: String,
	node: String,
	sequence: u64,
	taken_at_ms: u64,
	consistency: String,
	chunk_bytes: u32,
	disks: Vec<Part>,
	blobs: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
	name: String,
	bytes: u64,
}

impl Part {
	fn all(objects: &[Object]) -> Vec<Self> {
		let part = |object: &Object| Self {
			name: words::escape(object.name.as_bytes()),
			bytes: object.logical_bytes,
		};
		objects.iter().map(part).collect()
	}
}

/// Open a root and tell what it says.
pub(crate) async fn show(unlock: Unlock, global: &Global, output: Output) -> Result<(), CliError> {
	let located = locate_sealed(&unlock, global, output).await?;
	let root = located.root;
	let bar = Bar::waiting(output, "the snapshot");
	let (_, opened) = work(move |cancel| open(&located, &unlock, cancel)).await?;
	drop(bar);
	let consistency = serde_json::to_value(opened.consistency);
	let consistency = consistency.map_err(|error| CliError::Answer { source: error.into() })?;
	let taken = taken_at(&opened);
	let shown = Shown {
		root,
		genesis: format!("0x{}", hex::encode(opened.genesis)),
		request: opened.request.to_string(),
		node: opened.node.to_string(),
		sequence: opened.sequence,
		taken_at_ms: opened.taken_at_ms,
		consistency: consistency.as_str().unwrap_or_default().to_owned(),
		chunk_bytes: opened.geometry.chunk_bytes(),
		disks: Part::all(&opened.disks),
		blobs: Part::all(&opened.blobs),
	};
	output.answer(&shown, || {
		let head = format!(
			"snapshot {} of request {}, taken {} UTC by node {}, {}",
			shown.sequence, shown.request, taken, shown.node, shown.consistency
		);
		let mut table = Table::new(&["holds", "name", "size"]);
		for (what, parts) in [("disk", &shown.disks), ("blob", &shown.blobs)] {
			for part in parts {
				table.row([what.to_owned(), part.name.clone(), words::bytes(part.bytes)]);
			}
		}
		format!("{head}\n{}", table.render())
	})
}
