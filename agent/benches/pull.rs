//! Fetches snapshots from another agent's gateway over loopback, as a holder of copies does; prints
//! MB/s and the peaks of memory of both.
//!
//! ```text
//! cargo bench -p backup-agent --bench pull -- [mebibytes] [snapshots] [folder]
//! ```
//!
//! 1. A disk of so many MiB that do not compress is backed up, then so often again as there are to be
//!    snapshots, one chunk changed each time.
//! 2. An agent serves that store. The first snapshot is fetched into an empty store, durably.
//! 3. The store is that many snapshots behind now, and fetches them, the newest first.

mod memory;

use backup_agent::{
	format::{Cid, Compression, Geometry, RepositoryKey, Root},
	peers::{GatewayClient, Peers, Reach},
	pipeline::{Backup, Base, Cancel, Disk, DiskReader, Progress, copy, open_root},
	repositories::{EmbeddedStore, Repository, Session, StoreOptions},
};
use backup_primitives::{Consistency, OpaqueId};
use memory::peak_mib;
use std::{
	fs::{self, File},
	io, iter,
	net::{TcpListener, TcpStream},
	num::NonZero,
	ops::Range,
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	sync::atomic::{AtomicU64, Ordering},
	thread,
	time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;

/// How long the agent may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A disk of noise: its chunks follow from their numbers and how often each was changed.
struct Noise {
	logical_bytes: u64,
	/// The chunk that was changed last, and by which snapshot.
	changed: Option<(u64, u64)>,
}

impl DiskReader for Noise {
	fn logical_bytes(&self) -> u64 {
		self.logical_bytes
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		Ok((from < self.logical_bytes).then_some(from..self.logical_bytes))
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		let chunk_bytes = u64::from(Geometry::V1.chunk_bytes());
		for (index, part) in buffer.chunks_mut(chunk_bytes as usize).enumerate() {
			let chunk = offset / chunk_bytes + index as u64;
			let by = self.changed.filter(|(changed, _)| *changed == chunk).map_or(0, |(_, by)| by);
			let mut hasher = blake3::Hasher::new();
			hasher.update(&chunk.to_le_bytes()).update(&by.to_le_bytes()).finalize_xof().fill(part);
		}
		Ok(())
	}
}

/// The host's side: a store that is filled before its agent starts.
struct Host {
	key: RepositoryKey,
	identity: age::x25519::Identity,
	threads: NonZero<usize>,
	logical_bytes: u64,
}

impl Host {
	fn backup(
		&self,
		store: &EmbeddedStore,
		sequence: u64,
		base: Option<&Root>,
	) -> anyhow::Result<Cid> {
		let chunk_bytes = u64::from(Geometry::V1.chunk_bytes());
		let chunk = sequence * 7 % (self.logical_bytes / chunk_bytes);
		let changed = base.map(|_| (chunk, sequence));
		let place = chunk * chunk_bytes..(chunk + 1) * chunk_bytes;
		let written = base.map(|_| iter::once(place).collect());
		let reader = Box::new(Noise { logical_bytes: self.logical_bytes, changed });
		let recipient = self.identity.to_public().to_string();
		let recipients = [recipient.parse().map_err(anyhow::Error::new)?];
		let session = store.open_session()?;
		let backup = Backup {
			genesis: [0; 32],
			node: OpaqueId::of(&1u32).map_err(anyhow::Error::new)?,
			request: OpaqueId::of(&1u32).map_err(anyhow::Error::new)?,
			sequence,
			taken_at_ms: 0,
			consistency: Consistency::Stopped,
			base: base.map(|root| Base { root }),
			geometry: Geometry::V1,
			key: &self.key,
			// What the disk was before is not remembered, so samples would find other bytes.
			samples: 0,
			compression: Compression::DEFAULT,
			recipients: &recipients,
			session: &*session,
			repository: store,
			threads: self.threads,
			on_progress: &|_| {},
			cancel: &Cancel::new(),
		};
		let report =
			backup.run(vec![Disk { name: "vda".into(), reader, changed: written }], vec![])?;
		session.pin(&report.root, b"bench")?;
		Ok(report.root)
	}

	fn open(&self, store: &EmbeddedStore, root: &Cid) -> anyhow::Result<Root> {
		Ok(open_root(store, root)?.open_with_identity(&self.identity)?)
	}
}

/// The agent that serves the store.
struct Agent {
	process: Child,
	gateway: String,
}

impl Agent {
	fn start(state: &Path) -> anyhow::Result<Self> {
		let (listen, gateway) = (free_port()?, free_port()?);
		let program = env!("CARGO_BIN_EXE_backup-agent");
		let command = |verb: &str| {
			let mut command = Command::new(program);
			command.arg(verb).arg("--state-dir").arg(state).env("RUST_LOG", "warn");
			command.args(["--listen", &format!("127.0.0.1:{listen}")]);
			command.stdin(Stdio::null());
			command
		};
		anyhow::ensure!(command("init").output()?.status.success(), "the agent makes no keys");
		let process = command("run")
			.args(["--gateway-listen", &format!("127.0.0.1:{gateway}"), "--gateway-open", "true"])
			.spawn()?;
		let agent = Self { process, gateway: format!("http://127.0.0.1:{gateway}") };
		let deadline = Instant::now() + START_TIME_MAX;
		while TcpStream::connect(("127.0.0.1", gateway)).is_err() {
			anyhow::ensure!(Instant::now() < deadline, "the agent does not listen");
			thread::sleep(Duration::from_millis(10));
		}
		Ok(agent)
	}
}

impl Drop for Agent {
	fn drop(&mut self) {
		let _ = self.process.kill();
		let _ = self.process.wait();
	}
}

fn free_port() -> io::Result<u16> {
	Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Fetches snapshots, each pinned when it is whole, and says what came.
fn fetch(
	peers: &Peers,
	session: &dyn Session,
	roots: &[Cid],
	threads: NonZero<usize>,
) -> anyhow::Result<u64> {
	let fetched = AtomicU64::new(0);
	for root in roots {
		let before = fetched.load(Ordering::Relaxed);
		let count = |progress: Progress| {
			fetched.store(before + progress.written_bytes, Ordering::Relaxed);
		};
		copy(peers, session, root, threads, &count, &Cancel::new())?;
		session.flush()?;
		session.pin(root, b"bench")?;
	}
	Ok(fetched.into_inner())
}

fn main() -> anyhow::Result<()> {
	let arguments: Vec<String> =
		std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
	let number = |place: usize, default: u64| {
		arguments.get(place).map_or(Ok(default), |number| number.parse())
	};
	let (mebibytes, snapshots): (u64, u64) = (number(0, 64)?, number(1, 10)?);
	let parent = arguments.get(2).map_or_else(std::env::temp_dir, PathBuf::from);
	let folder = tempfile::tempdir_in(parent)?;
	let host = Host {
		key: RepositoryKey::generate(),
		identity: age::x25519::Identity::generate(),
		threads: thread::available_parallelism()?,
		logical_bytes: mebibytes * MIB,
	};
	let state = folder.path().join("host");
	let mut roots = Vec::new();
	{
		fs::create_dir(&state)?;
		let store = EmbeddedStore::open(&state.join("blocks"), StoreOptions::V1)?;
		roots.push(host.backup(&store, 0, None)?);
		for sequence in 1..=snapshots {
			let base = host.open(&store, roots.last().expect("there is a first"))?;
			roots.push(host.backup(&store, sequence, Some(&base))?);
		}
	}
	for entry in fs::read_dir(state.join("blocks"))? {
		io::copy(&mut File::open(entry?.path())?, &mut io::sink())?;
	}
	let agent = Agent::start(&state)?;
	let gateway = GatewayClient::new(Reach::All)?.gateway(&agent.gateway, None)?;
	let peers = Peers::new([gateway]);
	let store = EmbeddedStore::open(&folder.path().join("holder"), StoreOptions::V1)?;
	let session = store.open_session()?;

	let begin = Instant::now();
	let bytes = fetch(&peers, &*session, &roots[..1], host.threads)?;
	let seconds = begin.elapsed().as_secs_f64();
	let rate = bytes as f64 / 1e6 / seconds;
	println!("first snapshot     {bytes} bytes in {seconds:.2} s, {rate:.0} MB/s");

	let behind: Vec<Cid> = roots[1..].iter().rev().copied().collect();
	let begin = Instant::now();
	let bytes = fetch(&peers, &*session, &behind, host.threads)?;
	let seconds = begin.elapsed().as_secs_f64();
	println!("{snapshots} snapshots behind  {bytes} bytes in {seconds:.2} s");
	let (ours, theirs) = (peak_mib("self"), peak_mib(&agent.process.id().to_string()));
	println!("peak of memory     holder {ours} MiB, host {theirs} MiB");
	Ok(())
}
