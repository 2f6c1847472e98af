//! What outlives a restart, what the operator is told, and what strangers can read.

use crate::{
	http,
	orders::{GENESIS, nothing},
	world::{World, fresh, noise, now_ms, until},
};
use backup_agent::repositories::CarStream;
use backup_primitives::{
	Cid,
	auth::request_mac,
	job::{Desired, encode_body},
};
use std::collections::HashSet;

/// Send a body as a worker with this secret does, and give the status.
fn status(world: &World, secret: &[u8; 32], body: &[u8]) -> u16 {
	let fresh = fresh(now_ms());
	let answer = world.post(&fresh, &request_mac(secret, &fresh, body), body);
	if answer.status != 200 {
		assert_eq!(answer.text(), "", "a stranger learns nothing");
		assert_eq!(answer.headers.get("x-backup-mac"), None);
	}
	answer.status
}

fn logged(world: &World, words: &str) {
	until(words, || world.log().contains(words).then_some(()));
}

#[test]
fn a_second_chain_is_refused_also_after_a_restart() {
	let mut world = World::start();
	let other = encode_body(&Desired { genesis: [0xab; 32], ..nothing() });
	assert_eq!(status(&world, &[7; 32], &other), 401, "a stranger binds nothing");
	logged(&world, "give both the same secret file");
	world.reconcile(&nothing());
	assert_eq!(status(&world, &world.secret(), &other), 409);
	// Each kind of refusal is told on its own: the stranger's must not hide this one.
	logged(&world, &"ab".repeat(32));
	logged(&world, &hex::encode(GENESIS));
	world.kill();
	world.start_agent();
	assert_eq!(status(&world, &world.secret(), &other), 409);
	world.reconcile(&nothing());
}

#[test]
fn what_anybody_may_read_holds_no_secret() {
	let world = World::start();
	world.reconcile(&nothing());
	let secret = hex::encode(world.secret());
	for path in ["/healthz", "/v1/status", "/v1/jobs", "/v1/snapshots"] {
		let answer = world.get(path);
		assert_eq!(answer.status, 200, "{path}");
		let text = answer.text();
		assert!(!text.contains(&secret) && !text.contains("AGE-SECRET-KEY"), "{path}: {text}");
	}
	assert_eq!(world.get("/v1/status").json()["genesis"], format!("0x{}", hex::encode(GENESIS)));
	assert!(!world.log().contains(&secret));
}

#[test]
fn the_gateway_answers_ipfs_clients_as_its_specification_asks() {
	let world = World::start();
	let unknown = Cid::raw([3; 32]);
	let ask = |method, path: &str, headers: &[_]| {
		http::ask(world.port(), method, path, headers, &[]).unwrap()
	};
	for method in ["GET", "HEAD"] {
		let probe = ask(method, "/ipfs/bafkqaaa?format=raw", &[]);
		assert_eq!((probe.status, probe.body.len()), (200, 0));
		assert_eq!(probe.headers["content-type"], "application/vnd.ipld.raw");
	}
	assert_eq!(world.block(&unknown).status, 404);
	let accept = [("accept", "application/vnd.ipld.raw".to_owned())];
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}"), &accept).status, 404);
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}?format=car"), &accept).status, 404);
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}?format=tar"), &accept).status, 400);
	let cached = [("cache-control", "only-if-cached".to_owned())];
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}?format=raw"), &cached).status, 412);
	for path in [&format!("/ipfs/{unknown}"), "/ipfs/no-cid?format=raw", "/ipfs/Qm?format=raw"] {
		assert_eq!(world.get(path).status, 400, "{path}");
	}
}

/// The blocks of a CAR that the gateway streams.
fn car(world: &World, cid: &Cid, scope: &str) -> Vec<Cid> {
	let url = format!("http://127.0.0.1:{}/ipfs/{cid}?format=car{scope}", world.port());
	let answer = reqwest::blocking::get(url).unwrap();
	assert_eq!(answer.status(), 200);
	let kind = answer.headers()["content-type"].to_str().unwrap();
	assert_eq!(kind, "application/vnd.ipld.car; version=1; order=dfs; dups=y");
	let mut stream = CarStream::new(answer).unwrap();
	assert_eq!(stream.roots(), [*cid]);
	std::iter::from_fn(|| stream.next_block().unwrap().map(|(cid, _)| cid)).collect()
}

#[test]
fn the_gateway_streams_a_snapshot_as_a_car() {
	let world = World::start();
	let order = world.machine(7, &noise(1, 3 << 20));
	let root = world.take(&order).unwrap().cid;
	let all = car(&world, &root, "");
	let stored = world.get("/v1/status").json()["blocks"].as_u64().unwrap();
	assert_eq!((all.len() as u64, all[0]), (stored, root));
	assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "each block once");
	assert_eq!(car(&world, &root, "&dag-scope=block"), [root]);
	assert_eq!(car(&world, &root, "&dag-scope=entity"), [root]);
	let wrong = world.get(&format!("/ipfs/{root}?format=car&dag-scope=some"));
	assert_eq!(wrong.status, 400);
}
