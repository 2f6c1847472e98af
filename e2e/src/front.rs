//! A gateway in front of an agent's, whose address a node registers as its own. It passes on what it
//! is asked and answered, or means harm.

use anyhow::{Context, Result};
use backup_primitives::Cid;
use sha2::{Digest, Sha256};
use std::{
	io,
	sync::{
		Arc, Mutex, PoisonError,
		atomic::{AtomicU64, Ordering},
	},
	time::Duration,
};
use tokio::{
	io::{AsyncReadExt, AsyncWriteExt},
	net::{TcpListener, TcpStream},
	task::{JoinHandle, JoinSet},
	time::sleep,
};

/// Most bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Time between two bytes of one that drips.
const DRIP: Duration = Duration::from_millis(500);

/// A head of an answer that ends with its connection.
const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Manner {
	/// It is passed on.
	Honest,
	/// It is passed on, and a bit of the answer is changed.
	WrongBytes,
	/// Where blocks are asked for in a stream, one of sound blocks that nobody asked for comes,
	/// without an end. Else it is passed on.
	EndlessCar,
	/// A byte comes now and then.
	Drip,
	/// Whoever asks is sent to this address.
	Redirect(String),
	/// Nothing is answered.
	Deaf,
}

/// The gateway. It is gone when it is dropped.
#[derive(Debug)]
pub struct Front {
	url: String,
	state: Arc<State>,
	door: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
	does: Mutex<(u16, Manner)>,
	harmed: AtomicU64,
	given_bytes: AtomicU64,
}

impl Front {
	/// An honest one that leads nowhere yet.
	pub async fn open() -> Result<Self> {
		let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
		let url = format!("http://{}", listener.local_addr()?);
		let does = Mutex::new((0, Manner::Honest));
		let (harmed, given_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
		let state = Arc::new(State { does, harmed, given_bytes });
		let door = tokio::spawn(receive(listener, state.clone()));
		Ok(Self { url, state, door })
	}

	/// Where others reach it.
	pub fn url(&self) -> &str {
		&self.url
	}

	/// Stand in front of the gateway at a port of this machine.
	pub fn lead_to(&self, port: u16) {
		self.state.change(|(to, _)| *to = port);
	}

	/// Behave so from the next request on.
	pub fn behave(&self, manner: Manner) {
		self.state.change(|(_, known)| *known = manner);
	}

	/// Requests that were not simply passed on.
	pub fn harmed(&self) -> u64 {
		self.state.harmed.load(Ordering::Relaxed)
	}

	/// Bytes that it gave of its own.
	pub fn given_bytes(&self) -> u64 {
		self.state.given_bytes.load(Ordering::Relaxed)
	}
}

impl Drop for Front {
	fn drop(&mut self) {
		self.door.abort();
	}
}

impl State {
	fn change(&self, change: impl FnOnce(&mut (u16, Manner))) {
		change(&mut self.does.lock().unwrap_or_else(PoisonError::into_inner));
	}

	fn does(&self) -> (u16, Manner) {
		self.does.lock().unwrap_or_else(PoisonError::into_inner).clone()
	}

	async fn give(&self, reader: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
		reader.write_all(bytes).await?;
		self.given_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
		Ok(())
	}

	/// One request to a connection.
	async fn serve(&self, mut reader: TcpStream) -> io::Result<()> {
		let head = head(&mut reader).await?;
		let (port, manner) = self.does();
		let is_stream = head.lines().next().is_some_and(|line| line.contains("format=car"));
		match manner {
			Manner::Honest => return pass_on(&head, port, &mut reader).await,
			Manner::EndlessCar if !is_stream => return pass_on(&head, port, &mut reader).await,
			_ => self.harmed.fetch_add(1, Ordering::Relaxed),
		};
		match manner {
			Manner::Honest | Manner::Deaf => Ok(()),
			Manner::WrongBytes => {
				let mut answer = Vec::new();
				ask(&head, port).await?.read_to_end(&mut answer).await?;
				let middle = answer.len() / 2;
				answer[middle] ^= 1;
				self.give(&mut reader, &answer).await
			}
			Manner::EndlessCar => {
				self.give(&mut reader, FOUND).await?;
				self.give(&mut reader, &car_header()).await?;
				for number in 0u64.. {
					self.give(&mut reader, &section(&number.to_le_bytes().repeat(4096))).await?;
				}
				Ok(())
			}
			Manner::Drip => {
				self.give(&mut reader, FOUND).await?;
				loop {
					self.give(&mut reader, b".").await?;
					sleep(DRIP).await;
				}
			}
			Manner::Redirect(url) => {
				let answer = format!(
					"HTTP/1.1 307 Temporary Redirect\r\nLocation: {url}/ipfs\r\nContent-Length: 0\r\n\
					 Connection: close\r\n\r\n"
				);
				self.give(&mut reader, answer.as_bytes()).await
			}
		}
	}
}

async fn receive(listener: TcpListener, state: Arc<State>) {
	// Dropped with this task, and all connections with it.
	let mut connections = JoinSet::new();
	while let Ok((stream, _)) = listener.accept().await {
		let state = state.clone();
		connections.spawn(async move {
			// A reader may leave when it likes.
			let _ = state.serve(stream).await;
		});
	}
}

/// The head of a request. There is nothing behind it: readers only fetch.
async fn head(reader: &mut TcpStream) -> io::Result<String> {
	let mut head = Vec::new();
	while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
		if reader.read_buf(&mut head).await? == 0 {
			return Err(io::ErrorKind::UnexpectedEof.into());
		}
	}
	String::from_utf8(head).map_err(io::Error::other)
}

/// Make a request to the gateway at a port, as the last one on its connection.
async fn ask(head: &str, port: u16) -> io::Result<TcpStream> {
	let mut gateway = TcpStream::connect(("127.0.0.1", port)).await?;
	let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
	gateway.write_all(head.as_bytes()).await?;
	Ok(gateway)
}

async fn pass_on(head: &str, port: u16, reader: &mut TcpStream) -> io::Result<()> {
	let mut gateway = ask(head, port).await?;
	tokio::io::copy(&mut gateway, reader).await.map(drop)
}

/// The header of a CAR, with a root that nobody knows.
fn car_header() -> Vec<u8> {
	let root = cid(b"root");
	let before = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00";
	with_length(&[&before[..], root.as_bytes(), b"\x67version\x01"].concat())
}

/// A block in a CAR.
fn section(block: &[u8]) -> Vec<u8> {
	with_length(&[&cid(block).as_bytes()[..], block].concat())
}

fn cid(block: &[u8]) -> Cid {
	Cid::raw(Sha256::digest(block).into())
}

/// Behind its length in groups of seven bits, the lowest first.
fn with_length(bytes: &[u8]) -> Vec<u8> {
	let (mut length, mut with) = (bytes.len(), Vec::new());
	while length >= 0x80 {
		with.push(length as u8 | 0x80);
		length >>= 7;
	}
	with.push(length as u8);
	with.extend_from_slice(bytes);
	with
}
