//! `backup cat`: a file of a snapshot on standard output.

use crate::{
	args::{Cat, Global},
	commands::{
		blocks::work,
		inside::{Inside, path_bytes},
		locate::{Located, locate_sealed},
	},
	error::CliError,
	output::Output,
	progress::Bar,
};
use backup_agent::pipeline::Cancel;
use std::io::{self, ErrorKind, IsTerminal, Write};

const BUFFER_BYTES: usize = 256 * 1024;

pub(super) async fn run(arguments: Cat, global: &Global, output: Output) -> Result<(), CliError> {
	let located = locate_sealed(&arguments.unlock, global, output).await?;
	work(move |cancel| write(&located, &arguments, output, cancel)).await
}

fn write(
	located: &Located,
	arguments: &Cat,
	output: Output,
	cancel: &Cancel,
) -> Result<(), CliError> {
	let waiting = Bar::waiting(output, "the snapshot");
	let inside = Inside::open(located, &arguments.unlock, cancel)?;
	let (_, files) = inside.files(arguments.volume.as_deref())?;
	let explain = |error| inside.explain(&error);
	let path = path_bytes(&arguments.path);
	let missing = |error| inside.explain_path(&files, path, &error);
	let mut file = files.file(path).map_err(missing)?;
	drop(waiting);
	// On a terminal the file itself is what is seen.
	let is_seen = io::stdout().is_terminal();
	let bar = (!is_seen).then(|| Bar::new(output, file.bytes()));
	let mut buffer = vec![0; BUFFER_BYTES];
	let mut out = io::stdout().lock();
	loop {
		let read = file.read(&mut buffer).map_err(explain)?;
		let written = match read {
			0 => out.flush(),
			read => out.write_all(&buffer[..read]),
		};
		match written {
			// A reader that went away has what it wanted.
			Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
			Err(source) => return Err(CliError::Answer { source }),
			Ok(()) if read == 0 => return Ok(()),
			Ok(()) => {
				if let Some(bar) = &bar {
					bar.add(read as u64);
				}
			}
		}
	}
}
