//! Reads virtual machines, seals their blocks and keeps them in IPFS.

#![cfg_attr(
	test,
	expect(clippy::unwrap_used, reason = "a test that fails may panic")
)]

pub mod format;
pub mod pipeline;
pub mod repositories;
