//! Blocks over HTTP, from IPFS gateways that serve them raw. Nothing that a gateway sends is
//! believed: every block is hashed.
//!
//! See <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.

use crate::error::CliError;
use backup_agent::{
	format::{BLOCK_BYTES_MAX, digest},
	repositories::{BlockSource, RepositoryError},
};
use backup_primitives::Cid;
use reqwest::{StatusCode, blocking::Client, header::ACCEPT, redirect::Policy};
use std::{
	io::{self, Read},
	time::Duration,
};

/// Longest time for one block: shorter than an interrupted command may take to clean up.
const BLOCK_TIME_MAX: Duration = Duration::from_secs(25);

/// Most redirects, which public gateways use.
const REDIRECTS_MAX: usize = 3;

const RAW_BLOCK: &str = "application/vnd.ipld.raw";

/// Gateways, asked in their order for each block.
pub(super) struct Gateways {
	client: Client,
	urls: Vec<String>,
}

impl Gateways {
	/// Fails on an address that is none.
	pub(super) fn new(urls: &[String]) -> Result<Self, CliError> {
		let fail =
			|url: &str, reason: String| CliError::GatewayUnusable { url: url.to_owned(), reason };
		for url in urls {
			let parsed = reqwest::Url::parse(url).map_err(|error| fail(url, error.to_string()))?;
			if !matches!(parsed.scheme(), "http" | "https") {
				return Err(fail(url, "it is neither http nor https".into()));
			}
		}
		let client = Client::builder()
			.timeout(BLOCK_TIME_MAX)
			.redirect(Policy::limited(REDIRECTS_MAX))
			.build()
			.map_err(|error| fail(urls.first().map_or("", String::as_str), error.to_string()))?;
		let urls = urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
		Ok(Self { client, urls })
	}

	/// `None` if this gateway has not got the block.
	fn fetch(&self, url: &str, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let failed = |error: reqwest::Error| unreadable(io::Error::other(error.without_url()));
		let request = self.client.get(format!("{url}/ipfs/{cid}?format=raw"));
		let answer = request.header(ACCEPT, RAW_BLOCK).send().map_err(failed)?;
		match answer.status() {
			StatusCode::OK => (),
			StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
			other => return Err(unreadable(io::Error::other(format!("it answered {other}")))),
		}
		let mut block = Vec::new();
		answer.take(BLOCK_BYTES_MAX as u64 + 1).read_to_end(&mut block).map_err(unreadable)?;
		match block.len() <= BLOCK_BYTES_MAX && digest(&block) == cid.digest() {
			true => Ok(Some(block)),
			false => Err(RepositoryError::Corrupt { cid: *cid }),
		}
	}
}

impl BlockSource for Gateways {
	/// The first sound answer counts. A gateway that fails or lies is passed over, and its
	/// error told only if no other one has the block.
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		let mut failure = None;
		for url in &self.urls {
			match self.fetch(url, cid) {
				Ok(Some(block)) => return Ok(Some(block)),
				Ok(None) => (),
				Err(error) => failure = Some(error),
			}
		}
		failure.map_or(Ok(None), Err)
	}
}

fn unreadable(source: io::Error) -> RepositoryError {
	RepositoryError::Io { action: "read from a gateway", source }
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::{
		io::{BufRead, BufReader, Write},
		net::TcpListener,
		thread,
	};

	/// A gateway that answers every request with the same words; gives its address.
	fn gateway(status: &'static str, body: &'static [u8]) -> String {
		let listener = TcpListener::bind("127.0.0.1:0").unwrap();
		let address = listener.local_addr().unwrap();
		thread::spawn(move || {
			for stream in listener.incoming() {
				let mut stream = stream.unwrap();
				let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
				while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
				let head = format!(
					"HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
					body.len()
				);
				stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
			}
		});
		format!("http://{address}/")
	}

	fn get(urls: &[String], block: &[u8]) -> Result<Option<Vec<u8>>, RepositoryError> {
		Gateways::new(urls).unwrap().get(&Cid::raw(digest(block)))
	}

	#[test]
	fn a_sound_block_is_taken() {
		let urls = [gateway("200 OK", b"block")];
		assert_eq!(get(&urls, b"block").unwrap(), Some(b"block".to_vec()));
	}

	#[test]
	fn a_lie_is_noticed() {
		let urls = [gateway("200 OK", b"blocK")];
		assert!(matches!(get(&urls, b"block"), Err(RepositoryError::Corrupt { .. })));
	}

	#[test]
	fn a_block_that_nobody_has_is_missing() {
		assert_eq!(get(&[gateway("404 Not Found", b"")], b"block").unwrap(), None);
	}

	#[test]
	fn the_next_gateway_serves_what_the_first_cannot() {
		let urls = [
			gateway("200 OK", b"a lie"),
			gateway("500 Internal Server Error", b""),
			"http://127.0.0.1:1".into(),
			gateway("404 Not Found", b""),
			gateway("200 OK", b"block"),
		];
		assert_eq!(get(&urls, b"block").unwrap(), Some(b"block".to_vec()));
	}

	#[test]
	fn an_error_is_not_taken_for_absence() {
		let urls = ["http://127.0.0.1:1".into(), gateway("404 Not Found", b"")];
		assert!(matches!(get(&urls, b"block"), Err(RepositoryError::Io { .. })));
	}

	#[test]
	fn fails_on_what_is_no_address() {
		for url in ["", "localhost:8080", "ftp://localhost"] {
			assert!(Gateways::new(&[url.to_owned()]).is_err(), "{url}");
		}
	}
}
