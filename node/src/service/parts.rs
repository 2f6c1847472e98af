//! The parts of a node that need nothing but its database.

use backup_runtime::{RuntimeApi, opaque::Block};
use sc_consensus_aura::ImportQueueParams;
use sc_executor::WasmExecutor;
use sc_service::{Configuration, Error, PartialComponents, TFullBackend, TFullClient, TaskManager};
use sc_telemetry::{Telemetry, TelemetryWorker};
use sc_transaction_pool::TransactionPoolHandle;
use sp_consensus_aura::{
	SlotDuration,
	inherents::InherentDataProvider as SlotProvider,
	sr25519::{AuthorityId, AuthorityPair},
};
use sp_timestamp::InherentDataProvider as TimestampProvider;
use std::sync::Arc;

/// At least every so many blocks a proof of finality is kept.
pub(super) const JUSTIFICATION_PERIOD: u32 = 512;

pub(super) type Executor = WasmExecutor<sp_io::SubstrateHostFunctions>;
pub(super) type Client = TFullClient<Block, RuntimeApi, Executor>;
pub(super) type Backend = TFullBackend<Block>;
pub(super) type Pool = TransactionPoolHandle<Block, Client>;
pub(super) type SelectChain = sc_consensus::LongestChain<Backend, Block>;
pub(super) type ImportQueue = sc_consensus::DefaultImportQueue<Block>;
pub(super) type BlockImport =
	sc_consensus_grandpa::GrandpaBlockImport<Backend, Block, Client, SelectChain>;
pub(super) type GrandpaLink = sc_consensus_grandpa::LinkHalf<Block, Client, SelectChain>;

/// Everything that is there before the node has a network.
pub(crate) type Parts = PartialComponents<
	Client,
	Backend,
	SelectChain,
	ImportQueue,
	Pool,
	(BlockImport, GrandpaLink, Option<Telemetry>),
>;

/// Opens the database, and makes what reads and writes it.
pub(crate) fn open(config: &Configuration) -> Result<Parts, Error> {
	let telemetry = open_telemetry(config)?;
	let executor = sc_service::new_wasm_executor(&config.executor);
	let (client, backend, keystore_container, task_manager) =
		sc_service::new_full_parts::<Block, RuntimeApi, Executor>(
			config,
			telemetry.as_ref().map(|(_, telemetry)| telemetry.handle()),
			executor,
			Vec::new(),
		)?;
	let client = Arc::new(client);
	let telemetry = telemetry.map(|(worker, telemetry)| {
		task_manager.spawn_handle().spawn("telemetry", None, worker.run());
		telemetry
	});
	let select_chain = SelectChain::new(backend.clone());
	let transaction_pool = sc_transaction_pool::Builder::new(
		task_manager.spawn_essential_handle(),
		client.clone(),
		config.role.is_authority().into(),
	)
	.with_options(config.transaction_pool.clone())
	.with_prometheus(config.prometheus_registry())
	.build();
	let (block_import, grandpa_link) = sc_consensus_grandpa::block_import(
		client.clone(),
		JUSTIFICATION_PERIOD,
		&client,
		select_chain.clone(),
		telemetry.as_ref().map(Telemetry::handle),
	)?;
	let import_queue =
		import_queue(config, &client, &block_import, &task_manager, telemetry.as_ref())?;
	Ok(PartialComponents {
		client,
		backend,
		task_manager,
		keystore_container,
		select_chain,
		import_queue,
		transaction_pool: Arc::new(transaction_pool),
		other: (block_import, grandpa_link, telemetry),
	})
}

/// What goes into a block before any transaction: its slot and its time.
pub(super) fn slot_and_time(slot_duration: SlotDuration) -> (SlotProvider, TimestampProvider) {
	let time = TimestampProvider::from_system_time();
	(SlotProvider::from_timestamp_and_slot_duration(*time, slot_duration), time)
}

fn open_telemetry(config: &Configuration) -> Result<Option<(TelemetryWorker, Telemetry)>, Error> {
	let Some(endpoints) = config.telemetry_endpoints.clone().filter(|all| !all.is_empty()) else {
		return Ok(None);
	};
	const MESSAGES_MAX: usize = 16;
	let worker = TelemetryWorker::new(MESSAGES_MAX)?;
	let telemetry = worker.handle().new_telemetry(endpoints);
	Ok(Some((worker, telemetry)))
}

fn import_queue(
	config: &Configuration,
	client: &Arc<Client>,
	block_import: &BlockImport,
	task_manager: &TaskManager,
	telemetry: Option<&Telemetry>,
) -> Result<ImportQueue, Error> {
	let slots = client.clone();
	Ok(sc_consensus_aura::import_queue::<AuthorityPair, _, _, _, _, _>(ImportQueueParams {
		block_import: block_import.clone(),
		justification_import: Some(Box::new(block_import.clone())),
		client: client.clone(),
		create_inherent_data_providers: move |parent, _| {
			let slots = slots.clone();
			async move {
				let duration = sc_consensus_aura::standalone::slot_duration_at::<AuthorityId, _, _>(
					&*slots, parent,
				)?;
				Ok(slot_and_time(duration))
			}
		},
		spawner: &task_manager.spawn_essential_handle(),
		registry: config.prometheus_registry(),
		check_for_equivocation: Default::default(),
		telemetry: telemetry.map(Telemetry::handle),
		compatibility_mode: Default::default(),
	})?)
}
