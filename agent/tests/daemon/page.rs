//! The agent's page, seen with a real browser: what an operator learns from it, and what it lets
//! nobody do.

use crate::{
	browser::Browser,
	http,
	machine::Machine,
	orders::{lineage, nothing, snapshots},
	world::{World, noise, until},
};
use backup_agent::sources::ImageFormat;
use backup_primitives::{
	FailureReason, OpaqueId,
	job::{Copied, CopyHolder, CopyOrder, Desired, LineagePlace, SnapshotOrder},
};
use serde_json::{Value as Json, json};
use std::fs;

/// Most bytes of the page and all that it loads.
const BYTES_MAX: u64 = 200_000;

/// Most requests for them. How long they take until something is seen, docs/performance.md tells.
const REQUESTS_MAX: u64 = 10;

/// An agent that reads slowly enough for a job to be seen.
fn slow_agent() -> World {
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!(
		"node_rpc = \"{node_rpc}\"\nrestore_format = \"raw\"\nread_bytes_per_second = 8388608\n"
	));
	world.start_agent();
	world
}

/// What the chain says of a machine that is wanted every 100 blocks: node 3 has its first snapshot, node
/// 4 has none, node 5 is silent.
fn told_of(order: &SnapshotOrder, cadence: Option<u64>) -> Desired {
	let holder = |node: u32, confirmed, is_silent| {
		let node = OpaqueId::of(&node).unwrap();
		CopyHolder { node, confirmed, is_silent }
	};
	let holders = vec![holder(3, Some(0), false), holder(4, None, false), holder(5, Some(0), true)];
	let copied =
		Copied { confirmed: Some(0), is_late: false, holders: holders.try_into().unwrap() };
	let lineage = order.lineage.clone();
	let place = LineagePlace { lineage, next: 1, cadence, copied: Some(copied) };
	Desired { lineages: vec![place].try_into().unwrap(), ..nothing() }
}

#[test]
fn an_operator_sees_backups_run_end_and_fail_and_the_agent_go() {
	let Some(chromium) = Browser::program() else { return };
	let mut world = slow_agent();
	let machine = Machine::start(ImageFormat::Qcow2);
	let first = world.running_machine(7, &machine.vm());
	// A name that would be markup, if the page took names for it.
	fs::write(world.path("state/vms/<img src=x>.toml"), "uuid = 7").unwrap();

	let mut page = Browser::open(&chromium, world.port());
	let loaded = page.ask("load", &[]);
	assert_eq!(loaded["title"], "Backup agent");
	assert!(loaded["bytes"].as_u64().unwrap() < BYTES_MAX, "{loaded}");
	assert!(loaded["requests"].as_u64().unwrap() <= REQUESTS_MAX, "{loaded}");
	println!("first content after {} ms", loaded["paint_ms"]);

	page.see("#verdict", "Not ready");
	page.see("#checks .bad .found", "has not spoken since the agent started");
	page.see("#machines-rows tr", "<img src=x>");
	page.see("#machines-rows tr", "vm-7");
	assert_eq!(page.ask("count", &[("of", "#machines-rows img")]), 0);
	world.reconcile(&nothing());
	page.see("#verdict[data-state=good]", "Ready");

	// What runs, how far it is and how fast.
	world.reconcile(&snapshots([first.clone()]));
	page.see("#running li", "vm-7");
	page.see("#running .rate", "B/s");
	page.see("#machines-rows tr", "running");
	let one = world.take(&first).unwrap();
	page.see("#history-rows tr", "in full");
	page.see("#machines-rows tr:has-text('vm-7')", "fresh");
	page.see("#running-none", "Nothing runs.");
	page.hear("Backup of vm-7 is done.");

	machine.write(0xa1, 10 << 20, 1 << 20);
	let second = SnapshotOrder { sequence: 1, slot: 1, parent: Some(one.cid), ..first };
	let two = world.take(&second).unwrap();
	page.see("#history-rows tr", "changes only");
	page.see("#tile-held-more", "2 snapshots");
	let sum = |name: &str| -> f64 {
		let history = world.get("/v1/history?after=0&limit=9").json();
		let attempts = history["attempts"].as_array().unwrap();
		let taken = attempts.iter().map(|attempt| &attempt["taken"][name]);
		taken.map(|bytes| bytes.as_f64().unwrap()).sum()
	};
	let dedup = sum("logical_bytes") / sum("fresh_bytes");
	assert!(dedup > 1.9, "the same disk was backed up twice: {dedup}");
	page.see("#tile-dedup", &format!("{dedup:.2} : 1"));
	let compression = sum("fresh_bytes") / sum("new_bytes");
	assert!(compression > 100.0, "{compression}");
	// Of zeros little is left.
	page.see("#tile-compression", &format!("{compression:.0} : 1"));
	page.see("#growth canvas", "");
	let words = page.ask("attribute", &[("of", "#ratios"), ("name", "aria-label")]);
	let drawn = format!("× to {}×", (dedup * 100.0).round() / 100.0);
	assert!(words.as_str().unwrap().contains(&drawn), "{words}: {drawn}");
	let words = page.ask("attribute", &[("of", "#growth"), ("name", "aria-label")]);
	assert!(words.as_str().unwrap().contains("Held: 64.0 MiB to 128 MiB"), "{words}");

	let third = SnapshotOrder { sequence: 2, slot: 2, parent: Some(two.cid), ..second };
	let failing = SnapshotOrder { capacity_bytes: 1, ..third };
	assert_eq!(world.take(&failing), Err(FailureReason::CapacityExceeded));
	page.see("#machines-rows tr:has-text('vm-7') .under.bad", "capacity exceeded");
	page.see("#history-rows tr", "failed");
	page.hear("Backup of vm-7 failed: capacity exceeded.");

	assert!(world.run_with("verify", &["--depth", "presence"]).status.success());
	page.see("#verifications-rows tr:has-text('vm-7')", "good");
	let copy = CopyOrder {
		lineage: lineage(9),
		owner: OpaqueId::of(&[1u8; 32]).unwrap(),
		next: 3,
		sources: Default::default(),
	};
	world.reconcile(&Desired { copies: vec![copy].try_into().unwrap(), ..nothing() });
	page.see("#copies-rows tr:has-text('9')", "0 of 3");

	// Who else has it, and how often it is wanted.
	page.see("#machines-rows tr:has-text('vm-7')", "–");
	world.reconcile(&told_of(&failing, Some(100)));
	page.see("#machines-rows tr:has-text('vm-7')", "node 3");
	page.see("#machines-rows .under", "node 4 has none yet, node 5 is silent");
	// Not confirmed in time is as good as not there.
	page.see("#machines-rows tr:has-text('vm-7') .badge[data-mood=good]", "fresh");
	let mut unconfirmed = told_of(&failing, Some(100));
	unconfirmed.lineages[0].copied.as_mut().unwrap().is_late = true;
	world.reconcile(&unconfirmed);
	page.see("#machines-rows tr:has-text('vm-7') .badge[data-mood=warn]", "late");
	world.reconcile(&told_of(&failing, Some(100)));
	page.see("#machines-rows tr:has-text('vm-7') .badge[data-mood=good]", "fresh");

	// By keyboard to what went wrong, and back.
	page.ask("tab_to", &[("of", "#machines-rows tr:nth-child(2) button")]);
	page.ask("press", &[("key", "Enter")]);
	page.see("#detail-failure", "the machine's disks have 67108864 bytes, the request provides 1");
	page.see("#log p", "job failed");
	page.see("#detail-facts", "every 100 blocks");
	page.see("#detail-facts", "confirmed by node 3; node 4 has none yet, node 5 is silent");
	page.ensure_without_barriers();
	page.ask("press", &[("key", "Escape")]);
	assert_eq!(page.ask("focused", &[]), "vm-7");

	page.ensure_without_barriers();
	page.pictures();
	for width in [390, 320] {
		let sticking = page.ask_with("narrow", json!({ "width": width }));
		assert!(sticking.as_array().unwrap().is_empty(), "{width}: {sticking:#}");
		page.ensure_without_barriers();
	}
	page.ask("widen", &[]);
	world.reconcile(&told_of(&failing, None));
	page.see("#machines-rows tr:has-text('vm-7') .badge", "not wanted");
	page.see("#machines-rows tr:has-text('vm-7')", "none is wanted");

	world.node.stop();
	page.see("#checks .bad .mend", "start the node, or set node_rpc");
	assert_eq!(world.get("/ready").status, 503);
	world.node.start_again();
	page.see("#verdict[data-state=good]", "Ready");

	let errors = page.ask("errors", &[]);
	assert!(errors.as_array().unwrap().is_empty(), "{errors:#}");
	world.kill();
	page.see("[role=alert]", "The agent does not answer. What is shown is from");
	page.see("#live", "No answer");
	page.see("#machines-rows tr", "vm-7");
	world.start_agent();
	page.see("#live", "Live");
	page.see("#machines-rows tr:has-text('vm-7') .under.bad", "capacity exceeded");
	let hosts = page.ask("hosts", &[]);
	assert_eq!(hosts, json!([format!("127.0.0.1:{}", world.port())]));
	assert!(machine.is_running() && machine.leftovers().is_empty());
}

#[test]
fn the_page_lets_no_script_in_and_nobody_who_was_led_here() {
	let world = World::start();
	for path in ["/", "/page/page.js", "/v1/machines", "/v1/readiness"] {
		let answer = world.get(path);
		assert_eq!(answer.status, 200, "{path}");
		let policy = &answer.headers["content-security-policy"];
		assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
		assert_eq!(answer.headers["x-content-type-options"], "nosniff");
		let foreign = ask_as(&world, path, "pages.example");
		assert_eq!(foreign.status, 403, "{path}");
	}
	assert!(world.get("/page/uplot-licence.txt").text().contains("MIT"));
	assert_eq!(world.get("/page/../../etc/passwd").status, 404);
	assert_eq!([world.get("/health").text(), world.get("/healthz").text()], ["ok\n", "ok\n"]);
}

/// Ask under a foreign name, as a browser does that was led here.
fn ask_as(world: &World, path: &str, host: &str) -> http::Answer {
	// The first header named Host would be the right one.
	let url = format!("http://127.0.0.1:{}{path}", world.port());
	let answer = reqwest::blocking::Client::new().get(url).header("host", host).send().unwrap();
	http::Answer {
		status: answer.status().as_u16(),
		headers: Default::default(),
		body: answer.bytes().unwrap().to_vec(),
	}
}

#[test]
fn machines_and_their_history_outlive_the_agent() {
	let mut world = World::start();
	let order = world.machine(7, &noise(1, 3 << 20));
	let machine = |world: &World| world.get("/v1/machines").json()[0].clone();
	let before = machine(&world);
	assert_eq!((&before["age"], &before["state"]), (&"never".into(), &"idle".into()));
	let taken = world.take(&order).unwrap();
	let later = SnapshotOrder { sequence: 1, slot: 1, parent: Some(taken.cid), ..order.clone() };
	fs::rename(world.image(7), world.path("away")).unwrap();
	assert_eq!(world.take(&later), Err(FailureReason::ImageUnreadable));
	world.kill();
	world.start_agent();

	let after = machine(&world);
	assert_eq!((&after["name"], &after["age"]), (&"vm-7".into(), &"fresh".into()));
	assert_eq!((&after["held"], &after["is_in_inventory"]), (&1.into(), &true.into()));
	let last = &after["last"]["taken"];
	assert_eq!(last["cid"], taken.cid.to_string());
	assert_eq!([&last["logical_bytes"], &last["held_bytes"]], [3 << 20; 2]);
	// Noise: everything is new, the machine's description too, and nothing becomes smaller.
	assert!(last["read_bytes"].as_u64() > Some(3 << 20));
	assert_eq!(last["fresh_bytes"], last["read_bytes"]);
	assert!(last["new_bytes"].as_u64() > Some(3 << 20) && last["store_bytes"] == last["new_bytes"]);
	assert_eq!(after["failure"]["failed"]["reason"], "image-unreadable");

	let history = world.get("/v1/history").json();
	assert_eq!((&history["last"], history["attempts"].as_array().unwrap().len()), (&2.into(), 2));
	let rest = world.get("/v1/history?after=1").json();
	assert_eq!(rest["attempts"][0]["failed"]["reason"], "image-unreadable");
	assert_eq!(world.get("/v1/history?after=2").json()["attempts"].as_array().unwrap().len(), 0);
	assert_eq!(world.get("/v1/history?limit=1").json()["attempts"][0]["sequence"], 1);
	assert_eq!(world.get("/v1/history?before=1").status, 400);
}

#[test]
fn a_machine_s_cadence_and_holders_are_told_in_the_chain_s_blocks_and_in_time() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 1 << 20));
	world.take(&order).unwrap();
	let machine = || world.get("/v1/machines").json()[0].clone();
	assert_eq!((&machine()["is_wanted"], &machine()["cadence"]), (&Json::Null, &Json::Null));
	world.reconcile(&told_of(&order, Some(100)));
	let told = machine();
	assert_eq!((&told["is_wanted"], &told["age"]), (&true.into(), &"fresh".into()));
	assert_eq!(told["cadence"], json!({ "blocks": 100, "ms": null }));
	let is = |node: &str, sequence: Option<u64>, is_silent| json!({ "node": node, "sequence": sequence, "is_silent": is_silent });
	let holders = json!([is("3", Some(0), false), is("4", None, false), is("5", Some(0), true)]);
	assert_eq!(told["confirmed"]["holders"], holders);
	// The clock goes on, and it shows how long blocks take.
	for step in 1..=5 {
		let desired = told_of(&order, Some(100));
		world.reconcile(&Desired { now: desired.now + step, ..desired });
	}
	assert!(machine()["cadence"]["ms"].is_u64(), "{}", machine());
	let metrics = world.get("/metrics").text();
	assert!(metrics.contains("backup_agent_cadence_seconds{vm=\"vm-7\"}"), "{metrics}");
	world.reconcile(&told_of(&order, None));
	let told = machine();
	assert_eq!((&told["is_wanted"], &told["age"]), (&false.into(), &"unwanted".into()));
	assert_eq!((&told["cadence"], &told["next_at_ms"]), (&Json::Null, &Json::Null));
	let metrics = world.get("/metrics").text();
	assert!(metrics.contains("backup_agent_snapshots_wanted{vm=\"vm-7\"} 0"), "{metrics}");
}

#[test]
fn the_last_lines_of_a_job_are_shown() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 1 << 20));
	world.take(&order).unwrap();
	let job = world.get("/v1/jobs?limit=1").json()[0]["id"].as_str().unwrap().to_owned();
	let lines = world.get(&format!("/v1/jobs/{job}/log")).json();
	let texts: Vec<&str> =
		lines.as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
	for words in ["job started", "the machine was sealed", "job done"] {
		assert!(texts.iter().any(|text| text.starts_with(words)), "{words} in {texts:#?}");
	}
	assert_eq!(world.get("/v1/jobs/00/log").json(), json!([]));
	assert_eq!(world.get("/v1/jobs?limit=0").json(), json!([]));
}

#[test]
fn an_operator_sees_how_replicas_are() {
	let Some(chromium) = Browser::program() else { return };
	let mut world = World::prepare();
	world.configure(&format!(
		"node_rpc = \"{}\"\nquorum = 2\n[[kubo]]\nname = \"rack-2\"\nurl = \"http://127.0.0.1:1\"\n",
		world.node.url()
	));
	world.start_agent();
	let mut page = Browser::open(&chromium, world.port());
	page.ask("load", &[]);
	page.see("#replicas-rows tr:has-text('rack-2') .badge[data-mood=bad]", "waiting");
	page.see("#replicas-rows .under.bad", "it cannot be reached");
}

#[test]
fn an_agent_is_ready_when_it_has_all_that_it_needs() {
	let mut world = World::start();
	assert_eq!(world.get("/ready").status, 503, "no worker has spoken");
	world.reconcile(&nothing());
	let readiness = until("the agent to be ready", || {
		let answer = world.get("/ready");
		(answer.status == 200).then(|| answer.json())
	});
	let names = ["store", "pins", "node", "worker", "room"];
	let checks = readiness["checks"].as_array().unwrap();
	assert_eq!(
		checks.iter().map(|check| check["name"].as_str().unwrap()).collect::<Vec<_>>(),
		names
	);
	assert_eq!(readiness["checks"][2]["detail"], "finalized block 100");
	world.node.stop();
	until("the missing node to be noticed", || (world.get("/ready").status == 503).then_some(()));
	let checks = world.get("/v1/readiness").json()["checks"].clone();
	let bad = checks.as_array().unwrap().iter().find(|check| check["is_good"] == false).unwrap();
	assert_eq!(bad["name"], "node");
	assert!(bad["mend"].as_str().unwrap().contains("node_rpc"), "{bad}");
}
