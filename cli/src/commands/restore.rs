//! `backup restore`: an image from a root, a secret and blocks, without a chain; or with one, which
//! says the root of a machine at a time.
//!
//! 1. Find the blocks: an agent's store on this machine, gateways, or a CAR file.
//! 2. Open the root with the identity, and choose the disk.
//! 3. Write the image beside its name; it gets the name when it is complete and durable.
//!
//! Whatever ends it before leaves no file, only a device half written, where the next restore goes on: the
//! unfinished file goes with the thread that writes it, which looks for Ctrl-C between two blocks.

use crate::{
	args::{Format, Global, Restore, Unlock},
	commands::{
		blocks::{Place, work},
		confirm::{confirm, ensure_person},
		key::Identities,
		locate::{Located, locate_sealed},
	},
	config::restores_folder,
	error::{CliError, exit},
	input::read_up_to,
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{
	format::{
		Object, ReadKey, Root, RootBlock, RootError,
		envelope::{ENVELOPE_BYTES_MAX, EnvelopeError, open_read_key},
	},
	pipeline::{Cancel, Progress, Restore as DiskRestore, RestoreError, RestoreTarget, open_root},
	repositories::BlockSource,
	targets::{DeviceTarget, Qcow2Target, RawTarget, TargetError, is_disk_full},
};
use backup_primitives::Cid;
use serde::Serialize;
use std::{
	fs,
	path::{Path, PathBuf},
	sync::atomic::{AtomicBool, Ordering},
};

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

pub(crate) async fn run(restore: Restore, global: &Global, output: Output) -> Result<(), CliError> {
	let place = Destination::of(&restore)?;
	let is_asked = matches!(place, Destination::Device(_)) && !restore.yes;
	if is_asked {
		ensure_person()?;
	}
	let mut located = locate_sealed(&restore.unlock, global, output).await?;
	let mut restore = restore;
	if is_asked {
		let will;
		(will, located, restore) = what_will_be(located, restore, output).await?;
		let will =
			format!("What is on {} will be overwritten with {will}.", place.path().display());
		confirm(&will, "overwrite").await?;
	}
	let answer =
		work(move |cancel| write_image(&located, &restore, &place, output, cancel)).await?;
	output.answer(&answer, || {
		format!(
			"{} holds {} of request {}, snapshot {}: {}, {} written",
			answer.output,
			answer.disk,
			answer.request,
			answer.sequence,
			words::bytes(answer.logical_bytes),
			words::bytes(answer.written_bytes)
		)
	})
}

/// The disk that a restore writes, in words.
async fn what_will_be(
	located: Located,
	restore: Restore,
	output: Output,
) -> Result<(String, Located, Restore), CliError> {
	let _bar = Bar::waiting(output, "the snapshot");
	work(move |cancel| {
		let (_, opened) = open(&located, &restore.unlock, cancel)?;
		let disk = choose(located.root, &opened, &restore)?;
		let words = format!(
			"{} of request {}, {}, as it was in snapshot {}, taken {} UTC by node {}",
			words::escape(disk.name.as_bytes()),
			opened.request,
			words::bytes(disk.logical_bytes),
			opened.sequence,
			taken_at(&opened),
			opened.node
		);
		Ok((words, located, restore))
	})
	.await
}

fn write_image(
	located: &Located,
	restore: &Restore,
	destination: &Destination,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let root = located.root;
	let waiting = Bar::waiting(output, "the snapshot");
	let (place, opened) = open(located, &restore.unlock, cancel)?;
	drop(waiting);
	let disk = choose(root, &opened, restore)?;
	let mut target = destination.open(output)?;
	let bar = Bar::new(output, disk.logical_bytes);
	let is_told = AtomicBool::new(false);
	let on_progress = |progress: Progress| {
		if progress.resumed_bytes > 0 && !is_told.swap(true, Ordering::Relaxed) {
			output.note(destination.goes_on());
		}
		bar.set(progress.done_bytes);
	};
	let work = DiskRestore {
		repository: &*place.source,
		geometry: opened.geometry,
		object: &disk,
		threads: place.threads,
		on_progress: &on_progress,
		cancel,
	};
	let written_bytes =
		work.run(&mut *target).map_err(|error| destination.explain(root, &error))?;
	bar.finish();
	Ok(Answer {
		root,
		request: opened.request.to_string(),
		sequence: opened.sequence,
		disk: disk.name,
		output: destination.path().display().to_string(),
		format: destination.format(),
		logical_bytes: disk.logical_bytes,
		written_bytes,
	})
}

/// When a snapshot was taken, in UTC.
pub(super) fn taken_at(root: &Root) -> String {
	words::time(i64::try_from(root.taken_at_ms / 1_000).unwrap_or(i64::MAX))
}

/// The place of a snapshot's blocks, and its opened root.
pub(super) fn open(
	located: &Located,
	arguments: &Unlock,
	cancel: &Cancel,
) -> Result<(Place, Root), CliError> {
	let root = located.root;
	let Unlock { which: _, identity: _, envelope, from } = arguments;
	let place = Place::open(located, from, cancel)?;
	let (block, key) = unlock(&*place.source, root, &located.identities, envelope.as_deref())?;
	let opened = block.open_with_read_key(&key).map_err(|error| explain(root, &error.into()))?;
	Ok((place, opened))
}

/// The root of a snapshot and its read key.
pub(super) fn unlock(
	source: &dyn BlockSource,
	cid: Cid,
	identities: &Identities,
	envelope: Option<&Path>,
) -> Result<(RootBlock, ReadKey), CliError> {
	let identities = identities.get()?;
	let block = open_root(source, &cid).map_err(|error| explain(cid, &error))?;
	let failed = |error: RootError| explain(cid, &error.into());
	let key = match envelope {
		None => block.read_key(identities).map_err(failed)?,
		Some(path) => {
			let opened = open_read_key(&read_envelope(path)?, identities);
			opened.map_err(|error| match error {
				EnvelopeError::WrongIdentity => failed(error.into()),
				other => CliError::BadEnvelope { path: path.to_owned(), reason: other.to_string() },
			})?
		}
	};
	Ok((block, key))
}

pub(super) fn read_envelope(path: &Path) -> Result<Vec<u8>, CliError> {
	// One byte more than any has is refused as no envelope.
	read_up_to(path, ENVELOPE_BYTES_MAX as u64)
}

/// The disk or blob that is meant.
fn choose(cid: Cid, root: &Root, restore: &Restore) -> Result<Object, CliError> {
	let named = |objects: &[Object], name: &str| -> Option<Object> {
		objects.iter().find(|object| object.name == name).cloned()
	};
	let chosen = match (&restore.blob, &restore.disk, root.disks.as_slice()) {
		(Some(blob), _, _) => named(&root.blobs, blob),
		(None, Some(disk), disks) => named(disks, disk),
		(None, None, [only]) => Some(only.clone()),
		(None, None, _) => None,
	};
	let names = |objects: &[Object]| {
		let names = objects.iter().map(|object| words::escape(object.name.as_bytes()));
		names.collect::<Vec<_>>().join(", ")
	};
	let (reason, hint) = match restore.blob {
		Some(_) => (format!("it has the blobs {}", names(&root.blobs)), "name one with --blob"),
		None => {
			(format!("it has the disks {}", names(&root.disks)), "name one of them with --disk")
		}
	};
	chosen.ok_or(CliError::Snapshot {
		root: cid,
		verb: "restored",
		reason,
		exit: exit::USAGE,
		hint,
	})
}

/// Where a disk goes.
enum Destination {
	File(PathBuf, Format),
	Device(PathBuf),
}

impl Destination {
	/// What the arguments say. A file's name is looked at before anything is fetched for one that is
	/// taken.
	fn of(restore: &Restore) -> Result<Self, CliError> {
		match (&restore.output, &restore.device) {
			(_, Some(device)) => Ok(Self::Device(device.clone())),
			(Some(path), None) if fs::symlink_metadata(path).is_ok() => {
				Err(CliError::FileExists { path: path.clone() })
			}
			(Some(path), None) => Ok(Self::File(path.clone(), restore.format)),
			(None, None) => unreachable!("clap asks for one of them"),
		}
	}

	fn path(&self) -> &Path {
		let (Self::File(path, _) | Self::Device(path)) = self;
		path
	}

	fn format(&self) -> &'static str {
		match self {
			Self::File(_, Format::Raw) | Self::Device(_) => "raw",
			Self::File(_, Format::Qcow2) => "qcow2",
		}
	}

	/// What is told of a restore that goes on with another that was cut short.
	fn goes_on(&self) -> &'static str {
		match self {
			Self::File(..) => "going on where an earlier restore was",
			Self::Device(_) => {
				"going on where an earlier restore was; what it wrote is compared first"
			}
		}
	}

	/// What went wrong, and what became of the place.
	fn explain(&self, root: Cid, error: &RestoreError) -> CliError {
		match self {
			Self::File(..) => explain(root, error),
			Self::Device(path) => CliError::DeviceUnfinished {
				path: path.clone(),
				reason: error.to_string(),
				exit: match error {
					RestoreError::Cancelled => exit::INTERRUPTED,
					RestoreError::Target { .. } => exit::FILE,
					_ => exit::BLOCKS,
				},
			},
		}
	}

	fn open(&self, output: Output) -> Result<Box<dyn RestoreTarget>, CliError> {
		let made: Result<Box<dyn RestoreTarget>, TargetError> = match self {
			Self::File(path, Format::Raw) => {
				RawTarget::create(path).map(|target| Box::new(target) as _)
			}
			Self::File(path, Format::Qcow2) => {
				Qcow2Target::create(path).map(|target| Box::new(target) as _)
			}
			Self::Device(path) => DeviceTarget::open(path).map(|mut target| {
				remember(&mut target, output);
				Box::new(target) as _
			}),
		};
		made.map_err(|error| create_error(self.path(), error))
	}
}

/// Has it kept how far a device is, where that can be.
fn remember(target: &mut DeviceTarget, output: Output) {
	let kept = match restores_folder() {
		Some(folder) => target.remember_in(&folder).map_err(|error| error.to_string()),
		None => Err("neither XDG_STATE_HOME nor HOME is set".to_owned()),
	};
	if let Err(why) = kept {
		output.note(format_args!(
			"if this restore ends early the next one begins anew: how far it is cannot be kept: {why}"
		));
	}
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
pub(super) fn explain(root: Cid, error: &RestoreError) -> CliError {
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
			(exit::FILE, "make room where the image is written; no file was left there")
		}
		RestoreError::Target { .. } => (
			exit::FILE,
			"check the folder or the device that is written to; no file was left there",
		),
		RestoreError::Cancelled => return CliError::Interrupted,
		_ => (exit::UNEXPECTED, "check that the command is as new as the agent"),
	};
	CliError::Snapshot { root, verb: "restored", reason: error.to_string(), exit, hint }
}
