//! Tests of the pallet, by capability.

mod access;
mod deletion;
mod holds;
mod invariants;
mod lineages;
mod model;
mod moves;
mod proposals;
mod reports;
mod restores;
mod retention;
mod settings;
mod worker;
