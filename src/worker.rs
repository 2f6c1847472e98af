//! The offchain worker: compares what should exist with what the agent achieved.
//!
//! It runs at every best block on every node whose keystore holds a registered authority
//! key, and keeps nothing between runs: what should exist is read from the chain, what is
//! done is known to the agent. Each run
//!
//! 1. reads one page of the node's lineages, and the queues of restores and deletions,
//! 2. sends it to the agent in one bounded call, see [`agent`],
//! 3. signs and submits a report for each result that the chain still waits for.
//!
//! It never waits for a job, never trusts that the pool took a report, and never destroys:
//! it runs on best blocks and cannot see finality, which the agent checks for itself.

mod agent;

use crate::{
	Call, Compute, Config, Eligibility, LOG_TARGET, LineageCountOfNode, LineageOf, Lineages,
	LineagesOfNode, Owed, OwedCount, Pallet, Paused, RequestInfoOf, RestoreOf, RestoreRequests,
	RestoreState, RestoresOfNode, SnapshotClaim, authorize::hash_bytes, deletion::Confirmation,
	lineage_id, opaque,
};
use agent::Exchange;
use alloc::{
	collections::{BTreeMap, BTreeSet},
	vec::Vec,
};
use backup_primitives::{
	BlockRef, LineageId, OpaqueId,
	job::{
		Achieved, CopyOrder, CopyResult, DeletionOrder, DeletionResult, Desired, LINEAGES_MAX,
		LineagePlace, ORDERS_MAX, Orders, RestoreMode, RestoreOrder, RestorePlace, RestoreResult,
		SnapshotOrder, SnapshotResult,
	},
	report::{Report, TakenSnapshot, WATERMARKS_MAX, Watermark, Watermarks, signing_payload},
};
use frame_support::storage::{
	IterableStorageDoubleMap, generator::StorageDoubleMap as StorageDoubleMapKeys,
};
use frame_system::{offchain::SubmitTransaction, pallet_prelude::BlockNumberFor};
use sp_application_crypto::RuntimeAppPublic;
use sp_runtime::traits::{SaturatedConversion, Saturating, UniqueSaturatedInto};

/// Most authority keys of a keystore that one run serves.
const KEYS_MAX: usize = 4;

/// Most entries of a queue that one run looks at.
const QUEUE_SCAN_MAX: usize = 256;

/// Most reports of each kind that one run submits. One kind that is refused again and again does
/// not keep the others.
const REPORTS_MAX: usize = 32;

/// After how many more times that a result is handed out it is reported again. A pool bans a
/// report that it refused, and peers are not told of it twice; each new one names another block
/// and so is another transaction.
const REPORT_EVERY: u32 = 4;

/// How far behind the worker's block the one is that reports name, so that peers which have not
/// seen the newest blocks yet know it.
const ANCHOR_DEPTH: u32 = 2;

/// One key of this node's keystore, and the node that it speaks for.
pub(crate) struct Speaker<T: Config> {
	node: T::NodeId,
	authority: T::AuthorityId,
	genesis: [u8; 32],
	/// The block that the worker runs on.
	at: BlockRef,
	/// The block that reports name.
	anchor: BlockRef,
}

impl<T: Config> Speaker<T> {
	/// The nodes that registered the keys of this keystore, ordered by key: a keystore has no order
	/// of its own.
	pub(crate) fn all() -> impl Iterator<Item = Self> {
		let mut keys = T::AuthorityId::all();
		keys.sort_by_cached_key(codec::Encode::encode);
		keys.into_iter().take(KEYS_MAX).filter_map(Self::of)
	}

	/// The node that registered a key, if any, as of the block that the worker runs on.
	pub(crate) fn of(authority: T::AuthorityId) -> Option<Self> {
		let node = T::Compute::node_of(&authority)?;
		let number = frame_system::Pallet::<T>::block_number();
		let at = block_ref::<T>(number);
		let anchor = block_ref::<T>(number.saturating_sub(ANCHOR_DEPTH.into()));
		Some(Self { node, authority, genesis: Pallet::<T>::genesis(), at, anchor })
	}
}

impl<T: Config> Pallet<T> {
	/// One run of the worker.
	pub(crate) fn reconcile() {
		let Some(exchange) = Exchange::open() else {
			log::trace!(target: LOG_TARGET, "no agent is configured on this node");
			return;
		};
		for speaker in Speaker::<T>::all() {
			Self::reconcile_node(&exchange, &speaker);
		}
	}

	fn reconcile_node(exchange: &Exchange, speaker: &Speaker<T>) {
		let began = sp_io::offchain::timestamp();
		let desired = Self::desired(speaker);
		let answer = exchange.reconcile(&desired);
		let took = sp_io::offchain::timestamp().diff(&began);
		let (number, count) = (speaker.at.number, desired.lineages.len());
		log::debug!(
			target: LOG_TARGET,
			"block {number}: reconciled {count} lineages in {} ms", took.millis()
		);
		match answer {
			Ok(achieved) => Self::report(speaker, &desired, achieved),
			// An agent that restarts is no alarm: one line in 32 blocks, the rest is for
			// those who look.
			Err(error) if speaker.at.number.is_multiple_of(32) => {
				log::warn!(target: LOG_TARGET, "the agent of node {:?} is of no use: {error}", speaker.node);
			}
			Err(error) => log::debug!(target: LOG_TARGET, "the agent did not answer: {error}"),
		}
	}

	/// What should exist on a node, as of this block.
	pub(crate) fn desired(speaker: &Speaker<T>) -> Desired {
		let is_paused = Paused::<T>::get();
		let page = Self::page_of_lineages(&speaker.node);
		let mut desired = Desired {
			genesis: speaker.genesis,
			node: opaque(&speaker.node),
			at: speaker.at,
			now: Self::now().unique_saturated_into(),
			snapshots: Orders::new(),
			restores: match is_paused {
				true => Orders::new(),
				false => Self::restore_orders(&speaker.node),
			},
			deletions: Orders::new(),
			copies: Orders::new(),
			lineages: Default::default(),
		};
		for (request_id, lineage) in page {
			let id = lineage_id(&request_id, lineage.salt);
			let place = LineagePlace {
				lineage: id.clone(),
				next: lineage.next,
				cadence: Self::cadence_of(&request_id, &lineage),
				copied: Self::copied(&request_id, &lineage),
			};
			// A list that is full is served again at the next block.
			let _ = desired.lineages.try_push(place);
			if is_paused {
				continue;
			}
			if Self::deletion_is_due(&lineage) {
				let order = DeletionOrder { lineage: id, until: lineage.next };
				let _ = desired.deletions.try_push(order);
			} else if let Some(order) = Self::snapshot_order(&request_id, &lineage) {
				let _ = desired.snapshots.try_push(order);
			}
		}
		if !is_paused {
			Self::add_copies(&speaker.node, &mut desired);
		}
		desired
	}

	fn page_of_lineages(node: &T::NodeId) -> Vec<(T::RequestId, LineageOf<T>)> {
		let count = LineageCountOfNode::<T>::get(node);
		page_of::<T, LineagesOfNode<T>>(node, count, LINEAGES_MAX)
			.filter_map(|request_id| Some((request_id, Lineages::<T>::get(request_id)?)))
			.collect()
	}

	/// Order one page of the copies that a node has to hold, and the deletion of those that are to
	/// go.
	fn add_copies(node: &T::NodeId, desired: &mut Desired) {
		let count = OwedCount::<T>::get(node);
		for request_id in page_of::<T, Owed<T>>(node, count, ORDERS_MAX) {
			let Some(lineage) = Lineages::<T>::get(request_id) else { continue };
			let id = lineage_id(&request_id, lineage.salt);
			if Self::deletion_is_due(&lineage) {
				let order = DeletionOrder { lineage: id, until: lineage.next };
				let _ = desired.deletions.try_push(order);
				continue;
			}
			let _ = desired.copies.try_push(CopyOrder {
				lineage: id,
				owner: opaque(&lineage.owner),
				next: lineage.next,
				sources: Self::sources_for(node, &request_id, &lineage),
			});
		}
	}

	fn snapshot_order(request_id: &T::RequestId, lineage: &LineageOf<T>) -> Option<SnapshotOrder> {
		// Most lineages of most pages end here, before anything else is read.
		if lineage.settings.paused || Self::now() < Self::due_at(lineage) {
			return None;
		}
		let request: RequestInfoOf<T> = T::Compute::request(request_id)?;
		let Eligibility::Eligible { slot } = Self::judge_lineage(lineage, &request) else {
			return None;
		};
		let owner_key_version = Self::owner_key_version_of(&lineage.owner)?;
		let recipients = Self::owner_recipients(&lineage.owner, owner_key_version);
		let parent = lineage
			.next
			.checked_sub(1)
			.and_then(|sequence| crate::Snapshots::<T>::get(request_id, sequence))
			.map(|record| record.cid);
		Some(SnapshotOrder {
			lineage: lineage_id(request_id, lineage.salt),
			sequence: lineage.next,
			slot,
			owner: opaque(&lineage.owner),
			vm: request.vm,
			vm_tag: request.vm_tag,
			owner_recipients: recipients.try_into().ok()?,
			owner_key_version,
			node_recipient: T::Compute::node(&lineage.node)?.recipient,
			capacity_bytes: request.capacity_bytes,
			parent,
			oldest_taken_at: Self::oldest_taken_at_now(lineage),
		})
	}

	fn restore_orders(node: &T::NodeId) -> Orders<RestoreOrder> {
		let mut orders = Orders::new();
		for (restore_id, restore) in Self::open_restores(node) {
			let Some(place) = Self::restore_place(&restore) else { continue };
			let order = RestoreOrder {
				restore: restore_id,
				lineage: lineage_id(&restore.request_id, restore.salt),
				sequence: restore.sequence,
				cid: restore.cid,
				owner: opaque(&restore.owner),
				place,
				envelope: restore.envelope,
			};
			if orders.try_push(order).is_err() {
				break;
			}
		}
		orders
	}

	fn restore_place(restore: &RestoreOf<T>) -> Option<RestorePlace> {
		match restore.mode {
			RestoreMode::Aside => Some(RestorePlace::Aside),
			RestoreMode::Replace => {
				let target = restore.target.unwrap_or(restore.request_id);
				let request: RequestInfoOf<T> = T::Compute::request(&target)?;
				Some(RestorePlace::Replace { vm: request.vm, vm_tag: request.vm_tag })
			}
		}
	}

	/// Restores that wait, of a page of the node's queue: the oldest of each account before the
	/// second of any. Pages begin at another place of the hashed order in every block, so that
	/// however many are over, each of the others gets its turn.
	fn open_restores(node: &T::NodeId) -> Vec<(u64, RestoreOf<T>)> {
		const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
		let number: u64 = frame_system::Pallet::<T>::block_number().saturated_into();
		let start = number.wrapping_mul(GOLDEN_RATIO);
		let mut from = RestoresOfNode::<T>::storage_double_map_final_key1(node);
		from.extend_from_slice(&start.to_be_bytes());
		let page: BTreeSet<u64> = RestoresOfNode::<T>::iter_key_prefix_from(node, from)
			.chain(RestoresOfNode::<T>::iter_key_prefix(node))
			.take(QUEUE_SCAN_MAX)
			.collect();
		let mut turns = BTreeMap::new();
		let mut open: Vec<_> = page
			.into_iter()
			.filter_map(|id| Some((id, RestoreRequests::<T>::get(id)?)))
			.filter(|(_, restore)| Self::restore_is_open(restore))
			.map(|(id, restore)| {
				let turn = turns.entry(restore.requester.clone()).or_insert(0u32);
				*turn = turn.saturating_add(1);
				(*turn, id, restore)
			})
			.collect();
		open.sort_by_key(|(turn, id, _)| (*turn, *id));
		open.into_iter().map(|(_, id, restore)| (id, restore)).collect()
	}

	/// Report the results that the chain still waits for.
	fn report(speaker: &Speaker<T>, desired: &Desired, achieved: Achieved) {
		let snapshots = achieved
			.snapshots
			.into_iter()
			.filter(|result| is_reported_now(result.handed_out))
			.filter_map(|result| Self::snapshot_call(speaker, desired, result));
		let restores = achieved
			.restores
			.into_iter()
			.filter(|result| is_reported_now(result.handed_out))
			.filter_map(|result| Self::restore_call(speaker, result));
		let deletions = achieved
			.deletions
			.into_iter()
			.filter(|result| is_reported_now(result.handed_out))
			.filter_map(|result| Self::deletion_call(speaker, result));
		let snapshots = snapshots.take(REPORTS_MAX);
		let restores = restores.take(REPORTS_MAX);
		let deletions = deletions.take(REPORTS_MAX);
		let copies = Self::held_call(speaker, &achieved.copies);
		for call in snapshots.chain(restores).chain(deletions).chain(copies) {
			log::debug!(target: LOG_TARGET, "reporting {call:?}");
			let transaction = T::create_authorized_transaction(call.into());
			// Whether the pool took it shows on chain, and nowhere else.
			if SubmitTransaction::<T, Call<T>>::submit_transaction(transaction).is_err() {
				log::debug!(target: LOG_TARGET, "the pool refused a report");
			}
		}
	}

	fn snapshot_call(
		speaker: &Speaker<T>,
		desired: &Desired,
		result: SnapshotResult,
	) -> Option<Call<T>> {
		let request_id = Self::own_request(speaker, &result.lineage)?;
		let lineage = Lineages::<T>::get(request_id)?;
		let is_wanted = lineage.salt == result.lineage.salt && lineage.next == result.sequence;
		if !is_wanted {
			return None;
		}
		match result.outcome {
			Ok(snapshot) => Self::add_snapshot_call(speaker, request_id, &lineage, snapshot),
			Err(reason) => {
				let order = desired.snapshots.iter().find(|o| o.lineage == result.lineage)?;
				if order.slot != result.slot {
					return None;
				}
				let report = Report::SnapshotFailed {
					lineage: result.lineage,
					sequence: result.sequence,
					slot: result.slot,
					reason,
				};
				Some(Call::report_snapshot_failed {
					node_id: speaker.node,
					request_id,
					salt: lineage.salt,
					sequence: result.sequence,
					slot: result.slot,
					reason,
					at: speaker.anchor,
					signature: Self::sign(speaker, &report)?,
				})
			}
		}
	}

	fn add_snapshot_call(
		speaker: &Speaker<T>,
		request_id: T::RequestId,
		lineage: &LineageOf<T>,
		snapshot: TakenSnapshot,
	) -> Option<Call<T>> {
		let claim = SnapshotClaim {
			salt: lineage.salt,
			sequence: lineage.next,
			taken_at: snapshot.taken_at,
			logical_bytes: snapshot.logical_bytes,
			new_bytes: snapshot.new_bytes,
			consistency: snapshot.consistency,
			owner_key_version: snapshot.owner_key_version,
		};
		let report = Report::Snapshot {
			lineage: lineage_id(&request_id, lineage.salt),
			sequence: lineage.next,
			owner: opaque(&lineage.owner),
			description: None,
			snapshot: snapshot.clone(),
		};
		Some(Call::add_snapshot {
			node_id: speaker.node,
			snapshot_cid: snapshot.cid,
			description: None,
			request_id,
			account_id: lineage.owner.clone(),
			claim,
			at: speaker.anchor,
			signature: Self::sign(speaker, &report)?,
		})
	}

	fn restore_call(speaker: &Speaker<T>, result: RestoreResult) -> Option<Call<T>> {
		let restore = RestoreRequests::<T>::get(result.restore)?;
		let lineage = lineage_id(&restore.request_id, restore.salt);
		let is_wanted = restore.node == speaker.node
			&& restore.state == RestoreState::Requested
			&& lineage == result.lineage;
		if !is_wanted {
			return None;
		}
		let failure = result.failure;
		let wish = restore.digest();
		let report = Report::Restore { restore: result.restore, lineage, wish, failure };
		Some(Call::report_restore {
			node_id: speaker.node,
			restore_id: result.restore,
			failure,
			at: speaker.anchor,
			signature: Self::sign(speaker, &report)?,
		})
	}

	fn deletion_call(speaker: &Speaker<T>, result: DeletionResult) -> Option<Call<T>> {
		let request_id: T::RequestId = result.lineage.request.decode_as()?;
		let lineage = Lineages::<T>::get(request_id)?;
		let waits_for = Self::deletion_waits_for(&request_id, &lineage, &speaker.node);
		let is_wanted = lineage.salt == result.lineage.salt
			&& lineage.next == result.until
			&& waits_for == Confirmation::Awaited
			&& Self::deletion_is_due(&lineage);
		if !is_wanted {
			return None;
		}
		let report = Report::Deleted { lineage: result.lineage, until: result.until };
		Some(Call::report_deleted {
			node_id: speaker.node,
			request_id,
			salt: lineage.salt,
			until: result.until,
			at: speaker.anchor,
			signature: Self::sign(speaker, &report)?,
		})
	}

	/// One report of all copies of which it is time to speak. Whether it was recorded shows on chain
	/// soon; until then it is sent again at every fourth block.
	fn held_call(speaker: &Speaker<T>, copies: &[CopyResult]) -> Option<Call<T>> {
		// The page of copies that this block asked for comes round in as many blocks as there are.
		let pages = pages_of(OwedCount::<T>::get(speaker.node), ORDERS_MAX);
		let visit = speaker.at.number / pages;
		if !visit.is_multiple_of(u64::from(REPORT_EVERY).div_ceil(pages)) {
			return None;
		}
		let marks = copies.iter().filter_map(|copy| Self::mark_of(speaker, copy));
		let marks = Watermarks::truncate_from(marks.take(WATERMARKS_MAX as usize).collect());
		if marks.is_empty() {
			return None;
		}
		let signature = Self::sign(speaker, &Report::Held { marks: marks.clone() })?;
		Some(Call::report_held { node_id: speaker.node, marks, at: speaker.anchor, signature })
	}

	/// What is to be said of a copy now, if anything.
	fn mark_of(speaker: &Speaker<T>, copy: &CopyResult) -> Option<Watermark> {
		let mark = Watermark { lineage: copy.lineage.clone(), from: copy.from, to: copy.to };
		Self::judge_mark(&speaker.node, &mark).is_ok().then_some(mark)
	}

	/// The request that the agent speaks of, if it is one of this node.
	fn own_request(speaker: &Speaker<T>, lineage: &LineageId) -> Option<T::RequestId> {
		let request_id: T::RequestId = lineage.request.decode_as()?;
		LineagesOfNode::<T>::contains_key(speaker.node, request_id).then_some(request_id)
	}

	fn sign(speaker: &Speaker<T>, report: &Report) -> Option<crate::SignatureOf<T>> {
		let node: OpaqueId = opaque(&speaker.node);
		let payload = signing_payload(&speaker.genesis, &node, &speaker.anchor, report);
		speaker.authority.sign(&payload)
	}
}

/// One page of a node's requests in a map. Pages are ranges of the hashed key and take turns by
/// block number, so every request is seen once in as many blocks as there are pages. A page aims at
/// half of `limit`: it is cut by hash, so that some are larger than the mean, and none may be
/// larger than that.
fn page_of<T, Map>(
	node: &T::NodeId,
	count: u32,
	limit: u32,
) -> impl Iterator<Item = T::RequestId> + use<T, Map>
where
	T: Config,
	Map: IterableStorageDoubleMap<T::NodeId, T::RequestId, ()>
		+ StorageDoubleMapKeys<T::NodeId, T::RequestId, ()>,
{
	let pages = pages_of(count, limit);
	let number: u64 = frame_system::Pallet::<T>::block_number().saturated_into();
	let start = ((number % pages) * (1 << 16) / pages) as u16;
	let mut from = Map::storage_double_map_final_key1(node);
	from.extend_from_slice(&start.to_be_bytes());
	Map::iter_key_prefix_from(node, from)
		.chain(Map::iter_key_prefix(node))
		.take(count.min(limit) as usize)
}

/// How many pages of at most `limit` entries so many make.
fn pages_of(count: u32, limit: u32) -> u64 {
	count.div_ceil(limit / 2).max(1).into()
}

fn block_ref<T: Config>(number: BlockNumberFor<T>) -> BlockRef {
	let hash = hash_bytes::<T>(frame_system::Pallet::<T>::block_hash(number));
	BlockRef { number: number.saturated_into(), hash }
}

/// Whether a result that was handed out so many times before is reported this time.
fn is_reported_now(handed_out: u32) -> bool {
	handed_out.is_multiple_of(REPORT_EVERY)
}
