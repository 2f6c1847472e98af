//! Replicas at a real Kubo daemon: that whose RPC is at `BACKUP_KUBO_API`, such as
//! `http://127.0.0.1:5001`, with `BACKUP_KUBO_TOKEN` in its `API.Authorizations` if it has any.
//! Without an address these tests are skipped, and say so. They leave nothing pinned behind.

mod between;
mod damage;
mod two;

use crate::{
	orders::{deletion, nothing, restore_of, snapshots},
	world::{World, noise, until},
};
use backup_agent::format::links;
use backup_primitives::{Cid, RecordedRoot, RootStatus, cid::BlockCodec, job::SnapshotOrder};
use between::Between;
use serde_json::Value as Json;
use std::{
	cell::RefCell,
	env, fs,
	io::Write,
	os::unix::fs::{OpenOptionsExt, PermissionsExt},
	thread,
};

const MIB: usize = 1 << 20;

/// The daemon, and what it has to let go of after the test.
struct Kubo {
	url: String,
	token: Option<String>,
	client: reqwest::blocking::Client,
	roots: RefCell<Vec<Cid>>,
}

impl Kubo {
	/// The daemon that the environment names.
	fn find() -> Option<Self> {
		Self::named("BACKUP_KUBO_API", "BACKUP_KUBO_TOKEN")
	}

	/// The same by other variables.
	fn named(api: &str, token: &str) -> Option<Self> {
		let test = thread::current().name().unwrap_or_default().to_owned();
		let Ok(url) = env::var(api) else {
			// Not by a macro, whose words are kept from people while a test goes well.
			let words = format!("SKIPPED {test}: {api} names no daemon\n");
			std::io::stderr().write_all(words.as_bytes()).unwrap();
			return None;
		};
		let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
		let token = env::var(token).ok();
		Some(Self { url, token, client, roots: RefCell::default() })
	}

	fn request(&self, query: &str) -> reqwest::blocking::RequestBuilder {
		let request = self.client.post(format!("{}/api/v0/{query}", self.url));
		match &self.token {
			Some(token) => request.bearer_auth(token),
			None => request,
		}
	}

	fn ask(&self, query: &str) -> (u16, String) {
		let answer = self.request(query).send().unwrap();
		(answer.status().as_u16(), answer.text().unwrap())
	}

	/// What agents have pinned for a root, and the names of these pins.
	fn pins(&self, root: &Cid) -> Vec<(Cid, String)> {
		let (_, text) =
			self.ask("pin/ls?type=recursive&names=true&stream=true&name=pallet-backup/");
		let pins = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
		let is_of_root = |cid: &Cid| {
			let request = self.request(&format!("block/get?arg={cid}&offline=true"));
			let answer = request.send().unwrap();
			answer.status().is_success() && links(&answer.bytes().unwrap()).unwrap() == [*root]
		};
		let pins = pins.filter_map(|pin| {
			let name = pin["Name"].as_str()?;
			Some((pin["Cid"].as_str()?.parse().unwrap(), name.to_owned()))
		});
		pins.filter(|(cid, _)| is_of_root(cid)).collect()
	}

	/// The same daemon, by way of somebody.
	fn through(&self, between: &Between) -> Self {
		Self {
			url: between.url.clone(),
			token: self.token.clone(),
			client: self.client.clone(),
			roots: RefCell::default(),
		}
	}

	/// Whether this very block is pinned, whatever the name.
	fn has_pin(&self, cid: &str) -> bool {
		self.ask(&format!("pin/ls?arg={cid}&type=recursive")).0 == 200
	}

	/// The name of the pin of a root.
	fn pin(&self, root: &Cid) -> Option<String> {
		self.pins(root).pop().map(|(_, name)| name)
	}

	/// Have the daemon lose a snapshot with its pin.
	fn empty(&self, root: &Cid, blocks: Vec<Cid>) {
		let [(hold, _)] = self.pins(root).try_into().unwrap();
		assert_eq!(self.ask(&format!("pin/rm?arg={hold}")).0, 200);
		self.lose(blocks.into_iter().chain([hold]));
	}

	/// Have the daemon lose blocks.
	fn lose(&self, blocks: impl Iterator<Item = Cid>) {
		for cid in blocks {
			let (status, said) = self.ask(&format!("block/rm?arg={cid}&force=true"));
			assert!(status == 200 && !said.contains("\"Error\":\""), "{said}");
		}
	}

	/// Whether all below a root is there. What fails after the answer has begun is a success by its
	/// status.
	fn is_whole(&self, root: &Cid) -> bool {
		let (status, text) = self.ask(&format!("dag/stat?arg={root}&progress=false&timeout=10s"));
		status == 200 && text.contains("NumBlocks")
	}

	/// An agent with this daemon as a replica, which shows this token.
	fn configure(&self, world: &World, token: Option<&str>, quorum: u32) {
		let mut more = format!(
			"node_rpc = \"{}\"\nrestore_format = \"raw\"\nquorum = {quorum}\n\
			 [[kubo]]\nname = \"real\"\nurl = \"{}\"\n",
			world.node.url(),
			self.url
		);
		if let Some(token) = token {
			let path = world.path("token");
			write_private(&path, token);
			more.push_str(&format!("token_file = {path:?}\n"));
		}
		world.configure(&more);
	}

	fn start(&self, quorum: u32) -> World {
		let mut world = World::prepare();
		self.configure(&world, self.token.as_deref(), quorum);
		world.start_agent();
		world
	}

	/// Wait until the only pins of an agent, told by that of one of its roots, are roots.
	fn wait_for_roots_alone(&self, root: &Cid) -> usize {
		let name = self.pin(root).unwrap();
		let tag = name.rsplit_once('/').unwrap().0;
		until("the pins of blocks on their way to go", || {
			let (_, pins) = self.ask("pin/ls?type=recursive&names=true&stream=true");
			let ours: Vec<&str> = pins.lines().filter(|line| line.contains(tag)).collect();
			let is_done = !ours.iter().any(|line| line.contains(&format!("{tag}/.")));
			is_done.then_some(ours.len())
		})
	}

	/// The next snapshot of a machine. With a quorum of two, the replica holds it when it is told.
	fn take(&self, world: &World, order: &mut SnapshotOrder, sequence: u64) -> Cid {
		order.sequence = sequence;
		let cid = world.take(order).unwrap().cid;
		self.roots.borrow_mut().push(cid);
		cid
	}
}

impl Drop for Kubo {
	fn drop(&mut self) {
		for root in self.roots.take() {
			for (pinned, _) in self.pins(&root) {
				self.ask(&format!("pin/rm?arg={pinned}"));
			}
		}
	}
}

fn write_private(path: &std::path::Path, text: &str) {
	let mut options = fs::File::options();
	let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
	file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
	file.write_all(text.as_bytes()).unwrap();
}

/// Take all blocks away from an agent that does not run.
fn empty(world: &World) {
	fs::remove_dir_all(world.path("state/blocks")).unwrap();
	fs::create_dir(world.path("state/blocks")).unwrap();
}

fn replica(world: &World) -> Json {
	world.get("/v1/replicas").json()["replicas"][0].clone()
}

/// All blocks below a root, from the agent's own store.
fn blocks_of(world: &World, root: &Cid) -> Vec<Cid> {
	let (mut found, mut pending) = (Vec::new(), vec![*root]);
	while let Some(cid) = pending.pop() {
		found.push(cid);
		if cid.codec() == BlockCodec::DagCbor {
			pending.extend(links(&world.block(&cid).body).unwrap());
		}
	}
	found
}

#[test]
fn a_snapshot_is_told_once_a_real_daemon_holds_it_and_the_next_costs_what_is_new() {
	let Some(kubo) = Kubo::find() else { return };
	let world = kubo.start(2);
	let mut bytes = noise(1, 40 * MIB);
	let mut order = world.machine(7, &bytes);
	let first = kubo.take(&world, &mut order, 0);
	assert!(kubo.is_whole(&first) && kubo.pin(&first).unwrap().starts_with("pallet-backup/"));
	let sent = replica(&world)["sent_bytes"].as_u64().unwrap();
	assert!(sent > 40 << 20, "{sent}");
	bytes[20 * MIB..][..4096].fill(5);
	fs::write(world.image(7), &bytes).unwrap();
	let second = kubo.take(&world, &mut order, 1);
	assert!(kubo.is_whole(&second) && kubo.pin(&second) == kubo.pin(&first));
	let more = replica(&world)["sent_bytes"].as_u64().unwrap() - sent;
	assert!(more < 1 << 20, "{more} bytes for one chunk");
	assert_eq!(kubo.wait_for_roots_alone(&first), 2);
	until("the replica to be whole", || (replica(&world)["state"] == "whole").then_some(()));
	let metrics = world.get("/metrics").text();
	assert!(metrics.contains("backup_agent_replica_good{replica=\"real\"} 1"), "{metrics}");
}

#[test]
fn a_real_daemon_that_was_emptied_is_filled_again() {
	let Some(kubo) = Kubo::find() else { return };
	let mut world = kubo.start(2);
	let mut order = world.machine(7, &noise(2, 9 * MIB));
	let root = kubo.take(&world, &mut order, 0);
	kubo.wait_for_roots_alone(&root);
	let blocks = blocks_of(&world, &root);
	// One that runs may fill it again at once.
	world.kill();
	kubo.empty(&root, blocks);
	assert!(!kubo.is_whole(&root));
	world.start_agent();
	until("the replica to be filled", || kubo.pin(&root));
	assert!(kubo.is_whole(&root));
}

#[test]
fn an_agent_that_is_killed_before_a_batch_has_its_name_leaves_it_pinned_at_no_real_daemon() {
	let Some(kubo) = Kubo::find() else { return };
	let between = Between::start(&kubo.url, "pin/add");
	let mut world = World::prepare();
	kubo.through(&between).configure(&world, kubo.token.as_deref(), 2);
	world.start_agent();
	let mut order = world.machine(7, &noise(9, 3 * MIB));
	world.reconcile(&snapshots([order.clone()]));
	let named = until("the name of the batch", || {
		world.reconcile(&snapshots([order.clone()]));
		between.kept.try_recv().ok()
	});
	let batch = named.split_once("arg=").unwrap().1.split('&').next().unwrap().to_owned();
	assert!(kubo.has_pin(&batch));
	world.kill();
	between.let_all_pass();
	world.start_agent();
	let root = kubo.take(&world, &mut order, 0);
	assert!(!kubo.has_pin(&batch) && kubo.is_whole(&root));
	assert_eq!(kubo.wait_for_roots_alone(&root), 1);
}

#[test]
fn what_an_emptied_store_lacks_is_restored_from_a_real_daemon_and_fetched_back() {
	let Some(kubo) = Kubo::find() else { return };
	let mut world = kubo.start(2);
	let bytes = noise(3, 20 * MIB);
	let mut order = world.machine(7, &bytes);
	let root = kubo.take(&world, &mut order, 0);
	world.node.say(root, RootStatus::Retained);
	let recorded = RecordedRoot { lineage: order.lineage.clone(), sequence: 0, cid: root };
	world.node.state().recorded.push(recorded);
	world.kill();
	empty(&world);
	world.start_agent();
	let folder = world.restore(&restore_of(&order, root, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
	until("the snapshot to be in the store again", || {
		world.reconcile(&nothing());
		world.roots().contains(&root.to_string()).then_some(())
	});
	assert_eq!(world.block(&root).status, 200);
}

#[test]
fn a_deletion_is_told_once_a_real_daemon_has_let_go() {
	let Some(kubo) = Kubo::find() else { return };
	let world = kubo.start(1);
	let mut order = world.machine(7, &noise(4, 3 * MIB));
	let root = kubo.take(&world, &mut order, 0);
	until("the replica to hold it", || kubo.pin(&root));
	world.node.say(root, RootStatus::Deleted);
	let deletion = deletion(7, 1);
	until("the deletion", || world.reconcile(&deletion).deletions.into_iter().next());
	assert_eq!(kubo.pin(&root), None);
}

#[test]
fn a_deletion_is_told_once_a_real_daemon_has_let_go_although_the_store_was_lost() {
	let Some(kubo) = Kubo::find() else { return };
	let mut world = kubo.start(2);
	let mut order = world.machine(7, &noise(7, 3 * MIB));
	let root = kubo.take(&world, &mut order, 0);
	world.kill();
	empty(&world);
	world.start_agent();
	world.node.say(root, RootStatus::Deleted);
	let deletion = deletion(7, 1);
	until("the deletion", || world.reconcile(&deletion).deletions.into_iter().next());
	assert_eq!(kubo.pin(&root), None);
	assert!(world.roots().is_empty());
}

#[test]
fn of_two_agents_at_a_real_daemon_each_lets_go_of_its_own() {
	let Some(kubo) = Kubo::find() else { return };
	let mut one = kubo.start(2);
	let mut order = one.machine(7, &noise(8, 9 * MIB));
	let root = kubo.take(&one, &mut order, 0);
	kubo.wait_for_roots_alone(&root);
	one.kill();
	// Another agent whose store has the same snapshot.
	let mut other = World::prepare();
	kubo.configure(&other, kubo.token.as_deref(), 2);
	fs::create_dir_all(other.path("state/blocks")).unwrap();
	for file in fs::read_dir(one.path("state/blocks")).unwrap() {
		let file = file.unwrap();
		fs::copy(file.path(), other.path("state/blocks").join(file.file_name())).unwrap();
	}
	other.start_agent();
	until("both pins", || (kubo.pins(&root).len() == 2).then_some(()));
	let sent = replica(&other)["sent_bytes"].as_u64().unwrap();
	assert!(sent < MIB as u64, "{sent} bytes of what is there");
	one.start_agent();
	one.node.say(root, RootStatus::Deleted);
	let deletion = deletion(7, 1);
	until("the deletion", || one.reconcile(&deletion).deletions.into_iter().next());
	assert_eq!(kubo.pins(&root).len(), 1);
	assert!(kubo.is_whole(&root));
}

#[test]
fn a_wrong_token_is_told_and_nothing_is_lost_meanwhile() {
	let Some(kubo) = Kubo::find() else { return };
	let Some(token) = kubo.token.clone() else {
		let words = "SKIPPED a_wrong_token_is_told…: BACKUP_KUBO_TOKEN is not set\n";
		std::io::stderr().write_all(words.as_bytes()).unwrap();
		return;
	};
	let mut world = World::prepare();
	kubo.configure(&world, Some("bearer:wr0ng"), 2);
	world.start_agent();
	let order = world.machine(7, &noise(5, 3 * MIB));
	let error = until("the refusal", || {
		let told = world.reconcile(&snapshots([order.clone()])).snapshots;
		assert!(told.is_empty(), "one replica is no quorum");
		replica(&world)["error"].as_str().map(str::to_owned)
	});
	assert!(error.contains("it does not let us in (403)"), "{error}");
	until("the snapshot to be in the store", || (world.roots().len() == 1).then_some(()));
	world.kill();
	kubo.configure(&world, Some(&format!("bearer:{token}\n")), 2);
	world.start_agent();
	let mut order = order;
	let root = kubo.take(&world, &mut order, 0);
	assert_eq!(world.roots(), [root.to_string()], "it was not taken a second time");
	assert!(!world.log().contains(&token) && !world.log().contains("wr0ng"));
}

#[test]
fn while_nobody_is_there_a_quorum_is_waited_for_and_seen() {
	let mut world = World::prepare();
	world.configure(&format!(
		"node_rpc = \"{}\"\nquorum = 2\n[[kubo]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1\"\n",
		world.node.url()
	));
	world.start_agent();
	let order = world.machine(7, &noise(6, MIB));
	let wanted = snapshots([order]);
	let view = until("the snapshot and the failure", || {
		assert!(world.reconcile(&wanted).snapshots.is_empty());
		let view = world.get("/v1/replicas").json();
		let is_short = view["below_quorum"] == 1 && view["replicas"][0]["error"].is_string();
		is_short.then_some(view)
	});
	assert_eq!(view["replicas"][0]["state"], "waiting", "{view}");
	assert_eq!(world.roots().len(), 1);
	assert!(world.reconcile(&wanted).snapshots.is_empty());
	let metrics = world.get("/metrics").text();
	for line in ["replica_good{replica=\"gone\"} 0", "snapshots_below_quorum 1"] {
		assert!(metrics.contains(line), "{line} in {metrics}");
	}
}
