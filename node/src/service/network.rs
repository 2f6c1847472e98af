//! Joins the network: blocks, transactions and finality votes.

use super::parts::{Backend, Client, GrandpaLink, ImportQueue, Pool};
use backup_runtime::opaque::Block;
use sc_client_api::BlockBackend;
use sc_consensus_grandpa::warp_proof::NetworkProvider;
use sc_network::{
	NetworkBackend, NotificationService, ProtocolName, config::FullNetworkConfiguration,
	service::traits::NetworkService,
};
use sc_network_sync::SyncingService;
use sc_service::{BuildNetworkParams, Configuration, Error, TaskManager, WarpSyncConfig};
use sp_runtime::traits::Block as BlockT;
use std::sync::Arc;

type Hash = <Block as BlockT>::Hash;

/// What joining needs.
pub(super) struct Needs<'a> {
	pub(super) config: &'a Configuration,
	pub(super) client: &'a Arc<Client>,
	pub(super) backend: &'a Arc<Backend>,
	pub(super) pool: &'a Arc<Pool>,
	pub(super) task_manager: &'a TaskManager,
	pub(super) grandpa_link: &'a GrandpaLink,
	pub(super) import_queue: ImportQueue,
}

/// The network, once joined.
pub(super) struct Joined {
	pub(super) network: Arc<dyn NetworkService>,
	pub(super) sync: Arc<SyncingService<Block>>,
	pub(super) grandpa: GrandpaProtocol,
	pub(super) system_rpc_tx:
		sc_utils::mpsc::TracingUnboundedSender<sc_rpc::system::Request<Block>>,
	pub(super) tx_handler_controller: sc_network_transactions::TransactionsHandlerController<Hash>,
}

/// How finality votes travel.
pub(super) struct GrandpaProtocol {
	pub(super) name: ProtocolName,
	pub(super) notifications: Box<dyn NotificationService>,
}

/// Registers the protocols and starts the network.
pub(super) fn join<N: NetworkBackend<Block, Hash>>(needs: Needs<'_>) -> Result<Joined, Error> {
	let Needs { config, client, backend, pool, task_manager, grandpa_link, import_queue } = needs;
	let registry = config.prometheus_registry();
	let metrics = N::register_notification_metrics(registry);
	let mut net_config =
		FullNetworkConfiguration::<Block, Hash, N>::new(&config.network, registry.cloned());

	let genesis = client.block_hash(0)?.expect("a database that was opened has a genesis block");
	let name = sc_consensus_grandpa::protocol_standard_name(&genesis, &config.chain_spec);
	let (protocol, notifications) = sc_consensus_grandpa::grandpa_peers_set_config::<_, N>(
		name.clone(),
		metrics.clone(),
		net_config.peer_store_handle(),
	);
	net_config.add_notification_protocol(protocol);

	let warp_sync = NetworkProvider::new(
		backend.clone(),
		grandpa_link.shared_authority_set().clone(),
		Vec::new(),
	);
	let (network, system_rpc_tx, tx_handler_controller, sync, _) =
		sc_service::build_network(BuildNetworkParams {
			config,
			net_config,
			client: client.clone(),
			transaction_pool: pool.clone(),
			spawn_handle: task_manager.spawn_handle(),
			spawn_essential_handle: task_manager.spawn_essential_handle(),
			import_queue,
			block_announce_validator_builder: None,
			warp_sync_config: Some(WarpSyncConfig::WithProvider(Arc::new(warp_sync))),
			block_relay: None,
			metrics,
			gap_sync_body_policy: None,
		})?;
	let grandpa = GrandpaProtocol { name, notifications };
	Ok(Joined { network, sync, grandpa, system_rpc_tx, tx_handler_controller })
}
