//! The tables of a qcow2 image and where they lie, as QEMU's `docs/interop/qcow2.txt` has it.
//! All numbers are big-endian.

/// The size of a cluster, the unit in which the image grows.
pub(super) const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Entries of an L2 table, which fills one cluster.
pub(super) const L2_ENTRIES: usize = (CLUSTER_BYTES / ENTRY_BYTES) as usize;

const CLUSTER_BITS: u32 = 16;
const ENTRY_BYTES: u64 = 8;
/// Reference counts of 16 bits: as `refcount_order` in the header.
const REFCOUNT_ORDER: u32 = 4;
const REFCOUNT_BYTES: u64 = 2;
const REFCOUNT_ENTRIES: u64 = CLUSTER_BYTES / REFCOUNT_BYTES;
const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const HEADER_BYTES: u32 = 104;
/// Set in entries of the L1 and L2 tables whose cluster is used once, which all are.
const COPIED: u64 = 1 << 63;

/// Where everything lies, in clusters from the beginning of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
	virtual_bytes: u64,
	data_clusters: u64,
	l2_tables: u64,
	l1_entries: u64,
	refcount_blocks: u64,
}

impl Layout {
	pub(super) fn new(virtual_bytes: u64, data_clusters: u64, l2_tables: u64) -> Self {
		let l1_entries = virtual_bytes.div_ceil(CLUSTER_BYTES * L2_ENTRIES as u64).max(1);
		let mut layout =
			Self { virtual_bytes, data_clusters, l2_tables, l1_entries, refcount_blocks: 1 };
		// The counts count themselves. Each round adds less, so that it ends.
		loop {
			let needed = layout.clusters().div_ceil(REFCOUNT_ENTRIES);
			if needed <= layout.refcount_blocks {
				return layout;
			}
			layout.refcount_blocks = needed;
		}
	}

	/// The clusters of the whole file.
	pub(super) fn clusters(&self) -> u64 {
		self.refcount_table() + self.refcount_table_clusters()
	}

	pub(super) fn first_l2_table(&self) -> u64 {
		1 + self.data_clusters
	}

	pub(super) fn l1_table(&self) -> u64 {
		self.first_l2_table() + self.l2_tables
	}

	pub(super) fn first_refcount_block(&self) -> u64 {
		self.l1_table() + (self.l1_entries * ENTRY_BYTES).div_ceil(CLUSTER_BYTES)
	}

	pub(super) fn refcount_blocks(&self) -> u64 {
		self.refcount_blocks
	}

	pub(super) fn refcount_table(&self) -> u64 {
		self.first_refcount_block() + self.refcount_blocks
	}

	fn refcount_table_clusters(&self) -> u64 {
		(self.refcount_blocks * ENTRY_BYTES).div_ceil(CLUSTER_BYTES)
	}

	/// The L1 table. `used` are the indices that have an L2 table, in the order of those.
	pub(super) fn l1(&self, used: impl Iterator<Item = u64>) -> Vec<u8> {
		let mut entries = vec![0; self.l1_entries as usize];
		for (cluster, index) in (self.first_l2_table()..).zip(used) {
			entries[index as usize] = (cluster * CLUSTER_BYTES) | COPIED;
		}
		big_endian(entries)
	}

	/// One for each cluster of the file, zero beyond its end.
	pub(super) fn refcount_block(&self, index: u64) -> Vec<u8> {
		let before = index * REFCOUNT_ENTRIES;
		let used = (self.clusters() - before).min(REFCOUNT_ENTRIES);
		let mut block = 1_u16.to_be_bytes().repeat(used as usize);
		block.resize(CLUSTER_BYTES as usize, 0);
		block
	}

	pub(super) fn refcounts(&self) -> Vec<u8> {
		let first = self.first_refcount_block();
		big_endian((first..first + self.refcount_blocks).map(|cluster| cluster * CLUSTER_BYTES))
	}

	/// The header. The list of extensions behind it is empty, which zeros say.
	pub(super) fn header(&self) -> Vec<u8> {
		let word = |value: u32| value.to_be_bytes().to_vec();
		let long = |value: u64| value.to_be_bytes().to_vec();
		let header = [
			word(MAGIC),
			word(VERSION),
			// No backing file: its name's offset and length.
			long(0),
			word(0),
			word(CLUSTER_BITS),
			long(self.virtual_bytes),
			// Not encrypted.
			word(0),
			word(self.l1_entries as u32),
			long(self.l1_table() * CLUSTER_BYTES),
			long(self.refcount_table() * CLUSTER_BYTES),
			word(self.refcount_table_clusters() as u32),
			// No internal snapshots: their number and their table.
			word(0),
			long(0),
			// No features: incompatible, compatible, auto-clear.
			long(0),
			long(0),
			long(0),
			word(REFCOUNT_ORDER),
			word(HEADER_BYTES),
		]
		.concat();
		debug_assert_eq!(header.len(), HEADER_BYTES as usize);
		header
	}
}

/// An L2 table for the file, from the clusters' numbers, of which 0 stands for none.
pub(super) fn l2(table: &[u32; L2_ENTRIES]) -> Vec<u8> {
	big_endian(table.iter().map(|cluster| match u64::from(*cluster) {
		0 => 0,
		cluster => (cluster * CLUSTER_BYTES) | COPIED,
	}))
}

fn big_endian(entries: impl IntoIterator<Item = u64>) -> Vec<u8> {
	entries.into_iter().flat_map(u64::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Every cluster is counted, and no block of counts is idle.
	fn check(data_clusters: u64) {
		let layout = Layout::new(1 << 44, data_clusters, data_clusters.div_ceil(8192));
		let counted = layout.refcount_blocks() * REFCOUNT_ENTRIES;
		assert!(layout.clusters() <= counted, "{layout:?}");
		assert!(counted - layout.clusters() < REFCOUNT_ENTRIES + 2, "{layout:?}");
		let last = layout.refcount_block(layout.refcount_blocks() - 1);
		assert_eq!(last.len() as u64, CLUSTER_BYTES);
		assert_eq!(&last[..2], [0, 1]);
	}

	#[test]
	fn counts_count_themselves() {
		for data_clusters in 0..100 {
			check(data_clusters);
		}
		for around in [1, 2, 3, 8192, 8193] {
			for data_clusters in around * REFCOUNT_ENTRIES - 100..around * REFCOUNT_ENTRIES + 10 {
				check(data_clusters);
			}
		}
	}
}
