//! What `docs/operations.md` shows of files and answers, for the tests that compare it with these.

use crate::{
	config::{Config, Settings},
	sources::Vm,
};
use serde_json::Value;
use std::{fs, path::Path};

/// The page's blocks in a language.
fn blocks(language: &str) -> Vec<String> {
	let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
	let page = fs::read_to_string(path).unwrap();
	let begin = format!("\n```{language}\n");
	let behind = page.split(&begin).skip(1);
	behind.map(|rest| rest.split_once("\n```").unwrap().0.to_owned()).collect()
}

/// The answer with this field that the page shows.
pub(crate) fn answer_with(field: &str) -> Value {
	let answers = blocks("json").into_iter().map(|block| serde_json::from_str(&block).unwrap());
	answers.into_iter().find(|answer: &Value| answer.get(field).is_some()).unwrap()
}

#[test]
fn every_file_that_the_page_shows_is_one_that_the_agent_takes() {
	let (mut configurations, mut machines) = (0, 0);
	for block in blocks("toml") {
		// A machine has a UUID, and no configuration has.
		if block.starts_with("uuid =") {
			Vm::parse(&block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
			machines += 1;
			continue;
		}
		let file = tempfile::NamedTempFile::new().unwrap();
		fs::write(file.path(), &block).unwrap();
		let loaded = Config::load(Some(file.path()), Settings::default());
		assert!(loaded.is_ok(), "{:?}:\n{block}", loaded.err());
		configurations += 1;
	}
	assert!(configurations >= 3 && machines >= 2, "{configurations} and {machines} were found");
}
