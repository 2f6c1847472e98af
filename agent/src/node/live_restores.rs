//! Live restores: machines that start at once, on images that fill in behind them.
//!
//! 1. A machine that this node does not have is set up again as the snapshot describes it.
//! 2. Its images are made, empty, with the snapshot's disks behind them, which are served from
//!    then on ([`filling`](crate::sources::filling)). The operator starts the machine.
//! 3. While it runs, QEMU copies what the images lack. When nothing is missing the live restore is
//!    over, by itself.
//!
//! A record says what is served. An agent that starts serves it again, and gives up what a killed
//! one had not finished setting up. A session keeps the blocks meanwhile, whatever becomes of the
//! snapshot on chain.

use super::{opened, restored, stored, written};
use crate::{
	disk::write_whole,
	format::{Object, Root},
	jobs::JobError,
	nbd::{NbdServer, ServedDisk},
	pipeline::{Cancel, Restore, open_root},
	repositories::{EmbeddedStore, Repository, Session},
	secret::NodeIdentities,
	sources::{DESCRIPTION_FILE, Filling, ImageFormat, Inventory, SourceError, Vm, filling},
	targets::{PartialFile, RawTarget, TargetError},
};
use backup_primitives::{Cid, FailureReason};
use serde::{Deserialize, Serialize};
use std::{
	collections::BTreeMap,
	ffi::OsString,
	fmt, fs,
	io::{self, Write},
	num::NonZero,
	os::unix::fs::DirBuilderExt,
	path::{Path, PathBuf},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Most bytes of a machine's description.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a record that are read: one with all disks has far less.
const RECORD_BYTES_MAX: u64 = 1 << 20;

const SOCKET_SUFFIX: &str = ".nbd";

/// What is to be restored live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveRestoreOrder {
	/// The snapshot.
	pub root: Cid,
	/// Name of the machine on this node.
	pub vm: String,
	/// Where the images of a machine go that this node does not have. Where they were when the
	/// snapshot was taken, if nothing is given.
	pub folder: Option<PathBuf>,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
	root: Cid,
	socket: PathBuf,
	images: Vec<PathBuf>,
	/// Whether all images are in their places, so that the machine may have been started.
	is_ready: bool,
}

/// A live restore that is served.
struct Running {
	record: Record,
	total_bytes: u64,
	filling: Result<Filling, String>,
	_server: NbdServer,
	_session: Box<dyn Session>,
}

/// The live restores of a node.
pub struct LiveRestores {
	folder: PathBuf,
	vms_dir: PathBuf,
	store: EmbeddedStore,
	identities: Arc<NodeIdentities>,
	cancel: Cancel,
	running: Mutex<BTreeMap<String, Running>>,
	/// Only one begins or ends at a time.
	turn: Mutex<()>,
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
		identities: Arc<NodeIdentities>,
	) -> Self {
		let (running, turn) = (Mutex::default(), Mutex::default());
		Self { folder, vms_dir, store, identities, cancel: Cancel::new(), running, turn }
	}

	/// Whether the disks of a machine fill in.
	pub fn has(&self, vm: &str) -> bool {
		self.running().contains_key(vm)
	}

	/// All that are under way.
	pub fn list(&self) -> Vec<LiveRestoreView> {
		self.running().iter().map(|(vm, running)| running.view(vm)).collect()
	}

	/// Set a machine up, so that it can be started.
	pub fn begin(&self, order: &LiveRestoreOrder) -> Result<LiveRestoreView, JobError> {
		let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
		if self.has(&order.vm) {
			return Err(unwritable(format!("a live restore of {:?} is under way", order.vm)));
		}
		let session = self.hold(&order.root)?;
		let root = self.open(&order.root)?;
		let vm = self.machine(&root, order)?;
		let disks = pair(&root, &vm, &order.vm)?;
		if vm.is_running().map_err(opened)? {
			return Err(opened(SourceError::Running));
		}
		let images: Vec<PathBuf> = disks.iter().map(|(_, image)| image.clone()).collect();
		let mut socket = OsString::from(&images[0]);
		socket.push(SOCKET_SUFFIX);
		let record = Record { root: order.root, socket: socket.into(), images, is_ready: false };
		let running = self
			.make(&record, &root, &vm, order, &disks)
			.and_then(|()| self.serve(Record { is_ready: true, ..record.clone() }, &root, session))
			.and_then(|running| self.write(&order.vm, &running.record).map(|()| running));
		let running = match running {
			Ok(running) => running,
			Err(error) => {
				self.give_up(&order.vm, &record)?;
				return Err(error);
			}
		};
		tracing::info!(vm = order.vm, root = %order.root, "a machine can be started, and its disks fill in");
		let view = running.view(&order.vm);
		self.running().insert(order.vm.clone(), running);
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
			if name.starts_with(crate::disk::UNFINISHED_PREFIX) {
				fs::remove_file(&path)?;
			} else if let Some(vm) = name.strip_suffix(".json")
				&& let Err(error) = self.resume_one(vm, &path)
			{
				tracing::error!(vm, %error, "a live restore cannot go on; its machine waits until the agent starts again without this fault");
			}
		}
		Ok(())
	}

	fn resume_one(&self, vm: &str, path: &Path) -> Result<(), JobError> {
		let record = read(path).map_err(written)?;
		if !record.is_ready {
			tracing::info!(vm, "a live restore that was not set up is given up");
			return self.give_up(vm, &record);
		}
		let session = self.hold(&record.root)?;
		let root = self.open(&record.root)?;
		let running = self.serve(record, &root, session)?;
		self.running().insert(vm.to_owned(), running);
		tracing::info!(vm, "the disks of a machine go on filling in");
		Ok(())
	}

	/// Look after all of them: have machines copy what they lack, and end what is complete.
	pub fn step(&self) {
		let machines: Vec<(String, PathBuf)> = self
			.running()
			.iter()
			.map(|(vm, running)| (vm.clone(), running.record.socket.clone()))
			.collect();
		for (name, socket) in machines {
			let vm = Inventory::at(&self.vms_dir).find(name.as_bytes());
			let filling = vm.and_then(|vm| vm.fill(&socket));
			if let Ok(Filling::Complete) = filling {
				match self.end(&name) {
					Ok(_) => tracing::info!(vm = name, "the machine's disks are complete"),
					Err(error) => tracing::error!(vm = name, %error, "a live restore does not end"),
				}
				continue;
			}
			if let Some(running) = self.running().get_mut(&name) {
				let filling = filling.map_err(|error| error.to_string());
				if let Err(problem) = &filling
					&& running.filling.as_ref().err() != Some(problem)
				{
					tracing::warn!(vm = name, problem, "a machine's disks do not fill in");
				}
				running.filling = filling;
			}
		}
	}

	/// Serve no longer. What an image lacks is missing from then on. Says whether there was one.
	pub fn end(&self, vm: &str) -> Result<bool, JobError> {
		let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
		if !self.has(vm) {
			return Ok(false);
		}
		// The record first: what is not recorded is not served again.
		remove(&self.record_file(vm)).map_err(written)?;
		let ended = self.running().remove(vm);
		drop(ended);
		Ok(true)
	}

	/// Keeps a snapshot's blocks, as long as what is returned lives.
	fn hold(&self, root: &Cid) -> Result<Box<dyn Session>, JobError> {
		let session = self.store.open_session().map_err(stored)?;
		match session.has(root).map_err(stored)? {
			true => Ok(session),
			false => Err(JobError {
				reason: FailureReason::BlockMissing,
				detail: format!("the snapshot {root} is not here, or not whole"),
			}),
		}
	}

	fn open(&self, root: &Cid) -> Result<Root, JobError> {
		let block = open_root(&self.store, root).map_err(restored)?;
		block.open_with_identities(self.identities.expose()).map_err(|error| restored(error.into()))
	}

	/// The machine of this name, or the one that the snapshot describes.
	fn machine(&self, root: &Root, order: &LiveRestoreOrder) -> Result<Vm, JobError> {
		match Inventory::at(&self.vms_dir).find(order.vm.as_bytes()) {
			Ok(_) if order.folder.is_some() => Err(unwritable(format!(
				"this node has a machine {:?}, whose file says where its images are; leave the folder out, or choose another name",
				order.vm
			))),
			Err(SourceError::VmNotFound { .. }) => self.described(root, order),
			found => found.map_err(opened),
		}
	}

	/// Put everything in its place. The machine's own file comes last.
	fn make(
		&self,
		record: &Record,
		root: &Root,
		vm: &Vm,
		order: &LiveRestoreOrder,
		disks: &[(&Object, PathBuf)],
	) -> Result<(), JobError> {
		if let Some(folder) = &order.folder {
			let mut builder = fs::DirBuilder::new();
			builder.recursive(true).mode(0o700).create(folder).map_err(written)?;
		}
		let mut images = Vec::new();
		for (disk, image) in disks {
			let partial = PartialFile::create(image).map_err(untaken)?;
			let socket = &record.socket;
			filling::make_image(partial.partial(), disk.logical_bytes, socket, &disk.name)
				.map_err(opened)?;
			images.push(partial);
		}
		fs::create_dir_all(&self.folder).map_err(written)?;
		self.write(&order.vm, record)?;
		for mut image in images {
			image.complete().map_err(written)?;
		}
		for file in &vm.files {
			let blob = root.blobs.iter().find(|blob| blob.name == file.name);
			if let Some(blob) = blob.filter(|_| !file.path.exists()) {
				let mut target = RawTarget::create(&file.path).map_err(untaken)?;
				self.restore(root, blob).run(&mut target).map_err(restored)?;
			}
		}
		let file = self.vms_dir.join(format!("{}.toml", order.vm));
		match PartialFile::create(&file) {
			Ok(mut description) => {
				description.file().write_all(vm.describe().as_bytes()).map_err(written)?;
				description.complete().map_err(written)
			}
			Err(TargetError::Exists { .. }) => Ok(()),
			Err(error) => Err(untaken(error)),
		}
	}

	/// Restores something small.
	fn restore<'a>(&'a self, root: &Root, object: &'a Object) -> Restore<'a> {
		Restore {
			repository: &self.store,
			geometry: root.geometry,
			object,
			threads: NonZero::<usize>::MIN,
			on_progress: &|_| {},
			cancel: &self.cancel,
		}
	}

	/// The machine as the snapshot describes it, with its images in a folder if there is one.
	fn described(&self, root: &Root, order: &LiveRestoreOrder) -> Result<Vm, JobError> {
		let wrong = |reason: String| {
			let detail = format!("the snapshot does not say what its machine is like: {reason}");
			JobError { reason: FailureReason::Unsupported, detail }
		};
		let blob = root.blobs.iter().find(|blob| blob.name == DESCRIPTION_FILE);
		let blob = blob.ok_or_else(|| wrong("write the machine's file first".into()))?;
		let bytes = self.restore(root, blob).run_to_memory(DESCRIPTION_BYTES_MAX);
		let bytes = bytes.map_err(restored)?.ok_or_else(|| wrong("too much is said".into()))?;
		let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
		let mut vm = Vm::parse(&text).map_err(wrong)?;
		if let Some(folder) = &order.folder {
			for disk in vm.disks.iter_mut().filter(|disk| !disk.skip) {
				disk.image = folder.join(format!("{}.qcow2", disk.name));
				disk.format = ImageFormat::Qcow2;
			}
			for file in &mut vm.files {
				file.path = folder.join(&file.name);
			}
		}
		Ok(vm)
	}

	fn serve(
		&self,
		record: Record,
		root: &Root,
		session: Box<dyn Session>,
	) -> Result<Running, JobError> {
		let total_bytes = root.disks.iter().map(|disk| disk.logical_bytes).sum();
		let disks = root.disks.iter().map(|disk| ServedDisk {
			name: disk.name.clone(),
			repository: Arc::new(self.store.clone()),
			geometry: root.geometry,
			object: disk.clone(),
		});
		let server = NbdServer::start(&record.socket, disks.collect()).map_err(|error| {
			let detail = format!("failed to serve on {}: {error}", record.socket.display());
			JobError { reason: FailureReason::TargetUnwritable, detail }
		})?;
		let filling = Ok(Filling::Off);
		Ok(Running { record, total_bytes, filling, _server: server, _session: session })
	}

	/// Remove what was made of a live restore that its operator never heard of.
	fn give_up(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		for image in &record.images {
			// What is not ours, or cannot be told, stays.
			if matches!(filling::lacks(image, &record.socket), Ok(Some(true))) {
				remove(image).map_err(written)?;
			}
		}
		remove(&self.record_file(vm)).map_err(written)
	}

	fn record_file(&self, vm: &str) -> PathBuf {
		self.folder.join(format!("{vm}.json"))
	}

	fn write(&self, vm: &str, record: &Record) -> Result<(), JobError> {
		let bytes = serde_json::to_vec(record).map_err(|error| written(error.into()))?;
		write_whole(&self.record_file(vm), &bytes).map_err(written)
	}

	fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
		self.running.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

impl Running {
	fn view(&self, vm: &str) -> LiveRestoreView {
		let mut view = LiveRestoreView {
			vm: vm.to_owned(),
			root: self.record.root,
			images: self.record.images.clone(),
			state: "filling".into(),
			done_bytes: 0,
			total_bytes: self.total_bytes,
			problem: None,
		};
		match &self.filling {
			Ok(Filling::Running { done_bytes, total_bytes }) => {
				(view.done_bytes, view.total_bytes) = (*done_bytes, *total_bytes);
			}
			Ok(Filling::Complete) => view.done_bytes = self.total_bytes,
			Ok(Filling::Off) => view.state = "waiting".into(),
			Err(problem) => {
				view.state = "stuck".into();
				view.problem = Some(problem.clone());
			}
		}
		view
	}
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
	let places: Vec<_> = places.collect::<Result<_, _>>()?;
	match places.is_empty() {
		true => Err(unwritable("the snapshot has no disks".into())),
		false => Ok(places),
	}
}

fn read(path: &Path) -> io::Result<Record> {
	let length = fs::metadata(path)?.len();
	if length > RECORD_BYTES_MAX {
		return Err(io::Error::other(format!("{} is too long", path.display())));
	}
	Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn remove(path: &Path) -> io::Result<()> {
	match fs::remove_file(path) {
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
		result => result,
	}
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
