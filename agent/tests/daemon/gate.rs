//! A control socket before QEMU's own, which keeps the first answer to a command to itself until it is
//! opened: whoever asked is in the middle of something then.

use std::{
	fs,
	io::{self, BufRead, BufReader, Write},
	net::Shutdown,
	os::unix::net::{UnixListener, UnixStream},
	path::{Path, PathBuf},
	sync::{
		Arc, Condvar, Mutex, MutexGuard, PoisonError,
		atomic::{AtomicBool, Ordering},
	},
	thread,
};

pub(crate) struct Gate {
	pub(crate) socket: PathBuf,
	shared: Arc<Shared>,
}

struct Shared {
	qemu: PathBuf,
	command: &'static str,
	state: Mutex<State>,
	changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
	/// The command has not come yet.
	Waiting,
	Shut,
	Open,
}

impl Gate {
	/// Stand before QEMU's socket, and shut at the first command of this name.
	pub(crate) fn before(qemu: &Path, command: &'static str) -> Self {
		let socket = qemu.with_extension("gate");
		let listener = UnixListener::bind(&socket).unwrap();
		let (state, changed) = (Mutex::new(State::Waiting), Condvar::new());
		let shared = Arc::new(Shared { qemu: qemu.to_owned(), command, state, changed });
		let serving = shared.clone();
		thread::spawn(move || {
			for client in listener.incoming().flatten() {
				let serving = serving.clone();
				// A connection that breaks is over.
				thread::spawn(move || serving.serve(client));
			}
		});
		Self { socket, shared }
	}

	pub(crate) fn is_shut(&self) -> bool {
		*self.shared.state() == State::Shut
	}

	pub(crate) fn open(&self) {
		*self.shared.state() = State::Open;
		self.shared.changed.notify_all();
	}
}

impl Drop for Gate {
	fn drop(&mut self) {
		self.open();
		let _ = fs::remove_file(&self.socket);
	}
}

impl Shared {
	fn state(&self) -> MutexGuard<'_, State> {
		self.state.lock().unwrap_or_else(PoisonError::into_inner)
	}

	fn serve(self: Arc<Self>, client: UnixStream) -> io::Result<()> {
		let mut qemu = UnixStream::connect(&self.qemu)?;
		let (answers, to_client) = (qemu.try_clone()?, client.try_clone()?);
		let is_kept = Arc::new(AtomicBool::new(false));
		let (answering, keeps) = (self.clone(), is_kept.clone());
		thread::spawn(move || answering.answer(&keeps, answers, to_client));
		for line in BufReader::new(&client).lines() {
			let line = line?;
			let mut state = self.state();
			if *state == State::Waiting && line.contains(self.command) {
				*state = State::Shut;
				is_kept.store(true, Ordering::SeqCst);
			}
			drop(state);
			writeln!(qemu, "{line}")?;
		}
		// QEMU serves one client, and the next may come.
		qemu.shutdown(Shutdown::Both)
	}

	/// Hand answers on, unless this connection's are kept.
	fn answer(
		&self,
		is_kept: &AtomicBool,
		answers: UnixStream,
		mut to_client: UnixStream,
	) -> io::Result<()> {
		for line in BufReader::new(answers).lines() {
			let line = line?;
			let wait = |state: &mut State| *state == State::Shut && is_kept.load(Ordering::SeqCst);
			drop(self.changed.wait_while(self.state(), wait));
			writeln!(to_client, "{line}")?;
		}
		to_client.shutdown(Shutdown::Both)
	}
}
