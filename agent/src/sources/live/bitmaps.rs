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
//! none.
//!
//! When a disk shrinks, QEMU cuts its bitmaps, and when it grows back calls what came back clean. So
//! each checkpoint has a second bitmap, its *witness* `pbk-size-<checkpoint>-<disk>`: stopped from the
//! beginning, with nothing in it but the disk's last granule. Once that was cut off it is empty for
//! good, and the record beside it counts for nothing.

use super::{
	Drive, PREFIX,
	nodes::{list, witness_node},
};
use crate::{
	format::Geometry,
	sources::{Checkpoint, SourceError, qmp::Monitor},
};
use serde_json::{Value, json};

/// The least that can be written.
const SECTOR_BYTES: u64 = 512;

/// A bitmap of ours, as QEMU reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Bitmap {
	name: String,
	is_recording: bool,
	is_inconsistent: bool,
	/// Bytes that it calls dirty, if that was asked.
	dirty_bytes: Option<u64>,
}

impl Bitmap {
	/// Ours among the bitmaps of a drive, by what `query-block` says of its medium, or
	/// `query-named-block-nodes` of its node.
	pub(super) fn list(inserted: &Value) -> Vec<Self> {
		let bitmaps = list(&inserted["dirty-bitmaps"]).iter().filter_map(|bitmap| {
			Some(Self {
				name: bitmap["name"].as_str()?.to_owned(),
				is_recording: bitmap["recording"] == true,
				is_inconsistent: bitmap["inconsistent"] == true,
				dirty_bytes: bitmap["count"].as_u64(),
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
				dirty_bytes: None,
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

	fn is_witness(&self) -> bool {
		self.name.starts_with(WITNESS_PREFIX)
	}

	/// Whether a witness says that its disk was cut.
	fn is_cut(&self) -> bool {
		self.is_inconsistent || self.dirty_bytes == Some(0)
	}
}

/// What the names of witnesses begin with.
const WITNESS_PREFIX: &str = "pbk-size-";

/// The name of a disk's witness since a checkpoint.
fn witness_name(checkpoint: Checkpoint, disk: &str) -> String {
	format!("{WITNESS_PREFIX}{checkpoint}-{disk}")
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
	Complete {
		checkpoint: Checkpoint,
		bitmap: &'b Bitmap,
		absorbs: Option<&'b Bitmap>,
		/// The witness of the disk's size, if there is one.
		witness: Option<&'b Bitmap>,
	},
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
	let (witnesses, records): (Vec<&Bitmap>, Vec<&Bitmap>) =
		bitmaps.iter().partition(|bitmap| bitmap.is_witness());
	let witness_name = witness_name(checkpoint, disk);
	let witness = witnesses.into_iter().find(|witness| witness.name == witness_name);
	let others: Vec<&Bitmap> = records.into_iter().filter(|bitmap| *bitmap != base).collect();
	match others[..] {
		_ if base.is_inconsistent => Worth::None { why: "QEMU or its host crashed" },
		_ if witness.is_some_and(Bitmap::is_cut) => {
			Worth::None { why: "the disk was cut since, even if it has its old size" }
		}
		_ if base.is_recording => {
			Worth::Complete { checkpoint, bitmap: base, absorbs: None, witness }
		}
		[other]
			if other.is_recording && !other.is_inconsistent && other.goes_on(checkpoint, disk) =>
		{
			Worth::Complete { checkpoint, bitmap: base, absorbs: Some(other), witness }
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
	/// The name of the witness beside it, if there is one.
	pub(in crate::sources) witness: Option<String>,
}

impl Record {
	fn of(checkpoint: Checkpoint, bitmap: &Bitmap, witness: Option<&Bitmap>) -> Self {
		let witness = witness.map(|witness| witness.name.clone());
		Self { checkpoint, bitmap: bitmap.name.clone(), witness }
	}
}

/// What a disk has recorded whose bitmaps cannot be settled now: nothing where two would have to
/// be merged.
pub(in crate::sources) fn recorded(
	bitmaps: &[Bitmap],
	disk: &str,
	known: &[Checkpoint],
) -> Option<Record> {
	match judge(bitmaps, disk, known) {
		Worth::Complete { checkpoint, bitmap, absorbs: None, witness } => {
			Some(Record::of(checkpoint, bitmap, witness))
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
	(bitmap.is_recording && !bitmap.is_inconsistent).then(|| Record::of(checkpoint, bitmap, None))
}

/// Make of a disk's bitmaps one that goes on recording, or none, and say which.
pub(super) fn settle(
	monitor: &mut Monitor,
	drive: &Drive,
	known: &[Checkpoint],
) -> Result<Option<Record>, SourceError> {
	let (kept, absorbs) = match judge(&drive.bitmaps, &drive.name, known) {
		Worth::Complete { checkpoint, bitmap, absorbs, witness } => {
			(Some(Record::of(checkpoint, bitmap, witness)), absorbs)
		}
		Worth::None { why } => {
			if !known.is_empty() {
				tracing::warn!(disk = drive.name, why, "no record of what was written to the disk");
			}
			(None, None)
		}
	};
	// The other's witness goes: it knows nothing of what came before it.
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
		let is_kept =
			|kept: &Record| kept.bitmap == one.name || kept.witness.as_ref() == Some(&one.name);
		!kept.as_ref().is_some_and(is_kept) && Some(*one) != absorbs
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
		let add = |name: &str| {
			let mut add = bitmap(drive, name);
			add["persistent"] = drive.keeps_bitmaps.into();
			// Finer than chunks would tell nothing more.
			add["granularity"] = Geometry::V1.chunk_bytes().into();
			add
		};
		let record = add(&bitmap_name(new, goes_on, &drive.name));
		actions.push(action("block-dirty-bitmap-add", record));
		if drive.has_witness {
			let name = witness_name(new, &drive.name);
			let mut witness = add(&name);
			witness["disabled"] = true.into();
			let last = json!({ "node": witness_node(&drive.name), "name": name });
			let merge = json!({ "node": drive.node, "target": name, "bitmaps": [last] });
			actions.push(action("block-dirty-bitmap-add", witness));
			actions.push(action("block-dirty-bitmap-merge", merge));
		}
		if let Some(record) = stopped {
			actions.push(action("block-dirty-bitmap-disable", bitmap(drive, &record.bitmap)));
		}
	}
	match actions.is_empty() {
		true => Ok(()),
		false => monitor.run("transaction", json!({ "actions": actions })).map(drop),
	}
}

/// Make a node as large as a drive, with a bitmap that has the last granule: QEMU marks what is
/// written and nothing else, so that is written, where it goes nowhere. A write that fails says so in
/// words alone, so it is looked whether the mark is there: without it the disk would be called cut
/// from then on.
pub(super) fn make_witness(
	monitor: &mut Monitor,
	drive: &Drive,
	new: Checkpoint,
) -> Result<(), SourceError> {
	let node = witness_node(&drive.name);
	let size_bytes = drive.size_bytes;
	let place = size_bytes.saturating_sub(SECTOR_BYTES);
	let made = json!({ "driver": "null-co", "node-name": node, "size": size_bytes });
	monitor.run("blockdev-add", made)?;
	let name = witness_name(new, &drive.name);
	let granularity = Geometry::V1.chunk_bytes();
	let bitmap = json!({ "node": node, "name": name, "granularity": granularity });
	monitor.run("block-dirty-bitmap-add", bitmap)?;
	let line = format!("qemu-io {node} \"write -q {place} {SECTOR_BYTES}\"");
	let said = monitor.run("human-monitor-command", json!({ "command-line": line }))?;
	if is_marked(monitor, &node, &name)? {
		return Ok(());
	}
	let said = said.as_str().unwrap_or_default().trim();
	let description = format!("the disk's last granule was not marked: {said:?}");
	Err(SourceError::Refused { command: "qemu-io".into(), description })
}

/// Whether a witness is on a node, and has its mark.
pub(super) fn is_marked(
	monitor: &mut Monitor,
	node: &str,
	name: &str,
) -> Result<bool, SourceError> {
	let nodes = monitor.run("query-named-block-nodes", json!({ "flat": true }))?;
	let found = list(&nodes).iter().find(|found| found["node-name"] == node);
	let bitmaps = found.map(Bitmap::list).unwrap_or_default();
	let witness = bitmaps.iter().find(|bitmap| bitmap.name == name);
	Ok(witness.is_some_and(|one| !one.is_inconsistent && one.dirty_bytes > Some(0)))
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
	use crate::sources::qmp::tests::{GREETING, server};

	#[test]
	fn a_witness_without_its_mark_is_none() {
		let drive = Drive {
			name: "vda".into(),
			node: "disk".into(),
			device: "/machine/disk".into(),
			size_bytes: 1 << 20,
			keeps_bitmaps: false,
			is_shared: false,
			has_witness: false,
			bitmaps: Vec::new(),
			record: None,
		};
		let new = Checkpoint::new();
		let name = witness_name(new, &drive.name);
		let made = |count: u64, said: &str| {
			let done = json!({ "return": {} });
			let bitmap = json!({ "name": name, "count": count, "recording": true });
			let nodes = json!([
				{ "node-name": "disk" },
				{ "node-name": "pbk-size-vda", "dirty-bitmaps": [bitmap] },
			]);
			let said = json!({ "return": said });
			let answers = [&done, &done, &done, &said, &json!({ "return": nodes })];
			let answers = answers.map(|answer| &*format!("{answer}\n").leak());
			let lines: &'static [&'static str] = [&[GREETING][..], &answers].concat().leak();
			let (_folder, path) = server(vec![lines].leak());
			make_witness(&mut Monitor::connect(&path).unwrap().unwrap(), &drive, new)
		};
		made(262_144, "").unwrap();
		let error = made(0, "write failed: Input/output error\r\n").unwrap_err();
		assert!(matches!(error, SourceError::Refused { .. }), "{error}");
		assert!(error.to_string().contains("write failed: Input/output error"), "{error}");
	}

	/// A bitmap that began at a checkpoint, going on from another.
	type Made = (Checkpoint, Option<Checkpoint>, &'static str, &'static str);

	fn bitmaps(all: &[Made]) -> Vec<Bitmap> {
		let bitmap = |(checkpoint, base, disk, state): &Made| Bitmap {
			name: bitmap_name(*checkpoint, *base, disk),
			is_recording: *state == "recording",
			is_inconsistent: *state == "inconsistent",
			dirty_bytes: Some(0),
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
	fn a_record_counts_as_long_as_its_witness_says_that_the_disk_was_not_cut() {
		let [old, new] = [Checkpoint::new(), Checkpoint::new()];
		let witness = |checkpoint, dirty_bytes, is_inconsistent| Bitmap {
			name: witness_name(checkpoint, "vda"),
			is_recording: false,
			is_inconsistent,
			dirty_bytes,
		};
		let one = bitmaps(&[(old, None, "vda", "recording")]);
		let both = bitmaps(&[(old, None, "vda", "stopped"), (new, Some(old), "vda", "recording")]);
		let with = |bitmaps: &[Bitmap], witnesses: &[Bitmap]| {
			let all = [bitmaps, witnesses].concat();
			judged(&all, &[old])
		};
		assert_eq!(with(&one, &[witness(old, Some(262_144), false)]), Some((old, false)));
		assert_eq!(with(&one, &[witness(old, None, false)]), Some((old, false)), "asked later");
		assert_eq!(with(&one, &[witness(old, Some(0), false)]), None);
		assert_eq!(with(&one, &[witness(old, Some(262_144), true)]), None);
		// What was merged is as old as what it is merged into.
		let [whole, cut] = [Some(262_144), Some(0)];
		let witnesses = [witness(old, whole, false), witness(new, cut, false)];
		assert_eq!(with(&both, &witnesses), Some((old, true)));
		let witnesses = [witness(old, cut, false), witness(new, whole, false)];
		assert_eq!(with(&both, &witnesses), None);
		let other = Bitmap { name: witness_name(old, "x-vda"), ..witness(old, cut, false) };
		assert_eq!(with(&one, &[other]), Some((old, false)), "another disk's");
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
		let expected = Bitmap {
			name: "pbk-1-0-vda".into(),
			is_recording: false,
			is_inconsistent: true,
			dirty_bytes: None,
		};
		assert_eq!(Bitmap::list(&medium), [expected]);
	}
}
