//! `backup restore`: an image from a root, a secret and blocks, without a chain.
//!
//! 1. Find the blocks: an agent's store on this machine, gateways, or a CAR file.
//! 2. Open the root with the identity, and choose the disk.
//! 3. Write the image beside its name; it gets the name when it is complete and durable.
//!
//! Whatever ends it before leaves no file: the unfinished one goes with the thread that
//! writes it, which looks for Ctrl-C between two blocks.

use crate::{
	args::{Format, Restore},
	commands::{
		blocks::{Place, bar, work},
		key::read_identity,
	},
	error::{CliError, exit},
	output::Output,
	words,
};
use age::x25519;
use backup_agent::{
	format::{Object, Root},
	pipeline::{Cancel, Progress, Restore as DiskRestore, RestoreError, RestoreTarget, open_root},
	repositories::BlockSource,
	targets::{Qcow2Target, RawTarget, TargetError, is_disk_full},
};
use backup_primitives::Cid;
use serde::Serialize;
use std::{fs, path::Path};

/// What is told of a restored image.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	request: String,
	sequence: u64,
	disk: String,
	output: String,
	format: &'static str,
	logical_bytes: u64,
	written_bytes: u64,
}

pub(crate) async fn run(restore: Restore, output: Output) -> Result<(), CliError> {
	let answer = work(move |cancel| write_image(&restore, cancel)).await?;
	output.answer(&answer, || {
		format!(
			"{} holds disk {} of request {}, snapshot {}: {}, {} written",
			answer.output,
			answer.disk,
			answer.request,
			answer.sequence,
			words::bytes(answer.logical_bytes),
			words::bytes(answer.written_bytes)
		)
	})
}

fn write_image(restore: &Restore, cancel: &Cancel) -> Result<Answer, CliError> {
	let root = restore.root;
	// Before anything is fetched for a name that is taken.
	if fs::symlink_metadata(&restore.output).is_ok() {
		return Err(CliError::FileExists { path: restore.output.clone() });
	}
	let identity = read_identity(&restore.identity)?;
	let place = Place::open(&restore.from)?;
	let (opened, disk) = open(&*place.source, root, &identity, restore.disk.as_deref())?;
	let mut target = create_target(&restore.output, restore.format)?;
	let bar = bar(Some(disk.logical_bytes));
	let on_progress = |progress: Progress| bar.set_position(progress.done_bytes);
	let work = DiskRestore {
		repository: &*place.source,
		geometry: opened.geometry,
		object: &disk,
		threads: place.threads,
		on_progress: &on_progress,
		cancel,
	};
	let written_bytes = work.run(&mut *target).map_err(|error| explain(root, &error))?;
	bar.finish_and_clear();
	Ok(Answer {
		root,
		request: opened.request.to_string(),
		sequence: opened.sequence,
		disk: disk.name,
		output: restore.output.display().to_string(),
		format: match restore.format {
			Format::Raw => "raw",
			Format::Qcow2 => "qcow2",
		},
		logical_bytes: disk.logical_bytes,
		written_bytes,
	})
}

/// The opened root, and the disk that is meant.
fn open(
	repository: &dyn BlockSource,
	cid: Cid,
	identity: &x25519::Identity,
	name: Option<&str>,
) -> Result<(Root, Object), CliError> {
	let block = open_root(repository, &cid).map_err(|error| explain(cid, &error))?;
	let root = block
		.open_with_identity(identity)
		.map_err(|error| explain(cid, &RestoreError::Root(error)))?;
	let disk = match (name, root.disks.as_slice()) {
		(Some(name), disks) => disks.iter().find(|disk| disk.name == name),
		(None, [only]) => Some(only),
		(None, _) => None,
	};
	match disk.cloned() {
		Some(disk) => Ok((root, disk)),
		None => Err(choose_disk(cid, &root)),
	}
}

fn choose_disk(root: Cid, opened: &Root) -> CliError {
	let names: Vec<_> = opened.disks.iter().map(|d| words::escape(d.name.as_bytes())).collect();
	CliError::Snapshot {
		root,
		verb: "restored",
		reason: format!("it has the disks {}", names.join(", ")),
		exit: exit::USAGE,
		hint: "name one of them with --disk",
	}
}

fn create_target(path: &Path, format: Format) -> Result<Box<dyn RestoreTarget>, CliError> {
	let made: Result<Box<dyn RestoreTarget>, TargetError> = match format {
		Format::Raw => RawTarget::create(path).map(|target| Box::new(target) as _),
		Format::Qcow2 => Qcow2Target::create(path).map(|target| Box::new(target) as _),
	};
	made.map_err(|error| create_error(path, error))
}

/// Why a file could not be made.
pub(super) fn create_error(path: &Path, error: TargetError) -> CliError {
	match error {
		TargetError::Exists { path } => CliError::FileExists { path },
		TargetError::Io { path, source } => CliError::FileWrite { path, source },
		other => CliError::FileWrite { path: path.to_owned(), source: other.into() },
	}
}

/// What went wrong, and what would be right.
fn explain(root: Cid, error: &RestoreError) -> CliError {
	let (exit, hint) = match error {
		RestoreError::NoSuchRoot { .. } => (
			exit::BLOCKS,
			"check the root, and that this place holds it; 'backup snapshots' lists roots",
		),
		error if error.is_wrong_secret() => (
			exit::KEY,
			"use the identity whose recipient was registered when the snapshot was taken",
		),
		RestoreError::Root(_) => (exit::BLOCKS, "name the root of a snapshot, not another block"),
		RestoreError::Missing { .. } => {
			(exit::BLOCKS, "restore from another copy, or an older snapshot")
		}
		RestoreError::Corrupt { .. } | RestoreError::Unusable { .. } => {
			(exit::BLOCKS, "this copy is damaged: restore from another one, or an older snapshot")
		}
		RestoreError::Repository { .. } => {
			(exit::UNREACHABLE, "check that the place with the blocks can be read")
		}
		RestoreError::Target { source, .. } if is_disk_full(source) => {
			(exit::FILE, "make room where the image is written; nothing was left there")
		}
		RestoreError::Target { .. } => {
			(exit::FILE, "check the folder of the image; nothing was left there")
		}
		RestoreError::Cancelled => return CliError::Interrupted,
		_ => (exit::UNEXPECTED, "check that the command is as new as the agent"),
	};
	CliError::Snapshot { root, verb: "restored", reason: error.to_string(), exit, hint }
}
