//! The store on a real disk, one behaviour at a time.

use super::fixture::*;
use crate::repositories::{
	BlockSource, Chunks, Collected, EmbeddedStore, LABEL_BYTES_MAX, Put, Repository,
	RepositoryError,
	embedded::{collect::Marked, record::Header},
	verify,
};
use std::{
	fs,
	os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
	path::Path,
};

#[test]
fn blocks_come_back_before_and_after_a_flush_and_a_restart() {
	let folder = tempfile::tempdir().unwrap();
	let (small, large) = (chunk(1, 10), chunk(2, 50_000));
	let blocks = [&small, &large, &node(3, &[&small, &large]), &chunk(4, 0)];
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	for block in blocks {
		assert_eq!(put(&*session, block).unwrap(), Put::Stored);
		assert_eq!(put(&*session, block).unwrap(), Put::Present);
	}
	assert_there(&store, &blocks);
	session.flush().unwrap();
	assert_there(&store, &blocks);
	assert_eq!(put(&*session, blocks[0]).unwrap(), Put::Present);
	drop((session, store));
	assert_there(&open(folder.path()), &blocks);
}

#[test]
fn what_was_not_flushed_is_gone_after_a_restart() {
	let folder = tempfile::tempdir().unwrap();
	let (kept, lost) = (chunk(1, 1000), chunk(2, 1000));
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&kept]);
	session.flush().unwrap();
	put_all(&*session, &[&lost]);
	drop((session, store));
	let store = open(folder.path());
	assert_there(&store, &[&kept]);
	assert_gone(&store, &[&lost]);
}

#[test]
fn a_block_that_is_not_what_its_cid_says_is_refused() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let put = store.open_session().unwrap().put(&chunk(1, 10).cid, b"something else");
	assert!(matches!(put, Err(RepositoryError::Corrupt { .. })));
}

#[test]
fn a_node_comes_after_its_children() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	let child = chunk(1, 10);
	let parent = node(2, &[&child]);
	let refused = put(&*session, &parent);
	assert!(matches!(
		refused,
		Err(RepositoryError::Incomplete { node, child: missing })
			if node == parent.cid && missing == child.cid
	));
	put_all(&*session, &[&child, &parent]);
	assert_there(&store, &[&child, &parent]);
}

#[test]
fn bytes_of_a_node_that_came_as_a_chunk_are_no_node() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	let child = chunk(1, 10);
	let parent = node(2, &[&child]);
	let as_chunk = crate::format::Cid::raw(parent.cid.digest());
	session.put(&as_chunk, &parent.bytes).unwrap();
	assert!(!session.has(&parent.cid).unwrap());
	assert!(put(&*session, &parent).is_err());
	put_all(&*session, &[&child, &parent]);
	assert!(session.has(&parent.cid).unwrap() && session.has(&as_chunk).unwrap());
	session.pin(&parent.cid, b"").unwrap();
	drop(session);
	store.collect().unwrap();
	assert_there(&store, &[&child, &parent]);
}

#[test]
fn pins_keep_their_trees_and_survive_a_restart() {
	let folder = tempfile::tempdir().unwrap();
	let (first, second, shared) = (chunk(1, 9000), chunk(2, 9000), chunk(3, 9000));
	let old = node(4, &[&first, &shared]);
	let new = node(5, &[&second, &shared]);
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&first, &shared, &old, &second, &new]);
	session.pin(&old.cid, b"old").unwrap();
	session.pin(&new.cid, b"new").unwrap();
	drop(session);
	assert_eq!(store.collect().unwrap(), Collected::default());
	assert!(store.unpin(&old.cid).unwrap());
	assert!(!store.unpin(&old.cid).unwrap());
	drop(store);
	let store = open(folder.path());
	let pins = store.pins().unwrap();
	assert_eq!(pins.iter().map(|pin| pin.label.as_slice()).collect::<Vec<_>>(), [b"new"]);
	let bytes = 9000 + old.bytes.len() as u64;
	assert_eq!(store.collect().unwrap(), Collected { blocks: 2, bytes });
	assert_gone(&store, &[&first, &old]);
	assert_there(&store, &[&second, &shared, &new]);
	assert!(verify(&store, &new.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());
	assert_eq!(store.usage().unwrap().blocks, 3);
}

#[test]
fn a_session_keeps_what_it_was_told_is_there() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let leaf = chunk(1, 5000);
	let inner = node(2, &[&leaf]);
	let other = chunk(3, 5000);
	put_all(&*store.open_session().unwrap(), &[&leaf, &inner, &other]);
	let session = store.open_session().unwrap();
	assert!(session.has(&inner.cid).unwrap());
	let collected = store.collect().unwrap();
	assert_eq!(collected.blocks, 1);
	assert_there(&store, &[&leaf, &inner]);
	assert_gone(&store, &[&other]);
	drop(session);
	assert_eq!(store.collect().unwrap().blocks, 2);
	assert_gone(&store, &[&leaf, &inner]);
}

#[test]
fn a_session_may_rely_on_a_dying_tree_until_it_is_removed() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let (leaf, other) = (chunk(1, 5000), chunk(2, 5000));
	let inner = node(3, &[&leaf]);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&leaf, &inner, &other]);
	drop(session);
	let marked = Marked::new(&store.shared).unwrap();
	assert!(matches!(store.collect(), Err(RepositoryError::Collecting)));
	let session = store.open_session().unwrap();
	assert!(session.has(&inner.cid).unwrap());
	let outer = node(4, &[&inner]);
	put_all(&*session, &[&outer]);
	session.pin(&outer.cid, b"").unwrap();
	// The pin is too late for the marks, and the session is gone before the sweep.
	drop(session);
	assert_eq!(marked.sweep().unwrap().blocks, 1);
	assert_there(&store, &[&leaf, &inner, &outer]);
	assert_gone(&store, &[&other]);
	assert_eq!(store.collect().unwrap(), Collected::default());
}

#[test]
fn a_young_node_of_an_ended_session_keeps_its_old_children() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let leaf = chunk(1, 5000);
	put_all(&*store.open_session().unwrap(), &[&leaf]);
	let onlooker = store.open_session().unwrap();
	let parent = node(2, &[&leaf]);
	put_all(&*store.open_session().unwrap(), &[&parent]);
	// The parent is younger than the onlooker, so it stays, and the leaf must too.
	store.collect().unwrap();
	assert!(onlooker.has(&parent.cid).unwrap());
	assert_there(&store, &[&leaf, &parent]);
}

#[test]
fn what_a_session_leaves_unpinned_is_garbage() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let root = node(1, &[]);
	assert!(!store.has_garbage(), "it is empty");
	let session = store.open_session().unwrap();
	put_all(&*session, &[&root]);
	session.pin(&root.cid, b"").unwrap();
	drop(session);
	assert!(!store.has_garbage());
	put_all(&*store.open_session().unwrap(), &[&chunk(2, 1000)]);
	assert!(store.has_garbage());
	store.collect().unwrap();
	assert!(!store.has_garbage());
	assert!(store.unpin(&root.cid).unwrap());
	assert!(store.has_garbage());
	// Before it was collected the agent was killed.
	drop(store);
	let store = open(folder.path());
	assert!(store.has_garbage());
	assert_eq!(store.collect().unwrap().blocks, 1);
}

#[test]
fn a_pack_that_was_left_before_its_blocks_were_committed_stays() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let garbage = chunk(1, 1000);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&garbage]);
	session.flush().unwrap();
	drop(session);
	let marked = Marked::new(&store.shared).unwrap();
	// The first block goes behind the garbage, the second fits only into the next pack.
	let (behind, next) = (chunk(2, 1000), chunk(3, 64_000));
	let session = store.open_session().unwrap();
	put_all(&*session, &[&behind, &next]);
	assert_eq!(marked.sweep().unwrap().blocks, 1);
	let root = node(4, &[&behind, &next]);
	put_all(&*session, &[&root]);
	session.flush().unwrap();
	session.pin(&root.cid, b"").unwrap();
	drop((session, store));
	assert_there(&open(folder.path()), &[&behind, &next, &root]);
}

#[test]
fn freed_space_goes_back_to_the_file_system() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	let chunks: Vec<_> = (0..40).map(|name| chunk(name, 16_000)).collect();
	let kept: Vec<_> = chunks.iter().step_by(8).collect();
	put_all(&*session, &chunks.iter().collect::<Vec<_>>());
	let root = node(100, &kept);
	put_all(&*session, &[&root]);
	session.pin(&root.cid, b"").unwrap();
	drop(session);
	let allocated = || -> u64 {
		let entries = fs::read_dir(folder.path()).unwrap();
		let packs = entries.filter_map(|entry| {
			let entry = entry.unwrap();
			let is_pack = entry.path().extension().is_some_and(|name| name == "pack");
			is_pack.then(|| entry.metadata().unwrap().blocks() * 512)
		});
		packs.sum()
	};
	let before = allocated();
	assert_eq!(store.collect().unwrap().blocks, 35);
	assert!(allocated() < before / 3, "{before} → {}", allocated());
	assert_there(&store, &kept);
	assert_every_record_follows_the_one_before(folder.path());
	// A rebuild steps over the holes.
	drop(store);
	fs::remove_file(folder.path().join("index.redb")).unwrap();
	let store = open(folder.path());
	assert_there(&store, &kept);
	assert_eq!(store.usage().unwrap().blocks, 6);
}

/// Dead space has its skip header, so nobody has to search for the next record.
fn assert_every_record_follows_the_one_before(folder: &Path) {
	for entry in fs::read_dir(folder).unwrap() {
		let path = entry.unwrap().path();
		if path.extension().is_none_or(|extension| extension != "pack") {
			continue;
		}
		let bytes = fs::read(&path).unwrap();
		let mut at = 0;
		while at < bytes.len() {
			let header = bytes[at..].first_chunk().and_then(|header| Header::decode(header, &[]));
			let header = header.unwrap_or_else(|| panic!("no record at {at} of {path:?}"));
			at += header.record_bytes() as usize;
		}
		assert_eq!(at, bytes.len());
	}
}

#[test]
fn losing_the_index_loses_neither_blocks_nor_pins() {
	let folder = tempfile::tempdir().unwrap();
	let leaf = chunk(1, 100_000);
	let root = node(2, &[&leaf]);
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&leaf, &root]);
	session.pin(&root.cid, b"label").unwrap();
	drop((session, store));
	let index = folder.path().join("index.redb");
	for damage in [&b""[..], b"not a database", &[0; 4096]] {
		fs::write(&index, damage).unwrap();
		let store = open(folder.path());
		assert_there(&store, &[&leaf, &root]);
		assert_eq!(store.pins().unwrap()[0].label, b"label");
		assert!(store.pins_unconfirmed());
		assert!(matches!(store.collect(), Err(RepositoryError::PinsUnconfirmed)));
		store.confirm_pins().unwrap();
		assert_eq!(store.collect().unwrap(), Collected::default());
		drop(store);
		assert!(!open(folder.path()).pins_unconfirmed());
	}
}

#[test]
fn an_old_copy_of_the_index_is_not_believed() {
	let folder = tempfile::tempdir().unwrap();
	let (index, copy) = (folder.path().join("index.redb"), folder.path().join("copy"));
	let snapshot = |name| {
		let leaf = chunk(name, 100_000);
		let root = node(name, &[&leaf]);
		let store = open(folder.path());
		let session = store.open_session().unwrap();
		put_all(&*session, &[&leaf, &root]);
		session.pin(&root.cid, b"").unwrap();
		[leaf, root]
	};
	let old = snapshot(1);
	fs::copy(&index, &copy).unwrap();
	let new = snapshot(2);
	fs::copy(&copy, &index).unwrap();
	let store = open(folder.path());
	assert_there(&store, &old.iter().chain(&new).collect::<Vec<_>>());
	assert!(store.pins_unconfirmed());
}

#[test]
fn a_rebuild_goes_on_behind_damage_and_trusts_no_incomplete_node() {
	let folder = tempfile::tempdir().unwrap();
	let (bad, good) = (chunk(1, 1000), chunk(2, 1000));
	let (without, with) = (node(3, &[&bad]), node(4, &[&good]));
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&bad, &good, &without, &with]);
	session.flush().unwrap();
	drop((session, store));
	let pack = fs::OpenOptions::new().write(true).open(folder.path().join("00000001.pack"));
	pack.unwrap().write_all_at(b"damage", 500).unwrap();
	fs::remove_file(folder.path().join("index.redb")).unwrap();
	let store = open(folder.path());
	assert_gone(&store, &[&bad]);
	assert!(!store.has(&without.cid).unwrap());
	assert_there(&store, &[&good, &with]);
	let session = store.open_session().unwrap();
	put_all(&*session, &[&bad, &without]);
	assert_there(&store, &[&bad, &without]);
}

#[test]
fn a_damaged_block_is_found_when_read_checked() {
	let folder = tempfile::tempdir().unwrap();
	let leaf = chunk(1, 1000);
	let root = node(2, &[&leaf]);
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&leaf, &root]);
	session.flush().unwrap();
	let pack = fs::OpenOptions::new().write(true).open(folder.path().join("00000001.pack"));
	pack.unwrap().write_all_at(b"damage", 500).unwrap();
	assert!(
		matches!(store.get(&leaf.cid), Err(RepositoryError::Corrupt { cid }) if cid == leaf.cid)
	);
	assert!(store.get_unchecked(&leaf.cid).is_ok());
	let report = verify(&store, &root.cid, Chunks::Hashed, &mut |_| true).unwrap();
	assert_eq!((report.good_blocks, report.bad_blocks), (1, 1));
	assert_eq!(report.corrupt, [leaf.cid]);
}

#[test]
fn damage_inside_the_pin_log_costs_one_pin_and_stops_collections() {
	let folder = tempfile::tempdir().unwrap();
	let roots: Vec<_> = (0..3).map(|name| node(name, &[])).collect();
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	for root in &roots {
		put_all(&*session, &[root]);
		session.pin(&root.cid, b"label").unwrap();
	}
	drop((session, store));
	let log = folder.path().join("pins.log");
	let mut bytes = fs::read(&log).unwrap();
	let record = bytes.len() / 3;
	bytes[record + 66] ^= 1;
	fs::write(&log, &bytes).unwrap();
	let store = open(folder.path());
	assert_eq!(store.pins().unwrap().len(), 2);
	assert!(store.pins_unconfirmed());
	drop(store);
	// A torn record at the end was never acknowledged.
	bytes[record + 66] ^= 1;
	fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
	let store = open(folder.path());
	store.confirm_pins().unwrap();
	assert_eq!(store.pins().unwrap().len(), 2);
	drop(store);
	assert!(!open(folder.path()).pins_unconfirmed());
}

#[test]
fn the_pin_log_stays_small() {
	let folder = tempfile::tempdir().unwrap();
	let root = node(1, &[]);
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	put_all(&*session, &[&root]);
	for turn in 0..150u32 {
		session.pin(&root.cid, &turn.to_le_bytes()).unwrap();
		store.unpin(&root.cid).unwrap();
	}
	session.pin(&root.cid, b"last").unwrap();
	drop((session, store));
	let log = folder.path().join("pins.log");
	assert!(fs::metadata(&log).unwrap().len() > 15_000);
	assert_eq!(open(folder.path()).pins().unwrap()[0].label, b"last");
	assert_eq!(fs::metadata(&log).unwrap().len(), 68);
	assert_eq!(open(folder.path()).pins().unwrap()[0].label, b"last");
}

#[test]
fn a_store_has_one_user_and_is_nobody_elses() {
	let folder = tempfile::tempdir().unwrap();
	let path = folder.path().join("store");
	let store = open(&path);
	let second = EmbeddedStore::open(&path, SMALL);
	assert!(matches!(second, Err(RepositoryError::InUse { .. })));
	put_all(&*store.open_session().unwrap(), &[&chunk(1, 10)]);
	assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
	for entry in fs::read_dir(&path).unwrap() {
		let mode = entry.unwrap().metadata().unwrap().permissions().mode();
		assert_eq!(mode & 0o777, 0o600);
	}
	drop(store);
	assert!(EmbeddedStore::open(&path, SMALL).is_ok());
}

#[test]
fn boundary_labels_and_blocks() {
	let folder = tempfile::tempdir().unwrap();
	let store = open(folder.path());
	let session = store.open_session().unwrap();
	let root = node(1, &[]);
	assert!(matches!(session.pin(&root.cid, b""), Err(RepositoryError::Missing { .. })));
	put_all(&*session, &[&root]);
	session.pin(&root.cid, &[7; LABEL_BYTES_MAX]).unwrap();
	let longer = session.pin(&root.cid, &[7; LABEL_BYTES_MAX + 1]);
	assert!(matches!(longer, Err(RepositoryError::LabelTooLong { found: 257, max: 256 })));
	let largest = chunk(2, crate::format::BLOCK_BYTES_MAX);
	put_all(&*session, &[&largest]);
	assert_there(&store, &[&largest]);
	let larger = put(&*session, &chunk(3, crate::format::BLOCK_BYTES_MAX + 1));
	assert!(matches!(larger, Err(RepositoryError::BlockTooLarge { .. })));
}
