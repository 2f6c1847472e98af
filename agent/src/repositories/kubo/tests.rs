//! What a daemon answered once, answered again; and what only a broken or evil one would.
//!
//! `recorded/` holds whole answers of Kubo 0.44, as they came over the wire, to requests about the
//! blocks below.

use super::*;
use crate::{
	format::{cbor::Encoder, links},
	repositories::CarStream,
};
use std::{
	io::{BufRead, BufReader, Read, Write},
	net::{TcpListener, TcpStream},
	sync::mpsc::{Receiver, channel},
	thread,
	time::Instant,
};
use tokio::runtime::Runtime;

/// A request as it came.
struct Asked {
	line: String,
	headers: Vec<String>,
	body: Vec<u8>,
}

/// A daemon that does to each connection what it is told, and what it was asked.
struct Replay {
	kubo: Kubo,
	asked: Receiver<Asked>,
	_runtime: Runtime,
}

fn replay(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Replay {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let (tell, asked) = channel();
	thread::spawn(move || {
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			let Some(request) = read_request(&stream) else { continue };
			if tell.send(request).is_err() {
				return;
			}
			answer(&mut stream);
		}
	});
	let runtime = Runtime::new().unwrap();
	let kubo = Kubo::new(url, None, runtime.handle().clone()).unwrap();
	Replay { kubo, asked, _runtime: runtime }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
	let mut input = BufReader::new(stream);
	let mut lines = Vec::new();
	loop {
		let mut line = String::new();
		input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
		match line.trim_end() {
			"" => break,
			line => lines.push(line.to_owned()),
		}
	}
	let length = lines
		.iter()
		.find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
	let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
	input.read_exact(&mut body).ok()?;
	Some(Asked { line: lines.remove(0), headers: lines, body })
}

/// A whole answer of Kubo's.
fn answer_of(name: &str) -> Vec<u8> {
	let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/repositories/kubo/recorded");
	std::fs::read(format!("{folder}/{name}.http")).unwrap()
}

/// Answers as Kubo did.
fn recorded(name: &str) -> Replay {
	let answer = answer_of(name);
	replay(move |stream| drop(stream.write_all(&answer)))
}

/// Answers as Kubo did, one request after the other.
fn answers<const N: usize>(names: [&str; N]) -> Replay {
	let mut answers = names.map(answer_of).into_iter();
	let answers = std::sync::Mutex::new(std::iter::from_fn(move || answers.next()));
	replay(move |stream| {
		let answer = answers.lock().unwrap().next().unwrap();
		drop(stream.write_all(&answer));
	})
}

fn chunk(bytes: &[u8]) -> Cid {
	Cid::raw(digest(bytes))
}

fn node(children: &[&[u8]]) -> (Cid, Vec<u8>) {
	let mut encoder = Encoder::default();
	encoder.map(1);
	encoder.text("links");
	encoder.array(children.len());
	children.iter().for_each(|child| encoder.link(&chunk(child)));
	let block = encoder.finish();
	(Cid::dag_cbor(digest(&block)), block)
}

fn top() -> Cid {
	node(&[b"one", b"two"]).0
}

/// The batch of the records.
fn batch() -> Batch {
	let mut batch = Batch::new([7; 16]);
	batch.add(&chunk(b"one"), b"one");
	batch.add(&chunk(b"two"), b"two");
	let (cid, block) = node(&[b"one", b"two"]);
	batch.add(&cid, &block);
	batch
}

#[test]
fn a_batch_is_taken_and_pinned() {
	let daemon = recorded("import");
	let root = daemon.kubo.import(batch()).unwrap();
	assert_eq!(root.to_string(), "bafyreiejmbtbqkpv7z7j3eazw2rkyywdsqk2kie6gmoshbulcr56igv4im");
	let asked = daemon.asked.recv().unwrap();
	assert!(asked.line.starts_with("POST /api/v0/dag/import?pin-roots=true&stats=true&timeout="));
	let start = asked.body.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
	let mut car = CarStream::new(&asked.body[start..]).unwrap();
	let blocks: Vec<_> = (0..4).map(|_| car.next_block().unwrap().unwrap()).collect();
	assert_eq!(blocks[3].0, root);
	assert_eq!(links(&blocks[3].1).unwrap().len(), 3);
	assert!(asked.headers.iter().any(|line| line.to_lowercase().contains("multipart/form-data")));
}

#[test]
fn boundary_the_longest_import_ends_before_nobody_reckons_with_it() {
	let bytes = batch::BATCH_BYTES_MAX as u64;
	assert!(Limits::for_bytes(bytes).total < IMPORT_TIME_MAX, "{bytes}");
}

#[test]
fn a_success_whose_pin_failed_is_a_failure() {
	let error = recorded("import-not-pinned").kubo.import(batch()).unwrap_err();
	assert!(
		matches!(&error, KuboError::Missing(words) if words.contains("bafkreih7uy2")),
		"{error}"
	);
	let error = recorded("import-online-missing").kubo.import(batch()).unwrap_err();
	assert!(matches!(error, KuboError::Slow), "{error}");
}

#[test]
fn a_batch_of_which_less_was_taken_is_a_failure() {
	let mut more = batch();
	more.add(&chunk(b"three"), b"three");
	let error = recorded("import").kubo.import(more).unwrap_err();
	assert!(matches!(error, KuboError::Incomplete { taken: 4, sent: 5 }), "{error}");
}

#[test]
fn a_batch_that_was_damaged_on_its_way_is_a_failure() {
	let error = recorded("import-damaged").kubo.import(batch()).unwrap_err();
	assert!(matches!(&error, KuboError::Failed(words) if words.contains("integrity")), "{error}");
}

#[test]
fn an_error_in_the_trailer_of_a_success_is_noticed() {
	let error = recorded("pin-add-trailer").kubo.pin_add(&top(), "x").unwrap_err();
	assert!(matches!(error, KuboError::Slow), "{error}");
}

#[test]
fn an_answer_that_breaks_off_is_a_failure() {
	let whole = answer_of("import");
	// Without its last chunk, and without what it says at its end.
	for cut in [whole.len() - 5, whole.len() - 60] {
		let part = whole[..cut].to_vec();
		let daemon = replay(move |stream| drop(stream.write_all(&part)));
		let error = daemon.kubo.import(batch()).unwrap_err();
		assert!(matches!(error, KuboError::Unreachable(_)), "{error}");
	}
}

#[test]
fn a_root_is_pinned_by_what_is_below_it_or_by_what_differs() {
	let daemon = recorded("pin-add");
	daemon.kubo.pin_add(&top(), "pallet-backup/x/y").unwrap();
	let asked = daemon.asked.recv().unwrap().line;
	assert!(asked.contains("&progress=true&name=pallet-backup/x/y&timeout="), "{asked}");
	let (to, _) = node(&[b"two"]);
	let daemon = recorded("pin-update");
	daemon.kubo.pin_update(&top(), &to).unwrap();
	let asked = daemon.asked.recv().unwrap().line;
	assert!(asked.contains(&format!("arg={}&arg={to}&unpin=false", top())), "{asked}");
	let missing = recorded("pin-update-missing").kubo.pin_update(&top(), &to).unwrap_err();
	assert!(matches!(missing, KuboError::Missing(_)), "{missing}");
	let unpinned = recorded("pin-update-from-nothing").kubo.pin_update(&top(), &to).unwrap_err();
	assert!(matches!(unpinned, KuboError::Failed(_)), "{unpinned}");
	// An answer about another root says nothing of this one.
	let other = recorded("pin-add").kubo.pin_add(&to, "x").unwrap_err();
	assert!(matches!(other, KuboError::Malformed(_)), "{other}");
}

#[test]
fn pins_are_listed_by_what_their_names_begin_with() {
	let pins = |prefix| {
		let mut pins = Vec::new();
		let mut take = |root: Cid, name: &str| pins.push((root.to_string(), name.to_owned()));
		recorded("pin-list").kubo.pins(prefix, &mut take).unwrap();
		pins
	};
	assert_eq!(pins("pallet-backup/").len(), 3);
	let blocks = pins("pallet-backup/00112233445566aa/.b");
	assert_eq!(blocks[0].0, "bafyreidpxuy3wmptkwwfkmrpjbgdnduwczbirjgdu266xytdsidze5e6lq");
	assert_eq!((blocks.len(), pins("x").len()), (1, 0));
}

#[test]
fn a_pin_has_a_name_or_is_none() {
	let name = recorded("pin-name").kubo.pin_name(&top()).unwrap();
	assert_eq!(name.as_deref(), Some("pallet-backup/00112233445566aa/AAAA"));
	assert_eq!(recorded("pin-name-none").kubo.pin_name(&top()).unwrap(), None);
}

#[test]
fn a_pin_that_is_gone_already_is_no_failure() {
	assert!(recorded("pin-remove").kubo.unpin(&top()).unwrap());
	assert!(!recorded("pin-remove-none").kubo.unpin(&top()).unwrap());
}

#[test]
fn a_block_is_there_missing_or_damaged() {
	let daemon = recorded("block");
	assert_eq!(daemon.kubo.block(&chunk(b"one")).unwrap(), Some(b"one".to_vec()));
	assert!(daemon.asked.recv().unwrap().line.contains("&offline=true&timeout=30s"));
	assert_eq!(recorded("block-missing").kubo.block(&chunk(b"missing")).unwrap(), None);
	let other = recorded("block").kubo.block(&chunk(b"two")).unwrap_err();
	assert!(matches!(other, KuboError::Damaged { cid } if cid == chunk(b"two")), "{other}");
	assert_eq!(recorded("stat").kubo.absent(&[chunk(b"one")]).unwrap(), []);
	let missing = [chunk(b"missing"), chunk(b"one")];
	assert_eq!(recorded("stat-missing").kubo.absent(&missing).unwrap(), missing);
}

#[test]
fn a_block_that_the_daemon_itself_finds_damaged_is_damaged_and_there() {
	let cid = chunk(b"one");
	let error = recorded("block-hashed").kubo.block(&cid).unwrap_err();
	assert!(matches!(error, KuboError::Damaged { cid: bad } if bad == cid), "{error}");
	assert_eq!(recorded("block-hashed").kubo.absent(&[cid]).unwrap(), []);
}

#[test]
fn a_damaged_block_is_removed_by_the_name_that_no_pin_has_and_put_again() {
	let daemon = answers(["block-remove", "block-put"]);
	let cid = chunk(b"one");
	daemon.kubo.replace(&cid, b"one").unwrap();
	let removed = daemon.asked.recv().unwrap().line;
	let other = Cid::dag_cbor(cid.digest());
	assert!(removed.contains(&format!("block/rm?arg={other}&force=true&timeout=")), "{removed}");
	let put = daemon.asked.recv().unwrap();
	assert!(put.line.contains("block/put?cid-codec=raw&mhtype=sha2-256&pin=false"), "{}", put.line);
	assert!(put.body.windows(7).any(|at| at == b"\r\n\r\none"));
	// One that is gone already is no failure.
	answers(["block-remove-none", "block-put"]).kubo.replace(&cid, b"one").unwrap();
}

#[test]
fn a_block_that_the_daemon_does_not_let_go_of_is_not_replaced() {
	for (answer, words) in [("pinned", "pinned via"), ("unchecked", "pin check failed")] {
		let daemon = recorded(&format!("block-remove-{answer}"));
		let error = daemon.kubo.replace(&chunk(b"one"), b"one").unwrap_err();
		assert!(matches!(&error, KuboError::Failed(said) if said.contains(words)), "{error}");
		assert_eq!(daemon.asked.try_iter().count(), 1, "it was put all the same");
	}
	let other = answers(["block-remove", "block-put"]).kubo.replace(&chunk(b"two"), b"two");
	assert!(matches!(other, Err(KuboError::Malformed(_))), "{other:?}");
}

#[test]
fn a_daemon_that_fails_is_not_asked_for_all_others_of_many_blocks() {
	let daemon = replay(|_| ());
	let cids: Vec<Cid> = (0..200u8).map(|number| chunk(&[number])).collect();
	daemon.kubo.absent(&cids).unwrap_err();
	let asked = daemon.asked.try_iter().count();
	assert!(asked <= 2 * AT_ONCE, "{asked}");
}

#[test]
fn a_wrong_token_and_a_wrong_port_are_told_apart() {
	let refused = recorded("refused").kubo.block(&top()).unwrap_err();
	assert!(refused.to_string().contains("does not let us in (403): token_file"), "{refused}");
	let gateway = recorded("gateway").kubo.block(&top()).unwrap_err();
	assert!(gateway.to_string().contains("404: is this the address of its RPC"), "{gateway}");
}

#[test]
fn nobody_there_is_told_without_the_address() {
	let runtime = Runtime::new().unwrap();
	let url = "http://127.0.0.1:1".to_owned();
	let kubo = Kubo::new(url, None, runtime.handle().clone()).unwrap();
	let error = kubo.block(&top()).unwrap_err();
	assert!(matches!(error, KuboError::Unreachable(_)), "{error}");
	assert!(!error.to_string().contains("api/v0"), "{error}");
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

#[test]
fn an_answer_without_an_end_is_cut_off() {
	let endless = || {
		replay(|stream| {
			let _ = stream.write_all(HEAD);
			while stream.write_all(&[b'x'; 65_536]).is_ok() {}
		})
	};
	assert!(matches!(endless().kubo.block(&top()), Err(KuboError::TooLong)));
	assert!(matches!(endless().kubo.pins("x", &mut |_, _| ()), Err(KuboError::TooLong)));
	assert!(matches!(endless().kubo.unpin(&top()), Err(KuboError::TooLong)));
}

#[test]
fn an_answer_that_drips_is_given_up() {
	let daemon = replay(|stream| {
		let _ = stream.write_all(HEAD);
		while stream.write_all(b"x").is_ok() {
			thread::sleep(Duration::from_millis(20));
		}
	});
	let limits = Limits::within(Duration::from_millis(300));
	let began = Instant::now();
	let found = daemon.kubo.handle.block_on(async {
		let answer = daemon.kubo.ask("block/get", "arg=x", None, limits).await?;
		answer::bytes(answer, 1 << 20, limits).await
	});
	assert!(matches!(found, Err(KuboError::Slow)), "{found:?}");
	assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_daemon_that_takes_a_request_and_says_nothing_is_given_up() {
	// It neither reads on nor answers, and holds the connection.
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let runtime = Runtime::new().unwrap();
	let kubo = Kubo::new(url, None, runtime.handle().clone()).unwrap();
	let limits =
		Limits { silence: Duration::from_millis(300), total: Duration::from_secs(24 * 3600) };
	let began = Instant::now();
	let body = Some(("application/octet-stream".to_owned(), vec![0; 32 << 20]));
	let asked = runtime.block_on(kubo.ask("dag/import", "pin-roots=true", body, limits));
	assert!(matches!(asked, Err(KuboError::Slow)), "{asked:?}");
	assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_pin_that_stands_still_is_given_up() {
	let mut stall = Stall::default();
	let silence = Duration::from_millis(50);
	stall.note(1, silence).unwrap();
	thread::sleep(silence * 2);
	stall.note(2, silence).unwrap();
	thread::sleep(silence * 2);
	assert!(matches!(stall.note(2, silence), Err(KuboError::Slow)));
}

#[test]
fn a_redirect_is_not_followed() {
	let target = recorded("block");
	let location =
		format!("HTTP/1.1 307 X\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n", target.kubo.url());
	let daemon = replay(move |stream| drop(stream.write_all(location.as_bytes())));
	assert!(matches!(daemon.kubo.block(&chunk(b"one")), Err(KuboError::Status(307))));
	assert!(target.asked.try_recv().is_err());
}

#[test]
fn what_a_daemon_says_is_shortened_and_shown_plainly() {
	let said = answer::shown(&format!("\u{1b}[31mred\r\n{}", "x".repeat(10_000)));
	assert!(said.starts_with("\\u{1b}[31mred  xx") && said.len() == 400, "{said}");
}
