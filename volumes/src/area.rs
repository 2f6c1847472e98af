//! Bytes that belong together, wherever on the disks they lie.

use crate::ReadError;
use std::{cell::RefCell, fmt, io, rc::Rc};

/// What can be read at any place.
pub trait ReadAt {
	/// How much there is.
	fn bytes(&self) -> u64;

	/// Fill a buffer with what stands at an offset. Nobody asks for what is beyond the end.
	///
	/// # Errors
	/// Fails when it cannot be read.
	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A run of bytes made of pieces of disks: a disk, a partition, a logical volume. Cheap to clone.
#[derive(Clone)]
pub struct Area {
	/// In order; none is empty.
	pieces: Vec<Piece>,
	bytes: u64,
}

#[derive(Clone)]
struct Piece {
	disk: Rc<RefCell<dyn ReadAt>>,
	/// Where on the disk it begins.
	offset: u64,
	/// Where in the area it begins.
	start: u64,
	bytes: u64,
}

impl fmt::Debug for Area {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let pieces = self.pieces.len();
		f.debug_struct("Area").field("bytes", &self.bytes).field("pieces", &pieces).finish()
	}
}

impl Area {
	/// All of a disk.
	pub fn whole(disk: impl ReadAt + 'static) -> Self {
		let bytes = disk.bytes();
		let mut area = Self::empty();
		area.push(Piece { disk: Rc::new(RefCell::new(disk)), offset: 0, start: 0, bytes });
		area
	}

	/// Nothing at all.
	pub(crate) fn empty() -> Self {
		Self { pieces: Vec::new(), bytes: 0 }
	}

	/// How long it is.
	pub fn bytes(&self) -> u64 {
		self.bytes
	}

	/// A part of it, if it reaches that far.
	pub(crate) fn part(&self, offset: u64, bytes: u64) -> Option<Self> {
		let end = offset.checked_add(bytes).filter(|end| *end <= self.bytes)?;
		let mut part = Self::empty();
		for piece in &self.pieces {
			let from = piece.start.max(offset);
			let to = (piece.start + piece.bytes).min(end);
			if from < to {
				let offset = piece.offset + (from - piece.start);
				part.push(Piece { offset, start: 0, bytes: to - from, ..piece.clone() });
			}
		}
		Some(part)
	}

	/// Put another one behind it. Nothing, if that would be longer than anything is.
	pub(crate) fn append(&mut self, other: &Self) -> Option<()> {
		self.bytes.checked_add(other.bytes)?;
		other.pieces.iter().for_each(|piece| self.push(piece.clone()));
		Some(())
	}

	fn push(&mut self, piece: Piece) {
		if piece.bytes > 0 {
			let start = self.bytes;
			self.bytes += piece.bytes;
			self.pieces.push(Piece { start, ..piece });
		}
	}

	/// Fill a buffer with what stands at an offset.
	///
	/// # Errors
	/// Fails beyond the end, and when a disk cannot be read.
	pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
		let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.bytes);
		end.ok_or(ReadError::BeyondEnd { at: offset, bytes: self.bytes })?;
		let first = self.pieces.partition_point(|piece| piece.start + piece.bytes <= offset);
		let (mut at, mut rest) = (offset, buffer);
		for piece in &self.pieces[first..] {
			if rest.is_empty() {
				break;
			}
			let within = at - piece.start;
			let here = (piece.bytes - within).min(rest.len() as u64);
			let (now, later) = rest.split_at_mut(here as usize);
			let read = piece.disk.borrow_mut().read_at(piece.offset + within, now);
			read.map_err(|source| ReadError::Disk { at, source })?;
			(at, rest) = (at + here, later);
		}
		Ok(())
	}

	/// What stands at an offset; as many bytes as there are, where the area ends before.
	pub(crate) fn peek(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, ReadError> {
		let there = self.bytes.saturating_sub(offset).min(bytes as u64);
		let mut buffer = vec![0; there as usize];
		if !buffer.is_empty() {
			self.read(offset, &mut buffer)?;
		}
		Ok(buffer)
	}
}

#[cfg(test)]
mod tests {
	use crate::memory::area;

	#[test]
	fn parts_of_several_disks_read_as_one() {
		let (one, two) = (area((0..100).collect()), area((100..200).collect()));
		let mut joined = one.part(10, 20).unwrap();
		joined.append(&two.part(50, 5).unwrap()).unwrap();
		joined.append(&one.part(0, 1).unwrap()).unwrap();
		assert_eq!(joined.bytes(), 26);
		let part = joined.part(18, 8).unwrap();
		let mut read = [0; 8];
		part.read(0, &mut read).unwrap();
		assert_eq!(read, [28, 29, 150, 151, 152, 153, 154, 0]);
	}

	#[test]
	fn boundary_nothing_is_read_beyond_the_end() {
		let area = area(vec![1; 10]);
		assert!(area.part(10, 0).is_some() && area.part(10, 1).is_none());
		assert!(area.part(u64::MAX, 2).is_none());
		assert!(area.read(9, &mut [0; 1]).is_ok());
		assert!(area.read(9, &mut [0; 2]).is_err());
		assert!(area.read(u64::MAX, &mut [0; 2]).is_err());
		assert_eq!(area.peek(8, 100).unwrap(), [1, 1]);
		assert_eq!(area.peek(80, 100).unwrap(), []);
	}
}
