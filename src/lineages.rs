//! Lineages: how they begin, what owners and governance set, and when a snapshot is due.

use crate::{
	BackupHooks, BackupMetadata, BackupOffchainWorkerFrequency, Backups, ChainSettings, ClockFor,
	Compute, Config, Eligibility, Error, Event, Grants, Lineage, LineageCountOfAccount,
	LineageCountOfNode, LineageOf, LineageSettings, Lineages, LineagesOfAccount, LineagesOfNode,
	Marketplace, NextSequences, Pallet, Paused, Proposals, RequestInfoOf, Settings, Snapshots,
	Subscription, UserDeletions, WeightInfo, authorize::hash_bytes,
};
use backup_primitives::report::Description;
use frame_support::{ensure, traits::Get, weights::Weight};
use sp_runtime::{
	DispatchResult, Saturating,
	traits::{BlockNumberProvider, SaturatedConversion, UniqueSaturatedInto, Zero},
};

impl<T: Config> Pallet<T> {
	/// The clock that cadence and expiry count.
	pub(crate) fn now() -> ClockFor<T> {
		T::BlockNumberProvider::current_block_number()
	}

	/// What governance set, or the chain's defaults.
	pub fn settings() -> ChainSettings<ClockFor<T>> {
		Settings::<T>::get().unwrap_or_else(T::DefaultSettings::get)
	}

	/// Check settings by themselves and against the limits of the runtime.
	pub(crate) fn ensure_in_bounds(settings: &ChainSettings<ClockFor<T>>) -> Result<(), Error<T>> {
		let (min, max) = (settings.min_frequency, settings.max_frequency);
		let are_bounds = T::MinFrequency::get() <= min && min <= max;
		ensure!(are_bounds && max <= T::MaxFrequency::get(), Error::<T>::FrequencyBoundsInvalid);
		ensure!((min..=max).contains(&settings.frequency), Error::<T>::FrequencyOutOfBounds);
		let is_fine = Self::keep_last_in_bounds(settings.keep_last)
			&& !settings.restore_lifetime.is_zero()
			&& !settings.proposal_lifetime.is_zero()
			&& settings.replicas <= T::MaxHolders::get()
			&& settings.holder_silence > settings.holder_period;
		ensure!(is_fine, Error::<T>::SettingsOutOfBounds);
		Ok(())
	}

	fn ensure_frequency_in_bounds(frequency: ClockFor<T>) -> DispatchResult {
		let ChainSettings { min_frequency, max_frequency, .. } = Self::settings();
		let is_fine = (min_frequency..=max_frequency).contains(&frequency);
		ensure!(is_fine, Error::<T>::FrequencyOutOfBounds);
		Ok(())
	}

	fn keep_last_in_bounds(keep_last: u32) -> bool {
		(1..=T::MaxSnapshots::get()).contains(&keep_last)
	}

	pub(crate) fn set_chain_settings(settings: ChainSettings<ClockFor<T>>) -> DispatchResult {
		Self::ensure_in_bounds(&settings)?;
		Settings::<T>::put(&settings);
		Self::deposit_event(Event::SettingsUpdated { settings });
		Ok(())
	}

	pub(crate) fn set_chain_frequency(frequency: ClockFor<T>) -> DispatchResult {
		Self::ensure_frequency_in_bounds(frequency)?;
		Settings::<T>::put(ChainSettings { frequency, ..Self::settings() });
		Self::deposit_event(Event::BackupOffchainWorkerFrequencyUpdated {
			account: None,
			frequency,
		});
		Ok(())
	}

	pub(crate) fn set_own_frequency(who: T::AccountId, frequency: ClockFor<T>) -> DispatchResult {
		Self::ensure_frequency_in_bounds(frequency)?;
		ensure!(LineageCountOfAccount::<T>::get(&who) > 0, Error::<T>::BackupNotFound);
		BackupOffchainWorkerFrequency::<T>::insert(&who, frequency);
		Self::deposit_event(Event::BackupOffchainWorkerFrequencyUpdated {
			account: Some(who),
			frequency,
		});
		Ok(())
	}

	/// Cadence that applies to an account, in blocks: what it set, or the nearest that governance
	/// allows now.
	pub fn frequency_of(owner: &T::AccountId) -> ClockFor<T> {
		let ChainSettings { frequency, min_frequency, max_frequency, .. } = Self::settings();
		let own = BackupOffchainWorkerFrequency::<T>::get(owner);
		own.map_or(frequency, |own| own.max(min_frequency).min(max_frequency))
	}

	/// When the next snapshot of a lineage is due.
	pub(crate) fn due_at(lineage: &LineageOf<T>) -> ClockFor<T> {
		lineage.due_at(Self::frequency_of(&lineage.owner), Self::settings().min_frequency)
	}

	/// Number of snapshots of a lineage that are kept.
	pub(crate) fn keep_last_of(lineage: &LineageOf<T>) -> u32 {
		lineage.settings.keep_last.unwrap_or_else(|| Self::settings().keep_last)
	}

	pub(crate) fn begin_lineage(
		who: &T::AccountId,
		request_id: &T::RequestId,
		description: Option<Description>,
	) -> DispatchResult {
		let request = T::Compute::request(request_id).ok_or(Error::<T>::RequestNotRunning)?;
		ensure!(request.owner == *who, Error::<T>::NotAuthorized);
		ensure!(request.running, Error::<T>::RequestNotRunning);
		let node = request.node.ok_or(Error::<T>::RequestNotRunning)?;
		ensure!(
			T::Marketplace::subscription(who) == Subscription::Active,
			Error::<T>::BackupsNotEnabled
		);
		ensure!(!Lineages::<T>::contains_key(request_id), Error::<T>::BackupAlreadyExists);
		ensure!(!UserDeletions::<T>::contains_key(who), Error::<T>::DeletionPending);
		let count = LineageCountOfAccount::<T>::get(who);
		ensure!(count < T::MaxLineages::get(), Error::<T>::TooManyBackups);
		Self::hold_deposit(who, request_id, &LineageSettings::default(), 0)?;
		Self::insert_lineage(node, who.clone(), *request_id, description);
		Ok(())
	}

	fn insert_lineage(
		node: T::NodeId,
		owner: T::AccountId,
		request_id: T::RequestId,
		description: Option<Description>,
	) {
		let now = Self::now();
		let first = NextSequences::<T>::take(request_id).unwrap_or(0);
		let lineage = Lineage {
			node,
			owner: owner.clone(),
			salt: hash_bytes::<T>(frame_system::Pallet::<T>::parent_hash()),
			created_at: now,
			next: first,
			kept: 0,
			stored_bytes: 0,
			evict_from: first,
			guarded: None,
			force_from: first,
			owner_holds: 0,
			governance_holds: 0,
			delete_at: None,
			is_given_up: false,
			last_taken_at: None,
			last_recorded_at: None,
			asked_at: None,
			failure: None,
			settings: LineageSettings::default(),
		};
		Proposals::<T>::remove(request_id);
		LineagesOfAccount::<T>::insert(&owner, request_id, ());
		LineageCountOfAccount::<T>::mutate(&owner, |count| count.saturating_inc());
		Self::join_node(&request_id, &lineage);
		Self::update_header(node, &owner, |header| {
			header.description = description.or_else(|| header.description.take());
		});
		Self::choose_holders(&request_id, &lineage);
		Lineages::<T>::insert(request_id, lineage);
		Self::deposit_event(Event::BackupCreated { node_id: node, owner, request_id });
	}

	/// Enter a lineage in the lists of its node, and in its header for the owner.
	pub(crate) fn join_node(request_id: &T::RequestId, lineage: &LineageOf<T>) {
		let (node, now) = (lineage.node, Self::now());
		LineagesOfNode::<T>::insert(node, request_id, ());
		LineageCountOfNode::<T>::mutate(node, |count| count.saturating_inc());
		let newest = lineage.next.checked_sub(1);
		let newest = newest.and_then(|sequence| Snapshots::<T>::get(request_id, sequence));
		Backups::<T>::mutate(node, &lineage.owner, |slot| {
			let header = slot.get_or_insert_with(|| BackupMetadata {
				owner: lineage.owner.clone(),
				lineages: 0,
				snapshots: 0,
				last_snapshot: newest.map(|record| record.cid),
				created_at: now,
				updated_at: now,
				description: None,
			});
			header.lineages = header.lineages.saturating_add(1);
			header.snapshots = header.snapshots.saturating_add(lineage.kept);
			header.updated_at = now;
		});
	}

	/// Strike a lineage off the lists of its node, and take it out of the header there. Returns
	/// the owner's words in it.
	pub(crate) fn leave_node(
		request_id: &T::RequestId,
		lineage: &LineageOf<T>,
	) -> Option<Description> {
		LineagesOfNode::<T>::remove(lineage.node, request_id);
		LineageCountOfNode::<T>::mutate_exists(lineage.node, decrease);
		Backups::<T>::mutate_exists(lineage.node, &lineage.owner, |slot| {
			let header = slot.as_mut()?;
			header.lineages = header.lineages.saturating_sub(1);
			header.snapshots = header.snapshots.saturating_sub(lineage.kept);
			header.updated_at = Self::now();
			let description = header.description.clone();
			if header.lineages == 0 {
				*slot = None;
			}
			description
		})
	}

	/// Change the header of a node's backups for an account, if there is one.
	pub(crate) fn update_header(
		node: T::NodeId,
		owner: &T::AccountId,
		change: impl FnOnce(&mut BackupMetadata<T::AccountId, ClockFor<T>>),
	) {
		Backups::<T>::mutate_exists(node, owner, |slot| {
			if let Some(header) = slot {
				change(header);
				header.updated_at = Self::now();
			}
		});
	}

	/// Take away a lineage that has no snapshots any more.
	pub(crate) fn remove_lineage(request_id: &T::RequestId, lineage: &LineageOf<T>) {
		Lineages::<T>::remove(request_id);
		Grants::<T>::remove(request_id);
		NextSequences::<T>::insert(request_id, lineage.next);
		Self::leave_node(request_id, lineage);
		Self::drop_holders(request_id);
		LineagesOfAccount::<T>::remove(&lineage.owner, request_id);
		LineageCountOfAccount::<T>::mutate_exists(&lineage.owner, decrease);
		if !LineageCountOfAccount::<T>::contains_key(&lineage.owner) {
			BackupOffchainWorkerFrequency::<T>::remove(&lineage.owner);
		}
	}

	/// The lineage of a request, if the account owns it.
	pub(crate) fn owned_lineage(
		who: &T::AccountId,
		request_id: &T::RequestId,
	) -> Result<LineageOf<T>, Error<T>> {
		let lineage = Lineages::<T>::get(request_id).ok_or(Error::<T>::BackupNotFound)?;
		ensure!(lineage.owner == *who, Error::<T>::NotBackupOwner);
		Ok(lineage)
	}

	pub(crate) fn set_lineage_settings(
		who: &T::AccountId,
		request_id: &T::RequestId,
		settings: LineageSettings,
	) -> DispatchResult {
		let in_bounds = settings.keep_last.is_none_or(Self::keep_last_in_bounds);
		ensure!(in_bounds, Error::<T>::SettingsOutOfBounds);
		let mut lineage = Self::owned_lineage(who, request_id)?;
		Self::hold_deposit(who, request_id, &settings, lineage.kept)?;
		lineage.settings = settings;
		Lineages::<T>::insert(request_id, &lineage);
		Self::update_header(lineage.node, who, |_| ());
		Self::deposit_event(Event::BackupUpdated {
			node_id: lineage.node,
			owner: lineage.owner,
			request_id: *request_id,
		});
		Ok(())
	}

	/// Note that the owner wants a snapshot out of turn.
	pub(crate) fn ask_for_snapshot(
		who: &T::AccountId,
		request_id: &T::RequestId,
	) -> DispatchResult {
		let mut lineage = Self::owned_lineage(who, request_id)?;
		let request = T::Compute::request(request_id).ok_or(Error::<T>::RequestNotRunning)?;
		if let Some(obstacle) = Self::standing_obstacle(&lineage, &request) {
			return Err(Self::as_error(&obstacle).into());
		}
		let now = Self::now();
		let slot = lineage.slot(now, Self::frequency_of(who));
		let failed_at = lineage.failure.as_ref().filter(|f| f.slot >= slot).map(|f| f.at);
		// While the slot runs the snapshot that it asks for is on its way.
		let is_awaited = lineage.last_taken_at.is_none() || lineage.unanswered_since().is_some();
		ensure!(failed_at.is_some() || !is_awaited, Error::<T>::SnapshotPending);
		let events = [lineage.last_taken_at, lineage.last_recorded_at, failed_at];
		let last = events.into_iter().flatten().max();
		let allowed_at = last.map(|at| at.saturating_add(Self::settings().min_frequency));
		ensure!(allowed_at.is_none_or(|at| now >= at), Error::<T>::TooSoon);
		lineage.asked_at = Some(now);
		Lineages::<T>::insert(request_id, &lineage);
		Self::deposit_event(Event::SnapshotRequested {
			owner: who.clone(),
			request_id: *request_id,
		});
		Ok(())
	}

	/// What an owner is told who asks for a snapshot that cannot be.
	fn as_error(obstacle: &Eligibility<ClockFor<T>>) -> Error<T> {
		match obstacle {
			Eligibility::NoBackup => Error::BackupNotFound,
			Eligibility::NotRunning | Eligibility::NoNode => Error::RequestNotRunning,
			Eligibility::Disabled | Eligibility::Unpaid => Error::BackupsNotEnabled,
			Eligibility::NoOwnerKey => Error::NoOwnerKey,
			Eligibility::DeletionPending => Error::DeletionPending,
			Eligibility::ChainPaused | Eligibility::Paused => Error::BackupPaused,
			Eligibility::Full => Error::HistoryFull,
			Eligibility::Eligible { .. } => Error::SnapshotPending,
			Eligibility::NotDue { .. } | Eligibility::FailedInSlot { .. } => Error::TooSoon,
		}
	}

	/// Whether a snapshot of a request would be taken now: the first of the conditions that
	/// does not hold.
	pub(crate) fn judge_eligibility(request_id: &T::RequestId) -> Eligibility<ClockFor<T>> {
		let Some(lineage) = Lineages::<T>::get(request_id) else {
			return Eligibility::NoBackup;
		};
		let Some(request) = T::Compute::request(request_id) else {
			return Eligibility::NotRunning;
		};
		Self::judge_lineage(&lineage, &request)
	}

	pub(crate) fn judge_lineage(
		lineage: &LineageOf<T>,
		request: &RequestInfoOf<T>,
	) -> Eligibility<ClockFor<T>> {
		if let Some(obstacle) = Self::standing_obstacle(lineage, request) {
			return obstacle;
		}
		let (now, frequency) = (Self::now(), Self::frequency_of(&lineage.owner));
		let due_at = Self::due_at(lineage);
		if now < due_at {
			return Eligibility::NotDue { due_at };
		}
		let slot = lineage.slot(now, frequency);
		match &lineage.failure {
			Some(failure) if failure.slot >= slot => {
				let retry_at = lineage.next_slot(failure.slot.saturated_into(), frequency);
				Eligibility::FailedInSlot { reason: failure.reason, retry_at }
			}
			_ => Eligibility::Eligible { slot },
		}
	}

	/// The blocks between two snapshots of a lineage, unless none are wanted of it now.
	pub(crate) fn cadence_of(request_id: &T::RequestId, lineage: &LineageOf<T>) -> Option<u64> {
		let request = T::Compute::request(request_id)?;
		let is_wanted = Self::standing_obstacle(lineage, &request).is_none();
		is_wanted.then(|| Self::frequency_of(&lineage.owner).unique_saturated_into())
	}

	/// What keeps a request from being backed up, whatever the time is.
	fn standing_obstacle(
		lineage: &LineageOf<T>,
		request: &RequestInfoOf<T>,
	) -> Option<Eligibility<ClockFor<T>>> {
		if !request.running || request.node != Some(lineage.node) {
			return Some(Eligibility::NotRunning);
		}
		if T::Compute::node(&lineage.node).is_none() {
			return Some(Eligibility::NoNode);
		}
		match T::Marketplace::subscription(&lineage.owner) {
			Subscription::Disabled => return Some(Eligibility::Disabled),
			Subscription::Unpaid => return Some(Eligibility::Unpaid),
			Subscription::Active => (),
		}
		if Self::owner_key_version_of(&lineage.owner).is_none() {
			return Some(Eligibility::NoOwnerKey);
		}
		if Self::deletion_of(lineage).is_some() {
			return Some(Eligibility::DeletionPending);
		}
		if Paused::<T>::get() {
			return Some(Eligibility::ChainPaused);
		}
		if lineage.settings.paused {
			return Some(Eligibility::Paused);
		}
		(!Self::has_room(lineage)).then_some(Eligibility::Full)
	}
}

impl<T: Config> BackupHooks<T::RequestId, T::AccountId> for Pallet<T> {
	/// Begins the lineage, if the owner's marketplace account says that it wants backups. If
	/// it does not, or cannot put down the deposit, the wish of the node is kept as a proposal. A
	/// request that has a lineage takes it along to its node.
	fn fulfilled(request_id: &T::RequestId) {
		let Some(request) = T::Compute::request(request_id) else { return };
		let Some(node) = request.node else { return };
		match Lineages::<T>::get(request_id) {
			Some(lineage) if lineage.owner == request.owner && lineage.node != node => {
				Self::move_lineage(request_id, lineage, node);
			}
			Some(_) => (),
			None if T::Marketplace::subscription(&request.owner) != Subscription::Active => {
				Self::propose(node, request.owner, *request_id);
			}
			None => {
				let begun = frame_support::storage::with_storage_layer(|| {
					Self::begin_lineage(&request.owner, request_id, None)
				});
				if let Err(reason) = begun {
					Self::propose(node, request.owner, *request_id);
					log::debug!(
						target: crate::LOG_TARGET,
						"no backup of request {request_id:?} was begun: {reason:?}",
					);
				}
			}
		}
	}

	fn weight_of_fulfilled() -> Weight {
		T::WeightInfo::create_backup()
			.max(T::WeightInfo::move_backup())
			.saturating_add(Self::weight_of_choice())
	}

	fn deletion_requested(owner: &T::AccountId) {
		Self::begin_deletion(owner);
	}

	fn weight_of_deletion_requested() -> Weight {
		T::WeightInfo::deletion_requested()
	}
}

/// Take one from a count, and the count away when it reaches zero.
pub(crate) fn decrease(count: &mut Option<u32>) {
	*count = count.and_then(|n| n.checked_sub(1)).filter(|n| *n > 0);
}
