//! Who fetches blocks from a node.

use codec::{Decode, DecodeWithMemTracking, Encode};
use scale_info::TypeInfo;

/// Somebody who may want the sealed blocks that a node serves, as the chain knows them.
#[derive(
	Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, DecodeWithMemTracking, TypeInfo,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reader<NodeId, AccountId, RequestId> {
	/// A node, for copies that it has to hold or a restore that it has to carry out.
	#[codec(index = 0)]
	Node(NodeId),
	/// The owner of backups.
	#[codec(index = 1)]
	Owner(AccountId),
	/// Whom the owner of a request has let in, with the key that it named.
	#[codec(index = 2)]
	Grantee(RequestId),
}
