//! # Compute pallet
//!
//! A small market of virtual machines, enough to run `pallet-backup` on: operators register
//! nodes, owners make requests, a node takes a request and fulfils it with a machine.
//!
//! ## How it goes
//!
//! 1. An operator registers a node with [`Call::register_node`]: the key that signs its
//!    reports, the key that its agent opens backups with, and a proof that it holds the first.
//! 2. An owner asks for a machine with [`Call::create_request`].
//! 3. The operator takes it with [`Call::assign_request`], starts a machine that carries the
//!    tag of [`Pallet::vm_tag`], and says so with [`Call::fulfil_request`].
//! 4. The owner ends it with [`Call::end_request`].
//!
//! The owner never names a machine: an owner who did could name a neighbour's. A node names
//! each of its machines once.

#![cfg_attr(not(feature = "std"), no_std)]
#![expect(missing_debug_implementations, reason = "FRAME's macros write types without it")]

extern crate alloc;

pub mod runtime_api;

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;

pub use pallet::*;

use backup_primitives::{
	OpaqueId, Recipient, VmTag,
	job::{Gateways, VmName},
	report::possession_payload,
};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use pallet_backup::{
	BackupHooks, Compute, NodeInfo, RequestInfo,
	pages::{ENTRIES_MAX, Page, page},
};
use scale_info::TypeInfo;
use sp_application_crypto::RuntimeAppPublic;
use sp_runtime::traits::Zero;

/// Id of a node, chosen by its operator.
pub type NodeId = u32;

/// Id of a request. Given in order, never twice.
pub type RequestId = u64;

/// Most nodes that one read returns.
const NODES_PAGE: usize = 256;

/// A registered node.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Node<AccountId, AuthorityId> {
	/// The account that registered it and acts for it.
	pub operator: AccountId,
	/// The key that signs its reports.
	pub authority: AuthorityId,
	/// The key that its agent opens backups with.
	pub recipient: Recipient,
	/// Where its blocks can be fetched.
	pub gateways: Gateways,
}

/// A request for a virtual machine.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Request<AccountId> {
	/// Who asked for it.
	pub owner: AccountId,
	/// What its disks may hold in all, in bytes.
	pub disk_bytes: u64,
	/// How far it is.
	pub state: RequestState,
}

/// How far a request is.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum RequestState {
	/// No node has taken it.
	Open,
	/// A node has taken it and starts a machine.
	Assigned {
		/// The node.
		node: NodeId,
	},
	/// The machine runs.
	Running {
		/// The node.
		node: NodeId,
		/// The name that the node gave the machine.
		vm: VmName,
	},
	/// The owner has ended it.
	Ended,
}

#[frame_support::pallet]
pub mod pallet {
	use super::*;
	use frame_support::pallet_prelude::*;
	use frame_system::pallet_prelude::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(0);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	#[pallet::config]
	pub trait Config: frame_system::Config {
		/// The key that nodes sign reports with.
		type AuthorityId: Parameter + Member + RuntimeAppPublic + Ord + MaxEncodedLen;

		/// Who may take a node off the chain besides its operator.
		type GovernanceOrigin: EnsureOrigin<Self::RuntimeOrigin>;

		/// Told when a request is fulfilled.
		type Backup: BackupHooks<RequestId, Self::AccountId>;

		/// Largest machine that can be asked for, in bytes of disk.
		#[pallet::constant]
		type MaxDiskBytes: Get<u64>;
	}

	/// Registered nodes.
	#[pallet::storage]
	pub type Nodes<T: Config> =
		StorageMap<_, Blake2_128Concat, NodeId, Node<T::AccountId, T::AuthorityId>>;

	/// Ids of nodes that were taken off. They are never given again: who got one would speak for
	/// the machines that ran there.
	#[pallet::storage]
	pub type RetiredNodes<T: Config> = StorageMap<_, Blake2_128Concat, NodeId, ()>;

	/// Which node an authority key belongs to.
	#[pallet::storage]
	pub type NodeOfAuthority<T: Config> = StorageMap<_, Blake2_128Concat, T::AuthorityId, NodeId>;

	/// Requests.
	#[pallet::storage]
	pub type Requests<T: Config> =
		StorageMap<_, Blake2_128Concat, RequestId, Request<T::AccountId>>;

	/// Which request a node's machine serves.
	#[pallet::storage]
	pub type RequestOfVm<T: Config> =
		StorageDoubleMap<_, Blake2_128Concat, NodeId, Blake2_128Concat, VmName, RequestId>;

	/// Id of the next request.
	#[pallet::storage]
	pub type NextRequestId<T: Config> = StorageValue<_, RequestId, ValueQuery>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(super) fn deposit_event)]
	pub enum Event<T: Config> {
		/// A node was registered.
		NodeRegistered {
			/// The node.
			node_id: NodeId,
			/// Who acts for it.
			operator: T::AccountId,
		},
		/// A node has other keys. Reports that the old one signed are refused from here on.
		NodeKeysRotated {
			/// The node.
			node_id: NodeId,
		},
		/// A node was taken off the chain.
		NodeDeregistered {
			/// The node.
			node_id: NodeId,
		},
		/// An owner took its machine from a node; another may take it.
		RequestReleased {
			/// The request.
			request_id: RequestId,
		},
		/// A machine was asked for.
		RequestCreated {
			/// The request.
			request_id: RequestId,
			/// Who asked.
			owner: T::AccountId,
		},
		/// A node took a request.
		RequestAssigned {
			/// The request.
			request_id: RequestId,
			/// The node.
			node_id: NodeId,
		},
		/// A machine runs.
		RequestFulfilled {
			/// The request.
			request_id: RequestId,
			/// The node.
			node_id: NodeId,
		},
		/// A request ended.
		RequestEnded {
			/// The request.
			request_id: RequestId,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// A node has, or had, that id already.
		NodeIdTaken,
		/// A node has that authority key already.
		AuthorityTaken,
		/// The proof is not a signature of the authority key over genesis, node and operator.
		BadProof,
		/// There is no such node.
		NodeNotFound,
		/// There is no such request.
		RequestNotFound,
		/// The account does not act for the node, or does not own the request.
		NotAuthorized,
		/// The request is not in the state that this needs.
		WrongState,
		/// The node has a machine of that name already.
		VmNameTaken,
		/// The name is empty, or has other characters than ASCII letters, digits, `-`, `_`
		/// and `.`.
		VmNameMalformed,
		/// The disk is empty or larger than the chain allows.
		DiskSizeOutOfBounds,
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// The tag that the machine of a request must carry: its QEMU UUID.
		pub fn vm_tag(request_id: RequestId) -> Option<VmTag> {
			Requests::<T>::get(request_id).map(|request| Self::tag(request_id, &request.owner))
		}

		/// The requests of an account, among 4,096 of the chain from behind one on, and the one to
		/// go on behind if there are more.
		pub fn requests_of(
			owner: T::AccountId,
			after: Option<RequestId>,
		) -> Page<RequestId, Request<T::AccountId>> {
			let requests = match after {
				Some(after) => Requests::<T>::iter_from(Requests::<T>::hashed_key_for(after)),
				None => Requests::<T>::iter(),
			};
			page(requests, ENTRIES_MAX, |request| request.owner == owner)
		}

		/// At most 256 nodes, from behind one on, and the one to go on behind if there are more.
		pub fn nodes(after: Option<NodeId>) -> Page<NodeId, Node<T::AccountId, T::AuthorityId>> {
			let nodes = match after {
				Some(after) => Nodes::<T>::iter_from(Nodes::<T>::hashed_key_for(after)),
				None => Nodes::<T>::iter(),
			};
			page(nodes, NODES_PAGE, |_| true)
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		/// Register a node under an id that is free.
		///
		/// `proof` is the authority key's signature over
		/// [`backup_primitives::report::possession_payload`].
		#[pallet::call_index(0)]
		#[pallet::weight(T::DbWeight::get().reads_writes(4, 2).saturating_add(CHECK))]
		pub fn register_node(
			origin: OriginFor<T>,
			node_id: NodeId,
			authority: T::AuthorityId,
			recipient: Recipient,
			gateways: Gateways,
			proof: <T::AuthorityId as RuntimeAppPublic>::Signature,
		) -> DispatchResult {
			let operator = ensure_signed(origin)?;
			let is_taken =
				Nodes::<T>::contains_key(node_id) || RetiredNodes::<T>::contains_key(node_id);
			ensure!(!is_taken, Error::<T>::NodeIdTaken);
			Self::ensure_possession(&operator, node_id, &authority, &proof)?;
			NodeOfAuthority::<T>::insert(&authority, node_id);
			let node = Node { operator: operator.clone(), authority, recipient, gateways };
			Nodes::<T>::insert(node_id, node);
			Self::deposit_event(Event::NodeRegistered { node_id, operator });
			Ok(())
		}

		/// Ask for a machine with disks of so many bytes in all.
		#[pallet::call_index(1)]
		#[pallet::weight(T::DbWeight::get().reads_writes(1, 2).saturating_add(CALL))]
		pub fn create_request(origin: OriginFor<T>, disk_bytes: u64) -> DispatchResult {
			let owner = ensure_signed(origin)?;
			let in_bounds = (1..=T::MaxDiskBytes::get()).contains(&disk_bytes);
			ensure!(in_bounds, Error::<T>::DiskSizeOutOfBounds);
			let request_id = NextRequestId::<T>::mutate(|next| {
				let id = *next;
				*next = next.saturating_add(1);
				id
			});
			let request = Request { owner: owner.clone(), disk_bytes, state: RequestState::Open };
			Requests::<T>::insert(request_id, request);
			Self::deposit_event(Event::RequestCreated { request_id, owner });
			Ok(())
		}

		/// Take an open request for a node that the account acts for.
		#[pallet::call_index(2)]
		#[pallet::weight(T::DbWeight::get().reads_writes(2, 1).saturating_add(CALL))]
		pub fn assign_request(
			origin: OriginFor<T>,
			request_id: RequestId,
			node_id: NodeId,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			Self::ensure_operator(&who, node_id)?;
			Requests::<T>::try_mutate(request_id, |slot| {
				let request = slot.as_mut().ok_or(Error::<T>::RequestNotFound)?;
				ensure!(request.state == RequestState::Open, Error::<T>::WrongState);
				request.state = RequestState::Assigned { node: node_id };
				Ok::<_, DispatchError>(())
			})?;
			Self::deposit_event(Event::RequestAssigned { request_id, node_id });
			Ok(())
		}

		/// Say that the machine of an assigned request runs, and under which name.
		#[pallet::call_index(3)]
		#[pallet::weight(
			T::DbWeight::get()
				.reads_writes(4, 2)
				.saturating_add(CALL)
				.saturating_add(T::Backup::weight_of_fulfilled())
		)]
		pub fn fulfil_request(
			origin: OriginFor<T>,
			request_id: RequestId,
			vm_id: VmName,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			ensure!(is_well_formed(&vm_id), Error::<T>::VmNameMalformed);
			let mut request = Requests::<T>::get(request_id).ok_or(Error::<T>::RequestNotFound)?;
			let RequestState::Assigned { node } = request.state else {
				return Err(Error::<T>::WrongState.into());
			};
			Self::ensure_operator(&who, node)?;
			ensure!(!RequestOfVm::<T>::contains_key(node, &vm_id), Error::<T>::VmNameTaken);
			RequestOfVm::<T>::insert(node, &vm_id, request_id);
			request.state = RequestState::Running { node, vm: vm_id };
			Requests::<T>::insert(request_id, request);
			Self::deposit_event(Event::RequestFulfilled { request_id, node_id: node });
			T::Backup::fulfilled(&request_id);
			Ok(())
		}

		/// End a request. Its machine is no longer backed up; its snapshots stay.
		#[pallet::call_index(4)]
		#[pallet::weight(T::DbWeight::get().reads_writes(1, 2).saturating_add(CALL))]
		pub fn end_request(origin: OriginFor<T>, request_id: RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let mut request = Requests::<T>::get(request_id).ok_or(Error::<T>::RequestNotFound)?;
			ensure!(request.owner == who, Error::<T>::NotAuthorized);
			match &request.state {
				RequestState::Running { node, vm } => RequestOfVm::<T>::remove(node, vm),
				RequestState::Open | RequestState::Assigned { .. } => (),
				RequestState::Ended => return Err(Error::<T>::WrongState.into()),
			}
			request.state = RequestState::Ended;
			Requests::<T>::insert(request_id, request);
			Self::deposit_event(Event::RequestEnded { request_id });
			Ok(())
		}

		/// Give a node another authority key and another recipient, as its operator.
		///
		/// `proof` is the new key's, as at registration. From this block on the old key signs
		/// nothing that is right.
		#[pallet::call_index(5)]
		#[pallet::weight(T::DbWeight::get().reads_writes(4, 3).saturating_add(CHECK))]
		pub fn rotate_keys(
			origin: OriginFor<T>,
			node_id: NodeId,
			authority: T::AuthorityId,
			recipient: Recipient,
			proof: <T::AuthorityId as RuntimeAppPublic>::Signature,
		) -> DispatchResult {
			let operator = ensure_signed(origin)?;
			Self::ensure_operator(&operator, node_id)?;
			let mut node = Nodes::<T>::get(node_id).ok_or(Error::<T>::NodeNotFound)?;
			Self::ensure_possession(&operator, node_id, &authority, &proof)?;
			NodeOfAuthority::<T>::remove(&node.authority);
			NodeOfAuthority::<T>::insert(&authority, node_id);
			node.authority = authority;
			node.recipient = recipient;
			Nodes::<T>::insert(node_id, node);
			Self::deposit_event(Event::NodeKeysRotated { node_id });
			Ok(())
		}

		/// Take a node off the chain, as its operator or as governance. Its id is not given
		/// again; its machines wait for their owners to release them.
		#[pallet::call_index(6)]
		#[pallet::weight(T::DbWeight::get().reads_writes(1, 3).saturating_add(CALL))]
		pub fn deregister_node(origin: OriginFor<T>, node_id: NodeId) -> DispatchResult {
			if let Err(origin) = T::GovernanceOrigin::try_origin(origin) {
				Self::ensure_operator(&ensure_signed(origin)?, node_id)?;
			}
			let node = Nodes::<T>::take(node_id).ok_or(Error::<T>::NodeNotFound)?;
			NodeOfAuthority::<T>::remove(&node.authority);
			RetiredNodes::<T>::insert(node_id, ());
			Self::deposit_event(Event::NodeDeregistered { node_id });
			Ok(())
		}

		/// Take a machine from its node, as its owner, so that another node may run it. Its
		/// history goes on there.
		#[pallet::call_index(7)]
		#[pallet::weight(T::DbWeight::get().reads_writes(1, 2).saturating_add(CALL))]
		pub fn release_request(origin: OriginFor<T>, request_id: RequestId) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let mut request = Requests::<T>::get(request_id).ok_or(Error::<T>::RequestNotFound)?;
			ensure!(request.owner == who, Error::<T>::NotAuthorized);
			match &request.state {
				RequestState::Running { node, vm } => RequestOfVm::<T>::remove(node, vm),
				RequestState::Assigned { .. } => (),
				RequestState::Open | RequestState::Ended => {
					return Err(Error::<T>::WrongState.into());
				}
			}
			request.state = RequestState::Open;
			Requests::<T>::insert(request_id, request);
			Self::deposit_event(Event::RequestReleased { request_id });
			Ok(())
		}
	}

	impl<T: Config> Pallet<T> {
		/// Check that a key is free, and that its holder wants it for this node.
		fn ensure_possession(
			operator: &T::AccountId,
			node_id: NodeId,
			authority: &T::AuthorityId,
			proof: &<T::AuthorityId as RuntimeAppPublic>::Signature,
		) -> DispatchResult {
			ensure!(!NodeOfAuthority::<T>::contains_key(authority), Error::<T>::AuthorityTaken);
			let payload =
				possession_payload(&Self::genesis(), &opaque(&node_id), &opaque(operator));
			ensure!(authority.verify(&payload, proof), Error::<T>::BadProof);
			Ok(())
		}

		fn ensure_operator(who: &T::AccountId, node_id: NodeId) -> DispatchResult {
			let node = Nodes::<T>::get(node_id).ok_or(Error::<T>::NodeNotFound)?;
			ensure!(node.operator == *who, Error::<T>::NotAuthorized);
			Ok(())
		}
	}
}

/// Computing time of a call without its database accesses.
const CALL: frame_support::weights::Weight =
	frame_support::weights::Weight::from_parts(50_000_000, 16_384);

/// The same, with the check of one sr25519 signature.
const CHECK: frame_support::weights::Weight =
	frame_support::weights::Weight::from_parts(150_000_000, 16_384);

/// Whether a machine's name is fit for a file name on any node.
fn is_well_formed(name: &VmName) -> bool {
	let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
	!name.is_empty() && !name.starts_with(b".") && name.iter().all(is_plain)
}

fn opaque(id: &impl Encode) -> OpaqueId {
	OpaqueId::of(id).expect("ids of this pallet and accounts have 32 bytes at most; qed")
}

impl<T: Config> Pallet<T> {
	fn genesis() -> [u8; 32] {
		let number = frame_system::pallet_prelude::BlockNumberFor::<T>::zero();
		let hash = frame_system::Pallet::<T>::block_hash(number);
		let mut bytes = [0; 32];
		let length = hash.as_ref().len().min(bytes.len());
		bytes[..length].copy_from_slice(&hash.as_ref()[..length]);
		bytes
	}

	fn tag(request_id: RequestId, owner: &T::AccountId) -> VmTag {
		VmTag::derive(&Self::genesis(), &opaque(&request_id), &opaque(owner))
	}
}

impl<T: Config> Compute<NodeId, RequestId, T::AccountId, T::AuthorityId> for Pallet<T> {
	fn request(request_id: &RequestId) -> Option<RequestInfo<NodeId, T::AccountId>> {
		let request = Requests::<T>::get(request_id)?;
		let (node, vm, running) = match request.state {
			RequestState::Open | RequestState::Ended => (None, VmName::default(), false),
			RequestState::Assigned { node } => (Some(node), VmName::default(), false),
			RequestState::Running { node, vm } => (Some(node), vm, true),
		};
		Some(RequestInfo {
			vm_tag: Self::tag(*request_id, &request.owner),
			owner: request.owner,
			node,
			running,
			vm,
			capacity_bytes: request.disk_bytes,
		})
	}

	fn node(node_id: &NodeId) -> Option<NodeInfo<T::AuthorityId, T::AccountId>> {
		let node = Nodes::<T>::get(node_id)?;
		Some(NodeInfo {
			authority: node.authority,
			recipient: node.recipient,
			operator: node.operator,
			gateways: node.gateways,
		})
	}

	fn node_of(authority: &T::AuthorityId) -> Option<NodeId> {
		NodeOfAuthority::<T>::get(authority)
	}
}
