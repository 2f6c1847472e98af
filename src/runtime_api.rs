//! The runtime API: what agents, tools and polkadot.js read at any block.

use crate::{
	BackupBytes, Eligibility, Grant, KeyPlace, LineageView, OwedCopy, Protection, RestoreRequest,
	SnapshotMetadata, pages::Page,
};
use alloc::vec::Vec;
use backup_primitives::{Cid, KeptRoot, Reader, Recipient, RecordedRoot, RootStatus, job::Sources};
use codec::Codec;

sp_api::decl_runtime_apis! {
	/// Reads of the backup pallet.
	pub trait BackupApi<AccountId, NodeId, RequestId, BlockNumber>
	where
		AccountId: Codec,
		NodeId: Codec,
		RequestId: Codec,
		BlockNumber: Codec,
	{
		/// What the chain says of a root that an agent holds.
		fn root_status(
			request_id: RequestId,
			salt: [u8; 32],
			sequence: u64,
			cid: Cid,
		) -> RootStatus;

		/// The roots that a node sealed and has to hold, from behind one request on, and the
		/// request to go on behind if there are more. An agent whose pins were lost asks for all
		/// of them.
		fn roots_of_node(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<RecordedRoot>, Option<RequestId>);

		/// The roots that the records of a lineage name, in the order of their places: what a holder
		/// of copies has to have. Nothing of a lineage that is not there.
		fn roots_of_request(request_id: RequestId, salt: [u8; 32]) -> Vec<KeptRoot>;

		/// Where a node can fetch the blocks of a request: from its host first, then from those
		/// that hold copies.
		fn sources_of_request(node_id: NodeId, request_id: RequestId) -> Sources;

		/// Whether a node has to keep copies of what other nodes sealed of a request.
		fn keeps_copies(node_id: NodeId, request_id: RequestId) -> bool;

		/// Whether somebody who proves to hold the secret of `recipient` may fetch blocks.
		fn is_reader(
			reader: Reader<NodeId, AccountId, RequestId>,
			recipient: Recipient,
		) -> bool;

		/// Whether a snapshot of a request would be taken now, and if not, why.
		fn eligibility(request_id: RequestId) -> Eligibility<BlockNumber>;

		/// The lineage of a request.
		fn lineage(
			request_id: RequestId,
		) -> Option<LineageView<AccountId, NodeId, RequestId, BlockNumber>>;

		/// The lineages of an account.
		fn lineages_of(
			owner: AccountId,
		) -> Vec<LineageView<AccountId, NodeId, RequestId, BlockNumber>>;

		/// Sequence of the newest snapshot of a request that was taken at a block or before, if it is
		/// among 4,096 places from before one on, or from the newest on; and the place to go on before
		/// if it is not, and there may be more.
		fn snapshot_as_of(
			request_id: RequestId,
			at: BlockNumber,
			before: Option<u64>,
		) -> (Option<u64>, Option<u64>);

		/// Who may restore a request besides its owner.
		fn grants(request_id: RequestId) -> Vec<Grant<AccountId, BlockNumber>>;

		/// The restores that an account asked for and that are not closed, among 4,096 of the chain
		/// from behind one on, and the one to go on behind if there are more.
		fn restores_of(
			requester: AccountId,
			after: Option<u64>,
		) -> Page<u64, RestoreRequest<AccountId, NodeId, RequestId, BlockNumber>>;

		/// The account that registered a key, and its version, if it is among 4,096 keys of the
		/// chain from behind one on; and the key to go on behind if it is not, and there are more.
		fn owner_of_key(
			recipient: Recipient,
			after: Option<KeyPlace<AccountId>>,
		) -> (Option<KeyPlace<AccountId>>, Option<KeyPlace<AccountId>>);

		/// What the backups of an account take.
		fn bytes_of(owner: AccountId) -> BackupBytes;

		/// How well a machine is protected: what its node claims, and what others confirmed.
		fn protection(request_id: RequestId) -> Option<Protection<NodeId, BlockNumber>>;

		/// At most 64 copies that a node has to hold, from behind one request on, and the request
		/// to go on behind if there are more.
		fn owed_copies(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<OwedCopy<AccountId, NodeId, RequestId>>, Option<RequestId>);

		/// Requests of a node whose snapshot is due, among 256 from behind one request on, and the
		/// request to go on behind if there are more.
		fn due_of_node(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<RequestId>, Option<RequestId>);

		/// Snapshots of a request, the newest first, from before a place on or from the newest on: at
		/// most `limit`, and 512, among 4,096 places; and the place to go on before if there may be
		/// more. A `limit` of 0 is one of 1.
		fn snapshots(
			request_id: RequestId,
			before: Option<u64>,
			limit: u32,
		) -> Page<u64, SnapshotMetadata<RequestId, NodeId, BlockNumber>>;
	}
}
