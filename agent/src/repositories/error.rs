//! Why a repository cannot do what it was asked.

use crate::format::{CborError, Cid};
use std::{io, path::PathBuf};

/// `EIO`, for which the standard library has no name: the disk cannot read a sector.
pub(crate) const INPUT_OUTPUT: i32 = 5;

/// Why a repository cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
	/// A block that must be there is not.
	#[error("block {cid} is missing")]
	Missing {
		/// Which one.
		cid: Cid,
	},
	/// A block is not what its CID says.
	#[error("block {cid} is damaged")]
	Corrupt {
		/// Which one.
		cid: Cid,
	},
	/// A node was put before one of its children.
	#[error("node {node} cannot be stored before its child {child}")]
	Incomplete {
		/// The node.
		node: Cid,
		/// The child that is not there.
		child: Cid,
	},
	/// A node is not dag-cbor as this system writes it.
	#[error("block {cid} is not a node: {source}")]
	NotANode {
		/// Which block.
		cid: Cid,
		/// What is wrong with it.
		source: CborError,
	},
	/// The block is larger than any peer would take.
	#[error("a block of {found} bytes is larger than the {max} allowed")]
	BlockTooLarge {
		/// Bytes of the block.
		found: usize,
		/// The limit.
		max: usize,
	},
	/// The label is too long.
	#[error("a label of {found} bytes is longer than the {max} allowed")]
	LabelTooLong {
		/// Bytes of the label.
		found: usize,
		/// The limit.
		max: usize,
	},
	/// There is no room left; what was stored before is safe.
	#[error("the block store is full")]
	StoreFull,
	/// Writing failed, and with it went blocks of this session that were not yet durable.
	#[error("the block store lost unfinished writes of this session")]
	SessionLost,
	/// Another process has the store open.
	#[error("the block store {path} is in use by another process", path = path.display())]
	InUse {
		/// The store's folder.
		path: PathBuf,
	},
	/// A later version of this program wrote the store.
	#[error("the block store has version {found}, this program knows up to {known}")]
	NewerVersion {
		/// The store's version.
		found: u64,
		/// The newest that this program knows.
		known: u64,
	},
	/// Pins may have been lost, so nothing is removed before they are confirmed.
	#[error("the block store was rebuilt, and its pins are not confirmed yet")]
	PinsUnconfirmed,
	/// A collection is running already.
	#[error("a collection is running already")]
	Collecting,
	/// A file could not be read or written.
	#[error("the block store failed to {action}: {source}")]
	Io {
		/// What was tried, as in "failed to …".
		action: &'static str,
		/// Why not.
		source: io::Error,
	},
	/// The index could not be read or written.
	#[error("the index of the block store failed: {source}")]
	Index {
		/// Why.
		source: Box<redb::Error>,
	},
	/// The index was found damaged; it is rebuilt when the store is opened anew.
	#[error("the index of the block store is damaged and is rebuilt at the next start")]
	IndexDamaged,
	/// A repository of another kind failed.
	#[error("the repository failed: {source}")]
	Backend {
		/// Why.
		source: Box<dyn std::error::Error + Send + Sync>,
		/// Whether the same may succeed later.
		can_retry: bool,
	},
}

impl RepositoryError {
	/// Whether the same request may succeed later, without anything else being done.
	pub fn can_retry(&self) -> bool {
		match self {
			Self::SessionLost | Self::InUse { .. } | Self::Collecting | Self::Io { .. } => true,
			Self::Backend { can_retry, .. } => *can_retry,
			Self::Missing { .. }
			| Self::Corrupt { .. }
			| Self::Incomplete { .. }
			| Self::NotANode { .. }
			| Self::BlockTooLarge { .. }
			| Self::LabelTooLong { .. }
			| Self::StoreFull
			| Self::NewerVersion { .. }
			| Self::PinsUnconfirmed
			| Self::Index { .. }
			| Self::IndexDamaged => false,
		}
	}

	/// Whether bytes are lost: a file or its end is missing, or the disk cannot read a sector.
	/// All else may be different at the next try.
	pub(crate) fn is_loss(&self) -> bool {
		let Self::Io { source, .. } = self else { return false };
		matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
			|| source.raw_os_error() == Some(INPUT_OUTPUT)
	}

	/// Names what was tried when a file failed. A full disk gets its own variant.
	pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
		move |source| match source.kind() {
			io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StoreFull,
			_ => Self::Io { action, source },
		}
	}

	pub(crate) fn index(error: impl Into<redb::Error>) -> Self {
		match error.into() {
			redb::Error::Io(source) => Self::io("use its index")(source),
			source => Self::Index { source: Box::new(source) },
		}
	}
}
