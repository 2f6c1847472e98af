//! The real program, seen from outside: its command line, its HTTP interface, what kills and full
//! disks leave behind, and what it destroys when a node's finalized state says so.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod api;
mod copies;
mod deletions;
mod disks;
mod fake_node;
mod http;
mod kills;
mod live_restores;
#[path = "../fixtures/machine.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod machine;
mod machines;
#[path = "../fixtures/orders.rs"]
mod orders;
mod replacements;
mod rotation;
mod running;
mod snapshots;
mod start;
mod verification;
mod world;
