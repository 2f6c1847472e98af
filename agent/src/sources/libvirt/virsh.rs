//! Running libvirt's own program, `virsh`.
//!
//! No shell is in between, each command has a deadline, and so much is read of what it says and no
//! more. It speaks English, since some of its words are looked at.

use crate::sources::{SourceError, hooks::kill};
use std::{
	io::{self, Read},
	os::unix::process::CommandExt,
	process::{Child, Command, ExitStatus, Stdio},
	thread,
	time::{Duration, Instant},
};

/// How long a command may take that only asks or tells.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a command may take that changes how disks are written to: libvirt waits for requests in
/// flight then.
pub(super) const CHANGE_TIME_MAX: Duration = Duration::from_secs(120);

/// How often it is looked whether a command has ended.
const POLL: Duration = Duration::from_millis(2);

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of what it says beside.
const WORDS_BYTES_MAX: u64 = 4096;

/// How `virsh` is run.
#[derive(Clone, Debug)]
pub(super) struct Virsh {
	/// The program, with arguments that come before all others.
	program: Vec<String>,
	uri: String,
}

impl Virsh {
	pub(super) fn at(uri: &str) -> Self {
		Self::with(vec!["virsh".into()], uri)
	}

	pub(super) fn with(program: Vec<String>, uri: &str) -> Self {
		Self { program, uri: uri.to_owned() }
	}

	pub(super) fn uri(&self) -> &str {
		&self.uri
	}

	/// Run a command and return what it says.
	///
	/// # Errors
	/// [`SourceError::LibvirtRefused`] if libvirt said no: nothing was changed then.
	/// [`SourceError::Virsh`] if it is not known what came of it.
	pub(super) fn run(
		&self,
		command: &str,
		arguments: &[&str],
		time_max: Duration,
	) -> Result<String, SourceError> {
		self.run_as(&["--quiet"], command, arguments, time_max)
	}

	/// The same, with what it says for people only: how many of something it has done, for example.
	pub(super) fn run_aloud(
		&self,
		command: &str,
		arguments: &[&str],
		time_max: Duration,
	) -> Result<String, SourceError> {
		self.run_as(&[], command, arguments, time_max)
	}

	fn run_as(
		&self,
		manner: &[&str],
		command: &str,
		arguments: &[&str],
		time_max: Duration,
	) -> Result<String, SourceError> {
		let failed = |reason: String| SourceError::Virsh { command: command.to_owned(), reason };
		let mut child =
			self.start(manner, command, arguments).map_err(|error| match error.kind() {
				io::ErrorKind::NotFound => {
					failed(format!("{error}; install libvirt's client programs (libvirt-clients)"))
				}
				_ => failed(error.to_string()),
			})?;
		let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
		let (status, answer, words) = thread::scope(|scope| {
			let answer = scope.spawn(|| read(stdout, ANSWER_BYTES_MAX));
			let words = scope.spawn(|| read(stderr, WORDS_BYTES_MAX));
			// What still writes is ended with it, so that the readers end, too.
			let status = wait(&mut child, time_max);
			(status, answer.join().unwrap_or_default(), words.join().unwrap_or_default())
		});
		match status.map_err(|error| failed(error.to_string()))? {
			None => Err(failed(format!(
				"no answer within {} s; is libvirt's daemon stuck?",
				time_max.as_secs()
			))),
			Some(_) if answer.len() as u64 > ANSWER_BYTES_MAX => {
				Err(failed(format!("it says more than {ANSWER_BYTES_MAX} bytes")))
			}
			Some(status) if status.success() => {
				String::from_utf8(answer).map_err(|_| failed("what it says is not text".to_owned()))
			}
			Some(status) => Err(refused(command, status, &words)),
		}
	}

	fn start(&self, manner: &[&str], command: &str, arguments: &[&str]) -> io::Result<Child> {
		let (program, before) =
			self.program.split_first().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
		Command::new(program)
			.args(before)
			.args(["--connect", &self.uri])
			.args(manner)
			.arg(command)
			.args(arguments)
			.env("LC_ALL", "C")
			.stdin(Stdio::null())
			.stdout(Stdio::piped())
			.stderr(Stdio::piped())
			// Killed with all that it has started.
			.process_group(0)
			.spawn()
	}
}

fn refused(command: &str, status: ExitStatus, words: &[u8]) -> SourceError {
	let words = String::from_utf8_lossy(words);
	let lines = words.lines().map(|line| line.trim().trim_start_matches("error: "));
	let words = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ");
	match status.code() {
		Some(_) => SourceError::LibvirtRefused { command: command.to_owned(), words },
		// Somebody ended it.
		None => SourceError::Virsh {
			command: command.to_owned(),
			reason: format!("it ended with {status}: {words}"),
		},
	}
}

/// Wait for the end, or make it when the time is over and return nothing.
fn wait(child: &mut Child, time_max: Duration) -> io::Result<Option<ExitStatus>> {
	let deadline = Instant::now() + time_max;
	loop {
		match child.try_wait() {
			Ok(Some(status)) => return Ok(Some(status)),
			Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
			Ok(None) => {
				kill(child);
				return Ok(None);
			}
			Err(error) => {
				kill(child);
				return Err(error);
			}
		}
	}
}

/// Read no more than a byte too many. Whoever goes on writing is told by a broken pipe.
fn read(pipe: Option<impl Read>, bytes_max: u64) -> Vec<u8> {
	let mut bytes = Vec::new();
	if let Some(pipe) = pipe {
		// What cannot be read is missing from the answer, which is then not understood.
		let _ = pipe.take(bytes_max + 1).read_to_end(&mut bytes);
	}
	bytes
}

#[cfg(test)]
mod tests {
	use super::*;

	fn virsh(script: &str) -> Virsh {
		let program = ["/bin/sh", "-c", script, "virsh"].map(str::to_owned);
		Virsh::with(program.into(), "test:///default")
	}

	fn run(script: &str, time_max: Duration) -> Result<String, SourceError> {
		virsh(script).run("domuuid", &["--domain=web server"], time_max)
	}

	#[test]
	fn a_command_is_given_word_by_word_and_answers_in_english() {
		let answer = run("printf '%s|' \"$@\" \"$LC_ALL\"", ANSWER_TIME_MAX).unwrap();
		assert_eq!(answer, "--connect|test:///default|--quiet|domuuid|--domain=web server|C|");
	}

	#[test]
	fn a_refusal_carries_libvirts_words() {
		let script = "echo 'error: failed' >&2; echo 'error: no such thing' >&2; exit 1";
		let error = run(script, ANSWER_TIME_MAX).unwrap_err();
		let text = error.to_string();
		assert!(matches!(error, SourceError::LibvirtRefused { .. }), "{text}");
		assert_eq!(text, "have libvirt do domuuid: failed: no such thing");
	}

	#[test]
	fn a_missing_program_is_told_with_what_to_install() {
		let virsh = Virsh::with(vec!["/nowhere/virsh".into()], "test:///default");
		let error = virsh.run("domuuid", &[], ANSWER_TIME_MAX).unwrap_err().to_string();
		assert!(
			error.contains("run virsh domuuid") && error.contains("libvirt-clients"),
			"{error}"
		);
	}

	#[test]
	fn a_program_that_hangs_is_ended_with_all_that_it_started() {
		let begun = Instant::now();
		let error = run("sleep 1000 & sleep 1000", Duration::from_millis(200)).unwrap_err();
		assert!(matches!(error, SourceError::Virsh { .. }), "{error}");
		assert!(error.to_string().contains("no answer within"), "{error}");
		// Its child held the pipes open; they are closed.
		assert!(begun.elapsed() < Duration::from_secs(100));
	}

	#[test]
	fn an_answer_without_end_is_not_taken() {
		let error = run("exec yes", ANSWER_TIME_MAX).unwrap_err();
		assert!(matches!(error, SourceError::Virsh { .. }), "{error}");
	}
}
