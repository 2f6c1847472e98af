//! An agent in a folder of its own, its machines, and the worker's side of the protocol.

use crate::{
	fake_node::FakeNode,
	http::{self, Answer},
	orders::{GENESIS, restores, snapshot, snapshots},
};
use backup_agent::sources::Vm;
use backup_primitives::{
	Cid, FailureReason, Recipient, VmTag,
	auth::{Freshness, MAC_HEADER, NONCE_HEADER, TIME_HEADER, answer_mac_is_right, request_mac},
	job::{
		Achieved, Desired, RECONCILE_PATH, RestoreOrder, SnapshotOrder, Source, decode_body,
		encode_body,
	},
	report::TakenSnapshot,
};
use codec::Encode;
use serde_json::Value as Json;
use std::{
	fs,
	net::TcpListener,
	path::{Path, PathBuf},
	process::{Child, Command, ExitStatus, Output, Stdio},
	sync::atomic::{AtomicU32, Ordering},
	thread,
	time::{Duration, Instant, SystemTime},
};

/// How long anything may take, on a machine that does much else.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(10);

pub(crate) struct World {
	pub(crate) node: FakeNode,
	folder: tempfile::TempDir,
	port: u16,
	process: Option<Child>,
	owner: Recipient,
	/// What the agent finds in its environment.
	pub(crate) environment: Vec<(&'static str, String)>,
}

impl World {
	/// An agent that is prepared, and does not run yet.
	pub(crate) fn prepare() -> Self {
		let owner = age::x25519::Identity::generate().to_public().to_string();
		let world = Self {
			node: FakeNode::start(),
			folder: tempfile::tempdir().unwrap(),
			port: free_port(),
			process: None,
			owner: owner.parse().unwrap(),
			environment: Vec::new(),
		};
		let node_rpc = world.node.url();
		world.configure(&format!("node_rpc = \"{node_rpc}\"\nrestore_format = \"raw\"\n"));
		let output = world.run("init");
		assert!(output.status.success(), "{output:?}");
		world
	}

	/// An agent that serves its blocks to other nodes, and asks those on this machine for theirs.
	/// Gives its address too.
	pub(crate) fn start_among_others() -> (Self, Source) {
		let mut world = Self::prepare();
		let (node_rpc, port) = (world.node.url(), free_port());
		world.configure(&format!(
			"node_rpc = \"{node_rpc}\"\nrestore_format = \"raw\"\n\
			 gateway_listen = \"127.0.0.1:{port}\"\npeer_networks = [\"127.0.0.0/8\"]\n"
		));
		world.start_agent();
		let gateway = format!("http://127.0.0.1:{port}").into_bytes().try_into().unwrap();
		let source = Source { gateway, recipient: world.recipient() };
		(world, source)
	}

	pub(crate) fn start() -> Self {
		let mut world = Self::prepare();
		world.start_agent();
		world
	}

	/// Write the configuration: what every agent here has, and more.
	pub(crate) fn configure(&self, more: &str) {
		let config = format!(
			"listen = \"127.0.0.1:{}\"\nstate_dir = {:?}\nsweep_seconds = 1\n{more}",
			self.port,
			self.path("state"),
		);
		fs::write(self.path("agent.toml"), config).unwrap();
	}

	pub(crate) fn path(&self, name: &str) -> PathBuf {
		self.folder.path().join(name)
	}

	pub(crate) fn port(&self) -> u16 {
		self.port
	}

	/// Run a verb with arguments to its end.
	pub(crate) fn run_with(&self, verb: &str, arguments: &[&str]) -> Output {
		self.command(verb).args(arguments).output().unwrap()
	}

	fn command(&self, verb: &str) -> Command {
		let mut command = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
		command.arg(verb).arg("--config").arg(self.path("agent.toml"));
		command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
		command.envs(self.environment.iter().cloned());
		command
	}

	/// Run a command line as it is to its end.
	pub(crate) fn run_words(&self, words: &[&str]) -> Output {
		let mut command = Command::new(env!("CARGO_BIN_EXE_backup-agent"));
		command.args(words).env("NO_COLOR", "1").env_remove("RUST_LOG").output().unwrap()
	}

	/// Start a verb whose end is not waited for.
	pub(crate) fn spawn(&self, verb: &str) -> Child {
		self.command(verb).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
	}

	/// Run a verb to its end.
	pub(crate) fn run(&self, verb: &str) -> Output {
		self.command(verb).output().unwrap()
	}

	/// Start the agent although it should refuse, and give its last words.
	pub(crate) fn refused_start(&self) -> String {
		let mut child = self.command("run").stderr(Stdio::piped()).spawn().unwrap();
		let ended = (0..TIME_MAX.as_millis() / POLL.as_millis()).any(|_| {
			thread::sleep(POLL);
			child.try_wait().unwrap().is_some()
		});
		if !ended {
			child.kill().unwrap();
		}
		let output = child.wait_with_output().unwrap();
		assert!(ended, "the agent runs, although it should have refused to start");
		assert_eq!(output.status.code(), Some(1), "{output:?}");
		String::from_utf8(output.stderr).unwrap()
	}

	/// Start the agent and do not wait until it answers.
	pub(crate) fn spawn_agent(&mut self) {
		let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
		self.process = Some(self.command("run").stderr(log).spawn().unwrap());
	}

	pub(crate) fn start_agent(&mut self) {
		self.spawn_agent();
		until("the agent to answer", || {
			let ended = self.process.as_mut().unwrap().try_wait().unwrap();
			assert!(ended.is_none(), "{}", self.log());
			let answer = http::ask(self.port, "GET", "/healthz", &[], &[]).ok()?;
			assert_eq!(answer.text(), "ok\n", "another program answers");
			Some(())
		});
	}

	/// Kill the agent with SIGKILL.
	pub(crate) fn kill(&mut self) {
		let mut process = self.process.take().unwrap();
		process.kill().unwrap();
		process.wait().unwrap();
	}

	/// Ask the agent to end, with SIGTERM, and wait until it has.
	pub(crate) fn terminate(&mut self) -> ExitStatus {
		let mut process = self.process.take().unwrap();
		let id = process.id().to_string();
		assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
		until("the agent to end", || process.try_wait().unwrap())
	}

	/// Have the agent read its configuration again, with SIGHUP.
	pub(crate) fn hang_up(&self) {
		let id = self.process.as_ref().unwrap().id().to_string();
		assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
	}

	/// How many bytes the agent that runs has written, to whatever.
	pub(crate) fn written_bytes(&self) -> u64 {
		let process = self.process.as_ref().unwrap().id();
		let counters = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
		let written = counters.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
		written.parse().unwrap()
	}

	/// How much memory the agent that runs takes, in bytes.
	pub(crate) fn memory_bytes(&self) -> u64 {
		let process = self.process.as_ref().unwrap().id();
		let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
		let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
		let kibibytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
		kibibytes * 1024
	}

	/// What the agent has logged since the beginning.
	pub(crate) fn log(&self) -> String {
		fs::read_to_string(self.path("log")).unwrap()
	}

	pub(crate) fn secret(&self) -> [u8; 32] {
		let text = fs::read_to_string(self.path("state/secret")).unwrap();
		hex::decode(text.trim()).unwrap().try_into().unwrap()
	}

	pub(crate) fn get(&self, path: &str) -> Answer {
		http::ask(self.port, "GET", path, &[], &[]).unwrap()
	}

	/// Fetch a block as an IPFS client does.
	pub(crate) fn block(&self, cid: &Cid) -> Answer {
		self.get(&format!("/ipfs/{cid}?format=raw"))
	}

	/// CIDs of the roots that are pinned.
	pub(crate) fn roots(&self) -> Vec<String> {
		let snapshots = self.get("/v1/snapshots").json();
		let cids = snapshots.as_array().unwrap().iter().map(|view| view["cid"].as_str().unwrap());
		cids.map(str::to_owned).collect()
	}

	/// The job that runs, if one does.
	pub(crate) fn running_job(&self) -> Option<Json> {
		let jobs = self.get("/v1/jobs").json();
		jobs.as_array().unwrap().iter().find(|job| job["state"] == "running").cloned()
	}

	/// Wait until a job has done a part of its bytes.
	pub(crate) fn wait_for_progress(&self) {
		until("a job to be in its middle", || {
			let job = self.running_job()?;
			let [done, total] = ["done_bytes", "total_bytes"].map(|key| job[key].as_u64().unwrap());
			(0 < done && done < total).then_some(())
		});
	}

	/// A machine that is off, with one raw disk of these bytes, and an order to back it up.
	pub(crate) fn machine(&self, request: u64, bytes: &[u8]) -> SnapshotOrder {
		let image = self.image(request);
		fs::write(&image, bytes).unwrap();
		let order = snapshot(request, 0, 0);
		let tag = VmTag::derive(&GENESIS, &order.lineage.request, &order.owner);
		let file = format!(
			"uuid = \"{tag}\"\n\n[[disk]]\nname = \"vda\"\nimage = {image:?}\nformat = \"raw\"\n"
		);
		self.order(request, tag, &file)
	}

	/// An order to back up a machine that runs.
	pub(crate) fn running_machine(&self, request: u64, vm: &Vm) -> SnapshotOrder {
		self.order(request, vm.uuid, &vm.describe())
	}

	/// An order to back up the machine that a file of the inventory describes.
	fn order(&self, request: u64, tag: VmTag, file: &str) -> SnapshotOrder {
		fs::write(self.path(&format!("state/vms/vm-{request}.toml")), file).unwrap();
		SnapshotOrder {
			vm_tag: tag,
			owner_recipients: vec![self.owner].try_into().unwrap(),
			node_recipient: self.recipient(),
			capacity_bytes: 1 << 40,
			..snapshot(request, 0, 0)
		}
	}

	/// The public key of the agent's newest identity.
	pub(crate) fn recipient(&self) -> Recipient {
		let recipient = String::from_utf8(self.run("recipient").stdout).unwrap();
		recipient.trim().parse().unwrap()
	}

	pub(crate) fn image(&self, request: u64) -> PathBuf {
		self.path(&format!("vm-{request}.raw"))
	}

	/// Send what the chain wants until the snapshot job has ended, and say how.
	pub(crate) fn take(&self, order: &SnapshotOrder) -> Result<TakenSnapshot, FailureReason> {
		let result = until("a snapshot job to end", || {
			let achieved = self.reconcile(&snapshots([order.clone()]));
			achieved.snapshots.into_iter().next()
		});
		assert_eq!((&result.lineage, result.sequence), (&order.lineage, order.sequence));
		result.outcome
	}

	/// The same with a restore; the folder of the images if it went well.
	pub(crate) fn restore(&self, order: &RestoreOrder) -> Result<PathBuf, FailureReason> {
		let result = until("a restore job to end", || {
			self.reconcile(&restores([order.clone()])).restores.into_iter().next()
		});
		assert_eq!(result.restore, order.restore);
		let ending = format!("-{}-{}", order.sequence, order.restore);
		match result.failure {
			None => Ok(self.restored().into_iter().find(|path| ends_with(path, &ending)).unwrap()),
			Some(reason) => Err(reason),
		}
	}

	/// All that lies in the folder of restores, complete or not.
	pub(crate) fn restored(&self) -> Vec<PathBuf> {
		let entries = fs::read_dir(self.path("state/restored")).unwrap();
		entries.map(|entry| entry.unwrap().path()).collect()
	}

	/// Speak as the worker. The answer's HMAC is checked.
	pub(crate) fn reconcile(&self, desired: &Desired) -> Achieved {
		let body = encode_body(desired);
		let fresh = fresh(now_ms());
		let mac = request_mac(&self.secret(), &fresh, &body);
		let answer = self.post(&fresh, &mac, &body);
		assert_eq!(answer.status, 200, "{}", self.log());
		let answer_mac = hex::decode(&answer.headers[MAC_HEADER]).unwrap().try_into().unwrap();
		assert!(answer_mac_is_right(&self.secret(), &mac, &answer.body, &answer_mac));
		decode_body(&answer.body).unwrap()
	}

	pub(crate) fn post(&self, fresh: &Freshness, mac: &[u8; 32], body: &[u8]) -> Answer {
		let headers = [
			(NONCE_HEADER, hex::encode(fresh.nonce)),
			(TIME_HEADER, fresh.time_ms.to_string()),
			(MAC_HEADER, hex::encode(mac)),
		];
		http::ask(self.port, "POST", RECONCILE_PATH, &headers, body).unwrap()
	}
}

impl Drop for World {
	fn drop(&mut self) {
		if let Some(mut process) = self.process.take() {
			let _ = process.kill();
			let _ = process.wait();
		}
	}
}

fn ends_with(path: &Path, ending: &str) -> bool {
	path.file_name().unwrap().to_str().unwrap().ends_with(ending)
}

pub(crate) fn fresh(time_ms: u64) -> Freshness {
	Freshness { nonce: rand::random(), time_ms }
}

pub(crate) fn now_ms() -> u64 {
	let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
	since.as_millis().try_into().unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
	let mut bytes = vec![0; len];
	blake3::Hasher::new().update(&seed.encode()).finalize_xof().fill(&mut bytes);
	bytes
}

/// Poll until there is something.
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
	let deadline = Instant::now() + TIME_MAX;
	loop {
		if let Some(found) = probe() {
			return found;
		}
		assert!(Instant::now() < deadline, "waited too long for {what}");
		thread::sleep(POLL);
	}
}

/// A port that is free, below those that the system gives out by itself: one of those could go to
/// another test's server before the agent has bound it.
fn free_port() -> u16 {
	static TAKEN: AtomicU32 = AtomicU32::new(0);
	let first = std::process::id().wrapping_mul(64);
	let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
	let mut ports = std::iter::repeat_with(|| {
		let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
		20_000 + (next % 10_000) as u16
	});
	ports.find(is_free).unwrap()
}
