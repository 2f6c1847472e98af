//! Being told to end: Ctrl-C, a service manager, a terminal that is closed.

use crate::error::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made, so that nothing between that and the first look is missed.
#[derive(Debug)]
pub(crate) struct Interrupt {
	signals: [Signal; 3],
}

impl Interrupt {
	pub(crate) fn listen() -> Result<Self, CliError> {
		let listen = |kind| signal(kind).map_err(|source| CliError::Runtime { source });
		let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
		Ok(Self { signals: [listen(kinds.0)?, listen(kinds.1)?, listen(kinds.2)?] })
	}

	/// Wait for it.
	pub(crate) async fn told(&mut self) {
		let [interrupt, terminate, hangup] = &mut self.signals;
		tokio::select! {
			_ = interrupt.recv() => (),
			_ = terminate.recv() => (),
			_ = hangup.recv() => (),
		}
	}
}
