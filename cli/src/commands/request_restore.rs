//! `backup request-restore` and `backup close-restore`: restores that a node carries out.

use crate::{
	args::{Global, Machine, Restorable, When},
	chain::{
		Chain,
		follow::Follower,
		reads,
		records::{RequestState, Restore, RestoreState, Snapshot},
		submit::Included,
	},
	commands::{
		confirm::{confirm, ensure_person},
		history::find,
		restore::read_envelope,
		session::Session,
	},
	error::CliError,
	output::Output,
	progress::Bar,
	secret,
};
use serde_json::json;
use std::{path::PathBuf, time::Duration};
use subxt::{
	dynamic::Value,
	ext::scale_decode::{self, DecodeAsType},
};

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct SnapshotRestoreRequested {
	restore_id: u64,
	request_id: u64,
}

/// What is to be restored, and how.
#[derive(Debug)]
pub(crate) struct Wanted {
	pub(crate) what: Restorable,
	pub(crate) sequence: Option<u64>,
	pub(crate) at: Option<When>,
	pub(crate) replace: bool,
	pub(crate) onto: Option<Machine>,
	pub(crate) envelope: Option<PathBuf>,
	pub(crate) yes: bool,
}

impl Wanted {
	/// Whether nothing is said but what it is.
	fn is_plain(&self) -> bool {
		let Self { what: _, sequence, at, replace, onto, envelope, yes: _ } = self;
		sequence.is_none() && at.is_none() && !replace && onto.is_none() && envelope.is_none()
	}

	/// Whether somebody is asked before it is done.
	fn asks(&self) -> bool {
		self.replace && !self.yes
	}
}

/// Ask, and with a `timeout` in seconds wait for the node's report.
pub(crate) async fn run(
	wanted: &Wanted,
	timeout: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	if matches!(wanted.what, Restorable::Root(_)) && !wanted.is_plain() {
		return Err(CliError::RootAlone);
	}
	// Whoever cannot sign is told before being asked, and who cannot be asked before a node is.
	let signer = secret::signer(global).await?;
	if wanted.asks() {
		ensure_person()?;
	}
	let session = Session::of(signer, global).await?;
	let included = match &wanted.what {
		Restorable::Root(cid) => {
			let arguments = (cid.as_bytes().to_vec(),);
			session.submit("Backup", "restore_from_snapshot", arguments).await?
		}
		Restorable::Machine(machine) => ask(&session, machine, wanted, global).await?,
	};
	let event: SnapshotRestoreRequested = included.event("Backup", "SnapshotRestoreRequested")?;
	let restore = event.restore_id;
	let mut follower = Follower::new(session.chain.clone(), global);
	let ended = match timeout {
		None => None,
		Some(seconds) => {
			output.note(format_args!("restore {restore} was asked for; waiting for the node"));
			let _bar = Bar::waiting(output, "the node");
			let asked = (restore, included.report.block);
			Some(wait(&mut follower, asked, seconds).await?)
		}
	};
	let recorded = reads::restore(&follower.chain().best().await?, restore).await?;
	let value = json!({
		"restore": restore,
		"request": event.request_id,
		"cid": recorded.map(|restore| restore.cid),
		"state": ended.as_ref().map_or("requested", |_| "fulfilled"),
		"transaction": included.report,
	});
	output.answer(&value, || match ended {
		Some(at) => format!("restore {restore} is complete, the node reported at block {at}"),
		None => format!("restore {restore} was asked for; see 'backup status'"),
	})
}

/// Ask for a snapshot by its place, as whom the owner has let in has to.
async fn ask(
	session: &Session,
	machine: &Machine,
	wanted: &Wanted,
	global: &Global,
) -> Result<Included, CliError> {
	let request = session.request(machine).await?;
	let snapshot = match wanted.sequence {
		Some(sequence) => session.snapshot(request, sequence).await?,
		None => {
			let _bar = Bar::waiting(session.chain.output, "the chain");
			find(&Machine::Request(request), wanted.at, global).await?.snapshot
		}
	};
	let target = match &wanted.onto {
		Some(machine) => Some(session.request(machine).await?),
		None => None,
	};
	let envelope = wanted.envelope.as_deref().map(read_envelope).transpose()?;
	if wanted.asks() {
		let will = replacement(session, (request, &snapshot), target.unwrap_or(request)).await?;
		confirm(&will, "replace").await?;
	}
	let option = |value: Option<Value>| match value {
		Some(value) => Value::unnamed_variant("Some", [value]),
		None => Value::unnamed_variant("None", []),
	};
	let mode = if wanted.replace { "Replace" } else { "Aside" };
	let options = Value::named_composite([
		("mode", Value::unnamed_variant(mode, [])),
		("target", option(target.map(|request| Value::u128(request.into())))),
		("envelope", option(envelope.map(Value::from_bytes))),
	]);
	let sequence = Value::u128(snapshot.sequence.into());
	let arguments = vec![Value::u128(request.into()), sequence, options];
	session.submit("Backup", "restore_snapshot", arguments).await
}

/// What will happen to the disks of a request's machine, when they become those of a snapshot.
async fn replacement(
	session: &Session,
	(request, snapshot): (u64, &Snapshot),
	target: u64,
) -> Result<String, CliError> {
	let machine = reads::request(&session.chain.best().await?, target).await?.state.into();
	let facts = session.facts(snapshot).await?;
	Ok(replacement_words((target, &machine), (request, snapshot.sequence), &facts))
}

fn replacement_words(
	(target, machine): (u64, &RequestState),
	(request, sequence): (u64, u64),
	facts: &str,
) -> String {
	let machine = match machine {
		RequestState::Running { node, vm } => format!("{vm} (request {target}) on node {node}"),
		RequestState::Assigned { node } => format!("request {target} on node {node}"),
		RequestState::Open | RequestState::Ended => format!("request {target}"),
	};
	let whose = if request == target { String::new() } else { format!(" of request {request}") };
	format!(
		"All disks of {machine} will be replaced with those of snapshot {sequence}{whose}, {facts}. \
		 What was written to them since is lost."
	)
}

/// Wait for the block in which the node reported success. The restore was asked for at block `since`.
async fn wait(
	follower: &mut Follower<'_>,
	(restore, since): (u64, u64),
	seconds: u64,
) -> Result<u64, CliError> {
	let late = |_| CliError::Late { what: format!("restore {restore}"), seconds };
	tokio::time::timeout(Duration::from_secs(seconds), outcome(follower, restore, since))
		.await
		.map_err(late)?
}

/// Look at the chain whenever it has grown, until the restore has ended.
async fn outcome(follower: &mut Follower<'_>, restore: u64, since: u64) -> Result<u64, CliError> {
	loop {
		match look(follower.chain(), restore, since).await {
			Ok(Some(at)) => return Ok(at),
			Ok(None) => follower.wait().await,
			Err(error) => follower.recover(error).await?,
		}
	}
}

async fn look(chain: &Chain, restore: u64, since: u64) -> Result<Option<u64>, CliError> {
	let at = match chain.wait_for_finality {
		true => chain.finalized().await?,
		false => chain.best().await?,
	};
	match reads::restore(&at, restore).await? {
		Some(record) => ended(record),
		// A node that was started again, or what is final, may stand before that block.
		None if at.block_number() < since || chain.wait_for_finality => Ok(None),
		None => Err(CliError::RestoreGone { restore }),
	}
}

fn ended(record: Restore) -> Result<Option<u64>, CliError> {
	match record.state {
		RestoreState::Requested => Ok(None),
		RestoreState::Fulfilled { at } => Ok(Some(at)),
		RestoreState::Expired => Err(CliError::RestoreExpired { restore: record.restore }),
		RestoreState::Failed { reason, .. } => Err(CliError::RestoreFailed {
			reason: reason.known().unwrap_or(backup_primitives::FailureReason::Internal),
		}),
	}
}

pub(crate) async fn close(restore: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let done = format!("restore {restore} is closed");
	Session::begin(global).await?.carry_out(output, "close_restore", (restore,), &done).await
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::commands::session::facts;

	#[test]
	fn who_replaces_disks_is_told_which_and_what_comes_back() {
		let running = RequestState::Running { node: 3, vm: "web-1".into() };
		let snapshot = Snapshot::example(12, 3);
		let known = facts(&snapshot, Some(1_777_593_600_999));
		let words = replacement_words((7, &running), (7, 12), &known);
		assert_eq!(
			words,
			"All disks of web-1 (request 7) on node 3 will be replaced with those of snapshot 12, 1.0 KiB, \
			 taken at block 120, 2026-05-01 00:00:00 UTC. What was written to them since is lost."
		);
		let words = replacement_words((9, &RequestState::Open), (7, 12), &facts(&snapshot, None));
		assert_eq!(
			words,
			"All disks of request 9 will be replaced with those of snapshot 12 of request 7, 1.0 KiB, \
			 taken at block 120. What was written to them since is lost."
		);
	}
}
