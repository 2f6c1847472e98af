//! Which chunks of a disk are looked at when somebody recorded what was written to it.
//!
//! A record may be wrong: a tool that knows nothing of it has changed the image. So a few chunks
//! that it calls unchanged are read all the same, others each time, and must be as in the base.
//!
//! One of them is not left to chance: the last one that holds anything in the base
//! ([`Cursor::last_apart_from`](super::base::Cursor::last_apart_from)). A disk that was cut and grew
//! back reads as zeros from there on, and recorders forget what they knew of that part. If what was
//! cut off held anything that was not written since, this chunk was cut, too, and shows it.

use crate::format::Geometry;
use rand::Rng;
use std::{collections::BTreeSet, ops::Range};

/// What is read of a disk.
pub(crate) struct Reading {
	/// Whole chunks, in order and apart from each other.
	pub(crate) ranges: Vec<Range<u64>>,
	/// Those among them that were not written to, by their place.
	pub(crate) samples: BTreeSet<u64>,
}

impl Reading {
	/// Read what was written to, and up to `samples` other chunks: the `last` one that holds anything
	/// in the base, and some by chance.
	///
	/// `written` is sorted; what lies beyond the end of the disk is not there.
	pub(crate) fn of(
		written: &[Range<u64>],
		last: Option<u64>,
		samples: usize,
		geometry: Geometry,
		logical_bytes: u64,
	) -> Self {
		let chunk_bytes = u64::from(geometry.chunk_bytes());
		let chunks = geometry.chunks(logical_bytes);
		let written = written.iter().filter(|range| !range.is_empty());
		let written: Vec<Range<u64>> = written
			.map(|range| range.start / chunk_bytes..range.end.div_ceil(chunk_bytes).min(chunks))
			.collect();
		let samples = choose(&written, last, samples, chunks);
		let mut places: Vec<Range<u64>> =
			written.into_iter().chain(samples.iter().map(|chunk| *chunk..chunk + 1)).collect();
		places.sort_by_key(|range| range.start);
		let mut ranges: Vec<Range<u64>> = Vec::new();
		for place in places.into_iter().filter(|place| !place.is_empty()) {
			let start = place.start * chunk_bytes;
			let end = (place.end * chunk_bytes).min(logical_bytes);
			match ranges.last_mut() {
				Some(last) if last.end >= start => last.end = last.end.max(end),
				_ => ranges.push(start..end),
			}
		}
		Self { ranges, samples }
	}
}

/// The ranges of two lists that are sorted, in one that is sorted and has them apart.
pub(crate) fn union(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
	let mut all: Vec<Range<u64>> = one.iter().chain(other).cloned().collect();
	all.sort_by_key(|range| range.start);
	let mut union: Vec<Range<u64>> = Vec::with_capacity(all.len());
	for range in all.into_iter().filter(|range| !range.is_empty()) {
		match union.last_mut() {
			Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
			Some(_) | None => union.push(range),
		}
	}
	union
}

/// Choose chunks that are not among these: the last one, and others by chance.
fn choose(taken: &[Range<u64>], last: Option<u64>, count: usize, chunks: u64) -> BTreeSet<u64> {
	let mut chance = rand::rng();
	let is_taken = |chunk: u64| overlaps(taken, &(chunk..chunk + 1));
	let last = last.filter(|last| count > 0 && !is_taken(*last));
	// Where nearly all is taken few are found, and few are needed.
	let tries = if chunks == 0 { 0 } else { count * 4 };
	let mut chosen: BTreeSet<u64> = last.into_iter().collect();
	for _ in 0..tries {
		if chosen.len() == count {
			break;
		}
		let chunk = chance.random_range(0..chunks);
		if !is_taken(chunk) {
			chosen.insert(chunk);
		}
	}
	chosen
}

/// Whether one of these ranges, which are sorted and apart from each other, has all of a range.
pub(crate) fn covers(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
	let first = ranges.partition_point(|one| one.end <= range.start);
	ranges.get(first).is_some_and(|one| one.start <= range.start && range.end <= one.end)
}

/// Whether one of these ranges, which are sorted and apart from each other, meets a range.
pub(crate) fn overlaps(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
	let first = ranges.partition_point(|one| one.end <= range.start);
	ranges.get(first).is_some_and(|one| one.start < range.end)
}

#[cfg(test)]
mod tests {
	use super::*;

	const CHUNK: u64 = 4096;

	fn read(written: &[Range<u64>], samples: usize, logical_bytes: u64) -> Reading {
		let geometry = Geometry::new(CHUNK as u32, 4).unwrap();
		let last = geometry.chunks(logical_bytes).checked_sub(1);
		Reading::of(written, last, samples, geometry, logical_bytes)
	}

	#[test]
	fn what_was_written_to_is_read_in_whole_chunks() {
		let reading = read(&[5..6, 4000..4097, 9000..9001, 20_000..20_001], 0, 20_100);
		assert_eq!(reading.ranges, [0..3 * CHUNK, 4 * CHUNK..20_100]);
		assert!(reading.samples.is_empty());
		assert!(read(&[], 0, 20_100).ranges.is_empty());
		assert!(read(&[7..7, 8 * CHUNK..9 * CHUNK], 0, 8 * CHUNK).ranges.is_empty());
	}

	#[test]
	fn a_union_has_what_is_in_either() {
		assert_eq!(union(&[1..3, 7..9, 20..21], &[2..5, 9..10, 30..30]), [1..5, 7..10, 20..21]);
		let one = 4..5;
		assert_eq!(union(&[], std::slice::from_ref(&one)), [one]);
		assert!(union(&[], &[]).is_empty());
	}

	#[test]
	fn samples_are_chunks_that_nothing_was_written_to() {
		let written = [CHUNK..2 * CHUNK, 50 * CHUNK..90 * CHUNK];
		let reading = read(&written, 10, 100 * CHUNK);
		assert_eq!(reading.samples.len(), 10);
		for sample in &reading.samples {
			let start = sample * CHUNK;
			assert!(!written.iter().any(|range| range.contains(&start)), "{sample}");
			assert!(reading.ranges.iter().any(|range| range.contains(&start)), "{sample}");
		}
		assert!(reading.samples.contains(&99), "the last one is always among them");
		let other = read(&written, 10, 100 * CHUNK);
		assert_ne!(reading.samples, other.samples, "it is others each time");
	}

	#[test]
	fn boundary_a_disk_without_unwritten_chunks_has_no_samples() {
		let disk = 0..3 * CHUNK - 1;
		assert!(read(std::slice::from_ref(&disk), 10, disk.end).samples.is_empty());
		assert!(read(&[], 10, 0).samples.is_empty());
		assert_eq!(read(&[], 10, disk.end).ranges, [disk]);
	}
}
