//! `backup export`: a snapshot as a CAR file, sealed as it is.

use crate::{
	args::{Export, Global},
	commands::{
		blocks::{Place, work},
		key::Identities,
		locate::{Located, locate},
		restore::create_error,
	},
	error::{CliError, exit},
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{
	pipeline::{Cancel, ExportError, Progress, export},
	targets::{PartialFile, is_disk_full},
};
use backup_primitives::Cid;
use serde::Serialize;
use std::{fs, io::BufWriter};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1024 * 1024;

/// What is told of a written file.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	output: String,
	blocks: u64,
	file_bytes: u64,
}

pub(super) async fn run(
	arguments: Export,
	global: &Global,
	output: Output,
) -> Result<(), CliError> {
	// Before anything is fetched for a name that is taken.
	if fs::symlink_metadata(&arguments.output).is_ok() {
		return Err(CliError::FileExists { path: arguments.output });
	}
	let Export { which, from, identity, .. } = &arguments;
	let identities = Identities::of(identity.as_deref());
	let located = locate(which, from, identities, global, output).await?;
	let answer = work(move |cancel| write_car(&located, &arguments, output, cancel)).await?;
	output.answer(&answer, || {
		let bytes = words::bytes(answer.file_bytes);
		format!("{} holds the {} blocks of {}: {bytes}", answer.output, answer.blocks, answer.root)
	})
}

fn write_car(
	located: &Located,
	arguments: &Export,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let (root, path) = (located.root, &arguments.output);
	let place = Place::open(located, &arguments.from, cancel)?;
	let mut file = PartialFile::create(path).map_err(|error| create_error(path, error))?;
	let bar = Bar::walk(output);
	let on_progress = |progress: Progress| bar.set_walked(progress.walked, progress.written_bytes);
	let out = BufWriter::with_capacity(BUFFER_BYTES, file.file());
	let (exported, out) = export(&*place.source, &root, out, &on_progress, cancel)
		.map_err(|error| explain(root, &error))?;
	drop(out);
	let failed = |source| CliError::FileWrite { path: path.clone(), source };
	file.complete().map_err(failed)?;
	bar.finish();
	Ok(Answer {
		root,
		output: path.display().to_string(),
		blocks: exported.blocks,
		file_bytes: exported.file_bytes,
	})
}

/// What went wrong, and what would be right.
fn explain(root: Cid, error: &ExportError) -> CliError {
	let (exit, hint) = match error {
		ExportError::Missing { cid } if *cid == root => (
			exit::BLOCKS,
			"check the root, and that this place holds it; 'backup snapshots' lists roots",
		),
		ExportError::Missing { .. } => {
			(exit::BLOCKS, "export from another copy, or an older snapshot")
		}
		ExportError::NotANode { .. } => {
			(exit::BLOCKS, "name the root of a snapshot, not another block")
		}
		ExportError::Read(_) => {
			(exit::BLOCKS, "check that the place can be read, or export from another copy")
		}
		ExportError::Write(source) if is_disk_full(source) => {
			(exit::FILE, "make room where the file is written; nothing was left there")
		}
		ExportError::Write(_) => {
			(exit::FILE, "check the folder of the file; nothing was left there")
		}
		ExportError::Cancelled => return CliError::Interrupted,
		_ => (exit::UNEXPECTED, "check that the command is as new as the agent"),
	};
	CliError::Snapshot { root, verb: "exported", reason: error.to_string(), exit, hint }
}
