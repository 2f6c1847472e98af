//! Everything that a backup needs, tried on this node: what `backup-agent doctor` does.
//!
//! 1. The configuration is read, and the agent asked, if it runs, what it works on.
//! 2. Host, store, chain and each machine are tried side by side, each within a time of its own.
//!    What does not end in its time has failed, and is left behind.
//! 3. What was found is put in order. Whatever fails says how to mend it.
//!
//! Nothing stays behind, and an agent that runs is not disturbed: it tries its store itself, and
//! machines that it works on are left alone. No guest is stopped or frozen.

mod agent;
mod authority;
mod chain;
mod host;
mod machines;
mod replicas;
mod report;
mod side_by_side;
mod store;

pub use report::{Finding, Report, Verdict};

use crate::{
	config::{Config, ConfigSource},
	sources::Holds,
};
use agent::Running;
use side_by_side::{Trial, side_by_side};
use std::{sync::Arc, time::Duration};

/// How long what concerns the host alone may take.
const HOST_TIME_MAX: Duration = Duration::from_secs(20);

/// How long the store may take. An index that is lost is made again first, which takes longer.
const STORE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the chain may take.
const CHAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// How long one machine may take: several answers of QEMU, which may all be slow.
const MACHINE_TIME_MAX: Duration = Duration::from_secs(90);

/// Trials at once.
const AT_ONCE: usize = 16;

/// What the trials know.
struct Case {
	config: Config,
	/// What the agent says, if it runs.
	running: Option<Running>,
	/// Whether the state folder belongs to somebody else, whose files must not become ours.
	is_foreign: bool,
	holds: Holds,
}

/// Try everything. What is put up for it meanwhile is held.
pub(crate) fn examine(source: &ConfigSource, holds: &Holds) -> Report {
	let config = match source.load() {
		Ok(config) => config,
		Err(error) => return Report::of(vec![host::no_config(source, &error.into())]),
	};
	let mut findings = vec![host::config(source)];
	let asked = {
		let config = config.clone();
		side_by_side::within("agent", HOST_TIME_MAX, move || agent::ask(&config))
	};
	let running = match asked {
		Ok((finding, running)) => {
			findings.push(finding);
			running
		}
		Err(late) => {
			findings.push(late);
			None
		}
	};
	let is_foreign = host::is_foreign(&config);
	let case = Arc::new(Case { config, running, is_foreign, holds: holds.clone() });
	findings.extend(side_by_side(trials(&case), AT_ONCE));
	Report::of(findings)
}

fn trials(case: &Arc<Case>) -> Vec<Trial> {
	let of_case = |name, time_max, work: fn(&Case) -> Vec<Finding>| {
		let case = case.clone();
		Trial::new(name, time_max, move || work(&case))
	};
	let mut trials = vec![
		of_case("user", HOST_TIME_MAX, host::user),
		of_case("tools", HOST_TIME_MAX, host::tools),
		of_case("secrets", HOST_TIME_MAX, host::secrets),
		of_case("folders", HOST_TIME_MAX, host::folders),
		of_case("store", STORE_TIME_MAX, store::store),
		of_case("replica", STORE_TIME_MAX, replicas::replicas),
		of_case("chain", CHAIN_TIME_MAX, chain::chain),
		of_case("authority", CHAIN_TIME_MAX, authority::authority),
		of_case("backups", HOST_TIME_MAX, agent::backups),
	];
	trials.extend(machines::trials(case, MACHINE_TIME_MAX));
	trials
}
