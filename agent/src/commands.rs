//! The command line: a file for each command.
//!
//! Exit codes: 0 when told to end or done, 1 when it could not start or go on, or when `doctor`
//! found something that fails, 2 for wrong arguments, 3 when `verify` or `fsck` found something
//! that is not good.

mod add_vm;
mod answer;
mod check_config;
mod doctor;
mod fsck;
mod init;
mod live_restore;
mod print_config;
mod recipient;
mod rotate_identity;
mod run;
mod verify;

use crate::{
	config::{Config, ConfigSource, Settings},
	job_log::JobLog,
	log::{self, Log, LogFormat},
};
use anyhow::{Context as _, Result};
use backup_primitives::Cid;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Exit code when a snapshot or the store is not good.
const NOT_GOOD: u8 = 3;

/// Reads virtual machines, seals their blocks, keeps them in IPFS, and restores images.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
	/// Configuration file. Environment and flags win over it.
	#[arg(long, env = "BACKUP_AGENT_CONFIG", value_name = "FILE", global = true)]
	config: Option<PathBuf>,
	/// How log lines look.
	#[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
	log_format: LogFormat,
	#[command(subcommand)]
	command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
	/// Run until told to end by SIGTERM or SIGINT.
	Run(Box<Settings>),
	/// Make folders, secret and identity where they are missing, and say what to do next.
	Init(Box<Settings>),
	/// Try everything that a backup needs, and say how to mend what fails. Works beside a running
	/// agent.
	Doctor(Box<doctor::Doctor>),
	/// Find the machines of this host, and describe one or all of them in the inventory.
	AddVm(Box<add_vm::AddVm>),
	/// Print the public key that backups of this node are sealed to: that of the newest identity.
	Recipient(Box<Settings>),
	/// Put a new identity on top of the identity file, print its public key, and say what to do
	/// next. The older identities stay, for what is sealed to them.
	RotateIdentity(Box<Settings>),
	/// Check the configuration and print it.
	CheckConfig(Box<Settings>),
	/// Print what is in force as a configuration file, each key with where its value comes from.
	/// Secrets are left out.
	PrintConfig(Box<Settings>),
	/// Find out whether snapshots could be restored from here. Works beside a running agent.
	Verify(Box<verify::Verify>),
	/// Start a machine at once, on images that fill in from a snapshot behind it.
	LiveRestore {
		#[command(subcommand)]
		verb: live_restore::LiveRestore,
	},
	/// Compare the block store of a stopped agent with itself, and repair it if that is wanted.
	Fsck(Box<fsck::Fsck>),
}

/// What every command is given.
struct Context {
	/// The configuration file, if one is named.
	file: Option<PathBuf>,
	job_log: JobLog,
	log: Log,
}

impl Context {
	fn source(&self, settings: Settings) -> ConfigSource {
		ConfigSource { file: self.file.clone(), flags: settings }
	}

	fn load(&self, settings: Settings) -> Result<Config> {
		Ok(self.source(settings).load()?)
	}
}

/// The program: understands its arguments, and does what they say.
pub fn main() -> ExitCode {
	let matches = Arguments::command().get_matches();
	let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
	let Arguments { config, log_format, command } = arguments;
	let job_log = JobLog::default();
	let log = log::start(log_format, &job_log);
	let context = Context { file: config, job_log, log };
	match obey(command, &context, &matches) {
		Ok(code) => code,
		Err(error) => {
			eprintln!("error: {error:#}");
			ExitCode::FAILURE
		}
	}
}

fn obey(command: Command, context: &Context, matches: &ArgMatches) -> Result<ExitCode> {
	match command {
		Command::Run(settings) => run::run(context, *settings),
		Command::Init(settings) => init::run(context, *settings),
		Command::Doctor(doctor) => doctor::run(context, *doctor),
		Command::AddVm(add_vm) => add_vm::run(context, *add_vm),
		Command::Recipient(settings) => recipient::run(context, *settings),
		Command::RotateIdentity(settings) => rotate_identity::run(context, *settings),
		Command::CheckConfig(settings) => check_config::run(context, *settings),
		Command::PrintConfig(settings) => {
			let flags = matches.subcommand().map_or(matches, |(_, flags)| flags);
			print_config::run(context, *settings, flags)
		}
		Command::Verify(verify) => verify::run(context, *verify),
		Command::LiveRestore { verb } => live_restore::run(context, verb),
		Command::Fsck(fsck) => fsck::run(context, *fsck),
	}
}

fn runtime() -> Result<tokio::runtime::Runtime> {
	tokio::runtime::Runtime::new().context("failed to start")
}

fn exit_code(all_good: bool) -> ExitCode {
	if all_good { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) }
}

fn parse_cid(text: &str) -> Result<Cid, String> {
	text.parse().map_err(|error: backup_primitives::cid::CidError| error.to_string())
}

#[cfg(test)]
#[path = "../tests/fixtures/book.rs"]
mod book;

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_call_in_the_book_is_one_that_is_understood() {
		book::assert_understood::<Arguments>("backup-agent", &[], 20);
	}
}
