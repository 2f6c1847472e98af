//! The files of a store, behind traits that a simulated disk implements too.

use crate::{direct::DirectFile, disk};
use redb::{StorageBackend, backends::FileBackend};
use std::{
	fmt::Debug,
	fs::{self, File, OpenOptions},
	io,
	os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
	path::{Path, PathBuf},
	sync::Arc,
};

/// The folder of a store.
pub(crate) trait Files: Debug + Send + Sync {
	/// Makes a file that is not there yet.
	fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>>;
	fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>>;
	/// The names of all files.
	fn list(&self) -> io::Result<Vec<String>>;
	fn remove(&self, name: &str) -> io::Result<()>;
	/// Gives a file another name, in place of the file that had it.
	fn rename(&self, from: &str, to: &str) -> io::Result<()>;
	/// Makes creations, removals and renames durable.
	fn sync_folder(&self) -> io::Result<()>;
	/// Opens the index, or makes an empty one.
	fn index(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;
	/// Bytes that can still be written.
	fn available_bytes(&self) -> io::Result<u64>;
}

/// One file of a store.
pub(crate) trait StoreFile: Debug + Send + Sync {
	fn len(&self) -> io::Result<u64>;
	fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
	fn set_len(&self, len: u64) -> io::Result<()>;
	fn sync(&self) -> io::Result<()>;
	/// Gives the space of a range back. It reads as zeros afterwards, or as before where the
	/// file system has no holes.
	fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// A folder of the real file system. Nobody but its user can read it.
#[derive(Debug)]
pub(crate) struct DiskFiles {
	folder: PathBuf,
	/// Holds the lock; released when the store is dropped or its process dies.
	_lock: File,
}

const LOCK_FILE: &str = "lock";

impl DiskFiles {
	/// Opens the folder, or makes it. `None` if another process has it open.
	pub(crate) fn open(folder: &Path) -> io::Result<Option<Self>> {
		fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
		let lock = options().create(true).open(folder.join(LOCK_FILE))?;
		match lock.try_lock() {
			Ok(()) => Ok(Some(Self { folder: folder.to_owned(), _lock: lock })),
			Err(fs::TryLockError::WouldBlock) => Ok(None),
			Err(fs::TryLockError::Error(error)) => Err(error),
		}
	}
}

fn options() -> OpenOptions {
	let mut options = OpenOptions::new();
	options.read(true).write(true).truncate(false).mode(0o600);
	options
}

impl Files for DiskFiles {
	fn create(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
		Ok(Arc::new(DirectFile::from(options().create_new(true).open(self.folder.join(name))?)))
	}

	fn open(&self, name: &str) -> io::Result<Arc<dyn StoreFile>> {
		Ok(Arc::new(DirectFile::from(options().open(self.folder.join(name))?)))
	}

	fn list(&self) -> io::Result<Vec<String>> {
		let mut names = Vec::new();
		for entry in fs::read_dir(&self.folder)? {
			// What is not UTF-8 is not ours.
			names.extend(entry?.file_name().into_string().ok());
		}
		Ok(names)
	}

	fn remove(&self, name: &str) -> io::Result<()> {
		fs::remove_file(self.folder.join(name))
	}

	fn rename(&self, from: &str, to: &str) -> io::Result<()> {
		fs::rename(self.folder.join(from), self.folder.join(to))
	}

	fn sync_folder(&self) -> io::Result<()> {
		File::open(&self.folder)?.sync_all()
	}

	fn index(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
		let file = options().create(true).open(self.folder.join(name))?;
		let backend = FileBackend::new(file).map_err(io::Error::other)?;
		Ok(Box::new(backend))
	}

	fn available_bytes(&self) -> io::Result<u64> {
		disk::available_bytes(&self.folder)
	}
}

impl StoreFile for DirectFile {
	fn len(&self) -> io::Result<u64> {
		Ok(self.metadata()?.len())
	}

	fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.read_exact_at(buffer, offset)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.write_all_at(bytes, offset)
	}

	fn set_len(&self, len: u64) -> io::Result<()> {
		File::set_len(self, len)
	}

	fn sync(&self) -> io::Result<()> {
		self.sync_data()
	}

	fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
		use rustix::{
			fs::{FallocateFlags, fallocate},
			io::Errno,
		};
		let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
		match fallocate(&**self, flags, offset, len) {
			// Without holes the space comes back when the whole pack goes.
			Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
			Err(error) => Err(error.into()),
		}
	}
}
