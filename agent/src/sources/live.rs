//! Reading a machine that runs.
//!
//! 1. Ask the machine for its UUID, and refuse a wrong one before anything is touched.
//! 2. Take away what a killed agent left.
//! 3. Make scratch images; freeze the guest's file systems where its agent can.
//! 4. Stop the machine, put a copy-before-write filter over each disk, let it run: a few
//!    milliseconds, and the instant that all readers see.
//! 5. Export the frozen views over NBD. What was read is trimmed, so that later guest writes
//!    there are not kept.
//! 6. Take everything away again, in the opposite order.
//!
//! The filter fails the backup when scratch is full (`break-snapshot`), never the guest. Scratch
//! is capped by QEMU itself: each image lies in a window of fixed size.

use super::{
	Disk, OpenDisk, OpenOptions, OpenVm, SourceError, Vm,
	guest_agent::{self, Frozen},
	nbd::{AfterRead, NbdDisk},
	qmp::Monitor,
};
use crate::pipeline::source::DiskReader;
use backup_primitives::{Consistency, VmTag};
use serde_json::{Value, json};
use std::{
	fs, io,
	ops::Range,
	os::unix::fs::OpenOptionsExt,
	path::{Path, PathBuf},
	process::Command,
	time::Duration,
};

/// How every node and export of ours is called in QEMU.
const PREFIX: &str = "pbk-";

/// How long a guest write may wait for its old content to be copied, in seconds.
const COPY_SECONDS_MAX: u64 = 30;

/// Room that must be free for the scratch of a disk before a backup begins.
const SCRATCH_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// A machine with filters over its disks. Dropping it takes them away.
#[derive(Debug)]
pub(super) struct LiveVm {
	monitor: Monitor,
	socket: PathBuf,
	scratch: Vec<PathBuf>,
	is_closed: bool,
}

/// A disk of a machine, as QEMU knows it.
struct Drive {
	name: String,
	node: String,
	device: String,
	size_bytes: u64,
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
	options: &OpenOptions,
) -> Result<OpenVm, SourceError> {
	check_tag(&mut monitor, tag)?;
	clean(&mut monitor)?;
	let drives = find_drives(&mut monitor, &vm.disks)?;
	let scratch = make_scratch(&drives, options)?;
	let socket = options.scratch_dir.join(format!("{tag}.nbd"));
	let mut machine = LiveVm { monitor, socket, scratch, is_closed: false };
	let frozen = vm.guest_agent.as_deref().and_then(|socket| freeze(socket, options));
	machine.filter(&drives, options.scratch_bytes_max)?;
	let consistency = match frozen.map(Frozen::thaw) {
		Some(Ok(())) => Consistency::Application,
		Some(Err(error)) => {
			tracing::warn!(%error, "the guest did not stand still; the snapshot is crash-consistent");
			Consistency::Crash
		}
		None => Consistency::Crash,
	};
	let disks = machine.export(&drives)?;
	Ok(OpenVm { disks, consistency, hold: super::Hold::Live(machine) })
}

fn check_tag(monitor: &mut Monitor, expected: VmTag) -> Result<(), SourceError> {
	let answer = monitor.run("query-uuid", json!({}))?;
	let found = answer["UUID"].as_str().and_then(|text| text.parse().ok());
	let found: VmTag = found.unwrap_or(VmTag([0; 16]));
	match found == expected {
		true => Ok(()),
		false => Err(SourceError::TagMismatch { expected, found }),
	}
}

fn freeze(socket: &Path, options: &OpenOptions) -> Option<Frozen> {
	match guest_agent::freeze(socket, options.freeze_time_max) {
		Ok(frozen) => Some(frozen),
		Err(error) => {
			tracing::warn!(%error, "the guest agent did not freeze; the snapshot is crash-consistent");
			None
		}
	}
}

/// Find the machine's drive for each disk of the inventory, by its image.
fn find_drives(monitor: &mut Monitor, disks: &[Disk]) -> Result<Vec<Drive>, SourceError> {
	let blocks = monitor.run("query-block", json!({}))?;
	let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
	disks.iter().map(|disk| find_drive(blocks, disk)).collect()
}

fn find_drive(blocks: &[Value], disk: &Disk) -> Result<Drive, SourceError> {
	let found = blocks.iter().find_map(|block| {
		let inserted = block.get("inserted")?;
		let file = inserted["image"]["filename"].as_str()?;
		if !is_same_file(Path::new(file), &disk.image) {
			return None;
		}
		Some(Drive {
			name: disk.name.clone(),
			node: inserted["node-name"].as_str()?.to_owned(),
			device: block["qdev"].as_str()?.to_owned(),
			size_bytes: inserted["image"]["virtual-size"].as_u64()?,
		})
	});
	found.ok_or_else(|| SourceError::DiskNotFound {
		name: disk.name.clone(),
		image: disk.image.clone(),
	})
}

fn is_same_file(one: &Path, other: &Path) -> bool {
	let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
	real(one) == real(other)
}

/// Make a scratch image for each drive, in a file that has the size of its cap. The file is
/// sparse: it takes only what the guest overwrites.
fn make_scratch(drives: &[Drive], options: &OpenOptions) -> Result<Vec<PathBuf>, SourceError> {
	let folder = &options.scratch_dir;
	let free_bytes = free_bytes(folder)?;
	let needed_bytes = SCRATCH_BYTES_MIN.saturating_mul(drives.len() as u64);
	if free_bytes < needed_bytes {
		return Err(SourceError::ScratchTooSmall {
			path: folder.clone(),
			free_bytes,
			needed_bytes,
		});
	}
	let mut made = Vec::new();
	for drive in drives {
		let path = folder.join(format!("{PREFIX}{}-{}.scratch", std::process::id(), drive.name));
		let result = make_scratch_image(&path, drive.size_bytes, options.scratch_bytes_max);
		made.push(path);
		if let Err(error) = result {
			remove_files(&made);
			return Err(error);
		}
	}
	Ok(made)
}

fn make_scratch_image(path: &Path, disk_bytes: u64, cap_bytes: u64) -> Result<(), SourceError> {
	let file =
		fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
	let output = Command::new("qemu-img")
		.args(["create", "-q", "-f", "qcow2"])
		.arg(path)
		.arg(disk_bytes.to_string())
		.output()?;
	if !output.status.success() {
		let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
		return Err(io::Error::other(format!("failed to make a scratch image: {words}")).into());
	}
	file.set_len(cap_bytes)?;
	Ok(())
}

fn free_bytes(folder: &Path) -> Result<u64, SourceError> {
	let room = rustix::fs::statvfs(folder).map_err(io::Error::from)?;
	Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

fn remove_files(paths: &[PathBuf]) {
	for path in paths {
		if let Err(error) = fs::remove_file(path)
			&& error.kind() != io::ErrorKind::NotFound
		{
			tracing::warn!(%error, path = %path.display(), "failed to remove scratch");
		}
	}
}

impl LiveVm {
	/// Put the filters in place at one instant. The machine runs again in every case.
	fn filter(&mut self, drives: &[Drive], cap_bytes: u64) -> Result<(), SourceError> {
		for (index, drive) in drives.iter().enumerate() {
			let file = json!({ "driver": "file", "filename": self.scratch[index] });
			let window = json!({ "driver": "raw", "size": cap_bytes, "file": file });
			let node = scratch_node(&drive.name);
			self.monitor.run(
				"blockdev-add",
				json!({ "driver": "qcow2", "node-name": node, "discard": "unmap", "file": window }),
			)?;
		}
		let status = self.monitor.run("query-status", json!({}))?;
		let is_running = status["running"] == true;
		if is_running {
			self.monitor.run("stop", json!({}))?;
		}
		let placed = drives.iter().try_for_each(|drive| self.place_filter(drive));
		if is_running {
			self.monitor.run("cont", json!({}))?;
		}
		placed
	}

	fn place_filter(&mut self, drive: &Drive) -> Result<(), SourceError> {
		let filter = filter_node(&drive.name);
		self.monitor.run(
			"blockdev-add",
			json!({
				"driver": "copy-before-write",
				"node-name": filter,
				"file": drive.node,
				"target": scratch_node(&drive.name),
				"on-cbw-error": "break-snapshot",
				"cbw-timeout": COPY_SECONDS_MAX,
				"discard": "unmap",
			}),
		)?;
		self.monitor.run("qom-set", drive_property(&drive.device, &filter))?;
		Ok(())
	}

	/// Serve the frozen views, and open a reader on each.
	fn export(&mut self, drives: &[Drive]) -> Result<Vec<OpenDisk>, SourceError> {
		remove_files(std::slice::from_ref(&self.socket));
		self.monitor.run(
			"nbd-server-start",
			json!({ "addr": { "type": "unix", "data": { "path": self.socket } } }),
		)?;
		let mut disks = Vec::new();
		for drive in drives {
			let view = view_node(&drive.name);
			self.monitor.run(
				"blockdev-add",
				json!({
					"driver": "snapshot-access",
					"node-name": view,
					"file": filter_node(&drive.name),
					"discard": "unmap",
				}),
			)?;
			// Writable, so that what was read can be trimmed; writes themselves are refused.
			self.monitor.run(
				"block-export-add",
				json!({
					"type": "nbd",
					"id": format!("{PREFIX}{}", drive.name),
					"node-name": view,
					"name": drive.name,
					"writable": true,
				}),
			)?;
			let disk = NbdDisk::connect(&self.socket, &drive.name, AfterRead::Trim)?;
			let reader = Box::new(LiveDisk { disk });
			disks.push(OpenDisk { name: drive.name.clone(), reader });
		}
		Ok(disks)
	}

	/// Take everything away again.
	pub(super) fn close(mut self) -> Result<(), SourceError> {
		self.take_away()
	}

	fn take_away(&mut self) -> Result<(), SourceError> {
		self.is_closed = true;
		let result = clean(&mut self.monitor);
		remove_files(&self.scratch);
		remove_files(std::slice::from_ref(&self.socket));
		result
	}
}

impl Drop for LiveVm {
	fn drop(&mut self) {
		if self.is_closed {
			return;
		}
		match self.take_away() {
			// A machine that is gone has taken its nodes with it.
			Ok(()) | Err(SourceError::Vanished) => (),
			Err(error) => tracing::error!(
				%error,
				"failed to take the backup's nodes out of the machine; the next backup tries again"
			),
		}
	}
}

/// Take every node and export of ours out of a machine, whoever put it there.
///
/// The order matters: exports, views, filters out of the drives' way, filters, scratch.
pub(super) fn clean(monitor: &mut Monitor) -> Result<(), SourceError> {
	let exports = monitor.run("query-block-exports", json!({}))?;
	let ours: Vec<String> = strings(&exports, "id").filter(|id| id.starts_with(PREFIX)).collect();
	for id in &ours {
		monitor.run("block-export-del", json!({ "id": id, "mode": "hard" }))?;
	}
	let nodes = monitor.run("query-named-block-nodes", json!({ "flat": true }))?;
	let nodes: Vec<String> =
		strings(&nodes, "node-name").filter(|node| node.starts_with(PREFIX)).collect();
	if ours.is_empty() && nodes.is_empty() {
		return Ok(());
	}
	// One server a QEMU process; where it is not ours, stopping it fails and does no harm.
	let others = strings(&exports, "id").any(|id| !id.starts_with(PREFIX));
	if !others {
		let _ = monitor.run("nbd-server-stop", json!({}));
	}
	remove_nodes(monitor, &nodes, "view-")?;
	uncover_drives(monitor)?;
	remove_nodes(monitor, &nodes, "filter-")?;
	remove_nodes(monitor, &nodes, "scratch-")
}

/// The nodes of one kind, removed. An export lets go of its node a moment after its deletion
/// was acknowledged, so a busy node is tried again for a while.
fn remove_nodes(monitor: &mut Monitor, nodes: &[String], kind: &str) -> Result<(), SourceError> {
	const TRIES: usize = 100;
	let prefix = format!("{PREFIX}{kind}");
	for node in nodes.iter().filter(|node| node.starts_with(&prefix)) {
		let mut tries = 0;
		while let Err(error) = monitor.run("blockdev-del", json!({ "node-name": node })) {
			let is_busy = matches!(&error, SourceError::Refused { description, .. } if description.contains("in use") || description.contains("busy"));
			tries += 1;
			if !is_busy || tries == TRIES {
				return Err(error);
			}
			std::thread::sleep(Duration::from_millis(20));
		}
	}
	Ok(())
}

/// Put each drive that a filter of ours covers back onto the node below.
fn uncover_drives(monitor: &mut Monitor) -> Result<(), SourceError> {
	let blocks = monitor.run("query-block", json!({}))?;
	for block in blocks.as_array().map(Vec::as_slice).unwrap_or_default() {
		let node = block["inserted"]["node-name"].as_str().unwrap_or_default();
		let Some(device) = block["qdev"].as_str() else { continue };
		if !node.starts_with(&format!("{PREFIX}filter-")) {
			continue;
		}
		let below = node_below(monitor, node)?;
		monitor.run("qom-set", drive_property(device, &below))?;
	}
	Ok(())
}

/// The node that a filter of ours stands on.
fn node_below(monitor: &mut Monitor, filter: &str) -> Result<String, SourceError> {
	let graph = monitor.run("x-debug-query-block-graph", json!({}))?;
	let list = |key: &str| graph[key].as_array().cloned().unwrap_or_default();
	let id_of = |name: &str| {
		list("nodes").iter().find(|node| node["name"] == name).map(|node| node["id"].clone())
	};
	let parent = id_of(filter).unwrap_or_default();
	let child = list("edges")
		.iter()
		.find(|edge| edge["parent"] == parent && edge["name"] == "file")
		.map(|edge| edge["child"].clone());
	let name = list("nodes")
		.iter()
		.find(|node| Some(&node["id"]) == child.as_ref())
		.and_then(|node| node["name"].as_str().map(str::to_owned));
	name.ok_or_else(|| SourceError::Refused {
		command: "x-debug-query-block-graph".into(),
		description: format!("nothing stands below {filter}"),
	})
}

fn strings<'v>(list: &'v Value, key: &'v str) -> impl Iterator<Item = String> + 'v {
	list.as_array()
		.map(Vec::as_slice)
		.unwrap_or_default()
		.iter()
		.filter_map(move |entry| entry[key].as_str().map(str::to_owned))
}

fn drive_property(device: &str, node: &str) -> Value {
	json!({ "path": device, "property": "drive", "value": node })
}

fn scratch_node(disk: &str) -> String {
	format!("{PREFIX}scratch-{}", short(disk))
}

fn filter_node(disk: &str) -> String {
	format!("{PREFIX}filter-{}", short(disk))
}

fn view_node(disk: &str) -> String {
	format!("{PREFIX}view-{}", short(disk))
}

/// QEMU's node names have 31 characters at most; disks' names are made to fit.
fn short(disk: &str) -> String {
	use std::hash::{DefaultHasher, Hash, Hasher};
	if disk.len() <= 16 {
		return disk.to_owned();
	}
	let mut hasher = DefaultHasher::new();
	disk.hash(&mut hasher);
	format!("{:016x}", hasher.finish())
}

/// A frozen view. What goes wrong here is told apart by what is left of the machine: a server
/// that still answers has lost the snapshot, one that does not has gone with its machine.
struct LiveDisk {
	disk: NbdDisk,
}

impl LiveDisk {
	fn explain(error: io::Error) -> io::Error {
		let is_gone = matches!(
			error.kind(),
			io::ErrorKind::UnexpectedEof
				| io::ErrorKind::ConnectionReset
				| io::ErrorKind::BrokenPipe
		);
		match (SourceError::of(&error), is_gone) {
			(Some(_), _) => error,
			(None, true) => SourceError::Vanished.into(),
			(None, false) => match error.kind() {
				io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => error,
				_ => SourceError::ScratchFull.into(),
			},
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

	fn release(&mut self, range: Range<u64>) {
		self.disk.release(range);
	}
}
