//! The command `backup`, as owners and operators run it.

use crate::{process::built, shapes};
use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::Value;
use std::{
	ffi::OsStr,
	process::{Command, Output},
};

/// Run `backup` and give its JSON answer. Fails with its own words if it fails.
pub fn backup<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Value> {
	let output = run(arguments)?;
	if !output.status.success() {
		bail!("backup failed: {}", String::from_utf8_lossy(&output.stderr).trim());
	}
	serde_json::from_slice(&output.stdout).context("the answer of backup is not JSON")
}

/// Run `backup` and give all that came of it. Fails if it answers with other fields than its documentation
/// tells of.
pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Output> {
	let words = arguments.into_iter().map(|word| word.as_ref().to_string_lossy().into_owned());
	let words: Vec<String> = words.collect();
	let output = program()?.arg("--json").args(&words).output().context("failed to run backup")?;
	// What `cat` writes is no answer.
	if let (true, Ok(answer)) = (output.status.success(), serde_json::from_slice(&output.stdout)) {
		let words: Vec<&str> = words.iter().map(String::as_str).collect();
		shapes::compare(&words, &answer).map_err(Error::msg)?;
	}
	Ok(output)
}

/// The answer of a run as `who`, which has to succeed.
pub fn answer_of(output: &Output, who: &str, words: &str) -> Result<Value> {
	let errors = String::from_utf8_lossy(&output.stderr);
	ensure!(output.status.success(), "{who}: {words}: {errors}");
	serde_json::from_slice(&output.stdout).context("the answer is not JSON")
}

/// Makes sure that a run as `who` ended with this code and said these words.
pub fn ensure_fails(output: &Output, who: &str, words: &str, code: i32, said: &str) -> Result<()> {
	let errors = String::from_utf8_lossy(&output.stderr);
	let is_so = output.status.code() == Some(code) && errors.contains(said);
	ensure!(is_so, "{who}: {words}: {}: {errors}", output.status);
	Ok(())
}

/// Run `backup` and give what it tells a person. Fails with its own words if it fails.
pub fn text<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
	let output = program()?.args(arguments).output().context("failed to run backup")?;
	if !output.status.success() {
		bail!("backup failed: {}", String::from_utf8_lossy(&output.stderr).trim());
	}
	String::from_utf8(output.stdout).context("the answer of backup is not text")
}

/// The command, with nothing that the environment says of chains and secrets.
pub fn program() -> Result<Command> {
	let mut command = Command::new(built("backup")?);
	command.env_remove("BACKUP_SECRET").env_remove("BACKUP_SURI").env_remove("BACKUP_NODE");
	Ok(command)
}
