//! Restores: asked for by owners, carried out by nodes, closed by whoever cleans up.

use crate::{
	Call, Compute, Config, Error, Event, Invalidity, Lineages, NextRestoreId, Pallet,
	RestoreCountOfAccount, RestoreCursor, RestoreOf, RestoreRequest, RestoreRequests, RestoreState,
	RestoresOfNode, SignatureOf, SnapshotDeletions, Snapshots, SnapshotsByCid, WeightInfo,
	authorize::ReportKind, lineage_id, lineages::decrease,
};
use alloc::vec::Vec;
use backup_primitives::{BlockRef, Cid, FailureReason, report::Report};
use frame_support::{
	ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	traits::Get,
	weights::Weight,
};
use sp_runtime::{DispatchResult, Saturating};

/// Most restores that one block looks at to close them.
const CLOSED_IN_BLOCK_MAX: u64 = 4;

impl<T: Config> Pallet<T> {
	/// Ask for a snapshot of one's own by its root.
	pub(crate) fn request_restore_of(who: T::AccountId, cid: &[u8]) -> DispatchResult {
		let cid = Cid::parse(cid).map_err(|_| Error::<T>::MalformedCid)?;
		let (request_id, sequence) =
			SnapshotsByCid::<T>::get(&who, cid).ok_or(Error::<T>::SnapshotNotFound)?;
		Self::request_restore(who, request_id, sequence)
	}

	/// Ask for a snapshot by its place.
	pub(crate) fn request_restore(
		who: T::AccountId,
		request_id: T::RequestId,
		sequence: u64,
	) -> DispatchResult {
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		let owner = lineage.owner.clone();
		let may_restore = who == owner || Self::access_since(&request_id, &who).is_some();
		ensure!(may_restore, Error::<T>::NotAuthorized);
		let snapshot =
			Snapshots::<T>::get(request_id, sequence).ok_or(Error::<T>::SnapshotNotFound)?;
		let cid = snapshot.cid;
		let is_deleted = Self::deletion_of(&lineage).is_some()
			|| SnapshotDeletions::<T>::contains_key(request_id, sequence);
		ensure!(!is_deleted, Error::<T>::DeletionPending);
		let open = RestoreCountOfAccount::<T>::get(&who);
		ensure!(open < T::MaxRestores::get(), Error::<T>::TooManyRestores);

		// Only the node that sealed it can open it. A machine may have moved since.
		let node = snapshot.node;
		ensure!(T::Compute::node(&node).is_some(), Error::<T>::EnvelopeRequired);
		let restore_id = NextRestoreId::<T>::mutate(|next| {
			let id = *next;
			*next = next.saturating_add(1);
			id
		});
		let now = Self::now();
		let restore = RestoreRequest {
			requester: who.clone(),
			owner,
			request_id,
			salt: lineage.salt,
			sequence,
			cid,
			node,
			requested_at: now,
			expires_at: now.saturating_add(Self::settings().restore_lifetime),
			state: RestoreState::Requested,
		};
		RestoresOfNode::<T>::insert(restore.node, restore_id, ());
		RestoreRequests::<T>::insert(restore_id, restore);
		RestoreCountOfAccount::<T>::insert(&who, open.saturating_add(1));
		Self::lock_for_restore(&request_id, sequence);
		Self::deposit_event(Event::SnapshotRestoreRequested {
			restore_id,
			requester: who,
			request_id,
			cid,
		});
		Ok(())
	}

	pub(crate) fn close(who: &T::AccountId, restore_id: u64) -> DispatchResult {
		let restore =
			RestoreRequests::<T>::get(restore_id).ok_or(Error::<T>::RestoreRequestNotFound)?;
		let is_involved = [&restore.requester, &restore.owner].contains(&who);
		ensure!(is_involved || Self::restore_is_over(&restore), Error::<T>::NotAuthorized);
		Self::remove_restore(restore_id, &restore);
		Ok(())
	}

	/// Whether everyone may take the record of a restore away.
	fn restore_is_over(restore: &RestoreOf<T>) -> bool {
		restore.expires_at <= Self::now()
			|| restore.state == RestoreState::Requested && !Self::restore_is_open(restore)
	}

	fn remove_restore(restore_id: u64, restore: &RestoreOf<T>) {
		if restore.state == RestoreState::Requested {
			Self::end_restore(restore_id, restore);
		}
		RestoreRequests::<T>::remove(restore_id);
		RestoreCountOfAccount::<T>::mutate_exists(&restore.requester, decrease);
		Self::deposit_event(Event::RestoreClosed { restore_id });
	}

	/// Close restores that are over, a few in a block, so that none holds its snapshot for longer
	/// than it may. Returns what that has cost.
	pub(crate) fn close_those_over(room: Weight) -> Weight {
		let each = T::WeightInfo::close_restore();
		let affordable = room.checked_div_per_component(&each).unwrap_or(0);
		let count = affordable.min(CLOSED_IN_BLOCK_MAX);
		if count == 0 {
			return Weight::zero();
		}
		let looked_at: Vec<_> = match RestoreCursor::<T>::get() {
			Some(last) => {
				let behind = RestoreRequests::<T>::hashed_key_for(last);
				RestoreRequests::<T>::iter_from(behind).take(count as usize).collect()
			}
			None => RestoreRequests::<T>::iter().take(count as usize).collect(),
		};
		for (restore_id, restore) in &looked_at {
			if Self::restore_is_over(restore) {
				Self::remove_restore(*restore_id, restore);
			}
		}
		RestoreCursor::<T>::set(looked_at.last().map(|(restore_id, _)| *restore_id));
		each.saturating_mul(count)
	}

	/// Take a restore from its node, and its hold from the snapshot.
	fn end_restore(restore_id: u64, restore: &RestoreOf<T>) {
		RestoresOfNode::<T>::remove(restore.node, restore_id);
		Self::unlock_after_restore(&restore.request_id, restore.sequence);
	}

	pub(crate) fn authorize_restore(
		source: TransactionSource,
		node_id: &T::NodeId,
		restore_id: &u64,
		failure: &Option<FailureReason>,
		at: &BlockRef,
		signature: &SignatureOf<T>,
	) -> TransactionValidityWithRefund {
		Self::ensure_unfiltered(Call::report_restore {
			node_id: *node_id,
			restore_id: *restore_id,
			failure: *failure,
			at: *at,
			signature: signature.clone(),
		})?;
		let restore = RestoreRequests::<T>::get(restore_id).ok_or(Invalidity::Unknown)?;
		ensure!(restore.node == *node_id, Invalidity::WrongNode);
		ensure!(Self::restore_is_open(&restore), InvalidTransaction::Stale);

		let place = lineage_id(&restore.request_id, restore.salt);
		let report =
			Report::Restore { restore: *restore_id, lineage: place.clone(), failure: *failure };
		let kind = ReportKind::Restore;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		Self::valid_report((kind, place, *restore_id), longevity)
	}

	/// Keep how a restore ended, and let go of its snapshot.
	pub(crate) fn record_restore(restore_id: u64, failure: Option<FailureReason>) {
		RestoreRequests::<T>::mutate_extant(restore_id, |restore| {
			let at = Self::now();
			Self::count_report(ReportKind::Restore, restore.node);
			Self::end_restore(restore_id, restore);
			let (request_id, cid) = (restore.request_id, restore.cid);
			let (state, event) = match failure {
				None => (
					RestoreState::Fulfilled { at },
					Event::SnapshotRestored { restore_id, request_id, cid },
				),
				Some(reason) => (
					RestoreState::Failed { reason, at },
					Event::SnapshotRestoreFailed { restore_id, reason },
				),
			};
			restore.state = state;
			Self::deposit_event(event);
		});
	}
}
