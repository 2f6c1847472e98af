//! A block device: a partition, a logical volume, a whole disk.
//!
//! It has its name already, so what is on it is lost when the restore begins, and an attempt that
//! ends early leaves it half written: the next one begins anew.

use std::{
	fs::OpenOptions,
	io::{self, Seek, SeekFrom},
	os::unix::fs::{FileTypeExt, OpenOptionsExt},
	path::Path,
};

use rustix::{
	fs::{FallocateFlags, fallocate},
	io::Errno,
};

use crate::{
	direct::DirectFile,
	pipeline::source::RestoreTarget,
	targets::{Stage, TargetError},
};

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
	/// Fails when the path names no block device, and when the device is mounted or otherwise in
	/// use by this machine.
	pub fn open(path: &Path) -> Result<Self, TargetError> {
		let failed = TargetError::io(path);
		let open = || -> io::Result<Option<Self>> {
			// Of a block device, "exclusive" means that nothing on this machine has it in use.
			let flags = libc::O_EXCL | libc::O_NONBLOCK;
			if !std::fs::metadata(path)?.file_type().is_block_device() {
				return Ok(None);
			}
			let mut options = OpenOptions::new();
			let mut device = options.read(true).write(true).custom_flags(flags).open(path)?;
			if !device.metadata()?.file_type().is_block_device() {
				return Ok(None);
			}
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

	/// Makes all that the disk will cover read as zeros: by giving the space back where the device
	/// can, by writing zeros where it cannot.
	fn clear(&self, logical_bytes: u64) -> io::Result<()> {
		// The device counts in blocks of its own, none larger than this.
		let bytes = logical_bytes.next_multiple_of(4096).min(self.device_bytes);
		if bytes == 0 {
			return Ok(());
		}
		let keep = FallocateFlags::KEEP_SIZE;
		match fallocate(&*self.device, FallocateFlags::PUNCH_HOLE | keep, 0, bytes) {
			Err(Errno::OPNOTSUPP) => {
				Ok(fallocate(&*self.device, FallocateFlags::ZERO_RANGE | keep, 0, bytes)?)
			}
			result => Ok(result?),
		}
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
