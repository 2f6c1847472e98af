//! Why something on a disk cannot be read.

use ext4_view::Ext4Error;
use std::io;

/// Why bytes of a disk cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
	/// The disk did not give them.
	#[error("the disk cannot be read at byte {at}: {source}")]
	Disk {
		/// Where, on the disk or on the part of it that was read.
		at: u64,
		/// What it said.
		source: io::Error,
	},
	/// They would be beyond the end.
	#[error("byte {at} is beyond the end, which is at {bytes}")]
	BeyondEnd {
		/// First byte of what was asked for.
		at: u64,
		/// How many bytes there are.
		bytes: u64,
	},
}

/// Why a file or folder cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
	/// There is none of that name.
	#[error("there is no {path}")]
	NotFound {
		/// What was looked for.
		path: String,
	},
	/// It is a folder, and a file was asked for.
	#[error("{path} is a folder")]
	IsAFolder {
		/// What was opened.
		path: String,
	},
	/// It is no folder, and a folder was asked for.
	#[error("{path} is no folder")]
	NotAFolder {
		/// What was opened.
		path: String,
	},
	/// It is a device, a socket or a pipe, which hold nothing.
	#[error("{path} is neither a file nor a folder")]
	Special {
		/// What was opened.
		path: String,
	},
	/// A path that does not begin with a slash, or cannot be one.
	#[error("'{path}' is no path from the top of the file system")]
	BadPath {
		/// What was given.
		path: String,
	},
	/// What the file system says of itself cannot be true.
	#[error("the file system is damaged: {reason}")]
	Implausible {
		/// What cannot be true.
		reason: &'static str,
	},
	/// The file system contradicts itself, or needs what this reader does not know.
	#[error("{path} cannot be read: {source}")]
	FileSystem {
		/// What was read.
		path: String,
		/// What is wrong.
		source: Ext4Error,
	},
	/// More than any folder has.
	#[error("{path} has more than {limit} entries")]
	TooMany {
		/// What was read.
		path: String,
		/// Most that are read.
		limit: usize,
	},
	/// The disk below cannot be read.
	#[error(transparent)]
	Read(#[from] ReadError),
}

impl FileError {
	/// Whether it is the disk below that cannot be read, and not what stands on it.
	pub fn is_disk(&self) -> bool {
		matches!(self, Self::Read(_) | Self::FileSystem { source: Ext4Error::Io(_), .. })
	}
}
