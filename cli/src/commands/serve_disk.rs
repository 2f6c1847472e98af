//! `backup serve-disk`: the disks of a snapshot as NBD exports, for reading only.

use crate::{
	args::{Global, ServeDisk},
	commands::{
		blocks::work,
		locate::{Located, locate_sealed},
		restore::open,
	},
	error::{CliError, exit},
	interrupt::Interrupt,
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{
	nbd::{NbdServer, ServedDisk},
	pipeline::Cancel,
};
use backup_primitives::Cid;
use serde::Serialize;
use std::{path::Path, sync::Arc};

/// What is told of what is served.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	socket: String,
	disks: Vec<Disk>,
}

#[derive(Debug, Serialize)]
struct Disk {
	name: String,
	bytes: u64,
	url: String,
}

/// Serve until the command is told to end.
pub(super) async fn run(
	arguments: ServeDisk,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	let mut interrupt = Interrupt::listen()?;
	let (server, answer) = tokio::select! {
		started = begin(arguments, global, output) => started?,
		() = interrupt.told() => return Err(CliError::Interrupted),
	};
	output.answer(&answer, || {
		let lines = answer.disks.iter().map(|disk| {
			format!("serving {} ({}) at {}", disk.name, words::bytes(disk.bytes), disk.url)
		});
		lines.collect::<Vec<_>>().join("\n")
	})?;
	output.note("Ctrl-C ends it");
	interrupt.told().await;
	drop(server);
	Ok(())
}

async fn begin(
	arguments: ServeDisk,
	global: &Global,
	output: Output,
) -> Result<(NbdServer, Answer), CliError> {
	let located = locate_sealed(&arguments.unlock, global, output).await?;
	let _bar = Bar::waiting(output, "the snapshot");
	work(move |_| start(&located, &arguments)).await
}

fn start(located: &Located, arguments: &ServeDisk) -> Result<(NbdServer, Answer), CliError> {
	let root = located.root;
	let ServeDisk { unlock, disk, socket } = arguments;
	let (place, opened) = open(located, unlock, &Cancel::new())?;
	let names = || {
		let names = opened.disks.iter().map(|disk| words::escape(disk.name.as_bytes()));
		names.collect::<Vec<_>>().join(", ")
	};
	let is_meant = |name: &str| disk.as_deref().is_none_or(|meant| meant == name);
	let served: Vec<ServedDisk> = opened
		.disks
		.iter()
		.filter(|disk| is_meant(&disk.name))
		.map(|disk| ServedDisk {
			name: disk.name.clone(),
			repository: Arc::clone(&place.source),
			geometry: opened.geometry,
			object: disk.clone(),
		})
		.collect();
	if served.is_empty() {
		return Err(CliError::Snapshot {
			root,
			verb: "served",
			reason: format!("it has the disks {}", names()),
			exit: exit::USAGE,
			hint: "name one of them with --disk, or none to serve all",
		});
	}
	let disks = served.iter().map(|disk| Disk {
		name: words::escape(disk.name.as_bytes()),
		bytes: disk.object.logical_bytes,
		url: url(&disk.name, socket),
	});
	let answer = Answer { root, socket: socket.display().to_string(), disks: disks.collect() };
	let server = NbdServer::start(socket, served)
		.map_err(|source| CliError::FileWrite { path: socket.clone(), source })?;
	Ok((server, answer))
}

/// The address of an export, as NBD's own standard writes it.
fn url(disk: &str, socket: &Path) -> String {
	format!("nbd+unix:///{}?socket={}", words::escape(disk.as_bytes()), socket.display())
}
