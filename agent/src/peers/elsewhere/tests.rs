//! A chain that comes and goes, gateways that fail or are silent, and a replica beside them.

use super::*;
use crate::{
	chain::fake::FakeChain, format::digest, peers::Reach, pipeline::tests::fixture::memory_store,
	repositories::Kubo, secret::NodeIdentities,
};
use backup_primitives::{Recipient, job::Source};
use std::{
	io::{BufRead, BufReader, Write},
	net::{TcpListener, TcpStream},
	thread,
};
use tokio::runtime::Runtime;

const BLOCK: &[u8] = b"block";

/// Long enough that a test which waits it out is seen to.
const LONG: Duration = Duration::from_secs(60);

/// Answers each request so; what is nothing is a connection that stays silent.
fn server(answer: Option<(&'static str, &'static [u8])>) -> String {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	thread::spawn(move || {
		let mut silent: Vec<TcpStream> = Vec::new();
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			let Some((status, body)) = answer else {
				silent.push(stream);
				continue;
			};
			let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
			while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
			let length = body.len();
			let head = format!(
				"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
			);
			let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
		}
	});
	url
}

pub(crate) struct Bench {
	chain: FakeChain,
	pub(crate) elsewhere: Elsewhere,
	recipient: Recipient,
	_runtime: Runtime,
	_folder: tempfile::TempDir,
}

impl Bench {
	pub(crate) fn new(replica: Option<String>) -> Self {
		let folder = tempfile::tempdir().unwrap();
		let identity = folder.path().join("identity");
		NodeIdentities::create(&identity).unwrap();
		let identities = Arc::new(NodeIdentities::load(&identity).unwrap());
		let (runtime, chain) = (Runtime::new().unwrap(), FakeChain::default());
		let handle = runtime.handle().clone();
		let kubo = |url| ("rack-2".to_owned(), Kubo::new(url, None, handle.clone()).unwrap());
		let daemons: Vec<_> = replica.into_iter().map(kubo).collect();
		let (notes, known) = (folder.path().join("replicas"), Arc::new(chain.clone()));
		let of = handle.clone();
		let replicas =
			Replicas::open(memory_store(), &identities, daemons, 1, &notes, known.clone(), of);
		let reach = Reach::public_and(["127.0.0.0/8".parse().unwrap()]);
		let directory = PeerDirectory::new(reach, identities.clone()).unwrap();
		let (replicas, directory) = (Arc::new(replicas.unwrap()), Arc::new(directory));
		let elsewhere = Elsewhere::new(replicas, directory, known, handle);
		let recipient = identities.recipient();
		Self { chain, elsewhere, recipient, _runtime: runtime, _folder: folder }
	}

	fn name(&self, gateway: &str) {
		let gateway = gateway.as_bytes().to_vec().try_into().unwrap();
		let source = Source { gateway, recipient: self.recipient };
		self.chain.state().sources.try_push(source).unwrap();
	}

	fn source(&self, patience: Duration) -> Everywhere {
		let (node, request) = (OpaqueId::of(&2u32).unwrap(), OpaqueId::of(&3u64).unwrap());
		let source = self.elsewhere.beside(&memory_store(), &node, &request, &Cancel::new());
		source.with_patience(patience)
	}
}

fn cid() -> Cid {
	Cid::raw(digest(BLOCK))
}

fn is_there(source: &Everywhere) -> bool {
	source.get(&cid()).unwrap().as_deref() == Some(BLOCK)
}

#[test]
fn those_who_were_known_are_asked_while_the_chain_does_not_answer() {
	let bench = Bench::new(None);
	bench.name(&server(Some(("200 OK", BLOCK))));
	let source = bench.source(LONG);
	assert!(is_there(&source));
	let asked = bench.chain.state().asked;
	bench.chain.state().is_unbound = true;
	source.0.holders.age();
	assert!(is_there(&source));
	let end = Instant::now() + LONG;
	while bench.chain.state().asked == asked {
		assert!(Instant::now() < end, "the chain is asked again");
		thread::sleep(Duration::from_millis(5));
	}
	for _ in 0..3 {
		assert!(is_there(&source), "an error does not say that nobody has it");
	}
}

#[test]
fn a_chain_that_never_answered_is_waited_for_and_is_not_taken_for_absence() {
	let bench = Bench::new(None);
	bench.name(&server(Some(("200 OK", BLOCK))));
	bench.chain.state().is_unbound = true;
	let error = bench.source(Duration::from_millis(300)).get(&cid()).unwrap_err();
	assert!(error.can_retry(), "{error}");
	assert!(bench.source(LONG).has_others().is_err());
	let source = bench.source(LONG);
	thread::scope(|scope| {
		let reading = scope.spawn(|| is_there(&source));
		let (asked, end) = (bench.chain.state().asked, Instant::now() + LONG);
		while bench.chain.state().asked == asked && !reading.is_finished() {
			assert!(Instant::now() < end, "the chain is asked");
			thread::sleep(Duration::from_millis(5));
		}
		bench.chain.state().is_unbound = false;
		assert!(reading.join().unwrap());
	});
}

#[test]
fn nobody_waits_for_a_gateway_while_a_replica_has_the_block() {
	let bench = Bench::new(Some(server(Some(("200 OK", BLOCK)))));
	bench.name(&server(Some(("500 Internal Server Error", b""))));
	let source = bench.source(LONG);
	assert!(source.0.holders.peers(Instant::now() + LONG).is_ok());
	let began = Instant::now();
	for _ in 0..6 {
		assert!(is_there(&source));
	}
	assert!(began.elapsed() < LONG / 2, "each second one asked the gateway first");
}

#[test]
fn who_is_silent_leaves_time_for_the_others_and_ends_in_time() {
	let bench = Bench::new(None);
	let silent = server(None);
	bench.name(&silent);
	let patience = Duration::from_secs(3);
	let began = Instant::now();
	bench.source(patience).get(&cid()).unwrap_err();
	assert!(began.elapsed() < patience * 3, "{:?}", began.elapsed());
	let bench = Bench::new(None);
	bench.name(&silent);
	bench.name(&server(Some(("200 OK", BLOCK))));
	assert!(is_there(&bench.source(Duration::from_secs(8))));
}

#[test]
fn a_replica_that_is_silent_leaves_time_for_other_nodes_and_is_passed_over() {
	let bench = Bench::new(Some(server(None)));
	bench.name(&server(Some(("200 OK", BLOCK))));
	let source = bench.source(Duration::from_secs(8));
	let began = Instant::now();
	for _ in 0..8 {
		assert!(is_there(&source));
	}
	// Four seconds at first, and then only where the others had their turn.
	assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
}

#[test]
fn a_replica_that_is_silent_costs_no_more_than_the_patience_for_a_block() {
	let bench = Bench::new(Some(server(None)));
	let patience = Duration::from_secs(4);
	let source = bench.source(patience);
	for _ in 0..2 {
		let began = Instant::now();
		let error = source.get(&cid()).unwrap_err();
		assert!(error.can_retry(), "{error}");
		assert!(began.elapsed() < patience + Duration::from_secs(2), "{:?}", began.elapsed());
	}
}

#[test]
fn a_chain_that_is_silent_costs_no_more_than_the_patience_for_a_block() {
	let bench = Bench::new(None);
	bench.chain.state().is_silent = true;
	let patience = Duration::from_secs(1);
	let source = bench.source(patience);
	let began = Instant::now();
	assert!(source.get(&cid()).is_err());
	assert!(began.elapsed() < patience * 3, "{:?}", began.elapsed());
}
