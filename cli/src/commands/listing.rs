//! What the chain lists of a machine, for several verbs.

use crate::{
	args::{Global, Machine},
	chain::{AtBlock, Chain, machines},
	error::CliError,
	output::Output,
	progress::Bar,
};
use serde::Serialize;
use serde_json::json;

/// Answer with what is read of a machine at the best block, which JSON has under a name.
pub(super) async fn of_machine<Item: Serialize>(
	machine: &Machine,
	global: &Global,
	output: Output,
	name: &'static str,
	read: impl AsyncFnOnce(&AtBlock, u64) -> Result<Vec<Item>, CliError>,
	text: impl FnOnce(u64, &[Item]) -> String,
) -> Result<(), CliError> {
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let request = machines::find(&at, machine, global).await?;
	let items = read(&at, request).await?;
	let answer = json!({ "block": at.block_number(), "request": request, name: items });
	drop(bar);
	output.answer(&answer, || text(request, &items))
}
