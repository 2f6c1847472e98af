//! What a guest writes between two backups, recorded by libvirt in checkpoints.
//!
//! A backup begins a checkpoint, `pbk-<checkpoint>`, at the instant that it shows. Each checkpoint
//! records all that is written since it, and those before it go on recording. So nothing has to be
//! given back when a backup fails: the new checkpoint is deleted, and the old one counts as before.
//! As with bitmaps it is settled before each backup, after each, and when the agent starts, always
//! by the same rule ([`settle`]).
//!
//! Checkpoints without our prefix are somebody else's and are not touched.

use super::{Domain, definition};
use crate::sources::{Checkpoint, PREFIX, SourceError};
use std::path::PathBuf;

/// What libvirt calls a checkpoint.
pub(super) fn name(checkpoint: Checkpoint) -> String {
	format!("{PREFIX}{checkpoint}")
}

/// Keep the newest checkpoint whose backup is there, delete all others of ours, and say which one
/// was kept.
pub(super) fn settle(
	domain: &Domain,
	known: &[Checkpoint],
) -> Result<Option<Checkpoint>, SourceError> {
	let found = list(domain)?;
	let kept = newest(&found, known);
	if kept.is_none() && !known.is_empty() {
		tracing::warn!(
			domain = domain.name,
			"no checkpoint is of a backup that is there; disks are read in full"
		);
	}
	for rest in found.iter().filter(|found| kept.map(name).as_ref() != Some(found)) {
		delete(domain, rest)?;
	}
	Ok(kept)
}

/// The newest checkpoint whose backup is there, of a domain whose checkpoints cannot be settled now.
pub(super) fn find(
	domain: &Domain,
	known: &[Checkpoint],
) -> Result<Option<Checkpoint>, SourceError> {
	match known.is_empty() {
		true => Ok(None),
		false => Ok(newest(&list(domain)?, known)),
	}
}

fn newest(found: &[String], known: &[Checkpoint]) -> Option<Checkpoint> {
	known.iter().copied().find(|known| found.contains(&name(*known)))
}

fn list(domain: &Domain) -> Result<Vec<String>, SourceError> {
	let names = domain.run("checkpoint-list", &["--name"])?;
	let names = names.lines().map(str::trim).filter(|name| name.starts_with(PREFIX));
	Ok(names.map(str::to_owned).collect())
}

fn delete(domain: &Domain, checkpoint: &str) -> Result<(), SourceError> {
	let which = format!("--checkpointname={checkpoint}");
	let mut words = match domain.change("checkpoint-delete", &[&which]) {
		Err(SourceError::LibvirtRefused { words, .. }) => words,
		result => return result.map(drop),
	};
	// A crash took the bitmap, and libvirt would refuse its deletion for ever.
	if words.contains("bitmap") {
		tracing::warn!(checkpoint, words, "a checkpoint without its record is forgotten");
		words = match domain.change("checkpoint-delete", &[&which, "--metadata"]) {
			Err(SourceError::LibvirtRefused { words, .. }) => words,
			result => return result.map(drop),
		};
	}
	// It goes another time. Nothing relies on its being gone.
	tracing::warn!(checkpoint, words, "a checkpoint stays");
	Ok(())
}

/// The disks that a checkpoint records, and the file that each had when it began.
pub(super) fn recorded(
	domain: &Domain,
	checkpoint: Checkpoint,
) -> Result<Vec<(String, Option<PathBuf>)>, SourceError> {
	let which = format!("--checkpointname={}", name(checkpoint));
	let xml = domain.run("checkpoint-dumpxml", &[&which])?;
	definition::parse_checkpoint(&xml)
		.map_err(|reason| domain.not_understood("a checkpoint", reason))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	/// Such a domain would not be backed up any more.
	#[test]
	fn a_checkpoint_that_libvirt_never_deletes_does_not_stop_backups() {
		let kept = Checkpoint::new();
		let list = format!("{}\npbk-broken\nnightly\n", name(kept));
		let refused = "error: operation failed: bitmap 'pbk-broken' not found";
		let answers = [("checkpoint-list", list.as_str()), ("checkpoint-delete", refused)];
		let fake = fake::domain(&answers);
		assert_eq!(settle(&fake.domain, &[kept]).unwrap(), Some(kept));
		// With its record, then without: that of nobody else.
		assert_eq!(fake.calls(), ["checkpoint-list", "checkpoint-delete", "checkpoint-delete"]);
	}
}
