//! A client of QEMU's control protocol, tolerant of what it does not know.
//!
//! One command at a time, a deadline on each, events passed over. See QEMU's
//! `docs/interop/qmp-spec.rst`.

use super::SourceError;
use serde_json::{Value, json};
use std::{
	io::{self, BufRead, BufReader, Read, Write},
	os::unix::net::UnixStream,
	path::{Path, PathBuf},
	time::Duration,
};

/// How long QEMU may take for one answer.
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
	reader: BufReader<UnixStream>,
}

impl Monitor {
	/// Connect and negotiate. Returns nothing if nobody listens: the machine is off.
	pub fn connect(path: &Path) -> Result<Option<Self>, SourceError> {
		let stream = match UnixStream::connect(path) {
			Ok(stream) => stream,
			Err(error)
				if matches!(
					error.kind(),
					io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
				) =>
			{
				return Ok(None);
			}
			Err(error) => {
				let reason = error.to_string();
				return Err(SourceError::NotQmp { path: path.to_owned(), reason });
			}
		};
		let mut monitor = Self { path: path.to_owned(), reader: BufReader::new(stream) };
		monitor.greet().map_err(|error| SourceError::NotQmp {
			path: path.to_owned(),
			reason: match error.kind() {
				io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
					"it did not greet in time; another client may be connected".into()
				}
				_ => error.to_string(),
			},
		})?;
		monitor.run("qmp_capabilities", json!({}))?;
		Ok(Some(monitor))
	}

	fn greet(&mut self) -> io::Result<()> {
		self.reader.get_ref().set_write_timeout(Some(ANSWER_TIME_MAX))?;
		self.reader.get_ref().set_read_timeout(Some(GREETING_TIME_MAX))?;
		let greeting = self.read_message()?;
		self.reader.get_ref().set_read_timeout(Some(ANSWER_TIME_MAX))?;
		match greeting.get("QMP") {
			Some(_) => Ok(()),
			None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no QMP server")),
		}
	}

	/// Run a command and return what it returned.
	pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value, SourceError> {
		let request = json!({ "execute": command, "arguments": arguments });
		let answer = self.exchange(&request).map_err(|error| match error.kind() {
			io::ErrorKind::UnexpectedEof
			| io::ErrorKind::ConnectionReset
			| io::ErrorKind::BrokenPipe => SourceError::Vanished,
			_ => SourceError::NotQmp { path: self.path.clone(), reason: error.to_string() },
		})?;
		match answer {
			Ok(value) => Ok(value),
			Err(description) => {
				Err(SourceError::Refused { command: command.to_owned(), description })
			}
		}
	}

	fn exchange(&mut self, request: &Value) -> io::Result<Result<Value, String>> {
		let mut line = request.to_string();
		line.push('\n');
		self.reader.get_mut().write_all(line.as_bytes())?;
		for _ in 0..EVENTS_MAX {
			let mut message = self.read_message()?;
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
		let mut line = Vec::new();
		let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
		if read == 0 {
			return Err(io::ErrorKind::UnexpectedEof.into());
		}
		serde_json::from_slice(&line)
			.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not speak JSON"))
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::{os::unix::net::UnixListener, thread};

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
