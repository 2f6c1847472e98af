//! `backup-agent check-config`: whether the agent would start with this configuration.

use super::Context;
use crate::config::Settings;
use anyhow::Result;
use std::process::ExitCode;

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	println!("{:#?}", context.load(settings)?);
	Ok(ExitCode::SUCCESS)
}
