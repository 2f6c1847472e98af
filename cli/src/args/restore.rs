//! What comes out of a snapshot: images, files, disks.

use super::blocks::Unlock;
use clap::{Args, ValueEnum};
use std::{ffi::OsString, path::PathBuf};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("destination").required(true))]
pub(crate) struct Restore {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// File to write. It appears when it is complete; an existing one is never overwritten.
	#[arg(long, value_name = "FILE", group = "destination")]
	pub(crate) output: Option<PathBuf>,
	/// Block device to write instead, such as a logical volume. What is on it is lost; it must be at
	/// least as large as the disk. Stop what uses it first. A restore that was cut short goes on when
	/// it is run again.
	#[arg(long, value_name = "DEVICE", group = "destination", conflicts_with_all = ["format", "blob"])]
	pub(crate) device: Option<PathBuf>,
	/// Do not ask before a device is overwritten.
	#[arg(long, requires = "device")]
	pub(crate) yes: bool,
	/// Form of the image.
	#[arg(long, value_enum, default_value_t = Format::Raw)]
	pub(crate) format: Format,
	/// Which disk, by name; needed only if there are several.
	#[arg(long, value_name = "NAME")]
	pub(crate) disk: Option<String>,
	/// Write what belongs to the machine beside its disks, by name, such as machine.toml.
	#[arg(long, value_name = "NAME", conflicts_with_all = ["disk", "format"])]
	pub(crate) blob: Option<String>,
}

/// Form of a restored image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
	/// The disk's bytes, holes left out.
	Raw,
	/// QEMU's own format.
	Qcow2,
}

#[derive(Debug, Args)]
pub(crate) struct Drill {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// List what is below the folder too.
	#[arg(long, short, requires = "path")]
	pub(crate) recursive: bool,
	/// The folder, or a file, from the top of the file system.
	pub(crate) path: Option<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// The file, from the top of the file system.
	pub(crate) path: OsString,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreFile {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which volume, by name, such as vda1 or vg0/root; needed only if several can be read.
	#[arg(long, value_name = "NAME")]
	pub(crate) volume: Option<String>,
	/// The file or folder, from the top of the file system.
	pub(crate) path: OsString,
	/// What to write. It appears when it is complete; nothing is ever overwritten.
	#[arg(long, value_name = "PATH")]
	pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ServeDisk {
	#[command(flatten)]
	pub(crate) unlock: Unlock,
	/// Which disk, by name; all of them if not given.
	#[arg(long, value_name = "NAME")]
	pub(crate) disk: Option<String>,
	/// The socket to make. Only this user can connect to it.
	#[arg(long, value_name = "PATH")]
	pub(crate) socket: PathBuf,
}
