//! Jobs that take long enough to be interrupted.

use anyhow::{Result, bail};
use backup_e2e::agent::Agent;
use std::time::{Duration, Instant};

/// How long a job may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(60);

/// Time between two looks, short against the shortest job.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Wait until a job of this kind has begun, and is not over.
pub(crate) async fn wait_for_running_job(agent: &Agent, kind: &str) -> Result<()> {
	let end = Instant::now() + BEGIN_TIME_MAX;
	while Instant::now() < end {
		for job in agent.jobs().await? {
			match (job["kind"] == kind, job["state"].as_str()) {
				(true, Some("running")) if job["done_bytes"].as_u64() > Some(0) => return Ok(()),
				(true, Some("done")) => bail!("the {kind} was over before it was seen to run"),
				_ => (),
			}
		}
		tokio::time::sleep(LOOK_INTERVAL).await;
	}
	bail!("no {kind} began")
}
