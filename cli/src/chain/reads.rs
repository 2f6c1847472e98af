//! Reads: through the runtime API where there is one, from storage where there is not.

use super::{
	AtBlock,
	nodes::{CopyAt, NodeRecord, OwnerKey},
	pages::{Listed, Page, all_pages, ask},
	records::{
		BackupSettings, BytesRecord, Deposit, Grant, GrantRecord, HoldRecord, Lineage,
		LineageRecord, Protection, ProtectionRecord, RequestRecord, Restore, RestoreRecord,
		Snapshot, SnapshotRecord, StoredLineage,
	},
};
use crate::{args::GatewayAddress, error::CliError};
use backup_primitives::Recipient;
use futures::{StreamExt, TryStreamExt, stream};
use subxt::{
	dynamic::{self, Value},
	ext::{
		frame_decode::storage::{IntoDecodableValues, IntoEncodableValues},
		scale_decode::DecodeAsType,
		scale_encode::EncodeAsType,
	},
	utils::AccountId32,
};

/// Requests to a node that are under way side by side.
pub(crate) const AT_ONCE: usize = 16;

/// Most keys of one account that are read. A chain lets accounts have far fewer.
const OWNER_KEYS_MAX: u32 = 1_000;

/// Who registered a key in which version, if it was found, and the key to go on behind if not.
type OwnerOfKey = (Option<(AccountId32, u32)>, Option<(AccountId32, u32)>);

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

/// What an owner has set for the backup of a request.
pub(crate) async fn settings(at: &AtBlock, request: u64) -> Result<BackupSettings, CliError> {
	let stored: Option<StoredLineage> = value_at(at, "Backup", "Lineages", (request,)).await?;
	stored.map(|stored| stored.settings).ok_or(CliError::NoBackup { request })
}

/// Whether these snapshots are neither held nor to be deleted, in their order.
pub(crate) async fn are_free(
	at: &AtBlock,
	request: u64,
	places: impl IntoIterator<Item = u64>,
) -> Result<Vec<bool>, CliError> {
	let is_free = async |place: u64| {
		let lock: Option<Value> = value_at(at, "Backup", "SnapshotLocks", (request, place)).await?;
		let due: Option<Value> =
			value_at(at, "Backup", "SnapshotDeletions", (request, place)).await?;
		Ok(lock.is_none() && due.is_none())
	};
	stream::iter(places).map(is_free).buffered(AT_ONCE).try_collect().await
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

/// A snapshot by its place, with its parent.
pub(crate) async fn snapshot(
	at: &AtBlock,
	request: u64,
	sequence: u64,
) -> Result<Option<Snapshot>, CliError> {
	let mut records = Vec::new();
	for place in sequence.saturating_sub(1)..=sequence {
		let keys = (request, place);
		let found: Option<SnapshotRecord> = value_at(at, "Backup", "Snapshots", keys).await?;
		records.extend(found.map(|record| (place, record)));
	}
	Ok(Snapshot::chain(records).pop().filter(|snapshot| snapshot.sequence == sequence))
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
) -> Result<Listed<(u64, RequestRecord)>, CliError> {
	let read = async |after: Option<u64>| {
		let arguments = (owner.0, after);
		ask::<_, Page<(u64, RequestRecord), u64>>(at, "ComputeApi", "requests_of", arguments).await
	};
	let mut listed = all_pages(read).await?;
	// In storage they stand by their hashes.
	listed.items.sort_by_key(|(id, _)| *id);
	Ok(listed)
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
) -> Result<Listed<Restore>, CliError> {
	let read = async |after: Option<u64>| {
		let arguments = (owner.0, after);
		ask::<_, Page<(u64, RestoreRecord), u64>>(at, "BackupApi", "restores_of", arguments).await
	};
	let Listed { mut items, truncated } = all_pages(read).await?;
	items.sort_by_key(|(id, _)| *id);
	let now = at.block_number();
	let restores = items.into_iter().map(|(id, record)| Restore::new(id, record, now));
	Ok(Listed { items: restores.collect(), truncated })
}

/// A node, as long as it is registered.
pub(crate) async fn node(at: &AtBlock, id: u64) -> Result<Option<NodeRecord>, CliError> {
	value_at(at, "Compute", "Nodes", (id,)).await
}

/// The gateways of all nodes, with the keys of these.
pub(crate) async fn gateways(at: &AtBlock) -> Result<Vec<GatewayAddress>, CliError> {
	let read = async |after: Option<u64>| {
		ask::<_, Page<(u64, NodeRecord), u64>>(at, "ComputeApi", "nodes", (after,)).await
	};
	let mut nodes = all_pages(read).await?.items;
	nodes.sort_by_key(|(id, _)| *id);
	Ok(nodes.into_iter().flat_map(|(_, node)| node.addresses()).collect())
}

/// Who has the snapshots of a request, its own node first.
pub(crate) async fn copies(at: &AtBlock, request: u64) -> Result<Vec<CopyAt>, CliError> {
	let lineage = lineage(at, request).await?;
	let holders = protection(at, request).await?.holders;
	let own = CopyAt::of_host(lineage.node, lineage.next, node(at, lineage.node).await?);
	let mut copies = vec![own];
	for holder in holders {
		let registered = node(at, holder.node).await?;
		copies.push(CopyAt::of_holder(holder, registered));
	}
	Ok(copies)
}

/// The keys that an account registered, by their versions.
pub(crate) async fn owner_keys(
	at: &AtBlock,
	owner: &AccountId32,
) -> Result<Vec<OwnerKey>, CliError> {
	let newest = owner_key_version(at, owner).await?;
	let mut keys = Vec::new();
	for version in 1..=newest.min(OWNER_KEYS_MAX) {
		let found = value_at(at, "Backup", "OwnerKeys", (owner.0, version)).await?;
		keys.extend(found.map(|record| OwnerKey::new(version, record)));
	}
	Ok(keys)
}

/// The accounts that registered one of these keys, and which of them. Whoever has backups can register
/// anybody's key, so there may be several.
pub(crate) async fn owners_of_key(
	at: &AtBlock,
	recipients: &[Recipient],
) -> Result<Vec<(AccountId32, usize)>, CliError> {
	let mut owners = Vec::new();
	for (place, recipient) in recipients.iter().enumerate() {
		let read = async |after: Option<(AccountId32, u32)>| {
			let after = after.map(|(account, version)| (account.0, version));
			let arguments = (recipient.0, after);
			let (found, next) =
				ask::<_, OwnerOfKey>(at, "BackupApi", "owner_of_key", arguments).await?;
			// Behind one there may be more.
			let next = next.or(found);
			Ok((found.into_iter().collect(), next))
		};
		let found = all_pages(read).await?;
		if found.truncated && found.items.is_empty() {
			return Err(CliError::TooMany { what: "keys of owners" });
		}
		owners.extend(found.items.into_iter().map(|(account, _)| (account, place)));
	}
	Ok(owners)
}

/// What the pallet calls a `Reader`, as far as it is needed here.
#[derive(EncodeAsType)]
#[encode_as_type(crate_path = "subxt::ext::scale_encode")]
enum Reader {
	Owner([u8; 32]),
}

/// Whether nodes serve an owner who proves to have the secret of a key.
pub(crate) async fn is_reader(
	at: &AtBlock,
	owner: &AccountId32,
	recipient: &Recipient,
) -> Result<bool, CliError> {
	ask(at, "BackupApi", "is_reader", (Reader::Owner(owner.0), recipient.0)).await
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

#[cfg(test)]
mod tests {
	use super::*;
	use codec::Encode;
	use scale_info::{PortableRegistry, Registry, TypeInfo, meta_type};

	/// What a chain reads that has these types.
	fn encoded<T: TypeInfo + 'static>(value: &impl EncodeAsType) -> Vec<u8> {
		let mut registry = Registry::new();
		let id = registry.register_type(&meta_type::<T>()).id;
		value.encode_as_type(id, &PortableRegistry::from(registry)).unwrap()
	}

	#[test]
	fn readers_and_keys_are_written_as_the_pallet_reads_them() {
		type OfPallet = backup_primitives::Reader<u64, [u8; 32], u64>;
		let owner = OfPallet::Owner([7; 32]);
		assert_eq!(encoded::<OfPallet>(&Reader::Owner([7; 32])), owner.encode());
		let key = Some(Recipient([9; 32]));
		assert_eq!(encoded::<Option<Recipient>>(&key.map(|key| key.0)), key.encode());
	}
}
