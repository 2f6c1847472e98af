//! Freezing the guest's file systems through libvirt, which talks to the guest's agent.
//!
//! That they may be frozen by us is written down in the running domain itself, as metadata of
//! ours: whoever comes after a kill lets them go on, and when the domain ends the note is gone.
//!
//! libvirt has no question for whether a guest is frozen that would not mark the domain as tampered
//! with. But an agent whose guest is frozen refuses to freeze it again, and one that refuses has
//! frozen nothing: so a freeze of somebody else's is seen, and not thawed.

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

/// What libvirt says when there is no such note.
const NO_NOTE: &str = "metadata not found";

/// What libvirt says when the guest's agent itself said no.
const REFUSED_BY_AGENT: &str = "unable to execute QEMU agent command";

/// File systems that stand still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen<'d> {
	domain: &'d Domain,
	since: Instant,
	is_over: bool,
}

/// Freeze the guest's file systems, if it has an agent that listens. Returns nothing where none
/// stands still: such a guest is backed up all the same.
///
/// # Errors
/// [`SourceError::NotThawed`] if a freeze failed and cannot be undone, among others.
pub(super) fn freeze<'d>(
	domain: &'d Domain,
	definition: &Definition,
	time_max: Duration,
) -> Result<Option<Frozen<'d>>, SourceError> {
	if !definition.has_agent {
		return Ok(None);
	}
	domain.change("metadata", &[NOTE, "--live", "--key=pbk", "--set=<frozen/>"])?;
	let frozen = Frozen { domain, since: Instant::now(), is_over: false };
	match domain.run_aloud("domfsfreeze", time_max) {
		Ok(words) if count(&words) > 0 => return Ok(Some(frozen)),
		Ok(_) => tracing::warn!(
			domain = domain.name,
			"the guest froze no file system; the snapshot is crash-consistent"
		),
		Err(error) => {
			tracing::warn!(
				%error,
				"the guest does not stand still; the snapshot is crash-consistent"
			);
			if is_refused_by_agent(&error) {
				return frozen.forget().map(|()| None);
			}
		}
	}
	// Half of them may stand still, or its agent take itself for frozen.
	frozen.thaw().map(|_| None)
}

impl Frozen<'_> {
	/// How long they stand still by now.
	pub(super) fn lasted(&self) -> Duration {
		self.since.elapsed()
	}

	/// Let the file systems go on, and say how long they stood still if they did until now.
	pub(super) fn thaw(mut self) -> Result<Option<Duration>, SourceError> {
		self.is_over = true;
		let lasted = self.lasted();
		let thawed = thaw(self.domain)?;
		if thawed == 0 {
			// Windows does so after ten seconds.
			tracing::warn!(domain = self.domain.name, "the guest had thawed by itself");
		}
		Ok((thawed > 0).then_some(lasted))
	}

	/// There is nothing to thaw.
	fn forget(mut self) -> Result<(), SourceError> {
		self.is_over = true;
		remove_note(self.domain)
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
///
/// # Errors
/// Fails also where libvirt does not say whether we have.
pub(super) fn settle(domain: &Domain) -> Result<(), SourceError> {
	match domain.run("metadata", &[NOTE, "--live"]) {
		Ok(_) => thaw(domain).map(drop),
		Err(SourceError::LibvirtRefused { words, .. }) if words.contains(NO_NOTE) => Ok(()),
		Err(error) => Err(error),
	}
}

/// Says how many file systems go on. The note stays if that fails, so that it is tried again.
fn thaw(domain: &Domain) -> Result<u64, SourceError> {
	let words = domain
		.run_aloud("domfsthaw", THAW_TIME_MAX)
		.map_err(|error| SourceError::NotThawed { source: io::Error::other(error.to_string()) })?;
	remove_note(domain)?;
	Ok(count(&words))
}

fn remove_note(domain: &Domain) -> Result<(), SourceError> {
	domain.change("metadata", &[NOTE, "--live", "--remove"]).map(drop)
}

fn is_refused_by_agent(error: &SourceError) -> bool {
	matches!(error, SourceError::LibvirtRefused { words, .. } if words.contains(REFUSED_BY_AGENT))
}

/// The number in `Froze 2 filesystem(s)`; none is 0.
fn count(words: &str) -> u64 {
	words.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	const TIME_MAX: Duration = Duration::from_secs(30);
	const FROZE: (&str, &str) = ("domfsfreeze", "Froze 2 filesystem(s)\n\n");
	const THAWED: (&str, &str) = ("domfsthaw", "Thawed 2 filesystem(s)\n\n");

	fn guest(has_agent: bool) -> Definition {
		Definition { targets: Vec::new(), has_agent, has_tpm: false, owner: None, variables: None }
	}

	fn frozen(fake: &fake::FakeDomain) -> Option<Frozen<'_>> {
		freeze(&fake.domain, &guest(true), TIME_MAX).unwrap()
	}

	#[test]
	fn a_guest_without_an_agent_is_not_frozen() {
		let fake = fake::domain(&[]);
		assert!(freeze(&fake.domain, &guest(false), TIME_MAX).unwrap().is_none());
		assert!(fake.calls().is_empty());
	}

	#[test]
	fn a_guest_is_noted_down_before_it_is_frozen_and_until_it_thawed() {
		let fake = fake::domain(&[("metadata", ""), FROZE, THAWED]);
		assert!(frozen(&fake).unwrap().thaw().unwrap().is_some());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_does_not_stand_still_is_told_to_go_on() {
		let fake = fake::domain(&[("metadata", ""), THAWED]);
		assert!(frozen(&fake).is_none());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	/// It said that all went well, and nothing stood still.
	#[test]
	fn a_guest_that_froze_no_file_system_is_not_called_frozen() {
		let froze = ("domfsfreeze", "Froze 0 filesystem(s)\n\n");
		let fake = fake::domain(&[("metadata", ""), froze, THAWED]);
		assert!(frozen(&fake).is_none());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_thawed_by_itself_did_not_stand_still() {
		let thawed = ("domfsthaw", "Thawed 0 filesystem(s)\n\n");
		let fake = fake::domain(&[("metadata", ""), FROZE, thawed]);
		assert_eq!(frozen(&fake).unwrap().thaw().unwrap(), None);
	}

	/// Somebody else has frozen it, and relies on that.
	#[test]
	fn a_guest_whose_agent_refuses_to_freeze_is_not_thawed() {
		let words = "error: Unable to freeze filesystems\nerror: internal error: unable to execute \
			QEMU agent command 'guest-fsfreeze-freeze': Command guest-fsfreeze-freeze has been \
			disabled: the command is not allowed";
		let fake = fake::domain(&[("metadata", ""), ("domfsfreeze", words), THAWED]);
		assert!(frozen(&fake).is_none());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "metadata"]);
	}

	#[test]
	fn a_freeze_that_hangs_is_given_up_and_undone() {
		let fake = fake::domain(&[("metadata", ""), ("domfsfreeze", fake::HANG), THAWED]);
		let frozen = freeze(&fake.domain, &guest(true), Duration::from_millis(200)).unwrap();
		assert!(frozen.is_none());
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_is_let_go_of_is_thawed() {
		let fake = fake::domain(&[("metadata", ""), FROZE, THAWED]);
		drop(frozen(&fake));
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw", "metadata"]);
	}

	#[test]
	fn a_guest_that_does_not_thaw_keeps_its_note() {
		let fake = fake::domain(&[("metadata", ""), FROZE]);
		assert!(matches!(frozen(&fake).unwrap().thaw(), Err(SourceError::NotThawed { .. })));
		assert_eq!(fake.calls(), ["metadata", "domfsfreeze", "domfsthaw"]);
		assert!(matches!(settle(&fake.domain), Err(SourceError::NotThawed { .. })));
	}

	#[test]
	fn a_guest_without_a_note_is_left_alone() {
		let none = "error: metadata not found: Requested metadata element is not present";
		let fake = fake::domain(&[("metadata", none)]);
		settle(&fake.domain).unwrap();
		assert_eq!(fake.calls(), ["metadata"]);
	}

	/// It may stand still, and would for ever if that counted as having no note.
	#[test]
	fn a_guest_whose_note_cannot_be_asked_for_is_not_taken_for_thawed() {
		let busy = "error: Timed out during operation: cannot acquire state change lock";
		let fake = fake::domain(&[("metadata", busy)]);
		let error = settle(&fake.domain).unwrap_err();
		assert!(matches!(error, SourceError::LibvirtRefused { .. }), "{error}");
	}
}
