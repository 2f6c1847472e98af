//! The command and the person in front of it: a secret that is asked for is not shown, colours can be
//! turned off, and what is told to end leaves nothing unfinished behind.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[expect(dead_code, reason = "how often it is asked is of no matter here")]
mod gateway;
mod pty;
#[expect(dead_code, reason = "what runs to its end is tested elsewhere")]
mod world;

use backup_agent::repositories::{EmbeddedStore, StoreOptions};
use gateway::Gateway;
use pty::typed;
use std::{
	env, fs,
	process::{Child, Command, Output, Stdio},
	sync::Arc,
	thread,
	time::{Duration, Instant},
};
use world::{World, noise};

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks that a gateway gives: root, tree and some of the disk.
const BLOCKS_GIVEN: usize = 8;

fn signal(child: &Child, name: &str) {
	let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
	assert!(status.unwrap().success());
}

#[test]
fn a_restore_that_is_told_to_end_leaves_nothing() {
	let world = World::new();
	let disk = noise(16_000_000);
	let root = world.snapshot(&[("vda", &disk)]).to_string();
	let store = EmbeddedStore::open(&world.path("blocks"), StoreOptions::V1).unwrap();
	let store = Arc::new(store);
	for name in ["INT", "TERM", "HUP"] {
		let gateway = Gateway::giving(BLOCKS_GIVEN, Arc::clone(&store));
		let child = Command::new(env!("CARGO_BIN_EXE_backup"))
			.args(["restore", "--root", &root, "--identity", "owner.key"])
			.args(["--gateway", &gateway.url, "--output", "image"])
			.current_dir(world.folder.path())
			.stderr(Stdio::piped())
			.spawn()
			.unwrap();
		gateway.stalled.recv_timeout(PATIENCE).unwrap();
		assert!(world.path("image.partial").exists(), "nothing was begun");
		signal(&child, name);
		let output = child.wait_with_output().unwrap();
		let words = String::from_utf8(output.stderr).unwrap();
		assert_eq!(output.status.code(), Some(130), "{name}: {words}");
		assert!(words.contains("interrupted"), "{name}: {words}");
		assert!(!world.path("image").exists() && !world.path("image.partial").exists(), "{name}");
	}
}

#[test]
fn a_secret_is_asked_for_on_a_terminal_and_not_shown() {
	let shown = typed("subscribe --periods 1 --node ws://127.0.0.1:1", b"//Alice\n");
	assert!(shown.contains("secret to sign with: "), "{shown}");
	assert!(!shown.contains("Alice"), "{shown}");
	// It was taken, and what came next failed.
	assert!(shown.contains("no node answers") && shown.contains("code 3"), "{shown}");
	let shown = typed("subscribe --periods 1", b"no such phrase\n");
	assert!(!shown.contains("such phrase") && shown.contains("code 6"), "{shown}");
}

#[test]
fn who_overwrites_a_device_is_told_with_what() {
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 300_000])]);
	let (key, store) = (world.path("owner.key"), world.path("blocks"));
	let place = format!("--identity {} --store {}", key.display(), store.display());
	let shown = typed(&format!("restore --root {root} {place} --device /dev/null"), b"no\n");
	let will = "What is on /dev/null will be overwritten with vda of request 3, 292.9 KiB, as it was in \
	            snapshot 4, taken 1970-01-01 00:00:00 UTC by node 2.";
	assert!(shown.contains(will), "{shown}");
	assert!(shown.contains("nothing was confirmed") && shown.contains("code 2"), "{shown}");
}

#[test]
fn an_interrupted_question_leaves_the_terminal_as_it_was() {
	const CTRL_C: &[u8] = &[3];
	let recipient = age::x25519::Identity::generate().to_public();
	let register = format!("node register --id 1 --recipient {recipient}");
	for call in ["subscribe --periods 1", &register] {
		let shown = typed(call, CTRL_C);
		assert!(shown.contains("code 130"), "{call}: {shown}");
		assert!(shown.contains(" echo ") && !shown.contains("-echo "), "{call}: {shown}");
	}
}

/// Start a call whose command for the secret starts a process in turn and waits for it, once without a
/// terminal and once on one, and tell it to end. `start` gives the process that was started for that.
fn ends_with_its_command(name: &str, start: impl FnOnce(&str) -> Child) -> Output {
	let world = World::new();
	let pids = world.path("pids");
	// The call, the shell, a process of the shell's and one that is left alone.
	let script = format!(
		"sh -c 'sleep 600 & echo $! >>{0}.new'; sleep 600 & echo $! $$ $PPID >>{0}.new; mv {0}.new {0}; wait\n",
		pids.display()
	);
	let file = world.path("script");
	fs::write(&file, script).unwrap();
	let call = format!("subscribe --periods 1 --secret-command \"sh {}\"", file.display());
	let child = start(&call);
	let begun = Instant::now();
	while !pids.exists() {
		assert!(begun.elapsed() < PATIENCE, "the command was not run");
		thread::sleep(Duration::from_millis(20));
	}
	let found = fs::read_to_string(&pids).unwrap();
	let mut found: Vec<&str> = found.split_whitespace().collect();
	let parent = found.pop().unwrap();
	// The shell of the call may have become the one of the script.
	let called = match comm(parent).as_str() {
		"backup" => parent.to_owned(),
		_ => parent_of(parent),
	};
	assert_eq!(comm(&called), "backup");
	let status = Command::new("kill").args(["-s", name, &called]).status();
	assert!(status.unwrap().success());
	let output = child.wait_with_output().unwrap();
	for pid in found {
		while !is_gone(pid) {
			assert!(begun.elapsed() < PATIENCE, "{name}: {pid} still runs");
			thread::sleep(Duration::from_millis(20));
		}
	}
	output
}

fn comm(pid: &str) -> String {
	fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned()
}

fn parent_of(pid: &str) -> String {
	let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
	stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_command_for_the_secret_ends_with_who_waits_for_it() {
	for name in ["INT", "TERM"] {
		let output = ends_with_its_command(name, |call| {
			let call = format!("exec setsid {} {call}", env!("CARGO_BIN_EXE_backup"));
			Command::new("sh").args(["-c", &call]).stderr(Stdio::piped()).spawn().unwrap()
		});
		let words = String::from_utf8(output.stderr).unwrap();
		assert_eq!(output.status.code(), Some(130), "{name}: {words}");
	}
}

#[test]
fn a_command_for_the_secret_ends_on_a_terminal_too() {
	for name in ["INT", "TERM", "HUP"] {
		let output = ends_with_its_command(name, |call| {
			let call = format!("{} {call}; echo code $?", env!("CARGO_BIN_EXE_backup"));
			Command::new("script")
				.args(["--quiet", "--flush", "--command", &call, "/dev/null"])
				.env("SHELL", "/bin/sh")
				.stdin(Stdio::null())
				.stdout(Stdio::piped())
				.spawn()
				.unwrap()
		});
		let shown = String::from_utf8(output.stdout).unwrap();
		assert!(shown.contains("code 130"), "{name}: {shown}");
	}
}

/// Whether a process has ended, though nobody may have asked yet how.
fn is_gone(pid: &str) -> bool {
	let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
	state.is_empty() || state.contains(") Z ")
}

#[test]
fn a_command_for_the_secret_that_asks_at_the_terminal_can_be_interrupted_there() {
	const CTRL_C: &[u8] = &[3];
	// Quoted for two shells.
	let command = r#""printf 'the word: ' >&2; read word </dev/tty""#;
	let shown = typed(&format!("subscribe --periods 1 --secret-command {command}"), CTRL_C);
	assert!(shown.contains("the word: ") && shown.contains("code 130"), "{shown}");
}

/// What a terminal shows of a call with these variables, with escapes and all.
fn shown_with(variables: &str, call: &str, world: &World) -> String {
	let command = format!("{variables} {} {call}", env!("CARGO_BIN_EXE_backup"));
	let output = Command::new("script")
		.args(["--quiet", "--command", &command, "/dev/null"])
		.current_dir(world.folder.path())
		.env_clear()
		.envs(env::var_os("PATH").map(|path| ("PATH", path)))
		.envs([("TERM", "xterm"), ("SHELL", "/bin/sh"), ("HOME", "/nowhere")])
		.stdin(Stdio::null())
		.output()
		.unwrap();
	String::from_utf8(output.stdout).unwrap()
}

#[test]
fn errors_and_states_have_their_colour_on_a_terminal_unless_that_is_turned_off() {
	const ESCAPE: char = '\u{1b}';
	const RED: &str = "\u{1b}[1m\u{1b}[31m";
	const GREEN: &str = "\u{1b}[32m";
	const END: &str = "\u{1b}[0m";
	let world = World::new();
	let root = world.snapshot(&[("vda", &[1; 5000])]);
	let drill = format!("drill --root {root} --identity owner.key --store blocks");
	let elsewhere = format!("drill --root {root} --identity owner.key --store nowhere");
	for (call, painted) in [
		("bogus", format!("{RED}error:{END} unrecognized")),
		(&elsewhere, format!("{RED}error:{END} nowhere could not be read")),
		(&drill, format!("{GREEN}all of it can be restored{END}, as was done")),
	] {
		let coloured = shown_with("", call, &world);
		assert!(coloured.contains(&painted), "{coloured:?}");
		let bare = painted.replace([ESCAPE], "").replace("[1m", "").replace("[31m", "");
		let bare = bare.replace("[32m", "").replace("[0m", "");
		for off in ["NO_COLOR=1", "CLICOLOR=0", "TERM=dumb"] {
			let plain = shown_with(off, call, &world);
			assert!(plain.contains(&bare) && !plain.contains(ESCAPE), "{off}: {plain:?}");
		}
		// Where no terminal is, not even the variable is needed, and programs get none anywhere.
		let output = world.backup(call);
		let piped = [output.stdout, output.stderr].concat();
		let piped = String::from_utf8(piped).unwrap();
		assert!(piped.contains(&bare) && !piped.contains(ESCAPE), "{piped:?}");
		let json = shown_with("", &format!("{call} --json"), &world);
		assert!(json.contains("\"version\"") && !json.contains(ESCAPE), "{json:?}");
	}
}

#[test]
fn a_table_fits_its_terminal_and_is_whole_elsewhere() {
	let world = World::new();
	let name = "a-disk-whose-name-is-longer-than-a-narrow-terminal-is-wide";
	let root = world.snapshot(&[(name, &[1; 5000])]);
	let program = env!("CARGO_BIN_EXE_backup");
	let call = format!("{program} show --root {root} --identity owner.key --store blocks");
	let row = |command: &str| {
		let output = Command::new("script")
			.args(["--quiet", "--return", "--command", command, "/dev/null"])
			.current_dir(world.folder.path())
			.env_remove("COLUMNS")
			.stdin(Stdio::null())
			.output()
			.unwrap();
		let shown = String::from_utf8(output.stdout).unwrap();
		assert!(output.status.success(), "{shown}");
		shown.lines().find(|line| line.starts_with("disk ")).unwrap().trim_end().to_owned()
	};
	let narrow = row(&format!("stty cols 40; {call}"));
	assert!(narrow.chars().count() <= 40 && narrow.contains('…'), "{narrow}");
	for whole in [
		format!("stty cols 100; {call}"),
		format!("stty cols 40; {call} | cat"),
		format!("stty cols 40; COLUMNS=100 {call}"),
	] {
		assert!(row(&whole).contains(name), "{whole}");
	}
}
