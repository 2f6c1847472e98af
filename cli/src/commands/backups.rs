//! `backup create`, `backup cadence` and `backup settings`: what owners set.

use crate::{args::Global, commands::submit_and_answer, error::CliError, output::Output};
use subxt::dynamic::Value;

pub(crate) async fn create(
	request: u64,
	description: Option<String>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let arguments = (request, description.map(String::into_bytes));
	let done = format!("backups of request {request} begin");
	submit_and_answer(global, output, "Backup", "create_backup", arguments, &done).await
}

pub(crate) async fn frequency(
	blocks: u32,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let call = "set_backup_offchain_worker_frequency";
	let done = format!("a snapshot every {blocks} blocks");
	submit_and_answer(global, output, "Backup", call, (blocks,), &done).await
}

pub(crate) async fn settings(
	request: u64,
	paused: bool,
	keep_last: Option<u32>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let keep_last = match keep_last {
		Some(number) => Value::unnamed_variant("Some", [Value::u128(number.into())]),
		None => Value::unnamed_variant("None", []),
	};
	let settings =
		Value::named_composite([("paused", Value::bool(paused)), ("keep_last", keep_last)]);
	let arguments = vec![Value::u128(request.into()), settings];
	let done = format!("the settings of request {request} are changed");
	submit_and_answer(global, output, "Backup", "set_backup_settings", arguments, &done).await
}
