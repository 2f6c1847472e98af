//! `backup vms`: the machines of an account, and whether they are backed up.

use crate::{
	args::Global,
	chain::{
		Chain, reads,
		records::{Eligibility, RequestState},
	},
	error::CliError,
	output::{Cell, Mood, Output, Table},
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
	/// Whether one would be taken now; nothing without a backup.
	eligibility: Option<Eligibility>,
}

impl Machine {
	/// What is next, in words.
	fn next(&self) -> Cell {
		match &self.eligibility {
			Some(eligibility) => Cell::new(words::eligibility(eligibility), eligibility.mood()),
			None => Cell::new("no backup", Some(Mood::Bad)),
		}
	}
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
			eligibility: lineage.map(|lineage| lineage.eligibility.clone()),
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
				machine.request.to_string().into(),
				name.into(),
				state.into(),
				words::bytes(machine.disk_bytes).into(),
				machine.snapshots.map_or_else(|| "-".into(), |kept| kept.to_string()).into(),
				machine.next(),
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

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn programs_get_a_state_and_people_a_sentence() {
		let machine = |eligibility| Machine {
			request: 7,
			disk_bytes: 1 << 20,
			state: RequestState::Open,
			snapshots: Some(2),
			eligibility,
		};
		let paused = machine(Some(Eligibility::Paused));
		let answer = serde_json::to_value(&paused).unwrap();
		assert_eq!(answer["eligibility"], json!({ "state": "paused" }));
		assert_eq!(answer["state"], "open");
		assert_eq!(paused.next(), Cell::new("the owner paused these backups", Some(Mood::Careful)));
		let bare = machine(None);
		assert!(serde_json::to_value(&bare).unwrap()["eligibility"].is_null());
		assert_eq!(bare.next(), Cell::new("no backup", Some(Mood::Bad)));
	}
}
