//! What we put into a running QEMU: names, and how all of it is taken away again.
//!
//! What an agent did to a machine is written down in the machine itself, as nodes with our
//! prefix: filters and scratch, and markers for what no node shows. So whoever comes after a kill
//! finds it, and when QEMU ends it is gone with the rest.

use super::{PREFIX, pause::resume};
use crate::sources::{SourceError, guest_agent, qmp::Monitor};
use serde_json::{Value, json};
use std::{path::Path, thread, time::Duration};

/// How long a guest write may wait for its old content to be copied, in seconds.
const COPY_SECONDS_MAX: u64 = 30;

/// How often a node that is still in use is tried again, and after how long.
const BUSY_TRIES: usize = 500;
const BUSY_POLL: Duration = Duration::from_millis(20);

/// Something that we did to a machine and must undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
	/// It was stopped.
	Stopped,
	/// Its file systems were frozen.
	Frozen,
	/// Its NBD server was started.
	Server,
}

impl Marker {
	fn node(self) -> &'static str {
		match self {
			Self::Stopped => "pbk-mark-stopped",
			Self::Frozen => "pbk-mark-frozen",
			Self::Server => "pbk-mark-server",
		}
	}
}

/// Note down what is about to be done.
pub(super) fn mark(monitor: &mut Monitor, marker: Marker) -> Result<(), SourceError> {
	let node = json!({ "driver": "null-co", "node-name": marker.node(), "size": 0 });
	match monitor.run("blockdev-add", node) {
		// The guest did not thaw the last time, and the mark still stands.
		Err(SourceError::Refused { description, .. }) if description.contains("uplicate") => Ok(()),
		result => result.map(drop),
	}
}

/// Note down that it was undone.
pub(super) fn unmark(monitor: &mut Monitor, marker: Marker) -> Result<(), SourceError> {
	monitor.run("blockdev-del", json!({ "node-name": marker.node() })).map(drop)
}

/// Have an image take in what is overwritten of a disk. QEMU sees it through a window of a size.
pub(super) fn add_scratch(
	monitor: &mut Monitor,
	disk: &str,
	image: &Path,
	cap_bytes: u64,
) -> Result<(), SourceError> {
	let file = json!({ "driver": "file", "filename": image });
	let window = json!({ "driver": "raw", "size": cap_bytes, "file": file });
	let scratch = json!({
		"driver": "qcow2", "node-name": scratch_node(disk), "discard": "unmap", "file": window,
	});
	monitor.run("blockdev-add", scratch).map(drop)
}

/// Make the filter that copies what is overwritten of a disk's node into its scratch.
pub(super) fn add_filter(monitor: &mut Monitor, disk: &str, node: &str) -> Result<(), SourceError> {
	let filter = json!({
		"driver": "copy-before-write",
		"node-name": filter_node(disk),
		"file": node,
		"target": scratch_node(disk),
		"on-cbw-error": "break-snapshot",
		"cbw-timeout": COPY_SECONDS_MAX,
		"discard": "unmap",
	});
	monitor.run("blockdev-add", filter).map(drop)
}

/// Make the frozen view behind a disk's filter.
pub(super) fn add_view(monitor: &mut Monitor, disk: &str) -> Result<(), SourceError> {
	let view = json!({
		"driver": "snapshot-access",
		"node-name": view_node(disk),
		"file": filter_node(disk),
		"discard": "unmap",
	});
	monitor.run("blockdev-add", view).map(drop)
}

/// Serve a disk's view under the disk's name: writable, so that what was read can be trimmed; writes
/// themselves are refused.
pub(super) fn export_view(monitor: &mut Monitor, disk: &str) -> Result<(), SourceError> {
	let export = json!({
		"type": "nbd",
		"id": format!("{PREFIX}{disk}"),
		"node-name": view_node(disk),
		"name": disk,
		"writable": true,
	});
	monitor.run("block-export-add", export).map(drop)
}

/// Start QEMU's NBD server on a socket. It has one; one that somebody else started is theirs.
pub(super) fn start_server(monitor: &mut Monitor, socket: &Path) -> Result<(), SourceError> {
	let address = json!({ "addr": { "type": "unix", "data": { "path": socket } } });
	mark(monitor, Marker::Server)?;
	let started = monitor.run("nbd-server-start", address);
	if matches!(started, Err(SourceError::Refused { .. })) {
		unmark(monitor, Marker::Server)?;
	}
	started.map(drop)
}

/// Whether something of ours is in a machine.
pub(in crate::sources) fn has_ours(monitor: &mut Monitor) -> Result<bool, SourceError> {
	let nodes = monitor.run("query-named-block-nodes", json!({ "flat": true }))?;
	let is_any = strings(&nodes, "node-name").any(|node| node.starts_with(PREFIX));
	Ok(is_any)
}

/// Take every node and export of ours out of a machine, whoever put it there, and let it go on
/// where we stopped or froze it.
///
/// The order matters: first the guest, then exports, server, views, filters out of the drives'
/// way, filters, scratch.
pub(in crate::sources) fn clean(
	monitor: &mut Monitor,
	guest_agent: Option<&Path>,
) -> Result<(), SourceError> {
	let nodes = monitor.run("query-named-block-nodes", json!({ "flat": true }))?;
	let nodes: Vec<String> =
		strings(&nodes, "node-name").filter(|node| node.starts_with(PREFIX)).collect();
	let exports = monitor.run("query-block-exports", json!({}))?;
	let (ours, others): (Vec<String>, Vec<String>) =
		strings(&exports, "id").partition(|id| id.starts_with(PREFIX));
	let is_marked = |marker: Marker| nodes.iter().any(|node| node == marker.node());
	if is_marked(Marker::Stopped) {
		resume(monitor)?;
		unmark(monitor, Marker::Stopped)?;
	}
	// A guest that does not thaw keeps its mark, so that it is tried again, but not its filters.
	let thawed = match is_marked(Marker::Frozen) {
		true => thaw(monitor, guest_agent),
		false => Ok(()),
	};
	for id in &ours {
		monitor.run("block-export-del", json!({ "id": id, "mode": "hard" }))?;
	}
	if is_marked(Marker::Server) {
		// Somebody may have put an export beside ours; then the server is theirs now.
		if others.is_empty() {
			match monitor.run("nbd-server-stop", json!({})) {
				// One that was never started cannot be stopped, which is as well.
				Ok(_) | Err(SourceError::Refused { .. }) => (),
				Err(error) => return Err(error),
			}
		}
		unmark(monitor, Marker::Server)?;
	}
	remove_nodes(monitor, &nodes, "view-")?;
	if nodes.iter().any(|node| node.starts_with(&format!("{PREFIX}filter-"))) {
		uncover_drives(monitor)?;
	}
	remove_nodes(monitor, &nodes, "filter-")?;
	remove_nodes(monitor, &nodes, "scratch-")?;
	remove_nodes(monitor, &nodes, "size-")?;
	thawed
}

fn thaw(monitor: &mut Monitor, guest_agent: Option<&Path>) -> Result<(), SourceError> {
	if let Some(socket) = guest_agent {
		guest_agent::thaw(socket).map_err(|source| SourceError::NotThawed { source })?;
	}
	unmark(monitor, Marker::Frozen)
}

/// The nodes of one kind, removed. An export lets go of its node a moment after its deletion
/// was acknowledged, so a busy node is tried again for a while.
fn remove_nodes(monitor: &mut Monitor, nodes: &[String], kind: &str) -> Result<(), SourceError> {
	let prefix = format!("{PREFIX}{kind}");
	for node in nodes.iter().filter(|node| node.starts_with(&prefix)) {
		let mut tries = 0;
		while let Err(error) = monitor.run("blockdev-del", json!({ "node-name": node })) {
			tries += 1;
			if !is_busy(&error) || tries == BUSY_TRIES {
				return Err(error);
			}
			thread::sleep(BUSY_POLL);
		}
	}
	Ok(())
}

fn is_busy(error: &SourceError) -> bool {
	matches!(error, SourceError::Refused { description, .. }
		if description.contains("in use") || description.contains("busy"))
}

/// Put each drive that a filter of ours covers back onto the node below.
fn uncover_drives(monitor: &mut Monitor) -> Result<(), SourceError> {
	let blocks = monitor.run("query-block", json!({}))?;
	for block in list(&blocks) {
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
	let nodes = list(&graph["nodes"]);
	let parent = nodes.iter().find(|node| node["name"] == filter).map(|node| &node["id"]);
	let edge = list(&graph["edges"])
		.iter()
		.find(|edge| Some(&edge["parent"]) == parent && edge["name"] == "file");
	let child = edge.map(|edge| &edge["child"]);
	let below = nodes.iter().find(|node| Some(&node["id"]) == child);
	below.and_then(|node| node["name"].as_str()).map(str::to_owned).ok_or_else(|| {
		SourceError::Refused {
			command: "x-debug-query-block-graph".into(),
			description: format!("nothing stands below {filter}"),
		}
	})
}

pub(in crate::sources) fn list(value: &Value) -> &[Value] {
	value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn strings<'v>(value: &'v Value, key: &'v str) -> impl Iterator<Item = String> + 'v {
	list(value).iter().filter_map(move |entry| entry[key].as_str().map(str::to_owned))
}

pub(super) fn drive_property(device: &str, node: &str) -> Value {
	json!({ "path": device, "property": "drive", "value": node })
}

pub(super) fn scratch_node(disk: &str) -> String {
	format!("{PREFIX}scratch-{}", short(disk))
}

/// The node from which a disk's witness is copied.
pub(super) fn witness_node(disk: &str) -> String {
	format!("{PREFIX}size-{}", short(disk))
}

pub(super) fn filter_node(disk: &str) -> String {
	format!("{PREFIX}filter-{}", short(disk))
}

pub(super) fn view_node(disk: &str) -> String {
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
