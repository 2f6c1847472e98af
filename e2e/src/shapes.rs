//! The table of answers in `docs/cli.md`, compared with answers: each verb's fields, and those within, are
//! those that the table tells, no more and no fewer.

#[path = "shapes/shape.rs"]
mod shape;

use serde_json::Value as Json;
use shape::{Definitions, Shape};
use std::{fs, path::Path};

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
	/// The shapes that its answer may have.
	shapes: Vec<Shape>,
}

/// What the page says of answers.
#[derive(Debug)]
struct Page {
	rows: Vec<Row>,
	definitions: Definitions,
}

/// Compare the answer of a call, given without the program's name, with the table.
///
/// # Errors
///
/// In words, what is not as the table has it.
pub fn compare(call: &[&str], answer: &Json) -> Result<(), String> {
	let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
	let page = fs::read_to_string(page).map_err(|error| error.to_string())?;
	compare_with(&Page::read(&page)?, call, answer)
}

fn compare_with(page: &Page, call: &[&str], answer: &Json) -> Result<(), String> {
	let words = verb_and_more(call);
	let names_it = |row: &&Row| words.starts_with(&row.name.split(' ').collect::<Vec<_>>());
	let mut name = TRANSACTION;
	for row in page.rows.iter().filter(names_it) {
		name = &row.name;
	}
	let mut answer = answer.clone();
	let version = answer.as_object_mut().ok_or("the answer is no object")?.remove("version");
	if version != Some(Json::from(1)) {
		return Err(format!("{words:?}: the answer says no version"));
	}
	let mut differences = Vec::new();
	for shape in page.rows.iter().filter(|row| row.name == name).flat_map(|row| &row.shapes) {
		match shape.fits(&answer, &page.definitions) {
			Ok(()) => return Ok(()),
			Err(difference) => differences.push(difference),
		}
	}
	Err(format!("{words:?} does not answer as docs/cli.md tells: {}", differences.join("; or: ")))
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

impl Page {
	fn read(page: &str) -> Result<Self, String> {
		let definitions = definitions(page)?;
		let table =
			page.split_once("| command | shape |\n|---|---|\n").map_or("", |(_, table)| table);
		let lines = table.lines().take_while(|line| line.starts_with('|'));
		let cells = lines.filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
		let row = |(name, shapes): (&str, &str)| {
			// Behind a verb in code there may be words on when that is its answer.
			let verb = name.strip_prefix('`').and_then(|name| name.split('`').next());
			// What is defined beside the answer is none.
			let shapes: Result<_, _> = shapes
				.split('`')
				.scan("", |before, part| Some((core::mem::replace(before, part), part)))
				.filter(|(before, part)| part.starts_with('{') && defined(before).is_none())
				.map(|(_, part)| part.parse())
				.collect();
			Ok(Row { name: verb.unwrap_or(name).to_owned(), shapes: shapes? })
		};
		Ok(Self { rows: cells.map(row).collect::<Result<_, String>>()?, definitions })
	}
}

/// Every shape that has a name of its own: "A *restore* is `{…}`".
fn definitions(page: &str) -> Result<Definitions, String> {
	let mut definitions = Definitions::new();
	let mut before = "";
	for part in page.split('`') {
		if let (Some(name), true) = (defined(before), part.starts_with('{')) {
			definitions.insert(name.to_owned(), part.parse()?);
		}
		before = part;
	}
	Ok(definitions)
}

/// What is defined by the code behind these words.
fn defined(before: &str) -> Option<&str> {
	before.trim_end().strip_suffix("* is")?.rsplit_once('*').map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	const PAGE: &str = "\n| command | shape |\n|---|---|\n\
		| every transaction | `{\"hash\", \"events\": [{\"pallet\"}]}` |\n\
		| `key new` | `{\"recipient\", \"path\"}`, or `{\"recipient\"}` without `--output` |\n\
		| `drill` | `{\"disks\": [part]}`, a *part* is `{\"name\", \"bytes\"}` |\n\
		| `ls` without a path | `{\"root\", \"state\": \"one\" or \"two\", \"disks\": [disk and \"places\": [{\"at\"}]], \"more\"}` |\n\
		| `ls` | `{\"root\", \"entries\": [words], \"why\": {\"state\", …}}` |\n\nA *disk* is `{\"name\",\n\"parts\": [part]}`.\n";

	fn differs(call: &str, answer: Json) -> bool {
		let call: Vec<_> = call.split(' ').collect();
		compare_with(&Page::read(PAGE).unwrap(), &call, &answer).is_err()
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
		let why = json!({"state": 1, "since": 2});
		assert!(!differs("ls /", json!({"version": 1, "root": 1, "entries": ["a"], "why": why})));
		assert!(!differs("key register", json!({"version": 1, "hash": 1, "events": []})));
	}

	#[test]
	fn a_name_that_nothing_defines_is_told() {
		let page = PAGE.replace("a *part* is", "a *prat* is");
		let answer = json!({"version": 1, "disks": [{"name": 1, "bytes": 2}]});
		let compared = compare_with(&Page::read(&page).unwrap(), &["drill"], &answer);
		assert!(compared.unwrap_err().contains("*part* is not defined"));
		assert!(!differs("drill", answer));
	}

	#[test]
	fn a_field_too_many_or_too_few_is_told_and_so_is_a_version_that_is_missing() {
		assert!(differs("key new", json!({"recipient": 1})));
		assert!(differs("key new", json!({"version": 1, "recipient": 1, "more": 1})));
		assert!(differs("ls", json!({"version": 1, "root": 1})));
		assert!(differs("hold 1 2", json!({"version": 1, "hash": 1})));
		assert!(differs("key new", json!([])));
	}

	#[test]
	fn what_is_within_an_answer_is_compared_too() {
		let ls =
			|disk: Json| json!({"version": 1, "root": 1, "state": 2, "disks": [disk], "more": 1});
		let part = json!({"name": 1, "bytes": 2});
		let fits = json!({"name": 1, "parts": [part], "places": [{"at": 1}]});
		assert!(!differs("ls", ls(fits)));
		for wrong in [
			json!({"name": 1, "parts": [{"name": 1}], "places": []}),
			json!({"name": 1, "parts": [], "places": [{"at": 1, "more": 2}]}),
			json!({"name": 1, "parts": {}, "places": []}),
			json!({"name": 1, "places": []}),
		] {
			assert!(differs("ls", ls(wrong.clone())), "{wrong}");
		}
		assert!(differs("hold", json!({"version": 1, "hash": 1, "events": [{}]})));
		assert!(!differs("drill", json!({"version": 1, "disks": [part]})));
		assert!(differs("drill", part), "the part of an answer is no answer");
	}
}
