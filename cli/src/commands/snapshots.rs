//! `backup snapshots`: what the chain has recorded of a request, or of all of an owner.

use crate::{
	args::{Filter, Global, Machine, Snapshots},
	chain::{
		AtBlock, Chain, histories, machines, reads,
		records::{Lineage, Snapshot},
	},
	error::CliError,
	glance,
	output::{Output, Table},
	progress::Bar,
	secret::account,
	words,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

/// A lineage with its snapshots.
#[derive(Debug, Serialize)]
struct Backup {
	#[serde(flatten)]
	lineage: Lineage,
	snapshots: Vec<Snapshot>,
	/// Whether there may be more.
	truncated: bool,
}

/// The whole answer.
#[derive(Debug, Serialize)]
struct Answer {
	block: u64,
	backups: Vec<Backup>,
}

pub(crate) async fn run(
	which: &Snapshots,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	// Whoever is not known is told before a node is asked.
	let owner = match &which.machine {
		Some(Machine::Request(_)) => None,
		Some(Machine::Name(_)) | None => Some(account(which.owner.as_deref(), global).await?),
	};
	let bar = Bar::waiting(output, "the chain");
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let lineages = match (&which.machine, &owner) {
		(None, Some(owner)) => reads::lineages_of(&at, owner).await?,
		(Some(Machine::Name(name)), Some(owner)) => {
			let request = machines::request_of(&at, name, owner).await?;
			vec![reads::lineage(&at, request).await?]
		}
		(Some(Machine::Request(request)), _) => vec![reads::lineage(&at, *request).await?],
		(_, None) => Vec::new(),
	};
	let (chain, at_block) = (&chain, &at);
	let backups = stream::iter(lineages).map(|lineage| async move {
		let listed = histories::snapshots(at_block, &lineage, which.filter.reach()).await?;
		let (snapshots, truncated) = listed.told("snapshots of a machine", output);
		let snapshots = which.filter.of(snapshots, chain, at_block).await?;
		Ok::<_, CliError>(Backup { lineage, snapshots, truncated })
	});
	let backups = backups.buffered(reads::AT_ONCE).try_collect().await?;
	let answer = Answer { block: at.block_number(), backups };
	drop(bar);
	output.answer(&answer, || text(&answer, which.tree))
}

impl Filter {
	/// How many of the newest have to be read: nothing that is meant lies behind them.
	fn reach(&self) -> usize {
		match (self.newest, self.until, self.by_node) {
			(Some(newest), None, None) => newest,
			_ => usize::MAX,
		}
	}

	/// The snapshots that are meant, in their order.
	async fn of(
		&self,
		mut snapshots: Vec<Snapshot>,
		chain: &Chain,
		at: &AtBlock,
	) -> Result<Vec<Snapshot>, CliError> {
		if let Some(until) = self.until {
			snapshots.truncate(chain.taken_by(at, &snapshots, until).await?);
		}
		let before = match self.since {
			Some(since) => chain.taken_by(at, &snapshots, since.before()).await?,
			None => 0,
		};
		snapshots.drain(..before);
		Ok(self.of_node(snapshots))
	}

	/// Those of the node that is meant, and no more than are wanted.
	fn of_node(&self, snapshots: Vec<Snapshot>) -> Vec<Snapshot> {
		let is_meant = |snapshot: &Snapshot| self.by_node.is_none_or(|node| snapshot.node == node);
		let mut meant: Vec<Snapshot> = snapshots.into_iter().filter(is_meant).collect();
		if let Some(newest) = self.newest {
			meant.drain(..meant.len().saturating_sub(newest));
		}
		meant
	}
}

fn text(answer: &Answer, as_tree: bool) -> String {
	if answer.backups.is_empty() {
		return "no backups".into();
	}
	let parts = answer.backups.iter().map(|backup| backup_text(backup, as_tree));
	parts.collect::<Vec<_>>().join("\n\n")
}

fn backup_text(backup: &Backup, as_tree: bool) -> String {
	let lineage = &backup.lineage;
	let mut lines = vec![format!(
		"request {} on node {}, every {} blocks, {} of {} snapshots: {}",
		lineage.request,
		lineage.node,
		lineage.frequency_blocks,
		backup.snapshots.len(),
		lineage.keep_last,
		glance::eligibility(&lineage.eligibility),
	)];
	if as_tree {
		lines.extend(tree(&backup.snapshots));
	} else if !backup.snapshots.is_empty() {
		lines.push(table(&backup.snapshots).render());
	}
	lines.join("\n")
}

/// A history from its oldest snapshot to its newest. Each stands below the one that it goes on
/// from; what is gone in between, and a move to another node, are told.
fn tree(snapshots: &[Snapshot]) -> Vec<String> {
	let mut lines = Vec::new();
	let mut before: Option<&Snapshot> = None;
	for (index, snapshot) in snapshots.iter().enumerate() {
		if let Some(gone) = before.map(|before| snapshot.sequence - before.sequence - 1)
			&& gone > 0
		{
			lines.push(format!(":  {} gone or left out", words::count(gone, "snapshot")));
		}
		if before.is_some_and(|before| before.node != snapshot.node) {
			lines.push(format!("│  moved to node {}", snapshot.node));
		}
		let branch = if index + 1 == snapshots.len() { "└─" } else { "├─" };
		let mut line = format!(
			"{branch} {} {} taken at {}, {}, {} new",
			snapshot.sequence,
			snapshot.cid,
			snapshot.taken_at,
			words::bytes(snapshot.logical_bytes),
			words::bytes(snapshot.new_bytes)
		);
		if let Some(description) = &snapshot.description {
			line.push_str(&format!(": {description}"));
		}
		lines.push(line);
		before = Some(snapshot);
	}
	lines
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

#[cfg(test)]
mod tests {
	use super::*;
	use crate::args::When;
	use serde_json::json;

	fn snapshot(sequence: u64, node: u64) -> Snapshot {
		Snapshot::example(sequence, node)
	}

	fn sequences(filter: &Filter) -> serde_json::Value {
		let all = (1..=5).map(|sequence| snapshot(sequence, sequence / 4)).collect();
		filter.of_node(all).iter().map(|one| one.sequence).collect::<Vec<_>>().into()
	}

	#[test]
	fn filters_leave_what_is_meant() {
		let none = Filter::default();
		assert_eq!(sequences(&none), json!([1, 2, 3, 4, 5]));
		assert_eq!(sequences(&Filter { by_node: Some(1), ..none.clone() }), json!([4, 5]));
		assert_eq!(sequences(&Filter { newest: Some(2), ..none.clone() }), json!([4, 5]));
		assert_eq!(sequences(&Filter { newest: Some(9), ..none.clone() }), json!([1, 2, 3, 4, 5]));
		let both = Filter { by_node: Some(0), newest: Some(1), ..none };
		assert_eq!(sequences(&both), json!([3]));
	}

	#[test]
	fn no_more_is_read_than_can_be_meant() {
		let newest = Filter { newest: Some(2), ..Filter::default() };
		let since = Some(When::Block(3));
		assert_eq!(Filter::default().reach(), usize::MAX);
		assert_eq!(newest.reach(), 2);
		assert_eq!(Filter { since, ..newest.clone() }.reach(), 2);
		assert_eq!(Filter { until: since, ..newest.clone() }.reach(), usize::MAX);
		assert_eq!(Filter { by_node: Some(1), ..newest }.reach(), usize::MAX);
	}

	#[test]
	fn a_tree_tells_gaps_and_moves() {
		let lines = tree(&[snapshot(1, 1), snapshot(2, 1), snapshot(5, 2)]);
		let starts: Vec<_> = lines.iter().map(|line| line.split(" b").next().unwrap()).collect();
		let expected =
			["├─ 1", "├─ 2", ":  2 snapshots gone or left out", "│  moved to node 2", "└─ 5"];
		assert_eq!(starts, expected);
		assert!(lines[0].ends_with("taken at 10, 1.0 KiB, 5 B new: nightly"), "{}", lines[0]);
		assert_eq!(tree(&[]), Vec::<String>::new());
	}
}
