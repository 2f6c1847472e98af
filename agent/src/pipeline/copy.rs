//! A snapshot on its way from one repository to another, still sealed.
//!
//! No key is needed. Children go before their parents, as every repository asks for, and what
//! the target has is skipped with everything below it: copying the next snapshot of a machine
//! costs what is new in it.

use crate::{
	format::{CborError, links},
	pipeline::{Cancel, OnProgress, Progress, Stored},
	repositories::{BlockSource, RepositoryError, Session},
	walk::WHOLE,
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	num::NonZero,
	ops::ControlFlow,
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
	/// The origin gave a node that no snapshot has.
	#[error("block {cid} is no node of a snapshot: it has too many links, or lies too deep")]
	Shape {
		/// Which block.
		cid: Cid,
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

/// Most links of a node. Those of trees have 256 at most, roots one for each disk and file.
const LINKS_MAX: usize = 4096;

/// Most nodes above one another. A tree with the smallest fan-out over the largest disk has fewer.
const LEVELS_MAX: usize = 64;

enum Step {
	/// Copy what is below a node, which makes up such a share of the whole, then the node.
	Enter(Cid, u64),
	/// The node itself, whose children are there.
	Leave(Cid, Vec<u8>),
}

/// Copies a snapshot, blocking. `threads` copy the leaves below one node at a time, the chunks of
/// each in one go where the origin can. How many bytes there will be is not known beforehand, so
/// progress tells how much of the tree was gone through. Pin the root with the same session afterwards.
pub fn copy(
	from: &dyn BlockSource,
	to: &dyn Session,
	root: &Cid,
	threads: NonZero<usize>,
	on_progress: OnProgress<'_>,
	cancel: &Cancel,
) -> Result<Stored, CopyError> {
	let done = Mutex::default();
	let copying = Copying { from, to, threads, cancel, on_progress, done };
	let mut pending = vec![Step::Enter(*root, WHOLE)];
	let mut levels = 0;
	while let Some(step) = pending.pop() {
		match step {
			Step::Enter(cid, share) => {
				copying.proceed()?;
				if copying.has(&cid)? {
					copying.walk(share);
					continue;
				}
				let block = copying.read(&cid)?;
				let (nodes, chunks) = children(&cid, &block)?;
				let each = share / (nodes.len() as u64).max(1);
				match nodes.is_empty() {
					true => {
						copying.children_of_leaf(&cid, &chunks)?;
						copying.walk(share);
					}
					// In one go there would come with them all that is below the nodes.
					false => copying.chunks(&chunks)?,
				}
				let inner = copying.leaves(&nodes, each)?;
				levels += 1;
				if levels > LEVELS_MAX {
					return Err(CopyError::Shape { cid });
				}
				pending.push(Step::Leave(cid, block));
				pending.extend(inner.into_iter().map(|node| Step::Enter(node, each)));
			}
			Step::Leave(cid, block) => {
				levels -= 1;
				copying.write(&cid, &block)?;
			}
		}
	}
	Ok(copying.done.into_inner().unwrap_or_else(PoisonError::into_inner).stored)
}

/// What was done so far.
#[derive(Default)]
struct Done {
	stored: Stored,
	walked: u64,
}

/// The nodes and the chunks below a block.
fn children(cid: &Cid, block: &[u8]) -> Result<(Vec<Cid>, Vec<Cid>), CopyError> {
	match cid.codec() {
		BlockCodec::Raw => Ok((Vec::new(), Vec::new())),
		BlockCodec::DagCbor => {
			let children =
				links(block).map_err(|source| CopyError::NotANode { cid: *cid, source })?;
			if children.len() > LINKS_MAX {
				return Err(CopyError::Shape { cid: *cid });
			}
			Ok(children.into_iter().partition(|child| child.codec() == BlockCodec::DagCbor))
		}
	}
}

struct Copying<'a> {
	from: &'a dyn BlockSource,
	to: &'a dyn Session,
	threads: NonZero<usize>,
	cancel: &'a Cancel,
	on_progress: OnProgress<'a>,
	done: Mutex<Done>,
}

impl Copying<'_> {
	fn proceed(&self) -> Result<(), CopyError> {
		match self.cancel.is_cancelled() {
			false => Ok(()),
			true => Err(CopyError::Cancelled),
		}
	}

	fn has(&self, cid: &Cid) -> Result<bool, CopyError> {
		self.to.has(cid).map_err(CopyError::Write)
	}

	fn read(&self, cid: &Cid) -> Result<Vec<u8>, CopyError> {
		self.from.get(cid).map_err(CopyError::Read)?.ok_or(CopyError::Missing { cid: *cid })
	}

	/// Stores a block whose hash was checked when it was read.
	fn write(&self, cid: &Cid, block: &[u8]) -> Result<(), CopyError> {
		let put = self.to.put_unchecked(cid, block).map_err(CopyError::Write)?;
		let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
		done.stored.count(put, block);
		done.stored.read_bytes += block.len() as u64;
		self.show(&done);
		Ok(())
	}

	/// So much more of the whole is there.
	fn walk(&self, share: u64) {
		let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
		done.walked += share;
		self.show(&done);
	}

	/// With the lock held, so that one thread at a time shows it, and it never goes back.
	fn show(&self, Done { stored, walked }: &Done) {
		let (written_bytes, walked) = (stored.new_bytes, *walked);
		(self.on_progress)(Progress { written_bytes, walked, ..Progress::default() });
	}

	/// Copies those of these nodes that have no nodes below them, each such a share of the whole, and
	/// names the others. There are few of these, so they are read again rather than kept.
	fn leaves(&self, nodes: &[Cid], each: u64) -> Result<Vec<Cid>, CopyError> {
		let inner = Mutex::new(Vec::new());
		self.each(nodes, |cid| {
			if self.has(cid)? {
				self.walk(each);
				return Ok(());
			}
			let block = self.read(cid)?;
			let (nodes, chunks) = children(cid, &block)?;
			if nodes.is_empty() {
				self.children_of_leaf(cid, &chunks)?;
				self.walk(each);
				return self.write(cid, &block);
			}
			inner.lock().unwrap_or_else(PoisonError::into_inner).push(*cid);
			Ok(())
		})?;
		Ok(inner.into_inner().unwrap_or_else(PoisonError::into_inner))
	}

	/// Copies the chunks of a node that has nothing else below it.
	fn children_of_leaf(&self, node: &Cid, chunks: &[Cid]) -> Result<(), CopyError> {
		let missing = self.missing(chunks)?;
		// With most of them here, one by one is less than all of them.
		if missing.len() > 1 && missing.len() * 2 > chunks.len() {
			let mut result = Ok(());
			self.from.get_children(node, chunks, &mut |cid, block| {
				result = self.proceed().and_then(|()| self.write(cid, &block));
				match result {
					Ok(()) => ControlFlow::Continue(()),
					Err(_) => ControlFlow::Break(()),
				}
			});
			result?;
		}
		self.chunks(chunks)
	}

	/// Copies chunks one by one, those that are missing.
	fn chunks(&self, chunks: &[Cid]) -> Result<(), CopyError> {
		self.each(&self.missing(chunks)?, |cid| self.write(cid, &self.read(cid)?))
	}

	fn missing(&self, chunks: &[Cid]) -> Result<Vec<Cid>, CopyError> {
		let mut missing = Vec::new();
		for cid in chunks {
			if !self.has(cid)? {
				missing.push(*cid);
			}
		}
		Ok(missing)
	}

	/// Does the same with each of these blocks, several at once, until one fails.
	fn each(
		&self,
		cids: &[Cid],
		work: impl Fn(&Cid) -> Result<(), CopyError> + Sync,
	) -> Result<(), CopyError> {
		let next = AtomicUsize::new(0);
		let result = Mutex::new(Ok(()));
		let is_failed = || result.lock().unwrap_or_else(PoisonError::into_inner).is_err();
		let run = || {
			while let Some(cid) = cids.get(next.fetch_add(1, Ordering::Relaxed)) {
				if is_failed() {
					return;
				}
				if let Err(error) = self.proceed().and_then(|()| work(cid)) {
					let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
					// What follows from the first failure says less than it.
					if result.is_ok() {
						*result = Err(error);
					}
					return;
				}
			}
		};
		thread::scope(|scope| {
			for _ in 1..self.threads.get().min(cids.len()) {
				scope.spawn(run);
			}
			run();
		});
		result.into_inner().unwrap_or_else(PoisonError::into_inner)
	}
}
