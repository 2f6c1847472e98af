//! Records as the pallets keep them, read by the names of their fields, and the shapes in
//! which `--json` shows them.

use super::nodes::RecipientBytes;
use backup_primitives::{Cid, FailureReason, Recipient};
use serde::{Serialize, Serializer};
use subxt::{
	dynamic::Value,
	ext::{
		scale_decode::DecodeAsType,
		scale_encode::EncodeAsType,
		scale_value::{Composite, Primitive, ValueDef},
	},
	utils::AccountId32,
};

/// A variant of an enum that may know more variants than this build, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(String);

impl Word {
	fn of(value: &Value) -> Self {
		match &value.value {
			ValueDef::Variant(variant) => Self(variant.name.clone()),
			ValueDef::Composite(_) | ValueDef::Primitive(_) | ValueDef::BitSequence(_) => {
				Self("Unknown".into())
			}
		}
	}

	/// The name as JSON shows it.
	pub(crate) fn kebab(&self) -> String {
		let mut kebab = String::new();
		for c in self.0.chars() {
			if c.is_ascii_uppercase() && !kebab.is_empty() {
				kebab.push('-');
			}
			kebab.push(c.to_ascii_lowercase());
		}
		kebab
	}

	/// The reason of a failure, if this build knows it.
	pub(crate) fn known(&self) -> Option<FailureReason> {
		serde_json::from_value(self.kebab().into()).ok()
	}
}

impl Serialize for Word {
	fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
		serializer.serialize_str(&self.kebab())
	}
}

/// A CID as the chain stores it.
#[derive(Clone, Copy, Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct CidBytes([u8; 36]);

impl CidBytes {
	pub(crate) fn cid(self) -> Cid {
		Cid::from_bytes_unchecked(self.0)
	}
}

/// Whether a snapshot of a request would be taken now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum Eligibility {
	Eligible { slot: u64 },
	NoBackup,
	NotRunning,
	NoNode,
	Disabled,
	Unpaid,
	NoOwnerKey,
	DeletionPending,
	ChainPaused,
	Paused,
	Full,
	NotDue { due_at: u64 },
	FailedInSlot { reason: Word, retry_at: u64 },
}

/// [`Eligibility`] as it is encoded.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) enum EligibilityRecord {
	Eligible { slot: u64 },
	NoBackup,
	NotRunning,
	NoNode,
	Disabled,
	Unpaid,
	NoOwnerKey,
	DeletionPending,
	ChainPaused,
	Paused,
	Full,
	NotDue { due_at: u64 },
	FailedInSlot { reason: Value, retry_at: u64 },
}

impl From<EligibilityRecord> for Eligibility {
	fn from(record: EligibilityRecord) -> Self {
		match record {
			EligibilityRecord::Eligible { slot } => Self::Eligible { slot },
			EligibilityRecord::NoBackup => Self::NoBackup,
			EligibilityRecord::NotRunning => Self::NotRunning,
			EligibilityRecord::NoNode => Self::NoNode,
			EligibilityRecord::Disabled => Self::Disabled,
			EligibilityRecord::Unpaid => Self::Unpaid,
			EligibilityRecord::NoOwnerKey => Self::NoOwnerKey,
			EligibilityRecord::DeletionPending => Self::DeletionPending,
			EligibilityRecord::ChainPaused => Self::ChainPaused,
			EligibilityRecord::Paused => Self::Paused,
			EligibilityRecord::Full => Self::Full,
			EligibilityRecord::NotDue { due_at } => Self::NotDue { due_at },
			EligibilityRecord::FailedInSlot { reason, retry_at } => {
				Self::FailedInSlot { reason: Word::of(&reason), retry_at }
			}
		}
	}
}

/// A lineage, as `lineages_of` answers it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct LineageRecord {
	pub(crate) request_id: u64,
	pub(crate) owner: AccountId32,
	pub(crate) node: u64,
	pub(crate) salt: [u8; 32],
	pub(crate) kept: u32,
	pub(crate) next: u64,
	pub(crate) last_taken_at: Option<u64>,
	pub(crate) frequency: u64,
	pub(crate) keep_last: u32,
	pub(crate) delete_at: Option<u64>,
	pub(crate) last_failure: Option<Value>,
	pub(crate) eligibility: EligibilityRecord,
}

/// A backup of one request, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lineage {
	pub(crate) request: u64,
	pub(crate) owner: String,
	pub(crate) node: u64,
	pub(crate) salt: String,
	pub(crate) kept: u32,
	pub(crate) next: u64,
	pub(crate) last_taken_at: Option<u64>,
	pub(crate) frequency_blocks: u64,
	pub(crate) keep_last: u32,
	pub(crate) delete_at: Option<u64>,
	pub(crate) last_failure: Option<Word>,
	pub(crate) eligibility: Eligibility,
}

impl From<LineageRecord> for Lineage {
	fn from(record: LineageRecord) -> Self {
		Self {
			request: record.request_id,
			owner: record.owner.to_string(),
			node: record.node,
			salt: hex::encode(record.salt),
			kept: record.kept,
			next: record.next,
			last_taken_at: record.last_taken_at,
			frequency_blocks: record.frequency,
			keep_last: record.keep_last,
			delete_at: record.delete_at,
			last_failure: record.last_failure.as_ref().map(Word::of),
			eligibility: record.eligibility.into(),
		}
	}
}

/// A lineage in storage, of which only this is read here.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct StoredLineage {
	pub(crate) settings: BackupSettings,
}

/// What an owner has set for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, DecodeAsType, EncodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
#[encode_as_type(crate_path = "subxt::ext::scale_encode")]
pub(crate) struct BackupSettings {
	/// Whether no snapshots are taken.
	pub(crate) paused: bool,
	/// How many snapshots are kept; the chain's default without.
	pub(crate) keep_last: Option<u32>,
}

/// How well a backup is protected, as `protection` answers it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct ProtectionRecord {
	claimed: Option<PointRecord>,
	confirmed: Option<PointRecord>,
	holders_wanted: u32,
	holders: Vec<(HolderRecord, bool)>,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct PointRecord {
	sequence: u64,
	taken_at: u64,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct HolderRecord {
	node: u64,
	from: u64,
	to: u64,
}

/// What of a backup its node claims, and what other nodes confirm. A backup on the machine that it
/// protects is none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Protection {
	/// The newest snapshot.
	pub(crate) claimed: Option<Point>,
	/// The newest that another node says to have.
	pub(crate) confirmed: Option<Point>,
	/// How many other nodes the chain wants to have them.
	pub(crate) holders_wanted: u32,
	pub(crate) holders: Vec<CopyHolder>,
}

/// A snapshot, by its place and the block of its instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Point {
	pub(crate) sequence: u64,
	pub(crate) taken_at: u64,
}

/// A node that has copies, with the range that it says to have, and whether it was not heard of for
/// too long.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CopyHolder {
	pub(crate) node: u64,
	pub(crate) from: u64,
	pub(crate) to: u64,
	pub(crate) is_silent: bool,
}

impl From<ProtectionRecord> for Protection {
	fn from(record: ProtectionRecord) -> Self {
		let point = |PointRecord { sequence, taken_at }| Point { sequence, taken_at };
		let holder =
			|(HolderRecord { node, from, to }, is_silent)| CopyHolder { node, from, to, is_silent };
		Self {
			claimed: record.claimed.map(point),
			confirmed: record.confirmed.map(point),
			holders_wanted: record.holders_wanted,
			holders: record.holders.into_iter().map(holder).collect(),
		}
	}
}

/// A snapshot, as the chain keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct SnapshotRecord {
	pub(crate) cid: CidBytes,
	pub(crate) taken_at: u64,
	pub(crate) recorded_at: u64,
	pub(crate) description: Option<Vec<u8>>,
	pub(crate) logical_bytes: u64,
	pub(crate) new_bytes: u64,
	pub(crate) consistency: Value,
	pub(crate) node: u64,
	pub(crate) owner_key_version: u32,
}

#[cfg(test)]
impl SnapshotRecord {
	/// One of a test, taken at the block ten times its sequence.
	pub(crate) fn example(sequence: u64) -> Self {
		let mut cid = [7; 36];
		cid[..8].copy_from_slice(&sequence.to_le_bytes());
		Self {
			cid: CidBytes(cid),
			taken_at: sequence * 10,
			recorded_at: sequence * 10 + 2,
			description: None,
			logical_bytes: 1024,
			new_bytes: 5,
			consistency: Value::unnamed_variant("Crash", []),
			node: 1,
			owner_key_version: 1,
		}
	}
}

/// A snapshot, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
	pub(crate) sequence: u64,
	pub(crate) cid: String,
	pub(crate) parent: Option<String>,
	pub(crate) taken_at: u64,
	pub(crate) recorded_at: u64,
	pub(crate) description: Option<String>,
	pub(crate) logical_bytes: u64,
	pub(crate) new_bytes: u64,
	pub(crate) consistency: Word,
	pub(crate) node: u64,
	pub(crate) owner_key_version: u32,
}

impl Snapshot {
	fn new(sequence: u64, record: SnapshotRecord, parent: Option<String>) -> Self {
		Self {
			sequence,
			cid: record.cid.cid().to_string(),
			parent,
			taken_at: record.taken_at,
			recorded_at: record.recorded_at,
			description: record.description.map(|words| crate::words::escape(&words)),
			logical_bytes: record.logical_bytes,
			new_bytes: record.new_bytes,
			consistency: Word::of(&record.consistency),
			node: record.node,
			owner_key_version: record.owner_key_version,
		}
	}

	/// One of a test, taken at the block ten times its sequence.
	#[cfg(test)]
	pub(crate) fn example(sequence: u64, node: u64) -> Self {
		Self {
			sequence,
			cid: Cid::dag_cbor([7; 32]).to_string(),
			parent: None,
			taken_at: sequence * 10,
			recorded_at: sequence * 10 + 2,
			description: Some("nightly".into()),
			logical_bytes: 1024,
			new_bytes: 5,
			consistency: Word("Crash".into()),
			node,
			owner_key_version: 1,
		}
	}

	/// Snapshots in the order of their sequence, each with the root of the one before.
	pub(crate) fn chain(records: Vec<(u64, SnapshotRecord)>) -> Vec<Self> {
		let mut before: Option<(u64, String)> = None;
		let link = |(sequence, record): (u64, SnapshotRecord)| {
			let parent = before
				.take()
				.filter(|(number, _)| number.checked_add(1) == Some(sequence))
				.map(|(_, cid)| cid);
			let snapshot = Self::new(sequence, record, parent);
			before = Some((sequence, snapshot.cid.clone()));
			snapshot
		};
		records.into_iter().map(link).collect()
	}
}

/// A restore, as the chain keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct RestoreRecord {
	pub(crate) requester: AccountId32,
	pub(crate) request_id: u64,
	pub(crate) sequence: u64,
	pub(crate) cid: CidBytes,
	pub(crate) node: u64,
	pub(crate) requested_at: u64,
	pub(crate) expires_at: u64,
	pub(crate) state: RestoreStateRecord,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) enum RestoreStateRecord {
	Requested,
	Fulfilled { at: u64 },
	Failed { reason: Value, at: u64 },
	Expired,
}

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum RestoreState {
	Requested,
	Expired,
	Fulfilled { at: u64 },
	Failed { reason: Word, at: u64 },
}

/// A restore, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Restore {
	pub(crate) restore: u64,
	pub(crate) requester: String,
	pub(crate) request: u64,
	pub(crate) sequence: u64,
	pub(crate) cid: String,
	pub(crate) node: u64,
	pub(crate) requested_at: u64,
	pub(crate) expires_at: u64,
	#[serde(flatten)]
	pub(crate) state: RestoreState,
}

impl Restore {
	/// `now` decides whether one that nobody reported on has expired.
	pub(crate) fn new(restore: u64, record: RestoreRecord, now: u64) -> Self {
		let state = match record.state {
			RestoreStateRecord::Requested if record.expires_at <= now => RestoreState::Expired,
			RestoreStateRecord::Requested => RestoreState::Requested,
			RestoreStateRecord::Expired => RestoreState::Expired,
			RestoreStateRecord::Fulfilled { at } => RestoreState::Fulfilled { at },
			RestoreStateRecord::Failed { reason, at } => {
				RestoreState::Failed { reason: Word::of(&reason), at }
			}
		};
		Self {
			restore,
			requester: record.requester.to_string(),
			request: record.request_id,
			sequence: record.sequence,
			cid: record.cid.cid().to_string(),
			node: record.node,
			requested_at: record.requested_at,
			expires_at: record.expires_at,
			state,
		}
	}
}

/// A request for a machine, as the compute pallet keeps it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct RequestRecord {
	pub(crate) owner: AccountId32,
	pub(crate) disk_bytes: u64,
	pub(crate) state: RequestStateRecord,
}

#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) enum RequestStateRecord {
	Open,
	Assigned { node: u64 },
	Running { node: u64, vm: Vec<u8> },
	Ended,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum RequestState {
	Open,
	Assigned { node: u64 },
	Running { node: u64, vm: String },
	Ended,
}

impl From<RequestStateRecord> for RequestState {
	fn from(record: RequestStateRecord) -> Self {
		match record {
			RequestStateRecord::Open => Self::Open,
			RequestStateRecord::Assigned { node } => Self::Assigned { node },
			RequestStateRecord::Running { node, vm } => {
				Self::Running { node, vm: crate::words::escape(&vm) }
			}
			RequestStateRecord::Ended => Self::Ended,
		}
	}
}

/// Who may restore a request besides its owner, as `grants` answers it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct GrantRecord {
	pub(crate) account: AccountId32,
	pub(crate) granted_at: u64,
	pub(crate) expires_at: Option<u64>,
	pub(super) recipient: Option<RecipientBytes>,
}

/// A grant, as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Grant {
	pub(crate) account: String,
	pub(crate) granted_at: u64,
	pub(crate) expires_at: Option<u64>,
	/// The key with which it may fetch sealed blocks, if it may.
	pub(crate) recipient: Option<String>,
}

impl Grant {
	/// Whether it lets the holder of a key fetch blocks.
	pub(crate) fn is_for(&self, key: &Recipient) -> bool {
		self.recipient.as_ref().is_some_and(|recipient| *recipient == key.to_string())
	}
}

impl From<GrantRecord> for Grant {
	fn from(record: GrantRecord) -> Self {
		let GrantRecord { account, granted_at, expires_at, recipient } = record;
		let recipient = recipient.map(|key| Recipient(key.0).to_string());
		Self { account: account.to_string(), granted_at, expires_at, recipient }
	}
}

/// What the backups of an account take, as `bytes_of` answers it.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct BytesRecord {
	pub(crate) snapshots: u64,
	pub(crate) stored_bytes: u64,
	pub(crate) logical_bytes: u64,
}

/// A part of a balance that is held, and why.
#[derive(Debug, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(crate) struct HoldRecord {
	id: Value,
	amount: u128,
}

/// What is deposited for backups.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deposit {
	pub(crate) reason: Word,
	/// Beyond what JSON numbers can carry everywhere.
	pub(crate) amount: String,
}

impl HoldRecord {
	/// Nothing, if it is held for something else.
	pub(crate) fn of_backups(self) -> Option<Deposit> {
		let ValueDef::Variant(pallet) = &self.id.value else { return None };
		let reason = pallet.values.values().next().filter(|_| pallet.name == "Backup")?;
		Some(Deposit { reason: Word::of(reason), amount: self.amount.to_string() })
	}
}

/// A value whose shape is not known beforehand, as JSON: options are their value or `null`,
/// keys, hashes and the like `0x…`, numbers beyond 64 bits text.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
	match &value.value {
		ValueDef::Composite(composite) => composite_to_json(composite),
		ValueDef::Variant(variant) => {
			let name = variant.name.as_str();
			match (name, variant.values.values().next()) {
				("None", None) => serde_json::Value::Null,
				("Some", Some(inner)) => to_json(inner),
				(_, None) => name.into(),
				(_, Some(_)) => serde_json::json!({ name: composite_to_json(&variant.values) }),
			}
		}
		ValueDef::Primitive(primitive) => match primitive {
			Primitive::Bool(yes) => (*yes).into(),
			Primitive::Char(c) => c.to_string().into(),
			Primitive::String(text) => text.clone().into(),
			Primitive::U128(number) => u64::try_from(*number)
				.map_or_else(|_| number.to_string().into(), serde_json::Value::from),
			Primitive::I128(number) => i64::try_from(*number)
				.map_or_else(|_| number.to_string().into(), serde_json::Value::from),
			Primitive::U256(bytes) | Primitive::I256(bytes) => hex::encode(bytes).into(),
		},
		ValueDef::BitSequence(bits) => format!("{bits:?}").into(),
	}
}

fn composite_to_json(composite: &Composite<()>) -> serde_json::Value {
	match composite {
		Composite::Named(fields) => {
			fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect()
		}
		Composite::Unnamed(values) => {
			let list: Vec<serde_json::Value> = values.iter().map(to_json).collect();
			match list.as_slice() {
				// A newtype around what is shown as text.
				[serde_json::Value::String(only)] => only.as_str().into(),
				_ => hexadecimal(&list).unwrap_or_else(|| list.into()),
			}
		}
	}
}

/// A list of bytes as text, if it is as long as a key or a hash.
fn hexadecimal(list: &[serde_json::Value]) -> Option<serde_json::Value> {
	let byte =
		|value: &serde_json::Value| value.as_u64().and_then(|number| u8::try_from(number).ok());
	let bytes: Vec<u8> = list.iter().map(byte).collect::<Option<_>>()?;
	(bytes.len() >= 16).then(|| format!("0x{}", hex::encode(bytes)).into())
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn record(byte: u8) -> SnapshotRecord {
		let cid = *Cid::dag_cbor([byte; 32]).as_bytes();
		SnapshotRecord {
			cid: CidBytes(cid),
			taken_at: 10,
			recorded_at: 12,
			description: Some(b"\x1b[31mred".to_vec()),
			logical_bytes: 1 << 30,
			new_bytes: 5,
			consistency: Value::unnamed_variant("Crash", []),
			node: 1,
			owner_key_version: 1,
		}
	}

	#[test]
	fn the_parent_is_the_root_of_the_sequence_before() {
		let chain = Snapshot::chain(vec![(3, record(1)), (4, record(2)), (6, record(3))]);
		assert_eq!(chain[0].parent, None);
		assert_eq!(chain[1].parent, Some(chain[0].cid.clone()));
		assert_eq!(chain[2].parent, None);
	}

	#[test]
	fn shape_of_a_snapshot() {
		let snapshot = &Snapshot::chain(vec![(3, record(7))])[0];
		assert_eq!(
			serde_json::to_value(snapshot).unwrap(),
			json!({
				"sequence": 3,
				"cid": Cid::dag_cbor([7; 32]).to_string(),
				"parent": null,
				"taken_at": 10,
				"recorded_at": 12,
				"description": "\\u{1b}[31mred",
				"logical_bytes": 1_073_741_824,
				"new_bytes": 5,
				"consistency": "crash",
				"node": 1,
				"owner_key_version": 1,
			})
		);
	}

	#[test]
	fn shape_of_a_restore() {
		let record = |state| RestoreRecord {
			requester: AccountId32([0; 32]),
			request_id: 7,
			sequence: 3,
			cid: CidBytes(*Cid::dag_cbor([7; 32]).as_bytes()),
			node: 1,
			requested_at: 20,
			expires_at: 40,
			state,
		};
		let failed = RestoreStateRecord::Failed {
			reason: Value::unnamed_variant("BlockMissing", []),
			at: 25,
		};
		let shown = serde_json::to_value(Restore::new(2, record(failed), 30)).unwrap();
		assert_eq!(shown["state"], "failed");
		assert_eq!(shown["reason"], "block-missing");
		assert_eq!(shown["at"], 25);
		let waits = |now| Restore::new(2, record(RestoreStateRecord::Requested), now).state;
		assert_eq!(waits(39), RestoreState::Requested);
		assert_eq!(waits(40), RestoreState::Expired);
	}

	#[test]
	fn only_what_is_held_for_backups_is_a_deposit() {
		let hold = |pallet: &str| HoldRecord {
			id: Value::unnamed_variant(pallet, [Value::unnamed_variant("HistoryDeposit", [])]),
			amount: u128::MAX,
		};
		assert!(hold("Preimage").of_backups().is_none());
		assert_eq!(
			serde_json::to_value(hold("Backup").of_backups()).unwrap(),
			json!({ "reason": "history-deposit", "amount": u128::MAX.to_string() })
		);
	}

	#[test]
	fn shape_of_eligibility() {
		let reason = Value::unnamed_variant("VmTagMismatch", []);
		let failed: Eligibility = EligibilityRecord::FailedInSlot { reason, retry_at: 9 }.into();
		assert_eq!(
			serde_json::to_value(&failed).unwrap(),
			json!({ "state": "failed-in-slot", "reason": "vm-tag-mismatch", "retry_at": 9 })
		);
		assert!(crate::words::eligibility(&failed).contains("tag"));
	}

	#[test]
	fn a_reason_that_is_newer_than_this_build_is_still_shown() {
		let word = Word::of(&Value::unnamed_variant("MoonInRetrograde", []));
		assert_eq!((word.kebab().as_str(), word.known()), ("moon-in-retrograde", None));
	}
}
