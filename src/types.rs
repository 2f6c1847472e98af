//! Records that the pallet keeps on chain, and answers to reads.

use backup_primitives::{
	Cid, Consistency, FailureReason, Recipient,
	job::{Envelope, RestoreMode},
	report::Description,
};
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;
use sp_runtime::traits::{AtLeast32BitUnsigned, One};

/// The backups that one node keeps for one account: a small header.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct BackupMetadata<AccountId, BlockNumber> {
	/// Whose backups these are.
	pub owner: AccountId,
	/// Requests of the owner that the node backs up.
	pub lineages: u32,
	/// Snapshots that are kept, over all these requests.
	pub snapshots: u32,
	/// Root of the newest snapshot.
	pub last_snapshot: Option<Cid>,
	/// When the first of these backups was created.
	pub created_at: BlockNumber,
	/// When anything of this last changed.
	pub updated_at: BlockNumber,
	/// Words of the owner.
	pub description: Option<Description>,
}

/// All that a report about a request needs to be judged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct Lineage<AccountId, NodeId, BlockNumber> {
	/// The node that hosts the machine.
	pub node: NodeId,
	/// Whose machine it is.
	pub owner: AccountId,
	/// Hash of the parent block at creation: a lineage that is created again on another
	/// fork is another one.
	pub salt: [u8; 32],
	/// When it was created.
	pub created_at: BlockNumber,
	/// Sequence of the next snapshot. Never goes back.
	pub next: u64,
	/// Snapshots that are kept.
	pub kept: u32,
	/// Sealed bytes that these snapshots brought, by the nodes' claims.
	pub stored_bytes: u64,
	/// Where eviction goes on. What is kept below is held, or stands in `guarded`.
	pub evict_from: u64,
	/// The snapshot that eviction passed over because it is the newest that another node has.
	pub guarded: Option<u64>,
	/// Where the search for what goes at the hard cap goes on.
	pub force_from: u64,
	/// Snapshots that the owner holds.
	pub owner_holds: u32,
	/// Snapshots that governance holds.
	pub governance_holds: u32,
	/// From when on blocks may be given up, if the owner wants this backup deleted.
	pub delete_at: Option<BlockNumber>,
	/// Whether the node has confirmed that.
	pub is_given_up: bool,
	/// When the newest snapshot was taken.
	pub last_taken_at: Option<BlockNumber>,
	/// When the chain recorded it.
	pub last_recorded_at: Option<BlockNumber>,
	/// When the owner last asked for a snapshot out of turn.
	pub asked_at: Option<BlockNumber>,
	/// The last attempt, if it failed.
	pub failure: Option<Failure<BlockNumber>>,
	/// What the owner set.
	pub settings: LineageSettings,
}

impl<AccountId, NodeId, BlockNumber: AtLeast32BitUnsigned + Copy>
	Lineage<AccountId, NodeId, BlockNumber>
{
	/// When the next snapshot is due, at a cadence of `frequency` blocks: the first at once, a
	/// later one when the cadence is over or the owner asks.
	///
	/// Never less than `shortest` blocks after the one before was recorded: a node that reports
	/// snapshots as older than they are could else replace a whole history within moments.
	pub fn due_at(&self, frequency: BlockNumber, shortest: BlockNumber) -> BlockNumber {
		let by_cadence = match self.last_taken_at {
			Some(taken_at) => taken_at.saturating_add(frequency),
			None => self.created_at,
		};
		let wanted_at =
			self.unanswered_since().map_or(by_cadence, |asked_at| asked_at.min(by_cadence));
		let recorded_at = self.last_recorded_at;
		recorded_at.map_or(wanted_at, |at| wanted_at.max(at.saturating_add(shortest)))
	}

	/// When the owner asked for a snapshot that was not taken yet, if it did. One that stood
	/// still before that is no answer.
	pub fn unanswered_since(&self) -> Option<BlockNumber> {
		self.asked_at
			.filter(|asked_at| self.last_taken_at.is_none_or(|taken_at| taken_at < *asked_at))
	}

	/// The slot that `now` lies in, named by its first block. One begins with each cadence since
	/// the last snapshot or the creation, and one when the owner asks. A failed snapshot is
	/// tried again in the next slot.
	pub fn slot(&self, now: BlockNumber, frequency: BlockNumber) -> u64 {
		let start = self.cadence_start(now, frequency);
		let asked_at = self.unanswered_since().filter(|asked_at| *asked_at <= now);
		asked_at.map_or(start, |asked_at| asked_at.max(start)).unique_saturated_into()
	}

	/// Let eviction look at a place again that it has passed over.
	pub(crate) fn look_again_at(&mut self, sequence: u64) {
		self.evict_from = self.evict_from.min(sequence);
		self.force_from = self.force_from.min(sequence);
	}

	/// First block of the slot after the one that `slot` lies in, unless the owner asks.
	pub fn next_slot(&self, slot: BlockNumber, frequency: BlockNumber) -> BlockNumber {
		self.cadence_start(slot, frequency).saturating_add(frequency)
	}

	fn cadence_start(&self, now: BlockNumber, frequency: BlockNumber) -> BlockNumber {
		let since = self.last_taken_at.unwrap_or(self.created_at);
		let frequency = frequency.max(One::one());
		let passed = now.saturating_sub(since) / frequency;
		since.saturating_add(passed.saturating_mul(frequency))
	}
}

/// What an owner sets for one request.
#[derive(
	Clone,
	Debug,
	Default,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct LineageSettings {
	/// No snapshots are taken while this is set.
	pub paused: bool,
	/// How many snapshots to keep; the chain's default if not set.
	pub keep_last: Option<u32>,
}

/// A snapshot that was due and could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct Failure<BlockNumber> {
	/// The slot in which it failed; see [`Lineage::slot`].
	pub slot: u64,
	/// What stood in the way.
	pub reason: FailureReason,
	/// When the chain learned of it.
	pub at: BlockNumber,
}

/// A recorded snapshot. Never changed once stored.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct SnapshotMetadata<RequestId, NodeId, BlockNumber> {
	/// Root of the snapshot.
	pub cid: Cid,
	/// The machine's request.
	pub request_id: RequestId,
	/// When the disks stood still.
	pub taken_at: BlockNumber,
	/// When the chain recorded it.
	pub recorded_at: BlockNumber,
	/// Words of the node. Untrusted: escape them.
	pub description: Option<Description>,
	/// Size of the disks, in bytes. A claim of the node.
	pub logical_bytes: u64,
	/// Sealed bytes that were new. A claim of the node.
	pub new_bytes: u64,
	/// How well the disks fit together.
	pub consistency: Consistency,
	/// The node that sealed it.
	pub node: NodeId,
	/// Version of the owner's key that it is sealed to.
	pub owner_key_version: u32,
}

/// A node's wish to back up a machine that it runs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct Proposal<NodeId, BlockNumber> {
	/// The node.
	pub node: NodeId,
	/// When it can be approved no more.
	pub expires_at: BlockNumber,
}

/// What keeps a snapshot from eviction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct SnapshotLock {
	/// Restores that wait for it.
	pub restores: u32,
	/// The owner holds it.
	pub by_owner: bool,
	/// Governance holds it, which keeps it from deletion too.
	pub by_governance: bool,
}

impl SnapshotLock {
	/// Whether nothing keeps it any more.
	pub fn is_open(&self) -> bool {
		self.restores == 0 && !self.by_owner && !self.by_governance
	}
}

/// What is deleted, or kept from it.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum DeletionTarget<AccountId, RequestId> {
	/// All backups of an account.
	Account(AccountId),
	/// The backup of a request.
	Request(RequestId),
	/// One snapshot of a request.
	Snapshot(RequestId, u64),
}

/// A key among those of all owners: whose it is, and in which version.
pub type KeyPlace<AccountId> = (AccountId, u32);

/// A public key of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct OwnerKey<BlockNumber> {
	/// The key.
	pub recipient: Recipient,
	/// From when on it alone is sealed to. Before, roots are sealed to it and to the one
	/// before it, so that a stolen account cannot silently redirect backups.
	pub active_from: BlockNumber,
}

/// Leave for one account to restore a machine of another.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Grant<AccountId, BlockNumber> {
	/// Who may.
	pub account: AccountId,
	/// Since when.
	pub granted_at: BlockNumber,
	/// Until when; nothing if until it is revoked.
	pub expires_at: Option<BlockNumber>,
	/// The key with which it may fetch sealed blocks from nodes; nothing if it may not.
	pub recipient: Option<Recipient>,
}

impl<AccountId, BlockNumber: PartialOrd> Grant<AccountId, BlockNumber> {
	/// Whether it has not expired.
	pub fn is_valid_at(&self, now: BlockNumber) -> bool {
		self.expires_at.as_ref().is_none_or(|at| now < *at)
	}
}

/// A wish for an image.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct RestoreRequest<AccountId, NodeId, RequestId, BlockNumber> {
	/// Who asked.
	pub requester: AccountId,
	/// Whose snapshot it is.
	pub owner: AccountId,
	/// The machine's request.
	pub request_id: RequestId,
	/// The lineage's salt, see [`Lineage::salt`].
	pub salt: [u8; 32],
	/// Sequence of the snapshot.
	pub sequence: u64,
	/// Root of the snapshot.
	pub cid: Cid,
	/// The node that is to carry it out.
	pub node: NodeId,
	/// Whether the disks of a machine are replaced.
	pub mode: RestoreMode,
	/// Another request of the owner that it is meant for.
	pub target: Option<RequestId>,
	/// What opens the root on the node, where the root is not sealed to it.
	pub envelope: Option<Envelope>,
	/// When it was asked for.
	pub requested_at: BlockNumber,
	/// When it is given up.
	pub expires_at: BlockNumber,
	/// What became of it.
	pub state: RestoreState<BlockNumber>,
}

impl<AccountId: Encode, NodeId: Encode, RequestId: Encode, BlockNumber: Encode>
	RestoreRequest<AccountId, NodeId, RequestId, BlockNumber>
{
	/// Digest of everything that was asked for, and when: what a report of its end signs.
	pub fn digest(&self) -> [u8; 32] {
		let Self { requester, owner, request_id, salt, sequence, cid, node, .. } = self;
		let what = (requester, owner, request_id, salt, sequence, cid, node);
		let how = (&self.mode, &self.target, &self.envelope);
		let times = (&self.requested_at, &self.expires_at);
		(what, how, times).using_encoded(sp_io::hashing::blake2_256)
	}
}

/// How a snapshot is to be restored.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct RestoreOptions<RequestId> {
	/// Whether the disks of a machine are replaced. Only its owner may ask for that, and it must
	/// be stopped.
	pub mode: RestoreMode,
	/// Another request of the same owner: its node carries the restore out, and with
	/// [`RestoreMode::Replace`] the disks of its machine are replaced.
	pub target: Option<RequestId>,
	/// The root's read key, sealed to the node that carries it out. Needed where that is not the
	/// node that sealed the snapshot.
	pub envelope: Option<Envelope>,
}

impl<RequestId> Default for RestoreOptions<RequestId> {
	fn default() -> Self {
		Self { mode: RestoreMode::Aside, target: None, envelope: None }
	}
}

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub enum RestoreState<BlockNumber> {
	/// The node has not reported yet. It holds until `expires_at`.
	Requested,
	/// The image is complete.
	Fulfilled {
		/// When the chain learned of it.
		at: BlockNumber,
	},
	/// There is no image.
	Failed {
		/// What stood in the way.
		reason: FailureReason,
		/// When the chain learned of it.
		at: BlockNumber,
	},
	/// Its time is over. The record stays only until its deposit can be returned.
	Expired,
}

/// A node that holds copies of a request's snapshots, and what it last said of them.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Holder<NodeId, BlockNumber> {
	/// The node.
	pub node: NodeId,
	/// When it was chosen.
	pub since: BlockNumber,
	/// First sequence of the range of which it has every snapshot that is kept. A claim of its
	/// own.
	pub from: u64,
	/// The sequence behind the last of that range; `from` if it has none.
	pub to: u64,
	/// When it said so.
	pub confirmed_at: Option<BlockNumber>,
}

/// A copy that a node has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct OwedCopy<AccountId, NodeId, RequestId> {
	/// The machine's request.
	pub request_id: RequestId,
	/// See [`Lineage::salt`].
	pub salt: [u8; 32],
	/// Whose machine it is.
	pub owner: AccountId,
	/// The node that hosts it.
	pub host: NodeId,
	/// Sequence of the next snapshot.
	pub next: u64,
	/// Snapshots that are kept.
	pub kept: u32,
}

/// A snapshot that something is known of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct SnapshotPoint<BlockNumber> {
	/// Its place in the lineage.
	pub sequence: u64,
	/// When the disks stood still.
	pub taken_at: BlockNumber,
}

/// How well a machine is protected: what its own node claims, and what another one confirmed.
/// A backup on the machine that it protects is none, so the second is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct Protection<NodeId, BlockNumber> {
	/// The newest snapshot that is kept.
	pub claimed: Option<SnapshotPoint<BlockNumber>>,
	/// The newest snapshot that a holder, who is not silent, says to have.
	pub confirmed: Option<SnapshotPoint<BlockNumber>>,
	/// When the next snapshot is due.
	pub due_at: BlockNumber,
	/// How many holders the chain wants.
	pub holders_wanted: u32,
	/// The holders there are, and whether each has been silent for too long.
	pub holders: alloc::vec::Vec<(Holder<NodeId, BlockNumber>, bool)>,
}

/// What backups of an account take, in bytes. All are claims of the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct BackupBytes {
	/// Snapshots that are kept.
	pub snapshots: u64,
	/// Sealed bytes that they brought. What went with older snapshots is not in it.
	pub stored_bytes: u64,
	/// Sizes of the machines' disks in their newest snapshots.
	pub logical_bytes: u64,
}

/// An owner's wish that all its backups go.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, MaxEncodedLen, TypeInfo)]
pub struct UserDeletion<BlockNumber> {
	/// From when on blocks may be given up.
	pub effective_at: BlockNumber,
	/// Lineages that are still to go.
	pub remaining: u32,
}

/// What governance sets for the whole chain. All times in blocks.
#[derive(
	Clone,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
	serde::Serialize,
	serde::Deserialize,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainSettings<BlockNumber> {
	/// Cadence of accounts that set none.
	pub frequency: BlockNumber,
	/// Shortest cadence that an account may set. One that was set before and is shorter counts as
	/// this one.
	pub min_frequency: BlockNumber,
	/// Longest cadence that an account may set. One that was set before and is longer counts as
	/// this one.
	pub max_frequency: BlockNumber,
	/// Snapshots kept of requests whose owner set no number.
	pub keep_last: u32,
	/// How long a snapshot is kept before it may be evicted, counted from its record.
	pub min_age: BlockNumber,
	/// How long a deletion can still be taken back.
	pub deletion_grace: BlockNumber,
	/// How long nodes have after that to confirm it, before everyone may close it without.
	pub deletion_deadline: BlockNumber,
	/// How long a restore may take.
	pub restore_lifetime: BlockNumber,
	/// How long an owner has to approve a backup that a node proposed.
	pub proposal_lifetime: BlockNumber,
	/// How long a new owner key stands beside the one before.
	pub key_activation_delay: BlockNumber,
	/// How many other nodes hold copies of each machine's snapshots.
	pub replicas: u32,
	/// How often a holder says what it has.
	pub holder_period: BlockNumber,
	/// How long a holder may be silent before another may take its place.
	pub holder_silence: BlockNumber,
}

impl<BlockNumber> ChainSettings<BlockNumber> {
	/// The same settings in another type of block number.
	pub fn map<Other>(self, convert: impl Fn(BlockNumber) -> Other) -> ChainSettings<Other> {
		ChainSettings {
			frequency: convert(self.frequency),
			min_frequency: convert(self.min_frequency),
			max_frequency: convert(self.max_frequency),
			keep_last: self.keep_last,
			min_age: convert(self.min_age),
			deletion_grace: convert(self.deletion_grace),
			deletion_deadline: convert(self.deletion_deadline),
			restore_lifetime: convert(self.restore_lifetime),
			proposal_lifetime: convert(self.proposal_lifetime),
			key_activation_delay: convert(self.key_activation_delay),
			replicas: self.replicas,
			holder_period: convert(self.holder_period),
			holder_silence: convert(self.holder_silence),
		}
	}
}

/// Whether a snapshot of a request would be taken now, and if not, the first reason.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub enum Eligibility<BlockNumber> {
	/// A snapshot is due.
	Eligible {
		/// The slot; see [`Lineage::slot`].
		slot: u64,
	},
	/// Nobody created a backup of this request.
	NoBackup,
	/// The request is not fulfilled, has ended, or has left the node.
	NotRunning,
	/// The node is not registered any more.
	NoNode,
	/// The owner has no backups enabled.
	Disabled,
	/// The owner's backups are not paid for.
	Unpaid,
	/// The owner has registered no key to seal to.
	NoOwnerKey,
	/// The owner has asked for the deletion of its backups.
	DeletionPending,
	/// Governance has paused all backups of the chain.
	ChainPaused,
	/// The owner has paused backups of this request.
	Paused,
	/// As many snapshots are kept as may ever be, and those that could go are held.
	Full,
	/// The cadence is not over.
	NotDue {
		/// When it will be.
		due_at: BlockNumber,
	},
	/// The attempt in this slot failed; the next slot tries again.
	FailedInSlot {
		/// What stood in the way.
		reason: FailureReason,
		/// When the next slot begins.
		retry_at: BlockNumber,
	},
}

/// A lineage as reads show it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, TypeInfo)]
pub struct LineageView<AccountId, NodeId, RequestId, BlockNumber> {
	/// The machine's request.
	pub request_id: RequestId,
	/// Whose machine it is.
	pub owner: AccountId,
	/// The node that hosts it.
	pub node: NodeId,
	/// See [`Lineage::salt`].
	pub salt: [u8; 32],
	/// Snapshots that are kept.
	pub kept: u32,
	/// Sealed bytes that they brought, by the nodes' claims.
	pub stored_bytes: u64,
	/// Sequence of the next snapshot.
	pub next: u64,
	/// When the newest snapshot was taken.
	pub last_taken_at: Option<BlockNumber>,
	/// Cadence that applies, in blocks.
	pub frequency: BlockNumber,
	/// Number of snapshots that are kept.
	pub keep_last: u32,
	/// From when on blocks may be given up, if this backup or all of its owner's are to be
	/// deleted.
	pub delete_at: Option<BlockNumber>,
	/// What the last attempt failed on, if it did.
	pub last_failure: Option<FailureReason>,
	/// Whether a snapshot would be taken now.
	pub eligibility: Eligibility<BlockNumber>,
}
