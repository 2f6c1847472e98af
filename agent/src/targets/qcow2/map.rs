//! Which cluster of the file holds which cluster of the disk.

use crate::targets::qcow2::layout::L2_ENTRIES;

/// Cluster numbers of the file; 0, where the header lies, stands for "not written".
pub(super) type Table = [u32; L2_ENTRIES];

/// Grows with what is written; a table covers 512 MiB of the disk.
#[derive(Debug, Default)]
pub(super) struct ClusterMap {
	tables: Vec<Option<Box<Table>>>,
	data_clusters: u32,
}

impl ClusterMap {
	/// The clusters of the file for `count` clusters of the disk from `first` on. Those that
	/// were not written yet are taken from the end of the file, next to each other.
	pub(super) fn place(&mut self, first: u64, count: u64) -> Vec<u32> {
		(first..first + count).map(|cluster| self.place_one(cluster)).collect()
	}

	fn place_one(&mut self, cluster: u64) -> u32 {
		let entries = L2_ENTRIES as u64;
		let (table, entry) = ((cluster / entries) as usize, (cluster % entries) as usize);
		if self.tables.len() <= table {
			self.tables.resize_with(table + 1, || None);
		}
		let table = self.tables[table].get_or_insert_with(|| Box::new([0; L2_ENTRIES]));
		if table[entry] == 0 {
			self.data_clusters += 1;
			table[entry] = self.data_clusters;
		}
		table[entry]
	}

	/// How many clusters have been taken; they follow the header.
	pub(super) fn data_clusters(&self) -> u64 {
		u64::from(self.data_clusters)
	}

	/// The tables with anything in them, each with its place in the L1 table, in rising order.
	pub(super) fn tables(&self) -> impl Iterator<Item = (u64, &Table)> {
		(0..)
			.zip(&self.tables)
			.filter_map(|(index, table)| table.as_deref().map(|table| (index, table)))
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn clusters_are_taken_in_the_order_of_their_first_write() {
		let mut map = ClusterMap::default();
		assert_eq!(map.place(5, 3), [1, 2, 3]);
		assert_eq!(map.place(4, 3), [4, 1, 2]);
		let far = 3 * L2_ENTRIES as u64;
		assert_eq!(map.place(far - 1, 2), [5, 6]);
		assert_eq!(map.data_clusters(), 6);
		let tables = map.tables().map(|(index, _)| index).collect::<Vec<_>>();
		assert_eq!(tables, [0, 2, 3]);
	}

	#[test]
	fn boundary_of_the_first_table() {
		let mut map = ClusterMap::default();
		assert_eq!(map.tables().count(), 0);
		map.place(L2_ENTRIES as u64 - 1, 1);
		assert_eq!(
			map.tables().map(|(index, table)| (index, table[L2_ENTRIES - 1])).collect::<Vec<_>>(),
			[(0, 1)]
		);
	}
}
