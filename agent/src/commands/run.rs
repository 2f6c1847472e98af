//! `backup-agent run`: the daemon.

use super::{Context, runtime};
use crate::{config::Settings, daemon};
use anyhow::Result;
use std::{process::ExitCode, time::Duration};

/// How long work on the block store may go on after the agent was told to end.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) fn run(context: &Context, settings: Settings) -> Result<ExitCode> {
	let runtime = runtime()?;
	let (source, job_log, log) =
		(context.source(settings), context.job_log.clone(), context.log.clone());
	let result = runtime.block_on(daemon::run(source, job_log, log));
	// A collection may be cut short at any point, so nobody has to wait for one.
	runtime.shutdown_timeout(SHUTDOWN_TIME_MAX);
	result.map(|()| ExitCode::SUCCESS)
}
