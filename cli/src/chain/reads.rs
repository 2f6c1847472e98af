//! Reads: through the runtime API where there is one, from storage where there is not.

use super::{
	AtBlock,
	records::{
		BytesRecord, Deposit, Grant, GrantRecord, HoldRecord, Lineage, LineageRecord, Protection,
		ProtectionRecord, RequestRecord, Restore, RestoreRecord, Snapshot, SnapshotRecord,
	},
};
use crate::error::CliError;
use subxt::{
	dynamic,
	ext::{
		frame_decode::storage::{IntoDecodableValues, IntoEncodableValues},
		scale_decode::DecodeAsType,
	},
	utils::AccountId32,
};

/// Requests to a node that are under way side by side.
pub(crate) const AT_ONCE: usize = 16;

/// Snapshots that the runtime API answers at once.
const PAGE: usize = 64;

/// Most pages of snapshots that are read of one request.
const PAGES_MAX: usize = 1_024;

/// Most entries of a map of the whole chain that are looked through.
const ENTRIES_MAX: usize = 100_000;

/// The lineages of an account.
pub(crate) async fn lineages_of(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Vec<Lineage>, CliError> {
	let call =
		dynamic::runtime_api_call::<_, Vec<LineageRecord>>("BackupApi", "lineages_of", (owner.0,));
	let records = at.runtime_apis().call(call).await.map_err(subxt::Error::from)?;
	Ok(records.into_iter().map(Lineage::from).collect())
}

/// The lineage of a request.
pub(crate) async fn lineage(at: &AtBlock, request: u64) -> Result<Lineage, CliError> {
	let call =
		dynamic::runtime_api_call::<_, Option<LineageRecord>>("BackupApi", "lineage", (request,));
	let record = at.runtime_apis().call(call).await.map_err(subxt::Error::from)?;
	record.map(Lineage::from).ok_or(CliError::NoBackup { request })
}

/// What of a lineage its node claims, and what other nodes confirm.
pub(crate) async fn protection(at: &AtBlock, request: u64) -> Result<Protection, CliError> {
	let call = dynamic::runtime_api_call::<_, Option<ProtectionRecord>>(
		"BackupApi",
		"protection",
		(request,),
	);
	let record = at.runtime_apis().call(call).await.map_err(subxt::Error::from)?;
	record.map(Protection::from).ok_or(CliError::NoBackup { request })
}

/// All snapshots of a lineage, oldest first. They are read from storage, a whole history at once: the
/// runtime API goes through all of it for each page that it answers.
pub(crate) async fn snapshots(at: &AtBlock, lineage: &Lineage) -> Result<Vec<Snapshot>, CliError> {
	let address = dynamic::storage::<(u64, u64), SnapshotRecord>("Backup", "Snapshots");
	let entries = at.storage().iter(address, (lineage.request,)).await;
	let mut entries = entries.map_err(subxt::Error::from)?;
	let mut records: Vec<(u64, SnapshotRecord)> = Vec::new();
	while let Some(entry) = entries.next().await
		&& records.len() < ENTRIES_MAX
	{
		let entry = entry.map_err(subxt::Error::from)?;
		let key = entry.key().and_then(|key| key.decode());
		let (_, sequence) = key.map_err(subxt::Error::from)?;
		let record = entry.value().decode().map_err(subxt::Error::from)?;
		records.push((sequence, record));
	}
	// In storage they stand by their hashes.
	records.sort_unstable_by_key(|(sequence, _)| *sequence);
	Ok(Snapshot::chain(records))
}

/// The snapshots of a lineage from a sequence on.
pub(crate) async fn snapshots_from(
	at: &AtBlock,
	lineage: &Lineage,
	mut from: u64,
) -> Result<Vec<Snapshot>, CliError> {
	let mut records: Vec<(u64, SnapshotRecord)> = Vec::new();
	for _ in 0..PAGES_MAX {
		let call = dynamic::runtime_api_call::<_, Vec<(u64, SnapshotRecord)>>(
			"BackupApi",
			"snapshots",
			(lineage.request, from),
		);
		let page = at.runtime_apis().call(call).await.map_err(subxt::Error::from)?;
		let is_last = page.len() < PAGE;
		records.extend(page);
		match records.last() {
			Some((last, _)) if !is_last => from = last.saturating_add(1),
			_ => break,
		}
	}
	Ok(Snapshot::chain(records))
}

/// Sequence of the newest snapshot that was taken at a block or before.
pub(crate) async fn snapshot_as_of(
	at: &AtBlock,
	request: u64,
	block: u64,
) -> Result<Option<u64>, CliError> {
	let call = dynamic::runtime_api_call::<_, Option<u64>>(
		"BackupApi",
		"snapshot_as_of",
		(request, block),
	);
	Ok(at.runtime_apis().call(call).await.map_err(subxt::Error::from)?)
}

/// Who may restore a request besides its owner.
pub(crate) async fn grants(at: &AtBlock, request: u64) -> Result<Vec<Grant>, CliError> {
	let call = dynamic::runtime_api_call::<_, Vec<GrantRecord>>("BackupApi", "grants", (request,));
	let records = at.runtime_apis().call(call).await.map_err(subxt::Error::from)?;
	Ok(records.into_iter().map(Grant::from).collect())
}

/// What the backups of an account take.
pub(crate) async fn bytes_of(at: &AtBlock, owner: &AccountId32) -> Result<BytesRecord, CliError> {
	let call = dynamic::runtime_api_call::<_, BytesRecord>("BackupApi", "bytes_of", (owner.0,));
	Ok(at.runtime_apis().call(call).await.map_err(subxt::Error::from)?)
}

/// What is held of an account's balance for its backups.
pub(crate) async fn deposits_of(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Vec<Deposit>, CliError> {
	let holds: Option<Vec<HoldRecord>> = value_at(at, "Balances", "Holds", (owner.0,)).await?;
	Ok(holds.unwrap_or_default().into_iter().filter_map(HoldRecord::of_backups).collect())
}

/// The requests for machines of an account, by their numbers.
pub(crate) async fn requests_of(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Vec<(u64, RequestRecord)>, CliError> {
	let is_its_own = |record: &RequestRecord| record.owner == *owner;
	Ok(entries::<RequestRecord>(at, "Compute", "Requests", is_its_own).await?)
}

/// The entries of a map by numbers that are asked for, among the first of all.
async fn entries<Record: DecodeAsType>(
	at: &AtBlock,
	pallet: &str,
	map: &str,
	is_wanted: impl Fn(&Record) -> bool,
) -> Result<Vec<(u64, Record)>, subxt::Error> {
	let address = dynamic::storage::<(u64,), Record>(pallet.to_owned(), map.to_owned());
	let mut entries = at.storage().iter(address, ()).await?;
	let mut found = Vec::new();
	for _ in 0..ENTRIES_MAX {
		let Some(entry) = entries.next().await else { break };
		let entry = entry?;
		let (id,) = entry.key()?.decode()?;
		let record = entry.value().decode()?;
		if is_wanted(&record) {
			found.push((id, record));
		}
	}
	found.sort_by_key(|(id, _)| *id);
	Ok(found)
}

/// A request for a machine.
pub(crate) async fn request(at: &AtBlock, request: u64) -> Result<RequestRecord, CliError> {
	let record = value_at::<(u64,), RequestRecord>(at, "Compute", "Requests", (request,)).await?;
	record.ok_or(CliError::RequestNotFound { request })
}

/// A restore, as long as its record stands.
pub(crate) async fn restore(at: &AtBlock, id: u64) -> Result<Option<Restore>, CliError> {
	let record = value_at::<(u64,), RestoreRecord>(at, "Backup", "RestoreRequests", (id,)).await?;
	Ok(record.map(|record| Restore::new(id, record, at.block_number())))
}

/// The restores that an account asked for and that are not closed.
pub(crate) async fn restores_of(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Vec<Restore>, CliError> {
	let is_its_own = |record: &RestoreRecord| record.requester == *owner;
	let records = entries(at, "Backup", "RestoreRequests", is_its_own).await?;
	let now = at.block_number();
	Ok(records.into_iter().map(|(id, record)| Restore::new(id, record, now)).collect())
}

/// First block that an account has not paid for, if it has a subscription.
pub(crate) async fn paid_until(at: &AtBlock, owner: &AccountId32) -> Result<Option<u64>, CliError> {
	value_at(at, "Marketplace", "Subscriptions", (owner.0,)).await
}

/// From when on an account's backups are deleted, if it asked for that.
pub(crate) async fn deletion_from(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Option<u64>, CliError> {
	#[derive(DecodeAsType)]
	#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
	struct UserDeletion {
		effective_at: u64,
	}
	let found: Option<UserDeletion> = value_at(at, "Backup", "UserDeletions", (owner.0,)).await?;
	Ok(found.map(|deletion| deletion.effective_at))
}

/// Version of the newest key that an account registered, 0 if it has none.
pub(crate) async fn owner_key_version(at: &AtBlock, owner: &AccountId32) -> Result<u32, CliError> {
	let version = value_at(at, "Backup", "OwnerKeyVersion", (owner.0,)).await?;
	Ok(version.unwrap_or(0))
}

pub(super) async fn value_at<Keys, Record>(
	at: &AtBlock,
	pallet: &str,
	entry: &str,
	keys: Keys,
) -> Result<Option<Record>, CliError>
where
	Keys: IntoEncodableValues + IntoDecodableValues,
	Record: DecodeAsType,
{
	let address = dynamic::storage::<Keys, Record>(pallet.to_owned(), entry.to_owned());
	let value = at.storage().try_fetch(address, keys).await.map_err(subxt::Error::from)?;
	let decoded = value.map(|value| value.decode()).transpose();
	Ok(decoded.map_err(subxt::Error::from)?)
}
