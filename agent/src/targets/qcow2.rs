//! A qcow2 image (version 3) that holds only what was written.
//!
//! ```text
//! header │ data clusters in the order of their first write │ L2 tables │ L1 table │ refcounts
//! ```
//!
//! Data goes straight to its cluster, from several threads at once; only the choice of a cluster
//! takes a lock. The tables are kept in memory, 64 MiB for each TiB written (and as much twice
//! more for a moment, when it is noted how far the restore is), and are written at the end. All clusters are used once, hence all reference counts are one.
//!
//! The format counts in sectors: a disk that is not a multiple of 512 bytes grows by the zeros
//! that are missing, as it does when QEMU opens a raw file.

mod layout;
mod map;

use std::{
	io,
	path::Path,
	sync::{Mutex, PoisonError},
	time::Duration,
};

use backup_primitives::Cid;

use self::{
	layout::{CLUSTER_BYTES, Layout},
	map::ClusterMap,
};
use crate::{
	pipeline::source::{OnFound, RestoreTarget},
	targets::{
		KEEP_EVERY, Resumption, Stage, TargetError, invalid, partial::PartialFile, progress::Needs,
	},
};

/// The largest disk: 128 TiB, for which cluster numbers of 32 bits suffice.
pub const QCOW2_LOGICAL_BYTES_MAX: u64 = 128 << 40;

const SECTOR_BYTES: u64 = 512;

/// Restores a disk to a qcow2 image.
#[derive(Debug)]
pub struct Qcow2Target {
	partial: PartialFile,
	stage: Stage,
	map: Mutex<ClusterMap>,
	resumption: Resumption,
}

impl Qcow2Target {
	/// Makes the target, which becomes `path` when it is finished.
	///
	/// # Errors
	/// Fails when `path` exists or its folder does not, and when another restore writes there.
	pub fn create(path: &Path) -> Result<Self, TargetError> {
		Ok(Self {
			partial: PartialFile::create_or_adopt(path)?,
			stage: Stage::Made,
			map: Mutex::new(ClusterMap::default()),
			resumption: Resumption::default(),
		})
	}

	fn write_clusters(&self, cluster: u64, bytes: &[u8]) -> io::Result<()> {
		self.partial.write_all_at(bytes, cluster * CLUSTER_BYTES)
	}

	fn write_tables(&mut self, virtual_bytes: u64) -> io::Result<()> {
		let map = std::mem::take(self.map.get_mut().unwrap_or_else(PoisonError::into_inner));
		let layout = Layout::new(virtual_bytes, map.data_clusters(), map.tables().count() as u64);
		// The last data cluster and the last table may be shorter than their clusters.
		self.partial.file().set_len(layout.clusters() * CLUSTER_BYTES)?;
		for (cluster, (_, table)) in (layout.first_l2_table()..).zip(map.tables()) {
			self.write_clusters(cluster, &layout::l2(table))?;
		}
		self.write_clusters(layout.l1_table(), &layout.l1(map.tables().map(|(index, _)| index)))?;
		for index in 0..layout.refcount_blocks() {
			let cluster = layout.first_refcount_block() + index;
			self.write_clusters(cluster, &layout.refcount_block(index))?;
		}
		self.write_clusters(layout.refcount_table(), &layout.refcounts())?;
		self.write_clusters(0, &layout.header())
	}
}

impl RestoreTarget for Qcow2Target {
	fn resume(&mut self, content: &Cid, logical_bytes: u64, _: OnFound<'_>) -> io::Result<u64> {
		let found = self.resumption.begin(&self.partial.progress(), content, logical_bytes);
		let found = found.and_then(|found| {
			let Needs::Clusters(tables) = &found.needs else { return None };
			let map = ClusterMap::of_tables(tables, logical_bytes.div_ceil(CLUSTER_BYTES))?;
			Some((found, map))
		});
		let Some((found, map)) = found else { return Ok(0) };
		let data_end = (1 + map.data_clusters()) * CLUSTER_BYTES;
		// Clusters are taken before they are written, so those beyond need not be there.
		let last = map.last_before(found.done_bytes.div_ceil(CLUSTER_BYTES)) * CLUSTER_BYTES;
		let is_whole = last == 0 || self.partial.file().metadata()?.len() > last;
		let found = is_whole.then_some(&found);
		if found.is_some() {
			// Clusters that were taken later are taken anew. What they held must not show where
			// the disk ends within one.
			self.partial.file().set_len(data_end)?;
			*self.map.get_mut().unwrap_or_else(PoisonError::into_inner) = map;
		}
		Ok(self.resumption.go_on(found))
	}

	fn keep_every(&self) -> Option<Duration> {
		Some(KEEP_EVERY)
	}

	fn keep(&self, done_bytes: u64) -> io::Result<()> {
		let tables = {
			let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
			map.tables().map(|(index, table)| (index, table.to_vec())).collect()
		};
		self.partial.file().sync_data()?;
		let needs = Needs::Clusters(tables);
		self.resumption.save(&self.partial.progress(), done_bytes, needs)
	}

	fn leave(&mut self) {
		self.partial.leave();
	}

	fn set_len(&mut self, logical_bytes: u64) -> io::Result<()> {
		if logical_bytes > QCOW2_LOGICAL_BYTES_MAX {
			return Err(invalid("a qcow2 image of more than 128 TiB"));
		}
		self.stage.size(logical_bytes)?;
		match self.resumption.goes_on() {
			true => Ok(()),
			false => self.partial.clear(),
		}
	}

	fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
		self.stage.ensure_inside(offset, bytes.len())?;
		if bytes.is_empty() {
			return Ok(());
		}
		let first = offset / CLUSTER_BYTES;
		let end = (offset + bytes.len() as u64).div_ceil(CLUSTER_BYTES);
		let placed =
			self.map.lock().unwrap_or_else(PoisonError::into_inner).place(first, end - first);
		let mut rest = bytes;
		let mut skip_bytes = offset % CLUSTER_BYTES;
		// One write for clusters that lie next to each other, as those of a new chunk do.
		for run in placed.chunk_by(|one, next| one + 1 == *next) {
			let run_bytes = run.len() as u64 * CLUSTER_BYTES - skip_bytes;
			let (now, later) = rest.split_at(rest.len().min(run_bytes as usize));
			let start = u64::from(run[0]) * CLUSTER_BYTES + skip_bytes;
			self.partial.write_all_at(now, start)?;
			(rest, skip_bytes) = (later, 0);
		}
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		let logical_bytes = self.stage.finish()?;
		self.write_tables(logical_bytes.next_multiple_of(SECTOR_BYTES))?;
		self.partial.complete()
	}
}

#[cfg(test)]
mod tests {
	use std::{fs::File, process::Command};

	use super::*;

	/// Takes clusters without writing to them: gigabytes of holes, which are counted all the same.
	#[test]
	fn counts_of_several_gibibytes_are_right() {
		let dir = tempfile::tempdir().unwrap();
		let [zeros, image] = ["zeros", "image"].map(|name| dir.path().join(name));
		let clusters = 100_000;
		File::create(&zeros).unwrap().set_len(clusters * CLUSTER_BYTES).unwrap();
		let mut target = Qcow2Target::create(&image).unwrap();
		target.set_len(clusters * CLUSTER_BYTES).unwrap();
		target.map.get_mut().unwrap().place(0, clusters);
		target.finish().unwrap();
		let check = Command::new("qemu-img").arg("check").arg(&image).output().unwrap();
		assert!(check.status.success(), "{check:?}");
		let compare = ["compare", "-f", "raw", "-F", "qcow2"];
		let compare = Command::new("qemu-img").args(compare).args([zeros, image]).output().unwrap();
		assert!(compare.status.success(), "{compare:?}");
	}
}
