//! What every report has to show before the chain looks at what it says.
//!
//! A report is refused by the pool in one of three ways, and the code decides whether it
//! stays there: `Future` for what may still become right, `Stale` for what is recorded
//! already, `Custom` for what can never be right. The signature is checked before anything
//! answers `Future`, or strangers could fill the pool with reports that wait.

use crate::{
	Call, ClockFor, Config, OnSnapshot, Pallet, Paused, ReportsInBlock, ReportsOfNode, SignatureOf,
	WeightInfo, deletion::DELETIONS_MAX, opaque,
};
use backup_primitives::{
	BlockRef,
	report::{REPORT_AGE_MAX_BLOCKS, Report, WATERMARKS_MAX, signing_payload},
};
use codec::Encode;
use frame_support::{
	dispatch::DispatchClass,
	ensure,
	pallet_prelude::{
		InvalidTransaction, TransactionSource, TransactionValidityError,
		TransactionValidityWithRefund, ValidTransaction,
	},
	traits::{Contains, Get},
	weights::Weight,
};
use frame_system::pallet_prelude::BlockNumberFor;
use sp_application_crypto::RuntimeAppPublic;
use sp_runtime::{
	Saturating,
	traits::{SaturatedConversion, Zero},
};

/// Why a report can never be right. The number is what clients see as `Custom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Invalidity {
	/// The root is not a CIDv1 of a dag-cbor block with SHA2-256.
	MalformedCid = 1,
	/// There is no backup of that request, or no restore of that id.
	Unknown = 2,
	/// The salt is that of another lineage.
	WrongLineage = 3,
	/// The node does not host the request.
	WrongNode = 4,
	/// The account does not own the request.
	WrongOwner = 5,
	/// The disks are larger than what was provisioned.
	TooLarge = 6,
	/// The owner has no key of that version.
	UnknownKeyVersion = 7,
	/// The owner has a snapshot with that root already.
	DuplicateCid = 8,
	/// The snapshot was taken too long ago, or not after the last.
	TakenTooEarly = 9,
	/// No deletion of that lineage is due.
	NothingToDelete = 10,
	/// The report of copies is empty, or says something twice or upside down.
	NothingHeld = 11,
}

impl From<Invalidity> for InvalidTransaction {
	fn from(invalidity: Invalidity) -> Self {
		Self::Custom(invalidity as u8)
	}
}

impl From<Invalidity> for TransactionValidityError {
	fn from(invalidity: Invalidity) -> Self {
		Self::Invalid(invalidity.into())
	}
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub(crate) enum ReportKind {
	Snapshot,
	SnapshotFailed,
	Restore,
	Deleted,
	/// Of so many copies.
	Held(#[codec(skip)] u32),
}

impl ReportKind {
	/// Each kind at its largest.
	pub(crate) const ALL: [Self; 5] = [
		Self::Snapshot,
		Self::SnapshotFailed,
		Self::Restore,
		Self::Deleted,
		Self::Held(WATERMARKS_MAX),
	];

	/// What a report counts in its node's quota.
	fn count(self) -> u32 {
		match self {
			Self::Held(count) => count,
			_ => 1,
		}
	}

	/// What a report takes of a block: judging it and recording it.
	pub(crate) fn weight<T: Config>(self) -> Weight {
		let (judging, recording) = match self {
			Self::Snapshot => (
				T::WeightInfo::authorize_add_snapshot(),
				T::WeightInfo::add_snapshot().saturating_add(T::OnSnapshot::weight()),
			),
			Self::SnapshotFailed => {
				let judging = T::WeightInfo::authorize_snapshot_failed();
				(judging, T::WeightInfo::report_snapshot_failed())
			}
			Self::Restore => (T::WeightInfo::authorize_restore(), T::WeightInfo::report_restore()),
			Self::Deleted => {
				let recording = T::WeightInfo::report_deleted(DELETIONS_MAX);
				(T::WeightInfo::authorize_deleted(), recording)
			}
			Self::Held(count) => {
				(T::WeightInfo::authorize_held(count), T::WeightInfo::report_held(count))
			}
		};
		judging.saturating_add(recording)
	}
}

/// What tells one report of a node from another in the pool: kind, lineage, place.
pub(crate) type ReportTag = (ReportKind, backup_primitives::LineageId, u64);

/// The part of a block's normal weight that reports may take: one in so many.
const REPORTS_SHARE: u64 = 4;

/// Blocks over which the reports of a node are counted.
const QUOTA_BLOCKS: u32 = 100;

impl<T: Config> Pallet<T> {
	/// Check that the runtime's call filter lets a report through. An authorized origin
	/// still passes that filter at dispatch, and would fail there.
	pub(crate) fn ensure_unfiltered(call: Call<T>) -> Result<(), InvalidTransaction> {
		let call: <T as frame_system::Config>::RuntimeCall = call.into();
		match T::BaseCallFilter::contains(&call) {
			true => Ok(()),
			false => Err(InvalidTransaction::Call),
		}
	}

	/// Check what every report has to show: room in the block, a signature of the node's
	/// authority, that governance has not paused it all, room in the node's quota, and a recent
	/// block. Returns how many blocks it may still live.
	pub(crate) fn ensure_reportable(
		kind: ReportKind,
		source: TransactionSource,
		node: &T::NodeId,
		at: &BlockRef,
		report: &Report,
		signature: &SignatureOf<T>,
	) -> Result<u64, InvalidTransaction> {
		// Only in a block: the author passes over what does not fit and keeps it, the pool would
		// ban it.
		if source == TransactionSource::InBlock {
			let taken = Self::weight_of_reports().saturating_add(kind.weight::<T>());
			ensure!(
				taken.all_lte(Self::weight_max_of_reports()),
				InvalidTransaction::ExhaustsResources
			);
		}
		Self::ensure_signed_by(node, at, report, signature)?;
		ensure!(!Paused::<T>::get(), InvalidTransaction::Future);
		let reports = Self::reports_of(node);
		ensure!(reports < T::ReportQuota::get(), InvalidTransaction::Future);
		Self::ensure_recent(at)
	}

	/// What the reports in this block have taken of it.
	pub(crate) fn weight_of_reports() -> Weight {
		let this = frame_system::Pallet::<T>::block_number();
		let counted = ReportsInBlock::<T>::get().filter(|(block, _)| *block == this);
		counted.map_or(Weight::zero(), |(_, weight)| weight)
	}

	/// What they may take, so that a block always has room for those who pay.
	pub(crate) fn weight_max_of_reports() -> Weight {
		let weights = T::BlockWeights::get();
		weights.get(DispatchClass::Normal).max_total.unwrap_or(weights.max_block) / REPORTS_SHARE
	}

	/// How many reports of a node were recorded in the window that runs.
	fn reports_of(node: &T::NodeId) -> u32 {
		let window = Self::quota_window();
		let counted = ReportsOfNode::<T>::get(node).filter(|(begun, _)| *begun == window);
		counted.map_or(0, |(_, count)| count)
	}

	/// First block of the window in which quotas are counted.
	pub(crate) fn quota_window() -> ClockFor<T> {
		let (now, length) = (Self::now(), ClockFor::<T>::from(QUOTA_BLOCKS));
		now.saturating_sub(now % length)
	}

	/// Count a report that is recorded now.
	pub(crate) fn count_report(kind: ReportKind, node: T::NodeId) {
		let this = frame_system::Pallet::<T>::block_number();
		let weight = Self::weight_of_reports().saturating_add(kind.weight::<T>());
		ReportsInBlock::<T>::put((this, weight));
		let count = Self::reports_of(&node).saturating_add(kind.count());
		ReportsOfNode::<T>::insert(node, (Self::quota_window(), count));
	}

	/// Check that the node's registered authority signed the report.
	fn ensure_signed_by(
		node: &T::NodeId,
		at: &BlockRef,
		report: &Report,
		signature: &SignatureOf<T>,
	) -> Result<(), InvalidTransaction> {
		use crate::Compute;
		let info = T::Compute::node(node).ok_or(Invalidity::WrongNode)?;
		let payload = signing_payload(&Self::genesis(), &opaque(node), at, report);
		match info.authority.verify(&payload, signature) {
			true => Ok(()),
			false => Err(InvalidTransaction::BadProof),
		}
	}

	/// Check that the block which the report names is a recent ancestor, and return how many
	/// blocks the report may still live.
	fn ensure_recent(at: &BlockRef) -> Result<u64, InvalidTransaction> {
		let now: u64 = frame_system::Pallet::<T>::block_number().saturated_into();
		// The hash of the block that is being made is not known to anybody yet.
		let age = now.checked_sub(at.number).filter(|age| *age > 0);
		let age = age.ok_or(InvalidTransaction::Future)?;
		let left =
			REPORT_AGE_MAX_BLOCKS.checked_sub(age).ok_or(InvalidTransaction::AncientBirthBlock)?;
		let number: BlockNumberFor<T> = at.number.saturated_into();
		match frame_system::Pallet::<T>::block_hash(number).as_ref() == at.hash {
			true => Ok(left),
			false => Err(InvalidTransaction::Future),
		}
	}

	/// The pool's view of a report that is right.
	pub(crate) fn valid_report(
		node: &T::NodeId,
		tag: ReportTag,
		longevity: u64,
	) -> TransactionValidityWithRefund {
		let transaction = ValidTransaction::with_tag_prefix("PalletBackup")
			.priority(T::ReportPriority::get())
			.and_provides((node, tag).encode())
			.longevity(longevity.max(1))
			.propagate(true)
			.build()?;
		Ok((transaction, Weight::zero()))
	}

	/// The genesis hash, which separates chains in every signature.
	pub(crate) fn genesis() -> [u8; 32] {
		hash_bytes::<T>(frame_system::Pallet::<T>::block_hash(BlockNumberFor::<T>::zero()))
	}
}

/// A block hash as 32 bytes; shorter hashes are padded with zeros.
pub(crate) fn hash_bytes<T: Config>(hash: T::Hash) -> [u8; 32] {
	let mut bytes = [0; 32];
	let source = hash.as_ref();
	let length = source.len().min(bytes.len());
	bytes[..length].copy_from_slice(&source[..length]);
	bytes
}
