//! Into a snapshot's disks: their volumes and files, read without restoring anything.

use crate::{
	args::Unlock,
	commands::{blocks::WalkShown, locate::Located, restore::open},
	error::{self, CliError, exit},
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{
	nearest::nearest,
	pipeline::{Cancel, DiskView, Part},
	repositories::BlockSource,
	walk::WHOLE,
};
use backup_primitives::Cid;
use backup_volumes::{
	Area, Content, Entry, FileError, FileSystem, Kind, Layout, ReadAt, Volume, join, scan,
};
use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, sync::Arc};

/// Most files and folders that one command goes through: a damaged file system may go in circles.
const ENTRIES_MAX: u64 = 10_000_000;

/// What is done with each entry of a file system, and the path that it is handed.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], &Entry) -> Result<(), CliError>;

/// A disk of a snapshot. Blocks are fetched when they are read.
struct SnapshotDisk {
	view: DiskView<Arc<dyn BlockSource>>,
	cancel: Cancel,
}

impl ReadAt for SnapshotDisk {
	fn bytes(&self) -> u64 {
		self.view.logical_bytes()
	}

	fn read_at(&mut self, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
		let mut at = offset;
		while !buffer.is_empty() {
			if self.cancel.is_cancelled() {
				return Err(io::Error::other("interrupted"));
			}
			let part = self.view.read(at..at + buffer.len() as u64).map_err(io::Error::other)?;
			if part.is_empty() {
				return Err(io::ErrorKind::UnexpectedEof.into());
			}
			at += part.len();
			let (now, later) = buffer.split_at_mut(part.len() as usize);
			match part {
				Part::Zeros(_) => now.fill(0),
				Part::Data(chunk, range) => now.copy_from_slice(&chunk[range]),
			}
			buffer = later;
		}
		Ok(())
	}
}

/// An opened snapshot, and what is on its disks.
pub(super) struct Inside {
	pub(super) root: Cid,
	pub(super) disks: Vec<(String, Area)>,
	pub(super) layout: Layout,
	walk: WalkShown,
	cancel: Cancel,
}

impl Inside {
	pub(super) fn open(
		located: &Located,
		arguments: &Unlock,
		cancel: &Cancel,
	) -> Result<Self, CliError> {
		let (place, opened) = open(located, arguments, cancel)?;
		let (root, walk) = (located.root, WalkShown::default());
		let place = place.watched(walk.clone());
		let area = |object| {
			let view = DiskView::new(Arc::clone(&place.source), opened.geometry, object);
			Area::whole(SnapshotDisk { view, cancel: cancel.clone() })
		};
		let disks: Vec<_> =
			opened.disks.iter().map(|disk| (disk.name.clone(), area(disk))).collect();
		let cancel = cancel.clone();
		let mut inside = Self { root, disks, layout: Layout::default(), walk, cancel };
		inside.layout = scan(&inside.disks).map_err(|error| inside.explain(&error.into()))?;
		Ok(inside)
	}

	/// The file system of the volume that is meant: the one that is named, or the only one.
	pub(super) fn files(&self, volume: Option<&str>) -> Result<(&Volume, FileSystem), CliError> {
		let volume = self.choose(volume)?;
		let files = FileSystem::open(&volume.area).map_err(|error| self.explain(&error))?;
		Ok((volume, files))
	}

	fn choose(&self, name: Option<&str>) -> Result<&Volume, CliError> {
		let readable = || {
			let volumes = self.layout.volumes.iter();
			volumes.filter(|volume| volume.content == Content::Ext).collect::<Vec<_>>()
		};
		let failed = |reason: String, exit, hint| {
			Err(CliError::Snapshot { root: self.root, verb: "read", reason, exit, hint })
		};
		match (name, readable().as_slice()) {
			(Some(name), readable) => match self.layout.volume(name) {
				Some(volume) if volume.content == Content::Ext => Ok(volume),
				Some(volume) => failed(
					format!(
						"{} holds {}, and ext2, ext3 and ext4 are read",
						volume.name, volume.content
					),
					exit::UNREADABLE,
					"let other tools read it: 'backup serve-disk'",
				),
				None => failed(
					format!("it has no volume {name}, but {}", names(readable)),
					exit::USAGE,
					"see what there is with 'backup ls' without a path",
				),
			},
			(None, [only]) => Ok(only),
			(None, []) => failed(
				"no volume of it holds ext2, ext3 or ext4".into(),
				exit::UNREADABLE,
				"see what there is with 'backup ls' without a path; other tools can read it with \
				 'backup serve-disk'",
			),
			(None, several) => failed(
				format!("it has several volumes: {}", names(several)),
				exit::USAGE,
				"name one of them with --volume",
			),
		}
	}

	/// The same as [`Self::walk`], with a bar of how far it has come.
	pub(super) fn walk_shown(
		&self,
		files: &FileSystem,
		path: &[u8],
		output: Output,
		visit: Visit<'_>,
	) -> Result<(), CliError> {
		self.walk.during(Bar::walk(output), || self.walk(files, path, visit))
	}

	/// Go through an entry and all below it, each folder before what is in it. The path that
	/// `visit` is handed begins with a slash for what is below, and is empty for the entry itself.
	pub(super) fn walk(
		&self,
		files: &FileSystem,
		path: &[u8],
		visit: Visit<'_>,
	) -> Result<(), CliError> {
		let explain = |error: FileError| self.explain(&error);
		let missing = |error| self.explain_path(files, path, &error);
		let top = files.entry(path).map_err(missing)?;
		visit(b"", &top)?;
		let mut pending = match top.kind {
			Kind::Folder => vec![(Vec::new(), WHOLE)],
			Kind::File | Kind::Symlink | Kind::Special => Vec::new(),
		};
		let (mut count, mut walked) = (0, 0);
		while let Some((folder, share)) = pending.pop() {
			let entries = files.folder(&below(path, &folder)).map_err(explain)?;
			// What is below a folder is divided evenly among the folders in it.
			let folders = entries.iter().filter(|entry| entry.kind == Kind::Folder).count();
			let each = share / (folders as u64).max(1);
			for entry in entries {
				count += 1;
				if count > ENTRIES_MAX {
					return Err(self.unreadable("it has more files than any file system"));
				}
				let within = [&folder, &b"/"[..], &entry.name].concat();
				visit(&within, &entry)?;
				if entry.kind == Kind::Folder {
					pending.push((within, each));
				}
			}
			if folders == 0 {
				walked += share;
				self.walk.tell(|bar| bar.set(walked));
			}
		}
		Ok(())
	}

	pub(super) fn unreadable(&self, reason: &str) -> CliError {
		CliError::Snapshot {
			root: self.root,
			verb: "read",
			reason: reason.to_owned(),
			exit: exit::UNREADABLE,
			hint: "let other tools read it: 'backup serve-disk'",
		}
	}

	/// The same of a path that was asked for: of one that is not there, also the nearest that is.
	pub(super) fn explain_path(
		&self,
		files: &FileSystem,
		path: &[u8],
		error: &FileError,
	) -> CliError {
		let mut told = self.explain(error);
		if let (FileError::NotFound { .. }, CliError::Snapshot { reason, .. }) = (error, &mut told)
		{
			let meant = nearest_path(files, path).map(|path| words::escape(&path));
			reason.push_str(&error::meant(&meant));
		}
		told
	}

	/// What went wrong, and what would be right.
	pub(super) fn explain(&self, error: &FileError) -> CliError {
		if self.cancel.is_cancelled() {
			return CliError::Interrupted;
		}
		let (exit, hint) = match error {
			error if error.is_disk() => {
				(exit::BLOCKS, "this copy lacks blocks or is damaged: read from another one")
			}
			FileError::NotFound { .. } => {
				(exit::NOT_FOUND, "look for it with 'backup ls' and the folder's path")
			}
			FileError::IsAFolder { .. } => {
				(exit::USAGE, "list it with 'backup ls', or write it with 'backup restore-file'")
			}
			FileError::NotAFolder { .. } => (exit::USAGE, "write it with 'backup cat'"),
			FileError::Special { .. } => (exit::USAGE, "devices, sockets and pipes hold nothing"),
			FileError::BadPath { .. } => (exit::USAGE, "begin the path with a slash"),
			_ => (exit::UNREADABLE, "let other tools read it: 'backup serve-disk'"),
		};
		CliError::Snapshot { root: self.root, verb: "read", reason: error.to_string(), exit, hint }
	}
}

/// The path that was most likely meant by one that is not there: with another name in place of the first that
/// is wrong; up to that name, if below it there is nothing of the rest either.
fn nearest_path(files: &FileSystem, path: &[u8]) -> Option<Vec<u8>> {
	let mut above = b"/".to_vec();
	let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
	while let Some(part) = parts.next() {
		let here = join(&above, part);
		if files.entry(&here).is_ok() {
			above = here;
			continue;
		}
		let entries = files.folder(&above).ok()?;
		let names: Vec<_> =
			entries.iter().filter_map(|entry| str::from_utf8(&entry.name).ok()).collect();
		let name = nearest(&String::from_utf8_lossy(part), &names)?;
		let meant = join(&above, name.as_bytes());
		let whole = parts.fold(meant.clone(), |above, part| join(&above, part));
		return Some(if files.entry(&whole).is_ok() { whole } else { meant });
	}
	None
}

/// A path below another one; itself for an empty one.
pub(super) fn below(path: &[u8], within: &[u8]) -> Vec<u8> {
	match within.strip_prefix(b"/") {
		Some(within) => join(path, within),
		None => path.to_vec(),
	}
}

/// What the user gave, as file systems have it.
pub(super) fn path_bytes(path: &OsStr) -> &[u8] {
	path.as_bytes()
}

fn names(volumes: &[&Volume]) -> String {
	let names = volumes.iter().map(|volume| words::escape(volume.name.as_bytes()));
	names.collect::<Vec<_>>().join(", ")
}
