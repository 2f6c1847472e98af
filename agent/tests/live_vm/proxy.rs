//! A control socket before QEMU's own, which counts the agent's commands and breaks at one of them.

use std::{
	fs,
	io::{self, BufRead, BufReader, Write},
	net::Shutdown,
	os::unix::net::{UnixListener, UnixStream},
	path::{Path, PathBuf},
	process::Command,
	sync::{
		Arc,
		atomic::{AtomicU64, Ordering},
	},
	thread,
};

/// What happens at the command, which QEMU does not hear any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
	/// Nobody listens from then on: all that an agent does after its death.
	ForGood,
	/// The connection is gone, and the next one is served.
	Once,
	/// This process is killed, which is QEMU.
	Process(u32),
}

/// The proxy. It ends when it breaks for good or is dropped.
pub(crate) struct Proxy {
	pub(crate) socket: PathBuf,
	state: Arc<State>,
}

struct State {
	socket: PathBuf,
	qemu: PathBuf,
	/// Commands until the break; [`BROKEN`] after it.
	left: AtomicU64,
	kind: Break,
}

const BROKEN: u64 = u64::MAX;

impl Proxy {
	/// Stand before QEMU's socket and break at the command with this number, from 0 on.
	pub(crate) fn before(qemu: &Path, at: u64, kind: Break) -> Self {
		let socket = qemu.with_extension("proxy");
		let _ = fs::remove_file(&socket);
		let listener = UnixListener::bind(&socket).unwrap();
		let left = AtomicU64::new(at);
		let state = Arc::new(State { socket: socket.clone(), qemu: qemu.to_owned(), left, kind });
		let serving = state.clone();
		thread::spawn(move || {
			for client in listener.incoming() {
				if !serving.socket.exists() {
					return;
				}
				let serving = serving.clone();
				// A connection that breaks has served its purpose.
				thread::spawn(move || client.and_then(|client| serving.serve(client)));
			}
		});
		Self { socket, state }
	}

	/// Whether it has come to the break.
	pub(crate) fn is_broken(&self) -> bool {
		self.state.left.load(Ordering::SeqCst) == BROKEN
	}
}

impl Drop for Proxy {
	fn drop(&mut self) {
		// In this order, so that whom this wakes sees that it is over.
		let woken = UnixStream::connect(&self.socket);
		let _ = fs::remove_file(&self.socket);
		drop(woken);
	}
}

impl State {
	fn serve(&self, client: UnixStream) -> io::Result<()> {
		let mut qemu = UnixStream::connect(&self.qemu)?;
		let (mut answers, mut to_client) = (qemu.try_clone()?, client.try_clone()?);
		thread::spawn(move || {
			let _ = io::copy(&mut answers, &mut to_client);
			to_client.shutdown(Shutdown::Both)
		});
		let forwarded = self.forward(&mut BufReader::new(client.try_clone()?), &mut qemu);
		// However that ended: QEMU serves one client, and the other thread would stay one.
		let _ = qemu.shutdown(Shutdown::Both);
		let _ = client.shutdown(Shutdown::Both);
		forwarded
	}

	/// Hand commands on until it is time, or one side leaves.
	fn forward(&self, commands: &mut impl BufRead, qemu: &mut UnixStream) -> io::Result<()> {
		let mut line = Vec::new();
		while commands.read_until(b'\n', &mut line)? > 0 {
			if self.is_time() {
				return self.strike();
			}
			qemu.write_all(&line)?;
			line.clear();
		}
		Ok(())
	}

	fn strike(&self) -> io::Result<()> {
		match self.kind {
			Break::Once => Ok(()),
			Break::ForGood => fs::remove_file(&self.socket),
			Break::Process(id) => {
				fs::remove_file(&self.socket)?;
				Command::new("kill").args(["-KILL", &id.to_string()]).status().map(drop)
			}
		}
	}

	/// Count a command, and say whether it is the one.
	fn is_time(&self) -> bool {
		let count = |left: u64| match left {
			BROKEN => None,
			0 => Some(BROKEN),
			left => Some(left - 1),
		};
		self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) == Ok(0)
	}
}
