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
	time::{Duration, Instant},
};

/// How long QEMU may take for one answer. `stop` waits for requests of the guest in flight.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// How long QEMU may take to greet. It greets one client at a time and lets others wait, and it
/// greets nobody while it waits for a slow disk to sync.
pub(super) const GREETING_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most events between a command and its answer.
const EVENTS_MAX: usize = 10_000;

/// A connection to QEMU's control socket. One that failed is made anew by the next command.
#[derive(Debug)]
pub struct Monitor {
	path: PathBuf,
	/// Nothing after a failure, whose late answer nobody is to hear.
	lines: Option<Lines>,
	last_id: u64,
	/// What QEMU has not answered by then has failed, if that is bounded as a whole.
	until: Option<Instant>,
}

impl Monitor {
	/// Connect and negotiate. Returns nothing if nobody listens: the machine is off.
	pub fn connect(path: &Path) -> Result<Option<Self>, SourceError> {
		let mut monitor = Self { path: path.to_owned(), lines: None, last_id: 0, until: None };
		Ok(monitor.dial()?.then_some(monitor))
	}

	/// Bound all that follows as a whole: what QEMU has not answered by then has failed.
	pub(super) fn hold_for(&mut self, time_max: Duration) {
		self.until = Some(Instant::now() + time_max);
	}

	/// How long something may take from now on.
	fn bounded(&self, time_max: Duration) -> Duration {
		let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
		left.map_or(time_max, |left| time_max.min(left))
	}

	/// Connect and negotiate; says whether somebody listens.
	fn dial(&mut self) -> Result<bool, SourceError> {
		let path = &self.path;
		match Lines::connect(path, self.bounded(GREETING_TIME_MAX), LINE_BYTES_MAX) {
			Ok(lines) => self.lines = Some(lines),
			Err(error) if is_nobody(&error) => return Ok(false),
			Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(busy(path)),
			Err(source) => {
				return Err(SourceError::QmpUnreachable { path: path.clone(), source });
			}
		}
		if let Err(error) = self.greet() {
			self.hang_up();
			return Err(match error.kind() {
				io::ErrorKind::TimedOut => busy(&self.path),
				_ => SourceError::NotQmp { path: self.path.clone(), reason: error.to_string() },
			});
		}
		self.ask("qmp_capabilities", &json!({}))?;
		Ok(true)
	}

	/// Whether somebody listens.
	fn is_there(&self) -> bool {
		Lines::connect(&self.path, GREETING_TIME_MAX, LINE_BYTES_MAX).map_or_else(
			|error| !is_nobody(&error),
			|lines| {
				lines.shut();
				true
			},
		)
	}

	/// QEMU serves one client: it must see this one leave before the next is heard.
	fn hang_up(&mut self) {
		if let Some(lines) = self.lines.take() {
			lines.shut();
		}
	}

	fn greet(&mut self) -> io::Result<()> {
		let greeting = self.read_message()?;
		match greeting.get("QMP") {
			Some(_) => Ok(()),
			None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no QMP server")),
		}
	}

	/// Run a command and return what it returned.
	///
	/// # Errors
	/// [`SourceError::Vanished`] if nobody listens any more. After any other failure to exchange
	/// messages QEMU may be there still, and the next command finds out.
	pub fn run(&mut self, command: &str, arguments: Value) -> Result<Value, SourceError> {
		if self.lines.is_none() && !self.dial()? {
			return Err(SourceError::Vanished);
		}
		self.ask(command, &arguments)
	}

	fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, SourceError> {
		let time_max = self.bounded(ANSWER_TIME_MAX);
		let answer = self.exchange(command, arguments, time_max).map_err(|error| {
			self.hang_up();
			match error.kind() {
				_ if is_hang_up(&error) && !self.is_there() => SourceError::Vanished,
				io::ErrorKind::TimedOut => {
					SourceError::Timeout { command: command.to_owned(), time_max }
				}
				_ => SourceError::NotQmp { path: self.path.clone(), reason: error.to_string() },
			}
		})?;
		answer.map_err(|description| SourceError::Refused {
			command: command.to_owned(),
			description,
		})
	}

	fn exchange(
		&mut self,
		command: &str,
		arguments: &Value,
		time_max: Duration,
	) -> io::Result<Result<Value, String>> {
		self.last_id += 1;
		let id = self.last_id;
		let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
		line.push('\n');
		let lines = self.connection()?;
		lines.allow(time_max);
		lines.write(line.as_bytes())?;
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
		serde_json::from_slice(&self.connection()?.read()?)
			.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not speak JSON"))
	}

	fn connection(&mut self) -> io::Result<&mut Lines> {
		self.lines.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
	}
}

/// Whether an error says that no program has the socket.
fn is_nobody(error: &io::Error) -> bool {
	matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn busy(path: &Path) -> SourceError {
	let reason = "it did not greet in time; another client may be connected".into();
	SourceError::NotQmp { path: path.to_owned(), reason }
}

#[cfg(test)]
pub(super) mod tests {
	use super::*;
	use std::{
		fs,
		io::{BufRead, BufReader, Write},
		os::unix::net::{UnixListener, UnixStream},
		thread,
	};

	/// What a server says on one connection after the other. It waits for a line before all but
	/// the first, and until the client hangs up after the last.
	pub(in crate::sources) type Script = &'static [&'static [&'static str]];

	pub(in crate::sources) fn server(script: Script) -> (tempfile::TempDir, PathBuf) {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("qmp");
		let listener = UnixListener::bind(&path).unwrap();
		thread::spawn(move || {
			for lines in script {
				let (stream, _) = listener.accept().unwrap();
				converse(stream, lines);
			}
		});
		(folder, path)
	}

	/// An empty line hangs up.
	fn converse(stream: UnixStream, lines: &[&str]) {
		let mut reader = BufReader::new(stream);
		let mut heard = String::new();
		for (i, line) in lines.iter().enumerate() {
			if i > 0 {
				reader.read_line(&mut heard).unwrap();
			}
			if line.is_empty() {
				return;
			}
			reader.get_mut().write_all(line.as_bytes()).unwrap();
		}
		while reader.read_line(&mut heard).is_ok_and(|count| count > 0) {}
	}

	pub(in crate::sources) const GREETING: &str = "{\"QMP\":{}}\n";

	#[test]
	fn answers_are_told_from_events() {
		let (_folder, path) = server(&[&[
			GREETING,
			"{\"return\":{}}\n",
			"{\"event\":\"STOP\"}\n{\"return\":{\"running\":true}}\n",
		]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		let status = monitor.run("query-status", json!({})).unwrap();
		assert_eq!(status["running"], true);
	}

	#[test]
	fn the_late_answer_to_another_command_is_passed_over() {
		let (_folder, path) = server(&[&[
			GREETING,
			"{\"return\":{},\"id\":1}\n",
			"{\"return\":{\"late\":true},\"id\":1}\n{\"return\":{\"late\":false},\"id\":2}\n",
		]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		assert_eq!(monitor.run("cont", json!({})).unwrap()["late"], false);
	}

	#[test]
	fn a_refusal_carries_qemus_words() {
		let (_folder, path) = server(&[&[
			GREETING,
			"{\"return\":{}}\n",
			"{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such node\"}}\n",
		]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		let error = monitor.run("blockdev-del", json!({})).unwrap_err();
		assert_eq!(error.to_string(), "have QEMU do blockdev-del: no such node");
	}

	#[test]
	fn another_program_is_no_qemu() {
		for words in ["HTTP/1.1 400 Bad Request\n", "{\"hello\":1}\n", ""] {
			let lines: &'static [&'static str] = vec![words].leak();
			let (_folder, path) = server(vec![lines].leak());
			let error = Monitor::connect(&path).unwrap_err();
			assert!(matches!(error, SourceError::NotQmp { .. }), "{error}");
		}
	}

	#[test]
	fn what_is_not_answered_by_the_end_of_the_hold_has_failed() {
		// It says nothing to the command, nor to the next client.
		let (_folder, path) = server(&[&[GREETING, "{\"return\":{}}\n"], &[]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		monitor.hold_for(Duration::from_millis(50));
		let error = monitor.run("query-block", json!({})).unwrap_err();
		assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
		let error = monitor.run("query-block", json!({})).unwrap_err();
		assert!(error.to_string().contains("did not greet in time"), "{error}");
	}

	#[test]
	fn nobody_there_means_that_the_machine_is_off() {
		let folder = tempfile::tempdir().unwrap();
		assert!(Monitor::connect(&folder.path().join("qmp")).unwrap().is_none());
	}

	#[test]
	fn a_machine_that_ends_has_vanished() {
		let (_folder, path) = server(&[&[GREETING, "{\"return\":{}}\n", ""]]);
		let mut monitor = Monitor::connect(&path).unwrap().unwrap();
		fs::remove_file(&path).unwrap();
		let error = monitor.run("query-status", json!({})).unwrap_err();
		assert!(matches!(error, SourceError::Vanished), "{error}");
	}
}
