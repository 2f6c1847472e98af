//! Whom a gateway serves, and how several serve one reader.

use crate::{
	http,
	pair::{HOLDER, MIB, Pair, ask, gateway},
	world::{World, noise},
};
use backup_agent::format::digest;
use backup_primitives::job::Source;
use std::{
	collections::BTreeSet,
	fs,
	io::{self, BufRead, BufReader, Write},
	net::{Shutdown, TcpStream},
	slice,
	sync::{
		Arc, Condvar, Mutex,
		atomic::{AtomicU64, Ordering},
	},
	time::Duration,
};

#[test]
fn an_open_gateway_serves_the_stranger_whom_a_closed_one_refuses() {
	let mut pair = Pair::start(1);
	let root = pair.taken[0].cid;
	let answers = |pair: &Pair| {
		let here = pair.host.block(&root).body;
		let is_block = |answer: &http::Answer| answer.body == here;
		let raw = ask(&pair.at_host, &root, "format=raw");
		let car = ask(&pair.at_host, &root, "format=car&dag-scope=block");
		let holds = car.body.windows(here.len()).any(|bytes| bytes == here);
		[(raw.status, is_block(&raw)), (car.status, holds)]
	};
	assert_eq!(answers(&pair), [(401, false); 2]);
	let closed = fs::read_to_string(pair.host.path("agent.toml")).unwrap();
	pair.host.terminate();
	fs::write(pair.host.path("agent.toml"), format!("{closed}gateway_open = true\n")).unwrap();
	pair.host.start_agent();
	assert_eq!(answers(&pair), [(200, true); 2]);
	assert_eq!(digest(&ask(&pair.at_host, &root, "format=raw").body), root.digest());
	// Open are the blocks, and nothing else that the agent answers on this machine.
	let url = String::from_utf8(pair.at_host.gateway.to_vec()).unwrap();
	let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
	for path in ["/v1/snapshots", "/v1/status", "/metrics", "/"] {
		assert_eq!(http::ask(port, "GET", path, &[], &[]).unwrap().status, 404, "{path}");
	}
	// Whoever shows a pass is served as before.
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	pair.host.terminate();
	fs::write(pair.host.path("agent.toml"), closed).unwrap();
	pair.host.start_agent();
	assert_eq!(answers(&pair), [(401, false); 2]);
}

/// How long a gateway waits with its first stream for the other one to be asked for one. Shorter than
/// a reader waits for an answer.
const MEETING_TIME_MAX: Duration = Duration::from_secs(15);

/// Two gateways, which give nothing in a stream before each was asked for one.
#[derive(Default)]
struct Meeting {
	asked: Mutex<BTreeSet<&'static str>>,
	came: Condvar,
	/// How often one waited in vain for the other.
	in_vain: AtomicU64,
}

impl Meeting {
	fn wait(&self, name: &'static str) {
		let mut asked = self.asked.lock().unwrap();
		asked.insert(name);
		self.came.notify_all();
		let is_alone = |asked: &mut BTreeSet<_>| asked.len() < 2;
		let waited = self.came.wait_timeout_while(asked, MEETING_TIME_MAX, is_alone).unwrap().1;
		self.in_vain.fetch_add(waited.timed_out().into(), Ordering::SeqCst);
	}
}

/// What a gateway gave.
#[derive(Default)]
struct Given {
	bytes: AtomicU64,
	streams: AtomicU64,
}

/// A gateway before another one, which counts what that gives.
fn before(source: &Source, name: &'static str, meeting: &Arc<Meeting>) -> (Source, Arc<Given>) {
	let url = String::from_utf8(source.gateway.to_vec()).unwrap();
	let address = url.trim_start_matches("http://").to_owned();
	let (meeting, given) = (meeting.clone(), Arc::<Given>::default());
	let counted = given.clone();
	let source = gateway(source, move |reader| {
		// A reader may leave when it likes.
		let _ = pass_on(reader, &address, name, &meeting, &counted);
	});
	(source, given)
}

fn pass_on(
	mut reader: TcpStream,
	address: &str,
	name: &'static str,
	meeting: &Meeting,
	given: &Given,
) -> io::Result<()> {
	let mut input = BufReader::new(reader.try_clone()?);
	let mut head = String::new();
	while !head.ends_with("\r\n\r\n") {
		if input.read_line(&mut head)? == 0 {
			return Ok(());
		}
	}
	let mut gateway = TcpStream::connect(address)?;
	gateway.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
	if head.lines().next().is_some_and(|line| line.contains("format=car")) {
		meeting.wait(name);
		given.streams.fetch_add(1, Ordering::SeqCst);
	}
	let bytes = io::copy(&mut gateway, &mut reader)?;
	given.bytes.fetch_add(bytes, Ordering::SeqCst);
	reader.shutdown(Shutdown::Both)
}

/// Nodes of 64 chunks of 256 KiB that are fetched as streams, eight of them.
const DISK_MIB: usize = 8 * 16;

/// A disk of which no chunk is like another, and each is small when it is sealed.
fn thin_disk() -> Vec<u8> {
	let mut bytes = vec![0; DISK_MIB * MIB];
	let seeds = noise(3, 4 * DISK_MIB * 64);
	for (chunk, seed) in bytes.chunks_mut(256 * 1024).zip(seeds.chunks(64)) {
		chunk[..64].copy_from_slice(seed);
	}
	bytes
}

#[test]
fn a_copy_comes_from_two_gateways_at_once() {
	let pair = Pair::of(|host| host.machine(7, &thin_disk()));
	pair.wait_until_held(slice::from_ref(&pair.at_host), 1);
	let (mut third, at_third) = World::start_among_others();
	third.terminate();
	// Also where there is one processor.
	third.environment = vec![("BACKUP_AGENT_THREADS", "4".to_owned())];
	third.start_agent();
	for world in [&pair.host, &pair.holder] {
		world.node.state().readers.push((HOLDER, at_third.recipient));
	}
	third.node.state().recorded = pair.holder.node.state().recorded.clone();
	third.node.state().statuses = pair.holder.node.state().statuses.clone();

	let meeting = Arc::<Meeting>::default();
	let (at_first, of_first) = before(&pair.at_host, "first", &meeting);
	let (at_second, of_second) = before(&pair.at_holder, "second", &meeting);
	let Pair { host, at_host, holder: second, order, taken, .. } = pair;
	let pair = Pair { host, at_host, holder: third, at_holder: at_third, order, taken };
	pair.wait_until_held(&[at_first, at_second], 1);
	assert!(pair.has_all(&pair.holder));

	assert_eq!(meeting.in_vain.load(Ordering::SeqCst), 0, "one was asked after the other");
	let of_both = [&of_first, &of_second];
	let streams = of_both.map(|given| given.streams.load(Ordering::SeqCst));
	let bytes = of_both.map(|given| given.bytes.load(Ordering::SeqCst));
	assert_eq!(streams, [4, 4], "each of eight nodes once, by turns");
	let all: u64 = bytes.iter().sum();
	assert!(bytes.iter().all(|bytes| *bytes * 4 > all), "{bytes:?} bytes");
	let stored = second.get("/v1/status").json()["stored_bytes"].as_u64().unwrap();
	assert_eq!(pair.fetched_bytes(), stored, "something came twice, or not by them");
}
