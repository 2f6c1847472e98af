//! The NBD protocol, by its [specification]: its numbers, and a server for disks of snapshots.
//!
//! The client is where disks are read from, in [`sources::nbd`](crate::sources::nbd).
//!
//! [specification]: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md

mod connection;
pub(crate) mod protocol;
mod server;

pub use server::{NbdServer, ServedDisk};
