//! Files and folders of one file system: ext2, ext3 and ext4, with what waits in their journal.
//!
//! A snapshot of a running machine is as after a power cut; what its journal holds counts as
//! written, as it would on mounting.

use crate::{Area, FileError, ReadError};
use ext4_view::{Ext4, Ext4Error, Ext4Read, File, FileType, Metadata, Path};
use std::error::Error;

/// Most entries of one folder that are read.
const FOLDER_ENTRIES_MAX: usize = 10_000_000;

/// Largest blocks that Linux makes: 64 KiB, as the shift by which 1 KiB is multiplied.
const BLOCK_SHIFT_MAX: u32 = 6;

/// Fewest blocks of a group that the tools make.
const GROUP_BLOCKS_MIN: u32 = 256;

/// Most groups of blocks that are read; with groups of the usual 128 MiB that is 512 TiB.
const GROUPS_MAX: u64 = 1 << 22;

/// What kind of thing an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
	/// A file.
	File,
	/// A folder.
	Folder,
	/// A symbolic link.
	Symlink,
	/// A device, a socket or a pipe.
	Special,
}

/// A file, a folder, or another thing of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
	/// Its own name, without the folder's. Any bytes but slashes and zeros.
	pub name: Vec<u8>,
	/// What it is.
	pub kind: Kind,
	/// Permissions, as in `chmod`: the lower twelve bits.
	pub mode: u16,
	/// Number of its owner.
	pub user: u32,
	/// Number of its group.
	pub group: u32,
	/// Length of a file; of others what the file system says.
	pub bytes: u64,
	/// When its content changed last, in seconds since 1970.
	pub modified_s: i64,
}

impl Entry {
	fn new(name: Vec<u8>, metadata: &Metadata) -> Self {
		Self {
			name,
			kind: match metadata.file_type() {
				FileType::Regular => Kind::File,
				FileType::Directory => Kind::Folder,
				FileType::Symlink => Kind::Symlink,
				FileType::BlockDevice
				| FileType::CharacterDevice
				| FileType::Fifo
				| FileType::Socket => Kind::Special,
			},
			mode: metadata.mode(),
			user: metadata.uid(),
			group: metadata.gid(),
			bytes: metadata.len(),
			modified_s: metadata.modified().seconds(),
		}
	}
}

/// An opened file system.
#[derive(Clone, Debug)]
pub struct FileSystem(Ext4);

impl FileSystem {
	/// Open the file system of an area.
	///
	/// # Errors
	/// Fails when there is none that can be read, and when the disk cannot be read.
	pub fn open(area: &Area) -> Result<Self, FileError> {
		check(area)?;
		Ext4::load(Box::new(Reader(area.clone()))).map(Self).map_err(|error| failed(b"/", error))
	}

	/// What stands at a path. Symbolic links on the way are followed, the last one is not.
	///
	/// # Errors
	/// Fails when there is nothing, or it cannot be read.
	pub fn entry(&self, path: &[u8]) -> Result<Entry, FileError> {
		let metadata = self.0.symlink_metadata(checked(path)?);
		Ok(Entry::new(last(path), &metadata.map_err(|error| failed(path, error))?))
	}

	/// The entries of a folder, in the order of their names, without itself and the one above.
	/// Symbolic links are followed.
	///
	/// # Errors
	/// Fails when it is no folder, or cannot be read.
	pub fn folder(&self, path: &[u8]) -> Result<Vec<Entry>, FileError> {
		let entries = self.0.read_dir(checked(path)?).map_err(|error| failed(path, error))?;
		let mut list = Vec::new();
		for entry in entries {
			let entry = entry.map_err(|error| failed(path, error))?;
			let name = entry.file_name().as_ref().to_vec();
			if matches!(name.as_slice(), b"." | b"..") {
				continue;
			}
			if list.len() == FOLDER_ENTRIES_MAX {
				return Err(FileError::TooMany { path: shown(path), limit: FOLDER_ENTRIES_MAX });
			}
			let metadata = entry.metadata().map_err(|error| failed(&join(path, &name), error))?;
			list.push(Entry::new(name, &metadata));
		}
		list.sort_by(|one, other| one.name.cmp(&other.name));
		Ok(list)
	}

	/// Where a symbolic link leads.
	///
	/// # Errors
	/// Fails when it is none, or cannot be read.
	pub fn link(&self, path: &[u8]) -> Result<Vec<u8>, FileError> {
		let target = self.0.read_link(checked(path)?).map_err(|error| failed(path, error))?;
		Ok(target.as_ref().to_vec())
	}

	/// A file, to be read from its first byte to its last. Symbolic links are followed.
	///
	/// # Errors
	/// Fails when it is no file, or cannot be read.
	pub fn file(&self, path: &[u8]) -> Result<OpenFile, FileError> {
		let file = self.0.open(checked(path)?).map_err(|error| failed(path, error))?;
		Ok(OpenFile { file, path: path.to_vec() })
	}
}

/// A file that is read from its first byte to its last.
#[derive(Debug)]
pub struct OpenFile {
	file: File,
	path: Vec<u8>,
}

impl OpenFile {
	/// How long it is.
	pub fn bytes(&self) -> u64 {
		self.file.metadata().len()
	}

	/// What it is, under the name of the path that it was opened by.
	pub fn entry(&self) -> Entry {
		Entry::new(last(&self.path), self.file.metadata())
	}

	/// Fill a buffer with what comes next, and say how much there was: less than the buffer holds
	/// only at the end.
	///
	/// # Errors
	/// Fails when it cannot be read.
	pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, FileError> {
		let mut filled = 0;
		while filled < buffer.len() {
			let read = self.file.read_bytes(&mut buffer[filled..]);
			match read.map_err(|error| failed(&self.path, error))? {
				0 => break,
				read => filled += read,
			}
		}
		Ok(filled)
	}
}

/// The last part of a path.
fn last(path: &[u8]) -> Vec<u8> {
	let mut parts = path.rsplit(|byte| *byte == b'/');
	parts.find(|part| !part.is_empty()).unwrap_or(b"/").to_vec()
}

/// A path within a folder.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
	let separator: &[u8] = if folder.ends_with(b"/") { b"" } else { b"/" };
	[folder, separator, name].concat()
}

/// Refuse what would have the reader make room for more than any file system has.
fn check(area: &Area) -> Result<(), FileError> {
	let implausible = |reason| Err(FileError::Implausible { reason });
	let block = area.peek(1024, 1024)?;
	if block.len() < 1024 || block[0x38..0x3a] != [0x53, 0xef] {
		return implausible("it does not begin as one of the ext family");
	}
	let number = |at: usize| {
		let field: [u8; 4] = block[at..at + 4].try_into().expect("the block is long enough");
		u32::from_le_bytes(field)
	};
	let (shift, group_blocks) = (number(0x18), number(0x20));
	if shift > BLOCK_SHIFT_MAX {
		return implausible("its blocks are larger than any");
	}
	let has_high_half = number(0x60) & 0x80 != 0;
	let high = if has_high_half { u64::from(number(0x150)) } else { 0 };
	let blocks = high << 32 | u64::from(number(0x4));
	if blocks.checked_mul(1024 << shift).is_none_or(|bytes| bytes > area.bytes()) {
		return implausible("it is larger than the volume that it is on");
	}
	if group_blocks < GROUP_BLOCKS_MIN || blocks / u64::from(group_blocks) > GROUPS_MAX {
		return implausible("it has more groups of blocks than any");
	}
	Ok(())
}

/// What the reader of the file system reads from.
struct Reader(Area);

impl Ext4Read for Reader {
	fn read(
		&mut self,
		start_byte: u64,
		buffer: &mut [u8],
	) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
		Ok(self.0.read(start_byte, buffer)?)
	}
}

fn checked(path: &[u8]) -> Result<Path<'_>, FileError> {
	let bad = || FileError::BadPath { path: shown(path) };
	Path::try_from(path).ok().filter(|path| path.is_absolute()).ok_or_else(bad)
}

fn failed(path: &[u8], error: Ext4Error) -> FileError {
	let path = shown(path);
	match error {
		Ext4Error::NotFound => FileError::NotFound { path },
		Ext4Error::IsADirectory => FileError::IsAFolder { path },
		Ext4Error::NotADirectory => FileError::NotAFolder { path },
		Ext4Error::IsASpecialFile => FileError::Special { path },
		Ext4Error::NotAbsolute | Ext4Error::MalformedPath | Ext4Error::PathTooLong => {
			FileError::BadPath { path }
		}
		Ext4Error::Io(source) => match source.downcast::<ReadError>() {
			Ok(error) => FileError::Read(*error),
			Err(source) => FileError::FileSystem { path, source: Ext4Error::Io(source) },
		},
		source => FileError::FileSystem { path, source },
	}
}

fn shown(path: &[u8]) -> String {
	String::from_utf8_lossy(path).escape_debug().to_string()
}
