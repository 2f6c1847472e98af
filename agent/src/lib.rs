//! The agent of a compute node: reads virtual machines, seals their blocks, keeps them in IPFS
//! and restores images from them.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that fails may panic"))]

pub mod format;
pub mod pipeline;
pub mod repositories;
pub mod sources;
pub mod targets;
