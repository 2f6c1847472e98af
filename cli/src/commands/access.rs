//! Who else may restore a machine: `backup grant`, `backup revoke`, `backup grants`.

use crate::{
	args::{Global, Machine, When},
	chain::reads,
	commands::{listing::of_machine, session::Session},
	error::CliError,
	output::{Output, Table},
	secret::parse_account,
};
use backup_primitives::Recipient;

/// Let an account restore a machine, until a block or date if one is given, and fetch its sealed blocks with
/// a key if one is given.
pub(crate) async fn grant(
	machine: &Machine,
	to: &str,
	(until, key): (Option<When>, Option<Recipient>),
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let account = parse_account(to)?;
	let session = Session::begin(global).await?;
	let request = session.request(machine).await?;
	let block = match until {
		Some(until) => Some(session.chain.block_of(&session.chain.best().await?, until).await?),
		None => None,
	};
	let done = format!("{account} may restore {machine}{}", until_words(until, block));
	session
		.carry_out(output, "grant_access", (request, account.0, block, key.map(|key| key.0)), &done)
		.await
}

/// Until when it is, with the block that the chain keeps.
fn until_words(until: Option<When>, block: Option<u64>) -> String {
	match (until, block) {
		(Some(time @ When::Time(_)), Some(block)) => format!(" until block {block}, about {time}"),
		(_, Some(block)) => format!(" until block {block}"),
		(_, None) => String::new(),
	}
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
