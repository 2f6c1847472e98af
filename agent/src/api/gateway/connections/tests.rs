//! Clients that are silent, slow, greedy or many, over real connections.

use super::*;
use axum::routing::get;
use std::{
	net::SocketAddr,
	sync::atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIMITS: Limits = Limits {
	seats: 4,
	head_time: Duration::from_secs(3600),
	write_time: Duration::from_secs(3600),
	answer_time: Duration::from_secs(3600),
};

/// How long anything may take, on a machine that does much else.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A server that says "hello", waits for ever, or sends without end to whom it lets in, and takes long
/// to find out who is a stranger; and how many wait.
async fn server(limits: Limits) -> (SocketAddr, Arc<AtomicUsize>) {
	let at_work = Arc::new(AtomicUsize::new(0));
	let count = at_work.clone();
	let waiting = async move || {
		count.fetch_add(1, Ordering::SeqCst);
		std::future::pending::<()>().await;
	};
	let strangers = waiting.clone();
	let endless = async || {
		let piece =
			|| std::future::ready(Some((Ok::<_, io::Error>(Bytes::from_static(&[7; 65_536])), ())));
		Body::from_stream(futures::stream::unfold((), move |()| piece()))
	};
	let router = Router::new()
		.route("/hello", get(async || "hello"))
		.route("/wait", get(waiting))
		.route("/endless", get(endless))
		.layer(middleware::from_fn(keep_seat))
		.route("/stranger", get(strangers));
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let address = listener.local_addr().unwrap();
	tokio::spawn(serve(listener, router, limits));
	(address, at_work)
}

async fn ask(address: SocketAddr, path: &str) -> TcpStream {
	let mut stream = TcpStream::connect(address).await.unwrap();
	let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
	stream.write_all(request.as_bytes()).await.unwrap();
	stream
}

/// What comes until the server is silent or closes; nothing if the connection is closed before.
async fn answer(stream: &mut TcpStream) -> String {
	let mut bytes = vec![0; 4096];
	let read = tokio::time::timeout(TIME_MAX, stream.read(&mut bytes)).await.expect("an answer");
	String::from_utf8_lossy(&bytes[..read.unwrap_or(0)]).into_owned()
}

async fn until(what: &str, is: impl Fn() -> bool) {
	let end = Instant::now() + TIME_MAX;
	while !is() {
		assert!(Instant::now() < end, "{what}");
		tokio::time::sleep(Duration::from_millis(5)).await;
	}
}

async fn silent(address: SocketAddr, count: usize) -> Vec<TcpStream> {
	let mut streams = Vec::new();
	for _ in 0..count {
		streams.push(TcpStream::connect(address).await.unwrap());
	}
	streams
}

#[tokio::test]
async fn many_who_say_nothing_keep_nobody_out_and_are_not_kept() {
	let (address, _) = server(LIMITS).await;
	let mut silent = silent(address, 100).await;
	let heard = answer(&mut ask(address, "/hello").await).await;
	assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("hello"), "{heard}");
	// All but those that have a seat were sent away: the last three beside the one that asked.
	for stream in &mut silent[..97] {
		assert_eq!(answer(stream).await, "");
	}
	let mut last = silent.pop().unwrap();
	last.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
	assert!(answer(&mut last).await.ends_with("hello"), "who still sits is heard, too");
}

#[tokio::test]
async fn who_is_answered_keeps_its_seat_and_who_comes_then_is_sent_away() {
	let (address, at_work) = server(LIMITS).await;
	let mut busy = Vec::new();
	for _ in 0..4 {
		busy.push(ask(address, "/wait").await);
	}
	until("all seats to be busy", || at_work.load(Ordering::SeqCst) == 4).await;
	assert_eq!(answer(&mut ask(address, "/hello").await).await, "");
	drop(busy.pop());
	// The server notices when it reads from the connection, which it does all the time.
	let end = Instant::now() + TIME_MAX;
	while !answer(&mut ask(address, "/hello").await).await.ends_with("hello") {
		assert!(Instant::now() < end, "a seat that was left is free");
	}
}

#[tokio::test]
async fn strangers_whose_requests_are_looked_at_keep_nobody_out() {
	let (address, at_work) = server(LIMITS).await;
	let mut strangers = Vec::new();
	for count in 1..=4 {
		strangers.push(ask(address, "/stranger").await);
		until("a stranger", || at_work.load(Ordering::SeqCst) == count).await;
	}
	assert!(answer(&mut ask(address, "/hello").await).await.ends_with("hello"));
	assert_eq!(answer(&mut strangers[0]).await, "", "it had sat for longest");
}

#[tokio::test]
async fn who_has_been_answered_for_too_long_leaves_for_who_comes() {
	let limits = Limits { seats: 1, answer_time: Duration::from_millis(50), ..LIMITS };
	let (address, at_work) = server(limits).await;
	let mut slow = ask(address, "/wait").await;
	until("the seat to be busy", || at_work.load(Ordering::SeqCst) == 1).await;
	let end = Instant::now() + TIME_MAX;
	while !answer(&mut ask(address, "/hello").await).await.ends_with("hello") {
		assert!(Instant::now() < end, "it sits for ever");
	}
	assert_eq!(answer(&mut slow).await, "");
}

#[test]
fn boundary_an_answer_has_the_time_of_its_bytes() {
	let seat = Seats::default().take(LIMITS).unwrap();
	let from = || seat.seats.taken().seats[&seat.id].may_leave_from;
	let mut busy = Busy::begin(seat.clone());
	let begun = from();
	busy.note(SPEED_MIN as usize - 1);
	assert_eq!(from(), begun);
	busy.note(1);
	assert_eq!(from(), begun + Duration::from_secs(1));
	drop(busy);
	assert!(from() <= Instant::now());
}

#[tokio::test]
async fn a_connection_is_used_again_and_idle_in_between() {
	let (address, _) = server(LIMITS).await;
	let mut stream = ask(address, "/hello").await;
	for _ in 0..3 {
		assert!(answer(&mut stream).await.ends_with("hello"));
		stream.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
	}
	assert!(answer(&mut stream).await.ends_with("hello"));
	let _others = silent(address, 4).await;
	assert_eq!(answer(&mut stream).await, "", "it was idle for longest");
}

#[tokio::test]
async fn a_length_that_is_known_is_told() {
	let (address, _) = server(LIMITS).await;
	let heard = answer(&mut ask(address, "/hello").await).await;
	assert!(heard.contains("content-length: 5\r\n"), "{heard}");
}

#[tokio::test]
async fn a_head_that_takes_too_long_or_never_comes_ends_the_connection() {
	let (address, _) = server(Limits { head_time: Duration::from_millis(50), ..LIMITS }).await;
	let mut never = TcpStream::connect(address).await.unwrap();
	assert_eq!(answer(&mut never).await, "");
	let mut half = TcpStream::connect(address).await.unwrap();
	half.write_all(b"GET /hello HTTP/1.1\r\nHo").await.unwrap();
	assert_eq!(answer(&mut half).await, "");
	let mut once = ask(address, "/hello").await;
	assert!(answer(&mut once).await.ends_with("hello"));
	assert_eq!(answer(&mut once).await, "", "the next head never comes");
}

#[tokio::test]
async fn boundary_a_head_that_is_too_long_is_refused() {
	let (address, _) = server(LIMITS).await;
	let with = async |length: usize| {
		let mut stream = TcpStream::connect(address).await.unwrap();
		let head = format!("GET /hello HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(length));
		stream.write_all(head.as_bytes()).await.unwrap();
		answer(&mut stream).await
	};
	assert!(with(8 * 1024).await.starts_with("HTTP/1.1 200"));
	assert!(with(HEAD_BYTES_MAX).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn who_takes_in_nothing_of_its_answer_loses_its_seat() {
	let limits = Limits { seats: 1, write_time: Duration::from_millis(50), ..LIMITS };
	let (address, _) = server(limits).await;
	let _deaf = ask(address, "/endless").await;
	let end = Instant::now() + TIME_MAX;
	while !answer(&mut ask(address, "/hello").await).await.ends_with("hello") {
		assert!(Instant::now() < end, "who reads nothing sits for ever");
	}
}
