//! Copies on other nodes: a backup on the machine that it protects is none.
//!
//! Governance admits storage nodes. When a lineage begins, a few of them are chosen to hold copies
//! of its snapshots; they stay for as long as they are heard of, since an incremental snapshot
//! needs the blocks of those before it. Choosing costs a constant: the dense list of storage nodes
//! is probed from a place that a hash names.
//!
//! A holder says once a period how much it has, for up to 64 lineages in one feeless report. That
//! is its sign of life, too. Silence is computed on read; a silent holder is replaced in the idle
//! time of blocks ([`crate::take_over`]), or when somebody asks, within a quota for the chain.

use crate::{
	Call, ClockFor, Compute, Config, Error, Event, Holder, HoldersOf, Invalidity, LineageOf,
	Lineages, Owed, OwedCount, Pallet, Paused, Replacements, ResumedAt, SignatureOf, Snapshots,
	StorageNodeCount, StorageNodePlaces, StorageNodes, WeightInfo,
	authorize::{ReportKind, hash_bytes},
	lineages::decrease,
	opaque,
};
use alloc::vec::Vec;
use backup_primitives::{
	BlockRef,
	job::{Copied, CopyHolder, HOLDERS_MAX},
	report::{Report, Watermark, Watermarks},
};
use codec::Encode;
use frame_support::{
	BoundedVec, ensure,
	pallet_prelude::{InvalidTransaction, TransactionSource, TransactionValidityWithRefund},
	traits::Get,
	weights::Weight,
};
use sp_runtime::{DispatchResult, Saturating, traits::UniqueSaturatedInto};

/// Places of the list of storage nodes that are looked at for one copy. Eight in a row: where there
/// are no more than eight nodes, one that may hold a copy is always found.
const PROBES_MAX: u32 = 8;

/// What each read of such a place adds to a proof at most, in bytes.
const PROOF_BYTES_PER_READ: u64 = 3_600;

impl<T: Config> Pallet<T> {
	/// Let a node hold copies.
	pub(crate) fn admit_node(node: T::NodeId) -> DispatchResult {
		ensure!(T::Compute::node(&node).is_some(), Error::<T>::NodeNotFound);
		ensure!(!StorageNodePlaces::<T>::contains_key(node), Error::<T>::StorageNodeAdmitted);
		let place = StorageNodeCount::<T>::get();
		StorageNodes::<T>::insert(place, node);
		StorageNodePlaces::<T>::insert(node, place);
		StorageNodeCount::<T>::put(place.saturating_add(1));
		Self::deposit_event(Event::StorageNodeAdmitted { node_id: node });
		Ok(())
	}

	/// Let a node hold no new copies. The last of the list takes its place.
	pub(crate) fn dismiss_node(node: T::NodeId) -> DispatchResult {
		let place = StorageNodePlaces::<T>::take(node).ok_or(Error::<T>::NotAStorageNode)?;
		let last = StorageNodeCount::<T>::get().saturating_sub(1);
		let moved = StorageNodes::<T>::take(last).filter(|_| place != last);
		if let Some(moved) = moved {
			StorageNodes::<T>::insert(place, moved);
			StorageNodePlaces::<T>::insert(moved, place);
		}
		StorageNodeCount::<T>::put(last);
		Self::deposit_event(Event::StorageNodeDismissed { node_id: node });
		Ok(())
	}

	/// Give a lineage the holders that it lacks, as far as there are nodes for it.
	pub(crate) fn choose_holders(request_id: &T::RequestId, lineage: &LineageOf<T>) {
		let wanted = Self::settings().replicas as usize;
		let mut holders = HoldersOf::<T>::get(request_id);
		while holders.len() < wanted {
			let slot = holders.len() as u32;
			let Some(node) = Self::candidate(request_id, lineage, &holders, slot) else { break };
			if holders.try_push(Self::new_holder(node)).is_err() {
				break;
			}
			Self::owe(node, request_id);
		}
		Self::put_holders(request_id, holders);
	}

	fn new_holder(node: T::NodeId) -> Holder<T::NodeId, ClockFor<T>> {
		Holder { node, since: Self::now(), from: 0, to: 0, confirmed_at: None }
	}

	fn put_holders(request_id: &T::RequestId, holders: crate::HolderList<T>) {
		match holders.is_empty() {
			true => HoldersOf::<T>::remove(request_id),
			false => HoldersOf::<T>::insert(request_id, holders),
		}
	}

	fn owe(node: T::NodeId, request_id: &T::RequestId) {
		Owed::<T>::insert(node, request_id, ());
		OwedCount::<T>::mutate(node, |count| count.saturating_inc());
		Self::deposit_event(Event::HolderChosen { node_id: node, request_id: *request_id });
	}

	fn owe_no_more(node: T::NodeId, request_id: &T::RequestId) {
		Owed::<T>::remove(node, request_id);
		OwedCount::<T>::mutate_exists(node, decrease);
	}

	/// A node that may hold a copy beside these holders: registered, and neither run by who runs
	/// the host nor by who runs one of them.
	fn candidate(
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
		holders: &crate::HolderList<T>,
		slot: u32,
	) -> Option<T::NodeId> {
		let count = StorageNodeCount::<T>::get();
		let taken: Vec<T::NodeId> =
			holders.iter().map(|h| h.node).chain(core::iter::once(lineage.node)).collect();
		let operators: Vec<T::AccountId> =
			taken.iter().filter_map(T::Compute::node).map(|info| info.operator).collect();
		let parent = hash_bytes::<T>(frame_system::Pallet::<T>::parent_hash());
		let seed = (lineage.salt, parent, request_id, slot);
		let start = u128::from_le_bytes(seed.using_encoded(sp_io::hashing::blake2_128));
		let places = (0..PROBES_MAX.min(count)).map(|probe| {
			let place = start.wrapping_add(probe.into()).checked_rem(count.into()).unwrap_or(0);
			// Less than `count`, which has 32 bits.
			place as u32
		});
		places.filter_map(StorageNodes::<T>::get).find(|node| {
			!taken.contains(node)
				&& T::Compute::node(node).is_some_and(|info| !operators.contains(&info.operator))
		})
	}

	/// Whether a holder was not heard of for longer than it may. While everything was paused nobody
	/// could be.
	pub(crate) fn is_silent(holder: &Holder<T::NodeId, ClockFor<T>>) -> bool {
		let heard_at = holder.confirmed_at.unwrap_or(holder.since).max(ResumedAt::<T>::get());
		let silent_from = heard_at.saturating_add(Self::settings().holder_silence);
		silent_from < Self::now() && !Paused::<T>::get()
	}

	/// Whether a holder is gone for good: its node is not registered any more, or who runs it hosts
	/// the machine now.
	pub(crate) fn is_gone(holder: &Holder<T::NodeId, ClockFor<T>>, lineage: &LineageOf<T>) -> bool {
		let host = T::Compute::node(&lineage.node).map(|info| info.operator);
		holder.node == lineage.node
			|| T::Compute::node(&holder.node).is_none_or(|info| Some(info.operator) == host)
	}

	/// Replace holders of a request that are gone, dismissed or silent, and add those that it
	/// lacks.
	///
	/// New ones come first. One that is silent or dismissed goes when there are enough others and
	/// one of them has as much as it has: until then its copy may be the only one.
	pub(crate) fn replace_missing(request_id: T::RequestId) -> DispatchResult {
		ensure!(!Paused::<T>::get(), Error::<T>::BackupPaused);
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		ensure!(Self::deletion_of(&lineage).is_none(), Error::<T>::DeletionPending);
		let gone = Self::drop_gone(&request_id, &lineage);
		let before = HoldersOf::<T>::get(request_id);
		let mut holders = before.clone();
		let wanted = Self::settings().replicas as usize;
		while Self::good_ones(&holders).count() < wanted {
			let slot = holders.len() as u32;
			let Some(node) = Self::candidate(&request_id, &lineage, &holders, slot) else { break };
			if holders.is_full() {
				let Some(least) = Self::least_of_the_bad(&holders) else { break };
				holders.remove(least);
			}
			let is_lacking = holders.iter().all(Self::is_good);
			if !is_lacking {
				Self::count_replacement()?;
			}
			if holders.try_push(Self::new_holder(node)).is_err() {
				break;
			}
		}
		if Self::good_ones(&holders).count() >= wanted {
			let best = Self::good_ones(&holders).filter(|h| h.to > h.from).map(|h| h.to).max();
			holders
				.retain(|h| Self::is_good(h) || h.to > h.from && best.is_none_or(|to| to < h.to));
		}
		ensure!(gone > 0 || holders != before, Error::<T>::NothingToReplace);
		for holder in before.iter().filter(|old| holders.iter().all(|h| h.node != old.node)) {
			Self::owe_no_more(holder.node, &request_id);
			Self::deposit_event(Event::HolderDropped { node_id: holder.node, request_id });
		}
		for holder in holders.iter().filter(|new| before.iter().all(|h| h.node != new.node)) {
			Self::owe(holder.node, &request_id);
		}
		Self::put_holders(&request_id, holders);
		Ok(())
	}

	/// Whether a holder is admitted and heard of.
	pub(crate) fn is_good(holder: &Holder<T::NodeId, ClockFor<T>>) -> bool {
		StorageNodePlaces::<T>::contains_key(holder.node) && !Self::is_silent(holder)
	}

	fn good_ones(
		holders: &crate::HolderList<T>,
	) -> impl Iterator<Item = &Holder<T::NodeId, ClockFor<T>>> {
		holders.iter().filter(|holder| Self::is_good(holder))
	}

	/// The place of that among several bad holders which has the least. The last of them stays if it
	/// has anything.
	fn least_of_the_bad(holders: &crate::HolderList<T>) -> Option<usize> {
		let bad = holders.iter().enumerate().filter(|(_, holder)| !Self::is_good(holder));
		let is_last = bad.clone().count() == 1;
		let (place, least) = bad.min_by_key(|(_, holder)| holder.to)?;
		(!is_last || least.to == least.from).then_some(place)
	}

	/// Strike holders that are gone off the list, and say how many.
	pub(crate) fn drop_gone(request_id: &T::RequestId, lineage: &LineageOf<T>) -> u32 {
		let mut holders = HoldersOf::<T>::get(request_id);
		let gone: Vec<T::NodeId> =
			holders.iter().filter(|h| Self::is_gone(h, lineage)).map(|h| h.node).collect();
		if gone.is_empty() {
			return 0;
		}
		holders.retain(|holder| !gone.contains(&holder.node));
		for node in &gone {
			Self::owe_no_more(*node, request_id);
			Self::deposit_event(Event::HolderDropped { node_id: *node, request_id: *request_id });
		}
		Self::put_holders(request_id, holders);
		gone.len() as u32
	}

	/// Strike one holder off the list, if it is there.
	pub(crate) fn drop_holder(request_id: &T::RequestId, node: T::NodeId) {
		let mut holders = HoldersOf::<T>::get(request_id);
		let Some(slot) = holders.iter().position(|holder| holder.node == node) else { return };
		holders.remove(slot);
		Self::owe_no_more(node, request_id);
		Self::put_holders(request_id, holders);
	}

	/// Strike all holders off the list of a lineage that goes.
	pub(crate) fn drop_holders(request_id: &T::RequestId) {
		for holder in HoldersOf::<T>::take(request_id) {
			Self::owe_no_more(holder.node, request_id);
		}
	}

	/// Count a replacement. When many holders fall silent at once it is the chain that could not be
	/// reached, and all copies must not move for that.
	fn count_replacement() -> DispatchResult {
		let window = Self::quota_window();
		let counted = Replacements::<T>::get().filter(|(begun, _)| *begun == window);
		let count = counted.map_or(0, |(_, count)| count);
		ensure!(count < T::MaxReplacements::get(), Error::<T>::TooManyReplacements);
		Replacements::<T>::put((window, count.saturating_add(1)));
		Ok(())
	}

	/// The sequence behind the newest snapshot that a holder, who is not silent, says to have; zero
	/// if there is none.
	pub(crate) fn confirmed_to(request_id: &T::RequestId) -> u64 {
		Self::held_to(request_id, |holder| !Self::is_silent(holder))
	}

	/// The same for silent holders too. Their copies are not counted on, but not given up either.
	pub(crate) fn ever_confirmed_to(request_id: &T::RequestId) -> u64 {
		Self::held_to(request_id, |_| true)
	}

	fn held_to(
		request_id: &T::RequestId,
		counts: impl Fn(&Holder<T::NodeId, ClockFor<T>>) -> bool,
	) -> u64 {
		let holders = HoldersOf::<T>::get(request_id);
		let held = holders.iter().filter(|h| h.to > h.from && counts(h));
		held.map(|holder| holder.to).max().unwrap_or(0)
	}

	/// What others say to have of a lineage, for its host. Nothing where no copies are wanted.
	///
	/// They are late when the first snapshot that none of them confirms has been recorded for a
	/// cadence and a holder's period: so long a copy may take and nobody speak of it. Where that one
	/// is gone already, the time is counted from the beginning of the lineage.
	pub(crate) fn copied(request_id: &T::RequestId, lineage: &LineageOf<T>) -> Option<Copied> {
		let settings = Self::settings();
		if settings.replicas == 0 {
			return None;
		}
		let first_missing = Self::confirmed_to(request_id);
		let is_lacking = lineage.kept > 0 && first_missing < lineage.next;
		let is_late = is_lacking && !Paused::<T>::get() && {
			let record = Snapshots::<T>::get(request_id, first_missing);
			let since = record.map_or(lineage.created_at, |record| record.recorded_at);
			let lag = Self::frequency_of(&lineage.owner).saturating_add(settings.holder_period);
			since.max(ResumedAt::<T>::get()).saturating_add(lag) < Self::now()
		};
		let holders = HoldersOf::<T>::get(request_id);
		let told = holders.iter().take(HOLDERS_MAX as usize).map(|holder| CopyHolder {
			node: opaque(&holder.node),
			confirmed: holder.to.checked_sub(1).filter(|_| holder.to > holder.from),
			is_silent: Self::is_silent(holder),
		});
		Some(Copied {
			confirmed: first_missing.checked_sub(1),
			is_late,
			holders: BoundedVec::truncate_from(told.collect()),
		})
	}

	pub(crate) fn authorize_held(
		source: TransactionSource,
		node_id: &T::NodeId,
		marks: &Watermarks,
		at: &BlockRef,
		signature: &SignatureOf<T>,
	) -> TransactionValidityWithRefund {
		Self::ensure_unfiltered(Call::report_held {
			node_id: *node_id,
			marks: marks.clone(),
			at: *at,
			signature: signature.clone(),
		})?;
		let first = marks.first().ok_or(Invalidity::NothingHeld)?.lineage.clone();
		let report = Report::Held { marks: marks.clone() };
		let kind = ReportKind::Held(marks.len() as u32);
		let longevity = Self::ensure_reportable(kind, source, node_id, at, &report, signature)?;
		let mut said_at = None;
		for mark in marks {
			said_at = said_at.max(Self::judge_mark(node_id, mark)?);
		}
		ensure!(has_no_double(marks), Invalidity::NothingHeld);
		// A holder speaks of a lineage once a period, so that is a place of its own.
		let place: u64 = said_at.map_or(0, UniqueSaturatedInto::unique_saturated_into);
		Self::valid_report(node_id, (kind, first, place), longevity)
	}

	/// Check what a holder says of one copy, and return when it last spoke of it.
	pub(crate) fn judge_mark(
		node_id: &T::NodeId,
		mark: &Watermark,
	) -> Result<Option<ClockFor<T>>, InvalidTransaction> {
		let request_id: T::RequestId =
			mark.lineage.request.decode_as().ok_or(Invalidity::Unknown)?;
		let lineage = Self::lineage_of_salt(&request_id, mark.lineage.salt)?;
		let holders = HoldersOf::<T>::get(request_id);
		let holder = holders.iter().find(|holder| holder.node == *node_id);
		let holder = holder.ok_or(Invalidity::WrongNode)?;
		ensure!(mark.from <= mark.to, Invalidity::NothingHeld);
		// A peer that lags has not seen the newest snapshot yet.
		ensure!(mark.to <= lineage.next, InvalidTransaction::Future);
		// A range ends with a snapshot, or a gap would pass for the newest copy.
		let is_empty = mark.from == mark.to;
		let last = mark.to.saturating_sub(1);
		let ends_well = is_empty || Snapshots::<T>::contains_key(request_id, last);
		ensure!(ends_well, Invalidity::NothingHeld);
		// Bad news need not wait.
		let is_news = mark.to < holder.to || Self::may_speak(holder);
		ensure!(is_news, InvalidTransaction::Stale);
		Ok(holder.confirmed_at)
	}

	/// Whether it is time for a holder to say what it has.
	pub(crate) fn may_speak(holder: &Holder<T::NodeId, ClockFor<T>>) -> bool {
		let period = Self::settings().holder_period;
		holder.confirmed_at.is_none_or(|at| at.saturating_add(period) <= Self::now())
	}

	/// Keep what a holder has.
	pub(crate) fn record_held(node_id: T::NodeId, marks: Watermarks) {
		let count = marks.len() as u32;
		Self::count_report(ReportKind::Held(count), node_id);
		for mark in marks {
			let Some(request_id) = mark.lineage.request.decode_as::<T::RequestId>() else {
				frame_support::defensive!("authorize has decoded it");
				continue;
			};
			HoldersOf::<T>::mutate(request_id, |holders| {
				if let Some(holder) = holders.iter_mut().find(|holder| holder.node == node_id) {
					holder.from = mark.from;
					holder.to = mark.to;
					holder.confirmed_at = Some(Self::now());
				}
			});
		}
		Self::deposit_event(Event::CopiesConfirmed { node_id, count });
	}

	/// What a call costs that may choose as many holders as there may be.
	pub(crate) fn weight_of_choice() -> Weight {
		T::WeightInfo::choose_holders(T::MaxHolders::get()).saturating_add(Self::weight_of_probes())
	}

	/// What it costs to find each of as many holders as there may be at the last place that is
	/// looked at. Benchmarks find them at the first.
	pub(crate) fn weight_of_probes() -> Weight {
		// A place of the list, and the node that stands there.
		let reads = u64::from(PROBES_MAX - 1) * 2 * u64::from(T::MaxHolders::get());
		let proof = Weight::from_parts(0, reads.saturating_mul(PROOF_BYTES_PER_READ));
		T::DbWeight::get().reads(reads).saturating_add(proof)
	}
}

/// Whether no lineage stands twice among the marks of a report: the later would overwrite the
/// earlier.
fn has_no_double(marks: &Watermarks) -> bool {
	let mut seen: Vec<_> = marks.iter().map(|mark| &mark.lineage).collect();
	seen.sort_unstable();
	seen.windows(2).all(|pair| pair[0] != pair[1])
}
