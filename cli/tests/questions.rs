//! What is lost for good is asked for first: on a terminal the word for it goes on and nothing else does,
//! and where nobody can be asked nothing is done.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod pty;

use pty::typed;
use std::{
	fs,
	process::{Command, Stdio},
};
use tempfile::TempDir;

/// A key of Control, as a terminal sends it.
const CTRL_C: &[u8] = &[3];
const CTRL_D: &[u8] = &[4];

/// Where no node is: who confirmed comes as far as that.
const NOWHERE: &str = "ws://127.0.0.1:1";

/// Verbs that ask before they look for a node: what will be done, and the word that goes on.
const VERBS: [(&str, &str, &str); 4] = [
	("delete-all", "All backups of this account will be deleted", "delete"),
	("unsubscribe", "Backups of this account end now", "unsubscribe"),
	("node deregister --id 7", "Node 7 will be taken off the chain", "deregister"),
	("governance propose deregister 7", "node 7 is taken off the chain", "deregister"),
];

/// Verbs that must know a machine first, which a chain tells.
const VERBS_OF_MACHINES: [&str; 3] = ["delete 0", "delete 0 1", "request-restore 0 1 --replace"];

/// Somebody who can sign.
struct Person {
	folder: TempDir,
}

impl Person {
	fn new() -> Self {
		let folder = tempfile::tempdir().unwrap();
		fs::write(folder.path().join("alice"), "//Alice").unwrap();
		Self { folder }
	}

	fn call(&self, verb: &str) -> String {
		let secret = self.folder.path().join("alice");
		format!("{verb} --secret-file {} --node {NOWHERE}", secret.display())
	}

	fn answers(&self, verb: &str, answer: &[u8]) -> String {
		typed(&self.call(verb), answer)
	}
}

#[test]
fn the_word_goes_on() {
	let person = Person::new();
	for (verb, will, word) in VERBS {
		for answer in [format!("{word}\n"), format!("  {word} \n")] {
			let shown = person.answers(verb, answer.as_bytes());
			assert!(shown.contains(will), "{verb}: {shown}");
			assert!(shown.contains(&format!("Type '{word}' to go on: ")), "{verb}: {shown}");
			assert!(
				shown.contains("no node answers") && shown.contains("code 3"),
				"{verb}: {shown}"
			);
		}
	}
}

#[test]
fn nothing_but_the_word_goes_on() {
	let person = Person::new();
	for (verb, _, word) in VERBS {
		for answer in ["", "no", "y", "yes", &format!("{word}!"), &word.to_uppercase()] {
			let shown = person.answers(verb, format!("{answer}\n").as_bytes());
			assert!(shown.contains("error: nothing was confirmed"), "{verb}, {answer:?}: {shown}");
			assert!(shown.contains("--yes") && shown.contains("code 2"), "{verb}: {shown}");
			assert!(!shown.contains("no node answers"), "{verb}: {shown}");
		}
	}
}

#[test]
fn who_ends_the_question_confirms_nothing() {
	let person = Person::new();
	for (verb, ..) in VERBS {
		let shown = person.answers(verb, CTRL_C);
		assert!(
			shown.contains("code 130") && !shown.contains("no node answers"),
			"{verb}: {shown}"
		);
		assert!(shown.contains(" echo ") && !shown.contains("-echo "), "{verb}: {shown}");
		let shown = person.answers(verb, CTRL_D);
		assert!(shown.contains("nothing was confirmed"), "{verb}: {shown}");
		assert!(shown.contains("code 2"), "{verb}: {shown}");
	}
}

/// What is for programs does not hide the question.
#[test]
fn who_wants_json_is_asked_too() {
	let shown = Person::new().answers("delete-all --json", b"no\n");
	assert!(shown.contains("All backups of this account will be deleted"), "{shown}");
	assert!(shown.contains("nothing was confirmed") && shown.contains("code 2"), "{shown}");
}

#[test]
fn where_nobody_can_be_asked_nothing_is_done_and_yes_is_named() {
	let person = Person::new();
	let verbs = VERBS.into_iter().map(|(verb, ..)| verb).chain(VERBS_OF_MACHINES);
	for verb in verbs {
		let run = |more: &str| {
			let call = format!(
				"echo delete | {} {} {more}",
				env!("CARGO_BIN_EXE_backup"),
				person.call(verb)
			);
			let mut command = Command::new("sh");
			command.args(["-c", &call]).env("HOME", "/nowhere").stdin(Stdio::null());
			let output = command.output().unwrap();
			(output.status.code(), String::from_utf8(output.stderr).unwrap())
		};
		let (code, words) = run("");
		assert_eq!(code, Some(2), "{verb}: {words}");
		assert!(words.contains("standard input is no terminal"), "{verb}: {words}");
		assert!(words.contains("--yes") && !words.contains("no node answers"), "{verb}: {words}");
		let (code, words) = run("--yes");
		assert_eq!(code, Some(3), "{verb} --yes: {words}");
		assert!(!words.contains("Type '"), "{verb} --yes: {words}");
	}
}
