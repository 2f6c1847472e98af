//! The desk of owners: the command `backup` on a running chain, as one account or another.

use anyhow::{Context, Result, ensure};
use backup_e2e::{
	chain::number,
	command,
	world::{Machine, World},
};
use serde_json::Value as Json;
use std::{
	fs,
	io::Write,
	path::{Path, PathBuf},
	process::{Command, Output, Stdio},
};

/// The machine's owner, and another account.
pub(crate) const OWNER: &str = "Bob";
pub(crate) const STRANGER: &str = "Charlie";

/// The council's only member, who is the operator, too.
pub(crate) const COUNCIL: &str = "Alice";

pub(crate) struct Desk<'a> {
	pub(crate) world: &'a World,
	pub(crate) machine: &'a Machine,
}

impl<'a> Desk<'a> {
	pub(crate) fn open(world: &'a World, machine: &'a Machine) -> Result<Self> {
		for name in [OWNER, STRANGER, COUNCIL] {
			fs::write(world.lab.path().join(name), format!("//{name}"))?;
		}
		Ok(Self { world, machine })
	}

	pub(crate) fn path(&self, name: &str) -> PathBuf {
		self.world.lab.path().join(name)
	}

	/// What says which chain and whose secret.
	fn preamble(&self, who: &str) -> [String; 4] {
		let secret = self.path(who).display().to_string();
		["--node".into(), self.world.node.url(), "--secret-file".into(), secret]
	}

	fn run(&self, who: &str, words: &str) -> Result<Output> {
		let words = words.split_whitespace().map(str::to_owned);
		command::run(self.preamble(who).into_iter().chain(words))
	}

	/// The answer of a verb of the machine's owner, which succeeds.
	pub(crate) fn answer(&self, words: &str) -> Result<Json> {
		self.answer_to(OWNER, words)
	}

	/// The same of an account.
	pub(crate) fn answer_to(&self, who: &str, words: &str) -> Result<Json> {
		command::answer_of(&self.run(who, words)?, who, words)
	}

	/// What the owner is told without `--json`.
	pub(crate) fn text(&self, words: &str) -> Result<String> {
		let words = words.split_whitespace().map(str::to_owned);
		command::text(self.preamble(OWNER).into_iter().chain(words))
	}

	/// What the owner is shown on a terminal, where this is typed.
	pub(crate) fn typed(&self, words: &str, answer: &str) -> Result<String> {
		let program = command::program()?;
		let program = program.get_program().to_str().context("the path is text")?;
		let call = format!("{program} {} {words}", self.preamble(OWNER).join(" "));
		let mut terminal = Command::new("script")
			.args(["--quiet", "--flush", "--command", &call, "/dev/null"])
			.env("SHELL", "/bin/sh")
			.stdin(Stdio::piped())
			.stdout(Stdio::piped())
			.spawn()?;
		// A terminal keeps it until it is asked for.
		let mut input = terminal.stdin.take().context("nobody can type")?;
		input.write_all(answer.as_bytes())?;
		let shown = terminal.wait_with_output()?.stdout;
		drop(input);
		Ok(String::from_utf8_lossy(&shown).into_owned())
	}

	/// A verb that ends with this code and says these words.
	pub(crate) fn fails(&self, who: &str, words: &str, code: i32, said: &str) -> Result<()> {
		command::ensure_fails(&self.run(who, words)?, who, words, code, said)
	}

	/// Write standard output of a verb that needs no chain, byte for byte.
	pub(crate) fn bytes(&self, words: &str) -> Result<Vec<u8>> {
		let output = self.run(OWNER, words)?;
		let errors = String::from_utf8_lossy(&output.stderr);
		ensure!(output.status.success(), "{words}: {errors}");
		Ok(output.stdout)
	}

	/// What opens a snapshot of the machine at the running agent.
	pub(crate) fn unlock(&self, root: &str) -> String {
		let identity = self.machine.identity.path.display();
		format!("--root {root} --identity {identity} --gateway {}", self.world.agent.url())
	}

	/// A value of the backup pallet, under the machine's request and a place in its history.
	pub(crate) async fn of_snapshot(&self, map: &str, sequence: u64) -> Result<Json> {
		let keys = vec![number(self.machine.request), number(sequence)];
		self.world.chain.storage("Backup", map, keys).await
	}

	/// A value of the backup pallet, under a request.
	pub(crate) async fn of_request(&self, map: &str, request: u64) -> Result<Json> {
		self.world.chain.storage("Backup", map, vec![number(request)]).await
	}
}

/// The text of a path.
pub(crate) fn shown(path: &Path) -> String {
	path.display().to_string()
}
