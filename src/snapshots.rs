//! Snapshots: how a report of one is judged and recorded, and which old ones go.

use crate::{
	Call, ClockFor, Compute, Config, Eligibility, Error, Event, Failure, Invalidity, LineageOf,
	Lineages, Marketplace, OnSnapshot, OwnerKeys, Pallet, Paused, SignatureOf, SnapshotClaim,
	SnapshotDeletions, SnapshotLocks, SnapshotMetadata, SnapshotOf, Snapshots, SnapshotsByCid,
	Subscription, authorize::ReportKind, lineage_id, opaque,
};
use backup_primitives::{
	BlockRef, Cid, FailureReason,
	cid::BlockCodec,
	report::{Description, Report, TakenSnapshot},
};
use frame_support::{
	defensive, ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	traits::Get,
};
use sp_runtime::{
	DispatchResult, Saturating,
	traits::{SaturatedConversion, UniqueSaturatedInto},
};

/// How many blocks before its time a snapshot may be taken: worker and chain may disagree
/// by a fork's length about when the last one was.
const CADENCE_TOLERANCE_BLOCKS: u32 = 2;

/// Most snapshots that one new snapshot evicts. Two, so that a backlog gets shorter.
pub(crate) const EVICTIONS_MAX: u32 = 2;

/// Most sequences that one new snapshot looks at to find these.
pub(crate) const EVICTION_STEPS: u32 = 4;

/// Most sequences that one pruning looks at.
pub(crate) const PRUNED_MAX: u32 = 64;

/// What a node may claim to have stored, over what the machine's disks may hold: sealing
/// and the tree cost a little, and an incompressible disk is stored in full.
const NEW_BYTES_MARGIN: u64 = 64 * 1024 * 1024;

/// The part of a disk that sealing and the tree add to it at most, about 108 bytes for each
/// chunk of 256 KiB, twice over.
const OVERHEAD_SHARE: u64 = 1024;

/// What was found when one has to go that is too young for it.
enum Worst<T: Config> {
	/// The oldest that nobody else has.
	Found(u64, SnapshotOf<T>),
	/// There may be one behind the places that were looked at.
	NotYet,
	/// All are held, or others have them.
	Nothing,
}

impl<T: Config> Pallet<T> {
	#[expect(clippy::too_many_arguments, reason = "the callback takes what the call takes")]
	pub(crate) fn authorize_add_snapshot(
		source: TransactionSource,
		node_id: &T::NodeId,
		snapshot_cid: &Cid,
		description: &Option<Description>,
		request_id: &T::RequestId,
		account_id: &T::AccountId,
		claim: &SnapshotClaim,
		at: &BlockRef,
		signature: &SignatureOf<T>,
	) -> TransactionValidityWithRefund {
		Self::ensure_unfiltered(Call::add_snapshot {
			node_id: *node_id,
			snapshot_cid: *snapshot_cid,
			description: description.clone(),
			request_id: *request_id,
			account_id: account_id.clone(),
			claim: claim.clone(),
			at: *at,
			signature: signature.clone(),
		})?;
		ensure!(snapshot_cid.check() == Ok(BlockCodec::DagCbor), Invalidity::MalformedCid);
		let lineage = Self::reported_lineage(node_id, request_id, claim.salt)?;
		ensure!(lineage.owner == *account_id, Invalidity::WrongOwner);
		ensure!(claim.sequence >= lineage.next, InvalidTransaction::Stale);

		let report = Report::Snapshot {
			lineage: lineage_id(request_id, claim.salt),
			sequence: claim.sequence,
			owner: opaque(account_id),
			description: description.clone(),
			snapshot: claim.snapshot(*snapshot_cid),
		};
		let kind = ReportKind::Snapshot;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		ensure!(claim.sequence == lineage.next, InvalidTransaction::Future);
		Self::ensure_plausible(request_id, &lineage, snapshot_cid, claim)?;
		Self::ensure_welcome(&lineage, claim)?;
		let place = lineage_id(request_id, claim.salt);
		Self::valid_report(node_id, (kind, place, claim.sequence), longevity)
	}

	/// The lineage that a report is about.
	pub(crate) fn lineage_of_salt(
		request_id: &T::RequestId,
		salt: [u8; 32],
	) -> Result<LineageOf<T>, InvalidTransaction> {
		let lineage = Lineages::<T>::get(request_id).ok_or(Invalidity::Unknown)?;
		ensure!(lineage.salt == salt, Invalidity::WrongLineage);
		Ok(lineage)
	}

	/// The lineage that a report of its host is about.
	pub(crate) fn reported_lineage(
		node_id: &T::NodeId,
		request_id: &T::RequestId,
		salt: [u8; 32],
	) -> Result<LineageOf<T>, InvalidTransaction> {
		let lineage = Self::lineage_of_salt(request_id, salt)?;
		ensure!(lineage.node == *node_id, Invalidity::WrongNode);
		Ok(lineage)
	}

	/// Check what no passing of time can mend.
	fn ensure_plausible(
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
		cid: &Cid,
		claim: &SnapshotClaim,
	) -> Result<(), InvalidTransaction> {
		let request = T::Compute::request(request_id).ok_or(Invalidity::Unknown)?;
		ensure!(request.node == Some(lineage.node), Invalidity::WrongNode);
		ensure!(claim.logical_bytes <= request.capacity_bytes, Invalidity::TooLarge);
		let overhead = request.capacity_bytes / OVERHEAD_SHARE;
		let stored_max =
			request.capacity_bytes.saturating_add(overhead).saturating_add(NEW_BYTES_MARGIN);
		ensure!(claim.new_bytes <= stored_max, Invalidity::TooLarge);
		ensure!(
			OwnerKeys::<T>::contains_key(&lineage.owner, claim.owner_key_version),
			Invalidity::UnknownKeyVersion
		);
		let is_known = SnapshotsByCid::<T>::contains_key((&lineage.owner, cid, request_id));
		ensure!(!is_known, Invalidity::DuplicateCid);
		let is_recent = claim.taken_at >= Self::oldest_taken_at(lineage);
		ensure!(is_recent, Invalidity::TakenTooEarly);
		Ok(())
	}

	/// Check what may be otherwise in a while.
	fn ensure_welcome(
		lineage: &LineageOf<T>,
		claim: &SnapshotClaim,
	) -> Result<(), InvalidTransaction> {
		// A peer that lags judges a block behind the one that took the snapshot.
		let now: u64 = Self::now().unique_saturated_into();
		ensure!(claim.taken_at <= now, InvalidTransaction::Future);
		let due_at = Self::due_at(lineage);
		let taken_at: ClockFor<T> = claim.taken_at.saturated_into();
		let is_due = taken_at.saturating_add(CADENCE_TOLERANCE_BLOCKS.into()) >= due_at;
		let is_wanted = T::Marketplace::subscription(&lineage.owner) == Subscription::Active
			&& Self::deletion_of(lineage).is_none()
			// Who pauses wants the history to stay as it is.
			&& !lineage.settings.paused;
		let is_welcome = is_due && is_wanted && Self::has_room(lineage);
		ensure!(is_welcome, InvalidTransaction::Future);
		Ok(())
	}

	/// Oldest `taken_at` that a new snapshot of a lineage may have to be recorded now. One that
	/// was taken before is taken again: waiting would not make it right.
	pub(crate) fn oldest_taken_at_now(lineage: &LineageOf<T>) -> u64 {
		let tolerated = Self::due_at(lineage).saturating_sub(CADENCE_TOLERANCE_BLOCKS.into());
		Self::oldest_taken_at(lineage).max(tolerated.unique_saturated_into())
	}

	/// Oldest `taken_at` of the next snapshot of a lineage that is ever recorded.
	pub(crate) fn oldest_taken_at(lineage: &LineageOf<T>) -> u64 {
		let after_last = match lineage.last_taken_at {
			Some(taken_at) => taken_at.saturating_add(1u32.into()),
			None => lineage.created_at,
		};
		let in_time = Self::now().saturating_sub(T::MaxReportDelay::get());
		after_last.max(in_time).unique_saturated_into()
	}

	/// Whether one more snapshot can be recorded. It cannot where the last one has found the hard
	/// cap reached and nothing to evict for it.
	pub(crate) fn has_room(lineage: &LineageOf<T>) -> bool {
		lineage.kept <= T::MaxSnapshots::get()
	}

	/// Store a snapshot that `authorize` found right, and evict what is too much.
	pub(crate) fn record_snapshot(
		node_id: T::NodeId,
		owner: T::AccountId,
		request_id: T::RequestId,
		description: Option<Description>,
		snapshot: TakenSnapshot,
	) {
		let Some(mut lineage) = Lineages::<T>::get(request_id) else {
			defensive!("authorize found the lineage");
			return;
		};
		Self::count_report(ReportKind::Snapshot, node_id);
		let (cid, sequence, new_bytes) = (snapshot.cid, lineage.next, snapshot.new_bytes);
		let record = SnapshotMetadata {
			cid,
			request_id,
			taken_at: snapshot.taken_at.saturated_into(),
			recorded_at: Self::now(),
			description,
			logical_bytes: snapshot.logical_bytes,
			new_bytes,
			consistency: snapshot.consistency,
			node: node_id,
			owner_key_version: snapshot.owner_key_version,
		};
		lineage.next = sequence.saturating_add(1);
		lineage.kept = lineage.kept.saturating_add(1);
		lineage.stored_bytes = lineage.stored_bytes.saturating_add(new_bytes);
		lineage.last_taken_at = Some(record.taken_at);
		lineage.last_recorded_at = Some(record.recorded_at);
		lineage.failure = None;
		Snapshots::<T>::insert(request_id, sequence, record);
		SnapshotsByCid::<T>::insert((&owner, cid, request_id), sequence);
		let evicted = Self::evict(&request_id, &mut lineage, EVICTIONS_MAX, EVICTION_STEPS);
		Lineages::<T>::insert(request_id, &lineage);
		Self::update_header(node_id, &owner, |header| {
			header.snapshots = header.snapshots.saturating_add(1).saturating_sub(evicted);
			header.last_snapshot = Some(cid);
		});
		T::OnSnapshot::on_snapshot(&request_id, &owner, sequence, new_bytes);
		Self::deposit_event(Event::SnapshotAdded { node_id, owner, request_id, sequence, cid });
	}

	/// Drop the oldest snapshots above the number to keep, at most `limit` of them, looking at
	/// `steps` sequences, and return how many went.
	///
	/// The newest always stays, and so does the newest that another node confirmed to have, what
	/// is held, and what is too young to go. At the hard cap a young one goes all the same: the
	/// oldest that nobody has confirmed. So a node that records too many replaces no good copy.
	pub(crate) fn evict(
		request_id: &T::RequestId,
		lineage: &mut LineageOf<T>,
		limit: u32,
		steps: u32,
	) -> u32 {
		let keep = Self::keep_last_of(lineage);
		let old_enough = Self::now().saturating_sub(Self::settings().min_age);
		if lineage.kept <= keep {
			return 0;
		}
		let confirmed_to = Self::ever_confirmed_to(request_id);
		let newest_copy = Self::newest_copy(request_id, confirmed_to);
		// A copy stays guarded until there is a newer one, whoever fell silent or was dropped since.
		let is_outdated = |guarded: &u64| newest_copy.is_some_and(|newest| newest > *guarded);
		if let Some(guarded) = lineage.guarded.filter(is_outdated) {
			lineage.evict_from = lineage.evict_from.min(guarded);
			lineage.guarded = None;
		}
		let newest = lineage.next.saturating_sub(1);
		let end = newest.min(lineage.evict_from.saturating_add(steps.into()));
		let mut evicted = 0u32;
		while evicted < limit && lineage.evict_from < end && lineage.kept > keep {
			let sequence = lineage.evict_from;
			if let Some(record) = Self::evictable(request_id, sequence) {
				let is_young = record.recorded_at > old_enough;
				// So are all that follow.
				if is_young && lineage.kept <= T::MaxSnapshots::get() {
					break;
				}
				if is_young && sequence < confirmed_to {
					let left = end.saturating_sub(sequence);
					match Self::worst_young(request_id, lineage, confirmed_to, left) {
						Worst::Found(sequence, record) => {
							Self::evict_one(request_id, sequence, &record, true, lineage);
							evicted = evicted.saturating_add(1);
							break;
						}
						// The next one goes on with the search.
						Worst::NotYet => break,
						Worst::Nothing => (),
					}
				}
				if newest_copy == Some(sequence) {
					lineage.guarded = Some(sequence);
				} else {
					Self::evict_one(request_id, sequence, &record, is_young, lineage);
					evicted = evicted.saturating_add(1);
				}
			}
			lineage.evict_from = sequence.saturating_add(1);
		}
		evicted
	}

	/// The newest snapshot that another node has: that below the end of what is confirmed, or one
	/// shortly below where its owner has deleted that.
	fn newest_copy(request_id: &T::RequestId, confirmed_to: u64) -> Option<u64> {
		let places = confirmed_to.saturating_sub(EVICTION_STEPS.into())..confirmed_to;
		places.rev().find(|sequence| Snapshots::<T>::contains_key(request_id, sequence))
	}

	/// A snapshot that is there, if nothing keeps it from eviction.
	fn evictable(request_id: &T::RequestId, sequence: u64) -> Option<SnapshotOf<T>> {
		let is_held = SnapshotLocks::<T>::contains_key(request_id, sequence);
		Snapshots::<T>::get(request_id, sequence).filter(|_| !is_held)
	}

	/// Look for the oldest snapshot that no other node has confirmed and that may go, within so many
	/// places. It is never the newest.
	fn worst_young(
		request_id: &T::RequestId,
		lineage: &mut LineageOf<T>,
		confirmed_to: u64,
		steps: u64,
	) -> Worst<T> {
		let newest = lineage.next.saturating_sub(1);
		let start = lineage.force_from.max(confirmed_to);
		for sequence in start..start.saturating_add(steps).min(newest) {
			lineage.force_from = sequence.saturating_add(1);
			if let Some(record) = Self::evictable(request_id, sequence) {
				return Worst::Found(sequence, record);
			}
		}
		match lineage.force_from < newest && start < newest {
			true => Worst::NotYet,
			false => Worst::Nothing,
		}
	}

	fn evict_one(
		request_id: &T::RequestId,
		sequence: u64,
		record: &SnapshotOf<T>,
		is_young: bool,
		lineage: &mut LineageOf<T>,
	) {
		Self::remove_snapshot(request_id, sequence, record, lineage);
		Self::deposit_event(Event::SnapshotEvicted {
			request_id: *request_id,
			sequence,
			cid: record.cid,
			is_young,
		});
	}

	/// Evict what is too much of a request, on anybody's wish.
	pub(crate) fn prune_history(request_id: T::RequestId, limit: u32) -> DispatchResult {
		let mut lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		ensure!(!Paused::<T>::get() && !lineage.settings.paused, Error::<T>::BackupPaused);
		let limit = limit.min(PRUNED_MAX);
		let before = (lineage.evict_from, lineage.force_from);
		let evicted = Self::evict(&request_id, &mut lineage, limit, limit);
		// Passing over a gap is progress, too: behind it there may be what is to go.
		let has_passed =
			(lineage.evict_from, lineage.force_from) > before || lineage.force_from > before.1;
		ensure!(evicted > 0 || has_passed, Error::<T>::NothingToPrune);
		Self::update_header(lineage.node, &lineage.owner, |header| {
			header.snapshots = header.snapshots.saturating_sub(evicted);
		});
		Lineages::<T>::insert(request_id, lineage);
		Ok(())
	}

	/// Take away the record of a snapshot and all that points to it.
	pub(crate) fn remove_snapshot(
		request_id: &T::RequestId,
		sequence: u64,
		record: &SnapshotOf<T>,
		lineage: &mut LineageOf<T>,
	) {
		Snapshots::<T>::remove(request_id, sequence);
		SnapshotsByCid::<T>::remove((&lineage.owner, record.cid, request_id));
		SnapshotDeletions::<T>::remove(request_id, sequence);
		lineage.kept = lineage.kept.saturating_sub(1);
		lineage.stored_bytes = lineage.stored_bytes.saturating_sub(record.new_bytes);
	}

	#[expect(clippy::too_many_arguments, reason = "the callback takes what the call takes")]
	pub(crate) fn authorize_snapshot_failed(
		source: TransactionSource,
		node_id: &T::NodeId,
		request_id: &T::RequestId,
		salt: &[u8; 32],
		sequence: &u64,
		slot: &u64,
		reason: &FailureReason,
		at: &BlockRef,
		signature: &SignatureOf<T>,
	) -> TransactionValidityWithRefund {
		Self::ensure_unfiltered(Call::report_snapshot_failed {
			node_id: *node_id,
			request_id: *request_id,
			salt: *salt,
			sequence: *sequence,
			slot: *slot,
			reason: *reason,
			at: *at,
			signature: signature.clone(),
		})?;
		let lineage = Self::reported_lineage(node_id, request_id, *salt)?;
		ensure!(*sequence >= lineage.next, InvalidTransaction::Stale);
		// One report a slot: the next slot is tried whatever happened in those before.
		let current = lineage.slot(Self::now(), Self::frequency_of(&lineage.owner));
		let recorded = lineage.failure.as_ref().is_some_and(|failure| failure.slot >= *slot);
		ensure!(!recorded && *slot >= current, InvalidTransaction::Stale);

		let place = lineage_id(request_id, *salt);
		let report = Report::SnapshotFailed {
			lineage: place.clone(),
			sequence: *sequence,
			slot: *slot,
			reason: *reason,
		};
		let kind = ReportKind::SnapshotFailed;
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		// Who may not back up has no failure to tell, or would fill blocks with them.
		let is_its_time = *sequence == lineage.next
			&& Self::judge_eligibility(request_id) == Eligibility::Eligible { slot: *slot };
		ensure!(is_its_time, InvalidTransaction::Future);
		Self::valid_report(node_id, (kind, place, *slot), longevity)
	}

	/// Keep why a snapshot could not be taken, for reads, and until the next slot.
	pub(crate) fn record_failure(
		node_id: T::NodeId,
		request_id: T::RequestId,
		slot: u64,
		reason: FailureReason,
	) {
		Self::count_report(ReportKind::SnapshotFailed, node_id);
		Lineages::<T>::mutate_extant(request_id, |lineage| {
			lineage.failure = Some(Failure { slot, reason, at: Self::now() });
			Self::deposit_event(Event::SnapshotFailed {
				request_id,
				sequence: lineage.next,
				reason,
			});
		});
	}
}
