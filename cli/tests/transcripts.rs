//! What the command says, word for word: each file in `transcripts/` is one call, its
//! answer, its errors and its exit code.
//!
//! `UPDATE_TRANSCRIPTS=1 cargo test -p backup` writes them anew; read the difference before
//! you keep it.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::{
	fs,
	path::{Path, PathBuf},
	process::Command,
};

/// A place where no node and no agent can listen.
const NOWHERE: &str = "ws://127.0.0.1:1";

/// Run the call of a transcript in a folder of its own, and write down what came of it.
fn transcript(call: &str, folder: &Path) -> String {
	let output = Command::new(env!("CARGO_BIN_EXE_backup"))
		.args(call.split_whitespace().skip(2))
		.current_dir(folder)
		.env_clear()
		.env("BACKUP_NODE", NOWHERE)
		.output()
		.unwrap();
	let mut text = format!("{call}\n");
	text.push_str(&String::from_utf8(output.stdout).unwrap());
	let errors = String::from_utf8(output.stderr).unwrap();
	text.extend(errors.lines().map(|line| format!("! {line}\n")));
	text.push_str(&format!("exit {}\n", output.status.code().unwrap()));
	text
}

fn fixtures(folder: &Path) {
	fs::write(folder.join("precious"), "not to be lost\n").unwrap();
	fs::write(folder.join("empty"), "").unwrap();
	fs::write(folder.join("nonsense"), "correct horse battery staple\n").unwrap();
	fs::write(folder.join("alice"), "//Alice\n").unwrap();
	fs::write(folder.join("config.toml"), "[chains.main]\nnode = \"ws://127.0.0.1:1\"\n").unwrap();
	fs::create_dir(folder.join("folder")).unwrap();
}

#[test]
fn every_call_says_what_its_transcript_says() {
	let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
	let mut paths: Vec<_> = fs::read_dir(cases).unwrap().map(|e| e.unwrap().path()).collect();
	paths.sort();
	assert!(!paths.is_empty());
	let mut wrong = Vec::new();
	for path in paths {
		let expected = fs::read_to_string(&path).unwrap();
		let call = expected.lines().next().unwrap();
		assert!(call.starts_with("$ backup"), "{}: {call}", path.display());
		let folder = tempfile::tempdir().unwrap();
		fixtures(folder.path());
		let found = transcript(call, folder.path());
		if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
			fs::write(&path, &found).unwrap();
		} else if found != expected {
			wrong.push(format!("{}\nexpected:\n{expected}\nfound:\n{found}", path.display()));
		}
	}
	assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
