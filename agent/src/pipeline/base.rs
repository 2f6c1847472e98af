//! The snapshot before, walked in step with the disk that is read now.

use crate::{
	format::{ChildRef, Cid, Geometry, Node, NodeBlock, NodeError, Object, Root},
	pipeline::recorded::{covers, overlaps},
	repositories::{BlockSource, RepositoryError},
};
use std::ops::{Deref, Range};

/// A snapshot of the same machine whose unchanged parts are taken over.
///
/// Only what is the same as before is ever taken from it, so an unsuitable base costs time and
/// never correctness; see [`Disk::changed`](crate::pipeline::Disk::changed) for the exception.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
	/// The opened root.
	pub root: &'a Root,
}

/// Why a node of the base is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
	/// The repository cannot give it.
	#[error(transparent)]
	Repository(#[from] RepositoryError),
	/// It does not open.
	#[error(transparent)]
	Node(#[from] NodeError),
}

impl<'a> Base<'a> {
	/// The disk of this name, if it is cut into chunks the same way.
	pub(crate) fn disk(&self, name: &str, geometry: Geometry) -> Option<&'a Object> {
		let same_cut = self.root.geometry == geometry;
		self.root.disks.iter().find(|disk| same_cut && disk.name == name)
	}
}

/// Finds children by their places. Asked in rising order, it reads each node once and keeps one
/// per level.
pub(crate) struct Cursor<S> {
	repository: S,
	geometry: Geometry,
	logical_bytes: u64,
	tree: Option<ChildRef>,
	/// The node last used on each level above the chunks, with its index there.
	path: Vec<Option<(u64, Node)>>,
}

impl<S: Deref<Target: BlockSource>> Cursor<S> {
	pub(crate) fn new(repository: S, geometry: Geometry, object: &Object) -> Self {
		let Object { logical_bytes, ref tree, .. } = *object;
		let path = (0..geometry.levels(logical_bytes)).map(|_| None).collect();
		Self { repository, geometry, logical_bytes, tree: tree.clone(), path }
	}

	pub(crate) fn levels(&self) -> usize {
		self.path.len()
	}

	pub(crate) fn logical_bytes(&self) -> u64 {
		self.logical_bytes
	}

	/// The bytes of the disk below a place.
	pub(crate) fn range(&self, level: usize, index: u64) -> Range<u64> {
		place_range(self.geometry, level, index, self.logical_bytes)
	}

	/// The child at a place of a level; `None` where the disk was zero or not yet that large.
	pub(crate) fn child(
		&mut self,
		level: usize,
		index: u64,
	) -> Result<Option<ChildRef>, BaseError> {
		if level == self.levels() {
			return Ok(self.tree.clone().filter(|_| index == 0));
		}
		if level > self.levels() || self.range(level, index).is_empty() {
			return Ok(None);
		}
		let fan_out = u64::from(self.geometry.fan_out());
		let place = usize::try_from(index % fan_out).expect("a place is below the fan-out");
		let node = self.node(level + 1, index / fan_out)?;
		let child = node.and_then(|node| node.children[place].clone());
		child.as_ref().map_or(Ok(()), |child| child.ensure_level(level))?;
		Ok(child)
	}

	/// Ranges of the disk whose chunks, or the nodes above them, are not there, in order and apart
	/// from each other. What is there with everything below it is not looked into.
	pub(crate) fn lost(
		&mut self,
		has: &dyn Fn(&Cid) -> Result<bool, RepositoryError>,
	) -> Result<Vec<Range<u64>>, RepositoryError> {
		let fan_out = u64::from(self.geometry.fan_out());
		let mut lost: Vec<Range<u64>> = Vec::new();
		let mut pending = vec![(self.levels(), 0)];
		while let Some((level, index)) = pending.pop() {
			match self.child(level, index) {
				Ok(None) => continue,
				Ok(Some(child)) if has(&child.cid)? => continue,
				Ok(Some(_)) | Err(_) => {}
			}
			// What is below a node that cannot be read is unknown, so all of it is lost.
			if level > 0 && matches!(self.node(level, index), Ok(Some(_))) {
				let below = index * fan_out..(index + 1) * fan_out;
				pending.extend(below.rev().map(|index| (level - 1, index)));
				continue;
			}
			let range = self.range(level, index);
			match lost.last_mut() {
				Some(last) if last.end == range.start => last.end = range.end,
				Some(_) | None => lost.push(range),
			}
		}
		Ok(lost)
	}

	/// The last chunk that is there and that none of these ranges meets, which are sorted and apart
	/// from each other. Nodes below which they have everything are not read.
	pub(crate) fn last_apart_from(
		&mut self,
		ranges: &[Range<u64>],
	) -> Result<Option<u64>, BaseError> {
		let fan_out = u64::from(self.geometry.fan_out());
		let mut pending = vec![(self.levels(), 0)];
		while let Some((level, index)) = pending.pop() {
			let range = self.range(level, index);
			if range.is_empty() || covers(ranges, &range) || self.child(level, index)?.is_none() {
				continue;
			}
			if level > 0 {
				let below = index * fan_out..(index + 1) * fan_out;
				pending.extend(below.map(|index| (level - 1, index)));
			} else if !overlaps(ranges, &range) {
				return Ok(Some(index));
			}
		}
		Ok(None)
	}

	fn node(&mut self, level: usize, index: u64) -> Result<Option<&Node>, BaseError> {
		let is_cached = self.path[level - 1].as_ref().is_some_and(|(cached, _)| *cached == index);
		if !is_cached {
			let Some(child) = self.child(level, index)? else {
				return Ok(None);
			};
			let missing = || RepositoryError::Missing { cid: child.cid };
			let open = |block: &[u8]| -> Result<Node, BaseError> {
				Ok(NodeBlock::decode(block)?.open(&child.key, self.geometry)?)
			};
			let block = self.repository.get_unchecked(&child.cid)?.ok_or_else(missing)?;
			let node = match open(&block) {
				Ok(node) => node,
				// Checked this time: where it is damaged, another place may have a sound one.
				Err(_) => open(&self.repository.get(&child.cid)?.ok_or_else(missing)?)?,
			};
			self.path[level - 1] = Some((index, node));
		}
		Ok(self.path[level - 1].as_ref().map(|(_, node)| node))
	}
}

/// The bytes of a disk below a place of its tree. Empty beyond the end.
pub(crate) fn place_range(
	geometry: Geometry,
	level: usize,
	index: u64,
	logical_bytes: u64,
) -> Range<u64> {
	let level = u32::try_from(level).unwrap_or(u32::MAX);
	let bytes = geometry.span(level).saturating_mul(u64::from(geometry.chunk_bytes()));
	let start = index.saturating_mul(bytes).min(logical_bytes);
	start..start.saturating_add(bytes).min(logical_bytes)
}
