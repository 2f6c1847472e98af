//! What differs between a disk in two snapshots.
//!
//! The two trees are walked in step, from the top. A block that both have says that all below it is
//! the same, so the work follows what changed, and no chunk is ever read.

use crate::{
	format::{Cid, Geometry, Object},
	pipeline::{
		Cancel,
		base::{BaseError, Cursor, place_range},
	},
	repositories::BlockSource,
};
use std::ops::Range;

/// What happened to a range of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
	/// It was zero, or not there, and has data now.
	Written,
	/// It had data and has other data now.
	Rewritten,
	/// It had data and is zero, or not there, now.
	Cleared,
}

/// A range in which something changed, in whole chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
	/// Bytes of the disk.
	pub range: Range<u64>,
	/// What happened.
	pub kind: ChangeKind,
}

/// Why two disks cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
	/// Chunks of different sizes, or nodes of different widths, have no places in common.
	#[error("the snapshots are cut into different chunks")]
	Geometry,
	/// A node is missing or of no use.
	#[error("a node of the tree cannot be used: {0}")]
	Node(#[from] BaseError),
	/// It was told to end.
	#[error("the comparison was cancelled")]
	Cancelled,
}

/// Compares a disk in two snapshots of one machine, and tells what changed in rising order; ranges
/// that touch and are alike are told as one. `on_progress` is told how many bytes of the longer one have
/// been compared. Memory is bounded by one node a level.
///
/// # Errors
/// Fails when the snapshots are not cut alike, a node cannot be read, or it is cancelled.
pub fn diff(
	repository: &dyn BlockSource,
	before: (Geometry, &Object),
	after: (Geometry, &Object),
	on_change: &mut dyn FnMut(Change),
	on_progress: &mut dyn FnMut(u64),
	cancel: &Cancel,
) -> Result<(), DiffError> {
	if before.0 != after.0 {
		return Err(DiffError::Geometry);
	}
	let geometry = before.0;
	let mut walk = Walk {
		geometry,
		before: Cursor::new(repository, geometry, before.1),
		after: Cursor::new(repository, geometry, after.1),
		pending: None,
		on_change,
		on_progress,
		cancel,
	};
	let top = walk.before.levels().max(walk.after.levels());
	walk.place(top, 0)?;
	walk.flush();
	Ok(())
}

/// What a tree has at a place.
#[derive(PartialEq, Eq)]
enum There {
	Nothing,
	Block(Cid),
	/// The place is above the top of the tree, all of which is below it.
	WholeTree,
}

struct Walk<'a> {
	geometry: Geometry,
	before: Cursor<&'a dyn BlockSource>,
	after: Cursor<&'a dyn BlockSource>,
	/// What may go on with the next chunk.
	pending: Option<Change>,
	on_change: &'a mut dyn FnMut(Change),
	on_progress: &'a mut dyn FnMut(u64),
	cancel: &'a Cancel,
}

impl Walk<'_> {
	/// Compare what is below a place. As deep as the higher tree.
	fn place(&mut self, level: usize, index: u64) -> Result<(), DiffError> {
		if self.cancel.is_cancelled() {
			return Err(DiffError::Cancelled);
		}
		let bytes = self.before.logical_bytes().max(self.after.logical_bytes());
		(self.on_progress)(place_range(self.geometry, level, index, bytes).start);
		let before = there(&mut self.before, level, index)?;
		let after = there(&mut self.after, level, index)?;
		let kind = match (&before, &after) {
			(There::Nothing, There::Nothing) => return Ok(()),
			(There::Block(before), There::Block(after)) if before == after => return Ok(()),
			(There::Nothing, _) => ChangeKind::Written,
			(_, There::Nothing) => ChangeKind::Cleared,
			_ => ChangeKind::Rewritten,
		};
		if level == 0 {
			self.tell(Change { range: place_range(self.geometry, 0, index, bytes), kind });
			return Ok(());
		}
		let fan_out = u64::from(self.geometry.fan_out());
		for child in index * fan_out..(index + 1) * fan_out {
			if place_range(self.geometry, level - 1, child, bytes).is_empty() {
				break;
			}
			self.place(level - 1, child)?;
		}
		Ok(())
	}

	fn tell(&mut self, change: Change) {
		match &mut self.pending {
			Some(last) if last.kind == change.kind && last.range.end == change.range.start => {
				last.range.end = change.range.end;
			}
			_ => {
				self.flush();
				self.pending = Some(change);
			}
		}
	}

	fn flush(&mut self) {
		if let Some(change) = self.pending.take() {
			(self.on_change)(change);
		}
	}
}

fn there(
	cursor: &mut Cursor<&dyn BlockSource>,
	level: usize,
	index: u64,
) -> Result<There, BaseError> {
	if level > cursor.levels() {
		let is_all = index == 0 && cursor.child(cursor.levels(), 0)?.is_some();
		return Ok(if is_all { There::WholeTree } else { There::Nothing });
	}
	Ok(cursor.child(level, index)?.map_or(There::Nothing, |child| There::Block(child.cid)))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{
		format::Root,
		pipeline::tests::fixture::{CHUNK, MemoryDisk, World, noise},
		repositories::RepositoryError,
	};
	use backup_primitives::cid::BlockCodec;
	use std::sync::Mutex;

	/// A store that writes down what is read of it.
	struct Watched<'a>(&'a dyn BlockSource, Mutex<Vec<Cid>>);

	impl BlockSource for Watched<'_> {
		fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
			self.1.lock().unwrap().push(*cid);
			self.0.get(cid)
		}
	}

	fn changes(world: &World, before: &Root, after: &Root) -> (Vec<Change>, Vec<Cid>) {
		let watched = Watched(&world.store, Mutex::default());
		let (mut list, mut shown) = (Vec::new(), 0);
		let of = |root: &Root| root.geometry;
		diff(
			&watched,
			(of(before), &before.disks[0]),
			(of(after), &after.disks[0]),
			&mut |change| list.push(change),
			&mut |done| {
				assert!(done >= shown, "progress went back");
				shown = done;
			},
			&Cancel::new(),
		)
		.unwrap();
		(list, watched.1.into_inner().unwrap())
	}

	fn keep(world: &World, bytes: &[u8]) -> Root {
		world.keep(None, MemoryDisk::new(bytes.to_vec()), None).1
	}

	fn change(chunks: Range<usize>, kind: ChangeKind) -> Change {
		Change { range: (chunks.start * CHUNK) as u64..(chunks.end * CHUNK) as u64, kind }
	}

	#[test]
	fn what_was_written_rewritten_and_cleared_is_told_by_its_place() {
		let world = World::new();
		let mut bytes = noise(1, 100 * CHUNK);
		bytes[40 * CHUNK..60 * CHUNK].fill(0);
		let before = keep(&world, &bytes);
		bytes[3 * CHUNK + 5] ^= 1;
		bytes[4 * CHUNK] ^= 1;
		bytes[50 * CHUNK] = 1;
		bytes[90 * CHUNK..93 * CHUNK].fill(0);
		let after = keep(&world, &bytes);
		let (list, _) = changes(&world, &before, &after);
		assert_eq!(
			list,
			[
				change(3..5, ChangeKind::Rewritten),
				change(50..51, ChangeKind::Written),
				change(90..93, ChangeKind::Cleared),
			]
		);
		let (back, _) = changes(&world, &after, &before);
		assert_eq!(back[1], change(50..51, ChangeKind::Cleared));
	}

	#[test]
	fn no_chunk_is_read_and_nothing_below_what_is_alike() {
		let world = World::new();
		let mut bytes = noise(1, 256 * CHUNK);
		let before = keep(&world, &bytes);
		bytes[100 * CHUNK] ^= 1;
		let after = keep(&world, &bytes);
		let (list, read) = changes(&world, &before, &after);
		assert_eq!(list, [change(100..101, ChangeKind::Rewritten)]);
		assert!(read.iter().all(|cid| cid.codec() == BlockCodec::DagCbor));
		// One node a level of each tree: four levels of four children.
		assert_eq!(read.len(), 2 * 4);
		assert_eq!(changes(&world, &before, &before), (vec![], vec![]));
	}

	#[test]
	fn boundary_disks_of_other_sizes_compare_too() {
		let world = World::new();
		let bytes = noise(1, 100 * CHUNK + 77);
		for shorter in [0, 1, CHUNK, 4 * CHUNK, 16 * CHUNK, 17 * CHUNK + 5, 100 * CHUNK] {
			let (small, large) = (keep(&world, &bytes[..shorter]), keep(&world, &bytes));
			let (list, _) = changes(&world, &small, &large);
			let whole = shorter / CHUNK;
			let end = bytes.len() as u64;
			let written: u64 = list
				.iter()
				.filter(|change| change.kind == ChangeKind::Written)
				.map(|change| change.range.end - change.range.start)
				.sum();
			let first = list[0].range.start;
			assert_eq!(first, (whole * CHUNK) as u64, "{shorter}");
			assert_eq!(list.last().unwrap().range.end, end, "{shorter}");
			// What was the last chunk and not full is another one now.
			let cut = if shorter % CHUNK == 0 { 0 } else { CHUNK as u64 };
			assert_eq!(written + cut, end - first, "{shorter}");
		}
	}

	#[test]
	fn snapshots_that_are_cut_otherwise_have_no_places_in_common() {
		let world = World::new();
		let root = keep(&world, &noise(1, CHUNK));
		let other = Geometry::new(8192, 4).unwrap();
		let (one, two) = ((root.geometry, &root.disks[0]), (other, &root.disks[0]));
		let result = diff(&world.store, one, two, &mut |_| (), &mut |_| (), &Cancel::new());
		assert!(matches!(result, Err(DiffError::Geometry)));
	}
}
