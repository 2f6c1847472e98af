//! `backup import`: the snapshots of a CAR file into a block store, sealed as they are.
//!
//! Each root is pinned when all below it is there, so an import that was interrupted, or a file
//! that is incomplete, leaves nothing that stays.

use crate::{
	args::Import,
	commands::blocks::{open_car, open_store, processors, work},
	error::{CliError, exit},
	output::Output,
	progress::Bar,
	words,
};
use backup_agent::{
	pipeline::{Cancel, CopyError, OnProgress, Progress, copy},
	repositories::{CarFile, EmbeddedStore, Repository, RepositoryError},
	walk::WHOLE,
};
use backup_primitives::Cid;
use serde::Serialize;

/// What the pins of imported roots say. An agent leaves pins alone that are not its own.
const LABEL: &[u8] = b"imported";

/// What is told of an import.
#[derive(Debug, Serialize)]
struct Answer {
	file: String,
	store: String,
	roots: Vec<Cid>,
	new_blocks: u64,
	new_bytes: u64,
}

pub(super) async fn run(arguments: Import, output: Output) -> Result<(), CliError> {
	let answer = work(move |cancel| put(&arguments, output, cancel)).await?;
	output.answer(&answer, || {
		let roots: Vec<_> = answer.roots.iter().map(ToString::to_string).collect();
		format!(
			"{} holds {}: {} new blocks, {}",
			answer.store,
			roots.join(", "),
			answer.new_blocks,
			words::bytes(answer.new_bytes)
		)
	})
}

fn put(arguments: &Import, output: Output, cancel: &Cancel) -> Result<Answer, CliError> {
	let car = open_car(&arguments.file)?;
	if car.roots().is_empty() {
		let reason = "it names no root".into();
		return Err(CliError::BadCar { path: arguments.file.clone(), reason });
	}
	let store = open_store(&arguments.store)?;
	let mut answer = Answer {
		file: arguments.file.display().to_string(),
		store: arguments.store.display().to_string(),
		roots: car.roots().to_vec(),
		new_blocks: 0,
		new_bytes: 0,
	};
	let bar = Bar::walk(output);
	let count = car.roots().len() as u64;
	for (number, root) in (0..).zip(car.roots()) {
		// Each root is as much of the whole as the others.
		let before = (WHOLE / count * number, answer.new_bytes);
		let on_progress = |Progress { walked, written_bytes, .. }: Progress| {
			bar.set_walked(before.0 + walked / count, before.1 + written_bytes);
		};
		let stored = put_root(&car, &store, root, &on_progress, cancel)
			.map_err(|error| explain(*root, &error))?;
		answer.new_blocks += stored.new_blocks;
		answer.new_bytes += stored.new_bytes;
	}
	bar.finish();
	Ok(answer)
}

fn put_root(
	car: &CarFile,
	store: &EmbeddedStore,
	root: &Cid,
	on_progress: OnProgress<'_>,
	cancel: &Cancel,
) -> Result<backup_agent::pipeline::Stored, CopyError> {
	let session = store.open_session().map_err(CopyError::Write)?;
	let stored = copy(car, &*session, root, processors(), on_progress, cancel)?;
	session.flush().map_err(CopyError::Write)?;
	// An agent's own pin says which machine it is of.
	if !store.is_pinned(root) {
		session.pin(root, LABEL).map_err(CopyError::Write)?;
	}
	Ok(stored)
}

/// What went wrong, and what would be right.
fn explain(root: Cid, error: &CopyError) -> CliError {
	let (exit, hint) = match error {
		CopyError::Missing { .. } | CopyError::NotANode { .. } => {
			(exit::BLOCKS, "the file is incomplete: export the snapshot again")
		}
		CopyError::Read(RepositoryError::Corrupt { .. }) => {
			(exit::BLOCKS, "the file is damaged: export the snapshot again, or take another copy")
		}
		CopyError::Read(_) => (exit::FILE, "check that the file can be read"),
		CopyError::Write(RepositoryError::StoreFull) => {
			(exit::FILE, "make room in the file system of the store, and import again")
		}
		CopyError::Write(_) => (exit::FILE, "check the folder, its permissions and free space"),
		CopyError::Cancelled => return CliError::Interrupted,
		_ => (exit::UNEXPECTED, "check that the command is as new as the agent"),
	};
	CliError::Snapshot { root, verb: "imported", reason: error.to_string(), exit, hint }
}
