//! `backup request-restore` and `backup close-restore`: restores that a node carries out.

use crate::{
	args::Global,
	chain::{
		Chain, reads,
		records::{Restore, RestoreState},
		signer,
	},
	commands::submit_and_answer,
	error::CliError,
	output::Output,
};
use backup_primitives::Cid;
use serde_json::json;
use std::time::Duration;
use subxt::ext::scale_decode::{self, DecodeAsType};

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct SnapshotRestoreRequested {
	restore_id: u64,
	request_id: u64,
}

/// Ask, and with a `timeout` in seconds wait for the node's report.
pub(crate) async fn run(
	cid: Cid,
	timeout: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let signer = signer(global)?;
	let chain = Chain::connect(global).await?;
	let arguments = (cid.as_bytes().to_vec(),);
	let included = chain.submit(&signer, "Backup", "restore_from_snapshot", arguments).await?;
	let event: SnapshotRestoreRequested = included.event("Backup", "SnapshotRestoreRequested")?;
	let restore = event.restore_id;
	let ended = match timeout {
		None => None,
		Some(seconds) => {
			output.note(format_args!("restore {restore} was asked for; waiting for the node"));
			Some(wait(&chain, restore, seconds).await?)
		}
	};
	let value = json!({
		"restore": restore,
		"request": event.request_id,
		"cid": cid.to_string(),
		"state": ended.as_ref().map_or("requested", |_| "fulfilled"),
		"transaction": included.report,
	});
	output.answer(&value, || match ended {
		Some(at) => format!("restore {restore} is complete, the node reported at block {at}"),
		None => format!("restore {restore} was asked for; see 'backup status'"),
	})
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
	submit_and_answer(global, output, "Backup", "close_restore", (restore,), &done).await
}
