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
type Nodes = StorageMap<Example, Blake2_128Concat, NodeId, (AuthorityId, Recipient), OptionQuery>;

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
	/// A node joins, with the key that signs its reports and the one that its agent opens backups
	/// with. A real chain checks a proof that the node has the first, see
	/// [`backup_primitives::report::possession_payload`].
	pub fn join(node: NodeId, authority: AuthorityId, recipient: Recipient) {
		NodeOfKey::insert(&authority, node);
		Nodes::insert(node, (authority, recipient));
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

	fn node(node: &NodeId) -> Option<NodeInfo<AuthorityId>> {
		Nodes::get(node).map(|(authority, recipient)| NodeInfo { authority, recipient })
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
