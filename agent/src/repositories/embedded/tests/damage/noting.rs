//! What somebody found missing or damaged is noted, and stored anew.

use super::*;
use crate::repositories::{
	RepositoryError,
	embedded::{collect::Marked, index::INDEX_FILE},
};

#[test]
fn a_block_that_is_noted_as_lost_is_stored_anew() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.shared[0], DATA);
	let store = open_on(&files);
	let Snapshots { shared: [damaged, good], .. } = &snapshots;
	assert_eq!(note_lost(&store, &[damaged.cid, good.cid]), 1, "the other one is good");
	assert_eq!(note_lost(&store, &[damaged.cid]), 0, "it is known");
	assert!(!store.has(&damaged.cid).unwrap() && store.has(&good.cid).unwrap());
	assert_eq!(check(&store).unnoted, 0, "a repair finds nothing new");
	for node in [&snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]] {
		assert!(!store.has(&node.cid).unwrap(), "nobody relies on what stands on it");
		assert!(store.get(&node.cid).unwrap().is_some(), "and all of it can be read");
	}
	store.collect().unwrap();
	put_again(&store, &[damaged, &snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]]);
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
	store.collect().unwrap();
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
}

#[test]
fn what_was_noted_as_lost_and_can_be_read_again_is_there_again() {
	let (files, snapshots) = disk();
	let Snapshots { shared: [block, _], .. } = &snapshots;
	flip_in(&files, block, DATA);
	let store = open_on(&files);
	note_lost(&store, &[block.cid]);
	flip_in(&files, block, DATA);
	assert_eq!(note_lost(&store, &[block.cid]), 0);
	assert!(store.has(&block.cid).unwrap());
	put_again(&store, &[&snapshots.shared_node, &snapshots.roots[0], &snapshots.roots[1]]);
	assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)));
}

#[test]
fn only_sessions_that_rely_on_what_is_lost_end() {
	for relies in [true, false] {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.own[0], DATA);
		let store = open_on(&files);
		let session = store.open_session().unwrap();
		let above = snapshots.own_nodes[usize::from(!relies)].cid;
		assert!(session.has(&above).unwrap());
		note_lost(&store, &[snapshots.own[0].cid]);
		let flushed = session.flush();
		match relies {
			true => assert!(matches!(flushed, Err(RepositoryError::SessionLost))),
			false => flushed.unwrap(),
		}
	}
}

#[test]
fn nothing_is_noted_while_blocks_are_freed() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own[0], DATA);
	let store = open_on(&files);
	let collecting = Marked::new(&store.shared).unwrap();
	let refused = store.note_lost(&[snapshots.own[0].cid], &mut || true);
	assert!(matches!(refused, Err(RepositoryError::Collecting)));
	collecting.sweep().unwrap();
	assert_eq!(note_lost(&store, &[snapshots.own[0].cid]), 1);
}

/// Notes damage, and stores again what is lost, as the next backup does.
fn note_and_mend(files: &SimulatedFiles, snapshots: &Snapshots) -> Result<(), RepositoryError> {
	let store = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL)?;
	store.note_lost(&[snapshots.shared[0].cid], &mut || true)?;
	let session = store.open_session()?;
	let blocks = [0, 1].map(|snapshot| snapshots.blocks(snapshot));
	for block in blocks.into_iter().flatten() {
		put(&*session, block)?;
	}
	session.flush()
}

/// At each step, the store either does not know of the damage yet, or nobody relies on it any more.
#[test]
fn a_power_cut_at_any_step_of_noting_and_mending_leaves_a_store_that_tells_the_truth() {
	let prepared = || {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.shared[0], DATA);
		(files, snapshots)
	};
	let (files, snapshots) = prepared();
	let before = files.steps();
	note_and_mend(&files, &snapshots).unwrap();
	let steps = files.steps() - before;
	assert!(steps > 20, "{steps} steps");
	let (mut unknown, mut noted, mut mended) = (0, 0, 0);
	for step in 0..steps {
		let (files, snapshots) = prepared();
		files.cut_after(step);
		let _ = note_and_mend(&files, &snapshots);
		let files = files.after_power_cut(step);
		let store = open_on(&files);
		let (lost, above) = (&snapshots.shared[0].cid, &snapshots.shared_node.cid);
		let is_readable = matches!(store.get(lost), Ok(Some(_)));
		match (store.has(lost).unwrap(), is_readable) {
			(true, false) => unknown += 1,
			(false, _) => {
				noted += 1;
				let nodes = [above, &snapshots.roots[0].cid, &snapshots.roots[1].cid];
				assert!(nodes.iter().all(|node| !store.has(node).unwrap()), "step {step}");
			}
			(true, true) => mended += 1,
		}
		drop(store);
		// Whatever was done before, doing it all again leads to the end.
		note_and_mend(&files, &snapshots).unwrap_or_else(|error| panic!("step {step}: {error}"));
		let store = open_on(&files);
		assert!((0..2).all(|snapshot| snapshots.is_whole(&store, snapshot)), "step {step}");
		assert!(check(&store).is_good(), "step {step}");
	}
	assert!(unknown > 0 && noted > 0 && mended > 0, "{unknown}, {noted}, {mended}");
}

/// Cause: what is below a node that is gone was never seen, so it counted as there, and its own
/// nodes as merely incomplete. Effect: the next backup pinned a snapshot with a hole.
#[test]
fn what_was_in_the_same_pack_as_a_lost_node_is_stored_anew_too() {
	for is_removed in [false, true] {
		let (files, spread, store) = Spread::new();
		match is_removed {
			true => files.take_away(PACKS[1]),
			false => files.edit(PACKS[1], Vec::clear),
		}
		assert_eq!(note_lost(&store, &[spread.inner.cid]), 4);
		for block in [&spread.inner, &spread.leaf, &spread.chunks[0], &spread.chunks[1]] {
			assert!(!store.has(&block.cid).unwrap());
		}
		assert!(store.has(&spread.first.cid).unwrap() && store.has(&spread.last.cid).unwrap());
		spread.back_up(&store);
		assert!(spread.is_whole(&store));
		assert_eq!(store.collect().unwrap().blocks, 1, "what nothing needs");
		assert!(spread.is_whole(&store));
		assert!(check(&store).is_good());
	}
}

#[test]
fn a_rotten_node_that_nobody_named_is_stored_anew_too() {
	let (files, spread, store) = Spread::new();
	rot(&files, PACKS[1], &spread.inner);
	rot(&files, PACKS[2], &spread.root);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 2, "the other one is in another pack");
	assert!(store.get(&spread.inner.cid).unwrap().is_none());
	assert_eq!(check(&store).unnoted, 0);
	spread.back_up(&store);
	assert!(spread.is_whole(&store));
	assert!(check(&store).is_good());
}

/// Cause: what was broken when it was looked at counted as broken although it was put again since.
#[test]
fn what_a_backup_makes_whole_while_something_else_is_noted_stays_whole() {
	let mut asked = 0;
	for put_at in 1..=30 {
		let (files, snapshots) = disk();
		flip_in(&files, &snapshots.shared[0], DATA);
		let store = open_on(&files);
		note_lost(&store, &[snapshots.shared[0].cid]);
		let Snapshots { shared: [lost, _], shared_node, .. } = &snapshots;
		let session = store.open_session().unwrap();
		let above = node(60, &[shared_node]);
		// All nodes are looked at for it.
		let absent = chunk(99, 10).cid;
		let mut calls = 0;
		store
			.note_lost(&[absent], &mut || {
				calls += 1;
				if calls == put_at {
					put_all(&*session, &[lost, shared_node, &above]);
				}
				true
			})
			.unwrap();
		asked = calls;
		if calls < put_at {
			break;
		}
		session.pin(&above.cid, b"").unwrap_or_else(|error| panic!("call {put_at}: {error}"));
		assert!(store.has(&above.cid).unwrap(), "call {put_at}");
		assert!(verify(&store, &above.cid, Chunks::Hashed, &mut |_| true).unwrap().is_good());
	}
	assert!((8..30).contains(&asked), "asked {asked} times");
}

#[test]
fn what_is_known_as_lost_is_not_looked_into_again_and_noting_can_be_ended() {
	let (files, snapshots) = disk();
	flip_in(&files, &snapshots.own_nodes[0], DATA);
	let store = open_on(&files);
	let lost = [snapshots.own_nodes[0].cid];
	let mut end_after = 0;
	loop {
		let mut calls = 0;
		let noted = store.note_lost(&lost, &mut || {
			calls += 1;
			calls <= end_after
		});
		if noted.unwrap() == 1 {
			break;
		}
		assert!(store.has(&lost[0]).unwrap() && store.has(&snapshots.roots[0].cid).unwrap());
		end_after += 1;
	}
	assert!(end_after > 10, "one at a time");
	let mut calls = 0;
	let again = store.note_lost(&lost, &mut || {
		calls += 1;
		true
	});
	assert_eq!((again.unwrap(), calls), (0, 1));
}

#[test]
fn nothing_is_noted_when_the_index_may_be_what_is_damaged() {
	let (files, snapshots) = disk();
	let store = open_on(&files);
	let name = snapshots.own[0].cid.digest();
	flip_in(&files, &snapshots.own[0], 3);
	flip_in_data_at(&files, &snapshots.own[0]);
	files.edit(INDEX_FILE, |bytes| {
		let mut at = 0;
		while let Some(found) = bytes[at..].windows(32).position(|window| window == name) {
			at += found + 40;
			bytes[at] ^= 1;
		}
	});
	let session = store.open_session().unwrap();
	let refused = store.note_lost(&[snapshots.own[0].cid], &mut || true);
	assert!(matches!(refused, Err(RepositoryError::IndexDamaged)), "{refused:?}");
	assert!(matches!(
		session.flush(),
		Err(RepositoryError::SessionLost | RepositoryError::IndexDamaged)
	));
}

/// Cause: of damage beyond a bound the rest was left to be found when it was looked for. Effect: it
/// counted as there, and as nothing looked into what is known again, it was never found.
#[test]
fn more_damage_than_is_held_is_noted_to_the_end() {
	let (files, many, store) = Many::new();
	let lost = many.lose(&files, &store);
	assert_eq!(note_lost(&store, &[lost[0].cid]), lost.len() as u64);
	assert!(lost.iter().all(|chunk| !store.has(&chunk.cid).unwrap()), "the rest, too");
	assert_eq!(note_lost(&store, &[lost[0].cid]), 0);
	many.back_up(&store);
	assert!(many.is_whole(&store));
}
