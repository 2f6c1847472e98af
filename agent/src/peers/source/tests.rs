//! Gateways that are sound, that fail and that lie, over real connections.

use super::*;
use crate::{format::digest, repositories::CarWriter, secret::recipient_of};
use age::x25519::Identity;
use backup_primitives::{OpaqueId, Reader};
use std::{
	io::{BufRead, BufReader, Write},
	net::{TcpListener, TcpStream},
	sync::atomic::AtomicU32,
	thread,
};

/// A gateway that does to each connection what it is told, and how often it was asked.
fn gateway(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (Gateway, Arc<AtomicU32>) {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let asked = Arc::new(AtomicU32::new(0));
	let count = asked.clone();
	thread::spawn(move || {
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
			let Some(Ok(request)) = lines.next() else { continue };
			while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
			count.fetch_add(1, Ordering::SeqCst);
			answer(&request, &mut stream);
		}
	});
	let client = GatewayClient::new(Reach::public_and(["127.0.0.0/8".parse().unwrap()])).unwrap();
	(client.gateway(&url, None).unwrap(), asked)
}

/// What is told to all who ask.
fn say(status: &'static str, body: impl Into<Vec<u8>>) -> impl Fn(&str, &mut TcpStream) + Send {
	let body = body.into();
	move |_: &str, stream: &mut TcpStream| {
		let length = body.len();
		let head =
			format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
		let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
	}
}

fn absent() -> Gateway {
	gateway(say("404 Not Found", "")).0
}

fn unreachable() -> Gateway {
	let client = GatewayClient::new(Reach::All).unwrap();
	client.gateway("http://127.0.0.1:1", None).unwrap()
}

fn cid(block: &[u8]) -> Cid {
	Cid::raw(digest(block))
}

fn get(gateways: impl IntoIterator<Item = Gateway>) -> Result<Option<Vec<u8>>, RepositoryError> {
	Peers::new(gateways).get(&cid(b"block"))
}

fn car(blocks: &[&[u8]]) -> Vec<u8> {
	let mut car = CarWriter::new(Vec::new(), &cid(blocks[0])).unwrap();
	for block in blocks {
		car.block(&cid(block), block).unwrap();
	}
	car.finish().unwrap()
}

/// What comes of the children "one" and "two" of a node.
fn children(peers: &Peers) -> Vec<Vec<u8>> {
	let mut found = Vec::new();
	peers.get_children(&cid(b"node"), &[cid(b"one"), cid(b"two")], &mut |_, block| {
		found.push(block);
		ControlFlow::Continue(())
	});
	found
}

#[test]
fn a_sound_block_is_taken() {
	let (sound, _) = gateway(say("200 OK", "block"));
	assert_eq!(get([sound]).unwrap(), Some(b"block".to_vec()));
}

#[test]
fn a_lie_is_noticed() {
	let (liar, _) = gateway(say("200 OK", "blocK"));
	assert!(matches!(get([liar]), Err(RepositoryError::Corrupt { .. })));
}

#[test]
fn a_block_that_nobody_has_is_missing() {
	assert_eq!(get([absent(), absent()]).unwrap(), None);
	assert_eq!(get([]).unwrap(), None);
}

#[test]
fn the_next_gateway_serves_what_the_others_cannot() {
	let (liar, _) = gateway(say("200 OK", "a lie"));
	let (broken, _) = gateway(say("500 Internal Server Error", ""));
	let (sound, _) = gateway(say("200 OK", "block"));
	let found = get([liar, broken, unreachable(), absent(), sound]);
	assert_eq!(found.unwrap(), Some(b"block".to_vec()));
}

#[test]
fn an_error_is_not_taken_for_absence() {
	assert!(matches!(get([unreachable(), absent()]), Err(RepositoryError::Io { .. })));
}

#[test]
fn a_gateway_that_fails_once_is_asked_again() {
	let first = AtomicU32::new(0);
	let (flaky, asked) =
		gateway(move |request, stream| match first.fetch_add(1, Ordering::SeqCst) {
			0 => say("503 Service Unavailable", "")(request, stream),
			_ => say("200 OK", "block")(request, stream),
		});
	assert_eq!(get([flaky]).unwrap(), Some(b"block".to_vec()));
	assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn one_hiccup_of_many_questions_counts_once() {
	let standing = Standing::default();
	let error = || PeerError::Unreachable("as the test wants".into());
	for _ in 0..8 {
		standing.note("http://gateway", &error());
	}
	assert!(standing.wait().unwrap() <= PENALTY);
	standing.note("http://gateway", &PeerError::Unasked);
	assert!(standing.wait().unwrap() > PENALTY_MAX);
}

#[test]
fn a_stream_that_breaks_off_is_no_lie() {
	let whole = car(&[b"node", b"one", b"two"]);
	let (cut, asked) = gateway(say("200 OK", whole[..whole.len() - 2].to_vec()));
	let peers = Peers::new([cut]);
	children(&peers);
	assert!(peers.peers[0].standing.wait().unwrap() <= PENALTY);
	assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn who_has_no_turn_for_a_stream_serves_single_blocks() {
	let (busy, _) = gateway(|request, stream| match request.contains("format=car") {
		true => say("503 Service Unavailable", "")(request, stream),
		false => say("200 OK", "one")(request, stream),
	});
	let peers = Peers::new([busy]);
	assert!(children(&peers).is_empty());
	assert_eq!(peers.get(&cid(b"one")).unwrap(), Some(b"one".to_vec()));
}

#[test]
fn whoever_waits_for_gateways_can_be_told_to_stop() {
	let cancel = Cancel::new();
	let peers = Peers::new([unreachable()]).with_patience(Duration::from_secs(3600));
	let peers = peers.until(cancel.clone());
	thread::scope(|scope| {
		let asking = scope.spawn(|| peers.get(&cid(b"block")));
		cancel.cancel();
		assert!(asking.join().unwrap().is_err());
	});
}

#[test]
fn a_liar_is_asked_no_second_time() {
	let (liar, asked) = gateway(say("200 OK", "a lie"));
	let (sound, _) = gateway(say("200 OK", "block"));
	let peers = Peers::new([liar, sound]);
	for _ in 0..4 {
		assert_eq!(peers.get(&cid(b"block")).unwrap(), Some(b"block".to_vec()));
	}
	assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_block_that_is_longer_than_any_may_be_is_not_read_to_its_end() {
	let sent = Arc::new(AtomicUsize::new(0));
	let count = sent.clone();
	let (endless, _) = gateway(move |_, stream| {
		let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
		while stream.write_all(&[0; 65_536]).is_ok() {
			count.fetch_add(65_536, Ordering::SeqCst);
		}
	});
	assert!(matches!(get([endless]), Err(RepositoryError::Corrupt { .. })));
	assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

/// Sends this after a head, then bytes without end, and how many of those it could send.
fn without_end(begin: impl Into<Vec<u8>>) -> (Gateway, Arc<AtomicUsize>) {
	let (begin, sent) = (begin.into(), Arc::new(AtomicUsize::new(0)));
	let count = sent.clone();
	let (endless, _) = gateway(move |_, stream| {
		let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
		let _ = stream.write_all(&begin);
		while stream.write_all(&[0; 65_536]).is_ok() {
			count.fetch_add(65_536, Ordering::SeqCst);
		}
	});
	(endless, sent)
}

#[test]
fn a_stream_that_goes_on_when_all_has_come_is_left() {
	let (endless, sent) = without_end(car(&[b"node", b"one", b"two"]));
	let peers = Peers::new([endless]);
	assert_eq!(children(&peers), [b"one".to_vec(), b"two".to_vec()]);
	assert_eq!(peers.peers[0].standing.wait(), None, "nothing was wrong with what was read");
	assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

#[test]
fn a_stream_whose_block_has_no_end_is_not_read_to_it() {
	// A block of 2^42 bytes.
	let length = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
	let (endless, sent) = without_end([&car(&[b"node", b"one"])[..], &length].concat());
	let peers = Peers::new([endless]);
	assert_eq!(children(&peers), [b"one".to_vec()]);
	assert!(peers.peers[0].standing.wait().unwrap() > PENALTY_MAX);
	assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

#[test]
fn an_answer_that_is_cut_is_a_failure_and_no_lie() {
	let (cut, _) = gateway(|_, stream| {
		let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbl";
		let _ = stream.write_all(head);
	});
	let peers = Peers::new([cut]).with_patience(Duration::ZERO);
	assert!(matches!(peers.get(&cid(b"block")), Err(RepositoryError::Io { .. })));
	assert!(peers.peers[0].standing.wait().unwrap() <= PENALTY);
}

#[test]
fn who_goes_away_half_way_is_replaced_by_who_is_there() {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let once = thread::spawn(move || {
		let (mut stream, _) = listener.accept().unwrap();
		let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
		while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
		say("200 OK", "one")("", &mut stream);
	});
	let client = GatewayClient::new(Reach::All).unwrap();
	let (sound, _) = gateway(say("200 OK", "two"));
	let peers = Peers::new([client.gateway(&url, None).unwrap(), sound]);
	assert_eq!(peers.get(&cid(b"one")).unwrap(), Some(b"one".to_vec()));
	// From here on its connections are refused.
	once.join().unwrap();
	for _ in 0..4 {
		assert_eq!(peers.get(&cid(b"two")).unwrap(), Some(b"two".to_vec()));
	}
}

#[test]
fn a_gateway_that_sends_its_reader_elsewhere_is_not_followed() {
	let (elsewhere, asked) = gateway(say("200 OK", "block"));
	for status in ["301", "302", "303", "307", "308"] {
		let url = elsewhere.url().to_owned();
		let (redirecting, _) = gateway(move |_, stream| {
			let head = format!(
				"HTTP/1.1 {status} x\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
			);
			let _ = stream.write_all(head.as_bytes());
		});
		let peers = Peers::new([redirecting]).with_patience(Duration::ZERO);
		assert!(children(&peers).is_empty(), "{status}");
		let found = peers.get(&cid(b"block"));
		assert!(matches!(found, Err(RepositoryError::Io { .. })), "{status}: {found:?}");
	}
	assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn children_come_in_one_stream() {
	let (sound, asked) = gateway(say("200 OK", car(&[b"node", b"one", b"two"])));
	assert_eq!(children(&Peers::new([sound])), [b"one".to_vec(), b"two".to_vec()]);
	assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stream_that_breaks_off_is_gone_on_with_at_the_next_gateway() {
	let whole = car(&[b"node", b"one", b"two"]);
	let (cut, _) = gateway(say("200 OK", whole[..whole.len() - 2].to_vec()));
	let (sound, _) = gateway(say("200 OK", whole));
	let found = children(&Peers::new([cut, sound]));
	assert!(found.contains(&b"one".to_vec()) && found.contains(&b"two".to_vec()));
}

#[test]
fn what_nobody_asked_for_ends_a_stream_and_its_gateway_is_passed_over() {
	let (pushy, asked) = gateway(say("200 OK", car(&[b"node", b"one", b"three", b"two"])));
	let peers = Peers::new([pushy]);
	assert_eq!(children(&peers), [b"one".to_vec()]);
	assert_eq!(children(&peers), Vec::<Vec<u8>>::new());
	assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_block_that_comes_twice_ends_a_stream() {
	let (repeating, _) = gateway(say("200 OK", car(&[b"node", b"one", b"one", b"two"])));
	assert_eq!(children(&Peers::new([repeating])), [b"one".to_vec()]);
}

#[test]
fn nobody_asks_where_the_chain_names_a_forbidden_address() {
	let reach = Reach::public_and([]).advising("ask your operator");
	let client = GatewayClient::new(reach).unwrap();
	assert!(client.gateway("http://127.0.0.1:80", None).is_err());
	let gateway = client.gateway("http://localhost:80", None).unwrap();
	let refused = gateway.block(&cid(b"block")).unwrap_err().to_string();
	// Also behind a name the words are those of the program that asks.
	assert!(refused.contains("not public; ask your operator"), "{refused}");
}

/// A gateway that sends everybody to another one, both as the owner names them, and what the other
/// was asked, with all headers.
fn redirecting(status: &'static str, pass: Option<Pass>) -> (Gateway, Arc<Mutex<Vec<String>>>) {
	let (listener, asked) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::default());
	let target = format!("http://{}", listener.local_addr().unwrap());
	let heads: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
	thread::spawn(move || {
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			let lines = BufReader::new(stream.try_clone().unwrap()).lines();
			let head: Vec<String> =
				lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
			heads.lock().unwrap().push(head.join("\n").to_lowercase());
			say("200 OK", "block")("", &mut stream);
		}
	});
	let (front, _) = gateway(move |request, stream| {
		let path = request.split(' ').nth(1).unwrap();
		let head = format!(
			"HTTP/1.1 {status}\r\nLocation: {target}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
		);
		let _ = stream.write_all(head.as_bytes());
	});
	let client = GatewayClient::new(Reach::All).unwrap();
	(client.gateway(front.url(), pass).unwrap(), asked)
}

#[test]
fn a_pass_goes_nowhere_but_to_the_gateway_that_it_was_made_for() {
	let reader = Reader::Owner(OpaqueId::of(&7u64).unwrap());
	let recipient = recipient_of(&Identity::generate());
	for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
		let pass = Pass::new(&reader, &Identity::generate(), &recipient).unwrap();
		let (front, asked) = redirecting(status, Some(pass));
		let refused = front.block(&cid(b"block")).unwrap_err();
		assert!(matches!(refused, PeerError::Elsewhere(_)), "{refused}");
		assert!(asked.lock().unwrap().is_empty(), "{status}");
	}
}

#[test]
fn who_shows_nothing_is_sent_on_by_gateways_that_the_owner_names() {
	let (front, asked) = redirecting("302 Found", None);
	assert_eq!(front.block(&cid(b"block")).unwrap(), Some(b"block".to_vec()));
	let asked = asked.lock().unwrap();
	assert!(asked.len() == 1 && !asked[0].contains("x-backup-"), "{asked:?}");
}
