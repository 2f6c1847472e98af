//! Who else may restore a machine: `backup grant`, `backup revoke`, `backup grants`.

use crate::{
	args::Global,
	chain::{Chain, parse_account, reads},
	commands::submit_and_answer,
	error::CliError,
	output::{Output, Table},
};
use serde_json::json;

/// Let an account restore the machine of a request, until a block if one is given.
pub(crate) async fn grant(
	request: u64,
	to: &str,
	until: Option<u64>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let account = parse_account(to)?;
	let until_words = until.map(|block| format!(" until block {block}")).unwrap_or_default();
	let done = format!("{account} may restore request {request}{until_words}");
	let arguments = (request, account.0, until);
	submit_and_answer(global, output, "Backup", "grant_access", arguments, &done).await
}

/// Take that back.
pub(crate) async fn revoke(
	request: u64,
	from: &str,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let account = parse_account(from)?;
	let done = format!("{account} may not restore request {request} any more");
	let arguments = (request, account.0);
	submit_and_answer(global, output, "Backup", "revoke_access", arguments, &done).await
}

/// List who may.
pub(crate) async fn list(request: u64, global: &Global, output: Output) -> Result<(), CliError> {
	let at = Chain::connect(global).await?.best().await?;
	let grants = reads::grants(&at, request).await?;
	let answer = json!({ "block": at.block_number(), "request": request, "grants": grants });
	output.answer(&answer, || {
		if grants.is_empty() {
			return format!("nobody but the owner may restore request {request}");
		}
		let mut table = Table::new(&["account", "since", "until"]);
		for grant in &grants {
			let until = grant.expires_at.map_or_else(|| "-".into(), |block| block.to_string());
			table.row([grant.account.clone(), grant.granted_at.to_string(), until]);
		}
		table.render()
	})
}
