//! What takes longer than a moment shows on a terminal how far it is, how fast, and how long it will
//! take.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[expect(dead_code, reason = "what a call answers is tested elsewhere")]
mod world;

use backup_agent::repositories::{BlockSource, EmbeddedStore, StoreOptions};
use std::{
	fs,
	io::{BufRead, BufReader, Read, Write},
	net::{TcpListener, TcpStream},
	process::{Command, Stdio},
	sync::{
		Arc,
		atomic::{AtomicBool, Ordering},
	},
	thread,
	time::{Duration, Instant},
};
use world::{World, noise};

/// How long each block takes until the bar was seen: two of them are longer than a bar is waited for.
const BLOCK_TIME: Duration = Duration::from_millis(600);

/// A gateway with the blocks of a store, slow until it is told to be quick.
fn slow_gateway(store: Arc<EmbeddedStore>, is_quick: Arc<AtomicBool>) -> String {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	thread::spawn(move || {
		for stream in listener.incoming() {
			let (store, is_quick) = (Arc::clone(&store), Arc::clone(&is_quick));
			let slow = move || {
				if !is_quick.load(Ordering::Relaxed) {
					thread::sleep(BLOCK_TIME);
				}
			};
			thread::spawn(move || give(&store, slow, stream.unwrap()));
		}
	});
	url
}

/// A gateway that gives one block, and the others when it is told to be quick.
fn stuck_gateway(store: Arc<EmbeddedStore>, is_quick: Arc<AtomicBool>) -> String {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	thread::spawn(move || {
		for (number, stream) in listener.incoming().enumerate() {
			let (store, is_quick) = (Arc::clone(&store), Arc::clone(&is_quick));
			let stuck = move || {
				if number > 0 {
					wait_for(&is_quick);
				}
			};
			thread::spawn(move || give(&store, stuck, stream.unwrap()));
		}
	});
	url
}

/// Wait until it is so, or for as long as a call may keep its word to itself.
fn wait_for(is_so: &AtomicBool) {
	let begun = Instant::now();
	while !is_so.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
		thread::sleep(Duration::from_millis(10));
	}
}

/// Answer one request for a block. Whoever asks for many at once is to ask for each.
fn give(store: &EmbeddedStore, wait: impl FnOnce(), mut stream: TcpStream) -> Option<()> {
	let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
	let request = lines.next()?.ok()?;
	while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
	let cid = request.split(['/', '?', ' ']).nth(3)?.parse().ok();
	let is_block = request.contains("raw") || !request.contains("format=");
	let block = cid.filter(|_| is_block).and_then(|cid| store.get(&cid).unwrap());
	wait();
	let (status, body) = match block {
		Some(block) => ("200 OK", block),
		None => ("404 Not Found", Vec::new()),
	};
	let length = body.len();
	let head =
		format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
	stream.write_all(head.as_bytes()).ok()?;
	if !request.starts_with("HEAD") {
		stream.write_all(&body).ok()?;
	}
	Some(())
}

/// What a terminal shows of a call that is slow until it has shown these words.
fn shown(world: &World, call: &str, words: &str, is_quick: &AtomicBool) -> String {
	let command = format!("stty cols 120; {} {call}; echo code $?", env!("CARGO_BIN_EXE_backup"));
	let mut child = Command::new("script")
		.args(["--quiet", "--flush", "--command", &command, "/dev/null"])
		.current_dir(world.folder.path())
		.env("HOME", "/nowhere")
		.env("SHELL", "/bin/sh")
		.env("TERM", "xterm")
		.stdin(Stdio::null())
		.stdout(Stdio::piped())
		.spawn()
		.unwrap();
	let mut out = child.stdout.take().unwrap();
	let (mut shown, mut byte) = (Vec::new(), [0]);
	while out.read(&mut byte).unwrap() > 0 {
		shown.push(byte[0]);
		if shown.ends_with(words.as_bytes()) {
			is_quick.store(true, Ordering::Relaxed);
		}
	}
	child.wait().unwrap();
	String::from_utf8(shown).unwrap()
}

/// Show a bar, and end well.
fn assert_bar(world: &World, call: &str, is_quick: &AtomicBool) {
	is_quick.store(false, Ordering::Relaxed);
	let shown = shown(world, call, " left", is_quick);
	assert!(shown.contains("code 0"), "{call}: {shown}");
	let bar = shown.split(['\r', '\n']).find(|line| line.contains(" left"));
	let bar = bar.unwrap_or_else(|| panic!("{call} showed no bar: {shown}"));
	assert!(bar.contains("% ") && bar.contains("/s, "), "{call}: {bar}");
	// Nothing is over because nothing was done.
	assert!(!bar.contains(" 0% ") || bar.contains("unknown left"), "{call}: {bar}");
}

/// Longest time that a call lets itself be kept waiting without a word.
const PATIENCE: Duration = Duration::from_secs(15);

/// A node that lets everybody wait until it is told to be gone.
fn silent_node(is_gone: Arc<AtomicBool>) -> String {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("ws://{}", listener.local_addr().unwrap());
	thread::spawn(move || {
		for stream in listener.incoming() {
			wait_for(&is_gone);
			drop(stream);
		}
	});
	url
}

#[test]
fn whoever_waits_for_a_node_is_told_so_by_every_verb() {
	let world = World::new();
	fs::write(world.path("secret"), "//Bob").unwrap();
	let is_gone = Arc::new(AtomicBool::new(false));
	let url = silent_node(Arc::clone(&is_gone));
	for call in [
		"vms",
		"snapshots",
		"cost",
		"status",
		"hold 0 1",
		"cadence 100",
		"subscribe --periods 1",
		"request tag 0",
		"request create --disk-bytes 1",
		"request-restore 0 1",
		"governance motions",
		"governance vote 0 --aye",
		"node deregister --id 1 --yes",
		"watch",
	] {
		is_gone.store(false, Ordering::Relaxed);
		let call = format!("{call} --secret-file secret --node {url}");
		let shown = shown(&world, &call, "waiting for the chain", &is_gone);
		assert!(shown.contains("waiting for the chain"), "{call}: {shown}");
		assert!(shown.contains("code 3"), "{call}: {shown}");
	}
}

/// A disk with a file system whose folders lie far from each other.
fn disk_of_folders(world: &World) -> Vec<u8> {
	let tree = world.path("tree");
	for folder in ["home/ann", "home/bob", "home/eve", "srv/ann", "srv/bob", "srv/eve"] {
		fs::create_dir_all(tree.join(folder)).unwrap();
		fs::write(tree.join(folder).join("file"), noise(700_000)).unwrap();
	}
	let image = world.path("ext");
	let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
	let mut make = Command::new("mkfs.ext4");
	make.env("PATH", path).arg("-qFd").args([&tree, &image]).arg("16M").stdout(Stdio::null());
	assert!(make.status().unwrap().success());
	fs::read(image).unwrap()
}

#[test]
fn what_reads_files_of_a_snapshot_shows_rate_and_time_left_also_of_folders() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &disk_of_folders(&world))]);
	let store = EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap();
	let is_quick = Arc::new(AtomicBool::new(false));
	let gateway = slow_gateway(Arc::new(store), Arc::clone(&is_quick));
	let place = format!("--root {root} --identity owner.key --gateway {gateway}");
	for call in [
		format!("ls {place} --recursive /"),
		format!("cat {place} /home/ann/file >/dev/null"),
		format!("restore-file {place} /home/ann/file --output file"),
		format!("restore-file {place} /home --output home"),
	] {
		assert_bar(&world, &call, &is_quick);
	}
	assert_eq!(fs::read(world.path("home/eve/file")).unwrap(), noise(700_000));
}

#[test]
fn whoever_waits_for_a_gateway_is_told_so_by_every_verb() {
	let world = World::new();
	let (one, other) =
		(world.snapshot(&[("vda", &noise(700_000))]), world.snapshot(&[("vda", &noise(9))]));
	let store = Arc::new(EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap());
	let root = format!("--root {one}");
	let opened = format!("{root} --identity owner.key");
	for (call, words) in [
		(format!("verify {root}"), " left"),
		(format!("export {root} --output snapshot.car"), " left"),
		(format!("show {opened}"), "waiting for the snapshot"),
		(format!("restore {opened} --output disk.raw"), "waiting for the snapshot"),
		(format!("drill {opened}"), "waiting for the snapshot"),
		(format!("ls {opened}"), "waiting for the snapshot"),
		(format!("diff {one} {other} --identity owner.key"), "waiting for the snapshots"),
	] {
		let is_quick = Arc::new(AtomicBool::new(false));
		let gateway = stuck_gateway(Arc::clone(&store), Arc::clone(&is_quick));
		let shown = shown(&world, &format!("{call} --gateway {gateway}"), words, &is_quick);
		assert!(shown.contains(words) && shown.contains("code 0"), "{call}: {shown}");
	}
}

#[test]
fn what_reads_a_snapshot_shows_rate_and_time_left() {
	let world = World::new();
	let disk = noise(16_000_000);
	let before = world.snapshot(&[("vda", &disk)]);
	let after = world.snapshot(&[("vda", &disk[1..])]);
	let store = EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap();
	let is_quick = Arc::new(AtomicBool::new(false));
	let gateway = slow_gateway(Arc::new(store), Arc::clone(&is_quick));
	for call in [
		format!("verify --root {after} --read"),
		format!("verify --root {after}"),
		format!("export --root {after} --output snapshot.car"),
		format!("diff {before} {after} --identity owner.key"),
	] {
		assert_bar(&world, &format!("{call} --gateway {gateway}"), &is_quick);
	}
}
