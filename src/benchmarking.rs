//! What the calls cost, measured on the longest path of each.
//!
//! Nothing here depends on how much is stored: each call reads and writes a constant number of
//! records, and the lists among them (grants, evictions, deletions of one report) are full.

use super::*;
use crate::{
	deletion::DELETIONS_MAX,
	deposits::SNAPSHOT_STATE_BYTES,
	snapshots::{EVICTIONS_MAX, PRUNED_MAX},
};
use backup_primitives::{
	BlockRef, Cid, Consistency, Recipient,
	report::{
		Description, Report, TakenSnapshot, WATERMARKS_MAX, Watermark, Watermarks, signing_payload,
	},
};
use frame_benchmarking::v2::*;
use frame_support::{
	BoundedVec,
	pallet_prelude::TransactionSource,
	traits::{Authorize, Consideration, EnsureOrigin, Footprint, Get},
};
use frame_system::RawOrigin;
use sp_application_crypto::RuntimeAppPublic;
use sp_runtime::traits::{One, SaturatedConversion, Saturating, UniqueSaturatedInto};

/// The machine of an owner, with its backups begun.
struct Machine<T: Config> {
	owner: T::AccountId,
	node: T::NodeId,
	authority: T::AuthorityId,
	request: T::RequestId,
}

/// A text of the greatest length.
fn description() -> Description {
	BoundedVec::truncate_from(alloc::vec![b'd'; 64])
}

/// A block that reports may name.
fn recent<T: Config>() -> BlockRef {
	let number = frame_system::Pallet::<T>::block_number();
	frame_system::BlockHash::<T>::insert(number, T::Hash::default());
	// A block knows the hashes of those before it.
	frame_system::Pallet::<T>::set_block_number(number.saturating_add(One::one()));
	let hash = authorize::hash_bytes::<T>(T::Hash::default());
	BlockRef { number: number.saturated_into(), hash }
}

/// Let time pass, in blocks.
fn pass<T: Config>(blocks: ClockFor<T>) {
	let now = Pallet::<T>::now().saturating_add(blocks);
	T::BlockNumberProvider::set_block_number(now);
}

/// What the pool does with a report.
fn judge<T: Config>(report: Call<T>) {
	let verdict = report.authorize(TransactionSource::External);
	verdict.expect("reports are authorized").expect("it is right");
}

/// Let an account have what it needs to put down.
fn fund<T: Config>(account: &T::AccountId) {
	let snapshots = T::MaxSnapshots::get() as usize;
	let history = Footprint::from_parts(snapshots, snapshots * SNAPSHOT_STATE_BYTES);
	T::BackupConsideration::ensure_successful(account, history);
	T::RestoreConsideration::ensure_successful(account, history);
}

impl<T: Config> Machine<T> {
	/// One that runs, without backups.
	fn without_backup() -> Self {
		let owner: T::AccountId = whitelisted_caller();
		fund::<T>(&owner);
		let authority = T::AuthorityId::generate_pair(None);
		let node = T::BenchmarkHelper::register_node(authority.clone());
		let request = T::BenchmarkHelper::run_request(node, &owner);
		Self { owner, node, authority, request }
	}

	/// One whose first snapshot is due.
	fn new() -> Self {
		let machine = Self::without_backup();
		let recipient = Recipient([7; 32]);
		Pallet::<T>::add_owner_key(machine.owner.clone(), recipient).expect("it is the first");
		let owner = &machine.owner;
		Pallet::<T>::begin_lineage(owner, &machine.request, None).expect("it has none");
		machine
	}

	fn lineage(&self) -> LineageOf<T> {
		Lineages::<T>::get(self.request).expect("it was begun")
	}

	fn id(&self) -> LineageId {
		lineage_id(&self.request, self.lineage().salt)
	}

	fn keep(&self, keep_last: u32) {
		let settings = LineageSettings { paused: false, keep_last: Some(keep_last) };
		let set = Pallet::<T>::set_lineage_settings(&self.owner, &self.request, settings);
		set.expect("it is in bounds");
	}

	/// Record so many snapshots, and let the cadence go by.
	fn fill(&self, count: u32) {
		self.keep(T::MaxSnapshots::get());
		for _ in 0..count {
			let (cid, claim) = self.next();
			let taken = claim.snapshot(cid);
			self.record(taken);
		}
		pass::<T>(Pallet::<T>::frequency_of(&self.owner));
	}

	fn record(&self, taken: TakenSnapshot) {
		let text = Some(description());
		Pallet::<T>::record_snapshot(self.node, self.owner.clone(), self.request, text, taken);
	}

	/// The next snapshot of the machine.
	fn next(&self) -> (Cid, SnapshotClaim) {
		let lineage = self.lineage();
		let mut digest = [0; 32];
		digest[..8].copy_from_slice(&lineage.next.to_le_bytes());
		let claim = SnapshotClaim {
			salt: lineage.salt,
			sequence: lineage.next,
			taken_at: Pallet::<T>::now().unique_saturated_into(),
			logical_bytes: 1,
			new_bytes: 1,
			consistency: Consistency::Crash,
			owner_key_version: 1,
		};
		(Cid::dag_cbor(digest), claim)
	}

	/// The report of the next snapshot.
	fn snapshot_report(&self) -> Call<T> {
		let (snapshot_cid, claim) = self.next();
		let report = Report::Snapshot {
			lineage: self.id(),
			sequence: claim.sequence,
			owner: opaque(&self.owner),
			description: Some(description()),
			snapshot: claim.snapshot(snapshot_cid),
		};
		let at = recent::<T>();
		Call::add_snapshot {
			node_id: self.node,
			snapshot_cid,
			description: Some(description()),
			request_id: self.request,
			account_id: self.owner.clone(),
			claim,
			at,
			signature: self.sign(&at, &report),
		}
	}

	fn restore_report(&self, restore_id: u64) -> Call<T> {
		let wish = RestoreRequests::<T>::get(restore_id).expect("asked for").digest();
		let report =
			Report::Restore { restore: restore_id, lineage: self.id(), wish, failure: None };
		let at = recent::<T>();
		Call::report_restore {
			node_id: self.node,
			restore_id,
			failure: None,
			at,
			signature: self.sign(&at, &report),
		}
	}

	fn failure_report(&self) -> Call<T> {
		let lineage = self.lineage();
		let reason = backup_primitives::FailureReason::VmTagMismatch;
		let sequence = lineage.next;
		// The block that is being made is the next one.
		let at = recent::<T>();
		let slot = lineage.slot(Pallet::<T>::now(), Pallet::<T>::frequency_of(&self.owner));
		let report = Report::SnapshotFailed { lineage: self.id(), sequence, slot, reason };
		Call::report_snapshot_failed {
			node_id: self.node,
			request_id: self.request,
			salt: lineage.salt,
			sequence,
			slot,
			reason,
			at,
			signature: self.sign(&at, &report),
		}
	}

	fn deleted_report(&self) -> Call<T> {
		let lineage = self.lineage();
		let at = recent::<T>();
		let report = Report::Deleted { lineage: self.id(), until: lineage.next };
		Call::report_deleted {
			node_id: self.node,
			request_id: self.request,
			salt: lineage.salt,
			until: lineage.next,
			at,
			signature: self.sign(&at, &report),
		}
	}

	/// One with so many snapshots, which its owner wanted deleted a grace period ago.
	fn whose_deletion_is_due(snapshots: u32) -> Self {
		let machine = Self::new();
		machine.fill(snapshots);
		machine.grant(T::MaxGrants::get());
		Pallet::<T>::begin_deletion(&machine.owner);
		pass::<T>(Pallet::<T>::settings().deletion_grace);
		machine
	}

	fn sign(&self, at: &BlockRef, report: &Report) -> SignatureOf<T> {
		let payload = signing_payload(&Pallet::<T>::genesis(), &opaque(&self.node), at, report);
		self.authority.sign(&payload).expect("its key is in the keystore")
	}

	/// Open the machine to so many accounts, and name the last of them.
	fn grant(&self, count: u32) -> T::AccountId {
		let mut last = self.owner.clone();
		for index in 0..count {
			last = account("grantee", index, 0);
			let key = Some(Recipient([1; 32]));
			let (owner, to) = (self.owner.clone(), last.clone());
			let grant = Pallet::<T>::grant(owner, self.request, to, None, key);
			grant.expect("there is room");
		}
		fund::<T>(&last);
		last
	}

	/// Let so many other nodes of the chain hold copies, and wait for no more than there may be.
	fn admit(count: u32) -> alloc::vec::Vec<T::NodeId> {
		let settings = ChainSettings { replicas: T::MaxHolders::get(), ..Pallet::<T>::settings() };
		Settings::<T>::put(settings);
		let nodes = (0..count).map(|_| {
			let node = T::BenchmarkHelper::register_node(T::AuthorityId::generate_pair(None));
			Pallet::<T>::admit_node(node).expect("it is new");
			node
		});
		nodes.collect()
	}

	/// Machines of a host whose copies all lie with one holder.
	fn held_by_one(count: u32) -> (T::NodeId, T::AuthorityId, Watermarks) {
		let machine = Self::new();
		let authority = T::AuthorityId::generate_pair(None);
		let holder = T::BenchmarkHelper::register_node(authority.clone());
		Pallet::<T>::admit_node(holder).expect("it is new");
		let settings = ChainSettings { replicas: 1, ..Pallet::<T>::settings() };
		Settings::<T>::put(settings);
		let mut marks = alloc::vec![];
		for index in 0..count {
			let owner: T::AccountId = account("owner", index, 0);
			fund::<T>(&owner);
			let request = T::BenchmarkHelper::run_request(machine.node, &owner);
			Pallet::<T>::begin_lineage(&owner, &request, None).expect("it has none");
			let salt = Lineages::<T>::get(request).expect("begun").salt;
			marks.push(Watermark { lineage: lineage_id(&request, salt), from: 0, to: 0 });
		}
		(holder, authority, Watermarks::truncate_from(marks))
	}

	/// A restore of the newest snapshot, asked for by the last of all who may.
	fn restore(&self) -> u64 {
		let requester = self.grant(T::MaxGrants::get());
		let sequence = self.lineage().next.saturating_sub(1);
		let options = RestoreOptions::default();
		let asked = Pallet::<T>::request_restore(requester, self.request, sequence, options);
		asked.expect("it may");
		NextRestoreId::<T>::get().saturating_sub(1)
	}
}

#[benchmarks]
mod benchmarks {
	use super::*;

	/// An account for itself: that takes one read more than governance.
	#[benchmark]
	fn set_backup_offchain_worker_frequency() {
		let machine = Machine::<T>::new();
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), T::MinFrequency::get());
		assert_eq!(Pallet::<T>::frequency_of(&machine.owner), T::MinFrequency::get());
	}

	#[benchmark]
	fn create_backup() {
		let machine = Machine::<T>::without_backup();
		let owner = RawOrigin::Signed(machine.owner.clone());
		#[extrinsic_call]
		_(owner, machine.request, Some(description()));
		assert!(Lineages::<T>::contains_key(machine.request));
	}

	#[benchmark]
	fn set_backup_settings() {
		let machine = Machine::<T>::new();
		let settings = LineageSettings { paused: true, keep_last: Some(1) };
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, settings.clone());
		assert_eq!(machine.lineage().settings, settings);
	}

	/// The second key, which waits.
	#[benchmark]
	fn register_owner_key() {
		let machine = Machine::<T>::new();
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), Recipient([8; 32]));
		assert_eq!(OwnerKeyVersion::<T>::get(&machine.owner), 2);
	}

	#[benchmark]
	fn restore_from_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let cid = Snapshots::<T>::get(machine.request, 0).expect("recorded").cid;
		let text = BoundedVec::truncate_from(alloc::format!("{cid}").into_bytes());
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), text);
		assert!(RestoreRequests::<T>::contains_key(0));
	}

	/// One that runs, by its owner, who did not ask for it.
	#[benchmark]
	fn close_restore() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let restore = machine.restore();
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), restore);
		assert!(!RestoreRequests::<T>::contains_key(restore));
	}

	#[benchmark]
	fn set_settings() -> Result<(), BenchmarkError> {
		let origin =
			T::GovernanceOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		let settings = Pallet::<T>::settings();
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, settings);
		assert!(Settings::<T>::exists());
		Ok(())
	}

	#[benchmark]
	fn set_paused() -> Result<(), BenchmarkError> {
		let origin =
			T::GovernanceOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, true);
		assert!(Paused::<T>::get());
		Ok(())
	}

	/// The last that there is room for.
	#[benchmark]
	fn grant_access() {
		let machine = Machine::<T>::new();
		machine.grant(T::MaxGrants::get().saturating_sub(1));
		let account = account("last", 0, 0);
		#[extrinsic_call]
		_(
			RawOrigin::Signed(machine.owner.clone()),
			machine.request,
			account,
			None,
			Some(Recipient([1; 32])),
		);
		assert_eq!(Grants::<T>::get(machine.request).len() as u32, T::MaxGrants::get());
	}

	#[benchmark]
	fn revoke_access() {
		let machine = Machine::<T>::new();
		let last = machine.grant(T::MaxGrants::get());
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, last);
		assert!((Grants::<T>::get(machine.request).len() as u32) < T::MaxGrants::get());
	}

	/// By the last of all who may.
	#[benchmark]
	fn restore_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let last = machine.grant(T::MaxGrants::get());
		#[extrinsic_call]
		_(RawOrigin::Signed(last), machine.request, 0, RestoreOptions::default());
		assert!(RestoreRequests::<T>::contains_key(0));
	}

	/// Where the history is full, so that the oldest is looked at.
	#[benchmark]
	fn request_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(T::MaxSnapshots::get());
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		assert!(machine.lineage().unanswered_since().is_some());
	}

	/// As many as may be looked at, and all of them go.
	#[benchmark]
	fn prune(n: Linear<1, PRUNED_MAX>) {
		let machine = Machine::<T>::new();
		machine.fill(n.saturating_add(1));
		machine.keep(1);
		pass::<T>(Pallet::<T>::settings().min_age);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, n);
		assert_eq!(machine.lineage().kept, 1);
	}

	/// By its owner: governance is known by its origin alone.
	#[benchmark]
	fn hold_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, 0);
		assert_eq!(machine.lineage().owner_holds, 1);
	}

	#[benchmark]
	fn release_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let owner = holds::Party::Account(machine.owner.clone());
		Pallet::<T>::hold(&owner, machine.request, 0).expect("it is free");
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, 0);
		assert_eq!(machine.lineage().owner_holds, 0);
	}

	#[benchmark]
	fn delete_backup() {
		let machine = Machine::<T>::new();
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		assert!(machine.lineage().delete_at.is_some());
	}

	#[benchmark]
	fn delete_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, 0);
		assert!(SnapshotDeletions::<T>::contains_key(machine.request, 0));
	}

	/// That of a snapshot: it reads the most.
	#[benchmark]
	fn cancel_deletion() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		Pallet::<T>::delete_one(&machine.owner, machine.request, 0).expect("it is there");
		let target = DeletionTarget::Snapshot(machine.request, 0);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), target);
		assert!(!SnapshotDeletions::<T>::contains_key(machine.request, 0));
	}

	/// So many snapshots, and the lineage with them.
	#[benchmark]
	fn close_deletion(n: Linear<0, DELETIONS_MAX>) {
		let machine = Machine::<T>::whose_deletion_is_due(n);
		pass::<T>(Pallet::<T>::settings().deletion_deadline);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request, None);
		assert!(!Lineages::<T>::contains_key(machine.request));
	}

	#[benchmark]
	fn approve_backup() {
		let machine = Machine::<T>::without_backup();
		Pallet::<T>::propose(machine.node, machine.owner.clone(), machine.request);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		assert!(Lineages::<T>::contains_key(machine.request));
	}

	#[benchmark]
	fn reject_backup() {
		let machine = Machine::<T>::without_backup();
		Pallet::<T>::propose(machine.node, machine.owner.clone(), machine.request);
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		assert!(!Proposals::<T>::contains_key(machine.request));
	}

	/// To the node that hosts it: the entries that a move reads and writes are as many.
	#[benchmark]
	fn move_backup() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		#[block]
		{
			Pallet::<T>::move_lineage(&machine.request, machine.lineage(), machine.node);
		}
		assert_eq!(LineageCountOfNode::<T>::get(machine.node), 1);
	}

	/// With as many evictions as one report makes, behind as many places as it may pass over, and
	/// as many holders as there may be.
	#[benchmark]
	fn add_snapshot() {
		Machine::<T>::admit(T::MaxHolders::get());
		let machine = Machine::<T>::new();
		machine.fill(EVICTIONS_MAX.saturating_add(2));
		let owner = holds::Party::Account(machine.owner.clone());
		for sequence in [0, 1] {
			Pallet::<T>::hold(&owner, machine.request, sequence).expect("it is free");
		}
		pass::<T>(Pallet::<T>::settings().min_age);
		machine.keep(1);
		let report = machine.snapshot_report();
		#[block]
		{
			use frame_support::traits::UnfilteredDispatchable as _;
			report.dispatch_bypass_filter(RawOrigin::Authorized.into()).expect("it is right");
		}
		assert_eq!(machine.lineage().kept, 3);
	}

	/// Where the history is full.
	#[benchmark]
	fn authorize_add_snapshot() {
		let machine = Machine::<T>::new();
		machine.fill(T::MaxSnapshots::get());
		let report = machine.snapshot_report();
		#[block]
		{
			judge(report);
		}
	}

	#[benchmark]
	fn report_snapshot_failed() {
		let machine = Machine::<T>::new();
		let reason = backup_primitives::FailureReason::VmTagMismatch;
		#[block]
		{
			Pallet::<T>::record_failure(machine.node, machine.request, 0, reason);
		}
		assert!(machine.lineage().failure.is_some());
	}

	#[benchmark]
	fn report_restore() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let restore = machine.restore();
		#[block]
		{
			Pallet::<T>::record_restore(restore, None);
		}
		let state = RestoreRequests::<T>::get(restore).map(|restore| restore.state);
		assert!(matches!(state, Some(RestoreState::Fulfilled { .. })));
	}

	/// So many snapshots, and the lineage with them.
	#[benchmark]
	fn report_deleted(n: Linear<0, DELETIONS_MAX>) {
		let machine = Machine::<T>::whose_deletion_is_due(n);
		#[block]
		{
			Pallet::<T>::record_deleted(machine.node, machine.request);
		}
		assert!(!Lineages::<T>::contains_key(machine.request));
	}

	#[benchmark]
	fn authorize_snapshot_failed() {
		let machine = Machine::<T>::new();
		let report = machine.failure_report();
		#[block]
		{
			judge(report);
		}
	}

	/// One that somebody else than the owner asked for.
	#[benchmark]
	fn authorize_restore() {
		let machine = Machine::<T>::new();
		machine.fill(1);
		let report = machine.restore_report(machine.restore());
		#[block]
		{
			judge(report);
		}
	}

	#[benchmark]
	fn authorize_deleted() {
		let machine = Machine::<T>::whose_deletion_is_due(1);
		let report = machine.deleted_report();
		#[block]
		{
			judge(report);
		}
	}

	#[benchmark]
	fn deletion_requested() {
		let machine = Machine::<T>::new();
		#[block]
		{
			Pallet::<T>::begin_deletion(&machine.owner);
		}
		assert!(UserDeletions::<T>::contains_key(&machine.owner));
	}

	/// By an owner whose backup is gone.
	#[benchmark]
	fn reclaim_deposit() {
		let machine = Machine::<T>::new();
		Pallet::<T>::remove_lineage(&machine.request, &machine.lineage());
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		assert!(!HistoryTickets::<T>::contains_key(&machine.owner, machine.request));
	}

	#[benchmark]
	fn admit_storage_node() -> Result<(), BenchmarkError> {
		let origin =
			T::GovernanceOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		let node = T::BenchmarkHelper::register_node(T::AuthorityId::generate_pair(None));
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, node);
		assert_eq!(StorageNodeCount::<T>::get(), 1);
		Ok(())
	}

	/// Not the last, so that another takes its place.
	#[benchmark]
	fn dismiss_storage_node() -> Result<(), BenchmarkError> {
		let origin =
			T::GovernanceOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		let node = Machine::<T>::admit(2)[0];
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, node);
		assert_eq!(StorageNodeCount::<T>::get(), 1);
		Ok(())
	}

	#[benchmark]
	fn choose_holders(n: Linear<1, { T::MaxHolders::get() }>) {
		let machine = Machine::<T>::new();
		Machine::<T>::admit(T::MaxHolders::get());
		let settings = ChainSettings { replicas: n, ..Pallet::<T>::settings() };
		Settings::<T>::put(settings);
		let lineage = machine.lineage();
		#[block]
		{
			Pallet::<T>::choose_holders(&machine.request, &lineage);
		}
		assert_eq!(HoldersOf::<T>::get(machine.request).len() as u32, n);
	}

	/// Of which all are silent.
	#[benchmark]
	fn replace_holders() {
		let count = T::MaxHolders::get();
		Machine::<T>::admit(count);
		let machine = Machine::<T>::new();
		Machine::<T>::admit(count);
		pass::<T>(Pallet::<T>::settings().holder_silence.saturating_add(One::one()));
		#[extrinsic_call]
		_(RawOrigin::Signed(machine.owner.clone()), machine.request);
		let holders = HoldersOf::<T>::get(machine.request);
		assert!(holders.iter().any(|holder| holder.since == Pallet::<T>::now()));
	}

	#[benchmark]
	fn report_held(n: Linear<1, WATERMARKS_MAX>) {
		let (holder, _, marks) = Machine::<T>::held_by_one(n);
		#[block]
		{
			Pallet::<T>::record_held(holder, marks);
		}
		let said = HoldersOf::<T>::iter_values().flatten().filter(|h| h.confirmed_at.is_some());
		assert_eq!(said.count() as u32, n);
	}

	#[benchmark]
	fn authorize_held(n: Linear<1, WATERMARKS_MAX>) {
		let (node_id, authority, marks) = Machine::<T>::held_by_one(n);
		let at = recent::<T>();
		let report = Report::Held { marks: marks.clone() };
		let payload = signing_payload(&Pallet::<T>::genesis(), &opaque(&node_id), &at, &report);
		let signature = authority.sign(&payload).expect("its key is in the keystore");
		let call = Call::<T>::report_held { node_id, marks, at, signature };
		#[block]
		{
			judge(call);
		}
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::new_test_ext(), crate::mock::Test);
}
