//! `backup completions` and `backup man`: what shells and readers of manuals want of the command.

use crate::{args, error::CliError, output::Output};
use clap_complete::Shell;
use serde_json::json;
use std::{
	fs,
	io::{self, ErrorKind, Write},
	path::Path,
};

/// Write a shell's completions to standard output.
pub(super) fn completions(shell: Shell) -> Result<(), CliError> {
	let mut script = Vec::new();
	clap_complete::generate(shell, &mut args::command(), "backup", &mut script);
	match io::stdout().lock().write_all(&script) {
		// A reader that went away has what it wanted.
		Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
		written => written.map_err(|source| CliError::Answer { source }),
	}
}

/// Write a manual page for the command and for each verb into a folder.
pub(super) fn man(folder: &Path, output: Output) -> Result<(), CliError> {
	let failed = |source| CliError::FileWrite { path: folder.to_owned(), source };
	fs::create_dir_all(folder).map_err(failed)?;
	clap_mangen::generate_to(args::command(), folder).map_err(failed)?;
	let answer = json!({ "folder": folder });
	output.answer(&answer, || format!("the manual pages are in {}", folder.display()))
}
