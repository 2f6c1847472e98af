//! Which node and which secret count: what a call says, before what the environment says, before what the
//! configuration file says; and a chain that a call names brings its own.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::{fs, process::Command};
use tempfile::TempDir;

/// Chains at places where no node can listen. The secret of each is of its own kind of wrong.
const CONFIG: &str = "chain = \"main\"\n\
	[chains.main]\nnode = \"ws://127.0.0.1:1\"\nsecret_file = \"main.secret\"\n\
	[chains.test]\nnode = \"ws://127.0.0.1:2\"\nsecret_file = \"test.secret\"\n\
	[chains.bare]\n";

fn folder() -> TempDir {
	let folder = tempfile::tempdir().unwrap();
	fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
	folder
}

/// The exit code and the words of a call that fails, in an environment.
fn failure(call: &str, environment: &[(&str, &str)]) -> (i32, String) {
	let folder = folder();
	let output = Command::new(env!("CARGO_BIN_EXE_backup"))
		.args(call.split_whitespace())
		.current_dir(folder.path())
		.env_clear()
		.env("BACKUP_CONFIG", "config.toml")
		.envs(environment.iter().copied())
		.output()
		.unwrap();
	(output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_node_is_that_of_the_call_then_of_the_environment_then_of_the_file() {
	const NODE: (&str, &str) = ("BACKUP_NODE", "ws://127.0.0.1:3");
	const CHAIN: (&str, &str) = ("BACKUP_CHAIN", "test");
	for (call, environment, port) in [
		("", &[][..], 1),
		("", &[NODE], 3),
		("", &[CHAIN], 2),
		("", &[CHAIN, NODE], 3),
		("--chain test", &[], 2),
		("--chain test", &[NODE], 2),
		("--chain bare", &[NODE], 3),
		("--node ws://127.0.0.1:4", &[NODE], 4),
		("--node ws://127.0.0.1:4 --chain test", &[NODE], 4),
	] {
		let (code, words) = failure(&format!("grants 7 {call}"), environment);
		let place = format!("no node answers at ws://127.0.0.1:{port}:");
		assert!(code == 3 && words.contains(&place), "{call} {environment:?}: {code} {words}");
	}
}

#[test]
fn only_what_talks_to_a_chain_needs_one_chosen() {
	const ROOT: &str = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
	let folder = folder();
	let (_, unchosen) = CONFIG.split_once('\n').unwrap();
	fs::write(folder.path().join("config.toml"), unchosen).unwrap();
	let store = format!("verify --root {ROOT} --store .");
	for (call, expected) in [
		("key new --output owner.key", 0),
		("key show --identity owner.key", 0),
		("completions bash", 0),
		("man pages", 0),
		(&store, 8),
		("grants 7", 2),
		("vms", 2),
		("delete-all --yes", 2),
		("grants 7 --chain test", 3),
		("grants 7 --node ws://127.0.0.1:3", 3),
	] {
		let output = Command::new(env!("CARGO_BIN_EXE_backup"))
			.args(call.split_whitespace())
			.current_dir(folder.path())
			.env_clear()
			.env("BACKUP_CONFIG", "config.toml")
			.env("BACKUP_SECRET", "//Alice")
			.output()
			.unwrap();
		let words = String::from_utf8(output.stderr).unwrap();
		assert_eq!(output.status.code(), Some(expected), "{call}: {words}");
		let is_told = words.contains("bare, main, test");
		assert_eq!(is_told, expected == 2, "{call}: {words}");
	}
}

#[test]
fn a_secret_is_that_of_the_call_then_of_the_environment_then_of_the_file() {
	const SECRET: (&str, &str) = ("BACKUP_SECRET", "//Alice");
	const OLDER: (&str, &str) = ("BACKUP_SURI", "//Alice");
	// Whose secret is there comes as far as the node.
	let there = "no node answers";
	for (call, environment, said) in [
		("", &[][..], "main.secret could not be read"),
		("", &[SECRET], there),
		("", &[OLDER], there),
		("--chain test", &[SECRET], "test.secret could not be read"),
		("--chain bare", &[SECRET], there),
		("--secret-file mine", &[SECRET], "mine could not be read"),
		("--chain test --secret-file mine", &[SECRET], "mine could not be read"),
	] {
		let call = format!("subscribe --periods 1 {call}");
		let place = ("BACKUP_NODE", "ws://127.0.0.1:3");
		let (_, words) = failure(&call, &[environment, &[place]].concat());
		assert!(words.contains(said), "{call} {environment:?}: {words}");
	}
}

#[test]
fn the_older_names_of_secrets_still_work() {
	for (call, said) in [
		("subscribe --periods 1 --suri-file mine", "mine could not be read"),
		("subscribe --periods 1 --suri-command false", "the command for the secret failed"),
		(
			"node register --id 1 --recipient age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj \
			 --authority-suri-file mine",
			"mine could not be read",
		),
	] {
		let (_, words) = failure(call, &[("BACKUP_SECRET", "//Alice")]);
		assert!(words.contains(said), "{call}: {words}");
	}
}

#[test]
fn what_is_no_address_of_a_node_is_wrong_usage_wherever_it_stands() {
	for wrong in ["foo", "http://127.0.0.1:9944", "ws://", ""] {
		for (code, words) in [
			failure("grants 7", &[("BACKUP_NODE", wrong)]),
			failure(&format!("grants 7 --node={wrong}"), &[]),
		] {
			let says_what_is_right = words.contains("ws:// or wss://");
			// Of a flag without any value it is enough to say that one is missing.
			let is_told = says_what_is_right || words.contains("a value is required");
			assert!(code == 2 && is_told, "'{wrong}': {code} {words}");
		}
		let (_, words) = failure("grants 7", &[("BACKUP_NODE", wrong)]);
		assert!(words.contains("tip: it stands in the variable BACKUP_NODE"), "{words}");
	}
}

#[test]
fn a_token_in_the_address_of_a_node_is_shown_neither_as_an_error_nor_in_the_help() {
	let rights = "wss://me:T0KEN@node.example/T0KEN?key=T0KEN";
	for address in [rights.replace("wss", "https"), rights.replace("wss://", "")] {
		for call in ["grants 7", "grants 7 --json"] {
			let (code, words) = failure(call, &[("BACKUP_NODE", &address)]);
			let is_told = words.contains("***") && words.contains("it stands in the variable");
			assert!(code == 2 && is_told && !words.contains("T0KEN"), "{words}");
		}
	}
	let mut help = Command::new(env!("CARGO_BIN_EXE_backup"));
	let output = help.args(["grants", "--help"]).env("BACKUP_NODE", rights).output().unwrap();
	let words = String::from_utf8(output.stdout).unwrap();
	assert!(words.contains("[env: BACKUP_NODE]") && !words.contains("T0KEN"), "{words}");
}
