//! `backup`: the command for owners and operators of backed-up machines.
//!
//! Everything about the chain goes through the metadata of the node it talks to, so one
//! build serves any chain with these pallets. A restore needs no chain at all: a CID, a
//! secret and a place that has the blocks are enough.
//!
//! Answers go to standard output, as text or with `--json` as one JSON document. Progress
//! and errors go to standard error. What other people wrote on the chain is escaped.

mod args;
mod chain;
mod commands;
mod config;
mod descendants;
mod error;
mod glance;
mod input;
mod interrupt;
mod output;
mod progress;
mod secret;
mod terminal;
mod usage;
mod words;

use crate::{args::Args, error::CliError, interrupt::Interrupt, output::Output};
use std::{env, process::ExitCode, time::Duration};

/// Longest time that an interrupted command may take to clean up.
const CLEAN_UP_TIME_MAX: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
	let mut args = match Args::read(env::args_os()) {
		Ok(args) => args,
		Err(error) => return usage::answer(error, env::args_os()),
	};
	let output = Output::new(args.global.json);
	if let Err(error) = config::complete(&mut args.global) {
		return output.fail(&error);
	}
	let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
		Ok(runtime) => runtime,
		Err(source) => return output.fail(&CliError::Runtime { source }),
	};
	let ends_by_itself = !args.command.is_endless();
	let command = commands::run(args, &output);
	let result = runtime.block_on(async {
		match ends_by_itself {
			true => until_interrupted(command).await,
			false => command.await,
		}
	});
	// A restore that was interrupted takes its unfinished file away.
	runtime.shutdown_timeout(CLEAN_UP_TIME_MAX);
	match result {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => output.fail(&error),
	}
}

/// Run to the end, or until Ctrl-C or the like: then `command` is dropped, and with it whatever file
/// it had not finished.
async fn until_interrupted(
	command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
	let mut interrupt = Interrupt::listen()?;
	tokio::select! {
		result = command => result,
		() = interrupt.told() => Err(CliError::Interrupted),
	}
}
