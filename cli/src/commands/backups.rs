//! `backup create`, `backup cadence` and `backup settings`: what owners set.

use crate::{
	args::{Global, Machine},
	commands::session::Session,
	error::CliError,
	output::Output,
};
use subxt::dynamic::Value;

pub(crate) async fn create(
	machine: Machine,
	description: Option<String>,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let arguments = (session.request(&machine).await?, description.map(String::into_bytes));
	let done = format!("backups of {machine} begin");
	session.carry_out(output, "create_backup", arguments, &done).await
}

pub(crate) async fn frequency(
	blocks: u32,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let call = "set_backup_offchain_worker_frequency";
	let done = format!("a snapshot every {blocks} blocks");
	session.carry_out(output, call, (blocks,), &done).await
}

pub(crate) async fn settings(
	machine: Machine,
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
	let session = Session::begin(global).await?;
	let request = session.request(&machine).await?;
	let arguments = vec![Value::u128(request.into()), settings];
	let done = format!("the settings of {machine} are changed");
	session.carry_out(output, "set_backup_settings", arguments, &done).await
}
