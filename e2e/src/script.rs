//! Scripts for Node.js that stand in folders of their own beside the tests, each with what it needs from
//! npm: other people's clients.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use std::{
	env,
	path::{Path, PathBuf},
	process::Command,
	sync::{Mutex, OnceLock, PoisonError},
};

fn folder(name: &str) -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folder that has `node` and `npm` of a version that will do, which a script finds or fetches.
///
/// # Errors
///
/// If there are none and they cannot be fetched.
pub fn programs() -> Result<PathBuf> {
	static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
	let found = FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}")));
	found.clone().map_err(anyhow::Error::msg)
}

fn find() -> Result<PathBuf> {
	let script = folder("../scripts/nodejs.sh");
	let output = Command::new(&script)
		.output()
		.with_context(|| format!("failed to run {}", script.display()))?;
	ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
	Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// A program of Node.js, `node` or `npm`, to be run in a folder beside the tests.
///
/// # Errors
///
/// If there is no Node.js that will do.
pub fn command(program: &str, name: &str) -> Result<Command> {
	let programs = programs()?;
	let path = env::var_os("PATH").unwrap_or_default();
	let path = [programs].into_iter().chain(env::split_paths(&path));
	// It is looked for there, and so is `node` by what comes from npm.
	let mut command = Command::new(program);
	command.env("PATH", env::join_paths(path)?).current_dir(folder(name));
	Ok(command)
}

/// Install what a folder's lock file names, unless it is there.
pub fn install(name: &str) -> Result<()> {
	// Two tests that want the same would else write over each other.
	static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
	let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
	let folder = folder(name);
	let (lock, done) =
		(folder.join("package-lock.json"), folder.join("node_modules/.package-lock.json"));
	let is_newer = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
	if is_newer(&done) >= is_newer(&lock) && done.exists() {
		return Ok(());
	}
	let output = command("npm", name)?
		.args(["ci", "--prefer-offline", "--no-audit", "--no-fund"])
		.output()
		.context("failed to run npm")?;
	ensure!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
	Ok(())
}

/// Run `node` with these words in a folder, and read what it prints.
pub fn run(name: &str, words: &[&str]) -> Result<Json> {
	let output = command("node", name)?.args(words).output().context("failed to run node")?;
	let errors = String::from_utf8_lossy(&output.stderr);
	ensure!(output.status.success(), "the script failed: {errors}");
	serde_json::from_slice(&output.stdout).context("the script printed no JSON")
}
