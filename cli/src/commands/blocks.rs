//! Where the verbs that need no chain find blocks: a store, gateways, or a CAR file.

use crate::{args::From, commands::patience::Impatient, error::CliError};
use backup_agent::{
	peers::{GatewayClient, Peers, Reach},
	pipeline::Cancel,
	repositories::{BlockSource, CarError, CarFile, EmbeddedStore, RepositoryError, StoreOptions},
};
use std::{fs, num::NonZero, path::Path, sync::Arc, thread};

/// Threads that fetch from gateways, where most of the time is waiting.
const GATEWAY_THREADS: usize = 8;

/// Where blocks come from.
pub(super) struct Place {
	pub(super) source: Arc<dyn BlockSource>,
	pub(super) threads: NonZero<usize>,
}

impl Place {
	/// `cancel` ends the waiting for gateways.
	pub(super) fn open(from: &From, cancel: &Cancel) -> Result<Self, CliError> {
		let (source, threads): (Arc<dyn BlockSource>, _) = match (&from.store, &from.car) {
			(Some(folder), _) => (Arc::new(existing_store(folder)?), processors()),
			(None, Some(file)) => (Arc::new(open_car(file)?), processors()),
			(None, None) => {
				let threads = NonZero::new(GATEWAY_THREADS).expect("the constant is not zero");
				(Arc::new(Impatient::new(gateways(&from.gateway)?, cancel)), threads)
			}
		};
		Ok(Self { source, threads })
	}
}

/// Gateways that the user names, wherever they are.
fn gateways(urls: &[String]) -> Result<Peers, CliError> {
	let unusable =
		|url: &str, reason: String| CliError::GatewayUnusable { url: url.into(), reason };
	let client = GatewayClient::new(Reach::All)
		.map_err(|error| unusable(urls.first().map_or("", String::as_str), error.to_string()))?;
	let gateway =
		|url: &String| client.gateway(url, None).map_err(|error| unusable(url, error.to_string()));
	Ok(Peers::new(urls.iter().map(gateway).collect::<Result<Vec<_>, _>>()?))
}

pub(super) fn processors() -> NonZero<usize> {
	thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

pub(super) fn open_car(path: &Path) -> Result<CarFile, CliError> {
	CarFile::open(path).map_err(|error| match error {
		CarError::Io(source) => CliError::FileRead { path: path.to_owned(), source },
		other => CliError::BadCar { path: path.to_owned(), reason: other.to_string() },
	})
}

/// A store that is there: opening a folder that is none would make one in it.
fn existing_store(folder: &Path) -> Result<EmbeddedStore, CliError> {
	let is_pack =
		|entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "pack");
	let mut entries = fs::read_dir(folder)
		.map_err(|source| CliError::FileRead { path: folder.to_owned(), source })?;
	match entries.any(|entry| entry.is_ok_and(is_pack)) {
		true => open_store(folder),
		false => Err(CliError::NoStore { path: folder.to_owned() }),
	}
}

/// A store, made if it is not there.
pub(super) fn open_store(folder: &Path) -> Result<EmbeddedStore, CliError> {
	let path = || folder.to_owned();
	EmbeddedStore::open(folder, StoreOptions::V1).map_err(|error| match error {
		RepositoryError::InUse { .. } => CliError::StoreInUse { path: path() },
		other => CliError::BadStore { path: path(), reason: other.to_string() },
	})
}

/// Tells the thread that works to end, when nobody waits for it any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
	fn drop(&mut self) {
		self.0.cancel();
	}
}

/// Do work that blocks in a thread of its own, which is told to end at Ctrl-C.
pub(super) async fn work<T: Send + 'static>(
	work: impl FnOnce(&Cancel) -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
	let cancel = CancelOnDrop(Cancel::new());
	let switch = cancel.0.clone();
	let handle = tokio::task::spawn_blocking(move || work(&switch));
	handle.await.map_err(|error| CliError::Runtime { source: error.into() })?
}
