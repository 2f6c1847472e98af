//! Asking before something is lost.

use crate::{error::CliError, terminal};

/// Say what will happen, and go on only if the person at the terminal types the word for it.
pub(super) async fn confirm(what: &str, word: &str) -> Result<(), CliError> {
	ensure_person()?;
	let typed = terminal::ask(&format!("{what}\nType '{word}' to go on: ")).await?;
	match typed.trim() == word {
		true => Ok(()),
		false => Err(CliError::NotConfirmed),
	}
}

/// Fail if there is nobody to ask.
pub(super) fn ensure_person() -> Result<(), CliError> {
	match terminal::has_person() {
		true => Ok(()),
		false => Err(CliError::NobodyToAsk),
	}
}
