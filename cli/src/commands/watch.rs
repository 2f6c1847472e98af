//! `backup watch`: what happens to backups, block by block, until it is told to end.

use crate::{
	args::Global,
	chain::{Chain, submit::Event},
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

/// Follow the chain. `request` leaves out what is about other requests.
pub(crate) async fn run(
	request: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let chain = Chain::connect(global).await?;
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

fn is_about(event: &Event, request: Option<u64>) -> bool {
	request.is_none_or(|request| event.fields["request_id"] == request)
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
		assert!(is_about(&event(json!({})), None));
	}
}
