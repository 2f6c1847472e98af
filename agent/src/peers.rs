//! Blocks from other nodes.
//!
//! Each node serves what it has at its gateway, see [`crate::api`]. The chain says where, with the
//! key that a request is proved to. [`Peers`] fetches from all of them at once and believes none:
//! every block is hashed. One that lies, drips, ends early or never ends costs a bounded time and
//! is passed over for a while.

mod addresses;
mod elsewhere;
mod gateway;
mod holders;
pub mod pass;
mod source;

pub use addresses::{AddressError, Reach};
#[cfg(test)]
pub(crate) use elsewhere::tests::Bench;
pub use elsewhere::{Elsewhere, Everywhere};
pub(crate) use gateway::causes;
pub use gateway::{Gateway, GatewayClient, PeerError};
pub(crate) use source::share;
pub use source::{PeerDirectory, Peers};
