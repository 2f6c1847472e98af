//! `backup-agent print-config`: what is in force, and where each value comes from.

use super::Context;
use crate::config::{Printed, Settings};
use anyhow::{Context as _, Result};
use clap::ArgMatches;
use std::process::ExitCode;

/// Prints a configuration file that gives the same again. `flags` are this command's own.
pub(super) fn run(context: &Context, settings: Settings, flags: &ArgMatches) -> Result<ExitCode> {
	let file = context.file.as_deref();
	let config = context.load(settings)?;
	let in_file = file.map(Settings::read).transpose().context("failed to start")?;
	let file_name = file.and_then(|file| file.file_name()?.to_str()).unwrap_or("file");
	let printed = Printed { config: &config, file: &in_file.unwrap_or_default(), file_name, flags };
	print!("{}", printed.to_toml());
	Ok(ExitCode::SUCCESS)
}
