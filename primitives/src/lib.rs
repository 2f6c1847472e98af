//! Types that the pallet, the agent and the command line share.
//!
//! Everything here crosses a border: between chain and agent, between agent and disk, or
//! between a person and a program. Each protocol has one module, its own version and golden
//! vectors. Nothing here performs I/O, and nothing here knows FRAME.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod auth;
pub mod cid;
pub mod id;
pub mod job;
pub mod reader;
pub mod recipient;
pub mod report;
pub mod vm;

pub use cid::Cid;
pub use id::OpaqueId;
pub use reader::Reader;
pub use recipient::Recipient;
pub use report::{
	BlockRef, Consistency, FailureReason, KeptRoot, LineageId, RecordedRoot, RootStatus,
};
pub use vm::VmTag;
