//! Reading a machine that runs.
//!
//! 1. Ask the machine for its UUID, and refuse a wrong one before anything is touched.
//! 2. Take away what a killed agent left.
//! 3. Make scratch images; freeze the guest's file systems where its agent can.
//! 4. Stop the machine, begin a dirty bitmap and put a copy-before-write filter over each disk,
//!    let it run: a few milliseconds, and the instant that all readers see. Let the file systems
//!    go on.
//! 5. Export the frozen views over NBD, and with them the bitmaps of the last backup: what was
//!    written since. What was read or needs no reading is trimmed, so that later guest writes
//!    there are not kept.
//! 6. Take everything away again, in the opposite order.
//!
//! The filter fails the backup when scratch is full (`break-snapshot`), never the guest.

pub(super) mod bitmaps;
mod nodes;
mod pause;
mod trial;

pub(super) use nodes::{clean, has_ours, list};
pub(super) use trial::try_out;

use super::{
	Checkpoint, Disk, Hold, Leftovers, OpenDisk, OpenOptions, OpenVm, PREFIX, SourceError, Vm,
	guest_agent::Agent,
	nbd::{self, AfterRead, NbdDisk},
	qmp::Monitor,
	scratch::{Overwritten, Room, Scratch, remove_file},
	socket::is_hang_up,
};
use crate::{
	pipeline::source::DiskReader,
	stage::{self, Stage},
};
use backup_primitives::{Consistency, VmTag};
use bitmaps::{Bitmap, Record, keeps_bitmaps};
use nodes::{Marker, drive_property, filter_node, mark, unmark, view_node};
use pause::Pause;
use serde_json::{Value, json};
use std::{
	fs, io,
	ops::Range,
	path::{Path, PathBuf},
	time::Duration,
};

/// The first QEMU whose NBD server bears clients on I/O threads.
pub(super) const THREAD_SAFE_MAJOR: u64 = 9;

/// A machine with filters over its disks. Dropping it takes them away.
#[derive(Debug)]
pub(super) struct LiveVm {
	monitor: Monitor,
	vm: Vm,
	leftovers: Leftovers,
	socket: PathBuf,
	/// QEMU holds the images until its nodes are gone; the files may go before.
	scratch: Scratch,
	/// The backup from which bitmaps are read.
	base: Option<Checkpoint>,
	/// The bitmaps that this one has begun.
	checkpoint: Option<Checkpoint>,
	/// What belongs to the machine beside its disks.
	files: Vec<(String, Vec<u8>)>,
	is_closed: bool,
}

/// A disk of a machine, as QEMU knows it.
#[derive(Debug)]
struct Drive {
	name: String,
	node: String,
	device: String,
	size_bytes: u64,
	keeps_bitmaps: bool,
	/// Whether other machines may write to it, too, unseen by this one.
	is_shared: bool,
	/// Whether there is a node from which a witness of its size can be copied.
	has_witness: bool,
	/// Bitmaps of ours, as they were when the drive was found.
	bitmaps: Vec<Bitmap>,
	/// What one of them has recorded, if it has all writes.
	record: Option<Record>,
}

impl Drive {
	fn overwritten(&self) -> Overwritten<'_> {
		Overwritten { name: &self.name, size_bytes: self.size_bytes }
	}

	/// What was recorded since a checkpoint.
	fn record_since(&self, checkpoint: Checkpoint) -> Option<&Record> {
		self.record.as_ref().filter(|record| record.checkpoint == checkpoint)
	}
}

/// Connect to the machine's control socket. Returns nothing if the machine is off.
pub(super) fn connect(vm: &Vm) -> Result<Option<Monitor>, SourceError> {
	match &vm.qmp {
		Some(path) => Monitor::connect(path),
		None => Ok(None),
	}
}

/// Freeze the disks of a machine that runs.
pub(super) fn open(
	vm: &Vm,
	mut monitor: Monitor,
	tag: VmTag,
	known: &[Checkpoint],
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	check_tag(&mut monitor, tag)?;
	match clean(&mut monitor, vm.guest_agent.as_deref()) {
		// What the disks hold can be read all the same.
		Err(error @ SourceError::NotThawed { .. }) => {
			tracing::warn!(%tag, %error, "the guest hangs")
		}
		result => result?,
	}
	let mut drives = find_drives(&mut monitor, vm)?;
	refuse_threads(&mut monitor, &drives)?;
	for drive in &mut drives {
		drive.is_shared = is_shared(&mut monitor, &drive.device)?;
		let known = if drive.is_shared { &[] } else { known };
		drive.record = bitmaps::settle(&mut monitor, drive, known).unwrap_or_else(|error| {
			tracing::warn!(%tag, disk = drive.name, %error, "the disk's bitmaps are of no use");
			None
		});
	}
	let has_one = |one: &Checkpoint| drives.iter().any(|drive| drive.record_since(*one).is_some());
	let base = known.iter().copied().find(has_one);
	let overwritten: Vec<_> = drives.iter().map(Drive::overwritten).collect();
	let scratch = Scratch::make(tag, &overwritten, Room::Window, options)?;
	let socket = fs::canonicalize(&options.scratch_dir)?.join(format!("{PREFIX}{tag}.nbd"));
	let (vm, leftovers) = (vm.clone(), options.leftovers.clone());
	let mut machine = LiveVm {
		monitor,
		vm,
		leftovers,
		socket,
		scratch,
		base,
		checkpoint: None,
		files: Vec::new(),
		is_closed: false,
	};
	machine.add_scratch(&drives)?;
	let new = Checkpoint::new();
	machine.make_witnesses(&mut drives, new)?;
	let (consistency, pause) = machine.freeze(&drives, new, options.freeze_time_max)?;
	tracing::info!(%tag, ?pause, ?consistency, "the machine's disks stand still");
	let disks = machine.export(&drives)?;
	let (base, checkpoint) = (machine.base, machine.checkpoint);
	let files = std::mem::take(&mut machine.files);
	let hold = Hold::Live(Box::new(machine));
	Ok(OpenVm { disks, files, consistency, pause, base, checkpoint, hold })
}

/// The machine's own UUID, zeros if it was given none.
pub(super) fn tag(monitor: &mut Monitor) -> Result<VmTag, SourceError> {
	let answer = monitor.run("query-uuid", json!({}))?;
	let found = answer["UUID"].as_str().and_then(|text| text.parse().ok());
	Ok(found.unwrap_or(VmTag([0; 16])))
}

pub(super) fn check_tag(monitor: &mut Monitor, expected: VmTag) -> Result<(), SourceError> {
	let found = tag(monitor)?;
	match found == expected {
		true => Ok(()),
		false => Err(SourceError::TagMismatch { expected, found }),
	}
}

/// Major, minor and micro version of the QEMU that runs a machine; zero what it does not say.
fn version(monitor: &mut Monitor) -> Result<[u64; 3], SourceError> {
	let version = monitor.run("query-version", json!({}))?;
	Ok(["major", "minor", "micro"].map(|part| version["qemu"][part].as_u64().unwrap_or(0)))
}

/// A QEMU before 9.0 ends, and its guest with it, when the client of an export on an I/O thread
/// hangs up: an assertion fails in the server. A killed agent hangs up, so it must not begin.
fn refuse_threads(monitor: &mut Monitor, drives: &[Drive]) -> Result<(), SourceError> {
	if version(monitor)?[0] >= THREAD_SAFE_MAJOR {
		return Ok(());
	}
	for drive in drives {
		if is_on_thread(monitor, &drive.device)? {
			return Err(SourceError::IoThread { disk: drive.name.clone() });
		}
	}
	Ok(())
}

/// Whether a device has an I/O thread: itself, as virtio-blk does, or through its controller.
fn is_on_thread(monitor: &mut Monitor, device: &str) -> Result<bool, SourceError> {
	let mut text = |path: &str, name| -> Result<Option<String>, SourceError> {
		let value = property(monitor, path, name)?;
		Ok(value.and_then(|value| value.as_str().map(str::to_owned)))
	};
	if let Some(thread) = text(device, "iothread")? {
		return Ok(!thread.is_empty());
	}
	let bus = text(device, "parent_bus")?.unwrap_or_default();
	let Some((controller, _)) = bus.rsplit_once('/') else { return Ok(false) };
	let thread = text(controller, "iothread")?;
	Ok(thread.is_some_and(|thread| !thread.is_empty()))
}

/// Whether other machines may write to a drive, too.
fn is_shared(monitor: &mut Monitor, device: &str) -> Result<bool, SourceError> {
	Ok(property(monitor, device, "share-rw")?.is_some_and(|value| value == true))
}

/// A property of a device, nothing if it has none of that name.
fn property(monitor: &mut Monitor, path: &str, name: &str) -> Result<Option<Value>, SourceError> {
	match monitor.run("qom-get", json!({ "path": path, "property": name })) {
		Ok(value) => Ok(Some(value)),
		Err(SourceError::Refused { .. }) => Ok(None),
		Err(error) => Err(error),
	}
}

/// Find the machine's drive for each disk of the inventory, by its image.
fn find_drives(monitor: &mut Monitor, vm: &Vm) -> Result<Vec<Drive>, SourceError> {
	let blocks = monitor.run("query-block", json!({}))?;
	vm.included().map(|disk| find_drive(&blocks, disk)).collect()
}

fn find_drive(blocks: &Value, disk: &Disk) -> Result<Drive, SourceError> {
	let found = find_block(blocks, &disk.image).and_then(|block| {
		let inserted = &block["inserted"];
		Some(Drive {
			name: disk.name.clone(),
			node: inserted["node-name"].as_str()?.to_owned(),
			device: block["qdev"].as_str()?.to_owned(),
			size_bytes: inserted["image"]["virtual-size"].as_u64()?,
			keeps_bitmaps: keeps_bitmaps(inserted),
			bitmaps: Bitmap::list(inserted),
			is_shared: false,
			has_witness: false,
			record: None,
		})
	});
	found.ok_or_else(|| SourceError::DiskNotFound {
		name: disk.name.clone(),
		image: disk.image.clone(),
	})
}

/// What `query-block` says of the drive that has an image.
pub(super) fn find_block<'v>(blocks: &'v Value, image: &Path) -> Option<&'v Value> {
	list(blocks).iter().find(|block| {
		let file = block["inserted"]["image"]["filename"].as_str();
		file.is_some_and(|file| is_same_file(Path::new(file), image))
	})
}

pub(super) fn is_same_file(one: &Path, other: &Path) -> bool {
	let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
	real(one) == real(other)
}

/// Settle since when the machine's bitmaps record, of all disks that it has.
pub(super) fn settle(
	vm: &Vm,
	monitor: &mut Monitor,
	known: &[Checkpoint],
) -> Result<(), SourceError> {
	let blocks = monitor.run("query-block", json!({}))?;
	let drives = vm.included().filter_map(|disk| find_drive(&blocks, disk).ok());
	drives.into_iter().try_for_each(|drive| bitmaps::settle(monitor, &drive, known).map(drop))
}

impl LiveVm {
	fn add_scratch(&mut self, drives: &[Drive]) -> Result<(), SourceError> {
		for (drive, image) in drives.iter().zip(&self.scratch.images) {
			nodes::add_scratch(&mut self.monitor, &drive.name, image, self.scratch.cap_bytes)?;
		}
		Ok(())
	}

	/// Prepare what tells later whether a disk was cut. A QEMU that cannot do that records writes all
	/// the same.
	fn make_witnesses(&mut self, drives: &mut [Drive], new: Checkpoint) -> Result<(), SourceError> {
		for drive in drives.iter_mut().filter(|drive| !drive.is_shared) {
			match bitmaps::make_witness(&mut self.monitor, drive, new) {
				Ok(()) => drive.has_witness = true,
				Err(error @ SourceError::Refused { .. }) => {
					tracing::warn!(disk = drive.name, %error, "a disk that is cut shows by what it holds alone");
				}
				Err(error) => return Err(error),
			}
		}
		Ok(())
	}

	/// Fix the instant, with the guest's file systems still where its agent can.
	fn freeze(
		&mut self,
		drives: &[Drive],
		new: Checkpoint,
		time_max: Duration,
	) -> Result<(Consistency, Duration), SourceError> {
		let _freeze = stage::enter(Stage::Freeze);
		let Some(agent) =
			self.vm.guest_agent.as_deref().and_then(|socket| find_agent(socket, time_max))
		else {
			return Ok((Consistency::Crash, self.place_filters(drives, new)?));
		};
		mark(&mut self.monitor, Marker::Frozen)?;
		let frozen = agent.freeze();
		// Whatever comes of it, the file systems go on before anything else is done.
		let placed = self.place_filters(drives, new);
		let thawed = frozen.and_then(|frozen| {
			let thawed = frozen.map(|frozen| frozen.thaw().map(|()| Consistency::Application));
			thawed.transpose()
		});
		let pause = placed?;
		match thawed {
			Ok(stood_still) => {
				unmark(&mut self.monitor, Marker::Frozen)?;
				Ok((stood_still.unwrap_or(Consistency::Crash), pause))
			}
			Err(error) => {
				// The mark stays, so that the clean-up looks at the guest once more.
				tracing::warn!(%error, "the guest did not stand still; the snapshot is crash-consistent");
				Ok((Consistency::Crash, pause))
			}
		}
	}

	/// Put the filters in place at one instant. The machine runs again in every case.
	fn place_filters(
		&mut self,
		drives: &[Drive],
		new: Checkpoint,
	) -> Result<Duration, SourceError> {
		let pause = Pause::begin(&mut self.monitor)?;
		let begun = bitmaps::begin(pause.monitor, drives, self.base, new);
		let placed = match &begun {
			// Without bitmaps all is read, now and the next time.
			Ok(()) | Err(SourceError::Refused { .. }) => {
				drives.iter().try_for_each(|drive| place_filter(pause.monitor, drive))
			}
			Err(_) => Ok(()),
		};
		// They may change together with the disks.
		let files = self.vm.read_files();
		let lasted = pause.end();
		self.files = files?;
		match begun {
			Ok(()) => self.checkpoint = Some(new),
			Err(error @ SourceError::Refused { .. }) => {
				tracing::warn!(%error, "writes to the machine's disks are not recorded");
				self.base = None;
			}
			Err(error) => return Err(error),
		}
		placed.and(lasted)
	}

	/// Serve the frozen views, and open a reader on each.
	fn export(&mut self, drives: &[Drive]) -> Result<Vec<OpenDisk>, SourceError> {
		remove_file(&self.socket);
		nodes::start_server(&mut self.monitor, &self.socket)?;
		let mut disks = Vec::new();
		for drive in drives {
			nodes::add_view(&mut self.monitor, &drive.name)?;
			let written = self.written(drive)?;
			nodes::export_view(&mut self.monitor, &drive.name)?;
			let disk = NbdDisk::connect(&self.socket, &drive.name, AfterRead::Trim)?;
			let reader = Box::new(LiveDisk { disk });
			disks.push(OpenDisk { name: drive.name.clone(), reader, written });
		}
		Ok(disks)
	}

	/// What was written to a disk since the base, if that was recorded. A record that QEMU does not
	/// hand out must not keep a machine from being backed up. One that was cut since it was judged is
	/// none: its witness is asked once more, behind it.
	fn written(&mut self, drive: &Drive) -> Result<Option<Vec<Range<u64>>>, SourceError> {
		let Some(record) = self.base.and_then(|base| drive.record_since(base)) else {
			return Ok(None);
		};
		let written = self.ask_written(drive, &record.bitmap).and_then(|written| {
			let is_whole = match &record.witness {
				Some(witness) => bitmaps::is_marked(&mut self.monitor, &drive.node, witness)?,
				None => true,
			};
			Ok(is_whole.then_some(written))
		});
		match written {
			Ok(None) => {
				tracing::warn!(
					disk = drive.name,
					"the disk was cut meanwhile, and is read in full"
				);
				Ok(None)
			}
			Ok(written) => Ok(written),
			Err(error @ (SourceError::Refused { .. } | SourceError::Nbd(_))) => {
				tracing::warn!(disk = drive.name, %error, "the disk is read in full");
				Ok(None)
			}
			Err(error) => Err(error),
		}
	}

	/// Ask through an export of its own, which is gone when the disk is read: a bitmap that is
	/// exported is busy, and QEMU fails an assertion when a disk with such a bitmap is resized.
	fn ask_written(&mut self, drive: &Drive, bitmap: &str) -> Result<Vec<Range<u64>>, SourceError> {
		let name = format!("record-{}", drive.name);
		let id = format!("{PREFIX}{name}");
		self.monitor.run(
			"block-export-add",
			json!({
				"type": "nbd",
				"id": id,
				"node-name": view_node(&drive.name),
				"name": name,
				"bitmaps": [{ "node": drive.node, "name": bitmap }],
			}),
		)?;
		let written = nbd::written(&self.socket, &name, bitmap);
		self.monitor.run("block-export-del", json!({ "id": id, "mode": "hard" }))?;
		written
	}

	/// Take everything away again.
	pub(super) fn close(mut self) -> Result<(), SourceError> {
		self.take_away()
	}

	fn take_away(&mut self) -> Result<(), SourceError> {
		self.is_closed = true;
		let agent = self.vm.guest_agent.as_deref();
		let result = match clean(&mut self.monitor, agent) {
			// A connection that is out of step, or that QEMU gave up: once more over a new one.
			Err(SourceError::Timeout { .. } | SourceError::NotQmp { .. }) => {
				clean(&mut self.monitor, agent)
			}
			result => result,
		};
		remove_file(&self.socket);
		match result {
			// A machine that is gone has taken its nodes with it.
			Err(SourceError::Vanished) => Ok(()),
			Err(error) => {
				self.leftovers.add(&self.vm);
				Err(error)
			}
			Ok(()) => Ok(()),
		}
	}
}

impl Drop for LiveVm {
	fn drop(&mut self) {
		if self.is_closed {
			return;
		}
		if let Err(error) = self.take_away() {
			tracing::error!(%error, "failed to clean up the machine; it is tried again");
		}
	}
}

/// The agent of a guest that nobody has frozen. A machine without is backed up all the same.
fn find_agent(socket: &Path, time_max: Duration) -> Option<Agent> {
	let found = Agent::connect(socket, time_max).and_then(|mut agent| {
		let is_frozen = agent.is_frozen()?;
		Ok((agent, is_frozen))
	});
	match found {
		Ok((agent, false)) => Some(agent),
		// A freeze of ours that did not thaw is marked, and the clean-up goes back to it.
		Ok((_, true)) => {
			tracing::warn!("the guest is frozen already; the snapshot is crash-consistent");
			None
		}
		Err(error) => {
			tracing::warn!(%error, "the guest agent does not answer; the snapshot is crash-consistent");
			None
		}
	}
}

fn place_filter(monitor: &mut Monitor, drive: &Drive) -> Result<(), SourceError> {
	nodes::add_filter(monitor, &drive.name, &drive.node)?;
	let filter = filter_node(&drive.name);
	monitor.run("qom-set", drive_property(&drive.device, &filter)).map(drop)
}

/// A frozen view. What goes wrong here is told apart by what is left of the machine: a server
/// that still answers has lost the snapshot, one that does not has gone with its machine.
#[derive(Debug)]
struct LiveDisk {
	disk: NbdDisk,
}

impl LiveDisk {
	fn explain(error: io::Error) -> io::Error {
		if SourceError::of(&error).is_some() {
			return error;
		}
		match error.kind() {
			_ if is_hang_up(&error) => SourceError::Vanished.into(),
			io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => error,
			// A broken snapshot has no error of its own in NBD.
			_ => SourceError::ScratchFull.into(),
		}
	}
}

impl DiskReader for LiveDisk {
	fn logical_bytes(&self) -> u64 {
		self.disk.logical_bytes()
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		self.disk.next_extent(from).map_err(Self::explain)
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.disk.read_at(offset, buffer).map_err(Self::explain)
	}

	fn restrict(&mut self, ranges: &[Range<u64>]) {
		self.disk.restrict(ranges);
	}

	fn release(&mut self, range: Range<u64>) {
		self.disk.release(range);
	}
}
