//! `backup restore-file`: a file or folder of a snapshot, written here.
//!
//! What is written gets its name when it is complete; what ends it before takes it away. A folder
//! is made beside its name, where nobody else can write, so nothing that a snapshot holds leads out
//! of it: links are made and never followed.

use crate::{
	args::{Global, RestoreFile},
	commands::{
		blocks::work,
		inside::{Inside, below, path_bytes},
		locate::{Located, locate_sealed},
		restore::create_error,
	},
	error::CliError,
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{pipeline::Cancel, targets::PartialFile};
use backup_primitives::Cid;
use backup_volumes::{Entry, FileSystem, Kind};
use serde::Serialize;
use std::{
	ffi::OsStr,
	fs::{self, File, Permissions},
	io::{self, Seek, SeekFrom, Write},
	os::unix::{
		ffi::OsStrExt,
		fs::{PermissionsExt, lchown, symlink},
	},
	path::{Path, PathBuf},
	time::{Duration, SystemTime},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// Everything that `chmod` sets, and what of it anybody may have.
const MODE_ALL: u16 = 0o7777;
const MODE_PLAIN: u16 = 0o777;

/// What is told of what was written.
#[derive(Debug, Default, Serialize)]
struct Answer {
	root: Option<Cid>,
	volume: String,
	path: String,
	output: String,
	files: u64,
	folders: u64,
	symlinks: u64,
	left_out: u64,
	bytes: u64,
}

pub(super) async fn run(
	arguments: RestoreFile,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	// Before anything is fetched for a name that is taken.
	if fs::symlink_metadata(&arguments.output).is_ok() {
		return Err(CliError::FileExists { path: arguments.output });
	}
	let located = locate_sealed(&arguments.unlock, global, output).await?;
	let answer = work(move |cancel| restore(&located, &arguments, output, cancel)).await?;
	output.answer(&answer, || {
		let mut text = format!(
			"{} holds {}: {}, {}, {}, {}",
			answer.output,
			answer.path,
			words::count(answer.files, "file"),
			words::count(answer.folders, "folder"),
			words::count(answer.symlinks, "symbolic link"),
			words::bytes(answer.bytes),
		);
		if answer.left_out > 0 {
			let left_out = words::count(answer.left_out, "thing");
			text.push_str(&format!("; {left_out} left out: devices, sockets, pipes"));
		}
		text
	})
}

fn restore(
	located: &Located,
	arguments: &RestoreFile,
	told: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let (path, output) = (path_bytes(&arguments.path), &arguments.output);
	let waiting = Bar::waiting(told, "the snapshot");
	let inside = Inside::open(located, &arguments.unlock, cancel)?;
	let (volume, files) = inside.files(arguments.volume.as_deref())?;
	let entry = files.entry(path).map_err(|error| inside.explain_path(&files, path, &error))?;
	let answer = Answer {
		root: Some(inside.root),
		volume: volume.name.clone(),
		path: words::escape(path),
		output: output.display().to_string(),
		..Answer::default()
	};
	drop(waiting);
	let bytes = match entry.kind {
		Kind::Folder => bytes_below(&inside, &files, path, told)?,
		Kind::File | Kind::Symlink | Kind::Special => {
			files.file(path).map_err(|error| inside.explain(&error))?.bytes()
		}
	};
	let bar = Bar::new(told, bytes);
	let mut writer = Writer { inside: &inside, files, bar, answer };
	match entry.kind {
		Kind::Folder => writer.folder(path, output)?,
		Kind::File | Kind::Symlink | Kind::Special => writer.single(path, output)?,
	}
	writer.bar.finish();
	Ok(writer.answer)
}

/// How much the files below a folder hold. Reads folders and what they say of files, not the files: little
/// against what is written after.
fn bytes_below(
	inside: &Inside,
	files: &FileSystem,
	path: &[u8],
	output: Output,
) -> Result<u64, CliError> {
	let mut bytes = 0u64;
	inside.walk_shown(files, path, output, &mut |_, entry| {
		if entry.kind == Kind::File {
			bytes = bytes.saturating_add(entry.bytes);
		}
		Ok(())
	})?;
	Ok(bytes)
}

struct Writer<'a> {
	inside: &'a Inside,
	files: FileSystem,
	bar: Bar,
	answer: Answer,
}

impl Writer<'_> {
	/// One file. A link is followed: who names one wants what it leads to.
	fn single(&mut self, path: &[u8], output: &Path) -> Result<(), CliError> {
		let mut partial =
			PartialFile::create(output).map_err(|error| create_error(output, error))?;
		let metadata = self.copy(path, partial.file(), output)?;
		let failed = |source| CliError::FileWrite { path: output.to_owned(), source };
		dress(partial.file(), partial.partial(), &metadata).map_err(failed)?;
		partial.complete().map_err(failed)
	}

	/// A folder with all below it.
	fn folder(&mut self, path: &[u8], output: &Path) -> Result<(), CliError> {
		let failed = |path: &Path, source| CliError::FileWrite { path: path.to_owned(), source };
		let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
		let parent = parent.unwrap_or(Path::new("."));
		let name = output.file_name().unwrap_or(OsStr::new("folder")).to_string_lossy();
		let made = tempfile::Builder::new().prefix(&format!(".{name}.")).tempdir_in(parent);
		let made = made.map_err(|source| failed(output, source))?;
		// Folders are dressed last, the inner ones first: some forbid writing into them.
		let mut folders: Vec<(PathBuf, Entry)> = Vec::new();
		let inside = self.inside;
		let files = self.files.clone();
		inside.walk(&files, path, &mut |within, entry| {
			let relative = within.strip_prefix(b"/").unwrap_or(within);
			let here = made.path().join(OsStr::from_bytes(relative));
			if entry.kind == Kind::Folder {
				if !within.is_empty() {
					fs::create_dir(&here).map_err(|source| failed(&here, source))?;
					self.answer.folders += 1;
				}
				folders.push((here, entry.clone()));
				return Ok(());
			}
			self.inner(&below(path, within), entry, &here)
		})?;
		for (here, entry) in folders.iter().rev() {
			let dressed = File::open(here).and_then(|folder| dress(&folder, here, entry));
			dressed.map_err(|source| failed(here, source))?;
		}
		if fs::symlink_metadata(output).is_ok() {
			return Err(CliError::FileExists { path: output.to_owned() });
		}
		fs::rename(made.path(), output).map_err(|source| failed(output, source))?;
		// It has its name, and there is nothing left to take away.
		let _ = made.keep();
		Ok(())
	}

	/// A file or link within a folder that is written.
	fn inner(&mut self, path: &[u8], entry: &Entry, here: &Path) -> Result<(), CliError> {
		let failed = |source| CliError::FileWrite { path: here.to_owned(), source };
		match entry.kind {
			Kind::Folder | Kind::Special => self.answer.left_out += 1,
			Kind::Symlink => {
				let target = self.files.link(path).map_err(|error| self.inside.explain(&error))?;
				symlink(OsStr::from_bytes(&target), here).map_err(failed)?;
				own(here, entry).map_err(failed)?;
				self.answer.symlinks += 1;
			}
			Kind::File => {
				let file = File::create_new(here).map_err(failed)?;
				self.copy(path, &file, here)?;
				dress(&file, here, entry).map_err(failed)?;
			}
		}
		Ok(())
	}

	/// Write what a file holds; zeros become holes.
	fn copy(&mut self, path: &[u8], mut to: &File, here: &Path) -> Result<Entry, CliError> {
		let explain = |error| self.inside.explain(&error);
		let failed = |source| CliError::FileWrite { path: here.to_owned(), source };
		let mut file = self.files.file(path).map_err(explain)?;
		let mut buffer = vec![0; BUFFER_BYTES];
		let mut at = 0u64;
		loop {
			let read = file.read(&mut buffer).map_err(explain)?;
			if read == 0 {
				break;
			}
			if buffer[..read].iter().any(|byte| *byte != 0) {
				let written =
					to.seek(SeekFrom::Start(at)).and_then(|_| to.write_all(&buffer[..read]));
				written.map_err(failed)?;
			}
			at += read as u64;
			self.bar.add(read as u64);
		}
		to.set_len(at).map_err(failed)?;
		self.answer.files += 1;
		self.answer.bytes += at;
		Ok(file.entry())
	}
}

/// Give a file or folder its owner, permissions and time.
fn dress(file: &File, here: &Path, entry: &Entry) -> io::Result<()> {
	let mode = match own(here, entry)? {
		true => entry.mode & MODE_ALL,
		// What runs with its owner's rights must not run with somebody else's.
		false => entry.mode & MODE_PLAIN,
	};
	file.set_permissions(Permissions::from_mode(mode.into()))?;
	match u64::try_from(entry.modified_s) {
		Ok(seconds) => file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
		// A time before 1970 is nobody's.
		Err(_) => Ok(()),
	}
}

/// Give something its owner, and say whether that was allowed.
fn own(here: &Path, entry: &Entry) -> io::Result<bool> {
	match lchown(here, Some(entry.user), Some(entry.group)) {
		Ok(()) => Ok(true),
		Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
		Err(error) => Err(error),
	}
}
