//! A guest agent that is played: it freezes and thaws when it is told to.

use serde_json::{Value, json};
use std::{
	io::{BufRead, BufReader, Write},
	os::unix::net::{UnixListener, UnixStream},
	path::Path,
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
	thread,
};

/// The guest behind an agent.
#[derive(Clone, Default)]
pub(crate) struct Guest {
	is_frozen: Arc<AtomicBool>,
	/// What happens when its file systems are to stand still.
	at_freeze: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Guest {
	/// A guest whose agent listens on a socket, to one client after the other as QEMU's channel does.
	pub(crate) fn behind(socket: &Path) -> Self {
		Self::default().listen(socket)
	}

	/// The same, and something happens whenever its file systems are to stand still.
	pub(crate) fn with(socket: &Path, at_freeze: impl Fn() + Send + Sync + 'static) -> Self {
		Self { at_freeze: Some(Arc::new(at_freeze)), ..Self::default() }.listen(socket)
	}

	fn listen(self, socket: &Path) -> Self {
		let listener = UnixListener::bind(socket).unwrap();
		let played = self.clone();
		thread::spawn(move || {
			for client in listener.incoming() {
				// One that is gone has nothing more to say.
				let _ = client.and_then(|client| played.converse(client));
			}
		});
		self
	}

	/// Whether its file systems stand still.
	pub(crate) fn is_frozen(&self) -> bool {
		self.is_frozen.load(Ordering::SeqCst)
	}

	fn converse(&self, client: UnixStream) -> std::io::Result<()> {
		let mut writer = client.try_clone()?;
		let mut reader = BufReader::new(client);
		let mut line = Vec::new();
		while reader.read_until(b'\n', &mut line)? > 0 {
			let request: Value =
				serde_json::from_slice(line.strip_prefix(b"\xff").unwrap_or(&line))?;
			line.clear();
			let answer = match request["execute"].as_str().unwrap_or_default() {
				"guest-sync-delimited" => {
					writer.write_all(b"\xff")?;
					json!({ "return": request["arguments"]["id"] })
				}
				"guest-fsfreeze-status" => {
					json!({ "return": if self.is_frozen() { "frozen" } else { "thawed" } })
				}
				"guest-fsfreeze-freeze" => {
					self.at_freeze.iter().for_each(|happens| happens());
					self.is_frozen.store(true, Ordering::SeqCst);
					json!({ "return": 1 })
				}
				"guest-fsfreeze-thaw" => {
					json!({ "return": u8::from(self.is_frozen.swap(false, Ordering::SeqCst)) })
				}
				other => json!({ "error": { "desc": format!("{other} is not known") } }),
			};
			writer.write_all(format!("{answer}\n").as_bytes())?;
		}
		Ok(())
	}
}
