//! Where the verbs that need no chain find blocks: a store, gateways, or a CAR file.

use crate::{
	args::From,
	commands::{
		locate::{Door, Located},
		patience::Impatient,
	},
	error::CliError,
	progress::Bar,
};
use backup_agent::{
	peers::{AddressError, GatewayClient, Peers, Reach},
	pipeline::Cancel,
	repositories::{BlockSource, CarError, CarFile, EmbeddedStore, RepositoryError, StoreOptions},
};
use backup_primitives::Cid;
use std::{
	fs,
	num::NonZero,
	ops::ControlFlow,
	path::Path,
	sync::{Arc, Mutex, PoisonError},
	thread,
};

/// Threads that fetch from gateways, where most of the time is waiting.
const GATEWAY_THREADS: usize = 8;

/// Where blocks come from.
pub(super) struct Place {
	pub(super) source: Arc<dyn BlockSource>,
	pub(super) threads: NonZero<usize>,
}

impl Place {
	/// `cancel` ends the waiting for gateways.
	pub(super) fn open(located: &Located, from: &From, cancel: &Cancel) -> Result<Self, CliError> {
		let (source, threads): (Arc<dyn BlockSource>, _) = match (&from.store, &from.car) {
			(Some(folder), _) => (Arc::new(existing_store(folder)?), processors()),
			(None, Some(file)) => (Arc::new(open_car(file)?), processors()),
			(None, None) => {
				let threads = NonZero::new(GATEWAY_THREADS).expect("the constant is not zero");
				let peers = gateways(&located.doors, &located.reach)?;
				(Arc::new(Impatient::new(peers, cancel)), threads)
			}
		};
		Ok(Self { source, threads })
	}

	/// The same place, whose blocks a walk counts as they are read.
	pub(super) fn watched(self, walk: WalkShown) -> Self {
		let source = Watched { source: self.source, walk };
		Self { source: Arc::new(source), ..self }
	}
}

/// The bar of a walk, as long as there is one.
#[derive(Clone, Default)]
pub(super) struct WalkShown(Arc<Mutex<Option<Bar>>>);

impl WalkShown {
	/// Show a walk while it is made.
	pub(super) fn during<T>(&self, bar: Bar, walk: impl FnOnce() -> T) -> T {
		self.replace(Some(bar));
		let walked = walk();
		self.replace(None);
		walked
	}

	fn replace(&self, bar: Option<Bar>) {
		*self.0.lock().unwrap_or_else(PoisonError::into_inner) = bar;
	}

	/// Tell the bar, if there is one.
	pub(super) fn tell(&self, tell: impl FnOnce(&Bar)) {
		if let Some(bar) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
			tell(bar);
		}
	}
}

/// Blocks that are counted as they are read.
struct Watched {
	source: Arc<dyn BlockSource>,
	walk: WalkShown,
}

impl Watched {
	fn count(&self, block: Option<Vec<u8>>) -> Option<Vec<u8>> {
		self.pass(block.as_deref().unwrap_or_default());
		block
	}

	fn pass(&self, block: &[u8]) {
		self.walk.tell(|bar| bar.pass(block.len() as u64));
	}
}

impl BlockSource for Watched {
	fn has(&self, cid: &Cid) -> Result<bool, RepositoryError> {
		self.source.has(cid)
	}

	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.source.get(cid).map(|block| self.count(block))
	}

	fn get_unchecked(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		self.source.get_unchecked(cid).map(|block| self.count(block))
	}

	fn get_children(
		&self,
		node: &Cid,
		children: &[Cid],
		take: &mut dyn FnMut(&Cid, Vec<u8>) -> ControlFlow<()>,
	) {
		self.source.get_children(node, children, &mut |cid, block| {
			self.pass(&block);
			take(cid, block)
		});
	}
}

/// The gateways that were found. Of several one that cannot be asked is left out.
fn gateways(doors: &[Door], reach: &Reach) -> Result<Peers, CliError> {
	let unusable =
		|url: &str, reason: String| CliError::GatewayUnusable { url: url.into(), reason };
	let client = GatewayClient::new(reach.clone()).map_err(|error| {
		unusable(doors.first().map_or("", |door| door.url.as_str()), error.to_string())
	})?;
	let (mut found, mut wrong) = (Vec::new(), None);
	for Door { url, pass } in doors {
		match client.gateway(url, pass.clone()) {
			Ok(gateway) => found.push(gateway),
			Err(AddressError::NotAllowed { address, .. }) => {
				wrong = Some(CliError::GatewayNotPublic { url: url.clone(), address });
			}
			Err(error) => wrong = Some(unusable(url, error.to_string())),
		}
	}
	match (found.is_empty(), wrong) {
		(false, None) => Ok(Peers::new(found)),
		// Who names one wants it asked.
		(false, Some(_)) if *reach != Reach::All => Ok(Peers::new(found)),
		(_, Some(error)) => Err(error),
		(true, None) => Err(CliError::NoPlace),
	}
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
