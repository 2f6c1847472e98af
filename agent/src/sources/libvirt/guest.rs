//! Freezing the guest's file systems through libvirt, which talks to the guest's agent.
//!
//! That they may be frozen by us is written down in the running domain itself, as metadata of
//! ours: whoever comes after a kill lets them go on, and when the domain ends the note is gone.

use super::{Domain, definition::Definition};
use crate::sources::SourceError;
use std::{
	io,
	time::{Duration, Instant},
};

/// How long the agent may take to thaw. libvirt itself waits 30 seconds for a freeze that hangs.
const THAW_TIME_MAX: Duration = Duration::from_secs(45);

/// Names our note among the domain's metadata.
const NOTE: &str = "--uri=urn:pallet-backup:frozen";

/// File systems that stand still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen<'d> {
	domain: &'d Domain,
	since: Instant,
	/// Whether they stand still as a whole.
	is_whole: bool,
	is_over: bool,
}

/// Freeze the guest's file systems, if it has an agent that listens. A guest whose agent fails is
/// backed up all the same.
pub(super) fn freeze<'d>(
	domain: &'d Domain,
	definition: &Definition,
	time_max: Duration,
) -> Result<Option<Frozen<'d>>, SourceError> {
	if !definition.has_agent {
		return Ok(None);
	}
	domain.change("metadata", &[NOTE, "--live", "--key=pbk", "--set=<frozen/>"])?;
	let mut frozen = Frozen { domain, since: Instant::now(), is_whole: false, is_over: false };
	match domain.run_within("domfsfreeze", &[], time_max) {
		Ok(_) => frozen.is_whole = true,
		Err(error) => tracing::warn!(
			%error,
			"the guest does not stand still; the snapshot is crash-consistent"
		),
	}
	Ok(Some(frozen))
}

impl Frozen<'_> {
	/// Let the file systems go on, and say how long they stood still if they all did.
	pub(super) fn thaw(mut self) -> Result<Option<Duration>, SourceError> {
		self.is_over = true;
		let lasted = self.since.elapsed();
		// After a freeze that failed half of them may stand still.
		thaw(self.domain)?;
		Ok(self.is_whole.then_some(lasted))
	}
}

impl Drop for Frozen<'_> {
	fn drop(&mut self) {
		if self.is_over {
			return;
		}
		if let Err(error) = thaw(self.domain) {
			tracing::error!(%error, "the guest may stand still; it is tried again");
		}
	}
}

/// Let the file systems go on if we may have frozen them.
pub(super) fn settle(domain: &Domain) -> Result<(), SourceError> {
	match domain.run("metadata", &[NOTE, "--live"]) {
		Ok(_) => thaw(domain),
		// There is no such note.
		Err(SourceError::LibvirtRefused { .. }) => Ok(()),
		Err(error) => Err(error),
	}
}

/// The note stays if that fails, so that it is tried again.
fn thaw(domain: &Domain) -> Result<(), SourceError> {
	domain
		.run_within("domfsthaw", &[], THAW_TIME_MAX)
		.map_err(|error| SourceError::NotThawed { source: io::Error::other(error.to_string()) })?;
	domain.change("metadata", &[NOTE, "--live", "--remove"]).map(drop)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	const TIME_MAX: Duration = Duration::from_secs(30);

	fn guest(has_agent: bool) -> Definition {
		Definition { targets: Vec::new(), has_agent, owner: None }
	}

	#[test]
	fn a_guest_without_an_agent_is_not_frozen() {
		let fake = fake::domain(&[]);
		assert!(freeze(&fake.domain, &guest(false), TIME_MAX).unwrap().is_none());
		assert!(fake.calls().is_empty());
	}

	#[test]
	fn a_guest_is_noted_down_before_it_is_frozen_and_until_it_thawed() {
		let fake = fake::domain(&[("metadata", ""), ("domfsfreeze", ""), ("domfsthaw", "")]);
		let frozen = freeze(&fake.domain, &guest(true), TIME_MAX).unwrap().unwrap();
		assert!(frozen.thaw().unwrap().is_some());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_does_not_stand_still_is_told_to_go_on() {
		let fake = fake::domain(&[("metadata", ""), ("domfsthaw", "")]);
		let frozen = freeze(&fake.domain, &guest(true), TIME_MAX).unwrap().unwrap();
		assert!(frozen.thaw().unwrap().is_none());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_freeze_that_hangs_is_given_up_and_undone() {
		let fake =
			fake::domain(&[("metadata", ""), ("domfsfreeze", fake::HANG), ("domfsthaw", "")]);
		let frozen = freeze(&fake.domain, &guest(true), Duration::from_millis(200)).unwrap();
		drop(frozen);
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_does_not_thaw_keeps_its_note() {
		let fake = fake::domain(&[("metadata", ""), ("domfsfreeze", "")]);
		let frozen = freeze(&fake.domain, &guest(true), TIME_MAX).unwrap().unwrap();
		assert!(matches!(frozen.thaw(), Err(SourceError::NotThawed { .. })));
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw"]);
		assert!(matches!(settle(&fake.domain), Err(SourceError::NotThawed { .. })));
	}

	#[test]
	fn a_guest_without_a_note_is_left_alone() {
		let fake = fake::domain(&[]);
		settle(&fake.domain).unwrap();
		assert_eq!(fake.calls(), ["metadata"]);
	}
}
