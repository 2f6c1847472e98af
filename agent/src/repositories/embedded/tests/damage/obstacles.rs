//! Nothing is freed that may hang below a node which cannot be read, for as long as it may come back.

use super::*;
use crate::{
	pipeline::tests::fixture::{MemoryDisk, World, noise},
	repositories::{Collected, Obstacle, embedded::tests::simulated::Chance},
};

/// A collection frees nothing, and names these nodes and the snapshots that need them.
pub(super) fn assert_stopped_at(store: &EmbeddedStore, nodes: &[&Block]) {
	assert_eq!(store.collect().unwrap(), Collected::default());
	let found = store.obstacles();
	let named: Vec<Cid> = found.named.iter().map(|obstacle| obstacle.node).collect();
	assert_eq!(named, nodes.iter().map(|node| node.cid).collect::<Vec<_>>());
	assert_eq!(found.count, nodes.len() as u64);
	let is_pinned = |obstacle: &Obstacle| store.is_pinned(&obstacle.root.unwrap());
	assert!(found.named.iter().all(is_pinned) && store.has_garbage());
	assert_eq!(store.look_for_obstacles().unwrap().named, found.named, "they are known");
}

/// Cause: a node that was noted as damaged led nowhere, so nothing below it was needed. Effect: all
/// of a snapshot was freed because its root could not be read for a while.
#[test]
fn nothing_is_freed_because_a_pack_was_away() {
	let (files, spread, store) = Spread::new();
	let pack = files.content(PACKS[2]);
	files.edit(PACKS[2], Vec::clear);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 2);
	for _ in 0..2 {
		assert_stopped_at(&store, &[&spread.root]);
	}
	assert!(store.has(&spread.unneeded.cid).unwrap());

	files.edit(PACKS[2], |bytes| *bytes = pack);
	assert_eq!(note_lost(&store, &[spread.root.cid]), 0);
	assert!(store.has(&spread.last.cid).unwrap(), "it came back with the root");
	put_again(&store, &[&spread.root]);
	assert!(spread.is_whole(&store));
	assert_eq!(store.collect().unwrap().blocks, 1);
	assert!(!store.obstacles().any());
	assert!(spread.is_whole(&store) && check(&store).is_good());
}

#[test]
fn nothing_is_freed_because_of_damage_that_nobody_has_noted() {
	let (files, spread, store) = Spread::new();
	rot(&files, PACKS[1], &spread.inner);
	assert_eq!(store.collect().unwrap(), Collected::default());
	let obstacle = Obstacle { node: spread.inner.cid, root: Some(spread.root.cid) };
	assert_eq!(store.obstacles().named, [obstacle]);
	assert_eq!(note_lost(&store, &[spread.inner.cid]), 1);
	assert_stopped_at(&store, &[&spread.inner]);
}

#[test]
fn blocks_are_freed_again_once_a_damaged_node_is_mended_given_up_or_repaired() {
	type WayOut = fn(&EmbeddedStore, &Spread);
	// What is freed then, and what is left.
	let ways: [(WayOut, u64, bool); 3] = [
		(|store, spread| spread.back_up(store), 1, true),
		(|store, spread| assert!(store.unpin(&spread.root.cid).unwrap()), 8, false),
		(|store, _| assert_eq!(repair(store).unnoted, 0), 4, false),
	];
	for (number, (way_out, freed, is_whole)) in ways.into_iter().enumerate() {
		let (files, spread, store) = Spread::new();
		rot(&files, PACKS[1], &spread.inner);
		assert_eq!(note_lost(&store, &[spread.inner.cid]), 1);
		drop(store);
		let store = open_on(&files);
		// It is known at the next start, too.
		assert_stopped_at(&store, &[&spread.inner]);
		assert!(store.has(&spread.leaf.cid).unwrap());
		way_out(&store, &spread);
		assert_eq!(spread.is_whole(&store), is_whole, "way {number}");
		assert_eq!(store.collect().unwrap().blocks, freed, "way {number}");
		assert_eq!(spread.is_whole(&store), is_whole, "way {number}");
		assert!(!store.obstacles().any() && !store.has_garbage(), "way {number}");
	}
}

/// A pinned tree in three packs: what hangs below the node in the second stands in the first.
pub(super) struct Deep {
	pub(super) deep: Block,
	side: Block,
	inner: Block,
	last: Block,
	pub(super) root: Block,
}

impl Deep {
	pub(super) fn new() -> (SimulatedFiles, Self) {
		let [deep, side, last] = [1, 2, 3].map(|name| chunk(name, 60_000));
		let inner = node(4, &[&deep]);
		let root = node(5, &[&side, &inner, &last]);
		let tree = Self { deep, side, inner, last, root };
		let files = SimulatedFiles::default();
		let store = open_on(&files);
		tree.back_up(&store);
		let place = |block: &Block| store.shared.index.get(&block.cid.digest()).unwrap().unwrap();
		let blocks = [&tree.deep, &tree.side, &tree.inner, &tree.last, &tree.root];
		assert_eq!(blocks.map(|block| place(block).pack), [1, 2, 2, 3, 3]);
		drop(store);
		(files, tree)
	}

	pub(super) fn back_up(&self, store: &EmbeddedStore) {
		let session = store.open_session().unwrap();
		put_all(&*session, &[&self.deep, &self.side, &self.inner, &self.last, &self.root]);
		session.pin(&self.root.cid, b"label").unwrap();
	}

	pub(super) fn is_whole(&self, store: &EmbeddedStore) -> bool {
		let root = &self.root.cid;
		store.has(root).unwrap()
			&& verify(store, root, Chunks::Hashed, &mut |_| true).unwrap().is_good()
	}
}

pub(super) fn open_and_confirm(files: &SimulatedFiles) -> EmbeddedStore {
	let store = open_on(files);
	assert!(store.pins_unconfirmed(), "its index was made anew");
	store.confirm_pins().unwrap();
	store
}

/// Cause: an index that was made anew while a pack was away knew nothing of a node in it, and what
/// is absent below an incomplete node led nowhere. Effect: what hangs below that node was freed, and
/// was missing when the pack was there again.
#[test]
fn nothing_is_freed_because_a_pack_was_away_when_the_store_was_opened() {
	for away in [1, 2] {
		let (files, tree) = Deep::new();
		let pack = files.content(PACKS[away]);
		files.take_away(PACKS[away]);
		let store = open_and_confirm(&files);
		let absent = [&tree.inner, &tree.root][away - 1];
		assert_stopped_at(&store, &[absent]);
		drop(store);
		// Not only until the next start.
		let store = open_on(&files);
		assert_stopped_at(&store, &[absent]);
		drop(store);
		files.put_back(PACKS[away], &pack);
		let store = open_and_confirm(&files);
		assert_eq!(store.collect().unwrap(), Collected::default());
		assert!(!store.obstacles().any() && tree.is_whole(&store), "pack {away}");
	}
}

/// Cause: the next pack took the number after the last that was there. Effect: the last one, put back
/// after it was away, took the place of a newer one.
#[test]
fn the_number_of_a_pack_that_is_away_is_not_given_again() {
	let (files, tree) = Deep::new();
	let pack = files.content(PACKS[2]);
	files.take_away(PACKS[2]);
	drop(open_on(&files));
	let store = open_on(&files);
	store.confirm_pins().unwrap();
	tree.back_up(&store);
	drop(store);
	assert!(!files.names().iter().any(|name| name == PACKS[2]));
	files.put_back(PACKS[2], &pack);
	let store = open_on(&files);
	assert!(tree.is_whole(&store) && check(&store).is_good());
}

/// Cause: the last pack, put back after it was away, was taken for what a crash had left behind, since
/// the index had the root. Effect: it was removed.
#[test]
fn the_last_pack_is_taken_up_again_although_the_root_stands_in_another() {
	let (files, tree) = Deep::new();
	rot(&files, PACKS[0], &tree.deep);
	let store = open_on(&files);
	assert_eq!(note_lost(&store, &[tree.deep.cid]), 1);
	put_again(&store, &[&tree.deep, &tree.inner, &tree.root]);
	assert!(tree.is_whole(&store));
	drop(store);
	let last = files.names().into_iter().filter(|name| name.ends_with("pack")).max().unwrap();
	let pack = files.content(&last);
	files.take_away(&last);
	let store = open_and_confirm(&files);
	assert!(!tree.is_whole(&store) && store.get(&tree.root.cid).unwrap().is_some());
	drop(store);
	files.put_back(&last, &pack);
	assert!(tree.is_whole(&open_and_confirm(&files)));
}

/// A tree of chunks and nodes in a random order, over several packs, its root the last.
fn any_tree(chance: &mut Chance) -> Vec<Block> {
	let (mut blocks, mut tops): (Vec<Block>, Vec<usize>) = (Vec::new(), Vec::new());
	for name in 0..30 {
		let block = match tops.len() {
			2.. if chance.below(2) == 0 => {
				let mut pick = || tops.swap_remove(chance.below(tops.len() as u64) as usize);
				let (one, two) = (pick(), pick());
				node(name, &[&blocks[one], &blocks[two]])
			}
			_ => chunk(name, 15_000),
		};
		tops.push(blocks.len());
		blocks.push(block);
	}
	let tops: Vec<&Block> = tops.iter().map(|top| &blocks[*top]).collect();
	blocks.push(node(99, &tops));
	blocks
}

#[test]
fn whatever_packs_are_away_for_a_while_no_snapshot_is_lost() {
	let mut stopped = 0;
	for seed in 0..60 {
		let mut chance = Chance::new(seed);
		let files = SimulatedFiles::default();
		let blocks = any_tree(&mut chance);
		let root = blocks.last().unwrap().cid;
		let store = open_on(&files);
		let session = store.open_session().unwrap();
		put_all(&*session, &blocks.iter().collect::<Vec<_>>());
		session.pin(&root, b"label").unwrap();
		drop((session, store));
		let mut packs: Vec<_> = files.names();
		packs.retain(|name| name.ends_with("pack") && chance.below(2) == 0);
		let away: Vec<_> = packs.iter().map(|name| files.content(name)).collect();
		packs.iter().for_each(|name| files.take_away(name));
		for _ in 0..=chance.below(2) {
			let store = open_on(&files);
			store.confirm_pins().unwrap();
			store.collect().unwrap();
			// Some of it is stored again, by a backup that does not come to its end, and more besides.
			let session = store.open_session().unwrap();
			for block in blocks.iter().filter(|_| chance.below(4) == 0) {
				let _ = put(&*session, block);
			}
			put_all(&*session, &[&chunk(1000 + chance.below(9), 15_000)]);
			session.flush().unwrap();
			drop(session);
			store.collect().unwrap();
			stopped += u64::from(store.obstacles().any());
		}
		for (name, pack) in packs.iter().zip(&away) {
			files.put_back(name, pack);
		}
		let store = open_on(&files);
		store.confirm_pins().unwrap();
		store.collect().unwrap();
		let report = verify(&store, &root, Chunks::Hashed, &mut |_| true).unwrap();
		assert!(report.is_good() && store.has(&root).unwrap(), "seed {seed}: {report:?}");
		assert!(check(&store).is_good(), "seed {seed}");
		assert_eq!(store.usage().unwrap().blocks, blocks.len() as u64, "seed {seed}");
	}
	assert!(stopped > 20, "{stopped}");
}

#[test]
fn a_pack_that_is_away_for_ever_holds_nothing_after_a_backup_or_a_repair() {
	for is_backed_up in [true, false] {
		let (files, tree) = Deep::new();
		files.take_away(PACKS[1]);
		let store = open_and_confirm(&files);
		assert_stopped_at(&store, &[&tree.inner]);
		match is_backed_up {
			true => tree.back_up(&store),
			false => drop(repair(&store)),
		}
		let freed = u64::from(!is_backed_up);
		assert_eq!(store.collect().unwrap().blocks, freed, "what only the lost node led to");
		assert_eq!(tree.is_whole(&store), is_backed_up);
		assert!(!store.obstacles().any() && !store.look_for_obstacles().unwrap().any());
	}
}

/// Cause: whether damaged nodes may come back was one word for the whole store. Effect: what a
/// repair had gone on without kept blocks from being freed again as soon as anything else was noted.
#[test]
fn a_node_that_was_given_up_stays_so_when_another_one_is_noted() {
	let (files, snapshots) = disk();
	let Snapshots { own_nodes: [first, second], roots, .. } = &snapshots;
	flip_in(&files, first, DATA);
	let store = open_on(&files);
	put_again(&store, &[&chunk(99, 10)]);
	note_lost(&store, &[first.cid]);
	assert_stopped_at(&store, &[first]);
	repair(&store);
	assert_eq!(store.collect().unwrap().blocks, 2, "what nothing needs, and what hung below it");

	flip_in(&files, second, DATA);
	put_again(&store, &[&chunk(98, 10)]);
	assert_eq!(note_lost(&store, &[second.cid]), 1);
	assert_stopped_at(&store, &[second]);
	put_again(&store, &[second, &roots[1]]);
	assert_eq!(store.collect().unwrap().blocks, 1);
	assert!(!store.obstacles().any() && snapshots.is_whole(&store, 1));
}

/// Cause: that a node vouched for what the index does not know was taken for damage like any other.
/// Effect: what hangs below the unknown node was freed.
#[test]
fn what_an_index_lacks_without_a_reason_may_come_back() {
	let (_files, spread, store) = Spread::new();
	store.shared.index.remove(&[spread.leaf.cid.digest()]).unwrap();
	assert_eq!(note_lost(&store, &[spread.leaf.cid]), 0, "no block is damaged");
	assert!(!store.has(&spread.inner.cid).unwrap() && !store.has(&spread.root.cid).unwrap());
	assert_stopped_at(&store, &[&spread.leaf]);
	put_again(&store, &[&spread.leaf, &spread.inner, &spread.root]);
	assert_eq!(store.collect().unwrap().blocks, 1);
	assert!(spread.is_whole(&store));
}

/// What was given up before is no more waited for, and a rebuild knows nothing of that.
#[test]
fn an_index_that_is_made_anew_waits_again_for_what_was_given_up() {
	let (files, tree) = Deep::new();
	rot(&files, PACKS[1], &tree.inner);
	let store = open_on(&files);
	repair(&store);
	assert!(!store.look_for_obstacles().unwrap().any());
	drop(store);
	files.take_away(crate::repositories::embedded::index::INDEX_FILE);
	let store = open_and_confirm(&files);
	assert_stopped_at(&store, &[&tree.inner]);
}

/// Two snapshots of a machine each, and the first one's tree is damaged.
fn two_machines() -> (SimulatedFiles, World, [Cid; 2]) {
	let files = SimulatedFiles::default();
	let world = World { store: open_on(&files), ..World::new() };
	let keep = |name| world.keep(None, MemoryDisk::new(noise(name, 20_000)), None).0.root;
	let roots = [keep(1), keep(2)];
	let tree = world.open(&roots[0]).disks[0].tree.clone().unwrap().cid;
	damage_any(&files, &world.store, &tree);
	assert_eq!(note_lost(&world.store, &[tree]), 1);
	(files, world, roots)
}

fn damage_any(files: &SimulatedFiles, store: &EmbeddedStore, cid: &Cid) {
	let bytes = store.get(cid).unwrap().unwrap();
	let entry = store.shared.index.get(&cid.digest()).unwrap().unwrap();
	rot(files, PACKS[entry.pack as usize - 1], &Block { cid: *cid, bytes });
}

/// Cause: nothing at all was freed while a node could not be read. Effect: no deletion of anybody
/// was told to the chain because of one damaged snapshot.
#[test]
fn roots_that_were_given_up_go_although_something_else_is_damaged() {
	let (_files, world, roots) = two_machines();
	let store = &world.store;
	let tree = world.open(&roots[1]).disks[0].tree.clone().unwrap().cid;
	let blocks = store.usage().unwrap().blocks;
	store.unpin(&roots[1]).unwrap();
	assert_eq!(store.collect().unwrap().blocks, 1, "and no more: the rest may be needed");
	assert!(store.get(&roots[1]).unwrap().is_none() && store.get(&tree).unwrap().is_some());
	assert_eq!(store.usage().unwrap().blocks, blocks - 1);
	let found = store.obstacles();
	assert!(found.any() && !found.has_dead_roots, "{found:?}");
	assert!(store.get(&roots[0]).unwrap().is_some(), "it is pinned");
	assert_eq!(store.collect().unwrap().blocks, 0);
	// Then the rest of both.
	store.unpin(&roots[0]).unwrap();
	store.collect().unwrap();
	assert_eq!(store.usage().unwrap().blocks, 0);
}

#[test]
fn a_root_that_was_given_up_and_cannot_be_read_is_told_to_be_left() {
	for is_noted in [true, false] {
		let (files, world, roots) = two_machines();
		let store = &world.store;
		damage_any(&files, store, &roots[1]);
		if is_noted {
			assert_eq!(note_lost(store, &[roots[1]]), 1);
		}
		store.unpin(&roots[1]).unwrap();
		assert_eq!(store.collect().unwrap().blocks, 0);
		assert!(store.obstacles().has_dead_roots, "its disk may have it again");
		repair(store);
		store.collect().unwrap();
		assert!(!store.obstacles().any() && store.get(&roots[1]).unwrap().is_none());
	}
}

#[test]
fn a_root_that_a_session_relies_on_stays_although_nothing_pins_it() {
	let (_files, world, roots) = two_machines();
	let store = &world.store;
	let session = store.open_session().unwrap();
	store.unpin(&roots[1]).unwrap();
	assert!(session.has(&roots[1]).unwrap());
	assert_eq!(store.collect().unwrap().blocks, 0);
	session.pin(&roots[1], b"label").unwrap();
	drop(session);
	assert_eq!(store.collect().unwrap().blocks, 0);
	assert!(verify(store, &roots[1], Chunks::Hashed, &mut |_| true).unwrap().is_good());
}

/// Cause: what is younger than the oldest session stays, and nobody was told. Effect: the chain heard that a
/// snapshot was deleted which could still be opened.
#[test]
fn a_root_that_was_given_up_and_is_younger_than_a_session_is_told_to_be_left() {
	let world = World::new();
	let store = &world.store;
	let session = store.open_session().unwrap();
	let root = world.keep(None, MemoryDisk::new(noise(1, 20_000)), None).0.root;
	store.collect().unwrap();
	assert!(!store.obstacles().has_dead_roots, "it is pinned");
	store.unpin(&root).unwrap();
	assert_eq!(store.collect().unwrap(), Collected::default());
	assert!(store.get(&root).unwrap().is_some());
	assert!(store.obstacles().has_dead_roots && store.has_garbage());
	drop(session);
	assert!(store.collect().unwrap().blocks > 0);
	assert!(store.get(&root).unwrap().is_none());
	assert!(!store.obstacles().has_dead_roots && !store.has_garbage());
}

/// Goes on without what is damaged, and frees what only that led to.
fn repair_and_collect(files: &SimulatedFiles) -> Option<()> {
	let store = EmbeddedStore::open_files(Arc::new(files.clone()), SMALL).ok()?;
	store.repair(&mut |_| true).ok()?;
	store.collect().ok().map(drop)
}

/// At each step either the node is still waited for, and all below it is there, or it is not.
#[test]
fn a_power_cut_at_any_step_of_giving_up_leaves_a_store_that_waits_or_does_not() {
	let prepared = || {
		let (files, spread, store) = Spread::new();
		rot(&files, PACKS[1], &spread.inner);
		assert_eq!(note_lost(&store, &[spread.inner.cid]), 1);
		drop(store);
		(files, spread)
	};
	let (files, _) = prepared();
	let before = files.steps();
	repair_and_collect(&files).unwrap();
	let steps = files.steps() - before;
	let (mut waiting, mut given_up) = (0, 0);
	for step in 0..steps {
		let (files, spread) = prepared();
		files.cut_after(step);
		let _ = repair_and_collect(&files);
		let store = open_on(&files.after_power_cut(step));
		match store.look_for_obstacles().unwrap().any() {
			true => {
				waiting += 1;
				assert!(store.has(&spread.leaf.cid).unwrap(), "step {step}");
				assert_stopped_at(&store, &[&spread.inner]);
			}
			false => {
				given_up += 1;
				store.collect().unwrap();
				assert!(!store.has(&spread.leaf.cid).unwrap(), "step {step}");
			}
		}
		spread.back_up(&store);
		assert!(spread.is_whole(&store), "step {step}");
	}
	assert!(waiting > 0 && given_up > 0, "{waiting}, {given_up}");
}
