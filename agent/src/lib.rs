//! The agent of a compute node: reads virtual machines, seals their blocks, keeps them in IPFS.

pub mod pipeline;
pub mod sources;
pub mod targets;
