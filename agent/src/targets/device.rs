//! A block device: a partition, a logical volume, a whole disk.
//!
//! It has its name already, so what is on it is lost when the restore begins, and an attempt that
//! ends early leaves it half written. The next attempt goes on, if it was told where to
//! [remember](DeviceTarget::remember_in) how far it is: a device has no file beside it.
//!
//! What is remembered is not believed. Between two attempts somebody else may have written to the
//! device, a machine may have started from it, or the path may name another one: no name, number or
//! size tells. So [digests] of what was written are kept, the device is read, and the restore goes on
//! where it differs first. Reading takes no longer than writing did, and nothing is fetched. Whatever
//! the device is, what is not written again is as it has to be. What comes behind is cleared again,
//! since anything can be there.
//!
//! So a note that is torn, lost, old or of another device costs time and nothing else, and its file
//! need not be durable. Who can write to it can write to the device, too: it is this user's alone.

use std::{
	fs::{self, OpenOptions},
	io::{self, Seek, SeekFrom},
	num::NonZero,
	os::unix::{
		ffi::OsStrExt,
		fs::{FileExt, FileTypeExt, OpenOptionsExt},
	},
	path::{Path, PathBuf},
	sync::{Mutex, MutexGuard, PoisonError},
	time::Duration,
};

use backup_primitives::Cid;
use rustix::{
	fs::{Advice, FallocateFlags, FlockOperation, fadvise, fallocate, fcntl_lock, ioctl_blksszget},
	io::Errno,
};

use crate::{
	direct::{AlignedBytes, DirectFile},
	pipeline::source::{OnFound, RestoreTarget},
	targets::{
		KEEP_EVERY, Resumption, Stage, TargetError,
		digests::{self, Digest, Digests, PIECE_BYTES, STRETCH_BYTES},
		progress::{self, Needs, Progress},
	},
};

/// How much of a device is cleared at once.
const CLEARED_BYTES: usize = 8 << 20;

/// How much of a device is read at once to see what an earlier attempt has written.
const READ_BYTES: usize = 1 << 20;

/// Restores a disk to a block device that is at least as large.
#[derive(Debug)]
pub struct DeviceTarget {
	device: DirectFile,
	device_bytes: u64,
	path: PathBuf,
	stage: Stage,
	resumption: Resumption,
	memory: Option<Memory>,
	/// What an earlier attempt has written and is there.
	found_bytes: u64,
}

/// What is kept for an attempt that goes on.
#[derive(Debug)]
struct Memory {
	progress: PathBuf,
	digests: Mutex<Digests>,
}

impl Memory {
	fn digests(&self) -> MutexGuard<'_, Digests> {
		self.digests.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

impl DeviceTarget {
	/// Opens the device for this restore alone. Nothing is written before it is told the size.
	///
	/// # Errors
	/// Fails when the path names no block device, when this machine has mounted it or built anything
	/// on it, and when a QEMU holds its locks on it. One that was started without locks, or that sees
	/// another `/dev`, is not noticed.
	pub fn open(path: &Path) -> Result<Self, TargetError> {
		let failed = TargetError::io(path);
		let open = || -> io::Result<Option<Self>> {
			// Of a block device, "exclusive" means that no file system and no other device is on it.
			let flags = libc::O_EXCL | libc::O_NONBLOCK;
			if !fs::metadata(path)?.file_type().is_block_device() {
				return Ok(None);
			}
			let mut options = OpenOptions::new();
			let mut device = options.read(true).write(true).custom_flags(flags).open(path)?;
			if !device.metadata()?.file_type().is_block_device() {
				return Ok(None);
			}
			// A QEMU has no device "exclusively", and locks some bytes of it instead.
			fcntl_lock(&device, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
				match error {
					Errno::AGAIN | Errno::ACCESS => io::ErrorKind::ResourceBusy.into(),
					other => io::Error::from(other),
				}
			})?;
			let device_bytes = device.seek(SeekFrom::End(0))?;
			Ok(Some(Self {
				device: device.into(),
				device_bytes,
				path: std::path::absolute(path)?,
				stage: Stage::Made,
				resumption: Resumption::default(),
				memory: None,
				found_bytes: 0,
			}))
		};
		match open() {
			Ok(Some(target)) => Ok(target),
			Ok(None) => Err(TargetError::NoDevice { path: path.to_owned() }),
			Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
				Err(TargetError::DeviceInUse { path: path.to_owned() })
			}
			Err(error) => Err(failed(error)),
		}
	}

	/// How much the device holds.
	#[must_use]
	pub fn device_bytes(&self) -> u64 {
		self.device_bytes
	}

	/// Keeps in a folder how far it is, about every second and as long as it is not complete: in one
	/// file of up to half a MiB for each TiB, by the device's path. The next restore of the same content
	/// to this path goes on there. The folder is made if it is not there, for this user only.
	///
	/// # Errors
	/// Fails when the folder cannot be made, or is another user's, who could put anything there. Nothing
	/// is made in another user's folder either, where it would be in the way.
	pub fn remember_in(&mut self, folder: &Path) -> io::Result<()> {
		progress::make_folder(folder)?;
		let name = blake3::hash(self.path.as_os_str().as_bytes()).to_hex();
		let progress = folder.join(name.as_str());
		self.memory = Some(Memory { progress, digests: Mutex::default() });
		Ok(())
	}

	/// How much is on the device of what these digests are of, from the beginning on. What cannot be
	/// read is not there: it is written again, and that tells more.
	fn find(
		&self,
		memory: &Memory,
		done_bytes: u64,
		kept: &[Digest],
		on_found: OnFound<'_>,
	) -> io::Result<u64> {
		let mut bytes = AlignedBytes::new(READ_BYTES);
		let mut digests = memory.digests();
		let mut found_bytes = 0;
		// The device is asked, not what the page cache had of it.
		fadvise(&*self.device, 0, NonZero::new(done_bytes), Advice::DontNeed)?;
		for (stretch, kept) in kept.iter().enumerate() {
			let end = (found_bytes + STRETCH_BYTES).min(done_bytes);
			let mut is_read = true;
			for begin in (found_bytes..end).step_by(READ_BYTES) {
				on_found(found_bytes)?;
				let piece = &mut bytes[..(end - begin).min(READ_BYTES as u64) as usize];
				is_read = self.device.read_exact_at(piece, begin).is_ok();
				if !is_read {
					break;
				}
				digests.add(begin, digests::pieces(begin, piece));
			}
			if !is_read || digests.last(end) != Some(*kept) {
				digests.truncate(stretch);
				break;
			}
			// Nobody reads it again, and others need the cache.
			fadvise(&*self.device, found_bytes, NonZero::new(end - found_bytes), Advice::DontNeed)?;
			found_bytes = end;
		}
		Ok(found_bytes)
	}

	/// Makes all that the disk will cover from here on read as zeros, piece by piece: by giving the
	/// space back where the device can, and else by writing zeros where there is anything else. So a
	/// thin volume is not filled.
	fn clear(&self, from: u64, logical_bytes: u64) -> io::Result<()> {
		let block_bytes = u64::from(ioctl_blksszget(&*self.device)?);
		let end = logical_bytes.next_multiple_of(block_bytes).min(self.device_bytes);
		let mut bytes = AlignedBytes::new(CLEARED_BYTES);
		for begin in (from..end).step_by(CLEARED_BYTES) {
			let len = (end - begin).min(CLEARED_BYTES as u64);
			let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
			match fallocate(&*self.device, flags, begin, len) {
				Ok(()) => continue,
				Err(Errno::OPNOTSUPP) => (),
				Err(error) => return Err(error.into()),
			}
			let piece = &mut bytes[..len as usize];
			self.device.read_exact_at(piece, begin)?;
			if piece.iter().any(|byte| *byte != 0) {
				piece.fill(0);
				self.device.write_all_at(piece, begin)?;
			}
		}
		Ok(())
	}
}

impl RestoreTarget for DeviceTarget {
	fn resume(
		&mut self,
		content: &Cid,
		logical_bytes: u64,
		on_found: OnFound<'_>,
	) -> io::Result<u64> {
		let Some(memory) = &self.memory else { return Ok(0) };
		let found = self.resumption.begin(&memory.progress, content, logical_bytes);
		self.found_bytes = match found {
			Some(Progress { done_bytes, needs: Needs::Digests(kept), .. })
				if done_bytes.is_multiple_of(PIECE_BYTES)
					&& kept.len() as u64 == done_bytes.div_ceil(STRETCH_BYTES) =>
			{
				self.find(memory, done_bytes, &kept, on_found)?
			}
			Some(_) | None => 0,
		};
		Ok(self.found_bytes)
	}

	fn keep_every(&self) -> Option<Duration> {
		self.memory.as_ref().map(|_| KEEP_EVERY)
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		let Some(memory) = &self.memory else { return Ok(()) };
		let (done_bytes, digests) = memory.digests().until(done_bytes);
		self.device.sync_data()?;
		self.resumption.save(&memory.progress, done_bytes, Needs::Digests(digests))
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		if logical_bytes > self.device_bytes {
			let found = self.device_bytes;
			let why = format!("the device holds {found} bytes, the disk has {logical_bytes}");
			return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
		}
		self.stage.size(logical_bytes)?;
		self.clear(self.found_bytes, logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.stage.ensure_inside(offset, bytes.len())?;
		self.device.write_all_at(bytes, offset)?;
		if let Some(memory) = &self.memory {
			let pieces = digests::pieces(offset, bytes);
			memory.digests().add(offset, pieces);
		}
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		self.stage.finish()?;
		self.device.sync_all()?;
		if let Some(Memory { progress, .. }) = &self.memory
			&& let Err(error) = progress::forget(progress)
		{
			let path = progress.display();
			tracing::warn!(%path, %error, "what was kept of a restore that is complete stays behind");
		}
		Ok(())
	}
}
