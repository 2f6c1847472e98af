//! The snapshot format, version 1: what a backup is made of, and how it is sealed.
//!
//! ```text
//! root   dag-cbor   who, which, geometry, links in clear; an envelope with the root's read key;
//!                   a sealed header with names, times and the keys of the trees
//! node   dag-cbor   links in clear; sealed: which children there are, their keys and ids
//! chunk  raw        sealed bytes of one fixed-size piece of a disk
//! ```
//!
//! What holds everywhere:
//! 1. Links stand in clear, so a store can pin and check a snapshot without any key. All else
//!    is sealed.
//! 2. A key is derived from exactly what it encrypts, additional data included, so no key ever
//!    meets two plaintexts under the one nonce.
//! 3. A read key opens the tree below it and nothing beside it.
//! 4. Equal input under one repository key gives equal blocks: sealing is deterministic, but for
//!    the random salt of a root.
//! 5. Encodings are canonical. A decoder accepts exactly the bytes that the encoder writes,
//!    bounds everything that it reads and never panics.
//!
//! Nothing here performs input or output.

pub(crate) mod cbor;
pub mod envelope;
pub mod geometry;
pub mod key;
pub mod node;
pub mod root;
pub mod seal;
#[cfg(test)]
mod vectors;

pub use backup_primitives::Cid;
pub use cbor::{CborError, links};
pub use geometry::{Geometry, GeometryError};
pub use key::{ReadKey, RepositoryKey};
pub use node::{ChildRef, Node, NodeBlock, NodeError};
pub use root::{Object, ObjectHead, Root, RootBlock, RootError, SealedRoot};
pub use seal::{Compression, OpenError, PlaintextId, Sealer};

/// The version that this code writes and the newest that it reads.
pub const FORMAT_VERSION: u64 = 1;

/// Most bytes of a block: what every IPFS implementation transports.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The SHA2-256 digest by which a block is named.
pub fn digest(block: &[u8]) -> [u8; 32] {
	let mut digest = [0; 32];
	digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, block).as_ref());
	digest
}
