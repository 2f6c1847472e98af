//! `backup ls`: the volumes of a snapshot, or a folder of one.

use crate::{
	args::{Global, Ls},
	commands::{
		blocks::work,
		inside::{Inside, Visit, below, path_bytes},
		locate::{Located, locate_sealed},
	},
	error::CliError,
	output::{Output, Table},
	progress::Bar,
	words,
};
use backup_agent::pipeline::Cancel;
use backup_primitives::Cid;
use backup_volumes::{Content, Entry, FileSystem, Kind};
use serde::Serialize;

/// What is told of a snapshot's disks, or of a folder.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
	Volumes { root: Cid, disks: Vec<Disk>, volumes: Vec<Volume>, problems: Vec<String> },
	Folder { root: Cid, volume: String, path: String, entries: Vec<Item> },
}

#[derive(Debug, Serialize)]
struct Disk {
	name: String,
	bytes: u64,
}

#[derive(Debug, Serialize)]
struct Volume {
	name: String,
	label: String,
	content: String,
	bytes: u64,
	readable: bool,
}

#[derive(Debug, Serialize)]
struct Item {
	path: String,
	kind: &'static str,
	mode: u16,
	user: u32,
	group: u32,
	bytes: u64,
	modified_s: i64,
	target: Option<String>,
}

impl Item {
	fn new(path: &[u8], entry: &Entry, target: Option<Vec<u8>>) -> Self {
		Self {
			path: words::escape(path),
			kind: match entry.kind {
				Kind::File => "file",
				Kind::Folder => "folder",
				Kind::Symlink => "symlink",
				Kind::Special => "special",
			},
			mode: entry.mode,
			user: entry.user,
			group: entry.group,
			bytes: entry.bytes,
			modified_s: entry.modified_s,
			target: target.map(|target| words::escape(&target)),
		}
	}
}

pub(super) async fn run(arguments: Ls, global: &Global, output: Output) -> Result<(), CliError> {
	let located = locate_sealed(&arguments.unlock, global, output).await?;
	let answer = work(move |cancel| list(&located, &arguments, output, cancel)).await?;
	output.answer(&answer, || text(&answer))
}

fn list(
	located: &Located,
	arguments: &Ls,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let waiting = Bar::waiting(output, "the snapshot");
	let inside = Inside::open(located, &arguments.unlock, cancel)?;
	let Some(path) = &arguments.path else { return Ok(volumes(&inside)) };
	let path = path_bytes(path);
	let (volume, files) = inside.files(arguments.volume.as_deref())?;
	let mut entries = Vec::new();
	let mut add = |within: &[u8], entry: &Entry| {
		let target = target(&inside, &files, &below(path, within), entry)?;
		entries.push(Item::new(within.strip_prefix(b"/").unwrap_or(&entry.name), entry, target));
		Ok(())
	};
	if arguments.recursive {
		drop(waiting);
		inside.walk_shown(
			&files,
			path,
			output,
			&mut |within, entry| match (within, entry.kind) {
				(b"", Kind::Folder) => Ok(()),
				_ => add(within, entry),
			},
		)?;
	} else {
		folder(&inside, &files, path, &mut add)?;
	}
	let (root, volume) = (inside.root, volume.name.clone());
	Ok(Answer::Folder { root, volume, path: words::escape(path), entries })
}

/// The entries of a folder; a file is its own only one.
fn folder(
	inside: &Inside,
	files: &FileSystem,
	path: &[u8],
	add: Visit<'_>,
) -> Result<(), CliError> {
	let failed = |error| inside.explain(&error);
	let missing = |error| inside.explain_path(files, path, &error);
	let entry = files.entry(path).map_err(missing)?;
	if matches!(entry.kind, Kind::File | Kind::Special) {
		return add(b"", &entry);
	}
	// A link to a folder is listed as the folder, one to a file as itself.
	match files.folder(path) {
		Err(_) if entry.kind == Kind::Symlink => add(b"", &entry),
		entries => entries
			.map_err(failed)?
			.iter()
			.try_for_each(|entry| add(&[&b"/"[..], &entry.name].concat(), entry)),
	}
}

fn target(
	inside: &Inside,
	files: &FileSystem,
	path: &[u8],
	entry: &Entry,
) -> Result<Option<Vec<u8>>, CliError> {
	match entry.kind {
		Kind::Symlink => files.link(path).map(Some).map_err(|error| inside.explain(&error)),
		Kind::File | Kind::Folder | Kind::Special => Ok(None),
	}
}

fn volumes(inside: &Inside) -> Answer {
	let disks = inside
		.disks
		.iter()
		.map(|(name, area)| Disk { name: words::escape(name.as_bytes()), bytes: area.bytes() });
	let volumes = inside.layout.volumes.iter().map(|volume| Volume {
		name: words::escape(volume.name.as_bytes()),
		label: words::escape(volume.label.as_bytes()),
		content: volume.content.to_string(),
		bytes: volume.area.bytes(),
		readable: volume.content == Content::Ext,
	});
	let problems = inside.layout.problems.iter().map(|words| words::escape(words.as_bytes()));
	Answer::Volumes {
		root: inside.root,
		disks: disks.collect(),
		volumes: volumes.collect(),
		problems: problems.collect(),
	}
}

fn text(answer: &Answer) -> String {
	match answer {
		Answer::Folder { entries, .. } => folder_text(entries),
		Answer::Volumes { volumes, problems, .. } => {
			let mut table = Table::new(&["volume", "size", "content", "label"]);
			for volume in volumes {
				let size = words::bytes(volume.bytes);
				table.row([
					volume.name.clone(),
					size,
					volume.content.clone(),
					volume.label.clone(),
				]);
			}
			let problems = problems.iter().map(|problem| format!("not used: {problem}"));
			[table.render()].into_iter().chain(problems).collect::<Vec<_>>().join("\n")
		}
	}
}

fn folder_text(entries: &[Item]) -> String {
	let mut table = Table::new(&["mode", "user", "group", "bytes", "modified", "name"]);
	for item in entries {
		let name = match &item.target {
			Some(target) => format!("{} -> {target}", item.path),
			None => item.path.clone(),
		};
		table.row([
			format!("{}{}", letter(item.kind), permissions(item.mode)),
			item.user.to_string(),
			item.group.to_string(),
			item.bytes.to_string(),
			words::time(item.modified_s),
			name,
		]);
	}
	table.render()
}

fn letter(kind: &str) -> char {
	match kind {
		"folder" => 'd',
		"symlink" => 'l',
		"special" => '?',
		_ => '-',
	}
}

/// Permissions as `ls` writes them.
fn permissions(mode: u16) -> String {
	let special = [(0o4000, 0o100, 's'), (0o2000, 0o010, 's'), (0o1000, 0o001, 't')];
	let mut text = String::new();
	for (place, (bit, execute, mark)) in special.into_iter().enumerate() {
		let shift = 6 - 3 * place;
		text.push(if mode >> shift & 4 != 0 { 'r' } else { '-' });
		text.push(if mode >> shift & 2 != 0 { 'w' } else { '-' });
		text.push(match (mode & bit != 0, mode & execute != 0) {
			(true, true) => mark,
			(true, false) => mark.to_ascii_uppercase(),
			(false, true) => 'x',
			(false, false) => '-',
		});
	}
	text
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn permissions_read_as_those_of_ls() {
		assert_eq!(permissions(0o640), "rw-r-----");
		assert_eq!(permissions(0o4755), "rwsr-xr-x");
		assert_eq!(permissions(0o1777), "rwxrwxrwt");
		assert_eq!(permissions(0o2644), "rw-r-Sr--");
	}
}
