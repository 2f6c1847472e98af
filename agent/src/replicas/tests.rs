//! Replicas at a daemon in memory, over real connections.

pub(crate) mod fake;
mod holding;
mod kills;
mod losses;
mod turns;

use super::*;
use crate::{
	chain::fake::FakeChain,
	format::{Geometry, Root, links},
	node::PinLabel,
	pipeline::tests::fixture::{MemoryDisk, World, disk, noise},
	repositories::{
		BlockSource, Chunks, StoreOptions, embedded::tests::simulated::SimulatedFiles, verify,
	},
};
use backup_primitives::{OpaqueId, RecordedRoot, RootStatus, cid::BlockCodec};
use fake::FakeKubo;
use std::collections::HashSet;
use tokio::runtime::Runtime;

const CHUNK: usize = 64 * 1024;

/// A store, its replica, and what a restart of the agent keeps.
struct Bench {
	world: World,
	/// What the first store stands in.
	files: Arc<SimulatedFiles>,
	daemon: FakeKubo,
	chain: FakeChain,
	identities: NodeIdentities,
	folder: tempfile::TempDir,
	runtime: Runtime,
	replicas: Arc<Replicas>,
	bytes: Vec<u8>,
	last: Option<(Cid, Root)>,
}

impl Bench {
	/// A machine with so many chunks, of which there is no snapshot yet.
	fn new(chunks: usize) -> Self {
		Self::at(FakeKubo::start(), chunks)
	}

	/// The same with another machine, another agent, and a daemon that is there.
	fn at(daemon: FakeKubo, chunks: usize) -> Self {
		let folder = tempfile::tempdir().unwrap();
		NodeIdentities::create(&folder.path().join("identity")).unwrap();
		let identities = NodeIdentities::load(&folder.path().join("identity")).unwrap();
		let (runtime, chain) = (Runtime::new().unwrap(), FakeChain::default());
		chain.state().nodes.push(sealer());
		let (files, store) = empty_store();
		let geometry = Geometry::new(CHUNK as u32, 16).unwrap();
		let world = World { store, geometry, ..World::new() };
		let open = Open { identities: &identities, folder: &folder, runtime: &runtime };
		let replicas = open.replicas(&world.store, &daemon, &chain);
		let bytes = noise(1, chunks * CHUNK);
		let last = None;
		Self { world, files, daemon, chain, identities, folder, runtime, replicas, bytes, last }
	}

	/// The agent starts again, on this store.
	fn restart(&mut self, store: EmbeddedStore) {
		self.world.store = store;
		self.identities = NodeIdentities::load(&self.folder.path().join("identity")).unwrap();
		let open =
			Open { identities: &self.identities, folder: &self.folder, runtime: &self.runtime };
		self.replicas = open.replicas(&self.world.store, &self.daemon, &self.chain);
	}

	/// The agent starts again, and the store is there as it was.
	fn start_again(&mut self) {
		self.restart(self.world.store.clone());
	}

	/// The agent starts again, and the store is empty.
	fn lose_store(&mut self) {
		let (files, store) = empty_store();
		self.files = files;
		self.last = None;
		self.restart(store);
	}

	/// The next snapshot, in the store alone.
	fn take(&mut self) -> Cid {
		self.prepare().pin()
	}

	/// The next snapshot, in the store without a pin.
	fn prepare(&mut self) -> Prepared {
		let session = self.world.store.open_session().unwrap();
		let base = self.last.as_ref().map(|(_, root)| root);
		let disks = vec![disk(MemoryDisk::new(self.bytes.clone()), None)];
		let report = self.world.backup(&*session, base, disks, vec![]).unwrap();
		// Salted roots tell snapshots of the same bytes apart.
		let place = self.world.store.pins().unwrap().len() as u64;
		session.flush().unwrap();
		let recorded = RecordedRoot { lineage: lineage(), sequence: place, cid: report.root };
		self.chain.record(&sealer(), recorded);
		self.last = Some((report.root, self.world.open(&report.root)));
		Prepared { session, root: report.root, label: PinLabel::of_found(lineage(), place, None) }
	}

	/// One look at the replica, and how it ended.
	fn pass(&self) -> Result<(), String> {
		let member = &self.replicas.members[0];
		let result = self.replicas.pass(member);
		let told = result.as_ref().copied().map_err(ToString::to_string);
		self.replicas.settle(member, result);
		told
	}

	fn view(&self) -> ReplicaView {
		self.replicas.list().remove(0)
	}

	/// Whether the daemon has a pin of ours for a root.
	fn is_pinned(&self, root: &Cid) -> bool {
		let pins = &self.daemon.state().pins;
		self.replicas.names.holds(root).any(|hold| pins.contains_key(&hold.cid()))
	}

	/// Whether the daemon has everything below a root, pins it as ours, and nothing on its way.
	fn assert_whole(&self, roots: &[Cid]) {
		self.daemon.state().collect();
		let kubo = &self.replicas.members[0].kubo;
		for root in roots {
			let report = verify(kubo, root, Chunks::Hashed, &mut |_| true).unwrap();
			assert!(report.is_good() && report.good_blocks > 2, "{report:?}");
			assert!(self.is_pinned(root));
		}
		let state = self.daemon.state();
		let read = |name: &String| self.replicas.names.read(name);
		let ours: Vec<_> = state.pins.values().filter_map(read).collect();
		assert!(ours.iter().all(|name| matches!(name, names::Name::Series(_))), "{ours:?}");
		assert_eq!(ours.len(), roots.len());
		assert!(!state.pins.values().any(String::is_empty), "a pin has no name");
	}

	/// Has chunks of the store go bad where they stand.
	fn damage(&self, chunks: &[[u8; 32]]) {
		let blocks = self.world.store.all_blocks();
		let bad = blocks.iter().filter(|(cid, _)| chunks.contains(&cid.digest()));
		for (_, block) in bad {
			for name in self.files.names() {
				self.files.edit(&name, |bytes| {
					let at = bytes.windows(block.len()).position(|window| window == block);
					at.into_iter().for_each(|at| bytes[at] ^= 1);
				});
			}
		}
	}

	/// Hashes of all chunks that the store has.
	fn chunks(&self) -> HashSet<[u8; 32]> {
		let blocks = self.world.store.all_blocks();
		let chunks = blocks.iter().filter(|(cid, _)| cid.codec() == BlockCodec::Raw);
		chunks.map(|(cid, _)| cid.digest()).collect()
	}
}

fn empty_store() -> (Arc<SimulatedFiles>, EmbeddedStore) {
	let files = Arc::new(SimulatedFiles::default());
	let options = StoreOptions { pack_bytes: 1 << 20, reserve_bytes: 0 };
	let store = EmbeddedStore::open_files(files.clone(), options).unwrap();
	(files, store)
}

/// A snapshot that is not pinned yet.
struct Prepared {
	session: Box<dyn crate::repositories::Session>,
	root: Cid,
	label: Vec<u8>,
}

impl Prepared {
	fn pin(self) -> Cid {
		self.session.pin(&self.root, &self.label).unwrap();
		self.root
	}
}

struct Open<'a> {
	identities: &'a NodeIdentities,
	folder: &'a tempfile::TempDir,
	runtime: &'a Runtime,
}

impl Open<'_> {
	fn replicas(
		&self,
		store: &EmbeddedStore,
		daemon: &FakeKubo,
		chain: &FakeChain,
	) -> Arc<Replicas> {
		self.replicas_at(store, &[("rack-2", daemon)], chain)
	}

	fn replicas_at(
		&self,
		store: &EmbeddedStore,
		daemons: &[(&str, &FakeKubo)],
		chain: &FakeChain,
	) -> Arc<Replicas> {
		let (handle, chain) = (self.runtime.handle(), Arc::new(chain.clone()));
		let kubo = |url: &str| Kubo::new(url.to_owned(), None, handle.clone()).unwrap();
		let named = daemons.iter().map(|(name, daemon)| ((*name).to_owned(), kubo(&daemon.url)));
		let daemons = named.collect();
		let folder = self.folder.path().join("replicas");
		let (store, handle) = (store.clone(), handle.clone());
		let workers = chain.clone();
		let replicas = Replicas::open(store, self.identities, daemons, 2, &folder, chain, handle);
		let replicas = Arc::new(replicas.unwrap());
		replicas.speak_for(move || Some(workers.state().nodes.clone()));
		replicas
	}
}

/// The node that seals what is taken.
fn sealer() -> OpaqueId {
	OpaqueId::of(&2u32).unwrap()
}

fn lineage() -> LineageId {
	LineageId { request: OpaqueId::of(&3u64).unwrap(), salt: [9; 32] }
}

/// A snapshot of that lineage which was sealed here.
fn own(root: &Cid) -> HeldRoot {
	HeldRoot { lineage: lineage(), sequence: 0, cid: *root, pinned_at_ms: 0, copy_for: None }
}

#[test]
fn the_pin_of_a_trial_of_the_store_is_not_sent() {
	let mut bench = Bench::new(4);
	let root = bench.take();
	let session = bench.world.store.open_session().unwrap();
	let trial = Cid::raw(crate::format::digest(b"a trial"));
	session.put(&trial, b"a trial").unwrap();
	session.flush().unwrap();
	session.pin(&trial, b"doctor").unwrap();
	assert_eq!(bench.replicas.below_quorum().unwrap(), 1);
	bench.pass().unwrap();
	bench.assert_whole(&[root]);
	assert_eq!(bench.replicas.below_quorum().unwrap(), 0);
}

#[test]
fn a_snapshot_is_sent_pinned_and_counted() {
	let mut bench = Bench::new(40);
	let root = bench.take();
	assert!(!bench.replicas.has_quorum(&root));
	assert_eq!(bench.replicas.below_quorum().unwrap(), 1);
	assert_eq!(bench.view().state, "unknown");
	bench.pass().unwrap();
	bench.assert_whole(&[root]);
	assert!(bench.replicas.has_quorum(&root));
	assert_eq!(bench.replicas.below_quorum().unwrap(), 0);
	let view = bench.view();
	assert_eq!((view.state, view.held, view.behind, view.error), ("whole", 1, 0, None));
	assert!(view.sent_bytes > 40 * CHUNK as u64 && view.last_success_ms.is_some());
	bench.daemon.count("dag/import");
	bench.pass().unwrap();
	assert_eq!(bench.daemon.count("dag/import"), 0, "there is nothing to send");
}

#[test]
fn the_next_snapshot_costs_what_is_new_in_it_and_an_update_of_the_pin() {
	let mut bench = Bench::new(200);
	let mut roots = vec![bench.take()];
	bench.pass().unwrap();
	let first = bench.daemon.state().imported_bytes;
	for (place, nameless) in [(3, false), (100, false), (199, true)] {
		bench.bytes[place * CHUNK] ^= 1;
		bench.daemon.state().has_nameless_updates = nameless;
		roots.push(bench.take());
		bench.daemon.state().imported_bytes = 0;
		bench.pass().unwrap();
		let more = bench.daemon.state().imported_bytes;
		// One chunk, a node of each level, the root.
		assert!(more < 2 * CHUNK as u64 && first > 200 * CHUNK as u64, "{first}, then {more}");
		assert_eq!(bench.daemon.count("pin/update"), 1);
	}
	bench.assert_whole(&roots);
}

#[test]
fn what_was_given_up_is_unpinned_there_and_nothing_else() {
	let mut bench = Bench::new(8);
	let (old, new) = (bench.take(), bench.take());
	bench.pass().unwrap();
	let foreign = Cid::dag_cbor([7; 32]);
	bench.daemon.state().pins.insert(foreign, "theirs".into());
	bench.replicas.give_up(&own(&old)).unwrap();
	assert!(bench.replicas.may_hold(&lineage()) && bench.view().releasing == 1);
	assert!(bench.is_pinned(&old) && !bench.world.store.is_pinned(&old));
	bench.start_again();
	bench.pass().unwrap();
	assert!(!bench.replicas.may_hold(&lineage()));
	assert!(bench.daemon.state().pins.remove(&foreign).is_some());
	bench.assert_whole(&[new]);
}

#[test]
fn an_emptied_daemon_is_filled_again() {
	let mut bench = Bench::new(20);
	let roots = [bench.take(), bench.take()];
	bench.pass().unwrap();
	{
		let mut daemon = bench.daemon.state();
		daemon.pins.clear();
		daemon.blocks.clear();
	}
	bench.pass().unwrap();
	bench.assert_whole(&roots);
}

#[test]
fn blocks_that_are_missing_below_a_pin_are_found_and_sent_again() {
	let mut bench = Bench::new(40);
	let mut roots = vec![bench.take()];
	bench.pass().unwrap();
	let lost: HashSet<_> = bench.chunks().into_iter().skip(1).collect();
	bench.daemon.state().lose_chunks(&lost);
	// Pins of the next one are refused, too: the daemon looks at all that is new only.
	bench.bytes[0] ^= 1;
	roots.push(bench.take());
	let found = (0..20).any(|_| bench.pass().is_err());
	assert!(found && bench.view().error.unwrap().contains("it lacks blocks"), "no sample told");
	bench.pass().unwrap();
	bench.assert_whole(&roots);
}

#[test]
fn damaged_blocks_are_told_of_and_replaced_at_the_next_look() {
	let mut bench = Bench::new(20);
	let root = bench.take();
	bench.pass().unwrap();
	let all = bench.chunks();
	bench.daemon.state().damage(&all);
	let error = bench.pass().unwrap_err();
	assert!(error.contains("they are replaced at the next look"), "{error}");
	let view = bench.view();
	assert!(!view.damaged.is_empty() && view.state == "waiting", "{view:?}");
	let sent = bench.daemon.state().imported_bytes;
	let is_done = (0..200).any(|_| {
		bench.pass().unwrap_or_default();
		bench.view().mended == all.len() as u64
	});
	assert!(is_done, "{:?}", bench.view());
	bench.pass().unwrap();
	assert_eq!(bench.daemon.state().imported_bytes, sent, "more than those was sent");
	bench.assert_whole(&[root]);
}

#[test]
fn all_blocks_are_hashed_in_turn_a_few_at_each_look() {
	let mut bench = Bench::new(300);
	let root = bench.take();
	bench.pass().unwrap();
	let all = bench.world.store.all_blocks().len();
	let bad: HashSet<_> = bench.chunks().into_iter().take(1).collect();
	bench.daemon.state().damage(&bad);
	let member = &bench.replicas.members[0];
	member.state().round = Default::default();
	bench.daemon.count("block/get");
	let (mut looks, mut hashed) = (0, 0);
	while bench.view().hashed_at_ms.is_none() {
		bench.pass().unwrap_or_default();
		member.state().round.age(CHECK_EVERY);
		let of_look = bench.daemon.count("block/get");
		assert!(of_look < 100, "{of_look} blocks were read at one look");
		(looks, hashed) = (looks + 1, hashed + of_look);
		assert!(looks < 10, "a round does not end");
	}
	assert!(hashed >= all && looks > 3, "{hashed} of {all} in {looks} looks");
	bench.pass().unwrap();
	assert_eq!(bench.view().mended, 1);
	// Soon after a look there is nothing more to hash.
	bench.daemon.count("block/get");
	bench.pass().unwrap();
	assert!(bench.daemon.count("block/get") < 40);
	bench.assert_whole(&[root]);
}

#[test]
fn a_damaged_node_is_replaced_where_its_links_are_whole() {
	let mut bench = Bench::new(20);
	let root = bench.take();
	bench.pass().unwrap();
	let sound = bench.daemon.state().blocks[&root.digest()].clone();
	let damaged_at = |at: usize| {
		let mut block = sound.clone();
		block[at] ^= 1;
		block
	};
	let is_of_links = |at: &usize| links(&damaged_at(*at)) != links(&sound);
	let (in_links, beside): (Vec<usize>, Vec<usize>) = (0..sound.len()).partition(is_of_links);
	// Kubo finds no way below the pin through the one, and does not notice the other.
	for (at, mended) in [(in_links[0], 0), (beside[0], 1)] {
		bench.daemon.state().blocks.insert(root.digest(), damaged_at(at));
		bench.replicas.members[0].state().note_damaged(root);
		assert_eq!(bench.pass().is_ok(), mended == 1);
		assert_eq!(bench.view().mended, mended);
	}
	bench.assert_whole(&[root]);
}

#[test]
fn what_the_store_has_lost_too_is_replaced_from_another_replica() {
	let other = FakeKubo::start();
	let mut bench = Bench::new(4);
	let root = bench.take();
	let all = bench.chunks();
	let open =
		Open { identities: &bench.identities, folder: &bench.folder, runtime: &bench.runtime };
	let daemons = [("rack-2", &bench.daemon), ("rack-3", &other)];
	bench.replicas = open.replicas_at(&bench.world.store, &daemons, &bench.chain);
	for member in &bench.replicas.members {
		bench.replicas.pass(member).unwrap();
	}
	let bad: Vec<[u8; 32]> = all.iter().copied().take(1).collect();
	bench.damage(&bad);
	bench.daemon.state().damage(&bad.iter().copied().collect());
	bench.replicas.members[0].state().note_damaged(Cid::raw(bad[0]));
	other.state().is_down = true;
	let error = bench.pass().unwrap_err();
	assert!(error.contains("not replaced (nobody else has a sound one)"), "{error}");
	other.state().is_down = false;
	bench.replicas.members[1].state().passed_over_until = None;
	bench.pass().unwrap();
	assert_eq!(bench.view().mended, 1);
	let kubo = &bench.replicas.members[0].kubo;
	assert!(verify(kubo, &root, Chunks::Hashed, &mut |_| true).unwrap().is_good());
}

#[test]
fn what_a_daemon_does_not_let_go_of_is_named_until_the_operator_has_it_dropped() {
	let mut bench = Bench::new(20);
	let root = bench.take();
	bench.pass().unwrap();
	let all = bench.chunks();
	{
		let mut daemon = bench.daemon.state();
		daemon.damage(&all);
		// A node of somebody else's that cannot be read: no pin can be gone through.
		daemon.forge(b"\xff", &Cid::dag_cbor([9; 32]), String::new());
	}
	bench.pass().unwrap_err();
	let error = bench.pass().unwrap_err();
	assert!(error.contains("pin check failed"), "{error}");
	assert!(error.contains("`ipfs repo verify --drop`"), "{error}");
	assert_eq!(bench.view().mended, 0);
	{
		let mut daemon = bench.daemon.state();
		daemon.pins.remove(&Cid::dag_cbor([9; 32]));
		daemon.drop_damaged();
	}
	for _ in 0..2 {
		bench.pass().unwrap_or_default();
	}
	bench.pass().unwrap();
	bench.assert_whole(&[root]);
}

#[test]
fn a_replica_that_broke_off_is_gone_on_with_where_it_was() {
	let mut bench = Bench::new(40 * 16);
	let root = bench.take();
	bench.daemon.state().imports_left = Some(2);
	bench.pass().unwrap_err();
	assert!(!bench.replicas.has_quorum(&root));
	assert!(bench.view().error.is_some());
	let half = bench.daemon.state().imported_bytes;
	assert!(half > 30 << 20, "{half}");
	{
		let mut daemon = bench.daemon.state();
		(daemon.is_down, daemon.imports_left, daemon.imported_bytes) = (false, None, 0);
		// What was sent is kept, whatever is collected meanwhile.
		daemon.collect();
	}
	bench.start_again();
	bench.pass().unwrap();
	let rest = bench.daemon.state().imported_bytes;
	assert!(rest < 11 << 20, "{rest} of 40 MiB were sent again");
	bench.assert_whole(&[root]);
}

#[test]
fn a_daemon_that_is_down_is_told_of_and_tried_later_and_later() {
	let mut bench = Bench::new(4);
	bench.take();
	bench.daemon.state().is_down = true;
	let member = &bench.replicas.members[0];
	let waits: Vec<Duration> =
		(0..12).map(|_| bench.replicas.settle(member, bench.replicas.pass(member))).collect();
	assert!(waits[0] <= RETRY_AFTER.mul_f64(1.25) && waits[5] > 10 * RETRY_AFTER, "{waits:?}");
	assert!(waits[11] <= RETRY_AFTER_MAX.mul_f64(1.25), "{waits:?}");
	let view = bench.view();
	assert_eq!((view.state, view.behind, view.last_success_ms), ("waiting", 1, None));
	assert!(view.error.unwrap().contains("it cannot be reached"));
	bench.daemon.state().is_down = false;
	bench.pass().unwrap();
	assert_eq!(bench.view().state, "whole");
}

#[test]
fn blocks_are_read_from_whoever_has_them_and_checked() {
	let mut bench = Bench::new(8);
	let root = bench.take();
	bench.pass().unwrap();
	assert!(bench.replicas.get(&root).unwrap().is_some());
	assert_eq!(bench.replicas.get(&Cid::raw([5; 32])).unwrap(), None);
	let all = bench.chunks();
	bench.daemon.state().damage(&all);
	let bad = Cid::raw(*all.iter().next().unwrap());
	assert!(matches!(bench.replicas.get(&bad), Err(RepositoryError::Corrupt { .. })));
	assert_eq!(bench.view().damaged, [bad.to_string()]);
	bench.daemon.state().is_down = true;
	assert!(bench.replicas.get(&root).is_err());
	bench.daemon.state().is_down = false;
	assert!(bench.replicas.get(&root).is_err(), "it is passed over for a while");
	bench.replicas.members[0].state().passed_over_until = None;
	assert!(bench.replicas.get(&root).unwrap().is_some());
}
