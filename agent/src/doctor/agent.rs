//! What a running agent says.

use super::{Case, Finding};
use crate::{
	api::LIVE_RESTORES_PATH, client::AgentClient, config::Config, repositories::Obstacles,
};
use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::HashSet, net::TcpStream, time::Duration};

/// How long it is waited for somebody who listens.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Most machines whose last backup failed that are told one by one.
const FAILURES_MAX: usize = 20;

/// An agent that runs.
#[derive(Debug)]
pub(super) struct Running {
	/// Genesis hash of the chain that it serves, once it is known.
	pub(super) genesis: Option<String>,
	/// Machines that it works on now.
	pub(super) busy: HashSet<String>,
	/// What keeps blocks from being freed.
	pub(super) obstacles: Obstacles,
	/// What keeps live restores from going on, by machine.
	stuck: Vec<(String, String)>,
	checks: Vec<Check>,
}

/// What is read of `GET /v1/status`.
#[derive(Deserialize)]
struct Status {
	version: String,
	genesis: Option<String>,
	obstacles: Option<Obstacles>,
}

/// What is read of `GET /v1/jobs`.
#[derive(Deserialize)]
struct Job {
	vm: Option<String>,
	state: String,
}

/// What is read of `GET /v1/live-restores`.
#[derive(Deserialize)]
struct LiveRestore {
	vm: String,
	problem: Option<String>,
}

/// What is read of `GET /v1/readiness`.
#[derive(Deserialize)]
struct Readiness {
	checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
	name: String,
	is_good: bool,
	detail: String,
	mend: Option<String>,
}

/// What is read of `GET /v1/machines`.
#[derive(Deserialize)]
struct Machine {
	name: String,
	is_in_inventory: bool,
	failure: Option<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
	failed: Option<Failed>,
}

#[derive(Deserialize)]
struct Failed {
	reason: String,
	detail: String,
}

/// Whether an agent runs, and what it works on.
pub(super) fn ask(config: &Config) -> (Finding, Option<Running>) {
	if TcpStream::connect_timeout(&config.listen, CONNECT_TIME_MAX).is_err() {
		let found = format!("none answers at {}", config.listen);
		return (Finding::warning("agent", found, "start it: systemctl start backup-agent"), None);
	}
	match look(config) {
		Ok((version, running)) => (version_of(&version), Some(running)),
		Err(error) => {
			let mend = "find out which program has the port, or restart the agent";
			(Finding::error("agent", &error, mend), None)
		}
	}
}

fn version_of(version: &str) -> Finding {
	let ours = env!("CARGO_PKG_VERSION");
	match version == ours {
		true => Finding::ok("agent", format!("version {version} runs")),
		false => {
			let found = format!("version {version} runs, and {ours} is installed");
			Finding::warning("agent", found, "restart it: systemctl restart backup-agent")
		}
	}
}

fn look(config: &Config) -> Result<(String, Running)> {
	let status: Status = view(config, "/v1/status")?;
	let jobs: Vec<Job> = view(config, "/v1/jobs")?;
	let live: Vec<LiveRestore> = view(config, LIVE_RESTORES_PATH)?;
	let Readiness { checks } = view(config, "/v1/readiness")?;
	let running = jobs.into_iter().filter(|job| job.state == "running");
	let filling = live.iter().map(|live| live.vm.clone());
	let busy = running.filter_map(|job| job.vm).chain(filling).collect();
	let stuck = live.into_iter().filter_map(|live| Some((live.vm, live.problem?))).collect();
	let obstacles = status.obstacles.unwrap_or_default();
	let running = Running { genesis: status.genesis, obstacles, busy, stuck, checks };
	Ok((status.version, running))
}

fn view<T: DeserializeOwned>(config: &Config, path: &str) -> Result<T> {
	let answer = block_on(async { AgentClient::new(config)?.view(path).await })?;
	answer.with_context(|| format!("ask the agent at {} for {path}", config.listen))
}

/// Do what is asynchronous on this thread.
pub(super) fn block_on<F: Future>(work: F) -> Result<F::Output> {
	let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
	Ok(runtime.block_on(work))
}

impl Running {
	/// Whether a worker has spoken to it of late.
	pub(super) fn hears_a_worker(&self) -> bool {
		self.checks.iter().any(|check| check.name == "worker" && check.is_good)
	}

	/// What the agent finds of itself, but for the store, which is tried.
	pub(super) fn findings(&self) -> Vec<Finding> {
		let finding = |check: &Check| {
			let name = match check.name.as_str() {
				"pins" => "pins",
				"worker" => "worker",
				"room" => "room",
				// Asked for here, too: told only where the agent's own way there fails.
				"node" if !check.is_good => "node",
				_ => return None,
			};
			Some(match check.is_good {
				true => Finding::ok(name, &*check.detail),
				false => {
					let mend = check.mend.as_deref().unwrap_or("look into the agent's log");
					Finding::failed(name, &*check.detail, mend)
				}
			})
		};
		self.checks.iter().filter_map(finding).collect()
	}
}

/// Which machines' last backup failed. A key that the chain has and this node has not shows there.
pub(super) fn backups(case: &Case) -> Vec<Finding> {
	let Some(running) = &case.running else { return Vec::new() };
	let machines: Vec<Machine> = match view(&case.config, "/v1/machines") {
		Ok(machines) => machines,
		Err(error) => return vec![Finding::error("backups", &error, "look into its log")],
	};
	let failure = |machine: Machine| {
		let failed = machine.failure?.failed?;
		machine.is_in_inventory.then_some((machine.name, failed))
	};
	let failures = machines.into_iter().filter_map(failure).take(FAILURES_MAX);
	let failures = failures.map(|(name, failed)| judge(&failed).of(&name));
	let stuck = running.stuck.iter().take(FAILURES_MAX);
	stuck.map(|(vm, problem)| live_restore(problem).of(vm)).chain(failures).collect()
}

fn live_restore(problem: &str) -> Finding {
	let (found, mend) = problem.rsplit_once("; ").unwrap_or((problem, "look into the agent's log"));
	Finding::failed("live-restore", format!("it does not go on: {found}"), mend)
}

fn judge(Failed { reason, detail }: &Failed) -> Finding {
	let words = format!("the last one failed ({reason}): {detail}");
	let (found, mend) = match words.rsplit_once("; ") {
		Some((found, mend)) => (found, mend),
		None => (words.as_str(), "look at the other checks of this machine"),
	};
	match reason.as_str() {
		// It does not pass by itself.
		"key-rejected" => Finding::failed("key", found, mend),
		_ => Finding::warning("backups", found, mend),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::doctor::Verdict;

	#[test]
	fn a_key_that_the_chain_has_and_this_node_has_not_is_a_failure_and_others_may_pass() {
		let failed = |reason: &str| {
			let detail = "the chain has age1x; add its identity to the identity file".to_owned();
			judge(&Failed { reason: reason.to_owned(), detail })
		};
		let key = failed("key-rejected");
		assert_eq!((key.check, key.verdict), ("key", Verdict::Failed));
		assert_eq!(key.mend.as_deref(), Some("add its identity to the identity file"));
		assert_eq!(failed("vm-unreachable").verdict, Verdict::Warning);
	}

	#[test]
	fn a_live_restore_that_is_stuck_says_why_and_how_to_mend_it() {
		let finding = live_restore("its record back.json is of no use; put it right");
		assert_eq!((finding.check, finding.verdict), ("live-restore", Verdict::Failed));
		assert_eq!(finding.found, "it does not go on: its record back.json is of no use");
		assert_eq!(finding.mend.as_deref(), Some("put it right"));
	}

	#[test]
	fn an_agent_of_another_version_is_to_be_restarted() {
		assert_eq!(version_of(env!("CARGO_PKG_VERSION")).verdict, Verdict::Ok);
		assert_eq!(version_of("0.0.1").verdict, Verdict::Warning);
	}
}
