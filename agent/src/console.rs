//! What the commands that look at the store of an agent have in common.

use crate::config::Config;
use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{io::IsTerminal, path::PathBuf};

/// The folder of the block store. Opening one that is not there would make it.
pub(crate) fn existing_store(config: &Config) -> Result<PathBuf> {
	let blocks = config.blocks_dir();
	match blocks.is_dir() {
		true => Ok(blocks),
		false => {
			bail!(
				"there is no block store {}; name the agent's folder with --state-dir or its configuration \
				 with --config, or make one with `backup-agent init`",
				blocks.display()
			)
		}
	}
}

/// Progress without an end that is known, for people only: on a terminal, on standard error.
pub(crate) fn spinner(template: &'static str) -> ProgressBar {
	let bar = match std::io::stderr().is_terminal() {
		true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
		false => ProgressBar::hidden(),
	};
	bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}
