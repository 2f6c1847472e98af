//! Random operations, compared with a model of a few lines.

use super::{fixture::*, simulated::SimulatedFiles};
use crate::repositories::{BlockSource, EmbeddedStore, Put, Repository, Session};
use proptest::prelude::*;
use std::{
	collections::{BTreeMap, BTreeSet},
	sync::Arc,
};

/// Blocks 0 to 7 are chunks; 8 to 15 are nodes over two blocks of lower number.
const BLOCKS: usize = 16;
const CHUNKS: usize = 8;

fn blocks() -> Vec<Block> {
	let mut blocks: Vec<Block> = (0..CHUNKS).map(|name| chunk(name as u64, 600)).collect();
	for name in CHUNKS..BLOCKS {
		let children: Vec<&Block> = children(name).iter().map(|child| &blocks[*child]).collect();
		blocks.push(node(name as u64, &children));
	}
	blocks
}

fn children(block: usize) -> Vec<usize> {
	if block < CHUNKS {
		return Vec::new();
	}
	vec![block * 5 % block, block * 3 % block]
}

#[derive(Clone, Debug)]
enum Step {
	OpenSession(usize),
	EndSession(usize),
	Put(usize, usize),
	Has(usize, usize),
	Pin(usize, usize),
	Unpin(usize),
	Flush(usize),
	Collect,
	Restart,
	Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
	let (session, block) = (0usize..3, 0..BLOCKS);
	prop_oneof![
		2 => session.clone().prop_map(Step::OpenSession),
		1 => session.clone().prop_map(Step::EndSession),
		12 => (session.clone(), block.clone()).prop_map(|(session, block)| Step::Put(session, block)),
		3 => (session.clone(), block.clone()).prop_map(|(session, block)| Step::Has(session, block)),
		3 => (session.clone(), block.clone()).prop_map(|(session, block)| Step::Pin(session, block)),
		2 => block.prop_map(Step::Unpin),
		1 => session.prop_map(Step::Flush),
		3 => Just(Step::Collect),
		1 => Just(Step::Restart),
		1 => Just(Step::Rebuild),
	]
}

/// What must be there: a lower bound, because sessions may keep more than they must.
#[derive(Default)]
struct Model {
	there: BTreeSet<usize>,
	pins: BTreeSet<usize>,
	/// What each open session relies on.
	sessions: BTreeMap<usize, BTreeSet<usize>>,
}

impl Model {
	fn below(&self, roots: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
		let mut all = BTreeSet::new();
		let mut pending: Vec<usize> = roots.into_iter().collect();
		while let Some(block) = pending.pop() {
			if all.insert(block) {
				pending.extend(children(block));
			}
		}
		all
	}

	fn needed(&self) -> BTreeSet<usize> {
		let relied = self.sessions.values().flatten().copied();
		self.below(self.pins.iter().copied().chain(relied))
	}
}

fn run(steps: Vec<Step>) {
	let blocks = blocks();
	let files = SimulatedFiles::default();
	let open = || EmbeddedStore::open_files(Arc::new(files.clone()), SMALL).unwrap();
	let mut store = open();
	let mut sessions: BTreeMap<usize, Box<dyn Session>> = BTreeMap::new();
	let mut model = Model::default();
	for step in steps {
		match step {
			Step::OpenSession(session) => {
				sessions.insert(session, store.open_session().unwrap());
				model.sessions.insert(session, BTreeSet::new());
			}
			Step::EndSession(session) => {
				sessions.remove(&session);
				model.sessions.remove(&session);
			}
			Step::Put(session, block) => {
				let Some(open) = sessions.get(&session) else {
					continue;
				};
				let may = children(block).iter().all(|child| model.there.contains(child));
				let was_there = model.there.contains(&block);
				let result = put(&**open, &blocks[block]);
				assert_eq!(result.is_ok(), may, "{result:?}");
				if may {
					let expected = if was_there { Put::Present } else { Put::Stored };
					assert_eq!(result.unwrap(), expected);
					model.there.insert(block);
					model.sessions.get_mut(&session).unwrap().insert(block);
				}
			}
			Step::Has(session, block) => {
				let Some(open) = sessions.get(&session) else {
					continue;
				};
				let found = open.has(&blocks[block].cid).unwrap();
				assert_eq!(found, model.there.contains(&block));
				if found {
					model.sessions.get_mut(&session).unwrap().insert(block);
				}
			}
			Step::Pin(session, block) => {
				let Some(open) = sessions.get(&session) else {
					continue;
				};
				let result = open.pin(&blocks[block].cid, b"label");
				assert_eq!(result.is_ok(), model.there.contains(&block));
				if result.is_ok() {
					model.pins.insert(block);
					model.sessions.get_mut(&session).unwrap().insert(block);
				}
			}
			Step::Unpin(block) => {
				let was_pinned = store.unpin(&blocks[block].cid).unwrap();
				assert_eq!(was_pinned, model.pins.remove(&block));
			}
			Step::Flush(session) => {
				if let Some(open) = sessions.get(&session) {
					open.flush().unwrap();
				}
			}
			Step::Collect => {
				let before = model.there.len() as u64;
				let collected = store.collect().unwrap();
				let needed = model.needed();
				if sessions.is_empty() {
					assert_eq!(collected.blocks, before - needed.len() as u64);
				}
				reconcile(&store, &blocks, &mut model);
				assert!(needed.is_subset(&model.there), "{needed:?} of {:?}", model.there);
			}
			Step::Restart | Step::Rebuild => {
				sessions.values().for_each(|session| session.flush().unwrap());
				sessions.clear();
				model.sessions.clear();
				drop(store);
				if matches!(step, Step::Rebuild) {
					files.take_away("index.redb");
				}
				store = open();
				store.confirm_pins().unwrap();
				let needed = model.needed();
				reconcile(&store, &blocks, &mut model);
				assert!(needed.is_subset(&model.there), "{needed:?} of {:?}", model.there);
			}
		}
		let pins = store.pins().unwrap().len();
		assert_eq!(pins, model.pins.len());
	}
}

/// Takes over what is there, checking that nothing is there without what is below it.
fn reconcile(store: &EmbeddedStore, blocks: &[Block], model: &mut Model) {
	model.there = (0..BLOCKS).filter(|block| store.has(&blocks[*block].cid).unwrap()).collect();
	for block in &model.there {
		assert_there(store, &[&blocks[*block]]);
		assert!(children(*block).iter().all(|child| model.there.contains(child)), "{block}");
	}
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

	#[test]
	fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
		run(steps);
	}
}
