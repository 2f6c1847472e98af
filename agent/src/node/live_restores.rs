//! Live restores: machines that start at once, on images that fill in behind them.
//!
//! 1. A machine that this node does not have is set up again as the snapshot describes it, in a
//!    folder of its own.
//! 2. Its images are made, empty, with the snapshot's disks behind them, which are served from
//!    then on (`sources::filling`). The operator starts the machine.
//! 3. While it runs, QEMU copies what the images lack. When nothing is missing the live restore is
//!    over, by itself.
//!
//! What this node's store lacks is read from replicas and other nodes, as by an ordinary restore.
//! Only what is here, whole, is kept from being given up by this node itself.
//!
//! A record says what is served, under a socket that no other live restore ever has. An agent that
//! starts serves it again, and gives up what a killed one had not finished setting up. While there
//! is a record the snapshot is not given up, whatever becomes of it on chain.

use super::{opened, restored, stored, written};
use crate::{
	disk::{UNFINISHED_PREFIX, remove_if_there, write_whole},
	format::{Object, Root, RootBlock},
	jobs::JobError,
	nbd::{NbdServer, ServedDisk},
	peers::{Elsewhere, Everywhere},
	pipeline::{Cancel, Restore, open_root},
	repositories::{BlockSource, EmbeddedStore, Repository, Session},
	secret::NodeIdentities,
	sources::{DESCRIPTION_FILE, Filling, ImageFormat, Inventory, SourceError, Vm, filling},
	targets::{PartialFile, TargetError},
};
use backup_primitives::{Cid, FailureReason, OpaqueId};
use serde::{Deserialize, Serialize};
use std::{
	collections::{BTreeMap, BTreeSet},
	fmt, fs,
	io::{self, Write},
	num::NonZero,
	os::unix::fs::DirBuilderExt,
	path::{Path, PathBuf},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
	time::Duration,
};

/// Most bytes of a machine's description.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a record that are read: one with all disks has far less.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Most bytes of a file beside the disks.
const FILE_BYTES_MAX: usize = 16 << 20;

/// What a socket's path may have at most, less what is in front of it for a moment.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// How long other nodes are waited for while a guest waits for a block: less than its drivers do.
const PATIENCE: Duration = Duration::from_secs(8);

const RECORD_SUFFIX: &str = ".json";

/// What is to be restored live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRestoreOrder {
	/// The snapshot.
	pub root: Cid,
	/// Name of the machine on this node.
	pub vm: String,
	/// Where a machine goes that this node does not have.
	pub folder: Option<PathBuf>,
	/// QEMU's control socket of a machine that this node does not have, if it is another than it
	/// was.
	pub qmp: Option<PathBuf>,
}

/// A live restore, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveRestoreView {
	/// Name of the machine.
	pub vm: String,
	/// The snapshot.
	pub root: Cid,
	/// Its images, in the order of its disks.
	pub images: Vec<PathBuf>,
	/// `waiting` while the machine is off, `filling`, or `stuck`.
	pub state: String,
	/// Bytes of its disks that are there, while it runs.
	pub done_bytes: u64,
	/// Bytes of its disks.
	pub total_bytes: u64,
	/// What stands in the way.
	pub problem: Option<String>,
}

/// What is kept of a live restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
	root: Cid,
	/// The node that sealed it, as which others are asked.
	node: OpaqueId,
	request: OpaqueId,
	/// Nothing else ever has this name.
	socket: PathBuf,
	images: Vec<PathBuf>,
	total_bytes: u64,
	/// Whether all images are in their places, so that the machine may have been started.
	is_ready: bool,
}

/// A live restore that is recorded.
struct LiveRestore {
	record: Record,
	filling: Result<Filling, String>,
	/// Nothing while it cannot be served.
	served: Option<Served>,
}

/// What serves a live restore.
struct Served {
	_server: NbdServer,
	_session: Box<dyn Session>,
}

/// The live restores of a node.
pub struct LiveRestores {
	folder: PathBuf,
	vms_dir: PathBuf,
	store: EmbeddedStore,
	elsewhere: Arc<Elsewhere>,
	identities: Arc<NodeIdentities>,
	cancel: Cancel,
	all: Mutex<BTreeMap<String, LiveRestore>>,
	/// Machines whose images are being replaced.
	replacing: Mutex<BTreeSet<String>>,
	/// Only one begins or ends at a time.
	turn: Mutex<()>,
}

/// While it lives, no live restore of a machine begins.
#[derive(Debug)]
pub(super) struct Exclusion<'l> {
	live_restores: &'l LiveRestores,
	vm: String,
}

impl Drop for Exclusion<'_> {
	fn drop(&mut self) {
		lock(&self.live_restores.replacing).remove(&self.vm);
	}
}

impl fmt::Debug for LiveRestores {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("LiveRestores").field("folder", &self.folder).finish_non_exhaustive()
	}
}

impl LiveRestores {
	/// Those that are recorded in this folder. None is served before [`resume`](Self::resume).
	pub(super) fn at(
		folder: PathBuf,
		vms_dir: PathBuf,
		store: EmbeddedStore,
		elsewhere: Arc<Elsewhere>,
		identities: Arc<NodeIdentities>,
	) -> Self {
		Self {
			folder,
			vms_dir,
			store,
			elsewhere,
			identities,
			cancel: Cancel::new(),
			all: Mutex::default(),
			replacing: Mutex::default(),
			turn: Mutex::default(),
		}
	}

	/// Wait for nobody any more: the agent ends.
	pub fn stop(&self) {
		self.cancel.cancel();
	}

	/// Whether the disks of a machine fill in.
	pub fn has(&self, vm: &str) -> bool {
		lock(&self.all).contains_key(vm)
	}

	/// Whether a snapshot is needed by any.
	pub(super) fn needs(&self, root: &Cid) -> bool {
		lock(&self.all).values().any(|live| live.record.root == *root)
	}

	/// All that are under way.
	pub fn list(&self) -> Vec<LiveRestoreView> {
		lock(&self.all).iter().map(|(vm, live)| live.view(vm)).collect()
	}

	/// Keep live restores of a machine from beginning, if none is under way.
	pub(super) fn exclude(&self, vm: &str) -> Result<Exclusion<'_>, JobError> {
		let _turn = lock(&self.turn);
		if self.has(vm) {
			return Err(unwritable(format!("a live restore of {vm:?} is under way")));
		}
		lock(&self.replacing).insert(vm.to_owned());
		Ok(Exclusion { live_restores: self, vm: vm.to_owned() })
	}

	/// Set a machine up, so that it can be started. `nodes` are those that workers speak for here.
	pub fn begin(
		&self,
		order: &LiveRestoreOrder,
		nodes: &[OpaqueId],
	) -> Result<LiveRestoreView, JobError> {
		let _turn = lock(&self.turn);
		if self.has(&order.vm) {
			return Err(unwritable(format!("a live restore of {:?} is under way", order.vm)));
		}
		if lock(&self.replacing).contains(&order.vm) {
			return Err(unwritable(format!("the disks of {:?} are being replaced", order.vm)));
		}
		let (session, is_whole) = self.hold(&order.root)?;
		let (node, request) = self.origin(&order.root, nodes)?;
		let source = self.source(&node, &request);
		if !is_whole && !source.has_others().map_err(stored)? {
			let detail = format!(
				"the snapshot {} is not whole here, and no other node or replica is known that may have the rest",
				order.root
			);
			return Err(JobError { reason: FailureReason::BlockMissing, detail });
		}
		let root = self.open(&order.root, &source)?;
		let vm = self.machine(&root, &source, order)?;
		if vm.libvirt.is_some() {
			return Err(JobError {
				reason: FailureReason::Unsupported,
				detail: "libvirt's machines cannot fill in, for their QEMU obeys libvirt alone; restore in full, or run the machine without libvirt and say where its control socket is".into(),
			});
		}
		let disks = pair(&root, &vm, &order.vm)?;
		if vm.is_running().map_err(opened)? {
			return Err(opened(SourceError::Running));
		}
		let images: Vec<PathBuf> = disks.iter().map(|(_, image)| image.clone()).collect();
		let record = Record {
			root: order.root,
			node,
			request,
			socket: socket_beside(&images)?,
			images,
			total_bytes: root.disks.iter().map(|disk| disk.logical_bytes).sum(),
			is_ready: false,
		};
		let ready = Record { is_ready: true, ..record.clone() };
		let from = (&root, &source);
		let served = self.make(&record, from, &vm, order, &disks).and_then(|()| {
			let served = self.serve(&ready, from, session)?;
			self.write(&order.vm, &ready).map(|()| served)
		});
		let served = match served {
			Ok(served) => served,
			Err(error) => {
				self.give_up(&order.vm, &record)?;
				return Err(error);
			}
		};
		tracing::info!(vm = order.vm, root = %order.root, "a machine can be started, and its disks fill in");
		let live = LiveRestore { record: ready, filling: Ok(Filling::Off), served: Some(served) };
		let view = live.view(&order.vm);
		lock(&self.all).insert(order.vm.clone(), live);
		Ok(view)
	}

	/// Serve again what an earlier run of the agent served.
	pub(super) fn resume(&self) -> io::Result<()> {
		let entries = match fs::read_dir(&self.folder) {
			Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
			entries => entries?,
		};
		for entry in entries {
			let path = entry?.path();
			let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
			if name.starts_with(UNFINISHED_PREFIX) {
				fs::remove_file(&path)?;
			} else if let Some(vm) = name.strip_suffix(RECORD_SUFFIX) {
				self.resume_one(vm, read(&path)?)?;
			}
		}
		Ok(())
	}

	fn resume_one(&self, vm: &str, record: Record) -> io::Result<()> {
		if !record.is_ready {
			tracing::info!(vm, "a live restore that was not set up is given up");
			return self.give_up(vm, &record).map_err(io::Error::other);
		}
		let (filling, served) = match self.serve_again(&record) {
			Ok(served) => {
				tracing::info!(vm, "the disks of a machine go on filling in");
				(Ok(Filling::Off), Some(served))
			}
			Err(error) => {
				tracing::error!(vm, %error, "a live restore cannot go on; it is tried again");
				(Err(error.to_string()), None)
			}
		};
		lock(&self.all).insert(vm.to_owned(), LiveRestore { record, filling, served });
		Ok(())
	}

	fn serve_again(&self, record: &Record) -> Result<Served, JobError> {
		// What is not here may have come elsewhere since it was looked, so the answer does not matter.
		let (session, _) = self.hold(&record.root)?;
		let source = self.source(&record.node, &record.request);
		let root = self.open(&record.root, &source)?;
		self.serve(record, (&root, &source), session)
	}

	/// Look after all of them: serve them, have machines copy what they lack, and end what is
	/// complete.
	pub fn step(&self) {
		let all: Vec<(String, Record, bool)> = lock(&self.all)
			.iter()
			.map(|(vm, live)| (vm.clone(), live.record.clone(), live.served.is_some()))
			.collect();
		for (vm, record, is_served) in all {
			let filling = match is_served {
				true => self.fill(&vm, &record),
				false => self.serve_late(&vm, &record),
			};
			if filling.as_ref().is_ok_and(|filling| *filling == Filling::Complete) {
				match self.end_this(&vm, &record) {
					Ok(_) => tracing::info!(vm, "the machine's disks are complete"),
					Err(error) => tracing::error!(vm, %error, "a live restore does not end"),
				}
			} else {
				self.note(&vm, &record, filling.map_err(|error| error.to_string()));
			}
		}
	}

	fn fill(&self, vm: &str, record: &Record) -> Result<Filling, JobError> {
		let machine = Inventory::at(&self.vms_dir).find(vm.as_bytes()).map_err(opened)?;
		let filling = machine.fill(&record.images, &record.socket).map_err(opened)?;
		if filling == Filling::Complete {
			// From here on nobody could help.
			for image in &record.images {
				fs::File::open(image).and_then(|image| image.sync_all()).map_err(written)?;
			}
		}
		Ok(filling)
	}

	fn serve_late(&self, vm: &str, record: &Record) -> Result<Filling, JobError> {
		let _turn = lock(&self.turn);
		let served = self.serve_again(record)?;
		if let Some(live) = lock(&self.all).get_mut(vm).filter(|live| live.record == *record) {
			live.served = Some(served);
			tracing::info!(vm, "the disks of a machine go on filling in");
		}
		Ok(Filling::Off)
	}

	fn note(&self, vm: &str, record: &Record, filling: Result<Filling, String>) {
		let mut all = lock(&self.all);
		let Some(live) = all.get_mut(vm).filter(|live| live.record == *record) else { return };
		if let Err(problem) = &filling
			&& live.filling.as_ref().err() != Some(problem)
		{
			tracing::warn!(vm, problem, "a machine's disks do not fill in");
		}
		live.filling = filling;
	}

	/// Serve no longer. What an image lacks is missing from then on. Says whether there was one.
	pub fn end(&self, vm: &str) -> Result<bool, JobError> {
		let record = lock(&self.all).get(vm).map(|live| live.record.clone());
		record.map_or(Ok(false), |record| self.end_this(vm, &record))
	}

	/// The same, unless another has begun since.
	fn end_this(&self, vm: &str, record: &Record) -> Result<bool, JobError> {
		let _turn = lock(&self.turn);
		if lock(&self.all).get(vm).is_none_or(|live| live.record != *record) {
			return Ok(false);
		}
		// The record first: what is not recorded is not served again.
		remove_if_there(&self.record_file(vm)).map_err(written)?;
		let ended = lock(&self.all).remove(vm);
		drop(ended);
		Ok(true)
	}

	/// Keeps a snapshot's blocks, as long as the session lives, and says whether all are here.
	fn hold(&self, root: &Cid) -> Result<(Box<dyn Session>, bool), JobError> {
		let session = self.store.open_session().map_err(stored)?;
		let is_whole = session.has(root).map_err(stored)?;
		Ok((session, is_whole))
	}

	/// The node that sealed a root, and the request: its block says so, and the chain where neither
	/// this store nor a replica has that.
	fn origin(&self, root: &Cid, nodes: &[OpaqueId]) -> Result<(OpaqueId, OpaqueId), JobError> {
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
	fn source(&self, node: &OpaqueId, request: &OpaqueId) -> Everywhere {
		let source = self.elsewhere.beside(&self.store, node, request, &self.cancel);
		source.with_patience(PATIENCE)
	}

	fn open(&self, root: &Cid, source: &Everywhere) -> Result<Root, JobError> {
		let block = open_root(source, root).map_err(restored)?;
		block.open_with_identities(self.identities.expose()).map_err(|error| restored(error.into()))
	}

	/// The machine of this name, or the one that the snapshot describes.
	fn machine(
		&self,
		root: &Root,
		source: &Everywhere,
		order: &LiveRestoreOrder,
	) -> Result<Vm, JobError> {
		let is_new = order.folder.is_some() || order.qmp.is_some();
		match Inventory::at(&self.vms_dir).find(order.vm.as_bytes()) {
			Ok(_) if is_new => Err(unwritable(format!(
				"this node has a machine {:?}, whose file says where its images are; leave folder and socket out, or choose another name",
				order.vm
			))),
			Err(SourceError::VmNotFound { .. }) => match &order.folder {
				Some(folder) => self.described((root, source), folder, order.qmp.as_deref()),
				None => Err(unwritable(format!(
					"this node has no machine {:?}; say in which folder it is to be set up",
					order.vm
				))),
			},
			found => found.map_err(opened),
		}
	}

	/// Put everything in its place: all of it is made before anything gets its name.
	fn make(
		&self,
		record: &Record,
		from @ (root, _): (&Root, &Everywhere),
		vm: &Vm,
		order: &LiveRestoreOrder,
		disks: &[(&Object, PathBuf)],
	) -> Result<(), JobError> {
		if let Some(folder) = &order.folder {
			let mut builder = fs::DirBuilder::new();
			builder.recursive(true).mode(0o700).create(folder).map_err(written)?;
		}
		let mut made = Vec::new();
		for (disk, image) in disks {
			let partial = PartialFile::create(image).map_err(untaken)?;
			let socket = &record.socket;
			filling::make_image(partial.partial(), disk.logical_bytes, socket, &disk.name)
				.map_err(opened)?;
			made.push(partial);
		}
		for file in &vm.files {
			let blob = root.blobs.iter().find(|blob| blob.name == file.name);
			if let Some(blob) = blob.filter(|_| order.folder.is_some()) {
				let bytes = self.restore(from, blob).run_to_memory(FILE_BYTES_MAX);
				let bytes = bytes.map_err(restored)?.ok_or_else(|| {
					unwritable(format!("the snapshot's {:?} is too long", blob.name))
				})?;
				made.push(with_bytes(&file.path, &bytes)?);
			}
		}
		if order.folder.is_some() {
			let file = self.vms_dir.join(format!("{}.toml", order.vm));
			made.push(with_bytes(&file, vm.describe().as_bytes())?);
		}
		fs::create_dir_all(&self.folder).map_err(written)?;
		self.write(&order.vm, record)?;
		let mut named: Vec<PathBuf> = Vec::new();
		for mut file in made {
			if let Err(error) = file.complete() {
				for path in &named {
					remove_if_there(path).map_err(written)?;
				}
				return Err(written(error));
			}
			named.push(file.path().to_owned());
		}
		Ok(())
	}

	/// Restores something small.
	fn restore<'a>(
		&'a self,
		(root, source): (&Root, &'a Everywhere),
		object: &'a Object,
	) -> Restore<'a> {
		Restore {
			repository: source,
			geometry: root.geometry,
			object,
			threads: NonZero::<usize>::MIN,
			on_progress: &|_| {},
			cancel: &self.cancel,
		}
	}

	/// The machine as the snapshot describes it, with everything in a folder. Programs that were run
	/// around its backups are this node's operator's to choose.
	fn described(
		&self,
		from @ (root, _): (&Root, &Everywhere),
		folder: &Path,
		qmp: Option<&Path>,
	) -> Result<Vm, JobError> {
		let wrong = |reason: String| {
			let detail = format!("the snapshot does not say what its machine is like: {reason}");
			JobError { reason: FailureReason::Unsupported, detail }
		};
		let blob = root.blobs.iter().find(|blob| blob.name == DESCRIPTION_FILE);
		let blob = blob.ok_or_else(|| wrong("write the machine's file first".into()))?;
		let bytes = self.restore(from, blob).run_to_memory(DESCRIPTION_BYTES_MAX);
		let bytes = bytes.map_err(restored)?.ok_or_else(|| wrong("too much is said".into()))?;
		let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
		let mut vm = Vm::parse(&text).map_err(wrong)?;
		for disk in vm.disks.iter_mut().filter(|disk| !disk.skip) {
			disk.image = folder.join(format!("{}.qcow2", disk.name));
			disk.format = ImageFormat::Qcow2;
		}
		for file in &mut vm.files {
			file.path = folder.join(&file.name);
		}
		vm.hooks = None;
		if let Some(qmp) = qmp {
			vm.qmp = Some(qmp.to_owned());
			(vm.guest_agent, vm.libvirt, vm.libvirt_uri) = (None, None, None);
		}
		Ok(vm)
	}

	fn serve(
		&self,
		record: &Record,
		(root, source): (&Root, &Everywhere),
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

	/// Remove what was made of a live restore that its operator never heard of.
	fn give_up(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		for image in &record.images {
			// No image of another live restore names this socket. What is not ours, or cannot be
			// told, stays.
			if matches!(filling::lacks(image, &record.socket), Ok(true)) {
				remove_if_there(image).map_err(written)?;
			}
		}
		remove_if_there(&self.record_file(vm)).map(drop).map_err(written)
	}

	fn record_file(&self, vm: &str) -> PathBuf {
		self.folder.join(format!("{vm}{RECORD_SUFFIX}"))
	}

	fn write(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		let bytes = serde_json::to_vec(record).map_err(|error| written(error.into()))?;
		write_whole(&self.record_file(vm), &bytes).map_err(written)
	}
}

impl LiveRestore {
	fn view(&self, vm: &str) -> LiveRestoreView {
		let mut view = LiveRestoreView {
			vm: vm.to_owned(),
			root: self.record.root,
			images: self.record.images.clone(),
			state: "filling".into(),
			done_bytes: 0,
			total_bytes: self.record.total_bytes,
			problem: None,
		};
		match &self.filling {
			Ok(Filling::Running { done_bytes, total_bytes }) => {
				(view.done_bytes, view.total_bytes) = (*done_bytes, *total_bytes);
			}
			Ok(Filling::Complete) => view.done_bytes = self.record.total_bytes,
			Ok(Filling::Off) => view.state = "waiting".into(),
			Err(problem) => {
				view.state = "stuck".into();
				view.problem = Some(problem.clone());
			}
		}
		view
	}
}

/// A name for a socket in the images' folder that nothing else has or had.
fn socket_beside(images: &[PathBuf]) -> Result<PathBuf, JobError> {
	let folder = images.first().and_then(|image| image.parent());
	let folder = folder.ok_or_else(|| unwritable("the snapshot has no disks".into()))?;
	let socket = folder.join(format!("{:016x}.nbd", rand::random::<u64>()));
	match socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
		true => Ok(socket),
		false => Err(unwritable(format!(
			"the path {} is too long for a socket; choose a folder with a shorter one",
			folder.display()
		))),
	}
}

/// A file that is complete but for its name.
fn with_bytes(path: &Path, bytes: &[u8]) -> Result<PartialFile, JobError> {
	let partial = PartialFile::create(path).map_err(untaken)?;
	partial.file().write_all(bytes).map_err(written)?;
	Ok(partial)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each disk of a snapshot with its place on this node.
fn pair<'r>(root: &'r Root, vm: &Vm, name: &str) -> Result<Vec<(&'r Object, PathBuf)>, JobError> {
	let places = root.disks.iter().map(|object| {
		let disk = vm.included().find(|disk| disk.name == object.name);
		let disk = disk.ok_or_else(|| super::restores::no_such_disk(name.as_bytes(), &object.name))?;
		match disk.format {
			ImageFormat::Qcow2 => Ok((object, disk.image.clone())),
			ImageFormat::Raw => Err(JobError {
				reason: FailureReason::Unsupported,
				detail: format!(
					"the disk {:?} is raw, and only qcow2 images can fill in; give a folder for new images, or restore in full",
					object.name
				),
			}),
		}
	});
	places.collect()
}

fn read(path: &Path) -> io::Result<Record> {
	let length = fs::metadata(path)?.len();
	if length > RECORD_BYTES_MAX {
		return Err(io::Error::other(format!("{} is too long", path.display())));
	}
	Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn untaken(error: TargetError) -> JobError {
	match error {
		TargetError::Exists { path } => unwritable(format!(
			"{} is there already, and nothing is overwritten; move it away first",
			path.display()
		)),
		error => written(error.into()),
	}
}

fn unwritable(detail: String) -> JobError {
	JobError { reason: FailureReason::TargetUnwritable, detail }
}
