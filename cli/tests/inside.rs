//! `backup ls`, `cat`, `restore-file`, `serve-disk` and `diff`, on disks that the usual tools made.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod world;

use backup_agent::repositories::{BlockSource, CarFile};
use backup_primitives::Cid;
use serde_json::{Value, json};
use std::{
	collections::HashSet,
	fs,
	io::{BufRead, BufReader, Write},
	net::TcpListener,
	ops::Deref,
	os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
	path::PathBuf,
	process::{Command, Stdio},
	sync::{Arc, Mutex},
	thread,
};
use world::World;

/// Where the file system is on the disk.
const START: u64 = 4096 * 512;

/// A world with a snapshot of two disks: one with a table and a file system, one with noise.
struct Kept {
	world: World,
	root: Cid,
	disk: Vec<u8>,
}

impl Deref for Kept {
	type Target = World;

	fn deref(&self) -> &World {
		&self.world
	}
}

/// The tools of administrators are not in everybody's path.
fn tool(name: &str) -> Command {
	let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
	let mut command = Command::new(name);
	command.env("PATH", path).stdout(Stdio::null());
	command
}

fn long() -> Vec<u8> {
	(0..1_500_001u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

impl Kept {
	fn new() -> Self {
		let world = World::new();
		let tree = world.path("tree");
		fs::create_dir_all(tree.join("etc/ssh")).unwrap();
		fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
		fs::write(tree.join("etc/ssh/key"), long()).unwrap();
		fs::set_permissions(tree.join("etc/ssh/key"), fs::Permissions::from_mode(0o600)).unwrap();
		fs::set_permissions(tree.join("etc/ssh"), fs::Permissions::from_mode(0o500)).unwrap();
		symlink("../../outside", tree.join("etc/link")).unwrap();
		fs::write(tree.join("etc/evil \u{1b}[2J"), "").unwrap();
		let image = world.path("ext");
		let mut make = tool("mkfs.ext4");
		assert!(make.arg("-qFd").args([&tree, &image]).arg("12M").status().unwrap().success());
		let disk = world.path("disk");
		let file = fs::File::create(&disk).unwrap();
		file.set_len(16 << 20).unwrap();
		let mut table = tool("sfdisk");
		table.arg("--quiet").arg(&disk).stdin(Stdio::piped());
		let mut table = table.spawn().unwrap();
		let script = b"label: gpt\nstart=2048, size=2048, name=boot\nstart=4096, name=root\n";
		table.stdin.take().unwrap().write_all(script).unwrap();
		assert!(table.wait().unwrap().success());
		file.write_all_at(&fs::read(&image).unwrap(), START).unwrap();
		let disk = fs::read(&disk).unwrap();
		let root = world.snapshot(&[("vda", &disk), ("vdb", &long())]);
		Self { world, root, disk }
	}

	/// A verb with what opens the snapshot.
	fn verb(&self, verb: &str) -> String {
		format!("{verb} --root {} --identity owner.key --store blocks", self.root)
	}
}

#[test]
fn volumes_are_listed_with_what_they_hold() {
	let kept = Kept::new();
	let answer = kept.answer(&kept.verb("ls"));
	assert_eq!(answer["disks"][0], json!({ "name": "vda", "bytes": 16 << 20 }));
	let volume = |name: &str, label: &str, content: &str, bytes: u64, readable: bool| json!({ "name": name, "label": label, "content": content, "bytes": bytes, "readable": readable });
	let bytes = answer["volumes"][1]["bytes"].as_u64().unwrap();
	assert_eq!(
		answer["volumes"],
		json!([
			volume("vda1", "boot", "empty", 1 << 20, false),
			volume("vda2", "root", "ext", bytes, true),
			volume("vdb", "", "unknown", 1_500_001, false),
		])
	);
	assert_eq!(answer["problems"], json!([]));
}

#[test]
fn folders_are_listed_and_names_made_harmless() {
	let kept = Kept::new();
	let answer = kept.answer(&format!("{} /etc", kept.verb("ls")));
	assert_eq!((&answer["volume"], &answer["path"]), (&json!("vda2"), &json!("/etc")));
	let paths = |answer: &Value| -> Vec<String> {
		let entries = answer["entries"].as_array().unwrap();
		entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
	};
	assert_eq!(paths(&answer), ["evil \\u{1b}[2J", "hosts", "link", "ssh"]);
	assert_eq!(answer["entries"][1]["bytes"], 20);
	assert_eq!(answer["entries"][2]["target"], "../../outside");
	let answer = kept.answer(&format!("{} --recursive /etc", kept.verb("ls")));
	assert_eq!(paths(&answer), ["evil \\u{1b}[2J", "hosts", "link", "ssh", "ssh/key"]);
	let text = kept.backup(&format!("{} /etc/ssh/key", kept.verb("ls")));
	let text = String::from_utf8(text.stdout).unwrap();
	let line = text.lines().nth(1).unwrap();
	assert!(line.starts_with("-rw-------") && line.contains("1500001"), "{text}");
}

#[test]
fn a_file_comes_out_byte_for_byte() {
	let kept = Kept::new();
	let output = kept.backup(&format!("{} /etc/ssh/key", kept.verb("cat")));
	assert!(output.status.success() && output.stdout == long());
	let answer = kept.answer(&format!("{} /etc/hosts --output hosts", kept.verb("restore-file")));
	assert_eq!((&answer["files"], &answer["bytes"]), (&json!(1), &json!(20)));
	assert_eq!(fs::read(kept.path("hosts")).unwrap(), b"127.0.0.1 localhost\n");
}

#[test]
fn a_folder_comes_out_with_all_below_it() {
	let kept = Kept::new();
	let answer = kept.answer(&format!("{} /etc --output out", kept.verb("restore-file")));
	assert_eq!(answer["files"], 3);
	assert_eq!((&answer["folders"], &answer["symlinks"]), (&json!(1), &json!(1)));
	assert!(fs::read(kept.path("out/ssh/key")).unwrap() == long());
	assert_eq!(fs::read_link(kept.path("out/link")).unwrap(), PathBuf::from("../../outside"));
	for name in ["", "hosts", "ssh", "ssh/key"] {
		let of = |top: &str| fs::metadata(kept.path(top).join(name)).unwrap();
		let (out, tree) = (of("out"), of("tree/etc"));
		assert_eq!(out.mode(), tree.mode(), "{name}");
		assert_eq!(out.mtime(), tree.mtime(), "{name}");
	}
	// It is there as a whole, or not at all.
	let (code, words) = kept.failure(&format!("{} /etc --output out", kept.verb("restore-file")));
	assert_eq!(code, 8, "{words}");
	let left: Vec<_> = fs::read_dir(kept.folder.path())
		.unwrap()
		.map(|entry| entry.unwrap().file_name().into_string().unwrap())
		.filter(|name| name.contains("out") && name != "out")
		.collect();
	assert_eq!(left, Vec::<String>::new());
}

#[test]
fn what_is_not_there_is_told_with_its_own_exit_code() {
	let kept = Kept::new();
	let fails = |call: &str, code: i32, words: &str| {
		let (found, text) = kept.failure(call);
		assert!(found == code && text.contains(words), "{call}: {found} {text}");
	};
	fails(&format!("{} /no", kept.verb("cat")), 5, "there is no /no");
	// With the nearest that is there, whichever part of the path is wrong.
	let meant = "there is no /etc/hots; did you mean '/etc/hosts'?";
	fails(&format!("{} /etc/hots", kept.verb("cat")), 5, meant);
	fails(&format!("{} /etc/hots", kept.verb("ls")), 5, meant);
	fails(&format!("{} /etc/hots --output o", kept.verb("restore-file")), 5, meant);
	fails(&format!("{} /ect/ssh/key", kept.verb("cat")), 5, "did you mean '/etc/ssh/key'?");
	fails(&format!("{} /ect/xyz", kept.verb("cat")), 5, "did you mean '/etc'?");
	let (_, told) = kept.failure(&format!("{} /etc/evil[2J", kept.verb("cat")));
	assert!(told.contains("'/etc/evil \\u{1b}[2J'"), "{told}");
	let (_, told) = kept.failure(&format!("{} /no", kept.verb("cat")));
	assert!(!told.contains("did you mean"), "{told}");
	fails(&format!("{} /etc", kept.verb("cat")), 2, "'backup restore-file'");
	fails(&format!("{} etc", kept.verb("ls")), 2, "begin the path with a slash");
	fails(&format!("{} / --volume vda9", kept.verb("ls")), 2, "no volume vda9, but vda2");
	fails(&format!("{} / --volume vdb", kept.verb("ls")), 11, "'backup serve-disk'");
	fails(&format!("{} --disk vdc --socket s", kept.verb("serve-disk")), 2, "vda, vdb");
}

#[test]
fn a_snapshot_without_a_file_system_says_so() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &long())]);
	let call = format!("ls / --root {root} --identity owner.key --store blocks");
	let (code, words) = world.failure(&call);
	assert!(code == 11 && words.contains("no volume of it holds ext"), "{words}");
}

/// Serves the blocks of a CAR file as a gateway does, and writes down which were asked for. It ends
/// with the test's process.
fn gateway(car: CarFile) -> (String, Arc<Mutex<HashSet<Cid>>>) {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let asked = Arc::new(Mutex::new(HashSet::new()));
	let own = Arc::clone(&asked);
	thread::spawn(move || {
		for mut stream in listener.incoming().flatten() {
			let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
			let first = lines.next().unwrap().unwrap();
			while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
			let cid = first.strip_prefix("GET /ipfs/").and_then(|rest| rest.split('?').next());
			let cid: Cid = cid.unwrap().parse().unwrap();
			own.lock().unwrap().insert(cid);
			let block = car.get(&cid).unwrap().unwrap();
			let head = format!(
				"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.ipld.raw\r\n\
				 content-length: {}\r\nconnection: close\r\n\r\n",
				block.len()
			);
			stream.write_all(&[head.as_bytes(), &block].concat()).unwrap();
		}
	});
	(url, asked)
}

#[test]
fn only_blocks_that_are_needed_are_fetched() {
	let kept = Kept::new();
	let export = format!("export --root {} --store blocks --output all.car", kept.root);
	let blocks = kept.answer(&export)["blocks"].as_u64().unwrap();
	let (url, asked) = gateway(CarFile::open(&kept.path("all.car")).unwrap());
	let opens = format!("--root {} --identity owner.key --gateway {url}", kept.root);
	let hosts = kept.backup(&format!("cat /etc/hosts {opens}"));
	assert_eq!(hosts.stdout, b"127.0.0.1 localhost\n", "{hosts:?}");
	let for_hosts = asked.lock().unwrap().len() as u64;
	// The other disk has six chunks, of which the first is looked at, and so has the other file.
	assert!(for_hosts + 10 <= blocks, "{for_hosts} of {blocks} blocks were fetched");
	let key = kept.backup(&format!("cat /etc/ssh/key {opens}"));
	assert!(key.stdout == long());
	assert!(asked.lock().unwrap().len() as u64 >= for_hosts + 5);
}

#[test]
fn other_programs_read_a_disk_that_is_served() {
	let kept = Kept::new();
	let call = kept.verb("serve-disk --socket socket --json");
	let mut server = Command::new(env!("CARGO_BIN_EXE_backup"))
		.args(call.split_whitespace())
		.current_dir(kept.folder.path())
		.stdout(Stdio::piped())
		.spawn()
		.unwrap();
	let mut answer = String::new();
	for line in BufReader::new(server.stdout.take().unwrap()).lines() {
		let line = line.unwrap();
		answer.push_str(&line);
		if line == "}" {
			break;
		}
	}
	let answer: Value = serde_json::from_str(&answer).unwrap();
	let url = answer["disks"][0]["url"].as_str().unwrap();
	let convert = ["convert", "-f", "raw", "-O", "raw", url, "copy"];
	let copied = Command::new("qemu-img").args(convert).current_dir(kept.folder.path()).status();
	let pid = server.id().to_string();
	assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
	assert!(server.wait().unwrap().success());
	assert!(copied.unwrap().success());
	assert!(fs::read(kept.path("copy")).unwrap() == kept.disk);
	assert!(!kept.path("socket").exists());
}

#[test]
fn two_snapshots_differ_where_something_was_written() {
	const CHUNK: usize = 256 * 1024;
	let world = World::new();
	let mut disk: Vec<u8> = long().into_iter().cycle().take(40 * CHUNK).collect();
	let before = world.snapshot(&[("vda", &disk), ("vdb", &long())]);
	disk[5 * CHUNK + 9] ^= 1;
	disk[20 * CHUNK..22 * CHUNK].fill(0);
	let after = world.snapshot(&[("vda", &disk), ("vdc", &long())]);
	let place = "--identity owner.key --store blocks";
	let answer = world.answer(&format!("diff {before} {after} {place}"));
	let [vda, vdb, vdc] = &answer["disks"].as_array().unwrap()[..] else { panic!("{answer}") };
	let span = |start: usize, end: usize, change: &str| json!({ "start": start * CHUNK, "end": end * CHUNK, "change": change });
	assert_eq!(vda["places"], json!([span(5, 6, "rewritten"), span(20, 22, "cleared")]));
	assert_eq!(vda["rewritten_bytes"], CHUNK);
	assert_eq!((&vdb["after_bytes"], &vdb["cleared_bytes"]), (&Value::Null, &json!(1_500_001)));
	assert_eq!((&vdc["before_bytes"], &vdc["written_bytes"]), (&Value::Null, &json!(1_500_001)));
	let text = world.backup(&format!("diff {before} {after} {place} --places"));
	let text = String::from_utf8(text.stdout).unwrap();
	assert!(text.contains("vda   1310720"), "{text}");
	let same = world.answer(&format!("diff {after} {after} {place}"));
	assert_eq!(same["disks"][0]["places"], json!([]));
}
