//! Where answers and errors go: text for people, JSON for programs.

mod mood;
mod table;

pub(crate) use mood::Mood;
pub(crate) use table::{Cell, Table};

use crate::error::CliError;
use anstream::{
	AutoStream,
	stream::{AsLockedWrite, RawStream},
};
use serde::Serialize;
use serde_json::json;
use std::{
	fmt::Display,
	io::{self, ErrorKind, Write},
	ops::ControlFlow,
	process::ExitCode,
};

/// Version of the shapes that JSON has, which changes when a program that reads them has to.
const SHAPES_VERSION: u32 = 1;

/// An answer as programs get it.
#[derive(Serialize)]
struct Versioned<'a, T> {
	version: u32,
	#[serde(flatten)]
	answer: &'a T,
}

impl<'a, T> Versioned<'a, T> {
	fn new(answer: &'a T) -> Self {
		Self { version: SHAPES_VERSION, answer }
	}
}

/// Writes answers in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
	json: bool,
}

impl Output {
	pub(crate) fn new(json: bool) -> Self {
		Self { json }
	}

	/// Whether nobody is told anything beside the answer.
	pub(crate) fn is_for_programs(self) -> bool {
		self.json
	}

	/// Write the one answer of a command. `text` has no newline at its end.
	pub(crate) fn answer(
		self,
		value: &impl Serialize,
		text: impl FnOnce() -> String,
	) -> Result<(), CliError> {
		let line = match self.json {
			true => serde_json::to_string_pretty(&Versioned::new(value))
				.map_err(|error| CliError::Answer { source: error.into() })?,
			false => text(),
		};
		let written = write_line(io::stdout().lock(), &line).map(drop);
		written.map_err(|source| CliError::Answer { source })
	}

	/// Write one of many answers, on a line of its own. Whoever reads them may have enough: then it says
	/// to break off.
	pub(crate) fn line(
		self,
		value: &impl Serialize,
		text: impl FnOnce() -> String,
	) -> Result<ControlFlow<()>, CliError> {
		let line = match self.json {
			true => serde_json::to_string(&Versioned::new(value))
				.map_err(|error| CliError::Answer { source: error.into() })?,
			false => text(),
		};
		write_line(io::stdout().lock(), &line).map_err(|source| CliError::Answer { source })
	}

	/// Tell a person of something that may be unexpected. Programs are not told.
	pub(crate) fn warn(self, words: impl Display) {
		self.note(Mood::Careful.paint_head(&words.to_string()));
	}

	/// Tell a person what happens now. Programs are not told.
	pub(crate) fn note(self, words: impl Display) {
		if !self.json {
			// Nothing is lost if nobody reads it.
			let _ = write_line(io::stderr().lock(), &words);
		}
	}

	/// Report an error: two lines for a person, one JSON object for a program, both on
	/// standard error.
	pub(crate) fn fail(self, error: &CliError) -> ExitCode {
		let words = match self.json {
			true => json!({
				"version": SHAPES_VERSION,
				"error": {
					"code": error.code(),
					"message": error.to_string(),
					"hint": error.hint(),
				}
			})
			.to_string(),
			false => format!("{} {error}\n  {}", Mood::Bad.paint("error:"), error.hint()),
		};
		let _ = write_line(io::stderr().lock(), &words);
		ExitCode::from(error.exit_code())
	}
}

/// A reader that went away has what it wanted. Colours are left out where nobody would see them.
fn write_line(
	to: impl RawStream + AsLockedWrite,
	line: &impl Display,
) -> io::Result<ControlFlow<()>> {
	let mut to = AutoStream::auto(to);
	match writeln!(to, "{line}").and_then(|()| to.flush()) {
		Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
		result => result.map(ControlFlow::Continue),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_answer_begins_with_the_version_of_its_shape() {
		let answer = json!({ "root": 1 });
		let text = serde_json::to_string(&Versioned::new(&answer)).unwrap();
		assert_eq!(text, r#"{"version":1,"root":1}"#);
	}
}
