//! Asking before something is lost.

use crate::{error::CliError, output::Output, terminal};

/// Say what will happen, and go on only if the person at the terminal types the word for it.
pub(super) async fn confirm(output: Output, what: &str, word: &str) -> Result<(), CliError> {
	ensure_person()?;
	output.note(what);
	let typed = terminal::ask(&format!("Type '{word}' to go on: ")).await?;
	match typed.trim() == word {
		true => Ok(()),
		false => Err(CliError::NotConfirmed),
	}
}

/// Fail if there is nobody to ask.
pub(super) fn ensure_person() -> Result<(), CliError> {
	match terminal::has_person() {
		true => Ok(()),
		false => Err(CliError::NotConfirmed),
	}
}
