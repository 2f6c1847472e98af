//! `backup restore`: an image from a root, a secret and blocks, without a chain.

use crate::{args::Restore, error::CliError, output::Output};

pub(crate) async fn run(restore: Restore, _output: Output) -> Result<(), CliError> {
	if restore.output.exists() {
		return Err(CliError::FileExists { path: restore.output });
	}
	Err(CliError::ChainLacks { what: "restore".into() })
}
