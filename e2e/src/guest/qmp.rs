//! As much of a QMP client as the harness needs.
//!
//! It is for the harness' own socket. The socket for backups takes one client at a time, and
//! that is the agent.

use std::{
	io,
	path::Path,
	time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::guest::lines::Lines;

/// A QMP session whose capabilities are negotiated.
#[derive(Debug)]
pub(crate) struct Qmp {
	lines: Lines,
}

impl Qmp {
	/// Connects, and negotiates.
	pub(crate) fn connect(
		path: &Path,
		deadline: Instant,
		alive: impl FnMut() -> bool,
	) -> io::Result<Self> {
		let mut qmp = Self { lines: Lines::connect(path, deadline, alive)? };
		let greeting = qmp.read(deadline)?;
		if greeting.get("QMP").is_none() {
			return Err(invalid("no QMP greeting"));
		}
		qmp.execute("qmp_capabilities", &json!({}), time_left(deadline))?;
		Ok(qmp)
	}

	/// QEMU's whole answer, which has either `return` or `error`. Events are passed over.
	pub(crate) fn execute(
		&mut self,
		command: &str,
		arguments: &Value,
		timeout: Duration,
	) -> io::Result<Value> {
		let deadline = Instant::now() + timeout;
		let request = json!({ "execute": command, "arguments": arguments });
		self.lines.write_line(&request.to_string(), deadline)?;
		loop {
			let message = self.read(deadline)?;
			if message.get("event").is_none() {
				return Ok(message);
			}
		}
	}

	fn read(&mut self, deadline: Instant) -> io::Result<Value> {
		let line = self.lines.read_line(deadline)?;
		serde_json::from_str(&line).map_err(|_| invalid("a line that is not JSON"))
	}
}

fn time_left(deadline: Instant) -> Duration {
	deadline.saturating_duration_since(Instant::now())
}

fn invalid(what: &'static str) -> io::Error {
	io::Error::new(io::ErrorKind::InvalidData, what)
}
