//! A client of QEMU's control protocol, tolerant of what it does not know.
//!
//! One command at a time, a deadline on each, events and late answers passed over. See QEMU's
//! `docs/interop/qmp-spec.rst`.

use super::{
	SourceError,
	socket::{Lines, is_hang_up},
};
use serde_json::{Value, json};
use std::{
	io,
	path::{Path, PathBuf},
	time::Duration,
};

/// How long QEMU may take for one answer. `stop` waits for requests of the guest in flight.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// How long QEMU may take to greet. It greets one client at a time and lets others wait.
const GREETING_TIME_MAX: Duration = Duration::from_secs(3);

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most events between a command and its answer.
const EVENTS_MAX: usize = 10_000;

/// A connection to QEMU's control socket.
#[derive(Debug)]
pub struct Monitor {
	path: PathBuf,
	lines: Lines,
	last_id: u64,
}

impl Monitor {
	/// Connect and negotiate. Returns nothing if nobody listens: the machine is off.
	pub fn connect(path: &Path) -> Result<Option<Self>, SourceError> {
		let lines = match Lines::connect(path, GREETING_TIME_MAX, LINE_BYTES_MAX) {
			Ok(lines) => lines,
			Err(error) => {
				return match error.kind() {
					io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
					io::ErrorKind::TimedOut => Err(busy(path)),
					_ => Err(SourceError::QmpUnreachable { path: path.to_owned(), source: error }),
				};
			}
		};
		let mut monitor = Self { path: path.to_owned(), lines, last_id: 0 };
		monitor.greet().map_err(|error| match error.kind() {
			io::ErrorKind::TimedOut => busy(path),
			_ => SourceError::NotQmp { path: path.to_owned(), reason: error.to_string() },
		})?;
		monitor.run("qmp_capabilities", json!({}))?;
		Ok(Some(monitor))
	}

	/// Hang up and connect again, where an answer did not come.
	pub(super) fn reconnect(&mut self) -> Result<(), SourceError> {
		// QEMU serves one client: it must see this one leave first.
		self.lines.shut();
		*self = Self::connect(&self.path)?.ok_or(SourceError::Vanished)?;
		Ok(())
	}

	fn greet(&mut self) -> io::Result<()> {
		let greeting = self.read_message()?;
		match greeting.get("QMP") {
			Some(_) => Ok(()),
			None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no QMP server")),
		}
	}

	/// Run a command and return what it returned.
	pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value, SourceError> {
		let answer = self.exchange(command, &arguments).map_err(|error| match error.kind() {
			_ if is_hang_up(&error) => SourceError::Vanished,
			io::ErrorKind::TimedOut => {
				SourceError::Timeout { command: command.to_owned(), time_max: ANSWER_TIME_MAX }
			}
			_ => SourceError::NotQmp { path: self.path.clone(), reason: error.to_string() },
		})?;
		answer.map_err(|description| SourceError::Refused {
			command: command.to_owned(),
			description,
		})
	}

	fn exchange(&mut self, command: &str, arguments: &Value) -> io::Result<Result<Value, String>> {
		self.last_id += 1;
		let id = self.last_id;
		let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
		line.push('\n');
		self.lines.allow(ANSWER_TIME_MAX);
		self.lines.write(line.as_bytes())?;
		for _ in 0..EVENTS_MAX {
			let mut message = self.read_message()?;
			// An answer to a command that was given up has that one's id. What QEMU could not
			// parse it refuses without one.
			let about = message.get("id").and_then(Value::as_u64);
			if about.is_some_and(|about| about != id) {
				continue;
			}
			if let Some(value) = message.get_mut("return") {
				return Ok(Ok(value.take()));
			}
			if let Some(error) = message.get("error") {
				let text = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
				return Ok(Err(text.to_owned()));
			}
		}
		Err(io::Error::new(io::ErrorKind::InvalidData, "it answers with events only"))
	}

	fn read_message(&mut self) -> io::Result<Value> {
		serde_json::from_slice(&self.lines.read()?)
			.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not speak JSON"))
	}
}

fn busy(path: &Path) -> SourceError {
	let reason = "it did not greet in time; another client may be connected".into();
	SourceError::NotQmp { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::{
		io::{BufRead, BufReader, Write},
		os::unix::net::UnixListener,
		thread,
	};

	/// A server that writes each of these lines, waiting for a line before all but the first.
	fn server(lines: &'static [&'static str]) -> (tempfile::TempDir, PathBuf) {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("qmp");
		let listener = UnixListener::bind(&path).unwrap();
		thread::spawn(move || {
			let (stream, _) = listener.accept().unwrap();
			let mut reader = BufReader::new(stream);
			for (i, line) in lines.iter().enumerate() {
				let mut heard = String::new();
				if i > 0 {
					reader.read_line(&mut heard).unwrap();
				}
				reader.get_mut().write_all(line.as_bytes()).unwrap();
			}
		});
		(folder, path)
	}

	const GREETING: &str = "{\"QMP\":{}}\n";

	#[test]
	fn answers_are_told_from_events() {
		let (_folder, path) = server(&[
			GREETING,
			"{\"return\":{}}\n",
			"{\"event\":\"STOP\"}\n{\"return\":{\"running\":true}}\n",
		]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		let status = monitor.run("query-status", json!({})).unwrap();
		assert_eq!(status["running"], true);
	}

	#[test]
	fn the_late_answer_to_another_command_is_passed_over() {
		let (_folder, path) = server(&[
			GREETING,
			"{\"return\":{},\"id\":1}\n",
			"{\"return\":{\"late\":true},\"id\":1}\n{\"return\":{\"late\":false},\"id\":2}\n",
		]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		assert_eq!(monitor.run("cont", json!({})).unwrap()["late"], false);
	}

	#[test]
	fn a_refusal_carries_qemus_words() {
		let (_folder, path) = server(&[
			GREETING,
			"{\"return\":{}}\n",
			"{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such node\"}}\n",
		]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		let error = monitor.run("blockdev-del", json!({})).unwrap_err();
		assert_eq!(error.to_string(), "have QEMU do blockdev-del: no such node");
	}

	#[test]
	fn another_program_is_no_qemu() {
		for words in ["HTTP/1.1 400 Bad Request\n", "{\"hello\":1}\n", ""] {
			let lines: &'static [&'static str] = vec![words].leak();
			let (_folder, path) = server(lines);
			let error = Monitor::connect(&path).unwrap_err();
			assert!(matches!(error, SourceError::NotQmp { .. }), "{error}");
		}
	}

	#[test]
	fn nobody_there_means_that_the_machine_is_off() {
		let folder = tempfile::tempdir().unwrap();
		assert!(Monitor::connect(&folder.path().join("qmp")).unwrap().is_none());
	}

	#[test]
	fn a_machine_that_ends_has_vanished() {
		let (_folder, path) = server(&[GREETING, "{\"return\":{}}\n", ""]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		let error = monitor.run("query-status", json!({})).unwrap_err();
		assert!(matches!(error, SourceError::Vanished), "{error}");
	}
}
