//! A file that has no name yet.
//!
//! Whoever writes `<path>.partial` holds a lock on it, which the kernel drops when the process
//! dies. So a left-over is told from a restore that runs, and only the holder of the lock ever
//! renames or removes the file.

use std::{
	ffi::OsString,
	fs::{self, File, OpenOptions, TryLockError},
	io,
	os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
	path::{Path, PathBuf},
};

use rustix::{
	fs::{CWD, RenameFlags, renameat_with},
	io::Errno,
	process::geteuid,
};

use crate::{
	direct::DirectFile,
	targets::{TargetError, progress},
};

const SUFFIX: &str = ".partial";
const PROGRESS_SUFFIX: &str = ".progress";
/// Each attempt but the last found a left-over that was gone a moment later.
const ATTEMPTS_MAX: usize = 4;

/// A file in the making; removed when dropped, unless it was completed.
#[derive(Debug)]
pub struct PartialFile {
	file: DirectFile,
	partial: PathBuf,
	path: PathBuf,
	completed: bool,
}

impl PartialFile {
	/// Makes `<path>.partial`, empty and mode 600, in place of one that nobody writes any more.
	pub fn create(path: &Path) -> Result<Self, TargetError> {
		let partial = Self::create_or_adopt(path)?;
		partial.clear().map_err(TargetError::io(path))?;
		Ok(partial)
	}

	/// The same, but one that nobody writes any more is kept as it is.
	pub fn create_or_adopt(path: &Path) -> Result<Self, TargetError> {
		let name =
			path.file_name().ok_or_else(|| TargetError::NoFileName { path: path.to_owned() })?;
		ensure_free(path)?;
		let mut partial_name = OsString::from(name);
		partial_name.push(SUFFIX);
		let partial = path.with_file_name(partial_name);
		for _ in 0..ATTEMPTS_MAX {
			if let Some(file) = create_locked(&partial).map_err(TargetError::io(path))? {
				return Ok(Self::of(file, partial, path));
			}
			if let Some(file) = adopt_left_over(&partial).map_err(TargetError::io(path))? {
				return Ok(Self::of(file, partial, path));
			}
			if fs::symlink_metadata(&partial).is_ok() {
				break;
			}
		}
		Err(TargetError::Busy { path: path.to_owned() })
	}

	fn of(file: File, partial: PathBuf, path: &Path) -> Self {
		Self { file: file.into(), partial, path: path.to_owned(), completed: false }
	}

	/// What is written to.
	pub fn file(&self) -> &File {
		&self.file
	}

	/// Writes all bytes, past the page cache where they lie fit for it.
	pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
		self.file.write_all_at(bytes, offset)
	}

	/// Forgets what was in the file, and how far it had come.
	pub(super) fn clear(&self) -> io::Result<()> {
		// Not to come back after a power cut, beside other bytes.
		if self.remove_progress()? {
			File::open(folder(&self.path))?.sync_all()?;
		}
		self.file.set_len(0)
	}

	/// Says whether there was anything.
	fn remove_progress(&self) -> io::Result<bool> {
		progress::forget(&self.progress())
	}

	/// Where it is kept how far the file has come.
	pub(super) fn progress(&self) -> PathBuf {
		let mut path = self.partial.clone().into_os_string();
		path.push(PROGRESS_SUFFIX);
		path.into()
	}

	/// Leaves the file as it is, for another attempt.
	pub(super) fn leave(&mut self) {
		self.completed = true;
	}

	/// What it is to be called.
	pub fn path(&self) -> &Path {
		&self.path
	}

	/// What it is called as yet.
	pub fn partial(&self) -> &Path {
		&self.partial
	}

	/// Makes the file durable and gives it its name. Fails, and leaves both files, when the name
	/// was taken meanwhile. When only the last step fails, the folder's sync, the file has its
	/// name already and keeps it.
	pub fn complete(&mut self) -> io::Result<()> {
		self.file.sync_all()?;
		self.remove_progress()?;
		match rename_new(&self.partial, &self.path) {
			Ok(()) => {}
			Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
				return Err(TargetError::Exists { path: self.path.clone() }.into());
			}
			Err(error) => return Err(error),
		}
		self.completed = true;
		File::open(folder(&self.path))?.sync_all()
	}
}

impl Drop for PartialFile {
	fn drop(&mut self) {
		if self.completed {
			return;
		}
		// The lock is held until after this.
		if let Err(error) = self.remove_progress() {
			tracing::warn!(path = %self.partial.display(), %error, "a partial restore's progress stays behind");
		}
		if let Err(error) = fs::remove_file(&self.partial) {
			tracing::warn!(path = %self.partial.display(), %error, "a partial restore stays behind");
		}
	}
}

fn ensure_free(path: &Path) -> Result<(), TargetError> {
	match fs::symlink_metadata(path) {
		Ok(_) => Err(TargetError::Exists { path: path.to_owned() }),
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
		Err(source) => Err(TargetError::Io { path: path.to_owned(), source }),
	}
}

/// `None` when the file is there already, or was taken for a left-over before it was locked.
fn create_locked(partial: &Path) -> io::Result<Option<File>> {
	let created =
		OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(partial);
	let file = match created {
		Ok(file) => file,
		Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
		Err(error) => return Err(error),
	};
	Ok((try_lock(&file)? && is_at(&file, partial)?).then_some(file))
}

/// What nobody writes any more, locked. `None` when it is gone, or is none of ours.
fn adopt_left_over(partial: &Path) -> io::Result<Option<File>> {
	// Opened without following or blocking: whatever else has this name is no left-over of ours.
	let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
	let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(partial) {
		Ok(file) => file,
		Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
		Err(error) => return Err(error),
	};
	// Its writer may have given it its name since it was opened.
	let found = file.metadata()?;
	let is_free = found.is_file() && try_lock(&file)? && is_at(&file, partial)?;
	let is_ours = found.uid() == geteuid().as_raw();
	if is_free && (found.nlink() > 1 || !is_ours) {
		// With two names it was complete for a moment, and the other one stays. Another user's may
		// hold anything.
		fs::remove_file(partial)?;
		return Ok(None);
	}
	if is_free {
		file.set_permissions(fs::Permissions::from_mode(0o600))?;
	}
	Ok(is_free.then_some(file))
}

fn try_lock(file: &File) -> io::Result<bool> {
	match file.try_lock() {
		Ok(()) => Ok(true),
		Err(TryLockError::WouldBlock) => Ok(false),
		Err(TryLockError::Error(error)) => Err(error),
	}
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
	let ours = file.metadata()?;
	match fs::symlink_metadata(path) {
		Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
		Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
		Err(error) => Err(error),
	}
}

/// Renames to a name that nothing has.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
	match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
		// Some network file systems cannot; a link does not replace either.
		Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
			fs::hard_link(from, to)?;
			fs::remove_file(from)
		}
		renamed => Ok(renamed?),
	}
}

fn folder(path: &Path) -> &Path {
	match path.parent() {
		Some(parent) if !parent.as_os_str().is_empty() => parent,
		Some(_) | None => Path::new("."),
	}
}
