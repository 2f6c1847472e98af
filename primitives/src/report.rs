//! What a node says to the chain, and the exact bytes that it signs.
//!
//! Every report is signed by the node's registered authority key over [`signing_payload`]:
//! a domain tag, the genesis hash, the node, a recent block and the [`Report`] itself. The
//! variant separates one kind of report from another, the lineage's salt separates forks,
//! the sequence separates slots, and the recent block bounds how long a report can live.

use crate::{Cid, OpaqueId};
use alloc::vec::Vec;
use bounded_collections::{BoundedVec, ConstU32};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Separates report signatures from every other use of the key.
pub const DOMAIN: &[u8; 23] = b"pallet-backup/report/v1";

/// Oldest that the recent block named by a report may be, in blocks.
pub const REPORT_AGE_MAX_BLOCKS: u64 = 64;

/// Most bytes in the description of a backup or snapshot.
pub const DESCRIPTION_BYTES_MAX: u32 = 64;

/// A description. Untrusted bytes: whoever shows them escapes them.
pub type Description = BoundedVec<u8, ConstU32<DESCRIPTION_BYTES_MAX>>;

/// A block by number and hash.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockRef {
	/// Number of the block.
	pub number: u64,
	/// Hash of the block's header.
	pub hash: [u8; 32],
}

/// One history of snapshots of one request.
///
/// The salt is the hash of the parent block at creation, so a record that is created again
/// after a re-org is another lineage, and reports for the first do not fit it.
#[derive(
	Clone,
	Debug,
	PartialEq,
	Eq,
	PartialOrd,
	Ord,
	Hash,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LineageId {
	/// The compute request.
	pub request: OpaqueId,
	/// What tells this lineage from another of the same request.
	pub salt: [u8; 32],
}

/// How well the disks of a snapshot fit together.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Consistency {
	/// The guest's file systems were frozen: nothing is replayed at the next mount.
	Application,
	/// One instant of all disks, as after a power cut: journals are replayed.
	Crash,
	/// The machine was off.
	Stopped,
}

/// Why a job ended without what was asked.
///
/// Set by the agent, carried by the worker, kept on chain: the owner reads it there. The
/// agent's log has the details that an operator needs.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum FailureReason {
	/// The node's inventory has no machine of this name.
	VmNotFound,
	/// The machine's own tag is not the one of the request.
	VmTagMismatch,
	/// The machine's control socket cannot be reached or is another program's.
	VmUnreachable,
	/// The machine ended while it was read.
	VmVanished,
	/// The image is missing or unreadable.
	ImageUnreadable,
	/// Another program holds the image.
	ImageInUse,
	/// The scratch space for guest writes ran out.
	ScratchFull,
	/// The block store is full.
	StoreFull,
	/// The block store cannot be read or written.
	StoreUnavailable,
	/// The machine's disks are larger than what was provisioned.
	CapacityExceeded,
	/// A block of the snapshot is missing.
	BlockMissing,
	/// A block of the snapshot is damaged.
	BlockCorrupt,
	/// The snapshot is not sealed to the node's key.
	KeyRejected,
	/// The place to restore to is full.
	TargetFull,
	/// The place to restore to cannot be written.
	TargetUnwritable,
	/// The job was interrupted and could not be resumed.
	Interrupted,
	/// A fault that has no name here; the agent's log has it.
	Internal,
	/// The machine whose disks were to be replaced runs.
	VmRunning,
	/// The agent cannot do that.
	Unsupported,
}

/// What the chain says of a root that an agent holds.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum RootStatus {
	/// A record names it: it must stay.
	Retained,
	/// Its sequence is still to be recorded: it must stay for now.
	Pending,
	/// Retention took its record away.
	Evicted,
	/// It is marked for deletion and the grace period is over.
	Deleted,
	/// No record ever named it, or its lineage is not known here.
	Unknown,
}

/// A root that a record names, and that its node has to hold.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct RecordedRoot {
	/// The lineage.
	pub lineage: LineageId,
	/// Its place there.
	pub sequence: u64,
	/// The root.
	pub cid: Cid,
}

/// A snapshot of a lineage, as whoever has to hold a copy needs to know it.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct KeptRoot {
	/// Its place in the lineage.
	pub sequence: u64,
	/// The root.
	pub cid: Cid,
	/// Size of the machine's disks, in bytes: a claim of its node, but never more than was
	/// provisioned.
	pub logical_bytes: u64,
}

/// The facts of a snapshot that a node claims.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TakenSnapshot {
	/// Root of the snapshot.
	pub cid: Cid,
	/// The chain's clock, in blocks, as the agent last heard it before the disks stood still.
	pub taken_at: u64,
	/// Size of the disks, in bytes.
	pub logical_bytes: u64,
	/// Sealed bytes that were not in the store before.
	pub new_bytes: u64,
	/// How well the disks fit together.
	pub consistency: Consistency,
	/// Version of the owner's key that the root is sealed to.
	pub owner_key_version: u32,
}

/// A statement of a node about its work.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Report {
	/// A snapshot was taken and is pinned.
	#[codec(index = 0)]
	Snapshot {
		/// The lineage that it belongs to.
		lineage: LineageId,
		/// Its place in the lineage.
		sequence: u64,
		/// The owner that it is sealed to.
		owner: OpaqueId,
		/// Words of the node about it.
		description: Option<Description>,
		/// The facts.
		snapshot: TakenSnapshot,
	},
	/// A snapshot that was due could not be taken.
	#[codec(index = 1)]
	SnapshotFailed {
		/// The lineage that waits for it.
		lineage: LineageId,
		/// Its place in the lineage.
		sequence: u64,
		/// The slot in which it failed.
		slot: u64,
		/// What stood in the way.
		reason: FailureReason,
	},
	/// A restore ended.
	#[codec(index = 2)]
	Restore {
		/// The restore request.
		restore: u64,
		/// The lineage that was restored from.
		lineage: LineageId,
		/// Digest of what the chain keeps of the wish: on another fork the same id may stand for
		/// another one.
		wish: [u8; 32],
		/// Why nothing was restored, or nothing if it was.
		failure: Option<FailureReason>,
	},
	/// The roots of a lineage below a sequence are unpinned and their blocks given up.
	#[codec(index = 3)]
	Deleted {
		/// The lineage.
		lineage: LineageId,
		/// First sequence that is not deleted.
		until: u64,
	},
	/// Copies of other nodes' lineages are here.
	#[codec(index = 4)]
	Held {
		/// How much of each.
		marks: Watermarks,
	},
}

/// What a holder says of its copy: it has every snapshot that the chain keeps of a range.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Watermark {
	/// The lineage.
	pub lineage: LineageId,
	/// First sequence of the range.
	pub from: u64,
	/// The sequence behind its last.
	pub to: u64,
}

/// Most copies that one report speaks of.
pub const WATERMARKS_MAX: u32 = 64;

/// What a holder says of several copies.
pub type Watermarks = BoundedVec<Watermark, ConstU32<WATERMARKS_MAX>>;

/// The bytes that a node's authority signs for a report.
pub fn signing_payload(
	genesis: &[u8; 32],
	node: &OpaqueId,
	at: &BlockRef,
	report: &Report,
) -> Vec<u8> {
	(DOMAIN, genesis, node, at, report).encode()
}

/// The bytes that prove, at registration, that a node holds its authority key.
///
/// They name the account that registers it, so that the proof cannot be copied from the
/// pool into another account's registration.
pub fn possession_payload(genesis: &[u8; 32], node: &OpaqueId, operator: &OpaqueId) -> Vec<u8> {
	(b"pallet-backup/possession/v1", genesis, node, operator).encode()
}

#[cfg(test)]
mod tests {
	use super::*;
	use data_encoding::HEXLOWER;

	fn lineage() -> LineageId {
		LineageId { request: OpaqueId::of(&7u64).unwrap(), salt: [0x5a; 32] }
	}

	fn payload(report: Report) -> alloc::string::String {
		let at = BlockRef { number: 99, hash: [0xbb; 32] };
		HEXLOWER.encode(&signing_payload(&[0xaa; 32], &OpaqueId::of(&3u32).unwrap(), &at, &report))
	}

	/// Everything before the report itself: domain, genesis, node, block.
	const HEAD: &str = concat!(
		"70616c6c65742d6261636b75702f7265706f72742f7631",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"1003000000",
		"6300000000000000",
		"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
	);
	const LINEAGE: &str = concat!(
		"200700000000000000",
		"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
	);

	#[test]
	fn vector_snapshot() {
		let report = Report::Snapshot {
			lineage: lineage(),
			sequence: 4,
			owner: OpaqueId::of(&[1u8; 32]).unwrap(),
			description: None,
			snapshot: TakenSnapshot {
				cid: Cid::dag_cbor([0xcc; 32]),
				taken_at: 90,
				logical_bytes: 4096,
				new_bytes: 17,
				consistency: Consistency::Crash,
				owner_key_version: 2,
			},
		};
		let expected = [
			HEAD,
			"00",
			LINEAGE,
			"0400000000000000",
			"80",
			&"01".repeat(32),
			"00",
			"01711220",
			&"cc".repeat(32),
			"5a00000000000000",
			"0010000000000000",
			"1100000000000000",
			"01",
			"02000000",
		]
		.concat();
		assert_eq!(payload(report), expected);
	}

	#[test]
	fn vector_snapshot_failed() {
		let report = Report::SnapshotFailed {
			lineage: lineage(),
			sequence: 4,
			slot: 1,
			reason: FailureReason::VmTagMismatch,
		};
		let expected = [HEAD, "01", LINEAGE, "0400000000000000", "0100000000000000", "01"].concat();
		assert_eq!(payload(report), expected);
	}

	#[test]
	fn vector_restore() {
		let report = Report::Restore {
			restore: 9,
			lineage: lineage(),
			wish: [0xdd; 32],
			failure: Some(FailureReason::BlockMissing),
		};
		let wish = "dd".repeat(32);
		let expected = [HEAD, "02", "0900000000000000", LINEAGE, &wish, "010a"].concat();
		assert_eq!(payload(report), expected);
	}

	#[test]
	fn vector_held() {
		let mark = Watermark { lineage: lineage(), from: 2, to: 9 };
		let report = Report::Held { marks: alloc::vec![mark].try_into().unwrap() };
		let expected = [HEAD, "04", "04", LINEAGE, "0200000000000000", "0900000000000000"].concat();
		assert_eq!(payload(report), expected);
	}

	#[test]
	fn vector_deleted() {
		let report = Report::Deleted { lineage: lineage(), until: 5 };
		assert_eq!(payload(report), [HEAD, "03", LINEAGE, "0500000000000000"].concat());
	}
}
