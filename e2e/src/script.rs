//! Scripts for Node.js that stand in folders of their own beside the tests, each with what it needs from
//! npm: other people's clients.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use std::{
	path::{Path, PathBuf},
	process::Command,
	sync::{Mutex, PoisonError},
};

fn folder(name: &str) -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
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
	let output = Command::new("npm")
		.args(["ci", "--prefer-offline", "--no-audit", "--no-fund"])
		.current_dir(folder)
		.output()
		.context("failed to run npm; Node.js 20 or newer is needed")?;
	ensure!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
	Ok(())
}

/// Run `node` with these words in a folder, and read what it prints.
pub fn run(name: &str, words: &[&str]) -> Result<Json> {
	let output = Command::new("node")
		.args(words)
		.current_dir(folder(name))
		.output()
		.context("failed to run node; Node.js 20 or newer is needed")?;
	let errors = String::from_utf8_lossy(&output.stderr);
	ensure!(output.status.success(), "the script failed: {errors}");
	serde_json::from_slice(&output.stdout).context("the script printed no JSON")
}
