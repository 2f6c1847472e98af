//! What the node and clients may ask of the runtime.

use crate::{
	AccountId, Aura, Backup, Balance, Block, BlockNumber, Compute, Executive, Grandpa,
	InherentDataExt, Nonce, Runtime, RuntimeCall, RuntimeGenesisConfig, SessionKeys, System,
	TransactionPayment, VERSION, genesis,
};
use alloc::vec::Vec;
use backup_primitives::{Cid, KeptRoot, Reader, Recipient, RecordedRoot, RootStatus, job::Sources};
use frame_support::{
	genesis_builder_helper::{build_state, get_preset},
	view_functions::{ViewFunctionDispatchError, ViewFunctionId},
	weights::Weight,
};
use pallet_backup::{
	BackupBytes, Eligibility, Grant, KeyPlace, LineageView, OwedCopy, Protection, RestoreRequest,
	SnapshotMetadata, crypto::AuthorityId, pages::Page,
};
use pallet_compute::{Node, NodeId, Request, RequestId};
use pallet_transaction_payment::{FeeDetails, RuntimeDispatchInfo};
use sp_consensus_aura::sr25519::AuthorityId as AuraId;
use sp_core::{OpaqueMetadata, crypto::KeyTypeId};
use sp_inherents::{CheckInherentsResult, InherentData};
use sp_runtime::{
	ApplyExtrinsicResult, ExtrinsicInclusionMode,
	traits::{Block as BlockT, NumberFor},
	transaction_validity::{TransactionSource, TransactionValidity},
};
use sp_session::OpaqueGeneratedSessionKeys;
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

	impl sp_api::Metadata<Block> for Runtime {
		fn metadata() -> OpaqueMetadata {
			OpaqueMetadata::new(Runtime::metadata().into())
		}

		fn metadata_at_version(version: u32) -> Option<OpaqueMetadata> {
			Runtime::metadata_at_version(version)
		}

		fn metadata_versions() -> Vec<u32> {
			Runtime::metadata_versions()
		}
	}

	impl frame_support::view_functions::runtime_api::RuntimeViewFunction<Block> for Runtime {
		fn execute_view_function(
			id: ViewFunctionId,
			input: Vec<u8>,
		) -> Result<Vec<u8>, ViewFunctionDispatchError> {
			Runtime::execute_view_function(id, input)
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

	impl pallet_compute::runtime_api::ComputeApi<Block, AccountId, AuthorityId> for Runtime {
		fn requests_of(
			owner: AccountId,
			after: Option<RequestId>,
		) -> Page<RequestId, Request<AccountId>> {
			Compute::requests_of(owner, after)
		}

		fn nodes(
			after: Option<NodeId>,
		) -> Page<NodeId, Node<AccountId, AuthorityId>> {
			Compute::nodes(after)
		}
	}

	impl sp_block_builder::BlockBuilder<Block> for Runtime {
		fn apply_extrinsic(extrinsic: <Block as BlockT>::Extrinsic) -> ApplyExtrinsicResult {
			Executive::apply_extrinsic(extrinsic)
		}

		fn finalize_block() -> <Block as BlockT>::Header {
			Executive::finalize_block()
		}

		fn inherent_extrinsics(data: InherentData) -> Vec<<Block as BlockT>::Extrinsic> {
			data.create_extrinsics()
		}

		fn check_inherents(
			block: <Block as BlockT>::LazyBlock,
			data: InherentData,
		) -> CheckInherentsResult {
			data.check_extrinsics(&block)
		}
	}

	impl sp_transaction_pool::runtime_api::TaggedTransactionQueue<Block> for Runtime {
		fn validate_transaction(
			source: TransactionSource,
			transaction: <Block as BlockT>::Extrinsic,
			at: <Block as BlockT>::Hash,
		) -> TransactionValidity {
			Executive::validate_transaction(source, transaction, at)
		}
	}

	impl sp_offchain::OffchainWorkerApi<Block> for Runtime {
		fn offchain_worker(header: &<Block as BlockT>::Header) {
			Executive::offchain_worker(header)
		}
	}

	impl sp_consensus_aura::AuraApi<Block, AuraId> for Runtime {
		fn slot_duration() -> sp_consensus_aura::SlotDuration {
			sp_consensus_aura::SlotDuration::from_millis(Aura::slot_duration())
		}

		fn authorities() -> Vec<AuraId> {
			pallet_aura::Authorities::<Runtime>::get().into_inner()
		}
	}

	impl sp_consensus_grandpa::GrandpaApi<Block> for Runtime {
		fn grandpa_authorities() -> sp_consensus_grandpa::AuthorityList {
			Grandpa::grandpa_authorities()
		}

		fn current_set_id() -> sp_consensus_grandpa::SetId {
			Grandpa::current_set_id()
		}

		fn submit_report_equivocation_unsigned_extrinsic(
			_proof: sp_consensus_grandpa::EquivocationProof<
				<Block as BlockT>::Hash,
				NumberFor<Block>,
			>,
			_key_owner_proof: sp_consensus_grandpa::OpaqueKeyOwnershipProof,
		) -> Option<()> {
			None
		}

		fn generate_key_ownership_proof(
			_set_id: sp_consensus_grandpa::SetId,
			_authority_id: sp_consensus_grandpa::AuthorityId,
		) -> Option<sp_consensus_grandpa::OpaqueKeyOwnershipProof> {
			None
		}
	}

	impl sp_session::SessionKeys<Block> for Runtime {
		fn generate_session_keys(
			owner: Vec<u8>,
			seed: Option<Vec<u8>>,
		) -> OpaqueGeneratedSessionKeys {
			SessionKeys::generate(&owner, seed).into()
		}

		fn decode_session_keys(encoded: Vec<u8>) -> Option<Vec<(Vec<u8>, KeyTypeId)>> {
			SessionKeys::decode_into_raw_public_keys(&encoded)
		}
	}

	impl frame_system_rpc_runtime_api::AccountNonceApi<Block, AccountId, Nonce> for Runtime {
		fn account_nonce(account: AccountId) -> Nonce {
			System::account_nonce(account)
		}
	}

	impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentApi<Block, Balance>
		for Runtime
	{
		fn query_info(
			transaction: <Block as BlockT>::Extrinsic,
			length: u32,
		) -> RuntimeDispatchInfo<Balance> {
			TransactionPayment::query_info(transaction, length)
		}

		fn query_fee_details(
			transaction: <Block as BlockT>::Extrinsic,
			length: u32,
		) -> FeeDetails<Balance> {
			TransactionPayment::query_fee_details(transaction, length)
		}

		fn query_weight_to_fee(weight: Weight) -> Balance {
			TransactionPayment::weight_to_fee(weight)
		}

		fn query_length_to_fee(length: u32) -> Balance {
			TransactionPayment::length_to_fee(length)
		}
	}

	impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentCallApi<
		Block,
		Balance,
		RuntimeCall,
	> for Runtime
	{
		fn query_call_info(call: RuntimeCall, length: u32) -> RuntimeDispatchInfo<Balance> {
			TransactionPayment::query_call_info(call, length)
		}

		fn query_call_fee_details(call: RuntimeCall, length: u32) -> FeeDetails<Balance> {
			TransactionPayment::query_call_fee_details(call, length)
		}

		fn query_weight_to_fee(weight: Weight) -> Balance {
			TransactionPayment::weight_to_fee(weight)
		}

		fn query_length_to_fee(length: u32) -> Balance {
			TransactionPayment::length_to_fee(length)
		}
	}

	impl sp_genesis_builder::GenesisBuilder<Block> for Runtime {
		fn build_state(config: Vec<u8>) -> sp_genesis_builder::Result {
			build_state::<RuntimeGenesisConfig>(config)
		}

		fn get_preset(id: &Option<sp_genesis_builder::PresetId>) -> Option<Vec<u8>> {
			get_preset::<RuntimeGenesisConfig>(id, genesis::get_preset)
		}

		fn preset_names() -> Vec<sp_genesis_builder::PresetId> {
			genesis::preset_names()
		}
	}

	#[cfg(feature = "runtime-benchmarks")]
	impl frame_benchmarking::Benchmark<Block> for Runtime {
		fn benchmark_metadata(
			extra: bool,
		) -> (Vec<frame_benchmarking::BenchmarkList>, Vec<frame_support::traits::StorageInfo>) {
			use frame_benchmarking::BenchmarkList;
			use frame_support::traits::StorageInfoTrait;

			let mut list = Vec::<BenchmarkList>::new();
			list_benchmarks!(list, extra);
			(list, crate::AllPalletsWithSystem::storage_info())
		}

		fn dispatch_benchmark(
			config: frame_benchmarking::BenchmarkConfig,
		) -> Result<Vec<frame_benchmarking::BenchmarkBatch>, alloc::string::String> {
			use frame_benchmarking::BenchmarkBatch;
			use frame_support::traits::WhitelistedStorageKeys;

			let whitelist = crate::AllPalletsWithSystem::whitelisted_storage_keys();
			let mut batches = Vec::<BenchmarkBatch>::new();
			let params = (&config, &whitelist);
			add_benchmarks!(params, batches);
			Ok(batches)
		}
	}

	#[cfg(feature = "try-runtime")]
	impl frame_try_runtime::TryRuntime<Block> for Runtime {
		fn on_runtime_upgrade(checks: frame_try_runtime::UpgradeCheckSelect) -> (Weight, Weight) {
			let weight = Executive::try_runtime_upgrade(checks)
				.expect("a failed check must stop the dry run, with its reason");
			(weight, crate::configs::RuntimeBlockWeights::get().max_block)
		}

		fn execute_block(
			block: <Block as BlockT>::LazyBlock,
			state_root_check: bool,
			signature_check: bool,
			select: frame_try_runtime::TryStateSelect,
		) -> Weight {
			Executive::try_execute_block(block, state_root_check, signature_check, select)
				.expect("a failed check must stop the dry run, with its reason")
		}
	}
}
