//! Which blocks of a page are commands.
//!
//! | block | what it is |
//! |---|---|
//! | `sh run` | commands that a reader types; each ends with 0 |
//! | `sh run exit=3` | the same, where the last one ends with 3 |
//! | `sh run terminal=NAME` | a program in a terminal of its own, which runs to the end of the page |
//! | … `port=N`, `socket=PATH` | the next block begins when it listens there, else at once |
//! | `console run` | commands behind `$ `, and what they print; `exit=3` is that of the last one |
//! | `sh` behind `<!-- not run: REASON -->` | commands that no test can run |
//!
//! Blocks in other languages are no commands. One without a language is refused: nobody would know.

use anyhow::{Context, Result, bail, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::{fs, path::Path};

/// Languages that commands are written in.
const COMMANDS: [&str; 2] = ["sh", "console"];

/// A page.
#[derive(Debug)]
pub struct Page {
	/// Its file's name.
	pub name: String,
	/// Its commands, in their order.
	pub blocks: Vec<Block>,
}

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
	/// Line of the page on which it begins.
	pub line: usize,
	/// What is done with it.
	pub deed: Deed,
}

/// What is done with a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
	/// Type it, and expect an exit code at its end.
	Type {
		/// The commands.
		commands: String,
		/// The code of the last one.
		exit: i32,
	},
	/// Type it in another terminal, and wait until it listens.
	Start {
		/// The commands.
		commands: String,
		/// Name of the terminal.
		terminal: String,
		/// Where it listens, a port or the path of a socket, if that is waited for.
		listens: Option<String>,
	},
	/// Type each command and compare what it prints.
	Compare {
		/// The commands.
		exchanges: Vec<Exchange>,
		/// The code of the last one.
		exit: i32,
	},
	/// Leave it.
	Leave {
		/// Why.
		reason: String,
	},
}

/// A command and what a page shows of its output.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange {
	/// The command.
	pub command: String,
	/// What it prints.
	pub output: String,
}

impl Page {
	/// Read a page's file.
	pub fn read(path: &Path) -> Result<Self> {
		let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
		let name = path.file_name().context("a page has a name")?.to_string_lossy().into_owned();
		Self::parse(&name, &text)
	}

	/// Find the commands of a text.
	pub fn parse(name: &str, text: &str) -> Result<Self> {
		let mut blocks = Vec::new();
		let mut reason = None;
		let mut events = Parser::new(text).into_offset_iter();
		while let Some((event, range)) = events.next() {
			match event {
				Event::Html(html) => reason = reason_of(&html).or(reason),
				Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
					let line = 1 + text[..range.start].matches('\n').count();
					let mut code = String::new();
					for (event, _) in events.by_ref() {
						match event {
							Event::Text(text) => code.push_str(&text),
							Event::End(TagEnd::CodeBlock) => break,
							_ => (),
						}
					}
					let deed = deed(&info, code, reason.take())
						.with_context(|| format!("{name}, line {line}"))?;
					blocks.extend(deed.map(|deed| Block { line, deed }));
				}
				Event::Start(Tag::Paragraph | Tag::Heading { .. }) => reason = None,
				_ => (),
			}
		}
		Ok(Self { name: name.to_owned(), blocks })
	}

	/// How many blocks are run, and which are not.
	pub fn summary(&self) -> String {
		let left = self.left();
		let run = self.blocks.len() - left.len();
		let mut text = format!("{}: {run} blocks run, {} not run", self.name, left.len());
		for (line, reason) in left {
			text.push_str(&format!("\n  line {line}: {reason}"));
		}
		text
	}

	/// The blocks that are not run, and why.
	pub fn left(&self) -> Vec<(usize, &str)> {
		let left = self.blocks.iter().filter_map(|block| match &block.deed {
			Deed::Leave { reason } => Some((block.line, reason.as_str())),
			Deed::Type { .. } | Deed::Start { .. } | Deed::Compare { .. } => None,
		});
		left.collect()
	}
}

fn reason_of(html: &str) -> Option<String> {
	let words = html.trim().strip_prefix("<!-- not run:")?.strip_suffix("-->")?;
	Some(words.trim().to_owned())
}

fn deed(info: &str, code: String, reason: Option<String>) -> Result<Option<Deed>> {
	let mut words = info.split_whitespace();
	let language = words.next().context("the block says no language")?;
	if !COMMANDS.contains(&language) {
		return Ok(None);
	}
	match words.next() {
		Some("run") => ensure!(reason.is_none(), "the block is run, and is said not to be"),
		Some(word) => bail!("`{word}` is not known; `run` is"),
		None => {
			let reason =
				reason.context("the block is neither run nor says `<!-- not run: … -->`")?;
			ensure!(!reason.is_empty(), "no reason is given why the block is not run");
			return Ok(Some(Deed::Leave { reason }));
		}
	}
	let (mut exit, mut terminal, mut listens) = (None, None, None);
	for word in words {
		match word.split_once('=') {
			Some(("exit", code)) => exit = Some(code.parse().context("exit=NUMBER")?),
			Some(("terminal", name)) => terminal = Some(name.to_owned()),
			Some(("port", number)) => {
				listens = Some(number.parse::<u16>().context("port=NUMBER")?.to_string());
			}
			Some(("socket", path)) if path.starts_with('/') => listens = Some(path.to_owned()),
			_ => bail!("`{word}` is not known; `exit=`, `terminal=`, `port=` and `socket=/…` are"),
		}
	}
	match (language, terminal, listens, exit) {
		("console", None, None, exit) => {
			let (exchanges, exit) = (exchanges(&code)?, exit.unwrap_or(0));
			Ok(Some(Deed::Compare { exchanges, exit }))
		}
		("sh", None, None, exit) => {
			Ok(Some(Deed::Type { commands: code, exit: exit.unwrap_or(0) }))
		}
		("sh", Some(terminal), listens, None) => {
			Ok(Some(Deed::Start { commands: code, terminal, listens }))
		}
		_ => bail!("`port=` and `socket=` belong to `terminal=`, that to `sh`, and has no `exit=`"),
	}
}

/// Commands begin with `$ ` and go on behind a backslash at the end of a line.
fn exchanges(code: &str) -> Result<Vec<Exchange>> {
	let mut exchanges: Vec<Exchange> = Vec::new();
	let mut is_open = false;
	for line in code.lines() {
		if let Some(command) = line.strip_prefix("$ ") {
			exchanges.push(Exchange { command: format!("{command}\n"), output: String::new() });
			is_open = command.ends_with('\\');
			continue;
		}
		let last = exchanges.last_mut().context("what is shown begins without a command")?;
		let part = if is_open { &mut last.command } else { &mut last.output };
		part.push_str(line);
		part.push('\n');
		is_open = is_open && line.ends_with('\\');
	}
	ensure!(!exchanges.is_empty(), "nothing is typed");
	Ok(exchanges)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn only(text: &str) -> Deed {
		let mut blocks = Page::parse("page", text).unwrap().blocks;
		assert_eq!(blocks.len(), 1);
		blocks.remove(0).deed
	}

	#[test]
	fn a_block_is_typed_started_compared_or_left_with_a_reason() {
		let typed = Deed::Type { commands: "true\n".into(), exit: 3 };
		assert_eq!(only("```sh run exit=3\ntrue\n```\n"), typed);
		let (terminal, commands) = ("node".to_owned(), "serve\n".to_owned());
		let started = |listens: Option<&str>| Deed::Start {
			commands: commands.clone(),
			terminal: terminal.clone(),
			listens: listens.map(str::to_owned),
		};
		let text = |words: &str| format!("```sh run terminal=node{words}\nserve\n```\n");
		assert_eq!(only(&text(" port=80")), started(Some("80")));
		assert_eq!(only(&text(" socket=/run/x")), started(Some("/run/x")));
		assert_eq!(only(&text("")), started(None));
		let exchange = || Exchange { command: "cat \\\n  x\n".into(), output: "1\n…\n".into() };
		for (words, exit) in [("", 0), (" exit=1", 1)] {
			let text = format!("```console run{words}\n$ cat \\\n  x\n1\n…\n```\n");
			assert_eq!(only(&text), Deed::Compare { exchanges: vec![exchange()], exit });
		}
		let left = Deed::Leave { reason: "it installs".into() };
		assert_eq!(only("<!-- not run: it installs -->\n```sh\napt\n```\n"), left);
	}

	#[test]
	fn no_block_of_commands_is_passed_over_in_silence() {
		for text in [
			"```sh\napt\n```\n",
			"```\napt\n```\n",
			"```sh ran\napt\n```\n",
			"```sh run port=80\napt\n```\n",
			"```sh run terminal=node socket=here\napt\n```\n",
			"```sh run terminal=node exit=1\napt\n```\n",
			"```console run terminal=node\n$ apt\n```\n",
			"<!-- not run: -->\n```sh\napt\n```\n",
			"<!-- not run: for the other block -->\n\nWords.\n\n```sh\napt\n```\n",
			"<!-- not run: or is it -->\n```sh run\napt\n```\n",
			"```console run\nnothing typed\n```\n",
		] {
			assert!(Page::parse("page", text).is_err(), "{text}");
		}
	}

	#[test]
	fn a_block_in_a_list_loses_its_indentation_and_keeps_its_line() {
		let page = Page::parse("page", "1. Do\n\n   ```sh run\n   a\n     b\n   ```\n").unwrap();
		let deed = Deed::Type { commands: "a\n  b\n".into(), exit: 0 };
		assert_eq!(page.blocks, [Block { line: 3, deed }]);
	}
}
