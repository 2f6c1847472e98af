//! What a guest writes between two backups, recorded by QEMU in dirty bitmaps.
//!
//! A backup begins a bitmap on each disk at the instant that it shows, and stops the one from
//! which it reads what to read: that of the last backup that ended well. If this one ends well,
//! the new bitmap stays and the old one goes. If not, the new one is merged into the old one,
//! which then goes on. After a kill both are found, and which of them counts follows from what the
//! agent knows: the checkpoints whose backups it has. So it is settled before each backup, after
//! each, and when the agent starts, always by the same rule ([`settle`]).
//!
//! A bitmap's name has the checkpoint and the disk. An image that was put in another disk's place
//! has none that fits, and neither has one from elsewhere. Bitmaps without our prefix are somebody
//! else's and are not touched.
//!
//! Where an image can keep bitmaps (qcow2 of version 3), they survive the end of QEMU. After a
//! crash QEMU calls them inconsistent, and the disk is read in full.

use super::{Drive, PREFIX, nodes::list};
use crate::{
	format::Geometry,
	sources::{Checkpoint, SourceError, qmp::Monitor},
};
use serde_json::{Value, json};

/// A bitmap of ours, as QEMU reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bitmap {
	name: String,
	is_recording: bool,
	is_inconsistent: bool,
}

impl Bitmap {
	/// Ours among the bitmaps of a drive, by what `query-block` says of its medium.
	pub(super) fn list(inserted: &Value) -> Vec<Self> {
		let bitmaps = list(&inserted["dirty-bitmaps"]).iter().filter_map(|bitmap| {
			Some(Self {
				name: bitmap["name"].as_str()?.to_owned(),
				is_recording: bitmap["recording"] == true,
				is_inconsistent: bitmap["inconsistent"] == true,
			})
		});
		bitmaps.filter(|bitmap| bitmap.name.starts_with(PREFIX)).collect()
	}
}

/// Whether an image keeps bitmaps when QEMU ends, by what `query-block` says of it.
pub(super) fn keeps_bitmaps(inserted: &Value) -> bool {
	let details = &inserted["image"]["format-specific"];
	details["type"] == "qcow2" && details["data"]["compat"] == "1.1"
}

/// The name of a disk's bitmap.
pub(super) fn bitmap_name(checkpoint: Checkpoint, disk: &str) -> String {
	format!("{PREFIX}{checkpoint}-{disk}")
}

/// What the bitmaps of a disk are good for.
#[derive(Debug, PartialEq, Eq)]
enum Worth<'b> {
	/// One has recorded all writes since its checkpoint, together with another that began when it
	/// was stopped.
	Complete { checkpoint: Checkpoint, absorbs: Option<&'b Bitmap> },
	/// Writes since any checkpoint that is known may be missing.
	None { why: &'static str },
}

/// Judge the bitmaps of a disk. `known` are the checkpoints whose backups are there, the newest
/// first.
fn judge<'b>(bitmaps: &'b [Bitmap], disk: &str, known: &[Checkpoint]) -> Worth<'b> {
	let of = |checkpoint: &Checkpoint| {
		let name = bitmap_name(*checkpoint, disk);
		bitmaps.iter().find(|bitmap| bitmap.name == name).map(|bitmap| (*checkpoint, bitmap))
	};
	let Some((checkpoint, base)) = known.iter().find_map(of) else {
		return Worth::None { why: "none is of a backup that is there" };
	};
	let others: Vec<&Bitmap> = bitmaps.iter().filter(|bitmap| *bitmap != base).collect();
	match others[..] {
		_ if base.is_inconsistent => Worth::None { why: "QEMU or its host crashed" },
		_ if base.is_recording => Worth::Complete { checkpoint, absorbs: None },
		[other] if other.is_recording && !other.is_inconsistent => {
			Worth::Complete { checkpoint, absorbs: Some(other) }
		}
		_ => Worth::None { why: "it was stopped, and nothing recorded what came then" },
	}
}

/// Make of a disk's bitmaps one that goes on recording, or none, and say since when it has.
pub(super) fn settle(
	monitor: &mut Monitor,
	drive: &Drive,
	known: &[Checkpoint],
) -> Result<Option<Checkpoint>, SourceError> {
	let worth = judge(&drive.bitmaps, &drive.name, known);
	let (checkpoint, absorbs) = match worth {
		Worth::Complete { checkpoint, absorbs } => (Some(checkpoint), absorbs),
		Worth::None { why } => {
			if !known.is_empty() {
				tracing::warn!(disk = drive.name, why, "no record of what was written to the disk");
			}
			(None, None)
		}
	};
	let base = checkpoint.map(|checkpoint| bitmap_name(checkpoint, &drive.name));
	if let (Some(base), Some(other)) = (&base, absorbs) {
		let merge = json!({ "node": drive.node, "target": base, "bitmaps": [other.name] });
		let actions = [
			action("block-dirty-bitmap-merge", merge),
			action("block-dirty-bitmap-enable", bitmap(drive, base)),
			action("block-dirty-bitmap-remove", bitmap(drive, &other.name)),
		];
		monitor.run("transaction", json!({ "actions": actions }))?;
	}
	let is_rest = |one: &&Bitmap| Some(&one.name) != base.as_ref() && Some(*one) != absorbs;
	for rest in drive.bitmaps.iter().filter(is_rest) {
		monitor.run("block-dirty-bitmap-remove", bitmap(drive, &rest.name))?;
	}
	Ok(checkpoint)
}

/// Begin new bitmaps on all disks at one instant, and stop those of `base` where disks have one.
/// The machine must stand still.
pub(super) fn begin(
	monitor: &mut Monitor,
	drives: &[Drive],
	base: Option<Checkpoint>,
	new: Checkpoint,
) -> Result<(), SourceError> {
	let mut actions = Vec::new();
	for drive in drives {
		let mut add = bitmap(drive, &bitmap_name(new, &drive.name));
		add["persistent"] = drive.keeps_bitmaps.into();
		// Finer than chunks would tell nothing more.
		add["granularity"] = Geometry::V1.chunk_bytes().into();
		actions.push(action("block-dirty-bitmap-add", add));
		if let Some(base) = base.filter(|base| drive.checkpoint == Some(*base)) {
			let stopped = bitmap(drive, &bitmap_name(base, &drive.name));
			actions.push(action("block-dirty-bitmap-disable", stopped));
		}
	}
	monitor.run("transaction", json!({ "actions": actions })).map(drop)
}

fn bitmap(drive: &Drive, name: &str) -> Value {
	json!({ "node": drive.node, "name": name })
}

fn action(kind: &str, data: Value) -> Value {
	json!({ "type": kind, "data": data })
}

#[cfg(test)]
mod tests {
	use super::*;

	fn bitmaps(all: &[(Checkpoint, &str, &str)]) -> Vec<Bitmap> {
		let bitmap = |(checkpoint, disk, state): &(Checkpoint, &str, &str)| Bitmap {
			name: bitmap_name(*checkpoint, disk),
			is_recording: *state == "recording",
			is_inconsistent: *state == "inconsistent",
		};
		all.iter().map(bitmap).collect()
	}

	/// The checkpoint that counts, and whether another bitmap is merged into its own.
	fn judged(bitmaps: &[Bitmap], known: &[Checkpoint]) -> Option<(Checkpoint, bool)> {
		match judge(bitmaps, "vda", known) {
			Worth::Complete { checkpoint, absorbs } => Some((checkpoint, absorbs.is_some())),
			Worth::None { .. } => None,
		}
	}

	#[test]
	fn a_bitmap_counts_that_records_since_a_backup_which_is_there() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let one = bitmaps(&[(old, "vda", "recording")]);
		assert_eq!(judged(&one, &[old]), Some((old, false)));
		assert_eq!(judged(&one, &[new, old]), Some((old, false)));
		assert_eq!(judged(&one, &[new]), None);
		assert_eq!(judged(&[], &[old]), None);
	}

	#[test]
	fn after_a_backup_that_ended_well_the_new_one_counts() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let both = bitmaps(&[(old, "vda", "stopped"), (new, "vda", "recording")]);
		assert_eq!(judged(&both, &[new, old]), Some((new, false)));
		assert_eq!(judged(&both, &[new]), Some((new, false)));
	}

	#[test]
	fn after_a_backup_that_failed_the_old_one_goes_on_with_what_the_new_one_saw() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let both = bitmaps(&[(old, "vda", "stopped"), (new, "vda", "recording")]);
		assert_eq!(judged(&both, &[old]), Some((old, true)));
	}

	#[test]
	fn a_record_with_a_gap_counts_for_nothing() {
		let [old, new, third] = [Checkpoint::new(), Checkpoint::new(), Checkpoint::new()];
		for all in [
			bitmaps(&[(old, "vda", "inconsistent")]),
			bitmaps(&[(old, "vda", "inconsistent"), (new, "vda", "recording")]),
			bitmaps(&[(old, "vda", "stopped")]),
			bitmaps(&[(old, "vda", "stopped"), (new, "vda", "stopped")]),
			bitmaps(&[(old, "vda", "stopped"), (new, "vda", "inconsistent")]),
			bitmaps(&[
				(old, "vda", "stopped"),
				(new, "vda", "recording"),
				(third, "vda", "recording"),
			]),
			bitmaps(&[(old, "vdb", "recording")]),
		] {
			assert_eq!(judged(&all, &[old]), None, "{all:?}");
		}
	}

	#[test]
	fn bitmaps_of_others_are_not_seen() {
		let medium = json!({ "dirty-bitmaps": [
			{ "name": "libvirt-1", "recording": true },
			{ "name": "pbk-1-vda", "recording": false, "inconsistent": true },
			{ "recording": true },
		] });
		let expected =
			Bitmap { name: "pbk-1-vda".into(), is_recording: false, is_inconsistent: true };
		assert_eq!(Bitmap::list(&medium), [expected]);
	}
}
