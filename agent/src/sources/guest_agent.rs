//! Freezing the guest's file systems through QEMU's guest agent.
//!
//! A frozen guest is dangerous, so whoever freezes holds a [`Frozen`], which thaws when it is
//! dropped. See QEMU's `qga/qapi-schema.json`.

use serde_json::{Value, json};
use std::{
	io::{self, BufRead, BufReader, Read, Write},
	os::unix::net::UnixStream,
	path::Path,
	time::{Duration, Instant},
};

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// How long the agent may take to thaw.
const THAW_TIME_MAX: Duration = Duration::from_secs(10);

/// Resets the agent's parser, whatever was said before.
const SENTINEL: u8 = 0xff;

/// File systems that stand still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
	agent: BufReader<UnixStream>,
}

/// Freeze the guest's file systems, or say why that is not possible.
pub(super) fn freeze(socket: &Path, time_max: Duration) -> io::Result<Frozen> {
	let stream = UnixStream::connect(socket)?;
	stream.set_read_timeout(Some(time_max))?;
	stream.set_write_timeout(Some(time_max))?;
	let mut agent = BufReader::new(stream);
	synchronise(&mut agent, time_max)?;
	// From here on a thaw is sent on every path: a freeze that answers late has frozen.
	let mut frozen = Frozen { agent };
	let answer = frozen.run("guest-fsfreeze-freeze")?;
	match answer.as_u64() {
		Some(count) if count > 0 => Ok(frozen),
		_ => Err(io::Error::other("the guest froze no file system")),
	}
}

/// Make sure that the next answer is to our next question.
fn synchronise(agent: &mut BufReader<UnixStream>, time_max: Duration) -> io::Result<()> {
	let id = u64::from(std::process::id());
	let request = json!({ "execute": "guest-sync-delimited", "arguments": { "id": id } });
	let mut bytes = vec![SENTINEL];
	bytes.extend(request.to_string().into_bytes());
	bytes.push(b'\n');
	agent.get_mut().write_all(&bytes)?;
	let deadline = Instant::now() + time_max;
	while Instant::now() < deadline {
		let line = read_line(agent)?;
		let text = line.strip_prefix(&[SENTINEL]).unwrap_or(&line);
		let answer: Option<Value> = serde_json::from_slice(text).ok();
		if answer.is_some_and(|answer| answer["return"] == id) {
			return Ok(());
		}
	}
	Err(io::ErrorKind::TimedOut.into())
}

fn read_line(agent: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
	let mut line = Vec::new();
	match agent.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? {
		0 => Err(io::ErrorKind::UnexpectedEof.into()),
		_ => Ok(line),
	}
}

impl Frozen {
	fn run(&mut self, command: &str) -> io::Result<Value> {
		let mut request = json!({ "execute": command }).to_string();
		request.push('\n');
		self.agent.get_mut().write_all(request.as_bytes())?;
		let line = read_line(&mut self.agent)?;
		let mut answer: Value = serde_json::from_slice(&line)?;
		match answer.get_mut("return") {
			Some(value) => Ok(value.take()),
			None => Err(io::Error::other(format!("the guest agent refused {command}: {answer}"))),
		}
	}

	/// Let the guest go on, and say whether it stood still until now.
	pub(super) fn thaw(mut self) -> io::Result<()> {
		self.agent.get_ref().set_read_timeout(Some(THAW_TIME_MAX))?;
		let count = self.run("guest-fsfreeze-thaw")?;
		match count.as_u64() {
			Some(count) if count > 0 => Ok(()),
			_ => Err(io::Error::other("the guest had thawed by itself")),
		}
	}
}

impl Drop for Frozen {
	fn drop(&mut self) {
		// After `thaw` this finds nothing to do, which is no harm.
		let _ = self.agent.get_ref().set_read_timeout(Some(THAW_TIME_MAX));
		let _ = self.run("guest-fsfreeze-thaw");
	}
}
