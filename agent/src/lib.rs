//! Reads virtual machines, seals their blocks and keeps them in IPFS.

pub mod format;
pub mod pipeline;
pub mod repositories;
