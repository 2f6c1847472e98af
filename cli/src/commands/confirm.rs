//! Asking before something is lost.

use crate::{error::CliError, output::Output, terminal};

/// Say what will happen, and go on only if the person at the terminal types the word for it.
pub(super) async fn confirm(output: Output, what: &str, word: &str) -> Result<(), CliError> {
	if !terminal::has_person() {
		return Err(CliError::NotConfirmed);
	}
	output.note(what);
	let typed = terminal::ask(&format!("Type '{word}' to go on: ")).await?;
	match typed.trim() == word {
		true => Ok(()),
		false => Err(CliError::NotConfirmed),
	}
}
