//! Asking before something is deleted.

use crate::{error::CliError, output::Output, terminal};

/// What has to be typed.
const CONFIRMATION: &str = "delete";

/// Say what will happen, and go on only if the person at the terminal types the word.
pub(super) async fn confirm(output: Output, what: &str) -> Result<(), CliError> {
	if !terminal::has_person() {
		return Err(CliError::NotConfirmed);
	}
	output.note(what);
	match terminal::ask(&format!("Type '{CONFIRMATION}' to go on: ")).await?.trim() {
		CONFIRMATION => Ok(()),
		_ => Err(CliError::NotConfirmed),
	}
}
