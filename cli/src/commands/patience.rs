//! Blocks from far away, until the command is told to end.
//!
//! A gateway that does not answer is waited for. Who presses Ctrl-C meanwhile shall not wait with it,
//! and what was begun shall be taken away at once. So the waiting is done by a thread of its own, and
//! nobody waits for that one.

use backup_agent::{
	pipeline::Cancel,
	repositories::{BlockSource, RepositoryError},
};
use backup_primitives::Cid;
use std::{
	io,
	ops::ControlFlow,
	sync::{
		Arc,
		mpsc::{RecvTimeoutError, channel},
	},
	thread,
	time::Duration,
};

/// Time between two looks at whether it is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A source that gives up what it waits for as soon as it is cancelled.
pub(super) struct Impatient<Source> {
	source: Arc<Source>,
	cancel: Cancel,
}

impl<Source: BlockSource + 'static> Impatient<Source> {
	pub(super) fn new(source: Source, cancel: &Cancel) -> Self {
		Self { source: Arc::new(source), cancel: cancel.clone() }
	}

	fn wait<T: Send + 'static>(
		&self,
		ask: impl FnOnce(&Source) -> Result<T, RepositoryError> + Send + 'static,
	) -> Result<T, RepositoryError> {
		let over = || RepositoryError::Io {
			action: "wait for a block",
			source: io::ErrorKind::Interrupted.into(),
		};
		let (sender, receiver) = channel();
		let source = Arc::clone(&self.source);
		thread::spawn(move || {
			// Whoever asked may have given up.
			let _ = sender.send(ask(&source));
		});
		loop {
			match receiver.recv_timeout(LOOK_INTERVAL) {
				Ok(answer) => return answer,
				Err(RecvTimeoutError::Timeout) if !self.cancel.is_cancelled() => (),
				Err(_) => return Err(over()),
			}
		}
	}
}

impl<Source: BlockSource + 'static> BlockSource for Impatient<Source> {
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		let cid = *cid;
		self.wait(move |source| source.has(&cid))
	}

	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let cid = *cid;
		self.wait(move |source| source.get(&cid))
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let cid = *cid;
		self.wait(move |source| source.get_unchecked(&cid))
	}

	fn get_children(
		&self,
		node: &Cid,
		children: &[Cid],
		take: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) {
		self.source.get_children(node, children, take);
	}
}
