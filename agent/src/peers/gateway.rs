//! One gateway: blocks by CID, and the chunks of a node in one stream.
//!
//! See <https://specs.ipfs.tech/http-gateways/trustless-gateway/>. Every answer has to come with
//! some speed and has an end: who drips or does not stop is cut off.

use super::{
	addresses::{AddressError, Reach},
	pass::Pass,
};
use crate::{
	format::{BLOCK_BYTES_MAX, digest},
	jobs::now_ms,
	repositories::{CarError, CarStream},
};
use backup_primitives::Cid;
use reqwest::{
	StatusCode,
	blocking::{Client, Response},
	header::ACCEPT,
	redirect::Policy,
};
use std::{
	collections::HashSet,
	io::{self, BufReader, Read},
	ops::ControlFlow,
	sync::Arc,
	time::{Duration, Instant},
};

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer, and each further piece of it, may let wait.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long an answer may take, beside the time for its bytes at the least speed. Shorter than an
/// interrupted command may take to clean up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(25);

/// The least speed, in bytes a second.
const SPEED_MIN: u64 = 128 * 1024;

/// How often a gateway that serves everybody may send us on.
const REDIRECTS_MAX: usize = 3;

const RAW_BLOCK: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=y";

/// Why a gateway was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
	/// It could not be reached, or did not come to an end.
	#[error("it cannot be reached: {0}")]
	Unreachable(String),
	/// It does not let this reader in.
	#[error("it does not let us in ({0}): it knows us by another key, or its clock is wrong")]
	Refused(u16),
	/// It sends who asks to another address.
	#[error(
		"it sends us elsewhere (HTTP status {0}), where what we show here is not shown; use that address itself, if it is the one meant"
	)]
	Elsewhere(u16),
	/// It answered with something else than success or absence.
	#[error("it answered with HTTP status {0}")]
	Status(u16),
	/// What it sent is not what the CID says.
	#[error("it sent something else for block {cid}")]
	Lie {
		/// The block.
		cid: Cid,
	},
	/// It sent what nobody had asked for.
	#[error("it sent a block that nobody asked for")]
	Unasked,
	/// Its answer broke off, came too slowly or without an end.
	#[error("its answer did not come to a good end: {0}")]
	Body(#[from] io::Error),
	/// Its stream of blocks is malformed, or broke off.
	#[error("its stream of blocks is of no use: {0}")]
	Car(#[from] CarError),
}

impl PeerError {
	/// Whether no gateway that means well can have sent this, whatever the line did to it.
	pub(super) fn is_lie(&self) -> bool {
		match self {
			Self::Lie { .. } | Self::Unasked => true,
			Self::Car(error) => !matches!(error, CarError::Io(_) | CarError::Truncated { .. }),
			_ => false,
		}
	}
}

/// What all gateways are asked through.
#[derive(Clone, Debug)]
pub struct GatewayClient {
	/// For gateways that serve everybody.
	open: Client,
	/// For those that are shown a pass. It goes to the gateway that it was made for and nowhere
	/// else, so no redirect is followed.
	closed: Client,
	reach: Reach,
}

impl GatewayClient {
	/// A client that connects to these addresses only. Makes a thread, so not to be made by
	/// asynchronous code.
	///
	/// # Errors
	/// If the system's certificates cannot be read.
	pub fn new(reach: Reach) -> Result<Self, reqwest::Error> {
		let client = |redirects| {
			let time = Client::builder().connect_timeout(CONNECT_TIME_MAX).timeout(SILENCE_MAX);
			let client = time.redirect(redirects);
			match &reach {
				Reach::All => client,
				Reach::PublicAnd { .. } => client.no_proxy().dns_resolver(Arc::new(reach.clone())),
			}
			.build()
		};
		let closed = client(Policy::none())?;
		let open = match reach {
			// Public gateways send their users elsewhere; nodes of the chain have no reason to.
			Reach::All => client(Policy::limited(REDIRECTS_MAX))?,
			Reach::PublicAnd { .. } => closed.clone(),
		};
		Ok(Self { open, closed, reach })
	}

	/// The gateway at an address, which is shown a pass if there is one. With a pass redirects are not
	/// followed.
	pub fn gateway(&self, url: &str, pass: Option<Pass>) -> Result<Gateway, AddressError> {
		let url = self.reach.check(url)?;
		let client = if pass.is_some() { &self.closed } else { &self.open };
		Ok(Gateway { client: client.clone(), url, pass })
	}
}

/// One gateway.
#[derive(Debug)]
pub struct Gateway {
	client: Client,
	url: String,
	pass: Option<Pass>,
}

impl Gateway {
	/// Its address.
	pub fn url(&self) -> &str {
		&self.url
	}

	/// A block; nothing if this gateway has not got it.
	pub fn block(&self, cid: &Cid) -> Result<Option<Vec<u8>>, PeerError> {
		self.block_within(cid, None)
	}

	/// The same, within a time if there is one.
	pub(super) fn block_within(
		&self,
		cid: &Cid,
		limit: Option<Duration>,
	) -> Result<Option<Vec<u8>>, PeerError> {
		let Some(answer) = self.ask(cid, "format=raw", RAW_BLOCK, limit)? else { return Ok(None) };
		let mut block = Vec::new();
		Patient::new(answer).take(BLOCK_BYTES_MAX as u64 + 1).read_to_end(&mut block)?;
		match block.len() <= BLOCK_BYTES_MAX && digest(&block) == cid.digest() {
			true => Ok(Some(block)),
			false => Err(PeerError::Lie { cid: *cid }),
		}
	}

	/// The children of a node, as they come, until all came or `take` says that it is enough. None
	/// but these may come, beside the node itself, each once. Those that the gateway has not got
	/// do not come.
	pub fn children(
		&self,
		node: &Cid,
		children: &[Cid],
		take: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) -> Result<(), PeerError> {
		let Some(answer) = self.ask(node, "format=car&dag-scope=all", CAR, None)? else {
			return Ok(());
		};
		let mut expected: HashSet<&Cid> = children.iter().chain([node]).collect();
		let input = BufReader::with_capacity(256 * 1024, Patient::new(answer));
		let mut stream = CarStream::new(input)?;
		while !expected.is_empty() {
			let Some((cid, block)) = stream.next_block()? else { break };
			if !expected.remove(&cid) {
				return Err(PeerError::Unasked);
			}
			if cid != *node && take(&cid, block).is_break() {
				break;
			}
		}
		Ok(())
	}

	fn ask(
		&self,
		cid: &Cid,
		query: &str,
		accept: &str,
		limit: Option<Duration>,
	) -> Result<Option<Response>, PeerError> {
		let target = format!("/ipfs/{cid}?{query}");
		let mut request = self.client.get(format!("{}{target}", self.url)).header(ACCEPT, accept);
		if let Some(pass) = &self.pass {
			for (name, value) in pass.headers(&target, now_ms()) {
				request = request.header(name, value);
			}
		}
		// The time of one request is that of all of its answer. With more of it, silence is bounded.
		if let Some(limit) = limit.filter(|limit| *limit < SILENCE_MAX) {
			request = request.timeout(limit);
		}
		let answer = request.send().map_err(|error| {
			PeerError::Unreachable(causes(&error).unwrap_or_else(|| error.to_string()))
		})?;
		match answer.status() {
			StatusCode::OK => Ok(Some(answer)),
			StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
			StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
				Err(PeerError::Refused(answer.status().as_u16()))
			}
			other if other.is_redirection() => Err(PeerError::Elsewhere(other.as_u16())),
			other => Err(PeerError::Status(other.as_u16())),
		}
	}
}

/// What an error comes from, without the address, which whoever reports it names. None if it tells
/// of nothing.
pub(crate) fn causes(error: &reqwest::Error) -> Option<String> {
	let mut words = Vec::new();
	let mut cause = std::error::Error::source(error);
	while let Some(error) = cause {
		words.push(error.to_string());
		cause = error.source();
	}
	(!words.is_empty()).then(|| words.join(": "))
}

/// An answer that has to come with some speed. What its reader takes for itself is not counted.
struct Patient<R> {
	inner: R,
	waited: Duration,
	bytes: u64,
}

impl<R> Patient<R> {
	fn new(inner: R) -> Self {
		Self { inner, waited: Duration::ZERO, bytes: 0 }
	}
}

impl<R: Read> Read for Patient<R> {
	fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
		let allowed = ANSWER_TIME_MAX + Duration::from_secs(self.bytes / SPEED_MIN);
		if self.waited > allowed {
			let words = format!("it is slower than {SPEED_MIN} bytes a second");
			return Err(io::Error::new(io::ErrorKind::TimedOut, words));
		}
		let began = Instant::now();
		let read = self.inner.read(buffer);
		self.waited += began.elapsed();
		let count = read?;
		self.bytes += count as u64;
		Ok(count)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::thread;

	/// Takes its time for each byte.
	struct Slow(Duration);

	impl Read for Slow {
		fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
			thread::sleep(self.0);
			buffer[0] = 7;
			Ok(1)
		}
	}

	#[test]
	fn patience_ends_with_who_gives_slowly_and_not_with_who_takes_slowly() {
		let mut answer = Patient::new(Slow(Duration::from_millis(5)));
		answer.read_exact(&mut [0; 2]).unwrap();
		let waited = answer.waited;
		assert!(waited >= Duration::from_millis(10));
		thread::sleep(Duration::from_millis(5));
		assert_eq!(answer.waited, waited);
		answer.waited += ANSWER_TIME_MAX;
		assert_eq!(answer.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
	}
}
