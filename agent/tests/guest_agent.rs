//! Freezing guests: a real QEMU, and a guest agent that is played.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use backup_agent::sources::{
	Disk, ImageFormat, Leftovers, OpenOptions, SourceError, Vm, qmp::Monitor,
};
use backup_primitives::{Consistency, VmTag};
use serde_json::{Value, json};
use std::{
	fs::{self, File},
	io::{BufRead, BufReader, Write},
	os::unix::net::{UnixListener, UnixStream},
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	sync::{Arc, Mutex},
	thread,
	time::{Duration, Instant},
};

const TAG: &str = "c0ffee00-0000-8000-8000-000000000002";

/// How an agent takes a freeze.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
	Obliging,
	Refusing,
	/// Freezes, and does not say so.
	Silent,
	/// Refuses to thaw the first few times.
	Stubborn,
	/// Has no file system to freeze, and takes itself for frozen all the same, as agents of old do.
	Empty,
	/// Was frozen by somebody else, and refuses another freeze.
	Taken,
}

/// How often a stubborn agent refuses.
const REFUSALS: usize = 4;

/// What an agent was told, and what of the machine it saw then.
type Heard = Arc<Mutex<Vec<(String, bool)>>>;

struct Machine {
	folder: tempfile::TempDir,
	qemu: Child,
	heard: Heard,
}

impl Machine {
	fn start(manner: Manner) -> Self {
		let folder = tempfile::tempdir().unwrap();
		let path = |name: &str| folder.path().join(name);
		fs::create_dir(path("scratch")).unwrap();
		File::create(path("disk.img")).unwrap().set_len(16 << 20).unwrap();
		let mut command = Command::new("qemu-system-x86_64");
		command
			.args(["-machine", "q35", "-accel", "tcg", "-m", "64", "-nodefaults"])
			.args(["-display", "none", "-uuid", TAG, "-drive"])
			.arg(format!("file={},format=raw,if=virtio", path("disk.img").display()));
		for name in ["backup.qmp", "guest.qmp"] {
			let socket = path(name);
			command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
		}
		let qemu = command.stdin(Stdio::null()).spawn().unwrap();
		let heard = play_agent(&path("agent"), path("guest.qmp"), manner);
		let machine = Self { folder, qemu, heard };
		let deadline = Instant::now() + Duration::from_secs(20);
		while !Monitor::connect(&machine.path("guest.qmp")).is_ok_and(|monitor| monitor.is_some()) {
			assert!(Instant::now() < deadline, "QEMU did not start");
			thread::sleep(Duration::from_millis(10));
		}
		machine
	}

	fn path(&self, name: &str) -> PathBuf {
		self.folder.path().join(name)
	}

	fn vm(&self) -> Vm {
		let image = self.path("disk.img");
		Vm {
			uuid: tag(),
			qmp: Some(self.path("backup.qmp")),
			guest_agent: Some(self.path("agent")),
			libvirt: None,
			libvirt_uri: None,
			disks: vec![Disk { name: "vda".into(), image, format: ImageFormat::Raw, skip: false }],
			files: Vec::new(),
			hooks: None,
		}
	}

	fn options(&self) -> OpenOptions {
		OpenOptions {
			scratch_dir: self.path("scratch"),
			scratch_bytes_max: 64 << 20,
			freeze_time_max: Duration::from_millis(500),
			leftovers: Leftovers::default(),
		}
	}

	/// The commands that the agent heard, less the greetings.
	fn told(&self) -> Vec<String> {
		self.heard.lock().unwrap().iter().map(|(command, _)| command.clone()).collect()
	}

	fn marks(&self) -> Vec<String> {
		let mut monitor = Monitor::connect(&self.path("guest.qmp")).unwrap().unwrap();
		let nodes = monitor.run("query-named-block-nodes", json!({ "flat": true })).unwrap();
		let names = nodes.as_array().unwrap().iter().filter_map(|n| n["node-name"].as_str());
		names.filter(|name| name.starts_with("pbk-")).map(str::to_owned).collect()
	}
}

impl Drop for Machine {
	fn drop(&mut self) {
		let _ = self.qemu.kill();
		let _ = self.qemu.wait();
	}
}

fn tag() -> VmTag {
	TAG.parse().unwrap()
}

/// Serves one client after the other, as QEMU's channel to the guest does.
fn play_agent(socket: &Path, qmp: PathBuf, manner: Manner) -> Heard {
	let heard = Heard::default();
	let listener = UnixListener::bind(socket).unwrap();
	let told = Arc::clone(&heard);
	thread::spawn(move || {
		let mut is_frozen = manner == Manner::Taken;
		for stream in listener.incoming() {
			converse(stream.unwrap(), &qmp, manner, &mut is_frozen, &told);
		}
	});
	heard
}

fn converse(stream: UnixStream, qmp: &Path, manner: Manner, is_frozen: &mut bool, heard: &Heard) {
	let mut writer = stream.try_clone().unwrap();
	// What is left of another's talk.
	let _ = writer.write_all(b"{\"error\":{\"desc\":\"JSON parse error\"}}\n");
	let mut reader = BufReader::new(stream);
	let mut line = Vec::new();
	while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
		let text = line.strip_prefix(b"\xff").unwrap_or(&line);
		let request: Value = serde_json::from_slice(text).unwrap();
		line.clear();
		let command = request["execute"].as_str().unwrap().to_owned();
		if command == "guest-sync-delimited" {
			let answer = json!({ "return": request["arguments"]["id"] });
			let _ = writer.write_all(&[&[0xff], answer.to_string().as_bytes(), b"\n"].concat());
			continue;
		}
		let mut monitor = Monitor::connect(qmp).unwrap().unwrap();
		let status = monitor.run("query-status", json!({})).unwrap();
		heard.lock().unwrap().push((command.clone(), status["running"] == true));
		let count = heard.lock().unwrap().iter().filter(|(other, _)| *other == command).count();
		let answer = match (command.as_str(), manner) {
			("guest-fsfreeze-freeze", Manner::Refusing | Manner::Taken) => {
				json!({ "error": { "desc": "the command is disabled" } })
			}
			("guest-fsfreeze-freeze", _) => {
				*is_frozen = true;
				json!({ "return": usize::from(manner != Manner::Empty) })
			}
			("guest-fsfreeze-status", _) => {
				json!({ "return": if *is_frozen { "frozen" } else { "thawed" } })
			}
			("guest-fsfreeze-thaw", Manner::Stubborn) if count <= REFUSALS => {
				json!({ "error": { "desc": "the guest is busy" } })
			}
			("guest-fsfreeze-thaw", _) => {
				json!({ "return": usize::from(std::mem::take(is_frozen)) })
			}
			_ => panic!("{command}"),
		};
		if manner == Manner::Silent && command == "guest-fsfreeze-freeze" {
			continue;
		}
		let _ = writer.write_all(format!("{answer}\n").as_bytes());
	}
}

#[test]
fn a_guest_is_frozen_before_and_thawed_after_the_instant() {
	let machine = Machine::start(Manner::Obliging);
	let open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.consistency, Consistency::Application);
	// Thawed by now, not only at the end.
	let told = ["guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"];
	assert_eq!(machine.told(), told);
	assert!(machine.heard.lock().unwrap().iter().all(|(_, is_running)| *is_running));
	open.close().unwrap();
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_guest_that_refuses_is_backed_up_as_it_is() {
	let machine = Machine::start(Manner::Refusing);
	let open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.consistency, Consistency::Crash);
	open.close().unwrap();
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_guest_without_file_systems_is_not_called_consistent() {
	let machine = Machine::start(Manner::Empty);
	let open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.consistency, Consistency::Crash);
	// Its agent does nothing else while it takes itself for frozen.
	assert_eq!(machine.told().last().unwrap(), "guest-fsfreeze-thaw");
	open.close().unwrap();
	assert_eq!(machine.marks(), [""; 0]);
}

/// Whoever froze it relies on that, and thaws it when it is time.
#[test]
fn a_guest_that_somebody_else_froze_is_read_as_it_is_and_not_thawed() {
	let machine = Machine::start(Manner::Taken);
	let options = machine.options();
	let open = machine.vm().open(tag(), &[], &options).unwrap();
	assert_eq!(open.consistency, Consistency::Crash);
	open.close().unwrap();
	assert_eq!(options.leftovers.retry(), 0);
	assert_eq!(machine.told(), ["guest-fsfreeze-status"]);
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_freeze_that_does_not_answer_is_given_up_and_thawed() {
	let machine = Machine::start(Manner::Silent);
	let start = Instant::now();
	let open = machine.vm().open(tag(), &[], &machine.options()).unwrap();
	assert!(start.elapsed() < Duration::from_secs(10));
	assert_eq!(open.consistency, Consistency::Crash);
	assert!(machine.told().contains(&"guest-fsfreeze-thaw".to_owned()));
	open.close().unwrap();
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_machine_whose_agent_does_not_run_is_backed_up_as_it_is() {
	let machine = Machine::start(Manner::Obliging);
	let vm = Vm { guest_agent: Some(machine.path("nobody")), ..machine.vm() };
	let open = vm.open(tag(), &[], &machine.options()).unwrap();
	assert_eq!(open.consistency, Consistency::Crash);
	open.close().unwrap();
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_guest_that_a_killed_agent_left_frozen_is_thawed() {
	let machine = Machine::start(Manner::Silent);
	let mut monitor = Monitor::connect(&machine.path("guest.qmp")).unwrap().unwrap();
	let mark = json!({ "driver": "null-co", "node-name": "pbk-mark-frozen", "size": 0 });
	monitor.run("blockdev-add", mark).unwrap();
	drop(monitor);
	let mut agent = UnixStream::connect(machine.path("agent")).unwrap();
	agent.write_all(b"{\"execute\":\"guest-fsfreeze-freeze\"}\n").unwrap();
	drop(agent);
	machine.vm().recover().unwrap();
	let told = ["guest-fsfreeze-freeze", "guest-fsfreeze-status", "guest-fsfreeze-thaw"];
	assert_eq!(machine.told(), told);
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_guest_that_does_not_thaw_is_told_until_it_does() {
	let machine = Machine::start(Manner::Stubborn);
	let options = machine.options();
	let open = machine.vm().open(tag(), &[], &options).unwrap();
	// It was told to when the freeze ended, again when that failed, and at the end.
	assert!(matches!(open.close(), Err(SourceError::NotThawed { .. })));
	assert_eq!(machine.marks(), ["pbk-mark-frozen"]);
	assert_eq!(options.leftovers.retry(), 1);
	assert_eq!(options.leftovers.retry(), 0);
	assert_eq!(machine.marks(), [""; 0]);
}

#[test]
fn a_guest_that_hangs_is_backed_up_once_more() {
	let machine = Machine::start(Manner::Stubborn);
	let options = machine.options();
	drop(machine.vm().open(tag(), &[], &options).unwrap());
	// Told for the fourth time before this. It stands still by our doing, and thaws at the end.
	let open = machine.vm().open(tag(), &[], &options).unwrap();
	assert_eq!(open.consistency, Consistency::Crash);
	open.close().unwrap();
	assert_eq!(options.leftovers.retry(), 0);
	assert_eq!(machine.marks(), [""; 0]);
}
