//! `backup cat`: a file of a snapshot on standard output.

use crate::{
	args::{Cat, Global},
	commands::{
		blocks::work,
		history::root,
		inside::{Inside, path_bytes},
	},
	error::CliError,
};
use backup_agent::pipeline::Cancel;
use backup_primitives::Cid;
use std::io::{self, ErrorKind, Write};

const BUFFER_BYTES: usize = 256 * 1024;

pub(super) async fn run(arguments: Cat, global: &Global) -> Result<(), CliError> {
	let root = root(&arguments.unlock.which, global).await?;
	work(move |cancel| write(root, &arguments, cancel)).await
}

fn write(root: Cid, arguments: &Cat, cancel: &Cancel) -> Result<(), CliError> {
	let inside = Inside::open(root, &arguments.unlock, cancel)?;
	let (_, files) = inside.files(arguments.volume.as_deref())?;
	let explain = |error| inside.explain(&error);
	let mut file = files.file(path_bytes(&arguments.path)).map_err(explain)?;
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
			Ok(()) => (),
		}
	}
}
