//! The block store by itself: collections, a rebuild of the index, and what a very large index
//! takes.
//!
//! ```text
//! cargo bench -p backup-agent --bench store -- collect [blocks] [folder]
//! cargo bench -p backup-agent --bench store -- rebuild [gibibytes] [folder]
//! cargo bench -p backup-agent --bench store -- rebuild-sparse [gibibytes] [folder]
//! cargo bench -p backup-agent --bench store -- index [million blocks] [folder]
//! ```
//! Blocks are noise of 32 KiB, but for `index`, where they are tiny, so that 40 million fit the
//! disk. Trees are real: nodes of 64 children, sealed. `rebuild` drops the page cache if it may
//! and reads the same files once more with nothing else to do, to tell how fast the disk is.
//! `rebuild-sparse` stores blocks that are zero but for a number, and digs holes where they are, so
//! that a large store fits a small disk: it shows memory and what the processor does.

mod memory;

use backup_agent::{
	format::{ChildRef, Cid, Geometry, Node, RepositoryKey, Sealer, digest},
	repositories::{EmbeddedStore, Repository, Session, StoreOptions},
};
use memory::peak_mib;
use std::{
	fs,
	io::Read,
	path::{Path, PathBuf},
	process::Command,
	sync::atomic::{AtomicBool, AtomicU64, Ordering},
	thread,
	time::Instant,
};

/// Bytes of a block where it matters.
const BLOCK_BYTES: usize = 32 * 1024;

/// What makes one store after the other, from blocks whose bytes follow from their numbers.
struct Trees {
	sealer: Sealer,
	block_bytes: usize,
	/// Whether blocks are zero but for their numbers.
	is_sparse: bool,
}

impl Trees {
	fn new(block_bytes: usize) -> Self {
		let sealer = Sealer::new(&RepositoryKey::generate());
		Self { sealer, block_bytes, is_sparse: block_bytes <= 64 }
	}

	/// Stores as many chunks as a range has numbers, the nodes above them, and gives the root.
	fn store(
		&mut self,
		session: &dyn Session,
		numbers: std::ops::Range<u64>,
	) -> anyhow::Result<Cid> {
		let (fan_out, id) = (u64::from(Geometry::V1.fan_out()), self.sealer.chunk_id(&[]));
		let (_, key) = self.sealer.chunk(&[]);
		let mut level = Vec::new();
		let mut first = numbers.start;
		while first < numbers.end {
			let mut node = Node::empty(Geometry::V1);
			for (place, number) in (first..numbers.end.min(first + fan_out)).enumerate() {
				let block = self.block(number);
				let cid = Cid::raw(digest(&block));
				session.put_unchecked(&cid, &block)?;
				node.children[place] = Some(ChildRef { cid, key: key.clone(), id });
			}
			level.push(self.node(session, &node)?);
			first += fan_out;
		}
		while level.len() > 1 {
			let mut above = Vec::new();
			for children in level.chunks(fan_out as usize) {
				let mut node = Node::empty(Geometry::V1);
				let children = children.iter().cloned().map(Some);
				node.children.iter_mut().zip(children).for_each(|(place, child)| *place = child);
				above.push(self.node(session, &node)?);
			}
			level = above;
		}
		Ok(level.remove(0).cid)
	}

	fn block(&self, number: u64) -> Vec<u8> {
		let mut bytes = vec![0; self.block_bytes];
		let name = number.to_le_bytes();
		match self.is_sparse {
			true => bytes[..name.len()].copy_from_slice(&name),
			false => blake3::Hasher::new().update(&name).finalize_xof().fill(&mut bytes),
		}
		bytes
	}

	fn node(&mut self, session: &dyn Session, node: &Node) -> anyhow::Result<ChildRef> {
		let (block, child) = node.seal(&mut self.sealer);
		session.put_unchecked(&child.cid, &block)?;
		Ok(child)
	}

	/// The same, pinned.
	fn keep(
		&mut self,
		store: &EmbeddedStore,
		numbers: std::ops::Range<u64>,
	) -> anyhow::Result<Cid> {
		let session = store.open_session()?;
		let root = self.store(&*session, numbers)?;
		session.pin(&root, b"bench")?;
		Ok(root)
	}
}

/// Half of the blocks go while a backup writes others.
fn collect(blocks: u64, folder: &Path) -> anyhow::Result<()> {
	let store = EmbeddedStore::open(folder, StoreOptions::V1)?;
	let mut trees = Trees::new(BLOCK_BYTES);
	// The dead and the living stand side by side, as they do after a while.
	let part = blocks / 16;
	let mut dead = Vec::new();
	for number in 0..16 {
		let root = trees.keep(&store, number * part..(number + 1) * part)?;
		if number % 2 == 0 {
			dead.push(root);
		}
	}
	for root in &dead {
		store.unpin(root)?;
	}
	let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
	let (collected, seconds) = thread::scope(|scope| {
		let backup = scope.spawn(|| -> anyhow::Result<()> {
			let mut trees = Trees::new(BLOCK_BYTES);
			let session = store.open_session()?;
			let mut first = blocks;
			while !stop.load(Ordering::Relaxed) {
				trees.store(&*session, first..first + 64)?;
				first += 64;
				written.fetch_add(64 * BLOCK_BYTES as u64, Ordering::Relaxed);
			}
			Ok(())
		});
		let begin = Instant::now();
		let collected = store.collect();
		let seconds = begin.elapsed().as_secs_f64();
		stop.store(true, Ordering::Relaxed);
		backup.join().expect("the backup's thread does not panic")?;
		anyhow::Ok((collected?, seconds))
	})?;
	println!(
		"collect: {} of {blocks} blocks, {:.2} GB, in {seconds:.2} s; the backup beside it wrote \
		 {:.0} MB/s; peak {} MiB",
		collected.blocks,
		collected.bytes as f64 / 1e9,
		written.load(Ordering::Relaxed) as f64 / 1e6 / seconds,
		peak_mib("self")
	);
	Ok(())
}

/// The index is gone, and made again from the packs.
fn rebuild(gibibytes: u64, folder: &Path, is_sparse: bool) -> anyhow::Result<()> {
	const GIBIBYTE_BLOCKS: u64 = (1 << 30) / BLOCK_BYTES as u64;
	let store = EmbeddedStore::open(folder, StoreOptions::V1)?;
	let mut trees = Trees { is_sparse, ..Trees::new(BLOCK_BYTES) };
	for number in 0..gibibytes {
		trees.keep(&store, number * GIBIBYTE_BLOCKS..(number + 1) * GIBIBYTE_BLOCKS)?;
		if is_sparse {
			dig_holes(folder)?;
		}
	}
	drop(store);
	let bytes = drop_caches_and_read(folder)?;
	fs::remove_file(folder.join("index.redb"))?;
	drop_caches();
	let begin = Instant::now();
	let store = EmbeddedStore::open(folder, StoreOptions::V1)?;
	let seconds = begin.elapsed().as_secs_f64();
	println!(
		"rebuild: {} blocks, {:.2} GB, in {seconds:.2} s, {:.0} MB/s; peak {} MiB",
		store.usage()?.blocks,
		bytes as f64 / 1e9,
		bytes as f64 / 1e6 / seconds,
		peak_mib("self")
	);
	Ok(())
}

/// Gives back what is zero in the packs that were written last.
fn dig_holes(folder: &Path) -> anyhow::Result<()> {
	const NEW_PACKS: usize = 6;
	let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
	let mut packs = paths.collect::<std::io::Result<Vec<PathBuf>>>()?;
	packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
	packs.sort();
	for pack in packs.iter().rev().take(NEW_PACKS) {
		let done = Command::new("fallocate").arg("--dig-holes").arg(pack).status()?;
		anyhow::ensure!(done.success(), "no holes can be dug in {}", pack.display());
	}
	Ok(())
}

/// Reads the packs with nothing else to do.
fn drop_caches_and_read(folder: &Path) -> anyhow::Result<u64> {
	let is_cold = drop_caches();
	let begin = Instant::now();
	let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
	for entry in fs::read_dir(folder)? {
		let path = entry?.path();
		if path.extension().is_some_and(|extension| extension == "pack") {
			let mut file = fs::File::open(path)?;
			loop {
				match file.read(&mut buffer)? {
					0 => break,
					read => bytes += read as u64,
				}
			}
		}
	}
	let seconds = begin.elapsed().as_secs_f64();
	let from = if is_cold { "disk" } else { "page cache" };
	println!("the {from} reads {:.0} MB/s", bytes as f64 / 1e6 / seconds);
	Ok(bytes)
}

/// Needs root. Says whether it was done.
fn drop_caches() -> bool {
	Command::new("sync").status().is_ok() && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// As many blocks as 10 TiB have, and a collection of half of them.
fn index(millions: u64, folder: &Path) -> anyhow::Result<()> {
	let blocks = millions * 1_000_000;
	let store = EmbeddedStore::open(folder, StoreOptions::V1)?;
	let mut trees = Trees::new(16);
	let begin = Instant::now();
	let dead = trees.keep(&store, 0..blocks / 2)?;
	trees.keep(&store, blocks / 2..blocks)?;
	let seconds = begin.elapsed().as_secs_f64();
	println!("{blocks} blocks stored in {seconds:.0} s; peak {} MiB", peak_mib("self"));
	store.unpin(&dead)?;
	let begin = Instant::now();
	let collected = store.collect()?;
	let seconds = begin.elapsed().as_secs_f64();
	println!(
		"collect: {} blocks in {seconds:.0} s; peak {} MiB",
		collected.blocks,
		peak_mib("self")
	);
	drop(store);
	let begin = Instant::now();
	let store = EmbeddedStore::open(folder, StoreOptions::V1)?;
	let milliseconds = begin.elapsed().as_millis();
	println!("opened with {} blocks in {milliseconds} ms", store.usage()?.blocks);
	let index_bytes = fs::metadata(folder.join("index.redb"))?.len();
	println!("the index has {:.2} GB", index_bytes as f64 / 1e9);
	Ok(())
}

fn main() -> anyhow::Result<()> {
	let arguments: Vec<String> =
		std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
	let number = |default| arguments.get(1).map_or(Ok(default), |number| number.parse());
	let parent = arguments.get(2).map_or_else(std::env::temp_dir, PathBuf::from);
	let folder = tempfile::tempdir_in(parent)?;
	match arguments.first().map(String::as_str) {
		Some("collect") => collect(number(100_000)?, folder.path()),
		Some("rebuild") => rebuild(number(4)?, folder.path(), false),
		Some("rebuild-sparse") => rebuild(number(100)?, folder.path(), true),
		Some("index") => index(number(40)?, folder.path()),
		_ => anyhow::bail!("say collect, rebuild, rebuild-sparse or index"),
	}
}
