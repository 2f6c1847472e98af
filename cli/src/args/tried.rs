//! Each verb is tried on a running chain, or needs none: the scenarios and the pages that are typed by tests call it.

use super::Args;
use clap::{Command, CommandFactory};
use std::{fs, path::Path};

/// Verbs that look at nothing but this command and what somebody types, tried beside it.
const WITHOUT_CHAIN: [&str; 3] = ["completions", "man", "key recover"];

/// All verbs below a command, each with what stands before it.
fn verbs(command: &Command, before: &str, found: &mut Vec<String>) {
	for verb in command.get_subcommands() {
		let words = format!("{before}{}", verb.get_name());
		match verb.has_subcommands() {
			true => verbs(verb, &format!("{words} "), found),
			false => found.push(words),
		}
	}
}

/// What the scenarios say, and what is typed of pages.
fn said() -> String {
	let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
	let scenarios = texts(&repository.join("e2e/tests/scenarios"));
	let mut pages = texts(&repository.join("docs"));
	pages.push(fs::read_to_string(repository.join("README.md")).expect("it can be read"));
	scenarios.into_iter().chain(pages.iter().map(|page| typed(page))).collect()
}

/// The files of a folder.
fn texts(folder: &Path) -> Vec<String> {
	let paths =
		fs::read_dir(folder).expect("the folder is there").map(|entry| entry.map(|e| e.path()));
	let files = paths.map(|path| path.expect("it can be read")).filter(|path| path.is_file());
	files.map(|file| fs::read_to_string(file).expect("it holds text")).collect()
}

/// What is typed of a page by a test: the blocks that say so, for it tells of other verbs, too.
fn typed(page: &str) -> String {
	let blocks = page.split("\n```").skip(1).step_by(2);
	let is_typed = |block: &&str| block.starts_with("sh run") || block.starts_with("console run");
	blocks.filter(is_typed).flat_map(|block| [block, "\n"]).collect()
}

/// Whether it is called: as a whole, or, of a motion, behind what several have in common.
fn is_called(said: &str, verb: &str) -> bool {
	let is_there = |words: &str| {
		let after = |place: usize| said[place + words.len()..].chars().next();
		said.match_indices(words).any(|(place, _)| matches!(after(place), Some(' ' | '"' | '\n')))
	};
	let calls =
		|words: &str| is_there(&format!("\"{words}")) || is_there(&format!("backup {words}"));
	calls(verb) || verb.strip_prefix("governance propose ").is_some_and(calls)
}

#[test]
fn every_verb_is_tried_on_a_chain_or_needs_none() {
	let (said, mut all) = (said(), Vec::new());
	verbs(&Args::command(), "", &mut all);
	assert!(all.len() > 50, "{all:?}");
	let tried = |verb: &String| is_called(&said, verb) || WITHOUT_CHAIN.contains(&verb.as_str());
	let left: Vec<_> = all.iter().filter(|verb| !tried(verb)).collect();
	assert!(left.is_empty(), "no scenario calls {left:?}");
}

#[test]
fn what_a_page_only_tells_of_is_not_typed() {
	let page =
		"`backup ls`\n\n```sh run\nbackup cat\n```\n\n```sh\nbackup vms\n```\n\n`backup cost`\n";
	let said = typed(page);
	assert!(is_called(&said, "cat"), "{said}");
	assert!(!["ls", "vms", "cost"].iter().any(|verb| is_called(&said, verb)), "{said}");
}

#[test]
fn a_verb_is_not_called_by_one_that_begins_alike() {
	let said = "desk.answer(\"restore-file x\") backup key register --identity y (\"admit 8\", 9)";
	assert!(!is_called(said, "restore"));
	assert!(is_called(said, "restore-file") && is_called(said, "key register"));
	assert!(is_called(said, "governance propose admit") && !is_called(said, "governance vote"));
}
