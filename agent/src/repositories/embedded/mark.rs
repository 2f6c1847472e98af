//! Marking: what a collection must not free.
//!
//! It walks from the pins, from the nodes that sessions rely on, and from every node that is younger
//! than the oldest session. Live nodes are kept exactly, live chunks in a filter.
//!
//! A node that is needed and cannot be read is an obstacle: nobody knows what hangs below it, and
//! the disk may have it again, or others give it. Only what a repair has gone on without is passed
//! over. All that can still be reached stays, also below a node that is incomplete.

use crate::{
	format::{Cid, digest, links},
	repositories::{
		RepositoryError,
		embedded::{
			Shared,
			bloom::Bloom,
			entry::{Flaw, Outlook},
			is_node, lock,
			packs::pack_name,
		},
	},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};

/// Most obstacles that are named. The count goes on.
const OBSTACLES_NAMED_MAX: usize = 16;

type Digest = [u8; 32];

/// What keeps a store from freeing blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacles {
	/// How many nodes are needed and cannot be read.
	pub count: u64,
	/// The first of them.
	pub named: Vec<Obstacle>,
	/// Files of packs that are away, or that could not be read when the index was made anew. What else
	/// stands in them is unknown. The first of them.
	#[serde(default)]
	pub unread_packs: Vec<String>,
	/// Whether a root that nothing needs may be left, with which its snapshot could be opened.
	pub has_dead_roots: bool,
}

/// A node that is missing or damaged, so that nobody knows which blocks hang below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
	/// The node.
	pub node: Cid,
	/// A pinned root above it; `None` if only a session needs it.
	pub root: Option<Cid>,
}

impl Obstacles {
	/// Those that are known without a look at what is needed.
	pub(crate) fn of_packs(unread: &BTreeSet<u32>) -> Self {
		let mut obstacles = Self::default();
		obstacles.wait_for(unread);
		obstacles
	}

	/// A root that nothing needs may stand in these packs as well.
	pub(crate) fn wait_for(&mut self, packs: &BTreeSet<u32>) {
		let left = OBSTACLES_NAMED_MAX.saturating_sub(self.unread_packs.len());
		self.unread_packs.extend(packs.iter().take(left).map(|pack| pack_name(*pack)));
		self.has_dead_roots |= !packs.is_empty();
	}

	/// Tells in the log what stands in the way of deletions.
	pub(crate) fn warn_of_packs(&self) {
		for pack in &self.unread_packs {
			tracing::warn!(
				target: "store",
				pack,
				"no deletion is told: a root may stand in a pack that is away or cannot be read, until \
				 the agent is started with it, or `fsck --repair` goes on without it"
			);
		}
	}

	/// Whether there are nodes because of which nothing is freed but roots.
	pub fn any(&self) -> bool {
		self.count > 0
	}
}

/// What has to stay.
pub(crate) struct Live<'a> {
	store: &'a Shared,
	/// Exact: a node that was wrongly taken for visited would lose its children.
	pub(crate) nodes: HashSet<Digest>,
	/// May hold more than is live, which only keeps garbage.
	pub(crate) chunks: Bloom,
	pub(crate) obstacles: Obstacles,
}

impl<'a> Live<'a> {
	pub(crate) fn new(store: &'a Shared) -> Result<Self, RepositoryError> {
		let mut seed = [0; 8];
		// Without randomness the same garbage may stay again, nothing worse.
		let _ = aws_lc_rs::rand::fill(&mut seed);
		let chunks = Bloom::for_digests(store.index.len()?, u64::from_le_bytes(seed));
		let obstacles = Obstacles::of_packs(&store.index.unread_packs()?);
		Ok(Self { store, nodes: HashSet::new(), chunks, obstacles })
	}

	/// Marks what is pinned.
	pub(crate) fn mark_pins(&mut self) -> Result<(), RepositoryError> {
		let roots = lock(&self.store.pins).roots();
		roots.into_iter().try_for_each(|root| self.mark(vec![root], Some(root)))
	}

	/// Marks what sessions rely on.
	pub(crate) fn mark_sessions(&mut self) -> Result<(), RepositoryError> {
		let nodes = lock(&self.store.sessions).all().flat_map(|session| session.nodes()).collect();
		self.mark(nodes, None)
	}

	/// Marks some blocks with all that is below them, of which a pinned root may be the cause.
	pub(crate) fn mark(
		&mut self,
		blocks: Vec<Cid>,
		root: Option<Cid>,
	) -> Result<(), RepositoryError> {
		let mut pending: Vec<_> =
			blocks.into_iter().map(|cid| (cid, Outlook::MayComeBack)).collect();
		while let Some((cid, if_absent)) = pending.pop() {
			if !is_node(&cid) {
				self.chunks.insert(&cid.digest());
			} else if self.nodes.insert(cid.digest()) {
				let (children, outlook) = self.children(&cid, if_absent, root)?;
				pending.extend(children.into_iter().map(|child| (child, outlook)));
			}
		}
		Ok(())
	}

	/// The children of a node, and what becomes of those that are absent.
	fn children(
		&mut self,
		node: &Cid,
		if_absent: Outlook,
		root: Option<Cid>,
	) -> Result<(Vec<Cid>, Outlook), RepositoryError> {
		let entry = match self.store.look_up(&node.digest())? {
			Some(entry) if entry.is_node || entry.flaw.is_some() => entry,
			Some(_) | None => {
				self.pass_over(node, if_absent, root);
				return Ok((Vec::new(), if_absent));
			}
		};
		let outlook = match entry.flaw {
			None => Outlook::MayComeBack,
			Some(Flaw::Damaged(outlook) | Flaw::Incomplete(outlook)) => {
				// It does not stand among the nodes. Its entry stays as long as the pin, or an
				// index without it would be taken for an old one.
				self.chunks.insert(&node.digest());
				outlook
			}
		};
		let block = match self.store.read(&entry) {
			Ok(block) if digest(&block) == node.digest() => block,
			Err(error) if !error.is_loss() => return Err(error),
			Ok(_) | Err(_) => {
				// One that is merely incomplete was not given up itself.
				let own = if entry.is_damaged() { outlook } else { Outlook::MayComeBack };
				self.pass_over(node, own, root);
				return Ok((Vec::new(), outlook));
			}
		};
		let children = links(&block);
		let children =
			children.map_err(|source| RepositoryError::NotANode { cid: *node, source })?;
		Ok((children, outlook))
	}

	/// What hangs below the node is not known.
	fn pass_over(&mut self, node: &Cid, outlook: Outlook, root: Option<Cid>) {
		if outlook == Outlook::GivenUp {
			return;
		}
		let Obstacles { count, named, .. } = &mut self.obstacles;
		*count += 1;
		if named.len() < OBSTACLES_NAMED_MAX {
			named.push(Obstacle { node: *node, root });
		}
	}
}
