//! Reads: through the runtime API where there is one, from storage where there is not.

use super::{
	AtBlock,
	records::{
		Lineage, LineageRecord, RequestRecord, Restore, RestoreRecord, Snapshot, SnapshotRecord,
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

/// Snapshots that the runtime API answers at once.
const PAGE: usize = 64;

/// Most pages of snapshots that are read of one request.
const PAGES_MAX: usize = 1_024;

/// Most restores of the whole chain that are looked through.
const RESTORES_MAX: usize = 100_000;

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

/// All snapshots of a lineage, oldest first.
pub(crate) async fn snapshots(at: &AtBlock, lineage: &Lineage) -> Result<Vec<Snapshot>, CliError> {
	let mut records: Vec<(u64, SnapshotRecord)> = Vec::new();
	let mut from = 0;
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
	Ok(read_restores(at, owner).await?)
}

async fn read_restores(at: &AtBlock, owner: &AccountId32) -> Result<Vec<Restore>, subxt::Error> {
	let address = dynamic::storage::<(u64,), RestoreRecord>("Backup", "RestoreRequests");
	let mut entries = at.storage().iter(address, ()).await?;
	let mut found = Vec::new();
	for _ in 0..RESTORES_MAX {
		let Some(entry) = entries.next().await else { break };
		let entry = entry?;
		let (id,) = entry.key()?.decode()?;
		let record = entry.value().decode()?;
		if record.requester == *owner {
			found.push(Restore::new(id, record, at.block_number()));
		}
	}
	found.sort_by_key(|restore| restore.restore);
	Ok(found)
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

async fn value_at<Keys, Record>(
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
