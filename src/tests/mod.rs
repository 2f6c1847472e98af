//! Tests of the pallet, by capability.
