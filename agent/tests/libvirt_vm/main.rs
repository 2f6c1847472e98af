//! Reading machines that a real libvirt runs: a daemon of the tests' own, with its own folders.
//!
//! They need root and libvirt's daemon. Where one is missing they say so and pass, but not in
//! continuous integration (`CI` is set), where they fail.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod daemon;
mod domain;
mod kills;
mod operator;
mod reading;
mod writes;
