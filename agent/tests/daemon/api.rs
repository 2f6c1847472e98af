//! Who may speak to the agent, and what strangers learn.

use crate::{
	http,
	world::{GENESIS, World, desired, fresh, now_ms, until},
};
use backup_primitives::{
	Cid,
	auth::{CLOCK_SKEW_MAX_MS, request_mac},
	job::{BODY_BYTES_MAX, Desired, RECONCILE_PATH, encode_body},
};

/// Send a body as a worker with this secret and clock does, and give the status.
fn status(world: &World, secret: &[u8; 32], time_ms: u64, body: &[u8]) -> u16 {
	let fresh = fresh(time_ms);
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
fn another_secret_is_refused_and_the_log_says_what_to_do() {
	let world = World::start();
	let body = encode_body(&desired());
	assert_eq!(status(&world, &[7; 32], now_ms(), &body), 401);
	logged(&world, "give both the same secret file");
	assert_eq!(status(&world, &world.secret(), now_ms(), &body), 200);
}

#[test]
fn a_call_that_comes_twice_is_refused() {
	let world = World::start();
	let body = encode_body(&desired());
	let fresh = fresh(now_ms());
	let mac = request_mac(&world.secret(), &fresh, &body);
	assert_eq!(world.post(&fresh, &mac, &body).status, 200);
	assert_eq!(world.post(&fresh, &mac, &body).status, 401);
	logged(&world, "the same call came twice");
}

#[test]
fn a_clock_that_is_far_off_is_refused() {
	let world = World::start();
	let body = encode_body(&desired());
	let off = CLOCK_SKEW_MAX_MS + 30_000;
	for time_ms in [now_ms() - off, now_ms() + off, 0, u64::MAX] {
		assert_eq!(status(&world, &world.secret(), time_ms, &body), 401);
	}
	logged(&world, "clocks");
	let bearable = now_ms() - CLOCK_SKEW_MAX_MS / 2;
	assert_eq!(status(&world, &world.secret(), bearable, &body), 200);
}

#[test]
fn calls_without_or_with_broken_headers_are_refused() {
	let world = World::start();
	let body = encode_body(&desired());
	let [nonce, time, mac] = [("x-backup-nonce", 16), ("x-backup-time", 0), ("x-backup-mac", 32)]
		.map(|(name, bytes)| (name, "0".repeat((2 * bytes).max(1))));
	let refused = [
		vec![],
		vec![nonce.clone(), time.clone()],
		vec![(nonce.0, "0".repeat(30)), time.clone(), mac.clone()],
		vec![nonce.clone(), (time.0, "-1".into()), mac.clone()],
		vec![nonce, time, (mac.0, "g".repeat(64))],
	];
	for headers in refused {
		let answer = http::ask(world.port(), "POST", RECONCILE_PATH, &headers, &body).unwrap();
		assert_eq!((answer.status, answer.text().as_str()), (401, ""), "{headers:?}");
	}
}

#[test]
fn boundary_a_body_past_the_limit_is_not_even_looked_at() {
	let world = World::start();
	let longest = vec![1; BODY_BYTES_MAX];
	assert_eq!(status(&world, &world.secret(), now_ms(), &longest), 400);
	let fresh = fresh(now_ms());
	let longer = vec![1; BODY_BYTES_MAX + 1];
	let mac = request_mac(&world.secret(), &fresh, &longer);
	assert_eq!(world.post(&fresh, &mac, &longer).status, 413);
}

#[test]
fn another_version_of_the_protocol_is_refused() {
	let world = World::start();
	let mut body = encode_body(&desired());
	body[0] = 2;
	assert_eq!(status(&world, &world.secret(), now_ms(), &body), 400);
	logged(&world, "of version 2 of the protocol");
	for broken in [&[][..], &body[..body.len() - 1]] {
		assert_eq!(status(&world, &world.secret(), now_ms(), broken), 400);
	}
}

#[test]
fn a_second_chain_is_refused_also_after_a_restart() {
	let mut world = World::start();
	let other = encode_body(&Desired { genesis: [0xab; 32], ..desired() });
	assert_eq!(status(&world, &[7; 32], now_ms(), &other), 401, "a stranger binds nothing");
	world.reconcile(&desired());
	assert_eq!(status(&world, &world.secret(), now_ms(), &other), 409);
	logged(&world, &"ab".repeat(32));
	logged(&world, &hex::encode(GENESIS));
	world.kill();
	world.start_agent();
	assert_eq!(status(&world, &world.secret(), now_ms(), &other), 409);
	world.reconcile(&desired());
}

#[test]
fn what_anybody_may_read_holds_no_secret() {
	let world = World::start();
	world.reconcile(&desired());
	let secret = hex::encode(world.secret());
	for path in ["/healthz", "/v1/status", "/v1/jobs", "/v1/snapshots"] {
		let answer = world.get(path);
		assert_eq!(answer.status, 200, "{path}");
		let text = answer.text();
		assert!(!text.contains(&secret) && !text.contains("AGE-SECRET-KEY"), "{path}: {text}");
	}
	assert_eq!(world.get("/v1/status").json()["genesis"], format!("0x{}", hex::encode(GENESIS)));
	assert!(!world.log().contains(&secret));
	assert_eq!(world.get(RECONCILE_PATH).status, 405);
	assert_eq!(world.get("/v1/other").status, 404);
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
