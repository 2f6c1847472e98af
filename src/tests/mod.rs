//! Tests of the pallet, by capability.

mod access;
mod bad_input;
mod cost;
mod deletion;
mod deposits;
mod desk;
mod footprint;
mod history;
mod holds;
mod invariants;
mod lineages;
mod model;
mod moves;
mod pages;
mod proposals;
mod replicas;
mod reports;
mod restore_options;
mod restores;
mod retention;
mod serving;
mod settings;
mod take_over;
mod worker;
