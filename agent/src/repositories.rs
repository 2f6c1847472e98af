//! Where blocks are kept.
//!
//! A [`BlockSource`] gives blocks by CID. A [`Repository`] keeps them too, and pins that say
//! which trees of blocks must stay.
//! Writing goes through a [`Session`]: whatever a session stored, or said to be there already,
//! stays at least until the session ends, so a backup may build on each "yes". The order of a
//! backup is: open a session, put children before parents, pin the root, drop the session.
//!
//! What every implementation promises:
//! 1. A node is stored only when its direct children are there, and nothing is removed before
//!    its parents are. So a block that is there is there with everything below it, and a pin
//!    costs nothing.
//! 2. When [`Session::pin`] returns, the root and all below it survive a power cut.
//! 3. Only [`Repository::collect`] removes blocks, and only such that neither a pin nor a
//!    session needs.
//!
//! All calls block. Adding a kind of repository means one file here and touches no other.

pub mod car;
pub mod embedded;
pub mod error;
pub mod kubo;
mod trial;
pub mod verify;

pub use car::{CarError, CarFile, CarStream, CarWriter};
pub use embedded::{EmbeddedStore, Obstacle, Obstacles, StoreOptions, StoreReport};
pub use error::RepositoryError;
pub use kubo::{Kubo, KuboError};
pub use trial::try_out;
pub(crate) use trial::{forget_trials, is_trial};
pub use verify::{Chunks, VerifyReport, verify};

use crate::format::Cid;
use std::ops::ControlFlow;

/// Most bytes of a pin's label.
pub const LABEL_BYTES_MAX: usize = 256;

/// A place that blocks can be read from.
pub trait BlockSource: Send + Sync {
	/// Whether the block is there now, which promises nothing for later. Not checked.
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		Ok(self.get_unchecked(cid)?.is_some())
	}

	/// The block, checked against its CID; `None` if it is not there. Also gives a node with
	/// something missing below it, which [`Session::has`] denies.
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError>;

	/// The block without that check, for readers who authenticate it otherwise.
	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.get(cid)
	}

	/// Hands over chunks below a node, checked, where many at once come quicker than one by one,
	/// until `take` says that it is enough. May leave out any, or all, as this does: whoever needs
	/// them asks for each.
	fn get_children(
		&self,
		_node: &Cid,
		_children: &[Cid],
		_take: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) {
	}
}

/// A place that keeps blocks.
pub trait Repository: BlockSource {
	/// Opens a session to write in.
	fn open_session(&self) -> Result<Box<dyn Session>, RepositoryError>;

	/// All pins, in the order of their CIDs.
	fn pins(&self) -> Result<Vec<Pin>, RepositoryError>;

	/// Removes a pin, durably. Says whether there was one; the blocks stay until collected.
	fn unpin(&self, root: &Cid) -> Result<bool, RepositoryError>;

	/// Frees what no pin and no session needs.
	fn collect(&self) -> Result<Collected, RepositoryError>;

	/// How much is kept.
	fn usage(&self) -> Result<Usage, RepositoryError>;
}

/// A writer whose blocks are protected from collection while it lives.
pub trait Session: Send + Sync {
	/// Whether the block is there, with everything below it. After a yes it stays until the
	/// session ends.
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError>;

	/// Stores a block, checked against its CID. The children of a node come first.
	fn put(&self, cid: &Cid, block: &[u8]) -> Result<Put, RepositoryError> {
		if crate::format::digest(block) != cid.digest() {
			return Err(RepositoryError::Corrupt { cid: *cid });
		}
		self.put_unchecked(cid, block)
	}

	/// Stores a block whose hash the caller has just computed.
	fn put_unchecked(&self, cid: &Cid, block: &[u8]) -> Result<Put, RepositoryError>;

	/// Makes everything that was put so far survive a power cut.
	fn flush(&self) -> Result<(), RepositoryError>;

	/// Pins a root that is there, after [`flush`](Self::flush). The label is the caller's, at
	/// most [`LABEL_BYTES_MAX`] long; pinning again replaces it.
	fn pin(&self, root: &Cid, label: &[u8]) -> Result<(), RepositoryError>;
}

/// What storing a block came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
	/// It is new.
	Stored,
	/// It was there already.
	Present,
}

/// A root that must stay, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
	/// The root.
	pub root: Cid,
	/// What the caller said when pinning.
	pub label: Vec<u8>,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
	/// Blocks that are gone.
	pub blocks: u64,
	/// Their bytes.
	pub bytes: u64,
}

/// How much a repository keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
	/// Blocks that can be read.
	pub blocks: u64,
	/// Their bytes.
	pub bytes: u64,
	/// Bytes that can still be written before the repository is full.
	pub available_bytes: u64,
}
