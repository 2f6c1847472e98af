//! Tests of the pallet, by capability.

mod deletion;
mod invariants;
mod lineages;
mod reports;
mod restores;
mod retention;
mod settings;
mod worker;
