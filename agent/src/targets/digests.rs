//! Digests of what was written where others can write, too: by them it is found again.
//!
//! A disk is looked at in stretches of 64 MiB, so that what is kept of a TiB is half a MiB. The
//! digest of a stretch is one over those of its pieces of 256 KiB, which are taken as they are
//! written, from several threads and in any order: nothing is read for it. A piece that was not
//! written counts as zeros.

use crate::format::Geometry;
use std::collections::BTreeMap;

/// What has a digest of its own: a chunk, as it comes from the pipeline.
pub(super) const PIECE_BYTES: u64 = Geometry::V1.chunk_bytes() as u64;

/// Pieces of a stretch.
const STRETCH_PIECES: u64 = 256;

/// What is kept of one by one digest.
pub(super) const STRETCH_BYTES: u64 = STRETCH_PIECES * PIECE_BYTES;

/// Of one piece, or of a stretch.
pub(super) type Digest = [u8; 32];

/// Digests of the pieces that bytes at an offset are made of, with their places. Nothing, where they
/// are not whole pieces.
pub(super) fn pieces(offset: u64, bytes: &[u8]) -> Option<Vec<(u64, Digest)>> {
	let piece_bytes = PIECE_BYTES as usize;
	let are_whole = offset.is_multiple_of(PIECE_BYTES) && bytes.len().is_multiple_of(piece_bytes);
	let digests = || bytes.chunks(piece_bytes).map(|piece| *blake3::hash(piece).as_bytes());
	are_whole.then(|| (offset / PIECE_BYTES..).zip(digests()).collect())
}

/// Grows with what is written from the beginning on.
#[derive(Debug)]
pub(super) struct Digests {
	/// Of stretches that are written.
	stretches: Vec<Digest>,
	/// Of pieces behind them, by their places.
	pieces: BTreeMap<u64, Digest>,
	/// Of a piece of zeros.
	zeros: Digest,
	/// Everything before consists of whole pieces.
	whole_bytes: u64,
}

impl Default for Digests {
	fn default() -> Self {
		let zeros = *blake3::hash(&[0; PIECE_BYTES as usize]).as_bytes();
		Self { stretches: Vec::new(), pieces: BTreeMap::new(), zeros, whole_bytes: u64::MAX }
	}
}

impl Digests {
	/// Takes in what [`pieces`] says of a write.
	pub(super) fn add(&mut self, offset: u64, pieces: Option<Vec<(u64, Digest)>>) {
		match pieces {
			Some(pieces) => self.pieces.extend(pieces),
			None => self.whole_bytes = self.whole_bytes.min(offset),
		}
	}

	/// What is written of the disk, all of it before this: up to where there are digests, and these.
	/// The last one may be of a shorter stretch.
	pub(super) fn until(&mut self, done_bytes: u64) -> (u64, Vec<Digest>) {
		let done_pieces = done_bytes.min(self.whole_bytes) / PIECE_BYTES;
		let rest = self.gather(done_pieces);
		let digests = self.stretches.iter().copied().chain(rest).collect();
		(done_pieces * PIECE_BYTES, digests)
	}

	/// The digest of the last stretch of what is written, all of it before this.
	pub(super) fn last(&mut self, done_bytes: u64) -> Option<Digest> {
		let rest = self.gather(done_bytes / PIECE_BYTES);
		rest.or_else(|| self.stretches.last().copied())
	}

	/// Makes whole stretches of pieces that are written; the digest of what remains, if anything.
	fn gather(&mut self, done_pieces: u64) -> Option<Digest> {
		let mut first = self.stretches.len() as u64 * STRETCH_PIECES;
		while first + STRETCH_PIECES <= done_pieces {
			let end = first + STRETCH_PIECES;
			self.stretches.push(self.stretch(first, end));
			self.pieces = self.pieces.split_off(&end);
			first = end;
		}
		(first < done_pieces).then(|| self.stretch(first, done_pieces))
	}

	/// Forgets everything from the beginning of a stretch on.
	pub(super) fn truncate(&mut self, stretches: usize) {
		self.stretches.truncate(stretches);
		self.pieces.clear();
	}

	fn stretch(&self, first: u64, end: u64) -> Digest {
		let mut hasher = blake3::Hasher::new();
		for piece in first..end {
			hasher.update(self.pieces.get(&piece).unwrap_or(&self.zeros));
		}
		*hasher.finalize().as_bytes()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn piece(name: u64) -> Vec<u8> {
		let mut bytes = vec![0; PIECE_BYTES as usize];
		blake3::Hasher::new().update(&name.to_le_bytes()).finalize_xof().fill(&mut bytes);
		bytes
	}

	fn add(digests: &mut Digests, place: u64) {
		let offset = place * PIECE_BYTES;
		digests.add(offset, pieces(offset, &piece(place)));
	}

	/// Digests of a disk with a piece at these places, in the order of their writes.
	fn written(places: &[u64]) -> Digests {
		let mut digests = Digests::default();
		places.iter().for_each(|place| add(&mut digests, *place));
		digests
	}

	#[test]
	fn digests_do_not_depend_on_the_order_of_writes_nor_on_when_they_were_asked_for() {
		let places = [700, 3, 511, 0, 255, 256, 300];
		let end = 701 * PIECE_BYTES;
		let (done_bytes, expected) = written(&places).until(end + 5);
		assert_eq!((done_bytes, expected.len()), (end, 3));
		let mut in_order = places;
		in_order.sort_unstable();
		let mut digests = Digests::default();
		for place in in_order {
			add(&mut digests, place);
			digests.until((place + 1) * PIECE_BYTES);
		}
		assert_eq!(digests.until(end), (end, expected.clone()));
		assert_eq!(digests.last(end), expected.last().copied());
		assert_eq!(digests.last(2 * STRETCH_BYTES), Some(expected[1]));
	}

	#[test]
	fn what_was_not_written_counts_as_zeros() {
		let mut zeros = written(&[1]);
		zeros.add(0, pieces(0, &vec![0; PIECE_BYTES as usize]));
		assert_eq!(zeros.until(STRETCH_BYTES), written(&[1]).until(STRETCH_BYTES));
		assert_ne!(zeros.until(STRETCH_BYTES), written(&[2]).until(STRETCH_BYTES));
	}

	#[test]
	fn one_piece_more_or_less_makes_another_digest() {
		let mut digests = written(&[0, 1, 2]);
		let until: Vec<_> = (0..=3).map(|end| digests.until(end * PIECE_BYTES)).collect();
		assert_eq!(until[0], (0, vec![]));
		assert!(until.windows(2).all(|two| two[0].1 != two[1].1), "{until:?}");
	}

	#[test]
	fn boundary_only_whole_pieces_have_digests() {
		let whole = piece(1);
		assert_eq!(pieces(0, &whole).unwrap().len(), 1);
		assert_eq!(pieces(PIECE_BYTES, &[&whole[..], &whole].concat()).unwrap().len(), 2);
		assert!(pieces(1, &whole).is_none());
		assert!(pieces(0, &whole[1..]).is_none());
		let mut digests = written(&[0, 1, 2]);
		digests.add(2 * PIECE_BYTES + 1, None);
		assert_eq!(digests.until(STRETCH_BYTES), written(&[0, 1]).until(2 * PIECE_BYTES));
	}

	#[test]
	fn what_is_forgotten_is_taken_in_anew() {
		let end = 300 * PIECE_BYTES;
		let mut digests = written(&[1, 290]);
		let expected = digests.until(end);
		digests.truncate(1);
		assert_ne!(digests.until(end), expected);
		add(&mut digests, 290);
		assert_eq!(digests.until(end), expected);
	}
}
