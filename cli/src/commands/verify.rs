//! `backup verify`: whether a place has all of a snapshot, and whether it is undamaged.

use crate::{
	args::{Global, Verify},
	commands::{
		blocks::{Place, work},
		key::Identities,
		locate::{Located, locate},
	},
	error::{CliError, exit},
	output::{Mood, Output},
	progress::Bar,
	words,
};
use backup_agent::{
	pipeline::Cancel,
	repositories::{Chunks, VerifyReport, verify},
};
use backup_primitives::Cid;
use serde::Serialize;

/// Most damaged or missing blocks that are named in text.
const NAMED_MAX: usize = 10;

/// What was found.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	depth: &'static str,
	good_blocks: u64,
	read_bytes: u64,
	bad_blocks: u64,
	missing: Vec<Cid>,
	corrupt: Vec<Cid>,
}

pub(super) async fn run(
	arguments: Verify,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let Verify { which, from, identity, .. } = &arguments;
	let identities = Identities::of(identity.as_deref());
	let located = locate(which, from, identities, global, output).await?;
	let root = located.root;
	let answer = work(move |cancel| walk(&located, &arguments, output, cancel)).await?;
	output.answer(&answer, || text(&answer))?;
	match answer.bad_blocks {
		0 => Ok(()),
		bad => Err(CliError::Snapshot {
			root,
			verb: "verified",
			reason: words::count(bad, "block") + " missing or damaged",
			exit: exit::BLOCKS,
			hint: "restore from another copy, or an older snapshot",
		}),
	}
}

fn walk(
	located: &Located,
	arguments: &Verify,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let (root, Verify { from, read, .. }) = (located.root, arguments);
	let place = Place::open(located, from, cancel)?;
	let (chunks, depth) = match read {
		true => (Chunks::Hashed, "read"),
		false => (Chunks::Asked, "there"),
	};
	let bar = Bar::walk(output);
	let mut proceed = |report: &VerifyReport| {
		bar.set_walked(report.walked, report.good_bytes);
		!cancel.is_cancelled()
	};
	let report = verify(&*place.source, &root, chunks, &mut proceed).map_err(|error| {
		let (reason, hint) =
			(error.to_string(), "check that the place with the blocks can be read");
		CliError::Snapshot { root, verb: "verified", reason, exit: exit::UNREACHABLE, hint }
	})?;
	bar.finish();
	if cancel.is_cancelled() {
		return Err(CliError::Interrupted);
	}
	Ok(Answer {
		root,
		depth,
		good_blocks: report.good_blocks,
		read_bytes: report.good_bytes,
		bad_blocks: report.bad_blocks,
		missing: report.missing,
		corrupt: report.corrupt,
	})
}

fn text(answer: &Answer) -> String {
	let read = words::bytes(answer.read_bytes);
	let how = match answer.depth {
		"read" => format!("undamaged, {read} read"),
		_ => "there".to_owned(),
	};
	let mut lines =
		vec![format!("{} of {} {how}", words::count(answer.good_blocks, "block"), answer.root)];
	for (word, list) in [("missing", &answer.missing), ("damaged", &answer.corrupt)] {
		lines.extend(
			list.iter().take(NAMED_MAX).map(|cid| Mood::Bad.paint_head(&format!("{word}: {cid}"))),
		);
	}
	lines.join("\n")
}
