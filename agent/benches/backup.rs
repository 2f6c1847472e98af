//! Backs a raw image up, changes a little, backs it up again, restores it; prints MB/s and the
//! peak of memory.
//!
//! ```text
//! cargo bench -p backup-agent --bench backup -- [gibibytes] [folder]
//! cargo bench -p backup-agent --bench backup -- image FILE [folder]
//! cargo bench -p backup-agent --bench backup -- machine FILE [folder]
//! cargo bench -p backup-agent --bench backup -- growth [folder]
//! ```
//! The second form backs an image up that is there, as a file, and restores it. Before that it
//! does the same work without tree, index and order of writes, to tell what those cost.
//!
//! The third form backs it up as the disk of a machine that runs, writes 64 KiB of random bytes to
//! 1,100 random places of it through QEMU, backs up what QEMU recorded of that, and restores it with
//! the store in the page cache. It changes the image.
//!
//! The fourth form does that with disks of 10, 30 and 100 GiB that hold the same 2 GiB, to tell what
//! grows with the size of a disk.
//!
//! In the first form the image is half compressible, without zeros or repetitions. It is read from the page cache:
//! as a file, which shows the pipeline and the store by themselves; as the disk of a machine that
//! is off; and as the disk of one that runs. Every backup ends with a durable pin.

mod memory;

use backup_agent::{
	format::{Compression, Geometry, RepositoryKey, Root, Sealer, digest},
	pipeline::{Backup, BackupReport, Base, Cancel, Disk, DiskReader, Restore, open_root},
	repositories::{Chunks, EmbeddedStore, Repository, StoreOptions, verify},
	sources::{self, Checkpoint, ImageFormat, Leftovers, OpenOptions, Vm, qmp::Monitor},
	targets::RawTarget,
};
use backup_primitives::{Consistency, OpaqueId, VmTag};
use memory::peak_mib;
use serde_json::json;
use std::{
	fs::{self, File},
	io::{self, Write},
	num::NonZero,
	ops::Range,
	os::unix::fs::FileExt,
	path::{Path, PathBuf},
	process::{Child, Command, Stdio},
	sync::{
		Mutex,
		atomic::{AtomicU64, Ordering},
	},
	thread,
	time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;

/// Identity of the machine.
const TAG: VmTag = VmTag([7; 16]);

struct RawFile(File, u64);

impl DiskReader for RawFile {
	fn logical_bytes(&self) -> u64 {
		self.1
	}

	fn next_extent(&mut self, from: u64) -> io::Result<Option<Range<u64>>> {
		Ok((from < self.1).then_some(from..self.1))
	}

	fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
		self.0.read_exact_at(buffer, offset)
	}
}

/// A mebibyte that follows from its number: of each 64 bytes half are random, half are words
/// of a text.
fn mebibyte(number: u64) -> Vec<u8> {
	let words = b"the quick brown fox jumps over the lazy dog while systemd starts ";
	let mut bytes = vec![0; MIB as usize];
	blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
	for (index, line) in bytes.chunks_exact_mut(4096).enumerate() {
		let at = index % 32;
		for half in line[..2048].chunks_mut(32) {
			half.copy_from_slice(&words[at..at + 32]);
		}
	}
	bytes
}

fn make_image(path: &Path, mebibytes: u64) -> io::Result<()> {
	let mut file = io::BufWriter::new(File::create(path)?);
	for number in 0..mebibytes {
		file.write_all(&mebibyte(number))?;
	}
	file.into_inner()?.sync_all()
}

/// Rewrites one block of 4 KiB in every 64 MiB, and one run of 1 % of the image.
fn change_image(path: &Path, mebibytes: u64) -> io::Result<()> {
	let file = File::options().write(true).open(path)?;
	for at in (0..mebibytes).step_by(64) {
		file.write_all_at(&mebibyte(at + 1_000_000)[2048..6144], at * MIB + 8192)?;
	}
	for at in mebibytes / 2..mebibytes / 2 + mebibytes / 100 {
		file.write_all_at(&mebibyte(at + 2_000_000), at * MIB)?;
	}
	Ok(())
}

struct Bench {
	store: EmbeddedStore,
	key: RepositoryKey,
	identity: age::x25519::Identity,
	image: PathBuf,
	threads: NonZero<usize>,
}

impl Bench {
	fn new(folder: &Path, store: &str) -> anyhow::Result<Self> {
		Ok(Self {
			store: EmbeddedStore::open(&folder.join(store), StoreOptions::V1)?,
			key: RepositoryKey::generate(),
			identity: age::x25519::Identity::generate(),
			image: folder.join("image.raw"),
			threads: thread::available_parallelism()?,
		})
	}

	/// The image as a file.
	fn backup_file(&self, base: Option<&Root>) -> anyhow::Result<BackupReport> {
		let file = File::open(&self.image)?;
		let len = file.metadata()?.len();
		self.backup(Box::new(RawFile(file, len)), base, None)
	}

	/// The image as the disk of a machine that runs if there is a control socket: all of it.
	fn backup_machine(&self, qmp: Option<PathBuf>) -> anyhow::Result<BackupReport> {
		Ok(self.backup_since(qmp, None)?.0)
	}

	/// The same, but no more than was written since the base, if there is one; and what the next
	/// one counts from.
	fn backup_since(
		&self,
		qmp: Option<PathBuf>,
		base: Option<(&Root, Checkpoint)>,
	) -> anyhow::Result<(BackupReport, Option<Checkpoint>)> {
		let image = self.image.clone();
		let disk =
			sources::Disk { name: "vda".into(), image, format: ImageFormat::Raw, skip: false };
		let vm = Vm {
			uuid: TAG,
			qmp,
			guest_agent: None,
			libvirt: None,
			libvirt_uri: None,
			disks: vec![disk],
			files: Vec::new(),
			hooks: None,
		};
		let folder = self.image.parent().expect("the image lies in a folder");
		let known: Vec<Checkpoint> = base.iter().map(|(_, checkpoint)| *checkpoint).collect();
		let mut open = vm.open(
			TAG,
			&known,
			&OpenOptions {
				scratch_dir: folder.to_owned(),
				scratch_bytes_max: 1 << 30,
				freeze_time_max: Duration::from_secs(1),
				leftovers: Leftovers::default(),
			},
		)?;
		let disk = open.disks.remove(0);
		anyhow::ensure!(disk.written.is_some() == base.is_some(), "the record of writes is lost");
		let root = base.map(|(root, _)| root);
		let report = self.backup(disk.reader, root, disk.written)?;
		let checkpoint = open.checkpoint;
		open.close()?;
		vm.settle(checkpoint.as_slice())?;
		Ok((report, checkpoint))
	}

	fn backup(
		&self,
		reader: Box<dyn DiskReader>,
		base: Option<&Root>,
		changed: Option<Vec<Range<u64>>>,
	) -> anyhow::Result<BackupReport> {
		let recipient = self.identity.to_public().to_string();
		let recipients = [recipient.parse().map_err(anyhow::Error::new)?];
		let session = self.store.open_session()?;
		let backup = Backup {
			genesis: [0; 32],
			node: OpaqueId::of(&1u32).map_err(anyhow::Error::new)?,
			request: OpaqueId::of(&1u32).map_err(anyhow::Error::new)?,
			sequence: 0,
			taken_at_ms: 0,
			consistency: Consistency::Stopped,
			base: base.map(|root| Base { root }),
			geometry: Geometry::V1,
			key: &self.key,
			samples: 64,
			compression: Compression::DEFAULT,
			recipients: &recipients,
			session: &*session,
			repository: &self.store,
			threads: self.threads,
			on_progress: &|_| {},
			cancel: &Cancel::new(),
		};
		let report = backup.run(vec![Disk { name: "vda".into(), reader, changed }], vec![])?;
		session.pin(&report.root, b"bench")?;
		Ok(report)
	}

	fn open(&self, report: &BackupReport) -> anyhow::Result<Root> {
		Ok(open_root(&self.store, &report.root)?.open_with_identity(&self.identity)?)
	}

	/// Tells besides how long it took until all was written, before the sync.
	fn restore(&self, root: &Root, path: &Path) -> anyhow::Result<()> {
		let (begin, written) = (Instant::now(), Mutex::new(Duration::ZERO));
		let restore = Restore {
			repository: &self.store,
			geometry: root.geometry,
			object: &root.disks[0],
			threads: self.threads,
			on_progress: &|_| *written.lock().expect("no thread panics") = begin.elapsed(),
			cancel: &Cancel::new(),
		};
		restore.run(&mut RawTarget::create(path)?)?;
		let written = written.into_inner()?.as_secs_f64();
		println!("restore, written   {written:>6.2} s");
		Ok(())
	}
}

/// A QEMU that has the image for a disk, and nothing to boot.
struct Machine(Child);

impl Machine {
	fn start(image: &Path, qmp: &Path) -> anyhow::Result<Self> {
		let qemu = Command::new("qemu-system-x86_64")
			.args(["-machine", "q35", "-accel", "tcg", "-m", "64", "-nodefaults"])
			.args(["-display", "none", "-uuid", &TAG.to_string()])
			.arg("-blockdev")
			.arg(format!(
				"driver=raw,node-name=d0,file.driver=file,file.filename={}",
				image.display()
			))
			.args(["-device", "virtio-blk-pci,drive=d0,id=disk0"])
			.arg("-qmp")
			.arg(format!("unix:{},server=on,wait=off", qmp.display()))
			.stdin(Stdio::null())
			.spawn()?;
		let machine = Self(qemu);
		let deadline = Instant::now() + Duration::from_secs(30);
		while !Monitor::connect(qmp).is_ok_and(|monitor| monitor.is_some()) {
			anyhow::ensure!(Instant::now() < deadline, "QEMU did not start");
		}
		Ok(machine)
	}
}

impl Drop for Machine {
	fn drop(&mut self) {
		let _ = self.0.kill();
		let _ = self.0.wait();
	}
}

fn timed<T>(what: &str, bytes: u64, work: impl FnOnce() -> T) -> T {
	let (start, cpu_start) = (Instant::now(), cpu_seconds());
	let value = work();
	let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu_start);
	let megabytes = bytes as f64 / 1e6;
	let (rate, cpu_rate) = (megabytes / seconds, megabytes / cpu);
	let peak = peak_mib("self");
	println!(
		"{what:<18} {seconds:>6.2} s {rate:>6.0} MB/s  \
		 {cpu:>6.2} CPU s {cpu_rate:>6.0} MB/CPU s  peak {peak} MiB"
	);
	value
}

/// Processor time of all threads so far: on a busy machine the better measure.
fn cpu_seconds() -> f64 {
	let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
	let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
	let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
	ticks.sum::<f64>() / 100.0
}

/// How long each of the bare stages took, all threads together, in nanoseconds.
#[derive(Default)]
struct Stages {
	read: AtomicU64,
	zero: AtomicU64,
	id: AtomicU64,
	seal: AtomicU64,
	hash: AtomicU64,
	write: AtomicU64,
}

impl Stages {
	fn timed<T>(stage: &AtomicU64, work: impl FnOnce() -> T) -> T {
		let begin = Instant::now();
		let value = work();
		stage.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
		value
	}

	fn show(&self) {
		let stages = [
			("read", &self.read),
			("tell zeros", &self.zero),
			("name (BLAKE3)", &self.id),
			("compress and seal", &self.seal),
			("hash (SHA-256)", &self.hash),
			("write", &self.write),
		];
		for (name, nanoseconds) in stages {
			let seconds = nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
			println!("  {name:<18} {seconds:>6.2} s of all threads");
		}
	}
}

/// All stages of a backup and nothing else: chunks in any order, into one file.
fn bare(image: &Path, out: &Path, threads: NonZero<usize>) -> anyhow::Result<u64> {
	let chunk_bytes = u64::from(Geometry::V1.chunk_bytes());
	let (image, key) = (File::open(image)?, RepositoryKey::generate());
	let len = image.metadata()?.len();
	let (next, stages) = (AtomicU64::new(0), Stages::default());
	let out = Mutex::new((File::create(out)?, 0));
	let work = || -> io::Result<()> {
		let (mut sealer, mut chunk) = (Sealer::new(&key), vec![0; chunk_bytes as usize]);
		loop {
			let offset = next.fetch_add(chunk_bytes, Ordering::Relaxed);
			let Some(left) = len.checked_sub(offset).filter(|left| *left > 0) else {
				return Ok(());
			};
			chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
			Stages::timed(&stages.read, || image.read_exact_at(&mut chunk, offset))?;
			if Stages::timed(&stages.zero, || is_zero(&chunk)) {
				continue;
			}
			Stages::timed(&stages.id, || std::hint::black_box(sealer.chunk_id(&chunk)));
			let (block, _) = Stages::timed(&stages.seal, || sealer.chunk(&chunk));
			Stages::timed(&stages.hash, || std::hint::black_box(digest(block)));
			Stages::timed(&stages.write, || -> io::Result<()> {
				let mut out = out.lock().expect("no thread panics");
				out.0.write_all(block)?;
				out.1 += block.len() as u64;
				Ok(())
			})?;
		}
	};
	thread::scope(|scope| {
		let threads: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
		threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
	})?;
	let (file, bytes) = out.into_inner().expect("no thread panics");
	Stages::timed(&stages.write, || file.sync_all())?;
	stages.show();
	Ok(bytes)
}

fn is_zero(bytes: &[u8]) -> bool {
	let (blocks, rest) = bytes.as_chunks::<128>();
	blocks.iter().all(|block| *block == [0; 128]) && rest.iter().all(|byte| *byte == 0)
}

/// Backs an image up that is there, with its holes, and restores it.
fn given_image(image: &Path, parent: &Path) -> anyhow::Result<()> {
	let folder = tempfile::tempdir_in(parent)?;
	let bench = Bench { image: image.to_owned(), ..Bench::new(folder.path(), "store")? };
	let bytes = fs::metadata(image)?.len();
	let out = folder.path().join("bare");
	let stored = timed("bare stages", bytes, || bare(image, &out, bench.threads))?;
	println!("  {stored} bytes");
	fs::remove_file(out)?;
	let first = timed("first backup", bytes, || bench.backup_file(None))?;
	println!("  {:?}", first.stored);
	let root = bench.open(&first)?;
	let restored = folder.path().join("restored.raw");
	timed("restore, synced", bytes, || bench.restore(&root, &restored))?;
	fs::remove_file(restored)?;
	let second = timed("second, unchanged", bytes, || bench.backup_file(Some(&root)))?;
	println!("  {:?}", second.stored);
	Ok(())
}

/// Backs an image up as the disk of a machine that runs, twice, with writes in between.
fn given_machine(image: &Path, parent: &Path) -> anyhow::Result<()> {
	let folder = tempfile::tempdir_in(parent)?;
	let image = fs::canonicalize(image)?;
	let bench = Bench { image: image.clone(), ..Bench::new(folder.path(), "store")? };
	let bytes = fs::metadata(&image)?.len();
	let qmp = folder.path().join("qmp");
	let machine = Machine::start(&image, &qmp)?;
	let stored = || bench.store.usage().map(|usage| usage.bytes);
	let (first, checkpoint) =
		timed("first backup", bytes, || bench.backup_since(Some(qmp.clone()), None))?;
	println!("  {:?}\n  {} bytes in the store", first.stored, stored()?);
	let checkpoint = checkpoint.ok_or_else(|| anyhow::anyhow!("nothing records the writes"))?;
	write_randomly(&qmp, folder.path(), bytes)?;
	let root = bench.open(&first)?;
	let (second, _) = timed("second backup", bytes, || {
		bench.backup_since(Some(qmp.clone()), Some((&root, checkpoint)))
	})?;
	println!("  {:?}\n  {} bytes in the store", second.stored, stored()?);
	drop(machine);
	let root = bench.open(&second)?;
	let restored = folder.path().join("restored.raw");
	warm(&folder.path().join("store"))?;
	timed("restore, synced", bytes, || bench.restore(&root, &restored))?;
	let same = Command::new("cmp").args([&restored, &image]).status()?;
	anyhow::ensure!(same.success(), "another disk came back");
	println!("the disk came back");
	Ok(())
}

/// Reads all files of a folder, so that they are in the page cache, where those who write through
/// it have them.
fn warm(folder: &Path) -> io::Result<()> {
	for entry in fs::read_dir(folder)? {
		io::copy(&mut File::open(entry?.path())?, &mut io::sink())?;
	}
	Ok(())
}

/// The same amount of data and of changes on disks of several sizes.
fn growth(parent: &Path) -> anyhow::Result<()> {
	const DATA_MEBIBYTES: u64 = 2048;
	for gibibytes in [10, 30, 100] {
		let folder = tempfile::tempdir_in(parent)?;
		let image = folder.path().join("image.raw");
		let file = File::create(&image)?;
		file.set_len(gibibytes << 30)?;
		let apart = (gibibytes << 30) / DATA_MEBIBYTES;
		for number in 0..DATA_MEBIBYTES {
			file.write_all_at(&mebibyte(number), number * apart)?;
		}
		file.sync_all()?;
		println!("== {gibibytes} GiB");
		given_machine(&image, folder.path())?;
	}
	Ok(())
}

/// Writes to random places of the machine's disk, through QEMU.
fn write_randomly(qmp: &Path, folder: &Path, disk_bytes: u64) -> anyhow::Result<()> {
	const WRITES: usize = 1100;
	const WRITE_BYTES: usize = 64 << 10;
	let mut monitor =
		Monitor::connect(qmp)?.ok_or_else(|| anyhow::anyhow!("the machine is off"))?;
	let blocks = monitor.run("query-block", json!({}))?;
	let device = blocks[0]["qdev"].as_str().ok_or_else(|| anyhow::anyhow!("no disk"))?;
	for number in 0..WRITES {
		let file = folder.join(format!("random-{number}"));
		let mut noise = vec![0; WRITE_BYTES];
		rand::fill(&mut noise[..]);
		fs::write(&file, noise)?;
		let places = disk_bytes / 4096 - WRITE_BYTES as u64 / 4096;
		let place = rand::random_range(0..places) * 4096;
		let write = format!("write -q -s {} {place} {WRITE_BYTES}", file.display());
		let line = format!("qemu-io -d {device} \"{write}\"");
		let answer = monitor.run("human-monitor-command", json!({ "command-line": line }))?;
		let words = answer.as_str().unwrap_or_default().trim();
		anyhow::ensure!(words.is_empty(), "qemu-io: {words}");
	}
	Ok(())
}

fn main() -> anyhow::Result<()> {
	let arguments: Vec<String> =
		std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
	if let [word, folder @ ..] = arguments.as_slice()
		&& word == "growth"
	{
		return growth(&folder.first().map_or_else(std::env::temp_dir, PathBuf::from));
	}
	if let [word, image, folder @ ..] = arguments.as_slice() {
		let (image, parent) = (Path::new(image), folder.first());
		let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
		match word.as_str() {
			"image" => return given_image(image, &parent),
			"machine" => return given_machine(image, &parent),
			_ => (),
		}
	}
	let gibibytes: u64 = arguments.first().map_or(Ok(1), |number| number.parse())?;
	let parent = arguments.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
	let folder = tempfile::tempdir_in(parent)?;
	let bench = Bench::new(folder.path(), "store")?;
	let bytes = gibibytes << 30;
	make_image(&bench.image, bytes / MIB)?;
	println!("{gibibytes} GiB, {} threads", bench.threads);

	let off = Bench::new(folder.path(), "off")?;
	timed("machine off", bytes, || off.backup_machine(None))?;
	fs::remove_dir_all(folder.path().join("off"))?;
	let running = Bench::new(folder.path(), "running")?;
	let qmp = folder.path().join("qmp");
	let machine = Machine::start(&bench.image, &qmp)?;
	timed("machine running", bytes, || running.backup_machine(Some(qmp)))?;
	drop(machine);
	fs::remove_dir_all(folder.path().join("running"))?;

	let first = timed("first backup", bytes, || bench.backup_file(None))?;
	println!("  {:?}", first.stored);
	let root = bench.open(&first)?;
	change_image(&bench.image, bytes / MIB)?;
	let second = timed("second backup", bytes, || bench.backup_file(Some(&root)))?;
	println!("  {:?}", second.stored);
	let root = bench.open(&second)?;
	let restored = folder.path().join("restored.raw");
	timed("restore, synced", bytes, || bench.restore(&root, &restored))?;
	let report = timed("verify", second.stored.new_bytes.max(first.stored.new_bytes), || {
		verify(&bench.store, &second.root, Chunks::Hashed, &mut |_| true)
	})?;
	println!("  {} good blocks, {} bad", report.good_blocks, report.bad_blocks);
	bench.store.unpin(&second.root)?;
	let collected = timed("collect the second", 0, || bench.store.collect())?;
	println!("  {collected:?}");
	Ok(())
}
