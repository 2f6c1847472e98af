//! `backup copies`: which nodes have the snapshots of a machine, and where they are asked.

use crate::{
	args::{Global, Machine},
	chain::{Chain, machines, nodes::Role, reads},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
};
use serde_json::json;

pub(super) async fn run(
	machine: &Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let request = machines::find(&at, machine, global).await?;
	let copies = reads::copies(&at, request).await?;
	let answer = json!({ "block": at.block_number(), "request": request, "copies": copies });
	drop(bar);
	output.answer(&answer, || {
		let mut table = Table::new(&["node", "is", "snapshots", "heard of", "gateway"]);
		for copy in &copies {
			let (role, has) = match copy.role {
				Role::Host => ("host", "what it took".to_owned()),
				Role::Holder if copy.from >= copy.to => ("holder", "none yet".to_owned()),
				Role::Holder => ("holder", format!("{} to {}", copy.from, copy.to - 1)),
			};
			let heard =
				copy.is_silent.map_or("-", |is_silent| if is_silent { "no" } else { "yes" });
			let gateways = match copy.gateways.as_slice() {
				[] => "-".to_owned(),
				several => several.join(" "),
			};
			table.row([copy.node.to_string(), role.into(), has, heard.into(), gateways]);
		}
		table.render()
	})
}
