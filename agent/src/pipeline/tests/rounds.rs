//! Many rounds in the life of one machine: it writes, is backed up, its snapshots go, garbage is
//! collected, the power fails, disks are restored. A plain copy of the disk stands beside every
//! snapshot, and what comes back must be that copy.
//!
//! In every third round or so the power goes at some step of the store. Without that, nothing may
//! fail. What was under way then may or may not have happened; what was acknowledged has.

use super::fixture::*;
use crate::{
	format::{Root, links},
	pipeline::open_root,
	repositories::{
		BlockSource, EmbeddedStore, Repository, StoreOptions,
		embedded::tests::simulated::{Chance, SimulatedFiles},
	},
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::{BTreeMap, BTreeSet},
	error::Error,
	ops::Range,
	sync::Arc,
	thread,
};

const SNAPSHOTS_MAX: usize = 4;
const CHUNKS_MAX: u64 = 60;
/// How finely a bitmap tells what was written.
const GRANULE: usize = 1024;
/// Small, so that there are several and some of them go.
const PACKS: StoreOptions = StoreOptions { pack_bytes: 32 * 1024, reserve_bytes: 0 };

type Failure = Box<dyn Error + Send + Sync>;

/// A machine with one disk, and its store.
struct Life {
	world: World,
	files: SimulatedFiles,
	chance: Chance,
	disk: Vec<u8>,
	/// The snapshot that a bitmap counts from, and the granules that were written since.
	bitmap: Option<(Cid, BTreeSet<usize>)>,
	/// What the disk was at each snapshot whose pin was acknowledged.
	snapshots: BTreeMap<Cid, Vec<u8>>,
	/// The snapshot that was being pinned or unpinned when the power went.
	under_way: Option<(Cid, Vec<u8>)>,
	/// How many steps of the store the last round took that ended well.
	steps: u64,
	cuts: u64,
	/// How many snapshots were restored and compared.
	restored: u64,
}

fn open(files: &SimulatedFiles) -> EmbeddedStore {
	EmbeddedStore::open_files(Arc::new(files.clone()), PACKS).unwrap()
}

impl Life {
	fn begin(seed: u64) -> Self {
		let files = SimulatedFiles::default();
		let mut world = World::new();
		world.store = open(&files);
		Self {
			world,
			files,
			chance: Chance::new(seed),
			disk: noise(seed, 20 * CHUNK + 77),
			bitmap: None,
			snapshots: BTreeMap::new(),
			under_way: None,
			steps: 0,
			cuts: 0,
			restored: 0,
		}
	}

	fn open(&self, root: &Cid) -> Result<Root, Failure> {
		Ok(open_root(&self.world.store, root)?.open_with_identity(&self.world.owner)?)
	}

	fn one_in(&mut self, count: u64) -> bool {
		self.chance.below(count) == 0
	}

	/// The guest writes here and there: noise, zeros, and what stands elsewhere on its disk. Now and
	/// then the disk grows, and its bitmap is lost.
	fn write(&mut self) {
		if self.one_in(8) && (self.disk.len() as u64) < CHUNKS_MAX * CHUNK as u64 {
			let len = self.disk.len() + self.chance.below(9 * CHUNK as u64) as usize;
			self.disk.resize(len, 0);
			self.bitmap = None;
		}
		for _ in 0..self.chance.below(6) {
			let len = 1 + self.chance.below(3 * CHUNK as u64) as usize;
			let start = self.chance.below((self.disk.len() - len) as u64) as usize;
			let bytes = match self.chance.below(4) {
				0 => vec![0; len],
				1 => self.disk[..len].to_vec(),
				_ => noise(self.chance.below(u64::MAX), len),
			};
			self.disk[start..start + len].copy_from_slice(&bytes);
			if let Some((_, written)) = &mut self.bitmap {
				written.extend(start / GRANULE..(start + len).div_ceil(GRANULE));
			}
		}
	}

	/// Back the disk up: what the bitmap says if its snapshot is still there, or all of it.
	fn back_up(&mut self) -> Result<(), Failure> {
		self.bitmap = self.bitmap.take().filter(|(base, _)| self.snapshots.contains_key(base));
		let base = self.bitmap.as_ref().map(|(base, _)| self.open(base)).transpose()?;
		let is_trusted = !self.one_in(4);
		let written = self.bitmap.as_ref().map(|(_, written)| self.ranges(written));
		let session = self.world.store.open_session()?;
		let reader = MemoryDisk::new(self.disk.clone());
		let disks = vec![disk(reader, written.filter(|_| is_trusted))];
		let report = self.world.backup(&*session, base.as_ref(), disks, vec![])?;
		self.under_way = Some((report.root, self.disk.clone()));
		session.pin(&report.root, b"")?;
		self.under_way = None;
		self.snapshots.insert(report.root, self.disk.clone());
		self.bitmap = Some((report.root, BTreeSet::new()));
		Ok(())
	}

	/// Where granules are, apart from each other.
	fn ranges(&self, granules: &BTreeSet<usize>) -> Vec<Range<u64>> {
		let mut ranges: Vec<Range<u64>> = Vec::new();
		for granule in granules {
			let start = granule * GRANULE;
			let end = (start + GRANULE).min(self.disk.len()) as u64;
			match ranges.last_mut() {
				Some(last) if last.end == start as u64 => last.end = end,
				_ => ranges.push(start as u64..end),
			}
		}
		ranges
	}

	/// Let the snapshots go that are too many.
	fn unpin(&mut self) -> Result<(), Failure> {
		while self.snapshots.len() > SNAPSHOTS_MAX {
			let place = self.chance.below(self.snapshots.len() as u64) as usize;
			let (root, bytes) = self.snapshots.iter().nth(place).expect("one of them");
			let root = *root;
			self.under_way = Some((root, bytes.clone()));
			self.world.store.unpin(&root)?;
			self.under_way = None;
			self.snapshots.remove(&root);
		}
		Ok(())
	}

	/// Back up while garbage is collected.
	fn back_up_beside_a_collection(&mut self) -> Result<(), Failure> {
		let store = self.world.store.clone();
		thread::scope(|scope| {
			let collection = scope.spawn(move || store.collect().map(|_| ()));
			let backup = self.back_up();
			collection.join().expect("a collection does not panic")?;
			backup
		})
	}

	/// Restore a snapshot and compare it.
	fn restore(&mut self, root: &Cid) -> Result<(), Failure> {
		let opened = self.open(root)?;
		let mut target = MemoryTarget::default();
		self.world.restore(&opened, 0, &mut target)?;
		let found = target.bytes.into_inner().expect("no writer panicked");
		assert!(found == self.snapshots[root], "{root} came back as something else");
		self.restored += 1;
		Ok(())
	}

	/// What one round does.
	fn act(&mut self) -> Result<(), Failure> {
		match self.one_in(3) {
			true => self.back_up_beside_a_collection()?,
			false => self.back_up()?,
		}
		self.unpin()?;
		if self.one_in(3) {
			self.world.store.collect()?;
			self.assert_nothing_dead_is_kept();
		}
		let place = self.chance.below(self.snapshots.len() as u64) as usize;
		let root = *self.snapshots.keys().nth(place).expect("one of them");
		self.restore(&root)
	}

	fn round(&mut self) {
		self.write();
		let before = self.files.steps();
		if self.one_in(3) {
			self.files.cut_after(self.chance.below(self.steps + 1));
			// The power may go after the round has ended, too.
			let _ = self.act();
			self.lose_power();
		} else {
			self.act().unwrap();
			self.steps = self.files.steps() - before;
		}
		self.assert_pins();
	}

	/// The machine that the store is on loses power, and comes back. Sometimes the index does not.
	fn lose_power(&mut self) {
		self.cuts += 1;
		self.files = self.files.after_power_cut(self.chance.below(u64::MAX));
		if self.one_in(4) {
			self.files.take_away("index.redb");
		}
		self.world.store = open(&self.files);
		if self.world.store.pins_unconfirmed() {
			self.world.store.confirm_pins().unwrap();
		}
		if let Some((root, bytes)) = self.under_way.take() {
			match self.world.store.is_pinned(&root) {
				true => self.snapshots.insert(root, bytes),
				false => self.snapshots.remove(&root),
			};
		}
		for root in self.snapshots.keys().copied().collect::<Vec<_>>() {
			self.restore(&root).unwrap();
		}
	}

	fn assert_pins(&self) {
		let found: BTreeSet<Cid> =
			self.world.store.pins().unwrap().into_iter().map(|pin| pin.root).collect();
		let expected: BTreeSet<Cid> = self.snapshots.keys().copied().collect();
		assert_eq!(found, expected, "other snapshots than were acknowledged");
	}

	fn assert_nothing_dead_is_kept(&self) {
		let mut living = BTreeSet::new();
		let mut pending: Vec<Cid> = self.snapshots.keys().copied().collect();
		while let Some(cid) = pending.pop() {
			if living.insert(cid) && cid.codec() == BlockCodec::DagCbor {
				let block = self.world.store.get(&cid).unwrap().unwrap();
				pending.extend(links(&block).unwrap());
			}
		}
		let kept: BTreeSet<Cid> =
			self.world.store.all_blocks().into_iter().map(|(cid, _)| cid).collect();
		assert_eq!(kept, living);
	}
}

fn live(seed: u64, rounds: u64) {
	let mut life = Life::begin(seed);
	for _ in 0..rounds {
		life.round();
	}
	let Life { cuts, restored, .. } = life;
	assert!(cuts > rounds / 5 && restored > rounds, "{cuts} cuts, {restored} disks compared");
}

#[test]
fn every_snapshot_is_the_disk_as_it_was_through_a_thousand_rounds() {
	for seed in 0..4 {
		live(seed, 250);
	}
}
