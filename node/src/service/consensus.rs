//! Making blocks with Aura and finalizing them with GRANDPA.

use super::{
	network::GrandpaProtocol,
	parts::{
		BlockImport, Client, GrandpaLink, JUSTIFICATION_PERIOD, Pool, SelectChain, slot_and_time,
	},
};
use backup_runtime::opaque::Block;
use sc_basic_authorship::ProposerFactory;
use sc_consensus_aura::{SlotProportion, StartAuraParams};
use sc_consensus_grandpa::{GrandpaParams, SharedVoterState, VotingRulesBuilder};
use sc_network::service::traits::NetworkService;
use sc_network_sync::SyncingService;
use sc_service::{Configuration, Error, Role, TaskManager};
use sc_telemetry::TelemetryHandle;
use sc_transaction_pool_api::OffchainTransactionPoolFactory;
use sp_consensus_aura::sr25519::AuthorityPair;
use sp_keystore::KeystorePtr;
use std::{sync::Arc, time::Duration};

/// Part of a slot that may be spent on making the block; the rest is for its way to others.
const PROPOSAL_SLOT_PORTION: f32 = 2.0 / 3.0;

/// How often votes are repeated to those who missed them.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(333);

/// What both halves of consensus need, taken from the configuration before it is used up.
pub(super) struct Consensus {
	role: Role,
	force_authoring: bool,
	grandpa_enabled: bool,
	node_name: String,
	keystore: KeystorePtr,
	registry: Option<substrate_prometheus_endpoint::Registry>,
	pub(super) telemetry: Option<TelemetryHandle>,
}

impl Consensus {
	pub(super) fn of(config: &Configuration, keystore: &KeystorePtr) -> Self {
		Self {
			role: config.role,
			force_authoring: config.force_authoring,
			grandpa_enabled: !config.disable_grandpa,
			node_name: config.network.node_name.clone(),
			keystore: keystore.clone(),
			registry: config.prometheus_registry().cloned(),
			telemetry: None,
		}
	}

	pub(super) fn is_authority(&self) -> bool {
		self.role.is_authority()
	}

	pub(super) fn finalizes(&self) -> bool {
		self.grandpa_enabled
	}

	/// Makes a block in every slot that is ours. The node stops when this does.
	pub(super) fn make_blocks(
		&self,
		task_manager: &TaskManager,
		client: Arc<Client>,
		select_chain: SelectChain,
		block_import: BlockImport,
		pool: Arc<Pool>,
		sync: Arc<SyncingService<Block>>,
	) -> Result<(), Error> {
		let proposer_factory = ProposerFactory::new(
			task_manager.spawn_handle(),
			client.clone(),
			pool,
			self.registry.as_ref(),
			self.telemetry.clone(),
		);
		let slot_duration = sc_consensus_aura::slot_duration(&*client)?;
		let aura = sc_consensus_aura::start_aura::<AuthorityPair, _, _, _, _, _, _, _, _, _, _>(
			StartAuraParams {
				slot_duration,
				client,
				select_chain,
				block_import,
				proposer_factory,
				create_inherent_data_providers: move |_, ()| async move {
					Ok(slot_and_time(slot_duration))
				},
				force_authoring: self.force_authoring,
				backoff_authoring_blocks: None::<()>,
				keystore: self.keystore.clone(),
				sync_oracle: sync.clone(),
				justification_sync_link: sync,
				block_proposal_slot_portion: SlotProportion::new(PROPOSAL_SLOT_PORTION),
				max_block_proposal_slot_portion: None,
				telemetry: self.telemetry.clone(),
				compatibility_mode: Default::default(),
			},
		)?;
		let spawner = task_manager.spawn_essential_handle();
		spawner.spawn_blocking("aura", Some("block-authoring"), aura);
		Ok(())
	}

	/// Votes on blocks, or follows the votes. The node stops when this does.
	pub(super) fn finalize_blocks(
		self,
		task_manager: &TaskManager,
		link: GrandpaLink,
		protocol: GrandpaProtocol,
		network: Arc<dyn NetworkService>,
		sync: Arc<SyncingService<Block>>,
		pool: Arc<Pool>,
	) -> Result<(), Error> {
		let config = sc_consensus_grandpa::Config {
			gossip_duration: GOSSIP_INTERVAL,
			justification_generation_period: JUSTIFICATION_PERIOD,
			observer_enabled: false,
			keystore: self.role.is_authority().then_some(self.keystore),
			local_role: self.role,
			name: Some(self.node_name),
			telemetry: self.telemetry.clone(),
			protocol_name: protocol.name,
		};
		let voter = sc_consensus_grandpa::run_grandpa_voter(GrandpaParams {
			config,
			link,
			network,
			sync,
			notification_service: protocol.notifications,
			voting_rule: VotingRulesBuilder::default().build(),
			prometheus_registry: self.registry,
			shared_voter_state: SharedVoterState::empty(),
			telemetry: self.telemetry,
			offchain_tx_pool_factory: OffchainTransactionPoolFactory::new(pool),
		})?;
		task_manager.spawn_essential_handle().spawn_blocking("grandpa-voter", None, voter);
		Ok(())
	}
}
