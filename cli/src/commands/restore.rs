//! `backup restore`: an image from a root, a secret and blocks, without a chain.
//!
//! 1. Find the blocks: an agent's store on this machine, or gateways.
//! 2. Open the root with the identity, and choose the disk.
//! 3. Write the image beside its name; it gets the name when it is complete and durable.
//!
//! Whatever ends it before leaves no file: the unfinished one goes with the thread that
//! writes it, which looks for Ctrl-C between two blocks.

mod gateway;

use crate::{
	args::{Format, Restore},
	commands::key::read_identity,
	error::{CliError, exit},
	output::Output,
	words,
};
use age::x25519;
use backup_agent::{
	format::{Object, Root},
	pipeline::{Cancel, Progress, Restore as DiskRestore, RestoreError, RestoreTarget, open_root},
	repositories::{EmbeddedStore, Repository, RepositoryError, StoreOptions},
	targets::{Qcow2Target, RawTarget, TargetError, is_disk_full},
};
use backup_primitives::Cid;
use gateway::Gateways;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::{
	fs,
	io::{self, IsTerminal},
	num::NonZero,
	path::Path,
	thread,
};

/// Threads that fetch from gateways, where most of the time is waiting.
const GATEWAY_THREADS: usize = 8;

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
	let cancel = CancelOnDrop(Cancel::new());
	let switch = cancel.0.clone();
	let work = tokio::task::spawn_blocking(move || write_image(&restore, &switch));
	let answer = work.await.map_err(|error| CliError::Runtime { source: error.into() })??;
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

/// Tells the thread that writes to end, when nobody waits for it any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
	fn drop(&mut self) {
		self.0.cancel();
	}
}

fn write_image(restore: &Restore, cancel: &Cancel) -> Result<Answer, CliError> {
	let root = restore.root;
	// Before anything is fetched for a name that is taken.
	if fs::symlink_metadata(&restore.output).is_ok() {
		return Err(CliError::FileExists { path: restore.output.clone() });
	}
	let identity = read_identity(&restore.identity)?;
	let place = Place::open(restore)?;
	let (opened, disk) = open(&*place.repository, root, &identity, restore.disk.as_deref())?;
	let mut target = create_target(&restore.output, restore.format)?;
	let bar = bar(disk.logical_bytes);
	let on_progress = |progress: Progress| bar.set_position(progress.done_bytes);
	let work = DiskRestore {
		repository: &*place.repository,
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

/// Where blocks come from.
struct Place {
	repository: Box<dyn Repository>,
	threads: NonZero<usize>,
}

impl Place {
	fn open(restore: &Restore) -> Result<Self, CliError> {
		match &restore.store {
			Some(folder) => Self::store(restore.root, folder),
			None => Ok(Self {
				repository: Box::new(Gateways::new(&restore.gateway)?),
				threads: NonZero::new(GATEWAY_THREADS).expect("the constant is not zero"),
			}),
		}
	}

	/// A store that is there: opening a folder that is none would make one in it.
	fn store(root: Cid, folder: &Path) -> Result<Self, CliError> {
		let fail =
			|reason: String, hint| CliError::Restore { root, reason, exit: exit::FILE, hint };
		let is_pack = |entry: fs::DirEntry| {
			entry.path().extension().is_some_and(|extension| extension == "pack")
		};
		let mut entries = fs::read_dir(folder)
			.map_err(|source| CliError::FileRead { path: folder.to_owned(), source })?;
		if !entries.any(|entry| entry.is_ok_and(is_pack)) {
			let reason = format!("{} holds no block store", folder.display());
			return Err(fail(reason, "name the folder with the files *.pack, of a stopped agent"));
		}
		let store = EmbeddedStore::open(folder, StoreOptions::V1).map_err(|error| match error {
			RepositoryError::InUse { .. } => fail(
				error.to_string(),
				"its agent runs: use --gateway with the agent's address, or stop it",
			),
			other => fail(other.to_string(), "check the folder, its permissions and free space"),
		})?;
		let threads = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
		Ok(Self { repository: Box::new(store), threads })
	}
}

/// The opened root, and the disk that is meant.
fn open(
	repository: &dyn Repository,
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
	CliError::Restore {
		root,
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
	made.map_err(|error| match error {
		TargetError::Exists { path } => CliError::FileExists { path },
		TargetError::Io { path, source } => CliError::FileWrite { path, source },
		other => CliError::FileWrite { path: path.to_owned(), source: other.into() },
	})
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
	CliError::Restore { root, reason: error.to_string(), exit, hint }
}

/// Shown to people only: on a terminal, on standard error.
fn bar(total_bytes: u64) -> ProgressBar {
	if !io::stderr().is_terminal() {
		return ProgressBar::hidden();
	}
	let template = "{bar:40} {percent:>3}% {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
	let style = ProgressStyle::with_template(template).expect("the template is a constant");
	ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr()).with_style(style)
}
