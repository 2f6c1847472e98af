//! The command on a terminal of its own, that of `script`.

use std::{
	io::{Read, Write},
	process::{Command, Stdio},
};

/// A call on a terminal of its own, which is asked for a line: what is typed then, and what the terminal
/// shows. `stty` tells afterwards whether the terminal shows what is typed.
pub(crate) fn typed(call: &str, answer: &[u8]) -> String {
	// The shell is to outlive what the call is told.
	let command =
		format!("trap : INT; {} {call}; echo code $?; stty -a", env!("CARGO_BIN_EXE_backup"));
	let mut child = Command::new("script")
		.args(["--quiet", "--flush", "--command", &command, "/dev/null"])
		.env_remove("BACKUP_SECRET")
		.env_remove("BACKUP_SURI")
		.env("HOME", "/nowhere")
		.env("NO_COLOR", "1")
		.env("SHELL", "/bin/sh")
		.stdin(Stdio::piped())
		.stdout(Stdio::piped())
		.spawn()
		.unwrap();
	let mut out = child.stdout.take().unwrap();
	let mut shown = String::new();
	let mut byte = [0];
	// What is typed before it is asked for would be shown.
	while !shown.ends_with(": ") && out.read(&mut byte).unwrap() > 0 {
		shown.push(char::from(byte[0]));
	}
	let mut input = child.stdin.take().unwrap();
	input.write_all(answer).unwrap();
	out.read_to_string(&mut shown).unwrap();
	drop(input);
	child.wait().unwrap();
	shown
}
