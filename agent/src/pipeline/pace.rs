//! How fast disks are read and written and copies fetched, where an operator has set a limit.

use super::{DiskReader, RestoreTarget, source::OnFound};
use backup_primitives::Cid;
use std::{
	io,
	num::NonZero,
	ops::Range,
	sync::{
		Arc, Mutex, PoisonError,
		atomic::{AtomicU64, Ordering},
	},
	thread,
	time::{Duration, Instant},
};

/// A limit that all who move bytes of one kind share, if there is one. Clones are the same limit.
#[derive(Clone, Debug)]
pub struct Pace {
	/// Zero for none.
	bytes_per_second: Arc<AtomicU64>,
	/// Until when what was moved so far may take.
	until: Arc<Mutex<Instant>>,
}

/// A disk that is read or written no faster than a limit allows.
#[derive(Debug)]
pub struct Paced<D> {
	disk: D,
	pace: Pace,
}

impl Pace {
	/// So many bytes a second, for all together.
	pub fn new(bytes_per_second: Option<NonZero<u64>>) -> Self {
		let pace =
			Self { bytes_per_second: Arc::default(), until: Arc::new(Mutex::new(Instant::now())) };
		pace.set(bytes_per_second);
		pace
	}

	/// From now on so many, also for those who are at it.
	pub fn set(&self, bytes_per_second: Option<NonZero<u64>>) {
		self.bytes_per_second.store(bytes_per_second.map_or(0, NonZero::get), Ordering::Relaxed);
	}

	/// Read or write a disk at this pace.
	pub fn limit<D>(&self, disk: D) -> Paced<D> {
		Paced { disk, pace: self.clone() }
	}

	/// Wait until so many more bytes may have been moved. Time in which nobody moved any is lost.
	pub(crate) fn wait(&self, bytes: u64) {
		let Some(limit) = NonZero::new(self.bytes_per_second.load(Ordering::Relaxed)) else {
			return;
		};
		let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(limit.get());
		let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
		let until = {
			let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
			*until = until.max(Instant::now()) + takes;
			*until
		};
		thread::sleep(until.saturating_duration_since(Instant::now()));
	}
}

impl<R: DiskReader> DiskReader for Paced<R> {
	fn logical_bytes(&self) -> u64 {
		self.disk.logical_bytes()
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		self.disk.next_extent(from)
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.pace.wait(buffer.len() as u64);
		self.disk.read_at(offset, buffer)
	}

	fn restrict(&mut self, ranges: &[Range<u64>]) {
		self.disk.restrict(ranges);
	}

	fn release(&mut self, range: Range<u64>) {
		self.disk.release(range);
	}
}

impl<T: RestoreTarget + ?Sized> RestoreTarget for Paced<&mut T> {
	fn resume(
		&mut self,
		content: &Cid,
		logical_bytes: u64,
		on_found: OnFound<'_>,
	) -> io::Result<u64> {
		self.disk.resume(content, logical_bytes, on_found)
	}

	fn keep_every(&self) -> Option<Duration> {
		self.disk.keep_every()
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		self.disk.keep(done_bytes)
	}

	fn leave(&mut self) {
		self.disk.leave();
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		self.disk.set_len(logical_bytes)
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.pace.wait(bytes.len() as u64);
		self.disk.write_at(offset, bytes)
	}

	fn finish(&mut self) -> io::Result<()> {
		self.disk.finish()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::pipeline::tests::fixture::{MemoryDisk, MemoryTarget, noise};

	const MIB: usize = 1 << 20;

	#[test]
	fn readers_together_are_no_faster_than_the_limit() {
		let pace = Pace::new(NonZero::new(8 << 20));
		let began = Instant::now();
		thread::scope(|scope| {
			for name in 0..2 {
				let mut reader = pace.limit(MemoryDisk::new(noise(name, MIB)));
				scope.spawn(move || {
					let mut buffer = vec![0; MIB / 4];
					for at in 0..4 {
						reader.read_at((at * MIB / 4) as u64, &mut buffer).unwrap();
					}
					assert!(buffer == noise(name, MIB)[3 * MIB / 4..]);
				});
			}
		});
		assert!(began.elapsed() >= Duration::from_millis(240), "{:?}", began.elapsed());
	}

	#[test]
	fn writers_together_are_no_faster_than_the_limit() {
		let pace = Pace::new(NonZero::new(8 << 20));
		let mut disk = MemoryTarget::default();
		let mut target = pace.limit(&mut disk);
		target.set_len(2 * MIB as u64).unwrap();
		let began = Instant::now();
		thread::scope(|scope| {
			for half in 0..2 {
				let target = &target;
				scope.spawn(move || {
					let bytes = noise(half, MIB);
					target.write_at(half * MIB as u64, &bytes).unwrap();
				});
			}
		});
		assert!(began.elapsed() >= Duration::from_millis(240), "{:?}", began.elapsed());
		target.finish().unwrap();
		assert!(*disk.bytes.lock().unwrap() == [noise(0, MIB), noise(1, MIB)].concat());
	}

	#[test]
	fn a_limit_can_be_taken_away_and_set_while_it_is_read() {
		let pace = Pace::new(NonZero::new(1));
		let mut reader = pace.limit(MemoryDisk::new(noise(1, MIB)));
		let mut read = || {
			let began = Instant::now();
			reader.read_at(0, &mut vec![0; MIB]).unwrap();
			began.elapsed()
		};
		pace.set(None);
		// It would take twelve days.
		assert!(read() < Duration::from_secs(60));
		pace.set(NonZero::new(8 << 20));
		assert!(read() >= Duration::from_millis(120));
	}
}
