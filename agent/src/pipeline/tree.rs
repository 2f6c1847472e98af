//! Builds the tree over a disk from children that arrive in the order of their places.

use crate::format::{ChildRef, Geometry, Node, Sealer};

/// Stores a sealed node.
pub(crate) type PutNode<'a, E> = &'a mut dyn FnMut(&[u8], &ChildRef) -> Result<(), E>;

/// Keeps one open node per level, so it needs the same little memory for any disk.
#[derive(Debug)]
pub(crate) struct TreeBuilder {
	geometry: Geometry,
	/// The open node of each level above the chunks, and the place of its first chunk.
	levels: Vec<Open>,
	/// The tree of a disk of one chunk.
	single: Option<ChildRef>,
}

#[derive(Debug)]
struct Open {
	node: Node,
	/// Which node of its level it is.
	index: u64,
}

impl TreeBuilder {
	pub(crate) fn new(geometry: Geometry, logical_bytes: u64) -> Self {
		let level = |_| Open { node: Node::empty(geometry), index: 0 };
		let levels = (0..geometry.levels(logical_bytes)).map(level).collect();
		Self { geometry, levels, single: None }
	}

	/// Sets the child at a place of a level; level 0 are the chunks. Nodes that are complete
	/// by now are sealed and handed to `put`, children first.
	pub(crate) fn push<E>(
		&mut self,
		level: usize,
		index: u64,
		child: ChildRef,
		sealer: &mut Sealer,
		put: PutNode<'_, E>,
	) -> Result<(), E> {
		// Whatever is open below belongs to places before this one.
		for below in 0..level {
			self.close(below, sealer, put)?;
		}
		let fan_out = u64::from(self.geometry.fan_out());
		let (parent, place) = (index / fan_out, index % fan_out);
		if level == self.levels.len() {
			self.single = Some(child);
			return Ok(());
		}
		// The first child beyond an open node says that nothing more comes for it.
		if self.levels[level].index != parent {
			self.close(level, sealer, put)?;
			self.levels[level].index = parent;
		}
		let place = usize::try_from(place).expect("a place is below the fan-out");
		self.levels[level].node.children[place] = Some(child);
		Ok(())
	}

	/// Seals the open node of a level and pushes it one level up.
	fn close<E>(
		&mut self,
		level: usize,
		sealer: &mut Sealer,
		put: PutNode<'_, E>,
	) -> Result<(), E> {
		let open = &mut self.levels[level];
		if open.node.is_empty() {
			return Ok(());
		}
		let node = core::mem::replace(&mut open.node, Node::empty(self.geometry));
		let index = open.index;
		let (block, child) = node.seal(sealer);
		put(&block, &child)?;
		self.push(level + 1, index, child, sealer, put)
	}

	/// Closes what is open. The result is the top of the tree; `None` if all is zero.
	pub(crate) fn finish<E>(
		mut self,
		sealer: &mut Sealer,
		put: PutNode<'_, E>,
	) -> Result<Option<ChildRef>, E> {
		for level in 0..self.levels.len() {
			self.close(level, sealer, put)?;
		}
		Ok(self.single)
	}
}
