//! `backup copies`: which nodes have the snapshots of a machine, and where they are asked.

use crate::{
	args::{Global, Machine},
	chain::{
		nodes::{CopyAt, Role},
		reads,
	},
	commands::listing::of_machine,
	error::CliError,
	output::{Cell, Mood, Output, Table},
};

pub(super) async fn run(
	machine: &Machine,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	of_machine(machine, global, output, "copies", reads::copies, |_, copies| table(copies)).await
}

fn table(copies: &[CopyAt]) -> String {
	let mut table = Table::new(&["node", "is", "snapshots", "heard of", "gateway"]);
	for copy in copies {
		let (role, has) = match copy.role {
			Role::Host => ("host", "what it took".to_owned()),
			Role::Holder if copy.from >= copy.to => ("holder", "none yet".to_owned()),
			Role::Holder => ("holder", format!("{} to {}", copy.from, copy.to - 1)),
		};
		let heard = match copy.is_silent {
			None => Cell::new("-", None),
			Some(true) => Cell::new("no", Some(Mood::Bad)),
			Some(false) => Cell::new("yes", Some(Mood::Good)),
		};
		let gateways = match copy.gateways.as_slice() {
			[] => "-".to_owned(),
			several => several.join(" "),
		};
		let node = copy.node.to_string();
		table.row([node.into(), role.to_owned().into(), has.into(), heard, gateways.into()]);
	}
	table.render()
}
