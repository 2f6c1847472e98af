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
	/// A map of tables that were kept of a disk of so many clusters; nothing if they cannot be of
	/// one file.
	pub(super) fn of_tables(kept: &[(u64, Vec<u32>)], disk_clusters: u64) -> Option<Self> {
		let tables_max = disk_clusters.div_ceil(L2_ENTRIES as u64);
		let mut map = Self::default();
		let mut taken = Vec::new();
		for (index, entries) in kept {
			let index = usize::try_from(Some(*index).filter(|index| *index < tables_max)?).ok()?;
			let table: Box<Table> = entries.clone().into_boxed_slice().try_into().ok()?;
			taken.extend(table.iter().copied().filter(|cluster| *cluster != 0));
			if map.tables.len() <= index {
				map.tables.resize_with(index + 1, || None);
			}
			map.tables[index] = Some(table);
		}
		// All from the first on, each once.
		taken.sort_unstable();
		map.data_clusters = u32::try_from(taken.len()).ok()?;
		taken.into_iter().eq(1..=map.data_clusters).then_some(map)
	}

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

	/// The last cluster of the file that holds anything of the first clusters of the disk; 0 if
	/// none does.
	pub(super) fn last_before(&self, disk_clusters: u64) -> u64 {
		let entries = self.tables.iter().flat_map(|table| match table {
			Some(table) => table.as_slice(),
			None => &[0; L2_ENTRIES],
		});
		let clusters = usize::try_from(disk_clusters).unwrap_or(usize::MAX);
		entries.take(clusters).copied().max().unwrap_or(0).into()
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
	fn a_map_that_was_kept_goes_on_and_an_impossible_one_does_not() {
		let mut map = ClusterMap::default();
		map.place(5, 3);
		map.place(3 * L2_ENTRIES as u64, 2);
		let kept: Vec<_> = map.tables().map(|(index, table)| (index, table.to_vec())).collect();
		let mut again = ClusterMap::of_tables(&kept, 4 * L2_ENTRIES as u64).unwrap();
		assert!(ClusterMap::of_tables(&kept, 3 * L2_ENTRIES as u64).is_none());
		assert_eq!(
			[5, 6, 7, 8, u64::MAX].map(|clusters| again.last_before(clusters)),
			[0, 1, 2, 3, 5]
		);
		assert_eq!(again.place(4, 3), [6, 1, 2]);
		let table = |entries: &[u32]| {
			let mut table = vec![0; L2_ENTRIES];
			table[..entries.len()].copy_from_slice(entries);
			(0, table)
		};
		assert!(ClusterMap::of_tables(&[table(&[2, 1])], 9).is_some());
		assert!(ClusterMap::of_tables(&[table(&[1, 1])], 9).is_none());
		assert!(ClusterMap::of_tables(&[table(&[2, 3])], 9).is_none());
		assert!(ClusterMap::of_tables(&[(0, vec![1, 2])], 9).is_none());
		assert!(ClusterMap::of_tables(&[(1 << 40, vec![0; L2_ENTRIES])], 9).is_none());
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
