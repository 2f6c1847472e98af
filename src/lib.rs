//! # Backup pallet
//!
//! Backs up the virtual machines of a compute chain by itself: the chain holds what should
//! exist and what was proven, an offchain worker compares that with reality at every block.
//!
//! ## Pallet API
//!
//! See the [`pallet`] module for configuration, calls, events, errors and storage. Neighbours
//! answer through [`Compute`] and [`Marketplace`], and tell of changes through [`BackupHooks`].
//! Wallets and agents read through view functions, or the same as [`runtime_api::BackupApi`].
//!
//! ## Overview
//!
//! | who | what for |
//! |---|---|
//! | owner | [`Call::create_backup`], [`Call::approve_backup`], [`Call::set_backup_settings`], [`Call::register_owner_key`], [`Call::request_snapshot`], [`Call::hold_snapshot`] |
//! | owner, or whom it lets in with [`Call::grant_access`] | [`Call::restore_from_snapshot`], [`Call::restore_snapshot`], [`Call::close_restore`] |
//! | owner, to end things | [`Call::delete_snapshot`], [`Call::delete_backup`], [`Call::cancel_deletion`], [`Call::reclaim_deposit`] |
//! | governance | [`Call::set_settings`], [`Call::set_paused`], [`Call::admit_storage_node`], and [`Call::hold_snapshot`] for evidence |
//! | everybody | [`Call::prune`], [`Call::close_deletion`], [`Call::replace_holders`] |
//! | a node's worker, without a fee | [`Call::add_snapshot`], [`Call::report_snapshot_failed`], [`Call::report_restore`], [`Call::report_deleted`], [`Call::report_held`] |
//!
//! ### Terminology
//!
//! - *Request*: an owner's virtual machine, as the compute pallet knows it.
//! - *Node*: the machine that runs it; it speaks through its *authority* key.
//! - *Lineage*: the history of snapshots of one request.
//! - *Snapshot*: one recorded state of the disks, named by the CID of its *root*.
//! - *Cadence*: how many blocks lie between two snapshots of a request.
//! - *Agent*: the program beside the node that reads disks and holds blocks.
//! - *Holder*: another node that keeps copies of a lineage's snapshots.
//!
//! ### How it goes
//!
//! 1. A node fulfils a request. If the owner has backups enabled, a lineage begins; if not, that
//!    counts as the node's proposal, which the owner approves with [`Call::approve_backup`], or
//!    the owner begins it unasked with [`Call::create_backup`].
//! 2. The owner registers a key with [`Call::register_owner_key`]. From now on the first
//!    snapshot is due.
//! 3. The worker of the hosting node orders the snapshot from its agent, block for block,
//!    until the agent answers with a CID.
//! 4. The worker reports it with [`Call::add_snapshot`], an authorized transaction that the
//!    node's authority signed. The chain judges it; what does not fit changes nothing.
//! 5. The owner asks for an image with [`Call::restore_from_snapshot`]. The agent writes it,
//!    the worker reports with [`Call::report_restore`].
//!
//! 6. Other nodes hold copies and say so with [`Call::report_held`]. What they confirm is what
//!    [`Pallet::protection`] counts. From one that leaves or falls silent another takes over.
//!
//! ## Example
//!
//! What the pallet asks of the chain around it, for a chain with one node and one machine. A whole
//! runtime stands in `examples/runtime`, and `docs/integrate.md` goes through it step by step.
//!
//! ```
//! use pallet_backup::{Compute, Marketplace, NodeInfo, RequestInfo, Subscription};
//! use pallet_backup::crypto::AuthorityId;
//! use sp_core::crypto::UncheckedFrom;
//!
//! struct Chain;
//!
//! fn authority() -> AuthorityId {
//!     sp_core::sr25519::Public::unchecked_from([1; 32]).into()
//! }
//!
//! impl Compute<u32, u64, u64, AuthorityId> for Chain {
//!     fn request(request: &u64) -> Option<RequestInfo<u32, u64>> {
//!         (*request == 7).then(|| RequestInfo {
//!             owner: 1,
//!             node: Some(10),
//!             running: true,
//!             // Named by the node, never by the owner.
//!             vm: b"web".to_vec().try_into().expect("it is short"),
//!             vm_tag: backup_primitives::VmTag([7; 16]),
//!             capacity_bytes: 1 << 30,
//!         })
//!     }
//!
//!     fn node(node: &u32) -> Option<NodeInfo<AuthorityId, u64>> {
//!         (*node == 10).then(|| NodeInfo {
//!             authority: authority(),
//!             recipient: backup_primitives::Recipient([2; 32]),
//!             operator: 2,
//!             gateways: Default::default(),
//!         })
//!     }
//!
//!     fn node_of(key: &AuthorityId) -> Option<u32> {
//!         (*key == authority()).then_some(10)
//!     }
//! }
//!
//! impl Marketplace<u64> for Chain {
//!     fn subscription(_: &u64) -> Subscription {
//!         Subscription::Active
//!     }
//! }
//!
//! assert_eq!(Chain::request(&7).and_then(|request| request.node), Chain::node_of(&authority()));
//! ```
//!
//! ## Implementation details
//!
//! - No unauthenticated CID is ever stored: who reports is decided by a key on chain.
//! - What passed `authorize` cannot fail in dispatch, and touches no balance.
//! - Every map is bounded per account, and every call costs a constant.
//! - Reports take at most a quarter of a block, and a node has a quota of them.
//! - Deposits are taken and returned by signed calls and in idle time only.
//! - Eviction, choosing of holders and judging of reports read a constant number of records,
//!   however many there are.
//! - Expiry is computed on read; there is no `on_initialize`. What has expired goes in `on_idle`,
//!   where other nodes also take over from holders that are missing.

#![cfg_attr(not(feature = "std"), no_std)]
#![expect(missing_debug_implementations, reason = "FRAME's macros write types without it")]

extern crate alloc;

mod access;
mod authorize;
#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
mod deletion;
mod deposits;
mod history;
mod holds;
mod invariants;
mod lineages;
mod moves;
mod owner_keys;
pub mod pages;
mod proposals;
mod reads;
mod replicas;
mod restores;
pub mod runtime_api;
mod serving;
mod snapshots;
mod take_over;
mod traits;
mod types;
pub mod weights;
mod worker;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;

pub use authorize::Invalidity;
pub use pallet::*;
#[cfg(feature = "runtime-benchmarks")]
pub use traits::BenchmarkHelper;
pub use traits::{
	BackupHooks, Compute, Marketplace, NodeInfo, OnSnapshot, RequestInfo, Subscription,
};
pub use types::{
	BackupBytes, BackupMetadata, ChainSettings, DeletionTarget, Eligibility, Failure, Grant,
	Holder, KeyPlace, Lineage, LineageSettings, LineageView, OwedCopy, OwnerKey, Proposal,
	Protection, RestoreOptions, RestoreRequest, RestoreState, SnapshotLock, SnapshotMetadata,
	SnapshotPoint, UserDeletion,
};
pub use weights::WeightInfo;

use backup_primitives::{LineageId, OpaqueId};
use sp_runtime::traits::BlockNumberProvider;

/// The key that a node's authority signs reports with.
pub mod crypto {
	/// Where the key lies in a node's keystore.
	pub const KEY_TYPE: sp_core::crypto::KeyTypeId = sp_core::crypto::KeyTypeId(*b"bkup");

	mod app {
		use sp_application_crypto::{app_crypto, sr25519};
		app_crypto!(sr25519, super::KEY_TYPE);
	}

	/// A node's authority key: sr25519.
	pub type AuthorityId = app::Public;

	/// A signature of [`AuthorityId`].
	pub type AuthoritySignature = app::Signature;
}

/// Log target of the pallet and its worker.
pub(crate) const LOG_TARGET: &str = "runtime::backup";

/// The block number that cadence and expiry count.
pub type ClockFor<T> = <<T as Config>::BlockNumberProvider as BlockNumberProvider>::BlockNumber;

/// [`Lineage`] with the runtime's types.
pub type LineageOf<T> =
	Lineage<<T as frame_system::Config>::AccountId, <T as Config>::NodeId, ClockFor<T>>;

/// [`SnapshotMetadata`] with the runtime's types.
pub type SnapshotOf<T> =
	SnapshotMetadata<<T as Config>::RequestId, <T as Config>::NodeId, ClockFor<T>>;

/// [`RestoreRequest`] with the runtime's types.
pub type RestoreOf<T> = RestoreRequest<
	<T as frame_system::Config>::AccountId,
	<T as Config>::NodeId,
	<T as Config>::RequestId,
	ClockFor<T>,
>;

/// [`LineageView`] with the runtime's types.
pub type LineageViewOf<T> = LineageView<
	<T as frame_system::Config>::AccountId,
	<T as Config>::NodeId,
	<T as Config>::RequestId,
	ClockFor<T>,
>;

/// [`RequestInfo`] with the runtime's types.
pub(crate) type RequestInfoOf<T> =
	RequestInfo<<T as Config>::NodeId, <T as frame_system::Config>::AccountId>;

/// [`Grant`] with the runtime's types.
pub type GrantOf<T> = Grant<<T as frame_system::Config>::AccountId, ClockFor<T>>;

/// The holders of a request's copies.
pub type HolderList<T> = frame_support::BoundedVec<
	Holder<<T as Config>::NodeId, ClockFor<T>>,
	<T as Config>::MaxHolders,
>;

/// [`OwedCopy`] with the runtime's types.
pub type OwedCopyOf<T> = OwedCopy<
	<T as frame_system::Config>::AccountId,
	<T as Config>::NodeId,
	<T as Config>::RequestId,
>;

/// [`Protection`] with the runtime's types.
pub type ProtectionOf<T> = Protection<<T as Config>::NodeId, ClockFor<T>>;

/// A signature of the runtime's authority key.
pub type SignatureOf<T> =
	<<T as Config>::AuthorityId as sp_application_crypto::RuntimeAppPublic>::Signature;

/// An id as the agent knows it.
pub(crate) fn opaque(id: &impl codec::Encode) -> OpaqueId {
	OpaqueId::of(id).expect("integrity_test bounds the encoded length of every id; qed")
}

/// A lineage as the agent knows it.
pub(crate) fn lineage_id(request: &impl codec::Encode, salt: [u8; 32]) -> LineageId {
	LineageId { request: opaque(request), salt }
}

#[frame_support::pallet]
#[expect(
	clippy::too_many_arguments,
	clippy::type_complexity,
	reason = "a report's call carries each fact that is signed, and the macro repeats them"
)]
pub mod pallet {
	use super::*;
	use crate::pages::Page;
	use alloc::vec::Vec;
	use backup_primitives::{
		BlockRef, Cid, FailureReason, Recipient,
		cid::CID_TEXT_CHARS,
		report::{Description, TakenSnapshot, Watermarks},
	};
	use frame_support::{
		pallet_prelude::*,
		traits::{Consideration, Footprint},
	};
	use frame_system::{
		ensure_authorized, offchain::CreateAuthorizedTransaction, pallet_prelude::*,
	};
	use sp_application_crypto::RuntimeAppPublic;
	use sp_runtime::traits::SaturatedConversion;

	/// The storage version of this pallet's first release.
	const STORAGE_VERSION: StorageVersion = StorageVersion::new(0);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	/// Defaults for what a chain seldom wants otherwise, for `derive_impl`.
	pub mod config_preludes {
		use super::DefaultConfig;
		use crate::crypto;
		use frame_support::{
			derive_impl,
			pallet_prelude::inject_runtime_type,
			traits::{ConstU32, ConstU64},
		};

		/// For a chain of its own: nobody puts anything down, and no more is kept of an account
		/// than a person can look through. What counts blocks is left to the chain.
		#[derive(Debug)]
		pub struct SolochainDefaultConfig;

		#[derive_impl(frame_system::config_preludes::SolochainDefaultConfig, no_aggregated_types)]
		impl frame_system::DefaultConfig for SolochainDefaultConfig {}

		#[frame_support::register_default_impl(SolochainDefaultConfig)]
		impl DefaultConfig for SolochainDefaultConfig {
			type AuthorityId = crypto::AuthorityId;
			type OnSnapshot = ();
			type BackupConsideration = ();
			type RestoreConsideration = ();
			type MaxSnapshots = ConstU32<365>;
			type MaxLineages = ConstU32<100>;
			type MaxGrants = ConstU32<16>;
			type MaxRestores = ConstU32<8>;
			type MaxHolds = ConstU32<16>;
			type MaxHolders = ConstU32<4>;
			type MaxReplacements = ConstU32<100>;
			type MaxOwnerKeys = ConstU32<32>;
			type ReportQuota = ConstU32<1_000>;
			type ReportPriority = ConstU64<{ u64::MAX / 4 }>;
		}
	}

	/// Why the balance of an account is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// For the history of a request.
		History,
		/// For a restore that is not closed.
		Restore,
	}

	#[pallet::config(with_default)]
	pub trait Config:
		frame_system::Config<RuntimeCall: From<Call<Self>>>
		+ CreateAuthorizedTransaction<Call<Self>>
	{
		/// Id of a node. At most 64 bytes in SCALE.
		#[pallet::no_default]
		type NodeId: Parameter + Member + MaxEncodedLen + Copy + Ord;

		/// Id of a compute request. At most 64 bytes in SCALE, and never given twice.
		#[pallet::no_default]
		type RequestId: Parameter + Member + MaxEncodedLen + Copy + Ord;

		/// The key that nodes sign reports with; [`crypto::AuthorityId`] unless the chain
		/// has its own.
		type AuthorityId: Parameter + Member + RuntimeAppPublic + Ord;

		/// Where nodes and requests are kept.
		#[pallet::no_default]
		type Compute: Compute<Self::NodeId, Self::RequestId, Self::AccountId, Self::AuthorityId>;

		/// Where backups are sold.
		#[pallet::no_default]
		type Marketplace: Marketplace<Self::AccountId>;

		/// Who sets the cadence of the chain and its other settings.
		#[pallet::no_default]
		type GovernanceOrigin: EnsureOrigin<Self::RuntimeOrigin>;

		/// The clock that cadence and expiry count: `System` on a solochain, the relay
		/// chain's block number on a parachain.
		#[pallet::no_default]
		type BlockNumberProvider: BlockNumberProvider;

		/// Settings of the chain where neither genesis nor governance set others.
		#[pallet::no_default]
		#[pallet::constant]
		type DefaultSettings: Get<ChainSettings<ClockFor<Self>>>;

		/// Told of every recorded snapshot.
		#[pallet::no_default_bounds]
		type OnSnapshot: OnSnapshot<Self::RequestId, Self::AccountId>;

		/// What an owner puts down for the history of a request, and gets back with
		/// [`Call::reclaim_deposit`] when that is gone: for as many snapshots as are kept. `()`
		/// where nobody has to.
		#[pallet::no_default_bounds]
		type BackupConsideration: Consideration<Self::AccountId, Footprint>;

		/// What who asks for a restore puts down until that is closed.
		#[pallet::no_default_bounds]
		type RestoreConsideration: Consideration<Self::AccountId, Footprint>;

		/// Shortest cadence that governance may allow, in blocks. Reports are feeless, so this
		/// bounds what a node can put into blocks: not below a few times the time that a backup
		/// takes.
		#[pallet::no_default]
		#[pallet::constant]
		type MinFrequency: Get<ClockFor<Self>>;

		/// Longest cadence that governance may allow, in blocks.
		#[pallet::no_default]
		#[pallet::constant]
		type MaxFrequency: Get<ClockFor<Self>>;

		/// Oldest snapshot that is still recorded, in blocks since its disks stood still. Far
		/// above the time that the largest first backup takes.
		#[pallet::no_default]
		#[pallet::constant]
		type MaxReportDelay: Get<ClockFor<Self>>;

		/// Most snapshots of one request that are ever kept.
		#[pallet::constant]
		type MaxSnapshots: Get<u32>;

		/// Most requests of one account with backups.
		#[pallet::constant]
		type MaxLineages: Get<u32>;

		/// Most accounts that one request is open to besides its owner.
		#[pallet::constant]
		type MaxGrants: Get<u32>;

		/// Most restores of one account that are not closed.
		#[pallet::constant]
		type MaxRestores: Get<u32>;

		/// Most snapshots of one request that its owner may hold.
		#[pallet::constant]
		type MaxHolds: Get<u32>;

		/// Most nodes that hold copies of one request's snapshots.
		#[pallet::constant]
		type MaxHolders: Get<u32>;

		/// Most holders of the chain that are replaced in 100 blocks.
		#[pallet::constant]
		type MaxReplacements: Get<u32>;

		/// Most versions of an owner's key.
		#[pallet::constant]
		type MaxOwnerKeys: Get<u32>;

		/// Most reports of one node in 100 blocks. Above what its machines need at their cadence:
		/// it bounds what a node can do with a stolen key.
		#[pallet::constant]
		type ReportQuota: Get<u32>;

		/// Priority of reports in the transaction pool. They take a quarter of a block at most,
		/// so it may be high.
		#[pallet::constant]
		type ReportPriority: Get<TransactionPriority>;

		/// What the calls cost.
		#[pallet::no_default]
		type WeightInfo: WeightInfo;

		/// Makes the nodes and machines that benchmarks need.
		#[pallet::no_default]
		#[cfg(feature = "runtime-benchmarks")]
		type BenchmarkHelper: BenchmarkHelper<Self::NodeId, Self::RequestId, Self::AccountId, Self::AuthorityId>;
	}

	/// The backups that a node keeps for an account.
	#[pallet::storage]
	pub type Backups<T: Config> = StorageDoubleMap<
		_,
		Blake2_128Concat,
		T::NodeId,
		Blake2_128Concat,
		T::AccountId,
		BackupMetadata<T::AccountId, ClockFor<T>>,
	>;

	/// All that a report about a request needs to be judged.
	#[pallet::storage]
	pub type Lineages<T: Config> = StorageMap<_, Blake2_128Concat, T::RequestId, LineageOf<T>>;

	/// The requests of a node, for its worker's pages.
	#[pallet::storage]
	pub type LineagesOfNode<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::NodeId, Blake2_128Concat, T::RequestId, ()>;

	/// The requests of an account.
	#[pallet::storage]
	pub type LineagesOfAccount<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::AccountId, Blake2_128Concat, T::RequestId, ()>;

	/// How many entries [`LineagesOfNode`] has for a node.
	#[pallet::storage]
	pub type LineageCountOfNode<T: Config> =
		StorageMap<_, Blake2_128Concat, T::NodeId, u32, ValueQuery>;

	/// How many entries [`LineagesOfAccount`] has for an account.
	#[pallet::storage]
	pub type LineageCountOfAccount<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, u32, ValueQuery>;

	/// Where the sequence of a request goes on, after its lineage was deleted: a sequence
	/// never starts again.
	#[pallet::storage]
	pub type NextSequences<T: Config> = StorageMap<_, Blake2_128Concat, T::RequestId, u64>;

	/// Recorded snapshots by request and sequence.
	#[pallet::storage]
	pub type Snapshots<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::RequestId, Twox64Concat, u64, SnapshotOf<T>>;

	/// Sequence of the snapshot with a root, by owner, root and request. Never by root alone: roots
	/// are public in the pool, and a stranger could be the first to name one. Nor by owner and root
	/// alone: another node of the same owner could.
	#[pallet::storage]
	pub type SnapshotsByCid<T: Config> = StorageNMap<
		_,
		(
			NMapKey<Blake2_128Concat, T::AccountId>,
			NMapKey<Twox64Concat, Cid>,
			NMapKey<Twox64Concat, T::RequestId>,
		),
		u64,
	>;

	/// What keeps a snapshot from eviction; no entry if nothing does.
	#[pallet::storage]
	pub type SnapshotLocks<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::RequestId, Twox64Concat, u64, SnapshotLock>;

	/// Snapshots that are to be deleted, and from when on.
	#[pallet::storage]
	pub type SnapshotDeletions<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::RequestId, Twox64Concat, u64, ClockFor<T>>;

	/// Where the search for deletions of snapshots that are due goes on.
	#[pallet::storage]
	pub type SnapshotDeletionCursor<T: Config> = StorageValue<_, (T::RequestId, u64)>;

	/// Cadence that an account set for itself, in blocks.
	#[pallet::storage]
	pub type BackupOffchainWorkerFrequency<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, ClockFor<T>>;

	/// What governance set. Written at genesis, and read as [`Pallet::settings`].
	#[pallet::storage]
	pub type Settings<T: Config> = StorageValue<_, ChainSettings<ClockFor<T>>>;

	/// The keys of an account by version, the first being 1. Old ones stay: old roots are
	/// sealed to them.
	#[pallet::storage]
	pub type OwnerKeys<T: Config> = StorageDoubleMap<
		_,
		Blake2_128Concat,
		T::AccountId,
		Twox64Concat,
		u32,
		OwnerKey<ClockFor<T>>,
	>;

	/// Newest version in [`OwnerKeys`].
	#[pallet::storage]
	pub type OwnerKeyVersion<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, u32, ValueQuery>;

	/// Who may restore a request besides its owner. Some of it may have expired.
	#[pallet::storage]
	pub type Grants<T: Config> = StorageMap<
		_,
		Blake2_128Concat,
		T::RequestId,
		BoundedVec<GrantOf<T>, T::MaxGrants>,
		ValueQuery,
	>;

	/// Backups that nodes proposed to owners who had none enabled. Some may have expired.
	#[pallet::storage]
	pub type Proposals<T: Config> =
		StorageMap<_, Blake2_128Concat, T::RequestId, Proposal<T::NodeId, ClockFor<T>>>;

	/// Restores that are not closed.
	#[pallet::storage]
	pub type RestoreRequests<T: Config> = StorageMap<_, Twox64Concat, u64, RestoreOf<T>>;

	/// Restores that a node has to carry out, oldest first.
	#[pallet::storage]
	pub type RestoresOfNode<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::NodeId, Twox64Concat, u64, ()>;

	/// How many restores of an account are not closed.
	#[pallet::storage]
	pub type RestoreCountOfAccount<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, u32, ValueQuery>;

	/// Id of the next restore.
	#[pallet::storage]
	pub type NextRestoreId<T: Config> = StorageValue<_, u64, ValueQuery>;

	/// Where the search for restores that are over goes on.
	#[pallet::storage]
	pub type RestoreCursor<T: Config> = StorageValue<_, u64>;

	/// What owners have put down for histories, also of those that are gone.
	#[pallet::storage]
	pub type HistoryTickets<T: Config> = StorageDoubleMap<
		_,
		Blake2_128Concat,
		T::AccountId,
		Blake2_128Concat,
		T::RequestId,
		T::BackupConsideration,
	>;

	/// What accounts have put down for restores that are not closed.
	#[pallet::storage]
	pub type RestoreTickets<T: Config> = StorageMap<_, Twox64Concat, u64, T::RestoreConsideration>;

	/// Nodes that may hold copies, in places from 0 on without a gap.
	#[pallet::storage]
	pub type StorageNodes<T: Config> = StorageMap<_, Twox64Concat, u32, T::NodeId>;

	/// Where each of them stands in [`StorageNodes`].
	#[pallet::storage]
	pub type StorageNodePlaces<T: Config> = StorageMap<_, Blake2_128Concat, T::NodeId, u32>;

	/// How many they are.
	#[pallet::storage]
	pub type StorageNodeCount<T: Config> = StorageValue<_, u32, ValueQuery>;

	/// The nodes that hold copies of a request's snapshots, and what they last said of them.
	#[pallet::storage]
	pub type HoldersOf<T: Config> =
		StorageMap<_, Blake2_128Concat, T::RequestId, HolderList<T>, ValueQuery>;

	/// The requests of which a node holds copies.
	#[pallet::storage]
	pub type Owed<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, T::NodeId, Blake2_128Concat, T::RequestId, ()>;

	/// How many entries [`Owed`] has for a node.
	#[pallet::storage]
	pub type OwedCount<T: Config> = StorageMap<_, Blake2_128Concat, T::NodeId, u32, ValueQuery>;

	/// How many holders were replaced in the last window that had any, and when that began.
	#[pallet::storage]
	pub type Replacements<T: Config> = StorageValue<_, (ClockFor<T>, u32)>;

	/// The request behind which the search for holders to be replaced goes on.
	#[pallet::storage]
	pub type TakeOverCursor<T: Config> = StorageValue<_, T::RequestId>;

	/// When governance last resumed what it had paused. Nobody was silent before that.
	#[pallet::storage]
	pub type ResumedAt<T: Config> = StorageValue<_, ClockFor<T>, ValueQuery>;

	/// Whether governance has paused all backups.
	#[pallet::storage]
	pub type Paused<T: Config> = StorageValue<_, bool, ValueQuery>;

	/// What the reports of a block have taken of it: of the last block that had any.
	#[pallet::storage]
	pub type ReportsInBlock<T: Config> = StorageValue<_, (BlockNumberFor<T>, Weight)>;

	/// How many reports of a node were recorded in its last window, and when that began.
	#[pallet::storage]
	pub type ReportsOfNode<T: Config> =
		StorageMap<_, Blake2_128Concat, T::NodeId, (ClockFor<T>, u32)>;

	/// Accounts whose backups are to be deleted.
	#[pallet::storage]
	pub type UserDeletions<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, UserDeletion<ClockFor<T>>>;

	#[pallet::genesis_config]
	#[derive(frame_support::DefaultNoBound)]
	pub struct GenesisConfig<T: Config> {
		/// What governance starts with; the chain's defaults if not given.
		pub settings: Option<ChainSettings<u64>>,
		/// Not used.
		#[serde(skip)]
		pub _config: core::marker::PhantomData<T>,
	}

	#[pallet::genesis_build]
	impl<T: Config> BuildGenesisConfig for GenesisConfig<T> {
		fn build(&self) {
			if let Some(settings) = &self.settings {
				let settings = settings.clone().map(SaturatedConversion::saturated_into);
				let in_bounds = Pallet::<T>::ensure_in_bounds(&settings);
				assert!(
					in_bounds.is_ok(),
					"backup settings of the genesis are out of bounds: {in_bounds:?}"
				);
				Settings::<T>::put(settings);
			}
		}
	}

	#[pallet::event]
	#[pallet::generate_deposit(pub(super) fn deposit_event)]
	pub enum Event<T: Config> {
		/// A lineage began.
		BackupCreated {
			/// The node that hosts the machine.
			node_id: T::NodeId,
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A node asks for the backup of a machine whose owner has none enabled.
		BackupProposed {
			/// The node that hosts the machine.
			node_id: T::NodeId,
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// When it can be approved no more.
			expires_at: ClockFor<T>,
		},
		/// A proposal was turned down, or has expired and was taken away.
		ProposalRejected {
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A request runs on another node, and its history goes on there.
		BackupMoved {
			/// The machine's request.
			request_id: T::RequestId,
			/// The node that hosted it.
			from: T::NodeId,
			/// The node that hosts it.
			to: T::NodeId,
		},
		/// An owner changed the settings of a backup.
		BackupUpdated {
			/// The node that hosts the machine.
			node_id: T::NodeId,
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A snapshot was recorded.
		SnapshotAdded {
			/// The node that reported it.
			node_id: T::NodeId,
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// Its root.
			cid: Cid,
		},
		/// Retention took a snapshot away.
		SnapshotEvicted {
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// Its root.
			cid: Cid,
			/// Whether it was younger than what is evicted else. It went because no more may
			/// ever be kept: somebody records too many.
			is_young: bool,
		},
		/// A snapshot is kept until it is released.
		SnapshotHeld {
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// Whether governance holds it, which keeps it from deletion too; else its owner.
			by_governance: bool,
		},
		/// A snapshot is not held any more by who held it.
		SnapshotReleased {
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// Whether governance held it; else its owner.
			by_governance: bool,
		},
		/// An owner wants a snapshot out of turn.
		SnapshotRequested {
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A snapshot was due and could not be taken.
		SnapshotFailed {
			/// The machine's request.
			request_id: T::RequestId,
			/// The place in the lineage that waits.
			sequence: u64,
			/// What stood in the way.
			reason: FailureReason,
		},
		/// A cadence was set: of an account, or of the chain if no account is named.
		BackupOffchainWorkerFrequencyUpdated {
			/// The account.
			account: Option<T::AccountId>,
			/// Its new cadence, in blocks.
			frequency: ClockFor<T>,
		},
		/// Governance changed the settings of the chain.
		SettingsUpdated {
			/// The new settings.
			settings: ChainSettings<ClockFor<T>>,
		},
		/// Governance paused all backups: no report is recorded until it resumes them.
		AllPaused,
		/// Governance resumed all backups.
		AllResumed,
		/// An account registered a key to seal its backups to.
		OwnerKeyRegistered {
			/// The account.
			owner: T::AccountId,
			/// Version of the key.
			version: u32,
			/// From when on it alone is sealed to.
			active_from: ClockFor<T>,
		},
		/// An owner lets another account restore a machine.
		AccessGranted {
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// Who may restore it now.
			account: T::AccountId,
			/// Until when; nothing if until it is revoked.
			expires_at: Option<ClockFor<T>>,
		},
		/// An account may not restore a machine any more.
		AccessRevoked {
			/// Whose machine it is.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// Who may not.
			account: T::AccountId,
		},
		/// An image was asked for.
		SnapshotRestoreRequested {
			/// The restore.
			restore_id: u64,
			/// Who asked.
			requester: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// Root of the snapshot.
			cid: Cid,
		},
		/// An image is complete.
		SnapshotRestored {
			/// The restore.
			restore_id: u64,
			/// The machine's request.
			request_id: T::RequestId,
			/// Root of the snapshot.
			cid: Cid,
		},
		/// An image could not be made.
		SnapshotRestoreFailed {
			/// The restore.
			restore_id: u64,
			/// The machine's request.
			request_id: T::RequestId,
			/// What stood in the way.
			reason: FailureReason,
		},
		/// A restore was closed: its record is gone.
		RestoreClosed {
			/// The restore.
			restore_id: u64,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// An owner wants all its backups deleted.
		UserDeletionRequested {
			/// The owner.
			owner: T::AccountId,
			/// From when on blocks may be given up.
			effective_at: ClockFor<T>,
		},
		/// An owner wants the backup of a request deleted.
		BackupDeletionRequested {
			/// The owner.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
			/// From when on blocks may be given up.
			effective_at: ClockFor<T>,
		},
		/// An owner wants a snapshot deleted.
		SnapshotDeletionRequested {
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// From when on its blocks may be given up.
			effective_at: ClockFor<T>,
		},
		/// A deletion was taken back.
		DeletionCancelled {
			/// What is not deleted after all.
			target: DeletionTarget<T::AccountId, T::RequestId>,
		},
		/// A snapshot was deleted: its record is gone, its node gives up its blocks.
		SnapshotDeleted {
			/// The machine's request.
			request_id: T::RequestId,
			/// Its place in the lineage.
			sequence: u64,
			/// Its root.
			cid: Cid,
		},
		/// A node has given up the blocks of a request that is to be deleted. Others have not yet.
		DeletionConfirmed {
			/// The node: the host, or the holder of a copy.
			node_id: T::NodeId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A deletion was closed without the word of those who were to confirm it. The records
		/// are gone; whether the blocks are nobody knows.
		DeletionClosed {
			/// The machine's request.
			request_id: T::RequestId,
			/// The nodes that did not confirm.
			unconfirmed: Vec<T::NodeId>,
		},
		/// The snapshots of one request are gone, blocks and metadata.
		LineageDeleted {
			/// The node that confirmed it.
			node_id: T::NodeId,
			/// Whose machine it was.
			owner: T::AccountId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// Nothing of an account is left.
		UserStorageDeleted {
			/// The account.
			owner: T::AccountId,
		},
		/// An owner has the deposit for a history back.
		DepositReturned {
			/// The owner.
			owner: T::AccountId,
			/// The request.
			request_id: T::RequestId,
		},
		/// A node may hold copies.
		StorageNodeAdmitted {
			/// The node.
			node_id: T::NodeId,
		},
		/// A node gets no new copies.
		StorageNodeDismissed {
			/// The node.
			node_id: T::NodeId,
		},
		/// A node is to hold copies of a request's snapshots.
		HolderChosen {
			/// The node.
			node_id: T::NodeId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A node has to hold copies of a request's snapshots no more.
		HolderDropped {
			/// The node.
			node_id: T::NodeId,
			/// The machine's request.
			request_id: T::RequestId,
		},
		/// A node has said which copies it holds.
		CopiesConfirmed {
			/// The node.
			node_id: T::NodeId,
			/// Of how many requests.
			count: u32,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// The request has a backup already.
		BackupAlreadyExists,
		/// There is no backup of that request, or none of that account.
		BackupNotFound,
		/// The account may not do this.
		NotAuthorized,
		/// The backup belongs to another account.
		NotBackupOwner,
		/// The account may restore the request already.
		AccessAlreadyGranted,
		/// The account was never let in, or not any more.
		AccessNotFound,
		/// A grant would have expired before it began.
		ExpiryInThePast,
		/// The request is open to as many accounts as it may be; revoke one first.
		TooManyGrants,
		/// There is no restore with that id.
		RestoreRequestNotFound,
		/// The account has no snapshot with that root, or the request none of that sequence.
		SnapshotNotFound,
		/// The bytes are not a CID of version 1, SHA2-256, dag-cbor, in binary or base32.
		MalformedCid,
		/// The cadence is not between the shortest and the longest that the chain allows.
		FrequencyOutOfBounds,
		/// A setting is not within the bounds of the chain.
		SettingsOutOfBounds,
		/// There is no such request, or it does not run on a node.
		RequestNotRunning,
		/// The account has no backups enabled.
		BackupsNotEnabled,
		/// The account has as many requests with backups as it may have.
		TooManyBackups,
		/// The account has as many open restores as it may have; close one first.
		TooManyRestores,
		/// The account has registered as many keys as it may.
		TooManyOwnerKeys,
		/// A new key of the account is not active yet.
		OwnerKeyPending,
		/// The account has asked for the deletion of its backups.
		DeletionPending,
		/// The account has registered no key to seal to.
		NoOwnerKey,
		/// The backups of the request are paused, or all of the chain.
		BackupPaused,
		/// As many snapshots are kept as may ever be, and those that could go are held.
		HistoryFull,
		/// Who asks holds the snapshot already.
		SnapshotHeldAlready,
		/// Who asks does not hold the snapshot.
		SnapshotNotHeld,
		/// The owner holds as many snapshots of the request as it may; release one first.
		TooManyHolds,
		/// The history has no snapshot that retention lets go now.
		NothingToPrune,
		/// Nobody asked for that deletion.
		DeletionNotFound,
		/// The deletion has taken effect, and cannot be taken back.
		DeletionInEffect,
		/// The deletion is not due, or nodes may still confirm it.
		DeletionNotOver,
		/// No node has proposed a backup of that request.
		ProposalNotFound,
		/// The time of the proposal is over, or the machine has left the node that made it.
		ProposalExpired,
		/// The node that is to restore did not seal the snapshot, or is gone: it needs an envelope
		/// of the owner.
		EnvelopeRequired,
		/// More than one machine of the account has a snapshot with that root; name the request.
		CidAmbiguous,
		/// Nothing was put down for that request, or it was returned.
		DepositNotFound,
		/// There is no such node.
		NodeNotFound,
		/// The node may hold copies already.
		StorageNodeAdmitted,
		/// The node holds no copies.
		NotAStorageNode,
		/// The holders of the request are all there and heard of, or no others can be found.
		NothingToReplace,
		/// As many holders were replaced in these 100 blocks as may be.
		TooManyReplacements,
		/// A snapshot is due or asked for, and not recorded yet.
		SnapshotPending,
		/// The last snapshot is younger than the shortest cadence that the chain allows.
		TooSoon,
		/// The bounds of the cadence are upside down, or beyond those of the runtime.
		FrequencyBoundsInvalid,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		fn offchain_worker(_: BlockNumberFor<T>) {
			Self::reconcile();
		}

		fn on_idle(_: BlockNumberFor<T>, room: Weight) -> Weight {
			let spent = Self::close_those_over(room);
			let spent = spent.saturating_add(Self::carry_out_deletions(room.saturating_sub(spent)));
			spent.saturating_add(Self::take_over(room.saturating_sub(spent)))
		}

		fn integrity_test() {
			Self::check_config();
		}

		#[cfg(feature = "try-runtime")]
		fn try_state(_: BlockNumberFor<T>) -> Result<(), sp_runtime::TryRuntimeError> {
			Self::do_try_state()
		}
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// Whether a snapshot of a request would be taken now, and if not, why.
		pub fn eligibility(request_id: T::RequestId) -> Eligibility<ClockFor<T>> {
			Self::judge_eligibility(&request_id)
		}

		/// The lineage of a request.
		pub fn lineage(request_id: T::RequestId) -> Option<LineageViewOf<T>> {
			Self::view_lineage(&request_id)
		}

		/// Snapshots of a request, the newest first, from before a place on or from the newest on: at
		/// most `limit`, and 512, among 4,096 places; and the place to go on before if there may be
		/// more. A `limit` of 0 is one of 1.
		pub fn snapshots(
			request_id: T::RequestId,
			before: Option<u64>,
			limit: u32,
		) -> Page<u64, SnapshotOf<T>> {
			Self::view_snapshots(&request_id, before, limit)
		}

		/// Sequence of the newest snapshot of a request that was taken at a block or before, if it is
		/// among 4,096 places from before one on, or from the newest on; and the place to go on before
		/// if it is not, and there may be more. For [`Call::restore_snapshot`].
		pub fn snapshot_as_of(
			request_id: T::RequestId,
			at: ClockFor<T>,
			before: Option<u64>,
		) -> (Option<u64>, Option<u64>) {
			Self::view_snapshot_as_of(&request_id, at, before)
		}

		/// Who may restore a request besides its owner.
		pub fn grants(request_id: T::RequestId) -> Vec<GrantOf<T>> {
			Self::view_grants(&request_id)
		}

		/// The lineages of an account.
		pub fn lineages_of(owner: T::AccountId) -> Vec<LineageViewOf<T>> {
			Self::view_lineages_of(&owner)
		}

		/// The restores that an account asked for and that are not closed, among 4,096 of the chain
		/// from behind one on, and the one to go on behind if there are more.
		pub fn restores_of(requester: T::AccountId, after: Option<u64>) -> Page<u64, RestoreOf<T>> {
			Self::view_restores_of(&requester, after)
		}

		/// The account that registered a key, and its version, if it is among 4,096 keys of the
		/// chain from behind one on; and the key to go on behind if it is not, and there are more.
		pub fn owner_of_key(
			recipient: Recipient,
			after: Option<KeyPlace<T::AccountId>>,
		) -> (Option<KeyPlace<T::AccountId>>, Option<KeyPlace<T::AccountId>>) {
			Self::view_owner_of_key(recipient, after)
		}

		/// What the backups of an account take.
		pub fn bytes_of(owner: T::AccountId) -> BackupBytes {
			Self::view_bytes_of(&owner)
		}

		/// How well a machine is protected: what its node claims, and what others confirmed.
		pub fn protection(request_id: T::RequestId) -> Option<ProtectionOf<T>> {
			Self::view_protection(&request_id)
		}

		/// At most 64 copies that a node has to hold, from behind one request on, and the request
		/// to go on behind if there are more.
		pub fn owed_copies(
			node_id: T::NodeId,
			after: Option<T::RequestId>,
		) -> (Vec<OwedCopyOf<T>>, Option<T::RequestId>) {
			Self::view_owed_copies(node_id, after)
		}

		/// Requests of a node whose snapshot is due, among 256 from behind one request on, and the
		/// request to go on behind if there are more.
		pub fn due_of_node(
			node_id: T::NodeId,
			after: Option<T::RequestId>,
		) -> (Vec<T::RequestId>, Option<T::RequestId>) {
			Self::view_due_of_node(node_id, after)
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Set the cadence, in blocks: governance for the chain, an account for itself, both
		/// within the bounds of [`ChainSettings`].
		///
		/// An account needs a backup for it. Snapshots that are running are not affected.
		#[pallet::call_index(0)]
		// It was measured before there were bounds among the settings to be read.
		#[pallet::weight(
			T::WeightInfo::set_backup_offchain_worker_frequency()
				.saturating_add(T::DbWeight::get().reads(1))
		)]
		pub fn set_backup_offchain_worker_frequency(
			origin: OriginFor<T>,
			new_frequency: ClockFor<T>,
		) -> DispatchResult {
			match T::GovernanceOrigin::try_origin(origin) {
				Ok(_) => Self::set_chain_frequency(new_frequency),
				Err(origin) => Self::set_own_frequency(ensure_signed(origin)?, new_frequency),
			}
		}

		/// Begin the backups of a request that runs on a node.
		///
		/// Needed only where the owner enabled backups after the request was fulfilled.
		#[pallet::call_index(1)]
		#[pallet::weight(
			T::WeightInfo::create_backup().saturating_add(Pallet::<T>::weight_of_choice())
		)]
		pub fn create_backup(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			description: Option<Description>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::begin_lineage(&who, &request_id, description)
		}

		/// Pause or resume the backups of a request, and say how many snapshots to keep. The
		/// deposit follows that number.
		#[pallet::call_index(2)]
		#[pallet::weight(T::WeightInfo::set_backup_settings())]
		pub fn set_backup_settings(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			settings: LineageSettings,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::set_lineage_settings(&who, &request_id, settings)
		}

		/// Register the age public key that the account's backups are sealed to. The account needs
		/// a backup, or a subscription that is paid for.
		///
		/// The first key counts at once. A later one stands beside the one before until the
		/// chain's delay is over.
		#[pallet::call_index(3)]
		#[pallet::weight(T::WeightInfo::register_owner_key())]
		pub fn register_owner_key(origin: OriginFor<T>, recipient: Recipient) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::add_owner_key(who, recipient)
		}

		/// Ask for the image of a snapshot. The node that hosts the machine writes it beside
		/// the running one.
		///
		/// `cid` is the root of one of the account's own snapshots, as 36 bytes or as
		/// base32 text.
		#[pallet::call_index(4)]
		#[pallet::weight(T::WeightInfo::restore_from_snapshot())]
		pub fn restore_from_snapshot(
			origin: OriginFor<T>,
			cid: BoundedVec<u8, ConstU32<{ CID_TEXT_CHARS as u32 }>>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::request_restore_of(who, &cid)
		}

		/// Take away the record of a restore that has ended or expired, or cancel one.
		///
		/// Who asked for it and who owns the snapshot may do so at any time, everyone else once
		/// it has expired or who asked for it has lost access.
		#[pallet::call_index(5)]
		#[pallet::weight(T::WeightInfo::close_restore())]
		pub fn close_restore(origin: OriginFor<T>, restore_id: u64) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::close(&who, restore_id)
		}

		/// Change the settings of the chain.
		#[pallet::call_index(6)]
		#[pallet::weight(T::WeightInfo::set_settings())]
		pub fn set_settings(
			origin: OriginFor<T>,
			settings: ChainSettings<ClockFor<T>>,
		) -> DispatchResult {
			T::GovernanceOrigin::ensure_origin(origin)?;
			Self::set_chain_settings(settings)
		}

		/// Let another account restore a machine of the caller's, for ever or until a block.
		///
		/// It may ask for images of every snapshot, which the node writes; it cannot change or
		/// delete anything. With `recipient`, its X25519 key, nodes serve it sealed blocks, too;
		/// these stay sealed to the owner, who gives it an envelope for that key. To name another
		/// key, revoke and grant again.
		#[pallet::call_index(7)]
		#[pallet::weight(T::WeightInfo::grant_access())]
		pub fn grant_access(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			account: T::AccountId,
			expires_at: Option<ClockFor<T>>,
			recipient: Option<Recipient>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::grant(who, request_id, account, expires_at, recipient)
		}

		/// Take back what [`Call::grant_access`] gave, and with it the account's restores of the
		/// request that have not ended. The account itself may give it up, too.
		#[pallet::call_index(8)]
		#[pallet::weight(T::WeightInfo::revoke_access())]
		pub fn revoke_access(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			account: T::AccountId,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::revoke(who, request_id, account)
		}

		/// Ask for the image of a snapshot by its place in the history of a request, as its owner
		/// or as an account that was let in with [`Call::grant_access`].
		///
		/// An owner may also have the disks of the machine replaced, and have it done for another
		/// machine of its own. What is not done by the node that sealed the snapshot needs an
		/// envelope.
		#[pallet::call_index(9)]
		#[pallet::weight(T::WeightInfo::restore_snapshot())]
		pub fn restore_snapshot(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			sequence: u64,
			options: RestoreOptions<T::RequestId>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::request_restore(who, request_id, sequence, options)
		}

		/// Record a snapshot. Authorized by the signature of the hosting node's authority
		/// over everything in it; nobody pays a fee.
		#[pallet::call_index(10)]
		#[pallet::weight(T::WeightInfo::add_snapshot().saturating_add(T::OnSnapshot::weight()))]
		#[pallet::weight_of_authorize(T::WeightInfo::authorize_add_snapshot())]
		#[pallet::authorize(Self::authorize_add_snapshot)]
		pub fn add_snapshot(
			origin: OriginFor<T>,
			node_id: T::NodeId,
			snapshot_cid: Cid,
			description: Option<Description>,
			request_id: T::RequestId,
			account_id: T::AccountId,
			claim: SnapshotClaim,
			_at: BlockRef,
			_signature: SignatureOf<T>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			let snapshot = claim.snapshot(snapshot_cid);
			Self::record_snapshot(node_id, account_id, request_id, description, snapshot);
			Ok(())
		}

		/// Record that a snapshot could not be taken. Authorized like
		/// [`Call::add_snapshot`].
		#[pallet::call_index(11)]
		#[pallet::weight(T::WeightInfo::report_snapshot_failed())]
		#[pallet::weight_of_authorize(T::WeightInfo::authorize_snapshot_failed())]
		#[pallet::authorize(Self::authorize_snapshot_failed)]
		pub fn report_snapshot_failed(
			origin: OriginFor<T>,
			node_id: T::NodeId,
			request_id: T::RequestId,
			_salt: [u8; 32],
			_sequence: u64,
			slot: u64,
			reason: FailureReason,
			_at: BlockRef,
			_signature: SignatureOf<T>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::record_failure(node_id, request_id, slot, reason);
			Ok(())
		}

		/// Record how a restore ended. Authorized like [`Call::add_snapshot`].
		#[pallet::call_index(12)]
		#[pallet::weight(T::WeightInfo::report_restore())]
		#[pallet::weight_of_authorize(T::WeightInfo::authorize_restore())]
		#[pallet::authorize(Self::authorize_restore)]
		pub fn report_restore(
			origin: OriginFor<T>,
			_node_id: T::NodeId,
			restore_id: u64,
			failure: Option<FailureReason>,
			_at: BlockRef,
			_signature: SignatureOf<T>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::record_restore(restore_id, failure);
			Ok(())
		}

		/// Record that the blocks of a lineage are given up, and take its records away, at
		/// most 32 in one call. Authorized like [`Call::add_snapshot`].
		#[pallet::call_index(13)]
		#[pallet::weight(T::WeightInfo::report_deleted(deletion::DELETIONS_MAX))]
		#[pallet::weight_of_authorize(T::WeightInfo::authorize_deleted())]
		#[pallet::authorize(Self::authorize_deleted)]
		pub fn report_deleted(
			origin: OriginFor<T>,
			node_id: T::NodeId,
			request_id: T::RequestId,
			_salt: [u8; 32],
			_until: u64,
			_at: BlockRef,
			_signature: SignatureOf<T>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::record_deleted(node_id, request_id);
			Ok(())
		}

		/// Ask for a snapshot of a machine of the caller's out of turn.
		///
		/// It is taken like any other, and the cadence goes on from it. At most one in the
		/// shortest cadence that the chain allows.
		#[pallet::call_index(14)]
		#[pallet::weight(T::WeightInfo::request_snapshot())]
		pub fn request_snapshot(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::ask_for_snapshot(&who, &request_id)
		}

		/// Evict what a history has too much, looking at `limit` of its places, 64 at most.
		///
		/// New snapshots do the same by the way; this is for a history that has been cut short,
		/// or whose holds were released. Everyone may ask.
		#[pallet::call_index(15)]
		#[pallet::weight(T::WeightInfo::prune(*limit))]
		pub fn prune(origin: OriginFor<T>, request_id: T::RequestId, limit: u32) -> DispatchResult {
			ensure_signed(origin)?;
			Self::prune_history(request_id, limit)
		}

		/// Keep a snapshot whatever retention says. Governance's hold keeps it from deletion too,
		/// and all of its request with it.
		#[pallet::call_index(16)]
		#[pallet::weight(T::WeightInfo::hold_snapshot())]
		pub fn hold_snapshot(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			sequence: u64,
		) -> DispatchResult {
			Self::hold(&Self::party_of(origin)?, request_id, sequence)
		}

		/// Give up a hold: governance its own, the owner its own.
		#[pallet::call_index(17)]
		#[pallet::weight(T::WeightInfo::release_snapshot())]
		pub fn release_snapshot(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			sequence: u64,
		) -> DispatchResult {
			Self::release(&Self::party_of(origin)?, request_id, sequence)
		}

		/// Delete the backup of a request with all its snapshots, after a grace period.
		#[pallet::call_index(18)]
		#[pallet::weight(T::WeightInfo::delete_backup())]
		pub fn delete_backup(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::delete_lineage(&who, request_id)
		}

		/// Delete one snapshot, after a grace period. The others do not depend on it.
		#[pallet::call_index(19)]
		#[pallet::weight(T::WeightInfo::delete_snapshot())]
		pub fn delete_snapshot(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			sequence: u64,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::delete_one(&who, request_id, sequence)
		}

		/// Take back a deletion within its grace period, as the owner or as governance.
		#[pallet::call_index(20)]
		#[pallet::weight(T::WeightInfo::cancel_deletion())]
		pub fn cancel_deletion(
			origin: OriginFor<T>,
			target: DeletionTarget<T::AccountId, T::RequestId>,
		) -> DispatchResult {
			Self::cancel(&Self::party_of(origin)?, target)
		}

		/// Carry out the deletion of a snapshot that is due, or close that of a request which its
		/// nodes have not confirmed in time. Everyone may; of a long history at most 32 records
		/// go at once.
		#[pallet::call_index(21)]
		#[pallet::weight(T::WeightInfo::close_deletion(deletion::DELETIONS_MAX))]
		pub fn close_deletion(
			origin: OriginFor<T>,
			request_id: T::RequestId,
			sequence: Option<u64>,
		) -> DispatchResult {
			ensure_signed(origin)?;
			Self::close_late(request_id, sequence)
		}

		/// Begin the backup that a node proposed. Needs backups that are enabled and paid for.
		#[pallet::call_index(22)]
		#[pallet::weight(
			T::WeightInfo::approve_backup().saturating_add(Pallet::<T>::weight_of_choice())
		)]
		pub fn approve_backup(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::approve(&who, request_id)
		}

		/// Turn a proposal down. Everyone may take away one that has expired.
		#[pallet::call_index(23)]
		#[pallet::weight(T::WeightInfo::reject_backup())]
		pub fn reject_backup(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::reject(&who, request_id)
		}

		/// Pause all backups of the chain, or resume them. While they are paused nothing is ordered
		/// or deleted, and no report is recorded; what owners ask for waits.
		#[pallet::call_index(24)]
		#[pallet::weight(T::WeightInfo::set_paused())]
		pub fn set_paused(origin: OriginFor<T>, paused: bool) -> DispatchResult {
			T::GovernanceOrigin::ensure_origin(origin)?;
			Paused::<T>::put(paused);
			if !paused {
				ResumedAt::<T>::put(Self::now());
			}
			Self::deposit_event(if paused { Event::AllPaused } else { Event::AllResumed });
			Ok(())
		}

		/// Take the deposit for a history back that is gone.
		#[pallet::call_index(25)]
		#[pallet::weight(T::WeightInfo::reclaim_deposit())]
		pub fn reclaim_deposit(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::return_deposit(&who, request_id)
		}

		/// Let a node hold copies of other nodes' snapshots, as governance.
		#[pallet::call_index(26)]
		#[pallet::weight(T::WeightInfo::admit_storage_node())]
		pub fn admit_storage_node(origin: OriginFor<T>, node_id: T::NodeId) -> DispatchResult {
			T::GovernanceOrigin::ensure_origin(origin)?;
			Self::admit_node(node_id)
		}

		/// Let a node hold no new copies, as governance; everyone may where the node is not
		/// registered any more. What it holds stays with it until it is replaced, see
		/// [`Call::replace_holders`].
		#[pallet::call_index(27)]
		#[pallet::weight(T::WeightInfo::dismiss_storage_node())]
		pub fn dismiss_storage_node(origin: OriginFor<T>, node_id: T::NodeId) -> DispatchResult {
			if let Err(origin) = T::GovernanceOrigin::try_origin(origin) {
				ensure_signed(origin)?;
				ensure!(T::Compute::node(&node_id).is_none(), Error::<T>::NotAuthorized);
			}
			Self::dismiss_node(node_id)
		}

		/// Choose other nodes for the copies of a request where holders are silent, dismissed or
		/// gone, and further ones where there are too few. Everyone may; the chain chooses. It
		/// does the same by itself in the idle time of blocks, a few requests in each.
		#[pallet::call_index(28)]
		#[pallet::weight(
			T::WeightInfo::replace_holders().saturating_add(Pallet::<T>::weight_of_probes())
		)]
		pub fn replace_holders(origin: OriginFor<T>, request_id: T::RequestId) -> DispatchResult {
			ensure_signed(origin)?;
			Self::replace_missing(request_id)
		}

		/// Record which copies a node holds. Authorized like [`Call::add_snapshot`], by the
		/// signature of the holder.
		#[pallet::call_index(29)]
		#[pallet::weight(T::WeightInfo::report_held(marks.len() as u32))]
		#[pallet::weight_of_authorize(T::WeightInfo::authorize_held(marks.len() as u32))]
		#[pallet::authorize(Self::authorize_held)]
		pub fn report_held(
			origin: OriginFor<T>,
			node_id: T::NodeId,
			marks: Watermarks,
			_at: BlockRef,
			_signature: SignatureOf<T>,
		) -> DispatchResult {
			ensure_authorized(origin)?;
			Self::record_held(node_id, marks);
			Ok(())
		}
	}

	/// What a node claims of a snapshot, beside its root.
	#[derive(
		Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
	)]
	pub struct SnapshotClaim {
		/// The lineage's salt, see [`Lineage::salt`].
		pub salt: [u8; 32],
		/// Its place in the lineage.
		pub sequence: u64,
		/// The chain's clock when the disks stood still, in blocks.
		pub taken_at: u64,
		/// Size of the disks, in bytes.
		pub logical_bytes: u64,
		/// Sealed bytes that were new.
		pub new_bytes: u64,
		/// How well the disks fit together.
		pub consistency: backup_primitives::Consistency,
		/// Version of the owner's key that it is sealed to.
		pub owner_key_version: u32,
	}

	impl SnapshotClaim {
		/// The claim and the root in one.
		pub fn snapshot(&self, cid: Cid) -> TakenSnapshot {
			TakenSnapshot {
				cid,
				taken_at: self.taken_at,
				logical_bytes: self.logical_bytes,
				new_bytes: self.new_bytes,
				consistency: self.consistency,
				owner_key_version: self.owner_key_version,
			}
		}
	}
}
