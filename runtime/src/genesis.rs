//! Genesis states that the runtime brings along: one authority for development,
//! three for a local network. Their keys are well known; never run them in public.

use crate::{
	AccountId, AuraConfig, BackupConfig, BalancesConfig, CouncilConfig, GrandpaConfig, MILLI_UNIT,
	MarketplaceConfig, RuntimeGenesisConfig, UNIT,
	configs::{MAX_FREQUENCY, MIN_FREQUENCY},
};
use alloc::{vec, vec::Vec};
use frame_support::build_struct_json_patch;
use pallet_backup::ChainSettings;
use sp_genesis_builder::{DEV_RUNTIME_PRESET, LOCAL_TESTNET_RUNTIME_PRESET, PresetId};
use sp_keyring::{Ed25519Keyring, Sr25519Keyring};

/// Each well-known account starts with this.
const ENDOWMENT: crate::Balance = 1_000_000 * UNIT;

/// The preset called `id`, as JSON.
pub(crate) fn get_preset(id: &PresetId) -> Option<Vec<u8>> {
	let patch = match id.as_ref() {
		DEV_RUNTIME_PRESET => genesis(&[(Sr25519Keyring::Alice, Ed25519Keyring::Alice)]),
		LOCAL_TESTNET_RUNTIME_PRESET => genesis(&[
			(Sr25519Keyring::Alice, Ed25519Keyring::Alice),
			(Sr25519Keyring::Bob, Ed25519Keyring::Bob),
			(Sr25519Keyring::Charlie, Ed25519Keyring::Charlie),
		]),
		_ => return None,
	};
	Some(serde_json::to_vec(&patch).expect("maps of strings, numbers and keys always serialize"))
}

/// The names that [`get_preset`] knows.
pub(crate) fn preset_names() -> Vec<PresetId> {
	vec![DEV_RUNTIME_PRESET.into(), LOCAL_TESTNET_RUNTIME_PRESET.into()]
}

/// A chain whose authorities are also its council.
fn genesis(authorities: &[(Sr25519Keyring, Ed25519Keyring)]) -> serde_json::Value {
	build_struct_json_patch!(RuntimeGenesisConfig {
		balances: BalancesConfig {
			balances: Sr25519Keyring::well_known()
				.map(|key| (key.to_account_id(), ENDOWMENT))
				.collect::<Vec<_>>(),
		},
		aura: AuraConfig {
			authorities: authorities.iter().map(|(aura, _)| aura.public().into()).collect(),
		},
		grandpa: GrandpaConfig {
			authorities: authorities
				.iter()
				.map(|(_, grandpa)| (grandpa.public().into(), 1))
				.collect::<Vec<_>>(),
		},
		council: CouncilConfig {
			members: authorities
				.iter()
				.map(|(account, _)| account.to_account_id())
				.collect::<Vec<AccountId>>(),
		},
		marketplace: MarketplaceConfig { price: 100 * MILLI_UNIT },
		backup: BackupConfig { settings: Some(quick_settings()) },
	})
}

/// Settings that let a person watch: a backup every ten blocks, deletion after ten more.
fn quick_settings() -> ChainSettings<u64> {
	ChainSettings {
		frequency: 10,
		min_frequency: MIN_FREQUENCY.into(),
		max_frequency: MAX_FREQUENCY.into(),
		keep_last: 7,
		min_age: 0,
		deletion_grace: 10,
		deletion_deadline: 100,
		restore_lifetime: 300,
		proposal_lifetime: 300,
		key_activation_delay: 10,
		replicas: 2,
		holder_period: 20,
		holder_silence: 100,
	}
}
