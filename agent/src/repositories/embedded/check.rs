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
	format::Cid,
	repositories::{
		RepositoryError,
		embedded::{
			Shared,
			collect::scan,
			entry::{Entry, Flaw},
			files::StoreFile,
			findings::{DAMAGED_MAX, Findings},
			index::{DeadRun, PackState, is_damage},
			is_node, lock,
			packs::pack_name,
			record::{HEADER_BYTES, Header, Kind, find_magic},
			verdict::{Verdict, cid_of, read_record},
		},
	},
};
use std::{collections::BTreeMap, io, ops::RangeInclusive};

/// Blocks whose entries are held at once: 64 MiB of them.
const GROUP_BLOCKS: u64 = 1 << 20;

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
	/// Files of packs that are away, or that could not be read when the index was made anew. What else
	/// stands in them comes back with them; a repair goes on without it.
	pub unread_packs: Vec<String>,
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
			&& self.unread_packs.is_empty()
			&& self.unnoted == 0
	}
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

impl Check<'_> {
	/// Says whether it came to the end.
	fn run(&mut self) -> Result<bool, RepositoryError> {
		let unread = self.store.index.unread_packs()?;
		self.found.report.unread_packs = unread.into_iter().map(pack_name).collect();
		if !self.blocks()? {
			return Ok(false);
		}
		if !self.nodes()? {
			return Ok(false);
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
				if self.found.is_full() {
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
		let is_known = entry.is_damaged();
		match verdict {
			Verdict::Good => {}
			Verdict::BadHeader => {
				report.bad_headers += 1;
				report.unnoted += 1;
				if self.found.bad_headers.len() < DAMAGED_MAX {
					self.found.bad_headers.push((*name, entry));
				}
			}
			Verdict::WrongEntry => {
				report.is_index_suspect = true;
				report.unnoted += 1;
			}
			Verdict::GoodAgain => {
				report.unnoted += 1;
				self.found.good_again.push((*name, record.as_good_again(&entry)));
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

	fn nodes(&mut self) -> Result<bool, RepositoryError> {
		let Findings { report, damaged, nodes, .. } = &mut self.found;
		nodes.begin(self.store, damaged)?;
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
		Ok(true)
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
				Some(Flaw::Incomplete(_)) => true,
				Some(Flaw::Damaged(_)) => false,
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

/// Ranges that cover all numbers of packs, each with a bounded number of blocks.
pub(crate) fn groups(states: &BTreeMap<u32, PackState>) -> Vec<RangeInclusive<u32>> {
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
