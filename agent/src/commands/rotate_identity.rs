//! `backup-agent rotate-identity`: a new identity on top of the others.

use super::Context;
use crate::{config::Settings, secret::NodeIdentities};
use anyhow::{Context as _, Result};
use std::process::ExitCode;

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	let config = context.load(settings)?;
	let identities = NodeIdentities::rotate(&config.identity_file)
		.context("failed to rotate the node's identity")?;
	println!("identity   {}", config.identity_file.display());
	println!("recipient  {}", identities.recipient());
	println!();
	println!("1. Copy the identity file to where its earlier copies are.");
	println!("2. Restart the agent. It opens old and new snapshots from then on.");
	println!("3. Give the chain this recipient, with `rotate_keys`.");
	println!(
		"The older identities stay in the file, for as long as there are roots sealed to them."
	);
	Ok(ExitCode::SUCCESS)
}
