//! `backup-agent init`: folders, secret and identity.

use super::Context;
use crate::{config::Settings, daemon, secret::NodeIdentities};
use anyhow::Result;
use std::process::ExitCode;

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	let config = context.load(settings)?;
	daemon::init(&config)?;
	let identities = NodeIdentities::load(&config.identity_file)?;
	println!("state      {}", config.state_dir.display());
	println!("machines   {}", config.vms_dir.display());
	println!("recipient  {}", identities.recipient());
	println!();
	println!("Register the node on chain with this recipient, and start it with");
	println!("  --backup-agent-url http://{}", config.listen);
	println!("  --backup-agent-secret-file {}", config.secret_file.display());
	Ok(ExitCode::SUCCESS)
}
