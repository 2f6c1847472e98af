//! How orders are carried out on this node: machines, the block store, images.
//!
//! 1. A snapshot: find the machine, check its tag, hold its disks, seal them into the store
//!    under the owner's repository key, let go of the machine, make the blocks durable, pin.
//! 2. A restore: open the root with one of the node's identities, write each disk into a folder that has
//!    no name yet, then give the folder its name.
//! 3. At the start: take nodes that a kill left out of machines, remove scratch and unnamed
//!    folders, and seal the repository keys to the newest identity.

mod keys;
mod recipients;

use crate::{
	config::RestoreFormat,
	format::{
		Compression, Geometry, Root, RootError,
		envelope::{EnvelopeError, open_read_key},
	},
	jobs::{Executor, HeldRoot, JobContext, JobError, now_ms},
	pipeline::{
		Backup, BackupError, Base, Blob, Disk, Progress, Restore, RestoreError, RestoreTarget,
		open_root,
	},
	repositories::{BlockSource, EmbeddedStore, Repository, RepositoryError, Session},
	secret::NodeIdentities,
	sources::{self, Inventory, Leftovers, OpenOptions, OpenVm, SourceError, Vm},
	targets::{Qcow2Target, RawTarget, TargetError, is_disk_full},
};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId, RecordedRoot,
	job::{JobId, RestoreOrder, RestorePlace, SnapshotOrder},
	report::TakenSnapshot,
};
use codec::{Decode, Encode};
use keys::RepositoryKeys;
use std::{
	collections::HashSet,
	fs,
	io::{self, Write},
	num::NonZero,
	path::{Path, PathBuf},
	sync::Arc,
	time::Duration,
};

/// How long the guest's own agent may take to freeze its file systems.
const FREEZE_TIME_MAX: Duration = Duration::from_secs(10);

/// What folders of restores that are not complete begin with.
const PARTIAL_PREFIX: &str = ".partial-";

/// The file in a complete folder that tells by which order it was made.
const ORDER_FILE: &str = ".order";

/// Name of the blob with the machine's description.
const DESCRIPTION_BLOB: &str = "machine.toml";

/// What a node's executor works with.
#[derive(Debug)]
pub struct NodeExecutor {
	inventory: Inventory,
	store: EmbeddedStore,
	identities: Arc<NodeIdentities>,
	keys: RepositoryKeys,
	open: OpenOptions,
	restore_dir: PathBuf,
	restore_format: RestoreFormat,
	compression: Compression,
	threads: NonZero<usize>,
}

/// What a pin says of its root.
#[derive(Encode, Decode)]
struct PinLabel {
	lineage: LineageId,
	sequence: u64,
	pinned_at_ms: u64,
}

impl NodeExecutor {
	/// An executor with the folders of a configuration.
	pub fn new(
		config: &crate::config::Config,
		store: EmbeddedStore,
		identities: Arc<NodeIdentities>,
	) -> Self {
		Self {
			inventory: Inventory::at(&config.vms_dir),
			store,
			identities,
			keys: RepositoryKeys::at(config.state_dir.join("keys")),
			open: OpenOptions {
				scratch_dir: config.scratch_dir.clone(),
				scratch_bytes_max: config.scratch_cap_bytes,
				freeze_time_max: FREEZE_TIME_MAX,
				leftovers: Leftovers::default(),
			},
			restore_dir: config.restore_dir.clone(),
			restore_format: config.restore_format,
			compression: config.compression,
			threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
		}
	}

	/// The machines that did not let go of a backup.
	pub fn leftovers(&self) -> &Leftovers {
		&self.open.leftovers
	}

	/// Seal a machine that is held, and let go of it as soon as its disks are read.
	fn back_up(
		&self,
		origin: (&[u8; 32], &OpaqueId),
		order: &SnapshotOrder,
		taken_at: u64,
		mut machine: OpenVm,
		description: Vec<u8>,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError> {
		let taken_at_ms = now_ms();
		let recipients = recipients::recipients(order, &self.identities);
		let key = self.keys.of(&order.owner, &order.owner_recipients, &self.identities)?;
		let base = self.base(order);
		let session = self.store.open_session().map_err(stored)?;
		let report = {
			let disks = machine.disks.drain(..).map(|disk| Disk {
				name: disk.name,
				reader: disk.reader,
				changed: None,
			});
			let backup = Backup {
				genesis: *origin.0,
				node: origin.1.clone(),
				request: order.lineage.request.clone(),
				sequence: order.sequence,
				taken_at_ms,
				consistency: machine.consistency,
				base: base.as_ref().map(|root| Base { root }),
				geometry: Geometry::V1,
				key: &key,
				compression: self.compression,
				recipients: &recipients,
				session: session.as_ref(),
				repository: &self.store,
				threads: self.threads,
				on_progress: &|progress: Progress| {
					context.progress.set(progress.done_bytes, progress.total_bytes);
				},
				cancel: &context.cancel,
			};
			let blobs = vec![Blob { name: DESCRIPTION_BLOB.into(), bytes: description }];
			backup.run(disks.collect(), blobs).map_err(backed_up)?
		};
		let consistency = machine.consistency;
		// The blocks are whole: a machine that does not let go well is tried again beside.
		if let Err(error) = machine.close() {
			tracing::error!(%error, "failed to take the backup's nodes out of the machine");
		}
		self.pin(session.as_ref(), order, &report.root)?;
		Ok(TakenSnapshot {
			cid: report.root,
			taken_at,
			logical_bytes: report.logical_bytes,
			new_bytes: report.stored.new_bytes,
			consistency,
			owner_key_version: order.owner_key_version,
		})
	}

	fn pin(
		&self,
		session: &dyn Session,
		order: &SnapshotOrder,
		root: &Cid,
	) -> Result<(), JobError> {
		let label = PinLabel {
			lineage: order.lineage.clone(),
			sequence: order.sequence,
			pinned_at_ms: now_ms(),
		};
		session.flush().map_err(stored)?;
		session.pin(root, &label.encode()).map_err(stored)
	}

	/// The newest snapshot of the lineage that is here: the one before on chain, or one whose
	/// report was refused. Whatever it is, every new root is complete in itself.
	fn base(&self, order: &SnapshotOrder) -> Option<Root> {
		let newest = || {
			let roots = self.roots().ok()?;
			let own = roots.into_iter().filter(|root| root.lineage == order.lineage);
			own.max_by_key(|root| root.pinned_at_ms).map(|root| root.cid)
		};
		let cid = newest().or(order.parent)?;
		self.open(&cid).ok()
	}

	/// A root of this node, with whichever of its identities it was sealed to.
	fn open(&self, cid: &Cid) -> Result<Root, JobError> {
		let block = open_root(&self.store, cid).map_err(restored)?;
		block.open_with_identities(self.identities.expose()).map_err(|error| match error {
			RootError::Envelope(EnvelopeError::WrongIdentity) => self.unopened(cid),
			error => restored(error.into()),
		})
	}

	/// A root that its owner has sealed to this node afterwards.
	fn open_by_envelope(&self, cid: &Cid, envelope: &[u8]) -> Result<Root, JobError> {
		let block = open_root(&self.store, cid).map_err(restored)?;
		let refused = |error: &dyn std::error::Error| {
			let detail = format!("the envelope for the root {cid} is of no use: {error}");
			JobError { reason: FailureReason::KeyRejected, detail }
		};
		let identities = self.identities.expose();
		let key = open_read_key(envelope, identities).map_err(|error| refused(&error))?;
		block.open_with_read_key(&key).map_err(|error| match error {
			RootError::Open(_) => refused(&error),
			error => restored(error.into()),
		})
	}

	fn unopened(&self, cid: &Cid) -> JobError {
		let detail = format!(
			"none of the {} identities of this agent opens the root {cid}; put the one that was this node's when it was sealed back into the identity file, below the newest",
			self.identities.count()
		);
		JobError { reason: FailureReason::KeyRejected, detail }
	}

	fn write_images(
		&self,
		order: &RestoreOrder,
		folder: &Path,
		context: &JobContext,
	) -> Result<(), JobError> {
		let root = match &order.envelope {
			Some(envelope) => self.open_by_envelope(&order.cid, envelope)?,
			None => self.open(&order.cid)?,
		};
		let total: u64 = root.disks.iter().map(|disk| disk.logical_bytes).sum();
		let mut before = 0;
		for disk in &root.disks {
			let restore = Restore {
				repository: &self.store,
				geometry: root.geometry,
				object: disk,
				threads: self.threads,
				on_progress: &|progress: Progress| {
					context.progress.set(before + progress.done_bytes, total);
				},
				cancel: &context.cancel,
			};
			let mut target = self.target(folder, &disk.name)?;
			restore.run(target.as_mut()).map_err(restored)?;
			before += disk.logical_bytes;
		}
		Ok(())
	}

	fn target(&self, folder: &Path, disk: &str) -> Result<Box<dyn RestoreTarget>, JobError> {
		let target: Result<Box<dyn RestoreTarget>, TargetError> = match self.restore_format {
			RestoreFormat::Qcow2 => Qcow2Target::create(&folder.join(format!("{disk}.qcow2")))
				.map(|target| Box::new(target) as Box<dyn RestoreTarget>),
			RestoreFormat::Raw => RawTarget::create(&folder.join(format!("{disk}.raw")))
				.map(|target| Box::new(target) as Box<dyn RestoreTarget>),
		};
		target.map_err(|error| {
			let reason = match error.is_disk_full() {
				true => FailureReason::TargetFull,
				false => FailureReason::TargetUnwritable,
			};
			JobError::new(reason, &error)
		})
	}

	fn restore_names(&self, order: &RestoreOrder) -> (PathBuf, PathBuf) {
		let name =
			format!("request-{}-{}-{}", order.lineage.request, order.sequence, order.restore);
		(self.restore_dir.join(format!("{PARTIAL_PREFIX}{name}")), self.restore_dir.join(name))
	}
}

impl Executor for NodeExecutor {
	fn snapshot(
		&self,
		genesis: &[u8; 32],
		node: &OpaqueId,
		order: &SnapshotOrder,
		context: &JobContext,
	) -> Result<TakenSnapshot, JobError> {
		recipients::check(order, &self.identities)?;
		let vm: Vm = self.inventory.find(&order.vm).map_err(opened)?;
		let description = vm.describe().into_bytes();
		// Before the disks stand still: the chain must never hear of a later time than the true
		// one.
		let taken_at = context.clock();
		let machine = vm.open(order.vm_tag, &self.open).map_err(opened)?;
		let disk_bytes: u64 = machine.disks.iter().map(|disk| disk.reader.logical_bytes()).sum();
		if disk_bytes > order.capacity_bytes {
			let detail = format!(
				"the machine's disks have {disk_bytes} bytes, the request provides {}",
				order.capacity_bytes
			);
			return Err(JobError { reason: FailureReason::CapacityExceeded, detail });
		}
		let mut snapshot =
			self.back_up((genesis, node), order, taken_at, machine, description, context)?;
		snapshot.logical_bytes = disk_bytes;
		Ok(snapshot)
	}

	fn restore(&self, order: &RestoreOrder, context: &JobContext) -> Result<PathBuf, JobError> {
		if order.place != RestorePlace::Aside {
			let detail = "this agent writes images beside machines, and replaces no disks".into();
			return Err(JobError { reason: FailureReason::Unsupported, detail });
		}
		let (partial, complete) = self.restore_names(order);
		// Only a complete folder ever gets its name, so one that is there is done.
		if complete.exists() {
			return ensure_restored_by(context.id, &complete).map(|()| complete);
		}
		remove_folder(&partial).map_err(written)?;
		create_private(&partial).map_err(written)?;
		let result = self.write_images(order, &partial, context).and_then(|()| {
			write_order(context.id, &partial).map_err(written)?;
			fs::rename(&partial, &complete).map_err(written)?;
			fs::File::open(&self.restore_dir).and_then(|dir| dir.sync_all()).map_err(written)
		});
		if let Err(error) = result {
			if let Err(error) = remove_folder(&partial) {
				tracing::error!(%error, path = %partial.display(), "failed to remove a partial restore");
			}
			return Err(error);
		}
		Ok(complete)
	}

	fn roots(&self) -> Result<Vec<HeldRoot>, JobError> {
		let pins = self.store.pins().map_err(stored)?;
		// A pin that is not ours, an operator's own for example, is left alone.
		let held = pins.into_iter().filter_map(|pin| {
			let label = PinLabel::decode(&mut pin.label.as_slice()).ok()?;
			Some(HeldRoot {
				lineage: label.lineage,
				sequence: label.sequence,
				cid: pin.root,
				pinned_at_ms: label.pinned_at_ms,
			})
		});
		Ok(held.collect())
	}

	fn holds(&self, root: &Cid) -> bool {
		// Where something below it is lost, it has to be taken again.
		self.store.is_pinned(root) && self.store.has(root).unwrap_or(true)
	}

	fn pins_unconfirmed(&self) -> bool {
		self.store.pins_unconfirmed()
	}

	fn confirm_pins(&self, roots: Vec<RecordedRoot>) -> Result<Vec<RecordedRoot>, JobError> {
		let session = self.store.open_session().map_err(stored)?;
		// Pins that an operator made say nothing of the machine.
		let held: HashSet<Cid> = self.roots()?.into_iter().map(|held| held.cid).collect();
		let mut missing = Vec::new();
		for root in roots {
			// A root that is there has all its blocks: a store never keeps a node without.
			if !session.has(&root.cid).map_err(stored)? {
				missing.push(root);
				continue;
			}
			if held.contains(&root.cid) {
				continue;
			}
			let label =
				PinLabel { lineage: root.lineage, sequence: root.sequence, pinned_at_ms: now_ms() };
			session.pin(&root.cid, &label.encode()).map_err(stored)?;
		}
		self.store.confirm_pins().map_err(stored)?;
		Ok(missing)
	}

	fn unpin(&self, root: &HeldRoot) -> Result<(), JobError> {
		self.store.unpin(&root.cid).map(|_| ()).map_err(stored)
	}

	fn has_garbage(&self) -> bool {
		self.store.has_garbage()
	}

	fn collect(&self) -> Result<u64, JobError> {
		self.store.collect().map(|collected| collected.bytes).map_err(stored)
	}

	fn recover(&self) -> Result<(), JobError> {
		for (name, vm) in self.inventory.all().map_err(|error| opened(error.into()))? {
			if let Err(error) = vm.recover() {
				tracing::warn!(vm = name, %error, "failed to look for leftovers in a machine");
				self.open.leftovers.add(&vm);
			}
		}
		self.keys.renew(&self.identities)?;
		remove_leftovers(&self.open.scratch_dir, sources::PREFIX).map_err(written)?;
		remove_leftovers(&self.restore_dir, PARTIAL_PREFIX).map_err(written)
	}
}

/// Note in a folder whose images it holds.
fn write_order(id: JobId, folder: &Path) -> io::Result<()> {
	let mut file = fs::File::create_new(folder.join(ORDER_FILE))?;
	file.write_all(hex::encode(id.0).as_bytes())?;
	file.sync_all()?;
	fs::File::open(folder)?.sync_all()
}

/// After a re-org another restore may have the same numbers. The images of the first are not
/// what it asks for, and not ours to remove.
fn ensure_restored_by(id: JobId, folder: &Path) -> Result<(), JobError> {
	match fs::read_to_string(folder.join(ORDER_FILE)) {
		Ok(found) if found == hex::encode(id.0) => Ok(()),
		Ok(_) | Err(_) => {
			let detail = format!(
				"{} holds the images of another restore; move it away, then restore again",
				folder.display()
			);
			Err(JobError { reason: FailureReason::TargetUnwritable, detail })
		}
	}
}

fn create_private(folder: &Path) -> io::Result<()> {
	use std::os::unix::fs::DirBuilderExt;
	fs::DirBuilder::new().mode(0o700).create(folder)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
	match fs::remove_dir_all(folder) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
		result => result,
	}
}

/// Remove what begins with a prefix in a folder.
fn remove_leftovers(folder: &Path, prefix: &str) -> io::Result<()> {
	for entry in fs::read_dir(folder)? {
		let entry = entry?;
		if !entry.file_name().to_string_lossy().starts_with(prefix) {
			continue;
		}
		tracing::info!(path = %entry.path().display(), "leftover removed");
		match entry.file_type()?.is_dir() {
			true => remove_folder(&entry.path())?,
			false => fs::remove_file(entry.path())?,
		}
	}
	Ok(())
}

fn opened(error: SourceError) -> JobError {
	JobError::new(error.reason(), &error)
}

fn written(error: io::Error) -> JobError {
	let reason = match is_disk_full(&error) {
		true => FailureReason::TargetFull,
		false => FailureReason::TargetUnwritable,
	};
	JobError::new(reason, &error)
}

fn stored(error: RepositoryError) -> JobError {
	JobError::new(store_reason(&error), &error)
}

fn store_reason(error: &RepositoryError) -> FailureReason {
	match error {
		RepositoryError::StoreFull => FailureReason::StoreFull,
		RepositoryError::Missing { .. } => FailureReason::BlockMissing,
		RepositoryError::Corrupt { .. } => FailureReason::BlockCorrupt,
		_ => FailureReason::StoreUnavailable,
	}
}

fn backed_up(error: BackupError) -> JobError {
	let reason = match &error {
		BackupError::Read { source, .. } => match SourceError::of(source) {
			Some(error) => error.reason(),
			None => FailureReason::VmUnreachable,
		},
		BackupError::Repository(error) => store_reason(error),
		BackupError::Cancelled => FailureReason::Interrupted,
		_ => FailureReason::Internal,
	};
	JobError::new(reason, &error)
}

fn restored(error: RestoreError) -> JobError {
	let reason = match &error {
		error if error.is_wrong_secret() => FailureReason::KeyRejected,
		RestoreError::NoSuchRoot { .. } | RestoreError::Missing { .. } => {
			FailureReason::BlockMissing
		}
		RestoreError::Corrupt { .. } | RestoreError::Unusable { .. } | RestoreError::Root(_) => {
			FailureReason::BlockCorrupt
		}
		RestoreError::Repository { source, .. } => store_reason(source),
		RestoreError::Target { source, .. } => {
			return JobError {
				detail: JobError::new(FailureReason::Internal, &error).detail,
				..written(io::Error::from(source.kind()))
			};
		}
		RestoreError::Cancelled => FailureReason::Interrupted,
	};
	JobError::new(reason, &error)
}
