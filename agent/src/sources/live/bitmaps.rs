//! What a guest writes between two backups, recorded by QEMU in dirty bitmaps.
//!
//! A backup begins a bitmap on each disk at the instant that it shows, and stops the one from
//! which it reads what to read: that of the last backup that ended well. If this one ends well,
//! the new bitmap stays and the old one goes. If not, the new one is merged into the old one,
//! which then goes on. After a kill both are found, and which of them counts follows from what the
//! agent knows: the checkpoints whose backups it has. So it is settled before each backup, after
//! each, and when the agent starts, always by the same rule ([`settle`]).
//!
//! A bitmap's name has its checkpoint, that of the bitmap which was stopped when it began, and the
//! disk: `pbk-<checkpoint>-<checkpoint or 0>-<disk>`. So one is merged only into that which it goes
//! on, and a gap between two is seen. An image that was put in another disk's place has none that
//! fits, and neither has one from elsewhere. Bitmaps without our prefix are somebody else's and are
//! not touched.
//!
//! Where an image can keep bitmaps (qcow2 of version 3), they survive the end of QEMU. After a
//! crash QEMU calls them inconsistent, and the disk is read in full.
//!
//! What a bitmap cannot see: writes of others than its own QEMU, so disks that are shared have
//! none; and that a disk shrank and grew back.

use super::{Drive, PREFIX, nodes::list};
use crate::{
	format::Geometry,
	sources::{Checkpoint, SourceError, qmp::Monitor},
};
use serde_json::{Value, json};

/// A bitmap of ours, as QEMU reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Bitmap {
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

	/// Ours among the bitmaps in an image that nobody has opened to write, by what `qemu-img info`
	/// says of it.
	pub(in crate::sources) fn list_stored(info: &Value) -> Vec<Self> {
		let stored = list(&info["format-specific"]["data"]["bitmaps"]).iter();
		let bitmaps = stored.filter_map(|bitmap| {
			let has = |flag: &str| list(&bitmap["flags"]).iter().any(|found| found == flag);
			Some(Self {
				name: bitmap["name"].as_str()?.to_owned(),
				is_recording: has("auto"),
				is_inconsistent: has("in-use"),
			})
		});
		bitmaps.filter(|bitmap| bitmap.name.starts_with(PREFIX)).collect()
	}

	/// Whether it records since this checkpoint.
	fn is_of(&self, checkpoint: Checkpoint, disk: &str) -> bool {
		let rest = self.name.strip_prefix(&format!("{PREFIX}{checkpoint}-"));
		rest.and_then(|rest| rest.split_once('-')).is_some_and(|(_base, of)| of == disk)
	}

	/// Whether it began when the one of this checkpoint was stopped.
	fn goes_on(&self, checkpoint: Checkpoint, disk: &str) -> bool {
		self.name.starts_with(PREFIX) && self.name.ends_with(&format!("-{checkpoint}-{disk}"))
	}
}

/// Whether an image keeps bitmaps when QEMU ends, by what `query-block` says of it.
pub(super) fn keeps_bitmaps(inserted: &Value) -> bool {
	let details = &inserted["image"]["format-specific"];
	details["type"] == "qcow2" && details["data"]["compat"] == "1.1"
}

/// The name of a disk's bitmap that begins when the one of `base` is stopped.
fn bitmap_name(checkpoint: Checkpoint, base: Option<Checkpoint>, disk: &str) -> String {
	let base = base.map_or("0".to_owned(), |base| base.to_string());
	format!("{PREFIX}{checkpoint}-{base}-{disk}")
}

/// What the bitmaps of a disk are good for.
#[derive(Debug, PartialEq, Eq)]
enum Worth<'b> {
	/// One has recorded all writes since its checkpoint, together with another that began when it
	/// was stopped.
	Complete { checkpoint: Checkpoint, bitmap: &'b Bitmap, absorbs: Option<&'b Bitmap> },
	/// Writes since any checkpoint that is known may be missing.
	None { why: &'static str },
}

/// Judge the bitmaps of a disk. `known` are the checkpoints whose backups are there, the newest
/// first.
fn judge<'b>(bitmaps: &'b [Bitmap], disk: &str, known: &[Checkpoint]) -> Worth<'b> {
	let of = |checkpoint: &Checkpoint| {
		let bitmap = bitmaps.iter().find(|bitmap| bitmap.is_of(*checkpoint, disk));
		bitmap.map(|bitmap| (*checkpoint, bitmap))
	};
	let Some((checkpoint, base)) = known.iter().find_map(of) else {
		return Worth::None { why: "none is of a backup that is there" };
	};
	let others: Vec<&Bitmap> = bitmaps.iter().filter(|bitmap| *bitmap != base).collect();
	match others[..] {
		_ if base.is_inconsistent => Worth::None { why: "QEMU or its host crashed" },
		_ if base.is_recording => Worth::Complete { checkpoint, bitmap: base, absorbs: None },
		[other]
			if other.is_recording && !other.is_inconsistent && other.goes_on(checkpoint, disk) =>
		{
			Worth::Complete { checkpoint, bitmap: base, absorbs: Some(other) }
		}
		_ => Worth::None { why: "it was stopped, and nothing recorded what came then" },
	}
}

/// What a disk has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Record {
	/// Since when.
	pub(in crate::sources) checkpoint: Checkpoint,
	/// The bitmap's name.
	pub(in crate::sources) bitmap: String,
}

/// What a disk has recorded whose bitmaps cannot be settled now: nothing where two would have to
/// be merged.
pub(in crate::sources) fn recorded(
	bitmaps: &[Bitmap],
	disk: &str,
	known: &[Checkpoint],
) -> Option<Record> {
	match judge(bitmaps, disk, known) {
		Worth::Complete { checkpoint, bitmap, absorbs: None } => {
			Some(Record { checkpoint, bitmap: bitmap.name.clone() })
		}
		Worth::Complete { .. } | Worth::None { .. } => None,
	}
}

/// What a bitmap of this name has recorded in an image, if it has all writes since a checkpoint: it
/// went on when QEMU ended, and QEMU ended well.
pub(in crate::sources) fn recorded_as(
	bitmaps: &[Bitmap],
	name: &str,
	checkpoint: Checkpoint,
) -> Option<Record> {
	let bitmap = bitmaps.iter().find(|bitmap| bitmap.name == name)?;
	(bitmap.is_recording && !bitmap.is_inconsistent)
		.then(|| Record { checkpoint, bitmap: bitmap.name.clone() })
}

/// Make of a disk's bitmaps one that goes on recording, or none, and say which.
pub(super) fn settle(
	monitor: &mut Monitor,
	drive: &Drive,
	known: &[Checkpoint],
) -> Result<Option<Record>, SourceError> {
	let (kept, absorbs) = match judge(&drive.bitmaps, &drive.name, known) {
		Worth::Complete { checkpoint, bitmap, absorbs } => {
			(Some(Record { checkpoint, bitmap: bitmap.name.clone() }), absorbs)
		}
		Worth::None { why } => {
			if !known.is_empty() {
				tracing::warn!(disk = drive.name, why, "no record of what was written to the disk");
			}
			(None, None)
		}
	};
	if let (Some(Record { bitmap: base, .. }), Some(other)) = (&kept, absorbs) {
		let merge = json!({ "node": drive.node, "target": base, "bitmaps": [other.name] });
		let actions = [
			action("block-dirty-bitmap-merge", merge),
			action("block-dirty-bitmap-enable", bitmap(drive, base)),
			action("block-dirty-bitmap-remove", bitmap(drive, &other.name)),
		];
		monitor.run("transaction", json!({ "actions": actions }))?;
	}
	let is_rest = |one: &&Bitmap| {
		Some(&one.name) != kept.as_ref().map(|kept| &kept.bitmap) && Some(*one) != absorbs
	};
	for rest in drive.bitmaps.iter().filter(is_rest) {
		match monitor.run("block-dirty-bitmap-remove", bitmap(drive, &rest.name)) {
			// One that somebody uses goes another time. Nothing relies on its being gone.
			Err(error @ SourceError::Refused { .. }) => {
				tracing::warn!(disk = drive.name, %error, "a bitmap stays");
			}
			result => drop(result?),
		}
	}
	Ok(kept)
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
	for drive in drives.iter().filter(|drive| !drive.is_shared) {
		let stopped = drive.record.as_ref().filter(|record| Some(record.checkpoint) == base);
		let goes_on = stopped.map(|record| record.checkpoint);
		let mut add = bitmap(drive, &bitmap_name(new, goes_on, &drive.name));
		add["persistent"] = drive.keeps_bitmaps.into();
		// Finer than chunks would tell nothing more.
		add["granularity"] = Geometry::V1.chunk_bytes().into();
		actions.push(action("block-dirty-bitmap-add", add));
		if let Some(record) = stopped {
			actions.push(action("block-dirty-bitmap-disable", bitmap(drive, &record.bitmap)));
		}
	}
	match actions.is_empty() {
		true => Ok(()),
		false => monitor.run("transaction", json!({ "actions": actions })).map(drop),
	}
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

	/// A bitmap that began at a checkpoint, going on from another.
	type Made = (Checkpoint, Option<Checkpoint>, &'static str, &'static str);

	fn bitmaps(all: &[Made]) -> Vec<Bitmap> {
		let bitmap = |(checkpoint, base, disk, state): &Made| Bitmap {
			name: bitmap_name(*checkpoint, *base, disk),
			is_recording: *state == "recording",
			is_inconsistent: *state == "inconsistent",
		};
		all.iter().map(bitmap).collect()
	}

	/// The checkpoint that counts, and whether another bitmap is merged into its own.
	fn judged(bitmaps: &[Bitmap], known: &[Checkpoint]) -> Option<(Checkpoint, bool)> {
		match judge(bitmaps, "vda", known) {
			Worth::Complete { checkpoint, absorbs, .. } => Some((checkpoint, absorbs.is_some())),
			Worth::None { .. } => None,
		}
	}

	#[test]
	fn a_bitmap_counts_that_records_since_a_backup_which_is_there() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let one = bitmaps(&[(old, None, "vda", "recording")]);
		assert_eq!(judged(&one, &[old]), Some((old, false)));
		assert_eq!(judged(&one, &[new, old]), Some((old, false)));
		assert_eq!(judged(&one, &[new]), None);
		assert_eq!(judged(&[], &[old]), None);
	}

	#[test]
	fn after_a_backup_that_ended_well_the_new_one_counts() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let both = bitmaps(&[(old, None, "vda", "stopped"), (new, Some(old), "vda", "recording")]);
		assert_eq!(judged(&both, &[new, old]), Some((new, false)));
		assert_eq!(judged(&both, &[new]), Some((new, false)));
	}

	#[test]
	fn after_a_backup_that_failed_the_old_one_goes_on_with_what_the_new_one_saw() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let both = bitmaps(&[(old, None, "vda", "stopped"), (new, Some(old), "vda", "recording")]);
		assert_eq!(judged(&both, &[old]), Some((old, true)));
	}

	#[test]
	fn a_record_with_a_gap_counts_for_nothing() {
		let [old, new, third] = [Checkpoint::new(), Checkpoint::new(), Checkpoint::new()];
		for all in [
			bitmaps(&[(old, None, "vda", "inconsistent")]),
			bitmaps(&[(old, None, "vda", "inconsistent"), (new, Some(old), "vda", "recording")]),
			bitmaps(&[(old, None, "vda", "stopped")]),
			bitmaps(&[(old, None, "vda", "stopped"), (new, Some(old), "vda", "stopped")]),
			bitmaps(&[(old, None, "vda", "stopped"), (new, Some(old), "vda", "inconsistent")]),
			// What was written between the two is in neither.
			bitmaps(&[(old, None, "vda", "stopped"), (new, None, "vda", "recording")]),
			bitmaps(&[(old, None, "vda", "stopped"), (new, Some(third), "vda", "recording")]),
			bitmaps(&[
				(old, None, "vda", "stopped"),
				(new, Some(old), "vda", "recording"),
				(third, Some(old), "vda", "recording"),
			]),
			bitmaps(&[(old, None, "vdb", "recording")]),
		] {
			assert_eq!(judged(&all, &[old]), None, "{all:?}");
		}
	}

	#[test]
	fn disks_whose_names_end_alike_are_told_apart() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let other =
			bitmaps(&[(old, None, "x-vda", "stopped"), (new, Some(old), "x-vda", "recording")]);
		assert_eq!(judged(&other, &[old]), None);
		assert_eq!(judged(&other, &[new]), None);
		assert!(matches!(judge(&other, "x-vda", &[old]), Worth::Complete { .. }));
	}

	#[test]
	fn bitmaps_in_an_image_are_told_as_those_in_qemu() {
		let info = json!({ "format-specific": { "data": { "bitmaps": [
			{ "name": "pbk-1-0-vda", "flags": ["auto"] },
			{ "name": "pbk-2-1-vda", "flags": ["in-use", "auto"] },
			{ "name": "pbk-3-2-vda", "flags": [] },
			{ "name": "nightly", "flags": ["auto"] },
		] } } });
		let found: Vec<_> = Bitmap::list_stored(&info)
			.into_iter()
			.map(|bitmap| (bitmap.is_recording, bitmap.is_inconsistent))
			.collect();
		assert_eq!(found, [(true, false), (true, true), (false, false)]);
	}

	#[test]
	fn bitmaps_of_others_are_not_seen() {
		let medium = json!({ "dirty-bitmaps": [
			{ "name": "libvirt-1", "recording": true },
			{ "name": "pbk-1-0-vda", "recording": false, "inconsistent": true },
			{ "recording": true },
		] });
		let expected =
			Bitmap { name: "pbk-1-0-vda".into(), is_recording: false, is_inconsistent: true };
		assert_eq!(Bitmap::list(&medium), [expected]);
	}
}
