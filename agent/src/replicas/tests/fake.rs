//! A daemon in memory that does what Kubo does, as far as replicas ask for it.

use crate::{
	format::{digest, links},
	repositories::CarStream,
};
use backup_primitives::{Cid, cid::BlockCodec};
use std::{
	collections::{BTreeMap, HashMap, HashSet},
	io::{BufRead, BufReader, Read, Write},
	net::{TcpListener, TcpStream},
	sync::{Arc, Mutex, MutexGuard},
	thread,
};

/// The daemon. It serves until the test ends.
#[derive(Clone)]
pub(crate) struct FakeKubo {
	pub(crate) url: String,
	state: Arc<Mutex<Daemon>>,
}

#[derive(Default)]
pub(crate) struct Daemon {
	/// By their hashes alone, as Kubo keeps them.
	pub(super) blocks: HashMap<[u8; 32], Vec<u8>>,
	pub(crate) pins: BTreeMap<Cid, String>,
	/// Verbs that it was asked for.
	pub(super) asked: Vec<String>,
	pub(super) imported_bytes: u64,
	/// Whether it closes connections without a word.
	pub(crate) is_down: bool,
	/// When it goes down, if it is to.
	pub(super) death: Option<Death>,
	/// What it was sent, and is not done with.
	unfinished: Option<Vec<u8>>,
	/// After so many imports it goes down.
	pub(super) imports_left: Option<u32>,
	/// So many requests are closed without a word.
	pub(super) hiccups: u32,
	/// After so many blocks were read it goes down.
	pub(super) gets_left: Option<u32>,
	/// What happens before the next import, and before a later block is read.
	pub(super) meanwhile: Option<Meanwhile>,
	pub(super) at_get: Option<(u32, Meanwhile)>,
	/// Pins that were added and blocks that were read, in order.
	pub(super) order: Vec<(String, Cid)>,
	/// Most pins that there were at once.
	pub(super) most_pins: usize,
	/// What it refuses to pin.
	pub(super) refused: HashSet<Cid>,
	/// Whether what is pinned by an update has no name, as at older daemons.
	pub(super) has_nameless_updates: bool,
}

/// When a daemon goes down.
#[derive(Clone, Copy)]
pub(super) enum Death {
	/// After so many requests were answered.
	Before(u32),
	/// After so many were answered and one more was carried out.
	Behind(u32),
	/// In an import, which it can end when it is up again.
	InImport,
}

impl Death {
	/// Whether it goes down before it carries this request out, or behind that.
	fn comes(&mut self, line: &str) -> (bool, bool) {
		match self {
			Self::Before(0) => (true, false),
			Self::Behind(0) => (false, true),
			Self::Before(left) | Self::Behind(left) => {
				*left -= 1;
				(false, false)
			}
			Self::InImport => (line.contains("/dag/import?"), false),
		}
	}
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// What it answers: a status and a body.
type Said = (u16, Vec<u8>);

impl FakeKubo {
	pub(crate) fn start() -> Self {
		let listener = TcpListener::bind("127.0.0.1:0").unwrap();
		let url = format!("http://{}", listener.local_addr().unwrap());
		let state: Arc<Mutex<Daemon>> = Arc::default();
		let served = state.clone();
		thread::spawn(move || {
			for stream in listener.incoming() {
				let (stream, served) = (stream.unwrap(), served.clone());
				thread::spawn(move || serve(stream, &served));
			}
		});
		Self { url, state }
	}

	pub(crate) fn state(&self) -> MutexGuard<'_, Daemon> {
		self.state.lock().unwrap()
	}

	/// How often it was asked for a verb since the last time, and forget it.
	pub(crate) fn count(&self, verb: &str) -> usize {
		let mut state = self.state();
		let count = state.asked.iter().filter(|asked| *asked == verb).count();
		state.asked.retain(|asked| asked != verb);
		count
	}
}

fn serve(mut stream: TcpStream, served: &Mutex<Daemon>) {
	let mut input = BufReader::new(stream.try_clone().unwrap());
	let mut head = Vec::new();
	loop {
		let mut line = String::new();
		if input.read_line(&mut line).unwrap_or(0) == 0 {
			return;
		}
		match line.trim_end() {
			"" => break,
			line => head.push(line.to_owned()),
		}
	}
	let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
	let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
	if input.read_exact(&mut body).is_err() {
		return;
	}
	let happens = served.lock().unwrap().what_happens(&head[0]);
	happens.into_iter().for_each(|happens| happens());
	let mut daemon = served.lock().unwrap();
	let (is_death_before, is_death_behind) =
		daemon.death.as_mut().map_or((false, false), |death| death.comes(&head[0]));
	if is_death_before {
		daemon.is_down = true;
		daemon.unfinished = Some(body.clone());
	}
	if daemon.is_down || daemon.hiccups > 0 {
		daemon.hiccups = daemon.hiccups.saturating_sub(1);
		return;
	}
	if head[0].contains("/block/get?") {
		match &mut daemon.gets_left {
			Some(0) => {
				daemon.is_down = true;
				return;
			}
			Some(left) => *left -= 1,
			None => (),
		}
	}
	let (status, said) = daemon.answer(&head[0], &body);
	if is_death_behind {
		daemon.is_down = true;
		return;
	}
	drop(daemon);
	let length = said.len();
	let head =
		format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
	let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&said));
}

impl Daemon {
	fn what_happens(&mut self, line: &str) -> Option<Meanwhile> {
		if line.contains("/dag/import?") {
			return self.meanwhile.take();
		}
		let (left, _) = self.at_get.as_mut().filter(|_| line.contains("/block/get?"))?;
		*left = left.saturating_sub(1);
		if *left > 0 { None } else { self.at_get.take().map(|(_, happens)| happens) }
	}

	fn answer(&mut self, line: &str, body: &[u8]) -> Said {
		let target = line.split(' ').nth(1).unwrap().strip_prefix("/api/v0/").unwrap();
		let (verb, query) = target.split_once('?').unwrap();
		let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|p| p.split_once('=')).collect();
		let cids: Vec<Cid> = pairs
			.iter()
			.filter(|(key, _)| *key == "arg")
			.map(|(_, cid)| cid.parse().unwrap())
			.collect();
		let is_word = |key: &&str| ["name", "cid-codec"].contains(key);
		let name = pairs.iter().find(|(key, _)| is_word(key)).map_or("", |(_, name)| name);
		self.asked.push(verb.to_owned());
		if let ("block/get" | "pin/add" | "pin/update", Some(cid)) = (verb, cids.last()) {
			self.order.push((verb.to_owned(), *cid));
		}
		let said = self.said(verb, name, &cids, body);
		self.most_pins = self.most_pins.max(self.pins.len());
		said
	}

	/// As Kubo, it goes by CIDs when it looks for a pin that needs the block, and by hashes else.
	fn remove(&mut self, cid: &Cid) -> Said {
		let (mut pending, mut needed): (Vec<Cid>, _) =
			(self.pins.keys().copied().collect(), vec![]);
		let mut error = None;
		while let Some(below) = pending.pop() {
			needed.push(below);
			if below.codec() == BlockCodec::DagCbor {
				match self.blocks.get(&below.digest()).map(|block| links(block)) {
					Some(Ok(links)) => pending.extend(links),
					_ => error = Some("pin check failed: invalid majorByte".to_owned()),
				}
			}
		}
		let error = error.or_else(|| needed.contains(cid).then(|| "pinned via another".to_owned()));
		if error.is_none() {
			self.blocks.remove(&cid.digest());
		}
		say(&format!("{{\"Hash\":\"{cid}\",\"Error\":\"{}\"}}", error.unwrap_or_default()))
	}

	fn put(&mut self, codec: &str, body: &[u8]) -> Said {
		let start = body.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
		let end = body.windows(4).rposition(|at| at == b"\r\n--").unwrap();
		let block = body[start..end].to_vec();
		let hash = digest(&block);
		let cid = if codec == "raw" { Cid::raw(hash) } else { Cid::dag_cbor(hash) };
		self.blocks.entry(hash).or_insert(block);
		say(&format!("{{\"Key\":\"{cid}\",\"Size\":1}}"))
	}

	fn said(&mut self, verb: &str, name: &str, cids: &[Cid], body: &[u8]) -> Said {
		match verb {
			"block/get" => match self.blocks.get(&cids[0].digest()) {
				Some(block) => (200, block.clone()),
				None => missing(&cids[0]),
			},
			"block/stat" => match self.blocks.get(&cids[0].digest()) {
				Some(block) => {
					say(&format!("{{\"Key\":\"{}\",\"Size\":{}}}", cids[0], block.len()))
				}
				None => missing(&cids[0]),
			},
			"block/rm" => self.remove(&cids[0]),
			"block/put" => self.put(name, body),
			"dag/import" => self.import(body),
			"pin/ls" if cids.is_empty() => self.list(name),
			"pin/ls" => match self.pins.get(&cids[0]) {
				Some(name) => say(&format!(
					"{{\"Keys\":{{\"{}\":{{\"Type\":\"recursive\",\"Name\":\"{name}\"}}}}}}",
					cids[0]
				)),
				None => fail(&format!("path '{}' is not pinned", cids[0])),
			},
			"pin/add" => self.pin(cids[0], name.to_owned()),
			"pin/update" => match self.pins.get(&cids[0]).cloned() {
				Some(_) if self.has_nameless_updates => self.pin(cids[1], String::new()),
				Some(name) => self.pin(cids[1], name),
				None => fail("'from' cid was not recursively pinned already"),
			},
			"pin/rm" => match self.pins.remove(&cids[0]) {
				Some(_) => say(&format!("{{\"Pins\":[\"{}\"]}}", cids[0])),
				None => fail("not pinned or pinned indirectly"),
			},
			other => panic!("nobody should ask for {other}"),
		}
	}

	fn import(&mut self, body: &[u8]) -> Said {
		match &mut self.imports_left {
			Some(0) => self.is_down = true,
			Some(left) => *left -= 1,
			None => (),
		}
		if self.is_down {
			return (500, Vec::new());
		}
		self.imported_bytes += body.len() as u64;
		let start = body.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
		let mut car = CarStream::new(&body[start..]).unwrap();
		let root = car.roots()[0];
		let mut count = 0;
		loop {
			let (cid, block) = car.next_block().unwrap().unwrap();
			// As Kubo, it keeps what it believes to have.
			self.blocks.entry(cid.digest()).or_insert(block);
			count += 1;
			if cid == root {
				break;
			}
		}
		let error = self.lacks(&root).map(|cid| could_not_find(&cid)).unwrap_or_default();
		if error.is_empty() {
			self.pins.insert(root, String::new());
		}
		say(&format!(
			"{{\"Root\":{{\"Cid\":{{\"/\":\"{root}\"}},\"PinErrorMsg\":\"{error}\"}}}}\n\
			 {{\"Stats\":{{\"BlockCount\":{count},\"BlockBytesCount\":1}}}}"
		))
	}

	fn list(&self, name: &str) -> Said {
		let lines = self.pins.iter().filter(|(_, of)| of.contains(name)).map(|(cid, name)| {
			format!("{{\"Cid\":\"{cid}\",\"Name\":\"{name}\",\"Type\":\"recursive\"}}\n")
		});
		(200, lines.collect::<String>().into_bytes())
	}

	fn pin(&mut self, root: Cid, name: String) -> Said {
		match self.lacks(&root) {
			_ if self.refused.contains(&root) => fail("it does not want to"),
			Some(cid) => missing(&cid),
			None => {
				self.pins.insert(root, name);
				say(&format!("{{\"Pins\":[\"{root}\"]}}"))
			}
		}
	}

	/// A block that is missing below a root.
	fn lacks(&self, root: &Cid) -> Option<Cid> {
		let (mut pending, mut seen) = (vec![*root], HashSet::new());
		while let Some(cid) = pending.pop() {
			if !seen.insert(cid) {
				continue;
			}
			let Some(block) = self.blocks.get(&cid.digest()) else { return Some(cid) };
			if cid.codec() == BlockCodec::DagCbor {
				pending.extend(links(block).unwrap());
			}
		}
		None
	}

	/// Ends what it was at when it went down.
	pub(super) fn end_import(&mut self) {
		let body = self.unfinished.take().unwrap();
		self.import(&body);
	}

	/// Puts a block there that nobody of ours has sent, and pins it.
	pub(super) fn forge(&mut self, block: &[u8], cid: &Cid, name: String) {
		self.blocks.insert(cid.digest(), block.to_vec());
		self.pins.insert(*cid, name);
	}

	/// Removes what no pin needs.
	pub(super) fn collect(&mut self) {
		let (mut needed, mut seen) = (HashSet::new(), HashSet::new());
		let mut pending: Vec<Cid> = self.pins.keys().copied().collect();
		while let Some(cid) = pending.pop() {
			// A batch links nodes as raw, below which nothing is kept.
			needed.insert(cid.digest());
			if seen.insert(cid) && cid.codec() == BlockCodec::DagCbor {
				pending.extend(links(&self.blocks[&cid.digest()]).unwrap());
			}
		}
		self.blocks.retain(|hash, _| needed.contains(hash));
	}

	/// Loses all blocks that are no nodes, or has their bytes go bad.
	pub(super) fn lose_chunks(&mut self, chunks: &HashSet<[u8; 32]>) {
		self.blocks.retain(|hash, _| !chunks.contains(hash));
	}

	pub(super) fn damage(&mut self, chunks: &HashSet<[u8; 32]>) {
		let bad = self.blocks.iter_mut().filter(|(hash, _)| chunks.contains(*hash));
		bad.for_each(|(_, block)| block[0] ^= 1);
	}

	/// Removes what is not what its hash says, as `ipfs repo verify --drop` does.
	pub(super) fn drop_damaged(&mut self) {
		self.blocks.retain(|hash, block| digest(block) == *hash);
	}
}

fn say(json: &str) -> Said {
	(200, format!("{json}\n").into_bytes())
}

fn fail(words: &str) -> Said {
	(500, format!("{{\"Message\":\"{words}\",\"Code\":0,\"Type\":\"error\"}}").into_bytes())
}

fn missing(cid: &Cid) -> Said {
	fail(&could_not_find(cid))
}

fn could_not_find(cid: &Cid) -> String {
	format!("block was not found locally (offline): ipld: could not find {cid}")
}
