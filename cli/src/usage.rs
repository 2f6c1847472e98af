//! A command line that is no call: help was asked for, or it is not understood. People get what the
//! parser of arguments says, with what was most likely meant, and programs that ask for JSON get an error
//! as all others.

use crate::{args::Args, error::CliError, output::Output};
use backup_agent::nearest::nearest;
use backup_primitives::Cid;
use clap::{
	Command, CommandFactory,
	error::{ContextKind, ContextValue, ErrorKind},
};
use std::{env, ffi::OsString, process::ExitCode};

/// What other programs call what this one does, and what somebody may look for.
const ELSEWHERE: [(&str, &str); 14] = [
	(
		"check",
		"'backup verify' looks whether a snapshot is all there, 'backup status' how backups are",
	),
	(
		"config",
		"chains, nodes and secrets stand in ~/.config/backup/config.toml, as docs/cli.md tells",
	),
	("dump", "'backup cat' writes a file of a snapshot to standard output"),
	("find", "'backup ls --recursive' lists what a snapshot's disks hold"),
	("forget", "'backup delete' deletes a snapshot, 'backup settings --keep-last' keeps fewer"),
	("init", "begin with 'backup key new', 'backup subscribe' and 'backup key register'"),
	("list", "'backup vms' lists machines, 'backup snapshots' their snapshots"),
	("login", "nobody logs in: 'backup VERB --secret-file FILE' signs"),
	("mount", "'backup serve-disk' serves the disks of a snapshot to other programs"),
	("prune", "nodes free space by themselves; 'backup upkeep prune' shortens a history now"),
	("remove", "'backup delete' deletes a snapshot or all of a machine's"),
	("rm", "'backup delete' deletes a snapshot or all of a machine's"),
	("run", "nodes take snapshots by themselves; 'backup snapshot now' asks for one out of turn"),
	("stats", "'backup cost' says what backups take"),
];

/// Say what the parser has to say. Ends the program where that is meant for people.
pub(crate) fn answer(
	mut error: clap::Error,
	words: impl IntoIterator<Item = OsString>,
) -> ExitCode {
	if let Some(tip) = tip(&error) {
		error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
	}
	if is_of_node(&error)
		&& let Some(address) = word(&error, ContextKind::InvalidValue).and_then(without_secrets)
	{
		error.insert(ContextKind::InvalidValue, ContextValue::String(address));
	}
	if !error.use_stderr() || !asks_for_json(words) {
		error.exit();
	}
	Output::new(true).fail(&refused(&error))
}

/// What was most likely meant, where the parser itself has no idea.
fn tip(error: &clap::Error) -> Option<String> {
	if error.kind() == ErrorKind::ValueValidation {
		return tip_of_variable(error);
	}
	let usage = error.get(ContextKind::Usage)?.to_string();
	match error.kind() {
		ErrorKind::InvalidSubcommand => {
			let is_told = error.get(ContextKind::SuggestedSubcommand).is_some();
			tip_of_verb(word(error, ContextKind::InvalidSubcommand)?, &usage, is_told)
		}
		ErrorKind::UnknownArgument => {
			let word = word(error, ContextKind::InvalidArg)?;
			let is_root = word.parse::<Cid>().is_ok() && usage.contains("--root");
			is_root
				.then(|| format!("the root of a snapshot stands behind its flag: '--root {word}'"))
		}
		_ => None,
	}
}

fn word(error: &clap::Error, kind: ContextKind) -> Option<&str> {
	match error.get(kind) {
		Some(ContextValue::String(word)) => Some(word),
		_ => None,
	}
}

/// Whoever typed no address of a node is told where it comes from.
fn tip_of_variable(error: &clap::Error) -> Option<String> {
	const VARIABLE: &str = "BACKUP_NODE";
	let said = env::var(VARIABLE).ok().filter(|_| is_of_node(error))?;
	let is_it = word(error, ContextKind::InvalidValue)? == said;
	is_it.then(|| format!("it stands in the variable {VARIABLE}"))
}

fn is_of_node(error: &clap::Error) -> bool {
	word(error, ContextKind::InvalidArg).is_some_and(|arg| arg.starts_with("--node "))
}

/// What was given as a node's address, if it has more than a scheme and a host: that may be a token.
fn without_secrets(address: &str) -> Option<String> {
	let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
	let has_more = rest.contains(['@', '/', '?', '#']);
	has_more.then(|| if scheme.is_empty() { "***".into() } else { format!("{scheme}://***") })
}

/// The verb that a word may stand for, among those that stand in its place. `is_told` says that the
/// parser has told one that is alike.
fn tip_of_verb(word: &str, usage: &str, is_told: bool) -> Option<String> {
	let mut command = Args::command();
	let mut path = String::new();
	for verb in usage.split_whitespace().skip(2) {
		let Some(next) = command.find_subcommand(verb) else { continue };
		path.push_str(verb);
		path.push(' ');
		command = next.clone();
	}
	let elsewhere = ELSEWHERE.iter().find(|(name, _)| path.is_empty() && *name == word);
	if let Some((_, tip)) = elsewhere {
		return Some((*tip).to_owned());
	}
	let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
	let alike = nearest(word, &names).filter(|_| !is_told)?;
	Some(format!("a similar verb exists: 'backup {path}{alike}'"))
}

/// Nobody else can say it, for the line was not understood.
fn asks_for_json(words: impl IntoIterator<Item = OsString>) -> bool {
	words.into_iter().take_while(|word| word != "--").any(|word| word == "--json")
}

/// The parser's words: what is wrong comes first, then what would be right, then how a call looks.
fn refused(error: &clap::Error) -> CliError {
	let text = error.render().to_string();
	let mut paragraphs = text.split("\n\n").map(in_one_line).filter(|part| !part.is_empty());
	let message = paragraphs.next().unwrap_or_default();
	let message = message.strip_prefix("error: ").unwrap_or(&message);
	// The list of all verbs is for people.
	let message = message.split(" [subcommands: ").next().unwrap_or(message).to_owned();
	let hint = paragraphs.map(|part| part.strip_prefix("tip: ").unwrap_or(&part).to_owned());
	CliError::Usage { message, hint: hint.collect::<Vec<_>>().join("; ") }
}

fn in_one_line(paragraph: &str) -> String {
	paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
	use super::*;

	fn tip_for(call: &str) -> Option<String> {
		tip(&Args::read(call.split_whitespace()).unwrap_err())
	}

	#[test]
	fn a_slip_of_a_verb_is_told_the_verb() {
		for (call, verb) in [
			("backup vsm", "'backup vms'"),
			("backup --json vsm", "'backup vms'"),
			("backup key nwe", "'backup key new'"),
		] {
			let tip = tip_for(call).unwrap_or_default();
			assert!(tip.contains(verb), "{call}: {tip:?}");
		}
		// The parser tells it by itself, or nobody can.
		for call in ["backup snapshot-s", "backup xyzzy", "backup key config"] {
			assert_eq!(tip_for(call), None, "{call}");
		}
	}

	#[test]
	fn a_word_of_another_program_is_told_what_it_is_called_here() {
		for (word, tip) in ELSEWHERE {
			assert_eq!(tip_for(&format!("backup {word}")).as_deref(), Some(tip));
		}
		let command = Args::command();
		for (word, _) in ELSEWHERE {
			assert!(command.find_subcommand(word).is_none(), "{word} is a verb");
		}
	}

	#[test]
	fn a_root_without_its_flag_is_told_the_flag() {
		let root = Cid::dag_cbor([7; 32]).to_string();
		let tip = tip_for(&format!("backup restore {root}")).unwrap();
		assert!(tip.contains(&format!("--root {root}")), "{tip}");
		// Where there is no such flag, and of what is no root.
		assert_eq!(tip_for(&format!("backup vms {root}")), None);
		assert_eq!(tip_for("backup restore disk.raw"), None);
	}
}
