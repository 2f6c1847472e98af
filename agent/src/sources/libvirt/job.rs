//! The one job that libvirt does with a domain at a time, and whose it is.

use super::{Domain, definition};
use crate::sources::{PREFIX, SourceError};
use std::{
	path::{Path, PathBuf},
	thread,
	time::{Duration, Instant},
};

/// What the folder of a backup's socket ends with.
const FOLDER_SUFFIX: &str = ".nbd";

/// How long a job may take to end after it was told to.
const END_TIME_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether it has.
const END_POLL: Duration = Duration::from_millis(20);

/// What libvirt does with a domain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Job {
	/// Nothing.
	None,
	/// A backup of ours.
	Ours,
	/// Something else, in libvirt's words.
	Foreign(String),
}

/// The folder of a backup's socket, by which the backup is known to be ours.
pub(super) fn socket_folder(scratch_dir: &Path, uuid: &str) -> PathBuf {
	scratch_dir.join(format!("{PREFIX}{uuid}{FOLDER_SUFFIX}"))
}

/// What libvirt does with the domain now.
pub(super) fn find(domain: &Domain) -> Result<Job, SourceError> {
	let info = match domain.run("domjobinfo", &[]) {
		// It ended meanwhile, and its job with it.
		Err(SourceError::LibvirtRefused { .. }) if !domain.is_running()? => return Ok(Job::None),
		info => info?,
	};
	let field = |name: &str| {
		let line = info.lines().find_map(|line| line.trim().strip_prefix(name));
		line.map(|rest| rest.trim().to_owned())
	};
	let Some(kind) = field("Job type:") else {
		return Err(domain.not_understood("a domain's job", format!("{info:?}")));
	};
	if kind == "None" {
		return Ok(Job::None);
	}
	let operation = field("Operation:").unwrap_or_default();
	if operation != "Backup" {
		return Ok(Job::Foreign(operation));
	}
	let xml = match domain.run("backup-dumpxml", &[]) {
		// It has just ended.
		Err(SourceError::LibvirtRefused { words, .. })
			if words.contains("no domain backup job") =>
		{
			return Ok(Job::None);
		}
		xml => xml?,
	};
	let socket = definition::parse_backup(&xml)
		.map_err(|reason| domain.not_understood("a backup", reason))?;
	Ok(match socket.is_some_and(|socket| is_ours(&socket, &domain.uuid)) {
		true => Job::Ours,
		false => Job::Foreign(operation),
	})
}

fn is_ours(socket: &Path, uuid: &str) -> bool {
	let folder = socket.parent().and_then(Path::file_name);
	folder.is_some_and(|folder| *folder == *format!("{PREFIX}{uuid}{FOLDER_SUFFIX}"))
}

/// End the domain's job if it is ours, and wait until it is gone.
pub(super) fn end(domain: &Domain) -> Result<Job, SourceError> {
	let deadline = Instant::now() + END_TIME_MAX;
	let mut is_told = false;
	loop {
		let job = find(domain)?;
		if job != Job::Ours {
			return Ok(job);
		}
		if !is_told {
			match domain.change("domjobabort", &[]) {
				// It may have ended by itself, which is looked at again.
				Ok(_) | Err(SourceError::LibvirtRefused { .. }) => is_told = true,
				Err(error) => return Err(error),
			}
		}
		if Instant::now() >= deadline {
			let seconds = END_TIME_MAX.as_secs();
			let reason = format!("the backup job did not end within {seconds} s");
			return Err(SourceError::Virsh { command: "domjobabort".into(), reason });
		}
		thread::sleep(END_POLL);
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::sources::libvirt::fake;

	const BACKUP: &str = "Job type: Unbounded\nOperation: Backup\n";

	fn backup(socket: &str) -> String {
		format!(
			"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/></domainbackup>"
		)
	}

	#[test]
	fn a_job_is_ours_by_its_socket_alone() {
		let ours = socket_folder(Path::new("/scratch"), fake::UUID).join("socket");
		let cases = [
			(ours.to_str().unwrap(), Job::Ours),
			("/scratch/pbk-another.nbd/socket", Job::Foreign("Backup".into())),
			("/var/tmp/virtnbdbackup.1", Job::Foreign("Backup".into())),
		];
		for (socket, expected) in cases {
			let answers = [("domjobinfo", BACKUP), ("backup-dumpxml", &backup(socket))];
			let domain = fake::domain(&answers);
			assert_eq!(find(&domain.domain).unwrap(), expected, "{socket}");
		}
	}

	#[test]
	fn other_jobs_are_told_in_libvirts_words() {
		let migration = "Job type:         Unbounded   \nOperation:        Outgoing migration\n";
		let domain = fake::domain(&[("domjobinfo", migration)]);
		assert_eq!(end(&domain.domain).unwrap(), Job::Foreign("Outgoing migration".into()));
		assert_eq!(domain.calls(), ["domjobinfo"]);
		let domain = fake::domain(&[("domjobinfo", "Job type:         None        \n")]);
		assert_eq!(end(&domain.domain).unwrap(), Job::None);
		let domain = fake::domain(&[("domjobinfo", "what?")]);
		assert!(matches!(find(&domain.domain), Err(SourceError::NotLibvirt { .. })));
	}
}
