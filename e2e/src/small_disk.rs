//! Small file systems, which are soon full. They are tmpfs mounts, which only root can make.

use std::{
	io::{self, Write},
	path::{Path, PathBuf},
	process::Command,
};

/// A small file system over a folder. It goes when it is dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
	/// One of so many MiB; nothing, and a word why, where it may not be mounted.
	///
	/// # Errors
	///
	/// If there is no `mount`.
	pub fn over(folder: &Path, mib: usize) -> io::Result<Option<Self>> {
		let mounted = Command::new("mount")
			.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "tmpfs"])
			.arg(folder)
			.output()?;
		if mounted.status.success() {
			return Ok(Some(Self(folder.to_owned())));
		}
		let why = String::from_utf8_lossy(&mounted.stderr);
		// Not by a macro, whose words are kept from people while a test goes well.
		let words = format!("SKIPPED what needs a small disk, which only root can mount: {why}\n");
		io::stderr().write_all(words.as_bytes())?;
		Ok(None)
	}

	/// Give it room for so many MiB.
	///
	/// # Errors
	///
	/// If it stays as it is.
	pub fn grow(&self, mib: usize) -> io::Result<()> {
		let options = format!("remount,size={mib}m");
		let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status()?;
		if status.success() { Ok(()) } else { Err(io::Error::other("it stays as small as it is")) }
	}
}

impl Drop for SmallDisk {
	fn drop(&mut self) {
		let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
	}
}
