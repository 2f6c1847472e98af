//! `backup cost`: what the backups of an account take, and what is deposited for them.

use crate::{
	args::Global,
	chain::{Chain, reads},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
	secret::account,
	words,
};
use serde_json::json;

pub(crate) async fn run(
	owner: Option<&str>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let owner = account(owner, global).await?;
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let bytes = reads::bytes_of(&at, &owner).await?;
	let deposits = reads::deposits_of(&at, &owner).await?;
	let paid_until = reads::paid_until(&at, &owner).await?;
	let answer = json!({
		"block": at.block_number(),
		"account": owner.to_string(),
		"snapshots": bytes.snapshots,
		"stored_bytes": bytes.stored_bytes,
		"logical_bytes": bytes.logical_bytes,
		"paid_until": paid_until,
		"deposits": deposits,
	});
	drop(bar);
	output.answer(&answer, || {
		let mut table = Table::new(&["what", "how much"]);
		table.row(["snapshots".to_owned(), bytes.snapshots.to_string()]);
		table.row(["sealed bytes".to_owned(), words::bytes(bytes.stored_bytes)]);
		table.row(["disks".to_owned(), words::bytes(bytes.logical_bytes)]);
		let paid = paid_until.map_or_else(|| "never".into(), |block| format!("block {block}"));
		table.row(["paid until".to_owned(), paid]);
		for deposit in &deposits {
			table.row([format!("deposit: {}", deposit.reason.kebab()), deposit.amount.clone()]);
		}
		table.render()
	})
}
