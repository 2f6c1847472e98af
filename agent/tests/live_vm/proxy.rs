//! Sockets before those of a machine, QEMU's own and its guest agent's, which together count the
//! agent's commands and break at one of them.

use serde_json::Value;
use std::{
	fs,
	io::{self, BufRead, BufReader, Write},
	net::Shutdown,
	os::unix::net::{UnixListener, UnixStream},
	path::{Path, PathBuf},
	process::Command,
	sync::{
		Arc, Mutex,
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
	/// One for each socket behind it.
	pub(crate) sockets: Vec<PathBuf>,
	state: Arc<State>,
}

struct State {
	sockets: Vec<PathBuf>,
	/// Commands until the break; [`BROKEN`] after it.
	left: AtomicU64,
	/// The commands that were counted, the one of the break included.
	steps: Mutex<Vec<String>>,
	kind: Break,
}

const BROKEN: u64 = u64::MAX;

impl Proxy {
	/// Stand before these sockets and break at the command with this number, from 0 on.
	pub(crate) fn before(behind: &[PathBuf], at: u64, kind: Break) -> Self {
		let sockets: Vec<PathBuf> =
			behind.iter().map(|path| path.with_extension("proxy")).collect();
		let left = AtomicU64::new(at);
		let steps = Mutex::default();
		let state = Arc::new(State { sockets: sockets.clone(), left, steps, kind });
		for (socket, behind) in sockets.iter().cloned().zip(behind.iter().cloned()) {
			let _ = fs::remove_file(&socket);
			let listener = UnixListener::bind(&socket).unwrap();
			let serving = state.clone();
			thread::spawn(move || {
				for client in listener.incoming() {
					if !socket.exists() {
						return;
					}
					let (serving, behind) = (serving.clone(), behind.clone());
					// A connection that breaks has served its purpose.
					thread::spawn(move || client.and_then(|client| serving.serve(client, &behind)));
				}
			});
		}
		Self { sockets, state }
	}

	/// Whether it has come to the break.
	pub(crate) fn is_broken(&self) -> bool {
		self.state.left.load(Ordering::SeqCst) == BROKEN
	}

	/// The commands that were counted, the one of the break included.
	pub(crate) fn steps(&self) -> Vec<String> {
		let steps = self.state.steps.lock().unwrap();
		steps.iter().map(|step| step.split(' ').next().unwrap_or_default().to_owned()).collect()
	}
}

impl Drop for Proxy {
	fn drop(&mut self) {
		for socket in &self.sockets {
			// In this order, so that whom this wakes sees that it is over.
			let woken = UnixStream::connect(socket);
			let _ = fs::remove_file(socket);
			drop(woken);
		}
	}
}

impl State {
	fn serve(&self, client: UnixStream, behind: &Path) -> io::Result<()> {
		let mut qemu = UnixStream::connect(behind)?;
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
			let is_dead = self.kind != Break::Once && self.left.load(Ordering::SeqCst) == BROKEN;
			if is_dead || self.is_time(&line) {
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
			Break::ForGood => {
				self.close();
				Ok(())
			}
			Break::Process(id) => {
				self.close();
				Command::new("kill").args(["-KILL", &id.to_string()]).status().map(drop)
			}
		}
	}

	fn close(&self) {
		for socket in &self.sockets {
			let _ = fs::remove_file(socket);
		}
	}

	/// Count a command, and say whether it is the one. One that is only given again, since it was
	/// too early for it, is none.
	fn is_time(&self, line: &[u8]) -> bool {
		let line = line.strip_prefix(b"\xff").unwrap_or(line);
		let request: Value = serde_json::from_slice(line).unwrap();
		let step = format!("{} {}", request["execute"].as_str().unwrap(), request["arguments"]);
		let mut steps = self.steps.lock().unwrap();
		if steps.last() == Some(&step) && self.left.load(Ordering::SeqCst) != BROKEN {
			return false;
		}
		if self.left.load(Ordering::SeqCst) != BROKEN {
			steps.push(step);
		}
		let count = |left: u64| match left {
			BROKEN => None,
			0 => Some(BROKEN),
			left => Some(left - 1),
		};
		self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) == Ok(0)
	}
}
