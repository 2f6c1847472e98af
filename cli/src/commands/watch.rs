//! `backup watch`: what happens to backups, block by block, until it is told to end.

use crate::{
	args::{Global, Machine},
	chain::{Chain, machines, submit::Event},
	error::CliError,
	output::Output,
	words,
};
use serde::Serialize;

/// Most blocks that are looked at when the best block jumps.
const BLOCKS_BEHIND_MAX: u64 = 100;

/// An event, and where it stands.
#[derive(Debug, Serialize)]
struct Line {
	block: u64,
	#[serde(flatten)]
	event: Event,
}

/// Follow the chain. `machine` leaves out what is about other machines.
pub(crate) async fn run(
	machine: Option<&Machine>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let request = match machine {
		Some(machine) => Some(machines::find(&at, machine, global).await?),
		None => None,
	};
	let mut blocks = chain.client.stream_best_blocks().await.map_err(subxt::Error::from)?;
	let mut told = None;
	while let Some(block) = blocks.next().await {
		let newest = block.map_err(subxt::Error::from)?.number();
		let first = told.map_or(newest, |told: u64| told + 1);
		for number in first.max(newest.saturating_sub(BLOCKS_BEHIND_MAX))..=newest {
			for event in chain.events("Backup", number).await? {
				if is_about(&event, request) {
					tell(Line { block: number, event }, output)?;
				}
			}
		}
		told = told.max(Some(newest));
	}
	Err(CliError::NotAccepted { reason: "the node went away".into() })
}

/// A deletion that was taken back names its request, if it was of one, in what was to go.
fn is_about(event: &Event, request: Option<u64>) -> bool {
	let Event { fields, .. } = event;
	let named =
		[&fields["request_id"], &fields["target"]["Request"][0], &fields["target"]["Snapshot"][0]];
	request.is_none_or(|request| named.into_iter().any(|named| *named == request))
}

fn tell(line: Line, output: Output) -> Result<(), CliError> {
	output.line(&line, || {
		let fields = words::escape(line.event.fields.to_string().as_bytes());
		format!("{} {} {fields}", line.block, line.event.event)
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	#[test]
	fn events_of_other_requests_are_left_out() {
		let event =
			|fields| Event { pallet: "Backup".into(), event: "SnapshotAdded".into(), fields };
		assert!(is_about(&event(json!({ "request_id": 7 })), Some(7)));
		assert!(!is_about(&event(json!({ "request_id": 8 })), Some(7)));
		assert!(!is_about(&event(json!({})), Some(7)));
		for target in [json!({ "Request": [7] }), json!({ "Snapshot": [7, 3] })] {
			assert!(is_about(&event(json!({ "target": target })), Some(7)));
			assert!(!is_about(&event(json!({ "target": target })), Some(3)));
		}
		assert!(is_about(&event(json!({})), None));
	}
}
