//! The words that tests of jobs are written in.

// Cargo builds the tests beside `src` as programs of their own, and they share these words.
#[path = "../../tests/fixtures/orders.rs"]
mod orders;

pub(crate) use orders::{deletion, lineage, nothing, restore_of, restores, snapshot, snapshots};

use backup_primitives::{
	Cid, Consistency,
	job::{Copied, Desired, LineagePlace, RestoreOrder},
	report::TakenSnapshot,
};

pub(crate) fn cid(seed: u8) -> Cid {
	Cid::dag_cbor([seed; 32])
}

pub(crate) fn restore(restore: u64, request: u64, sequence: u64) -> RestoreOrder {
	restore_of(&snapshot(request, sequence, 0), cid(sequence as u8), restore)
}

pub(crate) fn taken(seed: u8, taken_at: u64) -> TakenSnapshot {
	TakenSnapshot {
		cid: cid(seed),
		taken_at,
		logical_bytes: 4096,
		new_bytes: 17,
		consistency: Consistency::Crash,
		owner_key_version: 1,
	}
}

pub(crate) fn gone_on(request: u64, next: u64) -> Desired {
	place(LineagePlace { next, ..lineage_place(request) })
}

/// A chain that wants nothing, and says so much of a machine that other nodes hold copies of.
pub(crate) fn confirmed(request: u64, next: u64, copied: Copied) -> Desired {
	place(LineagePlace { next, copied: Some(copied), ..lineage_place(request) })
}

/// A chain that orders nothing, and says how often it wants a snapshot of a machine.
pub(crate) fn every(request: u64, cadence: Option<u64>) -> Desired {
	place(LineagePlace { cadence, ..lineage_place(request) })
}

fn lineage_place(request: u64) -> LineagePlace {
	LineagePlace { lineage: lineage(request), next: 1, cadence: Some(100), copied: None }
}

fn place(place: LineagePlace) -> Desired {
	Desired { lineages: vec![place].try_into().unwrap(), ..nothing() }
}
