//! What pins of ours are called at a daemon.
//!
//! ```text
//! pallet-backup/TAG/SERIES      a snapshot, by its [`Hold`]
//! pallet-backup/TAG/.SERIES     blocks on their way, see [`Batch`](crate::repositories::kubo::Batch)
//! ```
//! The tag tells this agent's pins from those of another one that uses the daemon, too: it follows
//! from an identity, so it outlives a lost disk as the identities' copy does. The series names the
//! lineage. It does not name the snapshot, for `pin/update` gives the new pin the name of the old
//! one, and another name would cost a walk over all below the root.

use super::hold::{Hold, TAG_BYTES, Tag};
use crate::{node::PinLabel, repositories::kubo::PIN_NAME_BYTES_MAX, secret::NodeIdentities};
use backup_primitives::{Cid, LineageId, OpaqueId, Recipient};
use codec::{Decode, DecodeAll, Encode};
use data_encoding::BASE64URL_NOPAD;

/// What the names of all agents' pins begin with.
pub(super) const PREFIX: &str = "pallet-backup/";

/// What tells blocks on their way from a snapshot. No series begins so.
const BLOCKS: char = '.';

/// The series of pins that say nothing of a lineage, an operator's own for example.
const NAMELESS: &str = "-";

/// Makes and reads the names of one agent's pins.
#[derive(Debug)]
pub(super) struct Names {
	/// One for each identity, the newest first.
	tags: Vec<Tag>,
}

/// What a pin of ours is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
	/// Blocks on their way of a snapshot of this series.
	Blocks(String),
	/// A snapshot of this series.
	Series(String),
}

/// Which snapshots belong together, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Series {
	pub(super) lineage: LineageId,
	/// The node that holds them as copies, if another one sealed them.
	pub(super) copy_for: Option<OpaqueId>,
}

impl Names {
	pub(super) fn of(identities: &NodeIdentities) -> Self {
		Self::tagged(&identities.recipients())
	}

	fn tagged(recipients: &[Recipient]) -> Self {
		let tag = |recipient: &Recipient| {
			let hash = blake3::hash(recipient.to_string().as_bytes());
			let (tag, _) = hash.as_bytes().split_first_chunk().expect("a hash is longer");
			*tag
		};
		Self { tags: recipients.iter().map(tag).collect() }
	}

	/// That of the newest identity.
	pub(super) fn tag(&self) -> &Tag {
		&self.tags[0]
	}

	/// The name of a snapshot's pin.
	pub(super) fn name(&self, series: &str) -> String {
		format!("{PREFIX}{}/{series}", hex::encode(self.tag()))
	}

	/// The name of a batch's pin.
	pub(super) fn of_blocks(&self, series: &str) -> String {
		self.name(&format!("{BLOCKS}{series}"))
	}

	/// What a root is held by: first as it is pinned now, then as it was under older identities.
	pub(super) fn holds(&self, root: &Cid) -> impl Iterator<Item = Hold> {
		self.tags.iter().map(|by| Hold { by: *by, root: *root })
	}

	/// What a pin is for, if it is one of ours. No longer name is, whatever a daemon says.
	pub(super) fn read(&self, name: &str) -> Option<Name> {
		if name.len() > PIN_NAME_BYTES_MAX {
			return None;
		}
		let (tag, series) = name.strip_prefix(PREFIX)?.split_once('/')?;
		let mut bytes = [0; TAG_BYTES];
		hex::decode_to_slice(tag, &mut bytes).ok()?;
		self.tags.contains(&bytes).then(|| match series.strip_prefix(BLOCKS) {
			Some(series) => Name::Blocks(series.to_owned()),
			None => Name::Series(series.to_owned()),
		})
	}
}

/// The series and the place in it that the label of an embedded pin tells.
pub(super) fn place(label: &[u8]) -> (String, u64) {
	match PinLabel::decode(&mut &*label) {
		Ok(label) => {
			let (lineage, sequence, copy_for) = label.into_place();
			let series = Series { lineage, copy_for };
			(BASE64URL_NOPAD.encode(&series.encode()), sequence)
		}
		Err(_) => (NAMELESS.to_owned(), 0),
	}
}

/// The series of a name; nothing if it says nothing of a lineage.
pub(super) fn series(series: &str) -> Option<Series> {
	let bytes = BASE64URL_NOPAD.decode(series.as_bytes()).ok()?;
	Series::decode_all(&mut bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn recipient() -> Recipient {
		age::x25519::Identity::generate().to_public().to_string().parse().unwrap()
	}

	#[test]
	fn a_name_leads_back_to_the_lineage_of_its_label() {
		let names = Names::tagged(&[recipient()]);
		let node = OpaqueId::of(&9u32).unwrap();
		let lineage = LineageId { request: OpaqueId::of(&7u64).unwrap(), salt: [3; 32] };
		let label = PinLabel::of_copy(&lineage, 5, &node);
		let (series, sequence) = place(&label);
		let name = names.name(&series);
		let Some(Name::Series(read)) = names.read(&name) else { panic!("{name}") };
		let expected = Series { lineage, copy_for: Some(node) };
		assert_eq!((super::series(&read), sequence), (Some(expected), 5));
	}

	#[test]
	fn boundary_the_longest_name_is_one_that_kubo_takes() {
		let longest = OpaqueId::of(&[7u8; 64]).unwrap();
		let lineage = LineageId { request: longest.clone(), salt: [3; 32] };
		let (series, _) = place(&PinLabel::of_copy(&lineage, u64::MAX, &longest));
		let name = Names::tagged(&[recipient()]).of_blocks(&series);
		assert!(name.len() <= PIN_NAME_BYTES_MAX, "{}", name.len());
		let names = Names::tagged(&[recipient()]);
		let padding = "x".repeat(PIN_NAME_BYTES_MAX - names.name("").len());
		assert!(names.read(&names.name(&padding)).is_some());
		assert_eq!(names.read(&names.name(&format!("{padding}x"))), None);
		assert!(super::series(&series).is_some());
	}

	#[test]
	fn pins_of_older_identities_are_ours_and_those_of_others_are_not() {
		let (old, new, other) = (recipient(), recipient(), recipient());
		let names = Names::tagged(&[new, old]);
		let is_ours = |of: Recipient| names.read(&Names::tagged(&[of]).name("x")).is_some();
		assert!(is_ours(old) && is_ours(new) && !is_ours(other));
		for foreign in ["", "x", "pallet-backup/", "pallet-backup/x"] {
			assert_eq!(names.read(foreign), None, "{foreign}");
		}
		assert_eq!(names.read(&names.of_blocks("x")), Some(Name::Blocks("x".into())));
	}

	#[test]
	fn a_label_that_is_not_ours_has_a_name_all_the_same() {
		let (series, _) = place(b"");
		assert_eq!(super::series(&series), None);
	}
}
