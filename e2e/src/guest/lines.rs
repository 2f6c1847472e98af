//! Lines over a unix socket, each awaited with a deadline.
//!
//! QMP and the guest's serial port both speak in lines. What has come of a line when the time is
//! up stays, and the next call goes on from there.

use std::{
	io::{self, Read, Write},
	os::unix::net::UnixStream,
	path::Path,
	thread,
	time::{Duration, Instant},
};

/// More than QEMU's longest answer to what is asked here.
const LINE_BYTES_MAX: usize = 1 << 20;
const RETRY: Duration = Duration::from_millis(10);

/// One end of a conversation in lines.
#[derive(Debug)]
pub(crate) struct Lines {
	socket: UnixStream,
	unread: Vec<u8>,
}

impl Lines {
	/// Connects as soon as somebody listens at `path`, and asks `alive` between the attempts.
	pub(crate) fn connect(
		path: &Path,
		deadline: Instant,
		mut alive: impl FnMut() -> bool,
	) -> io::Result<Self> {
		loop {
			match UnixStream::connect(path) {
				Ok(socket) => return Ok(Self { socket, unread: Vec::new() }),
				Err(error) if !alive() => return Err(error),
				Err(_) => thread::sleep(time_left(deadline)?.min(RETRY)),
			}
		}
	}

	/// The next line without its end, or [`io::ErrorKind::TimedOut`].
	///
	/// # Errors
	/// [`io::ErrorKind::UnexpectedEof`] when the other side has hung up.
	pub(crate) fn read_line(&mut self, deadline: Instant) -> io::Result<String> {
		loop {
			if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
				let line = self.unread.drain(..=end).collect::<Vec<_>>();
				return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
			}
			if self.unread.len() > LINE_BYTES_MAX {
				return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
			}
			self.fill(deadline)?;
		}
	}

	/// Sends `line` and its end.
	pub(crate) fn write_line(&mut self, line: &str, deadline: Instant) -> io::Result<()> {
		self.socket.set_write_timeout(Some(time_left(deadline)?))?;
		self.socket.write_all(format!("{line}\n").as_bytes())
	}

	fn fill(&mut self, deadline: Instant) -> io::Result<()> {
		let mut buffer = [0; 4096];
		self.socket.set_read_timeout(Some(time_left(deadline)?))?;
		match self.socket.read(&mut buffer) {
			Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
			Ok(count) => {
				self.unread.extend_from_slice(&buffer[..count]);
				Ok(())
			}
			// That is how a timeout of the socket shows.
			Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
				Err(io::ErrorKind::TimedOut.into())
			}
			Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
			Err(error) => Err(error),
		}
	}
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
	let left = deadline.saturating_duration_since(Instant::now());
	if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
