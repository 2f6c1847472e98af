//! The agent of a compute node: reads virtual machines, seals their blocks, keeps them in IPFS
//! and restores images from them.

pub mod api;
pub mod chain;
mod client;
pub mod commands;
pub mod config;
mod console;
pub mod copies;
pub mod daemon;
mod direct;
mod disk;
pub mod doctor;
mod foreign;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod job_log;
pub mod jobs;
pub mod log;
pub mod metrics;
pub mod nbd;
pub mod nearest;
pub mod node;
#[cfg(test)]
mod page;
pub mod peers;
pub mod pipeline;
pub mod replicas;
pub mod repositories;
pub mod secret;
pub mod sources;
mod stage;
pub mod targets;
pub mod verification;
pub mod walk;
pub mod webhook;
