//! Unix sockets whose every exchange has an end.
//!
//! What stands behind them may hang, be another program, or, as with the guest agent, be the
//! guest itself: each exchange has a deadline as a whole, however slowly bytes trickle in, and
//! each line a bound.

use rustix::{
	io::Errno,
	net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use std::{
	io::{self, BufRead, BufReader, Read, Write},
	os::unix::net::UnixStream,
	path::Path,
	thread,
	time::{Duration, Instant},
};

/// How often a server that is busy is tried again.
const BUSY_POLL: Duration = Duration::from_millis(20);

/// Connect, or fail when nobody has accepted within `time_max`. The system's own call would wait
/// for ever where QEMU talks to one client and lets others queue.
pub(super) fn connect_within(path: &Path, time_max: Duration) -> io::Result<UnixStream> {
	let deadline = Instant::now() + time_max;
	let address = SocketAddrUnix::new(path)?;
	let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
	let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
	loop {
		match connect(&socket, &address) {
			Ok(()) => break,
			Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => {
				thread::sleep(BUSY_POLL);
			}
			Err(Errno::AGAIN | Errno::INTR) => return Err(io::ErrorKind::TimedOut.into()),
			Err(error) => return Err(error.into()),
		}
	}
	let stream = UnixStream::from(socket);
	stream.set_nonblocking(false)?;
	Ok(stream)
}

/// A socket that carries one JSON value a line.
#[derive(Debug)]
pub(super) struct Lines {
	reader: BufReader<Timed>,
	line_bytes_max: u64,
}

/// A socket with a deadline over all that is read and written.
#[derive(Debug)]
struct Timed {
	stream: UnixStream,
	deadline: Instant,
}

impl Lines {
	pub(super) fn connect(path: &Path, time_max: Duration, bytes_max: u64) -> io::Result<Self> {
		let deadline = Instant::now() + time_max;
		let stream = connect_within(path, time_max)?;
		let reader = BufReader::new(Timed { stream, deadline });
		Ok(Self { reader, line_bytes_max: bytes_max })
	}

	/// How long the exchange that begins now may take in all.
	pub(super) fn allow(&mut self, time_max: Duration) {
		self.reader.get_mut().deadline = Instant::now() + time_max;
	}

	pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
		self.reader.get_mut().write_all(bytes)
	}

	/// The next line, with its end.
	pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
		let mut line = Vec::new();
		match (&mut self.reader).take(self.line_bytes_max).read_until(b'\n', &mut line)? {
			0 => Err(io::ErrorKind::UnexpectedEof.into()),
			_ => Ok(line),
		}
	}

	/// Hang up, so that the server is free for the next client.
	pub(super) fn shut(&self) {
		// One that has hung up already need not be told.
		let _ = self.reader.get_ref().stream.shutdown(std::net::Shutdown::Both);
	}
}

impl Timed {
	fn time_left(&self) -> io::Result<Duration> {
		match self.deadline.saturating_duration_since(Instant::now()) {
			Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
			left => Ok(left),
		}
	}
}

impl Read for Timed {
	fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
		self.stream.set_read_timeout(Some(self.time_left()?))?;
		self.stream.read(buffer).map_err(timed_out)
	}
}

impl Write for Timed {
	fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
		self.stream.set_write_timeout(Some(self.time_left()?))?;
		self.stream.write(bytes).map_err(timed_out)
	}

	fn flush(&mut self) -> io::Result<()> {
		Ok(())
	}
}

/// The system says "would block" of a time limit that has passed.
fn timed_out(error: io::Error) -> io::Error {
	match error.kind() {
		io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
		_ => error,
	}
}

/// Whether the other side hung up.
pub(super) fn is_hang_up(error: &io::Error) -> bool {
	matches!(
		error.kind(),
		io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
	)
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::net::UnixListener;

	#[test]
	fn a_line_that_trickles_in_ends_at_the_deadline_all_the_same() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("socket");
		let listener = UnixListener::bind(&path).unwrap();
		let trickle = thread::spawn(move || {
			let (mut stream, _) = listener.accept().unwrap();
			// Ends when the client hangs up.
			while stream.write_all(b"x").is_ok() {
				thread::sleep(Duration::from_millis(5));
			}
		});
		let start = Instant::now();
		let mut lines = Lines::connect(&path, Duration::from_millis(200), 1 << 20).unwrap();
		assert_eq!(lines.read().unwrap_err().kind(), io::ErrorKind::TimedOut);
		assert!(start.elapsed() < Duration::from_secs(10));
		drop(lines);
		trickle.join().unwrap();
	}

	#[test]
	fn a_server_that_accepts_nobody_is_given_up() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("socket");
		let _listener = UnixListener::bind(&path).unwrap();
		let mut waiting = Vec::new();
		// The queue of a listener is finite; QEMU's has one place.
		let error = loop {
			assert!(waiting.len() < 10_000, "an endless queue");
			match connect_within(&path, Duration::from_millis(50)) {
				Ok(stream) => waiting.push(stream),
				Err(error) => break error,
			}
		};
		assert_eq!(error.kind(), io::ErrorKind::TimedOut);
	}
}
