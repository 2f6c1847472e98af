//! `backup-agent check-config`: whether the agent would start with this configuration, and knows its
//! machines.

use super::Context;
use crate::{config::Settings, sources::Inventory};
use anyhow::{Context as _, Result};
use std::process::ExitCode;

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	let config = context.load(settings)?;
	let machines = Inventory::at(&config.vms_dir).list();
	let machines = machines.with_context(|| format!("read {}", config.vms_dir.display()))?;
	let mut good = 0;
	for (name, machine) in &machines {
		match machine {
			Ok(_) => good += 1,
			Err(error) => eprintln!("error: machine {name}: {error:#}"),
		}
	}
	if good < machines.len() {
		return Ok(ExitCode::FAILURE);
	}
	let what = match &context.file {
		Some(file) => file.display().to_string(),
		None => "the configuration without a file".to_owned(),
	};
	let machines = if good == 1 { "1 machine".to_owned() } else { format!("{good} machines") };
	let (node, folder) = (&config.node_rpc, config.vms_dir.display());
	println!("{what} is good: node {node}, {machines} in {folder}");
	Ok(ExitCode::SUCCESS)
}
