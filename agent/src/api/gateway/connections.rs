//! Connections of strangers, so many and no more.
//!
//! Whoever reaches the gateway can connect to it, and prove who it is only afterwards. A connection
//! is idle until a request has come in whole, and again when the answer has gone out. When all seats
//! are taken, whoever has been idle for longest leaves for who comes; while an answer is on its way
//! nobody leaves. So many silent connections push each other out, and nobody else: who sends what
//! it has to say at once is heard.

use axum::{
	Router,
	body::{Body, Bytes, HttpBody},
	extract::{Request, State},
	middleware::{self, Next},
	response::Response,
};
use hyper::{
	body::{Frame, SizeHint},
	server::conn::http1,
};
use hyper_util::{
	rt::{TokioIo, TokioTimer},
	service::TowerToHyperService,
};
use std::{
	collections::HashMap,
	io,
	pin::Pin,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	task::{self, Poll},
	time::{Duration, Instant},
};
use tokio::{
	net::{TcpListener, TcpStream},
	sync::Notify,
	task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;

/// Most bytes of a request's head. Ours have less than one KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long it is waited when the system gives no more connections.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
	/// Connections at once.
	pub(crate) seats: usize,
	/// How long the head of a request may take, from the end of the answer before.
	pub(crate) head_time: Duration,
	/// How long a reader may take in nothing of an answer.
	pub(crate) write_time: Duration,
}

impl Limits {
	/// Those of the gateway.
	pub(crate) const GATEWAY: Self = Self {
		seats: 256,
		head_time: Duration::from_secs(20),
		write_time: Duration::from_secs(30),
	};
}

/// Serve whoever connects, for ever. Dropping the future ends all connections.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: Limits) {
	let seats = Seats::default();
	let mut connections = JoinSet::new();
	loop {
		let stream = match listener.accept().await {
			Ok((stream, _)) => stream,
			Err(error) if is_of_one_connection(&error) => continue,
			Err(error) => {
				tracing::warn!(%error, "the gateway takes no connections now");
				tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
				continue;
			}
		};
		while connections.try_join_next().is_some() {}
		match seats.take(limits.seats) {
			Some(seat) => drop(connections.spawn(serve_one(stream, router.clone(), seat, limits))),
			None => tracing::debug!("a connection is refused: all others are being answered"),
		}
	}
}

fn is_of_one_connection(error: &io::Error) -> bool {
	use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
	matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve_one(stream: TcpStream, router: Router, seat: Arc<Seat>, limits: Limits) {
	let mut stream = TimeoutStream::new(stream);
	stream.set_write_timeout(Some(limits.write_time));
	let router = router.layer(middleware::from_fn_with_state(seat.clone(), keep_seat));
	let connection = http1::Builder::new()
		.timer(TokioTimer::new())
		.header_read_timeout(limits.head_time)
		.max_header_size(HEAD_BYTES_MAX)
		.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
	tokio::select! {
		() = seat.leave.notified() => tracing::debug!("an idle connection makes room"),
		ended = connection => {
			if let Err(error) = ended {
				tracing::debug!(%error, "a connection ended");
			}
		}
	}
}

/// Nobody has to leave while it is answered.
async fn keep_seat(State(seat): State<Arc<Seat>>, request: Request, next: Next) -> Response {
	let busy = Busy::begin(seat);
	next.run(request).await.map(|body| Body::new(Answer { body, _busy: busy }))
}

/// The seats that are taken. Clones are the same.
#[derive(Clone, Default)]
struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
	/// How many ever were.
	count: u64,
	seats: HashMap<u64, Sitting>,
}

struct Sitting {
	/// Since when it has nothing to do.
	idle_since: Option<Instant>,
	leave: Arc<Notify>,
}

impl Seats {
	fn taken(&self) -> MutexGuard<'_, Taken> {
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Take one of so many. If there is none, whoever has been idle for longest leaves; none if
	/// nobody is.
	fn take(&self, seats_max: usize) -> Option<Arc<Seat>> {
		let mut taken = self.taken();
		if taken.seats.len() >= seats_max {
			let idle = taken.seats.iter().filter_map(|(id, other)| Some((other.idle_since?, *id)));
			let (_, longest) = idle.min()?;
			taken.seats.remove(&longest)?.leave.notify_one();
		}
		taken.count += 1;
		let (id, leave) = (taken.count, Arc::new(Notify::new()));
		let sitting = Sitting { idle_since: Some(Instant::now()), leave: leave.clone() };
		taken.seats.insert(id, sitting);
		Some(Arc::new(Seat { id, leave, seats: self.clone() }))
	}
}

/// A seat, until it is dropped.
struct Seat {
	id: u64,
	/// Told when it is given to another.
	leave: Arc<Notify>,
	seats: Seats,
}

impl Seat {
	fn set_idle(&self, idle_since: Option<Instant>) {
		if let Some(sitting) = self.seats.taken().seats.get_mut(&self.id) {
			sitting.idle_since = idle_since;
		}
	}
}

impl Drop for Seat {
	fn drop(&mut self) {
		self.seats.taken().seats.remove(&self.id);
	}
}

/// While it lives, a seat is not idle. Requests of one connection come one after the other.
struct Busy(Arc<Seat>);

impl Busy {
	fn begin(seat: Arc<Seat>) -> Self {
		seat.set_idle(None);
		Self(seat)
	}
}

impl Drop for Busy {
	fn drop(&mut self) {
		self.0.set_idle(Some(Instant::now()));
	}
}

/// A body that keeps its connection's seat until it has gone out.
struct Answer {
	body: Body,
	_busy: Busy,
}

impl HttpBody for Answer {
	type Data = Bytes;
	type Error = axum::Error;

	fn poll_frame(
		mut self: Pin<&mut Self>,
		context: &mut task::Context<'_>,
	) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
		Pin::new(&mut self.body).poll_frame(context)
	}

	fn is_end_stream(&self) -> bool {
		self.body.is_end_stream()
	}

	fn size_hint(&self) -> SizeHint {
		self.body.size_hint()
	}
}

#[cfg(test)]
mod tests;
