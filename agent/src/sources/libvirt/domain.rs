//! A domain, and what libvirt says of it.

use super::{
	definition::Definition,
	virsh::{ANSWER_TIME_MAX, CHANGE_TIME_MAX, Virsh},
};
use crate::sources::SourceError;
use backup_primitives::VmTag;
use std::time::Duration;

/// A domain of libvirt's.
#[derive(Clone, Debug)]
pub(in crate::sources) struct Domain {
	pub(super) virsh: Virsh,
	/// Its name, for people.
	pub(super) name: String,
	/// Its UUID, for libvirt: a name may be taken for the number of another domain.
	pub(super) uuid: String,
}

impl Domain {
	pub(super) fn find(virsh: Virsh, name: &str) -> Result<Self, SourceError> {
		let uuid = match virsh.run("domuuid", &[&format!("--domain={name}")], ANSWER_TIME_MAX) {
			Err(SourceError::LibvirtRefused { words, .. })
				if words.contains("failed to get domain") =>
			{
				let (domain, uri) = (name.to_owned(), virsh.uri().to_owned());
				return Err(SourceError::DomainNotFound { domain, uri });
			}
			uuid => uuid?.trim().to_owned(),
		};
		Ok(Self { virsh, name: name.to_owned(), uuid })
	}

	/// Its UUID, as libvirt writes it.
	pub(in crate::sources) fn uuid(&self) -> &str {
		&self.uuid
	}

	/// Ask something.
	pub(super) fn run(&self, command: &str, arguments: &[&str]) -> Result<String, SourceError> {
		self.run_within(command, arguments, ANSWER_TIME_MAX)
	}

	/// Have something changed.
	pub(super) fn change(&self, command: &str, arguments: &[&str]) -> Result<String, SourceError> {
		self.run_within(command, arguments, CHANGE_TIME_MAX)
	}

	/// Have something done of which it says how much it was.
	pub(super) fn run_aloud(
		&self,
		command: &str,
		time_max: Duration,
	) -> Result<String, SourceError> {
		self.virsh.run_aloud(command, &[&format!("--domain={}", self.uuid)], time_max)
	}

	pub(super) fn run_within(
		&self,
		command: &str,
		arguments: &[&str],
		time_max: Duration,
	) -> Result<String, SourceError> {
		let domain = format!("--domain={}", self.uuid);
		let arguments: Vec<&str> =
			[domain.as_str()].into_iter().chain(arguments.iter().copied()).collect();
		self.virsh.run(command, &arguments, time_max)
	}

	pub(super) fn not_understood(&self, what: &str, reason: String) -> SourceError {
		SourceError::NotLibvirt { what: format!("{what} ({})", self.name), reason }
	}

	pub(super) fn check_tag(&self, expected: VmTag) -> Result<(), SourceError> {
		let found = self.uuid.parse().unwrap_or(VmTag([0; 16]));
		match found == expected {
			true => Ok(()),
			false => Err(SourceError::TagMismatch { expected, found }),
		}
	}

	/// Whether there is a QEMU. What is paused or in an unknown state has one.
	pub(in crate::sources) fn is_running(&self) -> Result<bool, SourceError> {
		let state = self.run("domstate", &[])?;
		Ok(!matches!(state.trim(), "shut off" | "crashed"))
	}

	/// Whether the guest itself can answer.
	pub(super) fn is_awake(&self) -> Result<bool, SourceError> {
		Ok(self.run("domstate", &[])?.trim() == "running")
	}

	pub(super) fn definition(&self) -> Result<Definition, SourceError> {
		let xml = self.run("dumpxml", &[])?;
		Definition::parse(&xml).map_err(|reason| self.not_understood("a domain", reason))
	}

	pub(super) fn size_bytes(&self, target: &str) -> Result<u64, SourceError> {
		let info = self.run("domblkinfo", &[&format!("--device={target}")])?;
		let capacity = info.lines().find_map(|line| line.trim().strip_prefix("Capacity:"));
		capacity
			.and_then(|bytes| bytes.trim().parse().ok())
			.ok_or_else(|| self.not_understood("a disk", format!("{info:?}")))
	}

	/// The major version of the QEMU that runs the domain, which need not be the one that libvirt
	/// would start now. Nothing if it does not say.
	///
	/// libvirt knows and does not tell, so its QEMU is asked. libvirt notes that somebody talked to
	/// it, so only those are asked of which it must be known.
	pub(super) fn qemu_major(&self) -> Result<Option<u64>, SourceError> {
		let question = r#"--cmd={"execute":"query-version"}"#;
		let answer = match self.run("qemu-monitor-command", &[question]) {
			Err(SourceError::LibvirtRefused { words, .. }) => {
				tracing::warn!(domain = self.name, words, "its QEMU does not tell its version");
				return Ok(None);
			}
			answer => answer?,
		};
		let answer: Option<serde_json::Value> = serde_json::from_str(&answer).ok();
		Ok(answer.and_then(|answer| answer["return"]["qemu"]["major"].as_u64()))
	}
}
