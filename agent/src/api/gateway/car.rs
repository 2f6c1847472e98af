//! Many blocks in one answer: a CAR, depth first.
//!
//! A block that is missing, damaged or wanted no more ends the stream: what has gone out cannot be
//! taken back, so whoever reads checks that all came.

use super::immutable;
use crate::{
	format::links,
	repositories::{BlockSource, CarWriter, EmbeddedStore, RepositoryError},
};
use axum::{
	body::{Body, Bytes},
	http::{StatusCode, header},
	response::{IntoResponse, Response},
};
use backup_primitives::{Cid, cid::BlockCodec};
use futures::Stream;
use std::{
	collections::{HashMap, HashSet},
	io::{self, Write},
	sync::Arc,
	time::Duration,
};
use tokio::{
	runtime::Handle,
	sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

pub(super) const MEDIA_TYPE: &str = "application/vnd.ipld.car";

/// Streams at once. Each takes a thread that reads, and a few pieces of memory.
const STREAMS_MAX: usize = 32;

/// Bytes of a piece, and how many may wait for the reader.
const PIECE_BYTES: usize = 256 * 1024;
const PIECES: usize = 4;

/// How long a reader may let a piece wait.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// Blocks of which it is remembered that they went out. Of a larger tree some may come twice, and
/// the header of the answer says so.
const SENT_MAX: usize = 1 << 20;

/// How much below a block is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
	/// The block alone. An entity is the same: our nodes are no files.
	Block,
	/// All of it.
	All,
}

impl Scope {
	pub(super) fn of(query: &HashMap<String, String>) -> Option<Self> {
		match query.get("dag-scope").map(String::as_str) {
			Some("block" | "entity") => Some(Self::Block),
			Some("all") | None => Some(Self::All),
			Some(_) => None,
		}
	}
}

/// The streams that run.
#[derive(Clone, Debug)]
pub struct Cars(Arc<Semaphore>);

impl Default for Cars {
	fn default() -> Self {
		Self(Arc::new(Semaphore::new(STREAMS_MAX)))
	}
}

impl Cars {
	/// Answer with a block and what is below it.
	pub(super) fn stream(
		&self,
		store: EmbeddedStore,
		root: Cid,
		block: Vec<u8>,
		scope: Scope,
	) -> Response {
		let Ok(permit) = self.0.clone().try_acquire_owned() else {
			let headers = [(header::RETRY_AFTER, "5")];
			return (StatusCode::SERVICE_UNAVAILABLE, headers, "too many streams\n")
				.into_response();
		};
		let (pieces, received) = mpsc::channel(PIECES);
		let output = Pieces { pieces, handle: Handle::current(), piece: Vec::new() };
		tokio::task::spawn_blocking(move || {
			if let Err(error) = send(&store, root, block, scope, output, permit) {
				tracing::debug!(%root, %error, "a stream of blocks ended early");
			}
		});
		let kind = format!("{MEDIA_TYPE}; version=1; order=dfs; dups=y");
		let root = root.to_string();
		let headers = immutable(kind, &root, &format!("{root}.car"), format!("W/\"{root}.car\""));
		(headers, Body::from_stream(until_end(received))).into_response()
	}
}

/// Writes the tree below a block whose hash was checked. The reader checks all others.
fn send(
	store: &EmbeddedStore,
	root: Cid,
	block: Vec<u8>,
	scope: Scope,
	mut output: Pieces,
	_permit: OwnedSemaphorePermit,
) -> io::Result<()> {
	write(store, root, block, scope, &mut output)?;
	output.end()
}

/// The pieces that come. If they stop without an end, so that not all has come, the answer breaks off.
fn until_end(received: mpsc::Receiver<Bytes>) -> impl Stream<Item = io::Result<Bytes>> {
	futures::stream::unfold(Some(received), async |received| {
		let mut received = received?;
		match received.recv().await {
			Some(piece) if piece.is_empty() => None,
			Some(piece) => Some((Ok(piece), Some(received))),
			None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
		}
	})
}

fn write(
	store: &EmbeddedStore,
	root: Cid,
	block: Vec<u8>,
	scope: Scope,
	output: &mut Pieces,
) -> io::Result<()> {
	let mut car = CarWriter::new(output, &root)?;
	let mut sent = HashSet::from([root]);
	let mut pending = Vec::new();
	car.block(&root, &block)?;
	if scope == Scope::All {
		push_children(&root, &block, &mut pending)?;
	}
	while let Some(cid) = pending.pop() {
		if sent.contains(&cid) {
			continue;
		}
		let block = store.get_unchecked(&cid).map_err(io::Error::other)?;
		let block = block.ok_or_else(|| io::Error::other(RepositoryError::Missing { cid }))?;
		push_children(&cid, &block, &mut pending)?;
		car.block(&cid, &block)?;
		if sent.len() < SENT_MAX {
			sent.insert(cid);
		}
	}
	car.finish().map(drop)
}

/// Puts the children of a node on top, the first of them last.
fn push_children(cid: &Cid, block: &[u8], pending: &mut Vec<Cid>) -> io::Result<()> {
	if cid.codec() == BlockCodec::DagCbor {
		pending.extend(links(block).map_err(io::Error::other)?.into_iter().rev());
	}
	Ok(())
}

/// What is written, on its way to the reader. An empty piece is the end.
struct Pieces {
	pieces: mpsc::Sender<Bytes>,
	handle: Handle,
	piece: Vec<u8>,
}

impl Pieces {
	fn send(&self, piece: Bytes) -> io::Result<()> {
		let sent = self.handle.block_on(async {
			tokio::time::timeout(PIECE_TIME_MAX, self.pieces.send(piece)).await
		});
		match sent {
			Ok(Ok(())) => Ok(()),
			Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
			Err(_) => Err(io::ErrorKind::TimedOut.into()),
		}
	}

	fn end(&self) -> io::Result<()> {
		self.send(Bytes::new())
	}
}

impl Write for &mut Pieces {
	fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
		self.piece.extend_from_slice(bytes);
		if self.piece.len() >= PIECE_BYTES {
			self.flush()?;
		}
		Ok(bytes.len())
	}

	fn flush(&mut self) -> io::Result<()> {
		let piece = std::mem::take(&mut self.piece);
		if piece.is_empty() { Ok(()) } else { self.send(piece.into()) }
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use futures::StreamExt;

	/// What a reader gets of these pieces, all of which wait for it when their writer stops.
	async fn read(sent: &[&'static [u8]]) -> Vec<io::Result<Bytes>> {
		let (pieces, received) = mpsc::channel(PIECES);
		for piece in sent {
			pieces.send(Bytes::from_static(piece)).await.unwrap();
		}
		drop(pieces);
		until_end(received).collect().await
	}

	#[tokio::test]
	async fn what_stops_without_an_end_does_not_look_complete() {
		let whole = read(&[b"one", b"two", b""]).await;
		assert!(whole.len() == 2 && whole.iter().all(Result::is_ok), "{whole:?}");
		// As many as there is room for, so that there would be none for an error.
		let torn = read(&[b"one", b"two", b"three", b"four"]).await;
		assert!(torn.len() == 5 && torn[4].is_err(), "{torn:?}");
		assert!(read(&[]).await[0].is_err());
	}
}
