//! Whole histories, read from storage: the runtime API goes through all of one for each page that it answers.
//!
//! Where a node has to find keys, that takes it longer than what stands under them. Most histories have no
//! gaps, so the keys of all that they keep are known without it.

use super::{
	AtBlock, Chain, ENTRIES_PAGE,
	pages::Listed,
	reads::SNAPSHOTS_MAX,
	records::{Lineage, Snapshot, SnapshotRecord},
};
use crate::error::CliError;
use std::{collections::HashMap, ops::Range};
use subxt::{
	dynamic,
	ext::{frame_decode::storage::StorageTypeInfo, scale_decode::DecodeAsType},
	storage::DynamicAddress,
};

const PALLET: &str = "Backup";
const MAP: &str = "Snapshots";

fn address() -> DynamicAddress<(u64, u64), SnapshotRecord> {
	dynamic::storage(PALLET, MAP)
}

impl Chain {
	/// All snapshots of a lineage, oldest first.
	pub(crate) async fn snapshots(
		&self,
		at: &AtBlock,
		lineage: &Lineage,
	) -> Result<Listed<Snapshot>, CliError> {
		let kept = u64::from(lineage.kept);
		let newest = lineage.next.saturating_sub(kept)..lineage.next;
		if kept <= u64::from(ENTRIES_PAGE) {
			let records = self.records_at(at, lineage.request, newest).await?;
			if records.len() as u64 == kept {
				return Ok(Listed { items: Snapshot::chain(records), truncated: false });
			}
		}
		search(at, lineage.request).await
	}

	/// What stands at some places of a history.
	async fn records_at(
		&self,
		at: &AtBlock,
		request: u64,
		places: Range<u64>,
	) -> Result<Vec<(u64, SnapshotRecord)>, CliError> {
		let entry = at.storage().entry(address()).map_err(subxt::Error::from)?;
		let key = |place| entry.fetch_key((request, place));
		let keys: Vec<Vec<u8>> =
			places.clone().map(key).collect::<Result<_, _>>().map_err(subxt::Error::from)?;
		let asked = keys.iter().map(Vec::as_slice);
		let sets = self.rpc.state_query_storage_at(asked, Some(at.block_hash())).await;
		let mut found: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
		for (key, value) in
			sets.map_err(subxt::Error::from)?.into_iter().flat_map(|set| set.changes)
		{
			found.extend(value.map(|value| (key.0, value.0)));
		}
		let metadata = at.metadata_ref();
		let lacks = |_| CliError::ChainLacks { what: format!("map {PALLET}.{MAP}") };
		let value_type = metadata.storage_info(PALLET, MAP).map_err(lacks)?.value_id;
		let mut records = Vec::new();
		for (place, key) in places.zip(&keys) {
			let Some(value) = found.get(key) else { continue };
			let record =
				SnapshotRecord::decode_as_type(&mut value.as_slice(), value_type, metadata.types());
			let record = record.map_err(|error| subxt::Error::Other(error.into()))?;
			records.push((place, record));
		}
		Ok(records)
	}
}

/// A history with gaps, or of many pages.
async fn search(at: &AtBlock, request: u64) -> Result<Listed<Snapshot>, CliError> {
	let entries = at.storage().iter(address(), (request,)).await;
	let mut entries = entries.map_err(subxt::Error::from)?;
	let mut records: Vec<(u64, SnapshotRecord)> = Vec::new();
	let mut truncated = false;
	while let Some(entry) = entries.next().await {
		if records.len() == SNAPSHOTS_MAX {
			truncated = true;
			break;
		}
		let entry = entry.map_err(subxt::Error::from)?;
		let key = entry.key().and_then(|key| key.decode());
		let (_, sequence) = key.map_err(subxt::Error::from)?;
		let record = entry.value().decode().map_err(subxt::Error::from)?;
		records.push((sequence, record));
	}
	// In storage they stand by their hashes.
	records.sort_unstable_by_key(|(sequence, _)| *sequence);
	Ok(Listed { items: Snapshot::chain(records), truncated })
}
