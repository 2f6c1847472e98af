//! `backup watch`: what happens to backups, block by block, until it is told to end.

use crate::{
	args::{Global, Machine},
	chain::{Chain, follow::Follower, machines, submit::Event},
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
	let mut follower = Follower::new(chain, global);
	let mut told = None;
	loop {
		match tell_since(follower.chain(), told, request, output).await {
			Ok(newest) => {
				told = told.max(Some(newest));
				follower.wait().await;
			}
			Err(error) => follower.recover(error).await?,
		}
	}
}

/// Tell of the blocks behind one that was told of; of the newest alone, if none was. Gives the newest.
async fn tell_since(
	chain: &Chain,
	told: Option<u64>,
	request: Option<u64>,
	output: Output,
) -> Result<u64, CliError> {
	let newest = chain.best().await?.block_number();
	let first = told.map_or(newest, |told| told + 1);
	let from = first.max(newest.saturating_sub(BLOCKS_BEHIND_MAX));
	if from > first {
		output.note(format_args!("blocks {first} to {} are left out", from - 1));
	}
	let mut lines = Vec::new();
	for block in from..=newest {
		let events = chain.events("Backup", block).await?;
		let meant = events.into_iter().filter(|event| is_about(event, request));
		lines.extend(meant.map(|event| Line { block, event }));
	}
	// All of them or none: what is told once is not told again.
	lines.into_iter().try_for_each(|line| tell(line, output))?;
	Ok(newest)
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
