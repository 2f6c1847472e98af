//! Puts the node together.
//!
//! [`open`] opens the database and whatever needs nothing but it. [`start`] adds network,
//! offchain worker, RPC and consensus, and returns the tasks that keep them going.

mod consensus;
mod network;
mod parts;
mod worker;

pub(crate) use parts::{Parts, open};

use backup_node_support::BackupSettings;
use backup_runtime::opaque::Block;
use consensus::Consensus;
use network::Joined;
use sc_service::{Configuration, Error, SpawnTasksParams, TaskManager};
use sp_runtime::traits::Block as BlockT;

/// Starts a full node.
pub(crate) fn start<N: sc_network::NetworkBackend<Block, <Block as BlockT>::Hash>>(
	config: Configuration,
	backup: &BackupSettings,
) -> Result<TaskManager, Error> {
	let Parts {
		client,
		backend,
		mut task_manager,
		keystore_container,
		select_chain,
		import_queue,
		transaction_pool,
		other: (block_import, grandpa_link, mut telemetry),
	} = open(&config)?;
	let keystore = keystore_container.keystore();

	let Joined { network, sync, grandpa, system_rpc_tx, tx_handler_controller } =
		network::join::<N>(network::Needs {
			config: &config,
			client: &client,
			backend: &backend,
			pool: &transaction_pool,
			task_manager: &task_manager,
			grandpa_link: &grandpa_link,
			import_queue,
		})?;

	worker::start(worker::Needs {
		config: &config,
		backup,
		client: &client,
		backend: &backend,
		pool: &transaction_pool,
		keystore: &keystore,
		network: &network,
		task_manager: &task_manager,
	})?;

	let mut consensus = Consensus::of(&config, &keystore);
	let rpc_builder = {
		let (client, pool) = (client.clone(), transaction_pool.clone());
		Box::new(move |_| {
			crate::rpc::module(client.clone(), pool.clone())
				.map_err(|error| Error::Application(error.into()))
		})
	};
	sc_service::spawn_tasks(SpawnTasksParams {
		config,
		client: client.clone(),
		backend,
		task_manager: &mut task_manager,
		keystore,
		transaction_pool: transaction_pool.clone(),
		rpc_builder,
		network: network.clone(),
		system_rpc_tx,
		tx_handler_controller,
		sync_service: sync.clone(),
		telemetry: telemetry.as_mut(),
		tracing_execute_block: None,
	})?;

	consensus.telemetry = telemetry.as_ref().map(|telemetry| telemetry.handle());
	if consensus.is_authority() {
		consensus.make_blocks(
			&task_manager,
			client,
			select_chain,
			block_import,
			transaction_pool.clone(),
			sync.clone(),
		)?;
	}
	if consensus.finalizes() {
		consensus.finalize_blocks(
			&task_manager,
			grandpa_link,
			grandpa,
			network,
			sync,
			transaction_pool,
		)?;
	}
	Ok(task_manager)
}
