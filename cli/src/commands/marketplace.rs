//! `backup subscribe`, `backup unsubscribe` and `backup delete-all`.

use crate::{args::Global, commands::session::Session, error::CliError, output::Output};
use serde_json::json;
use subxt::ext::scale_decode::{self, DecodeAsType};

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct Subscribed {
	paid_until: u64,
	paid: u128,
}

pub(crate) async fn subscribe(
	periods: u32,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let included =
		Session::begin(global).await?.submit("Marketplace", "subscribe", (periods,)).await?;
	let event: Subscribed = included.event("Marketplace", "Subscribed")?;
	let value = json!({
		"paid_until": event.paid_until,
		// Beyond what JSON numbers can carry everywhere.
		"paid": event.paid.to_string(),
		"transaction": included.report,
	});
	output.answer(&value, || {
		format!("backups are paid for until block {}, price {}", event.paid_until, event.paid)
	})
}

pub(crate) async fn unsubscribe(
	yes: bool,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let will = "Backups of this account end now. What was paid for later blocks is not paid back.";
	let session = Session::begin_after_asking(global, yes, will, "unsubscribe").await?;
	let report = session.submit("Marketplace", "unsubscribe", ()).await?.report;
	output.answer(&report, || {
		format!("backups are disabled; what is stored stays (block {})", report.block)
	})
}

pub(crate) async fn delete_all(yes: bool, global: &Global, output: Output) -> Result<(), CliError> {
	let will = "All backups of this account will be deleted, blocks and records, on every node.";
	let session = Session::begin_after_asking(global, yes, will, "delete").await?;
	let report = session.submit("Marketplace", "request_deletion", ()).await?.report;
	output.answer(&report, || {
		format!(
			"the deletion of all backups was asked for; until it is carried out, 'backup keep --all' \
			 takes it back (block {})",
			report.block
		)
	})
}
