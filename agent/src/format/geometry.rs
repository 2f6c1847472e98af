//! Where a chunk stands in the tree: it follows from its index alone.
//!
//! A tree of `levels` levels covers `fan_out ^ levels` chunks. A node at level 1 holds chunks,
//! one at level 2 holds nodes of level 1, and so on; with one chunk there is no node at all.
//! Because the place does not depend on the content, an unchanged range keeps its node.

use core::ops::Range;

/// How a disk is cut into chunks, and chunks are gathered into nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
	chunk_bytes: u32,
	fan_out: u32,
}

/// Why two numbers are not a geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
	/// The chunk size is out of bounds or not a power of two.
	#[error("chunks of {chunk_bytes} bytes: a power of two from 4 KiB to 1 MiB is expected")]
	ChunkBytes {
		/// What was found.
		chunk_bytes: u32,
	},
	/// The fan-out is out of bounds or not a power of two.
	#[error("a fan-out of {fan_out}: a power of two from 2 to 256 is expected")]
	FanOut {
		/// What was found.
		fan_out: u32,
	},
}

impl Geometry {
	/// What new snapshots are written with: chunks of 256 KiB, 64 to a node.
	pub const V1: Self = Self { chunk_bytes: 256 * 1024, fan_out: 64 };

	/// A geometry of other numbers, checked.
	pub fn new(chunk_bytes: u32, fan_out: u32) -> Result<Self, GeometryError> {
		if !chunk_bytes.is_power_of_two() || !(4 * 1024..=1024 * 1024).contains(&chunk_bytes) {
			return Err(GeometryError::ChunkBytes { chunk_bytes });
		}
		if !fan_out.is_power_of_two() || !(2..=256).contains(&fan_out) {
			return Err(GeometryError::FanOut { fan_out });
		}
		Ok(Self { chunk_bytes, fan_out })
	}

	/// Bytes of a chunk; the last one of a disk may have fewer.
	pub const fn chunk_bytes(&self) -> u32 {
		self.chunk_bytes
	}

	/// Most children of a node.
	pub fn fan_out(&self) -> u32 {
		self.fan_out
	}

	/// The number of chunks of a disk of this size.
	pub fn chunks(&self, logical_bytes: u64) -> u64 {
		logical_bytes.div_ceil(u64::from(self.chunk_bytes))
	}

	/// The height of the tree over a disk of this size; 0 if one chunk holds it all.
	pub fn levels(&self, logical_bytes: u64) -> u32 {
		let mut rest = self.chunks(logical_bytes);
		let mut levels = 0;
		while rest > 1 {
			rest = rest.div_ceil(u64::from(self.fan_out));
			levels += 1;
		}
		levels
	}

	/// How many chunks a subtree of this height covers, saturating.
	pub fn span(&self, level: u32) -> u64 {
		u64::from(self.fan_out).saturating_pow(level)
	}

	/// The bytes of the disk that a chunk covers. Empty beyond the end.
	pub fn chunk_range(&self, index: u64, logical_bytes: u64) -> Range<u64> {
		let chunk_bytes = u64::from(self.chunk_bytes);
		let start = index.saturating_mul(chunk_bytes).min(logical_bytes);
		start..start.saturating_add(chunk_bytes).min(logical_bytes)
	}

	/// Bytes of a node's bitmap of children.
	pub(crate) fn bitmap_bytes(&self) -> usize {
		(self.fan_out as usize).div_ceil(8)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_height_is_the_least_that_covers_the_disk() {
		let geometry = Geometry::V1;
		let chunk = u64::from(geometry.chunk_bytes());
		for (chunks, levels) in [(0, 0), (1, 0), (2, 1), (64, 1), (65, 2), (4096, 2), (4097, 3)] {
			assert_eq!(geometry.levels(chunks * chunk), levels, "{chunks} chunks");
			assert!(geometry.span(levels) >= chunks);
		}
		assert!(geometry.span(geometry.levels(u64::MAX)) >= geometry.chunks(u64::MAX));
	}

	#[test]
	fn the_last_chunk_ends_with_the_disk() {
		let geometry = Geometry::V1;
		assert_eq!(geometry.chunks(262_145), 2);
		assert_eq!(geometry.chunk_range(1, 262_145), 262_144..262_145);
		assert!(geometry.chunk_range(u64::MAX, 262_145).is_empty());
	}

	#[test]
	fn odd_geometries_are_refused() {
		assert_eq!(Geometry::new(262_144, 64), Ok(Geometry::V1));
		for chunk_bytes in [0, 2048, 100_000, 2 * 1024 * 1024] {
			assert_eq!(
				Geometry::new(chunk_bytes, 64),
				Err(GeometryError::ChunkBytes { chunk_bytes })
			);
		}
		for fan_out in [0, 1, 48, 512] {
			assert_eq!(Geometry::new(262_144, fan_out), Err(GeometryError::FanOut { fan_out }));
		}
	}
}
