//! How orders are carried out on this node: machines, the block store, images.
//!
//! 1. A snapshot: find the machine, check its tag, hold its disks, seal them into the store
//!    under the owner's repository key, let go of the machine, make the blocks durable, pin. The
//!    pin says from which checkpoint on writes to the disks are recorded, so the next snapshot
//!    reads those only.
//! 2. A restore: open the root with one of the node's identities, write each disk into a folder
//!    that has no name yet, then give the folder its name. An agent that ends or is killed
//!    meanwhile goes on where it was when it is asked again. Or write each beside the image of a
//!    machine that is off, then let all take their places together.
//! 3. A live restore: set a machine up on images that fill in once it is started.
//! 4. At the start: take nodes that a kill left out of machines, remove scratch and
//!    abandoned folders, put back images that were half replaced, and seal the repository keys to the newest
//!    identity.

mod keys;
pub mod live_restores;
mod recipients;
mod replacement;
mod restores;
mod snapshots;

use crate::{
	config::{Config, InForce},
	copies::Copies,
	jobs::{Executor, Freed, HeldRoot, JobContext, JobError, now_ms},
	peers::Elsewhere,
	pipeline::{BackupError, Pace, RestoreError},
	replicas::Replicas,
	repositories::{BlockSource, EmbeddedStore, Repository, RepositoryError},
	secret::NodeIdentities,
	sources::{self, Checkpoint, Disk, Inventory, Leftovers, OpenOptions, SourceError, Vm},
	targets::is_disk_full,
};
use backup_primitives::{
	Cid, FailureReason, LineageId, OpaqueId, RecordedRoot,
	job::{RestoreOrder, RestorePlace, SnapshotOrder},
	report::TakenSnapshot,
};
use codec::{Decode, Encode, Input};
use keys::RepositoryKeys;
use live_restores::LiveRestores;
use replacement::Replacements;
use std::{
	collections::HashSet,
	fs, io,
	path::{Path, PathBuf},
	sync::Arc,
	time::{Duration, SystemTime},
};

/// How long the guest's own agent may take to freeze its file systems.
const FREEZE_TIME_MAX: Duration = Duration::from_secs(10);

/// How many chunks of a disk that were not written to are read all the same: 16 MiB.
const SAMPLES: usize = 64;

/// How long nothing must have happened to a restore that is not complete until it is given up.
/// The chain asks for it again within minutes, if it still wants it.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What folders of restores that are not complete begin with.
const PARTIAL_PREFIX: &str = ".partial-";

/// What a node's executor works with.
#[derive(Debug)]
pub struct NodeExecutor {
	inventory: Inventory,
	store: EmbeddedStore,
	identities: Arc<NodeIdentities>,
	keys: RepositoryKeys,
	open: OpenOptions,
	restore_dir: PathBuf,
	replacements: Replacements,
	live_restores: Arc<LiveRestores>,
	/// How fast snapshots may read.
	read_pace: Pace,
	/// How fast restores may write.
	write_pace: Pace,
	/// What each job looks up when it begins.
	in_force: InForce,
	copies: Arc<Copies>,
	elsewhere: Arc<Elsewhere>,
	replicas: Arc<Replicas>,
}

/// What a pin says of its root.
#[derive(Encode)]
pub(crate) struct PinLabel {
	lineage: LineageId,
	sequence: u64,
	pinned_at_ms: u64,
	/// Its instant, if writes to the disks were recorded from there on.
	checkpoint: Option<Checkpoint>,
	/// The node that holds it as a copy, if another one sealed it.
	copy_for: Option<OpaqueId>,
}

impl PinLabel {
	/// The label of a copy that a node holds, as a pin takes it.
	pub(crate) fn of_copy(lineage: &LineageId, sequence: u64, node: &OpaqueId) -> Vec<u8> {
		let label = Self {
			lineage: lineage.clone(),
			sequence,
			pinned_at_ms: now_ms(),
			checkpoint: None,
			copy_for: Some(node.clone()),
		};
		label.encode()
	}

	/// The label of a snapshot that was found again, of which no more is known than its place.
	pub(crate) fn of_found(
		lineage: LineageId,
		sequence: u64,
		copy_for: Option<OpaqueId>,
	) -> Vec<u8> {
		let pinned_at_ms = now_ms();
		Self { lineage, sequence, pinned_at_ms, checkpoint: None, copy_for }.encode()
	}

	/// Which snapshot of which lineage it is, and for which node a copy.
	pub(crate) fn into_place(self) -> (LineageId, u64, Option<OpaqueId>) {
		(self.lineage, self.sequence, self.copy_for)
	}
}

/// Whether a label says that its root is held as this.
fn is_label_of(label: &[u8], root: &HeldRoot) -> bool {
	PinLabel::decode(&mut &*label)
		.is_ok_and(|label| (&label.lineage, &label.copy_for) == (&root.lineage, &root.copy_for))
}

impl Decode for PinLabel {
	fn decode<I: Input>(input: &mut I) -> Result<Self, codec::Error> {
		Ok(Self {
			lineage: Decode::decode(input)?,
			sequence: Decode::decode(input)?,
			pinned_at_ms: Decode::decode(input)?,
			// The first labels ended here.
			checkpoint: match input.remaining_len()? {
				Some(0) => None,
				_ => Decode::decode(input)?,
			},
			// The next ones here.
			copy_for: match input.remaining_len()? {
				Some(0) => None,
				_ => Decode::decode(input)?,
			},
		})
	}
}

/// A snapshot that is here, whose instant the machine's bitmaps may still know.
#[derive(Clone, Copy)]
struct Known {
	checkpoint: Checkpoint,
	root: Cid,
}

impl NodeExecutor {
	/// An executor with the folders of a configuration.
	pub fn new(
		in_force: InForce,
		store: EmbeddedStore,
		identities: Arc<NodeIdentities>,
		copies: Arc<Copies>,
		elsewhere: Arc<Elsewhere>,
		replicas: Arc<Replicas>,
	) -> Self {
		let config = in_force.borrow().clone();
		let live_restores = LiveRestores::at(
			config.state_dir.join("live-restores"),
			config.vms_dir.clone(),
			store.clone(),
			Arc::clone(&elsewhere),
			Arc::clone(&identities),
		);
		Self {
			inventory: Inventory::at(&config.vms_dir),
			live_restores: Arc::new(live_restores),
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
			replacements: Replacements::at(config.state_dir.join("replacements")),
			read_pace: Pace::new(config.read_bytes_per_second),
			write_pace: Pace::new(config.write_bytes_per_second),
			in_force,
			copies,
			elsewhere,
			replicas,
		}
	}

	/// The machines that did not let go of a backup.
	pub fn leftovers(&self) -> &Leftovers {
		&self.open.leftovers
	}

	/// Read, write and fetch no faster than this configuration allows from now on.
	pub(crate) fn keep_to_limits(&self, config: &Config) {
		self.read_pace.set(config.read_bytes_per_second);
		self.write_pace.set(config.write_bytes_per_second);
		self.copies.pace().set(config.copy_bytes_per_second);
	}

	/// How a machine is opened now.
	fn open_options(&self) -> OpenOptions {
		let scratch_bytes_max = self.in_force.borrow().scratch_cap_bytes;
		OpenOptions { scratch_bytes_max, ..self.open.clone() }
	}

	/// The machines whose disks fill in.
	pub fn live_restores(&self) -> &Arc<LiveRestores> {
		&self.live_restores
	}

	/// A machine whose disks fill in has no snapshot: QEMU cannot do both.
	fn ensure_not_filling(&self, vm: &[u8]) -> Result<(), JobError> {
		match self.live_restores.obstacle(&String::from_utf8_lossy(vm)) {
			Some(detail) => Err(JobError { reason: FailureReason::ImageInUse, detail }),
			None => Ok(()),
		}
	}

	/// Remove restores that an earlier run of the agent did not complete and nobody asks for.
	pub fn remove_abandoned(&self) -> io::Result<()> {
		let is_abandoned = |entry: &fs::DirEntry| {
			// Each time it is noted how far a restore is, its folder changes.
			let changed = entry.metadata().and_then(|folder| folder.modified()).ok();
			let age = changed.and_then(|changed| changed.elapsed().ok());
			age.is_some_and(|age| age > ABANDONED_AFTER)
		};
		let machines = self.inventory.all()?;
		let disks = machines.iter().flat_map(|(_, vm)| &vm.disks);
		self.replacements.tidy(disks.map(|disk| disk.image.as_path()), SystemTime::now());
		remove_leftovers(&self.restore_dir, PARTIAL_PREFIX, is_abandoned)
	}

	/// The roots that are pinned here, and what for. A pin that is not ours, an operator's own for
	/// example, is left out.
	fn labels(&self) -> Result<Vec<(Cid, PinLabel)>, JobError> {
		let pins = self.store.pins().map_err(stored)?;
		let labels = pins
			.into_iter()
			.filter_map(|pin| Some((pin.root, PinLabel::decode(&mut pin.label.as_slice()).ok()?)));
		Ok(labels.collect())
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
		self.ensure_not_filling(&order.vm)?;
		let vm: Vm = self.inventory.find(&order.vm).map_err(opened)?;
		self.take((genesis, node), order, &vm, context)
	}

	fn restore(
		&self,
		node: &OpaqueId,
		order: &RestoreOrder,
		context: &JobContext,
	) -> Result<PathBuf, JobError> {
		let request = &order.lineage.request;
		let source = self.elsewhere.beside(&self.store, node, request, &context.cancel);
		match &order.place {
			RestorePlace::Aside => self.restore_aside(order, &source, context),
			RestorePlace::Replace { vm, vm_tag } => {
				self.replace(order, &source, vm, *vm_tag, context)
			}
		}
	}

	fn roots(&self) -> Result<Vec<HeldRoot>, JobError> {
		let held = self.labels()?.into_iter().map(|(cid, label)| HeldRoot {
			lineage: label.lineage,
			sequence: label.sequence,
			cid,
			pinned_at_ms: label.pinned_at_ms,
			copy_for: label.copy_for,
		});
		Ok(held.collect())
	}

	fn holds(&self, root: &Cid) -> bool {
		// Where something below it is lost, it has to be taken again.
		self.store.is_pinned(root) && self.store.has(root).unwrap_or(true)
	}

	fn has_quorum(&self, root: &Cid) -> bool {
		self.replicas.has_quorum(root)
	}

	fn pins_unconfirmed(&self) -> bool {
		self.store.pins_unconfirmed()
	}

	fn confirm_pins(&self, roots: Vec<RecordedRoot>) -> Result<Vec<RecordedRoot>, JobError> {
		let session = self.store.open_session().map_err(stored)?;
		// Pins that an operator made say nothing of the machine.
		let mut held: HashSet<Cid> = self.roots()?.into_iter().map(|held| held.cid).collect();
		let (mut lost, mut is_unknown) = (Vec::new(), false);
		for root in roots {
			// A root that is there has all its blocks: a store never keeps a node without.
			let is_whole = session.has(&root.cid).map_err(stored)?;
			// Two lineages may name one root.
			if held.insert(root.cid) {
				let label = PinLabel {
					sequence: root.sequence,
					pinned_at_ms: now_ms(),
					checkpoint: None,
					copy_for: self.copies.node_of(&root.lineage),
					lineage: root.lineage.clone(),
				};
				match is_whole {
					true => session.pin(&root.cid, &label.encode()).map_err(stored)?,
					// The rest may come back: a pack that is away, or blocks that others give.
					false => {
						let label = label.encode();
						let is_known = self.store.pin_what_is_left(&root.cid, &label);
						is_unknown |= !is_known.map_err(stored)?;
					}
				}
			}
			if !is_whole {
				lost.push(root);
			}
		}
		if is_unknown && self.store.waits_for_packs().map_err(stored)? {
			tracing::warn!(
				"nothing is freed: a recorded snapshot may stand in a pack that is away, which has to be \
				 brought back, or gone on without by `backup-agent fsck --repair`"
			);
			return Ok(lost);
		}
		self.store.confirm_pins().map_err(stored)?;
		Ok(lost)
	}

	fn unpin(&self, root: &HeldRoot) -> Result<(), JobError> {
		if self.live_restores.needs(&root.cid) {
			let detail = "a machine's disks fill in from it; it is given up when they are complete";
			return Err(JobError { reason: FailureReason::ImageInUse, detail: detail.into() });
		}
		// It may be damaged, so nothing but its label is touched.
		if let Some(other) = self.copies.other_label(&root.cid, &root.lineage)
			&& self
				.store
				.relabel(&root.cid, |label| is_label_of(label, root).then_some(other))
				.map_err(stored)?
		{
			return Ok(());
		}
		self.replicas.give_up(root).map_err(stored)
	}

	fn roots_elsewhere(&self) -> Vec<HeldRoot> {
		self.replicas.roots_elsewhere()
	}

	fn is_unsettled(&self, lineage: &LineageId) -> bool {
		self.copies.are_fetched(lineage) || self.replicas.may_hold(lineage)
	}

	fn has_garbage(&self) -> bool {
		self.store.has_garbage()
	}

	fn has_unfinished_copies(&self) -> bool {
		self.copies.are_unfinished() || self.replicas.are_unfinished()
	}

	fn collect(&self) -> Result<Freed, JobError> {
		let bytes = self.store.collect().map_err(stored)?.bytes;
		let obstacles = self.store.obstacles();
		Ok(Freed {
			bytes,
			has_left_roots: obstacles.has_dead_roots,
			is_obstructed: obstacles.any(),
		})
	}

	fn recover(&self) -> Result<(), JobError> {
		let known: Vec<Checkpoint> =
			self.known(None)?.into_iter().map(|known| known.checkpoint).collect();
		let machines = self.inventory.all().map_err(|error| opened(error.into()))?;
		let scratch_dir = self.open.scratch_dir.clone();
		let look_after = move |vm: &Vm| {
			vm.settle_hooks(&scratch_dir);
			vm.recover().and_then(|()| vm.settle(&known))
		};
		let vms = machines.iter().map(|(_, vm)| vm.clone());
		self.open.leftovers.look_after(vms, look_after);
		let hold = |disks: &[Disk]| sources::hold_images(disks, &self.open.scratch_dir);
		self.replacements.undo_all(hold).map_err(written)?;
		self.live_restores.resume().map_err(written)?;
		self.keys.renew(&self.identities)?;
		// A hook that is owed to a machine may be running still.
		let notes: HashSet<PathBuf> =
			machines.iter().map(|(_, vm)| vm.hook_note(&self.open.scratch_dir)).collect();
		let is_left = |entry: &fs::DirEntry| !notes.contains(&entry.path());
		remove_leftovers(&self.open.scratch_dir, sources::PREFIX, is_left).map_err(written)?;
		self.remove_abandoned().map_err(written)
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

/// Remove what begins with a prefix in a folder, and is left over.
fn remove_leftovers(
	folder: &Path,
	prefix: &str,
	is_left_over: impl Fn(&fs::DirEntry) -> bool,
) -> io::Result<()> {
	for entry in fs::read_dir(folder)? {
		let entry = entry?;
		if !entry.file_name().to_string_lossy().starts_with(prefix) || !is_left_over(&entry) {
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

#[cfg(test)]
mod tests {
	use super::*;

	fn label(checkpoint: Option<Checkpoint>) -> PinLabel {
		let request = OpaqueId::of(&7u64).unwrap();
		let lineage = LineageId { request, salt: [2; 32] };
		PinLabel { lineage, sequence: 3, pinned_at_ms: 4, checkpoint, copy_for: None }
	}

	#[test]
	fn a_pin_tells_its_checkpoint() {
		let checkpoint = Checkpoint::new();
		let bytes = label(Some(checkpoint)).encode();
		let found = PinLabel::decode(&mut bytes.as_slice()).unwrap();
		assert_eq!((found.sequence, found.checkpoint), (3, Some(checkpoint)));
	}

	/// They end where the copy's node stands now, and before that where the checkpoint does.
	#[test]
	fn pins_of_older_agents_are_read() {
		let mut bytes = label(None).encode();
		for _ in 0..2 {
			assert_eq!(bytes.pop(), Some(0));
			let found = PinLabel::decode(&mut bytes.as_slice()).unwrap();
			assert_eq!((found.pinned_at_ms, found.checkpoint), (4, None));
		}
	}

	#[test]
	fn a_pin_tells_for_whom_it_is_a_copy() {
		let (lineage, node) = (label(None).lineage, OpaqueId::of(&9u32).unwrap());
		let bytes = PinLabel::of_copy(&lineage, 5, &node);
		let found = PinLabel::decode(&mut bytes.as_slice()).unwrap();
		assert_eq!((found.sequence, found.copy_for), (5, Some(node)));
	}
}
