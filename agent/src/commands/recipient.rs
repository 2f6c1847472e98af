//! `backup-agent recipient`: the public key of the newest identity.

use super::Context;
use crate::{config::Settings, secret::NodeIdentities};
use anyhow::Result;
use std::process::ExitCode;

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	let identities = NodeIdentities::load(&context.load(settings)?.identity_file)?;
	println!("{}", identities.recipient());
	Ok(ExitCode::SUCCESS)
}
