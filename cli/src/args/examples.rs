//! What the help of the command has beside its definition: the order of the verbs, and examples.

use clap::Command;

/// The verbs in the order in which they are listed: what owners do day by day, how much is kept, who may open
/// it, what an account begins with, snapshots as they are, operators, the council, the shell.
const ORDER: [&str; 45] = [
	"status",
	"vms",
	"snapshots",
	"restore",
	"restore-file",
	"ls",
	"cat",
	"diff",
	"verify",
	"drill",
	"watch",
	"snapshot",
	"request-restore",
	"close-restore",
	"hold",
	"release",
	"delete",
	"keep",
	"settings",
	"cadence",
	"cost",
	"copies",
	"root",
	"key",
	"grant",
	"revoke",
	"grants",
	"envelope",
	"subscribe",
	"unsubscribe",
	"request",
	"create",
	"approve",
	"reject",
	"delete-all",
	"show",
	"export",
	"import",
	"serve-disk",
	"node",
	"upkeep",
	"governance",
	"completions",
	"man",
	"help",
];

/// Examples of verbs. `CID` stands for the root of a snapshot, `ADDRESS` for an account, `age1…` for a key.
const EXAMPLES: [(&str, &[&str]); 25] = [
	("status", &["backup status", "backup status web-1 --agent http://127.0.0.1:9955"]),
	("vms", &["backup vms", "backup vms --owner ADDRESS --json"]),
	(
		"snapshots",
		&[
			"backup snapshots web-1 --newest 5",
			"backup snapshots web-1 --since 2026-05-01 --until 2026-05-31",
			"backup snapshots --tree",
		],
	),
	(
		"restore",
		&[
			"backup restore --machine web-1 --identity owner.key --output disk.raw",
			"backup restore --machine web-1 --at 2026-05-01 --identity owner.key --device /dev/vg0/web-1",
			"backup restore --root CID --identity owner.key --car web-1.car --output disk.raw",
		],
	),
	(
		"restore-file",
		&[
			"backup restore-file --machine web-1 --identity owner.key /etc --output etc",
			"backup restore-file --root CID --identity owner.key --store blocks /etc/fstab --output fstab",
		],
	),
	(
		"ls",
		&[
			"backup ls --machine web-1 --identity owner.key",
			"backup ls --machine web-1 --identity owner.key /etc --recursive",
		],
	),
	("cat", &["backup cat --machine web-1 --identity owner.key /etc/fstab"]),
	(
		"diff",
		&[
			"backup diff --machine web-1 3 4 --identity owner.key",
			"backup diff CID CID --identity owner.key --store blocks --places",
		],
	),
	(
		"verify",
		&[
			"backup verify --machine web-1 --identity owner.key",
			"backup verify --root CID --store blocks --read",
		],
	),
	(
		"drill",
		&[
			"backup drill --machine web-1 --identity owner.key",
			"backup drill --root CID --identity owner.key --car web-1.car",
		],
	),
	("watch", &["backup watch web-1", "backup watch --json"]),
	("snapshot now", &["backup snapshot now web-1"]),
	(
		"request-restore",
		&[
			"backup request-restore web-1 --wait",
			"backup request-restore web-1 3 --replace --wait",
			"backup request-restore web-1 --at '2026-05-01 12:30' --onto web-2",
		],
	),
	("hold", &["backup hold web-1 3"]),
	(
		"delete",
		&[
			"backup delete web-1 3 4",
			"backup delete web-1 --until 90d",
			"backup delete web-1 --yes",
		],
	),
	("keep", &["backup keep web-1 3", "backup keep web-1", "backup keep --all"]),
	("settings", &["backup settings web-1", "backup settings web-1 --pause --keep-last 30"]),
	("cadence", &["backup cadence 14400"]),
	("cost", &["backup cost", "backup cost --owner ADDRESS"]),
	(
		"key",
		&[
			"backup key new --output owner.key",
			"backup key register --identity owner.key",
			"backup key words --identity owner.key",
		],
	),
	("key register", &["backup key register --identity owner.key", "backup key register age1…"]),
	(
		"grant",
		&[
			"backup grant web-1 --to ADDRESS",
			"backup grant web-1 --to ADDRESS --until 2030-01-01 --key age1…",
		],
	),
	(
		"envelope",
		&["backup envelope --machine web-1 --identity owner.key --to age1… --output envelope"],
	),
	("subscribe", &["backup subscribe --periods 3"]),
	("request create", &["backup request create --disk-bytes 20G"]),
];

/// The command with the verbs in their order, and with examples in their help.
pub(super) fn with_examples(command: Command) -> Command {
	below(command, "")
}

/// The same for the verbs of a command, each with what stands before it.
fn below(command: Command, before: &str) -> Command {
	command.mut_subcommands(|verb| {
		let path = format!("{before}{}", verb.get_name());
		let verb = match ORDER.iter().position(|name| *name == path) {
			Some(place) => verb.display_order(place),
			None => verb,
		};
		let verb = match EXAMPLES.iter().find(|(name, _)| *name == path) {
			Some((_, lines)) => verb.after_help(text(lines)),
			None => verb,
		};
		below(verb, &format!("{path} "))
	})
}

fn text(lines: &[&str]) -> String {
	let title = if lines.len() == 1 { "Example:" } else { "Examples:" };
	lines.iter().fold(title.to_owned(), |text, line| format!("{text}\n  {line}"))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::args::Args;
	use clap::CommandFactory;

	/// No line of help is longer, so that none is broken.
	const WIDTH_MAX: usize = 100;

	/// The words of an example, with something for what stands for something.
	fn words(line: &str) -> Vec<String> {
		let parts = line.split('\'').enumerate();
		let words = parts.flat_map(|(index, part)| match index % 2 {
			0 => part.split_whitespace().map(str::to_owned).collect(),
			_ => vec![part.to_owned()],
		});
		let meant = |word: String| match word.as_str() {
			"CID" => backup_primitives::Cid::dag_cbor([7; 32]).to_string(),
			"ADDRESS" => "5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y".to_owned(),
			"age1…" => backup_primitives::Recipient([9; 32]).to_string(),
			_ => word,
		};
		words.map(meant).collect()
	}

	#[test]
	fn every_example_is_a_call_of_its_verb() {
		for (verb, lines) in EXAMPLES {
			for line in lines {
				assert!(line.starts_with(&format!("backup {verb}")), "{verb}: {line}");
				assert!(line.chars().count() + 2 <= WIDTH_MAX, "{line}");
				if let Err(error) = Args::read(words(line)) {
					panic!("{line}\n{error}");
				}
			}
		}
	}

	#[test]
	fn every_example_stands_in_the_help_of_its_verb() {
		for (verb, lines) in EXAMPLES {
			let call: Vec<_> =
				["backup"].into_iter().chain(verb.split(' ')).chain(["--help"]).collect();
			let help = Args::read(call).unwrap_err().to_string();
			for line in lines {
				assert!(help.contains(&format!("\n  {line}\n")), "{verb}: {help}");
			}
		}
	}

	#[test]
	fn every_verb_has_its_place() {
		let command = Args::command();
		let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
		for name in &names {
			assert_eq!(ORDER.iter().filter(|place| *place == name).count(), 1, "{name}");
		}
		assert_eq!(ORDER.len(), names.len() + 1, "a verb has a place and is none");
	}
}
