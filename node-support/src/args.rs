//! The command-line arguments, and what they mean once they are checked.

use crate::{
	endpoint::{AgentUrl, Reach, UrlError},
	secret::{Secret, SecretError},
};
use std::path::PathBuf;

/// Arguments for the backup worker, to be flattened into a node's own.
#[derive(Clone, Default, clap::Args)]
pub struct BackupArgs {
	/// Address of the backup agent on this machine, such as http://127.0.0.1:9955.
	///
	/// Without it the backup worker of this node is idle.
	#[arg(long, value_name = "URL", requires = "backup_agent_secret_file")]
	pub backup_agent_url: Option<String>,

	/// File with the secret that this node shares with its agent: 64 hexadecimal digits.
	///
	/// Nobody but its owner may have access to it (chmod 600).
	#[arg(long, value_name = "PATH", requires = "backup_agent_url")]
	pub backup_agent_secret_file: Option<PathBuf>,

	/// Allow an agent on another machine.
	///
	/// Messages are authenticated, not encrypted: use it on a network that you trust.
	#[arg(long, requires = "backup_agent_url")]
	pub backup_agent_allow_remote: bool,

	/// Secret URI of the key that signs backup reports, on development chains only.
	///
	/// The default on such a chain is the node's development account (--dev, --alice, ...).
	#[arg(long, value_name = "SURI")]
	pub backup_dev_key: Option<String>,
}

// Written by hand because a secret URI must not reach a log.
impl std::fmt::Debug for BackupArgs {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("BackupArgs")
			.field("backup_agent_url", &self.backup_agent_url)
			.field("backup_agent_secret_file", &self.backup_agent_secret_file)
			.field("backup_agent_allow_remote", &self.backup_agent_allow_remote)
			.field("backup_dev_key", &self.backup_dev_key.as_ref().map(|_| "***"))
			.finish()
	}
}

/// Arguments that were found to be right. Only [`BackupArgs::settings`] makes them.
#[derive(Debug)]
pub struct BackupSettings {
	pub(crate) agent: Option<Agent>,
	pub(crate) dev_key: Option<DevKey>,
}

/// The agent that the worker is to talk to.
#[derive(Debug)]
pub(crate) struct Agent {
	pub(crate) url: AgentUrl,
	pub(crate) secret: Secret,
}

/// A secret URI that is only good for development.
pub(crate) struct DevKey(pub(crate) String);

impl std::fmt::Debug for DevKey {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.write_str("DevKey(***)")
	}
}

/// Why the arguments cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
	/// The address of the agent is no good.
	#[error("--backup-agent-url: {0}")]
	Url(#[from] UrlError),
	/// The secret could not be read.
	#[error("--backup-agent-secret-file: {0}")]
	Secret(#[from] SecretError),
	/// Only one of the two was given. The command line refuses it earlier; a node that
	/// fills in the arguments itself meets this.
	#[error("--backup-agent-url and --backup-agent-secret-file go together: {missing} is missing")]
	Incomplete {
		/// The argument that is missing.
		missing: &'static str,
	},
}

impl BackupArgs {
	/// Checks the arguments and reads the secret. Touches no database and no network, and
	/// never waits: a pipe in place of the secret's file is refused.
	///
	/// # Errors
	///
	/// When the address or the secret cannot be used.
	pub fn settings(&self) -> Result<BackupSettings, SettingsError> {
		let agent = match (&self.backup_agent_url, &self.backup_agent_secret_file) {
			(None, None) => None,
			(Some(url), Some(path)) => {
				let reach =
					if self.backup_agent_allow_remote { Reach::Anywhere } else { Reach::Loopback };
				Some(Agent { url: AgentUrl::parse(url, reach)?, secret: Secret::read(path)? })
			}
			(Some(_), None) => {
				return Err(SettingsError::Incomplete { missing: "--backup-agent-secret-file" });
			}
			(None, Some(_)) => {
				return Err(SettingsError::Incomplete { missing: "--backup-agent-url" });
			}
		};
		Ok(BackupSettings { agent, dev_key: self.backup_dev_key.clone().map(DevKey) })
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use clap::Parser;

	#[derive(Debug, clap::Parser)]
	struct Node {
		#[command(flatten)]
		backup: BackupArgs,
	}

	fn parse(args: &[&str]) -> Result<BackupArgs, String> {
		Node::try_parse_from([&["node"], args].concat())
			.map(|node| node.backup)
			.map_err(|error| error.to_string())
	}

	#[test]
	fn no_arguments_leave_the_worker_idle() {
		assert!(parse(&[]).unwrap().settings().unwrap().agent.is_none());
	}

	#[test]
	fn fails_without_the_other_half() {
		let message = parse(&["--backup-agent-url", "http://127.0.0.1:9955"]).unwrap_err();
		assert!(message.contains("--backup-agent-secret-file"), "{message}");
		let message = parse(&["--backup-agent-secret-file", "secret"]).unwrap_err();
		assert!(message.contains("--backup-agent-url"), "{message}");
		let half =
			BackupArgs { backup_agent_url: Some("http://[::1]:1".into()), ..Default::default() };
		assert_eq!(
			half.settings().unwrap_err().to_string(),
			"--backup-agent-url and --backup-agent-secret-file go together: \
			 --backup-agent-secret-file is missing"
		);
	}

	#[test]
	fn fails_on_remote_without_an_agent() {
		let message = parse(&["--backup-agent-allow-remote"]).unwrap_err();
		assert!(message.contains("--backup-agent-url"), "{message}");
	}

	#[test]
	fn remote_needs_permission() {
		let directory = tempfile::tempdir().unwrap();
		let path = crate::secret::tests::secret_file(&directory, &"ab".repeat(32), 0o600);
		let path = path.to_str().unwrap();
		let args =
			["--backup-agent-url", "http://10.1.2.3:9955", "--backup-agent-secret-file", path];
		assert!(matches!(
			parse(&args).unwrap().settings(),
			Err(SettingsError::Url(UrlError::NotLoopback { .. }))
		));
		let allowed = [&args[..], &["--backup-agent-allow-remote"]].concat();
		assert!(parse(&allowed).unwrap().settings().unwrap().agent.is_some());
	}

	#[test]
	fn secrets_stay_out_of_debug_output() {
		let args = parse(&["--backup-dev-key", "//Winnie"]).unwrap();
		let shown = format!("{args:?} {:?}", args.settings().unwrap());
		assert!(!shown.contains("Winnie"), "{shown}");
	}
}
