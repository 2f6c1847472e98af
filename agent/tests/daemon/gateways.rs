//! Gateways that mean harm, and clients of ours that do.

use crate::{
	pair::{HOLDER, Pair, ask, gateway},
	world::{World, until},
};
use backup_primitives::job::Source;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
	io::{Read, Write},
	net::TcpStream,
	slice,
	sync::{
		Arc,
		atomic::{AtomicBool, AtomicU64, Ordering},
	},
	thread,
	time::Duration,
};

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

/// A server that should hear nothing, and whether it did.
fn bait(like: &Source) -> (String, Arc<AtomicBool>) {
	let is_asked = Arc::new(AtomicBool::new(false));
	let asked = is_asked.clone();
	let server = gateway(like, move |_| asked.store(true, Ordering::SeqCst));
	(String::from_utf8(server.gateway.to_vec()).unwrap(), is_asked)
}

#[test]
fn no_request_goes_where_a_gateway_or_the_environment_sends_it() {
	let mut pair = Pair::start(3);
	let (target, is_target_asked) = bait(&pair.at_host);
	let (proxy, is_proxy_asked) = bait(&pair.at_host);
	pair.holder.terminate();
	pair.holder.environment =
		["http_proxy", "HTTP_PROXY", "ALL_PROXY"].map(|name| (name, proxy.clone())).into();
	pair.holder.start_agent();
	let told = AtomicU64::new(0);
	let redirecting = gateway(&pair.at_host, move |mut stream| {
		let _ = stream.read(&mut [0; 4096]);
		let statuses = [301, 302, 303, 307, 308];
		let status = statuses[told.fetch_add(1, Ordering::SeqCst) as usize % statuses.len()];
		let head = format!(
			"HTTP/1.1 {status} x\r\nLocation: {target}/ipfs\r\nRefresh: 0; url={target}\r\n\
			 Alt-Svc: h2=\"{target}\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
		);
		let _ = stream.write_all(head.as_bytes());
	});
	let sent = Arc::new(AtomicU64::new(0));
	let count = sent.clone();
	let all_head = gateway(&pair.at_host, move |mut stream| {
		let _ = stream.read(&mut [0; 4096]);
		let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nA: ");
		while stream.write_all(&[b'a'; 65_536]).is_ok() {
			count.fetch_add(65_536, Ordering::SeqCst);
		}
	});
	// Each is asked before the host: the first block goes from one to the next.
	pair.wait_until_held(&[redirecting.clone(), all_head.clone(), pair.at_host.clone()], 1);
	assert!(pair.has_all(&pair.holder));
	let log = pair.holder.log();
	for passed_over in [&redirecting, &all_head] {
		let url = String::from_utf8(passed_over.gateway.to_vec()).unwrap();
		let is_it = |line: &str| line.contains("passed over") && line.contains(&url);
		assert!(log.lines().any(is_it), "{url} in\n{log}");
	}
	assert!(sent.load(Ordering::SeqCst) < 64 << 20, "a head is read without end");
	assert!(!is_target_asked.load(Ordering::SeqCst), "a redirect was followed");
	assert!(!is_proxy_asked.load(Ordering::SeqCst), "a proxy was asked");
}

/// More than the gateway has room for, from one client.
const SILENT: usize = 1000;

#[test]
fn a_thousand_connections_that_say_nothing_keep_nobody_out_and_take_no_memory() {
	let pair = Pair::start(1);
	let files = getrlimit(Resource::Nofile);
	setrlimit(Resource::Nofile, rustix::process::Rlimit { current: files.maximum, ..files })
		.unwrap();
	let url = String::from_utf8(pair.at_host.gateway.to_vec()).unwrap();
	let address = url.trim_start_matches("http://").to_owned();
	let before = pair.host.memory_bytes();
	let mut silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(&address).unwrap()).collect();
	assert_eq!(ask(&pair.at_host, &pair.taken[0].cid, "format=raw").status, 401);
	let taken = pair.host.memory_bytes().saturating_sub(before);
	assert!(taken < 16 << 20, "{taken} bytes for {SILENT} connections");
	// Those that came first had to leave, and none of them was answered.
	for stream in &mut silent[..SILENT - 300] {
		stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
		assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
	}
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
}
