//! What the worker asks of the agent, and what the agent answers: `POST /v1/reconcile`.
//!
//! The worker sends what the chain says should exist; the agent starts what is missing and
//! answers with what has ended. Nothing is remembered between calls: an order that stands
//! is sent again at every block, and asking twice is asking once. Bodies are SCALE, first
//! byte the version, every list bounded.

use crate::{
	BlockRef, Cid, FailureReason, LineageId, OpaqueId, Recipient, VmTag, report::TakenSnapshot,
};
use alloc::vec::Vec;
use bounded_collections::{BoundedVec, ConstU32};
use codec::{Decode, DecodeAll, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// Path that the agent serves.
pub const RECONCILE_PATH: &str = "/v1/reconcile";

/// Version of both bodies. It counts from the first release: while there is none, worker and agent
/// are of one checkout, and bodies may change without it.
pub const PROTOCOL_VERSION: u8 = 1;

/// Most bytes of a request's or answer's body.
pub const BODY_BYTES_MAX: usize = 512 * 1024;

/// Most orders of one kind in a request, and results of one kind in an answer.
pub const ORDERS_MAX: u32 = 64;

/// Most lineages of which one request tells the retained range.
pub const LINEAGES_MAX: u32 = 256;

/// Most bytes in the name that a node gave a machine.
pub const VM_NAME_BYTES_MAX: u32 = 64;

/// Most bytes of an envelope that travels with a restore. One for a single recipient has about
/// 230.
pub const ENVELOPE_BYTES_MAX: u32 = 512;

/// Most addresses that a node's blocks are served at.
pub const GATEWAYS_MAX: u32 = 4;

/// Most bytes of such an address.
pub const GATEWAY_BYTES_MAX: u32 = 128;

/// Most addresses that one copy is fetched from.
pub const SOURCES_MAX: u32 = 8;

/// Most holders of one lineage's copies that its host is told of.
pub const HOLDERS_MAX: u32 = 8;

/// Where one copy is fetched from: the host first, then the other holders.
pub type Sources = BoundedVec<Source, ConstU32<SOURCES_MAX>>;

/// The name under which a node's agent finds a machine.
pub type VmName = BoundedVec<u8, ConstU32<VM_NAME_BYTES_MAX>>;

/// A root's read key, sealed by the owner to a node: an age file.
pub type Envelope = BoundedVec<u8, ConstU32<ENVELOPE_BYTES_MAX>>;

/// An address at which holders of copies can fetch a node's blocks, as a URL.
pub type Gateway = BoundedVec<u8, ConstU32<GATEWAY_BYTES_MAX>>;

/// Where a node's blocks can be fetched, and the key that proves to it who asks.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Source {
	/// The address.
	pub gateway: Gateway,
	/// The node's public key: requests are proved to it and to nobody else.
	pub recipient: Recipient,
}

/// The addresses of a node.
pub type Gateways = BoundedVec<Gateway, ConstU32<GATEWAYS_MAX>>;

/// A list of orders or results of one kind.
pub type Orders<T> = BoundedVec<T, ConstU32<ORDERS_MAX>>;

/// What the chain wants to exist, as of one block.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct Desired {
	/// Genesis hash of the chain. An agent serves one chain only.
	pub genesis: [u8; 32],
	/// The node that speaks.
	pub node: OpaqueId,
	/// The best block that this is read from.
	pub at: BlockRef,
	/// The clock that cadence and expiry count, in blocks. On a parachain these are the
	/// relay chain's blocks, and so not `at.number`.
	pub now: u64,
	/// Snapshots that are due.
	pub snapshots: Orders<SnapshotOrder>,
	/// Restores that wait for this node.
	pub restores: Orders<RestoreOrder>,
	/// Lineages whose deletion is past its grace period.
	pub deletions: Orders<DeletionOrder>,
	/// Lineages of other nodes of which this one holds copies, one page of them.
	pub copies: Orders<CopyOrder>,
	/// Ranges of snapshots that the chain keeps, one page of them.
	pub lineages: BoundedVec<LineagePlace, ConstU32<LINEAGES_MAX>>,
}

/// A snapshot that should be taken.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct SnapshotOrder {
	/// The lineage that it will belong to.
	pub lineage: LineageId,
	/// Its place in the lineage.
	pub sequence: u64,
	/// First block of the slot in which it is due: a cadence, or the time since the owner asked
	/// out of turn. A failed job is tried again in the next slot.
	pub slot: u64,
	/// The owner of the request.
	pub owner: OpaqueId,
	/// Name of the machine on the node.
	pub vm: VmName,
	/// The tag that the machine must carry.
	pub vm_tag: VmTag,
	/// Keys of the owner that can open it: one, or two while a new key is not active yet.
	pub owner_recipients: BoundedVec<Recipient, ConstU32<2>>,
	/// Version of the newest of these keys that is active.
	pub owner_key_version: u32,
	/// Key of the node that can open it.
	pub node_recipient: Recipient,
	/// Size that the machine's disks may have in all, in bytes.
	pub capacity_bytes: u64,
	/// The snapshot before, if any.
	pub parent: Option<Cid>,
	/// Oldest `taken_at` that the chain still accepts. A finished job with an older one is
	/// of no use any more.
	pub oldest_taken_at: u64,
}

/// An image that should be written.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct RestoreOrder {
	/// The restore request.
	pub restore: u64,
	/// The lineage to restore from.
	pub lineage: LineageId,
	/// Sequence of the snapshot.
	pub sequence: u64,
	/// Root of the snapshot.
	pub cid: Cid,
	/// The owner of the request.
	pub owner: OpaqueId,
	/// Where to.
	pub place: RestorePlace,
	/// What opens the root on this node, if the root itself is not sealed to it.
	pub envelope: Option<Envelope>,
}

/// Whether a restore leaves the machine's disks alone.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
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
pub enum RestoreMode {
	/// Images are written beside the machine, which may run.
	#[default]
	Aside,
	/// The disks of the machine, which must be stopped, are replaced.
	Replace,
}

/// Where a restore writes to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub enum RestorePlace {
	/// Images in the node's folder for restores.
	Aside,
	/// The disks of a machine of the owner, which must be stopped.
	Replace {
		/// Its name on the node.
		vm: VmName,
		/// The tag that it must carry.
		vm_tag: VmTag,
	},
}

/// A lineage of another node whose snapshots should be here too.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct CopyOrder {
	/// The lineage.
	pub lineage: LineageId,
	/// Its owner.
	pub owner: OpaqueId,
	/// Sequence of the snapshot after its newest.
	pub next: u64,
	/// Where its blocks can be fetched: from the host, then from the other holders.
	pub sources: Sources,
}

/// A lineage whose snapshots should go.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct DeletionOrder {
	/// The lineage.
	pub lineage: LineageId,
	/// First sequence that is not meant.
	pub until: u64,
}

/// How far a lineage has come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct LineagePlace {
	/// The lineage.
	pub lineage: LineageId,
	/// Sequence of the next snapshot.
	pub next: u64,
	/// How many blocks of [`Desired::now`] the chain lets lie between two snapshots. Nothing while
	/// it wants none: the machine does not run, backups are not paid for or paused, or the lineage is to
	/// be deleted.
	pub cadence: Option<u64>,
	/// What other nodes say to have of it. Nothing where the chain wants no copies.
	pub copied: Option<Copied>,
}

/// What other nodes say to have of a lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct Copied {
	/// Sequence of the newest snapshot that one of them confirms, who is not silent.
	pub confirmed: Option<u64>,
	/// Whether one that they do not confirm has been waiting for longer than it may.
	pub is_late: bool,
	/// Those that the chain chose to hold copies, as it lists them.
	pub holders: BoundedVec<CopyHolder, ConstU32<HOLDERS_MAX>>,
}

/// A node that holds copies of a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct CopyHolder {
	/// The node.
	pub node: OpaqueId,
	/// Sequence of the newest snapshot that it says to have.
	pub confirmed: Option<u64>,
	/// Whether it has not been heard of for longer than it may be quiet. What it said before does
	/// not count then.
	pub is_silent: bool,
}

/// What has ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct Achieved {
	/// Snapshots.
	pub snapshots: Orders<SnapshotResult>,
	/// Restores.
	pub restores: Orders<RestoreResult>,
	/// Deletions.
	pub deletions: Orders<DeletionResult>,
	/// Copies of other nodes' lineages that are here.
	pub copies: Orders<CopyResult>,
}

/// How a snapshot job ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct SnapshotResult {
	/// The lineage.
	pub lineage: LineageId,
	/// Its place in the lineage.
	pub sequence: u64,
	/// The slot of the order that was carried out.
	pub slot: u64,
	/// How often this result was handed out before. The worker reports it the first time and
	/// then every fourth, so that a lost report does no harm and few are sent twice.
	pub handed_out: u32,
	/// What was achieved, or why it was not.
	pub outcome: Result<TakenSnapshot, FailureReason>,
}

/// How a restore job ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct RestoreResult {
	/// The restore request.
	pub restore: u64,
	/// The lineage.
	pub lineage: LineageId,
	/// How often this result was handed out before.
	pub handed_out: u32,
	/// Why it failed, or nothing if the image is complete.
	pub failure: Option<FailureReason>,
}

/// A deletion that is done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct DeletionResult {
	/// The lineage.
	pub lineage: LineageId,
	/// First sequence that was not meant.
	pub until: u64,
	/// How often this result was handed out before.
	pub handed_out: u32,
}

/// How much of another node's lineage is here: every snapshot that the chain keeps of a range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen)]
pub struct CopyResult {
	/// The lineage.
	pub lineage: LineageId,
	/// First sequence of the range.
	pub from: u64,
	/// The sequence behind its last.
	pub to: u64,
}

/// Identity of a job: the hash of the order that it carries out.
///
/// The parent and the limits that move with every block are left out, so that an order
/// keeps its identity for as long as it means the same.
#[derive(
	Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, MaxEncodedLen,
)]
pub struct JobId(pub [u8; 32]);

impl SnapshotOrder {
	/// Identity of the job on the chain with this genesis.
	pub fn job_id(&self, genesis: &[u8; 32]) -> JobId {
		let order = Self { parent: None, oldest_taken_at: 0, ..self.clone() };
		job_id("snapshot", genesis, &order)
	}
}

impl RestoreOrder {
	/// Identity of the job on the chain with this genesis.
	pub fn job_id(&self, genesis: &[u8; 32]) -> JobId {
		job_id("restore", genesis, self)
	}
}

impl DeletionOrder {
	/// Identity of the job on the chain with this genesis.
	pub fn job_id(&self, genesis: &[u8; 32]) -> JobId {
		job_id("deletion", genesis, self)
	}
}

fn job_id(kind: &str, genesis: &[u8; 32], order: &impl Encode) -> JobId {
	let bytes = ("pallet-backup/job/v1", kind, genesis, order).encode();
	JobId(sp_crypto_hashing::blake2_256(&bytes))
}

/// Why a body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
	/// The body is longer than [`BODY_BYTES_MAX`].
	TooLong,
	/// The body is of another version of the protocol.
	Version {
		/// The version that was found.
		found: u8,
	},
	/// The body is empty, cut, over-long or breaks a bound.
	Malformed,
}

/// Write a body.
pub fn encode_body(message: &impl Encode) -> Vec<u8> {
	(PROTOCOL_VERSION, message).encode()
}

/// Read a body. Its length, its version and every list in it are checked.
pub fn decode_body<T: Decode>(body: &[u8]) -> Result<T, BodyError> {
	if body.len() > BODY_BYTES_MAX {
		return Err(BodyError::TooLong);
	}
	match body {
		[PROTOCOL_VERSION, message @ ..] => {
			T::decode_all(&mut &*message).map_err(|_| BodyError::Malformed)
		}
		[found, ..] => Err(BodyError::Version { found: *found }),
		[] => Err(BodyError::Malformed),
	}
}

impl core::fmt::Display for BodyError {
	fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
		match self {
			Self::TooLong => write!(f, "the body is longer than {BODY_BYTES_MAX} bytes"),
			Self::Version { found } => write!(
				f,
				"the body is of version {found} of the protocol, this side speaks {PROTOCOL_VERSION}"
			),
			Self::Malformed => f.write_str("the body is not a message of the protocol"),
		}
	}
}

impl core::error::Error for BodyError {}

#[cfg(test)]
mod tests {
	use super::*;

	fn lineage() -> LineageId {
		LineageId { request: OpaqueId::of(&7u64).unwrap(), salt: [2; 32] }
	}

	fn order() -> SnapshotOrder {
		SnapshotOrder {
			lineage: lineage(),
			sequence: 1,
			slot: 3,
			owner: OpaqueId::of(&[1u8; 32]).unwrap(),
			vm: b"vm-7".to_vec().try_into().unwrap(),
			vm_tag: VmTag([4; 16]),
			owner_recipients: alloc::vec![Recipient([5; 32])].try_into().unwrap(),
			owner_key_version: 1,
			node_recipient: Recipient([6; 32]),
			capacity_bytes: 1 << 30,
			parent: None,
			oldest_taken_at: 10,
		}
	}

	fn desired() -> Desired {
		Desired {
			genesis: [9; 32],
			node: OpaqueId::of(&1u32).unwrap(),
			at: BlockRef { number: 12, hash: [8; 32] },
			now: 12,
			snapshots: alloc::vec![order()].try_into().unwrap(),
			restores: Default::default(),
			deletions: Default::default(),
			copies: Default::default(),
			lineages: Default::default(),
		}
	}

	#[test]
	fn the_largest_messages_fit_the_bound_on_bodies() {
		assert!(Desired::max_encoded_len() < BODY_BYTES_MAX);
		assert!(Achieved::max_encoded_len() < BODY_BYTES_MAX);
	}

	#[test]
	fn a_message_reads_back() {
		assert_eq!(decode_body(&encode_body(&desired())), Ok(desired()));
	}

	#[test]
	fn vector_desired() {
		let digest = sp_crypto_hashing::sha2_256(&encode_body(&desired()));
		assert_eq!(
			data_encoding::HEXLOWER.encode(&digest),
			"5f82436d5e982b20e52c8795f91f9a2b5045624dc844a7830fc30787dca5dda2"
		);
	}

	#[test]
	fn vector_place() {
		let holder = |node: u32, confirmed, is_silent| {
			let node = OpaqueId::of(&node).unwrap();
			CopyHolder { node, confirmed, is_silent }
		};
		let holders = alloc::vec![holder(2, Some(5), false), holder(3, None, true)];
		let copied =
			Copied { confirmed: Some(5), is_late: true, holders: holders.try_into().unwrap() };
		let place = LineagePlace {
			lineage: LineageId { request: OpaqueId::of(&7u64).unwrap(), salt: [2; 32] },
			next: 7,
			cadence: Some(100),
			copied: Some(copied),
		};
		let lineage = alloc::format!("200700000000000000{}", "02".repeat(32));
		let (next, cadence) = ("0700000000000000", "016400000000000000");
		let (confirmed, is_late) = ("010500000000000000", "01");
		let (second, third) = ("1002000000010500000000000000", "1003000000");
		let copied = alloc::format!("01{confirmed}{is_late}08{second}00{third}0001");
		let expected = alloc::format!("{lineage}{next}{cadence}{copied}");
		assert_eq!(data_encoding::HEXLOWER.encode(&place.encode()), expected);
	}

	#[test]
	fn bodies_of_another_version_length_or_shape_are_refused() {
		let mut body = encode_body(&desired());
		assert_eq!(decode_body::<Desired>(&body[..body.len() - 1]), Err(BodyError::Malformed));
		body.push(0);
		assert_eq!(decode_body::<Desired>(&body), Err(BodyError::Malformed));
		body[0] = 2;
		assert_eq!(decode_body::<Desired>(&body), Err(BodyError::Version { found: 2 }));
		assert_eq!(decode_body::<Desired>(&[]), Err(BodyError::Malformed));
		assert_eq!(
			decode_body::<Desired>(&alloc::vec![1; BODY_BYTES_MAX + 1]),
			Err(BodyError::TooLong)
		);
	}

	#[test]
	fn a_list_past_its_bound_is_refused() {
		let mut body = alloc::vec![PROTOCOL_VERSION];
		([9u8; 32], OpaqueId::of(&1u32).unwrap(), desired().at, 12u64).encode_to(&mut body);
		alloc::vec![order(); ORDERS_MAX as usize + 1].encode_to(&mut body);
		[0u8; 4].encode_to(&mut body);
		assert_eq!(decode_body::<Desired>(&body), Err(BodyError::Malformed));
	}

	#[test]
	fn a_job_keeps_its_identity_while_the_order_means_the_same() {
		let genesis = [9; 32];
		let id = order().job_id(&genesis);
		let moved =
			SnapshotOrder { oldest_taken_at: 11, parent: Some(Cid::raw([1; 32])), ..order() };
		assert_eq!(moved.job_id(&genesis), id);
		assert_ne!(SnapshotOrder { slot: 4, ..order() }.job_id(&genesis), id);
		assert_ne!(SnapshotOrder { sequence: 2, ..order() }.job_id(&genesis), id);
		assert_ne!(order().job_id(&[8; 32]), id);
		let forked = LineageId { salt: [3; 32], ..lineage() };
		assert_ne!(SnapshotOrder { lineage: forked, ..order() }.job_id(&genesis), id);
	}

	proptest::proptest! {
		#[test]
		fn reading_never_panics(bytes: Vec<u8>) {
			let _ = decode_body::<Desired>(&bytes);
			let _ = decode_body::<Achieved>(&bytes);
		}
	}
}
