//! Runs the programs that a guest is made with.

use std::{
	env,
	ffi::OsString,
	process::{Command, Stdio},
};

use crate::guest::error::GuestError;

const STDERR_CHARS_MAX: usize = 2000;

/// A command that also finds what lives in `sbin`, which is not on every user's path.
pub(crate) fn command(program: &str) -> Command {
	let mut path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
	path.push(":/usr/sbin:/sbin");
	let mut command = Command::new(program);
	command.env("PATH", path).stdin(Stdio::null());
	command
}

/// Runs `command` to its end, and gives what it said; anything but success is an error that quotes its last
/// words.
pub(crate) fn run(command: &mut Command) -> Result<String, GuestError> {
	let program = command.get_program().to_string_lossy().into_owned();
	let output = command
		.output()
		.map_err(|source| GuestError::Program { program: program.clone(), source })?;
	if output.status.success() {
		return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
	}
	let stderr = String::from_utf8_lossy(&output.stderr);
	Err(GuestError::Failed {
		program,
		status: output.status,
		stderr: last_chars(stderr.trim(), STDERR_CHARS_MAX).to_owned(),
	})
}

/// The end of `text`, at most `count` characters of it.
pub(crate) fn last_chars(text: &str, count: usize) -> &str {
	match text.char_indices().rev().nth(count.saturating_sub(1)) {
		Some((start, _)) => &text[start..],
		None => text,
	}
}
