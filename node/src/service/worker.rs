//! The offchain worker, which for this chain is the backup worker.

use super::parts::{Backend, Client, Pool};
use backup_node_support::{BackupSettings, NodeFacts};
use futures::FutureExt;
use sc_client_api::Backend as _;
use sc_network::service::traits::NetworkService;
use sc_offchain::{OffchainWorkerOptions, OffchainWorkers};
use sc_service::{ChainType, Configuration, Error, TaskManager};
use sc_transaction_pool_api::OffchainTransactionPoolFactory;
use sp_keystore::KeystorePtr;
use std::sync::Arc;

/// The worker speaks HTTP to its agent, so it may always make requests.
const HTTP_REQUESTS: bool = true;

/// What the worker needs of the node.
pub(super) struct Needs<'a> {
	pub(super) config: &'a Configuration,
	pub(super) backup: &'a BackupSettings,
	pub(super) client: &'a Arc<Client>,
	pub(super) backend: &'a Arc<Backend>,
	pub(super) pool: &'a Arc<Pool>,
	pub(super) keystore: &'a KeystorePtr,
	pub(super) network: &'a Arc<dyn NetworkService>,
	pub(super) task_manager: &'a TaskManager,
}

/// Tells the worker where its agent is, then starts it if it is enabled.
pub(super) fn start(needs: Needs<'_>) -> Result<(), Error> {
	let config = needs.config;
	let facts = NodeFacts {
		development_chain: match config.chain_spec.chain_type() {
			ChainType::Development | ChainType::Local => true,
			ChainType::Live | ChainType::Custom(_) => false,
		},
		development_account: config.dev_key_seed.clone(),
		offchain_worker: config.offchain_worker.enabled,
		http_requests: HTTP_REQUESTS,
	};
	let storage = needs.backend.offchain_storage();
	backup_node_support::prepare(needs.backup, &facts, storage.clone(), &**needs.keystore)
		.map_err(|error| Error::Application(error.into()))?;
	if !config.offchain_worker.enabled {
		return Ok(());
	}
	let workers = OffchainWorkers::new(OffchainWorkerOptions {
		runtime_api_provider: needs.client.clone(),
		is_validator: config.role.is_authority(),
		keystore: Some(needs.keystore.clone()),
		offchain_db: storage,
		transaction_pool: Some(OffchainTransactionPoolFactory::new(needs.pool.clone())),
		network_provider: Arc::new(needs.network.clone()),
		enable_http_requests: HTTP_REQUESTS,
		custom_extensions: |_| Vec::new(),
	})?;
	let spawner = needs.task_manager.spawn_handle();
	let run = workers.run(needs.client.clone(), spawner.clone()).boxed();
	spawner.spawn("offchain-workers-runner", "offchain-worker", run);
	Ok(())
}

#[cfg(test)]
mod tests {
	#[test]
	fn node_and_pallet_agree_on_the_type_of_keys() {
		assert_eq!(backup_node_support::BACKUP_KEY_TYPE, pallet_backup::crypto::KEY_TYPE);
	}
}
