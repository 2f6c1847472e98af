//! Deletion: asked for through the marketplace, carried out by nodes after a grace period.

use crate::{
	Call, Config, Event, Invalidity, LineageCountOfAccount, LineageOf, Lineages, Pallet,
	SignatureOf, SnapshotLocks, Snapshots, UserDeletion, UserDeletions, authorize::ReportKind,
	lineage_id,
};
use backup_primitives::{BlockRef, Cid, RootStatus, report::Report};
use frame_support::{
	ensure,
	pallet_prelude::{TransactionSource, TransactionValidityWithRefund},
};
use sp_runtime::Saturating;

/// Most snapshots whose records one report takes away.
pub(crate) const DELETIONS_MAX: u32 = 32;

impl<T: Config> Pallet<T> {
	/// Mark all backups of an owner for deletion. Asking again changes nothing.
	pub(crate) fn begin_deletion(owner: &T::AccountId) {
		if UserDeletions::<T>::contains_key(owner) {
			return;
		}
		let remaining = LineageCountOfAccount::<T>::get(owner);
		if remaining == 0 {
			Self::deposit_event(Event::UserStorageDeleted { owner: owner.clone() });
			return;
		}
		let effective_at = Self::now().saturating_add(Self::settings().deletion_grace);
		UserDeletions::<T>::insert(owner, UserDeletion { effective_at, remaining });
		Self::deposit_event(Event::UserDeletionRequested { owner: owner.clone(), effective_at });
	}

	/// Whether the owner asked for deletion, and the grace period is over.
	pub(crate) fn deletion_is_due(owner: &T::AccountId) -> bool {
		UserDeletions::<T>::get(owner).is_some_and(|d| d.effective_at <= Self::now())
	}

	pub(crate) fn authorize_deleted(
		source: TransactionSource,
		node_id: &T::NodeId,
		request_id: &T::RequestId,
		salt: &[u8; 32],
		until: &u64,
		at: &BlockRef,
		signature: &SignatureOf<T>,
	) -> TransactionValidityWithRefund {
		Self::ensure_unfiltered(Call::report_deleted {
			node_id: *node_id,
			request_id: *request_id,
			salt: *salt,
			until: *until,
			at: *at,
			signature: signature.clone(),
		})?;
		let lineage = Self::reported_lineage(node_id, request_id, *salt)?;
		ensure!(Self::deletion_is_due(&lineage.owner), Invalidity::NothingToDelete);
		ensure!(lineage.next == *until, Invalidity::NothingToDelete);

		let place = lineage_id(request_id, *salt);
		let report = Report::Deleted { lineage: place.clone(), until: *until };
		let kind = ReportKind::Deleted;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		Self::valid_report((kind, place, lineage.tail), longevity)
	}

	/// Take away the records of a lineage, oldest first, at most [`DELETIONS_MAX`], and the
	/// lineage itself with the last of them.
	pub(crate) fn record_deleted(node_id: T::NodeId, request_id: T::RequestId) {
		let Some(mut lineage) = Lineages::<T>::get(request_id) else {
			frame_support::defensive!("authorize found the lineage");
			return;
		};
		Self::count_report(ReportKind::Deleted, node_id);
		let end = lineage.next.min(lineage.tail.saturating_add(DELETIONS_MAX.into()));
		for sequence in lineage.tail..end {
			Self::remove_snapshot(&request_id, sequence, &lineage.owner);
			SnapshotLocks::<T>::remove(request_id, sequence);
		}
		let removed = end.saturating_sub(lineage.tail).try_into().unwrap_or(DELETIONS_MAX);
		Self::update_header(node_id, &lineage.owner, |header| {
			header.snapshots = header.snapshots.saturating_sub(removed);
			header.last_snapshot = None;
		});
		lineage.tail = end;
		match lineage.kept() {
			0 => Self::finish_deletion(node_id, request_id, lineage),
			_ => Lineages::<T>::insert(request_id, lineage),
		}
	}

	fn finish_deletion(node_id: T::NodeId, request_id: T::RequestId, lineage: LineageOf<T>) {
		Self::remove_lineage(&request_id, &lineage);
		let owner = lineage.owner;
		Self::deposit_event(Event::LineageDeleted { node_id, owner: owner.clone(), request_id });
		UserDeletions::<T>::mutate_exists(&owner, |slot| {
			let Some(deletion) = slot else { return };
			deletion.remaining = deletion.remaining.saturating_sub(1);
			if deletion.remaining == 0 {
				*slot = None;
				Self::deposit_event(Event::UserStorageDeleted { owner: owner.clone() });
			}
		});
	}

	/// What the chain says of a root that an agent holds. The agent asks this of the
	/// finalized state before it gives up a block.
	pub fn root_status(
		request_id: T::RequestId,
		salt: [u8; 32],
		sequence: u64,
		cid: Cid,
	) -> RootStatus {
		let Some(lineage) = Lineages::<T>::get(request_id).filter(|l| l.salt == salt) else {
			return RootStatus::Unknown;
		};
		let named = Snapshots::<T>::get(request_id, sequence).map(|record| record.cid);
		match named {
			Some(named) if named == cid => match Self::deletion_is_due(&lineage.owner) {
				true => RootStatus::Deleted,
				false => RootStatus::Retained,
			},
			Some(_) => RootStatus::Unknown,
			None if sequence < lineage.tail => RootStatus::Evicted,
			None => RootStatus::Pending,
		}
	}
}
