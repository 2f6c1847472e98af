//! Single places of a history: `backup root` finds one on the chain, `backup show` opens one
//! without a chain.

use crate::{
	args::{Global, Unlock},
	chain::{Chain, reads},
	commands::{blocks::work, restore::open},
	error::CliError,
	output::{Output, Table},
	words,
};
use backup_agent::format::Object;
use backup_primitives::Cid;
use serde::Serialize;
use serde_json::json;

/// Print the root of the newest snapshot of a request, or of the newest as of a block.
pub(crate) async fn root(
	request: u64,
	as_of: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let at = Chain::connect(global).await?.best().await?;
	let block = as_of.unwrap_or(at.block_number());
	let lineage = reads::lineage(&at, request).await?;
	let missing = || CliError::NoSnapshot { request, block };
	let sequence = reads::snapshot_as_of(&at, request, block).await?.ok_or_else(missing)?;
	let snapshots = reads::snapshots_from(&at, &lineage, sequence).await?;
	let snapshot = snapshots.into_iter().find(|one| one.sequence == sequence);
	let snapshot = snapshot.ok_or_else(missing)?;
	let answer = json!({ "block": at.block_number(), "request": request, "snapshot": snapshot });
	output.answer(&answer, || snapshot.cid.clone())
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
pub(crate) async fn show(unlock: Unlock, output: Output) -> Result<(), CliError> {
	let root = unlock.root;
	let (_, opened) = work(move |_| open(&unlock)).await?;
	let consistency = serde_json::to_value(opened.consistency);
	let consistency = consistency.map_err(|error| CliError::Answer { source: error.into() })?;
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
		let taken_s = i64::try_from(shown.taken_at_ms / 1000).unwrap_or(i64::MAX);
		let head = format!(
			"snapshot {} of request {}, taken {} UTC by node {}, {}",
			shown.sequence,
			shown.request,
			words::time(taken_s),
			shown.node,
			shown.consistency
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
