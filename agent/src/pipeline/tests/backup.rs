use super::fixture::*;
use crate::{
	format::{Geometry, Node, NodeBlock, Root, links},
	pipeline::{BackupError, Blob, Disk, Restore, recorded::union},
	repositories::{
		BlockSource, Chunks, EmbeddedStore, Repository, StoreOptions,
		embedded::tests::simulated::SimulatedFiles, verify,
	},
	verification::make_whole,
};
use backup_primitives::cid::BlockCodec;
use proptest::prelude::*;
use std::{num::NonZero, ops::Range, sync::Arc};

#[test]
fn disks_of_every_size_come_back() {
	let world = World::new();
	for len in
		[0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 5 * CHUNK, 16 * CHUNK + 7, 100 * CHUNK]
	{
		let bytes = noise(len as u64, len);
		let (report, root) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
		assert_eq!(report.logical_bytes, len as u64);
		assert_eq!(report.stored.read_bytes, len as u64);
		assert!(
			verify(&world.store, &report.root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
		);
		world.assert_restores(&root, 0, &bytes);
	}
}

#[test]
fn zeros_and_holes_are_not_stored() {
	let world = World::new();
	let mut bytes = vec![0; 64 * CHUNK];
	bytes[20 * CHUNK] = 1;
	let mut with_holes = MemoryDisk::new(bytes.clone());
	let data = 20 * CHUNK as u64..20 * CHUNK as u64 + 100;
	with_holes.extents = Some(Vec::from([data]));
	let (read, root) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	assert_eq!((read.stored.zero_chunks, read.stored.new_chunks), (63, 1));
	let (skipped, same) = world.keep(None, with_holes, None);
	assert_eq!((skipped.stored.read_bytes, skipped.stored.zero_chunks), (CHUNK as u64, 0));
	assert_eq!(root.disks, same.disks);
	let (empty, nothing) = world.keep(None, MemoryDisk::new(vec![0; 64 * CHUNK]), None);
	assert_eq!((empty.stored.new_blocks, nothing.disks[0].tree.as_ref()), (1, None));
	world.assert_restores(&root, 0, &bytes);
	world.assert_restores(&nothing, 0, &vec![0; 64 * CHUNK]);
}

#[test]
fn an_unchanged_disk_costs_one_root() {
	let world = World::new();
	let bytes = noise(1, 100 * CHUNK);
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	for base in [None, Some(&first)] {
		let (report, root) = world.keep(base, MemoryDisk::new(bytes.clone()), None);
		assert_eq!(report.stored.new_blocks, 1);
		assert_eq!(root.disks, first.disks);
		let sealed_again = if base.is_some() { 0 } else { 100 };
		assert_eq!(report.stored.present_chunks, sealed_again);
		assert_eq!(report.stored.unchanged_chunks, 100 - sealed_again);
	}
}

#[test]
fn an_unchanged_range_keeps_its_node() {
	let world = World::new();
	let mut bytes = noise(1, 64 * CHUNK);
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	bytes[5 * CHUNK] ^= 1;
	// The disk grows, too: every place stays what it was.
	bytes.extend(noise(2, 200 * CHUNK));
	let (report, second) = world.keep(Some(&first), MemoryDisk::new(bytes.clone()), None);
	assert_eq!(report.stored.unchanged_chunks, 63);
	let leaves = |root: &Root| {
		let top = root.disks[0].tree.clone().unwrap();
		let mut nodes = vec![top];
		for _ in 1..root.geometry.levels(root.disks[0].logical_bytes) {
			let open = |child| open_node(&world, &child).children.into_iter().flatten();
			nodes = nodes.into_iter().flat_map(open).collect();
		}
		nodes
	};
	let (old, new) = (leaves(&first), leaves(&second));
	assert_eq!((old.len(), new.len()), (16, 66));
	let kept = old.iter().zip(&new).filter(|(old, new)| old == new).count();
	assert_eq!(kept, 15);
	world.assert_restores(&second, 0, &bytes);
	world.assert_restores(&first, 0, &[&noise(1, 64 * CHUNK)[..]].concat());
}

fn open_node(world: &World, child: &crate::format::ChildRef) -> Node {
	let block = world.store.get(&child.cid).unwrap().unwrap();
	NodeBlock::decode(&block).unwrap().open(&child.key, world.geometry).unwrap()
}

#[test]
fn what_did_not_change_is_not_read() {
	let world = World::new();
	let mut bytes = noise(1, 100 * CHUNK);
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	bytes[40 * CHUNK + 17] ^= 1;
	let change = 40 * CHUNK as u64 + 17..40 * CHUNK as u64 + 18;
	let reader = MemoryDisk::new(bytes.clone());
	let (read, released) = (reader.read.clone(), reader.released.clone());
	let (report, second) = world.keep(Some(&first), reader, Some(vec![change]));
	let chunk = 40 * CHUNK as u64..41 * CHUNK as u64;
	assert_eq!(*read.lock().unwrap(), Vec::from([chunk]));
	assert_eq!(report.stored.unchanged_chunks, 99);
	assert_released_in_order(&released.lock().unwrap(), 100 * CHUNK as u64);
	world.assert_restores(&second, 0, &bytes);
	// The same as if all had been read.
	let (_, all) = world.keep(None, MemoryDisk::new(bytes), None);
	assert_eq!(second.disks, all.disks);
}

/// A record of writes that is wrong costs a snapshot that is none. With every chunk a sample it is
/// found out, whatever differs.
#[test]
fn a_write_that_was_not_recorded_is_found_in_a_sample() {
	let world = World { samples: 400, ..World::new() };
	let mut bytes = noise(1, 20 * CHUNK);
	bytes[3 * CHUNK..4 * CHUNK].fill(0);
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	let session = world.store.open_session().unwrap();
	let first_chunk = 0..CHUNK as u64;
	let back_up = |reader: MemoryDisk| {
		let written = Vec::from([first_chunk.clone()]);
		world.backup(&*session, Some(&first), vec![disk(reader, Some(written))], vec![])
	};
	let report = back_up(MemoryDisk::new(bytes.clone())).unwrap();
	assert_eq!((report.stored.unchanged_chunks, report.stored.zero_chunks), (19, 1));

	let edited = |place: usize, byte: u8| {
		let mut bytes = bytes.clone();
		bytes[place * CHUNK..(place + 1) * CHUNK].fill(byte);
		MemoryDisk::new(bytes)
	};
	let hole = MemoryDisk {
		extents: Some(vec![0..9 * CHUNK as u64, 10 * CHUNK as u64..20 * CHUNK as u64]),
		..edited(9, 0)
	};
	for (reader, place) in [(edited(7, 5), 7), (edited(3, 5), 3), (edited(8, 0), 8), (hole, 9)] {
		match back_up(reader) {
			Err(BackupError::Unrecorded { offset, .. }) => {
				assert_eq!(offset, (place * CHUNK) as u64);
			}
			result => panic!("chunk {place}: {result:?}"),
		}
	}
}

/// What somebody does to a disk whose writes are recorded, in 512 bytes.
#[derive(Clone, Debug)]
enum Deed {
	Write { from: usize, count: usize, byte: u8 },
	CutAndGrowBack { to: usize },
}

fn deeds(sectors: usize) -> impl Strategy<Value = Vec<Deed>> {
	let write = (0..sectors, 1..40usize, 0..3u8).prop_map(move |(from, count, byte)| Deed::Write {
		from,
		count: count.min(sectors - from),
		byte,
	});
	let cut = (0..sectors).prop_map(|to| Deed::CutAndGrowBack { to });
	prop::collection::vec(prop_oneof![write, cut], 0..6)
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

	/// QEMU forgets what it has recorded of the part that was cut off. The one sample that is not left
	/// to chance is enough.
	#[test]
	fn a_disk_that_was_cut_and_grew_back_is_never_taken_for_its_base(
		zeros in prop::collection::btree_set(0..40usize, 0..40),
		deeds in deeds(40 * CHUNK / 512 - 3),
	) {
		const SECTOR: usize = 512;
		/// What has one bit in the record.
		const GRANULE: usize = 1024;
		let world = World { samples: 1, ..World::new() };
		let mut bytes = noise(1, 40 * CHUNK - 3 * SECTOR);
		for chunk in zeros {
			let end = bytes.len().min((chunk + 1) * CHUNK);
			bytes[chunk * CHUNK..end].fill(0);
		}
		let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
		let is_cut = deeds.iter().any(|deed| matches!(deed, Deed::CutAndGrowBack { .. }));
		let mut record = vec![false; bytes.len().div_ceil(GRANULE)];
		for deed in deeds {
			match deed {
				Deed::Write { from, count, byte } => {
					let range = from * SECTOR..(from + count) * SECTOR;
					record[range.start / GRANULE..range.end.div_ceil(GRANULE)].fill(true);
					bytes[range].fill(byte);
				}
				Deed::CutAndGrowBack { to } => {
					bytes[to * SECTOR..].fill(0);
					record[(to * SECTOR).div_ceil(GRANULE)..].fill(false);
				}
			}
		}
		let granules = (0..record.len()).filter(|granule| record[*granule]);
		let granules = granules.map(|granule| {
			let end = bytes.len().min((granule + 1) * GRANULE);
			(granule * GRANULE) as u64..end as u64
		});
		let written = union(&granules.collect::<Vec<_>>(), &[]);
		let session = world.store.open_session().unwrap();
		let disks = vec![disk(MemoryDisk::new(bytes.clone()), Some(written))];
		match world.backup(&*session, Some(&first), disks, vec![]) {
			Err(BackupError::Unrecorded { .. }) => prop_assert!(is_cut, "the record was right"),
			Ok(report) => {
				session.pin(&report.root, b"").unwrap();
				world.assert_restores(&world.open(&report.root), 0, &bytes);
			}
			Err(error) => panic!("{error}"),
		}
	}
}

fn assert_released_in_order(released: &[Range<u64>], logical_bytes: u64) {
	let mut at = 0;
	for range in released {
		assert_eq!(range.start, at);
		at = range.end;
	}
	assert_eq!(at, logical_bytes);
}

#[test]
fn fails_with_changes_but_without_a_fitting_base() {
	let world = World::new();
	let session = world.store.open_session().unwrap();
	let reader = MemoryDisk::new(noise(1, CHUNK));
	let (_, other) = world.keep(None, MemoryDisk::new(noise(1, 2 * CHUNK)), None);
	for base in [None, Some(&other)] {
		let disks = vec![disk(reader.clone(), Some(vec![]))];
		let result = world.backup(&*session, base, disks, vec![]);
		assert!(matches!(result, Err(BackupError::NoBase { .. })));
	}
}

#[test]
fn a_base_of_which_everything_is_gone_is_read_in_full_whatever_was_recorded() {
	let bytes = noise(1, 100 * CHUNK);
	for changed in [Some(vec![]), None] {
		let world = World::new();
		let (report, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
		world.store.unpin(&report.root).unwrap();
		world.store.collect().unwrap();
		let (report, root) = world.keep(Some(&first), MemoryDisk::new(bytes.clone()), changed);
		assert_eq!(report.stored.new_chunks, 100);
		world.assert_restores(&root, 0, &bytes);
	}
}

#[test]
fn blobs_and_several_disks_come_back() {
	let world = World::new();
	let session = world.store.open_session().unwrap();
	let named = |name: &str, bytes: &[u8]| Disk {
		name: name.to_owned(),
		reader: Box::new(MemoryDisk::new(bytes.to_vec())),
		changed: None,
	};
	let (vda, vdb) = (noise(1, 10 * CHUNK), noise(2, 3 * CHUNK + 5));
	let nvram = noise(3, 20_000);
	let blob = |name: &str, bytes: &[u8]| Blob { name: name.to_owned(), bytes: bytes.to_vec() };
	let blobs = vec![blob("definition.xml", b"<domain/>"), blob("nvram", &nvram)];
	let report = world.backup(&*session, None, vec![named("vda", &vda), named("vdb", &vdb)], blobs);
	let root = world.open(&report.unwrap().root);
	world.assert_restores(&root, 0, &vda);
	world.assert_restores(&root, 1, &vdb);
	let read = |object| {
		let restore = Restore {
			repository: &world.store,
			geometry: root.geometry,
			object,
			threads: NonZero::<usize>::MIN,
			on_progress: &|_| {},
			cancel: &world.cancel,
		};
		restore.run_to_memory(20_000).unwrap()
	};
	assert_eq!(read(&root.blobs[0]).unwrap(), b"<domain/>");
	assert_eq!(read(&root.blobs[1]).unwrap(), nvram);
	assert_eq!(read(&root.disks[0]), None);
}

#[test]
fn a_bad_sector_names_disk_and_place() {
	let world = World::new();
	let session = world.store.open_session().unwrap();
	let mut reader = MemoryDisk::new(noise(1, 100 * CHUNK));
	reader.bad_at = Some(50 * CHUNK as u64 + 3);
	let result = world.backup(&*session, None, vec![disk(reader, None)], vec![]);
	let message = result.unwrap_err().to_string();
	assert_eq!(message, "disk vda cannot be read at byte 204800: bad sector");
}

#[test]
fn impossible_extents_are_refused() {
	let world = World::new();
	let session = world.store.open_session().unwrap();
	let len = 2 * CHUNK as u64;
	for extent in [CHUNK as u64..len + 1, 7..7] {
		let mut reader = MemoryDisk::new(noise(1, 2 * CHUNK));
		reader.extents = Some(vec![extent]);
		let result = world.backup(&*session, None, vec![disk(reader, None)], vec![]);
		assert!(matches!(result, Err(BackupError::Extent { .. })), "{result:?}");
	}
}

#[test]
fn a_cancelled_backup_ends() {
	let world = World::new();
	world.cancel.cancel();
	let session = world.store.open_session().unwrap();
	let disks = vec![disk(MemoryDisk::new(noise(1, 100 * CHUNK)), None)];
	let result = world.backup(&*session, None, disks, vec![]);
	assert!(matches!(result, Err(BackupError::Cancelled)));
}

#[test]
fn a_failing_store_ends_the_backup_with_the_cause() {
	let world = World::new();
	let session = world.store.open_session().unwrap();
	// Chunks are fine, but no root can be sealed to nobody.
	let disks = vec![
		disk(MemoryDisk::new(noise(1, 10 * CHUNK)), None),
		disk(MemoryDisk::new(noise(2, 10 * CHUNK)), None),
	];
	let result = world.backup(&*session, None, disks, vec![]);
	assert!(matches!(result, Err(BackupError::Root(_))), "two disks of one name: {result:?}");
}

#[test]
fn progress_rises_to_the_end() {
	let mut world = World::new();
	world.geometry = Geometry::V1;
	let session = world.store.open_session().unwrap();
	let seen = std::sync::Mutex::new(Vec::new());
	let recipients = [recipient(&world.owner)];
	let bytes = vec![1; 50 << 20];
	let backup = crate::pipeline::Backup {
		genesis: [1; 32],
		node: backup_primitives::OpaqueId::of(&2u32).unwrap(),
		request: backup_primitives::OpaqueId::of(&3u64).unwrap(),
		sequence: 4,
		taken_at_ms: 5,
		consistency: backup_primitives::Consistency::Stopped,
		base: None,
		geometry: world.geometry,
		key: &world.key,
		samples: 0,
		compression: world.compression,
		recipients: &recipients,
		session: &*session,
		repository: &world.store,
		threads: NonZero::new(2).unwrap(),
		on_progress: &|progress| seen.lock().unwrap().push(progress),
		cancel: &world.cancel,
	};
	backup.run(vec![disk(MemoryDisk::new(bytes), None)], vec![]).unwrap();
	let seen = seen.into_inner().unwrap();
	assert!(seen.len() >= 3, "{seen:?}");
	assert!(seen.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes));
	let last = seen.last().unwrap();
	assert_eq!((last.done_bytes, last.total_bytes), (50 << 20, 50 << 20));
}

/// A disk of up to 80 chunks: each one new, zero, or one of three that repeat.
fn chunks() -> impl Strategy<Value = Vec<u8>> {
	let chunk = prop_oneof![Just(0u8), 1u8..4, 4u8..];
	(prop::collection::vec(chunk, 0..80), 0..CHUNK).prop_map(|(chunks, tail)| {
		let mut bytes: Vec<u8> = chunks
			.iter()
			.flat_map(|name| match name {
				0 => vec![0; CHUNK],
				name => noise(u64::from(*name), CHUNK),
			})
			.collect();
		bytes.extend(&noise(999, CHUNK)[..tail]);
		bytes
	})
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(48))]

	#[test]
	fn any_disk_after_any_other_comes_back(before in chunks(), after in chunks(), hint: bool) {
		let world = World::new();
		let (_, first) = world.keep(None, MemoryDisk::new(before.clone()), None);
		let is_same_size = before.len() == after.len();
		let changed = (hint && is_same_size).then(|| {
			let different = (0..after.len()).filter(|at| before[*at] != after[*at]);
			different.map(|at| at as u64..at as u64 + 1).collect()
		});
		let (_, second) = world.keep(Some(&first), MemoryDisk::new(after.clone()), changed);
		world.assert_restores(&first, 0, &before);
		world.assert_restores(&second, 0, &after);
		let (_, alone) = world.keep(None, MemoryDisk::new(after), None);
		prop_assert_eq!(second.disks, alone.disks);
	}

	#[test]
	fn a_change_list_gives_the_same_tree(
		before in prop::collection::vec(0u8..6, 70),
		changes in prop::collection::btree_set(0usize..70, 0..10),
		holes: bool,
	) {
		let content = |names: &[u8]| -> Vec<u8> {
			names.iter().flat_map(|name| match name {
				0 | 1 => vec![0; CHUNK],
				name => noise(u64::from(*name), CHUNK),
			}).collect()
		};
		let mut after = before.clone();
		changes.iter().for_each(|at| after[*at] = (after[*at] + 1) % 6);
		let world = World::new();
		let (_, first) = world.keep(None, MemoryDisk::new(content(&before)), None);
		let mut reader = MemoryDisk::new(content(&after));
		if holes {
			let chunk = CHUNK as u64;
			reader.extents = Some((0..70u64).filter(|at| after[*at as usize] > 1)
				.map(|at| at * chunk..(at + 1) * chunk).collect());
		}
		let released = reader.released.clone();
		let changed = changes.iter().map(|at| (at * CHUNK) as u64..((at + 1) * CHUNK) as u64).collect();
		let (_, second) = world.keep(Some(&first), reader, Some(changed));
		assert_released_in_order(&released.lock().unwrap(), 70 * CHUNK as u64);
		world.assert_restores(&second, 0, &content(&after));
		let (_, alone) = world.keep(None, MemoryDisk::new(content(&after)), None);
		prop_assert_eq!(second.disks, alone.disks);
	}
}

#[test]
fn another_level_takes_what_is_unchanged_from_the_base() {
	let mut world = World::new();
	// Bytes that are made smaller, each chunk in its own way.
	let mut bytes: Vec<u8> =
		(0..20 * CHUNK).map(|at| (at / 64) as u8 ^ (at / CHUNK) as u8).collect();
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	world.compression = crate::format::Compression::level(12).unwrap();
	bytes[5 * CHUNK] ^= 1;
	let (report, second) = world.keep(Some(&first), MemoryDisk::new(bytes.clone()), None);
	assert_eq!((report.stored.new_chunks, report.stored.unchanged_chunks), (1, 19));
	world.assert_restores(&second, 0, &bytes);
}

#[test]
fn two_machines_of_an_owner_share_their_chunks() {
	let world = World::new();
	let bytes = noise(1, 20 * CHUNK);
	let (first, _) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	// The same content at other places, so that no node is the same.
	let moved = [noise(2, 3 * CHUNK), bytes].concat();
	let (second, root) = world.keep(None, MemoryDisk::new(moved.clone()), None);
	assert_eq!((first.stored.new_chunks, first.stored.present_chunks), (20, 0));
	assert_eq!((second.stored.new_chunks, second.stored.present_chunks), (3, 20));
	world.assert_restores(&root, 0, &moved);
}

#[test]
fn chunks_are_shared_after_the_index_was_lost() {
	let files = SimulatedFiles::default();
	let open = || EmbeddedStore::open_files(Arc::new(files.clone()), StoreOptions::V1).unwrap();
	let mut world = World { store: open(), ..World::new() };
	let bytes = noise(1, 20 * CHUNK);
	let (_, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
	world.store = memory_store();
	files.take_away("index.redb");
	world.store = open();
	let moved = [noise(2, 3 * CHUNK), bytes.clone()].concat();
	let (report, _) = world.keep(None, MemoryDisk::new(moved), None);
	assert_eq!((report.stored.new_chunks, report.stored.present_chunks), (3, 20));
	// By walking the root before, without sealing anything.
	let (report, _) = world.keep(Some(&first), MemoryDisk::new(bytes), None);
	assert_eq!((report.stored.new_chunks, report.stored.unchanged_chunks), (0, 20));
}

/// A chunk that is lost, and a node with its siblings: what is below it is unknown.
#[test]
fn what_the_base_has_lost_is_read_although_nothing_was_written_there() {
	for is_node in [false, true] {
		let files = SimulatedFiles::default();
		let options = StoreOptions { pack_bytes: 1 << 20, reserve_bytes: 0 };
		let store = EmbeddedStore::open_files(Arc::new(files.clone()), options).unwrap();
		let world = World { store, ..World::new() };
		let bytes = noise(1, 20 * CHUNK);
		let (report, first) = world.keep(None, MemoryDisk::new(bytes.clone()), None);
		// The first leaf, and its first chunk.
		let mut path = vec![first.disks[0].tree.clone().unwrap().cid];
		while path.last().unwrap().codec() == BlockCodec::DagCbor {
			let block = world.store.get(path.last().unwrap()).unwrap().unwrap();
			path.push(links(&block).unwrap()[0]);
		}
		let lost = path[path.len() - 1 - usize::from(is_node)];
		let block = world.store.get(&lost).unwrap().unwrap();
		files.edit("00000001.pack", |pack| {
			let at = pack.windows(block.len()).position(|bytes| bytes == block).unwrap();
			pack[at + 9] ^= 1;
		});
		assert_eq!(world.store.note_lost(&[lost], &mut || true).unwrap(), 1);
		assert!(!world.store.has(&report.root).unwrap());

		let reader = MemoryDisk::new(bytes.clone());
		let read = reader.read.clone();
		let (again, second) = world.keep(Some(&first), reader, Some(vec![]));
		let chunks = if is_node { 4 } else { 1 };
		assert_eq!(read.lock().unwrap().len(), chunks, "and no more than that");
		assert_eq!(again.stored.read_bytes, (chunks * CHUNK) as u64);
		assert!(world.store.has(&again.root).unwrap());
		world.assert_restores(&second, 0, &bytes);
		world.assert_restores(&first, 0, &bytes);
		let made = make_whole(&world.store, &world.cancel).unwrap();
		assert_eq!((made.whole, made.lost), (vec![report.root], vec![]));
	}
}
