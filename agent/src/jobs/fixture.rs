//! The words that tests of jobs are written in.

use backup_primitives::{
	BlockRef, Cid, Consistency, LineageId, OpaqueId, Recipient, VmTag,
	job::{DeletionOrder, Desired, LineagePlace, RestoreOrder, RestorePlace, SnapshotOrder},
	report::TakenSnapshot,
};

pub(crate) const GENESIS: [u8; 32] = [9; 32];

pub(crate) fn lineage(request: u64) -> LineageId {
	LineageId { request: OpaqueId::of(&request).unwrap(), salt: [2; 32] }
}

pub(crate) fn owner(owner: u8) -> OpaqueId {
	OpaqueId::of(&[owner; 32]).unwrap()
}

pub(crate) fn cid(seed: u8) -> Cid {
	Cid::dag_cbor([seed; 32])
}

/// An order for the machine of a request, which belongs to owner 1.
pub(crate) fn snapshot(request: u64, sequence: u64, slot: u64) -> SnapshotOrder {
	SnapshotOrder {
		lineage: lineage(request),
		sequence,
		slot,
		owner: owner(1),
		vm: format!("vm-{request}").into_bytes().try_into().unwrap(),
		vm_tag: VmTag([4; 16]),
		owner_recipients: vec![Recipient([5; 32])].try_into().unwrap(),
		owner_key_version: 1,
		node_recipient: Recipient([6; 32]),
		capacity_bytes: 1 << 30,
		parent: None,
		oldest_taken_at: 0,
	}
}

pub(crate) fn restore(restore: u64, request: u64, sequence: u64) -> RestoreOrder {
	let lineage = lineage(request);
	RestoreOrder {
		restore,
		lineage,
		sequence,
		cid: cid(sequence as u8),
		owner: owner(1),
		place: RestorePlace::Aside,
		envelope: None,
	}
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

/// What the chain wants: nothing, at block 100.
pub(crate) fn nothing() -> Desired {
	Desired {
		genesis: GENESIS,
		node: OpaqueId::of(&1u32).unwrap(),
		at: BlockRef { number: 100, hash: [8; 32] },
		now: 100,
		snapshots: Default::default(),
		restores: Default::default(),
		deletions: Default::default(),
		copies: Default::default(),
		lineages: Default::default(),
	}
}

pub(crate) fn snapshots(orders: impl IntoIterator<Item = SnapshotOrder>) -> Desired {
	let orders: Vec<_> = orders.into_iter().collect();
	Desired { snapshots: orders.try_into().unwrap(), ..nothing() }
}

pub(crate) fn restores(orders: impl IntoIterator<Item = RestoreOrder>) -> Desired {
	let orders: Vec<_> = orders.into_iter().collect();
	Desired { restores: orders.try_into().unwrap(), ..nothing() }
}

pub(crate) fn deletion(request: u64, until: u64) -> Desired {
	let order = DeletionOrder { lineage: lineage(request), until };
	Desired { deletions: vec![order].try_into().unwrap(), ..nothing() }
}

pub(crate) fn gone_on(request: u64, next: u64) -> Desired {
	let place = LineagePlace { lineage: lineage(request), next };
	Desired { lineages: vec![place].try_into().unwrap(), ..nothing() }
}
