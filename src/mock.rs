//! A chain of one pallet, with nodes and requests that tests set, and words to tell stories
//! in: who has what, what a node reports, what time it is.

use crate::{
	self as pallet_backup, Call, ChainSettings, Compute, LineageSettings, Marketplace, NodeInfo,
	RequestInfo, SnapshotClaim, SnapshotOf, Subscription, crypto::AuthorityId, lineage_id, opaque,
};
use backup_primitives::{
	BlockRef, Cid, Consistency, FailureReason, Recipient, VmTag,
	job::Source,
	report::{Report, Watermark, Watermarks, signing_payload},
};
use codec::Encode;
use frame_support::{
	derive_impl, parameter_types,
	traits::{Authorize, Consideration, Contains, EnsureOrigin, Footprint},
};
use frame_system::{AuthorizeCall, EnsureRoot, RawOrigin};
use sp_application_crypto::RuntimeAppPublic;
use sp_core::H256;
use sp_keystore::{KeystoreExt, testing::MemoryKeystore};
use sp_runtime::{
	BuildStorage, DispatchError, DispatchResult,
	traits::{Dispatchable, IdentityLookup},
	transaction_validity::{TransactionSource, TransactionValidityError, ValidTransaction},
};
use std::{
	cell::RefCell,
	collections::{BTreeMap, BTreeSet},
};

pub(crate) type AccountId = u64;
pub(crate) type NodeId = u32;
pub(crate) type RequestId = u64;
pub(crate) type Extrinsic = sp_runtime::testing::TestXt<RuntimeCall, AuthorizeCall<Test>>;
type Block = sp_runtime::generic::Block<
	sp_runtime::generic::Header<u64, sp_runtime::traits::BlakeTwo256>,
	Extrinsic,
>;

pub(crate) const ALICE: AccountId = 1;
pub(crate) const BOB: AccountId = 2;
pub(crate) const CHARLIE: AccountId = 3;
pub(crate) const DAVE: AccountId = 4;

/// The node that hosts everything, unless a test says otherwise.
pub(crate) const NODE: NodeId = 10;
/// Another node, with a key in the same keystore.
pub(crate) const OTHER_NODE: NodeId = 11;

/// Alice's machine.
pub(crate) const REQUEST: RequestId = 7;
/// Another machine, without an owner until a test says so.
pub(crate) const OTHER_REQUEST: RequestId = 8;

pub(crate) const DISK_BYTES: u64 = 1 << 30;
pub(crate) const FREQUENCY: u64 = 100;

#[frame_support::runtime]
mod runtime {
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Test;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;
	#[runtime::pallet_index(1)]
	pub type Backup = pallet_backup;
}

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = Block;
	type AccountId = AccountId;
	type Lookup = IdentityLookup<AccountId>;
	type BaseCallFilter = Filter;
}

parameter_types! {
	pub const Settings: ChainSettings<u64> = ChainSettings {
		frequency: FREQUENCY,
		min_frequency: 10,
		max_frequency: 1_000,
		keep_last: 3,
		min_age: 0,
		deletion_grace: 20,
		deletion_deadline: 30,
		restore_lifetime: 50,
		proposal_lifetime: 40,
		key_activation_delay: 30,
		replicas: 2,
		holder_period: 20,
		holder_silence: 60,
	};
}

impl pallet_backup::Config for Test {
	type NodeId = NodeId;
	type RequestId = RequestId;
	type AuthorityId = AuthorityId;
	type Compute = World;
	type Marketplace = World;
	type GovernanceOrigin = EnsureRoot<AccountId>;
	type BlockNumberProvider = System;
	type DefaultSettings = Settings;
	type OnSnapshot = ();
	type BackupConsideration = Purse<0>;
	type RestoreConsideration = Purse<1>;
	type MinFrequency = frame_support::traits::ConstU64<10>;
	type MaxFrequency = frame_support::traits::ConstU64<1_000>;
	type MaxReportDelay = frame_support::traits::ConstU64<500>;
	type MaxSnapshots = frame_support::traits::ConstU32<40>;
	type MaxLineages = frame_support::traits::ConstU32<3>;
	type MaxGrants = frame_support::traits::ConstU32<2>;
	type MaxRestores = frame_support::traits::ConstU32<2>;
	type MaxHolds = frame_support::traits::ConstU32<6>;
	type MaxHolders = frame_support::traits::ConstU32<3>;
	type MaxReplacements = frame_support::traits::ConstU32<4>;
	type MaxOwnerKeys = frame_support::traits::ConstU32<3>;
	type ReportQuota = frame_support::traits::ConstU32<200>;
	type ReportPriority = frame_support::traits::ConstU64<1000>;
	type WeightInfo = crate::weights::SubstrateWeight<Test>;
	#[cfg(feature = "runtime-benchmarks")]
	type BenchmarkHelper = World;
}

impl<C> frame_system::offchain::CreateTransactionBase<C> for Test
where
	RuntimeCall: From<C>,
{
	type RuntimeCall = RuntimeCall;
	type Extrinsic = Extrinsic;
}

impl<C> frame_system::offchain::CreateTransaction<C> for Test
where
	RuntimeCall: From<C>,
{
	type Extension = AuthorizeCall<Test>;

	fn create_transaction(call: RuntimeCall, extension: Self::Extension) -> Extrinsic {
		Extrinsic::new_transaction(call, extension)
	}
}

impl<C> frame_system::offchain::CreateAuthorizedTransaction<C> for Test
where
	RuntimeCall: From<C>,
{
	fn create_extension() -> Self::Extension {
		AuthorizeCall::new()
	}
}

/// The nodes, requests and subscriptions around the pallet, as a test wants them.
#[derive(Clone, Default)]
pub struct World {
	requests: BTreeMap<RequestId, RequestInfo<NodeId, AccountId>>,
	subscriptions: BTreeMap<AccountId, Subscription>,
	authorities: BTreeMap<NodeId, AuthorityId>,
	/// Who runs a node, where that is not an account of its own.
	operators: BTreeMap<NodeId, AccountId>,
	/// Nodes with a second gateway.
	with_two_gateways: BTreeSet<NodeId>,
	/// What accounts can put down, in units of a snapshot or a restore; who is not here is rich.
	poor: BTreeMap<AccountId, u64>,
	/// Nothing that was put down can be returned.
	frozen: bool,
	/// Nodes whose workers run elsewhere.
	elsewhere: BTreeSet<NodeId>,
	filtered: bool,
	/// The branches that this one grew on, the last one last: the first block of each, and its
	/// number among all that there ever were.
	branches: Vec<(u64, u32)>,
	/// How many branches were lost.
	lost: u32,
}

thread_local! {
	static WORLD: RefCell<World> = RefCell::default();
}

impl World {
	fn change<R>(change: impl FnOnce(&mut World) -> R) -> R {
		WORLD.with_borrow_mut(change)
	}

	/// A machine of `owner` that runs on [`NODE`].
	pub(crate) fn run(request: RequestId, owner: AccountId) {
		let info = RequestInfo {
			owner,
			node: Some(NODE),
			running: true,
			vm: format!("vm-{request}").into_bytes().try_into().unwrap(),
			vm_tag: VmTag([request as u8; 16]),
			capacity_bytes: DISK_BYTES,
		};
		Self::change(|world| world.requests.insert(request, info));
	}

	/// A machine is gone, and its request with it.
	pub(crate) fn forget(request: RequestId) {
		Self::change(|world| world.requests.remove(&request));
	}

	pub(crate) fn edit_request(
		request: RequestId,
		edit: impl FnOnce(&mut RequestInfo<NodeId, AccountId>),
	) {
		Self::change(|world| edit(world.requests.get_mut(&request).unwrap()));
	}

	pub(crate) fn subscribe(owner: AccountId, subscription: Subscription) {
		Self::change(|world| world.subscriptions.insert(owner, subscription));
	}

	/// A node has another key.
	pub(crate) fn rotate(node: NodeId) {
		let key = new_key(u64::from(node) | 1 << 32);
		Self::change(|world| world.authorities.insert(node, key));
	}

	/// A machine runs on another node now.
	pub(crate) fn move_to(request: RequestId, node: NodeId) {
		Self::edit_request(request, |info| info.node = Some(node));
		<Backup as crate::BackupHooks<_, _>>::fulfilled(&request);
	}

	pub(crate) fn add_second_gateway(node: NodeId) {
		World::change(|world| world.with_two_gateways.insert(node));
	}

	/// A node joins the chain, with a key in the keystore.
	pub(crate) fn add_node(node: NodeId) {
		let key = new_key(node.into());
		Self::change(|world| world.authorities.insert(node, key));
	}

	/// A node is run by this account.
	pub(crate) fn operate(node: NodeId, operator: AccountId) {
		Self::change(|world| world.operators.insert(node, operator));
	}

	/// An account can put down so much and no more.
	pub(crate) fn impoverish(account: AccountId, units: u64) {
		Self::change(|world| world.poor.insert(account, units));
	}

	/// What an account can still put down.
	pub(crate) fn units(account: AccountId) -> u64 {
		Self::change(|world| world.poor[&account])
	}

	/// Let nothing that was put down be returned, or all of it again.
	pub(crate) fn freeze_purses(frozen: bool) {
		Self::change(|world| world.frozen = frozen);
	}

	/// A node's key is in another keystore: workers here do not speak for it.
	pub(crate) fn withhold(node: NodeId) {
		Self::change(|world| world.elsewhere.insert(node));
	}

	pub(crate) fn remove_node(node: NodeId) {
		Self::change(|world| world.authorities.remove(&node));
	}

	/// All that is around the pallet now, to go back to.
	pub(crate) fn look() -> World {
		Self::change(|world| world.clone())
	}

	/// Go back to what was around the pallet, on another branch: from its first block on no block
	/// has the hash that it had.
	pub(crate) fn go_back(past: World, first: u64) {
		Self::change(|world| {
			let lost = world.lost + 1;
			*world = World { lost, ..past };
			world.branches.push((first, lost));
		});
	}

	/// Let the runtime's call filter refuse all calls of the pallet.
	pub(crate) fn filter_calls() {
		Self::change(|world| world.filtered = true);
	}

	pub(crate) fn authority(node: NodeId) -> AuthorityId {
		Self::change(|world| world.authorities[&node].clone())
	}
}

/// A key in the keystore. Made of a bare seed: the keystore makes it anew for each signature, and
/// from words that would take longer than all the rest.
fn new_key(seed: u64) -> AuthorityId {
	AuthorityId::generate_pair(Some(format!("0x{seed:064x}").into_bytes()))
}

/// Where a node's blocks are served, and its key.
pub(crate) fn source(node: NodeId) -> Source {
	let gateway = format!("http://node-{node}").into_bytes();
	Source { gateway: gateway.try_into().unwrap(), recipient: Recipient([node as u8; 32]) }
}

/// Another place with the blocks of a node, if it has two.
pub(crate) fn second_gateway(node: NodeId) -> Source {
	let gateway = format!("http://second-{node}").into_bytes();
	Source { gateway: gateway.try_into().unwrap(), ..source(node) }
}

impl Compute<NodeId, RequestId, AccountId, AuthorityId> for World {
	fn request(request: &RequestId) -> Option<RequestInfo<NodeId, AccountId>> {
		World::change(|world| world.requests.get(request).cloned())
	}

	fn node(node: &NodeId) -> Option<NodeInfo<AuthorityId, AccountId>> {
		let authority = World::change(|world| world.authorities.get(node).cloned())?;
		let operator = World::change(|world| world.operators.get(node).copied());
		let Source { gateway, recipient } = source(*node);
		let mut gateways = vec![gateway];
		if World::change(|world| world.with_two_gateways.contains(node)) {
			gateways.push(second_gateway(*node).gateway);
		}
		Some(NodeInfo {
			authority,
			recipient,
			operator: operator.unwrap_or(1_000 + AccountId::from(*node)),
			gateways: gateways.try_into().unwrap(),
		})
	}

	fn node_of(authority: &AuthorityId) -> Option<NodeId> {
		World::change(|world| {
			let here = world.authorities.iter().filter(|(node, _)| !world.elsewhere.contains(node));
			here.filter(|(_, key)| *key == authority).map(|(node, _)| *node).next()
		})
	}
}

impl Marketplace<AccountId> for World {
	fn subscription(owner: &AccountId) -> Subscription {
		World::change(|world| {
			world.subscriptions.get(owner).copied().unwrap_or(Subscription::Disabled)
		})
	}
}

#[cfg(feature = "runtime-benchmarks")]
impl crate::BenchmarkHelper<NodeId, RequestId, AccountId, AuthorityId> for World {
	fn register_node(authority: AuthorityId) -> NodeId {
		World::change(|world| {
			let node = world.authorities.keys().max().map_or(NODE, |last| last + 1);
			world.authorities.insert(node, authority);
			node
		})
	}

	fn run_request(node: NodeId, owner: &AccountId) -> RequestId {
		let request =
			World::change(|world| world.requests.keys().max().map_or(REQUEST, |last| last + 1));
		World::run(request, *owner);
		World::edit_request(request, |info| info.node = Some(node));
		World::subscribe(*owner, Subscription::Active);
		request
	}
}

/// What somebody has put down for a backup (0) or a restore (1).
#[derive(
	Clone,
	Debug,
	PartialEq,
	Eq,
	codec::Encode,
	codec::Decode,
	codec::MaxEncodedLen,
	scale_info::TypeInfo,
)]
pub struct Purse<const KIND: u8>(u64);

impl<const KIND: u8> Purse<KIND> {
	/// Take units from an account, or give some back.
	fn pay(who: AccountId, from: u64, to: u64) -> DispatchResult {
		World::change(|world| {
			let Some(units) = world.poor.get_mut(&who) else { return Ok(()) };
			let left = (*units + from).checked_sub(to);
			*units = left.ok_or(sp_runtime::TokenError::FundsUnavailable)?;
			Ok(())
		})
	}
}

impl<const KIND: u8> Consideration<AccountId, Footprint> for Purse<KIND> {
	fn new(who: &AccountId, new: Footprint) -> Result<Self, DispatchError> {
		Self::pay(*who, 0, new.count)?;
		Ok(Self(new.count))
	}

	fn update(self, who: &AccountId, new: Footprint) -> Result<Self, DispatchError> {
		Self::pay(*who, self.0, new.count)?;
		Ok(Self(new.count))
	}

	fn drop(self, who: &AccountId) -> DispatchResult {
		let is_frozen = World::change(|world| world.frozen);
		frame_support::ensure!(!is_frozen, sp_runtime::TokenError::Frozen);
		Self::pay(*who, self.0, 0)
	}

	#[cfg(feature = "runtime-benchmarks")]
	fn ensure_successful(_: &AccountId, _: Footprint) {}
}

/// Refuses the pallet's calls if the test says so.
pub struct Filter;

impl Contains<RuntimeCall> for Filter {
	fn contains(call: &RuntimeCall) -> bool {
		let is_ours = matches!(call, RuntimeCall::Backup(_));
		!(is_ours && World::change(|world| world.filtered))
	}
}

/// A chain at block 1 on which nothing has happened.
pub(crate) fn new_test_ext() -> sp_io::TestExternalities {
	let storage = frame_system::GenesisConfig::<Test>::default().build_storage().unwrap();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.register_extension(KeystoreExt::new(MemoryKeystore::new()));
	ext.execute_with(|| {
		WORLD.set(World::default());
		for node in [NODE, OTHER_NODE] {
			World::add_node(node);
		}
		start_block(1);
	});
	ext
}

/// Tell a story on a new chain, and check all invariants when it ends.
pub(crate) fn story(tell: impl FnOnce()) {
	new_test_ext().execute_with(|| {
		tell();
		assert_eq!(Backup::do_try_state(), Ok(()));
	});
}

/// Tell a story that begins with Alice's machine running, backed up and paid for.
pub(crate) fn story_of_alice(tell: impl FnOnce()) {
	story(|| {
		begin(REQUEST, ALICE);
		tell();
	});
}

/// A machine of `owner` runs, with a subscription, a key and a lineage.
pub(crate) fn begin(request: RequestId, owner: AccountId) {
	World::run(request, owner);
	World::subscribe(owner, Subscription::Active);
	if crate::OwnerKeyVersion::<Test>::get(owner) == 0 {
		Backup::register_owner_key(signed(owner), key(owner as u8)).unwrap();
	}
	Backup::create_backup(signed(owner), request, None).unwrap();
}

pub(crate) fn signed(who: AccountId) -> RuntimeOrigin {
	RuntimeOrigin::signed(who)
}

pub(crate) fn key(tag: u8) -> Recipient {
	Recipient([tag; 32])
}

/// The root that a test calls `tag`.
pub(crate) fn root(tag: u8) -> Cid {
	Cid::dag_cbor([tag; 32])
}

/// The hash of a block on this branch.
pub(crate) fn hash_of(number: u64) -> H256 {
	let mut hash = H256::repeat_byte(0xb0);
	hash.0[..8].copy_from_slice(&number.to_le_bytes());
	let branch = World::change(|world| {
		let grown = world.branches.iter().rev().find(|(first, _)| *first <= number);
		grown.map(|(_, branch)| *branch)
	});
	if let Some(branch) = branch {
		hash.0[8..12].copy_from_slice(&branch.to_le_bytes());
	}
	hash
}

/// Begin a block, without a look at what the ones before have left.
pub(crate) fn start_block(number: u64) {
	System::reset_events();
	System::initialize(&number, &hash_of(number - 1), &Default::default());
}

/// Go on to a block, and check all invariants in each.
pub(crate) fn run_to(number: u64) {
	while System::block_number() < number {
		assert_eq!(Backup::do_try_state(), Ok(()));
		start_block(System::block_number() + 1);
	}
}

/// Go on by so many blocks in which nothing happens, and check nothing in them.
pub(crate) fn skip(blocks: u64) {
	for _ in 0..blocks {
		start_block(System::block_number() + 1);
	}
}

/// Go on by so many blocks.
pub(crate) fn run_for(blocks: u64) {
	run_to(System::block_number() + blocks);
}

pub(crate) fn events() -> Vec<crate::Event<Test>> {
	System::events()
		.into_iter()
		.filter_map(|record| match record.event {
			RuntimeEvent::Backup(event) => Some(event),
			RuntimeEvent::System(_) => None,
		})
		.collect()
}

pub(crate) fn last_event() -> crate::Event<Test> {
	events().pop().expect("an event")
}

/// A report of a snapshot. Right in every point until a test changes one.
#[derive(Clone)]
pub(crate) struct SnapshotStory {
	pub(crate) node: NodeId,
	/// Whose key signs it.
	pub(crate) signer: NodeId,
	pub(crate) request: RequestId,
	pub(crate) owner: AccountId,
	pub(crate) cid: Cid,
	pub(crate) claim: SnapshotClaim,
	pub(crate) at: BlockRef,
}

/// The report that is right for the next snapshot of a request, at this block.
pub(crate) fn snapshot(request: RequestId, tag: u8) -> SnapshotStory {
	let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
	SnapshotStory {
		node: lineage.node,
		signer: lineage.node,
		request,
		owner: lineage.owner,
		cid: root(tag),
		claim: SnapshotClaim {
			salt: lineage.salt,
			sequence: lineage.next,
			taken_at: System::block_number(),
			logical_bytes: DISK_BYTES,
			new_bytes: 1_000,
			consistency: Consistency::Crash,
			owner_key_version: 1,
		},
		at: recent(),
	}
}

/// The parent of this block.
pub(crate) fn recent() -> BlockRef {
	block(System::block_number() - 1)
}

/// A block of this branch.
pub(crate) fn block(number: u64) -> BlockRef {
	BlockRef { number, hash: hash_of(number).0 }
}

impl SnapshotStory {
	/// Change one point of the report before it is signed.
	pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
		change(&mut self);
		self
	}

	pub(crate) fn call(&self) -> Call<Test> {
		let report = Report::Snapshot {
			lineage: lineage_id(&self.request, self.claim.salt),
			sequence: self.claim.sequence,
			owner: opaque(&self.owner),
			description: None,
			snapshot: self.claim.snapshot(self.cid),
		};
		Call::add_snapshot {
			node_id: self.node,
			snapshot_cid: self.cid,
			description: None,
			request_id: self.request,
			account_id: self.owner,
			claim: self.claim.clone(),
			at: self.at,
			signature: sign(self.node, self.signer, &self.at, &report),
		}
	}

	pub(crate) fn submit(&self) -> Result<ValidTransaction, TransactionValidityError> {
		submit(self.call())
	}
}

/// The signature of one node's key over a report in the name of another, mostly the same.
pub(crate) fn sign(
	node: NodeId,
	signer: NodeId,
	at: &BlockRef,
	report: &Report,
) -> crate::SignatureOf<Test> {
	let payload = signing_payload(&hash_of(0).0, &opaque(&node), at, report);
	World::authority(signer).sign(&payload).expect("the key is in the keystore")
}

/// The report that a restore ended.
pub(crate) fn restore_report(restore: u64, failure: Option<FailureReason>) -> Call<Test> {
	let record = crate::RestoreRequests::<Test>::get(restore).expect("a restore");
	let lineage = lineage_id(&record.request_id, record.salt);
	let report = Report::Restore { restore, lineage, wish: record.digest(), failure };
	let at = recent();
	let node = record.node;
	let signature = sign(node, node, &at, &report);
	Call::report_restore { node_id: node, restore_id: restore, failure, at, signature }
}

/// The report that a snapshot failed in a slot.
pub(crate) fn failure_report(request: RequestId, slot: u64, reason: FailureReason) -> Call<Test> {
	let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
	let report = Report::SnapshotFailed {
		lineage: lineage_id(&request, lineage.salt),
		sequence: lineage.next,
		slot,
		reason,
	};
	let at = recent();
	Call::report_snapshot_failed {
		node_id: lineage.node,
		request_id: request,
		salt: lineage.salt,
		sequence: lineage.next,
		slot,
		reason,
		at,
		signature: sign(lineage.node, lineage.node, &at, &report),
	}
}

/// The report of its host that the blocks of a lineage are gone.
pub(crate) fn deleted_report(request: RequestId) -> Call<Test> {
	let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
	deleted_report_of(lineage.node, request)
}

/// The report of a node that the blocks of a lineage are gone.
pub(crate) fn deleted_report_of(node: NodeId, request: RequestId) -> Call<Test> {
	let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
	let report =
		Report::Deleted { lineage: lineage_id(&request, lineage.salt), until: lineage.next };
	let at = recent();
	Call::report_deleted {
		node_id: node,
		request_id: request,
		salt: lineage.salt,
		until: lineage.next,
		at,
		signature: sign(node, node, &at, &report),
	}
}

/// The report that a node holds copies of requests: of each from a sequence on, up to another.
pub(crate) fn held_report(node: NodeId, copies: &[(RequestId, u64, u64)]) -> Call<Test> {
	let mark = |(request, from, to): &(RequestId, u64, u64)| {
		let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
		Watermark { lineage: lineage_id(request, lineage.salt), from: *from, to: *to }
	};
	let marks = Watermarks::truncate_from(copies.iter().map(mark).collect());
	let at = recent();
	let signature = sign(node, node, &at, &Report::Held { marks: marks.clone() });
	Call::report_held { node_id: node, marks, at, signature }
}

/// What the pool and then a block do with a report. What passes must be dispatched well.
pub(crate) fn submit(call: Call<Test>) -> Result<ValidTransaction, TransactionValidityError> {
	let call = RuntimeCall::from(call);
	let verdict = call.authorize(TransactionSource::External).expect("reports are authorized");
	let (valid, refund) = verdict?;
	assert_eq!(refund, frame_support::weights::Weight::zero());
	let origin: RuntimeOrigin = RawOrigin::Authorized.into();
	call.dispatch(origin).expect("what passed authorize cannot fail");
	Ok(valid)
}

/// Record the next snapshot of a request, at its time.
pub(crate) fn record(request: RequestId, tag: u8) -> Cid {
	let lineage = crate::Lineages::<Test>::get(request).expect("a lineage");
	run_to(Backup::due_at(&lineage).max(System::block_number()));
	snapshot(request, tag).submit().expect("the report is right");
	root(tag)
}

/// Ask for the image of a snapshot, beside the machine.
pub(crate) fn restore(who: AccountId, request: RequestId, sequence: u64) -> DispatchResult {
	Backup::restore_snapshot(signed(who), request, sequence, Default::default())
}

/// Keep so many snapshots of Alice's machine.
pub(crate) fn keep_last(count: u32) {
	let settings = LineageSettings { paused: false, keep_last: Some(count) };
	Backup::set_backup_settings(signed(ALICE), REQUEST, settings).unwrap();
}

/// The history of a request, oldest first, and how many reads it took.
pub(crate) fn history(request: RequestId, limit: u32) -> (Vec<(u64, SnapshotOf<Test>)>, usize) {
	let (mut records, mut before, mut reads) = (Vec::new(), None, 0);
	loop {
		let (page, next) = Backup::snapshots(request, before, limit);
		records.extend(page);
		reads += 1;
		match next {
			None => break,
			Some(_) => before = next,
		}
	}
	records.reverse();
	(records, reads)
}

/// The sequences that are kept of a request.
pub(crate) fn kept_of(request: RequestId) -> Vec<u64> {
	history(request, u32::MAX).0.into_iter().map(|(sequence, _)| sequence).collect()
}

/// The sequences that are kept of Alice's machine.
pub(crate) fn kept() -> Vec<u64> {
	kept_of(REQUEST)
}

/// Check that something is refused for a reason and changes nothing.
pub(crate) fn assert_refused(call: Call<Test>, reason: impl Into<TransactionValidityError>) {
	let before = sp_io::storage::root(sp_core::storage::StateVersion::V1);
	assert_eq!(submit(call).map(|_| ()), Err(reason.into()));
	assert_eq!(sp_io::storage::root(sp_core::storage::StateVersion::V1), before);
}

/// Whether governance would be let in with an origin.
pub(crate) fn is_governance(origin: RuntimeOrigin) -> bool {
	<Test as crate::Config>::GovernanceOrigin::try_origin(origin).is_ok()
}

/// A transaction as it lies in the pool.
pub(crate) fn encoded(call: Call<Test>) -> Vec<u8> {
	Extrinsic::new_transaction(call.into(), AuthorizeCall::new()).encode()
}

/// A root as users write it into a call.
pub(crate) fn bytes(
	cid: Cid,
) -> frame_support::BoundedVec<u8, frame_support::traits::ConstU32<59>> {
	cid.as_bytes().to_vec().try_into().expect("36 bytes fit")
}
