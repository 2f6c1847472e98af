//! Two agents or more: one has snapshots, the others hold copies of them.

use crate::{
	disks::{STORE_MIB, SmallDisk},
	http,
	orders::{nothing, restore_of},
	world::{World, noise, until},
};
use backup_primitives::{
	Cid, OpaqueId, RecordedRoot, RootStatus,
	job::{CopyOrder, CopyResult, Desired, SnapshotOrder, Source},
	report::TakenSnapshot,
};
use std::{
	fs,
	io::{Read, Write},
	net::{TcpListener, TcpStream},
	slice,
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
	thread,
	time::Duration,
};

const MIB: usize = 1 << 20;

/// The number of the node that holds copies. The host has number 1.
const HOLDER: u32 = 2;

/// A host with snapshots of one machine, and a holder that the host's chain knows.
struct Pair {
	host: World,
	at_host: Source,
	holder: World,
	at_holder: Source,
	order: SnapshotOrder,
	taken: Vec<TakenSnapshot>,
}

impl Pair {
	/// A machine with a disk of so many MiB, of which there is one snapshot.
	fn start(mib: usize) -> Self {
		let (host, at_host) = World::start_among_others();
		let (holder, at_holder) = World::start_among_others();
		host.node.state().readers.push((HOLDER, at_holder.recipient));
		let order = host.machine(7, &noise(1, mib * MIB));
		let mut pair = Self { host, at_host, holder, at_holder, order, taken: Vec::new() };
		pair.take();
		pair
	}

	/// The next snapshot, which both chains record.
	fn take(&mut self) {
		self.order.sequence = self.taken.len() as u64;
		let taken = self.host.take(&self.order).unwrap();
		let root = RecordedRoot {
			lineage: self.order.lineage.clone(),
			sequence: self.order.sequence,
			cid: taken.cid,
		};
		for world in [&self.host, &self.holder] {
			world.node.state().recorded.push(root.clone());
			world.node.say(taken.cid, RootStatus::Retained);
		}
		self.taken.push(taken);
	}

	/// What the chain wants of the holder, with these places to fetch it.
	fn wanted(&self, sources: &[Source]) -> Desired {
		let order = CopyOrder {
			lineage: self.order.lineage.clone(),
			owner: self.order.owner.clone(),
			next: self.taken.len() as u64,
			sources: sources.to_vec().try_into().unwrap(),
		};
		Desired {
			node: OpaqueId::of(&HOLDER).unwrap(),
			copies: vec![order].try_into().unwrap(),
			..nothing()
		}
	}

	/// How much the holder says to have.
	fn held(&self, sources: &[Source]) -> Option<CopyResult> {
		self.holder.reconcile(&self.wanted(sources)).copies.into_iter().next()
	}

	fn wait_until_held(&self, sources: &[Source], to: u64) -> CopyResult {
		// The newest comes first.
		let is_whole = |held: &CopyResult| (held.from, held.to) == (0, to);
		until("a copy to be whole", || self.held(sources).filter(is_whole))
	}

	/// The chain names the holder to the host, which may fetch there.
	fn let_host_fetch(&self) {
		self.host.node.state().sources.push(self.at_holder.clone());
		for world in [&self.host, &self.holder] {
			world.node.state().readers.push((1, self.at_host.recipient));
		}
	}

	fn fetched_bytes(&self) -> u64 {
		self.holder.get("/v1/copies").json()[0]["fetched_bytes"].as_u64().unwrap()
	}

	fn has_all(&self, world: &World) -> bool {
		let roots = world.roots();
		self.taken.iter().all(|taken| roots.contains(&taken.cid.to_string()))
	}
}

/// Ask a gateway for a block, as somebody who shows nothing.
fn ask(source: &Source, cid: &Cid, query: &str) -> http::Answer {
	let url = String::from_utf8(source.gateway.to_vec()).unwrap();
	let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
	http::ask(port, "GET", &format!("/ipfs/{cid}?{query}"), &[], &[]).unwrap()
}

/// A gateway that does to each connection what it is told.
fn gateway(like: &Source, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Source {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let serve = Arc::new(serve);
	thread::spawn(move || {
		for stream in listener.incoming() {
			let (stream, serve) = (stream.unwrap(), serve.clone());
			thread::spawn(move || serve(stream));
		}
	});
	Source { gateway: url.into_bytes().try_into().unwrap(), recipient: like.recipient }
}

#[test]
fn a_holder_fetches_what_the_chain_records_and_says_so() {
	let pair = Pair::start(9);
	let sources = [pair.at_host.clone()];
	let held = pair.wait_until_held(&sources, 1);
	assert_eq!((held.from, held.lineage), (0, pair.order.lineage.clone()));
	assert!(pair.has_all(&pair.holder));
	let usage = |world: &World| world.get("/v1/status").json()["stored_bytes"].clone();
	assert_eq!(usage(&pair.holder), usage(&pair.host));
}

#[test]
fn a_machine_with_a_large_file_beside_its_disks_is_copied() {
	let mut pair = Pair::start(9);
	let file = pair.host.path("vars.fd");
	fs::write(&file, noise(2, 3 * MIB)).unwrap();
	let machine = pair.host.path("state/vms/vm-7.toml");
	let more = format!("\n[[file]]\nname = \"vars.fd\"\npath = {file:?}\n");
	let words = fs::read_to_string(&machine).unwrap();
	fs::write(&machine, words + &more).unwrap();
	pair.take();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 2);
	assert!(pair.has_all(&pair.holder));
	assert!(!pair.holder.log().contains("passed over"));
}

#[test]
fn a_snapshot_that_nobody_has_does_not_keep_older_ones() {
	let pair = Pair::start(1);
	let lost = RecordedRoot {
		lineage: pair.order.lineage.clone(),
		sequence: 1,
		cid: Cid::dag_cbor([9; 32]),
	};
	pair.holder.node.state().recorded.push(lost);
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	assert!(pair.has_all(&pair.holder));
	let error = || pair.holder.get("/v1/copies").json()[0]["error"].as_str().map(str::to_owned);
	assert!(until("the reason", error).contains("missing at its origin"));
}

#[test]
fn the_next_snapshot_costs_what_is_new_in_it() {
	let mut pair = Pair::start(40);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	let first = pair.fetched_bytes();
	let mut bytes = fs::read(pair.host.image(7)).unwrap();
	bytes[20 * MIB..][..4096].fill(5);
	fs::write(pair.host.image(7), &bytes).unwrap();
	pair.take();
	pair.wait_until_held(&sources, 2);
	let second = pair.fetched_bytes() - first;
	assert!(first > 40 << 20 && second < 1 << 20, "{first} bytes, then {second}");
}

#[test]
fn strangers_are_served_on_this_machine_only() {
	let pair = Pair::start(1);
	let root = pair.taken[0].cid;
	for query in ["format=raw", "format=car"] {
		assert_eq!(ask(&pair.at_host, &root, query).status, 401, "{query}");
	}
	assert_eq!(pair.host.block(&root).status, 200);
}

#[test]
fn a_node_that_the_chain_does_not_know_by_its_key_is_not_served() {
	let pair = Pair::start(1);
	pair.host.node.state().readers.clear();
	let sources = [pair.at_host.clone()];
	until("the refusal", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("403")).map(drop)
	});
	assert!(pair.holder.roots().is_empty());
}

#[test]
fn a_holder_that_lost_its_blocks_says_so_and_fetches_them_again() {
	let mut pair = Pair::start(3);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	pair.holder.kill();
	fs::remove_dir_all(pair.holder.path("state/blocks")).unwrap();
	fs::create_dir(pair.holder.path("state/blocks")).unwrap();
	pair.holder.start_agent();
	pair.wait_until_held(&sources, 1);
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn a_holder_that_is_killed_while_it_fetches_goes_on() {
	let mut pair = Pair::start(48);
	let sources = [pair.at_host.clone()];
	for _ in 0..3 {
		until("some of it to be fetched", || {
			pair.held(&sources);
			let copies = pair.holder.get("/v1/copies").json();
			copies[0]["fetched_bytes"].as_u64().filter(|bytes| *bytes > 0)
		});
		pair.holder.kill();
		pair.holder.start_agent();
	}
	pair.wait_until_held(&sources, 1);
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn gateways_that_lie_drip_or_never_end_are_passed_over() {
	let pair = Pair::start(3);
	let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
	let liar = gateway(&pair.at_host, |mut stream| {
		let _ = stream.read(&mut [0; 4096]);
		let _ = stream.write_all(head).and_then(|()| stream.write_all(b"a lie"));
	});
	let endless = gateway(&pair.at_host, |mut stream| {
		let _ = stream.read(&mut [0; 4096]);
		let _ = stream.write_all(head);
		while stream.write_all(&[7; 65_536]).is_ok() {}
	});
	let deaf = gateway(&pair.at_host, drop);
	let nobody =
		Source { gateway: b"http://127.0.0.1:1".to_vec().try_into().unwrap(), ..liar.clone() };
	let sources = [liar, endless, deaf, nobody, pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	assert!(pair.has_all(&pair.holder));
}

#[test]
fn a_gateway_that_drips_costs_its_time_and_no_more() {
	let pair = Pair::start(3);
	let dripping = gateway(&pair.at_host, |mut stream| {
		let _ = stream.read(&mut [0; 4096]);
		let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
		while stream.write_all(b".").is_ok() {
			thread::sleep(Duration::from_millis(500));
		}
	});
	pair.wait_until_held(&[dripping, pair.at_host.clone()], 1);
	assert!(pair.holder.log().contains("slower than"));
}

#[test]
fn a_holder_whose_disk_is_full_says_what_it_has_and_goes_on_when_there_is_room() {
	let mut pair = Pair::start(8);
	pair.holder.terminate();
	let blocks = pair.holder.path("state/blocks");
	let Some(disk) = SmallDisk::over(&blocks, STORE_MIB) else { return };
	pair.holder.start_agent();
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	fs::write(pair.host.image(7), noise(2, 160 * MIB)).unwrap();
	pair.take();
	until("the reason", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("full")).map(drop)
	});
	assert_eq!(pair.held(&sources).unwrap().to, 1);
	disk.grow(3 * STORE_MIB);
	pair.wait_until_held(&sources, 2);
	assert!(pair.has_all(&pair.holder));
	pair.holder.kill();
}

#[test]
fn addresses_that_the_operator_does_not_allow_are_never_asked() {
	let pair = Pair::start(1);
	let is_asked = Arc::new(AtomicBool::new(false));
	let asked = is_asked.clone();
	let forbidden = gateway(&pair.at_host, move |_| asked.store(true, Ordering::SeqCst));
	let (holder, at_holder) = {
		let mut world = World::prepare();
		world.start_agent();
		let source = Source { recipient: world.recipient(), ..pair.at_holder.clone() };
		(world, source)
	};
	pair.host.node.state().readers.push((HOLDER, at_holder.recipient));
	holder.node.state().recorded = pair.holder.node.state().recorded.clone();
	let pair = Pair { holder, at_holder, ..pair };
	until("the reason", || {
		pair.held(slice::from_ref(&forbidden));
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().filter(|error| error.contains("no gateway")).map(drop)
	});
	assert!(!is_asked.load(Ordering::SeqCst));
}

#[test]
fn a_copy_that_is_given_to_another_holder_goes() {
	let pair = Pair::start(1);
	let sources = [pair.at_host.clone()];
	pair.wait_until_held(&sources, 1);
	pair.holder.node.state().keeps_copies = false;
	until("the copy to go", || pair.holder.roots().is_empty().then_some(()));
}

#[test]
fn a_restore_fetches_what_is_missing_here_from_a_holder() {
	let mut pair = Pair::start(9);
	let expected = fs::read(pair.host.image(7)).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.host.kill();
	fs::remove_dir_all(pair.host.path("state/blocks")).unwrap();
	fs::create_dir(pair.host.path("state/blocks")).unwrap();
	pair.host.start_agent();
	let order = restore_of(&pair.order, pair.taken[0].cid, 3);
	let folder = pair.host.restore(&order).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == expected, "the disks differ");
}

#[test]
fn a_restore_passes_over_a_damaged_block_if_a_holder_has_a_sound_one() {
	let mut pair = Pair::start(9);
	let expected = fs::read(pair.host.image(7)).unwrap();
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.host.kill();
	damage_a_pack(&pair.host);
	pair.host.start_agent();
	let order = restore_of(&pair.order, pair.taken[0].cid, 3);
	let folder = pair.host.restore(&order).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == expected, "the disks differ");
}

/// Flip a bit in the middle of the first pack, where chunks are.
fn damage_a_pack(world: &World) {
	let entries = fs::read_dir(world.path("state/blocks")).unwrap();
	let paths = entries.map(|entry| entry.unwrap().path());
	let is_pack = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "pack");
	let pack = paths.filter(is_pack).min().unwrap();
	let mut bytes = fs::read(&pack).unwrap();
	let middle = bytes.len() / 2;
	bytes[middle] ^= 1;
	fs::write(&pack, bytes).unwrap();
}

/// A host whose store is damaged, with a holder that may be asked.
fn damaged() -> Pair {
	let mut pair = Pair::start(9);
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.let_host_fetch();
	pair.host.kill();
	damage_a_pack(&pair.host);
	pair.host.start_agent();
	pair.host.reconcile(&nothing());
	pair.host.reconcile(&nothing());
	pair
}

fn verdict(world: &World) -> String {
	let output = world.run_with("verify", &["--depth", "blocks", "--json"]);
	let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
	result["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn damage_that_a_verification_finds_is_fetched_back_from_a_holder() {
	let mut pair = damaged();
	assert_eq!(verdict(&pair.host), "good");
	assert!(pair.host.log().contains("replaced by good ones"));
	pair.holder.kill();
	assert_eq!(verdict(&pair.host), "good", "by itself, now");
}

#[test]
fn damage_that_nobody_can_mend_is_told() {
	let mut pair = damaged();
	pair.holder.kill();
	assert_eq!(verdict(&pair.host), "bad");
}

#[test]
fn a_host_whose_agent_is_away_for_a_while_is_asked_again() {
	let mut pair = Pair::start(3);
	let sources = [pair.at_host.clone()];
	pair.host.kill();
	until("the failure", || {
		pair.held(&sources);
		let copies = pair.holder.get("/v1/copies").json();
		copies[0]["error"].as_str().map(drop)
	});
	pair.host.start_agent();
	pair.wait_until_held(&sources, 1);
}
