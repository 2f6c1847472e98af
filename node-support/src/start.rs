//! What happens when the node starts.

use crate::{BackupSettings, KeyError, args::DevKey, endpoint, keys};
use sp_core::{crypto::Ss58Codec, offchain::OffchainStorage};
use sp_keystore::Keystore;

const LOG_TARGET: &str = "backup";

/// What this crate must know of the node that it runs in.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
	/// Whether the chain is one for development or a local test network.
	pub development_chain: bool,
	/// Secret URI of the node's development account, if it runs with one: `dev_key_seed` of
	/// the service configuration.
	pub development_account: Option<String>,
	/// Whether offchain workers run.
	pub offchain_worker: bool,
	/// Whether offchain workers may make HTTP requests.
	pub http_requests: bool,
}

/// Something that keeps the worker from working although an agent is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
	/// Offchain workers are off.
	#[error(
		"offchain workers are off, so no backups are made; start with --offchain-worker always"
	)]
	WorkerOff,
	/// Offchain workers may not make HTTP requests.
	#[error(
		"offchain workers may not make HTTP requests, so no backups are made; the node must set \
		 enable_http_requests"
	)]
	HttpOff,
	/// There is no key to sign reports with.
	#[error(
		"the keystore has no key of type bkup, so this node cannot report backups; insert one \
		 with: key insert --key-type bkup --scheme sr25519"
	)]
	NoKey,
}

/// Why the node cannot start as it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
	/// The development key is no good.
	#[error(transparent)]
	Key(#[from] KeyError),
	/// The node's database has no place for offchain data.
	#[error("the node has no offchain storage, so the worker cannot be told where its agent is")]
	NoOffchainStorage,
}

/// Makes the node ready for the worker, and says in the log what is still in its way.
///
/// `storage` is the backend's offchain storage. Call this before the offchain worker is
/// spawned. The warnings are returned as well, for nodes that would rather stop.
///
/// # Errors
///
/// When the development key cannot be used, or an agent is configured and there is no
/// offchain storage.
pub fn prepare<S: OffchainStorage>(
	settings: &BackupSettings,
	facts: &NodeFacts,
	storage: Option<S>,
	keystore: &dyn Keystore,
) -> Result<Vec<Warning>, StartError> {
	if let Some(key) = development_key(settings, facts)? {
		let public = keys::insert(keystore, &key)?;
		log::info!(target: LOG_TARGET, "Signing backup reports with {}", public.to_ss58check());
	}
	match (&settings.agent, storage) {
		(Some(agent), Some(mut storage)) => {
			endpoint::store(&mut storage, agent);
			log::info!(target: LOG_TARGET, "Backup agent at {}", agent.url.as_str());
		}
		(Some(_), None) => return Err(StartError::NoOffchainStorage),
		(None, storage) => {
			if let Some(mut storage) = storage {
				endpoint::clear(&mut storage);
			}
			log::info!(target: LOG_TARGET, "No --backup-agent-url: the backup worker is idle");
			return Ok(Vec::new());
		}
	}
	let warnings = warnings(facts, keys::exists(keystore));
	for warning in &warnings {
		log::warn!(target: LOG_TARGET, "{warning}");
	}
	Ok(warnings)
}

/// The key to insert: the one that was given, else the development account's.
fn development_key(
	settings: &BackupSettings,
	facts: &NodeFacts,
) -> Result<Option<DevKey>, KeyError> {
	match (&settings.dev_key, facts.development_chain) {
		(Some(_), false) => Err(KeyError::NotADevelopmentChain),
		(Some(key), true) => Ok(Some(DevKey(key.0.clone()))),
		(None, true) => Ok(facts.development_account.clone().map(DevKey)),
		(None, false) => Ok(None),
	}
}

fn warnings(facts: &NodeFacts, has_key: bool) -> Vec<Warning> {
	[
		(!facts.offchain_worker, Warning::WorkerOff),
		(!facts.http_requests, Warning::HttpOff),
		(!has_key, Warning::NoKey),
	]
	.into_iter()
	.filter_map(|(applies, warning)| applies.then_some(warning))
	.collect()
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{BACKUP_KEY_TYPE, BackupArgs, secret::tests::secret_file};
	use backup_primitives::auth::AgentEndpoint;
	use codec::Decode;
	use sp_core::{
		Pair,
		offchain::{
			DbExternalities, StorageKind,
			storage::{InMemOffchainStorage, OffchainDb},
		},
		sr25519,
	};
	use sp_keystore::testing::MemoryKeystore;

	const STORAGE_KEY: &[u8] = b"pallet-backup/agent";

	fn with_agent() -> BackupSettings {
		let directory = tempfile::tempdir().unwrap();
		let path = secret_file(&directory, &"07".repeat(32), 0o600);
		BackupArgs {
			backup_agent_url: Some("http://127.0.0.1:9955/".into()),
			backup_agent_secret_file: Some(path),
			..Default::default()
		}
		.settings()
		.unwrap()
	}

	fn with_dev_key(suri: &str) -> BackupSettings {
		BackupArgs { backup_dev_key: Some(suri.into()), ..Default::default() }.settings().unwrap()
	}

	fn alice() -> NodeFacts {
		NodeFacts {
			development_chain: true,
			development_account: Some("//Alice".into()),
			offchain_worker: true,
			http_requests: true,
		}
	}

	fn key_of(suri: &str) -> Vec<sr25519::Public> {
		vec![sr25519::Pair::from_string(suri, None).unwrap().public()]
	}

	/// What the worker would read.
	fn worker_reads(storage: &InMemOffchainStorage) -> Option<AgentEndpoint> {
		OffchainDb::new(storage.clone())
			.local_storage_get(StorageKind::PERSISTENT, STORAGE_KEY)
			.map(|bytes| AgentEndpoint::decode(&mut &bytes[..]).unwrap())
	}

	/// A view of one storage, as the backend hands out.
	#[derive(Clone, Default)]
	struct Shared(std::sync::Arc<std::sync::Mutex<InMemOffchainStorage>>);

	impl Shared {
		fn read(&self) -> Option<AgentEndpoint> {
			worker_reads(&self.0.lock().unwrap())
		}
	}

	impl OffchainStorage for Shared {
		fn set(&mut self, prefix: &[u8], key: &[u8], value: &[u8]) {
			self.0.lock().unwrap().set(prefix, key, value);
		}

		fn remove(&mut self, prefix: &[u8], key: &[u8]) {
			self.0.lock().unwrap().remove(prefix, key);
		}

		fn get(&self, prefix: &[u8], key: &[u8]) -> Option<Vec<u8>> {
			self.0.lock().unwrap().get(prefix, key)
		}

		fn compare_and_set(
			&mut self,
			prefix: &[u8],
			key: &[u8],
			old: Option<&[u8]>,
			new: &[u8],
		) -> bool {
			self.0.lock().unwrap().compare_and_set(prefix, key, old, new)
		}
	}

	#[test]
	fn worker_finds_the_agent_and_no_longer_after_a_start_without_it() {
		let (storage, keystore) = (Shared::default(), MemoryKeystore::new());
		let start = |settings: &BackupSettings| {
			prepare(settings, &alice(), Some(storage.clone()), &keystore).unwrap()
		};
		assert_eq!(start(&with_agent()), []);
		let endpoint = storage.read().unwrap();
		assert_eq!(endpoint.url, b"http://127.0.0.1:9955");
		assert_eq!(endpoint.secret, [7; 32]);

		assert_eq!(start(&BackupArgs::default().settings().unwrap()), []);
		assert_eq!(storage.read(), None);
	}

	#[test]
	fn development_account_signs_by_default() {
		let keystore = MemoryKeystore::new();
		let idle = BackupArgs::default().settings().unwrap();
		prepare(&idle, &alice(), Some(Shared::default()), &keystore).unwrap();
		assert_eq!(keystore.sr25519_public_keys(BACKUP_KEY_TYPE), key_of("//Alice"));
	}

	#[test]
	fn given_key_replaces_the_development_account() {
		let keystore = MemoryKeystore::new();
		prepare(&with_dev_key("//Bob"), &alice(), Some(Shared::default()), &keystore).unwrap();
		assert_eq!(keystore.sr25519_public_keys(BACKUP_KEY_TYPE), key_of("//Bob"));
	}

	#[test]
	fn no_key_is_inserted_on_a_real_chain() {
		let keystore = MemoryKeystore::new();
		let facts = NodeFacts { development_chain: false, ..alice() };
		let idle = BackupArgs::default().settings().unwrap();
		prepare(&idle, &facts, Some(Shared::default()), &keystore).unwrap();
		assert!(keystore.sr25519_public_keys(BACKUP_KEY_TYPE).is_empty());
		assert!(matches!(
			prepare(&with_dev_key("//Bob"), &facts, Some(Shared::default()), &keystore),
			Err(StartError::Key(KeyError::NotADevelopmentChain))
		));
	}

	#[test]
	fn fails_on_a_malformed_key_without_repeating_it() {
		let keystore = MemoryKeystore::new();
		let error =
			prepare(&with_dev_key("correct horse"), &alice(), Some(Shared::default()), &keystore)
				.unwrap_err();
		assert!(matches!(error, StartError::Key(KeyError::Malformed(_))));
		assert!(!format!("{error} {error:?}").contains("horse"));
	}

	#[test]
	fn fails_without_offchain_storage_only_when_there_is_an_agent() {
		let keystore = MemoryKeystore::new();
		let start =
			|settings: &BackupSettings| prepare::<Shared>(settings, &alice(), None, &keystore);
		assert!(matches!(start(&with_agent()), Err(StartError::NoOffchainStorage)));
		assert_eq!(start(&BackupArgs::default().settings().unwrap()).unwrap(), []);
	}

	#[test]
	fn warns_of_all_that_is_in_the_workers_way() {
		let facts = NodeFacts::default();
		let keystore = MemoryKeystore::new();
		let warnings = prepare(&with_agent(), &facts, Some(Shared::default()), &keystore).unwrap();
		assert_eq!(warnings, [Warning::WorkerOff, Warning::HttpOff, Warning::NoKey]);
	}
}
