//! Restores: asked for by owners, carried out by nodes, closed by whoever cleans up.

use crate::{
	Call, Config, Error, Event, Invalidity, Lineages, NextRestoreId, Pallet, RestoreCountOfAccount,
	RestoreOf, RestoreRequest, RestoreRequests, RestoreState, RestoresOfNode, SignatureOf,
	SnapshotLocks, Snapshots, SnapshotsByCid, UserDeletions, lineage_id, lineages::decrease,
};
use backup_primitives::{BlockRef, Cid, FailureReason, report::Report};
use frame_support::{
	ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	traits::Get,
};
use sp_runtime::{DispatchResult, Saturating};

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
		let owner = lineage.owner;
		let may_restore = who == owner || Self::access_since(&request_id, &who).is_some();
		ensure!(may_restore, Error::<T>::NotAuthorized);
		let snapshot =
			Snapshots::<T>::get(request_id, sequence).ok_or(Error::<T>::SnapshotNotFound)?;
		let cid = snapshot.cid;
		ensure!(!UserDeletions::<T>::contains_key(&owner), Error::<T>::DeletionPending);
		let open = RestoreCountOfAccount::<T>::get(&who);
		ensure!(open < T::MaxRestores::get(), Error::<T>::TooManyRestores);

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
			node: lineage.node,
			requested_at: now,
			expires_at: now.saturating_add(Self::settings().restore_lifetime),
			state: RestoreState::Requested,
		};
		RestoresOfNode::<T>::insert(restore.node, restore_id, ());
		RestoreRequests::<T>::insert(restore_id, restore);
		RestoreCountOfAccount::<T>::insert(&who, open.saturating_add(1));
		SnapshotLocks::<T>::mutate(request_id, sequence, |locks| {
			*locks = Some(locks.unwrap_or(0).saturating_add(1));
		});
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
		let is_over = restore.expires_at <= Self::now()
			|| restore.state == RestoreState::Requested && !Self::restore_is_open(&restore);
		ensure!(is_involved || is_over, Error::<T>::NotAuthorized);
		if restore.state == RestoreState::Requested {
			Self::release(restore_id, &restore);
		}
		RestoreRequests::<T>::remove(restore_id);
		RestoreCountOfAccount::<T>::mutate_exists(&restore.requester, decrease);
		Self::deposit_event(Event::RestoreClosed { restore_id });
		Ok(())
	}

	/// Take a restore from its node, and its hold from the snapshot.
	fn release(restore_id: u64, restore: &RestoreOf<T>) {
		RestoresOfNode::<T>::remove(restore.node, restore_id);
		SnapshotLocks::<T>::mutate_exists(restore.request_id, restore.sequence, decrease);
	}

	pub(crate) fn authorize_restore(
		_source: TransactionSource,
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
		Self::ensure_signed_by(node_id, at, &report, signature)?;
		let longevity = Self::ensure_recent(at)?;
		Self::valid_report(("restore", place, *restore_id), longevity)
	}

	/// Keep how a restore ended, and let go of its snapshot.
	pub(crate) fn record_restore(restore_id: u64, failure: Option<FailureReason>) {
		RestoreRequests::<T>::mutate_extant(restore_id, |restore| {
			let at = Self::now();
			Self::release(restore_id, restore);
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
