//! `backup drill`: a restore of everything, of which nothing is kept. Who can do that can restore.

use crate::{
	args::{Drill, Global},
	commands::{
		blocks::work,
		locate::{Located, locate_sealed},
		restore::{explain, open},
	},
	error::CliError,
	output::{Mood, Output, Table},
	progress::Bar,
	words,
};
use backup_agent::{
	format::Object,
	pipeline::{Cancel, Progress, Restore, RestoreTarget},
};
use backup_primitives::Cid;
use serde::Serialize;
use std::{
	io,
	time::{Duration, Instant},
};

/// What is told of a drill.
#[derive(Debug, Serialize)]
struct Answer {
	root: Cid,
	request: String,
	sequence: u64,
	disks: Vec<Part>,
	blobs: Vec<Part>,
	seconds: f64,
}

/// A disk or blob that came back.
#[derive(Debug, Serialize)]
struct Part {
	name: String,
	logical_bytes: u64,
	/// Bytes of it that are no holes.
	written_bytes: u64,
}

/// Takes what is written, and keeps nothing.
struct Nowhere;

impl RestoreTarget for Nowhere {
	fn set_len(&mut self, _: u64) -> io::Result<()> {
		Ok(())
	}

	fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
		Ok(())
	}

	fn finish(&mut self) -> io::Result<()> {
		Ok(())
	}
}

pub(super) async fn run(arguments: Drill, global: &Global, output: Output) -> Result<(), CliError> {
	let located = locate_sealed(&arguments.unlock, global, output).await?;
	let answer = work(move |cancel| restore_all(&located, &arguments, output, cancel)).await?;
	output.answer(&answer, || text(&answer))
}

fn restore_all(
	located: &Located,
	arguments: &Drill,
	output: Output,
	cancel: &Cancel,
) -> Result<Answer, CliError> {
	let begun = Instant::now();
	let waiting = Bar::waiting(output, "the snapshot");
	let (place, opened) = open(located, &arguments.unlock, cancel)?;
	drop(waiting);
	let all = || opened.disks.iter().chain(&opened.blobs);
	let total = all().map(|object| object.logical_bytes).fold(0, u64::saturating_add);
	let (bar, mut done) = (Bar::new(output, total), 0u64);
	let mut restore = |object: &Object| {
		let on_progress = |progress: Progress| bar.set(done + progress.done_bytes);
		let work = Restore {
			repository: &*place.source,
			geometry: opened.geometry,
			object,
			threads: place.threads,
			on_progress: &on_progress,
			cancel,
		};
		let written = work.run(&mut Nowhere).map_err(|error| explain(located.root, &error))?;
		done = done.saturating_add(object.logical_bytes);
		Ok(Part {
			name: words::escape(object.name.as_bytes()),
			logical_bytes: object.logical_bytes,
			written_bytes: written,
		})
	};
	let disks = opened.disks.iter().map(&mut restore).collect::<Result<_, CliError>>()?;
	let blobs = opened.blobs.iter().map(&mut restore).collect::<Result<_, CliError>>()?;
	bar.finish();
	Ok(Answer {
		root: located.root,
		request: opened.request.to_string(),
		sequence: opened.sequence,
		disks,
		blobs,
		seconds: begun.elapsed().as_secs_f64(),
	})
}

fn text(answer: &Answer) -> String {
	let mut table = Table::new(&["came back", "name", "size", "data"]);
	for (what, parts) in [("disk", &answer.disks), ("blob", &answer.blobs)] {
		for part in parts {
			table.row([
				what.to_owned(),
				part.name.clone(),
				words::bytes(part.logical_bytes),
				words::bytes(part.written_bytes),
			]);
		}
	}
	let took = Duration::from_secs_f64(answer.seconds.max(0.0)).as_secs();
	format!(
		"request {}, snapshot {}: {}, as was done in {took} s\n{}",
		answer.request,
		answer.sequence,
		Mood::Good.paint("all of it can be restored"),
		table.render()
	)
}
