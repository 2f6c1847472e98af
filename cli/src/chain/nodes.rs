//! Nodes and keys as the chain has them: who has copies, where, and who is let in there.

use super::records::CopyHolder;
use crate::{args::GatewayAddress, words};
use backup_primitives::Recipient;
use serde::Serialize;
use subxt::ext::scale_decode::DecodeAsType;

/// A public key as the chain stores it.
#[derive(Clone, Copy, Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct RecipientBytes(pub(super) [u8; 32]);

/// A node, as the compute pallet keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct NodeRecord {
	recipient: RecipientBytes,
	gateways: Vec<Vec<u8>>,
}

impl NodeRecord {
	/// Where its blocks can be fetched. What is no text is no address.
	pub(crate) fn addresses(self) -> Vec<GatewayAddress> {
		let key = Some(Recipient(self.recipient.0));
		let text = |bytes| String::from_utf8(bytes).ok();
		let urls = self.gateways.into_iter().filter_map(text);
		urls.map(|url| GatewayAddress { url, key }).collect()
	}
}

/// A node that has snapshots of a request.
#[derive(Debug, Serialize)]
pub(crate) struct CopyAt {
	pub(crate) node: u64,
	pub(crate) role: Role,
	/// Of which places it says to have the snapshots: from this one on, up to before that one.
	pub(crate) from: u64,
	pub(crate) to: u64,
	/// Whether it was not heard of for too long. Nothing of a host: the chain does not say.
	pub(crate) is_silent: Option<bool>,
	/// Nothing, if it is not registered any more.
	pub(crate) recipient: Option<String>,
	/// Its addresses with its key, as `--gateway` takes them.
	pub(crate) gateways: Vec<String>,
	#[serde(skip)]
	addresses: Vec<GatewayAddress>,
}

/// Why a node has snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
	/// It runs the machine, or was the last to do so.
	Host,
	/// The chain has chosen it to hold copies.
	Holder,
}

impl CopyAt {
	pub(super) fn of_host(node: u64, next: u64, registered: Option<NodeRecord>) -> Self {
		let holder = CopyHolder { node, from: 0, to: next, is_silent: false };
		Self { role: Role::Host, is_silent: None, ..Self::of_holder(holder, registered) }
	}

	pub(super) fn of_holder(holder: CopyHolder, registered: Option<NodeRecord>) -> Self {
		let CopyHolder { node, from, to, is_silent } = holder;
		let recipient = registered.as_ref().map(|node| Recipient(node.recipient.0).to_string());
		let addresses = registered.map(NodeRecord::addresses).unwrap_or_default();
		let gateways = addresses.iter().map(|one| words::escape(one.to_string().as_bytes()));
		let gateways = gateways.collect();
		let (role, is_silent) = (Role::Holder, Some(is_silent));
		Self { node, role, from, to, is_silent, recipient, gateways, addresses }
	}

	/// Where it can be asked.
	pub(crate) fn addresses(self) -> Vec<GatewayAddress> {
		self.addresses
	}
}

/// A key of an owner, as the chain keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct OwnerKeyRecord {
	recipient: RecipientBytes,
	active_from: u64,
}

impl OwnerKeyRecord {
	pub(super) fn recipient(&self) -> Recipient {
		Recipient(self.recipient.0)
	}
}

/// A key of an owner, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct OwnerKey {
	pub(crate) key_version: u32,
	pub(crate) recipient: String,
	/// From when on it alone is sealed to.
	pub(crate) active_from: u64,
}

impl OwnerKey {
	pub(super) fn new(key_version: u32, record: OwnerKeyRecord) -> Self {
		let recipient = record.recipient().to_string();
		Self { key_version, recipient, active_from: record.active_from }
	}

	pub(crate) fn is(&self, recipient: &Recipient) -> bool {
		self.recipient == recipient.to_string()
	}
}
