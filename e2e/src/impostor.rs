//! A program that listens where a node expects its agent, and has bad manners. It keeps a record
//! of its visitors, which shows how a node bears it.

use anyhow::{Context, Result};
use std::{
	io,
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	time::{Duration, Instant},
};
use tokio::{
	io::{AsyncReadExt, AsyncWriteExt},
	net::{
		TcpListener, TcpStream,
		tcp::{ReadHalf, WriteHalf},
	},
	task::{JoinHandle, JoinSet},
};

/// What is said to each visitor.
#[derive(Clone, Debug)]
pub struct Manners {
	/// Said before the visitor spoke.
	pub greeting: Vec<u8>,
	/// Said when the visitor has made its request. Said any earlier, it could be lost: a client
	/// whose connection ends while it speaks need not look for an answer.
	pub answer: Vec<u8>,
	/// What comes then.
	pub then: Then,
}

/// How a conversation goes on after the answer.
#[derive(Clone, Debug)]
pub enum Then {
	/// There is nothing more to say.
	Bye,
	/// The visitor is left waiting.
	Wait,
	/// The same is said again and again, with a pause after each time, or as fast as it is taken.
	Repeat {
		/// What is said.
		words: Vec<u8>,
		/// Time until it is said again.
		pause: Duration,
	},
}

/// A connection, from when it was accepted until the visitor closed it.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
	/// When it was accepted.
	pub began: Instant,
	/// When the visitor closed it, if that has happened.
	pub ended: Option<Instant>,
	/// Bytes that the visitor, or the system on its behalf, took.
	pub taken_bytes: u64,
}

/// The program. It is gone when it is dropped.
#[derive(Debug)]
pub struct Impostor {
	book: Arc<Mutex<Book>>,
	door: JoinHandle<()>,
}

#[derive(Debug)]
struct Book {
	manners: Arc<Manners>,
	visits: Vec<Visit>,
}

impl Impostor {
	/// Listen at an address, and say nothing yet.
	pub async fn listen(address: &str) -> Result<Self> {
		let manners = Manners { greeting: Vec::new(), answer: Vec::new(), then: Then::Wait };
		let listener = TcpListener::bind(address)
			.await
			.with_context(|| format!("failed to listen at {address}"))?;
		let book = Book { manners: Arc::new(manners), visits: Vec::new() };
		let book = Arc::new(Mutex::new(book));
		let door = tokio::spawn(receive(listener, book.clone()));
		Ok(Self { book, door })
	}

	/// Have other manners from the next visitor on.
	pub fn behave(&self, manners: Manners) {
		open(&self.book).manners = Arc::new(manners);
	}

	/// All visits so far, in the order in which they began.
	pub fn visits(&self) -> Vec<Visit> {
		open(&self.book).visits.clone()
	}

	/// Close all connections and give the address free.
	pub async fn leave(mut self) {
		self.door.abort();
		// It is as gone when it was cancelled as when it ended.
		let _ = (&mut self.door).await;
	}
}

impl Drop for Impostor {
	fn drop(&mut self) {
		self.door.abort();
	}
}

fn open(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
	book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(listener: TcpListener, book: Arc<Mutex<Book>>) {
	// Dropped with this task, and all conversations with it.
	let mut conversations = JoinSet::new();
	while let Ok((stream, _)) = listener.accept().await {
		let (number, manners) = {
			let mut book = open(&book);
			book.visits.push(Visit { began: Instant::now(), ended: None, taken_bytes: 0 });
			(book.visits.len() - 1, book.manners.clone())
		};
		let book = book.clone();
		conversations.spawn(async move {
			let taken = |bytes: usize| open(&book).visits[number].taken_bytes += bytes as u64;
			// A visitor that resets the connection has closed it too.
			let _ = converse(stream, &manners, taken).await;
			open(&book).visits[number].ended = Some(Instant::now());
		});
	}
}

/// Talk until the visitor closes the connection.
async fn converse(
	mut stream: TcpStream,
	manners: &Manners,
	taken: impl Fn(usize),
) -> io::Result<()> {
	let (mut ear, mut mouth) = stream.split();
	say(&mut mouth, &manners.greeting, &taken).await?;
	if !hear_request(&mut ear).await? {
		return Ok(());
	}
	tokio::select! {
		ended = hear_out(&mut ear) => ended,
		failed = talk(&mut mouth, manners, &taken) => failed,
	}
}

/// Hear a request in HTTP to its end. Says whether it came that far.
async fn hear_request(ear: &mut ReadHalf<'_>) -> io::Result<bool> {
	let mut heard = Vec::new();
	while !is_request(&heard) {
		if ear.read_buf(&mut heard).await? == 0 {
			return Ok(false);
		}
	}
	Ok(true)
}

/// Whether this is all of a request: its head, and as much behind it as that says.
fn is_request(bytes: &[u8]) -> bool {
	let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
	let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
	let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
	let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
	bytes.len() - end - 4 >= length
}

async fn hear_out(ear: &mut ReadHalf<'_>) -> io::Result<()> {
	while ear.read(&mut [0; 16 * 1024]).await? > 0 {}
	Ok(())
}

/// Say all there is to say. Ends only when nobody listens any more.
async fn talk(
	mouth: &mut WriteHalf<'_>,
	manners: &Manners,
	taken: &impl Fn(usize),
) -> io::Result<()> {
	say(mouth, &manners.answer, taken).await?;
	match &manners.then {
		Then::Bye => mouth.shutdown().await?,
		Then::Wait => (),
		Then::Repeat { words, pause } => loop {
			say(mouth, words, taken).await?;
			if !pause.is_zero() {
				tokio::time::sleep(*pause).await;
			}
		},
	}
	std::future::pending().await
}

async fn say(mouth: &mut WriteHalf<'_>, words: &[u8], taken: &impl Fn(usize)) -> io::Result<()> {
	let mut left = words;
	while !left.is_empty() {
		let count = mouth.write(left).await?;
		taken(count);
		left = &left[count..];
	}
	Ok(())
}
