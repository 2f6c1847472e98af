//! How far a walk over a snapshot has come. Without its keys nobody knows beforehand how large it is,
//! but its shape tells as much: what is below a node makes up the node's share of the whole, each of
//! its children an even part of that.

use backup_primitives::{Cid, cid::BlockCodec};

/// The share of all that is below a root.
pub const WHOLE: u64 = 1 << 48;

/// The children of a node, in their order, and the share of each. A chunk beside nodes counts nothing:
/// what is below those takes longer by far.
pub(crate) fn shares(
	share: u64,
	children: Vec<Cid>,
) -> impl DoubleEndedIterator<Item = (Cid, u64)> {
	let is_node = |cid: &Cid| cid.codec() == BlockCodec::DagCbor;
	let nodes = children.iter().filter(|cid| is_node(cid)).count();
	let counted = if nodes > 0 { nodes } else { children.len() };
	let each = share / (counted as u64).max(1);
	let of = move |cid: &Cid| if nodes == 0 || is_node(cid) { each } else { 0 };
	children.into_iter().map(move |cid| (cid, of(&cid)))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_node_s_share_is_divided_among_its_nodes_or_where_there_are_none_its_chunks() {
		let (node, chunk) = (Cid::dag_cbor([1; 32]), Cid::raw([2; 32]));
		let of = |children: &[Cid]| -> Vec<u64> {
			shares(12, children.to_vec()).map(|(_, share)| share).collect()
		};
		assert_eq!(of(&[chunk; 3]), [4; 3]);
		assert_eq!(of(&[node, chunk, node]), [6, 0, 6]);
		assert!(of(&[]).is_empty());
	}
}
