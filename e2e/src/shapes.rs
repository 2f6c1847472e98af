//! The table of answers in `docs/cli.md`, compared with answers: each verb's fields are those that the table
//! tells, no more and no fewer.

use serde_json::Value as Json;
use std::{collections::BTreeSet, fs, path::Path};

/// The row of verbs that sign and have none of their own.
const TRANSACTION: &str = "every transaction";

/// Flags that all verbs have, and that are followed by a value.
const WITH_VALUE: [&str; 7] = [
	"--node",
	"--chain",
	"--config",
	"--secret-file",
	"--secret-command",
	"--suri-file",
	"--suri-command",
];

/// A row of the table.
#[derive(Debug)]
struct Row {
	/// The verb, or what all transactions are called.
	name: String,
	/// The fields of each shape that its answer may have.
	shapes: Vec<BTreeSet<String>>,
}

/// Compare the answer of a call, given without the program's name, with the table.
///
/// # Errors
///
/// In words, what is not as the table has it.
pub fn compare(call: &[&str], answer: &Json) -> Result<(), String> {
	let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
	let page = fs::read_to_string(page).map_err(|error| error.to_string())?;
	compare_with(&rows(&page), call, answer)
}

fn compare_with(rows: &[Row], call: &[&str], answer: &Json) -> Result<(), String> {
	let words = verb_and_more(call);
	let names_it = |row: &&Row| words.starts_with(&row.name.split(' ').collect::<Vec<_>>());
	let mut name = TRANSACTION;
	for row in rows.iter().filter(names_it) {
		name = &row.name;
	}
	let answer = answer.as_object().ok_or("the answer is no object")?;
	if answer.get("version") != Some(&Json::from(1)) {
		return Err(format!("{words:?}: the answer says no version"));
	}
	let fields: BTreeSet<_> = answer.keys().filter(|key| *key != "version").cloned().collect();
	let told: Vec<_> =
		rows.iter().filter(|row| row.name == name).flat_map(|row| &row.shapes).collect();
	match told.contains(&&fields) {
		true => Ok(()),
		false => Err(format!("{words:?} answers {fields:?}, and docs/cli.md tells {told:?}")),
	}
}

/// The words of a call from its verb on.
fn verb_and_more<'a>(call: &[&'a str]) -> Vec<&'a str> {
	let mut words = call.iter();
	while let Some(word) = words.as_slice().first().filter(|word| word.starts_with('-')) {
		words.next();
		if WITH_VALUE.contains(word) {
			words.next();
		}
	}
	words.copied().collect()
}

fn rows(page: &str) -> Vec<Row> {
	let table = page.split_once("| command | shape |\n|---|---|\n").map_or("", |(_, table)| table);
	let lines = table.lines().take_while(|line| line.starts_with('|'));
	let rows = lines.filter_map(|line| {
		let (name, shape) = line.strip_prefix("| ")?.split_once(" | ")?;
		// Behind a verb in code there may be words on when that is its answer.
		let name = name.strip_prefix('`').and_then(|name| name.split('`').next()).unwrap_or(name);
		let code = shape.split('`').skip(1).step_by(2);
		let shapes = code.filter(|code| code.starts_with('{')).map(fields).collect();
		Some(Row { name: name.to_owned(), shapes })
	});
	rows.collect()
}

/// The names of the outermost fields in what looks like JSON and is for people.
fn fields(shape: &str) -> BTreeSet<String> {
	let mut fields = BTreeSet::new();
	let mut depth = 0;
	let mut before = ' ';
	let mut parts = shape.split('"');
	while let Some(words) = parts.next() {
		for c in words.chars().filter(|c| !c.is_whitespace()) {
			match c {
				'{' | '[' => depth += 1,
				'}' | ']' => depth -= 1,
				_ => (),
			}
			before = c;
		}
		// A string behind a colon or a word is a value.
		let Some(text) = parts.next() else { break };
		if depth == 1 && ['{', ','].contains(&before) {
			fields.insert(text.to_owned());
		}
		before = '"';
	}
	fields
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	const PAGE: &str = "\n| command | shape |\n|---|---|\n\
		| every transaction | `{\"hash\", \"events\": [{\"pallet\"}]}` |\n\
		| `key new` | `{\"recipient\", \"path\"}`, or `{\"recipient\"}` without `--output` |\n\
		| `ls` without a path | `{\"root\", \"state\": \"one\" or \"two\", \"disks\": [{\"name\"}], \"more\"}` |\n\
		| `ls` | `{\"root\", \"entries\"}` |\n\nWords.\n";

	fn differs(call: &str, answer: Json) -> bool {
		let call: Vec<_> = call.split(' ').collect();
		compare_with(&rows(PAGE), &call, &answer).is_err()
	}

	#[test]
	fn an_answer_has_the_fields_of_one_of_its_rows_and_its_version() {
		assert!(!differs(
			"--node url --json key new --output x",
			json!({"version": 1, "recipient": 1, "path": 2})
		));
		assert!(!differs("key new", json!({"version": 1, "recipient": 1})));
		assert!(!differs(
			"ls",
			json!({"version": 1, "root": 1, "state": 2, "disks": [], "more": 1})
		));
		assert!(!differs("ls /", json!({"version": 1, "root": 1, "entries": []})));
		assert!(!differs("key register", json!({"version": 1, "hash": 1, "events": []})));
	}

	#[test]
	fn a_field_too_many_or_too_few_is_told_and_so_is_a_version_that_is_missing() {
		assert!(differs("key new", json!({"recipient": 1})));
		assert!(differs("key new", json!({"version": 1, "recipient": 1, "more": 1})));
		assert!(differs("ls", json!({"version": 1, "root": 1})));
		assert!(differs("hold 1 2", json!({"version": 1, "hash": 1})));
		assert!(differs("key new", json!([])));
	}
}
