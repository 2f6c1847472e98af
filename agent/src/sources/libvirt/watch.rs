//! Ending a backup before its scratch is full.
//!
//! libvirt copies what the guest overwrites before the write itself is done, and a copy that fails
//! fails the guest's write. So somebody has to look how far the scratch images have grown, and end
//! the backup in time. They lie in room that was set aside; the job is ended when a part of that is
//! still left.

use super::{Domain, job};
use crate::{disk::available_bytes, sources::scratch::Scratch};
use std::{
	fs,
	path::PathBuf,
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
		mpsc::{self, RecvTimeoutError, Sender},
	},
	thread::{self, JoinHandle},
	time::Duration,
};

/// How often it is looked.
const POLL: Duration = Duration::from_millis(25);

/// What must be free where no room could be set aside.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Looks at scratch images until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
	/// Dropped to end the thread.
	alive: Option<Sender<()>>,
	thread: Option<JoinHandle<()>>,
	is_full: Arc<AtomicBool>,
}

impl Watch {
	pub(super) fn begin(domain: Domain, scratch: &Scratch) -> Self {
		let is_full = Arc::new(AtomicBool::new(false));
		let (alive, end) = mpsc::channel();
		let room = Room {
			images: scratch.images.clone(),
			bytes_max: limit_bytes(scratch.cap_bytes),
			is_reserved: scratch.is_reserved,
		};
		let told = is_full.clone();
		let thread = thread::spawn(move || {
			while end.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
				if !room.is_ending() {
					continue;
				}
				told.store(true, Ordering::SeqCst);
				tracing::warn!(domain = domain.name, "scratch is nearly full; the backup is ended");
				match job::end(&domain) {
					Ok(_) => break,
					Err(error) => tracing::error!(%error, "failed to end the backup; once more"),
				}
			}
		});
		Self { alive: Some(alive), thread: Some(thread), is_full }
	}

	/// Whether the backup was ended for want of room.
	pub(super) fn is_full(&self) -> Arc<AtomicBool> {
		self.is_full.clone()
	}
}

impl Drop for Watch {
	fn drop(&mut self) {
		self.alive.take();
		if let Some(thread) = self.thread.take() {
			// It has logged what went wrong.
			let _ = thread.join();
		}
	}
}

/// How large an image may grow. The rest of its cap is for what is written until the job has ended.
fn limit_bytes(cap_bytes: u64) -> u64 {
	cap_bytes / 4 * 3
}

#[derive(Debug)]
struct Room {
	images: Vec<PathBuf>,
	bytes_max: u64,
	is_reserved: bool,
}

impl Room {
	/// Whether little of it is left. What cannot be looked at counts as full.
	fn is_ending(&self) -> bool {
		let is_short = |image: &PathBuf| {
			let is_large = fs::metadata(image).map_or(true, |file| file.len() > self.bytes_max);
			let folder = image.parent().unwrap_or(image);
			let is_tight = || available_bytes(folder).map_or(true, |free| free < FREE_BYTES_MIN);
			is_large || (!self.is_reserved && is_tight())
		};
		self.images.iter().any(is_short)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn boundary_room_ends_one_byte_past_the_limit() {
		let folder = tempfile::tempdir().unwrap();
		let image = folder.path().join("image");
		let file = fs::File::create(&image).unwrap();
		let room =
			Room { images: vec![image.clone()], bytes_max: limit_bytes(4096), is_reserved: true };
		file.set_len(3072).unwrap();
		assert!(!room.is_ending());
		file.set_len(3073).unwrap();
		assert!(room.is_ending());
		fs::remove_file(&image).unwrap();
		assert!(room.is_ending());
	}
}
