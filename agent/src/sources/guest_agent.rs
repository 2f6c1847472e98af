//! Freezing the guest's file systems through QEMU's guest agent.
//!
//! A frozen guest is dangerous, so whoever freezes holds a [`Frozen`], which thaws when it is
//! dropped. The agent is a program of the guest's, and is trusted with nothing: what it sends is
//! bounded, and so is how long it is heard. See QEMU's `qga/qapi-schema.json`.

use super::socket::Lines;
use serde_json::{Value, json};
use std::{
	io,
	path::{Path, PathBuf},
	time::Duration,
};

/// How the agent's channel is called in a guest, by which a machine that has one is known.
pub(super) const CHANNEL: &str = "org.qemu.guest_agent.0";

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// How long the agent may take to thaw.
const THAW_TIME_MAX: Duration = Duration::from_secs(10);

/// Resets the agent's parser, whatever was said before.
const SENTINEL: u8 = 0xff;

/// A guest agent that answers.
#[derive(Debug)]
pub(super) struct Agent {
	socket: PathBuf,
	lines: Lines,
}

/// File systems that stand still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
	agent: Agent,
	is_thawed: bool,
}

/// Why the agent did not do something.
#[derive(Debug, thiserror::Error)]
enum AgentError {
	#[error("the guest agent refused {command}: {words}")]
	Refused { command: &'static str, words: String },
	#[error(transparent)]
	Io(#[from] io::Error),
}

/// Thaw what is frozen, whoever froze it.
pub(super) fn thaw(socket: &Path) -> io::Result<()> {
	let mut agent = Agent::connect(socket, THAW_TIME_MAX)?;
	match agent.run("guest-fsfreeze-status") {
		Ok(Value::String(status)) if status == "thawed" => Ok(()),
		_ => agent.run("guest-fsfreeze-thaw").map(drop).map_err(io::Error::from),
	}
}

impl Agent {
	/// Connect, and make sure that the next answer is to our next question. Freezing and all
	/// before it has until `time_max`.
	pub(super) fn connect(socket: &Path, time_max: Duration) -> io::Result<Self> {
		let mut lines = Lines::connect(socket, time_max, LINE_BYTES_MAX)?;
		let id = rand::random::<u32>();
		let request = json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } });
		let mut bytes = vec![SENTINEL];
		bytes.extend(request.to_string().into_bytes());
		bytes.push(b'\n');
		lines.write(&bytes)?;
		loop {
			// What comes before is the rest of others' talk.
			let line = lines.read()?;
			let text = line.strip_prefix(&[SENTINEL]).unwrap_or(&line);
			let answer: Option<Value> = serde_json::from_slice(text).ok();
			if answer.is_some_and(|answer| answer["return"] == id) {
				return Ok(Self { socket: socket.to_owned(), lines });
			}
		}
	}

	/// Whether the guest's file systems stand still already. An agent that does not know has frozen
	/// none.
	pub(super) fn is_frozen(&mut self) -> io::Result<bool> {
		match self.run("guest-fsfreeze-status") {
			Ok(status) => Ok(status == "frozen"),
			Err(AgentError::Refused { .. }) => Ok(false),
			Err(AgentError::Io(error)) => Err(error),
		}
	}

	/// Freeze the guest's file systems, which were not frozen before. Returns nothing where none
	/// stands still.
	///
	/// # Errors
	/// Fails if it is not known what the agent did. It was told to thaw then.
	pub(super) fn freeze(self) -> io::Result<Option<Frozen>> {
		// From here on a thaw is sent on every path: a freeze that answers late has frozen.
		let mut frozen = Frozen { agent: self, is_thawed: false };
		match frozen.agent.run("guest-fsfreeze-freeze") {
			Ok(count) if count.as_u64().is_some_and(|count| count > 0) => Ok(Some(frozen)),
			Ok(_) => {
				tracing::warn!("the guest froze no file system");
				// Older agents take themselves for frozen then, and do nothing else.
				if frozen.agent.is_frozen()? {
					frozen.agent.run("guest-fsfreeze-thaw")?;
				}
				frozen.is_thawed = true;
				Ok(None)
			}
			// An agent that says no has frozen nothing.
			Err(error @ AgentError::Refused { .. }) => {
				tracing::warn!(%error, "the guest does not freeze");
				frozen.is_thawed = true;
				Ok(None)
			}
			Err(AgentError::Io(error)) => Err(error),
		}
	}

	fn run(&mut self, command: &'static str) -> Result<Value, AgentError> {
		let mut request = json!({ "execute": command }).to_string();
		request.push('\n');
		self.lines.write(request.as_bytes())?;
		let mut answer: Value =
			serde_json::from_slice(&self.lines.read()?).map_err(io::Error::from)?;
		if let Some(value) = answer.get_mut("return") {
			return Ok(value.take());
		}
		let words = answer["error"]["desc"].as_str().unwrap_or("no reason given").to_owned();
		Err(AgentError::Refused { command, words })
	}
}

impl Frozen {
	/// Let the guest go on, and say whether it stood still until now.
	pub(super) fn thaw(mut self) -> io::Result<()> {
		self.agent.lines.allow(THAW_TIME_MAX);
		let count = self.agent.run("guest-fsfreeze-thaw")?;
		self.is_thawed = true;
		match count.as_u64() {
			Some(count) if count > 0 => Ok(()),
			_ => Err(io::Error::other("the guest had thawed by itself")),
		}
	}
}

impl Drop for Frozen {
	fn drop(&mut self) {
		if self.is_thawed {
			return;
		}
		// The agent hears one client, and this one's talk is out of step.
		self.agent.lines.shut();
		if let Err(error) = thaw(&self.agent.socket) {
			tracing::error!(%error, "failed to thaw the guest's file systems; it is tried again");
		}
	}
}

impl From<AgentError> for io::Error {
	fn from(error: AgentError) -> Self {
		match error {
			AgentError::Io(error) => error,
			error @ AgentError::Refused { .. } => Self::other(error),
		}
	}
}
