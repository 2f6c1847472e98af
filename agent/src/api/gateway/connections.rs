//! Connections of strangers, so many and no more.
//!
//! Whoever reaches the gateway can connect to it, and prove who it is only afterwards. A connection
//! is idle until a request has come in whole and its reader is let in, and again when the answer has
//! gone out. When all seats are taken, whoever has been idle for longest leaves for who comes; while an
//! answer is on its way, in the time that it may take, nobody leaves. So many silent connections push
//! each other out, and nobody else: who sends what it has to say at once is heard.

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

/// The least speed of an answer, in bytes a second, beside the time that each may take.
const SPEED_MIN: u64 = 128 * 1024;

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
	/// How long an answer may take, beside the time for its bytes, while others wait for a seat.
	pub(crate) answer_time: Duration,
}

impl Limits {
	/// Those of the gateway.
	pub(crate) const GATEWAY: Self = Self {
		seats: 256,
		head_time: Duration::from_secs(20),
		write_time: Duration::from_secs(30),
		answer_time: Duration::from_secs(60),
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
		match seats.take(limits) {
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
	let router = router.layer(middleware::from_fn_with_state(seat.clone(), show_seat));
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

/// Whoever asks is no longer idle, and can keep its seat further in.
async fn show_seat(State(seat): State<Arc<Seat>>, mut request: Request, next: Next) -> Response {
	seat.may_leave_from(Instant::now());
	request.extensions_mut().insert(seat);
	next.run(request).await
}

/// Nobody has to leave while it is answered. For those who are let in.
pub(crate) async fn keep_seat(request: Request, next: Next) -> Response {
	let Some(seat) = request.extensions().get::<Arc<Seat>>().cloned() else {
		return next.run(request).await;
	};
	let busy = Busy::begin(seat);
	next.run(request).await.map(|body| Body::new(Answer { body, busy }))
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
	/// Since when it is idle, or when its answer has had its time.
	may_leave_from: Instant,
	leave: Arc<Notify>,
}

impl Seats {
	fn taken(&self) -> MutexGuard<'_, Taken> {
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Take one of those that there may be. If there is none, whoever may leave for longest does; none
	/// if nobody may.
	fn take(&self, limits: Limits) -> Option<Arc<Seat>> {
		let mut taken = self.taken();
		let now = Instant::now();
		if taken.seats.len() >= limits.seats {
			let others = taken.seats.iter().map(|(id, other)| (other.may_leave_from, *id));
			let (_, longest) = others.min().filter(|(from, _)| *from <= now)?;
			taken.seats.remove(&longest)?.leave.notify_one();
		}
		taken.count += 1;
		let (id, leave) = (taken.count, Arc::new(Notify::new()));
		taken.seats.insert(id, Sitting { may_leave_from: now, leave: leave.clone() });
		Some(Arc::new(Seat { id, leave, answer_time: limits.answer_time, seats: self.clone() }))
	}
}

/// A seat, until it is dropped.
struct Seat {
	id: u64,
	/// Told when it is given to another.
	leave: Arc<Notify>,
	answer_time: Duration,
	seats: Seats,
}

impl Seat {
	fn may_leave_from(&self, from: Instant) {
		if let Some(sitting) = self.seats.taken().seats.get_mut(&self.id) {
			sitting.may_leave_from = from;
		}
	}
}

impl Drop for Seat {
	fn drop(&mut self) {
		self.seats.taken().seats.remove(&self.id);
	}
}

/// While it lives, a seat is not idle. Requests of one connection come one after the other.
struct Busy {
	seat: Arc<Seat>,
	began: Instant,
	/// Of the answer, that went out or are about to.
	bytes: u64,
}

impl Busy {
	fn begin(seat: Arc<Seat>) -> Self {
		let mut busy = Self { seat, began: Instant::now(), bytes: 0 };
		busy.note(0);
		busy
	}

	fn note(&mut self, bytes: usize) {
		self.bytes = self.bytes.saturating_add(bytes as u64);
		let time = self.seat.answer_time + Duration::from_secs(self.bytes / SPEED_MIN);
		self.seat.may_leave_from(self.began + time);
	}
}

impl Drop for Busy {
	fn drop(&mut self) {
		self.seat.may_leave_from(Instant::now());
	}
}

/// A body that keeps its connection's seat until it has gone out.
struct Answer {
	body: Body,
	busy: Busy,
}

impl HttpBody for Answer {
	type Data = Bytes;
	type Error = axum::Error;

	fn poll_frame(
		mut self: Pin<&mut Self>,
		context: &mut task::Context<'_>,
	) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
		let frame = task::ready!(Pin::new(&mut self.body).poll_frame(context));
		if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
			self.busy.note(bytes.len());
		}
		Poll::Ready(frame)
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
