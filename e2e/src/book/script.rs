//! A page as one script for bash: variables of one block are there in the next, as for a reader. It ends at
//! the first command that fails; a file says how far it came.

use super::{
	page::{Deed, Page},
	shown::is_shown,
};
use anyhow::{Context, Result, bail};
use std::{
	fmt::Write,
	fs,
	path::{Path, PathBuf},
};

/// How much of a file is shown of a step that failed.
const SHOWN_BYTES_MAX: usize = 4_096;

/// What the script begins with.
const HEAD: &str = r#"set -Eeuo pipefail
played=$1
cd "$HOME"
at() { printf '%s\n' "$1" >"$played/at"; }
is_open() {
	case $1 in
		/*) [[ -S $1 ]] ;;
		*) (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null ;;
	esac
}
listens() {
	until is_open "$1"; do
		kill -0 "$2" || { echo "it ended before it listened at $1" >&2; return 1; }
		sleep 0.1
	done
}
"#;

/// A page as a script.
#[derive(Debug)]
pub struct Script {
	text: String,
	expectations: Vec<Expectation>,
	steps: Vec<(String, String)>,
}

/// What a step has to print.
#[derive(Debug)]
struct Expectation {
	step: String,
	command: String,
	output: String,
}

impl Script {
	/// Put the commands of a page together, between those that make what it begins with and those
	/// that look at what it leaves.
	pub fn of(page: &Page, before: Option<PathBuf>, after: Option<PathBuf>) -> Self {
		let mut script =
			Self { text: HEAD.to_owned(), expectations: Vec::new(), steps: Vec::new() };
		script.stage("before", before);
		for block in &page.blocks {
			let step = format!("line-{}", block.line);
			match &block.deed {
				Deed::Type { commands, exit } => script.step(&step, commands, *exit),
				Deed::Start { commands, terminal, listens } => {
					script.start(&step, commands, terminal, listens.as_deref());
				}
				Deed::Compare { exchanges, exit } => {
					for (number, exchange) in exchanges.iter().enumerate() {
						let step = format!("{step}-{number}");
						let is_last = number + 1 == exchanges.len();
						script.step(&step, &exchange.command, if is_last { *exit } else { 0 });
						let (command, output) = (exchange.command.clone(), exchange.output.clone());
						script.expectations.push(Expectation { step, command, output });
					}
				}
				Deed::Leave { .. } => (),
			}
		}
		script.stage("after", after);
		script.text.push_str("at end\n");
		script
	}

	fn stage(&mut self, name: &str, path: Option<PathBuf>) {
		if let Some(path) = path {
			self.step(name, &format!("source '{}'\n", path.display()), 0);
		}
	}

	/// Both streams go into one file, as they would on a terminal.
	fn step(&mut self, name: &str, commands: &str, exit: i32) {
		self.steps.push((name.to_owned(), commands.to_owned()));
		let into = format!(">\"$played/{name}\" 2>&1");
		let end = if commands.ends_with('\n') { "" } else { "\n" };
		let step = match exit {
			0 => format!("at {name}\n{{\n{commands}{end}}} {into}\n"),
			code => format!(
				"at {name}\nset +e\n{{\n{commands}{end}}} {into}\ncode=$?\nset -e\n\
				 [[ $code == {code} ]] || {{ echo \"it ended with $code\" >>\"$played/{name}\"; exit 1; }}\n"
			),
		};
		self.text.push_str(&step);
	}

	fn start(&mut self, name: &str, commands: &str, terminal: &str, listens: Option<&str>) {
		self.steps.push((name.to_owned(), commands.to_owned()));
		let log = format!("\"$LOGS/{terminal}.log\"");
		let _ = writeln!(self.text, "at {name}\n(\n{commands}) >>{log} 2>&1 </dev/null &");
		if let Some(place) = listens {
			let _ = writeln!(self.text, "listens {place} $! 2>\"$played/{name}\"");
		}
	}

	/// Write it into a new folder, which its output goes to.
	pub fn write(&self, folder: &Path) -> Result<()> {
		fs::create_dir(folder).context("failed to make a folder for a page's output")?;
		// The script is given its folder by who starts it.
		let text = self.text.replacen("played=$1", &format!("played='{}'", folder.display()), 1);
		fs::write(folder.join("script.sh"), text).context("failed to write a page's script")
	}

	/// Compare what was printed with what the page shows.
	pub fn compare(&self, folder: &Path) -> Result<()> {
		for Expectation { step, command, output } in &self.expectations {
			let Ok(found) = fs::read_to_string(folder.join(step)) else { continue };
			if !is_shown(output, &found) {
				bail!("the page shows of\n$ {command}{output}\nbut it printed\n{found}");
			}
		}
		Ok(())
	}

	/// Which step it was that failed, its commands and its output.
	pub fn failure(&self, folder: &Path) -> String {
		let at = fs::read_to_string(folder.join("at")).unwrap_or_default();
		let at = at.trim();
		let commands = self.steps.iter().find(|(name, _)| name == at);
		let commands = commands.map_or("", |(_, commands)| commands);
		let output = fs::read(folder.join(at)).unwrap_or_default();
		let from = output.len().saturating_sub(SHOWN_BYTES_MAX);
		let output = String::from_utf8_lossy(&output[from..]);
		format!("it came to {at}:\n{commands}which printed:\n{output}")
	}
}
