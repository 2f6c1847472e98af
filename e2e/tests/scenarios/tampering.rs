//! A gateway between the command and the agent that spoils one block.

use anyhow::{Context, Result};
use std::{
	collections::HashMap,
	io::{BufRead, BufReader, Read, Write},
	net::{TcpListener, TcpStream},
	sync::{Arc, Mutex},
	thread,
};

/// What becomes of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
	/// It is not found.
	Missing,
	/// One bit of it is flipped.
	Flipped,
}

/// The gateway. It ends with the test's process.
pub(crate) struct TamperingGateway {
	url: String,
}

struct Spoiler {
	upstream: String,
	fault: Fault,
	number: usize,
	/// Paths in the order in which they were first asked for.
	seen: Mutex<HashMap<String, usize>>,
}

impl TamperingGateway {
	/// Spoil the block that is asked for as number `number`, counted from 0, whenever it is
	/// asked for.
	pub(crate) fn start(upstream: &str, fault: Fault, number: usize) -> Result<Self> {
		let listener = TcpListener::bind("127.0.0.1:0")?;
		let url = format!("http://{}", listener.local_addr()?);
		let upstream = upstream.trim_start_matches("http://").to_owned();
		let spoiler = Arc::new(Spoiler { upstream, fault, number, seen: Mutex::default() });
		thread::spawn(move || {
			for stream in listener.incoming().flatten() {
				let spoiler = spoiler.clone();
				// A client that hangs up is not the gateway's matter.
				thread::spawn(move || drop(spoiler.serve(stream)));
			}
		});
		Ok(Self { url })
	}

	pub(crate) fn url(&self) -> &str {
		&self.url
	}
}

impl Spoiler {
	fn serve(&self, mut client: TcpStream) -> Result<()> {
		let mut lines = BufReader::new(client.try_clone()?).lines();
		let request = lines.next().context("no request")??;
		while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
		let path = request.split_whitespace().nth(1).context("no path")?.to_owned();
		let is_spoiled = {
			let mut seen = self.seen.lock().expect("no holder of the lock panics");
			let next = seen.len();
			*seen.entry(path.clone()).or_insert(next) == self.number
		};
		let (head, mut body) = self.fetch(&path)?;
		let status = match (is_spoiled, self.fault) {
			(true, Fault::Missing) => {
				body.clear();
				"404 Not Found"
			}
			(true, Fault::Flipped) => {
				let middle = body.len() / 2;
				if let Some(byte) = body.get_mut(middle) {
					*byte ^= 1;
				}
				"200 OK"
			}
			(false, _) if head.contains(" 200 ") => "200 OK",
			(false, _) => "404 Not Found",
		};
		let length = body.len();
		let head =
			format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
		client.write_all(head.as_bytes())?;
		client.write_all(&body)?;
		Ok(())
	}

	/// The first line of the answer, and its body.
	fn fetch(&self, path: &str) -> Result<(String, Vec<u8>)> {
		let mut agent = TcpStream::connect(&self.upstream)?;
		let request =
			format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.upstream);
		agent.write_all(request.as_bytes())?;
		let mut answer = Vec::new();
		agent.read_to_end(&mut answer)?;
		let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
		let head = String::from_utf8_lossy(&answer[..end]).lines().next().unwrap_or("").to_owned();
		Ok((head, answer.split_off(end + 4)))
	}
}
