//! `backup request-restore` and `backup close-restore`: restores that a node carries out.

use crate::{
	args::{Global, Machine, Restorable, When},
	chain::{
		Chain, reads,
		records::{Restore, RestoreState},
		submit::Included,
	},
	commands::session::Session,
	error::CliError,
	output::Output,
	progress::Bar,
};
use serde_json::json;
use std::time::Duration;
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

/// Ask, and with a `timeout` in seconds wait for the node's report.
pub(crate) async fn run(
	what: &Restorable,
	sequence: Option<u64>,
	timeout: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let included = match what {
		Restorable::Root(cid) => {
			let arguments = (cid.as_bytes().to_vec(),);
			session.submit("Backup", "restore_from_snapshot", arguments).await?
		}
		Restorable::Machine(machine) => ask(&session, machine, sequence).await?,
	};
	let event: SnapshotRestoreRequested = included.event("Backup", "SnapshotRestoreRequested")?;
	let restore = event.restore_id;
	let ended = match timeout {
		None => None,
		Some(seconds) => {
			output.note(format_args!("restore {restore} was asked for; waiting for the node"));
			let _bar = Bar::waiting(output, "the node");
			Some(wait(&session.chain, restore, seconds).await?)
		}
	};
	let recorded = reads::restore(&session.chain.best().await?, restore).await?;
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
	sequence: Option<u64>,
) -> Result<Included, CliError> {
	let request = session.request(machine).await?;
	let sequence = match sequence {
		Some(sequence) => sequence,
		None => {
			let at = session.chain.best().await?;
			let when = When::Block(at.block_number());
			let newest = reads::snapshot_as_of(&at, request, at.block_number()).await?;
			newest.ok_or(CliError::NoSnapshot { request, when })?
		}
	};
	let none = || Value::unnamed_variant("None", []);
	let options = Value::named_composite([
		("mode", Value::unnamed_variant("Aside", [])),
		("target", none()),
		("envelope", none()),
	]);
	let arguments = vec![Value::u128(request.into()), Value::u128(sequence.into()), options];
	session.submit("Backup", "restore_snapshot", arguments).await
}

/// Wait for the block in which the node reported success.
async fn wait(chain: &Chain, restore: u64, seconds: u64) -> Result<u64, CliError> {
	let late = |_| CliError::Late { what: format!("restore {restore}"), seconds };
	tokio::time::timeout(Duration::from_secs(seconds), outcome(chain, restore))
		.await
		.map_err(late)?
}

/// Look at every block until the restore has ended.
async fn outcome(chain: &Chain, restore: u64) -> Result<u64, CliError> {
	let mut blocks = chain.client.stream_best_blocks().await.map_err(subxt::Error::from)?;
	loop {
		let at = match chain.wait_for_finality {
			true => chain.finalized().await?,
			false => chain.best().await?,
		};
		match reads::restore(&at, restore).await? {
			Some(record) => {
				if let Some(at) = ended(record)? {
					return Ok(at);
				}
			}
			// Not final yet, if that is what is looked at.
			None if chain.wait_for_finality => (),
			None => return Err(CliError::RestoreGone { restore }),
		}
		match blocks.next().await {
			Some(block) => drop(block.map_err(subxt::Error::from)?),
			// A node may end a subscription and live on. One that is gone refuses the next.
			None => {
				blocks = chain.client.stream_best_blocks().await.map_err(subxt::Error::from)?;
			}
		}
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
