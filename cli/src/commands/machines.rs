//! `backup vms`: the machines of an account, and whether they are backed up.

use crate::{
	args::Global,
	chain::{Chain, reads, records::RequestState},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
	secret::account,
	words,
};
use serde::Serialize;
use serde_json::json;

#[derive(Debug, Serialize)]
struct Machine {
	request: u64,
	disk_bytes: u64,
	#[serde(flatten)]
	state: RequestState,
	/// Snapshots that are kept; nothing without a backup.
	snapshots: Option<u32>,
	next: String,
}

pub(crate) async fn run(
	owner: Option<&str>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let owner = account(owner, global).await?;
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let listed = reads::requests_of(&at, &owner).await?;
	let (requests, truncated) = listed.told("requests", output);
	let lineages = reads::lineages_of(&at, &owner).await?;
	let machine = |(request, record): (u64, crate::chain::records::RequestRecord)| {
		let lineage = lineages.iter().find(|lineage| lineage.request == request);
		Machine {
			request,
			disk_bytes: record.disk_bytes,
			state: record.state.into(),
			snapshots: lineage.map(|lineage| lineage.kept),
			next: lineage.map_or_else(
				|| "no backup".into(),
				|lineage| words::eligibility(&lineage.eligibility),
			),
		}
	};
	let machines: Vec<Machine> = requests.into_iter().map(machine).collect();
	let answer =
		json!({ "block": at.block_number(), "machines": machines, "truncated": truncated });
	drop(bar);
	output.answer(&answer, || {
		if machines.is_empty() {
			return "no machines".into();
		}
		let mut table = Table::new(&["request", "machine", "state", "disks", "snapshots", "next"]);
		for machine in &machines {
			let (name, state) = shown(&machine.state);
			table.row([
				machine.request.to_string(),
				name,
				state,
				words::bytes(machine.disk_bytes),
				machine.snapshots.map_or_else(|| "-".into(), |kept| kept.to_string()),
				machine.next.clone(),
			]);
		}
		table.render()
	})
}

/// Name and state of a machine.
fn shown(state: &RequestState) -> (String, String) {
	let none = || "-".to_owned();
	match state {
		RequestState::Open => (none(), "open".into()),
		RequestState::Assigned { node } => (none(), format!("assigned to node {node}")),
		RequestState::Running { node, vm } => (vm.clone(), format!("runs on node {node}")),
		RequestState::Ended => (none(), "ended".into()),
	}
}
