use super::{
	mending::{Round, put_again, still_bad},
	*,
};
use crate::{
	pipeline::tests::fixture::{MemoryDisk, World, noise},
	repositories::{BlockSource, StoreOptions},
	secret::NodeIdentities,
};
use backup_primitives::cid::BlockCodec;
use std::{collections::HashMap, fs, os::unix::fs::FileExt, path::Path};
use tempfile::TempDir;

/// A node with one snapshot on a real disk.
struct Node {
	folder: TempDir,
	world: World,
	verifier: Verifier,
	root: Cid,
}

impl Node {
	fn new() -> Self {
		let folder = tempfile::tempdir().unwrap();
		let path = |name: &str| folder.path().join(name);
		NodeIdentities::create(&path("identity")).unwrap();
		let identities = Arc::new(NodeIdentities::load(&path("identity")).unwrap());
		let store = EmbeddedStore::open(&path("blocks"), StoreOptions::V1).unwrap();
		let node = identities.expose()[0].clone();
		let world = World { store: store.clone(), node, ..World::new() };
		let (report, _) = world.keep(None, MemoryDisk::new(noise(1, 50_000)), None);
		fs::create_dir(path("scratch")).unwrap();
		let ledger = Ledger::open(&path("jobs.redb")).unwrap();
		let verifier = Verifier::new(store, identities, path("scratch"), ledger);
		Self { verifier, root: report.root, world, folder }
	}

	fn path(&self, name: &str) -> PathBuf {
		self.folder.path().join(name)
	}

	fn verify(&self, depth: Depth) -> Verdict {
		let mut verdicts = Vec::new();
		let turn = self.verifier.begin(&[], depth).unwrap();
		turn.run(&mut |result| verdicts.push(result.verdict.clone())).unwrap();
		assert_eq!(verdicts.len(), 1);
		verdicts.remove(0)
	}

	/// Changes one byte of a block where it stands in its pack.
	fn damage(&self, cid: &Cid) {
		let block = self.world.store.get(cid).unwrap().unwrap();
		let pack = self.path("blocks/00000001.pack");
		let bytes = fs::read(&pack).unwrap();
		let at = bytes.windows(block.len()).position(|bytes| bytes == block).unwrap() as u64;
		let file = fs::File::options().write(true).open(&pack).unwrap();
		file.write_all_at(&[!block[0]], at).unwrap();
	}

	/// Puts right what [`damage`](Self::damage) did to a block.
	fn undo_damage(&self, block: &[u8]) {
		let pack = self.path("blocks/00000001.pack");
		let bytes = fs::read(&pack).unwrap();
		let rest = |bytes: &[u8]| bytes[1..] == block[1..];
		let at = bytes.windows(block.len()).position(rest).unwrap() as u64;
		let file = fs::File::options().write(true).open(&pack).unwrap();
		file.write_all_at(&block[..1], at).unwrap();
	}

	/// The first chunk of the disk.
	fn chunk(&self) -> Cid {
		let block = self.world.store.get(&self.tree()).unwrap().unwrap();
		crate::format::links(&block).unwrap()[0]
	}

	/// The node above it.
	fn tree(&self) -> Cid {
		let mut cid = self.world.open(&self.root).disks[0].tree.clone().unwrap().cid;
		loop {
			let block = self.world.store.get(&cid).unwrap().unwrap();
			match crate::format::links(&block).unwrap()[0] {
				child if child.codec() == BlockCodec::DagCbor => cid = child,
				_ => return cid,
			}
		}
	}

	fn assert_scratch_is_empty(&self) {
		assert_eq!(files(&self.path("scratch")), 0);
	}
}

fn files(folder: &Path) -> usize {
	fs::read_dir(folder).unwrap().count()
}

/// What others have, by its hash alone.
struct Others(HashMap<Cid, Vec<u8>>);

impl BlockSource for Others {
	fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, RepositoryError> {
		Ok(self.0.get(cid).cloned())
	}
}

/// A store whose snapshot has bad blocks, and another that has some of them.
struct Mended {
	node: Node,
	elsewhere: Others,
	/// What there was to mend, each time.
	rounds: Vec<u64>,
}

impl Mended {
	/// As a mender does it: all is noted, then fetched if others have it.
	fn mend(&mut self, report: &VerifyReport) -> Round {
		let store = &self.node.world.store;
		let bad: Vec<Cid> = report.missing.iter().chain(&report.corrupt).copied().collect();
		self.rounds.push(bad.len() as u64);
		store.note_lost(&bad, &mut || true).unwrap();
		let mut mending = Mending { found: report.bad_blocks, ..Mending::default() };
		let session = store.open_session().unwrap();
		let lost = still_bad(store, &bad);
		for cid in &lost {
			let put = put_again(&self.elsewhere, session.as_ref(), cid, &Cancel::new());
			mending.from_replicas += u64::from(put.is_ok());
		}
		session.flush().unwrap();
		make_whole(store, &Cancel::new()).unwrap();
		mending.is_noted = !store.has(&self.node.root).unwrap();
		Round { mending, is_any_good: mending.mended() > 0 || lost.len() < bad.len() }
	}

	/// Damages a node and the first chunk below it; others have what is said. Tells at last whether the
	/// chunk counts as there.
	fn run(has_node: bool, has_chunk: bool) -> (Vec<u64>, VerifyReport, Mending, bool) {
		let node = Node::new();
		let (tree, chunk) = (node.tree(), node.chunk());
		let block = |cid: &Cid| (*cid, node.world.store.get(cid).unwrap().unwrap());
		let mut elsewhere = HashMap::from([block(&tree), block(&chunk)]);
		elsewhere.retain(|cid, _| (has_node && *cid == tree) || (has_chunk && *cid == chunk));
		node.damage(&tree);
		node.damage(&chunk);
		let store = node.world.store.clone();
		let root = node.root;
		let mut mended = Self { node, elsewhere: Others(elsewhere), rounds: Vec::new() };
		let mut mending = Mending::default();
		let walk = || verify(&store, &root, Chunks::Hashed, &mut |_| true);
		let report = in_rounds(&mut mending, walk, |report| mended.mend(report)).unwrap();
		let has_chunk = store.has(&chunk).unwrap();
		(mended.rounds, report, mending, has_chunk)
	}
}

#[test]
fn what_comes_to_light_when_a_node_is_mended_is_mended_too() {
	let found = |cids: &[u8]| VerifyReport {
		bad_blocks: cids.len() as u64,
		corrupt: cids.iter().map(|byte| Cid::raw([*byte; 32])).collect(),
		..VerifyReport::default()
	};
	let mut walks = [found(&[1]), found(&[2, 3]), found(&[])].into_iter();
	let mut rounds = Vec::new();
	let mut mending = Mending::default();
	let mend = |report: &VerifyReport| {
		rounds.push(report.bad_blocks);
		let mending = Mending { from_replicas: report.bad_blocks, ..Mending::default() };
		Round { mending, is_any_good: true }
	};
	let report = in_rounds(&mut mending, || Ok(walks.next().unwrap()), mend).unwrap();
	assert!(report.is_good(), "{report:?}");
	assert_eq!((rounds, mending.found, mending.from_replicas), (vec![1, 2], 3, 3));
}

#[test]
fn what_is_damaged_beside_a_node_comes_back_with_it() {
	let (rounds, report, mending, is_there) = Mended::run(true, true);
	assert_eq!(rounds, [1], "the walk sees nothing below the node");
	assert!(report.is_good() && is_there, "{report:?}");
	assert_eq!((mending.found, mending.from_replicas, mending.is_noted), (1, 1, false));
}

#[test]
fn what_is_damaged_beside_a_node_and_nobody_has_is_noted() {
	let (rounds, report, mending, is_there) = Mended::run(true, false);
	assert_eq!((rounds, report.bad_blocks), (vec![1], 1));
	assert_eq!((mending.found, mending.from_replicas, mending.is_noted), (1, 0, true));
	assert!(!is_there, "the next backup looks for it");
}

#[test]
fn what_nobody_has_is_asked_for_once() {
	let (rounds, report, mending, _) = Mended::run(false, false);
	assert_eq!((rounds, report.bad_blocks), (vec![1], 1));
	assert_eq!((mending.found, mending.mended(), mending.is_noted), (1, 0, true));
}

/// Cause: only what others gave counted as mended. Effect: of two blocks that were noted as lost, the
/// one that was there again with its disk was called bad as long as the other was.
#[test]
fn what_is_there_again_is_not_called_bad_because_something_else_is() {
	let node = Node::new();
	let block = node.world.store.get(&node.tree()).unwrap().unwrap();
	let [first, second] = [0, 1].map(|at| crate::format::links(&block).unwrap()[at]);
	let content = node.world.store.get(&first).unwrap().unwrap();
	node.damage(&first);
	node.damage(&second);
	let store = node.world.store.clone();
	assert_eq!(store.note_lost(&[first, second], &mut || true).unwrap(), 2);
	node.undo_damage(&content);
	let root = node.root;
	let mut mended = Mended { node, elsewhere: Others(HashMap::new()), rounds: Vec::new() };
	let mut mending = Mending::default();
	let walk = || verify(&store, &root, Chunks::Hashed, &mut |_| true);
	let report = in_rounds(&mut mending, walk, |report| mended.mend(report)).unwrap();
	assert_eq!((mended.rounds, report.missing), (vec![2], vec![second]));
	assert_eq!((mending.found, mending.mended(), mending.is_noted), (2, 0, true));
	assert!(store.has(&first).unwrap(), "nobody gave it");
}

#[test]
fn damage_that_has_no_end_is_not_claimed_to_be_noted() {
	let mut walks = 0;
	let walk = || {
		walks += 1;
		let cid = Cid::raw([walks; 32]);
		Ok(VerifyReport { bad_blocks: 1, corrupt: vec![cid], ..VerifyReport::default() })
	};
	let mut mending = Mending::default();
	let mend = |_: &VerifyReport| {
		let mending = Mending { from_holders: 1, is_noted: true, ..Mending::default() };
		Round { mending, is_any_good: true }
	};
	let report = in_rounds(&mut mending, walk, mend).unwrap();
	assert_eq!((walks, mending.from_holders), (9, 8));
	assert!(!report.is_good() && !mending.is_noted);
}

#[test]
fn only_what_is_missing_or_damaged_is_called_lost() {
	let node = Node::new();
	let chunk = node.chunk();
	node.damage(&chunk);
	let store = &node.world.store;
	store.note_lost(&[chunk], &mut || true).unwrap();
	assert_eq!(make_whole(store, &Cancel::new()).unwrap().lost, [node.root]);
	let cancelled = Cancel::new();
	cancelled.cancel();
	let made = make_whole(store, &cancelled).unwrap();
	assert!(made.lost.is_empty() && made.whole.is_empty(), "{made:?}");
}

const DEPTHS: [Depth; 3] = [Depth::Presence, Depth::Blocks, Depth::Drill];

#[test]
fn a_sound_snapshot_is_good_at_every_depth() {
	let node = Node::new();
	for depth in DEPTHS {
		assert_eq!(node.verify(depth), Verdict::Good, "{depth:?}");
	}
	node.assert_scratch_is_empty();
}

#[test]
fn a_damaged_chunk_is_found_where_chunks_are_read() {
	let node = Node::new();
	let chunk = node.chunk();
	node.damage(&chunk);
	assert_eq!(node.verify(Depth::Presence), Verdict::Good);
	for depth in [Depth::Blocks, Depth::Drill] {
		match node.verify(depth) {
			Verdict::Bad { missing: 0, corrupt: 1, first: Some(first), .. } => {
				assert_eq!(first, chunk);
			}
			other => panic!("{depth:?}: {other:?}"),
		}
	}
	node.assert_scratch_is_empty();
}

#[test]
fn a_damaged_root_is_found_at_every_depth() {
	let node = Node::new();
	node.damage(&node.root);
	for depth in DEPTHS {
		let verdict = node.verify(depth);
		assert!(
			matches!(verdict, Verdict::Bad { first: Some(first), .. } if first == node.root),
			"{depth:?}: {verdict:?}"
		);
	}
}

#[test]
fn a_drill_of_what_was_sealed_to_others_finds_nothing_out() {
	let node = Node::new();
	let world = World { store: node.world.store.clone(), ..World::new() };
	let (report, _) = world.keep(None, MemoryDisk::new(noise(2, 5_000)), None);
	let mut verdict = None;
	let turn = node.verifier.begin(&[report.root], Depth::Drill).unwrap();
	turn.run(&mut |result| verdict = Some(result.verdict.clone())).unwrap();
	assert!(matches!(verdict, Some(Verdict::Failed { detail }) if detail.contains("identity")));
}

#[test]
fn a_drill_without_a_scratch_folder_finds_nothing_out() {
	let node = Node::new();
	fs::remove_dir(node.path("scratch")).unwrap();
	let verdict = node.verify(Depth::Drill);
	assert!(matches!(verdict, Verdict::Failed { detail } if detail.contains("scratch")));
}

#[test]
fn the_last_result_of_each_depth_is_written_down() {
	let node = Node::new();
	node.verify(Depth::Presence);
	node.verify(Depth::Presence);
	node.verify(Depth::Blocks);
	let results = node.verifier.results().unwrap();
	let found: Vec<_> = results.iter().map(|result| (result.root, result.depth)).collect();
	assert_eq!(found.len(), 2, "{results:?}");
	assert!(found.contains(&(node.root, Depth::Presence)));
	assert!(results.iter().any(|result| result.depth == Depth::Blocks && result.bytes > 50_000));
	// And forgotten with its root.
	let ledger = node.verifier.ledger.clone();
	ledger.forget_verifications(&|root| *root == node.root).unwrap();
	assert_eq!(node.verifier.results().unwrap(), []);
}

#[test]
fn one_verification_runs_at_a_time() {
	let node = Node::new();
	let turn = node.verifier.begin(&[], Depth::Blocks).unwrap();
	let second = node.verifier.begin(&[], Depth::Presence);
	assert!(matches!(second, Err(VerificationError::Busy)));
	drop(turn);
	node.verify(Depth::Presence);
}

#[test]
fn a_root_that_is_not_pinned_is_refused() {
	let node = Node::new();
	let root = Cid::dag_cbor([9; 32]);
	let refused = node.verifier.begin(&[root], Depth::Blocks);
	assert!(
		matches!(refused, Err(VerificationError::UnknownRoot { root: found }) if found == root)
	);
	node.verify(Depth::Blocks);
}

#[test]
fn what_is_given_up_meanwhile_is_not_called_bad() {
	let node = Node::new();
	for depth in DEPTHS {
		let (report, _) = node.world.keep(None, MemoryDisk::new(noise(9, 5_000)), None);
		let turn = node.verifier.begin(&[report.root], depth).unwrap();
		node.world.store.unpin(&report.root).unwrap();
		node.world.store.collect().unwrap();
		assert!(!node.world.store.has(&report.root).unwrap());
		turn.run(&mut |result| panic!("{result:?}")).unwrap();
	}
}

#[test]
fn what_is_told_to_end_says_nothing() {
	let node = Node::new();
	node.verifier.stop();
	for depth in DEPTHS {
		let turn = node.verifier.begin(&[], depth).unwrap();
		turn.run(&mut |result| panic!("{result:?}")).unwrap();
	}
	node.assert_scratch_is_empty();
}

#[test]
fn results_keep_their_form() {
	let verdict = Verdict::Bad { missing: 1, corrupt: 2, first: None, detail: "words".to_owned() };
	let result = Verification {
		root: Cid::dag_cbor([1; 32]),
		depth: Depth::Drill,
		at_ms: 3,
		took: Duration::from_millis(4),
		blocks: 5,
		bytes: 6,
		verdict,
		mending: Mending { found: 7, from_disk: 2, is_noted: true, ..Mending::default() },
	};
	assert_eq!(Verification::decode(&mut result.encode().as_slice()), Ok(result.clone()));
	// What the first agents wrote down ended before the mending.
	let old = &result.encode()[..result.encode().len() - result.mending.encoded_size()];
	let found = Verification::decode(&mut &*old).unwrap();
	assert_eq!((found.bytes, found.mending), (6, Mending::default()));
	let json = serde_json::to_value(&result).unwrap();
	assert_eq!(json["mending"]["from_disk"], 2);
	assert_eq!(json["verdict"], "bad");
	assert_eq!(json["took_ms"], 4);
	assert_eq!(serde_json::from_value::<Verification>(json).unwrap(), result);
}
