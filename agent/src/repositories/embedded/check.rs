//! Comparing a store with itself, without any key.
//!
//! 1. *Blocks.* Every block that the index names is read and hashed, pack by pack in the order
//!    of the disk. What lies between them is looked at too.
//! 2. *Nodes.* A node is incomplete when something below it is missing or damaged.
//! 3. *Roots.* A pinned root is lost when it is missing, damaged or incomplete.
//!
//! It runs beside backups and collections: the gate is held for one block at a time, each place
//! is looked up again before it is read, and what was removed meanwhile is passed over. Memory
//! goes to the entries of a few packs, to all nodes, as in a collection, and to a bounded number
//! of damaged blocks.

use crate::{
	format::{BLOCK_BYTES_MAX, Cid, digest, links},
	repositories::{
		RepositoryError,
		embedded::{
			Shared,
			collect::scan,
			files::StoreFile,
			index::{DeadRun, Entry, Flaw, PackState, is_damage},
			is_node, lock,
			record::{HEADER_BYTES, Header, Kind, find_magic},
		},
	},
};
use backup_primitives::cid::BlockCodec;
use std::{
	collections::{BTreeMap, BTreeSet, HashMap, HashSet},
	io,
	ops::RangeInclusive,
};

/// Blocks whose entries are held at once: 64 MiB of them.
const GROUP_BLOCKS: u64 = 1 << 20;

/// Damaged blocks after which a check goes no further. A repair notes those and begins again.
const DAMAGED_MAX: usize = 1 << 20;

/// Most blocks of a kind that a report names. The counts go on.
const REPORTED_BLOCKS_MAX: usize = 1000;

type Digest = [u8; 32];

/// What a check found. Lists name the first thousand; the counts go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
	/// Blocks that are there and are what their digests say.
	pub good_blocks: u64,
	/// Bytes of those.
	pub good_bytes: u64,
	/// Blocks whose bytes are gone, unreadable or other than their digests say.
	pub damaged_blocks: u64,
	/// The first of those.
	pub damaged: Vec<Cid>,
	/// Nodes that are good themselves, while something below them is missing or damaged.
	pub incomplete_nodes: u64,
	/// The first of those.
	pub incomplete: Vec<Cid>,
	/// Pinned roots that cannot be restored in full.
	pub lost_roots: Vec<Cid>,
	/// Good blocks whose record header is damaged: a rebuild of the index would miss them.
	pub bad_headers: u64,
	/// Bytes in packs that are no record and that nobody needs, such as damage leaves behind.
	pub unknown_bytes: u64,
	/// Findings that a repair would note: everything else is known already.
	pub unnoted: u64,
	/// Whether the index itself may be damaged, rather than the packs.
	pub is_index_suspect: bool,
	/// Whether everything was looked at.
	pub is_finished: bool,
}

impl StoreReport {
	/// Whether everything was looked at and all of it is there. Unknown bytes do no harm.
	pub fn is_good(&self) -> bool {
		self.is_finished
			&& !self.is_index_suspect
			&& self.damaged_blocks == 0
			&& self.incomplete_nodes == 0
			&& self.lost_roots.is_empty()
			&& self.bad_headers == 0
			&& self.unnoted == 0
	}
}

/// A report, and what a repair needs besides.
#[derive(Debug, Default)]
pub(crate) struct Findings {
	pub(crate) report: StoreReport,
	/// What is damaged, and where it stands.
	pub(crate) damaged: HashMap<Digest, Entry>,
	/// Whether more is damaged than is held.
	pub(crate) has_more: bool,
	/// Good blocks with a bad header.
	pub(crate) bad_headers: Vec<(Digest, Entry)>,
	/// What was damaged and can be read again, as it is to be noted.
	pub(crate) good_again: Vec<(Digest, Entry)>,
	pub(crate) nodes: NodeFindings,
	/// Pinned roots of which the index knows nothing.
	pub(crate) absent_roots: Vec<Cid>,
}

/// Which nodes are incomplete.
#[derive(Debug, Default)]
pub(crate) struct NodeFindings {
	/// All nodes that something is wrong with or below.
	pub(crate) broken: HashSet<Digest>,
	/// Those among them whose own bytes are gone or wrong, although nobody had said so.
	pub(crate) damaged: HashMap<Digest, Entry>,
	/// Nodes to be looked at, by rising id.
	pub(crate) nodes: Vec<(Digest, Entry)>,
	/// Whether a child is missing of which nothing is known to be wrong.
	pub(crate) is_unexplained: bool,
}

pub(crate) fn check(
	store: &Shared,
	proceed: &mut dyn FnMut(&StoreReport) -> bool,
) -> Result<StoreReport, RepositoryError> {
	Ok(inspect(store, proceed)?.report)
}

/// Looks at everything. An index that cannot be read is a finding too.
pub(crate) fn inspect(
	store: &Shared,
	proceed: &mut dyn FnMut(&StoreReport) -> bool,
) -> Result<Findings, RepositoryError> {
	let mut check = Check { store, proceed, found: Findings::default() };
	match check.run() {
		Ok(is_finished) => check.found.report.is_finished = is_finished,
		Err(RepositoryError::Index { source }) if is_damage(&source) => {
			check.found.report.is_index_suspect = true;
		}
		Err(error) => return Err(error),
	}
	Ok(check.found)
}

struct Check<'a> {
	store: &'a Shared,
	proceed: &'a mut dyn FnMut(&StoreReport) -> bool,
	found: Findings,
}

/// What stands where a block should.
#[derive(Debug)]
struct Record {
	/// Whether the bytes are what the digest says.
	is_good: bool,
	/// Whether they are a node.
	is_node: bool,
	/// The codec in the header, if that is the header of this block.
	codec: Option<BlockCodec>,
	/// Whether there was anything to read.
	is_readable: bool,
}

/// What is to be said of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
	Good,
	/// The block is good, and its header is not.
	BadHeader,
	/// The block is good, and the index has it down as something else.
	WrongEntry,
	/// The block is good, and was not at an earlier time.
	GoodAgain,
	Damaged,
	/// Header and block are both wrong: perhaps the block stands elsewhere.
	Strange,
}

impl Record {
	const NOTHING: Self = Self { is_good: false, is_node: false, codec: None, is_readable: false };

	fn verdict(&self, entry: &Entry) -> Verdict {
		use BlockCodec::{DagCbor, Raw};
		if !self.is_good {
			return match self.codec {
				Some(_) => Verdict::Damaged,
				None => Verdict::Strange,
			};
		}
		match (entry.flaw, self.codec) {
			(Some(Flaw::Damaged), Some(_)) => Verdict::GoodAgain,
			(Some(Flaw::Damaged), None) => Verdict::Damaged,
			(None | Some(Flaw::Incomplete), codec) => match (counts_as_node(entry), codec) {
				(true, Some(DagCbor)) | (false, Some(Raw)) => Verdict::Good,
				// A chunk that was later put as a node has the header of a chunk.
				(true, None | Some(Raw)) if self.is_node => Verdict::BadHeader,
				(false, None) => Verdict::BadHeader,
				(true, None | Some(Raw)) | (false, Some(DagCbor)) => Verdict::WrongEntry,
			},
		}
	}
}

impl Check<'_> {
	/// Says whether it came to the end.
	fn run(&mut self) -> Result<bool, RepositoryError> {
		if !self.blocks()? {
			return Ok(false);
		}
		self.found.nodes.broken = self.found.damaged.keys().copied().collect();
		self.found.nodes.nodes = nodes_from(self.store, 0)?;
		let Findings { report, damaged, nodes, .. } = &mut self.found;
		if !nodes.look_at_all(self.store, &mut || (self.proceed)(report))? {
			return Ok(false);
		}
		for (name, entry) in nodes.damaged.drain() {
			// It was good a moment ago.
			report.damaged_blocks += 1;
			report.unnoted += 1;
			name_some(&mut report.damaged, cid_of(&name, &entry));
			damaged.insert(name, entry);
		}
		self.count_nodes();
		self.roots()?;
		Ok(true)
	}

	fn blocks(&mut self) -> Result<bool, RepositoryError> {
		let states = self.store.index.packs()?;
		for group in groups(&states) {
			let mut entries = Vec::new();
			scan(self.store, &mut |digest, entry| {
				if group.contains(&entry.pack) {
					entries.push((*digest, *entry));
				}
			})?;
			entries.sort_unstable_by_key(|(_, entry)| (entry.pack, entry.offset));
			for (digest, entry) in &entries {
				if !(self.proceed)(&self.found.report) {
					return Ok(false);
				}
				if self.found.damaged.len() >= DAMAGED_MAX {
					self.found.has_more = true;
					return Ok(false);
				}
				self.block(digest, entry)?;
			}
			for (pack, state) in states.range(group) {
				let from = entries.partition_point(|(_, entry)| entry.pack < *pack);
				let to = entries.partition_point(|(_, entry)| entry.pack <= *pack);
				self.gaps(*pack, state, &entries[from..to])?;
			}
		}
		Ok(true)
	}

	fn block(&mut self, name: &Digest, listed: &Entry) -> Result<(), RepositoryError> {
		let gate = self.store.enter();
		let entry = self.store.index.get(name)?.filter(|entry| entry.is_at(listed));
		// Meanwhile it was removed, or stored anew.
		let Some(entry) = entry else { return Ok(()) };
		let record = read_record(self.store, name, &entry)?;
		let verdict = record.verdict(&entry);
		drop(gate);
		let report = &mut self.found.report;
		let is_known = entry.flaw == Some(Flaw::Damaged);
		match verdict {
			Verdict::Good => {}
			Verdict::BadHeader => {
				report.bad_headers += 1;
				report.unnoted += 1;
				hold(&mut self.found.bad_headers, *name, entry);
			}
			Verdict::WrongEntry => {
				report.is_index_suspect = true;
				report.unnoted += 1;
			}
			Verdict::GoodAgain => {
				report.unnoted += 1;
				let is_node = record.codec == Some(BlockCodec::DagCbor);
				let flaw = is_node.then_some(Flaw::Incomplete);
				hold(&mut self.found.good_again, *name, Entry { flaw, ..entry });
			}
			// What is known needs no place: the index denies it anyway.
			Verdict::Damaged | Verdict::Strange if is_known => {}
			Verdict::Damaged | Verdict::Strange => {
				report.unnoted += 1;
				report.is_index_suspect |= verdict == Verdict::Strange;
				self.found.damaged.insert(*name, entry);
			}
		}
		if matches!(verdict, Verdict::Damaged | Verdict::Strange) {
			report.damaged_blocks += 1;
			name_some(&mut report.damaged, cid_of(name, &entry));
		} else {
			report.good_blocks += 1;
			report.good_bytes += u64::from(entry.len);
		}
		Ok(())
	}

	/// Counts what lies between the blocks and is neither dead nor skipped.
	fn gaps(
		&mut self,
		pack: u32,
		state: &PackState,
		entries: &[(Digest, Entry)],
	) -> Result<(), RepositoryError> {
		// Asked after the entries: what was removed in between is in one of both.
		let dead = self.store.index.dead_runs(pack)?;
		let counted = self.store.packs.file(pack).and_then(|file| {
			let io = RepositoryError::io("read a pack");
			let (mut at, mut unknown) = (0, 0);
			let ends = entries.iter().map(|(_, entry)| (u64::from(entry.offset), entry.end()));
			let end = state.end.min(file.len().map_err(RepositoryError::io("read a pack"))?);
			for (start, next) in ends.chain([(end, end)]) {
				if start.min(end) > at {
					match unknown_bytes(&*file, at, start.min(end), &dead) {
						Ok(bytes) => unknown += bytes,
						Err(error) => return Err(io(error)),
					}
				}
				at = at.max(next);
			}
			Ok(unknown)
		});
		match counted {
			Ok(unknown) => self.found.report.unknown_bytes += unknown,
			Err(error) if error.is_loss() => {}
			Err(error) => return Err(error),
		}
		Ok(())
	}

	fn count_nodes(&mut self) {
		let Findings { report, damaged, nodes, .. } = &mut self.found;
		for (name, entry) in &nodes.nodes {
			let is_broken = nodes.broken.contains(name);
			if is_broken && !damaged.contains_key(name) {
				report.incomplete_nodes += 1;
				name_some(&mut report.incomplete, Cid::dag_cbor(*name));
			}
			let is_noted = entry.flaw.is_some();
			report.unnoted += u64::from(is_broken != is_noted && !damaged.contains_key(name));
		}
		report.is_index_suspect |= nodes.is_unexplained;
	}

	fn roots(&mut self) -> Result<(), RepositoryError> {
		// With the gate held, nothing that is pinned can go.
		let _gate = self.store.enter();
		let roots = lock(&self.store.pins).roots();
		for root in roots {
			let entry = self.store.look_up(&root.digest())?;
			let is_broken = self.found.nodes.broken.contains(&root.digest());
			let is_good = |entry: &Entry| match entry.flaw {
				None => entry.is_node || !is_node(&root),
				// Whole again, only not noted yet.
				Some(Flaw::Incomplete) => true,
				Some(Flaw::Damaged) => false,
			};
			if entry.is_none() {
				self.found.absent_roots.push(root);
				self.found.report.is_index_suspect = true;
				self.found.report.unnoted += 1;
			}
			if is_broken || !entry.as_ref().is_some_and(is_good) {
				name_some(&mut self.found.report.lost_roots, root);
			}
		}
		Ok(())
	}
}

impl Findings {
	/// Reads a block again of which somebody says that it is damaged or missing. Says whether that
	/// is known already, or not so.
	pub(crate) fn look_again(
		&mut self,
		store: &Shared,
		cid: &Cid,
	) -> Result<bool, RepositoryError> {
		let name = &cid.digest();
		let _gate = store.enter();
		// What is absent is known to nobody: the nodes above it may still vouch for it.
		let Some(entry) = store.index.get(name)? else { return Ok(false) };
		let record = read_record(store, name, &entry)?;
		let is_known = entry.flaw == Some(Flaw::Damaged);
		let verdict = record.verdict(&entry);
		self.report.is_index_suspect |=
			verdict == Verdict::Strange && record.is_readable && !is_known;
		match verdict {
			Verdict::GoodAgain => {
				let is_node = record.codec == Some(BlockCodec::DagCbor);
				let flaw = is_node.then_some(Flaw::Incomplete);
				self.good_again.push((*name, Entry { flaw, ..entry }));
				Ok(false)
			}
			Verdict::Damaged | Verdict::Strange => {
				if !is_known {
					self.damaged.insert(*name, entry);
				}
				Ok(is_known)
			}
			Verdict::Good | Verdict::BadHeader | Verdict::WrongEntry => {
				Ok(!is_node(cid) || counts_as_node(&entry))
			}
		}
	}

	/// Looks at all that stands on what is damaged or absent, and at all that stands in the same
	/// packs: whatever hit a block rarely hit it alone, and nobody sees what hangs below a node
	/// that is gone. Says whether it came to the end.
	pub(crate) fn look_around(
		&mut self,
		store: &Shared,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		self.nodes.nodes = nodes_from(store, 0)?;
		let mut seen = BTreeSet::new();
		let mut packs = self.packs_not_in(&seen);
		loop {
			if !self.look_at_packs(store, &packs, proceed)? {
				return Ok(false);
			}
			self.nodes.broken.extend(self.damaged.keys().copied());
			if !self.nodes.look_at_all(store, proceed)? {
				return Ok(false);
			}
			self.damaged.extend(self.nodes.damaged.drain());
			seen.append(&mut packs);
			packs = self.packs_not_in(&seen);
			if packs.is_empty() {
				return Ok(true);
			}
		}
	}

	/// Further packs in which something changed.
	fn packs_not_in(&self, seen: &BTreeSet<u32>) -> BTreeSet<u32> {
		let good_again = self.good_again.iter().map(|(_, entry)| entry);
		let packs = self.damaged.values().chain(good_again).map(|entry| entry.pack);
		packs.filter(|pack| !seen.contains(pack)).collect()
	}

	fn look_at_packs(
		&mut self,
		store: &Shared,
		packs: &BTreeSet<u32>,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		if packs.is_empty() {
			return Ok(true);
		}
		let mut states = store.index.packs()?;
		states.retain(|pack, _| packs.contains(pack));
		for group in groups(&states) {
			let mut entries = Vec::new();
			scan(store, &mut |name, entry| {
				if packs.contains(&entry.pack) && group.contains(&entry.pack) {
					entries.push((cid_of(name, entry), *entry));
				}
			})?;
			entries.sort_unstable_by_key(|(_, entry)| (entry.pack, entry.offset));
			for (cid, _) in &entries {
				if !proceed() {
					return Ok(false);
				}
				// The rest is found when it is looked for.
				if self.damaged.len() >= DAMAGED_MAX {
					return Ok(true);
				}
				if !self.damaged.contains_key(&cid.digest()) {
					self.look_again(store, cid)?;
				}
			}
		}
		Ok(true)
	}
}

impl NodeFindings {
	/// Looks at all nodes until no more broken ones are found, holding the gate for one at a time.
	/// Says whether it came to the end.
	pub(crate) fn look_at_all(
		&mut self,
		store: &Shared,
		proceed: &mut dyn FnMut() -> bool,
	) -> Result<bool, RepositoryError> {
		loop {
			let mut has_changed = false;
			for at in 0..self.nodes.len() {
				if !proceed() {
					return Ok(false);
				}
				let _gate = store.enter();
				has_changed |= self.look_at(store, at)?;
			}
			if !has_changed {
				return Ok(true);
			}
		}
	}

	/// Adds the node to the broken ones if it belongs there. Says whether that is new. Needs the
	/// gate.
	pub(crate) fn look_at(&mut self, store: &Shared, at: usize) -> Result<bool, RepositoryError> {
		let (name, listed) = self.nodes[at];
		if self.broken.contains(&name) {
			return Ok(false);
		}
		// Meanwhile it was removed.
		let Some(entry) = store.look_up(&name)? else { return Ok(false) };
		let is_whole = match store.read(&entry) {
			Ok(block) if digest(&block) == name => {
				self.has_children(store, &block, listed.flaw.is_none())?
			}
			Err(error) if !error.is_loss() => return Err(error),
			Ok(_) | Err(_) => {
				// Were it called incomplete, nobody would store its bytes anew.
				self.damaged.insert(name, entry);
				false
			}
		};
		Ok(!is_whole && self.broken.insert(name))
	}

	fn has_children(
		&mut self,
		store: &Shared,
		block: &[u8],
		is_trusted: bool,
	) -> Result<bool, RepositoryError> {
		let Ok(children) = links(block) else { return Ok(false) };
		for child in children {
			if self.broken.contains(&child.digest()) {
				return Ok(false);
			}
			match store.look_up(&child.digest())? {
				Some(Entry { flaw: Some(Flaw::Damaged), .. }) => return Ok(false),
				// It is among the nodes that are looked at.
				Some(Entry { flaw: Some(Flaw::Incomplete), .. }) => {}
				Some(entry) if entry.is_node || !is_node(&child) => {}
				Some(_) | None => {
					self.is_unexplained |= is_trusted;
					return Ok(false);
				}
			}
		}
		Ok(true)
	}
}

/// Nodes, complete or not, from an id on; children usually before their parents.
pub(crate) fn nodes_from(
	store: &Shared,
	first_id: u64,
) -> Result<Vec<(Digest, Entry)>, RepositoryError> {
	let mut nodes = Vec::new();
	scan(store, &mut |digest, entry| {
		if counts_as_node(entry) && entry.id >= first_id {
			nodes.push((*digest, *entry));
		}
	})?;
	nodes.sort_unstable_by_key(|(_, entry)| entry.id);
	Ok(nodes)
}

/// Ranges that cover all numbers of packs, each with a bounded number of blocks.
fn groups(states: &BTreeMap<u32, PackState>) -> Vec<RangeInclusive<u32>> {
	let (mut groups, mut first, mut blocks) = (Vec::new(), 0, 0);
	for (pack, state) in states {
		if blocks > 0 && blocks + state.live_blocks > GROUP_BLOCKS {
			groups.push(first..=*pack - 1);
			(first, blocks) = (*pack, 0);
		}
		blocks += state.live_blocks;
	}
	groups.push(first..=u32::MAX);
	groups
}

/// Needs the gate, so that the place is not given away meanwhile.
fn read_record(store: &Shared, name: &Digest, entry: &Entry) -> Result<Record, RepositoryError> {
	if entry.len as usize > BLOCK_BYTES_MAX {
		return Ok(Record::NOTHING);
	}
	let mut bytes = vec![0; HEADER_BYTES as usize + entry.len as usize];
	let read = store.packs.file(entry.pack).and_then(|file| {
		let at = u64::from(entry.offset);
		file.read_at(at, &mut bytes).map_err(RepositoryError::io("read a pack"))
	});
	match read {
		Ok(()) => {}
		Err(error) if error.is_loss() => return Ok(Record::NOTHING),
		Err(error) => return Err(error),
	}
	let (header, block) = bytes.split_at(HEADER_BYTES as usize);
	let header = header.first_chunk().and_then(|header| Header::decode(header, &[]));
	let header = header.filter(|header| {
		(header.kind, header.len, header.cid.digest()) == (Kind::Block, entry.len, *name)
	});
	let is_node = counts_as_node(entry) && links(block).is_ok();
	let codec = header.map(|header| header.cid.codec());
	Ok(Record { is_good: digest(block) == *name, is_node, codec, is_readable: true })
}

/// Whether the entry is that of a node, complete or not.
pub(crate) fn counts_as_node(entry: &Entry) -> bool {
	entry.is_node || entry.flaw == Some(Flaw::Incomplete)
}

fn hold(list: &mut Vec<(Digest, Entry)>, name: Digest, entry: Entry) {
	if list.len() < DAMAGED_MAX {
		list.push((name, entry));
	}
}

/// The header that belongs before a block.
pub(crate) fn header_of(name: &Digest, entry: &Entry) -> Header {
	Header { kind: Kind::Block, len: entry.len, cid: cid_of(name, entry) }
}

fn cid_of(name: &Digest, entry: &Entry) -> Cid {
	match counts_as_node(entry) {
		true => Cid::dag_cbor(*name),
		false => Cid::raw(*name),
	}
}

fn unknown_bytes(file: &dyn StoreFile, mut at: u64, end: u64, dead: &[DeadRun]) -> io::Result<u64> {
	let mut unknown = 0;
	while at < end {
		let run = dead.iter().find(|run| (run.offset..run.offset + run.len).contains(&at));
		if let Some(run) = run {
			at = run.offset + run.len;
			continue;
		}
		let mut header = [0; HEADER_BYTES as usize];
		let header = match at + HEADER_BYTES <= end {
			true => file.read_at(at, &mut header).map(|()| Header::decode(&header, &[]))?,
			false => None,
		};
		let next = match header {
			Some(header) => at + header.record_bytes(),
			None => find_magic(file, at + 1, end)?.unwrap_or(end),
		};
		if header.is_none_or(|header| header.kind != Kind::Skip) {
			unknown += next.min(end) - at;
		}
		at = next;
	}
	Ok(unknown)
}

fn name_some(list: &mut Vec<Cid>, cid: Cid) {
	if list.len() < REPORTED_BLOCKS_MAX {
		list.push(cid);
	}
}
