//! Deletion: of everything an account has, through the marketplace; of the backup of a request or
//! of one snapshot, by its owner.
//!
//! Each begins with a grace period in which it can be taken back. After that nodes give the blocks
//! up and confirm it; a single snapshot needs no word of them, since its record alone keeps its
//! blocks. What nodes do not confirm until a deadline everyone may close.

use crate::{
	Call, ClockFor, Config, DeletionTarget, Error, Event, HoldersOf, Invalidity,
	LineageCountOfAccount, LineageOf, Lineages, Pallet, Paused, SignatureOf,
	SnapshotDeletionCursor, SnapshotDeletions, SnapshotLocks, SnapshotOf, Snapshots, UserDeletion,
	UserDeletions, WeightInfo, authorize::ReportKind, holds::Party, lineage_id,
};
use alloc::vec::Vec;
use backup_primitives::{BlockRef, Cid, RootStatus, report::Report};
use frame_support::{
	ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	weights::Weight,
};
use sp_runtime::{DispatchResult, Saturating};

/// Most snapshots whose records one report takes away.
pub(crate) const DELETIONS_MAX: u32 = 32;

/// Most deletions, and most restores, that one block looks at in its idle time.
pub(crate) const IDLE_STEPS_MAX: u64 = 4;

/// How many steps of such a weight fit what is left of a block, at most so many.
pub(crate) fn idle_steps(room: Weight, each: Weight, most: u64) -> u64 {
	room.checked_div_per_component(&each).unwrap_or(0).min(most)
}

/// What a node's word on a deletion is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
	/// The deletion waits for it.
	Awaited,
	/// It was given; others are awaited.
	Given,
	/// The node has no part in it.
	NotAsked,
}

/// Whose backups are meant, with the runtime's types.
pub(crate) type DeletionTargetOf<T> =
	DeletionTarget<<T as frame_system::Config>::AccountId, <T as Config>::RequestId>;

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
		let effective_at = Self::deletion_begins_at();
		UserDeletions::<T>::insert(owner, UserDeletion { effective_at, remaining });
		Self::deposit_event(Event::UserDeletionRequested { owner: owner.clone(), effective_at });
	}

	/// Mark the backup of a request for deletion.
	pub(crate) fn delete_lineage(who: &T::AccountId, request_id: T::RequestId) -> DispatchResult {
		let mut lineage = Self::owned_lineage(who, &request_id)?;
		ensure!(Self::deletion_of(&lineage).is_none(), Error::<T>::DeletionPending);
		let effective_at = Self::deletion_begins_at();
		lineage.delete_at = Some(effective_at);
		Lineages::<T>::insert(request_id, lineage);
		Self::deposit_event(Event::BackupDeletionRequested {
			owner: who.clone(),
			request_id,
			effective_at,
		});
		Ok(())
	}

	/// Mark a snapshot for deletion.
	pub(crate) fn delete_one(
		who: &T::AccountId,
		request_id: T::RequestId,
		sequence: u64,
	) -> DispatchResult {
		let lineage = Self::owned_lineage(who, &request_id)?;
		ensure!(Self::deletion_of(&lineage).is_none(), Error::<T>::DeletionPending);
		let is_there = Snapshots::<T>::contains_key(request_id, sequence);
		ensure!(is_there, Error::<T>::SnapshotNotFound);
		let is_pending = SnapshotDeletions::<T>::contains_key(request_id, sequence);
		ensure!(!is_pending, Error::<T>::DeletionPending);
		let effective_at = Self::deletion_begins_at();
		SnapshotDeletions::<T>::insert(request_id, sequence, effective_at);
		Self::deposit_event(Event::SnapshotDeletionRequested {
			request_id,
			sequence,
			effective_at,
		});
		Ok(())
	}

	fn deletion_begins_at() -> ClockFor<T> {
		Self::now().saturating_add(Self::settings().deletion_grace)
	}

	/// Take back a deletion that has not taken effect.
	pub(crate) fn cancel(
		party: &Party<T::AccountId>,
		target: DeletionTargetOf<T>,
	) -> DispatchResult {
		// What governance holds nobody has given up yet, however late it is.
		let in_time = |effective_at: Option<ClockFor<T>>, is_held: bool| match effective_at {
			None => Err(Error::<T>::DeletionNotFound),
			Some(at) if at <= Self::now() && !is_held => Err(Error::<T>::DeletionInEffect),
			Some(_) => Ok(()),
		};
		match &target {
			DeletionTarget::Account(owner) => {
				let may = *party == Party::Governance || *party == Party::Account(owner.clone());
				ensure!(may, Error::<T>::NotAuthorized);
				let effective_at = UserDeletions::<T>::get(owner).map(|d| d.effective_at);
				in_time(effective_at, false)?;
				UserDeletions::<T>::remove(owner);
			}
			DeletionTarget::Request(request_id) => {
				let mut lineage = Self::lineage_for(party, request_id)?;
				in_time(lineage.delete_at.take(), lineage.governance_holds > 0)?;
				lineage.is_given_up = false;
				Lineages::<T>::insert(request_id, lineage);
			}
			DeletionTarget::Snapshot(request_id, sequence) => {
				Self::lineage_for(party, request_id)?;
				let lock = SnapshotLocks::<T>::get(request_id, sequence);
				let is_held = lock.is_some_and(|lock| lock.by_governance);
				in_time(SnapshotDeletions::<T>::take(request_id, sequence), is_held)?;
			}
		}
		Self::deposit_event(Event::DeletionCancelled { target });
		Ok(())
	}

	/// From when on the blocks of a lineage may be given up, if it is to be deleted.
	pub(crate) fn deletion_of(lineage: &LineageOf<T>) -> Option<ClockFor<T>> {
		let of_account = UserDeletions::<T>::get(&lineage.owner).map(|d| d.effective_at);
		of_account.into_iter().chain(lineage.delete_at).min()
	}

	/// Whether a lineage is to be deleted, the grace period is over, and governance neither holds
	/// any of it nor has paused everything.
	pub(crate) fn deletion_is_due(lineage: &LineageOf<T>) -> bool {
		Self::grace_is_over(lineage) && !Paused::<T>::get()
	}

	/// The same, whether everything is paused or not: a node may have acted on it before.
	fn grace_is_over(lineage: &LineageOf<T>) -> bool {
		lineage.governance_holds == 0
			&& Self::deletion_of(lineage).is_some_and(|at| at <= Self::now())
	}

	/// Whether nodes may give up a snapshot now.
	fn may_be_given_up(request_id: &T::RequestId, sequence: u64, lineage: &LineageOf<T>) -> bool {
		!Paused::<T>::get() && Self::may_be_gone(request_id, sequence, lineage)
	}

	/// Whether nodes may have given up a snapshot already.
	pub(crate) fn may_be_gone(
		request_id: &T::RequestId,
		sequence: u64,
		lineage: &LineageOf<T>,
	) -> bool {
		Self::grace_is_over(lineage) || Self::snapshot_grace_is_over(request_id, sequence)
	}

	/// Whether one snapshot is to go, the grace period is over, and governance neither holds it nor has
	/// paused everything.
	fn snapshot_deletion_is_due(request_id: &T::RequestId, sequence: u64) -> bool {
		Self::snapshot_grace_is_over(request_id, sequence) && !Paused::<T>::get()
	}

	fn snapshot_grace_is_over(request_id: &T::RequestId, sequence: u64) -> bool {
		SnapshotDeletions::<T>::get(request_id, sequence).is_some_and(|at| at <= Self::now())
			&& SnapshotLocks::<T>::get(request_id, sequence).is_none_or(|lock| !lock.by_governance)
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
		let lineage = Self::lineage_of_salt(request_id, *salt)?;
		let waits_for = Self::deletion_waits_for(request_id, &lineage, node_id);
		ensure!(waits_for != Confirmation::NotAsked, Invalidity::WrongNode);
		ensure!(Self::deletion_is_due(&lineage), Invalidity::NothingToDelete);
		ensure!(lineage.next == *until, Invalidity::NothingToDelete);
		ensure!(waits_for == Confirmation::Awaited, InvalidTransaction::Stale);

		let place = lineage_id(request_id, *salt);
		let report = Report::Deleted { lineage: place.clone(), until: *until };
		let kind = ReportKind::Deleted;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		Self::valid_report(node_id, (kind, place, lineage.kept.into()), longevity)
	}

	/// Whether a deletion waits for the word of a node: of the host, and of each holder. Once all
	/// have spoken the host's is heard again, for each part of a long history.
	pub(crate) fn deletion_waits_for(
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
		node: &T::NodeId,
	) -> Confirmation {
		let holders = HoldersOf::<T>::get(request_id);
		let is_holder = holders.iter().any(|holder| holder.node == *node);
		match lineage.node == *node {
			true if lineage.is_given_up && !holders.is_empty() => Confirmation::Given,
			true => Confirmation::Awaited,
			false if is_holder => Confirmation::Awaited,
			false => Confirmation::NotAsked,
		}
	}

	/// Record that a node has given up the blocks of a lineage. The records go when all have.
	pub(crate) fn record_deleted(node_id: T::NodeId, request_id: T::RequestId) {
		let Some(mut lineage) = Lineages::<T>::get(request_id) else {
			frame_support::defensive!("authorize found the lineage");
			return;
		};
		Self::count_report(ReportKind::Deleted, node_id);
		// Nobody waits for the word of a node that is not there any more.
		Self::drop_gone(&request_id, &lineage);
		if lineage.node == node_id {
			lineage.is_given_up = true;
		} else {
			Self::drop_holder(&request_id, node_id);
		}
		if !lineage.is_given_up || HoldersOf::<T>::contains_key(request_id) {
			Lineages::<T>::insert(request_id, lineage);
			Self::deposit_event(Event::DeletionConfirmed { node_id, request_id });
			return;
		}
		let owner = lineage.owner.clone();
		if Self::take_records(request_id, lineage) {
			let event = Event::LineageDeleted { node_id, owner: owner.clone(), request_id };
			Self::deposit_event(event);
			Self::count_down(&owner);
		}
	}

	/// Carry out a deletion that no node has confirmed in time, or that of a snapshot.
	pub(crate) fn close_late(request_id: T::RequestId, sequence: Option<u64>) -> DispatchResult {
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		if let Some(sequence) = sequence {
			let is_due = Self::snapshot_deletion_is_due(&request_id, sequence);
			ensure!(is_due, Error::<T>::DeletionNotOver);
			Self::take_one(request_id, sequence, lineage);
			return Ok(());
		}
		let effective_at = Self::deletion_of(&lineage).ok_or(Error::<T>::DeletionNotFound)?;
		let deadline = effective_at.saturating_add(Self::settings().deletion_deadline);
		let is_over = Self::deletion_is_due(&lineage) && deadline <= Self::now();
		ensure!(is_over, Error::<T>::DeletionNotOver);
		let owner = lineage.owner.clone();
		let host = (!lineage.is_given_up).then_some(lineage.node);
		let holders = HoldersOf::<T>::get(request_id);
		if Self::take_records(request_id, lineage) {
			let holders = holders.into_iter().map(|holder| holder.node);
			let unconfirmed = host.into_iter().chain(holders).collect();
			Self::deposit_event(Event::DeletionClosed { request_id, unconfirmed });
			Self::count_down(&owner);
		}
		Ok(())
	}

	/// Take away the records of a lineage, at most [`DELETIONS_MAX`], and the lineage itself with
	/// the last of them. Says whether it went.
	fn take_records(request_id: T::RequestId, mut lineage: LineageOf<T>) -> bool {
		let taken: Vec<(u64, SnapshotOf<T>)> =
			Snapshots::<T>::iter_prefix(request_id).take(DELETIONS_MAX as usize).collect();
		let count = u32::try_from(taken.len()).unwrap_or(DELETIONS_MAX);
		for (sequence, record) in taken {
			Self::take_record(&request_id, sequence, &record, &mut lineage);
		}
		Self::update_header(lineage.node, &lineage.owner, |header| {
			header.snapshots = header.snapshots.saturating_sub(count);
			header.last_snapshot = None;
		});
		let is_empty = lineage.kept == 0;
		match is_empty {
			true => Self::remove_lineage(&request_id, &lineage),
			false => Lineages::<T>::insert(request_id, lineage),
		}
		is_empty
	}

	/// Take away a record that its owner does not want any more, and all that kept it.
	fn take_record(
		request_id: &T::RequestId,
		sequence: u64,
		record: &SnapshotOf<T>,
		lineage: &mut LineageOf<T>,
	) {
		Self::remove_snapshot(request_id, sequence, record, lineage);
		let lock = SnapshotLocks::<T>::take(request_id, sequence).unwrap_or_default();
		lineage.owner_holds = lineage.owner_holds.saturating_sub(lock.by_owner.into());
	}

	fn take_one(request_id: T::RequestId, sequence: u64, mut lineage: LineageOf<T>) {
		let Some(record) = Snapshots::<T>::get(request_id, sequence) else {
			frame_support::defensive!("the deletion of a snapshot goes with it");
			return;
		};
		let cid = record.cid;
		Self::take_record(&request_id, sequence, &record, &mut lineage);
		Self::update_header(lineage.node, &lineage.owner, |header| {
			header.snapshots = header.snapshots.saturating_sub(1);
			header.last_snapshot = header.last_snapshot.filter(|last| *last != cid);
		});
		Lineages::<T>::insert(request_id, lineage);
		Self::deposit_event(Event::SnapshotDeleted { request_id, sequence, cid });
	}

	/// Carry out deletions of snapshots whose grace period is over, a few in a block. Returns what
	/// that has cost.
	pub(crate) fn carry_out_deletions(room: Weight) -> Weight {
		let each = T::WeightInfo::close_deletion(1);
		let count = idle_steps(room, each, IDLE_STEPS_MAX);
		if count == 0 {
			return Weight::zero();
		}
		let looked_at: Vec<_> = match SnapshotDeletionCursor::<T>::get() {
			Some((request_id, sequence)) => {
				let behind = SnapshotDeletions::<T>::hashed_key_for(request_id, sequence);
				SnapshotDeletions::<T>::iter_keys_from(behind).take(count as usize).collect()
			}
			None => SnapshotDeletions::<T>::iter_keys().take(count as usize).collect(),
		};
		for (request_id, sequence) in &looked_at {
			if Self::snapshot_deletion_is_due(request_id, *sequence)
				&& let Some(lineage) = Lineages::<T>::get(request_id)
			{
				Self::take_one(*request_id, *sequence, lineage);
			}
		}
		SnapshotDeletionCursor::<T>::set(looked_at.last().copied());
		each.saturating_mul(count)
	}

	/// Note that a lineage of an account is gone, for the deletion of all that it has.
	fn count_down(owner: &T::AccountId) {
		UserDeletions::<T>::mutate_exists(owner, |slot| {
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
		match Snapshots::<T>::get(request_id, sequence) {
			Some(record) if record.cid == cid => {
				match Self::may_be_given_up(&request_id, sequence, &lineage) {
					true => RootStatus::Deleted,
					false => RootStatus::Retained,
				}
			}
			Some(_) => RootStatus::Unknown,
			None if sequence < lineage.next => RootStatus::Evicted,
			// It will never be recorded.
			None if Self::deletion_is_due(&lineage) => RootStatus::Deleted,
			None => RootStatus::Pending,
		}
	}
}
