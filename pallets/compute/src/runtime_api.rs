//! The runtime API: what owners' tools read of nodes and requests, page by page.

use crate::{Node, NodeId, Request, RequestId};
use codec::Codec;
use pallet_backup::pages::Page;

sp_api::decl_runtime_apis! {
	/// Reads of the compute pallet.
	pub trait ComputeApi<AccountId, AuthorityId>
	where
		AccountId: Codec,
		AuthorityId: Codec,
	{
		/// The requests of an account, among 4,096 of the chain from behind one on, and the one to
		/// go on behind if there are more.
		fn requests_of(
			owner: AccountId,
			after: Option<RequestId>,
		) -> Page<RequestId, Request<AccountId>>;

		/// At most 256 nodes, from behind one on, and the one to go on behind if there are more.
		fn nodes(
			after: Option<NodeId>,
		) -> Page<NodeId, Node<AccountId, AuthorityId>>;
	}
}
