//! Restores: asked for by owners, carried out by nodes, closed by whoever cleans up.

use crate::{
	Call, Compute, Config, Error, Event, Invalidity, LineageOf, Lineages, NextRestoreId, Pallet,
	RestoreCountOfAccount, RestoreCursor, RestoreOf, RestoreOptions, RestoreRequest,
	RestoreRequests, RestoreState, RestoresOfNode, SignatureOf, SnapshotDeletions, SnapshotOf,
	Snapshots, SnapshotsByCid, WeightInfo,
	authorize::ReportKind,
	deletion::{IDLE_STEPS_MAX, idle_steps},
	lineage_id,
	lineages::decrease,
};
use alloc::vec::Vec;
use backup_primitives::{BlockRef, Cid, FailureReason, job::RestoreMode, report::Report};
use frame_support::{
	ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	storage::with_storage_layer,
	traits::Get,
	weights::Weight,
};
use sp_runtime::{DispatchResult, Saturating};

impl<T: Config> Pallet<T> {
	/// Ask for a snapshot of one's own by its root.
	pub(crate) fn request_restore_of(who: T::AccountId, cid: &[u8]) -> DispatchResult {
		let cid = Cid::parse(cid).map_err(|_| Error::<T>::MalformedCid)?;
		let mut found = SnapshotsByCid::<T>::iter_prefix((&who, cid));
		let (request_id, sequence) = found.next().ok_or(Error::<T>::SnapshotNotFound)?;
		// Roots differ where nodes are honest. One that copies another's root gains nothing by it.
		ensure!(found.next().is_none(), Error::<T>::CidAmbiguous);
		Self::request_restore(who, request_id, sequence, RestoreOptions::default())
	}

	/// Ask for a snapshot by its place.
	pub(crate) fn request_restore(
		who: T::AccountId,
		request_id: T::RequestId,
		sequence: u64,
		options: RestoreOptions<T::RequestId>,
	) -> DispatchResult {
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		let owner = lineage.owner.clone();
		// Who was let in may look at a machine, not change one.
		let is_plain = options.mode == RestoreMode::Aside && options.target.is_none();
		let is_let_in = is_plain && Self::access_since(&request_id, &who).is_some();
		ensure!(who == owner || is_let_in, Error::<T>::NotAuthorized);
		let snapshot =
			Snapshots::<T>::get(request_id, sequence).ok_or(Error::<T>::SnapshotNotFound)?;
		let cid = snapshot.cid;
		let is_deleted = Self::deletion_of(&lineage).is_some()
			|| SnapshotDeletions::<T>::contains_key(request_id, sequence);
		ensure!(!is_deleted, Error::<T>::DeletionPending);
		let open = RestoreCountOfAccount::<T>::get(&who);
		ensure!(open < T::MaxRestores::get(), Error::<T>::TooManyRestores);

		let node = Self::node_for(&lineage, &request_id, &snapshot, &options)?;
		let restore_id = NextRestoreId::<T>::mutate(|next| {
			let id = *next;
			*next = next.saturating_add(1);
			id
		});
		Self::hold_restore_deposit(&who, restore_id)?;
		let now = Self::now();
		let restore = RestoreRequest {
			requester: who.clone(),
			owner,
			request_id,
			salt: lineage.salt,
			sequence,
			cid,
			node,
			mode: options.mode,
			target: options.target,
			envelope: options.envelope,
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

	/// The node that is to carry a restore out.
	///
	/// It is the one that hosts the machine that is meant, where one is meant or an envelope is
	/// given; else the one that sealed the snapshot, since the machine may have moved. Without an
	/// envelope only that one can open it.
	fn node_for(
		lineage: &LineageOf<T>,
		request_id: &T::RequestId,
		snapshot: &SnapshotOf<T>,
		options: &RestoreOptions<T::RequestId>,
	) -> Result<T::NodeId, Error<T>> {
		let names_machine = options.mode == RestoreMode::Replace || options.target.is_some();
		let node = if names_machine {
			Self::host_of(&lineage.owner, &options.target.unwrap_or(*request_id))?
		} else if options.envelope.is_some() {
			lineage.node
		} else {
			snapshot.node
		};
		let is_sealed_to_it = node == snapshot.node && T::Compute::node(&node).is_some();
		ensure!(is_sealed_to_it || options.envelope.is_some(), Error::<T>::EnvelopeRequired);
		ensure!(T::Compute::node(&node).is_some(), Error::<T>::RequestNotRunning);
		Ok(node)
	}

	/// The node of a machine of an owner.
	fn host_of(owner: &T::AccountId, request_id: &T::RequestId) -> Result<T::NodeId, Error<T>> {
		let request = T::Compute::request(request_id).ok_or(Error::<T>::RequestNotRunning)?;
		ensure!(request.owner == *owner, Error::<T>::NotAuthorized);
		request.node.filter(|_| request.running).ok_or(Error::<T>::RequestNotRunning)
	}

	/// Whether the machine that a restore is meant for is still the owner's, on the same node.
	pub(crate) fn target_is_there(restore: &RestoreOf<T>) -> bool {
		let names_machine = restore.mode == RestoreMode::Replace || restore.target.is_some();
		let target = restore.target.unwrap_or(restore.request_id);
		!names_machine || Self::host_of(&restore.owner, &target).is_ok_and(|n| n == restore.node)
	}

	pub(crate) fn close(who: &T::AccountId, restore_id: u64) -> DispatchResult {
		let restore =
			RestoreRequests::<T>::get(restore_id).ok_or(Error::<T>::RestoreRequestNotFound)?;
		let is_involved = [&restore.requester, &restore.owner].contains(&who);
		ensure!(is_involved || Self::restore_is_over(&restore), Error::<T>::NotAuthorized);
		Self::remove_restore(restore_id, &restore)
	}

	/// Whether everyone may take the record of a restore away.
	fn restore_is_over(restore: &RestoreOf<T>) -> bool {
		restore.expires_at <= Self::now()
			|| restore.state == RestoreState::Requested && !Self::restore_is_open(restore)
	}

	fn remove_restore(restore_id: u64, restore: &RestoreOf<T>) -> DispatchResult {
		Self::return_restore_deposit(&restore.requester, restore_id)?;
		if restore.state == RestoreState::Requested {
			Self::end_restore(restore_id, restore);
		}
		RestoreRequests::<T>::remove(restore_id);
		RestoreCountOfAccount::<T>::mutate_exists(&restore.requester, decrease);
		Self::deposit_event(Event::RestoreClosed { restore_id, request_id: restore.request_id });
		Ok(())
	}

	/// Close restores that are over, a few in a block, so that none holds its snapshot for longer
	/// than it may. Returns what that has cost.
	pub(crate) fn close_those_over(room: Weight) -> Weight {
		let each = T::WeightInfo::close_restore();
		let count = idle_steps(room, each, IDLE_STEPS_MAX);
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
				Self::expire(*restore_id, restore);
			}
		}
		RestoreCursor::<T>::set(looked_at.last().map(|(restore_id, _)| *restore_id));
		each.saturating_mul(count)
	}

	/// Close a restore that is over. If its deposit cannot be returned it stays, for
	/// [`Call::close_restore`], but lets go of its snapshot.
	fn expire(restore_id: u64, restore: &RestoreOf<T>) {
		let closed = with_storage_layer(|| Self::remove_restore(restore_id, restore));
		if closed.is_err() && restore.state == RestoreState::Requested {
			Self::end_restore(restore_id, restore);
			RestoreRequests::<T>::mutate_extant(restore_id, |restore| {
				restore.state = RestoreState::Expired;
			});
		}
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
		let report = Report::Restore {
			restore: *restore_id,
			lineage: place.clone(),
			wish: restore.digest(),
			failure: *failure,
		};
		let kind = ReportKind::Restore;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		Self::valid_report(node_id, (kind, place, *restore_id), longevity)
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
					Event::SnapshotRestoreFailed { restore_id, request_id, reason },
				),
			};
			restore.state = state;
			Self::deposit_event(event);
		});
	}
}
