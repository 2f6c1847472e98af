//! A disk of a snapshot, read at any place without restoring it.

use crate::{
	format::{Geometry, Object, OpenError, seal::open_chunk},
	pipeline::base::{BaseError, Cursor},
	repositories::{BlockSource, RepositoryError},
};
use std::{
	collections::VecDeque,
	ops::{Deref, Range},
	rc::Rc,
};

/// Chunks that are kept opened. A guest reads a chunk in pieces, and a few places in turn.
const CACHED_CHUNKS: usize = 16;

/// Reads places of a disk as they are asked for. Memory is bounded by a few chunks, and one node a
/// level.
#[expect(missing_debug_implementations, reason = "repositories have none")]
pub struct DiskView<S> {
	repository: S,
	chunk_bytes: u64,
	cursor: Cursor<S>,
	/// The last ones read, the newest first.
	cache: VecDeque<(u64, Rc<[u8]>)>,
}

/// A part of a disk within one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
	/// So many bytes are zero.
	Zeros(u64),
	/// Bytes of a chunk: the chunk, and which of its bytes are meant.
	Data(Rc<[u8]>, Range<usize>),
}

impl Part {
	/// How long it is, in bytes.
	pub fn len(&self) -> u64 {
		match self {
			Self::Zeros(bytes) => *bytes,
			Self::Data(_, range) => range.len() as u64,
		}
	}

	/// Whether it has no bytes.
	pub fn is_empty(&self) -> bool {
		self.len() == 0
	}
}

/// Why a place cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
	/// A node of the tree is of no use.
	#[error("a node of the tree cannot be used: {0}")]
	Node(#[from] BaseError),
	/// A chunk cannot be read.
	#[error(transparent)]
	Repository(#[from] RepositoryError),
	/// A chunk does not open.
	#[error("a chunk does not open: {0}")]
	Open(#[from] OpenError),
}

impl<S: Clone + Deref<Target: BlockSource>> DiskView<S> {
	/// A view of a disk of an opened root, with blocks from a repository that it borrows or shares.
	pub fn new(repository: S, geometry: Geometry, object: &Object) -> Self {
		Self {
			chunk_bytes: geometry.chunk_bytes().into(),
			cursor: Cursor::new(repository.clone(), geometry, object),
			repository,
			cache: VecDeque::with_capacity(CACHED_CHUNKS),
		}
	}

	/// How large the disk is, in bytes.
	pub fn logical_bytes(&self) -> u64 {
		self.cursor.logical_bytes()
	}

	/// What stands at a range of the disk, up to the end of its first chunk. Nothing beyond the
	/// end of the disk.
	pub fn read(&mut self, range: Range<u64>) -> Result<Part, ViewError> {
		let Some((index, inner)) = self.first_chunk(&range) else { return Ok(Part::Zeros(0)) };
		if let Some(place) = self.cache.iter().position(|(cached, _)| *cached == index) {
			let hit = self.cache.remove(place).expect("the place was just found");
			let chunk = hit.1.clone();
			self.cache.push_front(hit);
			return Ok(Part::Data(chunk, inner));
		}
		let Some(child) = self.cursor.child(0, index)? else {
			return Ok(Part::Zeros(inner.len() as u64));
		};
		let missing = || RepositoryError::Missing { cid: child.cid };
		let mut block = self.repository.get_unchecked(&child.cid)?.ok_or_else(missing)?;
		let whole = self.cursor.range(0, index);
		let mut chunk = vec![0; (whole.end - whole.start) as usize];
		if open_chunk(&child.key, &mut block, &mut chunk).is_err() {
			// Checked this time: where it is damaged, another place may have a sound one.
			let mut block = self.repository.get(&child.cid)?.ok_or_else(missing)?;
			open_chunk(&child.key, &mut block, &mut chunk)?;
		}
		let chunk: Rc<[u8]> = chunk.into();
		self.cache.truncate(CACHED_CHUNKS - 1);
		self.cache.push_front((index, chunk.clone()));
		Ok(Part::Data(chunk, inner))
	}

	/// Whether a range of the disk is known to be zero, and how much of it is like that: up to the
	/// end of its first chunk.
	pub fn is_zero(&mut self, range: Range<u64>) -> Result<(bool, u64), ViewError> {
		let Some((index, inner)) = self.first_chunk(&range) else { return Ok((true, 0)) };
		Ok((self.cursor.child(0, index)?.is_none(), inner.len() as u64))
	}

	/// The chunk in which a range begins, and what of it is meant.
	fn first_chunk(&self, range: &Range<u64>) -> Option<(u64, Range<usize>)> {
		let index = range.start / self.chunk_bytes;
		let whole = self.cursor.range(0, index);
		let end = range.end.min(whole.end);
		let within = |at: u64| (at - whole.start) as usize;
		(range.start < end).then(|| (index, within(range.start)..within(end)))
	}
}
