//! A command line that is no call: help was asked for, or it is not understood. People get what the
//! parser of arguments says, and programs that ask for JSON get an error as all others.

use crate::{error::CliError, output::Output};
use std::{ffi::OsString, process::ExitCode};

/// Say what the parser has to say. Ends the program where that is meant for people.
pub(crate) fn answer(error: &clap::Error, words: impl IntoIterator<Item = OsString>) -> ExitCode {
	if !error.use_stderr() || !asks_for_json(words) {
		error.exit();
	}
	Output::new(true).fail(&refused(error))
}

/// Nobody else can say it, for the line was not understood.
fn asks_for_json(words: impl IntoIterator<Item = OsString>) -> bool {
	words.into_iter().take_while(|word| word != "--").any(|word| word == "--json")
}

/// The parser's words: what is wrong comes first, then what would be right, then how a call looks.
fn refused(error: &clap::Error) -> CliError {
	let text = error.render().to_string();
	let mut paragraphs = text.split("\n\n").map(in_one_line).filter(|part| !part.is_empty());
	let message = paragraphs.next().unwrap_or_default();
	let message = message.strip_prefix("error: ").unwrap_or(&message);
	// The list of all verbs is for people.
	let message = message.split(" [subcommands: ").next().unwrap_or(message).to_owned();
	let hint = paragraphs.map(|part| part.strip_prefix("tip: ").unwrap_or(&part).to_owned());
	CliError::Usage { message, hint: hint.collect::<Vec<_>>().join("; ") }
}

fn in_one_line(paragraph: &str) -> String {
	paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}
