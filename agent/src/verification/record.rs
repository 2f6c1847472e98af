//! What a verification came to, and how it is written down.

use crate::{repositories::VerifyReport, verification::Depth};
use backup_primitives::Cid;
use codec::{Decode, Encode, Error, Input};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a verification ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
	/// Nothing is wrong.
	Good,
	/// The snapshot, or a part of it, cannot be restored from here.
	Bad {
		/// Blocks that are not there.
		missing: u64,
		/// Blocks that are damaged.
		corrupt: u64,
		/// One of them.
		first: Option<Cid>,
		/// In words.
		detail: String,
	},
	/// It could not be found out.
	Failed {
		/// Why.
		detail: String,
	},
}

impl Verdict {
	pub(super) fn of(report: &VerifyReport) -> Self {
		if report.is_good() {
			return Self::Good;
		}
		// The lists are cut short, the count is not.
		let corrupt = report.corrupt.len() as u64;
		let missing = report.bad_blocks - corrupt;
		let first = report.corrupt.first().or(report.missing.first()).copied();
		let detail = format!("{missing} blocks are missing, {corrupt} are damaged");
		Self::Bad { missing, corrupt, first, detail }
	}
}

/// What was bad, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(default)]
pub struct Mending {
	/// Blocks that were missing or damaged when it began, as far as they were seen.
	pub found: u64,
	/// Those of them that replicas gave again.
	pub from_replicas: u64,
	/// Those that nodes with a copy gave again.
	pub from_holders: u64,
	/// Those that the verification before has left, and that a backup has since found on the
	/// machine's disks.
	pub from_disk: u64,
	/// Whether what was bad counts as absent from then on, so that the next backup stores it anew.
	pub is_noted: bool,
}

impl Mending {
	/// How many blocks are good again.
	pub fn mended(&self) -> u64 {
		self.from_replicas + self.from_holders + self.from_disk
	}

	/// The blocks that are good again, and where they came from. Nothing if there are none.
	pub fn words(&self) -> Option<String> {
		let from = [
			(self.from_replicas, "from replicas"),
			(self.from_holders, "from holders"),
			(self.from_disk, "from the machine's disks"),
		];
		let parts = from.into_iter().filter(|(blocks, _)| *blocks > 0);
		let parts: Vec<String> =
			parts.map(|(blocks, place)| format!("{blocks} blocks mended {place}")).collect();
		(!parts.is_empty()).then(|| parts.join(", "))
	}
}

/// A verification that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
	/// The snapshot.
	pub root: Cid,
	/// How closely it was looked at.
	pub depth: Depth,
	/// When it began, in milliseconds since 1970.
	pub at_ms: u64,
	/// How long it took.
	#[serde(rename = "took_ms", with = "millis")]
	pub took: Duration,
	/// Blocks that were found good; not counted by a drill.
	pub blocks: u64,
	/// Bytes that were read, or by a drill written.
	pub bytes: u64,
	/// How it ended.
	#[serde(flatten)]
	pub verdict: Verdict,
	/// What was bad, and what became of it.
	#[serde(default)]
	pub mending: Mending,
}

/// A duration as whole milliseconds.
mod millis {
	use serde::{Deserialize, Deserializer, Serializer};
	use std::time::Duration;

	pub(super) fn serialize<S: Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
		to.serialize_u64(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
	}

	pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
		u64::deserialize(from).map(Duration::from_millis)
	}
}

impl Encode for Verification {
	fn encode(&self) -> Vec<u8> {
		let Self { root, depth, at_ms, took, blocks, bytes, verdict, mending } = self;
		let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
		(root, depth, at_ms, took_ms, blocks, bytes, verdict, mending).encode()
	}
}

impl Decode for Verification {
	fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
		let (root, depth, at_ms, took_ms, blocks, bytes, verdict) = Decode::decode(input)?;
		let took = Duration::from_millis(took_ms);
		// The first results ended here.
		let mending = match input.remaining_len()? {
			Some(0) => Mending::default(),
			_ => Decode::decode(input)?,
		};
		Ok(Self { root, depth, at_ms, took, blocks, bytes, verdict, mending })
	}
}

impl Verification {
	/// Blocks that are noted as lost, until the machine's next backup perhaps finds them on its
	/// disks.
	pub(super) fn left(&self) -> u64 {
		match &self.verdict {
			Verdict::Bad { missing, corrupt, .. } if self.mending.is_noted => missing + corrupt,
			Verdict::Bad { .. } | Verdict::Good | Verdict::Failed { .. } => 0,
		}
	}

	pub(super) fn log(&self) {
		let Self { root, depth, took, bytes, mending, .. } = self;
		if mending.found > 0 || mending.mended() > 0 {
			let Mending { found, from_replicas, from_holders, from_disk, .. } = mending;
			let left = self.left();
			tracing::warn!(
				%root, ?depth, found, from_replicas, from_holders, from_disk, left,
				"blocks of a snapshot were bad"
			);
		}
		match &self.verdict {
			Verdict::Good => tracing::info!(%root, ?depth, ?took, bytes, "snapshot verified"),
			Verdict::Bad { detail, first, .. } => {
				let first = first.map(|cid| cid.to_string());
				tracing::error!(%root, ?depth, detail, first, "a snapshot cannot be restored from here");
			}
			Verdict::Failed { detail } => {
				tracing::warn!(%root, ?depth, detail, "a snapshot could not be verified");
			}
		}
	}
}
