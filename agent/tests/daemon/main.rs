//! The real program, seen from outside: its command line, its HTTP interface, what kills and full
//! disks leave behind, and what it destroys when a node's finalized state says so.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod add_vm;
mod api;
mod browser;
mod cancels;
mod copies;
mod deletions;
mod disks;
mod doctor;
mod fake_node;
mod gate;
mod gateways;
mod http;
mod kills;
mod kubo;
mod live_restores;
#[path = "../fixtures/machine.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod machine;
mod machines;
#[path = "../fixtures/orders.rs"]
mod orders;
mod page;
mod pair;
mod reload;
mod replacements;
mod rotation;
mod running;
#[path = "../../../e2e/src/script.rs"]
#[expect(
	dead_code,
	unreachable_pub,
	reason = "the scripts of the end-to-end tests are run otherwise"
)]
mod script;
mod serving;
#[path = "../../../e2e/src/small_disk.rs"]
#[expect(unreachable_pub, reason = "the end-to-end tests have it in their library")]
mod small_disk;
mod snapshots;
mod stages;
mod start;
mod verification;
mod webhook;
mod world;
