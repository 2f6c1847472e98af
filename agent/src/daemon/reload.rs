//! Reading the configuration again, on SIGHUP, while jobs go on.
//!
//! What can change while the agent runs does: jobs that begin later follow it, and the limits of speed
//! are those of all at once. What needs a restart is named and stays as it is. A file that is
//! wrong changes nothing, and neither does one that is right in parts. Machines are described in
//! files of their own, which every job reads anew; here it is only told which of them are wrong.

use crate::{
	config::{Changes, Config, ConfigSource},
	jobs::Jobs,
	log::Log,
	node::NodeExecutor,
	sources::Inventory,
};
use std::sync::Arc;
use tokio::{signal::unix::Signal, sync::watch};

/// Who follows the configuration.
pub(super) struct Followers {
	pub(super) source: ConfigSource,
	/// What is in force; whoever can look there follows by itself.
	pub(super) in_force: watch::Sender<Config>,
	pub(super) jobs: Arc<Jobs>,
	pub(super) executor: Arc<NodeExecutor>,
	pub(super) log: Log,
}

/// Read the configuration again at each signal, for ever.
pub(super) async fn run(followers: Followers, mut hang_ups: Signal) {
	let followers = Arc::new(followers);
	while hang_ups.recv().await.is_some() {
		let followers = followers.clone();
		if let Err(error) = tokio::task::spawn_blocking(move || followers.reload()).await {
			tracing::error!(%error, "failed to read the configuration again");
		}
	}
}

impl Followers {
	fn reload(&self) {
		let wanted = match self.source.load() {
			Ok(wanted) => wanted,
			Err(error) => {
				let error = format!("{:#}", anyhow::Error::new(error));
				return tracing::error!(
					error,
					"the configuration stays as it was: failed to read it again"
				);
			}
		};
		let Changes { at_once, by_restart } = Changes::between(&self.in_force.borrow(), &wanted);
		self.in_force.send_modify(|config| *config = config.reloaded(wanted));
		self.follow();
		tracing::info!(changed = at_once.join(", "), "the configuration was read again");
		if !by_restart.is_empty() {
			tracing::warn!(
				keys = by_restart.join(", "),
				"what changed here takes effect at the next start of the agent"
			);
		}
		self.look_at_machines();
	}

	/// Hand on what is not looked up by those whom it concerns.
	fn follow(&self) {
		let config = self.in_force.borrow();
		self.jobs.set_jobs_max(config.jobs_max);
		self.executor.keep_to_limits(&config);
		self.log.show(&config.log_filter);
	}

	fn look_at_machines(&self) {
		match Inventory::at(&self.in_force.borrow().vms_dir).list() {
			Ok(machines) => {
				let faults: Vec<_> = machines.values().filter_map(|vm| vm.as_ref().err()).collect();
				for error in &faults {
					tracing::warn!(%error, "a machine's file is wrong");
				}
				let (count, wrong) = (machines.len(), faults.len());
				tracing::info!(count, wrong, "machines of the inventory");
			}
			Err(error) => tracing::warn!(%error, "failed to read the inventory"),
		}
	}
}
