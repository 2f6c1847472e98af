//! A full disk: clear errors, nothing lost, and on it goes when there is room again.

use super::{fixture::*, simulated::SimulatedFiles};
use crate::repositories::{
	Chunks, EmbeddedStore, Repository, RepositoryError, StoreOptions, verify,
};
use std::sync::Arc;

const OPTIONS: StoreOptions = StoreOptions { pack_bytes: 1 << 20, reserve_bytes: 0 };

fn open(files: &SimulatedFiles, options: StoreOptions) -> EmbeddedStore {
	EmbeddedStore::open_files(Arc::new(files.clone()), options).unwrap()
}

#[test]
fn boundary_at_every_size_of_the_disk() {
	for spare in (0..400_000).step_by(9_001) {
		let files = SimulatedFiles::default();
		let store = open(&files, OPTIONS);
		let session = store.open_session().unwrap();
		let kept = chunk(1, 50_000);
		let root = node(2, &[&kept]);
		put_all(&*session, &[&kept, &root]);
		session.pin(&root.cid, b"").unwrap();
		files.set_capacity(Some(files.used() + spare));

		let leaf = chunk(3, 300_000);
		let more = node(4, &[&leaf]);
		let try_it = || {
			put(&*session, &leaf)?;
			put(&*session, &more)?;
			session.pin(&more.cid, b"more")
		};
		let result = try_it();
		let is_full = matches!(result, Err(RepositoryError::StoreFull));
		assert!(result.is_ok() || is_full, "{spare} bytes to spare: {result:?}");
		assert!(verify(&store, &root.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());

		// The same session goes on when there is room again: nothing of it was lost.
		files.set_capacity(None);
		try_it().unwrap_or_else(|error| panic!("{spare} bytes to spare, then room: {error}"));
		drop((session, store));
		let store = open(&files, OPTIONS);
		assert_eq!(store.pins().unwrap().len(), 2);
		for root in [&root, &more] {
			assert!(verify(&store, &root.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());
		}
	}
}

#[test]
fn the_reserve_leaves_room_to_collect() {
	let files = SimulatedFiles::default();
	let store = open(&files, StoreOptions { reserve_bytes: 6 << 20, ..OPTIONS });
	files.set_capacity(Some(files.used() + (20 << 20)));
	let session = store.open_session().unwrap();
	let stored = (0..100).take_while(|name| put(&*session, &chunk(*name, 1 << 20)).is_ok());
	let stored = stored.count();
	assert!((2..20).contains(&stored), "{stored} blocks");
	assert!(matches!(put(&*session, &chunk(200, 1 << 20)), Err(RepositoryError::StoreFull)));
	session.flush().unwrap();
	drop(session);
	assert_eq!(store.collect().unwrap().blocks, stored as u64);
}
