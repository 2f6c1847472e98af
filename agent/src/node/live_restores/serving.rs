//! Reading a snapshot from wherever it is, and serving its disks to QEMU.

use super::{records::Record, unwritable};
use crate::{
	format::{Root, RootBlock},
	jobs::JobError,
	nbd::{NbdServer, ServedDisk},
	node::{restored, stored},
	peers::{Elsewhere, Everywhere},
	pipeline::{Cancel, open_root},
	repositories::{BlockSource, EmbeddedStore, Repository, Session},
	secret::NodeIdentities,
};
use backup_primitives::{Cid, FailureReason, OpaqueId};
use std::{sync::Arc, time::Duration};

/// How long other nodes are waited for while a guest waits for a block: less than its drivers do.
const PATIENCE: Duration = Duration::from_secs(8);

/// What serves a live restore.
pub(super) struct Served {
	_server: NbdServer,
	_session: Box<dyn Session>,
}

/// Where snapshots are read from, and what opens them.
pub(super) struct Serving {
	pub(super) store: EmbeddedStore,
	pub(super) elsewhere: Arc<Elsewhere>,
	pub(super) identities: Arc<NodeIdentities>,
	/// Thrown when nobody is waited for any more.
	pub(super) cancel: Cancel,
}

impl Serving {
	/// Serve again what was served before.
	pub(super) fn again(&self, record: &Record) -> Result<Served, JobError> {
		// What is not here may have come elsewhere since it was looked, so the answer does not matter.
		let (session, _) = self.hold(&record.root)?;
		let source = self.source(&record.node, &record.request);
		let root = self.open(&record.root, &source)?;
		self.serve(record, &root, &source, session)
	}

	/// Keeps a snapshot's blocks, as long as the session lives, and says whether all are here.
	pub(super) fn hold(&self, root: &Cid) -> Result<(Box<dyn Session>, bool), JobError> {
		let session = self.store.open_session().map_err(stored)?;
		let is_whole = session.has(root).map_err(stored)?;
		Ok((session, is_whole))
	}

	/// The node that sealed a root, and the request: its block says so, and the chain where neither
	/// this store nor a replica has that.
	pub(super) fn origin(
		&self,
		root: &Cid,
		nodes: &[OpaqueId],
	) -> Result<(OpaqueId, OpaqueId), JobError> {
		let near: [&dyn BlockSource; 2] = [&self.store, self.elsewhere.replicas()];
		let mut blocks = near.into_iter().filter_map(|place| place.get(root).ok().flatten());
		let block = blocks.find_map(|block| RootBlock::decode(&block).ok());
		if let Some(block) = block {
			return Ok((block.node().clone(), block.request().clone()));
		}
		let missing = |why: &str| JobError {
			reason: FailureReason::BlockMissing,
			detail: format!("the snapshot {root} is not here, and {why}"),
		};
		match self.elsewhere.owners_of_root(root, nodes) {
			Ok(Some(origin)) => Ok(origin),
			Ok(None) => Err(missing("the chain records no such root of this node")),
			Err(error) => Err(missing(&format!("the chain cannot say who has it: {error}"))),
		}
	}

	/// Where blocks of a request are read from.
	pub(super) fn source(&self, node: &OpaqueId, request: &OpaqueId) -> Everywhere {
		let source = self.elsewhere.beside(&self.store, node, request, &self.cancel);
		source.with_patience(PATIENCE)
	}

	pub(super) fn open(&self, root: &Cid, source: &Everywhere) -> Result<Root, JobError> {
		let block = open_root(source, root).map_err(restored)?;
		block.open_with_identities(self.identities.expose()).map_err(|error| restored(error.into()))
	}

	/// Serve the disks of a snapshot on a record's socket, as long as what it gives lives.
	pub(super) fn serve(
		&self,
		record: &Record,
		root: &Root,
		source: &Everywhere,
		session: Box<dyn Session>,
	) -> Result<Served, JobError> {
		let source: Arc<dyn BlockSource> = Arc::new(source.clone());
		let disks = root.disks.iter().map(|disk| ServedDisk {
			name: disk.name.clone(),
			repository: Arc::clone(&source),
			geometry: root.geometry,
			object: disk.clone(),
		});
		let server = NbdServer::start(&record.socket, disks.collect()).map_err(|error| {
			unwritable(format!("failed to serve on {}: {error}", record.socket.display()))
		})?;
		Ok(Served { _server: server, _session: session })
	}
}
