//! What an owner decides about a backup and its snapshots: taking one now, holding, approving, taking
//! back a deletion.

use crate::{
	args::{Global, Machine},
	commands::session::Session,
	error::CliError,
	output::Output,
};
use subxt::dynamic::Value;

/// A snapshot, by its machine and its place in the history.
#[derive(Clone, Debug)]
pub(crate) struct Place {
	pub(crate) machine: Machine,
	pub(crate) sequence: u64,
}

/// Ask for a snapshot before it is due.
pub(crate) async fn snapshot_now(
	machine: Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let done = format!("a snapshot of {machine} was asked for; see 'backup snapshots'");
	decide(&machine, "request_snapshot", &done, global, output).await
}

pub(crate) async fn hold(place: Place, global: &Global, output: Output) -> Result<(), CliError> {
	let Place { machine, sequence } = &place;
	let done = format!("snapshot {sequence} of {machine} stays until it is released");
	decide_on(&place, "hold_snapshot", &done, global, output).await
}

pub(crate) async fn release(place: Place, global: &Global, output: Output) -> Result<(), CliError> {
	let Place { machine, sequence } = &place;
	let done = format!("snapshot {sequence} of {machine} goes when its time comes");
	decide_on(&place, "release_snapshot", &done, global, output).await
}

/// Accept the backup that a node proposed.
pub(crate) async fn approve(
	machine: Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let done = format!("backups of {machine} begin");
	decide(&machine, "approve_backup", &done, global, output).await
}

/// Turn down the backup that a node proposed.
pub(crate) async fn reject(
	machine: Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let done = format!("there will be no backups of {machine}");
	decide(&machine, "reject_backup", &done, global, output).await
}

/// A call about a machine alone.
async fn decide(
	machine: &Machine,
	call: &str,
	done: &str,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let request = session.request(machine).await?;
	session.carry_out(output, call, (request,), done).await
}

/// A call about one snapshot.
async fn decide_on(
	place: &Place,
	call: &str,
	done: &str,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let request = session.request(&place.machine).await?;
	session.snapshot(request, place.sequence).await?;
	session.carry_out(output, call, (request, place.sequence), done).await
}

/// Take back a deletion that was not carried out yet: of a snapshot, of a machine's backup, or
/// without a machine of everything.
pub(crate) async fn keep(
	machine: Option<Machine>,
	sequence: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let target = match machine {
		None => deletion_target(None, None, Some(session.account().0)),
		Some(machine) => {
			let request = session.request(&machine).await?;
			if let Some(sequence) = sequence {
				session.snapshot(request, sequence).await?;
			}
			deletion_target(Some(request), sequence, None)
		}
	};
	let done = "the deletion is taken back";
	session.carry_out(output, "cancel_deletion", vec![target], done).await
}

/// What a deletion is of: a snapshot, a request's backup, or all of an account.
pub(super) fn deletion_target(
	request: Option<u64>,
	sequence: Option<u64>,
	account: Option<[u8; 32]>,
) -> Value {
	let number = |number: u64| Value::u128(number.into());
	match (request, sequence) {
		(Some(request), Some(place)) => {
			Value::unnamed_variant("Snapshot", [number(request), number(place)])
		}
		(Some(request), None) => Value::unnamed_variant("Request", [number(request)]),
		(None, _) => {
			Value::unnamed_variant("Account", [Value::from_bytes(account.unwrap_or_default())])
		}
	}
}
