//! The program itself: how it starts, how it ends, and what it says when it cannot.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{
	fs,
	io::{Read, Write},
	net::{SocketAddr, TcpListener, TcpStream},
	os::unix::fs::PermissionsExt,
	path::Path,
	process::{Child, Command, Output, Stdio},
	time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// The program on a state folder and a port of its own.
struct Bench {
	folder: tempfile::TempDir,
	address: SocketAddr,
}

impl Bench {
	fn new() -> Self {
		let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
		let bench = Self { folder: tempfile::tempdir().unwrap(), address: free };
		assert!(bench.ends_with(&["init"]).status.success());
		bench
	}

	fn state_dir(&self) -> &Path {
		self.folder.path()
	}

	fn command(&self, arguments: &[&str]) -> Command {
		let mut command = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
		command
			.args(arguments)
			.arg("--state-dir")
			.arg(self.state_dir())
			.arg("--listen")
			.arg(self.address.to_string())
			.env("RUST_LOG", "info")
			.stdin(Stdio::null())
			.stdout(Stdio::piped())
			.stderr(Stdio::piped());
		command
	}

	fn ends_with(&self, arguments: &[&str]) -> Output {
		self.command(arguments).output().unwrap()
	}

	/// Starts the agent and waits until it listens.
	fn start(&self) -> Running {
		let mut child = self.command(&["run"]).spawn().unwrap();
		let deadline = Instant::now() + DEADLINE;
		while TcpStream::connect(self.address).is_err() {
			assert!(child.try_wait().unwrap().is_none(), "{}", rest(&mut child));
			assert!(Instant::now() < deadline, "the agent does not listen");
			std::thread::sleep(Duration::from_millis(10));
		}
		Running(child)
	}

	/// What the agent says when it refuses to start.
	fn refusal(&self) -> String {
		let output = self.ends_with(&["run"]);
		assert_eq!(output.status.code(), Some(1));
		String::from_utf8(output.stderr).unwrap()
	}
}

/// An agent that runs. It is killed when a test leaves it.
struct Running(Child);

impl Running {
	/// Tells the agent to end, and waits for it.
	fn terminate(&mut self) -> Option<i32> {
		let id = self.0.id().to_string();
		assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
		let deadline = Instant::now() + DEADLINE;
		loop {
			if let Some(status) = self.0.try_wait().unwrap() {
				return status.code();
			}
			assert!(Instant::now() < deadline, "the agent does not end");
			std::thread::sleep(Duration::from_millis(10));
		}
	}
}

impl Drop for Running {
	fn drop(&mut self) {
		let _ = self.0.kill();
		let _ = self.0.wait();
	}
}

fn rest(child: &mut Child) -> String {
	let mut text = String::new();
	child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
	text
}

#[test]
fn an_agent_that_is_told_to_end_ends_well() {
	let bench = Bench::new();
	let mut agent = bench.start();
	assert_eq!(agent.terminate(), Some(0));
	// Nothing stays locked.
	assert_eq!(bench.start().terminate(), Some(0));
}

/// A caller that sent half a call kept the agent from ending: it waited for all connections
/// before it told its jobs to end.
#[test]
fn a_caller_that_does_not_come_to_an_end_does_not_keep_the_agent() {
	let bench = Bench::new();
	let mut agent = bench.start();
	let mut caller = TcpStream::connect(bench.address).unwrap();
	let half = b"POST /v1/reconcile HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
	caller.write_all(half).unwrap();
	assert_eq!(agent.terminate(), Some(0));
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused() {
	let bench = Bench::new();
	let _agent = bench.start();
	let refusal = bench.refusal();
	assert!(refusal.contains("is another agent running on it?"), "{refusal}");
}

#[test]
fn a_port_that_another_program_has_is_named() {
	let bench = Bench::new();
	let _other = TcpListener::bind(bench.address).unwrap();
	let refusal = bench.refusal();
	assert!(refusal.contains(&bench.address.to_string()), "{refusal}");
	assert!(refusal.contains("another program"), "{refusal}");
}

#[test]
fn secrets_that_others_can_read_or_that_are_missing_are_refused() {
	let bench = Bench::new();
	let secret = bench.state_dir().join("secret");
	fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
	let exposed = bench.refusal();
	assert!(exposed.contains("secret") && exposed.contains("chmod 600"), "{exposed}");
	fs::remove_file(&secret).unwrap();
	let missing = bench.refusal();
	assert!(missing.contains("backup-agent init"), "{missing}");
}

#[test]
fn a_misspelt_key_is_named() {
	let bench = Bench::new();
	let file = bench.state_dir().join("agent.toml");
	fs::write(&file, "sweep_seconds = 9\njob_max = 3\n").unwrap();
	let output = bench.ends_with(&["check-config", "--config", file.to_str().unwrap()]);
	let said = String::from_utf8(output.stderr).unwrap();
	assert_eq!(output.status.code(), Some(1));
	assert!(said.starts_with("error: understand the configuration /"), "{said}");
	let told = "agent.toml, line 2: there is no key `job_max`; did you mean `jobs_max`?\n";
	assert!(said.ends_with(told), "{said}");
}

#[test]
fn a_line_that_is_not_understood_is_named_and_not_shown() {
	let bench = Bench::new();
	let file = bench.state_dir().join("agent.toml");
	fs::write(&file, "jobs_max = 3\nwebhook_url = https://hooks.example/s3cret\n").unwrap();
	let output = bench.ends_with(&["check-config", "--config", file.to_str().unwrap()]);
	let said = String::from_utf8(output.stderr).unwrap();
	assert_eq!(output.status.code(), Some(1));
	assert!(said.contains("agent.toml, line 2: ") && said.lines().count() == 1, "{said}");
	assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn a_good_configuration_is_said_to_be_good_in_a_line() {
	let bench = Bench::new();
	let file = bench.state_dir().join("agent.toml");
	fs::write(&file, "node_rpc = \"ws://127.0.0.1:9944\"\n").unwrap();
	let output = bench.ends_with(&["check-config", "--config", file.to_str().unwrap()]);
	let said = String::from_utf8(output.stdout).unwrap();
	assert_eq!(output.status.code(), Some(0));
	let told = format!("{} is good: node ws://127.0.0.1:9944, 0 machines in ", file.display());
	assert!(said.starts_with(&told) && said.lines().count() == 1, "{said}");
}

/// Flags over the environment over the file, and all of it in what is printed.
#[test]
fn the_configuration_in_force_is_printed_and_gives_the_same_again() {
	let bench = Bench::new();
	let (file, again) =
		(bench.state_dir().join("agent.toml"), bench.state_dir().join("again.toml"));
	let text = "jobs_max = 4\nsweep_seconds = 7\nwebhook_url = \"https://hooks.example/s3cret\"\n";
	fs::write(&file, text).unwrap();
	let print = |file: &Path, jobs_max: &str| {
		let mut command =
			bench.command(&["print-config", "--config", file.to_str().unwrap(), "--threads", "5"]);
		command.env("BACKUP_AGENT_SWEEP_SECONDS", "9").env("BACKUP_AGENT_JOBS_MAX", jobs_max);
		let output = command.output().unwrap();
		assert!(output.status.success(), "{output:?}");
		String::from_utf8(output.stdout).unwrap()
	};
	let printed = print(&file, "6");
	let line = |key: &str| {
		let line = printed.lines().find(|line| line.trim_start_matches('#').starts_with(key));
		line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
	};
	assert_eq!(line("jobs_max"), "jobs_max = 6 # BACKUP_AGENT_JOBS_MAX");
	assert_eq!(line("sweep_seconds"), "sweep_seconds = 9 # BACKUP_AGENT_SWEEP_SECONDS");
	assert_eq!(line("threads"), "threads = 5 # --threads");
	assert_eq!(line("restore_format"), "restore_format = \"qcow2\" # default");
	assert!(line("webhook_url").contains("agent.toml") && !printed.contains("s3cret"), "{printed}");
	// What is printed is a configuration that gives the same values, whatever it was given by.
	fs::write(&again, &printed).unwrap();
	let mut command = bench.command(&["print-config", "--config", again.to_str().unwrap()]);
	let output = command.output().unwrap();
	let values = |text: &str| {
		let values: Vec<_> =
			text.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect();
		values
	};
	let second = String::from_utf8(output.stdout).unwrap();
	assert_eq!(values(&second), values(&printed));
}

#[test]
fn a_log_filter_that_makes_no_sense_is_named() {
	let bench = Bench::new();
	let output = bench.ends_with(&["check-config", "--log-filter", "a=b=c"]);
	let said = String::from_utf8(output.stderr).unwrap();
	assert_eq!(output.status.code(), Some(1));
	assert!(said.contains("log_filter") && said.contains("a level such as info"), "{said}");
}

#[test]
fn a_second_init_changes_nothing() {
	let bench = Bench::new();
	let before = fs::read(bench.state_dir().join("identity")).unwrap();
	let output = bench.ends_with(&["init"]);
	let said = String::from_utf8(output.stdout).unwrap();
	assert!(said.contains("age1") && said.contains("--backup-agent-url"), "{said}");
	assert_eq!(fs::read(bench.state_dir().join("identity")).unwrap(), before);
}
