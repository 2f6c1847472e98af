//! `backup diff`: what differs between two snapshots of a machine, and where.

use crate::{
	args::{Diff, From, Global, Revision},
	commands::{
		blocks::{Place, work},
		history::find_pair,
		key::Identities,
		locate::{Located, locate_found, locate_root},
		restore::{explain, unlock},
	},
	error::{CliError, exit},
	output::{Output, Table},
	progress::Bar,
	words,
};
use backup_agent::{
	format::{Object, Root},
	pipeline::{Cancel, Change, ChangeKind, DiffError, diff},
	repositories::BlockSource,
};
use backup_primitives::Cid;
use serde::Serialize;

/// Most places of one disk that are told.
const PLACES_MAX: usize = 100_000;

/// The whole answer.
#[derive(Debug, Serialize)]
struct Answer {
	before: Cid,
	after: Cid,
	disks: Vec<DiskDiff>,
}

/// What changed on one disk, in whole chunks.
#[derive(Debug, Default, Serialize)]
struct DiskDiff {
	disk: String,
	/// Length in each snapshot; nothing where the disk is not in it.
	before_bytes: Option<u64>,
	after_bytes: Option<u64>,
	written_bytes: u64,
	rewritten_bytes: u64,
	cleared_bytes: u64,
	places: Vec<Span>,
	/// Places that are not among those, because there are too many.
	places_left_out: u64,
}

#[derive(Debug, Serialize)]
struct Span {
	start: u64,
	end: u64,
	change: &'static str,
}

impl DiskDiff {
	fn add(&mut self, change: &Change) {
		let bytes = change.range.end - change.range.start;
		let word = match change.kind {
			ChangeKind::Written => {
				self.written_bytes += bytes;
				"written"
			}
			ChangeKind::Rewritten => {
				self.rewritten_bytes += bytes;
				"rewritten"
			}
			ChangeKind::Cleared => {
				self.cleared_bytes += bytes;
				"cleared"
			}
		};
		match self.places.len() < PLACES_MAX {
			true => {
				let (start, end) = (change.range.start, change.range.end);
				self.places.push(Span { start, end, change: word });
			}
			false => self.places_left_out += 1,
		}
	}
}

pub(super) async fn run(arguments: Diff, global: &Global, output: Output) -> Result<(), CliError> {
	let with_places = arguments.places;
	let (roots, located) = locate_both(&arguments, global, output).await?;
	let answer = work(move |cancel| compare(&located, roots, &arguments.from, output, cancel));
	let answer = answer.await?;
	output.answer(&answer, || text(&answer, with_places))
}

/// The roots of both snapshots, and where their blocks are.
async fn locate_both(
	arguments: &Diff,
	global: &Global,
	output: Output,
) -> Result<([Cid; 2], Located), CliError> {
	let Diff { before, after, machine, from, identity, .. } = arguments;
	let identities = Identities::of(Some(identity));
	match (machine, before, after) {
		(None, Revision::Root(before), Revision::Root(after)) => {
			let located = locate_root(*before, from, identities, global, output).await?;
			Ok(([*before, *after], located))
		}
		(Some(machine), Revision::Sequence(before), Revision::Sequence(after)) => {
			let _bar = Bar::waiting(output, "the chain and the gateways");
			let [before, after] = find_pair(machine, [*before, *after], global).await?;
			// Who has the later one has the earlier one, too, if anybody has both.
			let located = locate_found(&after, from, identities, global, output).await?;
			Ok(([before.root(), after.root()], located))
		}
		_ => Err(CliError::Revisions),
	}
}

fn compare(
	located: &Located,
	[before, after]: [Cid; 2],
	from: &From,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let place = Place::open(located, from, cancel)?;
	let roots = (before, after);
	let open = |root: Cid| -> Result<Root, CliError> {
		let (block, key) = unlock(&*place.source, root, &located.identities, None)?;
		block.open_with_read_key(&key).map_err(|error| explain(root, &error.into()))
	};
	let waiting = Bar::waiting(output, "the snapshots");
	let (before, after) = (open(before)?, open(after)?);
	drop(waiting);
	let mut names: Vec<&str> = before.disks.iter().map(|disk| disk.name.as_str()).collect();
	names.extend(after.disks.iter().map(|disk| disk.name.as_str()));
	names.sort_unstable();
	names.dedup();
	let longer = |name: &str| {
		let of = |root| object(root, name).map_or(0, |disk| disk.logical_bytes);
		of(&before).max(of(&after))
	};
	let bar = Bar::new(output, names.iter().map(|name| longer(name)).sum());
	let (mut disks, mut done_bytes) = (Vec::new(), 0);
	for name in names {
		let mut on_progress = |bytes| bar.set(done_bytes + bytes);
		let found = disk(&*place.source, (&before, &after), name, &mut on_progress, cancel);
		disks.push(found.map_err(|error| failure(roots.1, &error))?);
		done_bytes += longer(name);
	}
	bar.finish();
	Ok(Answer { before: roots.0, after: roots.1, disks })
}

/// A disk of a snapshot, if it has it.
fn object<'a>(root: &'a Root, name: &str) -> Option<&'a Object> {
	root.disks.iter().find(|disk| disk.name == name)
}

fn disk(
	source: &dyn BlockSource,
	(before, after): (&Root, &Root),
	name: &str,
	on_progress: &mut dyn FnMut(u64),
	cancel: &Cancel,
) -> Result<DiskDiff, DiffError> {
	let (old, new) = (object(before, name).cloned(), object(after, name).cloned());
	let mut found = DiskDiff {
		disk: words::escape(name.as_bytes()),
		before_bytes: old.as_ref().map(|disk| disk.logical_bytes),
		after_bytes: new.as_ref().map(|disk| disk.logical_bytes),
		..DiskDiff::default()
	};
	// A disk that was not there is as one without any length.
	let none = || Object { name: name.to_owned(), logical_bytes: 0, tree: None };
	let (old, new) = (old.unwrap_or_else(none), new.unwrap_or_else(none));
	let (old, new) = ((before.geometry, &old), (after.geometry, &new));
	diff(source, old, new, &mut |change| found.add(&change), on_progress, cancel)?;
	Ok(found)
}

fn failure(root: Cid, error: &DiffError) -> CliError {
	let (exit, hint) = match error {
		DiffError::Geometry => (exit::USAGE, "compare snapshots that were taken alike"),
		DiffError::Node(_) => {
			(exit::BLOCKS, "take the blocks from a place that has both snapshots whole")
		}
		DiffError::Cancelled => return CliError::Interrupted,
		_ => (exit::UNEXPECTED, "check that the command is as new as the agent"),
	};
	CliError::Snapshot { root, verb: "compared", reason: error.to_string(), exit, hint }
}

fn text(answer: &Answer, with_places: bool) -> String {
	let mut table = Table::new(&["disk", "before", "after", "written", "rewritten", "cleared"]);
	let length = |bytes: Option<u64>| bytes.map_or_else(|| "-".into(), words::bytes);
	for disk in &answer.disks {
		table.row([
			disk.disk.clone(),
			length(disk.before_bytes),
			length(disk.after_bytes),
			words::bytes(disk.written_bytes),
			words::bytes(disk.rewritten_bytes),
			words::bytes(disk.cleared_bytes),
		]);
	}
	let mut text = table.render();
	for disk in answer.disks.iter().filter(|_| with_places) {
		let mut table = Table::new(&["disk", "from byte", "to byte", "change"]);
		for place in &disk.places {
			let (start, end) = (place.start.to_string(), place.end.to_string());
			table.row([disk.disk.clone(), start, end, place.change.to_owned()]);
		}
		if !disk.places.is_empty() {
			text.push_str("\n\n");
			text.push_str(&table.render());
		}
		if disk.places_left_out > 0 {
			text.push_str(&format!("\nand {} places more", disk.places_left_out));
		}
	}
	text
}
