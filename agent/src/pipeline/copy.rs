//! A snapshot on its way from one repository to another, still sealed.
//!
//! No key is needed. Children go before their parents, as every repository asks for, and what
//! the target has is skipped with everything below it: copying the next snapshot of a machine
//! costs what is new in it.

use crate::{
	format::{CborError, links},
	pipeline::{Cancel, OnProgress, Progress, Stored},
	repositories::{BlockSource, RepositoryError, Session},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	num::NonZero,
	sync::{
		Mutex, PoisonError,
		atomic::{AtomicUsize, Ordering},
	},
	thread,
};

/// Why a copy did not finish. What was copied meanwhile is collected later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
	/// The origin does not have a block.
	#[error("block {cid} is missing at its origin")]
	Missing {
		/// Which one.
		cid: Cid,
	},
	/// The origin gave a node that is none.
	#[error("block {cid} is not a node: {source}")]
	NotANode {
		/// Which block.
		cid: Cid,
		/// What is wrong with it.
		source: CborError,
	},
	/// The origin failed, or gave something else than was asked for.
	#[error("a block cannot be read: {0}")]
	Read(#[source] RepositoryError),
	/// The target failed.
	#[error("a block cannot be stored: {0}")]
	Write(#[source] RepositoryError),
	/// It was told to end.
	#[error("the copy was cancelled")]
	Cancelled,
}

enum Step {
	/// Copy what is below a node, then the node.
	Enter(Cid),
	/// The node itself, whose children are there.
	Leave(Cid, Vec<u8>),
}

/// Copies a snapshot, blocking. `threads` fetch the chunks of one node at a time. How much there
/// will be is not known beforehand: progress has no total. Pin the root with the same session
/// afterwards.
pub fn copy(
	from: &dyn BlockSource,
	to: &dyn Session,
	root: &Cid,
	threads: NonZero<usize>,
	on_progress: OnProgress<'_>,
	cancel: &Cancel,
) -> Result<Stored, CopyError> {
	let copying = Copying { from, to, threads, cancel };
	let mut stored = Stored::default();
	let mut pending = vec![Step::Enter(*root)];
	while let Some(step) = pending.pop() {
		match step {
			Step::Enter(cid) => {
				copying.proceed()?;
				if to.has(&cid).map_err(CopyError::Write)? {
					continue;
				}
				let block = copying.read(&cid)?;
				let (nodes, chunks) = children(&cid, &block)?;
				stored.add(&copying.chunks(&chunks)?);
				on_progress(Progress { written_bytes: stored.new_bytes, ..Progress::default() });
				pending.push(Step::Leave(cid, block));
				pending.extend(nodes.into_iter().map(Step::Enter));
			}
			Step::Leave(cid, block) => copying.write(&cid, &block, &mut stored)?,
		}
	}
	Ok(stored)
}

/// The nodes and the chunks below a block.
fn children(cid: &Cid, block: &[u8]) -> Result<(Vec<Cid>, Vec<Cid>), CopyError> {
	match cid.codec() {
		BlockCodec::Raw => Ok((Vec::new(), Vec::new())),
		BlockCodec::DagCbor => {
			let children =
				links(block).map_err(|source| CopyError::NotANode { cid: *cid, source })?;
			Ok(children.into_iter().partition(|child| child.codec() == BlockCodec::DagCbor))
		}
	}
}

struct Copying<'a> {
	from: &'a dyn BlockSource,
	to: &'a dyn Session,
	threads: NonZero<usize>,
	cancel: &'a Cancel,
}

impl Copying<'_> {
	fn proceed(&self) -> Result<(), CopyError> {
		match self.cancel.is_cancelled() {
			false => Ok(()),
			true => Err(CopyError::Cancelled),
		}
	}

	fn read(&self, cid: &Cid) -> Result<Vec<u8>, CopyError> {
		self.from.get(cid).map_err(CopyError::Read)?.ok_or(CopyError::Missing { cid: *cid })
	}

	/// Stores a block whose hash was checked when it was read.
	fn write(&self, cid: &Cid, block: &[u8], stored: &mut Stored) -> Result<(), CopyError> {
		let put = self.to.put_unchecked(cid, block).map_err(CopyError::Write)?;
		stored.count(put, block);
		stored.read_bytes += block.len() as u64;
		Ok(())
	}

	/// Copies the chunks of one node.
	fn chunks(&self, chunks: &[Cid]) -> Result<Stored, CopyError> {
		let mut missing = Vec::new();
		for cid in chunks {
			if !self.to.has(cid).map_err(CopyError::Write)? {
				missing.push(*cid);
			}
		}
		let next = AtomicUsize::new(0);
		let result = Mutex::new(Ok(Stored::default()));
		let work = || {
			while let Some(cid) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
				let mut one = Stored::default();
				let done = self
					.proceed()
					.and_then(|()| self.read(cid))
					.and_then(|block| self.write(cid, &block, &mut one));
				let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
				match (&mut *result, done) {
					(Ok(stored), Ok(())) => stored.add(&one),
					(Ok(_), Err(error)) => *result = Err(error),
					(Err(_), _) => return,
				}
			}
		};
		thread::scope(|scope| {
			for _ in 1..self.threads.get().min(missing.len()) {
				scope.spawn(work);
			}
			work();
		});
		result.into_inner().unwrap_or_else(PoisonError::into_inner)
	}
}
