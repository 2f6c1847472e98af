//! The agent of a compute node: reads virtual machines, seals their blocks, keeps them in IPFS
//! and restores images from them.

pub mod format;
pub mod pipeline;
pub mod repositories;
pub mod sources;
pub mod targets;
