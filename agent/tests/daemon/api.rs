//! What outlives a restart, what the operator is told, and what strangers can read.

use crate::{
	http,
	orders::{GENESIS, nothing},
	world::{World, fresh, now_ms, until},
};
use backup_primitives::{
	Cid,
	auth::request_mac,
	job::{Desired, encode_body},
};

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
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}?format=car"), &accept).status, 400);
	let cached = [("cache-control", "only-if-cached".to_owned())];
	assert_eq!(ask("GET", &format!("/ipfs/{unknown}?format=raw"), &cached).status, 412);
	for path in [&format!("/ipfs/{unknown}"), "/ipfs/no-cid?format=raw", "/ipfs/Qm?format=raw"] {
		assert_eq!(world.get(path).status, 400, "{path}");
	}
}
