//! `backup envelope`: the read key of one snapshot, sealed to others.

use crate::{
	args::{Envelope, Global},
	commands::{
		blocks::{Place, work},
		key::{Identities, write_new},
		locate::{Located, locate},
		restore::{explain, unlock},
	},
	error::CliError,
	output::Output,
	progress::Bar,
};
use backup_agent::{
	format::{RootError, envelope::seal_read_key},
	pipeline::Cancel,
};
use backup_primitives::Cid;
use serde::Serialize;

/// What is told of a written envelope.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	recipients: Vec<String>,
	output: String,
}

pub(super) async fn run(
	arguments: Envelope,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let Envelope { which, from, identity, .. } = &arguments;
	let located = locate(which, from, Identities::of(Some(identity)), global, output).await?;
	let bar = Bar::waiting(output, "the snapshot");
	let answer = work(move |cancel| write(&located, &arguments, cancel)).await?;
	drop(bar);
	output.answer(&answer, || {
		let recipients = answer.recipients.join(", ");
		format!("{} lets {recipients} open {}", answer.output, answer.root)
	})
}

fn write(located: &Located, arguments: &Envelope, cancel: &Cancel) -> Result<Answer, CliError> {
	let root = located.root;
	let place = Place::open(located, &arguments.from, cancel)?;
	let (block, key) = unlock(&*place.source, root, &located.identities, None)?;
	let failed = |error: RootError| explain(root, &error.into());
	// A key that opens nothing is not handed on.
	block.open_with_read_key(&key).map_err(failed)?;
	let sealed = seal_read_key(&key, &arguments.to).map_err(|error| failed(error.into()))?;
	if cancel.is_cancelled() {
		return Err(CliError::Interrupted);
	}
	write_new(&arguments.output, &sealed)?;
	Ok(Answer {
		root,
		recipients: arguments.to.iter().map(ToString::to_string).collect(),
		output: arguments.output.display().to_string(),
	})
}
