//! The line on which others reach an agent's gateway. It can be slow, and it can be cut and joined
//! while both ends run and notice nothing but that.

use anyhow::{Context, Result};
use std::{sync::Arc, time::Duration};
use tokio::{
	io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
	net::{TcpListener, TcpStream},
	sync::watch,
	task::{JoinHandle, JoinSet},
	time::sleep,
};

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// A line. It is gone when it is dropped.
#[derive(Debug)]
pub struct Link {
	url: String,
	state: Arc<watch::Sender<State>>,
	door: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
	/// The port that it leads to. Nowhere at first, and while it is cut.
	to: Option<u16>,
	is_cut: bool,
	bytes_per_second: Option<u64>,
}

impl State {
	fn target(&self) -> Option<u16> {
		self.to.filter(|_| !self.is_cut)
	}
}

impl Link {
	/// A line that leads nowhere yet.
	pub async fn lay() -> Result<Self> {
		let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
		let url = format!("http://{}", listener.local_addr()?);
		let state = Arc::new(watch::Sender::new(State::default()));
		let door = tokio::spawn(receive(listener, state.clone()));
		Ok(Self { url, state, door })
	}

	/// Where others reach what it leads to.
	pub fn url(&self) -> &str {
		&self.url
	}

	/// Lead to a port of this machine.
	pub fn lead_to(&self, port: u16) {
		self.state.send_modify(|state| state.to = Some(port));
	}

	/// Let so many bytes pass in a second on each connection; all if there is no number.
	pub fn slow(&self, bytes_per_second: Option<u64>) {
		self.state.send_modify(|state| state.bytes_per_second = bytes_per_second);
	}

	/// End all connections, and let none in.
	pub fn cut(&self) {
		self.state.send_modify(|state| state.is_cut = true);
	}

	/// Let connections in again.
	pub fn join(&self) {
		self.state.send_modify(|state| state.is_cut = false);
	}
}

impl Drop for Link {
	fn drop(&mut self) {
		self.door.abort();
	}
}

async fn receive(listener: TcpListener, state: Arc<watch::Sender<State>>) {
	// Dropped with this task, and all connections with it.
	let mut connections = JoinSet::new();
	while let Ok((stream, _)) = listener.accept().await {
		let state = state.subscribe();
		connections.spawn(connect(stream, state));
	}
}

/// Pass everything on until one end closes or the line is cut.
async fn connect(near: TcpStream, mut state: watch::Receiver<State>) {
	let Some(port) = state.borrow().target() else { return };
	let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
	let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
	let (there, back) = (state.clone(), state.clone());
	tokio::select! {
		_ = async { tokio::join!(pass(near_in, far_out, there), pass(far_in, near_out, back)) } => (),
		_ = state.wait_for(|state| state.is_cut) => (),
	}
}

async fn pass(
	mut from: impl AsyncRead + Unpin,
	mut to: impl AsyncWrite + Unpin,
	state: watch::Receiver<State>,
) {
	let mut piece = vec![0; PIECE_BYTES];
	while let Ok(count) = from.read(&mut piece).await {
		if count == 0 || to.write_all(&piece[..count]).await.is_err() {
			break;
		}
		let pace = state.borrow().bytes_per_second;
		if let Some(pace) = pace {
			sleep(Duration::from_secs_f64(count as f64 / pace as f64)).await;
		}
	}
	let _ = to.shutdown().await;
}
