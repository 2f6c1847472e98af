//! What the pallet asks of the chain around it, and what it offers in return.
//!
//! The pallet knows no other pallet. It pulls single facts through [`Compute`] and
//! [`Marketplace`], each a point read, and it is told of changes through [`BackupHooks`],
//! each call of constant cost. Every trait has an implementation for `()` that does nothing.

use backup_primitives::{
	Recipient, VmTag,
	job::{Gateways, VmName},
};
use codec::{Decode, Encode};
use frame_support::weights::Weight;
use scale_info::TypeInfo;

/// A virtual machine that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct RequestInfo<NodeId, AccountId> {
	/// Who asked for it.
	pub owner: AccountId,
	/// The node that it is assigned to.
	pub node: Option<NodeId>,
	/// Whether that node has fulfilled it and it has not ended.
	pub running: bool,
	/// The name that the node gave the machine. Set by the node, never by the owner: an
	/// owner who named it could name a neighbour's and have that disk sealed to its own key.
	pub vm: VmName,
	/// The tag that the machine carries itself.
	pub vm_tag: VmTag,
	/// What its disks may hold in all, in bytes.
	pub capacity_bytes: u64,
}

/// A node that runs virtual machines.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct NodeInfo<AuthorityId, AccountId> {
	/// The key that signs the node's reports.
	pub authority: AuthorityId,
	/// The key that its agent opens backups with.
	pub recipient: Recipient,
	/// Who runs it. No two copies of a machine lie with one operator.
	pub operator: AccountId,
	/// Where its blocks can be fetched by the holders of copies.
	pub gateways: Gateways,
}

/// Point reads of the pallet that keeps nodes and requests.
pub trait Compute<NodeId, RequestId, AccountId, AuthorityId> {
	/// The request with this id, if there is one.
	fn request(request: &RequestId) -> Option<RequestInfo<NodeId, AccountId>>;

	/// The node with this id, if there is one.
	fn node(node: &NodeId) -> Option<NodeInfo<AuthorityId, AccountId>>;

	/// The node that registered this authority key, if any. No key belongs to two nodes.
	fn node_of(authority: &AuthorityId) -> Option<NodeId>;
}

impl<NodeId, RequestId, AccountId, AuthorityId> Compute<NodeId, RequestId, AccountId, AuthorityId>
	for ()
{
	fn request(_: &RequestId) -> Option<RequestInfo<NodeId, AccountId>> {
		None
	}

	fn node(_: &NodeId) -> Option<NodeInfo<AuthorityId, AccountId>> {
		None
	}

	fn node_of(_: &AuthorityId) -> Option<NodeId> {
		None
	}
}

/// Whether an account has backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub enum Subscription {
	/// It never asked for them, or ended them.
	Disabled,
	/// It asked for them, but what it paid for is over.
	Unpaid,
	/// It asked for them and they are paid for.
	Active,
}

/// Point reads of the pallet that sells backups.
pub trait Marketplace<AccountId> {
	/// Whether `owner` has backups.
	fn subscription(owner: &AccountId) -> Subscription;
}

impl<AccountId> Marketplace<AccountId> for () {
	fn subscription(_: &AccountId) -> Subscription {
		Subscription::Disabled
	}
}

/// What the pallets around tell this one. What each costs does not depend on how much is stored;
/// who calls it adds that weight to its own.
pub trait BackupHooks<RequestId, AccountId> {
	/// A node has fulfilled the request: its machine runs, for the first time or on another node
	/// than before. The owner must have agreed to that node.
	fn fulfilled(request: &RequestId);

	/// What one call of [`BackupHooks::fulfilled`] costs at most.
	fn weight_of_fulfilled() -> Weight;

	/// The owner wants all its backups deleted.
	fn deletion_requested(owner: &AccountId);

	/// What one call of [`BackupHooks::deletion_requested`] costs at most.
	fn weight_of_deletion_requested() -> Weight;
}

impl<RequestId, AccountId> BackupHooks<RequestId, AccountId> for () {
	fn fulfilled(_: &RequestId) {}

	fn weight_of_fulfilled() -> Weight {
		Weight::zero()
	}

	fn deletion_requested(_: &AccountId) {}

	fn weight_of_deletion_requested() -> Weight {
		Weight::zero()
	}
}

/// Who else wants to know of a recorded snapshot, for example to pay for it.
pub trait OnSnapshot<RequestId, AccountId> {
	/// A snapshot was recorded. `new_bytes` is the node's claim. Must cost a constant.
	fn on_snapshot(request: &RequestId, owner: &AccountId, sequence: u64, new_bytes: u64);

	/// What one call of [`OnSnapshot::on_snapshot`] costs.
	fn weight() -> Weight;
}

impl<RequestId, AccountId> OnSnapshot<RequestId, AccountId> for () {
	fn on_snapshot(_: &RequestId, _: &AccountId, _: u64, _: u64) {}

	fn weight() -> Weight {
		Weight::zero()
	}
}

/// Makes the nodes and machines that benchmarks need, whatever pallets keep them.
#[cfg(feature = "runtime-benchmarks")]
pub trait BenchmarkHelper<NodeId, RequestId, AccountId, AuthorityId> {
	/// Register a node with this authority key, each time another node of another operator.
	fn register_node(authority: AuthorityId) -> NodeId;

	/// Let a machine of `owner` run on a node, with backups enabled and paid for, and none
	/// begun. Its disks may hold a byte or more.
	fn run_request(node: NodeId, owner: &AccountId) -> RequestId;
}
