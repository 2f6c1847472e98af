//! A block device: a partition, a logical volume, a whole disk.
//!
//! It has its name already, so what is on it is lost when the restore begins, and an attempt that
//! ends early leaves it half written: the next one begins anew.

use std::{
	fs::OpenOptions,
	io::{self, Seek, SeekFrom},
	os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
	path::Path,
};

use rustix::{
	fs::{FallocateFlags, FlockOperation, fallocate, fcntl_lock, ioctl_blksszget},
	io::Errno,
};

use crate::{
	direct::{AlignedBytes, DirectFile},
	pipeline::source::RestoreTarget,
	targets::{Stage, TargetError},
};

/// How much of a device is cleared at once.
const PIECE_BYTES: usize = 8 << 20;

/// Restores a disk to a block device that is at least as large.
#[derive(Debug)]
pub struct DeviceTarget {
	device: DirectFile,
	device_bytes: u64,
	stage: Stage,
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
			if !std::fs::metadata(path)?.file_type().is_block_device() {
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
			Ok(Some(Self { device: device.into(), device_bytes, stage: Stage::Made }))
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

	/// Makes all that the disk will cover read as zeros, piece by piece: by giving the space back
	/// where the device can, and else by writing zeros where there is anything else. So a thin volume
	/// is not filled.
	fn clear(&self, logical_bytes: u64) -> io::Result<()> {
		let block_bytes = u64::from(ioctl_blksszget(&*self.device)?);
		let end = logical_bytes.next_multiple_of(block_bytes).min(self.device_bytes);
		let mut bytes = AlignedBytes::new(PIECE_BYTES);
		for begin in (0..end).step_by(PIECE_BYTES) {
			let len = (end - begin).min(PIECE_BYTES as u64);
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
	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		if logical_bytes > self.device_bytes {
			let found = self.device_bytes;
			let why = format!("the device holds {found} bytes, the disk has {logical_bytes}");
			return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
		}
		self.stage.size(logical_bytes)?;
		self.clear(logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.stage.ensure_inside(offset, bytes.len())?;
		self.device.write_all_at(bytes, offset)
	}

	fn finish(&mut self) -> io::Result<()> {
		self.stage.finish()?;
		self.device.sync_all()
	}
}
