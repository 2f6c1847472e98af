//! Beginning a backup, in one way or another.

use super::Domain;
use crate::sources::{Checkpoint, SourceError};
use std::{
	io,
	time::{Duration, Instant},
};
use tempfile::NamedTempFile;

/// One way to order a backup, in files for `virsh`.
#[derive(Debug)]
pub(super) struct Order {
	pub(super) base: Option<Checkpoint>,
	pub(super) checkpoint: Option<Checkpoint>,
	pub(super) backup: NamedTempFile,
	pub(super) begins: Option<NamedTempFile>,
}

/// Begin the backup in the first way that libvirt does not refuse. All ways together have so much
/// time, since the guest may stand still.
pub(super) fn begin(
	domain: &Domain,
	orders: &[Order],
	time_max: Duration,
) -> Result<(Option<Checkpoint>, Option<Checkpoint>), SourceError> {
	let deadline = Instant::now() + time_max;
	let mut refused = None;
	for order in orders {
		let mut arguments = vec![format!("--backupxml={}", order.backup.path().display())];
		if let Some(begins) = &order.begins {
			arguments.push(format!("--checkpointxml={}", begins.path().display()));
		}
		arguments.push("--reuse-external".to_owned());
		let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
		let time_left = deadline.saturating_duration_since(Instant::now());
		match domain.run_within("backup-begin", &arguments, time_left) {
			Ok(_) => return Ok((order.base, order.checkpoint)),
			Err(error @ SourceError::LibvirtRefused { .. }) => {
				tracing::warn!(
					domain = domain.name,
					%error,
					is_recorded = order.base.is_some(),
					records = order.checkpoint.is_some(),
					"libvirt refuses a backup"
				);
				refused = Some(error);
			}
			Err(error) => return Err(error),
		}
	}
	Err(refused.map_or_else(|| io::Error::other("nothing was ordered").into(), explain_refusal))
}

/// The usual reason of a refusal is not the guest's but the host's.
fn explain_refusal(error: SourceError) -> SourceError {
	match error {
		SourceError::LibvirtRefused { command, words } if words.contains("Permission denied") => {
			let words =
				format!("{words}; let QEMU's user pass the scratch folder and those above it");
			SourceError::LibvirtRefused { command, words }
		}
		error => error,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	fn order() -> Order {
		let backup = NamedTempFile::new().unwrap();
		Order { base: None, checkpoint: None, backup, begins: None }
	}

	/// The guest stands still meanwhile.
	#[test]
	fn all_ways_to_begin_a_backup_share_one_limit() {
		let fake = fake::domain(&[("backup-begin", fake::HANG)]);
		let begun = begin(&fake.domain, &[order(), order()], Duration::from_millis(200));
		assert!(matches!(begun, Err(SourceError::Virsh { .. })), "{begun:?}");
		assert_eq!(fake.calls(), ["backup-begin"]);
		// Each refusal takes a part of it.
		let fake = fake::domain(&[("backup-begin", "slow: error: not that way")]);
		let orders: Vec<_> = std::iter::repeat_with(order).take(64).collect();
		let begun = begin(&fake.domain, &orders, Duration::from_millis(500));
		assert!(matches!(begun, Err(SourceError::Virsh { .. })), "{begun:?}");
		assert!(fake.calls().len() < orders.len());
	}
}
