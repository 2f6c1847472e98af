//! Who else may restore a machine: `backup grant`, `backup revoke`, `backup grants`.

use crate::{
	args::{Global, Machine},
	chain::reads,
	commands::{listing::of_machine, session::Session},
	error::CliError,
	output::{Output, Table},
	secret::parse_account,
};
use backup_primitives::Recipient;

/// Let an account restore a machine, until a block if one is given, and fetch its sealed blocks with
/// a key if one is given.
pub(crate) async fn grant(
	machine: &Machine,
	to: &str,
	(until, key): (Option<u64>, Option<Recipient>),
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let account = parse_account(to)?;
	let until_words = until.map(|block| format!(" until block {block}")).unwrap_or_default();
	let done = format!("{account} may restore {machine}{until_words}");
	let session = Session::begin(global).await?;
	let request = session.request(machine).await?;
	session
		.carry_out(output, "grant_access", (request, account.0, until, key.map(|key| key.0)), &done)
		.await
}

/// Take that back.
pub(crate) async fn revoke(
	machine: &Machine,
	from: &str,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let account = parse_account(from)?;
	let done = format!("{account} may not restore {machine} any more");
	let session = Session::begin(global).await?;
	let request = session.request(machine).await?;
	session.carry_out(output, "revoke_access", (request, account.0), &done).await
}

/// List who may.
pub(crate) async fn list(
	machine: &Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	of_machine(machine, global, output, "grants", reads::grants, |request, grants| {
		if grants.is_empty() {
			return format!("nobody but the owner may restore request {request}");
		}
		let mut table = Table::new(&["account", "since", "until", "key"]);
		for grant in grants {
			let until = grant.expires_at.map_or_else(|| "-".into(), |block| block.to_string());
			let key = grant.recipient.clone().unwrap_or_else(|| "-".into());
			table.row([grant.account.clone(), grant.granted_at.to_string(), until, key]);
		}
		table.render()
	})
	.await
}
