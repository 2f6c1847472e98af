//! `backup watch`: what happens to backups, block by block, until it is told to end.
//!
//! However long the connection was away, no block between is left out, unless the node has forgotten its
//! state: then the blocks that are skipped are told of, to programs too.

use crate::{
	args::{Global, Machine},
	chain::{Chain, follow::Follower, machines, reads::AT_ONCE, submit::Event},
	error::CliError,
	interrupt::Interrupt,
	output::Output,
	progress::Bar,
	words,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use std::ops::ControlFlow;

/// Blocks that are looked at before what they say is told. A gap of any length is told in such steps.
const BLOCKS_AT_ONCE: u64 = 100;

/// What is told, a line each.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
	/// An event, and where it stands.
	Event {
		block: u64,
		#[serde(flatten)]
		event: Event,
	},
	/// Blocks of which nobody can tell any more what happened in them.
	Skipped { skipped: Blocks },
}

/// Blocks from one to another, both of them too.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Blocks {
	from: u64,
	to: u64,
}

/// Follow the chain. `machine` leaves out what is about other machines.
pub(crate) async fn run(
	machine: Option<&Machine>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let mut interrupt = Interrupt::listen()?;
	let begun = tokio::select! {
		begun = begin(machine, global, output) => begun?,
		() = interrupt.told() => return Err(CliError::Interrupted),
	};
	tokio::select! {
		ended = follow(begun, output) => ended,
		// It goes on until then, so this is its good end.
		() = interrupt.told() => Ok(()),
	}
}

/// What is followed, and from which block on.
struct Begun<'a> {
	follower: Follower<'a>,
	request: Option<u64>,
	next: u64,
}

async fn begin<'a>(
	machine: Option<&Machine>,
	global: &'a Global,
	output: Output,
) -> Result<Begun<'a>, CliError> {
	let _bar = Bar::waiting(output, "the chain");
	let chain = Chain::connect(global).await?;
	let at = chain.best().await?;
	let request = match machine {
		Some(machine) => Some(machines::find(&at, machine, global).await?),
		None => None,
	};
	Ok(Begun { follower: Follower::new(chain, global), request, next: at.block_number() })
}

async fn follow(begun: Begun<'_>, output: Output) -> Result<(), CliError> {
	let Begun { mut follower, request, mut next } = begun;
	loop {
		match tell_from(next, follower.chain(), request, output).await {
			// Whoever reads has enough.
			Ok(ControlFlow::Break(())) => return Ok(()),
			// There may be more by now.
			Ok(ControlFlow::Continue(further)) if further > next => next = further,
			Ok(ControlFlow::Continue(_)) => follower.wait().await,
			Err(error) => follower.recover(error).await?,
		}
	}
}

/// Tell of some blocks from one on. Gives the block to go on with, which is the same if there is no new one.
async fn tell_from(
	next: u64,
	chain: &Chain,
	request: Option<u64>,
	output: Output,
) -> Result<ControlFlow<(), u64>, CliError> {
	let newest = chain.best().await?.block_number();
	let events_of = |block| chain.events("Backup", block);
	let (lines, next) = lines_from(next, newest, events_of).await?;
	let is_meant = |line: &Line| match line {
		Line::Event { event, .. } => is_about(event, request),
		Line::Skipped { .. } => true,
	};
	// All of them or none: what is told once is not told again.
	for line in lines.iter().filter(|line| is_meant(line)) {
		if tell(line, output)?.is_break() {
			return Ok(ControlFlow::Break(()));
		}
	}
	Ok(ControlFlow::Continue(next))
}

/// What there is to tell of the next blocks, and the block behind them. `events_of` answers nothing of a block
/// that was forgotten, which all before it were then, too.
async fn lines_from<Answer>(
	next: u64,
	newest: u64,
	events_of: impl Fn(u64) -> Answer,
) -> Result<(Vec<Line>, u64), CliError>
where
	Answer: Future<Output = Result<Option<Vec<Event>>, CliError>>,
{
	let end = next.saturating_add(BLOCKS_AT_ONCE).min(newest.saturating_add(1));
	let answers = stream::iter(next..end).map(&events_of).buffered(AT_ONCE);
	let answers: Vec<Option<Vec<Event>>> = answers.try_collect().await?;
	if answers.iter().any(Option::is_none) {
		let known = first_known(next, newest.saturating_add(1), events_of).await?;
		let skipped = Blocks { from: next, to: known - 1 };
		return Ok((vec![Line::Skipped { skipped }], known));
	}
	let of_block = |(block, events): (u64, Option<Vec<Event>>)| {
		let events = events.unwrap_or_default().into_iter();
		events.map(move |event| Line::Event { block, event })
	};
	let lines = (next..end).zip(answers).flat_map(of_block).collect();
	Ok((lines, end.max(next)))
}

/// The first block after a forgotten one that the node remembers; `end` if there is none before that.
async fn first_known<Answer>(
	forgotten: u64,
	end: u64,
	events_of: impl Fn(u64) -> Answer,
) -> Result<u64, CliError>
where
	Answer: Future<Output = Result<Option<Vec<Event>>, CliError>>,
{
	let (mut low, mut high) = (forgotten + 1, end);
	while low < high {
		let middle = low + (high - low) / 2;
		match events_of(middle).await? {
			Some(_) => high = middle,
			None => low = middle + 1,
		}
	}
	Ok(low)
}

/// A deletion that was taken back names its request, if it was of one, in what was to go.
fn is_about(event: &Event, request: Option<u64>) -> bool {
	let Event { fields, .. } = event;
	let named =
		[&fields["request_id"], &fields["target"]["Request"][0], &fields["target"]["Snapshot"][0]];
	request.is_none_or(|request| named.into_iter().any(|named| *named == request))
}

fn tell(line: &Line, output: Output) -> Result<ControlFlow<()>, CliError> {
	output.line(line, || match line {
		Line::Event { block, event } => {
			let fields = words::escape(event.fields.to_string().as_bytes());
			format!("{block} {} {fields}", event.event)
		}
		Line::Skipped { skipped: Blocks { from, to } } => {
			format!(
				"blocks {from} to {to} are skipped: the node has forgotten what happened in them"
			)
		}
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

	/// The blocks that are told of from block 1 on, of a node that remembers those from `oldest` on, and
	/// those that are skipped.
	async fn told(newest: u64, oldest: u64) -> (Vec<u64>, Vec<Blocks>) {
		let events_of = async |block| {
			let event = Event { pallet: "Backup".into(), event: "Any".into(), fields: json!({}) };
			Ok((block >= oldest).then(|| vec![event]))
		};
		let (mut blocks, mut gaps, mut next) = (Vec::new(), Vec::new(), 1);
		loop {
			let (lines, further) = lines_from(next, newest, events_of).await.unwrap();
			assert!(lines.len() as u64 <= BLOCKS_AT_ONCE, "{} lines at once", lines.len());
			for line in lines {
				match line {
					Line::Event { block, .. } => blocks.push(block),
					Line::Skipped { skipped } => gaps.push(skipped),
				}
			}
			if further == next {
				return (blocks, gaps);
			}
			next = further;
		}
	}

	#[tokio::test]
	async fn a_gap_of_any_length_is_told_whole() {
		for newest in [0, 1, 99, 100, 101, 1_234] {
			assert_eq!(told(newest, 0).await, ((1..=newest).collect(), vec![]), "{newest}");
		}
	}

	#[tokio::test]
	async fn what_the_node_has_forgotten_is_told_to_be_skipped() {
		for oldest in [2, 50, 101, 500, 1_000] {
			let skipped = vec![Blocks { from: 1, to: oldest - 1 }];
			assert_eq!(told(1_000, oldest).await, ((oldest..=1_000).collect(), skipped));
		}
		let all = vec![Blocks { from: 1, to: 1_000 }];
		assert_eq!(told(1_000, u64::MAX).await, (vec![], all));
	}

	#[test]
	fn a_program_is_told_which_blocks_are_skipped() {
		let line = Line::Skipped { skipped: Blocks { from: 3, to: 900 } };
		let line = serde_json::to_value(line).unwrap();
		assert_eq!(line, json!({ "skipped": { "from": 3, "to": 900 } }));
	}
}
