//! Bad manners that an agent's place may meet a node with, and what the node should say of each.

use backup_e2e::impostor::{Manners, Then};
use std::time::Duration;

/// Bad manners.
pub(crate) struct Case {
	/// Their name.
	pub(crate) name: &'static str,
	/// The manners.
	pub(crate) manners: Manners,
	/// What the node's log says of them.
	pub(crate) verdict: &'static str,
}

const LATE: &str = "no complete answer within 2000 ms";
const NO_ANSWER: &str = "nobody answers at its address";
const UNSIGNED: &str = "not signed with our secret";
const TOO_LONG: &str = "longer than 524288 bytes";

/// Head of an answer that looks right, without an end of its headers.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n";

/// As fast as the other side takes it.
const AT_ONCE: Duration = Duration::ZERO;

/// Slow enough for any deadline between two bytes.
const DRIP: Duration = Duration::from_secs(1);

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
	let mac = format!("x-backup-mac: {}\r\n", "ab".repeat(32));
	let cases = [slow(), endless(), garbage(&mac), others()];
	cases.into_iter().flatten().collect()
}

/// What never comes to its end, but takes little.
fn slow() -> Vec<Case> {
	let body = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
	vec![
		case("silence", LATE, "", Then::Wait),
		case("a head byte by byte", LATE, "HTTP/1.1 200 OK\r\nx-slow: ", repeat(b"a", DRIP)),
		case("a body byte by byte", LATE, &body, repeat(b"1\r\na\r\n", DRIP)),
	]
}

/// What never comes to its end, and takes much.
fn endless() -> Vec<Case> {
	let announced = format!("{HEAD}content-length: 10737418240\r\n\r\n");
	let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
	let mut chunk = b"10000\r\n".to_vec();
	chunk.extend([0; 0x10000]);
	chunk.extend(b"\r\n");
	let more = b"x-more: and more\r\n".repeat(1_000);
	vec![
		case("10 GiB as announced", TOO_LONG, &announced, repeat(&[0; 0x10000], AT_ONCE)),
		case("chunks without end", TOO_LONG, &chunked, repeat(&chunk, AT_ONCE)),
		case("headers without end", NO_ANSWER, HEAD, repeat(&more, AT_ONCE)),
	]
}

/// What comes to its end and makes no sense.
fn garbage(mac: &str) -> Vec<Case> {
	// The same each time, and no text.
	let noise: Vec<u8> =
		(0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
	let with_noise = |status: &str| {
		let head = format!("HTTP/1.1 {status}\r\n{mac}content-length: {}\r\n\r\n", noise.len());
		[head.as_bytes(), &noise].concat()
	};
	vec![
		answer("noise", NO_ANSWER, noise.clone()),
		answer("noise as a success", UNSIGNED, with_noise("200 OK")),
		answer("noise as a failure", "HTTP status 404", with_noise("404 Not Found")),
		answer("a fault", "HTTP status 500", with_noise("500 Internal Server Error")),
	]
}

/// Other programs.
fn others() -> Vec<Case> {
	let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";
	let mut mail = case("a mail server", NO_ANSWER, "500 unrecognized command\r\n", Then::Wait);
	mail.manners.greeting = b"220 mail.example.org ESMTP\r\n".to_vec();
	vec![answer("another web server", UNSIGNED, json.into()), mail]
}

fn case(name: &'static str, verdict: &'static str, answer: &str, then: Then) -> Case {
	let manners = Manners { greeting: Vec::new(), answer: answer.into(), then };
	Case { name, manners, verdict }
}

fn answer(name: &'static str, verdict: &'static str, answer: Vec<u8>) -> Case {
	let manners = Manners { greeting: Vec::new(), answer, then: Then::Bye };
	Case { name, manners, verdict }
}

fn repeat(words: &[u8], pause: Duration) -> Then {
	Then::Repeat { words: words.to_vec(), pause }
}
