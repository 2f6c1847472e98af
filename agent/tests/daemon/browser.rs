//! A real browser, led by a script beside this that takes orders one by one.

use crate::script;
use serde_json::{Map, Value as Json};
use std::{
	io::{BufRead, BufReader, Write},
	path::{Path, PathBuf},
	process::{Child, ChildStdin, ChildStdout, Stdio},
};

/// The script's folder, seen from this crate's.
const FOLDER: &str = "tests/browser";

/// Where pictures of the page are put, if somebody wants to see them.
const PICTURES: &str = "PAGE_PICTURES";

pub(crate) struct Browser {
	process: Child,
	orders: Option<ChildStdin>,
	answers: BufReader<ChildStdout>,
}

impl Browser {
	/// The browser's program. Says so aloud if there is none, and fails where everything is required.
	pub(crate) fn program() -> Option<PathBuf> {
		let paths = std::env::var_os("PATH")?;
		let found = std::env::split_paths(&paths)
			.flat_map(|folder| {
				["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name))
			})
			.find(|path| path.exists());
		if found.is_none() {
			let is_required = std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
			assert!(!is_required, "there is no chromium, which scripts/setup.sh installs");
			println!("SKIPPED: there is no chromium; the page is not looked at");
		}
		found
	}

	/// A browser for the page of the agent at a port.
	pub(crate) fn open(program: &Path, port: u16) -> Self {
		script::install(FOLDER).unwrap();
		let mut process = script::command("node", FOLDER)
			.unwrap()
			.arg("look.mjs")
			.arg(program)
			.arg(format!("http://127.0.0.1:{port}/"))
			.stdin(Stdio::piped())
			.stdout(Stdio::piped())
			.spawn()
			.unwrap();
		let orders = process.stdin.take();
		let answers = BufReader::new(process.stdout.take().unwrap());
		Self { process, orders, answers }
	}

	/// Have a step done, and read what it came to.
	pub(crate) fn ask(&mut self, step: &str, order: &[(&str, &str)]) -> Json {
		let order: Map<String, Json> =
			order.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
		self.ask_with(step, order.into())
	}

	pub(crate) fn ask_with(&mut self, step: &str, mut order: Json) -> Json {
		order["step"] = step.into();
		writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
		let mut answer = String::new();
		self.answers.read_line(&mut answer).unwrap();
		let mut answer: Json = serde_json::from_str(&answer).unwrap();
		assert!(answer.get("failed").is_none(), "{}", answer["failed"]);
		answer["done"].take()
	}

	/// Wait until an element is seen and has these words.
	pub(crate) fn see(&mut self, of: &str, text: &str) {
		self.ask("see", &[("of", of), ("text", text)]);
	}

	/// Wait until these words are read out to those who do not see.
	pub(crate) fn hear(&mut self, words: &str) {
		self.ask("hear", &[("text", words)]);
	}

	/// What keeps people out who do not see, or do not see well: there is none of it, in light and in
	/// dark colours.
	pub(crate) fn ensure_without_barriers(&mut self) {
		for scheme in ["light", "dark"] {
			let found = self.ask("axe", &[("scheme", scheme)]);
			assert!(found.as_array().unwrap().is_empty(), "{scheme}: {found:#}");
		}
	}

	/// Put pictures of the page where the environment says, if it does.
	pub(crate) fn pictures(&mut self) {
		let Some(folder) = std::env::var_os(PICTURES).map(PathBuf::from) else { return };
		for (size, width, height) in [("desktop", 1280, 900), ("phone", 390, 844)] {
			for scheme in ["light", "dark"] {
				let path = folder.join(format!("{size}-{scheme}.png"));
				self.ask_with(
					"picture",
					serde_json::json!({ "path": path, "width": width, "height": height, "scheme": scheme }),
				);
			}
		}
	}
}

impl Drop for Browser {
	fn drop(&mut self) {
		// Without orders the script closes the browser and ends.
		self.orders = None;
		let _ = self.process.wait();
	}
}
