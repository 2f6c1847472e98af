//! What the backup pallet asks of the chain around it, answered from three maps.
//!
//! A chain that has pallets for these things implements the traits on them instead: each function
//! is one read.

use crate::{AccountId, Backup};
use backup_primitives::{Recipient, VmTag, job::VmName};
use codec::{Decode, Encode, MaxEncodedLen};
use frame_support::{Blake2_128Concat, pallet_prelude::OptionQuery, storage_alias};
use pallet_backup::{
	BackupHooks, Compute, Marketplace, NodeInfo, RequestInfo, Subscription, crypto::AuthorityId,
};
use scale_info::TypeInfo;

/// Id of a node. An id that was used is never given again.
pub type NodeId = u32;

/// Id of a request for a machine. Never given twice.
pub type RequestId = u64;

/// A node of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct Node {
	/// Who runs it.
	pub operator: AccountId,
	/// The key that signs its reports.
	pub authority: AuthorityId,
	/// The key that its agent opens backups with.
	pub recipient: Recipient,
}

/// A machine that runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct Machine {
	/// Whose it is.
	pub owner: AccountId,
	/// The node that runs it.
	pub node: NodeId,
	/// Its name there: that of its file in the agent's inventory.
	pub name: VmName,
	/// Its own tag: what it was started with as QEMU's `-uuid`.
	pub tag: VmTag,
	/// What its disks may hold in all, in bytes.
	pub disk_bytes: u64,
}

#[storage_alias]
type Nodes = StorageMap<Example, Blake2_128Concat, NodeId, Node, OptionQuery>;

#[storage_alias]
type NodeOfKey = StorageMap<Example, Blake2_128Concat, AuthorityId, NodeId, OptionQuery>;

#[storage_alias]
type MachineOf = StorageMap<Example, Blake2_128Concat, RequestId, Machine, OptionQuery>;

#[storage_alias]
type PaidFor = StorageMap<Example, Blake2_128Concat, AccountId, bool, OptionQuery>;

/// Answers the pallet's questions.
#[derive(Debug)]
pub struct Machines;

impl Machines {
	/// A node joins. A real chain checks a proof that it has the authority key, see
	/// [`backup_primitives::report::possession_payload`].
	pub fn join(id: NodeId, node: Node) {
		NodeOfKey::insert(&node.authority, id);
		Nodes::insert(id, node);
	}

	/// An account pays for backups, or stops to.
	pub fn pay(owner: &AccountId, pays: bool) {
		PaidFor::insert(owner, pays);
	}

	/// A machine runs. The pallet is told, and begins its backups.
	pub fn run(request: RequestId, machine: Machine) {
		MachineOf::insert(request, machine);
		Backup::fulfilled(&request);
	}
}

impl Compute<NodeId, RequestId, AccountId, AuthorityId> for Machines {
	fn request(request: &RequestId) -> Option<RequestInfo<NodeId, AccountId>> {
		MachineOf::get(request).map(|machine| RequestInfo {
			owner: machine.owner,
			node: Some(machine.node),
			running: true,
			vm: machine.name,
			vm_tag: machine.tag,
			capacity_bytes: machine.disk_bytes,
		})
	}

	fn node(node: &NodeId) -> Option<NodeInfo<AuthorityId, AccountId>> {
		Nodes::get(node).map(|node| NodeInfo {
			authority: node.authority,
			recipient: node.recipient,
			operator: node.operator,
			// Where its blocks can be fetched; needed only by chains that keep copies.
			gateways: Default::default(),
		})
	}

	fn node_of(authority: &AuthorityId) -> Option<NodeId> {
		NodeOfKey::get(authority)
	}
}

impl Marketplace<AccountId> for Machines {
	fn subscription(owner: &AccountId) -> Subscription {
		match PaidFor::get(owner) {
			Some(true) => Subscription::Active,
			Some(false) => Subscription::Unpaid,
			None => Subscription::Disabled,
		}
	}
}
