//! The chains that the node knows by name. Their genesis comes from the runtime's presets.

use backup_runtime::WASM_BINARY;
use sc_service::{ChainType, Properties};
use sp_genesis_builder::{DEV_RUNTIME_PRESET, LOCAL_TESTNET_RUNTIME_PRESET};

pub(crate) type ChainSpec = sc_service::GenericChainSpec;

/// One authority, Alice.
pub(crate) fn development() -> Result<ChainSpec, String> {
	spec("Backup Development", "backup_dev", ChainType::Development, DEV_RUNTIME_PRESET)
}

/// Three authorities: Alice, Bob and Charlie.
pub(crate) fn local() -> Result<ChainSpec, String> {
	spec("Backup Local", "backup_local", ChainType::Local, LOCAL_TESTNET_RUNTIME_PRESET)
}

fn spec(name: &str, id: &str, kind: ChainType, preset: &str) -> Result<ChainSpec, String> {
	let code = WASM_BINARY
		.ok_or("this node was built without the WASM runtime; build it without SKIP_WASM_BUILD")?;
	Ok(ChainSpec::builder(code, None)
		.with_name(name)
		.with_id(id)
		.with_chain_type(kind)
		.with_protocol_id("backup")
		.with_properties(properties())
		.with_genesis_config_preset_name(preset)
		.build())
}

/// How wallets show amounts and addresses.
fn properties() -> Properties {
	Properties::from_iter([
		("tokenSymbol".to_owned(), "UNIT".into()),
		("tokenDecimals".to_owned(), 12.into()),
		("ss58Format".to_owned(), 42.into()),
	])
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn genesis_of_every_named_chain_can_be_built() {
		for spec in [development().unwrap(), local().unwrap()] {
			let raw = spec.as_json(true).unwrap();
			let code = sp_core::storage::well_known_keys::CODE;
			assert!(raw.contains(&format!("\"0x{}\"", hex(code))), "{} has no code", spec.id());
		}
	}

	fn hex(bytes: &[u8]) -> String {
		bytes.iter().map(|byte| format!("{byte:02x}")).collect()
	}
}
