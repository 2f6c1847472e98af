//! What an owner decides about a backup and its snapshots: taking one now, holding, deleting,
//! approving.

use crate::{
	args::Global,
	chain::signer,
	commands::{confirm::confirm, submit_and_answer},
	error::CliError,
	output::Output,
};
use subxt::dynamic::Value;

/// A snapshot, by its request and its place in the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
	pub(crate) request: u64,
	pub(crate) sequence: u64,
}

/// Ask for a snapshot before it is due.
pub(crate) async fn snapshot_now(
	request: u64,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let done = format!("a snapshot of request {request} was asked for; see 'backup snapshots'");
	submit_and_answer(global, output, "Backup", "request_snapshot", (request,), &done).await
}

pub(crate) async fn hold(place: Place, global: &Global, output: Output) -> Result<(), CliError> {
	let Place { request, sequence } = place;
	let done = format!("snapshot {sequence} of request {request} stays until it is released");
	let arguments = (request, sequence);
	submit_and_answer(global, output, "Backup", "hold_snapshot", arguments, &done).await
}

pub(crate) async fn release(place: Place, global: &Global, output: Output) -> Result<(), CliError> {
	let Place { request, sequence } = place;
	let done = format!("snapshot {sequence} of request {request} goes when its time comes");
	let arguments = (request, sequence);
	submit_and_answer(global, output, "Backup", "release_snapshot", arguments, &done).await
}

/// Delete one snapshot of a request, or all of its backup.
pub(crate) async fn delete(
	request: u64,
	sequence: Option<u64>,
	yes: bool,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	// Whoever cannot sign is told before being asked.
	signer(global)?;
	let what = match sequence {
		Some(sequence) => format!("Snapshot {sequence} of request {request}"),
		None => format!("The backup of request {request}, with all its snapshots,"),
	};
	if !yes {
		confirm(output, &format!("{what} will be deleted, blocks and records, on every node."))?;
	}
	let done =
		format!("the deletion was asked for; until it is carried out, {}", undo(request, sequence));
	match sequence {
		Some(sequence) => {
			let arguments = (request, sequence);
			submit_and_answer(global, output, "Backup", "delete_snapshot", arguments, &done).await
		}
		None => {
			submit_and_answer(global, output, "Backup", "delete_backup", (request,), &done).await
		}
	}
}

fn undo(request: u64, sequence: Option<u64>) -> String {
	let sequence = sequence.map(|sequence| format!(" {sequence}")).unwrap_or_default();
	format!("'backup keep {request}{sequence}' takes it back")
}

/// Take back a deletion that was not carried out yet.
pub(crate) async fn keep(
	request: u64,
	sequence: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let number = |number: u64| Value::u128(number.into());
	let target = match sequence {
		Some(sequence) => Value::unnamed_variant("Snapshot", [number(request), number(sequence)]),
		None => Value::unnamed_variant("Request", [number(request)]),
	};
	let done = "the deletion is taken back";
	submit_and_answer(global, output, "Backup", "cancel_deletion", vec![target], done).await
}

/// Accept the backup that a node proposed.
pub(crate) async fn approve(request: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let done = format!("backups of request {request} begin");
	submit_and_answer(global, output, "Backup", "approve_backup", (request,), &done).await
}

/// Turn down the backup that a node proposed.
pub(crate) async fn reject(request: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let done = format!("there will be no backups of request {request}");
	submit_and_answer(global, output, "Backup", "reject_backup", (request,), &done).await
}
