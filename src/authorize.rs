//! What every report has to show before the chain looks at what it says.
//!
//! A report is refused by the pool in one of three ways, and the code decides whether it
//! stays there: `Future` for what may still become right, `Stale` for what is recorded
//! already, `Custom` for what can never be right. The signature is checked before anything
//! answers `Future`, or strangers could fill the pool with reports that wait.

use crate::{Call, Config, Pallet, SignatureOf, opaque};
use backup_primitives::{
	BlockRef,
	report::{REPORT_AGE_MAX_BLOCKS, Report, signing_payload},
};
use codec::Encode;
use frame_support::{
	pallet_prelude::{
		InvalidTransaction, TransactionValidityError, TransactionValidityWithRefund,
		ValidTransaction,
	},
	traits::{Contains, Get},
	weights::Weight,
};
use frame_system::pallet_prelude::BlockNumberFor;
use sp_application_crypto::RuntimeAppPublic;
use sp_runtime::traits::{SaturatedConversion, Zero};

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

/// What tells one report from another in the pool: kind, request, salt, place.
pub(crate) type ReportTag = (&'static str, backup_primitives::LineageId, u64);

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

	/// Check that the node's registered authority signed the report.
	pub(crate) fn ensure_signed_by(
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
	pub(crate) fn ensure_recent(at: &BlockRef) -> Result<u64, InvalidTransaction> {
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
	pub(crate) fn valid_report(tag: ReportTag, longevity: u64) -> TransactionValidityWithRefund {
		let transaction = ValidTransaction::with_tag_prefix("PalletBackup")
			.priority(T::ReportPriority::get())
			.and_provides(tag.encode())
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
