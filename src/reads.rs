//! Reads: the same answers for view functions and for the runtime API.

use crate::{
	BackupBytes, ClockFor, Compute, Config, Eligibility, GrantOf, Grants, HoldersOf, KeyPlace,
	LineageOf, LineageView, LineageViewOf, Lineages, LineagesOfAccount, LineagesOfNode, Owed,
	OwedCopy, OwedCopyOf, OwnerKeys, Pallet, Protection, ProtectionOf, RestoreOf, RestoreRequests,
	SnapshotOf, SnapshotPoint, Snapshots, lineage_id,
	pages::{ENTRIES_MAX, Page, Search, page},
};
use alloc::vec::Vec;
use backup_primitives::{Recipient, RecordedRoot};
use frame_support::{storage::IterableStorageDoubleMap, traits::Get};

/// Most copies that one read returns.
const COPIES_PAGE: usize = 64;

/// Requests of a node that one read judges.
const DUE_PAGE: usize = 256;

/// Places that a read goes back for the newest snapshot that is there: those behind it were
/// deleted one by one.
const GAP_MAX: u64 = 64;

/// Roots after which one read ends with the lineage that it has begun.
const ROOTS_PAGE: usize = 256;

/// Lineages that one read looks at to find these.
const LINEAGES_PAGE: usize = 512;

impl<T: Config> Pallet<T> {
	pub(crate) fn view_lineage(request_id: &T::RequestId) -> Option<LineageViewOf<T>> {
		Lineages::<T>::get(request_id).map(|lineage| Self::show_lineage(*request_id, lineage))
	}

	fn show_lineage(request_id: T::RequestId, lineage: LineageOf<T>) -> LineageViewOf<T> {
		let eligibility: Eligibility<ClockFor<T>> = match T::Compute::request(&request_id) {
			Some(request) => Self::judge_lineage(&lineage, &request),
			None => Eligibility::NotRunning,
		};
		LineageView {
			request_id,
			frequency: Self::frequency_of(&lineage.owner),
			keep_last: Self::keep_last_of(&lineage),
			delete_at: Self::deletion_of(&lineage),
			owner: lineage.owner,
			node: lineage.node,
			salt: lineage.salt,
			kept: lineage.kept,
			stored_bytes: lineage.stored_bytes,
			next: lineage.next,
			last_taken_at: lineage.last_taken_at,
			last_failure: lineage.failure.map(|failure| failure.reason),
			eligibility,
		}
	}

	pub(crate) fn view_restores_of(
		requester: &T::AccountId,
		after: Option<u64>,
	) -> Page<u64, RestoreOf<T>> {
		let restores = match after {
			Some(after) => {
				RestoreRequests::<T>::iter_from(RestoreRequests::<T>::hashed_key_for(after))
			}
			None => RestoreRequests::<T>::iter(),
		};
		page(restores, ENTRIES_MAX, |restore| restore.requester == *requester)
	}

	pub(crate) fn view_owner_of_key(
		recipient: Recipient,
		after: Option<KeyPlace<T::AccountId>>,
	) -> Search<KeyPlace<T::AccountId>> {
		let keys = match after {
			Some((owner, version)) => {
				OwnerKeys::<T>::iter_from(OwnerKeys::<T>::hashed_key_for(owner, version))
			}
			None => OwnerKeys::<T>::iter(),
		};
		let keys = keys.map(|(owner, version, key)| ((owner, version), key));
		let (found, next) = page(keys, ENTRIES_MAX, |key| key.recipient == recipient);
		match found.into_iter().next() {
			Some((place, _)) => (Some(place), None),
			None => (None, next),
		}
	}

	pub(crate) fn view_grants(request_id: &T::RequestId) -> Vec<GrantOf<T>> {
		let now = Self::now();
		Grants::<T>::get(request_id).into_iter().filter(|grant| grant.is_valid_at(now)).collect()
	}

	pub(crate) fn view_lineages_of(owner: &T::AccountId) -> Vec<LineageViewOf<T>> {
		LineagesOfAccount::<T>::iter_key_prefix(owner)
			.take(T::MaxLineages::get() as usize)
			.filter_map(|request_id| Self::view_lineage(&request_id))
			.collect()
	}

	pub(crate) fn view_bytes_of(owner: &T::AccountId) -> BackupBytes {
		let mut bytes = BackupBytes::default();
		let requests = LineagesOfAccount::<T>::iter_key_prefix(owner);
		for request_id in requests.take(T::MaxLineages::get() as usize) {
			let Some(lineage) = Lineages::<T>::get(request_id) else { continue };
			let newest = Self::newest_before(&request_id, lineage.next);
			let logical_bytes = newest.map_or(0, |(_, record)| record.logical_bytes);
			bytes.snapshots = bytes.snapshots.saturating_add(lineage.kept.into());
			bytes.stored_bytes = bytes.stored_bytes.saturating_add(lineage.stored_bytes);
			bytes.logical_bytes = bytes.logical_bytes.saturating_add(logical_bytes);
		}
		bytes
	}

	/// The newest snapshot below a place, if it is not far below.
	fn newest_before(request_id: &T::RequestId, end: u64) -> Option<(u64, SnapshotOf<T>)> {
		(end.saturating_sub(GAP_MAX)..end)
			.rev()
			.find_map(|sequence| Some((sequence, Snapshots::<T>::get(request_id, sequence)?)))
	}

	pub(crate) fn view_protection(request_id: &T::RequestId) -> Option<ProtectionOf<T>> {
		let lineage = Lineages::<T>::get(request_id)?;
		let newest_before = |end| {
			let (sequence, record) = Self::newest_before(request_id, end)?;
			Some(SnapshotPoint { sequence, taken_at: record.taken_at })
		};
		let holders = HoldersOf::<T>::get(request_id).into_iter();
		Some(Protection {
			claimed: newest_before(lineage.next),
			confirmed: newest_before(Self::confirmed_to(request_id)),
			due_at: Self::due_at(&lineage),
			holders_wanted: Self::settings().replicas,
			holders: holders.map(|h| (h.clone(), Self::is_silent(&h))).collect(),
		})
	}

	pub(crate) fn view_owed_copies(
		node_id: T::NodeId,
		after: Option<T::RequestId>,
	) -> (Vec<OwedCopyOf<T>>, Option<T::RequestId>) {
		let (page, last) = page_behind::<T, Owed<T>>(node_id, after, COPIES_PAGE);
		let copies = page.into_iter().filter_map(|request_id| {
			let lineage = Lineages::<T>::get(request_id)?;
			Some(OwedCopy {
				request_id,
				salt: lineage.salt,
				owner: lineage.owner,
				host: lineage.node,
				next: lineage.next,
				kept: lineage.kept,
			})
		});
		(copies.collect(), last)
	}

	pub(crate) fn view_due_of_node(
		node_id: T::NodeId,
		after: Option<T::RequestId>,
	) -> (Vec<T::RequestId>, Option<T::RequestId>) {
		let (page, last) = page_behind::<T, LineagesOfNode<T>>(node_id, after, DUE_PAGE);
		let is_due = |request_id: &T::RequestId| {
			matches!(Self::judge_eligibility(request_id), Eligibility::Eligible { .. })
		};
		(page.into_iter().filter(is_due).collect(), last)
	}

	/// The roots that a node sealed, or holds copies of, and has to keep, from behind one request
	/// on; and the request to go on behind, if there are more.
	///
	/// Looks at the machines of all nodes: one that has moved away has left its snapshots. That
	/// takes long on a large chain, and is asked only by an agent that lost its pins.
	pub fn roots_of_node(
		node_id: T::NodeId,
		after: Option<T::RequestId>,
	) -> (Vec<RecordedRoot>, Option<T::RequestId>) {
		Self::page_of_roots(node_id, after, ROOTS_PAGE, LINEAGES_PAGE)
	}

	/// The same, with a page that ends with the lineage in which it reaches `roots_max`, or after
	/// so many lineages.
	pub(crate) fn page_of_roots(
		node_id: T::NodeId,
		after: Option<T::RequestId>,
		roots_max: usize,
		lineages_max: usize,
	) -> (Vec<RecordedRoot>, Option<T::RequestId>) {
		let lineages = match after {
			Some(after) => Lineages::<T>::iter_from(Lineages::<T>::hashed_key_for(after)),
			None => Lineages::<T>::iter(),
		};
		let mut roots = Vec::new();
		for (count, (request_id, lineage)) in (1..).zip(lineages) {
			let id = lineage_id(&request_id, lineage.salt);
			let is_holder = Owed::<T>::contains_key(node_id, request_id);
			let mut own: Vec<_> = Snapshots::<T>::iter_prefix(request_id)
				.filter(|(_, record)| record.node == node_id || is_holder)
				.map(|(sequence, record)| (sequence, record.cid))
				.collect();
			own.sort_unstable_by_key(|(sequence, _)| *sequence);
			roots.extend(own.into_iter().map(|(sequence, cid)| RecordedRoot {
				lineage: id.clone(),
				sequence,
				cid,
			}));
			if roots.len() >= roots_max || count >= lineages_max {
				return (roots, Some(request_id));
			}
		}
		(roots, None)
	}
}

/// So many requests of a node in a map, from behind one on, and the one to go on behind if there may
/// be more.
fn page_behind<T, Map>(
	node: T::NodeId,
	after: Option<T::RequestId>,
	limit: usize,
) -> (Vec<T::RequestId>, Option<T::RequestId>)
where
	T: Config,
	Map: IterableStorageDoubleMap<T::NodeId, T::RequestId, ()>,
{
	let requests = match after {
		Some(after) => Map::iter_key_prefix_from(node, Map::hashed_key_for(node, after)),
		None => Map::iter_key_prefix(node),
	};
	let page: Vec<T::RequestId> = requests.take(limit).collect();
	let last = page.last().copied().filter(|_| page.len() == limit);
	(page, last)
}
