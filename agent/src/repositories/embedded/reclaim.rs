//! Giving space back: holes where dead records were, and packs without live blocks.
//!
//! A skip header is written over each run of dead records and synced before the hole is punched: a
//! rebuild would take a hole without it for damage.

use crate::repositories::{
	RepositoryError,
	embedded::{
		Shared,
		collect::shut,
		files::StoreFile,
		index::DeadRun,
		lock,
		packs::pack_name,
		record::{HEADER_BYTES, Header},
	},
};
use std::{collections::BTreeSet, io};

/// Frees what the index notes as dead. Answers with the packs that went away with some of it: it is
/// there again when they are, so it stays noted.
pub(crate) fn reclaim(store: &Shared) -> Result<BTreeSet<u32>, RepositoryError> {
	// Readers that looked up a place before the last commit are gone after this.
	drop(shut(store));
	// Asked before the index: a block that is committed in between is found there.
	let in_use = lock(&store.writer).packs_in_use();
	// Nobody knows what else stands in these.
	let unread = store.index.unread_packs()?;
	let mut away = BTreeSet::new();
	for (pack, state) in store.index.packs()? {
		let is_kept = state.live_blocks > 0 || in_use.contains(&pack) || unread.contains(&pack);
		let runs = store.index.dead_runs(pack)?;
		if is_kept && runs.is_empty() {
			continue;
		}
		// By its name: one that is open for reading may have lost it.
		let file = store.files.open(&pack_name(pack)).map_err(RepositoryError::io("open a pack"));
		let file = match file {
			Err(error) if error.is_loss() => {
				away.insert(pack);
				continue;
			}
			file => file?,
		};
		if is_kept {
			punch(store, pack, &*file, &runs)?;
		} else {
			store.index.drop_pack(pack)?;
			store.packs.remove(pack)?;
		}
	}
	Ok(away)
}

fn punch(
	store: &Shared,
	pack: u32,
	file: &dyn StoreFile,
	runs: &[DeadRun],
) -> Result<(), RepositoryError> {
	let io = RepositoryError::io;
	let mut records = Vec::new();
	for run in runs {
		// An entry that was damaged may have named any place, even one amid good blocks.
		let is_record = match consists_of_records(file, run).map_err(io("read a pack")) {
			// What the disk cannot read any more is left alone too.
			Err(error) if error.is_loss() => false,
			checked => checked?,
		};
		match is_record {
			true => records.push(*run),
			false => {
				let at = run.offset;
				tracing::error!(target: "store", pack, at, "dead space is no record, left alone");
			}
		}
	}
	for run in &records {
		let skipped = u32::try_from(run.len - HEADER_BYTES).expect("packs are below 4 GiB");
		let header = Header::skip(skipped).encode(&[]);
		file.write_at(run.offset, &header).map_err(io("write a pack"))?;
	}
	// A hole without its skip header would be taken for damage by a rebuild.
	file.sync().map_err(io("sync a pack"))?;
	for run in &records {
		file.punch(run.offset + HEADER_BYTES, run.len - HEADER_BYTES)
			.map_err(io("free space in a pack"))?;
	}
	store.index.clear_dead(pack, runs)
}

fn consists_of_records(file: &dyn StoreFile, run: &DeadRun) -> io::Result<bool> {
	let (mut at, end) = (run.offset, run.offset + run.len);
	while at + HEADER_BYTES <= end.min(file.len()?) {
		let mut header = [0; HEADER_BYTES as usize];
		file.read_at(at, &mut header)?;
		match Header::decode(&header, &[]) {
			Some(header) => at += header.record_bytes(),
			None => return Ok(false),
		}
	}
	Ok(at == end)
}
