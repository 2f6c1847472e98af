//! What nodes and clients ask of the runtime. The last of these is the backup pallet's: the agent,
//! polkadot.js and the command line read through it.

use crate::{
	AccountId, Backup, Block, BlockNumber, Executive, Runtime, VERSION,
	machines::{NodeId, RequestId},
};
use alloc::vec::Vec;
use backup_primitives::{Cid, KeptRoot, Reader, Recipient, RecordedRoot, RootStatus, job::Sources};
use pallet_backup::{
	BackupBytes, Eligibility, Grant, KeyPlace, LineageView, OwedCopy, Protection, RestoreRequest,
	SnapshotMetadata, pages::Page,
};
use sp_runtime::{ExtrinsicInclusionMode, traits::Block as BlockT};
use sp_version::RuntimeVersion;

sp_api::impl_runtime_apis! {
	impl sp_api::Core<Block> for Runtime {
		fn version() -> RuntimeVersion {
			VERSION
		}

		fn execute_block(block: <Block as BlockT>::LazyBlock) {
			Executive::execute_block(block);
		}

		fn initialize_block(header: &<Block as BlockT>::Header) -> ExtrinsicInclusionMode {
			Executive::initialize_block(header)
		}
	}

	impl pallet_backup::runtime_api::BackupApi<Block, AccountId, NodeId, RequestId, BlockNumber>
		for Runtime
	{
		fn root_status(
			request_id: RequestId,
			salt: [u8; 32],
			sequence: u64,
			cid: Cid,
		) -> RootStatus {
			Backup::root_status(request_id, salt, sequence, cid)
		}

		fn roots_of_node(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<RecordedRoot>, Option<RequestId>) {
			Backup::roots_of_node(node_id, after)
		}

		fn roots_of_request(request_id: RequestId, salt: [u8; 32]) -> Vec<KeptRoot> {
			Backup::roots_of_request(request_id, salt)
		}

		fn sources_of_request(node_id: NodeId, request_id: RequestId) -> Sources {
			Backup::sources_of_request(node_id, request_id)
		}

		fn keeps_copies(node_id: NodeId, request_id: RequestId) -> bool {
			Backup::keeps_copies(node_id, request_id)
		}

		fn is_reader(
			reader: Reader<NodeId, AccountId, RequestId>,
			recipient: Recipient,
		) -> bool {
			Backup::is_reader(reader, recipient)
		}

		fn eligibility(request_id: RequestId) -> Eligibility<BlockNumber> {
			Backup::eligibility(request_id)
		}

		fn lineage(
			request_id: RequestId,
		) -> Option<LineageView<AccountId, NodeId, RequestId, BlockNumber>> {
			Backup::lineage(request_id)
		}

		fn lineages_of(
			owner: AccountId,
		) -> Vec<LineageView<AccountId, NodeId, RequestId, BlockNumber>> {
			Backup::lineages_of(owner)
		}

		fn snapshot_as_of(
			request_id: RequestId,
			at: BlockNumber,
			before: Option<u64>,
		) -> (Option<u64>, Option<u64>) {
			Backup::snapshot_as_of(request_id, at, before)
		}

		fn grants(request_id: RequestId) -> Vec<Grant<AccountId, BlockNumber>> {
			Backup::grants(request_id)
		}

		fn restores_of(
			requester: AccountId,
			after: Option<u64>,
		) -> Page<u64, RestoreRequest<AccountId, NodeId, RequestId, BlockNumber>> {
			Backup::restores_of(requester, after)
		}

		fn owner_of_key(
			recipient: Recipient,
			after: Option<KeyPlace<AccountId>>,
		) -> (Option<KeyPlace<AccountId>>, Option<KeyPlace<AccountId>>) {
			Backup::owner_of_key(recipient, after)
		}

		fn bytes_of(owner: AccountId) -> BackupBytes {
			Backup::bytes_of(owner)
		}

		fn protection(request_id: RequestId) -> Option<Protection<NodeId, BlockNumber>> {
			Backup::protection(request_id)
		}

		fn owed_copies(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<OwedCopy<AccountId, NodeId, RequestId>>, Option<RequestId>) {
			Backup::owed_copies(node_id, after)
		}

		fn due_of_node(
			node_id: NodeId,
			after: Option<RequestId>,
		) -> (Vec<RequestId>, Option<RequestId>) {
			Backup::due_of_node(node_id, after)
		}

		fn snapshots(
			request_id: RequestId,
			before: Option<u64>,
			limit: u32,
		) -> Page<u64, SnapshotMetadata<RequestId, NodeId, BlockNumber>> {
			Backup::snapshots(request_id, before, limit)
		}
	}
}
