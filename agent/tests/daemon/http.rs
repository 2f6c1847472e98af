//! The least of HTTP: one request on a connection of its own, sent as it is given.

use std::{
	collections::HashMap,
	io::{self, Read, Write},
	net::TcpStream,
	time::Duration,
};

/// How long an agent may take for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Answer {
	pub(crate) status: u16,
	pub(crate) headers: HashMap<String, String>,
	pub(crate) body: Vec<u8>,
}

impl Answer {
	pub(crate) fn json(&self) -> serde_json::Value {
		assert_eq!(self.status, 200, "{}", self.text());
		serde_json::from_slice(&self.body).unwrap()
	}

	pub(crate) fn text(&self) -> String {
		String::from_utf8_lossy(&self.body).into_owned()
	}

	fn parse(bytes: &[u8]) -> Option<Self> {
		let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
		let head = std::str::from_utf8(&bytes[..end]).ok()?;
		let mut lines = head.split("\r\n");
		let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
		let header = |line: &str| {
			let (name, value) = line.split_once(':')?;
			Some((name.to_ascii_lowercase(), value.trim().to_owned()))
		};
		let headers = lines.filter_map(header).collect();
		Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
	}
}

/// Ask once. The connection is closed after the answer.
pub(crate) fn ask(
	port: u16,
	method: &str,
	path: &str,
	headers: &[(&str, String)],
	body: &[u8],
) -> io::Result<Answer> {
	let mut stream = TcpStream::connect(("127.0.0.1", port))?;
	stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
	stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
	let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n");
	for (name, value) in headers {
		head.push_str(&format!("{name}: {value}\r\n"));
	}
	if !body.is_empty() || method == "POST" {
		head.push_str(&format!("content-length: {}\r\n", body.len()));
	}
	head.push_str("\r\n");
	stream.write_all(head.as_bytes())?;
	stream.write_all(body)?;
	let mut bytes = Vec::new();
	stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
	Answer::parse(&bytes).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}
