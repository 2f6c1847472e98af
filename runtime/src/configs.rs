//! The configuration of every pallet, one subject a file.

mod backup;
mod consensus;
mod governance;
mod system;
mod tokens;

pub(crate) use backup::{MAX_FREQUENCY, MIN_FREQUENCY};
pub use governance::{Governance, GovernanceMajority};
#[cfg(feature = "try-runtime")]
pub(crate) use system::RuntimeBlockWeights;
