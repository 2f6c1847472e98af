//! Asking before something is deleted.

use crate::{error::CliError, output::Output};
use std::io::{self, BufRead, IsTerminal};

/// What has to be typed.
const CONFIRMATION: &str = "delete";

/// Say what will happen, and go on only if the person at the terminal types the word.
pub(super) fn confirm(output: Output, what: &str) -> Result<(), CliError> {
	if !io::stdin().is_terminal() {
		return Err(CliError::NotConfirmed);
	}
	output.note(format_args!("{what}\nType '{CONFIRMATION}' to go on:"));
	let mut line = String::new();
	match io::stdin().lock().read_line(&mut line) {
		Ok(_) if line.trim() == CONFIRMATION => Ok(()),
		_ => Err(CliError::NotConfirmed),
	}
}
