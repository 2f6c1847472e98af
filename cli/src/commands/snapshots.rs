//! `backup snapshots`: what the chain has recorded of a request, or of all of an owner.

use crate::{
	args::Global,
	chain::{
		Chain, account, reads,
		records::{Lineage, Snapshot},
	},
	error::CliError,
	output::{Output, Table},
	words,
};
use serde::Serialize;

/// A lineage with its snapshots.
#[derive(Debug, Serialize)]
struct Backup {
	#[serde(flatten)]
	lineage: Lineage,
	snapshots: Vec<Snapshot>,
}

/// The whole answer.
#[derive(Debug, Serialize)]
struct Answer {
	block: u64,
	backups: Vec<Backup>,
}

pub(crate) async fn run(
	request: Option<u64>,
	owner: Option<&str>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let owner = match request {
		Some(_) => None,
		None => Some(account(owner, global)?),
	};
	let at = Chain::connect(global).await?.best().await?;
	let lineages = match (request, &owner) {
		(Some(request), _) => vec![reads::lineage(&at, request).await?],
		(None, Some(owner)) => reads::lineages_of(&at, owner).await?,
		(None, None) => Vec::new(),
	};
	let mut backups = Vec::new();
	for lineage in lineages {
		let snapshots = reads::snapshots(&at, &lineage).await?;
		backups.push(Backup { lineage, snapshots });
	}
	let answer = Answer { block: at.block_number(), backups };
	output.answer(&answer, || text(&answer))
}

fn text(answer: &Answer) -> String {
	if answer.backups.is_empty() {
		return "no backups".into();
	}
	let parts = answer.backups.iter().map(backup_text);
	parts.collect::<Vec<_>>().join("\n\n")
}

fn backup_text(backup: &Backup) -> String {
	let lineage = &backup.lineage;
	let mut lines = vec![format!(
		"request {} on node {}, every {} blocks, {} of {} snapshots: {}",
		lineage.request,
		lineage.node,
		lineage.frequency_blocks,
		backup.snapshots.len(),
		lineage.keep_last,
		words::eligibility(&lineage.eligibility),
	)];
	if !backup.snapshots.is_empty() {
		lines.push(table(&backup.snapshots).render());
	}
	lines.join("\n")
}

fn table(snapshots: &[Snapshot]) -> Table {
	let mut table = Table::new(&[
		"sequence",
		"taken at",
		"disks",
		"new",
		"consistency",
		"root",
		"parent",
		"description",
	]);
	for snapshot in snapshots {
		table.row([
			snapshot.sequence.to_string(),
			snapshot.taken_at.to_string(),
			words::bytes(snapshot.logical_bytes),
			words::bytes(snapshot.new_bytes),
			snapshot.consistency.kebab(),
			snapshot.cid.clone(),
			snapshot.parent.clone().unwrap_or_else(|| "-".into()),
			snapshot.description.clone().unwrap_or_default(),
		]);
	}
	table
}
